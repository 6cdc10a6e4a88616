//! Rows of PostgreSQL: one binary COPY for each unit, in a transaction that only reads.

mod columns;
mod decode;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor};
use tokio_util::sync::CancellationToken;

use super::super::{Failure, Probe, Pull, Pulled, Sink};
use super::pages::Pages;
use super::server::{Patience, failed};
use super::sql::{Writing, not_there, plain};
use super::{AskedRows, TableAsk, is_own};
use crate::error::{Error, Kind, Result};
use crate::model::connection::ServerConnection;
use crate::model::page::Progress;
use crate::model::source::ProbeRule;
use crate::server::connect_postgres;
use columns::Described;

/// How PostgreSQL writes names and texts.
const STANDARD: Writing = Writing { quote: '"', backslash: false };

/// So many bytes of the COPY become one page; as JSON they are about twice as many.
const BATCH_BYTES: usize = 512 << 10;

/// How many messages of the COPY are taken before others get their turn.
const BATCH_MESSAGES: usize = 16 << 10;

/// Rows of a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresPull {
    /// The server.
    pub server: ServerConnection,
    /// What is asked for.
    pub ask: TableAsk,
}

/// Connects to a server.
///
/// # Errors
/// A server that is out of reach or refuses us.
pub async fn connect(server: &ServerConnection) -> Result<PgConnection> {
    connect_postgres(server, "haul").await
}

impl PostgresPull {
    /// A connection in a transaction that only reads, and sees one state of the database from its first statement on.
    async fn begin(&self, sink: Option<&dyn Sink>) -> Result<PgConnection> {
        let mut patience = Patience::new(&self.ask.retry);
        let mut connection = loop {
            match connect(&self.server).await {
                Ok(connection) => break connection,
                Err(error) => patience.after(error, sink).await?,
            }
        };
        let begin = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                     SET TIME ZONE 'UTC'; SET extra_float_digits = 1; SET IntervalStyle = 'postgres'; \
                     SET DateStyle = 'ISO, YMD'; BEGIN";
        connection.execute(begin).await.map_err(|error| failed("beginning a transaction", &error))?;
        Ok(connection)
    }

    /// What stands behind FROM, and its name for messages; none where the table of the unit is not there yet.
    async fn from(&self, connection: &mut PgConnection) -> Result<Option<(String, String)>> {
        let (name, sharded, intraday) = match &self.ask.rows {
            AskedRows::Query(sql) => {
                return Ok(Some((format!("(\n{}\n) AS q", plain(sql)), "the statement".to_owned())));
            }
            AskedRows::Table { name, sharded, intraday } => (name, *sharded, intraday),
        };
        for name in std::iter::once(name).chain(intraday) {
            let relation = STANDARD.relation(name)?;
            let there: bool = sqlx::query_scalar("SELECT pg_catalog.to_regclass($1) IS NOT NULL")
                .bind(&relation)
                .fetch_one(&mut *connection)
                .await
                .map_err(|error| failed("looking for a table", &error))?;
            if there {
                return Ok(Some((format!("{relation} AS q"), name.clone())));
            }
        }
        let parts = STANDARD.parts(name)?;
        let tables = tables(connection, &parts).await?;
        // A schema without a single table is a wrong name rather than one that nothing has come to yet.
        if sharded && !tables.is_empty() {
            return Ok(None);
        }
        Err(not_there("table", name, &tables))
    }

    fn database(&self) -> String {
        format!("{} at {}:{}", self.server.database, self.server.host, self.server.port)
    }

    /// The condition that holds for the rows of the range; empty where all rows are wanted.
    fn condition(&self, columns: &[Described]) -> Result<String> {
        let Some(range) = &self.ask.range else { return Ok(String::new()) };
        let column = self.column(columns, &range.column)?;
        let bounds = range.bounds(column.time.ok_or_else(|| range.no_time(&column.type_name))?)?;
        let ident = STANDARD.ident(&column.name);
        let literal = |value: &str| format!("{}::{}", STANDARD.text(value), column.type_name);
        Ok(format!(" WHERE {ident} >= {} AND {ident} < {}", literal(&bounds.first), literal(&bounds.after)))
    }

