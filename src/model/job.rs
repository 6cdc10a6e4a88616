//! Jobs of the queue: runs that are asked for, whoever asks; each is leased to one process at a time and ends exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// How urgent a job is; the most urgent comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// New days: the morning, and what a person waits for.
    #[default]
    Fresh,
    /// Days that are pulled again, since they may still have changed.
    Repull,
    /// Old days of a backfill.
    Backfill,
}

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Fresh, Self::Repull, Self::Backfill];

    /// The word as it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Repull => "repull",
            Self::Backfill => "backfill",
        }
    }
}

/// A run that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewJob {
    /// The pipeline.
    pub pipeline: String,
    /// What is asked for, in a form that is the same for the same work: see `plan::key`.
    pub key: String,
    /// What the plan is asked, as JSON of `plan::Ask`.
    pub ask: String,
    /// How urgent it is.
    pub class: Class,
    /// Within its class, the higher number comes first.
    pub priority: i32,
    /// The occurrence of a schedule that it is the run of.
    pub scheduled_for: Option<Instant>,
    /// It does not begin earlier.
    pub not_before: Instant,
    /// The backfill that it is a piece of.
    pub backfill: Option<String>,
    /// How many units it is about, where that is known; only for telling progress.
    pub units: u64,
}

impl NewJob {
    /// A job that may begin now, of no schedule and no backfill.
    pub fn new(pipeline: &str, key: &str, ask: &str, class: Class, now: Instant) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            key: key.to_owned(),
            ask: ask.to_owned(),
            class,
            priority: 0,
            scheduled_for: None,
            not_before: now,
            backfill: None,
            units: 0,
        }
    }
}

/// What became of asking for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Enqueued {
    /// The job.
    pub id: i64,
    /// Whether it is a new one; otherwise the same work was asked for before and has not ended.
    pub new: bool,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits.
    Queued,
    /// A process has it.
    Leased,
    /// It has ended.
    Done,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEnd {
    /// Its run succeeded, or nothing was left to do.
    Succeeded,
    /// The source does not have everything yet.
    Late,
    /// Some unit waits for a decision.
    Held,
    /// Its run failed for good, or its process died too often.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It would have been billed for more than is allowed.
    Refused,
    /// Other work took its place before it began.
    Superseded,
}

impl JobEnd {
    /// The word as it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Late => "late",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
        }
    }
}

/// A job as it stands in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number, growing with time.
    pub id: i64,
    /// The pipeline.
    pub pipeline: String,
    /// What is asked for, the same for the same work.
    pub key: String,
    /// What the plan is asked, as JSON of `plan::Ask`.
    pub ask: String,
    /// How urgent it is.
    pub class: Class,
    /// Within its class, the higher number comes first.
    pub priority: i32,
    /// The occurrence of a schedule that it is the run of.
    pub scheduled_for: Option<Instant>,
    /// It does not begin earlier.
    pub not_before: Instant,
    /// The backfill that it is a piece of.
    pub backfill: Option<String>,
    /// How many units it is about, where that is known.
    pub units: u64,
    /// How it stands.
    pub state: JobState,
    /// Whether it waits until its backfill goes on.
    pub on_hold: bool,
    /// How often it was begun; what was given back undone does not count.
    pub attempts: u32,
    /// How often its lease ended without a word.
    pub deaths: u32,
    /// Grows with every claim: whoever has an older one has lost the job.
    pub generation: u64,
    /// The process that has it, or had it last.
    pub owner: Option<String>,
    /// When its lease ends.
    pub lease_until: Option<Instant>,
    /// The last run that was begun for it.
    pub run: Option<String>,
    /// All runs that were begun for it, the first one first.
    pub runs: Vec<String>,
    /// Whether somebody asked to cancel it while a process had it.
    pub cancel_asked: bool,
    /// When it was asked for.
    pub queued_at: Instant,
    /// When a process took it, the last time.
    pub claimed_at: Option<Instant>,
    /// When its run began, the last time.
    pub started_at: Option<Instant>,
    /// When it ended.
    pub finished_at: Option<Instant>,
    /// How it ended.
    pub outcome: Option<JobEnd>,
    /// Why it ended so, or why it waits again.
    pub reason: Option<String>,
}

