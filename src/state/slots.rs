//! The slots of pools: shared by all processes of the store, leased like jobs.

use super::State;
use super::jobs::{Columns, micros};
use crate::error::Result;
use crate::model::job::HeldSlot;
use crate::time::Instant;

impl State {
    /// Takes a slot in each of these pools, given with their sizes, or none at all: false where one of them is full.
    ///
    /// The holder's name begins with its run: the slots of a run whose process died are free at once, others when their
    /// lease ends. Who holds the slots already keeps them until then.
    pub async fn try_slots(&self, pools: &[(&str, u32)], holder: &str, now: Instant, until: Instant) -> Result<bool> {
        let doing = "taking slots of pools in";
        let mut transaction = self.store.begin(doing).await?;
        let (now, until) = (micros(now), micros(until));
        // What seems to last longer than it was taken for was taken before the clock was put back.
        sqlx::query("DELETE FROM slot WHERE until < $1 OR until > $1 + leased_for")
            .bind(now)
            .execute(&mut *transaction)
            .await
            .map_err(self.store.fault(doing))?;
        for (pool, size) in pools {
            let holders: Vec<(String,)> = sqlx::query_as("SELECT holder FROM slot WHERE pool = $1 AND holder <> $2")
                .bind(pool)
                .bind(holder)
                .fetch_all(&mut *transaction)
                .await
                .map_err(self.store.fault(doing))?;
            let mut taken = u32::try_from(holders.len()).unwrap_or(u32::MAX);
            if taken >= *size {
                for (dead,) in holders.iter().filter(|(holder,)| !self.store.liveness.lives(run_of(holder))) {
                    sqlx::query("DELETE FROM slot WHERE pool = $1 AND holder = $2")
                        .bind(pool)
                        .bind(dead)
                        .execute(&mut *transaction)
                        .await
                        .map_err(self.store.fault(doing))?;
                    taken -= 1;
                }
            }
            if taken >= *size {
                // The slots taken so far are given back with the transaction.
                return Ok(false);
            }
            sqlx::query("INSERT OR REPLACE INTO slot (pool, holder, until, leased_for) VALUES ($1, $2, $3, $3 - $4)")
                .bind(pool)
                .bind(holder)
                .bind(until)
                .bind(now)
                .execute(&mut *transaction)
                .await
                .map_err(self.store.fault(doing))?;
        }
        self.store.commit(transaction, doing).await?;
        Ok(true)
    }

    /// Prolongs the leases of all slots of a run. Returns how many it has.
    pub async fn keep_slots(&self, run: &str, now: Instant, until: Instant) -> Result<u64> {
        let doing = "keeping slots of pools in";
        let mut transaction = self.store.begin(doing).await?;
        let done =
            sqlx::query("UPDATE slot SET until = $2, leased_for = $2 - $3 WHERE holder = $1 OR holder LIKE $1 || ' %'")
                .bind(run)
                .bind(micros(until))
                .bind(micros(now))
                .execute(&mut *transaction)
                .await
                .map_err(self.store.fault(doing))?;
        self.store.commit(transaction, doing).await?;
        Ok(done.rows_affected())
    }

    /// Gives back all slots of a holder.
    pub async fn free_slots(&self, holder: &str) -> Result<()> {
        let doing = "giving back slots of pools in";
        let mut transaction = self.store.begin(doing).await?;
        sqlx::query("DELETE FROM slot WHERE holder = $1")
            .bind(holder)
            .execute(&mut *transaction)
            .await
            .map_err(self.store.fault(doing))?;
        self.store.commit(transaction, doing).await
    }

    /// Who holds slots now.
    pub async fn slots(&self, now: Instant) -> Result<Vec<HeldSlot>> {
        sqlx::query("SELECT * FROM slot WHERE until >= $1 ORDER BY pool, holder")
            .bind(micros(now))
            .fetch_all(self.store.readers())
            .await
            .map_err(self.store.fault("reading the slots of pools in"))?
            .iter()
            .map(|row| {
                let row = Columns(row);
                Ok(HeldSlot { pool: row.get("pool")?, holder: row.get("holder")?, until: row.instant("until")? })
            })
            .collect()
    }
}

/// The run in a holder's name.
fn run_of(holder: &str) -> &str {
    holder.split(' ').next().unwrap_or(holder)
}
