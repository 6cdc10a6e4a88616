//! Staged rows as files: typed by an empty DuckDB in memory, and written without being held.

use std::path::{Path, PathBuf};

use duckdb::Connection;

use super::{checks, execute, failed, rows};
use crate::error::{Context, Error, Kind, Result};
use crate::model::fit;
use crate::model::load::{Compression, FileForm, WrittenFormat};
use crate::model::schema::{Column, LogicalType, Reconciled};
use crate::warehouse::dialect::DUCKDB;
use crate::warehouse::{Commit, CommitOutcome, Committed, NEW_ROWS, UnitCommit, UnitCommitted};

/// Rows of Parquet that are written at once.
const ROW_GROUP: u32 = 60 * 2048;

/// Writes the rows of a commit's only unit into a folder, and runs the commit's checks on them before.
///
/// Returns the files in their order; a unit without rows has none.
///
/// # Errors
/// Values that the format cannot hold, a check that fails, and a stage whose files were changed.
pub(in crate::warehouse) fn write(
    connection: &Connection,
    commit: &Commit,
    form: FileForm,
    folder: &Path,
) -> Result<(Vec<PathBuf>, Committed)> {
    let Some(unit) = commit.units.first() else { return Ok((Vec::new(), Committed::default())) };
    let crate::warehouse::NewRows::Staged { columns, .. } = &commit.rows else {
        return Err(Error::internal("files are written from staged rows"));
    };
    let reconciled = fit::reconcile(None, columns, commit.contract)?;
    let (count, fingerprint) = unit.staged.unwrap_or_default();
    let outcome = CommitOutcome::Written;
    let told = UnitCommitted { key: unit.key.clone(), outcome, rows: count, fingerprint, changes: None };
    let mut committed = Committed { units: vec![told], ..Committed::default() };
    let select = rows::staged_select(commit, &[unit], &reconciled);
    if !commit.checks.is_empty() {
        let view = format!("CREATE OR REPLACE TEMP VIEW {NEW_ROWS} AS {select}");
        execute(connection, "reading the staged rows", &view)?;
        checks::run(connection, commit, &[unit], &mut committed)?;
    }
    if count == 0 {
        return Ok((Vec::new(), committed));
    }
    let selected = outputs(&reconciled, form.format)?;
    copy(connection, &format!("SELECT {selected} FROM ({select})"), form, folder, unit)?;
    Ok((listed(folder)?, committed))
}

fn copy(connection: &Connection, select: &str, form: FileForm, folder: &Path, unit: &UnitCommit) -> Result<()> {
    let place = DUCKDB.literal(&folder.to_string_lossy());
    let compression = form.compression.word();
    let how = match form.format {
        WrittenFormat::Parquet => {
            let compression = if form.compression == Compression::None { "uncompressed" } else { compression };
            format!("FORMAT parquet, COMPRESSION {compression}, ROW_GROUP_SIZE {ROW_GROUP}")
        }
        WrittenFormat::Csv => format!("FORMAT csv, HEADER true, COMPRESSION {compression}"),
        // Each row is one text already, in which no control character stands as such: nothing is quoted.
        WrittenFormat::Jsonl => {
            format!("FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x1f', COMPRESSION {compression}")
        }
    };
    let sql = format!(
        "COPY ({select}) TO {place} ({how}, FILE_SIZE_BYTES {}, FILENAME_PATTERN 'part_{{i}}', OVERWRITE_OR_IGNORE true)",
        form.max_bytes
    );
    let written = connection.execute(&sql, []).map_err(|error| {
        failed("writing the file", error).hint(
            "a value does not fit the column's type: columns = { … = \"VARCHAR\" } writes it as the text that it is",
        )
    })?;
    let expected = unit.staged.map(|(rows, _)| rows).unwrap_or_default();
    if u64::try_from(written).is_ok_and(|rows| rows == expected) {
        return Ok(());
    }
    Err(Error::new(Kind::Storage, format!("the stage has {written} rows, its manifest says {expected}"))
        .hint("its files were changed since it was sealed: run again with --force"))
}

