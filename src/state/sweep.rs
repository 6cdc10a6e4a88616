//! Removing history that is no longer wanted, a little at a time, and giving its room back.

use serde::Serialize;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, SqliteConnection};

use super::rows::instant;
use super::sqlite::Store;
use crate::error::{Error, Result};
use crate::time::Instant;

/// How many rows of a kind go in one transaction, so that nobody waits long for the file.
const BATCH: i64 = 500;

/// How many pages are given back at a time.
const PAGES: i64 = 2000;

/// What is no longer wanted.
#[derive(Debug, Clone, Copy)]
pub struct SweepRule {
    /// Runs, bills, jobs, occurrences, incidents and messages that ended before.
    pub before: Instant,
    /// All but so many of the newest pulls of each unit.
    pub pulls: u32,
}

/// How many rows were removed, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SweptRows {
    /// Runs.
    pub runs: u64,
    /// What happened in them.
    pub events: u64,
    /// Pulls.
    pub pulls: u64,
    /// Bills, and what was saved.
    pub bills: u64,
    /// Jobs, backfills and occurrences of schedules.
    pub jobs: u64,
    /// Incidents that are over, and messages.
    pub incidents: u64,
}

/// How large the file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FileSize {
    /// Its bytes.
    pub bytes: u64,
    /// Of these, the bytes that nothing uses.
    pub free: u64,
    /// Whether they can be given back piece by piece.
    pub incremental: bool,
}

/// The rows of one table that may go: a condition over `$1`, the instant as text or, of the queue, in microseconds.
struct Part {
    table: &'static str,
    row: &'static str,
    condition: &'static str,
    micros: bool,
    count: fn(&mut SweptRows) -> &mut u64,
}

/// The last run of a pipeline stays, however old it is: it is the one that its status tells of.
const OLD_RUN: &str = "finished_at < $1 AND seq NOT IN (SELECT max(seq) FROM run GROUP BY pipeline)";

/// In an order in which nothing is left that refers to what is gone.
const PARTS: &[Part] = &[
    Part {
        table: "event",
        row: "seq",
        condition: "run IN (SELECT id FROM run WHERE finished_at < $1 AND seq NOT IN (SELECT max(seq) FROM run GROUP BY pipeline))",
        micros: false,
        count: |swept| &mut swept.events,
    },
    Part { table: "run", row: "seq", condition: OLD_RUN, micros: false, count: |swept| &mut swept.runs },
    Part { table: "cost", row: "seq", condition: "at < $1", micros: false, count: |swept| &mut swept.bills },
    Part {
        table: "spared",
        row: "(run, step, unit)",
        condition: "at < $1",
        micros: false,
        count: |swept| &mut swept.bills,
    },
    Part {
        table: "incident",
        row: "id",
        condition: "closed_at < $1",
        micros: false,
        count: |swept| &mut swept.incidents,
    },
    // A message that nobody took for so long is about nothing that still matters.
    Part {
        table: "message",
        row: "id",
        condition: "queued_at < $1",
        micros: false,
        count: |swept| &mut swept.incidents,
    },
    Part {
        table: "job_note",
        row: "seq",
        condition: "job IN (SELECT id FROM job WHERE state = 'done' AND finished_at < $1)",
        micros: true,
        count: |swept| &mut swept.jobs,
    },
    Part {
        table: "backfill_job",
        row: "(backfill, job)",
        condition: "job IN (SELECT id FROM job WHERE state = 'done' AND finished_at < $1)",
        micros: true,
        count: |swept| &mut swept.jobs,
    },
    Part {
        table: "job",
        row: "id",
        condition: "state = 'done' AND finished_at < $1 AND NOT EXISTS (SELECT 1 FROM backfill_job WHERE job = id)",
        micros: true,
        count: |swept| &mut swept.jobs,
    },
    Part {
        table: "backfill",
        row: "number",
        condition: "finished_at < $1 AND NOT EXISTS (SELECT 1 FROM backfill_job WHERE backfill = number)",
        micros: true,
        count: |swept| &mut swept.jobs,
    },
    Part {
        table: "occurrence",
        row: "(pipeline, at)",
        condition: "at < $1",
        micros: true,
        count: |swept| &mut swept.jobs,
    },
];

/// Removes what is no longer wanted, or only counts it.
pub(super) async fn sweep(store: &Store, rule: SweepRule, dry_run: bool) -> Result<SweptRows> {
    let mut swept = SweptRows::default();
    for part in PARTS {
        let rows = if dry_run { count(store, part, rule).await? } else { remove(store, part, rule).await? };
        *(part.count)(&mut swept) += rows;
    }
    swept.pulls = pulls(store, rule.pulls, dry_run).await?;
    Ok(swept)
}

