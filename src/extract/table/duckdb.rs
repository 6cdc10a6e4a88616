//! Rows of a DuckDB file, which writes them as JSON itself; the file may be the warehouse's own.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::{Failure, Probe, Pull, Pulled, Sink};
use super::pages::Pages;
use super::server::TWICE;
use super::sql::{TimeKind, Writing, not_there, plain};
use super::{AskedRows, TableAsk, is_own, json};
use crate::error::{Error, Kind, Result};
use crate::model::page::Progress;
use crate::model::schema::{Column, LogicalType, SourceColumn};
use crate::model::source::ProbeRule;
use crate::warehouse::Warehouse;

/// How DuckDB writes names and texts.
const STANDARD: Writing = Writing { quote: '"', backslash: false };

/// So many bytes of rows become one page.
const BATCH_BYTES: usize = 1 << 20;

/// The most columns, and the most tables, that are looked at.
const MANY: usize = 10_000;

/// Rows of a DuckDB file.
#[derive(Clone)]
pub struct DuckDbPull {
    /// The open file.
    pub file: Warehouse,
    /// Its path, for messages.
    pub path: String,
    /// What is asked for.
    pub ask: TableAsk,
}

/// A column of a statement's rows.
struct Described {
    name: String,
    type_name: String,
}

impl Described {
    /// What the column's values tell of time, if anything.
    fn time(&self) -> Option<TimeKind> {
        Some(match self.type_name.as_str() {
            "DATE" => TimeKind::Date,
            "TIMESTAMP WITH TIME ZONE" => TimeKind::Instant,
            "TIMESTAMP" | "TIMESTAMP_S" | "TIMESTAMP_MS" | "TIMESTAMP_NS" => TimeKind::Local,
            "TINYINT" | "SMALLINT" | "INTEGER" | "BIGINT" | "HUGEINT" | "UTINYINT" | "USMALLINT" | "UINTEGER"
            | "UBIGINT" | "FLOAT" | "DOUBLE" => TimeKind::Number,
            decimal if decimal.starts_with("DECIMAL(") => TimeKind::Number,
            _ => return None,
        })
    }

    /// The type in the warehouse; none where the values have to tell.
    fn data_type(&self) -> Option<LogicalType> {
        Some(match self.type_name.as_str() {
            "TINYINT" | "SMALLINT" | "INTEGER" | "UTINYINT" | "USMALLINT" | "UINTEGER" => LogicalType::BigInt,
            "UBIGINT" => LogicalType::HugeInt,
            "FLOAT" => LogicalType::Double,
            "TIMESTAMP WITH TIME ZONE" | "TIMESTAMP_S" | "TIMESTAMP_MS" => LogicalType::Timestamp,
            // Bytes travel as base64, and what no other system has as its text.
            "BLOB" | "UUID" | "INTERVAL" | "BIT" | "UHUGEINT" | "TIMESTAMP_NS" | "TIME WITH TIME ZONE" | "TIME_NS" => {
                LogicalType::Text
            }
            enumeration if enumeration.starts_with("ENUM(") && !enumeration.ends_with(']') => LogicalType::Text,
            other => return LogicalType::parse(other).ok(),
        })
    }

    /// The expression that writes a value as JSON.
    fn json(&self) -> String {
        let name = format!("q.{}", STANDARD.ident(&self.name));
        let text = match self.type_name.as_str() {
            "BLOB" => format!("to_json(to_base64({name}))::VARCHAR"),
            "DATE"
            | "TIMESTAMP"
            | "TIME"
            | "UUID"
            | "INTERVAL"
            | "BIT"
            | "UHUGEINT"
            | "TIMESTAMP_NS"
            | "TIMESTAMP_S"
            | "TIMESTAMP_MS"
            | "TIME WITH TIME ZONE"
            | "TIME_NS" => format!("to_json({name}::VARCHAR)::VARCHAR"),
            // Without ICU, an instant's text has the offset of UTC only if it is put there.
            "TIMESTAMP WITH TIME ZONE" => {
                let utc = format!("CAST({name} AS TIMESTAMP)::VARCHAR");
                format!(
                    "to_json(CASE WHEN isfinite({name}) THEN replace({utc}, ' ', 'T') || 'Z' ELSE {utc} END)::VARCHAR"
                )
            }
            "FLOAT" | "DOUBLE" => {
                format!(
                    "CASE WHEN isfinite({name}) THEN to_json({name})::VARCHAR ELSE to_json({name}::VARCHAR)::VARCHAR END"
                )
            }
            "HUGEINT" => format!("{name}::VARCHAR"),
            "JSON" => format!("{name}::VARCHAR"),
            decimal if decimal.starts_with("DECIMAL(") && !decimal.ends_with(']') => format!("{name}::VARCHAR"),
            _ => match self.data_type() {
                // Inside of records and lists DuckDB writes decimals as floats; as texts they keep their digits.
                Some(known) => format!("to_json(CAST({name} AS {}))::VARCHAR", exact(&known)),
                None => format!("to_json({name})::VARCHAR"),
            },
        };
        format!("coalesce({text}, 'null')")
    }
}

