//! Schedules as pure functions: which occurrences there are, and what becomes of each; instants come in, no clock is read.
//!
//! ```text
//!  Schedule ─▶ Timetable ─▶ occurrences ─▶ decide ─▶ runs, each with its window and all that it stands for
//!                │                           └─────▶ the end of every occurrence: ran, coalesced, skipped, missed
//!                └─▶ odd days of a year, for people
//! ```
//!
//! # Rules where the clocks change
//!
//! A cron expression names times of the day in a zone. Three rules say what that means on odd days:
//!
//! - A time that does not exist, since the clocks are put forward over it, runs at the first instant after the gap
//!   (`gap = "run_after"`), or not at all (`"skip"`). Several such times become one run, and so do such a time and one that
//!   is named for that instant anyway.
//! - A time that comes twice, since the clocks are put back, runs at the first of the two (`fold = "first"`), or at both.
//! - A date that does not exist, since its zone crossed the date line, has no runs.
//!
//! An expression that names all 24 hours means the hours that pass: unless it says otherwise, nothing is added in a gap, and
//! nothing is left out of a fold. `every` counts elapsed time and knows no odd days.

mod decide;
mod moves;
mod occurrences;
mod year;

pub use decide::{Circumstances, Decided, End, ON_TIME, Pending, ScheduledRun, decide, window};
pub use occurrences::{Occurrence, Occurrences, Odd};
pub use year::{OddDay, odd_days};

use chrono::{Duration, NaiveDate};

use crate::error::Result;
use crate::model::schedule::{Fold, Gap, Schedule, When};
use crate::time::{Cron, Instant, Tz};

/// How far ahead, and back, an occurrence is looked for: 29 February is at most eight years away.
const HORIZON_DAYS: i64 = 8 * 366 + 1;

/// A schedule, ready to be asked.
#[derive(Debug, Clone)]
pub struct Timetable {
    rule: Rule,
    /// The zone of the schedule's clock.
    zone: Tz,
    /// The zone of the pipeline's days.
    days: Tz,
}

#[derive(Debug, Clone)]
enum Rule {
    Crons(Vec<CronRule>),
    Every { seconds: i64, anchor: Instant },
    Following,
}

#[derive(Debug, Clone)]
struct CronRule {
    cron: Cron,
    gap: Gap,
    fold: Fold,
}

impl Timetable {
    /// The timetable of a schedule; `days` is the zone of the pipeline's days.
    ///
    /// # Errors
    /// A cron expression that is none.
    pub fn of(schedule: &Schedule, days: Tz) -> Result<Self> {
        let rule = match &schedule.when {
            When::Cron(texts) => {
                let rules = texts.iter().map(|text| CronRule::of(text, schedule));
                Rule::Crons(rules.collect::<Result<_>>()?)
            }
            When::Every { every, anchor } => {
                Rule::Every { seconds: i64::try_from(every.as_secs()).unwrap_or(i64::MAX).max(1), anchor: *anchor }
            }
            When::After(_) => Rule::Following,
        };
        let zone = if matches!(rule, Rule::Crons(_)) { schedule.timezone } else { days };
        Ok(Self { rule, zone, days })
    }

    /// The zone of its clock.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The occurrences in `(after, until]`, in their order, each at an instant of its own; those that are only recorded too.
    /// A schedule that follows another pipeline has none of itself.
    pub fn occurrences(&self, after: Instant, until: Instant) -> Occurrences<'_> {
        Occurrences::new(self, after, until)
    }

    /// The first occurrence after an instant that runs.
    pub fn next(&self, after: Instant) -> Option<Occurrence> {
        self.occurrences(after, after + Duration::days(HORIZON_DAYS)).find(|occurrence| occurrence.runs)
    }

    /// The last occurrence at or before an instant that runs.
    pub fn previous(&self, at: Instant) -> Option<Occurrence> {
        let mut until = at;
        for days in [2, 40, 400, HORIZON_DAYS] {
            let from = at - Duration::days(days);
            let last = self.occurrences(from, until).filter(|occurrence| occurrence.runs).last();
            if last.is_some() {
                return last;
            }
            until = from;
        }
        None
    }

    /// The occurrence of a day that another pipeline has done, for a schedule that follows it.
    pub fn following(&self, done: NaiveDate, at: Instant) -> Occurrence {
        Occurrence { at, wall: at.with_timezone(&self.zone).naive_local(), logical_date: done, runs: true, odd: None }
    }
}

impl CronRule {
    fn of(text: &str, schedule: &Schedule) -> Result<Self> {
        let cron = Cron::parse(text)?;
        let (gap, fold) = if cron.is_hourly() { (Gap::Skip, Fold::Both) } else { (Gap::RunAfter, Fold::First) };
        Ok(Self { gap: schedule.gap.unwrap_or(gap), fold: schedule.fold.unwrap_or(fold), cron })
    }
}
