//! The units of a commit in SQL: which rows are theirs, and of which pull each row is.

use super::{Commit, Dialect, UnitCommit};
use crate::model::schema::{Column, Reconciled, TableSchema};

/// The condition that holds for the rows of these units, and for no others.
///
/// Its values are literals, so that a warehouse with partitions reads none but theirs.
pub(super) fn condition(dialect: &Dialect, commit: &Commit, units: &[&UnitCommit]) -> String {
    if commit.grain.is_none() {
        return "true".to_owned();
    }
    let list: Vec<String> =
        units.iter().filter_map(|unit| unit.unit.as_ref().map(|unit| dialect.unit_literal(unit))).collect();
    match list.as_slice() {
        [] => "false".to_owned(),
        list => format!("_haul_unit IN ({})", list.join(", ")),
    }
}

/// The pull of each row: that of its unit.
pub(super) fn pull(dialect: &Dialect, units: &[&UnitCommit]) -> String {
    if let [only] = units {
        return only.pull.to_string();
    }
    let arm = |unit: &&UnitCommit| {
        unit.unit.as_ref().map(|span| format!("WHEN {} THEN {}", dialect.unit_literal(span), unit.pull))
    };
    let arms: Vec<String> = units.iter().filter_map(arm).collect();
    format!("CASE _haul_unit {} END", arms.join(" "))
}

/// The table's columns that the new rows do not have.
pub(super) fn absent<'t>(
    target: Option<&'t TableSchema>,
    reconciled: &'t Reconciled,
) -> impl Iterator<Item = &'t Column> {
    target
        .into_iter()
        .flat_map(|table| &table.columns)
        .filter(|column| !reconciled.kept.iter().any(|staged| staged.column.name.eq_ignore_ascii_case(&column.name)))
}

/// The condition under which the rows `old` and `new` have the same keys; null is a key like any other.
pub(super) fn same_keys(dialect: &Dialect, keys: &[String], old: &str, new: &str) -> String {
    let same = keys.iter().map(|key| {
        let key = dialect.ident(key);
        format!("{old}.{key} IS NOT DISTINCT FROM {new}.{key}")
    });
    same.collect::<Vec<_>>().join(" AND ")
}
