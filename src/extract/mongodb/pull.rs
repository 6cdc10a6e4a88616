//! A pull from a collection: a task of its own reads batches ahead, one at a time becomes a page.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use mongodb::bson::raw::RawBsonRef;
use mongodb::bson::{Document, RawBson, doc};
use mongodb::error::{Error as DriverError, Result as DriverResult};
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use super::{MongoPull, Query, after, both};
use crate::error::{Context, Error, Kind, Result};
use crate::extract::{Failure, Page, Pull, Pulled, Sink};
use crate::model::page::{PageEntry, Position, Progress};
use crate::mongo::{Mongo, is_passing, json, landed, packed, unpacked};

/// Batches that wait to become pages; with the one that is on its way, this bounds the memory.
const AHEAD: usize = 2;

/// A batch, and whether nothing follows it.
struct Batch {
    reply: RawBatch,
    last: bool,
}

/// Brings the batches that are not durable yet.
pub(super) async fn pull(
    pull: &MongoPull,
    resume: Progress,
    sink: Arc<dyn Sink>,
    cancel: CancellationToken,
) -> Result<Pulled, Failure> {
    if let Query::Landed(landed) = &pull.query {
        sink.columns(landed.columns.clone())?;
        sink.shape(landed.shape.clone())?;
    }
    let mut pages =
        Pages { pull, sink, number: resume.done, rows: resume.rows, at: Position::Start, pulled: Pulled::default() };
    if let Some(last) = resume.last {
        // Without a next page the last one is durable, and only the seal was missing.
        let Some(next) = last.next else { return Ok(pages.pulled) };
        pages.at = next;
    }
    let mut failures = 0;
    loop {
        let before = pages.number;
        let Err(error) = pages.read(&cancel).await? else { return Ok(pages.pulled) };
        failures = if pages.number > before { 1 } else { failures + 1 };
        let by_key = pull.resumes();
        if !is_passing(&error) || failures >= pull.retry.max_attempts || (!by_key && pages.number > 0) {
            let error =
                pull.mongo.fault(format!("reading {}", pull.mongo.place(&pull.collection)), &error, Kind::Source);
            return Err(Failure { error, in_doubt: !by_key });
        }
        let pause = backoff(pull, failures);
        let reason = pull.mongo.fault("the server was asked again".to_owned(), &error, Kind::Source);
        pages.sink.retrying(&reason.chain(), pause);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => return Err(stopped()),
        }
    }
}

fn backoff(pull: &MongoPull, failures: u32) -> Duration {
    let doubled = pull.retry.min_backoff.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(pull.retry.max_backoff)
}

fn stopped() -> Failure {
    Error::new(Kind::Cancelled, "stopped between two pages").into()
}

/// The pages of a pull, as far as it has come.
struct Pages<'a> {
    pull: &'a MongoPull,
    sink: Arc<dyn Sink>,
    /// The next page.
    number: u64,
    /// The rows of the pages before it.
    rows: u64,
    at: Position,
    pulled: Pulled,
}

