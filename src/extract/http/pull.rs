//! A pull: page after page, or side by side where the API tells how many there are, until the last one is durable.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::super::Page;
use super::answer::Refused;
use super::client::{Errand, Held, HttpClient};
use super::limits::Limits;
use super::paginate::{self, Seen, Told};
use super::records::{Document, RecordPath};
use super::{Failure, HttpPull, Pulled, Sink, auth};
use crate::error::{Context, Error, Kind, Result};
use crate::model::hook::{PageStyle, Request};
use crate::model::page::{PageEntry, Position, Progress};

/// So many pages may be on their way to the disk at once.
const PUTS: u32 = 32;

/// Asks for the pages of a pull that are not durable yet, and hands each to the sink.
///
/// # Errors
/// An answer that the hook does not describe, a page that comes again, credentials that are refused, or a server that
/// stays out of reach; what was put into the sink before stays there.
pub(super) async fn pull(
    pull: &HttpPull,
    resume: Progress,
    sink: Arc<dyn Sink>,
    cancel: CancellationToken,
) -> Result<Pulled, Failure> {
    let terms = Terms::of(pull, sink, cancel)?;
    let puts = Arc::new(Semaphore::new(PUTS as usize));
    let pages = Puller { terms: &terms, pull, request: &pull.request, out: Out::Stage(&puts) };
    let pulled = pages.run(resume).await;
    // Whoever throws the stage away now must not be overtaken by a page that is still on its way there.
    let _ = puts.acquire_many(PUTS).await;
    Ok(Pulled { requests: terms.sent.load(Ordering::Relaxed), ..pulled? })
}

/// What all requests of one task have in common.
pub(super) struct Terms {
    client: HttpClient,
    path: RecordPath,
    secret_param: Option<String>,
    pub sink: Arc<dyn Sink>,
    pub cancel: CancellationToken,
    pub sent: AtomicU64,
    pub gate: Option<Arc<Limits>>,
    rank: u64,
}

impl Terms {
    /// How many requests the connection lets be under way at once.
    pub fn width(&self) -> usize {
        self.client.width()
    }

    /// How many the step lets.
    pub fn gate_width(&self) -> usize {
        self.gate.as_ref().map_or(usize::MAX, |gate| gate.width())
    }

    /// What the requests of a pull have in common.
    pub fn of(pull: &HttpPull, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Result<Self> {
        let client = pull.client.clone();
        Ok(Self {
            path: RecordPath::compile(&pull.records)?,
            secret_param: auth::query_key(&client.inner.settings.auth, pull.auth.as_ref()),
            sink,
            cancel,
            sent: AtomicU64::new(0),
            gate: pull.gate.clone(),
            rank: client.rank(),
            client,
        })
    }
}

/// One sequence of requests.
pub(super) struct Puller<'a> {
    pub terms: &'a Terms,
    pub pull: &'a HttpPull,
    pub request: &'a Request,
    pub out: Out<'a>,
}

