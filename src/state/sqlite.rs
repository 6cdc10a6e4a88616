//! The SQLite file: opening, connections, and what its faults mean.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

use super::liveness::Liveness;
use crate::error::{Context, Error, Kind, Result};

/// The file's name in the state folder.
pub(super) const FILE: &str = "state.db";

/// Readers beside the one writer.
const READERS: u32 = 3;

/// An open state file.
pub(super) struct Store {
    pub(super) file: PathBuf,
    pub(super) writer: SqlitePool,
    readers: SqlitePool,
    /// One connection that only looks whether others have written; opened when it is first used.
    watcher: SqlitePool,
    pub(super) liveness: Liveness,
}

impl Store {
    /// Opens the file in `dir`, makes it where it is missing, and brings it up to date.
    pub async fn open(dir: &Path, patience: Duration) -> Result<Self> {
        if let Err(error) = fs::create_dir_all(dir) {
            usable(dir)?;
            return Err(error).context(Kind::Storage, || format!("making the state folder {}", dir.display()));
        }
        let file = dir.join(FILE);
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(patience)
            .foreign_keys(true);
        let pool = || SqlitePoolOptions::new().idle_timeout(None).max_lifetime(None).test_before_acquire(false);
        // What is deleted is given back piece by piece. A new file alone is told so: it is a write, and whoever only looks into
        // a file that is there must not wait for those who write.
        let is_new = fs::metadata(&file).map_or(true, |metadata| metadata.len() == 0);
        let writing = if is_new { options.clone().auto_vacuum(SqliteAutoVacuum::Incremental) } else { options.clone() };
        let writer = pool().max_connections(1).connect_with(writing).await;
        let writer = match writer {
            Ok(writer) => writer,
            Err(error) => {
                usable(dir)?;
                return Err(fault(&file, "opening", error));
            }
        };
        let reading = options.pragma("query_only", "1");
        let watcher = pool().max_connections(1).connect_lazy_with(reading.clone());
        let readers = pool().max_connections(READERS).connect_lazy_with(reading);
        let store = Self { file, writer, readers, watcher, liveness: Liveness::new(dir) };
        super::migrate::migrate(&store).await?;
        Ok(store)
    }

    /// Where reads go.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Where whoever waits for the writes of others looks.
    pub fn watcher(&self) -> &SqlitePool {
        &self.watcher
    }

    /// Where single statements write, each a transaction of its own.
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// A transaction that may write from its first statement on.
    pub async fn begin(&self, doing: &str) -> Result<Transaction<'static, Sqlite>> {
        let told = |error| fault(&self.file, doing, error);
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // SQLite ends a transaction by itself where the disk is full, and the connection goes on counting it.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await.map_err(told)?.close().await.map_err(told)?;
                self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(told)
            }
            begun => begun.map_err(told),
        }
    }

    /// Whether the file can be written now; nothing in it is changed.
    pub async fn check_writable(&self) -> Result<()> {
        let doing = "trying to write";
        let transaction = self.begin(doing).await?;
        let folder = self.file.parent().unwrap_or_else(|| Path::new("."));
        // A lock needs no room on the disk: a byte does.
        let tried =
            tempfile::NamedTempFile::new_in(folder).and_then(|mut file| std::io::Write::write_all(&mut file, b"-"));
        tried.context(Kind::Storage, || format!("writing beside {}", self.file.display()))?;
        self.commit(transaction, doing).await
    }

    /// Makes a transaction durable.
    pub async fn commit(&self, transaction: Transaction<'static, Sqlite>, doing: &str) -> Result<()> {
        transaction.commit().await.map_err(|error| fault(&self.file, doing, error))
    }

    /// What a fault of a statement means: the operation, the file, and what would help.
    pub fn fault(&self, doing: &str) -> impl FnOnce(sqlx::Error) -> Error {
        move |error| fault(&self.file, doing, error)
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.watcher.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Refuses a state folder in which nothing can be written, or which cannot be made; nothing is left behind.
///
/// # Errors
/// [`Kind::Storage`], with the part of the path that is in the way.
pub(super) fn usable(dir: &Path) -> Result<()> {
    let Some((there, metadata)) = dir.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?))) else {
        return Ok(());
    };
    let (told, there_told) = (dir.display(), there.display());
    let error = |why: String| Error::new(Kind::Storage, format!("the state folder {told}")).because(why);
    if !metadata.is_dir() {
        return Err(error(format!("{there_told} is a file, and no folder")).hint(
            "`state_dir` in haul.toml names a folder that haul may make and write to; without it that is `.haul`",
        ));
    }
    // Rights are more than bits: only trying tells.
    match tempfile::tempfile_in(there) {
        Ok(_) => Ok(()),
        Err(fault) => Err(error(format!("nothing can be written in {there_told}: {fault}")).hint(format!(
            "give the user that haul runs as the right to write in {there_told}; or name another folder by `state_dir` in haul.toml"
        ))),
    }
}