impl Pages<'_> {
    /// Reads from where the pages have come to, to the end; the inner error is one of the driver's.
    async fn read(&mut self, cancel: &CancellationToken) -> Result<DriverResult<()>, Failure> {
        let (batches, mut waiting) = mpsc::channel(AHEAD);
        // A task of its own: the driver's futures are never dropped half-way, also when nobody listens any more.
        tokio::spawn(reader(self.pull.clone(), self.place()?, batches));
        loop {
            if cancel.is_cancelled() {
                return Err(stopped());
            }
            let batch = tokio::select! {
                batch = waiting.recv() => batch,
                () = cancel.cancelled() => return Err(stopped()),
            };
            match batch {
                Some(Ok(batch)) => {
                    if self.put(batch).await? {
                        return Ok(Ok(()));
                    }
                }
                Some(Err(error)) => return Ok(Err(error)),
                None => return Err(Error::internal("the reader of a collection ended without a word").into()),
            }
        }
    }

    /// The `_id` behind which the next page begins.
    fn place(&self) -> Result<Option<RawBson>> {
        match &self.at {
            Position::Key(key) => {
                let key = unpacked(key).ok_or_else(|| Error::internal("the journal has no readable `_id`"))?;
                Ok(Some(key))
            }
            _ => Ok(None),
        }
    }

    /// Makes a batch durable; true for the last one.
    async fn put(&mut self, batch: Batch) -> Result<bool> {
        let last = batch.last;
        self.pulled.requests += 1;
        let bytes = batch.reply.as_raw_document().as_bytes().len() as u64;
        self.pulled.bytes += bytes;
        let form = match &self.pull.query {
            Query::Find { projection: Some(wanted), .. } if without_id(wanted) => Form::WithoutId,
            Query::Find { .. } | Query::Pipeline(_) => Form::Document,
            Query::Landed(_) => Form::Landed,
        };
        let (number, place) = (self.number, self.pull.mongo.place(&self.pull.collection));
        let (page, sink, at) = (number, Arc::clone(&self.sink), self.at.clone());
        let (rows_before, mongo, collection) = (self.rows, self.pull.mongo.clone(), self.pull.collection.clone());
        let rendered = tokio::task::spawn_blocking(move || render(&batch, form));
        let rendered = rendered.await.context(Kind::Internal, || "reading a batch".to_owned())?;
        let rendered = rendered.map_err(|error| error.while_doing(format!("reading page {} of {place}", page + 1)))?;
        let rows = rendered.rows.len() as u64;
        if rows == 0 && !last {
            return Ok(false);
        }
        if last && form != Form::Landed && rows_before + rows == 0 {
            assert_there(&mongo, &collection).await?;
        }
        let next = rendered.last_id.map(Position::Key).filter(|_| !last);
        let entry = PageEntry { number, at, next: next.clone(), total: None, rows, digest: rendered.digest };
        let page = Page { entry, body: rendered.body, rows: rendered.rows, wire_bytes: bytes };
        let put = tokio::task::spawn_blocking(move || sink.put(page));
        put.await.context(Kind::Internal, || "putting a page into the stage".to_owned())??;
        self.pulled.pages += 1;
        self.number += 1;
        self.rows += rows;
        self.at = next.unwrap_or(Position::Start);
        Ok(last)
    }
}

/// A collection that does not exist has no documents either, but is nearly always a slip of the pen.
async fn assert_there(mongo: &Mongo, collection: &str) -> Result<()> {
    let names = match mongo.collections().await {
        Ok(names) => names,
        // Who may read need not be allowed to list.
        Err(error) if error.kind() == Kind::Auth => return Ok(()),
        Err(error) => return Err(error),
    };
    if names.iter().any(|name| name == collection) {
        return Ok(());
    }
    let error = Error::new(Kind::Source, format!("reading {}", mongo.place(collection))).because("it does not exist");
    let near = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, collection), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .min();
    if let Some((_, near)) = near {
        return Err(error.hint(format!("did you mean `{near}`?")));
    }
    let mut names: Vec<&str> = names.iter().map(String::as_str).filter(|name| !name.starts_with("system.")).collect();
    names.sort_unstable();
    names.truncate(10);
    let hint = if names.is_empty() { "the database has no collections".to_owned() } else { names.join(", ") };
    Err(error.hint(if names.is_empty() { hint } else { format!("the database has {hint}") }))
}

/// Whether the author of a projection does not want the `_id`, which is asked for all the same: pages follow each other by it.
fn without_id(projection: &Document) -> bool {
    match projection.get("_id") {
        Some(wanted) => {
            wanted.as_bool() == Some(false)
                || wanted.as_i32() == Some(0)
                || wanted.as_i64() == Some(0)
                || wanted.as_f64() == Some(0.0)
        }
        None => false,
    }
}

/// What of a document is the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// All of it.
    Document,
    /// All but its `_id`.
    WithoutId,
    /// The row that landed as this document.
    Landed,
}

/// The rows of a batch, as JSON.
struct Rendered {
    body: Bytes,
    rows: Vec<std::ops::Range<usize>>,
    digest: u64,
    last_id: Option<String>,
}

