//! Runs and the events of their tasks.

use sqlx::{QueryBuilder, Sqlite, Transaction};

use super::rows::{Reading, count, instant, word};
use super::sqlite::Store;
use crate::error::{Error, Kind, Result};
use crate::model::run::{RunCounts, RunFilter, RunRecord, RunStatus, TaskEvent, TaskLog, Trigger, fold};
use crate::time::Instant;

/// Rows of one INSERT: five values each, far below SQLite's limit of bound values.
const BATCH: usize = 500;

/// Begins a run: its number is the next one of its pipeline and logical date.
pub(super) async fn begin(
    store: &Store,
    pipeline: &str,
    logical_date: &str,
    trigger: Trigger,
    now: Instant,
) -> Result<RunRecord> {
    let doing = "beginning a run in";
    let mut transaction = store.begin(doing).await?;
    let (number,): (i64,) =
        sqlx::query_as("SELECT coalesce(max(number), 0) + 1 FROM run WHERE pipeline = $1 AND logical_date = $2")
            .bind(pipeline)
            .bind(logical_date)
            .fetch_one(&mut *transaction)
            .await
            .map_err(store.fault(doing))?;
    let record = RunRecord {
        id: format!("{pipeline}-{logical_date}-{number}"),
        pipeline: pipeline.to_owned(),
        logical_date: logical_date.to_owned(),
        trigger,
        status: RunStatus::Running,
        started_at: now,
        finished_at: None,
        counts: RunCounts::default(),
    };
    sqlx::query(
        "INSERT INTO run (id, pipeline, logical_date, number, asked_by, status, started_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&record.id)
    .bind(pipeline)
    .bind(logical_date)
    .bind(number)
    .bind(word(trigger))
    .bind(word(record.status))
    .bind(instant(now))
    .execute(&mut *transaction)
    .await
    .map_err(store.fault(doing))?;
    // Before the commit: nobody may see the run without its lock.
    store.liveness.hold(&record.id)?;
    if let Err(error) = store.commit(transaction, doing).await {
        store.liveness.release(&record.id);
        return Err(error);
    }
    Ok(record)
}

/// Adds events.
pub(super) async fn append(store: &Store, run: &str, logs: &[TaskLog]) -> Result<()> {
    if logs.is_empty() {
        return Ok(());
    }
    let doing = "writing events to";
    let mut transaction = store.begin(doing).await?;
    insert(store, &mut transaction, run, logs).await?;
    store.commit(transaction, doing).await
}

async fn insert(
    store: &Store,
    transaction: &mut Transaction<'static, Sqlite>,
    run: &str,
    logs: &[TaskLog],
) -> Result<()> {
    for batch in logs.chunks(BATCH) {
        let events = batch
            .iter()
            .map(|log| {
                serde_json::to_string(&log.event)
                    .map_err(|error| Error::internal("an event could not be written as JSON").because(error))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut statement = QueryBuilder::new("INSERT INTO event (run, step, unit, at, event) ");
        statement.push_values(batch.iter().zip(events), |mut row, (log, event)| {
            row.push_bind(run.to_owned())
                .push_bind(log.task.step.clone())
                .push_bind(log.task.unit.as_str().to_owned())
                .push_bind(instant(log.at))
                .push_bind(event);
        });
        statement.build().execute(&mut **transaction).await.map_err(store.fault("writing events to"))?;
    }
    Ok(())
}

/// Writes how a run ended.
pub(super) async fn finish(store: &Store, run: &RunRecord) -> Result<()> {
    let doing = "ending a run in";
    let mut transaction = store.begin(doing).await?;
    let finished_at = match run.finished_at {
        Some(at) => Some(behind_the_others(store, &mut transaction, &run.pipeline, at).await?),
        None => None,
    };
    let run = &RunRecord { finished_at, ..run.clone() };
    let known = update(store, &mut transaction, run).await?;
    if !known {
        return Err(Error::new(Kind::Internal, format!("the run {} was never begun", run.id)));
    }
    store.commit(transaction, doing).await?;
    store.liveness.release(&run.id);
    Ok(())
}

/// So many runs of a pipeline are looked at for the last end; there are never as many at once.
const AT_ONCE: u32 = 100;

/// The instant of a run's end, behind those of all runs of its pipeline whose ends are written already.
///
/// Two that end at once may be written in the other order. Who follows the pipeline goes by these instants, and has seen the first: the
/// second would never be seen if it stood before it. A clock that was put back by more than a moment is left alone.
async fn behind_the_others(
    store: &Store,
    transaction: &mut Transaction<'static, Sqlite>,
    pipeline: &str,
    at: Instant,
) -> Result<Instant> {
    let statement = "SELECT max(finished_at) AS finished_at
                     FROM (SELECT finished_at FROM run WHERE pipeline = $1 ORDER BY seq DESC LIMIT $2)";
    let row = sqlx::query(statement)
        .bind(pipeline)
        .bind(AT_ONCE)
        .fetch_one(&mut **transaction)
        .await
        .map_err(store.fault("ending a run in"))?;
    let last = Reading(&row).maybe_instant("finished_at")?;
    let close = |last: &Instant| *last >= at && *last - at < chrono::Duration::minutes(1);
    Ok(last.filter(close).map_or(at, |last| last + chrono::Duration::microseconds(1)))
}

async fn update(store: &Store, transaction: &mut Transaction<'static, Sqlite>, run: &RunRecord) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE run SET status = $2, finished_at = $3, loaded = $4, unchanged = $5, held = $6, failed = $7,
                        skipped = $8, late = $9
         WHERE id = $1",
    )
    .bind(&run.id)
    .bind(word(run.status))
    .bind(run.finished_at.map(instant))
    .bind(count(run.counts.loaded))
    .bind(count(run.counts.unchanged))
    .bind(count(run.counts.held))
    .bind(count(run.counts.failed))
    .bind(count(run.counts.skipped))
    .bind(count(run.counts.late))
    .execute(&mut **transaction)
    .await
    .map_err(store.fault("ending a run in"))?;
    Ok(done.rows_affected() > 0)
}

/// Ends the runs whose process died, and cancels the tasks that they had under way.
pub(super) async fn close_dead(store: &Store, pipeline: &str, now: Instant) -> Result<Vec<String>> {
    let doing = "looking for unfinished runs in";
    let running = sqlx::query("SELECT * FROM run WHERE status = 'running' AND pipeline = $1 ORDER BY seq")
        .bind(pipeline)
        .fetch_all(store.readers())
        .await
        .map_err(store.fault(doing))?;
    let mut closed = Vec::new();
    for row in &running {
        let mut run = Reading(row).run()?;
        if store.liveness.lives(&run.id) {
            continue;
        }
        let mut transaction = store.begin(doing).await?;
        let events = events_of(store, &mut *transaction, &run.id).await?;
        let mut states = fold(&events)?;
        let mut cancelled = Vec::new();
        for (task, state) in &mut states {
            if !state.is_final() {
                *state = state.apply(&TaskEvent::Cancelled)?;
                cancelled.push(TaskLog { task: task.clone(), at: now, event: TaskEvent::Cancelled });
            }
            run.counts.count(state);
        }
        run.status = RunStatus::Cancelled;
        run.finished_at = Some(now);
        insert(store, &mut transaction, &run.id, &cancelled).await?;
        update(store, &mut transaction, &run).await?;
        store.commit(transaction, doing).await?;
        store.liveness.forget(&run.id);
        closed.push(run.id);
    }
    Ok(closed)
}

/// The last runs, newest first: in the order in which they began, not of their clocks.
pub(super) async fn list(store: &Store, pipeline: Option<&str>, limit: u32) -> Result<Vec<RunRecord>> {
    // Two statements, so that each finds its index.
    let which = if pipeline.is_some() { "pipeline = $1" } else { "$1 IS NULL" };
    let statement = format!(
        "SELECT *, (SELECT count(*) FROM event WHERE event.run = run.id AND event.event LIKE '%\"incomplete\":\"%') AS incomplete,
                (SELECT sum(billed) FROM cost WHERE cost.run = run.id) AS billed_bytes
         FROM run WHERE {which} ORDER BY seq DESC LIMIT $2"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(pipeline)
        .bind(limit)
        .fetch_all(store.readers())
        .await
        .map_err(store.fault("listing the runs in"))?
        .iter()
        .map(|row| Reading(row).run())
        .collect()
}

/// The runs that a filter lets through, newest first.
pub(super) async fn list_where(store: &Store, filter: &RunFilter) -> Result<Vec<RunRecord>> {
    // Words of our own, all values are bound: what is not asked for keeps SQLite from no index.
    let asked = [
        (filter.pipeline.is_some(), "AND pipeline = $1"),
        (filter.status.is_some(), "AND status = $2"),
        (filter.before.is_some(), "AND seq < (SELECT other.seq FROM run AS other WHERE other.id = $3)"),
    ];
    let asked: Vec<&str> = asked.into_iter().filter_map(|(is, words)| is.then_some(words)).collect();
    let statement = format!(
        "SELECT *, (SELECT count(*) FROM event WHERE event.run = run.id AND event.event LIKE '%\"incomplete\":\"%') AS incomplete,
                (SELECT sum(billed) FROM cost WHERE cost.run = run.id) AS billed_bytes
         FROM run WHERE coalesce($1, $2, $3, '') IS NOT NULL {} ORDER BY seq DESC LIMIT $4",
        asked.join(" ")
    );
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(&filter.pipeline)
        .bind(filter.status.map(word))
        .bind(&filter.before)
        .bind(filter.limit)
        .fetch_all(store.readers())
        .await
        .map_err(store.fault("listing the runs in"))?
        .iter()
        .map(|row| Reading(row).run())
        .collect()
}

/// A run with its events.
pub(super) async fn one(store: &Store, id: &str) -> Result<Option<(RunRecord, Vec<TaskLog>)>> {
    let doing = "reading a run in";
    let row = sqlx::query(
        "SELECT *, (SELECT count(*) FROM event WHERE event.run = run.id AND event.event LIKE '%\"incomplete\":\"%') AS incomplete,
                (SELECT sum(billed) FROM cost WHERE cost.run = run.id) AS billed_bytes
         FROM run WHERE id = $1",
    )
        .bind(id)
        .fetch_optional(store.readers())
        .await
        .map_err(store.fault(doing))?;
    let Some(row) = row else { return Ok(None) };
    let events = events_of(store, store.readers(), id).await?;
    Ok(Some((Reading(&row).run()?, events)))
}

async fn events_of<'e>(
    store: &Store,
    executor: impl sqlx::Executor<'e, Database = Sqlite>,
    run: &str,
) -> Result<Vec<TaskLog>> {
    sqlx::query("SELECT * FROM event WHERE run = $1 ORDER BY seq")
        .bind(run)
        .fetch_all(executor)
        .await
        .map_err(store.fault("reading a run in"))?
        .iter()
        .map(|row| Reading(row).log())
        .collect()
}
