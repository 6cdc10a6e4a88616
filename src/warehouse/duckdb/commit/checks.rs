//! Checks as DuckDB runs them: on the temporary rows, before they replace the old ones.

use duckdb::Connection;

use super::{failed, failed_in, rows};
use crate::error::Result;
use crate::warehouse::checks::{Asked, fault, settle};
use crate::warehouse::dialect::DUCKDB;
use crate::warehouse::duckdb::prelude;
use crate::warehouse::{BoundCheck, Commit, Committed, NEW_ROWS, UnitCommit};

/// Runs every check; a failed one stops the commit, or is told, as it says itself.
pub(super) fn run(
    connection: &Connection,
    commit: &Commit,
    written: &[&UnitCommit],
    committed: &mut Committed,
) -> Result<()> {
    if commit.checks.is_empty() {
        return Ok(());
    }
    let columns = rows::described(connection)?;
    let has = |name: &str| columns.iter().any(|(column, _)| column.eq_ignore_ascii_case(name));
    let new = format!("temp.main.{NEW_ROWS}");
    for check in &commit.checks {
        let found = match Asked::of(&DUCKDB, check, &new, has, written, committed) {
            Asked::Known(fault) => fault,
            Asked::Rows { sql, missing } => {
                let (wrong, sample) = wrong_rows(connection, check, &sql)?;
                fault(wrong, missing.as_deref(), &sample)
            }
        };
        settle(check, found, committed)?;
    }
    Ok(())
}

/// How many rows a check's SELECT has, and the first of them as JSON.
fn wrong_rows(connection: &Connection, check: &BoundCheck, sql: &str) -> Result<(u64, Vec<String>)> {
    prelude::make(connection, sql)?;
    let count = format!("SELECT count(*) FROM (\n{sql}\n)");
    let wrong: u64 = connection
        .query_row(&count, [], |row| row.get(0))
        .map_err(|error| failed_in(&format!("running the check `{}`", check.name), sql, 1, &error))?;
    if wrong == 0 {
        return Ok((0, Vec::new()));
    }
    let some = format!("SELECT CAST(to_json(q) AS VARCHAR) FROM (\n{sql}\n) AS q LIMIT 3");
    let mut statement = connection.prepare(&some).map_err(|error| failed("reading wrong rows", error))?;
    let rows: Vec<String> = statement
        .query_map([], |row| row.get(0))
        .and_then(Iterator::collect)
        .map_err(|error| failed("reading wrong rows", error))?;
    Ok((wrong, rows))
}