fn render(batch: &Batch, form: Form) -> Result<Rendered> {
    let broken =
        |error: &dyn std::fmt::Display| Error::new(Kind::Source, format!("the server's answer is broken: {error}"));
    let documents = batch.reply.doc_slices().map_err(|error| broken(&error))?;
    let mut body = Vec::with_capacity(documents.as_bytes().len() * 3 / 2);
    let (mut rows, mut last_id) = (Vec::new(), None);
    for document in documents {
        let document = document.map_err(|error| broken(&error))?;
        let Some(document) = document.as_document() else {
            return Err(broken(&"a batch has something else than documents"));
        };
        let from = body.len();
        let written = match form {
            Form::Document => json::document(&mut body, document),
            Form::WithoutId => json::members(&mut body, document, 0, |name| (name != "_id").then_some(None)),
            Form::Landed => landed::row(document, &mut body),
        };
        written.map_err(|fault| unreadable(document.get("_id").ok().flatten(), &fault.0))?;
        rows.push(from..body.len());
        if !batch.last {
            last_id = Some(document);
        }
    }
    let mut digest = Xxh3::new();
    digest.update(&body);
    let last_id = last_id.and_then(|document| document.get("_id").ok().flatten()).map(packed);
    Ok(Rendered { body: body.into(), rows, digest: digest.digest(), last_id })
}

fn unreadable(id: Option<RawBsonRef<'_>>, fault: &str) -> Error {
    let mut name = Vec::new();
    let named = id.is_some_and(|id| json::value(&mut name, id, 0).is_ok());
    let which =
        if named { format!("the document {}", String::from_utf8_lossy(&name)) } else { "a document".to_owned() };
    Error::new(Kind::Data, format!("{which} cannot be read: {fault}"))
        .hint("leave it out by `filter`, or its member by `projection`")
}

/// Reads all batches, one cursor after the other, until nobody wants more.
async fn reader(pull: MongoPull, place: Option<RawBson>, batches: mpsc::Sender<DriverResult<Batch>>) {
    if let Err(error) = read(&pull, place, &batches).await {
        // Whoever stopped listening does not want to know either.
        let _ = batches.send(Err(error)).await;
    }
}

async fn read(
    pull: &MongoPull,
    place: Option<RawBson>,
    batches: &mpsc::Sender<DriverResult<Batch>>,
) -> Result<(), DriverError> {
    let conditions = place.map_or_else(|| vec![Document::new()], |last| after::conditions(&last));
    let count = conditions.len();
    for (index, condition) in conditions.into_iter().enumerate() {
        let mut cursor = open(pull, condition).await?;
        while let Some(reply) = cursor.next().await {
            let reply = reply?;
            let last = index + 1 == count && is_last(&reply);
            if batches.send(Ok(Batch { reply, last })).await.is_err() {
                return Ok(());
            }
        }
    }
    if count == 0 {
        // Nothing can stand behind the largest value of all.
        let _ = batches.send(Ok(Batch { reply: pull.nothing().await?, last: true })).await;
    }
    Ok(())
}

async fn open(pull: &MongoPull, condition: Document) -> DriverResult<RawBatchCursor> {
    let collection = pull.mongo.collection(&pull.collection);
    if let Query::Pipeline(stages) = &pull.query {
        let aggregate = collection.aggregate(pull.stages(stages)).allow_disk_use(true);
        return aggregate.batch_size(pull.batch_size).batch().await;
    }
    let mut find = collection
        .find(both(pull.filter().unwrap_or_default(), condition))
        .sort(doc! { "_id": 1 })
        .allow_disk_use(true)
        .batch_size(pull.batch_size);
    if let Query::Find { projection: Some(projection), .. } = &pull.query {
        let mut wanted = projection.clone();
        if without_id(&wanted) {
            wanted.remove("_id");
        }
        find = find.projection(wanted);
    }
    find.batch().await
}

/// Whether the server has no more for this cursor.
fn is_last(reply: &RawBatch) -> bool {
    let cursor = reply.as_raw_document().get_document("cursor");
    cursor.is_ok_and(|cursor| matches!(cursor.get("id"), Ok(Some(RawBsonRef::Int64(0) | RawBsonRef::Int32(0)))))
}

impl MongoPull {
    /// A batch without documents.
    async fn nothing(&self) -> DriverResult<RawBatch> {
        let none = doc! { "_id": { "$in": [] } };
        let collection = self.mongo.collection(&self.collection);
        let mut cursor: RawBatchCursor = collection.find(none).batch().await?;
        match cursor.next().await {
            Some(reply) => reply,
            None => Err(DriverError::custom("the server gave no batch")),
        }
    }
}
