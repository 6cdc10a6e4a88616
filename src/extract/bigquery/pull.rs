//! Page after page of a table or of a query's result, each durable while the next is on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use super::super::{Failure, Page, Pulled, Sink};
use super::{BigQueryPull, Seen, ask};
use crate::bigquery::{Caller, Field, QueryJob, Refused, RowPage, Rows, Schema};
use crate::error::{Context, Error, Kind, Result};
use crate::model::cost::JobKind;
use crate::model::hook::RetryPolicy;
use crate::model::page::{PageEntry, Position, Progress};
use crate::model::schema::SourceColumn;

/// At most so many rows are asked for at once; the service sends fewer where they are long.
const PAGE_ROWS: u64 = 50_000;

/// Where a page begins: in which version of which listing, and at which of its tokens.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// The table's version, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// The job whose result it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// Where that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    /// The token of the page.
    token: String,
}

/// Rows that can be listed, from the page that is not durable yet.
struct Listing {
    rows: Rows,
    schema: Schema,
    version: Option<String>,
    token: Option<String>,
}

/// What has to be done before the first page.
enum Opened {
    Listing(Listing),
    /// What the durable pages came from is not there any more.
    Moved,
}

pub(super) async fn pages(
    pull: &BigQueryPull,
    resume: Progress,
    sink: Arc<dyn Sink>,
    cancel: CancellationToken,
) -> Result<Pulled, Failure> {
    let sent = AtomicU64::new(0);
    let retry = RetryPolicy::default();
    let told = Arc::clone(&sink);
    let retrying = move |reason: &str, pause| told.retrying(reason, pause);
    let caller = Caller {
        retry: &retry,
        cancel: &cancel,
        retrying: &retrying,
        sent: &sent,
        receipts: &pull.jobs.billing.receipts,
    };
    let mut putting = None;
    let pulled = run(pull, resume, &sink, &caller, &mut putting).await;
    // Whoever throws the stage away now must not be overtaken by a page that is still on its way there.
    let last = settle(&mut putting).await;
    let mut pulled = pulled?;
    last?;
    pulled.requests = sent.load(Ordering::Relaxed);
    if pulled.total_moved {
        pull.forget().await;
    }
    Ok(pulled)
}

async fn run(
    pull: &BigQueryPull,
    resume: Progress,
    sink: &Arc<dyn Sink>,
    caller: &Caller<'_>,
    putting: &mut Option<JoinHandle<Result<()>>>,
) -> Result<Pulled, Failure> {
    let mut pulled = Pulled::default();
    let mark = resume.last.as_ref().map(|last| last.next.as_ref().map(read_mark).transpose()).transpose()?.flatten();
    let ended = resume.last.as_ref().is_some_and(|last| last.next.is_none());
    let mut listing = match open(pull, mark, caller).await? {
        Opened::Listing(listing) => listing,
        Opened::Moved => return Ok(Pulled { total_moved: true, ..pulled }),
    };
    sink.columns(listing.schema.fields.iter().map(column).collect())?;
    if ended {
        return Ok(pulled);
    }
    let (mut number, mut total) = (resume.done, resume.total);
    let mut resumed = listing.token.is_some();
    loop {
        let page = pull.client.page(&listing.rows, &listing.schema, listing.token.as_deref(), PAGE_ROWS, caller).await;
        let page = match page {
            Ok(page) => page,
            Err(refused) => {
                // A token of yesterday may have expired, and one of today when the table changed: all is read anew.
                let stale = refused.error.kind() == Kind::Source && listing.token.is_some();
                if stale && (resumed || has_moved(pull, &listing, caller).await) {
                    return Ok(Pulled { total_moved: true, ..pulled });
                }
                return Err(refused.error.while_doing(format!("reading page {}", number + 1)).into());
            }
        };
        resumed = false;
        if total.is_some() && page.total.is_some() && total != page.total {
            return Ok(Pulled { total_moved: true, ..pulled });
        }
        total = total.or(page.total);
        settle(putting).await?;
        let next = page.next.clone();
        pulled.pages += 1;
        pulled.bytes += page.wire_bytes;
        let page = numbered(page, number, &listing);
        let sink = Arc::clone(sink);
        *putting = Some(tokio::task::spawn_blocking(move || sink.put(page)));
        let Some(next) = next else { return Ok(pulled) };
        if caller.cancel.is_cancelled() {
            return Err(Error::new(Kind::Cancelled, "stopped between two pages").into());
        }
        listing.token = Some(next);
        number += 1;
    }
}

