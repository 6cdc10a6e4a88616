//! New rows on their way into a table: read, computed, digested, compared with the old ones, merged.

use duckdb::Connection;

use super::table::read_type;
use super::{NONE, execute, failed, failed_in, unit_type};
use crate::error::{Error, Kind, Result};
use crate::model::ledger::{Changes, Fingerprint};
use crate::model::pipeline::Write;
use crate::model::schema::{Column, LogicalType, Reading, Reconciled, StagedColumn};
use crate::model::shape::Seen;
use crate::time::{Grain, Unit};
use crate::warehouse::dialect::DUCKDB;
use crate::warehouse::{Commit, NEW_ROWS, NewRows, UnitCommit};

/// The start of a unit as a literal of the type of `_haul_unit`.
fn unit_literal(unit: &Unit) -> String {
    match unit.calendar.grain {
        Grain::Hour => format!("TIMESTAMP '{}'", unit.start.format("%Y-%m-%d %H:%M:%S")),
        _ => format!("DATE '{}'", unit.key()),
    }
}

/// The condition that holds for the rows of these units, and for no others.
pub(super) fn units_condition(commit: &Commit, units: &[&UnitCommit]) -> String {
    if commit.grain.is_none() {
        return "true".to_owned();
    }
    let list: Vec<String> = units.iter().filter_map(|unit| unit.unit.as_ref().map(unit_literal)).collect();
    format!("_haul_unit IN ({})", list.join(", "))
}

/// The pull of each row: that of its unit.
fn pull_expression(units: &[&UnitCommit]) -> String {
    if let [only] = units {
        return only.pull.to_string();
    }
    let arms: Vec<String> = units
        .iter()
        .filter_map(|unit| unit.unit.as_ref().map(|span| format!("WHEN {} THEN {}", unit_literal(span), unit.pull)))
        .collect();
    format!("CASE _haul_unit {} END", arms.join(" "))
}

/// A SELECT that reads the staged rows of these units, typed and named as the table has them.
pub(super) fn staged_select(commit: &Commit, units: &[&UnitCommit], reconciled: &Reconciled) -> String {
    let NewRows::Staged { files, unit_in_rows, longest_row, .. } = &commit.rows else { return String::new() };
    let mut outputs: Vec<String> = reconciled.kept.iter().map(cast).collect();
    let unit = match (commit.grain, unit_in_rows, units) {
        (None, _, _) => None,
        (Some(grain), true, _) => Some(format!("CAST(r._haul_unit AS {}) AS _haul_unit", unit_type(grain))),
        (Some(_), false, units) => units
            .first()
            .and_then(|unit| unit.unit.as_ref())
            .map(|unit| format!("{} AS _haul_unit", unit_literal(unit))),
    };
    outputs.extend(unit);
    if files.is_empty() {
        let empty: Vec<String> = reconciled
            .kept
            .iter()
            .map(|staged| format!("NULL::{} AS {}", staged.column.data_type, DUCKDB.ident(&staged.column.name)))
            .collect();
        let columns = if empty.is_empty() { "1 AS nothing".to_owned() } else { empty.join(", ") };
        return format!(
            "SELECT * EXCLUDE (nothing) FROM (SELECT {columns}, 1 AS nothing, NULL::BIGINT AS _haul_pull) WHERE false"
        )
        .replace("1 AS nothing, 1 AS nothing", "1 AS nothing");
    }
    let mut types: Vec<String> = reconciled.kept.iter().map(read_as).collect();
    if *unit_in_rows {
        types.push("'_haul_unit': 'VARCHAR'".to_owned());
    }
    if types.is_empty() {
        types.push("'_haul_nothing': 'VARCHAR'".to_owned());
    }
    let files: Vec<String> = files.iter().map(|file| DUCKDB.literal(&file.to_string_lossy())).collect();
    // The reader's buffers grow with this; rows are known to be no longer.
    let object = (longest_row + 1024).max(256 << 10);
    let inner = format!(
        "SELECT {} FROM read_json([{}], format = 'newline_delimited', compression = 'zstd', maximum_object_size = {object}, \
         columns = {{{}}}) AS r",
        if outputs.is_empty() { "1 AS _haul_one".to_owned() } else { outputs.join(", ") },
        files.join(", "),
        types.join(", "),
    );
    let condition = if *unit_in_rows { format!(" WHERE {}", units_condition(commit, units)) } else { String::new() };
    let exclude = if outputs.is_empty() { " EXCLUDE (_haul_one)" } else { "" };
    format!("SELECT *{exclude}, ({})::BIGINT AS _haul_pull FROM ({inner}){condition}", pull_expression(units))
}

/// What the JSON reader is told of a member.
fn read_as(staged: &StagedColumn) -> String {
    let data_type = match staged.reading {
        Reading::Direct if !matches!(staged.column.data_type, LogicalType::Decimal { .. }) => {
            staged.column.data_type.to_string()
        }
        _ => "VARCHAR".to_owned(),
    };
    format!("{}: {}", DUCKDB.literal(&staged.source), DUCKDB.literal(&data_type))
}

