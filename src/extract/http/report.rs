//! Reports: created by one request, waited for by others, and downloaded in the end.
//!
//! What the first answer tells becomes a page without rows in the journal, before anything else is asked: a pull that was
//! killed goes on with the same report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use tokio::time::Instant;

use super::super::Page;
use super::answer::{self, Answer, Fate, Refused};
use super::pull::{Puller, in_doubt};
use super::records::{Document, Found};
use super::{Failure, Pulled};
use crate::error::{Context, Error, Kind, Result};
use crate::model::answer::PollRule;
use crate::model::hook::{CursorPlace, Request};
use crate::model::page::{PageEntry, Position, Progress};
use crate::time::display_duration;

/// What was kept of a report's answers, by the names that templates use.
pub type Values = BTreeMap<String, String>;

/// Fills the templates of a request with what was kept.
pub type Render = Arc<dyn Fn(&Values) -> Result<Request> + Send + Sync>;

/// A report as a step describes it.
#[derive(Clone)]
pub struct Report {
    /// All that decides about it, as a text.
    pub identity: String,
    /// What is kept of the answer that creates it.
    pub values: Vec<(String, CursorPlace)>,
    /// The request by which it is asked whether it is there.
    pub poll: Render,
    /// What the answer to that tells.
    pub rule: PollRule,
    /// What is kept of the answer that says that it is there.
    pub found: Vec<(String, CursorPlace)>,
    /// The request for its rows.
    pub download: Render,
}

/// So often an address that has expired is asked for anew.
const ADDRESSES: u32 = 3;

/// What an answer to a poll says.
enum State {
    Pending(String),
    Done,
    Failed(String),
}

