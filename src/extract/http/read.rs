//! One answer of a pull: asked for, and read at once or part by part.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::super::Page;
use super::answer::{Answer, Fate, Refused};
use super::client::{Errand, Held};
use super::decode::{Plan, Source};
use super::paginate::{self, Told};
use super::pull::Puller;
use super::records::Document;
use crate::error::{Error, Kind, Result};
use crate::model::hook::{Body, PageStyle, Request};
use crate::model::page::{PageEntry, Position};

/// A page with what it tells about the others.
pub(super) struct Read {
    pub page: Page,
    pub told: Told,
    pub fate: Fate,
    /// Whether it is the last part of its answer.
    pub last: bool,
    /// The request's place among those under way, until the page is durable; none where it is given up sooner.
    pub held: Option<Held>,
}

impl Read {
    pub fn row(&self, range: Option<&std::ops::Range<usize>>) -> Option<Bytes> {
        range.map(|range| self.page.body.slice(range.clone()))
    }
}

/// An answer as it is read: at once, or part by part.
pub(super) enum Answered {
    Whole(Option<Box<Read>>),
    /// The slot goes with the last part.
    Parts {
        parts: mpsc::Receiver<Result<Read>>,
        digest: u64,
        held: Option<Held>,
    },
}

impl Answered {
    pub async fn next(&mut self) -> Option<Result<Read>> {
        match self {
            Self::Parts { parts, held, .. } => {
                let mut read = parts.recv().await?;
                if let Ok(read) = &mut read
                    && read.last
                {
                    read.held = held.take();
                }
                Some(read)
            }
            Self::Whole(read) => read.take().map(|read| Ok(*read)),
        }
    }

    pub fn digest(&self) -> u64 {
        if let Self::Parts { digest, .. } = self { *digest } else { 0 }
    }
}

impl Puller<'_> {
    /// What this pull wants of the client.
    pub(super) fn errand(&self) -> Errand<'_> {
        Errand {
            style: self.pull.auth.as_ref(),
            retry: &self.pull.retry,
            sink: &*self.terms.sink,
            cancel: &self.terms.cancel,
            sent: &self.terms.sent,
            flying: &self.terms.flying,
            gate: self.terms.gate.as_deref(),
            rank: self.terms.rank,
            manner: &self.pull.manner,
            abroad: self.pull.report.is_some(),
            status: &self.terms.status,
        }
    }

    pub(super) fn reading(&self, error: Error, number: u64, url: &str) -> Error {
        let url = self.terms.client.inner.redactor.redact(url);
        error.while_doing(format!("reading page {} of {url}", number + 1))
    }

    /// Asks for the answer at a position.
    pub(super) async fn read(&self, number: u64, base: &Request, at: Position) -> Result<Answered> {
        let request = match &self.pull.paginate.by {
            PageStyle::Single => Cow::Borrowed(base),
            style => Cow::Owned(paginate::request_at(base, style, &at)?),
        };
        let graphql = matches!(request.body, Some(Body::GraphQl(_)));
        let manner = &self.pull.manner;
        let errand = self.errand();
        let fetched = self.terms.client.fetch(&request, &errand, |answer| {
            if answer.fate != Fate::Rows {
                return Ok((answer, None));
            }
            let records = manner.records.as_deref();
            let plan = Plan::of(&manner.form, records, &request.url, &answer.headers, &answer.body)?;
            if !plan.is_json() {
                return Ok((answer, Some(Err(plan))));
            }
            let document = Document::read(&answer.body).map_err(Refused::broken)?;
            if graphql {
                document.refuse_errors()?;
            }
            let path = self.terms.path.as_ref().ok_or_else(|| Error::internal("JSON is read without a path"))?;
            let rows = path.rows(&document)?;
            let last_row = rows.last().map(|row| &answer.body[row.clone()]);
            let told = paginate::told(&self.pull.paginate, &document, &answer.headers, last_row)?;
            Ok((answer, Some(Ok((rows, told)))))
        });
        let ((answer, found), held) = fetched.await.map_err(|error| self.reading(error, number, &request.url))?;
        self.terms.unchanged.fetch_add(u64::from(answer.unchanged), Ordering::Relaxed);
        self.terms.client.keep(&request, manner, &answer).await?;
        let wire_bytes = answer.length();
        let fate = answer.fate;
        let (rows, told) = match found {
            Some(Err(plan)) => return Ok(self.parts(plan, number, at, answer, held)),
            Some(Ok(found)) => found,
            None => (Vec::new(), Told::default()),
        };
        let page = page_of(number, at, rows, told.total, answer.body, wire_bytes);
        Ok(Answered::Whole(Some(Box::new(Read { page, told, fate, last: true, held: Some(held) }))))
    }

    /// Reads an answer part by part, away from the async threads.
    fn parts(&self, plan: Plan, number: u64, at: Position, answer: Answer, held: Held) -> Answered {
        let (send, parts) = mpsc::channel(1);
        let (manner, paginate) = (Arc::clone(&self.pull.manner), self.pull.paginate.clone());
        let digest = digest_of(&answer);
        let wire_bytes = answer.length();
        tokio::task::spawn_blocking(move || {
            let source = match answer.file {
                Some(file) => Source::Disk(file),
                None => Source::Memory(answer.body),
            };
            let mut first = true;
            let read = plan.read(&manner.form, manner.records.as_deref(), source, &mut |part| {
                let told = match &part.last {
                    None => Told::default(),
                    Some(about) => {
                        let nothing = Bytes::from_static(b"null");
                        let about = about.as_ref().unwrap_or(&nothing);
                        let last_row = part.rows.last().map(|row| &part.body[row.clone()]);
                        paginate::told(&paginate, &Document::read(about)?, &answer.headers, last_row)?
                    }
                };
                let bytes = if std::mem::take(&mut first) { wire_bytes } else { 0 };
                let page = page_of(number, at.clone(), part.rows, None, part.body, bytes);
                let read = Read { page, told, fate: Fate::Rows, last: part.last.is_some(), held: None };
                send.blocking_send(Ok(read)).map_err(|_| Error::new(Kind::Cancelled, "nobody reads on"))
            });
            if let Err(error) = read {
                // Nobody may be there to hear it.
                let _ = send.blocking_send(Err(error));
            }
        });
        Answered::Parts { parts, digest, held: Some(held) }
    }
}

fn page_of(
    number: u64,
    at: Position,
    rows: Vec<std::ops::Range<usize>>,
    total: Option<u64>,
    body: Bytes,
    wire_bytes: u64,
) -> Page {
    let mut digest = Xxh3::new();
    for row in &rows {
        digest.update(&body[row.clone()]);
    }
    let entry = PageEntry { number, at, next: None, total, rows: rows.len() as u64, digest: digest.digest() };
    Page { entry, body, rows, wire_bytes }
}

/// A digest of a whole answer, as far as it is in memory: of a file its beginning and its length.
fn digest_of(answer: &Answer) -> u64 {
    xxh3_64(&answer.body) ^ answer.file.as_ref().map_or(0, |_| answer.length())
}