/// The type with texts in the place of the numbers that JSON would round.
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

impl DuckDbPull {
    async fn texts(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let rows = self.file.query(sql, MANY).await?.rows;
        let text = |value: Value| match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        };
        Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
    }

    /// What stands behind FROM, and its name for messages; none where the table of the unit is not there yet.
    async fn from(&self) -> Result<Option<(String, String)>> {
        let (name, sharded, intraday) = match &self.ask.rows {
            AskedRows::Query(sql) => {
                return Ok(Some((format!("(\n{}\n) AS q", plain(sql)), "the statement".to_owned())));
            }
            AskedRows::Table { name, sharded, intraday } => (name, *sharded, intraday),
        };
        let known = self.tables().await?;
        for name in std::iter::once(name).chain(intraday) {
            let parts = STANDARD.parts(name)?;
            let table = parts[parts.len() - 1].clone();
            let schema = parts.len().checked_sub(2).map_or("main", |place| parts[place].as_str());
            let is_it =
                |known: &&Vec<String>| known[0].eq_ignore_ascii_case(schema) && known[1].eq_ignore_ascii_case(&table);
            if known.iter().any(|known| is_it(&known)) {
                return Ok(Some((format!("{} AS q", STANDARD.relation(name)?), name.clone())));
            }
        }
        let parts = STANDARD.parts(name)?;
        let schema = parts.len().checked_sub(2).map(|place| parts[place].as_str());
        let names: Vec<String> = known
            .iter()
            .filter(|known| schema.is_none_or(|schema| known[0].eq_ignore_ascii_case(schema)))
            .map(|known| if schema.is_none() && known[0] == "main" { known[1].clone() } else { known.join(".") })
            .collect();
        // A schema without a single table is a wrong name rather than one that nothing has come to yet.
        if sharded && !names.is_empty() { Ok(None) } else { Err(not_there("table", name, &names)) }
    }

    /// Schema and name of every table and view.
    async fn tables(&self) -> Result<Vec<Vec<String>>> {
        self.texts(
            "SELECT table_schema, table_name FROM information_schema.tables \
             WHERE table_catalog = current_database() ORDER BY 1, 2",
        )
        .await
    }

    async fn describe(&self, from: &str) -> Result<Vec<Described>> {
        let rows = self.texts(&format!("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {from})")).await?;
        let mut described: Vec<Described> = Vec::with_capacity(rows.len());
        for row in rows {
            let [name, type_name] =
                <[String; 2]>::try_from(row).map_err(|_| Error::internal("a row of two columns"))?;
            if described.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
                return Err(Error::new(Kind::Source, format!("the statement has two columns `{name}`")).hint(TWICE));
            }
            described.push(Described { name, type_name });
        }
        Ok(described)
    }

    /// The condition that holds for the rows of the range; empty where all rows are wanted.
    fn condition(&self, columns: &[Described]) -> Result<String> {
        let Some(range) = &self.ask.range else { return Ok(String::new()) };
        let column = column(columns, &range.column)?;
        let kind = column.time().ok_or_else(|| range.no_time(&column.type_name.to_lowercase()))?;
        let bounds = range.bounds(kind)?;
        let ident = format!("q.{}", STANDARD.ident(&column.name));
        let literal = |value: &str| match kind {
            TimeKind::Number => value.to_owned(),
            _ => format!("{}::{}", STANDARD.text(value), column.type_name),
        };
        Ok(format!(" WHERE {ident} >= {} AND {ident} < {}", literal(&bounds.first), literal(&bounds.after)))
    }

    async fn probed(&self) -> Result<Probe> {
        let sharded = matches!(self.ask.rows, AskedRows::Table { sharded: true, .. });
        let changed = self.ask.changed_column.as_deref().filter(|_| self.ask.probe == ProbeRule::Auto);
        let counted = changed.is_some() || self.ask.probe == ProbeRule::Count;
        if !sharded && !counted {
            return Ok(Probe::Unknown);
        }
        let Some((from, name)) = self.from().await? else { return Ok(Probe::Late(self.ask.late(&self.path))) };
        if !counted {
            return Ok(Probe::Unknown);
        }
        let columns = self.describe(&from).await?;
        let newest = match changed {
            Some(changed) => format!("max(q.{})::VARCHAR", STANDARD.ident(&column(&columns, changed)?.name)),
            None => "NULL::VARCHAR".to_owned(),
        };
        let rows =
            self.texts(&format!("SELECT count(*)::VARCHAR, {newest} FROM {from}{}", self.condition(&columns)?)).await?;
        let cell = |at: usize| rows.first().and_then(|row| row.get(at)).cloned().unwrap_or_default();
        let newest = if cell(1).is_empty() { String::new() } else { format!(", changed until {}", cell(1)) };
        Ok(Probe::Is(format!("{name}: {} rows{newest}", cell(0))))
    }

    async fn read(&self, sink: &Arc<dyn Sink>, pages: &mut Pages, cancel: &CancellationToken) -> Result<()> {
        let Some((from, _)) = self.from().await? else {
            return Err(Error::new(Kind::Unavailable, self.ask.late(&self.path))
                .hint("it was there a moment ago: the next run looks again"));
        };
        let columns = self.describe(&from).await?;
        let condition = self.condition(&columns)?;
        let columns: Vec<Described> = columns.into_iter().filter(|column| !is_own(&column.name)).collect();
        let of_source = |column: &Described| SourceColumn { name: column.name.clone(), data_type: column.data_type() };
        sink.columns(columns.iter().map(of_source).collect())?;
        let sql = format!("SELECT {} FROM {from}{condition}", row_of(&columns));
        let (send, mut receive) = mpsc::channel(2);
        let reading = self.file.stream(sql, send);
        // It owns its end of the channel, which is closed when it fails: nobody waits to send any more then.
        let putting = async move {
            let mut batch: Vec<String> = Vec::new();
            let mut bytes = 0;
            loop {
                let next = cancel.run_until_cancelled(receive.recv()).await;
                let Some(next) = next else { return Err(Error::new(Kind::Cancelled, "stopped between two pages")) };
                let ended = next.is_none();
                for row in next.unwrap_or_default() {
                    bytes += row.len();
                    batch.push(row);
                }
                if bytes >= BATCH_BYTES || (ended && !batch.is_empty()) {
                    let rows = std::mem::take(&mut batch);
                    let write = move |body: &mut super::pages::Body| {
                        rows.iter().try_for_each(|row| {
                            body.row(|out| {
                                out.extend_from_slice(row.as_bytes());
                                Ok(())
                            })
                        })
                    };
                    pages.put(std::mem::take(&mut bytes) as u64, write).await?;
                }
                if ended {
                    return Ok(());
                }
            }
        };
        // Where one of the two fails, the other ends by itself: the channel between them is closed.
        let (read, put) = tokio::join!(reading, putting);
        put.and(read)
    }
}

