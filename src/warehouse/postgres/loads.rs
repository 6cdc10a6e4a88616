//! What PostgreSQL has of each unit: as `_haul_loads` tells it, and as the rows themselves do.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row};

use super::fault::failed;
use super::session::Session;
use super::{partition, table};
use crate::error::{Error, Kind, Result};
use crate::model::ledger::Loaded;
use crate::model::name::TableName;
use crate::time::UnitKey;
use crate::warehouse::dialect::POSTGRES;

/// A line of `_haul_loads`: table, unit, pull, generation, rows, fingerprint, inputs, and when it was written.
type Load = (String, String, i64, i64, i64, String, Option<String>, DateTime<Utc>);

/// The newest load of each unit.
pub(super) async fn loads(session: &mut Session, tables: &[TableName]) -> Result<Vec<(TableName, UnitKey, Loaded)>> {
    let mut schemas: BTreeMap<&str, Vec<&TableName>> = BTreeMap::new();
    for table in tables {
        schemas.entry(&table.schema).or_default().push(table);
    }
    let mut found = Vec::new();
    for tables in schemas.into_values() {
        found.extend(in_schema(session, &tables).await?);
    }
    Ok(found)
}

async fn in_schema(session: &mut Session, tables: &[&TableName]) -> Result<Vec<(TableName, UnitKey, Loaded)>> {
    let doing = "reading _haul_loads";
    let Some(first) = tables.first() else { return Ok(Vec::new()) };
    // A table that somebody dropped has no units any more, whatever its loads say.
    let relations = tables.iter().chain(std::iter::once(first));
    let mut relations: Vec<String> = relations.map(|table| POSTGRES.relation(table)).collect();
    if let Some(last) = relations.last_mut() {
        *last = POSTGRES.loads_of(first);
    }
    let there: Vec<bool> = sqlx::query_scalar(
        "SELECT pg_catalog.to_regclass(r) IS NOT NULL FROM unnest($1::text[]) WITH ORDINALITY AS t(r, n) ORDER BY n",
    )
    .bind(&relations)
    .fetch_all(&mut session.connection)
    .await
    .map_err(|error| failed(doing, &error))?;
    if there.last() != Some(&true) {
        return Ok(Vec::new());
    }
    let existing: Vec<&TableName> =
        tables.iter().zip(&there).filter_map(|(table, there)| there.then_some(*table)).collect();
    let names: Vec<String> = existing.iter().map(ToString::to_string).collect();
    let sql = format!(
        "SELECT DISTINCT ON (table_name, unit) table_name, unit, pull, generation, rows, fingerprint, inputs, committed_at \
         FROM {} WHERE table_name = ANY($1) ORDER BY table_name, unit, generation DESC",
        POSTGRES.loads_of(first)
    );
    let rows: Vec<Load> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(&names)
        .fetch_all(&mut session.connection)
        .await
        .map_err(|error| failed(doing, &error))?;
    let mut found = Vec::with_capacity(rows.len());
    for (name, unit, pull, generation, rows, print, inputs, loaded_at) in rows {
        let Some(table) = existing.iter().find(|table| table.to_string() == name) else { continue };
        let fingerprint = print.parse().map_err(|_| {
            Error::new(Kind::Warehouse, format!("reading the load of {unit} of {table}"))
                .because(format!("`{print}` is none of haul's"))
        })?;
        let number = |number: i64| u64::try_from(number).unwrap_or_default();
        let loaded = Loaded {
            pull: number(pull),
            generation: number(generation),
            rows: number(rows),
            fingerprint,
            inputs,
            loaded_at,
        };
        found.push(((*table).clone(), UnitKey::stored(&unit), loaded));
    }
    Ok(found)
}

/// The units of which a table has rows; none for a table without units.
pub(super) async fn stocked(session: &mut Session, name: &TableName) -> Result<Option<HashSet<UnitKey>>> {
    let Some(found) = table::read(session, name).await? else { return Ok(None) };
    let Some(unit_type) = &found.unit else { return Ok(None) };
    let relation = POSTGRES.relation(name);
    let units = if partition::by_unit(&found) {
        // Partition by partition: the planner would look into all of them for each unit.
        let parts = partition::names(session, name).await?;
        if parts.is_empty() {
            return Ok(Some(HashSet::new()));
        }
        let parts = parts.iter().map(|part| walk(part));
        parts.collect::<Vec<_>>().join(" UNION ")
    } else {
        walk(&relation)
    };
    let key =
        if unit_type == "date" { "u::text".to_owned() } else { "to_char(u, 'YYYY-MM-DD\"T\"HH24:MI\"Z\"')".to_owned() };
    let doing = "reading the units of a table";
    let rows = session.rows(doing, &format!("SELECT DISTINCT {key} FROM ({units}) AS units(u)")).await?;
    let keys = rows.iter().map(|row| row.try_get::<String, _>(0).map(|key| UnitKey::stored(&key)));
    keys.collect::<sqlx::Result<_>>().map(Some).map_err(|error| failed(doing, &error))
}

/// The units of a relation, from one to the next: with an index on them, no row more than one of each is read.
fn walk(relation: &str) -> String {
    format!(
        "(WITH RECURSIVE each(u) AS (SELECT min(_haul_unit) FROM {relation} UNION ALL \
         SELECT (SELECT min(_haul_unit) FROM {relation} WHERE _haul_unit > each.u) FROM each WHERE each.u IS NOT NULL) \
         SELECT u FROM each WHERE u IS NOT NULL)"
    )
}
