//! Spans on their way: a queue of bounded length, and a task that sends them in batches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::collector::{Answer, Collector};
use super::run::RunTrace;
use super::span::Span;
use super::{About, Counts, Say};
use crate::error::Result;
use crate::model::serve::TraceTarget;
use crate::monitor::Monitor;
use crate::secret::Redactor;
use crate::time::Clock;

/// So many spans wait at the most.
const LENGTH: usize = 4096;

/// So many are sent at once.
const BATCH: usize = 512;

/// A batch that is not full is sent after so long.
const EVERY: Duration = Duration::from_secs(2);

/// A batch is sent so often before it is given up.
const TRIES: u32 = 4;

/// The pause before a batch is sent again; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// A collector that wants a longer pause is not waited for any longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is left at the end has so long to arrive.
const LAST: Duration = Duration::from_secs(5);

/// Traces on their way to a collector; a cheap clone.
#[derive(Clone)]
pub struct Traces {
    queue: Queue,
    clock: Clock,
    redactor: Redactor,
    say: Say,
    stop: CancellationToken,
    sending: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Where spans are put.
#[derive(Clone)]
pub(super) struct Queue {
    to: mpsc::Sender<Span>,
    counted: Arc<Counted>,
}

#[derive(Default)]
struct Counted {
    made: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Queue {
    /// Puts a span into the queue, or drops it where there is no room; never waits.
    pub fn push(&self, span: Span) {
        self.counted.made.fetch_add(1, Ordering::Relaxed);
        if self.to.try_send(span).is_err() {
            self.counted.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Traces {
    /// Begins to send to a collector; nothing is asked of it yet.
    ///
    /// # Errors
    /// A header that cannot be sent.
    pub fn open(target: TraceTarget, clock: Clock, redactor: Redactor, say: Say) -> Result<Self> {
        let collector = Collector::open(target, redactor.clone())?;
        let (to, queue) = mpsc::channel(LENGTH);
        let queue_end = Queue { to, counted: Arc::default() };
        let stop = CancellationToken::new();
        let sender = Sender {
            collector,
            queue,
            counted: Arc::clone(&queue_end.counted),
            say: Arc::clone(&say),
            stop: stop.clone(),
            losing: false,
        };
        let sending = Arc::new(Mutex::new(Some(tokio::spawn(sender.run()))));
        Ok(Self { queue: queue_end, clock, redactor, say, stop, sending })
    }

    /// Hears a run that begins; `next` hears everything too.
    pub fn listen(&self, about: About, next: Arc<dyn Monitor>) -> Arc<dyn Monitor> {
        let (queue, redactor) = (self.queue.clone(), self.redactor.clone());
        Arc::new(RunTrace { about, queue, clock: self.clock, redactor, next, trace: Mutex::default() })
    }

    /// What became of the spans so far.
    pub fn counts(&self) -> Counts {
        let counted = &self.queue.counted;
        Counts { sent: counted.sent.load(Ordering::Relaxed), dropped: counted.dropped.load(Ordering::Relaxed) }
    }

    /// Sends what is left, for a short while, and tells how much was lost in all.
    pub async fn close(&self) {
        self.stop.cancel();
        let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut sending) = sending else { return };
        if tokio::time::timeout(LAST, &mut sending).await.is_err() {
            sending.abort();
        }
        let counted = &self.queue.counted;
        let lost = counted.made.load(Ordering::Relaxed) - counted.sent.load(Ordering::Relaxed);
        counted.dropped.store(lost, Ordering::Relaxed);
        if lost > 0 {
            (self.say)(&format!("{lost} spans of traces were lost"));
        }
    }
}

/// Takes spans out of the queue and sends them.
struct Sender {
    collector: Collector,
    queue: mpsc::Receiver<Span>,
    counted: Arc<Counted>,
    say: Say,
    stop: CancellationToken,
    /// Whether it was told that spans are lost.
    losing: bool,
}

impl Sender {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut closed = false;
        loop {
            let mut batch = Vec::new();
            let mut over = false;
            while batch.len() < BATCH && !over {
                let room = BATCH - batch.len();
                tokio::select! {
                    _ = tick.tick(), if !closed => break,
                    () = self.stop.cancelled(), if !closed => {
                        // What is in the queue still comes, and then its end.
                        self.queue.close();
                        closed = true;
                    }
                    count = self.queue.recv_many(&mut batch, room) => over = count == 0,
                }
            }
            if !batch.is_empty() {
                self.deliver(batch).await;
            }
            if over {
                return;
            }
        }
    }

    async fn deliver(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let body = self.collector.body(batch);
        let mut pause = PAUSE;
        let mut tries = 1;
        let lost = loop {
            match self.collector.send(body.clone()).await {
                Answer::Taken { refused: 0, .. } => break None,
                Answer::Taken { refused, why } => break Some((refused.min(count), why)),
                Answer::Refused(why) => break Some((count, why)),
                Answer::Busy { why, .. } | Answer::Away(why) if tries == TRIES => break Some((count, why)),
                Answer::Busy { after, .. } => {
                    tokio::time::sleep(after.unwrap_or(pause).min(LONGEST_PAUSE)).await;
                }
                // At the end nobody waits for a collector to come.
                Answer::Away(why) if self.stop.is_cancelled() => break Some((count, why)),
                Answer::Away(_) => tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.stop.cancelled() => {}
                },
            }
            (tries, pause) = (tries + 1, pause * 2);
        };
        let (missing, why) = lost.map_or((0, None), |(missing, why)| (missing, Some(why)));
        self.counted.sent.fetch_add(count - missing, Ordering::Relaxed);
        self.counted.dropped.fetch_add(missing, Ordering::Relaxed);
        match why {
            Some(why) if !std::mem::replace(&mut self.losing, true) => {
                (self.say)(&format!("traces are lost: {why}; the runs go on"));
            }
            None if std::mem::take(&mut self.losing) => (self.say)("traces arrive again"),
            _ => {}
        }
    }
}
