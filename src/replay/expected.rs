//! Expected rows: written in a test, or in a file of CSV or JSON Lines beside it.

use std::path::Path;

use serde_json::{Map, Value};

use super::compare::{self, Table};
use crate::error::{Context, Error, Kind, Result};
use crate::warehouse::Rows;

/// The rows of a test itself; a column that a row leaves out is null there.
pub(super) fn inline(rows: &[Map<String, Value>]) -> Table {
    let mut columns: Vec<String> = Vec::new();
    for name in rows.iter().flat_map(Map::keys) {
        if !columns.contains(name) {
            columns.push(name.clone());
        }
    }
    let cells =
        |row: &Map<String, Value>| columns.iter().map(|name| row.get(name).cloned().unwrap_or_default()).collect();
    let rows = rows.iter().map(cells).collect();
    Table { columns, rows, texts: false }
}

/// The rows of a file.
///
/// # Errors
/// A file that cannot be read, or that is not what its ending says, with the line.
pub(super) fn read(place: &Path, name: &Path) -> Result<Table> {
    let doing = || format!("reading {}", name.display());
    let text = std::fs::read_to_string(place).context(Kind::Storage, doing)?;
    if name.extension().is_some_and(|ending| ending == "jsonl") {
        let mut rows = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let row =
                serde_json::from_str(line).context(Kind::Config, || format!("{}, line {}", doing(), number + 1))?;
            rows.push(row);
        }
        return Ok(inline(&rows));
    }
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers().context(Kind::Config, doing)?.iter().map(str::to_owned).collect();
    let cell = |text: &str| if text.is_empty() { Value::Null } else { Value::from(text) };
    let mut rows = Vec::new();
    for record in reader.records() {
        rows.push(record.context(Kind::Config, doing)?.iter().map(cell).collect());
    }
    Ok(Table { columns, rows, texts: true })
}

/// Writes rows into a file, in the order of their cells where no other counts; whether anything is different from before.
pub(super) fn write(place: &Path, name: &Path, columns: &[String], found: &Rows, ordered: bool) -> Result<bool> {
    let doing = || format!("writing {}", name.display());
    let own: Vec<String> = found.columns.iter().filter(|column| !compare::is_own(column)).cloned().collect();
    let columns = if columns.is_empty() { &own } else { columns };
    let mut rows: Vec<Vec<Value>> = found
        .rows
        .iter()
        .map(|row| {
            columns.iter().map(|column| compare::cell(found, row, column).cloned().unwrap_or_default()).collect()
        })
        .collect();
    if !ordered {
        rows.sort_by_cached_key(|row| compare::sort_key(row));
    }
    let text = if name.extension().is_some_and(|ending| ending == "jsonl") {
        let line = |row: &Vec<Value>| {
            let row: Map<String, Value> = columns.iter().cloned().zip(row.iter().cloned()).collect();
            Value::Object(row).to_string() + "\n"
        };
        rows.iter().map(line).collect::<String>()
    } else {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(columns).context(Kind::Storage, doing)?;
        for row in &rows {
            writer.write_record(row.iter().map(compare::shown)).context(Kind::Storage, doing)?;
        }
        let bytes = writer.into_inner().map_err(|error| Error::internal(doing()).because(error.to_string()))?;
        String::from_utf8(bytes).context(Kind::Internal, doing)?
    };
    if std::fs::read_to_string(place).is_ok_and(|before| before == text) {
        return Ok(false);
    }
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).context(Kind::Storage, doing)?;
    }
    std::fs::write(place, text).context(Kind::Storage, doing)?;
    Ok(true)
}
