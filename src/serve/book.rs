//! What is written about the occurrences of one pipeline at one look: their ends, the runs that they ask for; pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::model::job::{Class, NewJob, OccurrenceEnd};
use crate::model::pipeline::Pipeline;
use crate::model::schedule::{Missed, Schedule};
use crate::plan;
use crate::schedule::{Circumstances, Decided, End, Occurrence, Pending, ScheduledRun, decide, window};
use crate::time::Instant;

/// The word of an occurrence that waits for the end of the run before: it has no end yet.
pub const WAITING: &str = "waiting";

/// What is written at once, and done about it.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The ends of occurrences, and those that wait.
    pub ends: Vec<OccurrenceEnd>,
    /// The runs that are asked for.
    pub jobs: Vec<NewJob>,
    /// Up to here every occurrence has its end.
    pub cursor: Option<Instant>,
    /// The occurrences that wait now.
    pub waiting: BTreeSet<Instant>,
    /// Whether what is under way is to be cancelled first.
    pub cancel_running: bool,
}

/// The occurrences of a pipeline that have no end yet.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// In their order.
    pub occurrences: Vec<Occurrence>,
    /// How many units more than usual those cover whose time it is by a run of another pipeline that did.
    pub wider: BTreeMap<Instant, i64>,
}

/// Decides on the occurrences of a pipeline that are due and have no end yet.
///
/// # Errors
/// An ask that cannot be written down: a defect.
pub(super) fn turn(
    pipeline: &Pipeline,
    schedule: &Schedule,
    Due { occurrences: due, wider }: Due,
    waited: &BTreeSet<Instant>,
    under: &Circumstances,
) -> Result<Page> {
    let starts = starts(pipeline, &due, &wider);
    let Some(last) = due.last().map(|occurrence| occurrence.at) else { return Ok(Page::default()) };
    let pending = due.into_iter().map(|occurrence| Pending { queued: waited.contains(&occurrence.at), occurrence });
    let decided = decide(pipeline, schedule, pending.collect(), under);
    let running = under.running.as_deref().unwrap_or("the run before");
    let mut page = Page { cancel_running: decided.cancel_running, ..Page::default() };
    page.ends.extend(decided.ends.iter().map(|(occurrence, end)| ended(occurrence, end)));
    for occurrence in &decided.waiting {
        page.waiting.insert(occurrence.at);
        // What waits already is written down.
        if !waited.contains(&occurrence.at) {
            let reason = format!("{running} is still under way");
            page.ends.push(row(occurrence, WAITING, Some(reason)));
        }
    }
    page.jobs = jobs(pipeline, schedule, &decided, &starts, under.now)?;
    let first = page.waiting.first().map(|first| *first - chrono::Duration::nanoseconds(1));
    page.cursor = Some(first.unwrap_or(last));
    Ok(page)
}

/// Where the windows of occurrences begin that cover more units than usual.
fn starts(pipeline: &Pipeline, due: &[Occurrence], wider: &BTreeMap<Instant, i64>) -> BTreeMap<Instant, Instant> {
    let of = |occurrence: &Occurrence| {
        let (more, calendar) = (*wider.get(&occurrence.at)?, pipeline.calendar()?);
        let usual = window(pipeline, occurrence)?;
        Some((occurrence.at, calendar.shift(&calendar.containing(usual.start), -more).start))
    };
    due.iter().filter_map(of).collect()
}

fn jobs(
    pipeline: &Pipeline,
    schedule: &Schedule,
    decided: &Decided,
    starts: &BTreeMap<Instant, Instant>,
    now: Instant,
) -> Result<Vec<NewJob>> {
    let count = decided.runs.len();
    let of = |(place, run): (usize, &ScheduledRun)| {
        let mut ask = run.ask();
        let first = run.stands_for.iter().chain([&run.occurrence.at]).filter_map(|at| starts.get(at)).min();
        if let (Some(window), Some(first)) = (&mut ask.window, first) {
            window.start = window.start.min(*first);
        }
        // Of several runs, the newest days come first; those that are made up one by one go behind them.
        let made_up = schedule.missed == Missed::Each && place + 1 < count;
        Ok(NewJob {
            class: if made_up { Class::Repull } else { Class::Fresh },
            scheduled_for: Some(run.occurrence.at),
            priority: pipeline.steering.priority,
            ..NewJob::new(&pipeline.name, &plan::key(pipeline, &ask), &plan::written(&ask)?, Class::Fresh, now)
        })
    };
    decided.runs.iter().enumerate().map(of).collect()
}

fn ended(occurrence: &Occurrence, end: &End) -> OccurrenceEnd {
    match end {
        End::Ran => row(occurrence, "ran", occurrence.odd.as_ref().map(|odd| odd.words(true))),
        End::Coalesced { into } => {
            let reason = format!("the run of {} covers it", into.format("%Y-%m-%dT%H:%M:%SZ"));
            row(occurrence, "coalesced", Some(reason))
        }
        End::Skipped { reason } => row(occurrence, "skipped", Some(reason.clone())),
        End::Missed { reason } => row(occurrence, "missed", Some(reason.clone())),
    }
}

fn row(occurrence: &Occurrence, end: &str, reason: Option<String>) -> OccurrenceEnd {
    OccurrenceEnd {
        pipeline: String::new(),
        at: occurrence.at,
        logical_date: occurrence.logical_date.to_string(),
        end: end.to_owned(),
        reason,
        job: None,
        run: None,
    }
}
