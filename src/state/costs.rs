//! Costs in the file: what jobs were billed for, what was spared, and both put together.

use std::collections::BTreeMap;

use sqlx::Row;

use super::rows::{count, instant, word};
use super::sqlite::Store;
use crate::error::{Error, Kind, Result};
use crate::model::cost::{Account, CostLine, CostsAsk, CostsBy, JobCost, Money};
use crate::time::UnitKey;

/// Writes down what a job was billed for; the same job again is the same bill.
pub(super) async fn bill(store: &Store, account: &Account, cost: &JobCost) -> Result<()> {
    let doing = "writing a bill to";
    let mut transaction = store.begin(doing).await?;
    let money = cost.tariff.of(cost.billed);
    sqlx::query(
        "INSERT OR IGNORE INTO cost (job, run, pipeline, step, table_name, unit, units, kind, processed, billed, slot_ms,
                                     cache_hit, micros, currency, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(&cost.job)
    .bind(&account.run)
    .bind(&account.pipeline)
    .bind(&account.step)
    .bind(account.table.to_string())
    .bind(first(account))
    .bind(units(account))
    .bind(word(cost.kind))
    .bind(count(cost.processed))
    .bind(count(cost.billed))
    .bind(count(cost.slot_ms))
    .bind(cost.cache_hit)
    .bind(count(money.micros))
    .bind(&money.currency)
    .bind(instant(account.at))
    .execute(&mut *transaction)
    .await
    .map_err(store.fault(doing))?;
    store.commit(transaction, doing).await
}

/// Writes down that units were not read or computed again, with what they were billed for when they last were.
///
/// What was never billed for anything saves nothing, and is not written down.
pub(super) async fn spare(store: &Store, account: &Account, reason: &str) -> Result<()> {
    let Some((billed, money)) = last_paid(store, account).await? else { return Ok(()) };
    let doing = "writing what was saved to";
    let mut transaction = store.begin(doing).await?;
    sqlx::query(
        "INSERT OR IGNORE INTO spared (run, step, unit, pipeline, table_name, units, unit_count, reason, billed, micros,
                                       currency, at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&account.run)
    .bind(&account.step)
    .bind(first(account))
    .bind(&account.pipeline)
    .bind(account.table.to_string())
    .bind(units(account))
    .bind(count(account.units.len() as u64))
    .bind(reason)
    .bind(billed)
    .bind(count(money.micros))
    .bind(&money.currency)
    .bind(instant(account.at))
    .execute(&mut *transaction)
    .await
    .map_err(store.fault(doing))?;
    store.commit(transaction, doing).await
}

/// What the last run that read or computed these units was billed for them; of a window's, whichever window it was.
async fn last_paid(store: &Store, account: &Account) -> Result<Option<(i64, Money)>> {
    let row = sqlx::query(
        "WITH last AS (
             SELECT run, unit FROM cost
             WHERE table_name = $1 AND step = $2 AND kind = 'query' AND billed > 0
               AND (unit = $3 AND json_array_length(units) = $4 OR $4 > 1 AND json_array_length(units) > 1)
             ORDER BY unit = $3 DESC, seq DESC LIMIT 1)
         SELECT sum(billed) AS billed, sum(micros) AS micros, max(currency) AS currency
         FROM cost JOIN last USING (run, unit)
         WHERE table_name = $1 AND step = $2 AND kind = 'query' HAVING count(*) > 0",
    )
    .bind(account.table.to_string())
    .bind(&account.step)
    .bind(first(account))
    .bind(count(account.units.len() as u64))
    .fetch_optional(store.readers())
    .await
    .map_err(store.fault("reading bills in"))?;
    let Some(row) = row else { return Ok(None) };
    let money = Money { micros: number(&row, "micros")?, currency: text(&row, "currency")? };
    Ok(Some((count(number(&row, "billed")?), money)))
}

