//! The slots of pools: shared by all processes of the store, leased like jobs, and given to those first who came first.

use std::collections::BTreeSet;

use chrono::Duration;

use super::State;
use super::jobs::{Columns, micros};
use super::queue::Writing;
use crate::error::Result;
use crate::model::job::HeldSlot;
use crate::time::Instant;

/// A ticket that is not renewed for so long has lost its place.
const PATIENCE: Duration = Duration::seconds(5);

impl State {
    /// Takes a slot in each of these pools, given with their sizes, or none at all: false where one of them is full, or has no
    /// more room than for those who have waited longer.
    ///
    /// Who has to wait gets a ticket, and keeps its place as long as it asks again every few seconds. The holder's name begins with
    /// its run: slots and tickets of a run whose process died count nothing at once, others when their lease ends. Who holds the
    /// slots already keeps them until then.
    pub async fn try_slots(&self, pools: &[(&str, u32)], holder: &str, now: Instant, until: Instant) -> Result<bool> {
        let doing = "taking slots of pools in";
        let mut transaction = self.store.begin(doing).await?;
        // What seems to last longer than it was taken for was taken before the clock was put back.
        for statement in [
            "DELETE FROM slot WHERE until < $1 OR until > $1 + leased_for",
            "DELETE FROM slot_ticket WHERE until < $1 OR until > $1 + leased_for",
        ] {
            sqlx::query(statement)
                .bind(micros(now))
                .execute(&mut *transaction)
                .await
                .map_err(self.store.fault(doing))?;
        }
        let mut full = Vec::new();
        for (pool, size) in pools {
            let taken = self.taken(&mut transaction, pool, *size, holder).await?;
            let before = self.before(&mut transaction, pool, holder).await?;
            if taken + before >= *size {
                full.push(*pool);
            }
        }
        if full.is_empty() {
            for (pool, _) in pools {
                self.take(&mut transaction, pool, holder, (now, until)).await?;
            }
        } else {
            self.wait(&mut transaction, &full, holder, now).await?;
        }
        self.store.commit(transaction, doing).await?;
        Ok(full.is_empty())
    }

    /// How many slots of a pool others hold; those of the dead are given back where that matters.
    async fn taken(&self, transaction: &mut Writing, pool: &str, size: u32, holder: &str) -> Result<u32> {
        let doing = "taking slots of pools in";
        let holders: Vec<(String,)> = sqlx::query_as("SELECT holder FROM slot WHERE pool = $1 AND holder <> $2")
            .bind(pool)
            .bind(holder)
            .fetch_all(&mut **transaction)
            .await
            .map_err(self.store.fault(doing))?;
        let mut taken = u32::try_from(holders.len()).unwrap_or(u32::MAX);
        if taken >= size {
            for (dead,) in holders.iter().filter(|(holder,)| !self.store.liveness.lives(run_of(holder))) {
                sqlx::query("DELETE FROM slot WHERE pool = $1 AND holder = $2")
                    .bind(pool)
                    .bind(dead)
                    .execute(&mut **transaction)
                    .await
                    .map_err(self.store.fault(doing))?;
                taken -= 1;
            }
        }
        Ok(taken)
    }

    /// How many other runs have waited longer for a slot of a pool than the holder's own run.
    ///
    /// The numbers of tickets are in one order for all pools, so that two who need the same pools never wait for each other.
    async fn before(&self, transaction: &mut Writing, pool: &str, holder: &str) -> Result<u32> {
        let tickets: Vec<(String, i64)> =
            sqlx::query_as("SELECT holder, number FROM slot_ticket WHERE pool = $1 ORDER BY number")
                .bind(pool)
                .fetch_all(&mut **transaction)
                .await
                .map_err(self.store.fault("taking slots of pools in"))?;
        let own = run_of(holder);
        let waiting = tickets.iter().map(|(holder, _)| run_of(holder)).take_while(|run| *run != own);
        let runs: BTreeSet<&str> = waiting.filter(|run| self.store.liveness.lives(run)).collect();
        Ok(u32::try_from(runs.len()).unwrap_or(u32::MAX))
    }

    async fn take(
        &self,
        transaction: &mut Writing,
        pool: &str,
        holder: &str,
        (now, until): (Instant, Instant),
    ) -> Result<()> {
        let doing = "taking slots of pools in";
        sqlx::query("INSERT OR REPLACE INTO slot (pool, holder, until, leased_for) VALUES ($1, $2, $3, $3 - $4)")
            .bind(pool)
            .bind(holder)
            .bind(micros(until))
            .bind(micros(now))
            .execute(&mut **transaction)
            .await
            .map_err(self.store.fault(doing))?;
        sqlx::query("DELETE FROM slot_ticket WHERE holder = $1")
            .bind(holder)
            .execute(&mut **transaction)
            .await
            .map_err(self.store.fault(doing))?;
        Ok(())
    }

    /// Writes down that somebody waits, behind those who came before; who waits already keeps the place.
    async fn wait(&self, transaction: &mut Writing, full: &[&str], holder: &str, now: Instant) -> Result<()> {
        let doing = "waiting for slots of pools in";
        let until = micros(now + PATIENCE);
        sqlx::query("UPDATE slot_ticket SET until = $2, leased_for = $2 - $3 WHERE holder = $1")
            .bind(holder)
            .bind(until)
            .bind(micros(now))
            .execute(&mut **transaction)
            .await
            .map_err(self.store.fault(doing))?;
        for pool in full {
            sqlx::query(
                "INSERT OR IGNORE INTO slot_ticket (pool, holder, number, until, leased_for)
                 VALUES ($1, $2, coalesce((SELECT min(number) FROM slot_ticket WHERE holder = $2),
                                          (SELECT max(number) FROM slot_ticket), 0) + NOT EXISTS
                                 (SELECT 1 FROM slot_ticket WHERE holder = $2), $3, $3 - $4)",
            )
            .bind(pool)
            .bind(holder)
            .bind(until)
            .bind(micros(now))
            .execute(&mut **transaction)
            .await
            .map_err(self.store.fault(doing))?;
        }
        Ok(())
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