/// How many runs of a pipeline there may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// How many of its jobs may be leased at once.
    pub max_runs: u32,
}

impl Default for Lane {
    fn default() -> Self {
        Self { max_runs: 1 }
    }
}

/// What a claim goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRules {
    /// The pipelines whose jobs are taken; others are left alone.
    pub pipelines: BTreeMap<String, Lane>,
    /// How long a lease lasts without a beat.
    pub lease: Duration,
    /// How many jobs this owner works on at once.
    pub workers: u32,
    /// Of so many claims in a row, one goes to the job that has waited longest among the less urgent ones.
    pub floor: u32,
}

/// Of how many claims one goes to the less urgent jobs, where nothing else is said.
pub const FLOOR: u32 = 10;

impl ClaimRules {
    /// The rules for these pipelines, each with one run at a time.
    pub fn of<'a>(pipelines: impl IntoIterator<Item = &'a str>, lease: Duration, workers: u32) -> Self {
        let lanes = pipelines.into_iter().map(|name| (name.to_owned(), Lane::default()));
        Self { pipelines: lanes.collect(), lease, workers, floor: FLOOR }
    }
}

/// What a beat hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// The lease goes on.
    Alive,
    /// The lease goes on, and somebody asked to cancel the job.
    CancelAsked,
    /// The lease goes on, but a fresh day of the same pipeline waits for this piece of a backfill: stop it, and settle it
    /// as [`Settled::Back`].
    GiveWay,
    /// The lease is another's, or the job has ended: nothing more may be written for it.
    Lost,
}

/// How a holder stands to a job, without prolonging its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It is the holder's.
    Firm,
    /// It is the holder's, and somebody asked to cancel it.
    CalledOff,
    /// It is another's, or it has ended.
    Lost,
}

/// How a process lets go of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It has ended.
    Done {
        /// How.
        end: JobEnd,
        /// Why, redacted.
        reason: Option<String>,
        /// Its run.
        run: Option<String>,
    },
    /// It failed in a way that passes: it waits and is tried again.
    Again {
        /// It does not begin earlier.
        not_before: Instant,
        /// Why, redacted.
        reason: String,
    },
    /// It is given back undone, and that counts as no attempt: the process ends, or something more urgent waits.
    Back {
        /// Why.
        reason: String,
    },
}

/// Which jobs are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this pipeline.
    pub pipeline: Option<String>,
    /// In these states; none for all.
    pub states: BTreeSet<JobState>,
    /// Of these classes; none for all.
    pub classes: BTreeSet<Class>,
    /// Of this backfill.
    pub backfill: Option<String>,
    /// Only those that were asked for before this one.
    pub before: Option<i64>,
    /// So many at the most; 0 for 100.
    pub limit: u32,
}

/// Something that happened to a job besides its plain life: a lease that ended, an attempt that failed, a cancellation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobNote {
    /// When.
    pub at: Instant,
    /// The generation that it happened to.
    pub generation: u64,
    /// What, in one sentence.
    pub note: String,
}

/// How many jobs wait, and how long the first of them has waited, by class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Depth {
    /// Jobs that could begin now.
    pub ready: u64,
    /// Jobs that wait for their time, or for their backfill to go on.
    pub waiting: u64,
    /// Jobs that a process has.
    pub leased: u64,
    /// When the first of those that could begin was asked for.
    pub oldest: Option<Instant>,
}

/// How an occurrence of a schedule ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OccurrenceEnd {
    /// The pipeline; filled in when it is read.
    #[serde(default)]
    pub pipeline: String,
    /// Its instant.
    pub at: Instant,
    /// The date that it is for.
    pub logical_date: String,
    /// `ran`, `coalesced`, `skipped` or `missed`; `waiting` is none yet.
    pub end: String,
    /// Why, where it did not run itself.
    pub reason: Option<String>,
    /// The job that was made for it. Where it is none, the new job that is scheduled for its instant.
    pub job: Option<i64>,
    /// The run, as soon as there is one.
    pub run: Option<String>,
}

/// Who paused a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub at: Instant,
}

