//! Warehouses: one handle for all of them, over one private trait.
//!
//! What the rows of a unit are is decided here, in one transaction: the lease's generation is asserted, the table follows
//! the rows, checks see the new rows before they replace the old ones, and `_haul_loads` tells what was committed.

mod bigquery;
mod checks;
mod commit;
mod dialect;
mod duckdb;
mod excerpt;
mod mysql;
mod permit;
mod postgres;
mod rows;
mod units;
mod verdict;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

pub use commit::{BoundCheck, Commit, CommitOutcome, Committed, Labels, NewRows, UnitCommit, UnitCommitted};
pub use dialect::Dialect;
pub use permit::Permit;
pub use rows::Rows;

use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::{Connection, ConnectionKind, DuckDbConnection};
use crate::model::cost::Quote;
use crate::model::ledger::Loaded;
use crate::model::load::FileForm;
use crate::model::name::TableName;
use crate::model::schema::TableSchema;
use crate::secret::Redactor;
use crate::time::UnitKey;

/// The name under which a check's own SQL finds the new rows.
pub const NEW_ROWS: &str = "_haul_new";

/// What a driver does; every method may be called again after a failure and leaves nothing half done.
#[async_trait]
trait Driver: Send + Sync {
    fn dialect(&self) -> &Dialect;
    async fn describe(&self, table: TableName) -> Result<Option<TableSchema>>;
    async fn commit(&self, commit: Commit) -> Result<Committed>;
    /// What a statement would be billed for, where the vendor bills by the bytes that are read.
    async fn price(&self, _sql: String) -> Result<Option<Quote>> {
        Ok(None)
    }
    async fn query(&self, sql: String, max_rows: usize) -> Result<Rows>;
    /// Writes the rows of a SELECT into a file, one JSON object a line, in bounded memory where the driver can.
    async fn export(&self, sql: String, path: PathBuf) -> Result<()> {
        let rows = self.query(sql, usize::MAX - 1).await?;
        rows::write_lines(&rows, &path)
    }
    async fn loads(&self, tables: Vec<TableName>) -> Result<Vec<(TableName, UnitKey, Loaded)>>;
    async fn stocked(&self, table: TableName) -> Result<Option<HashSet<UnitKey>>>;
    async fn stream(&self, sql: String, rows: mpsc::Sender<Vec<String>>) -> Result<()>;
    async fn close(&self) -> Result<()>;
}

/// A warehouse; clones are the same one.
#[derive(Clone)]
pub struct Warehouse {
    driver: Arc<dyn Driver>,
}

impl Warehouse {
    /// Opens the warehouse of a connection.
    ///
    /// # Errors
    /// A connection that leads to no warehouse, or one that another process holds.
    pub async fn open(connection: &Connection) -> Result<Self> {
        Self::open_with(connection, Redactor::default()).await
    }

    /// The same, with a redactor that learns the secrets that are made on the way: tokens.
    ///
    /// # Errors
    /// A connection that leads to no warehouse, or one that another process holds.
    pub async fn open_with(connection: &Connection, redactor: Redactor) -> Result<Self> {
        let driver: Arc<dyn Driver> = match &connection.kind {
            ConnectionKind::DuckDb(settings) => Arc::new(duckdb::DuckDb::open(settings.clone()).await?),
            ConnectionKind::Postgres(server) => Arc::new(postgres::Postgres::open(server.clone()).await?),
            ConnectionKind::BigQuery(settings) => {
                Arc::new(bigquery::BigQueryWarehouse::open(&connection.name, settings, redactor).await?)
            }
            kind @ (ConnectionKind::Http(_)
            | ConnectionKind::MySql(_)
            | ConnectionKind::MongoDb(_)
            | ConnectionKind::Files(_)
            | ConnectionKind::Smtp(_)
            | ConnectionKind::Process) => return Err(dialect::no_warehouse(&connection.name, kind)),
        };
        Ok(Self { driver })
    }

