//! The ledger in the file: units, pulls, leases.

use std::collections::HashMap;

use sqlx::{Sqlite, Transaction};

use super::rows::{Reading, count, instant, word};
use super::sqlite::Store;
use crate::error::{Error, Result};
use crate::model::ledger::{Lease, PullRecord, UnitRecord};
use crate::model::name::TableName;
use crate::model::run::Trigger;
use crate::time::{Instant, UnitKey};

/// The units of these tables.
pub(super) async fn units(store: &Store, tables: &[TableName]) -> Result<Vec<UnitRecord>> {
    units_in(store, store.readers(), tables).await
}

pub(super) async fn units_in<'e>(
    store: &Store,
    executor: impl sqlx::Executor<'e, Database = Sqlite>,
    tables: &[TableName],
) -> Result<Vec<UnitRecord>> {
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    sqlx::query("SELECT * FROM unit WHERE table_name IN (SELECT value FROM json_each($1)) ORDER BY table_name, unit")
        .bind(serde_json::json!(names).to_string())
        .fetch_all(executor)
        .await
        .map_err(store.fault("reading the ledger in"))?
        .iter()
        .map(|row| Reading(row).record())
        .collect()
}

/// The last units of these tables, and all that are not simply loaded.
pub(super) async fn recent(store: &Store, tables: &[TableName], last: u32) -> Result<Vec<UnitRecord>> {
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let mut records = odd(store, tables).await?;
    let rows = sqlx::query(
        "WITH wanted AS MATERIALIZED (
             SELECT value AS name, (SELECT unit FROM unit WHERE table_name = value ORDER BY unit DESC LIMIT 1 OFFSET $2 - 1) AS first
             FROM json_each($1))
         SELECT unit.* FROM wanted CROSS JOIN unit ON unit.table_name = wanted.name AND unit.unit >= coalesce(wanted.first, '')",
    )
    .bind(serde_json::json!(names).to_string())
    .bind(last.max(1))
    .fetch_all(store.readers())
    .await
    .map_err(store.fault("reading the ledger in"))?;
    for row in &rows {
        records.push(Reading(row).record()?);
    }
    Ok(records)
}

/// All units of these tables that are not simply loaded.
pub(super) async fn odd(store: &Store, tables: &[TableName]) -> Result<Vec<UnitRecord>> {
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    sqlx::query(
        "SELECT * FROM unit WHERE (state <> 'loaded' OR reason IS NOT NULL) AND table_name IN (SELECT value FROM json_each($1))",
    )
    .bind(serde_json::json!(names).to_string())
    .fetch_all(store.readers())
    .await
    .map_err(store.fault("reading the ledger in"))?
    .iter()
    .map(|row| Reading(row).record())
    .collect()
}

/// These units of these tables, as far as they are known.
pub(super) async fn units_at(
    store: &Store,
    connection: &mut sqlx::SqliteConnection,
    wanted: &[(TableName, UnitKey)],
) -> Result<HashMap<(TableName, UnitKey), UnitRecord>> {
    let mut found = HashMap::with_capacity(wanted.len());
    for (table, unit) in wanted {
        let row = sqlx::query("SELECT * FROM unit WHERE table_name = $1 AND unit = $2")
            .bind(table.to_string())
            .bind(unit.as_str())
            .fetch_optional(&mut *connection)
            .await
            .map_err(store.fault("reading the ledger in"))?;
        if let Some(row) = row {
            found.insert((table.clone(), unit.clone()), Reading(&row).record()?);
        }
    }
    Ok(found)
}

/// The tables that have units.
pub(super) async fn tables(store: &Store) -> Result<Vec<TableName>> {
    // From one name to the next: a table may have many units.
    let statement = "WITH RECURSIVE known (name) AS (
                         SELECT min(table_name) FROM unit
                         UNION ALL SELECT (SELECT min(table_name) FROM unit WHERE table_name > known.name) FROM known
                         WHERE known.name IS NOT NULL)
                     SELECT name FROM known WHERE name IS NOT NULL ORDER BY name";
    let names: Vec<(String,)> =
        sqlx::query_as(statement).fetch_all(store.readers()).await.map_err(store.fault("reading the ledger in"))?;
    Ok(names.iter().map(|(name,)| TableName::stored(name)).collect())
}