/// The expression that writes a whole row: everything between its braces.
fn row_of(columns: &[Described]) -> String {
    let cells = columns.iter().enumerate().map(|(index, column)| {
        let member = String::from_utf8_lossy(&json::member(&column.name)).into_owned();
        let comma = if index == 0 { "" } else { "," };
        format!("{}, {}", STANDARD.text(&format!("{comma}{member}")), column.json())
    });
    format!("concat({})", cells.collect::<Vec<_>>().join(", "))
}

fn column<'c>(columns: &'c [Described], name: &str) -> Result<&'c Described> {
    columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        not_there("column", name, &names)
    })
}

#[async_trait]
impl Pull for DuckDbPull {
    fn identity(&self) -> String {
        format!("duckdb {} {:?}", self.path, self.ask)
    }

    fn place(&self) -> String {
        self.ask.place(&self.path)
    }

    fn lines(&self) -> Vec<String> {
        self.ask.lines(STANDARD.quote)
    }

    async fn probe(&self) -> Result<Probe> {
        self.probed().await.map_err(|error| error.while_doing(format!("looking at {}", self.place())))
    }

    fn resumes(&self) -> bool {
        false
    }

    async fn pages(&self, _: Progress, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Result<Pulled, Failure> {
        let mut pages = Pages::new(Arc::clone(&sink));
        let read = self.read(&sink, &mut pages, &cancel).await;
        pages.finish(read).await.map_err(|error| error.while_doing(format!("reading {}", self.place())).into())
    }
}