fn cast(staged: &StagedColumn) -> String {
    let source = format!("r.{}", DUCKDB.ident(&staged.source));
    let name = DUCKDB.ident(&staged.column.name);
    let data_type = &staged.column.data_type;
    match staged.reading {
        Reading::OffsetTimestamp if *data_type == LogicalType::Timestamp => {
            format!("CAST(CAST({source} AS TIMESTAMPTZ) AS TIMESTAMP) AS {name}")
        }
        _ => format!("CAST({source} AS {data_type}) AS {name}"),
    }
}

/// Computes a SELECT's rows into a temporary table, each with its unit.
pub(super) fn compute(connection: &Connection, commit: &Commit, sql: &str, time_column: Option<&str>) -> Result<()> {
    let plain = sql.trim_end().trim_end_matches(';');
    let unit = match (commit.grain, time_column, commit.units.as_slice()) {
        (None, _, _) => String::new(),
        (Some(_), None, [only]) => {
            only.unit.as_ref().map(|unit| format!(", {} AS _haul_unit", unit_literal(unit))).unwrap_or_default()
        }
        (Some(grain), Some(column), units) => {
            let arms: Vec<String> =
                units.iter().filter_map(|unit| unit.unit.as_ref()).map(|unit| arm(unit, column)).collect();
            format!(", CAST(CASE {} END AS {}) AS _haul_unit", arms.join(" "), unit_type(grain))
        }
        (Some(_), None, _) => {
            return Err(Error::new(Kind::Config, "dividing the rows of a window into units")
                .hint("a transform with `per = \"window\"` names its `time_column`"));
        }
    };
    // The user's statement begins on a line of its own, so that the lines of an error can be counted back.
    let create = format!("CREATE TEMP TABLE {NEW_ROWS} AS SELECT q.*{unit} FROM (\n{plain}\n) AS q");
    connection.execute_batch(&create).map_err(|error| failed_in("computing the rows", plain, 1, error))?;
    if commit.grain.is_some() {
        let sql = format!("SELECT count(*) FROM temp.main.{NEW_ROWS} WHERE _haul_unit IS NULL");
        let outside: u64 =
            connection.query_row(&sql, [], |row| row.get(0)).map_err(|error| failed("counting rows", error))?;
        if outside > 0 {
            return Err(Error::new(Kind::Data, format!("{outside} rows lie outside of the window"))
                .hint("restrict the statement to `window.start` and `window.end`"));
        }
    }
    Ok(())
}

fn arm(unit: &Unit, column: &str) -> String {
    let name = DUCKDB.ident(column);
    let stamp = |at: crate::time::Instant| at.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    // A date is compared as a date of the unit's calendar, a time as an instant in UTC.
    let first = unit.date();
    let after = unit.calendar.next(unit).date();
    format!(
        "WHEN (typeof(q.{name}) = 'DATE' AND q.{name}::VARCHAR >= '{first}' AND q.{name}::VARCHAR < '{after}') OR \
         (typeof(q.{name}) <> 'DATE' AND q.{name}::TIMESTAMP >= TIMESTAMP '{}' AND q.{name}::TIMESTAMP < TIMESTAMP '{}') \
         THEN {}",
        stamp(unit.start),
        stamp(unit.end),
        unit_literal(unit),
    )
}

/// The columns of the computed rows.
pub(super) fn columns(connection: &Connection) -> Result<Vec<StagedColumn>> {
    let doing = |error| failed("reading the columns of the new rows", error);
    let mut statement = connection.prepare(&format!("DESCRIBE temp.main.{NEW_ROWS}")).map_err(doing)?;
    let found: Vec<(String, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect).map_err(doing)?;
    Ok(found
        .into_iter()
        .filter(|(name, _)| !name.starts_with("_haul_"))
        .map(|(name, text)| StagedColumn {
            source: name.clone(),
            column: Column { name, data_type: read_type(&text) },
            reading: Reading::Direct,
            seen: Seen::default(),
        })
        .collect())
}

/// A SELECT of the computed rows of these units.
pub(super) fn computed_select(commit: &Commit, units: &[&UnitCommit], reconciled: &Reconciled) -> String {
    let mut outputs: Vec<String> = reconciled.kept.iter().map(|staged| DUCKDB.ident(&staged.column.name)).collect();
    if commit.grain.is_some() {
        outputs.push("_haul_unit".to_owned());
    }
    outputs.push(format!("({})::BIGINT AS _haul_pull", pull_expression(units)));
    format!("SELECT {} FROM temp.main.{NEW_ROWS} WHERE {}", outputs.join(", "), units_condition(commit, units))
}

