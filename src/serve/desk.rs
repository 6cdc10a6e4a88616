//! What the daemon knows of one pipeline's schedule: where its book stands, and when it is looked at next.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use chrono::{Duration, NaiveDate, SubsecRound};

use super::book::{Due, WAITING};
use crate::error::Result;
use crate::model::pipeline::Pipeline;
use crate::model::run::{RunRecord, RunStatus, Trigger};
use crate::model::schedule::{Schedule, When};
use crate::plan;
use crate::schedule::{Occurrence, Timetable};
use crate::state::State;
use crate::time::Instant;

/// A clock that was set back by no more than this repeats nothing: the schedule waits until the clock has caught up.
pub const SET_BACK: Duration = Duration::hours(1);

/// So many are looked at first.
const LAST_RUNS: u32 = 20;

/// How many runs of another pipeline are looked through for days that it has done.
const LATEST_RUNS: u32 = 500;

/// One pipeline's schedule at work.
pub(super) struct Desk {
    pub pipeline: Arc<Pipeline>,
    /// Its schedule; none on demand.
    pub schedule: Option<Schedule>,
    timetable: Option<Timetable>,
    /// Up to here every occurrence has its end.
    pub cursor: Instant,
    /// The occurrences that wait for the end of the run before.
    pub waiting: BTreeSet<Instant>,
    /// When the next one comes.
    pub next: Option<Instant>,
    /// Whether something has happened that may let it go on.
    pub stirred: bool,
}

/// What opening a desk has found.
pub(super) enum Opened {
    /// The pipeline was known.
    Known,
    /// It was seen for the first time: its schedule begins now.
    New,
    /// The clock was set back: its schedule goes on from now.
    SetBack(Instant),
}

impl Desk {
    /// Takes up the schedule of a pipeline where the book stands; one that was never seen begins now.
    pub async fn open(state: &State, pipeline: Arc<Pipeline>, now: Instant) -> Result<(Self, Opened)> {
        let schedule = pipeline.schedule.clone();
        let timetable = schedule.as_ref().map(|schedule| Timetable::of(schedule, pipeline.timezone)).transpose()?;
        let mut desk =
            Self { pipeline, timetable, cursor: now, waiting: BTreeSet::new(), next: None, stirred: true, schedule };
        if desk.schedule.is_none() {
            desk.stirred = false;
            return Ok((desk, Opened::Known));
        }
        let opened = match state.cursor(&desk.pipeline.name).await? {
            Some(cursor) if cursor > now + SET_BACK => Opened::SetBack(cursor),
            Some(cursor) => {
                desk.cursor = cursor;
                Opened::Known
            }
            None => Opened::New,
        };
        if !matches!(opened, Opened::Known) {
            state.move_cursor(&desk.pipeline.name, now, now).await?;
        }
        desk.remember(state).await?;
        desk.plan();
        Ok((desk, opened))
    }

    /// Reads which occurrences wait.
    async fn remember(&mut self, state: &State) -> Result<()> {
        let open = state.occurrences(Some(&self.pipeline.name), self.cursor, 10_000).await?;
        self.waiting = open.into_iter().filter(|one| one.end == WAITING).map(|one| one.at).collect();
        Ok(())
    }

    /// Goes on where another process has brought the book to.
    pub async fn catch_up(&mut self, state: &State, cursor: Instant) -> Result<()> {
        self.cursor = cursor;
        self.remember(state).await?;
        self.plan();
        Ok(())
    }

    /// The pipeline that it follows.
    pub fn follows(&self) -> Option<&str> {
        match &self.schedule.as_ref()?.when {
            When::After(other) => Some(other),
            When::Cron(_) | When::Every { .. } => None,
        }
    }

    /// When it is to be looked at next, if nothing happens before.
    pub fn plan(&mut self) {
        // What waits already is looked at again when the run before ends.
        let from = self.waiting.last().copied().map_or(self.cursor, |last| last.max(self.cursor));
        let next = self.timetable.as_ref().and_then(|timetable| timetable.next(from));
        self.next = next.map(|one| one.at);
    }

    /// The occurrences that have no end yet.
    ///
    /// `other` is the pipeline that it follows.
    pub async fn due(&self, state: &State, other: Option<&Pipeline>, now: Instant) -> Result<Due> {
        let Some(timetable) = &self.timetable else { return Ok(Due::default()) };
        match other {
            None => Ok(Due { occurrences: timetable.occurrences(self.cursor, now).collect(), wider: BTreeMap::new() }),
            Some(other) => {
                let mut runs = state.runs(Some(&other.name), LAST_RUNS).await?;
                let all = |runs: &[RunRecord]| runs.last().is_none_or(|last| last.started_at < self.cursor);
                if runs.len() == LAST_RUNS as usize && !all(&runs) {
                    runs = state.runs(Some(&other.name), LATEST_RUNS).await?;
                }
                let found = followed(timetable, &runs, self.cursor, now);
                let mut wider = BTreeMap::new();
                for (occurrence, run) in &found {
                    wider.extend(more_units(state, other, run).await?.map(|more| (occurrence.at, more)));
                }
                Ok(Due { occurrences: found.into_iter().map(|(occurrence, _)| occurrence).collect(), wider })
            }
        }
    }
}

/// A day that another pipeline has done makes an occurrence at the end of its run.
fn followed<'a>(
    timetable: &Timetable,
    runs: &'a [RunRecord],
    after: Instant,
    until: Instant,
) -> Vec<(Occurrence, &'a RunRecord)> {
    let mut seen = HashSet::new();
    let of = |run: &'a RunRecord| {
        let at = whole(run.finished_at?);
        let done = run.status == RunStatus::Succeeded && run.trigger != Trigger::Backfill;
        let date: NaiveDate = run.logical_date.get(..10)?.parse().ok()?;
        (done && after < at && at <= until).then(|| (timetable.following(date, at), run))
    };
    let mut found: Vec<_> = runs.iter().filter_map(of).filter(|(one, _)| seen.insert(one.at)).collect();
    found.sort_by_key(|(one, _)| one.at);
    found
}

/// How many units more than usual a run of another pipeline covered, since it stood for several of its occurrences.
async fn more_units(state: &State, other: &Pipeline, run: &RunRecord) -> Result<Option<i64>> {
    let Some(job) = state.job_of_run(&run.id).await? else { return Ok(None) };
    let ask = plan::read(&job.ask)?;
    let Some((window, calendar)) = ask.window.zip(other.calendar()) else { return Ok(None) };
    let lookback = other.window.as_ref().map_or(0, |rule| usize::try_from(rule.lookback()).unwrap_or(0));
    let more = calendar.between(window.start, window.end).len().saturating_sub(lookback);
    Ok(i64::try_from(more).ok().filter(|more| *more > 0))
}

/// The first whole microsecond at or after an instant: the book knows no smaller ones.
fn whole(at: Instant) -> Instant {
    let cut = at.trunc_subsecs(6);
    if cut == at { at } else { cut + Duration::microseconds(1) }
}
