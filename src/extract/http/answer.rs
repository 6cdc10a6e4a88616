//! Answers: which are taken, and what the others mean.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::cache::Cache;
use super::client::Inner;
use super::limits::Refusal;
use crate::error::{Disposition, Error, Kind, Result};
use crate::model::answer::{AnswerForm, Rule, Then};
use crate::secret::Redactor;

/// No server may ask for a longer pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// A server that says less than this does not ask for patience.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);

/// How many characters of a refusal are told.
const LONGEST_EXCERPT: usize = 300;

/// How much of a body is looked at by rules.
const LOOKED_AT: usize = 1 << 20;

/// What a pull says of answers, whatever the page.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// How they are written.
    pub form: AnswerForm,
    /// Where the rows are.
    pub records: Option<String>,
    /// What is done with odd ones, in the order in which they are looked at.
    pub rules: Vec<Rule>,
    /// The folder for answers that are too large for the memory; without it, there are none.
    pub scratch: Option<PathBuf>,
    /// Where answers are kept that may be asked for again; none unless the step wants that.
    pub cache: Option<Cache>,
}

/// What came back.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body, or its beginning where the whole is in `file`.
    pub body: Bytes,
    /// The whole body, where it is too large for the memory.
    pub file: Option<File>,
    /// What is to be done with it.
    pub fate: Fate,
    /// Whether the server only said that it is the same as before.
    pub unchanged: bool,
}

/// What is to be done with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has rows.
    Rows,
    /// It is a page without rows.
    Empty,
    /// It is left out.
    Skip,
    /// It is no page, and none comes behind it.
    Stop,
}

impl Answer {
    /// The bytes that came over the wire.
    pub fn length(&self) -> u64 {
        match &self.file {
            _ if self.unchanged => 0,
            Some(file) => file.metadata().map_or(0, |metadata| metadata.len()),
            None => self.body.len() as u64,
        }
    }
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
    /// How long a rule wants the whole connection to wait.
    pub wait: Option<Duration>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let retry = error.kind().disposition() == Disposition::Retry;
        Self { error, retry, broken: false, after: None, unauthorized: None, refusal: None, wait: None }
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

/// Takes an answer, or says what a rule or its status means.
pub(super) fn judge(inner: &Inner, manner: &Manner, answer: Answer, serial: Option<u64>) -> Result<Answer, Refused> {
    if let Some(rule) = rule_of(manner, &answer) {
        return ruled(inner, rule, answer, serial);
    }
    if answer.status == StatusCode::NO_CONTENT {
        return Ok(Answer { body: Bytes::from_static(b"null"), fate: Fate::Empty, ..answer });
    }
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(refused(inner, answer.status, &answer.headers, &answer.body, serial))
}

/// The rule that speaks of an answer.
fn rule_of<'a>(manner: &'a Manner, answer: &Answer) -> Option<&'a Rule> {
    let mut lower: Option<String> = None;
    manner.rules.iter().find(|rule| {
        rule.fits(answer.status.as_u16(), || {
            let head = &answer.body[..answer.body.len().min(LOOKED_AT)];
            lower.get_or_insert_with(|| String::from_utf8_lossy(head).to_lowercase()).clone()
        })
    })
}

/// Does what a rule says.
fn ruled(inner: &Inner, rule: &Rule, answer: Answer, serial: Option<u64>) -> Result<Answer, Refused> {
    let fate = match rule.then {
        Then::Empty => Fate::Empty,
        Then::Skip => Fate::Skip,
        Then::Stop => Fate::Stop,
        Then::Fail | Then::Retry | Then::Renew | Then::Wait(_) | Then::WaitUntil { .. } => {
            let text = excerpt(&answer.body, &inner.redactor);
            let told = format!("{} {text}", answer.status).trim().to_owned();
            return Err(ruled_out(inner, rule, Error::new(Kind::Source, told), &answer, serial));
        }
    };
    Ok(Answer { body: Bytes::from_static(b"null"), file: None, fate, ..answer })
}

/// A refusal in the way that a rule says.
fn ruled_out(inner: &Inner, rule: &Rule, told: Error, answer: &Answer, serial: Option<u64>) -> Refused {
    let by_rule = |kind: Kind| Error::new(kind, format!("by the rule `{}`", rule.written)).because(told.chain());
    match rule.then {
        Then::Renew => match serial {
            Some(_) => Refused { unauthorized: serial, ..by_rule(Kind::Auth).into() },
            None => by_rule(Kind::Auth)
                .hint(format!("the connection `{}` has no token that could be renewed", inner.name))
                .into(),
        },
        Then::Wait(pause) => Refused { wait: Some(pause), ..by_rule(Kind::RateLimited).into() },
        Then::WaitUntil { hour, minute, zone } => {
            let pause = crate::model::answer::until(inner.clock.now(), hour, minute, zone);
            Refused { wait: Some(pause), ..by_rule(Kind::RateLimited).into() }
        }
        Then::Retry => {
            let asked = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            Refused { after: asked.and_then(|text| after(inner, text)), ..by_rule(Kind::Unavailable).into() }
        }
        Then::Fail | Then::Empty | Then::Skip | Then::Stop => by_rule(Kind::Source).into(),
    }
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
pub(super) fn after(inner: &Inner, text: &str) -> Option<Duration> {
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
