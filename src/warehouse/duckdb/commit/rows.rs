//! New rows on their way into a table: read, computed, digested.

use duckdb::Connection;

use super::table::read_type;
use super::{failed, failed_in};
use crate::error::{Error, Kind, Result};
use crate::model::infer::OWN;
use crate::model::ledger::Fingerprint;
use crate::model::schema::{Column, LogicalType, Reading, Reconciled, StagedColumn, TableSchema};
use crate::model::shape::{Number, Seen};
use crate::time::Unit;
use crate::warehouse::dialect::DUCKDB;
use crate::warehouse::duckdb::prelude;
use crate::warehouse::units::{self, absent};
use crate::warehouse::{Commit, NEW_ROWS, NewRows, UnitCommit};

/// A SELECT that reads the staged rows of these units, typed and named as the table has them.
pub(super) fn staged_select(commit: &Commit, units: &[&UnitCommit], reconciled: &Reconciled) -> String {
    let NewRows::Staged { files, unit_in_rows, longest_row, .. } = &commit.rows else { return String::new() };
    if files.is_empty() {
        return empty_select(commit, reconciled);
    }
    let mut outputs: Vec<String> = reconciled.kept.iter().map(cast).collect();
    let unit = match (commit.grain, unit_in_rows, units) {
        (None, _, _) => None,
        (Some(grain), true, _) => Some(format!("CAST(r._haul_unit AS {}) AS _haul_unit", DUCKDB.unit_type(grain))),
        (Some(_), false, units) => units
            .first()
            .and_then(|unit| unit.unit.as_ref())
            .map(|unit| format!("{} AS _haul_unit", DUCKDB.unit_literal(unit))),
    };
    outputs.extend(unit);
    let mut types: Vec<String> = reconciled.kept.iter().map(read_as).collect();
    if *unit_in_rows {
        types.push("'_haul_unit': 'VARCHAR'".to_owned());
    }
    if types.is_empty() {
        types.push("'_haul_nothing': 'VARCHAR'".to_owned());
    }
    let files: Vec<String> = files.iter().map(|file| DUCKDB.literal(&no_pattern(&file.to_string_lossy()))).collect();
    // The reader's buffers grow with this; rows are known to be no longer.
    let object = (longest_row + 1024).max(64 << 10);
    let inner = format!(
        "SELECT {} FROM read_json([{}], format = 'newline_delimited', compression = 'zstd', maximum_object_size = {object}, \
         columns = {{{}}}) AS r",
        if outputs.is_empty() { "1 AS _haul_one".to_owned() } else { outputs.join(", ") },
        files.join(", "),
        types.join(", "),
    );
    let condition =
        if *unit_in_rows { format!(" WHERE {}", units::condition(&DUCKDB, commit, units)) } else { String::new() };
    let exclude = if outputs.is_empty() { " EXCLUDE (_haul_one)" } else { "" };
    format!("SELECT *{exclude}, ({})::BIGINT AS _haul_pull FROM ({inner}){condition}", units::pull(&DUCKDB, units))
}

/// A SELECT of no rows, with the columns that there would be.
fn empty_select(commit: &Commit, reconciled: &Reconciled) -> String {
    let null =
        |staged: &StagedColumn| format!("NULL::{} AS {}", staged.column.data_type, DUCKDB.ident(&staged.column.name));
    let mut outputs: Vec<String> = reconciled.kept.iter().map(null).collect();
    outputs.extend(commit.grain.map(|grain| format!("NULL::{} AS _haul_unit", DUCKDB.unit_type(grain))));
    format!("SELECT {}, NULL::BIGINT AS _haul_pull WHERE false", outputs.join(", "))
}

/// A path as the reader's list of files has it: a bracket or a star in a folder's name is no pattern.
fn no_pattern(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[') {
            plain.extend(['[', c, ']']);
        } else {
            plain.push(c);
        }
    }
    plain
}

/// The columns that the table gets from the new rows, haul's own among them.
pub(super) fn columns_of(commit: &Commit, reconciled: &Reconciled) -> String {
    let mut names: Vec<String> = reconciled.kept.iter().map(|staged| DUCKDB.ident(&staged.column.name)).collect();
    names.extend(commit.grain.map(|_| "_haul_unit".to_owned()));
    names.push("_haul_pull".to_owned());
    names.join(", ")
}

/// A SELECT of the staged rows with every column of the table: those that no row has are null.
pub(super) fn whole_select(select: &str, target: Option<&TableSchema>, reconciled: &Reconciled) -> String {
    let nulls: Vec<String> = absent(target, reconciled)
        .map(|column| format!("NULL::{} AS {}", column.data_type, DUCKDB.ident(&column.name)))
        .collect();
    if nulls.is_empty() { select.to_owned() } else { format!("SELECT *, {} FROM ({select})", nulls.join(", ")) }
}

/// What the JSON reader is told of a member.
fn read_as(staged: &StagedColumn) -> String {
    let data_type = &staged.column.data_type;
    let data_type = match (staged.reading, data_type) {
        (_, LogicalType::Decimal { precision, scale }) if floats_hold(&staged.seen, *precision, *scale) => {
            data_type.to_string()
        }
        (Reading::Direct, data_type) if !matches!(data_type, LogicalType::Decimal { .. }) => data_type.to_string(),
        _ => "VARCHAR".to_owned(),
    };
    format!("{}: {}", DUCKDB.literal(&staged.source), DUCKDB.literal(&data_type))
}

