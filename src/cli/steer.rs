//! `haul trigger`, `pause`, `resume`, `cancel`, `queue` and `occurrences`: steering the daemon, whether one is at work or not.

use chrono::NaiveDate;

use super::screen::{BAD, DIM, GOOD, WARN};
use super::{Common, Screen, session};
use crate::error::Result;
use crate::model::job::{Job, JobEnd, JobState, OccurrenceEnd};
use crate::plan;
use crate::serve::{Steward, WAITING};
use crate::state::State;
use crate::time::Instant;

/// What is to run.
#[derive(Debug, clap::Args)]
pub(super) struct TriggerArgs {
    /// The pipeline
    pipeline: String,
    /// The logical date: the window ends before it; today in the pipeline's zone by default
    #[arg(long, value_name = "DATE")]
    date: Option<NaiveDate>,
    /// Only these steps: `name`, `+name` with what it reads, `name+` with what reads it
    #[arg(long, value_name = "STEP")]
    select: Vec<String>,
    /// Also where nothing has changed
    #[arg(long)]
    force: bool,
}

/// Which pipeline is paused, and why.
#[derive(Debug, clap::Args)]
pub(super) struct PauseArgs {
    /// The pipeline
    pipeline: String,
    /// Why, for whoever comes by
    #[arg(long)]
    reason: Option<String>,
}

/// Which jobs are listed.
#[derive(Debug, clap::Args)]
pub(super) struct QueueArgs {
    /// Only of this pipeline
    pipeline: Option<String>,
    /// Those that have ended too
    #[arg(long)]
    all: bool,
    /// How many, the newest first; 1000 by default, and 100 with --all
    #[arg(long)]
    limit: Option<u32>,
}

