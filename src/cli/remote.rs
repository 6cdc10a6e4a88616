//! What the daemon does in the place of this process, where it is at work on the project: its warehouse may be open there.

use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;

use super::screen::{BAD, DIM, GOOD, WARN, indented};
use super::{Screen, logs, run};
use crate::api::{Client, DecidedView, Followed, JobView, JobWithNotes, QueryBody, TriggerBody, TriggeredView};
use crate::connections::Connections;
use crate::error::{Error, Kind, Result};
use crate::execute::{Decided, Gear};
use crate::logs::{Level, Line, What};
use crate::model::job::{JobEnd, JobState};
use crate::model::name::TableName;
use crate::model::pipeline::{Pipeline, Project};
use crate::model::run::{RunRecord, RunStatus};
use crate::plan::Ask;
use crate::state::State;
use crate::warehouse::Rows;

/// How often a job is looked at while nothing of it is heard.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The daemon, where it may have the file behind a connection open: only a DuckDB file is one process's alone.
pub(super) fn keeper_of(
    connection: &str,
    project: &Project,
    connections: &Connections,
    screen: &Screen,
) -> Result<Option<Client>> {
    let listed = connections.list()?;
    let is_file = listed.iter().any(|line| line.name == connection && line.kind.as_deref() == Some("duckdb"));
    if is_file { Client::of(project, connections, &screen.redactor) } else { Ok(None) }
}

/// Refuses what only this process can do, where a daemon is at work that may have the file of a warehouse open.
pub(super) fn alone(gear: &Gear, pipeline: &Pipeline, screen: &Screen, hint: &str) -> Result<()> {
    let Some(client) = keeper_of(&pipeline.warehouse, &gear.project, &gear.connections, screen)? else { return Ok(()) };
    let pid = client.place().pid;
    Err(Error::usage(format!("`haul serve` (process {pid}) is at work on the project, and its warehouse is a file"))
        .hint(hint))
}

/// The rows of a SELECT.
pub(super) async fn query(client: &Client, sql: &str, connection: &str, rows: usize) -> Result<Rows> {
    let body = QueryBody { sql: sql.to_owned(), connection: Some(connection.to_owned()), rows: Some(rows) };
    client.post("/api/v1/query", &body).await
}

/// The first rows of a step.
pub(super) async fn preview(client: &Client, pipeline: &str, step: &str, date: NaiveDate, rows: usize) -> Result<Rows> {
    client.get(&format!("/api/v1/pipelines/{pipeline}/steps/{step}/preview?date={date}&rows={rows}")).await
}

/// Decides on a unit that a guard held.
pub(super) async fn decide(client: &Client, table: &TableName, unit: &str, reject: bool) -> Result<Decided> {
    let word = if reject { "reject" } else { "approve" };
    let unit: String = url::form_urlencoded::byte_serialize(unit.as_bytes()).collect();
    let path = format!("/api/v1/tables/{table}/units/{unit}/{word}");
    let DecidedView { table, unit, rows, pipeline } = client.post(&path, &serde_json::json!({})).await?;
    Ok(Decided { table: TableName::stored(&table), unit, rows, pipeline })
}

/// Asks the daemon for runs, and shows them until they end; the exit code is that of runs that are walked here.
pub(super) async fn run(
    client: &Client,
    asks: Vec<(Arc<Pipeline>, Ask)>,
    project: &Project,
    screen: &Screen,
) -> Result<u8> {
    let (door, alone) = (client.place(), asks.len() == 1);
    // Requests that failed are found here, and sent where the warehouse is.
    let here = if asks.iter().any(|(_, ask)| ask.retry) { "" } else { ", --local would run it here" };
    screen.note(&format!("{DIM}`haul serve` (process {}) runs it; Ctrl-C cancels it{here}{DIM:#}", door.pid));
    let mut triggered = Vec::new();
    for (pipeline, ask) in asks {
        let date = Some(ask.logical_date).filter(|_| !ask.retry);
        let body = TriggerBody { date, select: ask.select, force: ask.force, retry: ask.retry };
        let path = format!("/api/v1/pipelines/{}/trigger", pipeline.name);
        let asked: TriggeredView = client.post(&path, &body).await?;
        if !asked.new {
            let job = asked.job.id;
            screen.note(&format!("{WARN}joined{WARN:#}    job {job} is the same work, and has not ended"));
        }
        triggered.push((pipeline, asked.job.id));
    }
    let jobs: Vec<i64> = triggered.iter().map(|(_, job)| *job).collect();
    let cancel = run::cancel_on_interrupt(screen);
    let state = State::open(&project.state_dir).await?;
    let (mut code, mut records) = (0, Vec::new());
    for (pipeline, job) in triggered {
        let mut following = std::pin::pin!(follow(client, job, screen));
        let followed = tokio::select! {
            followed = &mut following => followed,
            () = cancel.cancelled() => {
                cancel_all(client, &jobs).await;
                following.await
            }
        };
        let followed = match followed {
            Err(error) if error.kind() == Kind::Unavailable => left(&state, client, job, error).await,
            followed => followed,
        };
        let one = match followed {
            Ok((job, record)) => ended(&job, record, &pipeline, (&state, screen), &mut records).await,
            Err(error) => Err(error),
        };
        match one {
            Ok(one) => code = run::worse(code, one),
            Err(error) if alone => return Err(error),
            Err(error) => {
                screen.error(&error);
                code = run::worse(code, error.kind().exit_code());
            }
        }
    }
    if screen.is_json() {
        screen.json(&records);
    }
    Ok(code)
}

