//! Checks on the new rows, before they replace the old ones: their SQL, and what a failed one does.

use serde_json::Value;

use super::{BoundCheck, Committed, Dialect, UnitCommit};
use crate::error::{Error, Kind, Result};
use crate::model::pipeline::{CheckRule, Severity};

/// What a check has found.
pub(super) struct Fault {
    /// What is wrong, in words.
    pub what: String,
    /// Some of the rows that are wrong, as JSON, one a line.
    pub sample: String,
}

/// What a driver has to do for a check.
pub(super) enum Asked {
    /// Nothing: it is known already.
    Known(Option<Fault>),
    /// Count the rows of this SELECT, and show some of them.
    Rows {
        /// A SELECT of the rows that are wrong.
        sql: String,
        /// A column of the rule that no row has.
        missing: Option<String>,
    },
}

impl Asked {
    /// What a check asks of the rows in `new`, a relation whose columns `has` knows.
    pub fn of(
        dialect: &Dialect,
        check: &BoundCheck,
        new: &str,
        has: impl Fn(&str) -> bool,
        written: &[&UnitCommit],
        committed: &Committed,
    ) -> Self {
        // A member that no row has is null in every row.
        let missing: Vec<&String> = named(&check.rule).iter().filter(|name| !has(name)).collect();
        match (&check.rule, &check.sql) {
            (CheckRule::RowCount { min, max }, _) => Self::Known(row_count(written, committed, *min, *max)),
            (_, Some(sql)) => Self::Rows { sql: sql.trim_end().trim_end_matches(';').to_owned(), missing: None },
            (rule, None) => Self::Rows {
                sql: statement(dialect, rule, &missing, new),
                missing: missing.first().map(|name| (*name).clone()),
            },
        }
    }
}

/// The fault of a check whose SELECT has so many rows.
pub(super) fn fault(wrong: u64, missing: Option<&str>, sample: &[String]) -> Option<Fault> {
    if wrong == 0 {
        return None;
    }
    let what = if wrong == 1 { "1 row is wrong".to_owned() } else { format!("{wrong} rows are wrong") };
    let what = match missing {
        None => what,
        Some(name) => format!("{what}; none has a column `{name}`"),
    };
    Some(Fault { what, sample: sample.join("\n") })
}

/// Stops the commit by a failed check, or keeps its words, as the check says itself.
///
/// # Errors
/// [`Kind::Check`] where it stops.
pub(super) fn settle(check: &BoundCheck, fault: Option<Fault>, committed: &mut Committed) -> Result<()> {
    let Some(Fault { what, sample }) = fault else { return Ok(()) };
    if check.severity == Severity::Warn {
        committed.warnings.push(format!("the check `{}` failed: {what}", check.name));
        return Ok(());
    }
    let place = if check.sql.is_some() { "the step's own SQL" } else { "the new rows" };
    let error = Error::new(Kind::Check, format!("the check `{}` of {place} failed", check.name))
        .because(what)
        .hint("the old rows stay; the new ones were not loaded");
    Err(if sample.is_empty() { error } else { error.detail(sample) })
}

fn row_count(written: &[&UnitCommit], committed: &Committed, min: Option<u64>, max: Option<u64>) -> Option<Fault> {
    written.iter().find_map(|unit| {
        let rows = committed.units.iter().find(|one| one.key == unit.key)?.rows;
        let low = min.is_some_and(|min| rows < min);
        let high = max.is_some_and(|max| rows > max);
        (low || high).then(|| {
            let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
            Fault { what: format!("{} has {rows}", unit.key), sample: String::new() }
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

/// A SELECT of the rows that break a rule.
fn statement(dialect: &Dialect, rule: &CheckRule, missing: &[&String], new: &str) -> String {
    let mut columns = vec!["*".to_owned()];
    columns.extend(missing.iter().map(|column| format!("NULL AS {}", dialect.ident(column))));
    let new = format!("(SELECT {} FROM {new}) AS n", columns.join(", "));
    let list = |columns: &[String]| columns.iter().map(|column| dialect.ident(column)).collect::<Vec<_>>();
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
            let values = values.iter().filter(|value| !value.is_null());
            let values: Vec<String> = values.map(|value| literal(dialect, value)).collect();
            let column = dialect.ident(column);
            let accepted =
                if values.is_empty() { "false".to_owned() } else { format!("{column} IN ({})", values.join(", ")) };
            format!("SELECT * FROM {new} WHERE {column} IS NOT NULL AND NOT ({accepted})")
        }
        CheckRule::Relation { column, to, field } => {
            let (column, field, to) = (dialect.ident(column), dialect.ident(field), dialect.relation(to));
            format!(
                "SELECT * FROM {new} WHERE {column} IS NOT NULL AND {column} NOT IN (SELECT {field} FROM {to} WHERE {field} IS NOT NULL)"
            )
        }
        CheckRule::RowCount { .. } | CheckRule::Sql(_) => format!("SELECT * FROM {new} WHERE false"),
    }
}

fn literal(dialect: &Dialect, value: &Value) -> String {
    match value {
        Value::String(text) => dialect.literal(text),
        other => other.to_string(),
    }
}
