//! Rows that a test gives: `[[given]]` in a file of `tests/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::expect::named_table;
use super::hook::columns;
use super::reader::{At, Reader, Required, twin};
use super::scalar::Entries;
use super::value::ColumnType;
use crate::model::ga4;
use crate::model::pipeline::{Pipeline, Project};
use crate::model::trial::{Given, GivenRows};

/// The endings of files that have rows.
const ENDINGS: [&str; 4] = ["csv", "json", "jsonl", "ndjson"];

twin! {
    /// A table whose rows a test gives; exactly one of `rows`, `events`, `file` and `sql` says them.
    pub struct GivenTable {
        /// The table, or the step that writes it.
        pub table: Required<String>,
        /// The rows; columns that one leaves out are null.
        pub rows: Option<At<Vec<At<Entries<Value>>>>>,
        /// Events of Google Analytics 4: `{ event = "purchase", at = "2024-05-01T10:00:00", user = "u1", params = { value = 3.5 } }`.
        pub events: Option<At<Vec<At<Entries<Value>>>>>,
        /// A file of rows, relative to the project: `.csv`, `.json`, `.jsonl`, `.ndjson`.
        pub file: Option<At<String>>,
        /// A SELECT that DuckDB computes the rows by.
        pub sql: Option<At<String>>,
        /// Types of columns. Default: what the step that writes the table declares, else what the values look like.
        pub columns: Option<At<Entries<ColumnType>>>,
        /// The column that tells which unit a row is of. Default: the one of the step, else the only column of dates or times.
        pub time_column: Option<At<String>>,
    }
}

/// Reads a table's rows, and builds its events.
pub(super) fn given(at: &At<GivenTable>, pipeline: &Pipeline, project: &Project, reader: &mut Reader) -> Option<Given> {
    let given = &at.value;
    let name = given.table.0.as_ref()?;
    let table = named_table(name, pipeline, reader)?;
    let mut types = BTreeMap::new();
    let mut time_column = given.time_column.as_ref().map(|at| at.value.clone());
    let rows = match (&given.rows, &given.events, &given.file, &given.sql) {
        (Some(rows), None, None, None) => GivenRows::Inline(rows.value.iter().map(members).collect()),
        (None, Some(events), None, None) => {
            types = ga4::columns().unwrap_or_default();
            time_column = time_column.or_else(|| Some("event_date".to_owned()));
            GivenRows::Inline(events.value.iter().filter_map(|event| built(event, pipeline, reader)).collect())
        }
        (None, None, Some(file), None) => GivenRows::File(rows_file(file, project, reader)?),
        (None, None, None, Some(sql)) => GivenRows::Sql(sql.value.clone()),
        _ => {
            let message = "given rows stand in one of `rows`, `events`, `file` and `sql`";
            reader.error("bad-given", at.span.clone(), message).help = Some("rows = [{ id = 1 }]".to_owned());
            return None;
        }
    };
    types.extend(columns(given.columns.as_ref()));
    Some(Given { table, rows, columns: types, time_column })
}

fn members(row: &At<Entries<Value>>) -> Map<String, Value> {
    row.value.0.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect()
}

fn built(event: &At<Entries<Value>>, pipeline: &Pipeline, reader: &mut Reader) -> Option<Map<String, Value>> {
    match ga4::row(&members(event), pipeline.timezone) {
        Ok(row) => Some(row),
        Err(error) => {
            let help = error.hints().first().map(|hint| (*hint).to_owned());
            reader.error("bad-event", event.span.clone(), error.to_string()).help = help;
            None
        }
    }
}

fn rows_file(file: &At<String>, project: &Project, reader: &mut Reader) -> Option<PathBuf> {
    let path = Path::new(&file.value);
    let ending = path.extension().map(|ending| ending.to_string_lossy().into_owned()).unwrap_or_default();
    if !ENDINGS.contains(&ending.as_str()) {
        let message = format!("`{}` is no file of rows", file.value);
        reader.error("bad-file", file.span.clone(), message).help =
            Some("file = \"tests/events.jsonl\", or .csv, .json, .ndjson".to_owned());
        return None;
    }
    if !project.root.join(path).is_file() {
        reader.error("unknown-file", file.span.clone(), format!("there is no file `{}`", file.value)).help =
            Some("the path is relative to the project's folder".to_owned());
        return None;
    }
    Some(path.to_path_buf())
}
