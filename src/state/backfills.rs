//! Backfills: which ranges were asked for, and how far they are, counted from their jobs.

use super::State;
use super::jobs::{Columns, micros, rank};
use super::queue::{cancel, put};
use super::rows::count;
use super::sqlite::Store;
use crate::error::{Error, Result};
use crate::model::job::{Backfill, BackfillState, Class, NewBackfill, NewJob, Planned, Progress};
use crate::time::Instant;

/// Backfills with their progress: the jobs that are counted are those of the chosen ones alone.
const SELECT: &str = "WITH chosen AS (
    SELECT * FROM backfill
    WHERE ($1 IS NULL OR number = $1) AND ($2 IS NULL OR pipeline = $2) AND ($4 IS NULL OR number < $4)
    ORDER BY number DESC LIMIT $3
), piece AS (
    SELECT chosen.number AS of,
           count(*) AS jobs,
           sum(job.state = 'queued') AS queued,
           sum(job.state = 'leased') AS leased,
           sum(coalesce(job.outcome IN ('succeeded', 'superseded'), 0)) AS succeeded,
           sum(coalesce(job.outcome IN ('held', 'late'), 0)) AS open,
           sum(coalesce(job.outcome IN ('failed', 'refused'), 0)) AS failed,
           sum(coalesce(job.outcome = 'cancelled', 0)) AS cancelled,
           sum(job.units) AS all_units,
           sum(iif(job.outcome IN ('succeeded', 'superseded'), job.units, 0)) AS units_done,
           sum(iif(job.outcome IN ('held', 'late'), job.units, 0)) AS units_open,
           sum(iif(job.outcome IN ('failed', 'refused'), job.units, 0)) AS units_failed,
           sum(iif(job.outcome = 'cancelled', job.units, 0)) AS units_cancelled,
           min(job.claimed_at) AS begun_at,
           max(job.finished_at) AS last_end
    FROM chosen CROSS JOIN backfill_job ON backfill_job.backfill = chosen.number CROSS JOIN job ON job.id = backfill_job.job
    GROUP BY chosen.number
) SELECT chosen.*, piece.* FROM chosen LEFT JOIN piece ON piece.of = chosen.number ORDER BY chosen.number DESC";

impl State {
    /// Writes down a backfill with its jobs, in the order in which they are to be taken; all of it or nothing.
    ///
    /// A job that is the same work as an unfinished one is that one, and counts for both.
    pub async fn create_backfill(&self, backfill: &NewBackfill, jobs: &[NewJob], now: Instant) -> Result<Backfill> {
        let doing = "writing a backfill to";
        let mut transaction = self.store.begin(doing).await?;
        let done = sqlx::query(
            "INSERT INTO backfill (pipeline, first_date, end_date, ask, newest_first, units, tasks, requests, bytes, asked_by,
                                   state, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'running', $11)",
        )
        .bind(&backfill.pipeline)
        .bind(&backfill.from)
        .bind(&backfill.to)
        .bind(&backfill.ask)
        .bind(backfill.newest_first)
        .bind(count(backfill.planned.units))
        .bind(count(backfill.planned.tasks))
        .bind(backfill.planned.requests.map(count))
        .bind(backfill.planned.bytes.map(count))
        .bind(&backfill.by)
        .bind(micros(now))
        .execute(&mut *transaction)
        .await
        .map_err(self.store.fault(doing))?;
        let number = done.last_insert_rowid();
        for job in jobs {
            let job = NewJob { backfill: Some(name(number)), ..job.clone() };
            let one = put(&self.store, &mut transaction, &job, now).await?;
            sqlx::query("INSERT OR IGNORE INTO backfill_job (backfill, job) VALUES ($1, $2)")
                .bind(number)
                .bind(one.id)
                .execute(&mut *transaction)
                .await
                .map_err(self.store.fault(doing))?;
        }
        self.store.commit(transaction, doing).await?;
        let made = self.backfill(&name(number)).await?;
        made.ok_or_else(|| Error::internal(format!("the backfill {} is gone after it was written", name(number))))
    }

    /// A backfill with its progress.
    pub async fn backfill(&self, id: &str) -> Result<Option<Backfill>> {
        Ok(self.chosen(Some(number(id)?), None, None, 1).await?.pop())
    }

    /// The backfills of one pipeline or of all, newest first; those that were asked for before one, where it is named.
    ///
    /// # Errors
    /// A name that no backfill can have.
    pub async fn backfills(&self, pipeline: Option<&str>, before: Option<&str>, limit: u32) -> Result<Vec<Backfill>> {
        self.chosen(None, pipeline, before.map(number).transpose()?, limit).await
    }

    async fn chosen(
        &self,
        number: Option<i64>,
        pipeline: Option<&str>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Backfill>> {
        sqlx::query(SELECT)
            .bind(number)
            .bind(pipeline)
            .bind(limit)
            .bind(before)
            .fetch_all(self.store.readers())
            .await
            .map_err(self.store.fault("reading the backfills in"))?
            .iter()
            .map(|row| read(&Columns(row)))
            .collect()
    }

    /// Pauses, resumes or cancels a backfill; what is under way is asked to stop only by a cancellation.
    ///
    /// Jobs that a run or another backfill wants too go on. Returns it as it stands now; one that has ended stays as it is.
    ///
    /// # Errors
    /// A state that nobody can ask for: a backfill is done when its jobs are.
    pub async fn set_backfill(
        &self,
        id: &str,
        state: BackfillState,
        by: &str,
        now: Instant,
    ) -> Result<Option<Backfill>> {
        if state == BackfillState::Done {
            return Err(Error::internal("a backfill is done when its jobs are"));
        }
        set(&self.store, number(id)?, state, by, now).await?;
        self.backfill(id).await
    }
}

