//! Fan-out: a sequence of requests for each item, many side by side, whose answers become durable many at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::{Asked, Batch, BatchPage, Page};
use super::client::Held;
use super::pull::{Out, Puller, Terms};
use super::{Failure, HttpPull, Pulled, Sink};
use crate::error::{Context, Disposition, Error, Kind, Result};
use crate::model::fanout::{Added, FailedRequest, FanProgress, OpenRequest, Tally};
use crate::model::hook::Request;
use crate::model::page::Progress;

/// The items of a fan-out in their order, as JSON.
pub type ItemLines = Box<dyn Iterator<Item = Result<String>> + Send>;

/// Makes the request of an item.
pub type RenderItem = dyn Fn(&str) -> Result<ItemRequest> + Send + Sync;

/// What is asked for one item.
#[derive(Debug, Clone)]
pub struct ItemRequest {
    /// The request of its first page.
    pub request: Request,
    /// What its rows get besides their own members.
    pub add: Option<Added>,
}

/// A request for each item, and how all of them are divided into pages.
#[derive(Clone)]
pub struct FanPull {
    /// What all requests have in common; its own request is not sent.
    pub pull: HttpPull,
    /// Makes the request of an item.
    pub render: Arc<RenderItem>,
    /// Stops the step where asking on is of no use.
    pub breaker: Arc<Breaker>,
}

/// How often a fan-out tells how it stands.
const TOLD_EVERY: Duration = Duration::from_millis(250);

/// More answers than this are not made durable by one write.
const LARGEST_BATCH: usize = 1024;

/// Pauses of retries are told so rarely.
const RETRIES_TOLD_EVERY: Duration = Duration::from_secs(10);

impl FanPull {
    /// Sends the requests that are not finished yet, and hands their answers to the sink.
    ///
    /// A request that fails for good is handed to the sink as well, and the others go on.
    ///
    /// # Errors
    /// What makes it useless to ask on: credentials that are refused, a template that cannot be rendered, a disk that is
    /// full, and requests that all fail for one reason. What was durable before stays durable.
    pub async fn run(
        &self,
        items: ItemLines,
        total: u64,
        resume: FanProgress,
        sink: Arc<dyn Sink>,
        cancel: CancellationToken,
    ) -> Result<Pulled, Failure> {
        let (fan, stop) = (self.clone(), cancel.child_token());
        let halt = stop.clone().drop_guard();
        let ended = engine().spawn(async move { fan.walk(items, total, resume, sink, stop).await }).await;
        drop(halt);
        ended.context(Kind::Internal, || "walking a fan-out".to_owned())?
    }