/// Finds out where rows are listed; runs the query where that is what it takes.
async fn open(pull: &BigQueryPull, mark: Option<Mark>, caller: &Caller<'_>) -> Result<Opened> {
    if let Some(Mark { job: Some(id), location, token, .. }) = &mark {
        return Ok(match pull.client.result(id, location.as_deref(), caller).await {
            Ok(job) => {
                // The process that began it may have died before it could say.
                pull.billed(&job, JobKind::Query, caller).await;
                Opened::Listing(of_job(job, Some(token.clone())))
            }
            Err(refused) if refused.error.kind() == Kind::Source => Opened::Moved,
            Err(refused) => return Err(refused.error.while_doing(format!("going on with the job {id}"))),
        });
    }
    let seen = pull
        .look(caller)
        .await?
        .map_err(|reason| Error::new(Kind::Source, format!("reading {}", super::Pull::place(pull))).because(reason))?;
    match seen {
        Seen::Listed { rows, schema, version } => {
            if mark.as_ref().is_some_and(|mark| mark.version != version) {
                return Ok(Opened::Moved);
            }
            Ok(Opened::Listing(Listing { rows, schema, version, token: mark.map(|mark| mark.token) }))
        }
        // Durable pages of a listing, and now it is a query: the table has become a view.
        Seen::Asked { .. } if mark.is_some() => Ok(Opened::Moved),
        Seen::Asked { sql, .. } => {
            let failed = |refused: Refused| ask::beside(refused, &sql).while_doing("running the query");
            let job = pull.client.query(&pull.job_of(&sql), caller).await.map_err(failed)?;
            pull.billed(&job, JobKind::Query, caller).await;
            Ok(Opened::Listing(of_job(job, None)))
        }
    }
}

/// Whether a table is no longer the one whose rows were begun to be listed.
async fn has_moved(pull: &BigQueryPull, listing: &Listing, caller: &Caller<'_>) -> bool {
    let Rows::Table(id) = &listing.rows else { return false };
    let now = pull.client.table(id, caller).await;
    now.is_ok_and(|table| super::version(id, &table) != listing.version)
}

fn of_job(job: QueryJob, token: Option<String>) -> Listing {
    Listing { schema: job.schema.clone(), rows: Rows::Job(job), version: None, token }
}

/// A column as the source declares it.
fn column(field: &Field) -> SourceColumn {
    SourceColumn { name: field.name.clone(), data_type: Some(field.logical_type()) }
}

fn numbered(page: RowPage, number: u64, listing: &Listing) -> Page {
    let mut digest = Xxh3::new();
    for row in &page.rows {
        digest.update(&page.body[row.clone()]);
        digest.update(b"\n");
    }
    let at = listing.token.as_ref().map_or(Position::Start, |token| listing.mark(token));
    let next = page.next.as_ref().map(|token| listing.mark(token));
    let rows = page.rows.len() as u64;
    let entry = PageEntry { number, at, next, total: page.total, rows, digest: digest.digest() };
    Page { entry, body: page.body, rows: page.rows, wire_bytes: page.wire_bytes }
}

impl Listing {
    fn mark(&self, token: &str) -> Position {
        let (job, location) = match &self.rows {
            Rows::Table(_) => (None, None),
            Rows::Job(job) => (Some(job.id.clone()), job.location.clone()),
        };
        let mark = Mark { version: self.version.clone(), job, location, token: token.to_owned() };
        // A record of texts is always JSON.
        Position::Cursor(serde_json::to_string(&mark).unwrap_or_default())
    }
}

fn read_mark(position: &Position) -> Result<Mark, Failure> {
    let text = if let Position::Cursor(text) = position { text.as_str() } else { "" };
    let read = serde_json::from_str(text).context(Kind::Storage, || "reading the journal's last page".to_owned());
    read.map_err(|error| Failure { error, in_doubt: true })
}

/// Waits until the page that is on its way to the disk is there.
async fn settle(putting: &mut Option<JoinHandle<Result<()>>>) -> Result<()> {
    match putting.take() {
        Some(put) => put.await.context(Kind::Internal, || "keeping a page".to_owned())?,
        None => Ok(()),
    }
}
