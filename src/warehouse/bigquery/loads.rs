//! `_haul_loads` on BigQuery: one in each dataset, beside the tables that it tells of.

use std::collections::{BTreeMap, HashSet};

use chrono::DateTime;
use serde_json::json;

use super::Session;
use super::ask::{purpose, text, whole};
use crate::bigquery::{Caller, Refused, TableId, Why};
use crate::error::{Error, Kind, Result};
use crate::model::ledger::Loaded;
use crate::model::name::TableName;
use crate::time::UnitKey;
use crate::warehouse::dialect::{BIGQUERY, LOADS};
use crate::warehouse::verdict::LastLoad;
use crate::warehouse::{Commit, UnitCommit};

/// What `_haul_loads` says of a table when a commit begins.
pub(super) struct Known {
    /// The newest load of each unit of the commit.
    pub last: Vec<(UnitKey, LastLoad)>,
    /// The number of the newest commit of the table; 0 before the first.
    pub newest: u64,
}

impl Known {
    pub fn of(&self, unit: &UnitCommit) -> Option<LastLoad> {
        self.last.iter().find(|(key, _)| *key == unit.key).map(|(_, last)| *last)
    }
}

/// The columns of `_haul_loads`, as tables.insert takes them.
pub(super) fn fields() -> serde_json::Value {
    let field = |name: &str, data_type: &str, mode: &str| json!({ "name": name, "type": data_type, "mode": mode });
    json!([
        field("table_name", "STRING", "REQUIRED"),
        field("unit", "STRING", "REQUIRED"),
        field("pull", "INTEGER", "REQUIRED"),
        field("generation", "INTEGER", "REQUIRED"),
        field("rows", "INTEGER", "REQUIRED"),
        field("fingerprint", "STRING", "REQUIRED"),
        field("inputs", "STRING", "NULLABLE"),
        field("run", "STRING", "REQUIRED"),
        field("committed_at", "TIMESTAMP", "REQUIRED"),
        // Which commit of the table it was, and the job that made it.
        field("number", "INTEGER", "REQUIRED"),
        field("job", "STRING", "REQUIRED"),
    ])
}

/// The names of the columns, quoted: `rows` is a word of GoogleSQL.
pub(super) const COLUMNS: &str =
    "table_name, unit, pull, generation, `rows`, fingerprint, inputs, run, committed_at, number, job";

impl Session {
    /// Makes sure that a dataset and its `_haul_loads` are there; returns when the latter was made, which tells it from any other.
    pub(super) async fn ensure_loads(&self, dataset: &str, caller: &Caller<'_>) -> Result<u64> {
        let mut known = self.loads.lock().await;
        if let Some(made) = known.get(dataset) {
            return Ok(*made);
        }
        let table = self.table_id(&TableName { schema: dataset.to_owned(), name: LOADS.to_owned() });
        let failed = |refused: Refused| self.failed(&format!("creating {dataset}.{LOADS}"), refused);
        let found = match self.client.table(&table, caller).await {
            Err(refused) if refused.why == Why::NotFound => {
                self.client.ensure_dataset(dataset, caller).await.map_err(failed)?;
                let resource = json!({
                    "schema": { "fields": fields() },
                    "clustering": { "fields": ["table_name", "unit"] },
                    "description": "what haul has loaded into the tables of this dataset",
                });
                self.client.create_table(&table, resource, caller).await.map_err(failed)?;
                self.client.table(&table, caller).await
            }
            found => found,
        };
        let made = found.map_err(failed)?.creation_time.unwrap_or(0);
        known.insert(dataset.to_owned(), made);
        Ok(made)
    }

    /// What is known of a commit's units, now.
    pub(super) async fn known(
        &self,
        commit: &Commit,
        labels: &BTreeMap<String, String>,
        caller: &Caller<'_>,
    ) -> Result<Known> {
        let units: Vec<String> = commit.units.iter().map(|unit| BIGQUERY.literal(unit.key.as_str())).collect();
        let sql = format!(
            "SELECT unit, generation, pull, `rows`, fingerprint, number FROM {} WHERE table_name = {} \
             QUALIFY (ROW_NUMBER() OVER (PARTITION BY unit ORDER BY generation DESC, number DESC) = 1 AND unit IN ({})) \
             OR number = MAX(number) OVER ()",
            BIGQUERY.loads_of(&commit.table),
            BIGQUERY.literal(&commit.table.to_string()),
            units.join(", "),
        );
        let rows = self.few("reading _haul_loads", &sql, labels, caller).await?;
        let mut known = Known { last: Vec::new(), newest: 0 };
        for row in rows {
            known.newest = known.newest.max(whole(row.get(5)));
            let key = UnitKey::stored(&text(row.first()));
            let last = LastLoad {
                generation: whole(row.get(1)),
                pull: whole(row.get(2)),
                rows: whole(row.get(3)),
                fingerprint: text(row.get(4)).parse().unwrap_or_default(),
            };
            match known.last.iter_mut().find(|(own, _)| *own == key) {
                Some((_, own)) if own.generation < last.generation => *own = last,
                Some(_) => {}
                None => known.last.push((key, last)),
            }
        }
        Ok(known)
    }

