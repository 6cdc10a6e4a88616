//! The rows of a query as JSON, with all their digits.

use std::path::Path;

use duckdb::Connection;
use duckdb::arrow::array::StringArray;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{commit, prelude};
use crate::error::{Error, Result};
use crate::model::schema::LogicalType;
use crate::warehouse::Rows;
use crate::warehouse::dialect::DUCKDB;
use crate::warehouse::rows::{ONLY_READS, parsed, writes};

/// Runs a statement that stands where a table could, so that it is one, and reads.
pub(super) fn run(connection: &Connection, sql: &str, max_rows: usize) -> Result<Rows> {
    let plain = sql.trim_end().trim_end_matches(';');
    prelude::make(connection, plain)?;
    // Our line stands before the statement's first.
    let failed = |error| {
        let error = commit::failed_in("running the query", plain, 1, &error);
        if writes(plain) { error.hint(ONLY_READS) } else { error }
    };
    let mut statement = connection.prepare(&format!("DESCRIBE SELECT * FROM (\n{plain}\n) AS q")).map_err(failed)?;
    let described: Vec<(String, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect).map_err(failed)?;
    let cells: Vec<String> =
        described.iter().enumerate().map(|(index, (_, data_type))| cell(&format!("c{index}"), data_type)).collect();
    let names: Vec<String> = (0..described.len()).map(|index| format!("c{index}")).collect();
    let wrapped = format!(
        "SELECT {} FROM (\n{plain}\n) AS q({}) LIMIT {}",
        cells.join(", "),
        names.join(", "),
        max_rows.saturating_add(1)
    );
    let mut statement = connection.prepare(&wrapped).map_err(failed)?;
    let count = described.len();
    let mut rows: Vec<Vec<Value>> = statement
        .query_map([], |row| {
            let cells = (0..count).map(|index| row.get::<_, Option<String>>(index));
            cells.map(|cell| Ok(cell?.map_or(Value::Null, |text| parsed(&text)))).collect()
        })
        .and_then(Iterator::collect)
        .map_err(failed)?;
    let truncated = rows.len() > max_rows;
    rows.truncate(max_rows);
    // Names may repeat where the statement gives the same one twice; the cells are told by their place.
    let columns = described.into_iter().map(|(name, _)| name).collect();
    Ok(Rows { columns, rows, truncated })
}

/// Sends the texts of a statement's only column, in batches, until it ends or nobody takes them.
pub(super) fn stream(connection: &Connection, sql: &str, rows: &mpsc::Sender<Vec<String>>) -> Result<()> {
    prelude::make(connection, sql)?;
    let failed = |error| commit::failed_in("reading rows", sql, 0, &error);
    let mut statement = connection.prepare(sql).map_err(failed)?;
    for batch in statement.stream_arrow([]).map_err(failed)? {
        let batch = batch.map_err(failed)?;
        let texts = batch.columns().first().and_then(|column| column.as_any().downcast_ref::<StringArray>());
        let texts = texts.ok_or_else(|| Error::internal("the rows of a stream are no texts"))?;
        let texts: Vec<String> = texts.iter().flatten().map(str::to_owned).collect();
        if rows.blocking_send(texts).is_err() {
            break;
        }
    }
    Ok(())
}

/// Writes the rows of a statement as JSON, one object a line, without holding them.
pub(super) fn export(connection: &Connection, sql: &str, path: &Path) -> Result<()> {
    let plain = sql.trim_end().trim_end_matches(';');
    prelude::make(connection, plain)?;
    let file = DUCKDB.literal(&path.to_string_lossy());
    let statement = format!("COPY (\n{plain}\n) TO {file} (FORMAT json)");
    connection.execute_batch(&statement).map_err(|error| commit::failed_in("reading the items", plain, 1, &error))
}

/// A column as the text of its JSON.
fn cell(name: &str, data_type: &str) -> String {
    if data_type == "TIMESTAMP WITH TIME ZONE" {
        return format!("to_json(CAST({name} AS TIMESTAMP)::VARCHAR || '+00')::VARCHAR");
    }
    match LogicalType::parse(data_type) {
        Ok(known) if has_decimal(&known) => format!("to_json(CAST({name} AS {}))::VARCHAR", as_text(&known)),
        _ => format!("to_json({name})::VARCHAR"),
    }
}

fn has_decimal(data_type: &LogicalType) -> bool {
    match data_type {
        LogicalType::Decimal { .. } => true,
        LogicalType::List(element) => has_decimal(element),
        LogicalType::Struct(fields) => fields.iter().any(|field| has_decimal(&field.data_type)),
        _ => false,
    }
}

/// The type with texts in the place of decimals, whose last zeros are digits too.
fn as_text(data_type: &LogicalType) -> LogicalType {
    match data_type {
        LogicalType::Decimal { .. } => LogicalType::Text,
        LogicalType::List(element) => LogicalType::List(Box::new(as_text(element))),
        LogicalType::Struct(fields) => {
            let mut fields = fields.clone();
            for field in &mut fields {
                field.data_type = as_text(&field.data_type);
            }
            LogicalType::Struct(fields)
        }
        other => other.clone(),
    }
}