/// What was billed and what was saved, one line of each pipeline, table, day or step.
pub(super) async fn lines(store: &Store, ask: &CostsAsk) -> Result<Vec<CostLine>> {
    let key = match ask.by {
        CostsBy::Pipeline => "pipeline",
        CostsBy::Table => "table_name",
        CostsBy::Day => "substr(at, 1, 10)",
        CostsBy::Step => "pipeline || '.' || step",
    };
    let mut lines: BTreeMap<String, CostLine> = BTreeMap::new();
    let billed = format!(
        "SELECT {key} AS name, currency, sum(processed) AS processed, sum(billed) AS billed, sum(micros) AS micros,
                sum(slot_ms) AS slot_ms, sum(kind <> 'load') AS jobs, sum(kind = 'load') AS free_jobs,
                sum(cache_hit) AS cache_hits
         FROM cost WHERE at >= $1 AND ($2 IS NULL OR pipeline = $2) GROUP BY name, currency ORDER BY name"
    );
    for row in fetch(store, billed, ask).await? {
        let mut part = CostLine {
            processed_bytes: number(&row, "processed")?,
            billed_bytes: number(&row, "billed")?,
            jobs: number(&row, "jobs")?,
            cache_hits: number(&row, "cache_hits")?,
            slot_ms: number(&row, "slot_ms")?,
            free_jobs: number(&row, "free_jobs")?,
            ..CostLine::default()
        };
        if part.jobs > 0 {
            part.money.add(&Money { micros: number(&row, "micros")?, currency: text(&row, "currency")? });
        }
        let name = text(&row, "name")?;
        lines.entry(name.clone()).or_insert_with(|| CostLine { name, ..CostLine::default() }).add(&part);
    }
    let spared = format!(
        "SELECT {key} AS name, currency, sum(unit_count) AS units, sum(billed) AS billed, sum(micros) AS micros
         FROM spared WHERE at >= $1 AND ($2 IS NULL OR pipeline = $2) GROUP BY name, currency ORDER BY name"
    );
    for row in fetch(store, spared, ask).await? {
        let mut part = CostLine {
            spared_units: number(&row, "units")?,
            saved_bytes: number(&row, "billed")?,
            ..CostLine::default()
        };
        part.saved_money.add(&Money { micros: number(&row, "micros")?, currency: text(&row, "currency")? });
        let name = text(&row, "name")?;
        lines.entry(name.clone()).or_insert_with(|| CostLine { name, ..CostLine::default() }).add(&part);
    }
    Ok(lines.into_values().collect())
}

/// What one run was billed for, and what it saved.
pub(super) async fn of_run(store: &Store, run: &str) -> Result<CostLine> {
    let mut line = CostLine { name: run.to_owned(), ..CostLine::default() };
    let doing = "reading bills in";
    let rows = sqlx::query(
        "SELECT currency, sum(processed) AS processed, sum(billed) AS billed, sum(micros) AS micros,
                sum(slot_ms) AS slot_ms, sum(kind <> 'load') AS jobs, sum(kind = 'load') AS free_jobs,
                sum(cache_hit) AS cache_hits, 0 AS units, 0 AS saved, 0 AS saved_micros
         FROM cost WHERE run = $1 GROUP BY currency
         UNION ALL
         SELECT currency, 0, 0, 0, 0, 0, 0, 0, sum(unit_count), sum(billed), sum(micros)
         FROM spared WHERE run = $1 GROUP BY currency",
    )
    .bind(run)
    .fetch_all(store.readers())
    .await
    .map_err(store.fault(doing))?;
    for row in rows {
        let currency = text(&row, "currency")?;
        let mut part = CostLine {
            processed_bytes: number(&row, "processed")?,
            billed_bytes: number(&row, "billed")?,
            jobs: number(&row, "jobs")?,
            cache_hits: number(&row, "cache_hits")?,
            slot_ms: number(&row, "slot_ms")?,
            free_jobs: number(&row, "free_jobs")?,
            spared_units: number(&row, "units")?,
            saved_bytes: number(&row, "saved")?,
            ..CostLine::default()
        };
        part.money.add(&Money { micros: number(&row, "micros")?, currency: currency.clone() });
        part.saved_money.add(&Money { micros: number(&row, "saved_micros")?, currency });
        line.add(&part);
    }
    Ok(line)
}

async fn fetch(store: &Store, sql: String, ask: &CostsAsk) -> Result<Vec<sqlx::sqlite::SqliteRow>> {
    // The statement is one of four that are written above; all values are bound.
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(instant(ask.since))
        .bind(&ask.pipeline)
        .fetch_all(store.readers())
        .await
        .map_err(store.fault("reading bills in"))
}

fn first(account: &Account) -> &str {
    account.units.first().map_or("", |unit| unit.as_str())
}

fn units(account: &Account) -> String {
    let units: Vec<&str> = account.units.iter().map(UnitKey::as_str).collect();
    serde_json::json!(units).to_string()
}

fn number(row: &sqlx::sqlite::SqliteRow, column: &str) -> Result<u64> {
    let number: i64 = row.try_get(column).map_err(|error| unreadable(column, error))?;
    u64::try_from(number).map_err(|error| unreadable(column, error))
}

fn text(row: &sqlx::sqlite::SqliteRow, column: &str) -> Result<String> {
    row.try_get(column).map_err(|error| unreadable(column, error))
}

fn unreadable(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Storage, format!("reading `{column}` of a bill in the state file")).because(error)
}
