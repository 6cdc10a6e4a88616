//! What became of the occurrences of schedules, how far each schedule was looked after, and who paused a pipeline.

use std::collections::BTreeMap;

use super::State;
use super::jobs::{Columns, micros};
use super::queue::{Writing, put};
use super::sqlite::Store;
use crate::error::Result;
use crate::model::job::{Enqueued, NewJob, OccurrenceEnd, Pause};
use crate::time::Instant;

impl State {
    /// Up to when a pipeline's schedule was looked after; none for one that never was.
    pub async fn cursor(&self, pipeline: &str) -> Result<Option<Instant>> {
        let row = sqlx::query("SELECT at FROM schedule_cursor WHERE pipeline = $1")
            .bind(pipeline)
            .fetch_optional(self.store.readers())
            .await
            .map_err(self.store.fault("reading a schedule's cursor in"))?;
        row.as_ref().map(|row| Columns(row).instant("at")).transpose()
    }

    /// Up to when each schedule was looked after, by pipeline.
    pub async fn cursors(&self) -> Result<BTreeMap<String, Instant>> {
        sqlx::query("SELECT pipeline, at FROM schedule_cursor")
            .fetch_all(self.store.readers())
            .await
            .map_err(self.store.fault("reading the schedules' cursors in"))?
            .iter()
            .map(|row| Ok((Columns(row).get("pipeline")?, Columns(row).instant("at")?)))
            .collect()
    }

    /// Writes down what became of occurrences, and up to when the schedule was looked after: all of it or nothing. The cursor only
    /// goes forward: another process may be ahead.
    ///
    /// An occurrence whose end is on record keeps it: whoever comes second changes nothing. One that is `waiting` has no
    /// end yet.
    pub async fn note(&self, pipeline: &str, ends: &[OccurrenceEnd], cursor: Instant, now: Instant) -> Result<()> {
        self.note_and_enqueue(pipeline, ends, cursor, &[], now).await.map(drop)
    }

    /// The same, with the jobs that the occurrences make: both or nothing.
    ///
    /// A job for an occurrence whose end is on record already is not made again: its place in the answer is none.
    pub async fn note_and_enqueue(
        &self,
        pipeline: &str,
        ends: &[OccurrenceEnd],
        cursor: Instant,
        jobs: &[NewJob],
        now: Instant,
    ) -> Result<Vec<Option<Enqueued>>> {
        let doing = "writing occurrences to";
        let mut transaction = self.store.begin(doing).await?;
        let mut enqueued = Vec::with_capacity(jobs.len());
        let mut made: BTreeMap<Instant, i64> = BTreeMap::new();
        for job in jobs {
            if let Some(at) = job.scheduled_for
                && on_record(&self.store, &mut transaction, pipeline, at).await?
            {
                enqueued.push(None);
                continue;
            }
            let one = put(&self.store, &mut transaction, job, now).await?;
            made.extend(job.scheduled_for.map(|at| (at, one.id)));
            enqueued.push(Some(one));
        }
        for end in ends {
            let job = end.job.or_else(|| made.get(&end.at).copied());
            insert(&self.store, &mut transaction, pipeline, end, job, now).await?;
        }
        sqlx::query(
            "INSERT INTO schedule_cursor (pipeline, at, moved_at) VALUES ($1, $2, $3)
             ON CONFLICT (pipeline) DO UPDATE SET moved_at = excluded.moved_at, at = excluded.at
             WHERE schedule_cursor.at < excluded.at",
        )
        .bind(pipeline)
        .bind(micros(cursor))
        .bind(micros(now))
        .execute(&mut *transaction)
        .await
        .map_err(self.store.fault(doing))?;
        self.store.commit(transaction, doing).await?;
        Ok(enqueued)
    }

    /// What became of occurrences since an instant, newest first; with the run of its job as soon as there is one.
    pub async fn occurrences(&self, pipeline: Option<&str>, since: Instant, limit: u32) -> Result<Vec<OccurrenceEnd>> {
        self.occurrences_before(pipeline, since, None, limit).await
    }

