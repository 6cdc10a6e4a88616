//! Replaying: every request gets the answer that was recorded for it, and one that was not recorded is an error.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::Taped;
use super::matching::{differences, is_same};
use crate::error::{Context, Error, Kind, Result};
use crate::model::exchange::{Answered, Asked, Content, Exchange};

/// Gives recorded answers: those to the same request one after the other, whatever was asked between them.
pub struct Player {
    name: String,
    again: String,
    tape: Mutex<Vec<Recorded>>,
}

struct Recorded {
    exchange: Exchange,
    given: bool,
}

impl Player {
    /// Gives these answers; `name` is the cassette's, `again` the command that records it anew, for messages.
    pub fn new(name: impl Into<String>, again: impl Into<String>, exchanges: Vec<Exchange>) -> Self {
        let tape = exchanges.into_iter().map(|exchange| Recorded { exchange, given: false }).collect();
        Self { name: name.into(), again: again.into(), tape: Mutex::new(tape) }
    }

    /// The requests that nobody asked, each in one line.
    pub fn left(&self) -> Vec<String> {
        let tape = self.tape.lock().unwrap_or_else(PoisonError::into_inner);
        tape.iter().filter(|one| !one.given).map(|one| line(&one.exchange.request)).collect()
    }

    pub(super) fn answer(&self, connection: &str, asked: &Asked) -> Result<Taped> {
        let mut tape = self.tape.lock().unwrap_or_else(PoisonError::into_inner);
        let of_connection = |one: &Exchange| one.connection.is_empty() || one.connection == connection;
        let same = |one: &Recorded| of_connection(&one.exchange) && is_same(&one.exchange.request, asked);
        if let Some(found) = tape.iter_mut().find(|one| !one.given && same(one)) {
            found.given = true;
            return taped(&found.exchange.response);
        }
        let times = tape.iter().filter(|one| same(one)).count();
        let what = if times > 0 {
            let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
            format!("it was recorded {times}, and is asked for once more")
        } else {
            nearest(&tape, connection, asked)
        };
        Err(Error::new(Kind::Source, format!("{} has no answer to {}", self.name, line(asked)))
            .because(what)
            .hint(self.again.clone()))
    }
}

/// The recorded request that is most like one that was not.
fn nearest(tape: &[Recorded], connection: &str, asked: &Asked) -> String {
    let alike = tape.iter().map(|one| {
        let mut told = differences(&one.exchange.request, asked);
        if !one.exchange.connection.is_empty() && one.exchange.connection != connection {
            told.push(format!("the connection is `{connection}`, recorded is `{}`", one.exchange.connection));
        }
        // Another address says more than another parameter.
        let far = usize::from(one.exchange.request.url != asked.url) * 10;
        (told.len() + far, one.given, told, &one.exchange.request)
    });
    match alike.min_by_key(|(distance, given, ..)| (*distance, *given)) {
        Some((_, _, told, request)) => format!("the nearest one is {}: {}", line(request), told.join("; ")),
        None => "nothing is recorded there".to_owned(),
    }
}

/// A request in one line.
fn line(asked: &Asked) -> String {
    let params: Vec<String> = asked.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let query = if params.is_empty() { String::new() } else { format!("?{}", params.join("&")) };
    format!("{} {}{query}", asked.method, asked.url)
}

fn taped(answer: &Answered) -> Result<Taped> {
    let doing = || "reading a recorded answer".to_owned();
    let mut headers = HeaderMap::new();
    // A pause that a server asked for once is kept by nobody.
    for (name, value) in answer.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("retry-after")) {
        let name: HeaderName = name.parse().context(Kind::Config, doing)?;
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).context(Kind::Config, doing)?);
    }
    let body = match &answer.body {
        None => Bytes::new(),
        Some(Content::Json(raw)) => Bytes::copy_from_slice(raw.get().as_bytes()),
        Some(Content::Text(text)) => Bytes::copy_from_slice(text.as_bytes()),
        Some(Content::Base64(text)) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            Bytes::from(decoded.context(Kind::Config, doing)?)
        }
    };
    Ok(Taped { status: StatusCode::from_u16(answer.status).context(Kind::Config, doing)?, headers, body })
}
