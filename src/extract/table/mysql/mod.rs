//! Rows of MySQL and MariaDB: one streamed result for each unit, in a transaction that only reads.

mod columns;
mod decode;

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Connection as _, Executor};
use tokio_util::sync::CancellationToken;

use super::super::{Failure, Probe, Pull, Pulled, Sink};
use super::pages::Pages;
use super::server::{Patience, failed};
use super::sql::{TimeKind, Writing, not_there, plain};
use super::{AskedRows, TableAsk, is_own};
use crate::error::{Error, Kind, Result};
use crate::model::connection::ServerConnection;
use crate::model::page::Progress;
use crate::model::source::ProbeRule;
use crate::server::connect_mysql;
use columns::{Catalog, Described};

/// How MySQL writes names and texts.
const BACKTICKS: Writing = Writing { quote: '`', backslash: true };

/// So many bytes of the rows become one page; as JSON they are about twice as many.
const BATCH_BYTES: usize = 512 << 10;

/// How many rows are taken before others get their turn.
const BATCH_ROWS: usize = 8 << 10;

/// Rows of a MySQL or MariaDB database.
#[derive(Debug, Clone)]
pub struct MySqlPull {
    /// The server.
    pub server: ServerConnection,
    /// What is asked for.
    pub ask: TableAsk,
}

/// Where rows come from.
struct From {
    /// What stands behind FROM.
    sql: String,
    /// Its name, for messages.
    name: String,
    /// What the catalog tells of it.
    catalog: Catalog,
}

impl MySqlPull {
    /// A connection in a transaction that only reads, and sees one state of the database.
    async fn begin(&self, sink: Option<&dyn Sink>) -> Result<MySqlConnection> {
        let mut patience = Patience::new(&self.ask.retry);
        let mut connection = loop {
            match connect_mysql(&self.server).await {
                Ok(connection) => break connection,
                Err(error) => patience.after(error, sink).await?,
            }
        };
        for statement in [
            // Pages that wait for the disk must not look like a client that is gone.
            "SET SESSION net_write_timeout = 600",
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ] {
            connection.execute(statement).await.map_err(|error| failed("beginning a transaction", &error))?;
        }
        Ok(connection)
    }

    /// Where the rows come from; none where the table of the unit is not there yet.
    async fn from(&self, connection: &mut MySqlConnection) -> Result<Option<From>> {
        let (name, sharded, intraday) = match &self.ask.rows {
            AskedRows::Query(sql) => {
                let sql = format!("(\n{}\n) AS q", plain(sql));
                return Ok(Some(From { sql, name: "the statement".to_owned(), catalog: Catalog::default() }));
            }
            AskedRows::Table { name, sharded, intraday } => (name, *sharded, intraday),
        };
        for name in std::iter::once(name).chain(intraday) {
            let relation = BACKTICKS.relation(name)?;
            let parts = BACKTICKS.parts(name)?;
            let (table, schema) = (&parts[parts.len() - 1], schema(&parts));
            let there: Option<i64> = sqlx::query_scalar(
                "SELECT CAST(1 AS SIGNED) FROM information_schema.tables \
                 WHERE table_schema = coalesce(?, database()) AND table_name = ?",
            )
            .bind(schema)
            .bind(table)
            .fetch_optional(&mut *connection)
            .await
            .map_err(|error| failed("looking for a table", &error))?;
            if there.is_some() {
                let catalog = columns::catalog(connection, schema, table).await?;
                return Ok(Some(From { sql: format!("{relation} AS q"), name: name.clone(), catalog }));
            }
        }
        let parts = BACKTICKS.parts(name)?;
        let tables = tables(connection, schema(&parts)).await?;
        // A database without a single table is a wrong name rather than one that nothing has come to yet.
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
        let column = column(columns, &range.column)?;
        let kind = column.time.ok_or_else(|| range.no_time(&column.type_name))?;
        let bounds = range.bounds(kind)?;
        let ident = BACKTICKS.ident(&column.name);
        let literal = |value: &str| match kind {
            TimeKind::Number => value.to_owned(),
            // The session's zone is UTC, and older servers know no offsets.
            TimeKind::Instant => BACKTICKS.text(value.trim_end_matches("+00:00")),
            TimeKind::Date | TimeKind::Local => BACKTICKS.text(value),
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
        let mut connection = self.begin(None).await?;
        let Some(from) = self.from(&mut connection).await? else {
            return Ok(Probe::Late(self.ask.late(&self.database())));
        };
        if !counted {
            return Ok(Probe::Unknown);
        }
        let columns = columns::describe(&mut connection, &from.sql, &from.catalog).await?;
        let newest = match changed {
            Some(changed) => {
                format!("CAST(max({}) AS CHAR)", BACKTICKS.ident(&column(&columns, changed)?.name))
            }
            None => "CAST(NULL AS CHAR)".to_owned(),
        };
        let sql = format!("SELECT count(*), {newest} FROM {}{}", from.sql, self.condition(&columns)?);
        let (count, newest): (i64, Option<String>) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut connection)
            .await
            .map_err(|error| failed(&format!("probing {}", from.name), &error))?;
        let _ = connection.close().await;
        let newest = newest.map(|newest| format!(", changed until {newest}")).unwrap_or_default();
        Ok(Probe::Is(format!("{}: {count} rows{newest}", from.name)))
    }

