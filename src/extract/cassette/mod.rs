//! Cassettes: exchanges with APIs, recorded once without any secret, and replayed where there is no network.
//!
//! A [`Tape`] stands at the one place where a request for data leaves the process. It sees requests before they say who we
//! are; calls for tokens never pass it, and on replay there are none.

mod matching;
mod record;
mod replay;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode};

pub use record::Recorder;
pub use replay::Player;

use crate::error::{Context, Error, Kind, Result};
use crate::model::exchange::{Asked, CASSETTE_VERSION, CassetteHead, Content, Exchange};

/// Records what goes over the wire, or stands in its place.
#[derive(Clone)]
pub enum Tape {
    /// Everything is asked for real, and kept.
    Record(Arc<Recorder>),
    /// Nothing is asked: a recorded answer is given.
    Replay(Arc<Player>),
}

/// An answer as a tape takes or gives it.
pub struct Taped {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Tape {
    /// Whether no pause has to be kept, since nobody is there who asked for one.
    pub fn is_replay(&self) -> bool {
        matches!(self, Self::Replay(_))
    }

    /// The recorded answer to a request, where there is no network.
    ///
    /// # Errors
    /// The request was not recorded, or not as often as it is asked.
    pub fn replayed(&self, connection: &str, request: &RequestBuilder) -> Result<Option<Taped>> {
        match self {
            Self::Record(_) => Ok(None),
            Self::Replay(player) => player.answer(connection, &asked(request)?).map(Some),
        }
    }

    /// The request as it is kept, where everything is.
    pub fn asked(&self, request: &RequestBuilder) -> Result<Option<Asked>> {
        match self {
            Self::Record(_) => asked(request).map(Some),
            Self::Replay(_) => Ok(None),
        }
    }

    /// Keeps an exchange.
    ///
    /// # Errors
    /// The answer has a secret in a place where it cannot be taken out.
    pub fn keep(
        &self,
        connection: &str,
        asked: Asked,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<()> {
        match self {
            Self::Record(recorder) => recorder.keep(connection, asked, status, headers, body),
            Self::Replay(_) => Ok(()),
        }
    }
}

/// A request, before it says who we are.
fn asked(request: &RequestBuilder) -> Result<Asked> {
    let doing = || "reading a request for its cassette".to_owned();
    let whole = request.try_clone().ok_or_else(|| Error::internal(doing()).because("its body is a stream"))?;
    let request = whole.build().context(Kind::Internal, doing)?;
    let mut url = request.url().clone();
    let params = url.query_pairs().map(|(name, value)| (name.into(), value.into())).collect();
    url.set_query(None);
    let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<String, String> =
        request.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let body = request.body().and_then(reqwest::Body::as_bytes).filter(|body| !body.is_empty());
    Ok(Asked { method: request.method().to_string(), url: url.into(), params, headers, body: body.map(content) })
}

/// A body in its most readable form.
fn content(body: &[u8]) -> Content {
    use base64::Engine as _;
    let Ok(text) = std::str::from_utf8(body) else {
        return Content::Base64(base64::engine::general_purpose::STANDARD.encode(body));
    };
    let json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    match json.then(|| serde_json::value::RawValue::from_string(minified(text))) {
        Some(Ok(raw)) => Content::Json(raw),
        _ => Content::Text(text.to_owned()),
    }
}

/// JSON without the blanks between its tokens.
fn minified(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut inside, mut escaped) = (false, false);
    for c in json.chars() {
        if inside {
            inside = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            inside = c == '"';
        }
        out.push(c);
    }
    out
}

/// Reads a cassette: its head, and its exchanges in their order.
///
/// # Errors
/// A text that is no cassette, with the number of its line.
pub fn read(name: &str, text: &str) -> Result<(CassetteHead, Vec<Exchange>)> {
    let doing = |line: usize| format!("reading line {} of the cassette {name}", line + 1);
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, first) = lines.next().ok_or_else(|| Error::config(format!("the cassette {name} is empty")))?;
    let head: CassetteHead = serde_json::from_str(first)
        .context(Kind::Config, || doing(0))
        .map_err(|error| error.hint("`haul record` writes cassettes; the first line tells what was recorded"))?;
    if head.haul_cassette != CASSETTE_VERSION {
        return Err(Error::config(doing(0))
            .because(format!("it has version {}, this haul reads {CASSETTE_VERSION}", head.haul_cassette))
            .hint("record it again: haul record"));
    }
    let exchange = |(number, line): (usize, &str)| serde_json::from_str(line).context(Kind::Config, || doing(number));
    Ok((head, lines.map(exchange).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_within_texts_stay_when_json_is_made_short() {
        let text = "{ \"a b\" : [1.50,\n \"c \\\" d\\\\\" , \"\\\\\" ] }";
        assert_eq!(minified(text), "{\"a b\":[1.50,\"c \\\" d\\\\\",\"\\\\\"]}");
    }
}