fn bound(part: &Part, rule: SweepRule) -> Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    let added =
        if part.micros { arguments.add(rule.before.timestamp_micros()) } else { arguments.add(instant(rule.before)) };
    added.map_err(|error| Error::internal("an instant could not be bound").because(error))?;
    Ok(arguments)
}

async fn count(store: &Store, part: &Part, rule: SweepRule) -> Result<u64> {
    let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {} WHERE {}", part.table, part.condition));
    let (rows,): (i64,) = sqlx::query_as_with(sql, bound(part, rule)?)
        .fetch_one(store.readers())
        .await
        .map_err(store.fault("counting old rows of"))?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

async fn remove(store: &Store, part: &Part, rule: SweepRule) -> Result<u64> {
    let doing = "removing old rows of";
    let Part { table, row, condition, .. } = part;
    let sql = format!(
        "DELETE FROM {table} WHERE {row} IN (SELECT {} FROM {table} WHERE {condition} LIMIT {BATCH})",
        row.trim_matches(['(', ')'])
    );
    let mut removed = 0;
    loop {
        let mut transaction = store.begin(doing).await?;
        let statement = sqlx::query_with(sqlx::AssertSqlSafe(sql.as_str()), bound(part, rule)?);
        let gone = statement.execute(&mut *transaction).await.map_err(store.fault(doing))?.rows_affected();
        store.commit(transaction, doing).await?;
        removed += gone;
        if gone < BATCH.unsigned_abs() {
            return Ok(removed);
        }
    }
}

/// All but the newest pulls of each unit; the one that its rows are from stays in any case.
async fn pulls(store: &Store, kept: u32, dry_run: bool) -> Result<u64> {
    let doing = "looking for old pulls in";
    let crowded: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT table_name, unit, count(*) FROM pull GROUP BY table_name, unit HAVING count(*) > $1")
            .bind(kept)
            .fetch_all(store.readers())
            .await
            .map_err(store.fault(doing))?;
    let mut removed = 0;
    for some in crowded.chunks(BATCH.unsigned_abs().try_into().unwrap_or(1)) {
        let mut transaction = store.begin(doing).await?;
        for (table, unit, _) in some {
            removed += pulls_of(store, &mut transaction, table, unit, kept).await?;
        }
        if !dry_run {
            store.commit(transaction, doing).await?;
        }
    }
    Ok(removed)
}

async fn pulls_of(store: &Store, connection: &mut SqliteConnection, table: &str, unit: &str, kept: u32) -> Result<u64> {
    let removed = sqlx::query(
        "DELETE FROM pull WHERE table_name = $1 AND unit = $2
           AND pull <= (SELECT pull FROM pull WHERE table_name = $1 AND unit = $2 ORDER BY pull DESC LIMIT 1 OFFSET $3)
           AND pull NOT IN (SELECT loaded_pull FROM unit WHERE table_name = $1 AND unit = $2 AND loaded_pull IS NOT NULL)",
    )
    .bind(table)
    .bind(unit)
    .bind(kept)
    .execute(connection)
    .await
    .map_err(store.fault("removing old pulls of"))?;
    Ok(removed.rows_affected())
}

/// Gives unused room back to the file system, piece by piece; `whole` rewrites a file that cannot do that yet.
pub(super) async fn vacuum(store: &Store, whole: bool) -> Result<()> {
    let doing = "giving room back from";
    let mut size = file_size(store).await?;
    if !size.incremental && whole {
        for statement in ["PRAGMA auto_vacuum = INCREMENTAL", "VACUUM"] {
            sqlx::raw_sql(statement).execute(&store.writer).await.map_err(store.fault(doing))?;
        }
    }
    while size.incremental && size.free > 0 {
        let pragma = sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({PAGES})"));
        // Each step of the statement frees one page: it has to be walked to its end.
        sqlx::query(pragma).fetch_all(&store.writer).await.map_err(store.fault(doing))?;
        let now = file_size(store).await?;
        if now.free >= size.free {
            break;
        }
        size = now;
    }
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&store.writer).await.map_err(store.fault(doing))?;
    Ok(())
}

/// How large the file is.
pub(super) async fn file_size(store: &Store) -> Result<FileSize> {
    let pragma = |name: &'static str| async move {
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA {name}"));
        let (value,): (i64,) = sqlx::query_as(sql).fetch_one(&store.writer).await.map_err(store.fault("measuring"))?;
        Ok::<u64, Error>(u64::try_from(value).unwrap_or_default())
    };
    let page = pragma("page_size").await?;
    Ok(FileSize {
        bytes: pragma("page_count").await? * page,
        free: pragma("freelist_count").await? * page,
        incremental: pragma("auto_vacuum").await? == 2,
    })
}
