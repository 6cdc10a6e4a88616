//! How hard a server is pressed: slots, a rate, the pauses that it asks for, and a pace that gives way by itself.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Timers are this coarse: who comes a little late loses nothing of the rate.
const CREDIT: Duration = Duration::from_millis(5);

/// The limits of one connection, or of one step; whoever shares them shares the limits.
#[derive(Debug)]
pub struct Limits {
    width: usize,
    slots: Arc<Slots>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The time between two requests, where one is demanded.
    interval: Option<Duration>,
    /// When the next request may be sent.
    next_at: Instant,
    /// A `Retry-After` holds for all.
    quiet_until: Option<Instant>,
    pace: Pace,
}

/// What a refusal did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shift {
    /// From so many requests a second to so many.
    Slower { from: f64, to: f64 },
    /// No pace holds any more.
    Free,
}

/// How a server said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too many requests: 429, or a 403 with a `Retry-After`.
    TooMany,
    /// It cannot now: 503; one alone says nothing about the rate.
    Overload,
}

impl Limits {
    /// Limits of so many requests at once, and one in every `interval`.
    pub fn new(width: usize, interval: Option<Duration>) -> Self {
        let state = State { interval, next_at: Instant::now(), quiet_until: None, pace: Pace::new(Instant::now()) };
        let width = width.max(1);
        Self { width, slots: Arc::new(Slots::new(width)), state: Mutex::new(state) }
    }

    /// How many requests may be under way at once.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Waits for one of the slots; of those who wait the smallest rank comes first, then who came first.
    pub(super) async fn slot(&self, rank: u64) -> Slot {
        Slots::acquire(&self.slots, rank).await
    }

    /// Waits until a request may be sent: nobody asked to be quiet, and neither rate nor pace is exceeded.
    ///
    /// Returns when that was, by which [`Limits::answered`] tells old news from new.
    pub(super) async fn turn(&self) -> Instant {
        loop {
            let turn = self.lock().reserve(Instant::now());
            let at = match turn {
                Turn::Now(at) => return at,
                Turn::At(at) => at,
                Turn::Quiet(until) => {
                    tokio::time::sleep_until(until).await;
                    continue;
                }
            };
            tokio::time::sleep_until(at).await;
            let mut state = self.lock();
            let now = Instant::now();
            // Somebody may have been asked for quiet while this one waited for the rate.
            if state.quiet_until.is_none_or(|until| until <= now) {
                state.pace.sent(now);
                return now;
            }
        }
    }

    /// Makes everybody quiet for a while.
    pub(super) fn quiet(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.lock();
        if state.quiet_until.is_none_or(|old| old < until) {
            state.quiet_until = Some(until);
            // Turns that were promised are promised anew.
            state.next_at = until;
        }
    }

