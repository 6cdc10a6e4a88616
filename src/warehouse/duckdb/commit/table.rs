//! Tables as DuckDB has them: their columns, their changes, and what `_haul_loads` says of them.

use std::collections::HashSet;

use chrono::NaiveDateTime;
use duckdb::{Connection, params};

use super::{execute, failed};
use crate::error::{Error, Kind, Result};
use crate::model::infer::OWN;
use crate::model::ledger::Loaded;
use crate::model::name::TableName;
use crate::model::schema::{Column, LogicalType, Reconciled, SchemaChange, StagedColumn, TableSchema};
use crate::time::UnitKey;
use crate::warehouse::dialect::DUCKDB;
use crate::warehouse::{Commit, NEW_ROWS};

const LOADS: &str = "CREATE TABLE IF NOT EXISTS main._haul_loads (table_name VARCHAR NOT NULL, unit VARCHAR NOT NULL, \
                     pull BIGINT NOT NULL, generation BIGINT NOT NULL, rows BIGINT NOT NULL, fingerprint VARCHAR NOT NULL, \
                     inputs VARCHAR, run VARCHAR NOT NULL, committed_at TIMESTAMP NOT NULL)";

/// Refuses a schema of the file's own name: DuckDB could not tell which of them `name.table` means.
pub(super) fn assert_plain(connection: &Connection, table: &TableName) -> Result<()> {
    let name: String = connection
        .query_row("SELECT current_database()", [], |row| row.get(0))
        .map_err(|error| failed("reading the warehouse's name", error))?;
    if !name.eq_ignore_ascii_case(&table.schema) {
        return Ok(());
    }
    Err(Error::new(Kind::Config, format!("the schema of {table} has the name of the warehouse's file, `{name}`"))
        .hint("DuckDB cannot tell the two apart: give the file or the schema another name"))
}

pub(super) fn ensure_loads(connection: &Connection) -> Result<()> {
    let created = connection.prepare_cached(LOADS).and_then(|mut statement| statement.execute([]));
    created.map(drop).map_err(|error| failed("creating _haul_loads", error))
}