impl Puller<'_> {
    /// Brings a report: the durable one where there is one.
    pub(super) async fn report(&self, report: &Report, resume: Progress) -> Result<Pulled, Failure> {
        let mut pulled = Pulled::default();
        let (values, at, number, rows, digest, durable) = match resume.last {
            // Without a next page the last one is durable, and only the seal was missing.
            Some(PageEntry { next: None, .. }) => return Ok(pulled),
            Some(PageEntry { next: Some(Position::Report { values, at }), digest, .. }) => {
                (values, at.map(|at| *at), resume.done, resume.rows, Some(digest), true)
            }
            Some(_) => return Ok(Pulled { total_moved: true, ..pulled }),
            None => {
                let values = self.create(report).await?;
                pulled.pages += 1;
                (values, None, 1, 0, None, false)
            }
        };
        let kept: Values = serde_json::from_str(&values).context(Kind::Storage, || "reading the journal".to_owned())?;
        for address in 1.. {
            let base = match self.waited_for(report, &kept).await {
                Err(_) if durable && address == 1 && self.is_gone() => {
                    // The server has forgotten the report that an earlier run created.

                    return Ok(Pulled { total_moved: true, ..pulled });
                }
                base => base?,
            };
            let before = self.terms.brought.load(Ordering::Relaxed);
            let place = (at.clone(), number, rows, digest);
            let brought = self.sequence(place, base, Some(&values), pulled).await;
            match brought {
                // An address that has expired is told anew by the next poll.
                Err(failure)
                    if address < ADDRESSES
                        && self.is_gone()
                        && self.terms.brought.load(Ordering::Relaxed) == before =>
                {
                    self.terms.sink.paced(&format!(
                        "the address of the report has expired, and is asked for again: {}",
                        failure.error.chain()
                    ));
                }
                brought => return brought,
            }
        }
        Err(Error::internal("a report was neither brought nor refused").into())
    }

    /// Whether the last answer said that there is nothing, or nothing any more.
    fn is_gone(&self) -> bool {
        matches!(self.terms.status.load(Ordering::Relaxed), 403 | 404 | 410)
    }

    /// Creates the report, and makes durable what identifies it.
    async fn create(&self, report: &Report) -> Result<String> {
        let request = &self.pull.request;
        let values = self
            .small(request, |answer| self.values(&report.values, answer))
            .await
            .map_err(|error| error.while_doing(format!("creating a report at {}", self.told(&request.url))))?;
        let values = serde_json::to_string(&values).context(Kind::Internal, || "keeping a report".to_owned())?;
        let entry = PageEntry {
            number: 0,
            at: Position::Start,
            next: Some(Position::Report { values: values.clone(), at: None }),
            total: None,
            rows: 0,
            digest: 0,
        };
        self.put(Page { entry, body: Bytes::new(), rows: Vec::new(), wire_bytes: 0 }, None).await?;
        Ok(values)
    }

    /// Waits until the report is there; returns the request for its rows.
    async fn waited_for(&self, report: &Report, kept: &Values) -> Result<Request, Failure> {
        let end = Instant::now() + report.rule.timeout;
        let request = (report.poll)(kept)?;
        let doing = || format!("waiting for the report at {}", self.told(&request.url));
        let mut last = String::new();
        loop {
            let asked = self.small(&request, |answer| {
                let state = state(&report.rule, answer)?;
                let after = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                let after = after.and_then(|text| answer::after(&self.terms.client.inner, text));
                let found =
                    if matches!(state, State::Done) { self.values(&report.found, answer)? } else { Values::new() };
                Ok((state, after, found))
            });
            let (state, after, found) = asked.await.map_err(|error| error.while_doing(doing()))?;
            match state {
                State::Done => {
                    let mut values = kept.clone();
                    values.extend(found);
                    return Ok((report.download)(&values)?);
                }
                State::Failed(reason) => {
                    // The next run creates another.
                    return Err(in_doubt(Error::new(Kind::Source, doing()).because(self.told(&reason))));
                }
                State::Pending(status) => {
                    let pause = after.unwrap_or(report.rule.every).min(answer::LONGEST_PAUSE);
                    if self.terms.client.is_replay() {
                        continue;
                    }
                    if Instant::now() + pause > end {
                        let patience = display_duration(report.rule.timeout);
                        return Err(Error::new(Kind::Unavailable, doing())
                            .because(format!("it is not there after {patience}, but {status}"))
                            .hint("the next run waits for the same report; `report.poll.timeout` is how long")
                            .into());
                    }
                    if status != last {
                        self.terms.sink.retrying(&self.told(&format!("the report is {status}")), pause);
                        last = status;
                    }
                    tokio::select! {
                        () = self.terms.cancel.cancelled() => return Err(Error::new(Kind::Cancelled, "stopped").into()),
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Asks for a small answer, and reads something off it.
    async fn small<T>(&self, request: &Request, read: impl Fn(&Answer) -> Result<T, Refused>) -> Result<T> {
        let errand = self.errand();
        let asked = self.terms.client.fetch(request, &errand, |answer| match answer.fate {
            Fate::Rows => read(&answer),
            _ => Err(Error::new(Kind::Source, format!("{} is no answer about a report", answer.status)).into()),
        });
        asked.await.map(|(value, _)| value)
    }

    /// The values that an answer tells.
    fn values(&self, places: &[(String, CursorPlace)], answer: &Answer) -> Result<Values, Refused> {
        let mut values = Values::new();
        for (name, place) in places {
            let value = match place {
                CursorPlace::Header(header) => {
                    answer.headers.get(header.as_str()).and_then(|value| value.to_str().ok()).map(str::to_owned)
                }
                CursorPlace::Body(path) => {
                    let document = Document::read(&answer.body).map_err(Refused::broken)?;
                    text_of(&document.value(path)?)
                }
            };
            let value = value.ok_or_else(|| {
                let place = match place {
                    CursorPlace::Header(header) => format!("in the header `{header}`"),
                    CursorPlace::Body(path) => format!("at `{path}`"),
                };
                Error::new(Kind::Source, format!("the answer has no `{name}` {place}"))
                    .because(answer::excerpt(&answer.body, &self.terms.client.inner.redactor))
            })?;
            values.insert(name.clone(), value);
        }
        Ok(values)
    }

    fn told(&self, text: &str) -> String {
        self.terms.client.inner.redactor.redact(text)
    }
}

fn text_of(found: &Found<'_>) -> Option<String> {
    Some(match found {
        Found::Nothing => return None,
        Found::Text(text) => text.clone(),
        Found::Number(text) | Found::Nested(text) => (*text).to_owned(),
        Found::Bool(flag) => flag.to_string(),
    })
}

fn state(rule: &PollRule, answer: &Answer) -> Result<State, Refused> {
    let Some(path) = &rule.status else {
        return Ok(if answer.status == StatusCode::ACCEPTED {
            State::Pending("202 Accepted".to_owned())
        } else {
            State::Done
        });
    };
    let document = Document::read(&answer.body).map_err(Refused::broken)?;
    let status = text_of(&document.value(path)?)
        .ok_or_else(|| Error::new(Kind::Source, format!("the answer has no status at `{path}`")))?;
    let among = |words: &[String]| words.iter().any(|word| word.eq_ignore_ascii_case(&status));
    if among(&rule.done) {
        return Ok(State::Done);
    }
    if among(&rule.failed) {
        let reason = rule.reason.as_ref().map(|path| document.value(path)).transpose()?;
        let reason = reason.as_ref().and_then(text_of).map(|reason| format!(": {reason}")).unwrap_or_default();
        return Ok(State::Failed(format!("the report is {status}{reason}")));
    }
    Ok(State::Pending(status))
}