    /// Learns from the answer to a request that was sent at `sent`; tells when the pace changes.
    pub(super) fn answered(&self, sent: Instant, refusal: Option<Refusal>) -> Option<Shift> {
        let mut state = self.lock();
        let quiet_until = state.quiet_until;
        state.pace.learn(sent, Instant::now(), refusal, quiet_until)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Turn {
    Now(Instant),
    At(Instant),
    Quiet(Instant),
}

impl State {
    fn reserve(&mut self, now: Instant) -> Turn {
        if let Some(until) = self.quiet_until {
            if until > now {
                return Turn::Quiet(until);
            }
            self.quiet_until = None;
        }
        let Some(interval) = self.interval.max(self.pace.interval(now)) else {
            self.pace.sent(now);
            return Turn::Now(now);
        };
        let at = self.next_at.max(now.checked_sub(CREDIT).unwrap_or(now));
        self.next_at = at + interval;
        if at <= now {
            self.pace.sent(now);
            return Turn::Now(now);
        }
        Turn::At(at)
    }
}

/// The pace that gives way: halved when the server refuses, most of it back within a second, the rest slowly, and after a
/// while without a refusal none at all.
///
/// A 429 is a refusal by itself; of 503 it takes a burst, since single ones happen to every server.
#[derive(Debug)]
struct Pace {
    /// When the last requests were sent, in tenths of a second.
    recent: VecDeque<(Instant, u32)>,
    begun: Instant,
    lowered: Option<Lowered>,
    judged: u32,
    refused: u32,
}

#[derive(Debug, Clone, Copy)]
struct Lowered {
    /// Refusals of requests that were sent before this are old news.
    at: Instant,
    /// Requests a second when the server refused.
    ceiling: f64,
}

/// A burst has at least so many refusals, and one in [`SHARE`] of the answers.
const BURST: u32 = 5;
const SHARE: u32 = 10;
/// Answers beyond so many count half.
const JUDGED: u32 = 200;
/// How long the rate is measured.
const MEASURED: Duration = Duration::from_secs(1);
/// So long a new pace is given to show what it does.
const SETTLING: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

impl Pace {
    fn new(now: Instant) -> Self {
        Self { recent: VecDeque::new(), begun: now, lowered: None, judged: 0, refused: 0 }
    }

    fn sent(&mut self, now: Instant) {
        match self.recent.back_mut() {
            Some((at, count)) if now.saturating_duration_since(*at) < TENTH => *count += 1,
            _ => self.recent.push_back((now, 1)),
        }
        while self.recent.len() > 1
            && self.recent.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > MEASURED)
        {
            self.recent.pop_front();
        }
    }

    /// Requests a second, of late.
    fn measured(&self, now: Instant) -> f64 {
        let count: u32 = self.recent.iter().map(|(_, count)| count).sum();
        let since = self.recent.front().map_or(self.begun, |(at, _)| *at);
        f64::from(count) / now.saturating_duration_since(since).max(TENTH).as_secs_f64()
    }

    /// How many requests a second are allowed; none where there is no limit.
    fn allowed(&self, now: Instant) -> Option<f64> {
        let Lowered { at, ceiling } = self.lowered?;
        let seconds = now.saturating_duration_since(at).as_secs_f64();
        let share = match seconds {
            ..1.0 => 0.5 + 0.4 * seconds,
            1.0..31.0 => 0.9 + 0.1 * (seconds - 1.0) / 30.0,
            _ => 1.5_f64.powf((seconds - 31.0).min(60.0)),
        };
        Some((ceiling * share).max(1.0))
    }

    fn interval(&self, now: Instant) -> Option<Duration> {
        self.allowed(now).map(|rate| Duration::from_secs_f64(1.0 / rate))
    }

    fn learn(
        &mut self,
        sent: Instant,
        now: Instant,
        refusal: Option<Refusal>,
        quiet_until: Option<Instant>,
    ) -> Option<Shift> {
        if self.lowered.is_some_and(|lowered| sent <= lowered.at + SETTLING) {
            return None;
        }
        self.judged += 1;
        if self.judged > JUDGED {
            (self.judged, self.refused) = (self.judged / 2, self.refused / 2);
        }
        let Some(refusal) = refusal else { return self.lift(now) };
        self.refused += 1;
        let burst = self.refused >= BURST && self.refused * SHARE >= self.judged;
        if refusal == Refusal::Overload && !burst {
            return None;
        }
        let from = self.allowed(now).map_or(f64::MAX, |allowed| allowed).min(self.measured(now)).max(1.0);
        let at = quiet_until.map_or(now, |until| until.max(now));
        self.lowered = Some(Lowered { at, ceiling: from });
        (self.judged, self.refused) = (0, 0);
        Some(Shift::Slower { from, to: (from / 2.0).max(1.0) })
    }

    /// Forgets a pace that has not held anybody back for long.
    fn lift(&mut self, now: Instant) -> Option<Shift> {
        let lowered = self.lowered?;
        let long = now.saturating_duration_since(lowered.at) > Duration::from_secs(31);
        let loose = self.allowed(now)? > 2.0 * self.measured(now).max(lowered.ceiling);
        if !long || !loose {
            return None;
        }
        self.lowered = None;
        Some(Shift::Free)
    }
}

/// A number of slots, given to those who wait by rank.
#[derive(Debug)]
struct Slots {
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    next: u64,
    waiting: BTreeMap<(u64, u64), oneshot::Sender<Slot>>,
}

/// The right to have one request under way.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Option<Arc<Slots>>,
}

impl Slots {
    fn new(free: usize) -> Self {
        Self { queue: Mutex::new(Queue { free, next: 0, waiting: BTreeMap::new() }) }
    }

