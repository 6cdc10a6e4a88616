//! Questions to PostgreSQL, each in a transaction that only reads: rows as JSON, with all their digits.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use sqlx::postgres::{PgColumn, PgRow, PgTypeKind};
use sqlx::{AssertSqlSafe, Column as _, Executor, Row, SqlSafeStr, Statement, TypeInfo};
use tokio::sync::mpsc;

use super::fault::failed_in;
use super::session::Session;
use crate::error::{Context, Error, Kind, Result};
use crate::warehouse::Rows;
use crate::warehouse::dialect::POSTGRES;
use crate::warehouse::rows::{ONLY_READS, parsed, writes};

/// So many texts are sent at once.
const BATCH: usize = 1_000;

/// How the text of a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// As JSON: numbers, truths, and what the server has made JSON of.
    Json,
    /// As a float, which may be written without a point.
    Float,
    /// As it stands.
    Text,
}

/// The columns of a statement: their names, how each is asked for, and how it is read.
struct Asked {
    names: Vec<String>,
    cells: Vec<Cell>,
    list: String,
}

/// What stands around a statement of a user: it is a table there, so that it reads.
fn plain(sql: &str) -> &str {
    sql.trim_end().trim_end_matches(';')
}

/// The statement's fault, at its own line; one line of ours stands before its first.
fn fault<'s>(sql: &'s str, statement: &'s str) -> impl Fn(sqlx::Error) -> Error + 's {
    move |error| {
        let told = failed_in("running the query", sql, statement, 1, &error);
        if writes(sql) { told.hint(ONLY_READS) } else { told }
    }
}

/// Whether a statement has rows but cannot stand where a table can.
fn is_utility(sql: &str) -> bool {
    let word = sql.split_whitespace().next().unwrap_or_default().to_lowercase();
    matches!(word.as_str(), "show" | "explain")
}

/// The first rows of a statement.
pub(super) async fn run(session: &mut Session, sql: &str, max_rows: usize) -> Result<Rows> {
    let sql = plain(sql);
    if is_utility(sql) {
        return utility(session, sql, max_rows).await;
    }
    let asked = asked(session, sql).await?;
    let names: Vec<String> = (0..asked.names.len()).map(|place| format!("c{place}")).collect();
    let limit = i64::try_from(max_rows.saturating_add(1)).unwrap_or(i64::MAX);
    let statement = format!("SELECT {} FROM (\n{sql}\n) AS q({}) LIMIT {limit}", asked.list, names.join(", "));
    let failed = fault(sql, &statement);
    let query = sqlx::query(AssertSqlSafe(statement.as_str())).persistent(false);
    let found = query.fetch_all(&mut session.connection).await.map_err(&failed)?;
    let mut rows =
        found.iter().map(|row| values(row, &asked.cells)).collect::<sqlx::Result<Vec<_>>>().map_err(&failed)?;
    let truncated = rows.len() > max_rows;
    rows.truncate(max_rows);
    Ok(Rows { columns: asked.names, rows, truncated })
}

/// Describes a statement without running it.
async fn asked(session: &mut Session, sql: &str) -> Result<Asked> {
    let statement = format!("SELECT * FROM (\n{sql}\n) AS q");
    let failed = fault(sql, &statement);
    let text = AssertSqlSafe(statement.clone()).into_sql_str();
    let prepared = session.connection.prepare(text).await.map_err(&failed)?;
    let columns: Vec<PgColumn> = prepared.columns().to_vec();
    let whole = whole(session, &columns).await?;
    let (mut names, mut cells, mut list) = (Vec::new(), Vec::new(), Vec::new());
    for (place, column) in columns.iter().enumerate() {
        let (cell, how) = one(column, &format!("c{place}"), whole.contains(&place));
        names.push(column.name().to_owned());
        cells.push(cell);
        list.push(how);
    }
    // A statement may have no columns at all.
    let list = if list.is_empty() { "NULL::text".to_owned() } else { list.join(", ") };
    Ok(Asked { names, cells, list })
}

/// The places of the columns that are whole numbers of 128 bits, which a table has as `numeric(39,0)`.
async fn whole(session: &mut Session, columns: &[PgColumn]) -> Result<Vec<usize>> {
    let is_numeric = |column: &PgColumn| column.type_info().name() == "NUMERIC";
    let places: Vec<(i64, i64, i32)> = columns
        .iter()
        .enumerate()
        .filter(|(_, column)| is_numeric(column))
        .filter_map(|(place, column)| {
            let attribute = column.relation_attribute_no()?;
            Some((i64::try_from(place).ok()?, i64::from(column.relation_id()?.0), i32::from(attribute)))
        })
        .collect();
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let values: Vec<String> =
        places.iter().map(|(place, table, number)| format!("({place}, {table}, {number})")).collect();
    let sql = format!(
        "SELECT p.place::int8 FROM (VALUES {}) AS p(place, relation, attribute) JOIN pg_catalog.pg_attribute AS a \
         ON a.attrelid::int8 = p.relation AND a.attnum = p.attribute \
         WHERE pg_catalog.format_type(a.atttypid, a.atttypmod) = 'numeric(39,0)'",
        values.join(", ")
    );
    let rows = session.rows("asking for the types of the rows", &sql).await?;
    Ok(rows
        .iter()
        .filter_map(|row| row.try_get::<i64, _>(0).ok())
        .filter_map(|place| usize::try_from(place).ok())
        .collect())
}

