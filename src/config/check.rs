//! Checks of a step: one rule each, named for screens.

use super::diagnostic::quoted;
use super::file::CheckTable;
use super::pipeline::Surroundings;
use super::reader::{At, Reader, Span};
use crate::model::name::TableName;
use crate::model::pipeline::{Check, CheckRule};

const RULES: &[&str] = &["not_null", "unique", "accepted", "row_count", "relation", "sql"];

/// Reads the checks of a step; those that are wrong are reported and left out.
pub fn checks(tables: Option<&At<Vec<At<CheckTable>>>>, around: &Surroundings<'_>, reader: &mut Reader) -> Vec<Check> {
    let tables = tables.map_or(&[][..], |tables| &tables.value);
    tables.iter().filter_map(|table| check(table, around, reader)).collect()
}

fn check(at: &At<CheckTable>, around: &Surroundings<'_>, reader: &mut Reader) -> Option<Check> {
    let table = &at.value;
    let given = [
        table.not_null.is_some(),
        table.unique.is_some(),
        table.accepted.is_some(),
        table.row_count.is_some(),
        table.relation.is_some(),
        table.sql.is_some(),
    ];
    if given.iter().filter(|given| **given).count() > 1 {
        let both: Vec<&str> = RULES.iter().zip(given).filter(|(_, given)| *given).map(|(rule, _)| *rule).collect();
        let message = format!("a check has one rule, this one has {}", quoted(&both));
        reader.error("bad-check", at.span.clone(), message).help = Some("write a check for each".to_owned());
        return None;
    }
    let before = reader.diagnostics.len();
    let Some((rule, name)) = rule(table, around, reader) else {
        // A rule that is there but wrong was reported when it was read.
        if reader.diagnostics.len() == before && !reader.diagnostics.iter().any(|fault| inside(fault, &at.span)) {
            reader.error("bad-check", at.span.clone(), "a check without a rule").help =
                Some(format!("a check has one of {}", quoted(RULES)));
        }
        return None;
    };
    let name = table.name.as_ref().map_or(name, |name| name.value.clone());
    let severity = table.severity.as_ref().map(|severity| severity.value).unwrap_or_default();
    Some(Check { name, origin: reader.origin(&at.span), rule, severity })
}

fn inside(fault: &super::diagnostic::Diagnostic, span: &Span) -> bool {
    fault.labels.first().is_some_and(|label| span.start <= label.span.start && label.span.end <= span.end)
}

fn rule(table: &CheckTable, around: &Surroundings<'_>, reader: &mut Reader) -> Option<(CheckRule, String)> {
    if let Some(names) = &table.not_null {
        let names = names.value.0.clone();
        let name = format!("not_null({})", names.join(", "));
        return Some((CheckRule::NotNull(names), name));
    }
    if let Some(names) = &table.unique {
        let names = names.value.0.clone();
        let name = format!("unique({})", names.join(", "));
        return Some((CheckRule::Unique(names), name));
    }
    if let Some(accepted) = &table.accepted {
        let column = accepted.value.column.0.as_ref()?.value.clone();
        let values = accepted.value.values.0.as_ref()?;
        if values.value.is_empty() {
            reader.error("empty", values.span.clone(), "no value would be accepted");
            return None;
        }
        let name = format!("accepted({column})");
        return Some((CheckRule::Accepted { column, values: values.value.clone() }, name));
    }
    if let Some(range) = &table.row_count {
        let min = range.value.min.as_ref().map(|at| at.value);
        let max = range.value.max.as_ref().map(|at| at.value);
        let backwards = matches!((min, max), (Some(min), Some(max)) if min > max);
        if backwards || (min.is_none() && max.is_none()) {
            let what = if backwards { "no count of rows lies in this range" } else { "a range of rows without an end" };
            reader.error("bad-check", range.span.clone(), what).help =
                Some("row_count = { min = 1, max = 1000 }".to_owned());
            return None;
        }
        return Some((CheckRule::RowCount { min, max }, "row_count".to_owned()));
    }
    if let Some(relation) = &table.relation {
        let column = relation.value.column.0.as_ref()?.value.clone();
        let to = table_name(relation.value.to.0.as_ref()?, reader)?;
        let field = relation.value.field.0.as_ref()?.value.clone();
        let name = format!("relation({column} -> {to}.{field})");
        return Some((CheckRule::Relation { column, to, field }, name));
    }
    let sql = table.sql.as_ref()?;
    let text = around.sql_text(sql, reader)?;
    Some((CheckRule::Sql(text), "sql".to_owned()))
}

/// Reads a table's name.
pub fn table_name(at: &At<String>, reader: &mut Reader) -> Option<TableName> {
    match TableName::parse(&at.value) {
        Ok(name) => Some(name),
        Err(error) => {
            let help = error.hints().first().map(|hint| (*hint).to_owned());
            reader.error("bad-table-name", at.span.clone(), error.to_string()).help = help;
            None
        }
    }
}