/// Which occurrences are listed.
#[derive(Debug, clap::Args)]
pub(super) struct OccurrencesArgs {
    /// Only of this pipeline
    pipeline: Option<String>,
    /// Since this date, in UTC
    #[arg(long, value_name = "DATE")]
    since: Option<NaiveDate>,
    /// How many
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

/// A steward for what the command line asks; files that are wrong keep nobody from steering the rest.
async fn steward(common: &Common, screen: &Screen) -> Result<Steward> {
    let root = session::root(common)?;
    let project = crate::serve::tolerant(&root, screen.redactor.clone()).await?;
    let state = State::open(&project.state_dir).await?;
    Ok(Steward::new(state, project, common.clock(), "the command line"))
}

pub(super) async fn trigger(args: &TriggerArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let steward = steward(common, screen).await?;
    let triggered = steward.trigger(&args.pipeline, args.date, args.select.clone(), args.force).await?;
    if screen.is_json() {
        screen.json(&triggered);
        return Ok(0);
    }
    let job = &triggered.job;
    if triggered.new {
        screen.data(&format!("{GOOD}queued{GOOD:#}  job {}: {} for {}", job.id, job.pipeline, covers(job)));
        screen.note(&format!("{DIM}a running `haul serve` begins it; `haul queue` shows how it stands{DIM:#}"));
    } else {
        let state = if job.state == JobState::Leased { "under way" } else { "queued" };
        screen.data(&format!("job {} is the same work, and is {state} already", job.id));
    }
    Ok(0)
}

pub(super) async fn pause(args: &PauseArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let steward = steward(common, screen).await?;
    steward.pause(&args.pipeline, args.reason.as_deref()).await?;
    screen.note(&format!(
        "{WARN}paused{WARN:#}  {}: its occurrences are recorded as skipped until `haul resume {}`",
        args.pipeline, args.pipeline
    ));
    Ok(0)
}

pub(super) async fn resume(pipeline: &str, common: &Common, screen: &Screen) -> Result<u8> {
    let steward = steward(common, screen).await?;
    if steward.resume(pipeline).await? {
        screen.note(&format!("{GOOD}resumed{GOOD:#}  {pipeline}"));
    } else {
        screen.note(&format!("{pipeline} was not paused"));
    }
    Ok(0)
}

pub(super) async fn cancel(what: &str, common: &Common, screen: &Screen) -> Result<u8> {
    let job = steward(common, screen).await?.cancel(what).await?;
    if screen.is_json() {
        screen.json(&job);
        return Ok(0);
    }
    match job.state {
        JobState::Done => screen.note(&format!("{GOOD}cancelled{GOOD:#}  job {} of {}", job.id, job.pipeline)),
        JobState::Leased | JobState::Queued => {
            let owner = job.owner.as_deref().unwrap_or("its process");
            screen.note(&format!("asked to cancel job {} of {}: {owner} stops it", job.id, job.pipeline));
        }
    }
    Ok(0)
}

pub(super) async fn queue(args: &QueueArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let limit = args.limit.unwrap_or(if args.all { 100 } else { 1000 });
    let more = limit.saturating_add(1);
    let jobs = steward(common, screen).await?.queue(args.pipeline.as_deref(), args.all, more).await?;
    let jobs = screen.newest(jobs, limit);
    if screen.is_json() {
        screen.json(&jobs);
        return Ok(0);
    }
    if jobs.is_empty() {
        screen.note("the queue is empty");
        return Ok(0);
    }
    let now = common.clock().now();
    let rows = jobs.iter().map(|job| {
        vec![
            job.id.to_string(),
            job.pipeline.clone(),
            covers(job),
            job.class.name().to_owned(),
            standing(job, now),
            job.run.clone().unwrap_or_default(),
            job.reason.clone().unwrap_or_default().lines().next().unwrap_or_default().to_owned(),
        ]
    });
    screen.table(&["job", "pipeline", "for", "class", "state", "run", ""], rows.collect());
    Ok(0)
}

/// What a job is for, in a cell.
fn covers(job: &Job) -> String {
    let Ok(ask) = plan::read(&job.ask) else { return job.key.clone() };
    let date =
        ask.range.map_or_else(|| ask.logical_date.to_string(), |range| format!("{} .. {}", range.from, range.to));
    let only = if ask.select.is_empty() { String::new() } else { format!(", only {}", ask.select.join(", ")) };
    format!("{date}{only}{}", if ask.force { ", forced" } else { "" })
}

/// How a job stands, in a cell.
fn standing(job: &Job, now: Instant) -> String {
    match (job.state, job.outcome) {
        (JobState::Leased, _) if job.cancel_asked => format!("{WARN}cancelling{WARN:#}"),
        (JobState::Leased, _) => format!("{GOOD}under way{GOOD:#}"),
        (JobState::Queued, _) if job.on_hold => "on hold".to_owned(),
        (JobState::Queued, _) if job.not_before > now => format!("from {}", job.not_before.format("%H:%M:%SZ")),
        (JobState::Queued, _) => "queued".to_owned(),
        (JobState::Done, Some(end @ JobEnd::Succeeded)) => format!("{GOOD}{}{GOOD:#}", end.name()),
        (JobState::Done, Some(end @ (JobEnd::Failed | JobEnd::Refused))) => format!("{BAD}{}{BAD:#}", end.name()),
        (JobState::Done, Some(end)) => format!("{WARN}{}{WARN:#}", end.name()),
        (JobState::Done, None) => "over".to_owned(),
    }
}

pub(super) async fn occurrences(args: &OccurrencesArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let since = args.since.and_then(|date| date.and_hms_opt(0, 0, 0)).map_or(Instant::UNIX_EPOCH, |at| at.and_utc());
    let more = args.limit.saturating_add(1);
    let found = steward(common, screen).await?.occurrences(args.pipeline.as_deref(), since, more).await?;
    let found = screen.newest(found, args.limit);
    if screen.is_json() {
        screen.json(&found);
        return Ok(0);
    }
    if found.is_empty() {
        screen.note("nothing is on record: a schedule begins when `haul serve` sees its pipeline for the first time");
        return Ok(0);
    }
    let rows = found.iter().map(|one| {
        vec![
            one.pipeline.clone(),
            one.at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
            one.logical_date.clone(),
            end(one),
            one.run.clone().or_else(|| one.job.map(|job| format!("job {job}"))).unwrap_or_default(),
            one.reason.clone().unwrap_or_default(),
        ]
    });
    screen.table(&["pipeline", "UTC", "for", "end", "run", ""], rows.collect());
    Ok(0)
}

fn end(one: &OccurrenceEnd) -> String {
    match one.end.as_str() {
        "ran" => format!("{GOOD}ran{GOOD:#}"),
        "missed" => format!("{BAD}missed{BAD:#}"),
        WAITING => format!("{DIM}{WAITING}{DIM:#}"),
        other => format!("{WARN}{other}{WARN:#}"),
    }
}