/// Claims units.
pub(super) async fn lease(
    store: &Store,
    table: &TableName,
    units: &[UnitKey],
    owner: &str,
    now: Instant,
) -> Result<Vec<Lease>> {
    let doing = "claiming units in";
    let (table, now) = (table.to_string(), instant(now));
    let mut transaction = store.begin(doing).await?;
    let mut leases = Vec::with_capacity(units.len());
    for unit in units {
        let (generation, pull): (i64, i64) = sqlx::query_as(
            "INSERT INTO lease (table_name, unit, generation, owner, leased_at) VALUES ($1, $2, 1, $3, $4)
             ON CONFLICT (table_name, unit) DO UPDATE
             SET generation = generation + 1, owner = excluded.owner, leased_at = excluded.leased_at
             RETURNING generation, 1 + max(
                 coalesce((SELECT max(pull) FROM pull WHERE table_name = $1 AND unit = $2), 0),
                 coalesce((SELECT last_pull FROM unit WHERE table_name = $1 AND unit = $2), 0))",
        )
        .bind(&table)
        .bind(unit.as_str())
        .bind(owner)
        .bind(&now)
        .fetch_one(&mut *transaction)
        .await
        .map_err(store.fault(doing))?;
        let number =
            |number| u64::try_from(number).map_err(|error| Error::internal("a negative counter").because(error));
        leases.push(Lease { generation: number(generation)?, pull: number(pull)? });
    }
    store.commit(transaction, doing).await?;
    Ok(leases)
}

/// Records pulls and units.
pub(super) async fn record(store: &Store, pulls: &[PullRecord], units: &[UnitRecord]) -> Result<()> {
    let doing = "recording pulls in";
    let mut transaction = store.begin(doing).await?;
    for pull in pulls {
        put_pull(store, &mut transaction, pull).await?;
    }
    for unit in units {
        put_unit(store, &mut transaction, unit).await?;
    }
    store.commit(transaction, doing).await
}

/// Adds a pull; one that repair had found before gets its true story.
async fn put_pull(store: &Store, transaction: &mut Transaction<'static, Sqlite>, pull: &PullRecord) -> Result<()> {
    sqlx::query(
        "INSERT OR REPLACE INTO pull (table_name, unit, pull, run, outcome, row_count, fingerprint, added, removed,
                                      changed, age, requests, bytes, started_at, finished_at, reason)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .bind(pull.table.to_string())
    .bind(pull.unit.as_str())
    .bind(count(pull.pull))
    .bind(&pull.run)
    .bind(pull.outcome.name())
    .bind(count(pull.rows))
    .bind(pull.fingerprint.map(|fingerprint| fingerprint.to_string()))
    .bind(pull.changes.map(|changes| count(changes.added)))
    .bind(pull.changes.map(|changes| count(changes.removed)))
    .bind(pull.changes.map(|changes| count(changes.changed)))
    .bind(pull.age)
    .bind(count(pull.requests))
    .bind(count(pull.bytes))
    .bind(instant(pull.started_at))
    .bind(instant(pull.finished_at))
    .bind(&pull.reason)
    .execute(&mut **transaction)
    .await
    .map_err(store.fault("recording pulls in"))?;
    Ok(())
}

/// Adds a pull unless it is recorded already.
pub(super) async fn add_pull(
    store: &Store,
    transaction: &mut Transaction<'static, Sqlite>,
    pull: &PullRecord,
) -> Result<()> {
    let known: Option<(i64,)> = sqlx::query_as(
        "SELECT pull FROM pull WHERE table_name = $1 AND unit = $2 AND pull = $3 AND outcome <> 'failed'",
    )
    .bind(pull.table.to_string())
    .bind(pull.unit.as_str())
    .bind(count(pull.pull))
    .fetch_optional(&mut **transaction)
    .await
    .map_err(store.fault("recording pulls in"))?;
    if known.is_some() { Ok(()) } else { put_pull(store, transaction, pull).await }
}