async fn set(store: &Store, number: i64, state: BackfillState, by: &str, now: Instant) -> Result<()> {
    let doing = "steering a backfill in";
    let mut transaction = store.begin(doing).await?;
    let done = sqlx::query("UPDATE backfill SET state = $2 WHERE number = $1 AND state IN ('running', 'paused')")
        .bind(number)
        .bind(state.name())
        .execute(&mut *transaction)
        .await
        .map_err(store.fault(doing))?;
    if done.rows_affected() == 0 {
        return Ok(());
    }
    if state == BackfillState::Cancelled {
        // Only what nobody else wants: no run has raised it, and no other backfill goes on with it.
        let jobs: Vec<(i64,)> = sqlx::query_as(
            "SELECT job.id FROM backfill_job JOIN job ON job.id = backfill_job.job
             WHERE backfill_job.backfill = $1 AND job.state <> 'done' AND job.class = $2 AND NOT EXISTS (
                 SELECT 1 FROM backfill_job AS other JOIN backfill ON backfill.number = other.backfill
                 WHERE other.job = job.id AND backfill.state IN ('running', 'paused'))",
        )
        .bind(number)
        .bind(rank(Class::Backfill))
        .fetch_all(&mut *transaction)
        .await
        .map_err(store.fault(doing))?;
        for (job,) in jobs {
            cancel(store, &mut transaction, job, by, now).await?;
        }
        sqlx::query("UPDATE backfill SET finished_at = coalesce(finished_at, $2) WHERE number = $1")
            .bind(number)
            .bind(micros(now))
            .execute(&mut *transaction)
            .await
            .map_err(store.fault(doing))?;
    } else {
        sqlx::query(
            "UPDATE job SET on_hold = (
                 SELECT min(backfill.state = 'paused') FROM backfill_job JOIN backfill ON backfill.number = backfill_job.backfill
                 WHERE backfill_job.job = job.id AND backfill.state IN ('running', 'paused'))
             WHERE state = 'queued' AND class = $2 AND id IN (SELECT job FROM backfill_job WHERE backfill = $1)",
        )
        .bind(number)
        .bind(rank(Class::Backfill))
        .execute(&mut *transaction)
        .await
        .map_err(store.fault(doing))?;
    }
    store.commit(transaction, doing).await
}

/// A backfill's name.
fn name(number: i64) -> String {
    format!("bf-{number}")
}

/// The number in a backfill's name; the number alone is taken too.
pub(super) fn number(id: &str) -> Result<i64> {
    let digits = id.strip_prefix("bf-").unwrap_or(id);
    digits.parse().map_err(|_| {
        Error::usage(format!("`{id}` is no backfill's name"))
            .hint("backfills are called bf-1, bf-2, …: `haul backfill list` shows them")
    })
}

fn read(row: &Columns<'_>) -> Result<Backfill> {
    let counted = |column: &str| Ok(row.get::<Option<i64>>(column)?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0));
    let known = |column: &str| Ok(row.get::<Option<i64>>(column)?.and_then(|n| u64::try_from(n).ok()));
    Ok(Backfill {
        id: name(row.get("number")?),
        pipeline: row.get("pipeline")?,
        from: row.get("first_date")?,
        to: row.get("end_date")?,
        ask: row.get("ask")?,
        newest_first: row.get("newest_first")?,
        planned: Planned {
            units: row.number("units")?,
            tasks: row.number("tasks")?,
            requests: known("requests")?,
            bytes: known("bytes")?,
        },
        by: row.get("asked_by")?,
        state: row.word("state")?,
        created_at: row.instant("created_at")?,
        finished_at: row.maybe_instant("finished_at")?,
        progress: Progress {
            jobs: counted("jobs")?,
            queued: counted("queued")?,
            leased: counted("leased")?,
            succeeded: counted("succeeded")?,
            open: counted("open")?,
            failed: counted("failed")?,
            cancelled: counted("cancelled")?,
            units: counted("all_units")?,
            units_done: counted("units_done")?,
            units_open: counted("units_open")?,
            units_failed: counted("units_failed")?,
            units_cancelled: counted("units_cancelled")?,
            begun_at: row.maybe_instant("begun_at")?,
            last_end: row.maybe_instant("last_end")?,
        },
    })
}