    async fn read(&self, sink: &Arc<dyn Sink>, pages: &mut Pages, cancel: &CancellationToken) -> Result<()> {
        let begun = cancel.run_until_cancelled(self.begin(Some(&**sink))).await;
        let mut connection = begun.ok_or_else(|| Error::new(Kind::Cancelled, "stopped"))??;
        let Some(from) = self.from(&mut connection).await? else {
            return Err(Error::new(Kind::Unavailable, self.ask.late(&self.database()))
                .hint("it was there a moment ago: the next run looks again"));
        };
        let columns = columns::describe(&mut connection, &from.sql, &from.catalog).await?;
        let condition = self.condition(&columns)?;
        let columns: Vec<Described> = columns.into_iter().filter(|column| !is_own(&column.name)).collect();
        let list: Vec<&str> = columns.iter().map(|column| column.select.as_str()).collect();
        let sql = format!("SELECT {} FROM {}{condition}", list.join(", "), from.sql);
        sink.columns(columns.iter().map(Described::of_source).collect())?;
        let cells: Arc<[decode::Cell]> = columns.iter().map(Described::cell).collect();
        let doing = format!("reading {}", from.name);
        let mut rows = sqlx::query(sqlx::AssertSqlSafe(sql)).persistent(false).fetch(&mut connection);
        loop {
            let batch = cancel.run_until_cancelled(batch(&mut rows, columns.len())).await;
            let (bytes, rows) = match batch {
                None => return Err(Error::new(Kind::Cancelled, "stopped between two pages")),
                Some(batch) => batch.map_err(|error| failed(&doing, &error))?,
            };
            if rows.is_empty() {
                break;
            }
            let cells = Arc::clone(&cells);
            let write =
                move |body: &mut super::pages::Body| rows.iter().try_for_each(|row| decode::row(row, &cells, body));
            pages.put(bytes as u64, write).await?;
        }
        drop(rows);
        let _ = connection.close().await;
        Ok(())
    }
}

/// The next rows of a result, enough for a page, and their bytes; none at its end.
async fn batch(
    stream: &mut (impl futures::Stream<Item = sqlx::Result<MySqlRow>> + Unpin),
    columns: usize,
) -> sqlx::Result<(usize, Vec<MySqlRow>)> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_BYTES && rows.len() < BATCH_ROWS {
        let Some(row) = stream.next().await else { break };
        let row = row?;
        let length = |index| decode::bytes(&row, index).ok().flatten().map_or(1, <[u8]>::len);
        bytes += (0..columns).map(length).sum::<usize>();
        rows.push(row);
    }
    Ok((bytes, rows))
}

fn column<'c>(columns: &'c [Described], name: &str) -> Result<&'c Described> {
    columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        not_there("column", name, &names)
    })
}

/// The database of a table's name, where it has one.
fn schema(parts: &[String]) -> Option<&str> {
    parts.len().checked_sub(2).map(|place| parts[place].as_str())
}

/// The names of the tables among which a table is looked for.
async fn tables(connection: &mut MySqlConnection, schema: Option<&str>) -> Result<Vec<String>> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(table_name AS CHAR) FROM information_schema.tables \
         WHERE table_schema = coalesce(?, database()) ORDER BY 1 LIMIT 10000",
    )
    .bind(schema)
    .fetch_all(connection)
    .await
    .map_err(|error| failed("listing the tables", &error))?;
    Ok(match schema {
        Some(schema) => names.into_iter().map(|name| format!("{schema}.{name}")).collect(),
        None => names,
    })
}

#[async_trait]
impl Pull for MySqlPull {
    fn identity(&self) -> String {
        let server = &self.server;
        format!("mysql {}:{} {} {:?}", server.host, server.port, server.database, self.ask)
    }

    fn place(&self) -> String {
        self.ask.place(&self.database())
    }

    fn lines(&self) -> Vec<String> {
        self.ask.lines(BACKTICKS.quote)
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
