//! What a job read, what is billed for it, and what a statement would read: told before anything is run.

use serde::Deserialize;

use super::job::Query;
use super::refused::Reason;
use super::table::whole;
use super::{BigQuery, Caller, Refused, Schema, TableId};

/// What a finished job took; loads and copies are billed nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobCost {
    /// The job's name.
    pub job: String,
    /// Bytes that are billed; each table of a statement counts 10 MB at least.
    pub billed_bytes: u64,
    /// Bytes that were read.
    pub processed_bytes: u64,
    /// Milliseconds of slots.
    pub slot_ms: u64,
    /// Whether the result was there already.
    pub cached: bool,
}

/// What a statement would do, found by planning it; nothing was run, and it cost nothing.
#[derive(Debug, Clone, Default)]
pub struct DryRun {
    /// Bytes that it would read; an upper bound for clustered tables.
    pub bytes: u64,
    /// `SELECT`, `INSERT`, `MERGE`, `CREATE_TABLE_AS_SELECT`, `SCRIPT`, …; empty where the service does not say.
    pub statement_type: String,
    /// The tables that it reads.
    pub tables: Vec<TableId>,
    /// The columns of its result.
    pub schema: Schema,
}

/// The statistics of a job (REST reference, "JobStatistics").
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Statistics {
    #[serde(default, deserialize_with = "whole")]
    total_bytes_processed: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    total_slot_ms: Option<u64>,
    #[serde(default)]
    pub query: QueryStatistics,
    #[serde(default)]
    pub load: LoadStatistics,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueryStatistics {
    #[serde(default, deserialize_with = "whole")]
    total_bytes_billed: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    total_bytes_processed: Option<u64>,
    #[serde(default)]
    cache_hit: bool,
    #[serde(default)]
    statement_type: String,
    #[serde(default)]
    referenced_tables: Vec<Referenced>,
    #[serde(default)]
    pub schema: Schema,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoadStatistics {
    /// The rows that a load job wrote.
    #[serde(default, deserialize_with = "whole")]
    pub output_rows: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
struct Referenced {
    project_id: String,
    dataset_id: String,
    table_id: String,
}

/// What is wanted of a job that is only planned.
#[derive(Deserialize)]
struct Planned {
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

impl Statistics {
    /// What the job of this name took.
    pub fn cost(&self, job: &str) -> JobCost {
        JobCost {
            job: job.to_owned(),
            billed_bytes: self.query.total_bytes_billed.unwrap_or(0),
            processed_bytes: self.query.total_bytes_processed.or(self.total_bytes_processed).unwrap_or(0),
            slot_ms: self.total_slot_ms.unwrap_or(0),
            cached: self.query.cache_hit,
        }
    }
}

impl BigQuery {
    /// What a statement would read and what its result would look like (jobs.insert with `dryRun`).
    ///
    /// # Errors
    /// [`super::Why::Query`] for a wrong statement; see [`Refused`].
    pub async fn dry_run(&self, sql: &str, caller: &Caller<'_>) -> Result<DryRun, Refused> {
        // The client's model of a job knows no columns of newer types.
        let job = serde_json::json!({
            "jobReference": { "projectId": self.project(), "location": self.location() },
            "configuration": { "dryRun": true, "query": { "query": sql, "useLegacySql": false } },
        });
        let body = self.post(caller, &[self.project(), "jobs"], &job).await?;
        let planned: Planned =
            serde_json::from_slice(&body).map_err(|error| Refused::strange("the plan of a query", error))?;
        if let Some(reason) = planned.status.error_result {
            return Err(Refused::job(&reason));
        }
        let Statistics { query, total_bytes_processed, .. } = planned.statistics;
        let table = |one: Referenced| TableId { project: one.project_id, dataset: one.dataset_id, table: one.table_id };
        Ok(DryRun {
            bytes: query.total_bytes_processed.or(total_bytes_processed).unwrap_or(0),
            statement_type: query.statement_type,
            tables: query.referenced_tables.into_iter().map(table).collect(),
            schema: query.schema,
        })
    }

    /// The columns that a statement's result would have; nothing is run, and it costs nothing.
    ///
    /// # Errors
    /// [`super::Why::Query`] for a wrong statement; see [`Refused`].
    pub async fn plan(&self, query: &Query, caller: &Caller<'_>) -> Result<Schema, Refused> {
        Ok(self.dry_run(&query.sql, caller).await?.schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read_from_texts_and_loads_are_free() {
        let statistics: Statistics = serde_json::from_value(serde_json::json!({
            "totalBytesProcessed": "7", "totalSlotMs": "12",
            "query": { "totalBytesBilled": "10485760", "totalBytesProcessed": "7", "cacheHit": false },
        }))
        .expect("statistics");
        let cost = statistics.cost("a");
        assert_eq!((cost.billed_bytes, cost.processed_bytes, cost.slot_ms, cost.cached), (10_485_760, 7, 12, false));
        let load: Statistics =
            serde_json::from_value(serde_json::json!({ "load": { "outputRows": "3" } })).expect("statistics");
        assert_eq!((load.cost("b").billed_bytes, load.load.output_rows), (0, Some(3)));
    }
}
