//! Checks on the new rows, before they replace the old ones.

use duckdb::Connection;
use serde_json::Value;

use super::{failed, failed_in, rows};
use crate::error::{Error, Kind, Result};
use crate::model::pipeline::{CheckRule, Severity};
use crate::warehouse::dialect::DUCKDB;
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
    let has = |name: &String| columns.iter().any(|(column, _)| column.eq_ignore_ascii_case(name));
    for check in &commit.checks {
        // A member that no row has is null in every row.
        let missing: Vec<&String> = named(&check.rule).iter().filter(|name| !has(name)).collect();
        let fault = match &check.rule {
            CheckRule::RowCount { min, max } => row_count(written, committed, *min, *max),
            _ => wrong_rows(connection, check, &missing)?,
        };
        let Some((what, sample)) = fault else { continue };
        match check.severity {
            Severity::Warn => committed.warnings.push(format!("the check `{}` failed: {what}", check.name)),
            Severity::Error => {
                let error =
                    Error::new(Kind::Check, format!("the check `{}` of {} failed", check.name, check_place(check)))
                        .because(what)
                        .hint("the old rows stay; the new ones were not loaded");
                return Err(if sample.is_empty() { error } else { error.detail(sample) });
            }
        }
    }
    Ok(())
}

fn check_place(check: &BoundCheck) -> &'static str {
    if check.sql.is_some() { "the step's own SQL" } else { "the new rows" }
}

fn row_count(
    written: &[&UnitCommit],
    committed: &Committed,
    min: Option<u64>,
    max: Option<u64>,
) -> Option<(String, String)> {
    written.iter().find_map(|unit| {
        let rows = committed.units.iter().find(|one| one.key == unit.key)?.rows;
        let low = min.is_some_and(|min| rows < min);
        let high = max.is_some_and(|max| rows > max);
        (low || high).then(|| {
            let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
            (format!("{} has {rows}", unit.key), String::new())
        })
    })
}

/// The columns that a rule names.
fn named(rule: &CheckRule) -> &[String] {
    match rule {
        CheckRule::NotNull(columns) | CheckRule::Unique(columns) => columns,
        CheckRule::Accepted { column, .. } | CheckRule::Relation { column, .. } => std::slice::from_ref(column),
        CheckRule::RowCount { .. } | CheckRule::Sql(_) => &[],
    }
}

fn wrong_rows(connection: &Connection, check: &BoundCheck, missing: &[&String]) -> Result<Option<(String, String)>> {
    let sql = match (&check.rule, &check.sql) {
        (_, Some(sql)) => sql.trim_end().trim_end_matches(';').to_owned(),
        (rule, None) => statement(rule, missing),
    };
    let count = format!("SELECT count(*) FROM (\n{sql}\n)");
    let wrong: u64 = connection
        .query_row(&count, [], |row| row.get(0))
        .map_err(|error| failed_in(&format!("running the check `{}`", check.name), &sql, 1, error))?;
    if wrong == 0 {
        return Ok(None);
    }
    let some = format!("SELECT CAST(to_json(q) AS VARCHAR) FROM (\n{sql}\n) AS q LIMIT 3");
    let mut statement = connection.prepare(&some).map_err(|error| failed("reading wrong rows", error))?;
    let rows: Vec<String> = statement
        .query_map([], |row| row.get(0))
        .and_then(Iterator::collect)
        .map_err(|error| failed("reading wrong rows", error))?;
    let what = if wrong == 1 { "1 row is wrong".to_owned() } else { format!("{wrong} rows are wrong") };
    let what = match missing {
        [] => what,
        [first, ..] => format!("{what}; none has a column `{first}`"),
    };
    Ok(Some((what, rows.join("\n"))))
}

/// A SELECT of the rows that break a rule.
fn statement(rule: &CheckRule, missing: &[&String]) -> String {
    let whole = std::iter::once("*".to_owned());
    let outputs = whole.chain(missing.iter().map(|column| format!("NULL AS {}", DUCKDB.ident(column))));
    let new = format!("(SELECT {} FROM temp.main.{NEW_ROWS})", outputs.collect::<Vec<_>>().join(", "));
    let list = |columns: &[String]| columns.iter().map(|column| DUCKDB.ident(column)).collect::<Vec<_>>();
    match rule {
        CheckRule::NotNull(columns) => {
            let any: Vec<String> = list(columns).iter().map(|column| format!("{column} IS NULL")).collect();
            format!("SELECT * FROM {new} WHERE {}", any.join(" OR "))
        }
        CheckRule::Unique(columns) => {
            let columns = list(columns).join(", ");
            format!("SELECT {columns}, count(*) AS times FROM {new} GROUP BY {columns} HAVING count(*) > 1")
        }
        CheckRule::Accepted { column, values } => {
            // Null passes anyway, and among the values it would let everything pass.
            let values: Vec<String> = values.iter().filter(|value| !value.is_null()).map(literal).collect();
            let column = DUCKDB.ident(column);
            let accepted =
                if values.is_empty() { "false".to_owned() } else { format!("{column} IN ({})", values.join(", ")) };
            format!("SELECT * FROM {new} WHERE {column} IS NOT NULL AND NOT ({accepted})")
        }
        CheckRule::Relation { column, to, field } => {
            let (column, field, to) = (DUCKDB.ident(column), DUCKDB.ident(field), DUCKDB.relation(to));
            format!(
                "SELECT * FROM {new} WHERE {column} IS NOT NULL AND {column} NOT IN (SELECT {field} FROM {to} WHERE {field} IS NOT NULL)"
            )
        }
        CheckRule::RowCount { .. } | CheckRule::Sql(_) => format!("SELECT * FROM {new} WHERE false"),
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => DUCKDB.literal(text),
        other => other.to_string(),
    }
}