    /// Opens what rows are loaded into: a warehouse, or a database that is none.
    ///
    /// # Errors
    /// A connection that leads to no tables, or to a warehouse that cannot be opened.
    pub async fn open_target(connection: &Connection, redactor: Redactor) -> Result<Self> {
        match &connection.kind {
            ConnectionKind::MySql(server) => Ok(Self { driver: Arc::new(mysql::MySql::new(server.clone())) }),
            _ => Self::open_with(connection, redactor).await,
        }
    }

    /// Opens a DuckDB file that is only read: a source, which another process may read too.
    ///
    /// # Errors
    /// A file that is not there, that is no DuckDB file, or that another process writes to.
    pub async fn open_to_read(settings: &DuckDbConnection) -> Result<Self> {
        Ok(Self { driver: Arc::new(duckdb::DuckDb::open_to_read(settings.clone()).await?) })
    }

    /// How this warehouse writes names and values.
    pub fn dialect(&self) -> &Dialect {
        self.driver.dialect()
    }

    /// The columns of a table, if it exists.
    pub async fn describe(&self, table: &TableName) -> Result<Option<TableSchema>> {
        self.driver.describe(table.clone()).await
    }

    /// Brings new rows into a table, in one transaction, or not at all.
    ///
    /// # Errors
    /// [`Kind::Stale`] when another has committed a unit since its lease, [`Kind::Check`] when a check fails,
    /// [`Kind::Data`] when rows do not fit.
    pub async fn commit(&self, commit: Commit) -> Result<Committed> {
        let table = commit.table.to_string();
        self.driver.commit(commit).await.map_err(|error| error.while_doing(format!("loading {table}")))
    }

    /// What a statement would be billed for, found by planning it; none where nothing is billed by bytes.
    ///
    /// # Errors
    /// A wrong statement, or one that reads a table that is not there yet.
    pub async fn price(&self, sql: &str) -> Result<Option<Quote>> {
        self.driver.price(sql.to_owned()).await
    }

    /// The first rows of a statement; nothing that it writes stays.
    pub async fn query(&self, sql: &str, max_rows: usize) -> Result<Rows> {
        self.driver.query(sql.to_owned(), max_rows).await
    }

    /// Writes the rows of a SELECT into a file, one JSON object a line; nothing in the warehouse changes.
    pub async fn export(&self, sql: &str, path: &Path) -> Result<()> {
        self.driver.export(sql.to_owned(), path.to_owned()).await
    }

    /// What the warehouse has of each unit of these tables, as `_haul_loads` tells it.
    pub async fn loads(&self, tables: &[TableName]) -> Result<Vec<(TableName, UnitKey, Loaded)>> {
        self.driver.loads(tables.to_vec()).await
    }

    /// The units of which a table has rows; none for a table that is missing or has no units.
    ///
    /// What somebody removes by hand stays in `_haul_loads`: the rows themselves tell that it is gone.
    pub async fn stocked(&self, table: &TableName) -> Result<Option<HashSet<UnitKey>>> {
        self.driver.stocked(table.clone()).await
    }

    /// Sends the texts of a statement's only column, in batches, beside whatever else the warehouse does.
    ///
    /// It ends early, and well, when nobody takes the batches any more. One statement sees one state of the tables.
    pub async fn stream(&self, sql: String, rows: mpsc::Sender<Vec<String>>) -> Result<()> {
        self.driver.stream(sql, rows).await
    }

    /// Whether nobody else has it in hand.
    pub fn is_alone(&self) -> bool {
        Arc::strong_count(&self.driver) == 1
    }

    /// Closes it, so that another process may open it.
    pub async fn close(self) -> Result<()> {
        self.driver.close().await
    }
}

/// Writes the staged rows of a commit's only unit as files into a folder, and runs its checks on them before.
///
/// Returns the files in their order; a unit without rows has none.
///
/// # Errors
/// [`Kind::Check`] when a check fails, [`Kind::Data`] when the format cannot hold a value.
pub async fn write_files(commit: Commit, form: FileForm, folder: PathBuf) -> Result<(Vec<PathBuf>, Committed)> {
    let written = tokio::task::spawn_blocking(move || duckdb::write_files(&commit, form, &folder)).await;
    written.context(Kind::Internal, || "writing files".to_owned())?
}

fn closed() -> Error {
    Error::new(Kind::Internal, "talking to the warehouse").because("its thread has ended")
}