/// Rows and digest of one unit's computed rows; the same rows have the same digest in any order.
pub(super) fn fingerprint(
    connection: &Connection,
    commit: &Commit,
    unit: &UnitCommit,
    reconciled: &Reconciled,
) -> Result<(u64, Fingerprint)> {
    let columns: Vec<String> = reconciled.kept.iter().map(|staged| DUCKDB.ident(&staged.column.name)).collect();
    let list = if columns.is_empty() { "0".to_owned() } else { columns.join(", ") };
    let sql = format!(
        "SELECT count(*), (coalesce(sum(hash({list})::HUGEINT), 0) % 18446744073709551616)::VARCHAR, \
         (coalesce(sum(hash(7, {list})::HUGEINT), 0) % 18446744073709551616)::VARCHAR FROM temp.main.{NEW_ROWS} WHERE {}",
        units_condition(commit, &[unit])
    );
    let (rows, high, low): (u64, String, String) = connection
        .query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .map_err(|error| failed("digesting the new rows", error))?;
    let part = |text: &str| text.parse::<u64>().map_or(0, u128::from);
    Ok((rows, Fingerprint(part(&high) << 64 | part(&low))))
}

/// What the new rows of a unit change against the old ones.
pub(super) fn drift(
    connection: &Connection,
    commit: &Commit,
    unit: &UnitCommit,
    reconciled: &Reconciled,
) -> Result<Changes> {
    if unit.previous.is_none() || commit.write == Write::Append {
        return Ok(NONE);
    }
    let columns: Vec<String> = reconciled.kept.iter().map(|staged| DUCKDB.ident(&staged.column.name)).collect();
    if columns.is_empty() {
        return Ok(NONE);
    }
    let (list, bounds, target) = (columns.join(", "), units_condition(commit, &[unit]), DUCKDB.relation(&commit.table));
    let old = format!("SELECT {list} FROM {target} WHERE {bounds}");
    let new = format!("SELECT {list} FROM temp.main.{NEW_ROWS} WHERE {bounds}");
    let count = |sql: String| -> Result<u64> {
        connection.query_row(&sql, [], |row| row.get(0)).map_err(|error| failed("counting what changed", error))
    };
    let added = count(format!("SELECT count(*) FROM ({new} EXCEPT ALL {old})"))?;
    let removed = count(format!("SELECT count(*) FROM ({old} EXCEPT ALL {new})"))?;
    // A key that neither rows nor table have tells nothing apart.
    let known = |key: &&String| reconciled.kept.iter().any(|staged| staged.column.name.eq_ignore_ascii_case(key));
    if commit.keys.is_empty() || !commit.keys.iter().all(|key| known(&key)) || added == 0 || removed == 0 {
        return Ok(Changes { added, removed, changed: 0 });
    }
    let keys: Vec<String> = commit.keys.iter().map(|key| DUCKDB.ident(key)).collect();
    let keys = keys.join(", ");
    let changed = count(format!(
        "SELECT count(*) FROM (SELECT {keys} FROM ({new} EXCEPT ALL {old}) INTERSECT SELECT {keys} FROM ({old} EXCEPT ALL {new}))"
    ))?;
    Ok(Changes { added: added.saturating_sub(changed), removed: removed.saturating_sub(changed), changed })
}

/// Leaves one new row of each key, and removes the old rows of these keys.
pub(super) fn merge(connection: &Connection, commit: &Commit, keys: &[String], newest_by: Option<&str>) -> Result<()> {
    let new = format!("temp.main.{NEW_ROWS}");
    let list: Vec<String> = keys.iter().map(|key| DUCKDB.ident(key)).collect();
    let list = list.join(", ");
    let mut statement = format!("CREATE OR REPLACE TEMP TABLE {NEW_ROWS} AS SELECT DISTINCT * FROM {new}");
    if let Some(newest) = newest_by {
        let newest = DUCKDB.ident(newest);
        statement = format!(
            "{statement} QUALIFY row_number() OVER (PARTITION BY {list} ORDER BY {newest} DESC NULLS LAST) = 1"
        );
    }
    execute(connection, "leaving one row of each key", &statement)?;
    let twice = format!(
        "SELECT CAST(to_json(struct_pack({})) AS VARCHAR) FROM {new} GROUP BY {list} HAVING count(*) > 1 LIMIT 1",
        keys.iter().map(|key| format!("{0} := {0}", DUCKDB.ident(key))).collect::<Vec<_>>().join(", ")
    );
    match connection.query_row(&twice, [], |row| row.get::<_, String>(0)) {
        Ok(key) => {
            return Err(Error::new(Kind::Data, format!("several different rows have the key {key}"))
                .hint("`newest_by` names the column that tells which of them is the newest"));
        }
        Err(duckdb::Error::QueryReturnedNoRows) => {}
        Err(error) => return Err(failed("looking for keys that come twice", error)),
    }
    let target = DUCKDB.relation(&commit.table);
    let same: Vec<String> =
        keys.iter().map(|key| format!("{target}.{0} IS NOT DISTINCT FROM n.{0}", DUCKDB.ident(key))).collect();
    let sql = format!("DELETE FROM {target} USING {new} AS n WHERE {}", same.join(" AND "));
    execute(connection, "removing the rows of the new keys", &sql)
}
