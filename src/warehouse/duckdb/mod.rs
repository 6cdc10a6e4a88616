//! DuckDB, the embedded warehouse: one thread owns the connection, everybody else sends it work.

mod commit;
mod prelude;
mod query;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};

use async_trait::async_trait;
use duckdb::{Config, Connection};
use tokio::sync::oneshot;

use super::dialect::DUCKDB;
use super::{Commit, Committed, Dialect, Driver, Rows, closed};
use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::DuckDbConnection;
use crate::model::ledger::Loaded;
use crate::model::load::FileForm;
use crate::model::name::TableName;
use crate::model::schema::TableSchema;
use crate::time::UnitKey;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// An open DuckDB file.
pub(super) struct DuckDb {
    thread: Mutex<Option<(mpsc::Sender<Work>, std::thread::JoinHandle<()>)>>,
    /// The quoted name under which the file is attached; none without a file.
    attached: Option<String>,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Write,
    Read,
}

impl DuckDb {
    pub async fn open(settings: DuckDbConnection) -> Result<Self> {
        Self::open_as(settings, Access::Write).await
    }

    pub async fn open_to_read(settings: DuckDbConnection) -> Result<Self> {
        if !settings.path.is_file() {
            return Err(Error::new(Kind::Connection, format!("opening {}", settings.path.display()))
                .because("there is no such file")
                .hint("is `path` of the connection right? it is relative to the project's folder"));
        }
        Self::open_as(settings, Access::Read).await
    }

    async fn open_as(settings: DuckDbConnection, access: Access) -> Result<Self> {
        let (file, attached) = (settings.path.clone(), name_of(&settings.path));
        let (send, receive) = mpsc::channel::<Work>();
        let (tell, told) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("duckdb".to_owned())
            .spawn(move || {
                let mut connection = match connect(&settings, access) {
                    Ok(connection) => connection,
                    Err(error) => return drop(tell.send(Err(error))),
                };
                let _ = tell.send(Ok(()));
                while let Ok(work) = receive.recv() {
                    work(&mut connection);
                }
            })
            .context(Kind::Storage, || "starting the warehouse's thread".to_owned())?;
        told.await.map_err(|_| closed())??;
        let attached = (file != Path::new(":memory:")).then_some(attached);
        Ok(Self { thread: Mutex::new(Some((send, thread))), attached })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        let work: Work = Box::new(move |connection| drop(tell.send(work(connection))));
        let sent = match &*self.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((send, _)) => send.send(work).is_ok(),
            None => false,
        };
        if sent { told.await.map_err(|_| closed())? } else { Err(closed()) }
    }
}

/// Writes the staged rows of a commit's only unit as files, typed by a DuckDB in memory.
pub(super) fn write_files(commit: &Commit, form: FileForm, folder: &Path) -> Result<(Vec<PathBuf>, Committed)> {
    const MEMORY: &str = "512MB";
    let settings =
        DuckDbConnection { path: PathBuf::from(":memory:"), memory_limit: MEMORY.to_owned(), threads: Some(2) };
    let connection = connect(&settings, Access::Write)?;
    commit::write_files(&connection, commit, form, folder)
}

fn connect(settings: &DuckDbConnection, access: Access) -> Result<Connection> {
    let doing = || format!("opening the warehouse {}", settings.path.display());
    let threads = settings.threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(2);
    let config = Config::default()
        .max_memory(&settings.memory_limit)
        .and_then(|config| config.threads(i64::try_from(threads).unwrap_or(2)))
        .and_then(|config| config.with("preserve_insertion_order", "false"))
        .and_then(|config| config.with("autoinstall_known_extensions", "false"))
        .and_then(|config| config.with("autoload_known_extensions", "false"))
        // A load that is larger goes into the file at its commit, instead of into the log first and again at the close.
        .and_then(|config| config.with("checkpoint_threshold", "4MB"))
        .and_then(|config| config.with("write_buffer_row_group_count", "1"))
        .context(Kind::Config, doing)?;
    let attached = match settings.path.parent() {
        _ if settings.path == Path::new(":memory:") => None,
        Some(folder) if access == Access::Write => {
            std::fs::create_dir_all(folder).context(Kind::Storage, doing)?;
            Some(attach(&settings.path, access))
        }
        _ => Some(attach(&settings.path, access)),
    };
    let opened = Connection::open_in_memory_with_flags(config).and_then(|connection| {
        if let Some(statement) = attached {
            connection.execute_batch(&statement)?;
        }
        Ok(connection)
    });
    opened.map_err(|error| {
        let error = Error::new(Kind::Storage, doing()).because(error);
        if error.chain().contains("lock") {
            return error.hint("a DuckDB file belongs to one process at a time: wait for the other one, or end it");
        }
        error
    })
}

