//! Answers: which are taken, and what the others mean.

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::client::Inner;
use super::limits::Refusal;
use crate::error::{Disposition, Error, Kind, Result};
use crate::secret::Redactor;

/// No server may ask for a longer pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// A server that says less than this does not ask for patience.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);

/// How many characters of a refusal are told.
const LONGEST_EXCERPT: usize = 300;

/// What came back.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer that was not taken.
pub(super) struct Refused {
    pub error: Error,
    pub retry: bool,
    /// The body is no JSON: cut on its way, or never any.
    pub broken: bool,
    pub after: Option<Duration>,
    pub unauthorized: Option<u64>,
    /// Whether it says that the server is pressed too hard.
    pub refusal: Option<Refusal>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let retry = error.kind().disposition() == Disposition::Retry;
        Self { error, retry, broken: false, after: None, unauthorized: None, refusal: None }
    }
}

impl Refused {
    /// A body that is no JSON as a whole.
    pub fn broken(error: Error) -> Self {
        Self { broken: true, ..Self::from(error) }
    }

    /// The pause of a server that asks for patience: it will take the request then, and no attempt is lost on it.
    pub fn patience(&self) -> Option<Duration> {
        let asked = self.after.filter(|asked| *asked >= SHORTEST_PATIENCE && self.refusal == Some(Refusal::TooMany));
        asked.map(|asked| asked.min(LONGEST_PAUSE))
    }

    /// What is told when nothing is left to try.
    pub fn last(self, attempt: u32, most: u32) -> Error {
        if self.broken {
            // A body that stays broken is the source's fault, not the network's.
            return Error::new(Kind::Source, format!("attempt {attempt} of {most}")).because(self.error);
        }
        if attempt == 1 { self.error } else { self.error.while_doing(format!("attempt {attempt} of {most}")) }
    }
}

/// Takes an answer, or says what its status means.
pub(super) fn judge(inner: &Inner, answer: Answer, serial: Option<u64>) -> Result<Answer, Refused> {
    if answer.status == StatusCode::NO_CONTENT {
        return Ok(Answer { body: Bytes::from_static(b"null"), ..answer });
    }
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(refused(inner, answer.status, &answer.headers, &answer.body, serial))
}

/// The refusal that a status means.
fn refused(inner: &Inner, status: StatusCode, headers: &HeaderMap, body: &[u8], serial: Option<u64>) -> Refused {
    let excerpt = excerpt(body, &inner.redactor);
    let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| after(inner, text));
    let kind = match status.as_u16() {
        429 => Kind::RateLimited,
        // Some limit by 403, and say for how long.
        403 if after.is_some() => Kind::RateLimited,
        401 | 403 => Kind::Auth,
        501 | 505 => Kind::Source,
        408 | 500..=599 => Kind::Unavailable,
        _ => Kind::Source,
    };
    let mut error = Error::new(kind, format!("{status} {excerpt}").trim().to_owned()).with_status(status.as_u16());
    if kind == Kind::Auth {
        error = error.hint(format!("check the credentials: `haul connections test {}`", inner.name));
    }
    let unauthorized = serial.filter(|_| status == StatusCode::UNAUTHORIZED);
    let refusal = match kind {
        Kind::RateLimited => Some(Refusal::TooMany),
        _ => (status == StatusCode::SERVICE_UNAVAILABLE).then_some(Refusal::Overload),
    };
    Refused { after, unauthorized, refusal, ..error.into() }
}

/// The pause of a `Retry-After`: seconds, or until a date (RFC 9110, section 10.2.3).
fn after(inner: &Inner, text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    let until = crate::time::Instant::from(date);
    Some((until - inner.clock.now()).to_std().unwrap_or_default())
}

/// The beginning of an answer, for people. Secrets go first: one that is cut in half is no longer known.
pub(super) fn excerpt(body: &[u8], redactor: &Redactor) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(LONGEST_EXCERPT * 50).collect();
    redactor.redact(&text).chars().take(LONGEST_EXCERPT).collect()
}
