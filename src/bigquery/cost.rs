//! What statements would cost, told by dry runs, and what jobs were billed for.

use serde::Deserialize;

use super::refused::Reason;
use super::table::whole;
use super::{BigQuery, Caller, Refused};
use crate::model::cost::{JobCost, JobKind, Price, Tariff};

/// What is wanted of a job's resource (jobs.insert with `dryRun`, jobs.get).
#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    status: Status,
    #[serde(default)]
    statistics: Statistics,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    error_result: Option<Reason>,
}

/// REST reference, "`JobStatistics`".
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statistics {
    #[serde(default, deserialize_with = "whole")]
    total_bytes_processed: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    total_slot_ms: Option<u64>,
    #[serde(default)]
    query: QueryStatistics,
    #[serde(default)]
    load: Option<serde_json::Value>,
}

/// REST reference, "`JobStatistics2`".
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueryStatistics {
    #[serde(default, deserialize_with = "whole")]
    total_bytes_processed: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    total_bytes_billed: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    total_slot_ms: Option<u64>,
    #[serde(default)]
    cache_hit: bool,
    #[serde(default)]
    referenced_tables: Vec<serde_json::Value>,
}

impl BigQuery {
    /// What its queries cost.
    pub fn tariff(&self) -> &Tariff {
        &self.inner.settings.tariff
    }

    /// What a statement would be billed for; nothing is run, and it costs nothing (jobs.insert with `dryRun`).
    ///
    /// # Errors
    /// [`super::Why::Query`] for a wrong statement, [`super::Why::NotFound`] for a table that is not there; see [`Refused`].
    pub async fn price(&self, sql: &str, caller: &Caller<'_>) -> Result<Price, Refused> {
        let job = serde_json::json!({
            "jobReference": { "projectId": self.project(), "location": self.location() },
            "configuration": { "dryRun": true, "query": { "query": sql, "useLegacySql": false, "useQueryCache": false } },
        });
        let body = self.post(caller, &[self.project(), "jobs"], &job).await?;
        let planned: Resource =
            serde_json::from_slice(&body).map_err(|error| Refused::strange("the price of a query", error))?;
        if let Some(reason) = planned.status.error_result {
            return Err(Refused::job(&reason));
        }
        let query = planned.statistics.query;
        let processed = query.total_bytes_processed.or(planned.statistics.total_bytes_processed).unwrap_or(0);
        Ok(Price::of_statement(processed, query.referenced_tables.len() as u64))
    }

    /// What a job that has ended took (jobs.get).
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn cost(&self, id: &str, location: Option<&str>, caller: &Caller<'_>) -> Result<JobCost, Refused> {
        let query: Vec<_> = location.map(|location| ("location", location.to_owned())).into_iter().collect();
        let body = self.get(caller, &[self.project(), "jobs", id], &query).await?;
        let job: Resource = serde_json::from_slice(&body)
            .map_err(|error| Refused::strange(format!("what the job {id} took"), error))?;
        let all = job.statistics;
        Ok(JobCost {
            job: id.to_owned(),
            kind: if all.load.is_some() { JobKind::Load } else { JobKind::Query },
            processed: all.query.total_bytes_processed.or(all.total_bytes_processed).unwrap_or(0),
            billed: all.query.total_bytes_billed.unwrap_or(0),
            slot_ms: all.query.total_slot_ms.or(all.total_slot_ms).unwrap_or(0),
            cache_hit: all.query.cache_hit,
            tariff: self.tariff().clone(),
        })
    }
}
