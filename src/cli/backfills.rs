//! `haul backfill list`, `show`, `pause`, `resume` and `cancel`: the backfills of the queue.

use super::screen::{BAD, DIM, WARN, counted};
use super::{Common, Screen, session};
use crate::config;
use crate::error::{Error, Result};
use crate::model::cost::Bytes;
use crate::model::job::{Backfill, BackfillState, Job, JobEnd, JobFilter, JobState, Progress};
use crate::plan;
use crate::state::State;
use crate::time::Instant;

/// How many jobs of a backfill are looked at for what went wrong.
const LOOKED_AT: u32 = 10_000;

/// How many of them are shown.
const SHOWN: usize = 20;

/// What is done with the backfills of the queue.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the backfills of the queue, the newest first
    List {
        /// Of this pipeline; all of them by default
        pipeline: Option<String>,
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Show one with its progress, and what went wrong
    Show {
        /// The backfill, such as bf-1
        id: String,
    },
    /// Let it wait: what is under way ends, nothing further begins
    Pause {
        /// The backfill, such as bf-1
        id: String,
    },
    /// Let one that was paused go on
    Resume {
        /// The backfill, such as bf-1
        id: String,
    },
    /// Cancel what has not ended; what is loaded stays
    Cancel {
        /// The backfill, such as bf-1
        id: String,
    },
}

pub(super) async fn steer(command: &Command, common: &Common, screen: &Screen) -> Result<u8> {
    // What the files warn of has nothing to do with what is queued.
    let state = State::open(&config::state_dir(&session::root(common)?)).await?;
    let now = common.clock().now();
    match command {
        Command::List { pipeline, limit } => {
            let all = state.backfills(pipeline.as_deref(), None, limit.saturating_add(1)).await?;
            let all = screen.newest(all, *limit);
            list(&all, now, screen);
        }
        Command::Show { id } => {
            let found = state.backfill(id).await?.ok_or_else(|| unknown(id))?;
            let filter = JobFilter { backfill: Some(id.clone()), limit: LOOKED_AT, ..JobFilter::default() };
            show(&found, &state.jobs(&filter).await?, now, screen);
        }
        Command::Pause { id } => set(&state, id, BackfillState::Paused, now, screen).await?,
        Command::Resume { id } => set(&state, id, BackfillState::Running, now, screen).await?,
        Command::Cancel { id } => set(&state, id, BackfillState::Cancelled, now, screen).await?,
    }
    state.close().await;
    Ok(0)
}

async fn set(state: &State, id: &str, wanted: BackfillState, now: Instant, screen: &Screen) -> Result<()> {
    let found = state.set_backfill(id, wanted, "the command line", now).await?.ok_or_else(|| unknown(id))?;
    if found.state != wanted {
        return Err(Error::usage(format!("{} is {}", found.id, found.state.name()))
            .hint("a backfill that has ended stays as it is; `haul backfill` asks for the range once more"));
    }
    if screen.is_json() {
        screen.json(&as_json(&found, now));
    } else {
        let progress = found.progress;
        screen.note(&match wanted {
            BackfillState::Cancelled => {
                let ended = counted(progress.succeeded + progress.open + progress.failed, "job");
                let stopped = match progress.leased {
                    0 => String::new(),
                    some => format!(", {} under way asked to stop", counted(some, "job")),
                };
                format!("{} is cancelled: {ended} ended before{stopped}", found.id)
            }
            state => format!("{} is {}: {}", found.id, state.name(), words(&found)),
        });
    }
    Ok(())
}

fn unknown(id: &str) -> Error {
    Error::usage(format!("there is no backfill `{id}`")).hint("`haul backfill list` shows them")
}

/// Tells what was queued.
pub(super) fn queued(made: &Backfill, common: &Common, screen: &Screen) {
    if screen.is_json() {
        screen.json(&as_json(made, common.clock().now()));
        return;
    }
    let order = if made.newest_first { "newest" } else { "oldest" };
    screen.note(&format!(
        "{}: `{}` from {} to {}: {} in {}, the {order} first",
        made.id,
        made.pipeline,
        made.from,
        made.to,
        planned(made),
        counted(made.progress.jobs, "job"),
    ));
    screen.note(&format!("`haul serve` works on it; `haul backfill show {}` tells how far it is", made.id));
}

/// What was planned, in words.
fn planned(of: &Backfill) -> String {
    let mut words = vec![counted(of.planned.units, "unit"), counted(of.planned.tasks, "task")];
    words.extend(of.planned.requests.map(|requests| counted(requests, "request")));
    words.extend(of.planned.bytes.map(|bytes| format!("{} billed", Bytes(bytes))));
    words.join(", ")
}