/// Whether all values are numbers that become this decimal without a loss by way of a 64-bit float, as the reader does it.
///
/// It multiplies by a power of ten and rounds: with 15 digits the error of both is less than a half of the last one.
fn floats_hold(seen: &Seen, precision: u8, scale: u8) -> bool {
    let only_numbers = seen.text.is_none() && seen.boolean.is_none() && seen.object.is_none() && seen.list.is_none();
    let digits = |number: Number| number.digits.count.saturating_add(scale.into());
    let held = |number: Number| number.scale.count <= scale.into() && digits(number) <= u16::from(precision).min(15);
    only_numbers && seen.number.is_some_and(held)
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
    prelude::make(connection, plain)?;
    let unit = match (commit.grain, time_column, commit.units.as_slice()) {
        (None, _, _) => String::new(),
        (Some(_), None, [only]) => {
            only.unit.as_ref().map(|unit| format!(", {} AS _haul_unit", DUCKDB.unit_literal(unit))).unwrap_or_default()
        }
        (Some(grain), Some(column), units) => {
            let arms: Vec<String> =
                units.iter().filter_map(|unit| unit.unit.as_ref()).map(|unit| arm(unit, column)).collect();
            format!(", CAST(CASE {} END AS {}) AS _haul_unit", arms.join(" "), DUCKDB.unit_type(grain))
        }
        (Some(_), None, _) => {
            return Err(Error::new(Kind::Config, "dividing the rows of a window into units")
                .hint("a transform with `per = \"window\"` names its `time_column`"));
        }
    };
    // The user's statement begins on a line of its own, so that the lines of an error can be counted back.
    // What it reads may have come from other units: their columns of haul's own are not this row's.
    let create = format!(
        "CREATE TEMP TABLE {NEW_ROWS} AS SELECT COLUMNS(lambda c: NOT starts_with(lower(c), '{OWN}')){unit} FROM (\n{plain}\n) AS q"
    );
    connection.execute_batch(&create).map_err(|error| failed_in("computing the rows", plain, 1, &error))?;
    if commit.grain.is_some() {
        let sql = format!("SELECT count(*) FROM temp.main.{NEW_ROWS} WHERE _haul_unit IS NULL");
        let outside: u64 =
            connection.query_row(&sql, [], |row| row.get(0)).map_err(|error| failed("counting rows", error))?;
        if outside > 0 {
            return Err(Error::new(Kind::Data, format!("rows outside of the window: {outside}"))
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
        DUCKDB.unit_literal(unit),
    )
}

/// The names and types of the new rows' columns.
pub(super) fn described(connection: &Connection) -> Result<Vec<(String, String)>> {
    let doing = |error| failed("reading the columns of the new rows", error);
    let mut statement = connection.prepare(&format!("DESCRIBE temp.main.{NEW_ROWS}")).map_err(doing)?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect).map_err(doing)
}

/// The columns of the computed rows.
pub(super) fn columns(connection: &Connection) -> Result<Vec<StagedColumn>> {
    let found = described(connection)?;
    Ok(found
        .into_iter()
        // A column of nothing but untyped nulls is like a member that no row has.
        .filter(|(name, text)| !name.to_ascii_lowercase().starts_with(OWN) && text.trim_matches('"') != "NULL")
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
    outputs.push(format!("({})::BIGINT AS _haul_pull", units::pull(&DUCKDB, units)));
    format!("SELECT {} FROM temp.main.{NEW_ROWS}", outputs.join(", "))
}

/// Rows and digest of one unit's computed rows; the same rows have the same digest in any order.
pub(super) fn fingerprint(
    connection: &Connection,
    commit: &Commit,
    unit: &UnitCommit,
    reconciled: &Reconciled,
) -> Result<(u64, Fingerprint)> {
    let columns: Vec<String> = reconciled.kept.iter().map(|staged| DUCKDB.ident(&staged.column.name)).collect();
    // The names and types are part of what the rows are: another name is another table.
    let names = reconciled.kept.iter().map(|staged| format!("{} {}", staged.column.name, staged.column.data_type));
    let names = DUCKDB.literal(&names.collect::<Vec<_>>().join(", "));
    let list = std::iter::once(names).chain(columns).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT count(*), (coalesce(sum(hash({list})::HUGEINT), 0) % 18446744073709551616)::VARCHAR, \
         (coalesce(sum(hash(7, {list})::HUGEINT), 0) % 18446744073709551616)::VARCHAR FROM temp.main.{NEW_ROWS} WHERE {}",
        units::condition(&DUCKDB, commit, &[unit])
    );
    let (rows, high, low): (u64, String, String) = connection
        .query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .map_err(|error| failed("digesting the new rows", error))?;
    let part = |text: &str| text.parse::<u64>().map_or(0, u128::from);
    Ok((rows, Fingerprint(part(&high) << 64 | part(&low))))
}
