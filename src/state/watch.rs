//! What a daemon looks at: whether others have written, when a lease ends, when a job may begin, where a schedule stands.

use super::State;
use super::jobs::{Columns, micros};
use crate::error::Result;
use crate::time::Instant;

impl State {
    /// A number that changes when another connection, of this process or of another, has written to the file.
    pub async fn data_version(&self) -> Result<i64> {
        let (version,): (i64,) = sqlx::query_as("PRAGMA data_version")
            .fetch_one(self.store.watcher())
            .await
            .map_err(self.store.fault("looking at"))?;
        Ok(version)
    }

    /// When the first lease of another owner than this one ends.
    pub async fn first_foreign_lease(&self, owner: &str) -> Result<Option<Instant>> {
        let row = sqlx::query("SELECT min(lease_until) AS at FROM job WHERE state = 'leased' AND owner <> $1")
            .bind(owner)
            .fetch_one(self.store.readers())
            .await
            .map_err(self.store.fault("reading leases in"))?;
        // A lease ends behind the last instant of it.
        Ok(Columns(&row).maybe_instant("at")?.map(|at| at + chrono::Duration::microseconds(1)))
    }

    /// The jobs of this owner that have to stop: somebody asked to cancel them, or they are pieces of a backfill and a fresh day
    /// of their pipeline waits. Their next beats say so.
    pub async fn called_off(&self, owner: &str, now: Instant) -> Result<Vec<i64>> {
        let found: Vec<(i64,)> = sqlx::query_as(
            "SELECT id FROM job WHERE state = 'leased' AND owner = $1 AND (cancel_asked = 1 OR class = 2 AND EXISTS (
                 SELECT 1 FROM job AS fresh
                 WHERE fresh.state = 'queued' AND fresh.on_hold = 0 AND fresh.class = 0
                   AND fresh.pipeline = job.pipeline AND fresh.not_before <= $2))",
        )
        .bind(owner)
        .bind(micros(now))
        .fetch_all(self.store.readers())
        .await
        .map_err(self.store.fault("reading the queue in"))?;
        Ok(found.into_iter().map(|(id,)| id).collect())
    }

    /// When the first of the jobs that wait for their time may begin.
    pub async fn next_job_at(&self, now: Instant) -> Result<Option<Instant>> {
        let row = sqlx::query(
            "SELECT min(not_before) AS at FROM job WHERE state = 'queued' AND on_hold = 0 AND not_before > $1",
        )
        .bind(micros(now))
        .fetch_one(self.store.readers())
        .await
        .map_err(self.store.fault("reading the queue in"))?;
        Columns(&row).maybe_instant("at")
    }

    /// Lets a schedule go on from an instant, whatever was written before; what is on record from there on is forgotten, since
    /// it has not happened yet.
    pub async fn move_cursor(&self, pipeline: &str, to: Instant, now: Instant) -> Result<()> {
        let doing = "moving a schedule in";
        let mut transaction = self.store.begin(doing).await?;
        sqlx::query("DELETE FROM occurrence WHERE pipeline = $1 AND at > $2")
            .bind(pipeline)
            .bind(micros(to))
            .execute(&mut *transaction)
            .await
            .map_err(self.store.fault(doing))?;
        sqlx::query("INSERT OR REPLACE INTO schedule_cursor (pipeline, at, moved_at) VALUES ($1, $2, $3)")
            .bind(pipeline)
            .bind(micros(to))
            .bind(micros(now))
            .execute(&mut *transaction)
            .await
            .map_err(self.store.fault(doing))?;
        self.store.commit(transaction, doing).await
    }
}