/// Where the pages of a sequence go.
#[derive(Clone, Copy)]
pub(super) enum Out<'a> {
    /// Into the stage, one by one; so many may be on their way there.
    Stage(&'a Arc<Semaphore>),
    /// To whoever gathers the pages of many sequences.
    Gather(&'a (dyn Fn(Page, Held) + Send + Sync)),
}

/// A page with what it tells about the others.
struct Read {
    page: Page,
    told: Told,
}

impl Read {
    fn row(&self, range: Option<&std::ops::Range<usize>>) -> Option<Bytes> {
        range.map(|range| self.page.body.slice(range.clone()))
    }
}

/// What the pages before one have told.
#[derive(Default)]
struct Before {
    total: Option<u64>,
    total_pages: Option<u64>,
    digest: Option<u64>,
    last_row: Option<Bytes>,
}

impl Before {
    /// Whether the source tells of another number of rows or pages than before.
    fn moved(&mut self, told: &Told) -> bool {
        let changed = |known: &mut Option<u64>, now: Option<u64>| {
            let known = *known.get_or_insert(now?);
            (now != Some(known)).then_some(())
        };
        changed(&mut self.total, told.total).or(changed(&mut self.total_pages, told.total_pages)).is_some()
    }
}

impl Puller<'_> {
    /// Asks for the pages that are not durable yet.
    pub async fn run(&self, resume: Progress) -> Result<Pulled, Failure> {
        let style = &self.pull.paginate.by;
        let mut pulled = Pulled::default();
        let mut before = Before { total: resume.total, ..Before::default() };
        let side_by_side = matches!(self.out, Out::Stage(_));
        if let (1.., Some(total), Some(_), true) =
            (resume.done, resume.total, paginate::numbered(style, 0), side_by_side)
        {
            return self.side_by_side(total, &resume, pulled).await;
        }
        let (mut at, mut number, mut rows) = (paginate::first(style), 0, 0);
        if let Some(last) = resume.last {
            // Without a next page the last one is durable, and only the seal was missing.
            let Some(next) = last.next else { return complete(resume.rows, resume.total, pulled) };
            (at, number, rows) = (next, resume.done, resume.rows);
            before.digest = Some(last.digest);
        }
        let mut visited = HashSet::new();
        if *style != PageStyle::Single {
            visited.insert(fold(&at));
        }
        loop {
            self.guard_endless(number)?;
            let (mut read, held) = self.read(number, at).await?;
            rows += read.page.entry.rows;
            self.guard_repeated(&mut before, &read)?;
            if before.moved(&read.told) {
                return Ok(Pulled { total_moved: true, ..pulled });
            }
            let next = paginate::next(&self.pull.paginate, &self.seen(&read, rows)).map_err(in_doubt)?;
            if let Some(next) = next.as_ref().filter(|next| !visited.insert(fold(next))) {
                return Err(in_doubt(
                    Error::new(Kind::Source, format!("page {} leads back to a page that was read", number + 1))
                        .because(self.terms.client.inner.redactor.redact(&format!("{next:?}")))
                        .hint("the API's next page runs in a circle"),
                ));
            }
            read.page.entry.next.clone_from(&next);
            pulled.pages += 1;
            pulled.bytes += read.page.wire_bytes;
            let entry = read.page.entry.clone();
            self.put(read.page, held).await?;
            let Some(next) = next else { return complete(rows, before.total, pulled) };
            if self.terms.cancel.is_cancelled() {
                return Err(Error::new(Kind::Cancelled, "stopped between two pages").into());
            }
            if let (0, Some(total), Some(_), Some(size), true) =
                (number, entry.total, paginate::numbered(style, 0), paginate::page_size(style), side_by_side)
            {
                self.guard_size(&entry, total, size)?;
                let mut progress = Progress::default();
                progress.add(&entry);
                return self.side_by_side(total, &progress, pulled).await;
            }
            (at, number) = (next, number + 1);
        }
    }

    /// The other pages of a numbered style, several at once.
    async fn side_by_side(&self, total: u64, progress: &Progress, mut pulled: Pulled) -> Result<Pulled, Failure> {
        let style = &self.pull.paginate.by;
        let size = paginate::page_size(style).unwrap_or(1).max(1);
        let pages = total.div_ceil(size);
        if pages > self.pull.paginate.max_pages {
            return Err(Error::new(Kind::Source, format!("{total} rows are {pages} pages, more than are allowed"))
                .hint("`paginate.max_pages` is the guard against endless pages; raise it if there are so many")
                .into());
        }
        let missing = (0..pages).filter(|number| !progress.has(*number));
        let mut reading = stream::iter(missing)
            .map(|number| async move {
                let at = paginate::numbered(style, number).unwrap_or(Position::Start);
                let (mut read, held) = self.read(number, at).await?;
                read.page.entry.next = paginate::numbered(style, number + 1).filter(|_| number + 1 < pages);
                let entry = read.page.entry.clone();
                let bytes = read.page.wire_bytes;
                self.put(read.page, held).await?;
                Ok::<_, Error>((entry, bytes))
            })
            // Two more than may be asked for at once: some are on their way into the stage.
            .buffer_unordered(self.terms.client.width() + 2);
        let mut rows = progress.rows;
        let mut digests: HashSet<u64> = progress.last.iter().map(|last| last.digest).collect();
        while let Some((entry, bytes)) = reading.try_next().await? {
            pulled.pages += 1;
            pulled.bytes += bytes;
            rows += entry.rows;
            if entry.total.is_some_and(|now| now != total) {
                return Ok(Pulled { total_moved: true, ..pulled });
            }
            if entry.rows > 0 && !digests.insert(entry.digest) && !self.pull.paginate.may_repeat {
                return Err(same_rows(&entry, "another page"));
            }
        }
        complete(rows, Some(total), pulled)
    }

    /// The guard against pages without an end.
    fn guard_endless(&self, number: u64) -> Result<(), Failure> {
        if number < self.pull.paginate.max_pages {
            return Ok(());
        }
        Err(in_doubt(
            Error::new(Kind::Source, format!("page {number} is the last that is allowed, and it is not the last"))
                .hint("`paginate.max_pages` is the guard against endless pages; raise it if there are so many"),
        ))
    }

    /// The guard against a page that comes again.
    fn guard_repeated(&self, before: &mut Before, read: &Read) -> Result<(), Failure> {
        let (entry, rows) = (&read.page.entry, &read.page.rows);
        if entry.rows > 0 && before.digest == Some(entry.digest) && !self.pull.paginate.may_repeat {
            return Err(same_rows(entry, "the page before"));
        }
        if let (PageStyle::Keyset { param, .. }, Some(first)) = (&self.pull.paginate.by, read.row(rows.first()))
            && before.last_row.as_ref() == Some(&first)
        {
            return Err(in_doubt(
                Error::new(
                    Kind::Source,
                    format!("page {} begins with the row that the page before ended with", entry.number + 1),
                )
                .hint(format!("`{param}` has to ask for the rows after a key, without the key's own row")),
            ));
        }
        before.digest = Some(entry.digest);
        before.last_row = read.row(rows.last());
        Ok(())
    }

    /// An API that gives fewer rows than asked for would leave holes between pages.
    fn guard_size(&self, first: &PageEntry, total: u64, size: u64) -> Result<(), Failure> {
        if first.rows == size {
            return Ok(());
        }
        let key = if matches!(self.pull.paginate.by, PageStyle::Page { .. }) { "size" } else { "limit" };
        Err(in_doubt(
            Error::new(
                Kind::Source,
                format!("page 1 has {} rows, {size} were asked for, {total} there are", first.rows),
            )
            .hint(format!("the API's largest page may be smaller: try `{key} = {}`", first.rows)),
        ))
    }

    fn seen<'r>(&'r self, read: &'r Read, rows_so_far: u64) -> Seen<'r> {
        Seen {
            base: self.request,
            at: &read.page.entry.at,
            number: read.page.entry.number,
            rows: read.page.entry.rows,
            rows_so_far,
            told: &read.told,
            secret_param: self.terms.secret_param.as_deref(),
        }
    }

    async fn read(&self, number: u64, at: Position) -> Result<(Read, Held)> {
        let terms = self.terms;
        let request = match &self.pull.paginate.by {
            PageStyle::Single => Cow::Borrowed(self.request),
            style => Cow::Owned(paginate::request_at(self.request, style, &at)?),
        };
        let errand = Errand {
            style: self.pull.auth.as_ref(),
            retry: &self.pull.retry,
            sink: &*terms.sink,
            cancel: &terms.cancel,
            sent: &terms.sent,
            gate: terms.gate.as_deref(),
            rank: terms.rank,
        };
        let answer = terms.client.fetch(&request, &errand, |answer| {
            let document = Document::read(&answer.body).map_err(Refused::broken)?;
            let rows = terms.path.rows(&document)?;
            let last_row = rows.last().map(|row| &answer.body[row.clone()]);
            let told = paginate::told(&self.pull.paginate, &document, &answer.headers, last_row)?;
            Ok((answer, rows, told))
        });
        let ((answer, rows, told), held) = answer.await.map_err(|error| {
            error.while_doing(format!(
                "reading page {} of {}",
                number + 1,
                terms.client.inner.redactor.redact(&request.url)
            ))
        })?;
        let mut digest = Xxh3::new();
        for row in &rows {
            digest.update(&answer.body[row.clone()]);
        }
        let entry =
            PageEntry { number, at, next: None, total: told.total, rows: rows.len() as u64, digest: digest.digest() };
        let page = Page { entry, wire_bytes: answer.body.len() as u64, body: answer.body, rows };
        Ok((Read { page, told }, held))
    }

    async fn put(&self, page: Page, held: Held) -> Result<()> {
        let puts = match self.out {
            Out::Stage(puts) => puts,
            Out::Gather(gather) => {
                gather(page, held);
                return Ok(());
            }
        };
        drop(held);
        let sink = Arc::clone(&self.terms.sink);
        let turn = Arc::clone(puts).acquire_owned().await;
        let put = tokio::task::spawn_blocking(move || {
            let put = sink.put(page);
            drop(turn);
            put
        });
        put.await.context(Kind::Internal, || "putting a page into the stage".to_owned())?
    }
}

fn same_rows(entry: &PageEntry, other: &str) -> Failure {
    in_doubt(
        Error::new(Kind::Source, format!("page {} has the same rows as {other}", entry.number + 1))
            .hint("the API seems to ignore the page: look at the parameter names in `paginate`")
            .hint("if its pages may well be the same, say so: may_repeat = true"),
    )
}

/// The end of a pull whose pages are all there: as many rows as the API told of, where it did.
fn complete(rows: u64, total: Option<u64>, pulled: Pulled) -> Result<Pulled, Failure> {
    match total {
        Some(total) if total != rows => Err(in_doubt(
            Error::new(Kind::Source, format!("{rows} rows came, the API tells of {total}")).hint(
                "it may give smaller pages than asked for, or count what it does not give; look at `paginate`, or leave `total` out",
            ),
        )),
        _ => Ok(pulled),
    }
}

fn in_doubt(error: Error) -> Failure {
    Failure { error, in_doubt: true }
}

fn fold(at: &Position) -> u64 {
    xxh3_64(format!("{at:?}").as_bytes())
}
