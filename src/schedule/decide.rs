//! What becomes of occurrences that are due: every one of them ends as ran, coalesced, skipped or missed, and never as nothing.

use std::ops::Range;

use chrono::Duration;
use serde::{Deserialize, Serialize};

use super::Occurrence;
use crate::model::pipeline::Pipeline;
use crate::model::run::Trigger;
use crate::model::schedule::{Missed, Overlap, Schedule};
use crate::plan::Ask;
use crate::time::{Grain, Instant};

/// An occurrence that is looked at within this time is on time; what is older has been missed.
pub const ON_TIME: Duration = Duration::minutes(5);

/// How many missed occurrences are made up one by one, where nothing else is said.
const EACH_AT_MOST: usize = 100;

/// An occurrence that has no end yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The occurrence.
    pub occurrence: Occurrence,
    /// Whether it waits for the end of the run before: then its lateness is not a matter of an outage.
    pub queued: bool,
}

/// What a decision is made under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// The instant of the decision.
    pub now: Instant,
    /// Whether somebody has paused the pipeline, apart from what its file says.
    pub paused: bool,
    /// The run that is still under way, if one is.
    pub running: Option<String>,
}

/// How an occurrence ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum End {
    /// It has a run of its own.
    Ran,
    /// The run of a later occurrence covers it.
    Coalesced {
        /// The instant of that occurrence.
        into: Instant,
    },
    /// The schedule was looked after, and it was left out.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It passed while nothing ran, and is not made up.
    Missed {
        /// Why.
        reason: String,
    },
}

/// A run that a schedule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledRun {
    /// The occurrence that it is the run of.
    pub occurrence: Occurrence,
    /// What it covers: the union of the windows of all that it stands for; none for a pipeline without a window.
    pub window: Option<Range<Instant>>,
    /// The instants of the earlier occurrences that it covers too.
    pub stands_for: Vec<Instant>,
}

impl ScheduledRun {
    /// What the plan is asked.
    pub fn ask(&self) -> Ask {
        Ask {
            trigger: Trigger::Schedule,
            logical_date: self.occurrence.logical_date,
            select: Vec::new(),
            range: None,
            window: self.window.clone(),
            force: false,
            retry: false,
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decided {
    /// The occurrences that have ended, in their order; a run that was only begun counts as its occurrence's end.
    pub ends: Vec<(Occurrence, End)>,
    /// Those that wait for the end of the run before.
    pub waiting: Vec<Occurrence>,
    /// The runs to begin, one after the other.
    pub runs: Vec<ScheduledRun>,
    /// Whether the run that is still under way is to be cancelled first.
    pub cancel_running: bool,
}

/// Decides what becomes of the occurrences that are due and have no end yet, given in their order.
pub fn decide(pipeline: &Pipeline, schedule: &Schedule, pending: Vec<Pending>, under: &Circumstances) -> Decided {
    let mut decided = Decided::default();
    let mut due = Vec::with_capacity(pending.len());
    for one in pending {
        let odd = one.occurrence.odd.as_ref().filter(|_| !one.occurrence.runs);
        match (odd.map(|odd| odd.words(false)), under.paused || schedule.paused) {
            (Some(reason), _) => decided.end(one.occurrence, End::Skipped { reason }),
            (None, true) => decided.skip(one.occurrence, "the schedule is paused"),
            (None, false) => due.push(one),
        }
    }
    if let Some(run) = under.running.as_ref().filter(|_| !due.is_empty()) {
        match schedule.overlap {
            Overlap::Skip => {
                let reason = format!("{run} was still under way");
                due.into_iter().for_each(|one| decided.skip(one.occurrence, &reason));
                return decided.in_order();
            }
            Overlap::Queue => {
                decided.waiting = due.into_iter().map(|one| one.occurrence).collect();
                return decided.in_order();
            }
            Overlap::CancelOther => decided.cancel_running = true,
        }
    }
    let Some(last) = due.pop() else { return decided.in_order() };
    decided.made_up(pipeline, schedule, due, last, under.now);
    decided.in_order()
}

impl Decided {
    /// What becomes of several at once: all but the last have passed without a run.
    fn made_up(
        &mut self,
        pipeline: &Pipeline,
        schedule: &Schedule,
        mut passed: Vec<Pending>,
        last: Pending,
        now: Instant,
    ) {
        let on_time = last.queued || now - last.occurrence.at <= ON_TIME;
        match schedule.missed {
            Missed::Widen | Missed::Each => {
                let most = schedule.missed_limit.map(|limit| usize::try_from(limit.get()).unwrap_or(usize::MAX));
                let each = schedule.missed == Missed::Each;
                let most = most.unwrap_or(if each { EACH_AT_MOST } else { usize::MAX });
                let reason = format!("only the last {most} are made up");
                // One that is late itself is one of those that are made up.
                let most = if on_time { most } else { most.saturating_sub(1) };
                let forgotten = passed.len().saturating_sub(most);
                passed.drain(..forgotten).for_each(|one| self.miss(one, &reason));
                if each {
                    passed.into_iter().chain([last]).for_each(|one| self.run(pipeline, one.occurrence, Vec::new()));
                } else {
                    let covered = passed.into_iter().map(|one| one.occurrence).collect();
                    self.run(pipeline, last.occurrence, covered);
                }
            }
            Missed::Last => {
                passed.into_iter().for_each(|one| self.miss(one, "only the last one is made up"));
                self.run(pipeline, last.occurrence, Vec::new());
            }
            Missed::Skip => {
                passed.into_iter().for_each(|one| self.miss(one, "what is missed is not made up"));
                if on_time {
                    self.run(pipeline, last.occurrence, Vec::new());
                } else {
                    self.miss(last, "what is missed is not made up");
                }
            }
        }
    }

    /// Begins the run of an occurrence, which covers those before it.
    fn run(&mut self, pipeline: &Pipeline, occurrence: Occurrence, covered: Vec<Occurrence>) {
        let windows = covered.iter().chain([&occurrence]).filter_map(|one| window(pipeline, one));
        let window = windows.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
        let stands_for = covered.iter().map(|one| one.at).collect();
        for one in covered {
            self.end(one, End::Coalesced { into: occurrence.at });
        }
        self.end(occurrence.clone(), End::Ran);
        self.runs.push(ScheduledRun { occurrence, window, stands_for });
    }

    fn skip(&mut self, occurrence: Occurrence, reason: &str) {
        self.end(occurrence, End::Skipped { reason: reason.to_owned() });
    }

    /// An occurrence that is not made up; one that was waiting was not missed by anybody.
    fn miss(&mut self, one: Pending, reason: &str) {
        if one.queued {
            let reason = format!("the run before it took longer: {reason}");
            return self.end(one.occurrence, End::Skipped { reason });
        }
        self.end(one.occurrence, End::Missed { reason: reason.to_owned() });
    }

    fn end(&mut self, occurrence: Occurrence, end: End) {
        self.ends.push((occurrence, end));
    }

    fn in_order(mut self) -> Self {
        self.ends.sort_by_key(|(occurrence, _)| occurrence.at);
        self
    }
}

/// The window of one occurrence: the units of the lookback before that of its logical date, and for hours before its hour.
pub fn window(pipeline: &Pipeline, occurrence: &Occurrence) -> Option<Range<Instant>> {
    let (rule, calendar) = (pipeline.window.as_ref()?, pipeline.calendar()?);
    let logical = match rule.grain {
        Grain::Hour => calendar.containing(occurrence.at),
        _ => calendar.of_date(occurrence.logical_date),
    };
    Some(calendar.shift(&logical, -i64::from(rule.lookback())).start..logical.start)
}