    async fn walk(
        &self,
        mut items: ItemLines,
        total: u64,
        resume: FanProgress,
        sink: Arc<dyn Sink>,
        stop: CancellationToken,
    ) -> Result<Pulled, Failure> {
        if let Some(error) = self.breaker.broken() {
            return Err(error.into());
        }
        let counts = Arc::new(Counts::new(total, &resume));
        let (to, ended) = mpsc::unbounded_channel();
        let (sink_of, breaker) = (Arc::clone(&sink), Arc::clone(&self.breaker));
        let writer = Writer { sink: sink_of, counts: Arc::clone(&counts), breaker, stop: stop.clone() };
        let writer = tokio::spawn(writer.write(ended));
        let heard: Arc<dyn Sink> =
            Arc::new(Quiet { sink: Arc::clone(&sink), counts: Arc::clone(&counts), told: Mutex::default() });
        let terms = Terms::of(&self.pull, heard, stop.clone())?;
        let walk = Walk { fan: self, terms: &terms, resume: &resume, counts: &counts, to };
        // As many as may be under way, and as many that wait to be sent again.
        let width = 2 * terms.width().min(terms.gate_width()) + 8;
        let (mut flying, mut number, mut fault) = (FuturesUnordered::new(), 0, None);
        let mut clock = tokio::time::interval(TOLD_EVERY);
        loop {
            while fault.is_none() && flying.len() < width && !stop.is_cancelled() {
                match self.next(&mut items, &mut number, &resume) {
                    None => break,
                    Some(Ok(asked)) => flying.push(walk.one(Arc::new(asked))),
                    Some(Err(error)) => fault = Some(Failure::from(error)),
                }
            }
            tokio::select! {
                next = flying.next() => match next {
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(failure)) => {
                        stop.cancel();
                        fault = fault.or(Some(failure));
                    }
                },
                _ = clock.tick() => sink.tally(counts.tally(terms.flying.load(Ordering::Relaxed))),
            }
        }
        drop(flying);
        let requests = terms.sent.load(Ordering::Relaxed);
        terms.tell_unchanged(&self.pull).await;
        drop(walk);
        let written = writer.await.context(Kind::Internal, || "writing the answers of a fan-out".to_owned())?;
        sink.tally(counts.tally(0));
        // A disk that refuses is why the rest was stopped.
        let (pages, bytes) = written?;
        match fault {
            Some(failure) => Err(failure),
            None if stop.is_cancelled() => Err(Error::new(Kind::Cancelled, "stopped between two requests").into()),
            None => Ok(Pulled { requests, bytes, pages, total_moved: false }),
        }
    }

    /// The next request that is not finished yet.
    fn next(&self, items: &mut ItemLines, number: &mut u64, resume: &FanProgress) -> Option<Result<Asked>> {
        loop {
            let (line, this) = (items.next()?, *number);
            *number += 1;
            if resume.finished.contains(this) {
                continue;
            }
            let asked = line.and_then(|item| {
                let ItemRequest { request, add } = (self.render)(&item)?;
                Ok(Asked { number: this, item, request, add })
            });
            return Some(asked.map_err(|error| error.while_doing(format!("making request {}", this + 1))));
        }
    }
}

/// Where fan-outs run: one thread for all of them and for their connections, so that no small request is handed from one
/// thread to another; that would cost a third more.
fn engine() -> Handle {
    static ENGINE: OnceLock<Option<Handle>> = OnceLock::new();
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let handle = runtime.handle().clone();
        let run = move || runtime.block_on(std::future::pending::<()>());
        std::thread::Builder::new().name("fan-out".to_owned()).spawn(run).ok()?;
        Some(handle)
    };
    ENGINE.get_or_init(start).clone().unwrap_or_else(Handle::current)
}

/// What ended, on its way into the stage.
enum Ended {
    /// A page of a request; the slot is free again once it is durable.
    Page(BatchPage, Option<Held>),
    /// A request that failed for good.
    Failed(FailedRequest),
}

struct Walk<'a> {
    fan: &'a FanPull,
    terms: &'a Terms,
    resume: &'a FanProgress,
    counts: &'a Counts,
    to: mpsc::UnboundedSender<Ended>,
}

