//! New rows looked at where they have arrived: counted, digested, checked, and held against the old ones.

use std::collections::HashMap;

use serde_json::Value;

use super::arrive::Arrival;
use super::ask::{text, whole};
use super::commit::Task;
use super::layout::every_row;
use crate::error::{Error, Kind, Result};
use crate::model::ledger::{Changes, Fingerprint};
use crate::model::pipeline::Write;
use crate::model::schema::{Column, LogicalType, Reconciled, TableSchema};
use crate::time::{Grain, UnitKey};
use crate::warehouse::checks::{Asked, fault, settle};
use crate::warehouse::dialect::BIGQUERY;
use crate::warehouse::{BoundCheck, Committed, NEW_ROWS, UnitCommit, units};

/// Lines of ours before a check's own SQL.
const LINES_BEFORE: usize = 1;

impl Task<'_> {
    /// The key of a row's unit, as an expression.
    fn key(&self, unit: &str) -> String {
        match self.commit.grain {
            None => BIGQUERY.literal(UnitKey::whole().as_str()),
            Some(Grain::Hour) => format!("FORMAT_TIMESTAMP('%Y-%m-%dT%H:%MZ', {unit})"),
            Some(_) => format!("FORMAT_DATE('%Y-%m-%d', {unit})"),
        }
    }

    /// Rows and digest of each unit's computed rows; the same rows have the same digest in any order.
    pub(super) async fn counted(
        &self,
        arrival: &Arrival,
        reconciled: &Reconciled,
    ) -> Result<HashMap<UnitKey, (u64, Fingerprint)>> {
        let names: Vec<String> = reconciled.kept.iter().map(|staged| BIGQUERY.ident(&staged.column.name)).collect();
        // The names and types are part of what the rows are: another name is another table.
        let types = reconciled.kept.iter().map(|staged| format!("{} {}", staged.column.name, staged.column.data_type));
        let types = xxhash_rust::xxh3::xxh3_128(types.collect::<Vec<_>>().join(", ").as_bytes());
        let row =
            if names.is_empty() { "''".to_owned() } else { format!("TO_JSON_STRING(STRUCT({}))", names.join(", ")) };
        let unit = if self.commit.grain.is_some() { "_haul_unit" } else { "0" };
        let sum = |text: &str| format!("CAST(SUM(CAST(FARM_FINGERPRINT({text}) AS NUMERIC)) AS STRING)");
        let sql = format!(
            "SELECT {}, COUNT(*), {}, {} FROM (SELECT {unit} AS u, {row} AS r FROM {}) GROUP BY u",
            self.key("u"),
            sum("r"),
            sum("CONCAT('7', r)"),
            arrival.relation(),
        );
        let rows = self.session.few("digesting the new rows", &sql, &self.labels, &self.caller).await?;
        let mut counted = HashMap::new();
        for row in rows {
            let key = text(row.first());
            if row.first() == Some(&Value::Null) {
                return Err(Error::new(Kind::Data, format!("rows outside of the window: {}", whole(row.get(1))))
                    .hint("restrict the statement to `window.start` and `window.end`"));
            }
            // A sum of whole numbers has nothing behind its point, whether it is written or not.
            let part = |value| {
                let sum = text(value);
                let whole = sum.split('.').next().and_then(|whole| whole.parse::<i128>().ok());
                whole.unwrap_or(0).rem_euclid(1 << 64).unsigned_abs()
            };
            let print = Fingerprint((part(row.get(2)) << 64 | part(row.get(3))) ^ types);
            counted.insert(UnitKey::stored(&key), (whole(row.get(1)), print));
        }
        Ok(counted)
    }

    /// A SELECT of the new rows of these units as the table will have them, with every column of the table.
    pub(super) fn new_rows(
        &self,
        arrival: &Arrival,
        written: &[&UnitCommit],
        reconciled: &Reconciled,
        before: Option<&TableSchema>,
    ) -> String {
        let mut outputs = self.outputs(arrival, reconciled);
        let null = |column: &Column| {
            format!("CAST(NULL AS {}) AS {}", BIGQUERY.type_of(&column.data_type), BIGQUERY.ident(&column.name))
        };
        outputs.extend(units::absent(before, reconciled).map(null));
        self.select(arrival, &outputs, written)
    }

    /// The kept columns, with the types that the table has.
    pub(super) fn outputs(&self, arrival: &Arrival, reconciled: &Reconciled) -> Vec<String> {
        let output = |kept: &crate::model::schema::StagedColumn| {
            let own = arrival.columns.iter().find(|staged| staged.source == kept.source);
            let name = own.map_or(&kept.column.name, |own| &own.column.name);
            let same = own.is_none_or(|own| own.column.data_type == kept.column.data_type);
            match &kept.column.data_type {
                // A record is cast by the order of its fields, not by their names.
                LogicalType::Struct(_) | LogicalType::List(_) | LogicalType::Other(_) => {
                    format!("{} AS {}", BIGQUERY.ident(name), BIGQUERY.ident(&kept.column.name))
                }
                _ if same => format!("{} AS {}", BIGQUERY.ident(name), BIGQUERY.ident(&kept.column.name)),
                wide => format!(
                    "CAST({} AS {}) AS {}",
                    BIGQUERY.ident(name),
                    BIGQUERY.type_of(wide),
                    BIGQUERY.ident(&kept.column.name)
                ),
            }
        };
        reconciled.kept.iter().map(output).collect()
    }

    /// A SELECT of these expressions with unit and pull.
    pub(super) fn select(&self, arrival: &Arrival, outputs: &[String], written: &[&UnitCommit]) -> String {
        let mut outputs = outputs.to_vec();
        outputs.extend(self.commit.grain.map(|_| "_haul_unit".to_owned()));
        outputs.push(format!("{} AS _haul_pull", units::pull(&BIGQUERY, written)));
        let units = units::condition(&BIGQUERY, self.commit, written);
        format!("SELECT {} FROM {} WHERE {units}", outputs.join(", "), arrival.relation())
    }

    /// Runs every check; a failed one stops the commit, or is told, as it says itself.
    pub(super) async fn checked(
        &self,
        new: &str,
        columns: &[String],
        written: &[&UnitCommit],
        committed: &mut Committed,
    ) -> Result<()> {
        let has = |name: &str| columns.iter().any(|column| column.eq_ignore_ascii_case(name));
        for check in &self.commit.checks {
            let found = match Asked::of(&BIGQUERY, check, &BIGQUERY.ident(NEW_ROWS), has, written, committed) {
                Asked::Known(fault) => fault,
                Asked::Rows { sql, missing } => {
                    let (wrong, sample) = self.wrong_rows(check, new, &sql).await?;
                    fault(wrong, missing.as_deref(), &sample)
                }
            };
            settle(check, found, committed)?;
        }
        Ok(())
    }

    async fn wrong_rows(&self, check: &BoundCheck, new: &str, sql: &str) -> Result<(u64, Vec<String>)> {
        let whole_sql = format!(
            "WITH {} AS ({new}), _haul_wrong AS (\n{sql}\n) SELECT (SELECT COUNT(*) FROM _haul_wrong), \
             ARRAY(SELECT TO_JSON_STRING(w) FROM _haul_wrong AS w LIMIT 3)",
            BIGQUERY.ident(NEW_ROWS)
        );
        let doing = format!("running the check `{}`", check.name);
        let asked = self.session.ask(&whole_sql, &self.labels, &self.caller).await;
        let asked = asked.map_err(|refused| self.session.failed_in(&doing, sql, LINES_BEFORE, refused))?;
        let rows = self.session.rows_of(&doing, asked, &self.caller).await?;
        let row = rows.into_iter().next().unwrap_or_default();
        let sample = row.get(1).and_then(Value::as_array).into_iter().flatten();
        let sample = sample.filter_map(|one| one.as_str().map(str::to_owned)).collect();
        Ok((whole(row.first()), sample))
    }

    /// Refuses keys that no row has as a column, and several different rows of one key of which none is the newest.
    pub(super) async fn one_row_a_key(&self, new: &str, columns: &[String], rows: u64) -> Result<()> {
        let Write::Merge { keys, newest_by } = &self.commit.write else { return Ok(()) };
        if rows == 0 {
            return Ok(());
        }
        for name in keys.iter().chain(newest_by) {
            if !columns.iter().any(|column| column.eq_ignore_ascii_case(name)) {
                return Err(Error::new(Kind::Data, format!("the new rows have no column `{name}`"))
                    .hint("`keys` and `newest_by` name columns that every row has"));
            }
        }
        let newest = newest_by.as_ref().map_or_else(
            || "1".to_owned(),
            |name| {
                format!(
                    "RANK() OVER (PARTITION BY {} ORDER BY {} DESC NULLS LAST)",
                    keys_of(keys),
                    BIGQUERY.ident(name)
                )
            },
        );
        let sql = format!(
            "WITH n AS ({new}), k AS (SELECT {} AS k, TO_JSON_STRING(n) AS r, {newest} AS place FROM n) \
             SELECT k FROM k WHERE place = 1 GROUP BY k HAVING COUNT(DISTINCT r) > 1 ORDER BY k LIMIT 1",
            keys_of(keys)
        );
        let twice = self.session.few("looking for keys that come twice", &sql, &self.labels, &self.caller).await?;
        match twice.first() {
            None => Ok(()),
            Some(row) => {
                Err(Error::new(Kind::Data, format!("several different rows have the key {}", text(row.first())))
                    .hint("`newest_by` names the column that tells which of them is the newest"))
            }
        }
    }

    /// What the new rows of each unit change against the old ones.
    pub(super) async fn changes(
        &self,
        new: &str,
        written: &[&UnitCommit],
        reconciled: &Reconciled,
        before: &TableSchema,
    ) -> Result<HashMap<UnitKey, Changes>> {
        let kept = reconciled.kept.iter().map(|staged| &staged.column);
        let columns: Vec<&Column> = kept.chain(units::absent(Some(before), reconciled)).collect();
        if columns.is_empty() {
            return Ok(HashMap::new());
        }
        let row = |of: &str| {
            let names: Vec<String> =
                columns.iter().map(|column| format!("{of}.{}", BIGQUERY.ident(&column.name))).collect();
            format!("TO_JSON_STRING(STRUCT({}))", names.join(", "))
        };
        let known = |key: &&String| columns.iter().any(|column| column.name.eq_ignore_ascii_case(key));
        let keys = |keys: &[String], of: &str| {
            let names: Vec<String> = keys.iter().map(|key| format!("{of}.{}", BIGQUERY.ident(key))).collect();
            format!("TO_JSON_STRING(STRUCT({}))", names.join(", "))
        };
        let unit = |of: &str| if self.commit.grain.is_some() { format!("{of}._haul_unit") } else { "0".to_owned() };
        let relation = BIGQUERY.relation(&self.commit.table);
        let sql = if let Write::Merge { keys: own, .. } = &self.commit.write {
            // A merge takes nothing away, and a key's old row may lie in any unit.
            let all = every_row(self.table.as_ref());
            format!(
                "WITH new AS ({new}), n AS (SELECT {} AS u, {} AS r, {} AS k, COUNT(*) AS c FROM new GROUP BY u, r, k), \
                 o AS (SELECT {} AS r, COUNT(*) AS c FROM {relation} AS old WHERE {all} GROUP BY r), \
                 ok AS (SELECT DISTINCT {} AS k FROM {relation} AS old WHERE {all}) \
                 SELECT {}, SUM(IF(ok.k IS NULL, n.c, 0)), 0, \
                 SUM(GREATEST(n.c - IFNULL(o.c, 0), 0)) - SUM(IF(ok.k IS NULL, n.c, 0)) \
                 FROM n LEFT JOIN o ON n.r = o.r LEFT JOIN ok ON n.k = ok.k GROUP BY n.u",
                unit("new"),
                row("new"),
                keys(own, "new"),
                row("old"),
                keys(own, "old"),
                self.key("n.u"),
            )
        } else {
            let own = &self.commit.keys;
            // A key that neither rows nor table have tells nothing apart.
            let keyed = !own.is_empty() && own.iter().all(|key| known(&key));
            let key = |of: &str| if keyed { keys(own, of) } else { "''".to_owned() };
            let bounds = self.condition(written);
            let changed = if keyed { "LEAST(a, m)" } else { "0" };
            format!(
                "WITH new AS ({new}), n AS (SELECT {} AS u, {} AS r, {} AS k, COUNT(*) AS c FROM new GROUP BY u, r, k), \
                 o AS (SELECT {} AS u, {} AS r, {} AS k, COUNT(*) AS c FROM {relation} AS old WHERE {bounds} GROUP BY u, r, k), \
                 d AS (SELECT COALESCE(n.u, o.u) AS u, COALESCE(n.k, o.k) AS k, IFNULL(n.c, 0) - IFNULL(o.c, 0) AS d \
                 FROM n FULL JOIN o ON n.u = o.u AND n.r = o.r), \
                 g AS (SELECT u, k, SUM(IF(d > 0, d, 0)) AS a, SUM(IF(d < 0, -d, 0)) AS m FROM d GROUP BY u, k) \
                 SELECT {}, SUM(a - {changed}), SUM(m - {changed}), SUM({changed}) FROM g GROUP BY u",
                unit("new"),
                row("new"),
                key("new"),
                unit("old"),
                row("old"),
                key("old"),
                self.key("u"),
            )
        };
        let rows = self.session.few("counting what changed", &sql, &self.labels, &self.caller).await?;
        let read = |row: &Vec<Value>| {
            let changes = Changes { added: whole(row.get(1)), removed: whole(row.get(2)), changed: whole(row.get(3)) };
            (UnitKey::stored(&text(row.first())), changes)
        };
        Ok(rows.iter().map(read).collect())
    }

    /// The condition that holds for the old rows of these units, in a form that a table which wants a filter takes.
    pub(super) fn condition(&self, written: &[&UnitCommit]) -> String {
        let units = units::condition(&BIGQUERY, self.commit, written);
        let by_unit = self.table.as_ref().and_then(|table| table.time_partitioning.as_ref()?.field.as_deref());
        match every_row(self.table.as_ref()) {
            all if all != "true" && by_unit != Some("_haul_unit") => format!("{units} AND {all}"),
            _ => units,
        }
    }
}

/// One row of each key: the newest, where a column tells which that is.
pub(super) fn newest_of(keys: &[String], newest_by: Option<&str>, select: &str) -> String {
    let order =
        newest_by.map_or_else(String::new, |name| format!(" ORDER BY {} DESC NULLS LAST", BIGQUERY.ident(name)));
    format!("SELECT * FROM ({select}) WHERE true QUALIFY ROW_NUMBER() OVER (PARTITION BY {}{order}) = 1", keys_of(keys))
}

/// The keys of a row as one text; null is a key like any other.
pub(super) fn keys_of(keys: &[String]) -> String {
    let name = |key: &String| format!("{0} AS {0}", BIGQUERY.ident(key));
    let names: Vec<String> = keys.iter().map(name).collect();
    format!("TO_JSON_STRING(STRUCT({}))", names.join(", "))
}