/// Cancels what has not ended yet.
async fn cancel_all(client: &Client, jobs: &[i64]) {
    for job in jobs {
        // One that has ended meanwhile says so, which is all the same here.
        let _: Result<JobView> = client.post(&format!("/api/v1/jobs/{job}/cancel"), &serde_json::json!({})).await;
    }
}

/// Shows the runs of a job until it ends: there are several where it is tried again.
async fn follow(client: &Client, id: i64, screen: &Screen) -> Result<(JobView, Option<RunRecord>)> {
    let mut record: Option<RunRecord> = None;
    let mut followed = 0;
    let mut waits = None;
    loop {
        let JobWithNotes { job, .. } = client.get(&format!("/api/v1/jobs/{id}")).await?;
        if let Some(run) = job.runs.get(followed) {
            followed += 1;
            client
                .follow(run, |followed| match followed {
                    Followed::Line(line) => {
                        told(&line, screen);
                        true
                    }
                    Followed::End(ended) => {
                        record = ended.map(|ended| *ended);
                        false
                    }
                })
                .await?;
            continue;
        }
        if job.state == JobState::Done {
            return Ok((job, record));
        }
        let reason = job.reason.clone().filter(|_| job.state == JobState::Queued);
        if let Some(reason) = reason.filter(|reason| waits.as_ref() != Some(reason)) {
            let at = job.not_before.format("%H:%M:%S");
            screen.note(&format!("{WARN}waiting{WARN:#}   job {id}: {}; not before {at} UTC", indented(&reason, 10)));
            waits = Some(reason);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What became of a job whose daemon can no longer be asked, as the state store tells it.
///
/// # Errors
/// The job has not ended: what will become of it; or the error that there was, where the store does not tell more.
async fn left(state: &State, client: &Client, id: i64, error: Error) -> Result<(JobView, Option<RunRecord>)> {
    let Ok(Some(job)) = state.job(id).await else { return Err(error) };
    let (pid, name) = (client.place().pid, &job.pipeline);
    let ended = |what: &str| {
        Error::new(Kind::Unavailable, format!("running `{name}`"))
            .because(format!("`haul serve` (process {pid}) {what}"))
    };
    match job.state {
        JobState::Done => {
            let record = match &job.run {
                Some(run) => state.run(run).await?.map(|(record, _)| record),
                None => None,
            };
            Ok((JobView::from(job), record))
        }
        JobState::Queued => Err(ended(&format!("has ended, and job {id} is back in the queue"))
            .hint("the next `haul serve` goes on with it, and what is durable is not asked for again")
            .hint(format!("`haul cancel {id}` takes it out of the queue"))),
        JobState::Leased => Err(ended(&format!("is gone, and job {id} had not ended"))
            .hint("the next `haul serve` takes it over once its lease has ended, and goes on with what is durable")
            .hint(format!("`haul cancel {id}` ends it"))),
    }
}

/// Shows a line as a run that is walked here would.
fn told(line: &Line, screen: &Screen) {
    let style = match (line.level, line.what) {
        (Level::Error, _) => BAD,
        (Level::Warn, _) => WARN,
        (_, What::Loaded | What::Done) => GOOD,
        _ => anstyle::Style::new(),
    };
    let word = line.what.word();
    let task = logs::task_of(line);
    match line.what {
        What::RunStarted => screen.note(&format!("{DIM}run {}{DIM:#}", line.text)),
        What::Started | What::Reached | What::Progress | What::RunFinished | What::Cancelled => {}
        What::Said | What::Skipped if !screen.is_verbose() => {}
        _ if task.is_empty() => screen.note(&format!("{style}{word:9}{style:#} {}", indented(&line.text, 10))),
        _ => {
            let took = line.data.get("took_ms").and_then(serde_json::Value::as_u64);
            let took = took.map(|took| format!(" {DIM}({}.{} s){DIM:#}", took / 1000, took / 100 % 10));
            let text = indented(&line.text, 10);
            screen.note(&format!("{style}{word:9}{style:#} {task}: {text}{}", took.unwrap_or_default()));
        }
    }
}

/// What is said at the end of a job, and its exit code.
async fn ended(
    job: &JobView,
    record: Option<RunRecord>,
    pipeline: &Pipeline,
    (state, screen): (&State, &Screen),
    records: &mut Vec<RunRecord>,
) -> Result<u8> {
    let reason = job.reason.clone().unwrap_or_default();
    let Some(record) = record else {
        let name = &pipeline.name;
        return Err(match job.outcome {
            // What has nothing to do ends well in the queue; who asked for a run is told.
            Some(JobEnd::Succeeded | JobEnd::Superseded) => Error::new(Kind::NothingDue, reason),
            Some(JobEnd::Cancelled) => Error::new(Kind::Cancelled, format!("running `{name}`")),
            _ => Error::new(Kind::Unavailable, format!("running `{name}`")).because(reason),
        });
    };
    let counts = record.counts;
    screen.note(&format!(
        "{}: {} loaded, {} unchanged, {} held, {} late, {} failed, {} skipped",
        record.id, counts.loaded, counts.unchanged, counts.held, counts.late, counts.failed, counts.skipped
    ));
    match record.status {
        RunStatus::Failed => screen.note(&format!("{BAD}failed{BAD:#}: `haul show {}` says why", record.id)),
        RunStatus::Held => run::decisions(state, pipeline, screen).await?,
        RunStatus::Refused => screen.tell(&format!("{BAD}refused{BAD:#}: {reason}")),
        RunStatus::Cancelled => screen.tell(&format!("{WARN}stopped{WARN:#}: everything durable is kept")),
        RunStatus::Late | RunStatus::Succeeded | RunStatus::Running => {}
    }
    let code = run::exit_code(record.status);
    records.push(record);
    Ok(code)
}