/// Writes how a unit stands, unless a later pull has been recorded meanwhile.
pub(super) async fn put_unit(
    store: &Store,
    transaction: &mut Transaction<'static, Sqlite>,
    unit: &UnitRecord,
) -> Result<()> {
    let loaded = unit.loaded.as_ref();
    sqlx::query(
        "INSERT INTO unit (table_name, unit, state, last_pull, pulled_at, unchanged_pulls, reason, held_stage,
                           loaded_pull, loaded_generation, loaded_rows, loaded_fingerprint, loaded_inputs, loaded_at,
                           probe, backfilled)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
         ON CONFLICT (table_name, unit) DO UPDATE
         SET state = excluded.state, last_pull = excluded.last_pull, pulled_at = excluded.pulled_at,
             unchanged_pulls = excluded.unchanged_pulls, reason = excluded.reason, held_stage = excluded.held_stage,
             loaded_pull = excluded.loaded_pull, loaded_generation = excluded.loaded_generation,
             loaded_rows = excluded.loaded_rows, loaded_fingerprint = excluded.loaded_fingerprint,
             loaded_inputs = excluded.loaded_inputs, loaded_at = excluded.loaded_at, probe = excluded.probe,
             backfilled = excluded.backfilled
         WHERE excluded.last_pull >= unit.last_pull",
    )
    .bind(unit.table.to_string())
    .bind(unit.unit.as_str())
    .bind(unit.state.name())
    .bind(count(unit.last_pull))
    .bind(instant(unit.pulled_at))
    .bind(i64::from(unit.unchanged_pulls))
    .bind(&unit.reason)
    .bind(&unit.held_stage)
    .bind(loaded.map(|loaded| count(loaded.pull)))
    .bind(loaded.map(|loaded| count(loaded.generation)))
    .bind(loaded.map(|loaded| count(loaded.rows)))
    .bind(loaded.map(|loaded| loaded.fingerprint.to_string()))
    .bind(loaded.and_then(|loaded| loaded.inputs.clone()))
    .bind(loaded.map(|loaded| instant(loaded.loaded_at)))
    .bind(&unit.probe)
    .bind(unit.backfilled)
    .execute(&mut **transaction)
    .await
    .map_err(store.fault("recording units in"))?;
    Ok(())
}

/// Who made a unit's last claim, and when, if it was the one of this generation.
pub(super) async fn claimant(
    store: &Store,
    transaction: &mut Transaction<'static, Sqlite>,
    unit: &UnitRecord,
    generation: u64,
) -> Result<Option<(String, Instant)>> {
    sqlx::query("SELECT owner, leased_at FROM lease WHERE table_name = $1 AND unit = $2 AND generation = $3")
        .bind(unit.table.to_string())
        .bind(unit.unit.as_str())
        .bind(count(generation))
        .fetch_optional(&mut **transaction)
        .await
        .map_err(store.fault("reading a lease in"))?
        .map(|row| Reading(&row).claimant())
        .transpose()
}

/// Whether a run is one of a backfill; not, where it is not known.
pub(super) async fn is_backfill(
    store: &Store,
    transaction: &mut Transaction<'static, Sqlite>,
    run: &str,
) -> Result<bool> {
    let found: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM run WHERE id = $1 AND asked_by = $2")
        .bind(run)
        .bind(word(Trigger::Backfill))
        .fetch_optional(&mut **transaction)
        .await
        .map_err(store.fault("reading a run in"))?;
    Ok(found.is_some())
}

/// Lifts a unit's generation to what the warehouse has; the next claim's is greater.
pub(super) async fn raise_generation(
    store: &Store,
    transaction: &mut Transaction<'static, Sqlite>,
    unit: &UnitRecord,
    now: Instant,
) -> Result<()> {
    let generation = unit.loaded.as_ref().map_or(0, |loaded| loaded.generation);
    sqlx::query(
        "INSERT INTO lease (table_name, unit, generation, owner, leased_at) VALUES ($1, $2, $3, 'repair', $4)
         ON CONFLICT (table_name, unit) DO UPDATE SET generation = max(generation, excluded.generation)",
    )
    .bind(unit.table.to_string())
    .bind(unit.unit.as_str())
    .bind(count(generation))
    .bind(instant(now))
    .execute(&mut **transaction)
    .await
    .map_err(store.fault("raising a lease in"))?;
    Ok(())
}

/// The pulls of a table or of a unit.
pub(super) async fn pulls(store: &Store, table: &TableName, unit: Option<&UnitKey>) -> Result<Vec<PullRecord>> {
    sqlx::query("SELECT * FROM pull WHERE table_name = $1 AND ($2 IS NULL OR unit = $2) ORDER BY unit, pull")
        .bind(table.to_string())
        .bind(unit.map(UnitKey::as_str))
        .fetch_all(store.readers())
        .await
        .map_err(store.fault("reading pulls in"))?
        .iter()
        .map(|row| Reading(row).pull())
        .collect()
}
