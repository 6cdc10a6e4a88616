//! A pull: page after page, or side by side where the API tells how many there are, until the last one is durable.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use super::super::Page;
use super::answer::Fate;
use super::client::{Held, HttpClient};
use super::limits::Limits;
use super::paginate::{self, Seen, Told};
use super::read::Read;
use super::records::RecordPath;
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
    let pulled = match &pull.report {
        Some(report) => pages.report(report, resume).await,
        None => pages.run(resume).await,
    };
    // Whoever throws the stage away now must not be overtaken by a page that is still on its way there.
    let _ = puts.acquire_many(PUTS).await;
    terms.tell_unchanged(pull).await;
    Ok(Pulled { requests: terms.sent.load(Ordering::Relaxed), ..pulled? })
}

/// What all requests of one task have in common.
pub(super) struct Terms {
    pub client: HttpClient,
    /// Where JSON has its rows; none where they are elements of XML.
    pub path: Option<RecordPath>,
    secret_param: Option<String>,
    pub sink: Arc<dyn Sink>,
    pub cancel: CancellationToken,
    pub sent: AtomicU64,
    /// Requests that are under way.
    pub flying: AtomicU64,
    /// The status of the last answer.
    pub status: AtomicU16,
    /// How many pages were made durable.
    pub brought: AtomicU64,
    /// How many answers were the same as before.
    pub unchanged: AtomicU64,
    pub gate: Option<Arc<Limits>>,
    pub rank: u64,
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
            path: match pull.manner.records.as_deref() {
                Some(path) if path.starts_with('/') => None,
                path => Some(RecordPath::compile(path.unwrap_or("$[*]"))?),
            },
            secret_param: auth::query_key(&client.inner.settings.auth, pull.auth.as_ref()),
            sink,
            cancel,
            sent: AtomicU64::new(0),
            flying: AtomicU64::new(0),
            status: AtomicU16::new(0),
            brought: AtomicU64::new(0),
            unchanged: AtomicU64::new(0),
            gate: pull.gate.clone(),
            rank: client.rank(),
            client,
        })
    }

    /// Tells how many answers were the same as before, and tidies up where they are kept.
    pub async fn tell_unchanged(&self, pull: &HttpPull) {
        let Some(cache) = pull.manner.cache.clone() else { return };
        let unchanged = self.unchanged.load(Ordering::Relaxed);
        if unchanged > 0 {
            let of = self.brought.load(Ordering::Relaxed).max(unchanged);
            self.sink.paced(&format!("{unchanged} of {of} answers are the same as before: 304 Not Modified"));
        }
        // A cache that is too large is no reason to fail.
        let _ = tokio::task::spawn_blocking(move || cache.evict()).await;
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
    Gather(&'a (dyn Fn(Page, Option<Held>) + Send + Sync)),
}

/// Where a sequence of pages begins: the position, the page's number, and rows and digest of those before.
pub(super) type Start = (Option<Position>, u64, u64, Option<u64>);

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
    pub(super) async fn run(&self, resume: Progress) -> Result<Pulled, Failure> {
        let style = &self.pull.paginate.by;
        let pulled = Pulled::default();
        let before = Before { total: resume.total, ..Before::default() };
        if let (1.., Some(total), Some(_), Out::Stage(_)) =
            (resume.done, resume.total, paginate::numbered(style, 0), self.out)
        {
            return self.side_by_side(total, &resume, pulled).await;
        }
        let mut start = (None, 0, 0, None);
        if let Some(last) = resume.last {
            // Without a next page the last one is durable, and only the seal was missing.
            let Some(next) = last.next else { return complete(resume.rows, resume.total, pulled) };
            start = (Some(next), resume.done, resume.rows, Some(last.digest));
        }
        self.sequence_with(start, self.request.clone(), None, pulled, before).await
    }

    /// Page after page of a report.
    pub(super) async fn sequence(
        &self,
        start: Start,
        base: Request,
        report: Option<&str>,
        pulled: Pulled,
    ) -> Result<Pulled, Failure> {
        self.sequence_with(start, base, report, pulled, Before::default()).await
    }

    async fn sequence_with(
        &self,
        start: Start,
        base: Request,
        report: Option<&str>,
        mut pulled: Pulled,
        mut before: Before,
    ) -> Result<Pulled, Failure> {
        let style = &self.pull.paginate.by;
        let (at, mut number, mut rows, digest) = start;
        before.digest = digest;
        let mut durable = None;
        let mut at = match at {
            Some(Position::Part { of, part, digest }) => {
                durable = Some((part, digest));
                *of
            }
            Some(at) => at,
            None => paginate::first(style),
        };
        // In a report, places are told with what identifies it.
        let place = |at: Position| match report {
            Some(values) => Position::Report { values: values.to_owned(), at: Some(Box::new(at)) },
            None => at,
        };
        let mut answers = if durable.is_some() || report.is_some() { 0 } else { number };
        let mut visited: HashSet<u64> = HashSet::new();
        if *style != PageStyle::Single {
            visited.insert(fold(&at));
        }
        let mut skipped = false;
        loop {
            self.guard_endless(answers)?;
            let mut answered = self.read(number, &base, at.clone()).await?;
            let whole = answered.digest();
            let (skip, known) = durable.take().unwrap_or((0, whole));
            if known != whole {
                // Another answer than the one whose first parts are durable.
                return Ok(Pulled { total_moved: true, ..pulled });
            }
            let (mut part, mut own_rows) = (0, 0);
            let next = loop {
                let Some(read) = answered.next().await else {
                    return Err(Error::internal("an answer ended before its last part").into());
                };
                let mut read = read.map_err(|error| self.reading(error, number, &base.url))?;
                read.page.entry.number = number;
                own_rows += read.page.entry.rows;
                let is_durable = part < skip;
                rows += if is_durable { 0 } else { read.page.entry.rows };
                let first = rows - if is_durable { 0 } else { read.page.entry.rows };
                if part == 0
                    && read.page.entry.rows > 0
                    && paginate::is_doubt(&self.pull.paginate, answers, first, &read.told)
                {
                    // The API has no pages, and gives everything each time.
                    if read.last && before.digest == Some(read.page.entry.digest) {
                        return complete(first, before.total, pulled);
                    }
                    return Err(in_doubt(paginate::smaller(style, first)));
                }
                if part == 0 && read.last {
                    self.guard_repeated(&mut before, &read)?;
                }
                if before.moved(&read.told) {
                    return Ok(Pulled { total_moved: true, ..pulled });
                }
                if read.fate == Fate::Skip {
                    skipped = true;
                    self.terms.sink.paced(&format!("page {} was left out, as `on` says", number + 1));
                }
                let next = if read.last {
                    self.after(&base, &at, answers, &read, own_rows, rows, &mut visited)?
                } else {
                    Some(Position::Part { of: Box::new(at.clone()), part: part + 1, digest: whole })
                };
                let last = read.last;
                // A page that was left out is not durable: a later pull asks for it again.
                if !is_durable && (read.fate != Fate::Skip || next.is_none()) {
                    read.page.entry.at = place(read.page.entry.at);
                    read.page.entry.next = next.clone().map(place);
                    pulled.pages += 1;
                    pulled.bytes += read.page.wire_bytes;
                    let entry = read.page.entry.clone();
                    let side_by_side = self.beside(report, number, &entry, last);
                    self.put(read.page, read.held).await?;
                    number += 1;
                    if self.terms.cancel.is_cancelled() && next.is_some() {
                        return Err(Error::new(Kind::Cancelled, "stopped between two pages").into());
                    }
                    if let (Some((total, size)), true) = (side_by_side, next.is_some()) {
                        self.guard_size(&entry, total, size)?;
                        let mut progress = Progress::default();
                        progress.add(&entry);
                        return self.side_by_side(total, &progress, pulled).await;
                    }
                }
                if last {
                    break next;
                }
                part += 1;
            };
            answers += 1;
            match next {
                Some(next) => at = next,
                None if skipped => return Ok(pulled),
                None => return complete(rows, before.total, pulled),
            }
        }
    }

    /// Total and size of pages that may be asked for side by side, once the first of them is there.
    fn beside(&self, report: Option<&str>, number: u64, entry: &PageEntry, last: bool) -> Option<(u64, u64)> {
        let style = &self.pull.paginate.by;
        let staged = matches!(self.out, Out::Stage(_));
        paginate::numbered(style, 0).filter(|_| number == 0 && last && staged && report.is_none())?;
        entry.total.zip(paginate::page_size(style))
    }

    /// Where the page behind an answer begins.
    #[expect(clippy::too_many_arguments, reason = "what is known of one answer; a struct would only rename it")]
    fn after(
        &self,
        base: &Request,
        at: &Position,
        answers: u64,
        read: &Read,
        own_rows: u64,
        rows: u64,
        visited: &mut HashSet<u64>,
    ) -> Result<Option<Position>, Failure> {
        let next = match read.fate {
            Fate::Stop => None,
            // The page behind one that is left out is where it would be, if there were no word on it.
            Fate::Skip => paginate::behind(&self.pull.paginate.by, at),
            Fate::Rows | Fate::Empty => {
                let seen = Seen {
                    base,
                    at,
                    number: answers,
                    rows: own_rows,
                    rows_so_far: rows,
                    told: &read.told,
                    secret_param: self.terms.secret_param.as_deref(),
                };
                let next = paginate::next(&self.pull.paginate, &seen).map_err(in_doubt)?;
                if let (None, Some(sentence)) = (&next, paginate::unsaid(&self.pull.paginate, &seen)) {
                    self.terms.sink.warn(&sentence);
                }
                next
            }
        };
        if let Some(next) = next.as_ref().filter(|next| !visited.insert(fold(next))) {
            return Err(in_doubt(
                Error::new(Kind::Source, format!("page {} leads back to a page that was read", answers + 1))
                    .because(self.terms.client.inner.redactor.redact(&format!("{next:?}")))
                    .hint("the API's next page runs in a circle"),
            ));
        }
        Ok(next)
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
                let mut answered = self.read(number, self.request, at).await?;
                let read = answered.next().await.ok_or_else(|| Error::internal("an answer has no first part"))?;
                let mut read = read.map_err(|error| self.reading(error, number, &self.request.url))?;
                read.page.entry.next = paginate::numbered(style, number + 1).filter(|_| number + 1 < pages);
                let entry = read.page.entry.clone();
                let bytes = read.page.wire_bytes;
                if read.fate == Fate::Skip {
                    self.terms.sink.paced(&format!("page {} was left out, as `on` says", number + 1));
                    return Ok((entry, None));
                }
                self.put(read.page, read.held).await?;
                Ok::<_, Error>((entry, Some(bytes)))
            })
            // Two more than may be asked for at once: some are on their way into the stage.
            .buffer_unordered(self.terms.client.width() + 2);
        let mut rows = progress.rows;
        let mut digests: HashSet<u64> = progress.last.iter().map(|last| last.digest).collect();
        let mut skipped = false;
        while let Some((entry, bytes)) = reading.try_next().await? {
            let Some(bytes) = bytes else {
                skipped = true;
                continue;
            };
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
        complete(rows, Some(total).filter(|_| !skipped), pulled)
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

    /// Hands a page on; `held` is its request's place among those under way.
    pub(super) async fn put(&self, page: Page, held: Option<Held>) -> Result<()> {
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
        put.await.context(Kind::Internal, || "putting a page into the stage".to_owned())??;
        self.terms.brought.fetch_add(1, Ordering::Relaxed);
        Ok(())
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

pub(super) fn in_doubt(error: Error) -> Failure {
    Failure { error, in_doubt: true }
}

fn fold(at: &Position) -> u64 {
    xxh3_64(format!("{at:?}").as_bytes())
}