impl Walk<'_> {
    /// Asks for one item; an error stops the fan-out.
    async fn one(&self, asked: Arc<Asked>) -> Result<(), Failure> {
        let resume = self.resume.open.get(&asked.number).map_or_else(Progress::default, behind);
        let pages = AtomicU64::new(resume.done);
        let gather = |page: Page, held: Option<Held>| {
            pages.fetch_add(1, Ordering::Relaxed);
            // The writer listens until all senders are gone, unless a write failed: then all is stopped.
            let _ = self.to.send(Ended::Page(BatchPage { page, asked: Arc::clone(&asked) }, held));
        };
        let (terms, pull) = (self.terms, &self.fan.pull);
        let puller = Puller { terms, pull, request: &asked.request, out: Out::Gather(&gather) };
        let failure = match puller.run(resume).await {
            Ok(Pulled { total_moved: false, .. }) => return Ok(()),
            Ok(_) => Failure {
                error: Error::new(Kind::Source, "the total moved while the request's pages were read"),
                in_doubt: true,
            },
            Err(failure) => failure,
        };
        let pages = pages.load(Ordering::Relaxed);
        // Pages in doubt are among the rows of the others: none of them can be believed.
        if stops(&failure.error) || (failure.in_doubt && pages > 0) {
            if failure.error.kind() == Kind::Auth {
                self.fan.breaker.stop(&failure.error);
            }
            return Err(Failure { in_doubt: failure.in_doubt && pages > 0, ..failure });
        }
        let failed = asked.failed(&failure.error, pages, &pull.client.inner.redactor);
        let broken = self.fan.breaker.failed(&failed);
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        let _ = self.to.send(Ended::Failed(failed));
        broken.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// How far a request has come of which some pages are durable.
fn behind(open: &OpenRequest) -> Progress {
    let OpenRequest { last, rows } = open;
    Progress { done: last.number + 1, total: last.total, last: Some(last.clone()), rows: *rows, ..Progress::default() }
}

/// Whether asking for the other items is of no use after this.
fn stops(error: &Error) -> bool {
    match error.kind() {
        // Some things are nobody's to see: that says nothing of the others.
        Kind::Auth => error.status() != Some(403),
        Kind::Unavailable | Kind::RateLimited | Kind::Source | Kind::Data => false,
        _ => true,
    }
}

/// So few answers, so long after the last ones, are written at once: to wake another thread for them takes longer than to
/// write them, and their slots would be idle meanwhile.
const FEW: usize = 4;
const CALM: Duration = Duration::from_micros(250);

/// Makes answers durable: all that have come while the last ones were written, by one write.
struct Writer {
    sink: Arc<dyn Sink>,
    counts: Arc<Counts>,
    breaker: Arc<Breaker>,
    stop: CancellationToken,
}

impl Writer {
    /// Writes until nothing more can come; returns pages and bytes.
    async fn write(self, mut ended: mpsc::UnboundedReceiver<Ended>) -> Result<(u64, u64)> {
        let (mut pages, mut bytes, mut came) = (0, 0, Vec::new());
        let mut last = tokio::time::Instant::now();
        while ended.recv_many(&mut came, LARGEST_BATCH).await > 0 {
            let (mut batch, mut held, mut finished) = (Batch::default(), Vec::with_capacity(came.len()), 0);
            for one in came.drain(..) {
                match one {
                    Ended::Page(page, slot) => {
                        finished += u64::from(page.page.entry.next.is_none());
                        bytes += page.page.wire_bytes;
                        batch.pages.push(page);
                        held.push(slot);
                    }
                    Ended::Failed(failed) => batch.failed.push(failed),
                }
            }
            pages += batch.pages.len() as u64;
            let calm = batch.pages.len() + batch.failed.len() <= FEW && last.elapsed() >= CALM;
            let refused = if calm { self.put(batch, held) } else { self.put_beside(batch, held).await };
            last = tokio::time::Instant::now();
            if let Err(error) = refused.and_then(|refused| self.count(finished, &refused)) {
                self.stop.cancel();
                return Err(error);
            }
        }
        Ok((pages, bytes))
    }

    /// Writes a batch; its slots are free only then: what is under way and not durable is never more than the connection
    /// allows at once.
    fn put(&self, batch: Batch, held: Vec<Option<Held>>) -> Result<Vec<FailedRequest>> {
        let refused = self.sink.put_batch(batch);
        drop(held);
        refused
    }

    /// Writes a batch while the next answers come.
    async fn put_beside(&self, batch: Batch, held: Vec<Option<Held>>) -> Result<Vec<FailedRequest>> {
        let sink = Arc::clone(&self.sink);
        let put = tokio::task::spawn_blocking(move || {
            let refused = sink.put_batch(batch);
            drop(held);
            refused
        });
        put.await.context(Kind::Internal, || "putting answers into the stage".to_owned())?
    }

    fn count(&self, finished: u64, refused: &[FailedRequest]) -> Result<()> {
        let count = refused.len() as u64;
        self.counts.finished.fetch_add(finished.saturating_sub(count), Ordering::Relaxed);
        self.counts.failed.fetch_add(count, Ordering::Relaxed);
        if finished > count {
            self.breaker.answered();
        }
        refused.iter().find_map(|failed| self.breaker.failed(failed)).map_or(Ok(()), Err)
    }
}

/// How a fan-out stands.
struct Counts {
    total: u64,
    resumed: u64,
    finished: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
}

impl Counts {
    fn new(total: u64, resume: &FanProgress) -> Self {
        let resumed = resume.finished.len();
        let zero = AtomicU64::default;
        Self { total, resumed, finished: zero(), failed: zero(), retried: zero() }
    }

    fn tally(&self, in_flight: u64) -> Tally {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tally {
            total: self.total,
            done: self.resumed + load(&self.finished),
            resumed: self.resumed,
            in_flight,
            failed: load(&self.failed),
            retried: load(&self.retried),
        }
    }
}

/// Counts the retries of thousands of requests instead of telling each.
struct Quiet {
    sink: Arc<dyn Sink>,
    counts: Arc<Counts>,
    told: Mutex<Option<tokio::time::Instant>>,
}

impl Sink for Quiet {
    fn put(&self, page: Page) -> Result<()> {
        self.sink.put(page)
    }

    fn retrying(&self, reason: &str, pause: Duration) {
        self.counts.retried.fetch_add(1, Ordering::Relaxed);
        let now = tokio::time::Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|last| now.saturating_duration_since(last) >= RETRIES_TOLD_EVERY) {
            *told = Some(now);
            drop(told);
            self.sink.retrying(reason, pause);
        }
    }

    fn paced(&self, sentence: &str) {
        self.sink.paced(sentence);
    }
}