/// The columns of a table without haul's own.
pub fn describe(connection: &Connection, table: &TableName) -> Result<Option<TableSchema>> {
    let doing = |error| failed("reading the columns of a table", error);
    let sql = "SELECT column_name, data_type FROM duckdb_columns() WHERE lower(schema_name) = lower(?) \
               AND lower(table_name) = lower(?) \
               AND database_name = current_database() ORDER BY column_index";
    let mut statement = connection.prepare_cached(sql).map_err(doing)?;
    let columns: Vec<(String, String)> = statement
        .query_map(params![table.schema, table.name], |row| Ok((row.get(0)?, row.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(doing)?;
    if columns.is_empty() {
        return Ok(None);
    }
    let columns = columns
        .into_iter()
        .filter(|(name, _)| !name.to_ascii_lowercase().starts_with(OWN))
        .map(|(name, text)| Column { name, data_type: read_type(&text) })
        .collect();
    Ok(Some(TableSchema { columns }))
}

/// A type as DuckDB writes it; what haul has no word for is passed on.
pub(super) fn read_type(text: &str) -> LogicalType {
    match text {
        "INTEGER" | "SMALLINT" | "TINYINT" | "UBIGINT" | "UINTEGER" | "FLOAT" | "TIMESTAMP WITH TIME ZONE" => {
            LogicalType::Other(text.to_owned())
        }
        _ => LogicalType::parse(text).unwrap_or_else(|_| LogicalType::Other(text.to_owned())),
    }
}

/// Brings the table into the form that the new rows need.
pub(super) fn apply(
    connection: &Connection,
    commit: &Commit,
    before: Option<&TableSchema>,
    reconciled: &Reconciled,
) -> Result<()> {
    let target = DUCKDB.relation(&commit.table);
    if before.is_some() {
        add_own(connection, commit, &target)?;
    }
    for change in &reconciled.changes {
        match change {
            SchemaChange::Create => {
                let schema = DUCKDB.ident(&commit.table.schema);
                execute(connection, "creating a schema", &format!("CREATE SCHEMA IF NOT EXISTS {schema}"))?;
                let typed = |column: &Column| format!("{} {}", DUCKDB.ident(&column.name), column.data_type);
                let mut columns: Vec<String> = reconciled.kept.iter().map(|staged| typed(&staged.column)).collect();
                columns.extend(commit.grain.map(|grain| format!("_haul_unit {}", DUCKDB.unit_type(grain))));
                columns.push("_haul_pull BIGINT".to_owned());
                let sql = format!("CREATE TABLE {target} ({})", columns.join(", "));
                execute(connection, "creating the table", &sql)?;
                // Whatever was loaded into a table of this name before is gone with it.
                forget_loads(connection, commit)?;
            }
            SchemaChange::Add(column) => add(connection, &target, column)?,
            SchemaChange::Widen(column) => {
                let name = DUCKDB.ident(&column.name);
                if let Some(own) = before.and_then(|table| table.column(&column.name)) {
                    assert_held(connection, &target, &name, &own.data_type, &column.data_type)?;
                }
                let sql = format!("ALTER TABLE {target} ALTER COLUMN {name} SET DATA TYPE {}", column.data_type);
                execute(connection, "widening a column", &sql)?;
            }
        }
    }
    Ok(())
}

/// Adds the columns of haul's own to a table of others' making.
fn add_own(connection: &Connection, commit: &Commit, target: &str) -> Result<()> {
    let doing = |error| failed("reading the columns of a table", error);
    let sql = "SELECT column_name FROM duckdb_columns() WHERE lower(schema_name) = lower(?) AND lower(table_name) = lower(?) \
               AND database_name = current_database() AND column_name IN ('_haul_unit', '_haul_pull')";
    let mut statement = connection.prepare_cached(sql).map_err(doing)?;
    let own: Vec<String> = statement
        .query_map(params![commit.table.schema, commit.table.name], |row| row.get(0))
        .and_then(Iterator::collect)
        .map_err(doing)?;
    let unit = commit.grain.map(|grain| ("_haul_unit", DUCKDB.unit_type(grain)));
    for (name, data_type) in unit.into_iter().chain([("_haul_pull", "BIGINT")]) {
        if !own.iter().any(|known| known == name) {
            let sql = format!("ALTER TABLE {target} ADD COLUMN {name} {data_type}");
            execute(connection, "adding a column of haul's own", &sql)?;
        }
    }
    Ok(())
}

fn add(connection: &Connection, target: &str, column: &Column) -> Result<()> {
    let sql = format!("ALTER TABLE {target} ADD COLUMN {} {}", DUCKDB.ident(&column.name), column.data_type);
    execute(connection, "adding a column", &sql)
}

/// Forgets the loads of units that are no longer in the table.
pub(super) fn forget_loads(connection: &Connection, commit: &Commit) -> Result<()> {
    let keys: Vec<String> = commit.units.iter().map(|unit| DUCKDB.literal(unit.key.as_str())).collect();
    let table = DUCKDB.literal(&commit.table.to_string());
    let sql = format!("DELETE FROM main._haul_loads WHERE table_name = {table} AND unit NOT IN ({})", keys.join(", "));
    execute(connection, "writing _haul_loads", &sql)
}

/// Refuses computed numbers that the table's type would round.
pub(super) fn assert_digits(connection: &Connection, incoming: &[StagedColumn], reconciled: &Reconciled) -> Result<()> {
    for kept in &reconciled.kept {
        let same = incoming.iter().find(|staged| staged.source == kept.source);
        if let Some(staged) = same {
            let (relation, name) = (format!("temp.main.{NEW_ROWS}"), DUCKDB.ident(&staged.column.name));
            assert_held(connection, &relation, &name, &staged.column.data_type, &kept.column.data_type)?;
        }
    }
    Ok(())
}

/// Refuses a type that does not hold each number that is there.
fn assert_held(
    connection: &Connection,
    relation: &str,
    name: &str,
    own: &LogicalType,
    wide: &LogicalType,
) -> Result<()> {
    if !own.may_lose(wide) {
        return Ok(());
    }
    // A number is held if it comes back, and, where it stands alone, if it also reads the same.
    let there = match own {
        LogicalType::Struct(_) | LogicalType::List(_) => format!("CAST({name} AS {wide})"),
        _ => format!("CAST(CAST({name} AS {wide}) AS VARCHAR)"),
    };
    let sql = format!("SELECT count(*) FROM {relation} WHERE TRY_CAST({there} AS {own}) IS DISTINCT FROM {name}");
    let lost: u64 =
        connection.query_row(&sql, [], |row| row.get(0)).map_err(|error| failed("widening a column", error))?;
    if lost == 0 {
        return Ok(());
    }
    Err(Error::new(
        Kind::Data,
        format!("the column {name} is {own}, and {lost} of its values would lose digits as {wide}"),
    )
    .hint("declare the column as a DECIMAL that holds both, and change the table's type to it"))
}

/// Whether there is such a table, outside of a transaction, which the answer "no" would end.
///
/// The lists of the catalog tell it too, but for the first look at them DuckDB reads the definitions of all its own views.
fn is_there(connection: &Connection, relation: &str) -> duckdb::Result<bool> {
    match connection.prepare(&format!("SELECT 1 FROM {relation} LIMIT 0")) {
        Ok(_) => Ok(true),
        Err(error) if error.to_string().contains("does not exist") => Ok(false),
        Err(error) => Err(error),
    }
}

/// The newest load of each unit.
pub fn loads(connection: &Connection, tables: &[TableName]) -> Result<Vec<(TableName, UnitKey, Loaded)>> {
    let doing = |error| failed("reading _haul_loads", error);
    if !is_there(connection, "main._haul_loads").map_err(doing)? {
        return Ok(Vec::new());
    }
    let sql = "SELECT unit, pull, generation, rows, fingerprint, inputs, \
               strftime(committed_at, '%Y-%m-%d %H:%M:%S.%f') FROM main._haul_loads WHERE table_name = ? \
               QUALIFY row_number() OVER (PARTITION BY unit ORDER BY generation DESC) = 1 ORDER BY unit";
    let mut statement = connection.prepare(sql).map_err(doing)?;
    let mut found = Vec::new();
    for table in tables {
        // A table that somebody dropped has no units any more, whatever its loads say.
        if !is_there(connection, &DUCKDB.relation(table)).map_err(doing)? {
            continue;
        }
        let rows = statement
            .query_map(params![table.to_string()], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    (row.get(1)?, row.get(2)?, row.get(3)?),
                    row.get::<_, String>(4)?,
                    row.get(5)?,
                    row.get::<_, String>(6)?,
                ))
            })
            .map_err(doing)?;
        for row in rows {
            let (unit, (pull, generation, rows), print, inputs, at) = row.map_err(doing)?;
            let fingerprint = print.parse().map_err(|_| broken(table, &unit, &print))?;
            let loaded_at = NaiveDateTime::parse_from_str(&at, "%Y-%m-%d %H:%M:%S%.f")
                .map_err(|_| broken(table, &unit, &at))?
                .and_utc();
            let loaded = Loaded { pull, generation, rows, fingerprint, inputs, loaded_at };
            found.push((table.clone(), UnitKey::stored(&unit), loaded));
        }
    }
    Ok(found)
}

