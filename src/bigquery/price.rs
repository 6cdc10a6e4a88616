//! Prices in the words of this project: what a statement would be billed for, and what a job was.

use super::{BigQuery, Caller, Refused};
use crate::error::{Error, Kind};
use crate::model::cost::{JobCost, JobKind, Price, Tariff};

impl BigQuery {
    /// What its queries cost.
    pub fn tariff(&self) -> &Tariff {
        &self.inner.settings.tariff
    }

    /// What a statement would be billed for; nothing is run, and it costs nothing.
    ///
    /// # Errors
    /// [`super::Why::Query`] for a wrong statement, [`super::Why::NotFound`] for a table that is not there; see [`Refused`].
    pub async fn price(&self, sql: &str, caller: &Caller<'_>) -> Result<Price, Refused> {
        let told = self.dry_run(sql, caller).await?;
        Ok(Price::of_statement(told.bytes, told.tables.len() as u64))
    }

    /// What a job that has ended took.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn bill(
        &self,
        id: &str,
        location: Option<&str>,
        kind: JobKind,
        caller: &Caller<'_>,
    ) -> Result<JobCost, Refused> {
        let job = self.job(id, location, caller).await?;
        let job = job.ok_or_else(|| Error::new(Kind::Source, format!("the job {id} is not there any more")))?;
        Ok(self.bill_of(job.cost, kind))
    }

    /// Tells the caller what a statement was billed for, where he wants to know; one whose answer does not say it is asked for.
    pub(super) async fn tell_bill(&self, id: &str, location: Option<&str>, told: Option<JobCost>, caller: &Caller<'_>) {
        if !caller.receipts.wanted() {
            return;
        }
        match told {
            Some(cost) => caller.receipts.add(cost),
            None => match self.bill(id, location, JobKind::Query, caller).await {
                Ok(cost) => caller.receipts.add(cost),
                Err(refused) => caller.receipts.miss(id, &refused.error.chain()),
            },
        }
    }

    /// What a job took, as what is written down.
    pub fn bill_of(&self, cost: super::JobCost, kind: JobKind) -> JobCost {
        JobCost {
            job: cost.job,
            kind,
            processed: cost.processed_bytes,
            billed: cost.billed_bytes,
            slot_ms: cost.slot_ms,
            cache_hit: cost.cached,
            tariff: self.tariff().clone(),
        }
    }
}