/// Stops a step whose requests all fail for one reason.
#[derive(Debug, Default)]
pub struct Breaker {
    state: Mutex<Streak>,
}

#[derive(Debug, Default)]
struct Streak {
    answered: bool,
    reasons: BTreeMap<(String, Option<u16>), u32>,
    broken: Option<(Kind, String)>,
}

fn hint(kind: Kind) -> &'static str {
    match kind.disposition() {
        Disposition::Retry => "what was answered is kept, and the next run goes on behind it",
        Disposition::Stop => {
            "look at the request: `haul render` prints it; what was answered is kept, and the next run goes on behind it"
        }
    }
}

fn stopped((kind, why): &(Kind, String)) -> Error {
    Error::new(*kind, "not asked for, since the step was stopped").because(why.clone()).hint(hint(*kind))
}

/// So many first requests that all fail for one reason stop a step.
const FIRST: u32 = 10;
/// So many in a row, once some were answered.
const IN_A_ROW: u32 = 100;

impl Breaker {
    /// A request was answered well.
    fn answered(&self) {
        let mut streak = self.lock();
        streak.answered = true;
        streak.reasons.clear();
    }

    /// A request failed for good; the error that ends the step, if this one is too many.
    fn failed(&self, failed: &FailedRequest) -> Option<Error> {
        let mut streak = self.lock();
        let count = {
            let reason = (failed.kind.clone(), failed.status);
            let count = streak.reasons.entry(reason).or_default();
            *count += 1;
            *count
        };
        let most = if streak.answered { IN_A_ROW } else { FIRST };
        if let Some(broken) = &streak.broken {
            return Some(stopped(broken));
        }
        if streak.reasons.len() > 1 || count < most {
            return None;
        }
        let which = if streak.answered { "in a row" } else { "that were sent" };
        let what = format!("{most} requests {which} all failed for one reason");
        let kind = FailedRequest::kind_of(std::slice::from_ref(failed));
        streak.broken = Some((kind, format!("{what}: {}", failed.reason)));
        Some(Error::new(kind, what).because(failed.reason.clone()).hint(hint(kind)))
    }

    /// Why the step was stopped, if it was.
    fn broken(&self) -> Option<Error> {
        self.lock().broken.as_ref().map(stopped)
    }

    /// Stops the other tasks of the step as well.
    fn stop(&self, error: &Error) {
        self.lock().broken.get_or_insert_with(|| (error.kind(), error.chain()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Streak> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