/// The statement that opens a file under the name that DuckDB itself would give it.
///
/// Rows wait in memory until a row group is full: small ones keep a load's memory small, and cost next to nothing.
fn attach(path: &Path, access: Access) -> String {
    const ROW_GROUP: u32 = 8 * 2048;
    let (file, name) = (DUCKDB.literal(&path.to_string_lossy()), name_of(path));
    match access {
        Access::Write => format!("ATTACH {file} AS {name} (ROW_GROUP_SIZE {ROW_GROUP}); USE {name}"),
        Access::Read => format!("ATTACH {file} AS {name} (READ_ONLY); USE {name}"),
    }
}

/// The quoted name that a file is attached under.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let reserved = ["", "memory", "temp", "system", "main"].contains(&stem.to_lowercase().as_str());
    DUCKDB.ident(if reserved { "warehouse" } else { &stem })
}

#[async_trait]
impl Driver for DuckDb {
    fn dialect(&self) -> &Dialect {
        &DUCKDB
    }

    async fn describe(&self, table: TableName) -> Result<Option<TableSchema>> {
        self.with(move |connection| commit::describe(connection, &table)).await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed> {
        let runtime = tokio::runtime::Handle::current();
        self.with(move |connection| commit::run(connection, &commit, Some(&runtime))).await
    }

    async fn query(&self, sql: String, max_rows: usize) -> Result<Rows> {
        self.with(move |connection| {
            connection
                .execute_batch("BEGIN TRANSACTION")
                .map_err(|error| commit::failed("beginning a query", error))?;
            let rows = query::run(connection, &sql, max_rows);
            // Whatever the statement was, nothing of it stays.
            let _ = connection.execute_batch("ROLLBACK");
            rows
        })
        .await
    }

    async fn export(&self, sql: String, path: PathBuf) -> Result<()> {
        self.with(move |connection| {
            connection
                .execute_batch("BEGIN TRANSACTION")
                .map_err(|error| commit::failed("beginning a query", error))?;
            let written = query::export(connection, &sql, &path);
            let _ = connection.execute_batch("ROLLBACK");
            written
        })
        .await
    }

    async fn loads(&self, tables: Vec<TableName>) -> Result<Vec<(TableName, UnitKey, Loaded)>> {
        self.with(move |connection| commit::loads(connection, &tables)).await
    }

    async fn stocked(&self, table: TableName) -> Result<Option<HashSet<UnitKey>>> {
        self.with(move |connection| commit::stocked(connection, &table)).await
    }

    async fn stream(&self, sql: String, rows: tokio::sync::mpsc::Sender<Vec<String>>) -> Result<()> {
        let using = self.attached.as_ref().map(|name| format!("USE {name}"));
        // A connection of its own: loads go on while rows are read.
        let connection = self
            .with(move |connection| {
                let own = connection.try_clone();
                let own = own.map_err(|error| commit::failed("opening a second connection", error))?;
                if let Some(using) = using {
                    own.execute_batch(&using).map_err(|error| commit::failed("opening a second connection", error))?;
                }
                Ok(own)
            })
            .await?;
        let read = tokio::task::spawn_blocking(move || query::stream(&connection, &sql, &rows));
        read.await.context(Kind::Internal, || "reading rows".to_owned())?
    }

    async fn close(&self) -> Result<()> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((send, thread)) = thread {
            drop(send);
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            joined.ok().and_then(Result::ok).ok_or_else(closed)?;
        }
        Ok(())
    }
}
