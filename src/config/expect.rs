//! What a test expects of a table: `[[expect]]` in a file of `tests/`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::check::table_name;
use super::diagnostic::known_names;
use super::reader::{At, Reader, Span, twin};
use super::scalar::{Entries, Names};
use crate::model::name::TableName;
use crate::model::pipeline::Pipeline;
use crate::model::trial::{Expectation, Expected, Subject};

twin! {
    /// A table, or the rows of a SELECT, and what they have to be.
    pub struct ExpectTable {
        /// The table, or the step that writes it.
        pub table: Option<At<String>>,
        /// A SELECT, where a table says too much.
        pub sql: Option<At<String>>,
        /// The rows. Columns that none of them names are not compared; one that a row leaves out is null there.
        pub rows: Option<At<Vec<At<Entries<Value>>>>>,
        /// The rows in a file, `.csv` or `.jsonl`, relative to the project; `haul test --update` writes it.
        pub file: Option<At<String>>,
        /// How many rows.
        pub count: Option<At<u64>>,
        /// The columns that are compared; dots lead into records. Default: those of the expected rows.
        pub columns: Option<At<Names>>,
        /// Whether the order of rows counts. Default false.
        pub ordered: Option<At<bool>>,
        /// After which run, from 1. Default: after the last one.
        pub after: Option<At<u64>>,
    }
}

/// A table by its own name, or by that of the step that writes it.
pub(super) fn named_table(name: &At<String>, pipeline: &Pipeline, reader: &mut Reader) -> Option<TableName> {
    match pipeline.step(&name.value) {
        Some(step) => Some(step.into.clone()),
        None => table_name(name, reader),
    }
}

pub(super) fn expectation(
    at: &At<ExpectTable>,
    runs: usize,
    pipeline: &Pipeline,
    reader: &mut Reader,
) -> Option<Expectation> {
    let table = &at.value;
    let subject = match (&table.table, &table.sql) {
        (Some(name), None) => {
            let read = named_table(name, pipeline, reader)?;
            let written: Vec<String> = pipeline.steps.iter().map(|step| step.into.to_string()).collect();
            if !written.contains(&read.to_string()) {
                let message = format!("no step of `{}` writes {read}", pipeline.name);
                let help = known_names(&name.value, written.iter().map(String::as_str));
                reader.error("unknown-table", name.span.clone(), message).help = help;
            }
            Subject::Table(read)
        }
        (None, Some(sql)) => Subject::Query(sql.value.clone()),
        _ => return one_of(at.span.clone(), "`table` or `sql`", reader),
    };
    let row = |row: &At<Entries<Value>>| -> Map<String, Value> {
        row.value.0.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect()
    };
    let rows = match (&table.rows, &table.file) {
        (Some(rows), None) => Expected::Inline(rows.value.iter().map(row).collect()),
        (None, Some(file)) if is_rows(&file.value) => Expected::File(PathBuf::from(&file.value)),
        (None, Some(file)) => {
            let message = format!("`{}` is no file of rows inside the project", file.value);
            reader.error("bad-file", file.span.clone(), message).help =
                Some("file = \"tests/orders.expected.csv\", or .jsonl".to_owned());
            return None;
        }
        (None, None) if table.count.is_some() => Expected::Count,
        _ => return one_of(at.span.clone(), "`rows`, `file` or `count`", reader),
    };
    let after = match &table.after {
        None => runs,
        Some(at) => {
            let Some(run) = usize::try_from(at.value).ok().filter(|run| (1..=runs).contains(run)) else {
                reader.error("out-of-range", at.span.clone(), format!("there is no run {}", at.value)).help =
                    Some(format!("the runs of this test are 1 to {runs}"));
                return None;
            };
            run
        }
    };
    Some(Expectation {
        after,
        subject,
        rows,
        count: table.count.as_ref().map(|at| at.value),
        columns: table.columns.as_ref().map(|at| at.value.0.clone()).unwrap_or_default(),
        ordered: table.ordered.as_ref().is_some_and(|at| at.value),
    })
}

/// Whether a path names rows, and stays in the project: `--update` writes there.
fn is_rows(path: &str) -> bool {
    let path = Path::new(path);
    let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    inside && path.extension().is_some_and(|ending| ending == "csv" || ending == "jsonl")
}

fn one_of<T>(span: Span, keys: &str, reader: &mut Reader) -> Option<T> {
    reader.error("bad-expectation", span, format!("an expectation has one of {keys}")).help =
        Some("table = \"raw.orders\" with rows = [{ id = 1 }]".to_owned());
    None
}