    /// The same, but only those that are listed behind the one of an instant and a pipeline.
    pub async fn occurrences_before(
        &self,
        pipeline: Option<&str>,
        since: Instant,
        before: Option<(Instant, &str)>,
        limit: u32,
    ) -> Result<Vec<OccurrenceEnd>> {
        let which = if pipeline.is_some() { "occurrence.pipeline = $1" } else { "$1 IS NULL" };
        let behind = if before.is_some() {
            "AND occurrence.at <= $4 AND (occurrence.at < $4 OR occurrence.pipeline > $5)"
        } else {
            "AND coalesce($4, $5, '') = ''"
        };
        let statement = format!(
            "SELECT occurrence.*, coalesce(occurrence.run, job.run) AS its_run
             FROM occurrence LEFT JOIN job ON job.id = occurrence.job
             WHERE {which} AND occurrence.at >= $2 {behind} ORDER BY occurrence.at DESC, occurrence.pipeline LIMIT $3"
        );
        // Statements of our own; all values are bound.
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(pipeline)
            .bind(micros(since))
            .bind(limit)
            .bind(before.map(|(at, _)| micros(at)))
            .bind(before.map(|(_, pipeline)| pipeline))
            .fetch_all(self.store.readers())
            .await
            .map_err(self.store.fault("reading occurrences in"))?
            .iter()
            .map(|row| {
                let row = Columns(row);
                Ok(OccurrenceEnd {
                    pipeline: row.get("pipeline")?,
                    at: row.instant("at")?,
                    logical_date: row.get("logical_date")?,
                    end: row.get("end")?,
                    reason: row.get("reason")?,
                    job: row.get("job")?,
                    run: row.get("its_run")?,
                })
            })
            .collect()
    }

    /// Pauses a pipeline: its occurrences are recorded and not run, until it is resumed.
    pub async fn pause(&self, pipeline: &str, by: &str, reason: Option<&str>, now: Instant) -> Result<()> {
        let doing = "pausing a pipeline in";
        let mut transaction = self.store.begin(doing).await?;
        sqlx::query("INSERT OR REPLACE INTO pause (pipeline, by, reason, at) VALUES ($1, $2, $3, $4)")
            .bind(pipeline)
            .bind(by)
            .bind(reason)
            .bind(micros(now))
            .execute(&mut *transaction)
            .await
            .map_err(self.store.fault(doing))?;
        self.store.commit(transaction, doing).await
    }

    /// Resumes a pipeline. False: it was not paused.
    pub async fn resume(&self, pipeline: &str) -> Result<bool> {
        let doing = "resuming a pipeline in";
        let mut transaction = self.store.begin(doing).await?;
        let done = sqlx::query("DELETE FROM pause WHERE pipeline = $1")
            .bind(pipeline)
            .execute(&mut *transaction)
            .await
            .map_err(self.store.fault(doing))?;
        self.store.commit(transaction, doing).await?;
        Ok(done.rows_affected() > 0)
    }

    /// The paused pipelines.
    pub async fn paused(&self) -> Result<BTreeMap<String, Pause>> {
        sqlx::query("SELECT * FROM pause ORDER BY pipeline")
            .fetch_all(self.store.readers())
            .await
            .map_err(self.store.fault("reading the paused pipelines in"))?
            .iter()
            .map(|row| {
                let row = Columns(row);
                let pause = Pause { by: row.get("by")?, reason: row.get("reason")?, at: row.instant("at")? };
                Ok((row.get("pipeline")?, pause))
            })
            .collect()
    }
}

async fn on_record(store: &Store, transaction: &mut Writing, pipeline: &str, at: Instant) -> Result<bool> {
    let (found,): (bool,) =
        sqlx::query_as("SELECT EXISTS (SELECT 1 FROM occurrence WHERE pipeline = $1 AND at = $2 AND end <> 'waiting')")
            .bind(pipeline)
            .bind(micros(at))
            .fetch_one(&mut **transaction)
            .await
            .map_err(store.fault("reading occurrences in"))?;
    Ok(found)
}

async fn insert(
    store: &Store,
    transaction: &mut Writing,
    pipeline: &str,
    end: &OccurrenceEnd,
    job: Option<i64>,
    now: Instant,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO occurrence (pipeline, at, logical_date, end, reason, job, run, noted_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (pipeline, at) DO UPDATE
         SET end = excluded.end, reason = excluded.reason, job = excluded.job, run = excluded.run,
             noted_at = excluded.noted_at
         WHERE occurrence.end = 'waiting'",
    )
    .bind(pipeline)
    .bind(micros(end.at))
    .bind(&end.logical_date)
    .bind(&end.end)
    .bind(&end.reason)
    .bind(job)
    .bind(&end.run)
    .bind(micros(now))
    .execute(&mut **transaction)
    .await
    .map_err(store.fault("writing occurrences to"))?;
    Ok(())
}