    /// The newest load of each unit of these tables.
    pub(super) async fn loaded(&self, tables: &[TableName]) -> Result<Vec<(TableName, UnitKey, Loaded)>> {
        let caller = &self.caller();
        let mut datasets: BTreeMap<&str, Vec<&TableName>> = BTreeMap::new();
        for table in tables {
            datasets.entry(&table.schema).or_default().push(table);
        }
        let mut found = Vec::new();
        for (dataset, tables) in datasets {
            let there = self.there(dataset, &tables, caller).await?;
            if there.is_empty() {
                continue;
            }
            let names: Vec<String> = there.iter().map(|table| BIGQUERY.literal(&table.to_string())).collect();
            let sql = format!(
                "SELECT table_name, unit, pull, generation, `rows`, fingerprint, inputs, committed_at FROM {} \
                 WHERE table_name IN ({}) \
                 QUALIFY ROW_NUMBER() OVER (PARTITION BY table_name, unit ORDER BY generation DESC, number DESC) = 1 \
                 ORDER BY table_name, unit",
                BIGQUERY.loads_of(there[0]),
                names.join(", "),
            );
            for row in self.few("reading _haul_loads", &sql, &purpose("plan"), caller).await? {
                let name = text(row.first());
                let Some(table) = there.iter().find(|table| table.to_string() == name) else { continue };
                found.push(((*table).clone(), UnitKey::stored(&text(row.get(1))), load_of(&name, &row)?));
            }
        }
        Ok(found)
    }

    /// Those of a dataset's tables that are there; none where nothing was ever loaded.
    async fn there<'t>(
        &self,
        dataset: &str,
        tables: &[&'t TableName],
        caller: &Caller<'_>,
    ) -> Result<Vec<&'t TableName>> {
        let loads = self.table_id(&TableName { schema: dataset.to_owned(), name: LOADS.to_owned() });
        let siblings = match self.client.siblings(&loads, caller).await {
            Ok(siblings) => siblings,
            Err(refused) if refused.why == Why::NotFound => return Ok(Vec::new()),
            Err(refused) => return Err(self.failed(&format!("listing the tables of {dataset}"), refused)),
        };
        let names: HashSet<String> = siblings.names.into_iter().collect();
        if siblings.all && !names.contains(LOADS) {
            return Ok(Vec::new());
        }
        let mut there = Vec::new();
        for table in tables {
            if names.contains(&table.name)
                || !siblings.all && self.found(&self.table_id(table), caller).await?.is_some()
            {
                there.push(*table);
            }
        }
        Ok(there)
    }

    /// A table as it tells of itself, if it is there.
    pub(super) async fn found(&self, table: &TableId, caller: &Caller<'_>) -> Result<Option<crate::bigquery::Table>> {
        match self.client.table(table, caller).await {
            Ok(found) => Ok(Some(found)),
            Err(refused) if refused.why == Why::NotFound => Ok(None),
            Err(refused) => Err(self.failed(&format!("reading the columns of {table}"), refused)),
        }
    }

    /// The units of which a table has rows; none for a table without units.
    ///
    /// Where a partition is a unit, the partitions tell it without a look at the rows.
    pub(super) async fn units(&self, table: &TableName) -> Result<Option<HashSet<UnitKey>>> {
        let caller = &self.caller();
        let Some(found) = self.found(&self.table_id(table), caller).await? else { return Ok(None) };
        let unit = found.schema.fields.iter().find(|field| field.name == "_haul_unit");
        let Some(unit) = unit else { return Ok(None) };
        let is_date = unit.type_name == "DATE";
        let by_unit = found.time_partitioning.filter(|how| how.field.as_deref() == Some("_haul_unit"));
        let every = by_unit.map(|how| how.every).unwrap_or_default();
        let key = match (every.as_str(), is_date) {
            ("DAY", true) => "FORMAT_DATE('%Y-%m-%d', PARSE_DATE('%Y%m%d', partition_id))",
            ("HOUR", false) => "FORMAT_TIMESTAMP('%Y-%m-%dT%H:%MZ', PARSE_TIMESTAMP('%Y%m%d%H', partition_id))",
            (_, true) => "FORMAT_DATE('%Y-%m-%d', _haul_unit)",
            (_, false) => "FORMAT_TIMESTAMP('%Y-%m-%dT%H:%MZ', _haul_unit)",
        };
        let sql = match (every.as_str(), is_date) {
            ("DAY", true) | ("HOUR", false) => format!(
                "SELECT DISTINCT {key} FROM {}.INFORMATION_SCHEMA.PARTITIONS WHERE table_name = {} AND total_rows > 0 \
                 AND REGEXP_CONTAINS(partition_id, r'^[0-9]+$')",
                BIGQUERY.ident(&table.schema),
                BIGQUERY.literal(&table.name),
            ),
            // A bound that holds for every row, for tables that want one.
            _ => format!(
                "SELECT DISTINCT {key} FROM {} WHERE _haul_unit >= {}",
                BIGQUERY.relation(table),
                if is_date { "DATE '0001-01-01'" } else { "TIMESTAMP '0001-01-01 00:00:00Z'" },
            ),
        };
        let rows = self.few("reading the units of a table", &sql, &purpose("plan"), caller).await?;
        Ok(Some(rows.iter().map(|row| UnitKey::stored(&text(row.first()))).collect()))
    }
}

fn load_of(table: &str, row: &[serde_json::Value]) -> Result<Loaded> {
    let broken = |what: String| {
        Error::new(Kind::Warehouse, format!("reading the load of {} of {table}", text(row.get(1))))
            .because(format!("`{what}` is none of haul's"))
    };
    let (print, at) = (text(row.get(5)), text(row.get(7)));
    Ok(Loaded {
        pull: whole(row.get(2)),
        generation: whole(row.get(3)),
        rows: whole(row.get(4)),
        fingerprint: print.parse().map_err(|_| broken(print))?,
        inputs: row.get(6).and_then(|value| value.as_str()).map(str::to_owned),
        loaded_at: DateTime::parse_from_rfc3339(&at).map_err(|_| broken(at))?.to_utc(),
    })
}