    fn column<'c>(&self, columns: &'c [Described], name: &str) -> Result<&'c Described> {
        columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
            not_there("column", name, &names)
        })
    }

    async fn probed(&self) -> Result<Probe> {
        let sharded = matches!(self.ask.rows, AskedRows::Table { sharded: true, .. });
        let changed = self.ask.changed_column.as_deref().filter(|_| self.ask.probe == ProbeRule::Auto);
        let counted = changed.is_some() || self.ask.probe == ProbeRule::Count;
        if !sharded && !counted {
            return Ok(Probe::Unknown);
        }
        let mut connection = self.begin(None).await?;
        let Some((from, name)) = self.from(&mut connection).await? else {
            return Ok(Probe::Late(self.ask.late(&self.database())));
        };
        if !counted {
            return Ok(Probe::Unknown);
        }
        let columns = columns::describe(&mut connection, &from).await?;
        let newest = match changed {
            Some(changed) => format!("max({})::text", STANDARD.ident(&self.column(&columns, changed)?.name)),
            None => "NULL::text".to_owned(),
        };
        let sql = format!("SELECT count(*), {newest} FROM {from}{}", self.condition(&columns)?);
        let (count, newest): (i64, Option<String>) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut connection)
            .await
            .map_err(|error| failed(&format!("probing {name}"), &error))?;
        let _ = connection.close().await;
        let newest = newest.map(|newest| format!(", changed until {newest}")).unwrap_or_default();
        Ok(Probe::Is(format!("{name}: {count} rows{newest}")))
    }

    async fn read(&self, sink: &Arc<dyn Sink>, pages: &mut Pages, cancel: &CancellationToken) -> Result<()> {
        let begun = cancel.run_until_cancelled(self.begin(Some(&**sink))).await;
        let mut connection = begun.ok_or_else(|| Error::new(Kind::Cancelled, "stopped"))??;
        let Some((from, name)) = self.from(&mut connection).await? else {
            return Err(Error::new(Kind::Unavailable, self.ask.late(&self.database()))
                .hint("it was there a moment ago: the next run looks again"));
        };
        let columns = columns::describe(&mut connection, &from).await?;
        if columns.is_empty() {
            return Err(Error::new(Kind::Source, format!("{name} has no column that could be read")));
        }
        let condition = self.condition(&columns)?;
        let columns: Vec<Described> = columns.into_iter().filter(|column| !is_own(&column.name)).collect();
        let list: Vec<&str> = columns.iter().map(|column| column.select.as_str()).collect();
        let copy = format!("COPY (SELECT {} FROM {from}{condition}) TO STDOUT (FORMAT binary)", list.join(", "));
        sink.columns(columns.iter().map(Described::of_source).collect())?;
        let cells: Arc<[decode::Cell]> = columns.iter().map(Described::cell).collect();
        let doing = format!("reading {name}");
        let mut rows = connection.copy_out_raw(&copy).await.map_err(|error| failed(&doing, &error))?;
        let mut first = true;
        loop {
            let batch = cancel.run_until_cancelled(batch(&mut rows)).await;
            let mut messages = match batch {
                None => return Err(Error::new(Kind::Cancelled, "stopped between two pages")),
                Some(batch) => batch.map_err(|error| failed(&doing, &error))?,
            };
            let Some(head) = messages.first_mut() else { break };
            if std::mem::take(&mut first) {
                let header = decode::without_header(head)?;
                *head = head.slice(header..);
            }
            let bytes = messages.iter().map(Bytes::len).sum::<usize>() as u64;
            let cells = Arc::clone(&cells);
            let write = move |body: &mut super::pages::Body| {
                messages.iter().try_for_each(|message| decode::rows(message, &cells, body))
            };
            pages.put(bytes, write).await?;
        }
        drop(rows);
        let _ = connection.close().await;
        Ok(())
    }
}

/// The next messages of a COPY, enough for a page; none at its end.
async fn batch(rows: &mut (impl futures::Stream<Item = sqlx::Result<Bytes>> + Unpin)) -> sqlx::Result<Vec<Bytes>> {
    let mut messages = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_BYTES && messages.len() < BATCH_MESSAGES {
        let Some(message) = rows.next().await else { break };
        let message = message?;
        bytes += message.len();
        messages.push(message);
    }
    Ok(messages)
}

/// The names of the tables among which a table is looked for: those of its schema, else all that can be seen.
async fn tables(connection: &mut PgConnection, parts: &[String]) -> Result<Vec<String>> {
    let schema = parts.len().checked_sub(2).map(|place| parts[place].as_str());
    let names: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT n.nspname::text, c.relname::text, pg_catalog.pg_table_is_visible(c.oid) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' \
           AND n.nspname !~ '^pg_' AND ($1::text IS NULL OR n.nspname = $1) ORDER BY 1, 2 LIMIT 10000",
    )
    .bind(schema)
    .fetch_all(connection)
    .await
    .map_err(|error| failed("listing the tables", &error))?;
    Ok(names
        .into_iter()
        .map(|(of, name, visible)| if visible && schema.is_none() { name } else { format!("{of}.{name}") })
        .collect())
}

#[async_trait]
impl Pull for PostgresPull {
    fn identity(&self) -> String {
        let server = &self.server;
        format!("postgres {}:{} {} {:?}", server.host, server.port, server.database, self.ask)
    }

    fn place(&self) -> String {
        self.ask.place(&self.database())
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