/// How a column is asked for, and read.
fn one(column: &PgColumn, name: &str, is_whole: bool) -> (Cell, String) {
    let info = column.type_info();
    let text = || format!("{name}::text");
    match info.kind() {
        PgTypeKind::Array(element) => {
            let plain = matches!(element.kind(), PgTypeKind::Composite(_))
                || matches!(element.name(), "BOOL" | "INT2" | "INT4" | "INT8" | "FLOAT4" | "FLOAT8" | "JSON" | "JSONB");
            let texts = if plain { "" } else { "::text[]" };
            (Cell::Json, format!("to_jsonb({name}{texts})::text"))
        }
        PgTypeKind::Composite(_) => (Cell::Json, format!("to_jsonb({name})::text")),
        _ => match info.name() {
            "BOOL" | "INT2" | "INT4" | "INT8" | "OID" | "JSON" | "JSONB" => (Cell::Json, text()),
            "FLOAT4" | "FLOAT8" => (Cell::Float, text()),
            "NUMERIC" if is_whole => (Cell::Json, text()),
            "RECORD" => (Cell::Json, format!("to_jsonb({name})::text")),
            _ => (Cell::Text, text()),
        },
    }
}

fn values(row: &PgRow, cells: &[Cell]) -> sqlx::Result<Vec<Value>> {
    let of = |(place, cell): (usize, &Cell)| {
        let text: Option<String> = row.try_get(place)?;
        Ok(match (text, cell) {
            (None, _) => Value::Null,
            (Some(text), Cell::Json) => parsed(&text),
            (Some(text), Cell::Float) => {
                let float = text.parse().ok().and_then(serde_json::Number::from_f64);
                float.map_or(Value::String(text), Value::Number)
            }
            (Some(text), Cell::Text) => Value::String(text),
        })
    };
    cells.iter().enumerate().map(of).collect()
}

/// The rows of SHOW and EXPLAIN, all of which are texts.
async fn utility(session: &mut Session, sql: &str, max_rows: usize) -> Result<Rows> {
    let failed = |error| failed_in("running the query", sql, sql, 0, &error);
    let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    let found = query.fetch_all(&mut session.connection).await.map_err(failed)?;
    let columns =
        found.first().map(|row| row.columns().iter().map(|column| column.name().to_owned()).collect::<Vec<_>>());
    let columns = columns.unwrap_or_default();
    let cell = |row: &PgRow, place: usize| {
        let text = row.try_get_unchecked::<Option<String>, _>(place);
        text.map(|text| text.map_or(Value::Null, Value::String))
    };
    let rows = found.iter().take(max_rows).map(|row| (0..columns.len()).map(|place| cell(row, place)).collect());
    let rows = rows.collect::<sqlx::Result<_>>().map_err(failed)?;
    Ok(Rows { columns, rows, truncated: found.len() > max_rows })
}

/// Writes the rows of a statement as JSON, one object a line, without holding them.
pub(super) async fn export(session: &mut Session, sql: &str, path: &Path) -> Result<()> {
    let sql = plain(sql);
    let asked = asked(session, sql).await?;
    let names: Vec<String> = (0..asked.names.len()).map(|place| format!("c{place}")).collect();
    let members: Vec<String> = asked
        .names
        .iter()
        .zip(&names)
        .zip(&asked.cells)
        .map(|((name, column), cell)| {
            // Of a number, a truth or a nested value the server makes JSON itself; all else is a text, as on a screen.
            let value = if *cell == Cell::Text { format!("{column}::text") } else { column.clone() };
            format!("{value} AS {}", POSTGRES.ident(name))
        })
        .collect();
    let statement = format!(
        "SELECT row_to_json(r)::text FROM (SELECT {} FROM (\n{sql}\n) AS q({})) AS r",
        members.join(", "),
        names.join(", ")
    );
    let doing = || format!("writing {}", path.display());
    let mut file = BufWriter::new(File::create(path).context(Kind::Storage, doing)?);
    let failed = fault(sql, &statement);
    let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(statement.as_str())).persistent(false);
    let mut rows = query.fetch(&mut session.connection);
    while let Some(line) = rows.try_next().await.map_err(&failed)? {
        file.write_all(line.as_bytes()).and_then(|()| file.write_all(b"\n")).context(Kind::Storage, doing)?;
    }
    file.flush().context(Kind::Storage, doing)
}

/// Sends the texts of a statement's only column, in batches, until it ends or nobody takes them.
pub(super) async fn stream(session: &mut Session, sql: &str, rows: mpsc::Sender<Vec<String>>) -> Result<()> {
    let failed = |error| failed_in("reading rows", sql, sql, 0, &error);
    let query = sqlx::query_scalar::<_, Option<String>>(AssertSqlSafe(sql)).persistent(false);
    let mut batches = query.fetch(&mut session.connection).chunks(BATCH);
    while let Some(batch) = batches.next().await {
        let texts: Vec<Option<String>> = batch.into_iter().collect::<sqlx::Result<_>>().map_err(failed)?;
        if rows.send(texts.into_iter().flatten().collect()).await.is_err() {
            break;
        }
    }
    Ok(())
}