/// How a backfill stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackfillState {
    /// Its jobs are taken as their turn comes.
    Running,
    /// Its jobs wait until it goes on; what is under way ends.
    Paused,
    /// What had not begun was cancelled.
    Cancelled,
    /// All its jobs have ended.
    Done,
}

impl BackfillState {
    /// The word as it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Done => "done",
        }
    }
}

/// A backfill that is asked for, as it was planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBackfill {
    /// The pipeline.
    pub pipeline: String,
    /// The first date.
    pub from: String,
    /// The first date after it.
    pub to: String,
    /// The range as the plan was asked, as JSON of `plan::Ask`.
    pub ask: String,
    /// Whether the newest days come first.
    pub newest_first: bool,
    /// What was planned.
    pub planned: Planned,
    /// Who asked for it.
    pub by: String,
}

/// What a backfill was planned to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Units of the pipeline's window that have anything to do.
    pub units: u64,
    /// Tasks: steps with their units.
    pub tasks: u64,
    /// Requests, where that is known.
    pub requests: Option<u64>,
    /// Bytes that would be billed, where that is known.
    pub bytes: Option<u64>,
}

/// A backfill with its progress, counted from its jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backfill {
    /// Its name: `bf-` and a number.
    pub id: String,
    /// The pipeline.
    pub pipeline: String,
    /// The first date.
    pub from: String,
    /// The first date after it.
    pub to: String,
    /// The range as the plan was asked.
    #[serde(skip)]
    pub ask: String,
    /// Whether the newest days come first.
    pub newest_first: bool,
    /// What was planned.
    pub planned: Planned,
    /// Who asked for it.
    pub by: String,
    /// How it stands.
    pub state: BackfillState,
    /// When it was asked for.
    pub created_at: Instant,
    /// When the last of its jobs ended, or it was cancelled.
    pub finished_at: Option<Instant>,
    /// How its jobs stand.
    pub progress: Progress,
}

/// How the jobs of a backfill stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// All jobs.
    pub jobs: u64,
    /// Those that wait.
    pub queued: u64,
    /// Those that a process has.
    pub leased: u64,
    /// Those that ended well.
    pub succeeded: u64,
    /// Those that ended with something held or late.
    pub open: u64,
    /// Those that failed or were refused.
    pub failed: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// Units of all jobs.
    pub units: u64,
    /// Units of jobs that ended well.
    pub units_done: u64,
    /// Units of jobs that ended with something held or late.
    pub units_open: u64,
    /// Units of jobs that failed or were refused; some of them may be loaded all the same.
    pub units_failed: u64,
    /// Units of jobs that were cancelled; what was loaded before that stays.
    pub units_cancelled: u64,
    /// When the first job was begun.
    pub begun_at: Option<Instant>,
    /// When the last one ended so far.
    pub last_end: Option<Instant>,
}

impl Progress {
    /// When all jobs will have ended, if the others take as long as those that have; none before the first has ended.
    pub fn expected_end(&self, now: Instant) -> Option<Instant> {
        // What was cancelled has taken no time, and nothing of it is left.
        let units = self.units_done + self.units_open + self.units_failed;
        let done = units.max(self.succeeded + self.open + self.failed);
        let all = self.units.saturating_sub(self.units_cancelled).max(self.jobs.saturating_sub(self.cancelled));
        let (begun, last) = (self.begun_at?, self.last_end?);
        if done == 0 || done >= all {
            return None;
        }
        let each = (last - begun).num_milliseconds().max(0) / i64::try_from(done).ok()?;
        let left = chrono::Duration::milliseconds(each.saturating_mul(i64::try_from(all - done).ok()?));
        last.max(now).checked_add_signed(left)
    }
}

/// A slot of a pool that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldSlot {
    /// The pool.
    pub pool: String,
    /// Who holds it: a run and a task.
    pub holder: String,
    /// Until when, if it is not renewed.
    pub until: Instant,
}

/// The instants that a job covers, as text that is the same for the same work.
pub fn span(units: &Range<Instant>) -> String {
    let form = "%Y-%m-%dT%H:%MZ";
    format!("{}..{}", units.start.format(form), units.end.format(form))
}