    async fn acquire(this: &Arc<Self>, rank: u64) -> Slot {
        let given = {
            let mut queue = this.lock();
            if queue.free > 0 {
                queue.free -= 1;
                return Slot { slots: Some(Arc::clone(this)) };
            }
            let (give, given) = oneshot::channel();
            let place = (rank, queue.next);
            queue.next += 1;
            queue.waiting.insert(place, give);
            given
        };
        // The other end is only dropped with the slots themselves, which this one holds.
        given.await.unwrap_or(Slot { slots: None })
    }

    /// Gives a slot that is free again to the first who still waits.
    fn release(this: &Arc<Self>) {
        loop {
            let give = {
                let mut queue = this.lock();
                match queue.waiting.pop_first() {
                    Some((_, give)) => give,
                    None => {
                        queue.free += 1;
                        return;
                    }
                }
            };
            match give.send(Slot { slots: Some(Arc::clone(this)) }) {
                Ok(()) => return,
                // Who waited has gone away: the slot is the next one's.
                Err(mut slot) => slot.slots = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.slots.take() {
            Slots::release(&slots);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(begin: Instant, millis: u64) -> Instant {
        begin + Duration::from_millis(millis)
    }

    /// Sends `count` requests in a second that begins at `from`, and has each answered at once; the change of the pace.
    fn second(pace: &mut Pace, from: Instant, count: u32, refusal: impl Fn(u32) -> Option<Refusal>) -> Option<Shift> {
        let mut shifts = (0..count).filter_map(|number| {
            let at = from + Duration::from_secs(1) * number / count;
            pace.sent(at);
            pace.learn(at, at, refusal(number), None)
        });
        let first = shifts.next();
        assert_eq!(shifts.next(), None, "one change within a second");
        first
    }

    #[test]
    fn one_503_in_fifty_changes_nothing_and_a_burst_halves_the_pace() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let stray = |number: u32| (number % 50 == 7).then_some(Refusal::Overload);
        assert_eq!(second(&mut pace, begin, 1000, stray), None);
        let shift = second(&mut pace, after(begin, 1000), 1000, |number| (number > 900).then_some(Refusal::Overload));
        let Some(Shift::Slower { from, to }) = shift else { panic!("{shift:?}") };
        assert!((800.0..1200.0).contains(&from) && (to - from / 2.0).abs() < 1.0, "{from} {to}");
    }

    #[test]
    fn a_429_halves_the_pace_once_and_most_of_it_comes_back_within_a_second() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        second(&mut pace, begin, 1000, |_| None);
        let now = after(begin, 1000);
        assert!(matches!(pace.learn(now, now, Some(Refusal::TooMany), None), Some(Shift::Slower { .. })));
        // The others of the same burst are old news.
        assert_eq!(pace.learn(after(begin, 990), after(now, 5), Some(Refusal::TooMany), None), None);
        let allowed = |pace: &Pace, millis| pace.allowed(after(now, millis)).expect("a pace");
        let full = allowed(&pace, 0) * 2.0;
        assert!((allowed(&pace, 1000) / full - 0.9).abs() < 0.01);
        assert!((allowed(&pace, 30_999) / full - 1.0).abs() < 0.01);
        assert!(allowed(&pace, 40_000) > 10.0 * full);
        assert_eq!(pace.learn(after(now, 40_000), after(now, 40_000), None, None), Some(Shift::Free));
        assert_eq!(pace.allowed(after(now, 40_000)), None);
    }

    #[tokio::test]
    async fn a_slot_goes_to_the_smallest_rank_and_is_not_lost_with_who_gave_up() {
        let limits = Arc::new(Limits::new(1, None));
        let held = limits.slot(0).await;
        let (told, mut ranks) = tokio::sync::mpsc::unbounded_channel();
        for rank in [7, 3, 5] {
            let (limits, told) = (Arc::clone(&limits), told.clone());
            tokio::spawn(async move {
                let slot = limits.slot(rank).await;
                let _ = told.send(rank);
                drop(slot);
            });
        }
        let gave_up = tokio::spawn({
            let limits = Arc::clone(&limits);
            async move { drop(limits.slot(1).await) }
        });
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        gave_up.abort();
        let _ = gave_up.await;
        drop(held);
        let order = [ranks.recv().await, ranks.recv().await, ranks.recv().await];
        assert_eq!(order, [Some(3), Some(5), Some(7)]);
        drop(limits.slot(9).await);
    }
}