/// An error of the file, with a hint by SQLite's result code.
fn fault(file: &Path, doing: &str, error: sqlx::Error) -> Error {
    let hint = code(&error).and_then(|code| match code {
        5 | 6 => Some("another process is writing to it; try again when it has ended"),
        8 => Some("the file or its folder cannot be written to"),
        11 | 26 => {
            Some("it is damaged or no state file; move it away, and the next run finds what is loaded in the warehouse")
        }
        13 => Some("the disk is full"),
        14 => Some("see whether its folder exists and may be written to"),
        _ => None,
    });
    let fault = Error::new(Kind::Storage, format!("{doing} the state file {}", file.display())).because(error);
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

/// SQLite's primary result code.
fn code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    // The higher bits say more of the same.
    Some(code & 0xff)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Store;
    use crate::error::Kind;

    #[tokio::test]
    async fn a_file_that_another_process_writes_to_for_too_long_is_told_as_such() {
        let dir = tempfile::tempdir().expect("a folder");
        let patience = Duration::from_millis(20);
        let (one, two) = (Store::open(dir.path(), patience).await, Store::open(dir.path(), patience).await);
        let (one, two) = (one.expect("it opens"), two.expect("it opens twice"));
        let writing = one.begin("writing to").await.expect("nobody else writes");
        let error = two.begin("writing to").await.expect_err("it is locked");
        assert_eq!(error.kind(), Kind::Storage);
        assert!(error.hints()[0].contains("another process"), "{:?}", error.hints());
        one.commit(writing, "writing to").await.expect("a commit");
        two.begin("writing to").await.expect("it is free again");
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_what_was_there_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path(), Duration::from_millis(20)).await.expect("it opens");
        let put = async |count: usize| {
            let mut transaction = store.begin("writing to").await?;
            for n in 0..count {
                let row = sqlx::query("INSERT INTO pause (pipeline, by, at) VALUES ($1, 'x', 0)")
                    .bind(format!("{count}-{n}"));
                row.execute(&mut *transaction).await.map_err(store.fault("writing to"))?;
            }
            store.commit(transaction, "writing to").await
        };
        put(10).await.expect("there is room");
        // As if the disk had no room for another page of the file.
        sqlx::raw_sql("PRAGMA max_page_count = 1").execute(&store.writer).await.expect("a pragma");
        let error = put(10_000).await.expect_err("no room");
        assert_eq!((error.kind(), error.hints()), (Kind::Storage, vec!["the disk is full"]));
        sqlx::raw_sql("PRAGMA max_page_count = 1000000").execute(&store.writer).await.expect("a pragma");
        let count = async || {
            let (count,): (i64,) =
                sqlx::query_as("SELECT count(*) FROM pause").fetch_one(store.readers()).await.expect("it is whole");
            count
        };
        assert_eq!(count().await, 10, "all of it or nothing");
        put(20).await.expect("there is room again");
        assert_eq!(count().await, 30);
    }
}