/// How far it is, in words: what ended well is done, and nothing else.
fn words(of: &Backfill) -> String {
    let Progress { jobs, succeeded, units, units_done, .. } = of.progress;
    format!("{succeeded} of {jobs} jobs, {units_done} of {units} units")
}

/// The jobs that ended, and not well, in words; none where there are none.
fn not_well(of: &Backfill) -> Option<String> {
    let Progress { open, failed, cancelled, .. } = of.progress;
    let ends = [
        (failed, of.progress.units_failed, "failed"),
        (open, of.progress.units_open, "held or late"),
        (cancelled, of.progress.units_cancelled, "cancelled"),
    ];
    let words = ends.iter().filter(|(jobs, ..)| *jobs > 0);
    let words: Vec<String> = words
        .map(|(jobs, units, end)| format!("{} {end} ({})", counted(*jobs, "job"), counted(*units, "unit")))
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn expected(of: &Backfill, now: Instant) -> String {
    match (of.state, of.finished_at) {
        (BackfillState::Running, _) => of.progress.expected_end(now).map(minute).unwrap_or_default(),
        (BackfillState::Paused, _) => String::new(),
        (_, at) => at.map(minute).unwrap_or_default(),
    }
}

fn minute(at: Instant) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

fn list(all: &[Backfill], now: Instant, screen: &Screen) {
    if screen.is_json() {
        screen.json(&all.iter().map(|one| as_json(one, now)).collect::<Vec<_>>());
        return;
    }
    if all.is_empty() {
        screen.note("nothing was queued yet: `haul backfill NAME --from … --to … --queue` does");
        return;
    }
    let rows = all.iter().map(|one| {
        let wrong = one.progress.failed + one.progress.open;
        vec![
            one.id.clone(),
            one.pipeline.clone(),
            one.from.clone(),
            one.to.clone(),
            one.state.name().to_owned(),
            words(one),
            if wrong == 0 { String::new() } else { wrong.to_string() },
            expected(one, now),
        ]
    });
    let head = ["backfill", "pipeline", "from", "to", "state", "done", "not well", "ends (UTC)"];
    screen.table(&head, rows.collect());
}

fn show(of: &Backfill, jobs: &[Job], now: Instant, screen: &Screen) {
    if screen.is_json() {
        let mut value = as_json(of, now);
        value["jobs"] = serde_json::to_value(jobs).unwrap_or_default();
        screen.json(&value);
        return;
    }
    screen.data(&format!("{}: `{}` from {} to {}, {}", of.id, of.pipeline, of.from, of.to, of.state.name()));
    screen.data(&format!("  planned    {}, asked for by {} at {}", planned(of), of.by, minute(of.created_at)));
    screen.data(&format!("  done       {}; {} under way, {} wait", words(of), of.progress.leased, of.progress.queued));
    if let Some(words) = not_well(of) {
        screen.data(&format!("  not done   {words}"));
    }
    let ends = expected(of, now);
    if !ends.is_empty() {
        let word = if of.state == BackfillState::Running { "expected" } else { "ended" };
        screen.data(&format!("  {word:<10} {ends} UTC"));
    }
    let wrong = |job: &&Job| matches!(job.outcome, Some(end) if end != JobEnd::Succeeded && end != JobEnd::Superseded);
    let mut shown = 0;
    for job in jobs.iter().filter(wrong) {
        shown += 1;
        if shown > SHOWN {
            continue;
        }
        let end = job.outcome.map(JobEnd::name).unwrap_or_default();
        let style = if matches!(job.outcome, Some(JobEnd::Failed | JobEnd::Refused)) { BAD } else { WARN };
        let run = job.run.as_deref().unwrap_or("no run");
        let why = job.reason.as_deref().and_then(|reason| reason.lines().next()).unwrap_or_default();
        screen.data(&format!("  {style}{end:<10}{style:#} {} {DIM}{run}: {why}{DIM:#}", dates(job)));
    }
    if shown > SHOWN {
        screen.data(&format!("  and {} more", shown - SHOWN));
    }
    for job in jobs.iter().filter(|job| job.state == JobState::Leased) {
        screen.data(&format!("  {:<10} {} {DIM}{}{DIM:#}", "under way", dates(job), job.run.as_deref().unwrap_or("")));
    }
}

/// The dates that a job is about.
fn dates(job: &Job) -> String {
    let range = plan::read(&job.ask).ok().and_then(|ask| ask.range);
    range.map_or_else(|| job.key.clone(), |range| format!("{} to {}", range.from, range.to))
}

fn as_json(of: &Backfill, now: Instant) -> serde_json::Value {
    let mut value = serde_json::to_value(of).unwrap_or_default();
    value["expected_end"] = serde_json::to_value(of.progress.expected_end(now)).unwrap_or_default();
    value
}