/// The files of a folder in the order in which they were begun.
fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let doing = || format!("listing {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).context(Kind::Storage, doing)? {
        let path = entry.context(Kind::Storage, doing)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let number = name.strip_prefix("part_").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        files.push((number.unwrap_or(u32::MAX), path));
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// The columns of a file.
///
/// # Errors
/// Columns that the format has no way to write.
fn outputs(reconciled: &Reconciled, format: WrittenFormat) -> Result<String> {
    let columns: Vec<&Column> = reconciled.kept.iter().map(|staged| &staged.column).collect();
    if columns.is_empty() {
        return Err(Error::new(Kind::Data, "writing the file").because("no row has any column"));
    }
    match format {
        WrittenFormat::Parquet => Ok(columns.into_iter().map(parquet).collect::<Vec<_>>().join(", ")),
        WrittenFormat::Csv => Ok(columns.into_iter().map(csv).collect::<Result<Vec<_>>>()?.join(", ")),
        WrittenFormat::Jsonl => Ok(json_row(&columns)),
    }
}

/// A whole number of 128 bits would become a float in Parquet: as a decimal it keeps its digits, or is refused.
fn parquet(column: &Column) -> String {
    let name = DUCKDB.ident(&column.name);
    let wide = parquet_type(&column.data_type);
    if wide == column.data_type { name } else { format!("CAST({name} AS {wide}) AS {name}") }
}

fn parquet_type(data_type: &LogicalType) -> LogicalType {
    match data_type {
        LogicalType::HugeInt => LogicalType::Decimal { precision: 38, scale: 0 },
        LogicalType::List(element) => LogicalType::List(Box::new(parquet_type(element))),
        LogicalType::Struct(fields) => LogicalType::Struct(
            fields
                .iter()
                .map(|field| Column { name: field.name.clone(), data_type: parquet_type(&field.data_type) })
                .collect(),
        ),
        other => other.clone(),
    }
}

fn csv(column: &Column) -> Result<String> {
    let name = DUCKDB.ident(&column.name);
    match &column.data_type {
        nested @ (LogicalType::List(_) | LogicalType::Struct(_)) => Err(Error::new(
            Kind::Data,
            format!("the column `{}` is {nested}, and CSV has no nested values", column.name),
        )
        .hint(format!(
            "columns = {{ {} = \"JSON\" }} or nested = \"json\" writes it as a text of JSON; Parquet and JSON Lines have nested values",
            column.name
        ))),
        LogicalType::Blob => Ok(format!("base64({name}) AS {name}")),
        _ => Ok(name),
    }
}

/// The text of a whole row as an object of JSON, with all digits of its numbers.
fn json_row(columns: &[&Column]) -> String {
    let members = columns.iter().enumerate().map(|(index, column)| {
        let comma = if index == 0 { "{" } else { "," };
        let name = serde_json::Value::from(column.name.as_str()).to_string();
        format!("{}, {}", DUCKDB.literal(&format!("{comma}{name}:")), json(column))
    });
    format!("concat({}, '}}') AS line", members.collect::<Vec<_>>().join(", "))
}

fn json(column: &Column) -> String {
    let name = DUCKDB.ident(&column.name);
    let text = match &column.data_type {
        LogicalType::Boolean
        | LogicalType::BigInt
        | LogicalType::HugeInt
        | LogicalType::Decimal { .. }
        | LogicalType::Json => format!("{name}::VARCHAR"),
        LogicalType::Double => {
            format!(
                "CASE WHEN isfinite({name}) THEN to_json({name})::VARCHAR ELSE to_json({name}::VARCHAR)::VARCHAR END"
            )
        }
        LogicalType::Timestamp => format!("to_json(replace({name}::VARCHAR, ' ', 'T'))::VARCHAR"),
        LogicalType::Blob => format!("to_json(base64({name}))::VARCHAR"),
        LogicalType::Date | LogicalType::Time | LogicalType::Text | LogicalType::Other(_) => {
            format!("to_json({name}::VARCHAR)::VARCHAR")
        }
        nested @ (LogicalType::List(_) | LogicalType::Struct(_)) => {
            format!("to_json(CAST({name} AS {}))::VARCHAR", exact(nested))
        }
    };
    format!("coalesce({text}, 'null')")
}

/// The type with texts in the place of the numbers that JSON inside of records would round.
fn exact(data_type: &LogicalType) -> LogicalType {
    match data_type {
        LogicalType::Decimal { .. } | LogicalType::HugeInt => LogicalType::Text,
        LogicalType::List(element) => LogicalType::List(Box::new(exact(element))),
        LogicalType::Struct(fields) => LogicalType::Struct(
            fields
                .iter()
                .map(|field| Column { name: field.name.clone(), data_type: exact(&field.data_type) })
                .collect(),
        ),
        other => other.clone(),
    }
}