/// The units of which a table has rows; none for a table without units.
pub fn stocked(connection: &Connection, table: &TableName) -> Result<Option<HashSet<UnitKey>>> {
    let doing = |error| failed("reading the units of a table", error);
    let sql = "SELECT data_type FROM duckdb_columns() WHERE schema_name = ? AND table_name = ? \
               AND database_name = current_database() AND column_name = '_haul_unit'";
    let key = match connection.query_row(sql, params![table.schema, table.name], |row| row.get::<_, String>(0)) {
        Ok(data_type) if data_type == "DATE" => "CAST(_haul_unit AS VARCHAR)",
        Ok(_) => "strftime(_haul_unit, '%Y-%m-%dT%H:%MZ')",
        Err(duckdb::Error::QueryReturnedNoRows) => return Ok(None),
        Err(error) => return Err(doing(error)),
    };
    let sql = format!("SELECT DISTINCT {key} FROM {} WHERE _haul_unit IS NOT NULL", DUCKDB.relation(table));
    let mut statement = connection.prepare(&sql).map_err(doing)?;
    let keys = statement.query_map([], |row| Ok(UnitKey::stored(&row.get::<_, String>(0)?))).map_err(doing)?;
    keys.collect::<std::result::Result<_, _>>().map(Some).map_err(doing)
}

fn broken(table: &TableName, unit: &str, found: &str) -> Error {
    Error::new(Kind::Warehouse, format!("reading the load of {unit} of {table}"))
        .because(format!("`{found}` is none of haul's"))
}
