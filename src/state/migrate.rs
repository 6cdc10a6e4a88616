//! Migrations of the state file: forward only, with a copy of what was there before.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sqlx::Sqlite;

use super::sqlite::Store;
use crate::error::{Context, Error, Kind, Result};

/// The migrations in their order; the first makes version 1. A released one never changes.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/sqlite/0001_runs_and_ledger.sql"),
    include_str!("../../migrations/sqlite/0002_probes.sql"),
    include_str!("../../migrations/sqlite/0003_bookmarks.sql"),
    include_str!("../../migrations/sqlite/0004_costs.sql"),
    include_str!("../../migrations/sqlite/0005_queue.sql"),
    include_str!("../../migrations/sqlite/0006_incidents.sql"),
    include_str!("../../migrations/sqlite/0007_slot_tickets.sql"),
    include_str!("../../migrations/sqlite/0008_backfilled_units.sql"),
];

/// So many copies of older files are kept.
const COPIES: usize = 2;

/// Brings the file up to date.
///
/// What was there before is copied first: a copy is a state file by itself, of the version before. Of two processes that
/// open an old file at once one does all that, and the other waits for it. A new file is made in one transaction.
pub(super) async fn migrate(store: &Store) -> Result<()> {
    let found = version(store, &store.writer).await?;
    if found == MIGRATIONS.len() {
        return Ok(());
    }
    if found == 0 {
        return apply(store).await;
    }
    let gate = gate(&store.file).await?;
    if version(store, &store.writer).await? < MIGRATIONS.len() {
        copy(store).await?;
        apply(store).await?;
    }
    drop(gate);
    Ok(())
}

/// Applies what the file lacks, in one transaction, so that two processes may open a new file at once.
async fn apply(store: &Store) -> Result<()> {
    let doing = "bringing up to date";
    let mut transaction = store.begin(doing).await?;
    let found = version(store, &mut *transaction).await?;
    for migration in &MIGRATIONS[found..] {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await.map_err(store.fault(doing))?;
    }
    // A pragma takes no bound values; the number is ours.
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", MIGRATIONS.len()));
    sqlx::raw_sql(pragma).execute(&mut *transaction).await.map_err(store.fault(doing))?;
    store.commit(transaction, doing).await
}

/// How many migrations the file has had.
async fn version<'e>(store: &Store, executor: impl sqlx::Executor<'e, Database = Sqlite>) -> Result<usize> {
    let (version,): (i64,) = sqlx::query_as("PRAGMA user_version")
        .fetch_one(executor)
        .await
        .map_err(store.fault("reading the version of"))?;
    let (known, file) = (MIGRATIONS.len(), store.file.display());
    match usize::try_from(version) {
        Ok(found) if found <= known => Ok(found),
        _ => Err(Error::new(
            Kind::Storage,
            format!("{file} was written by a newer haul: its version is {version}, this one knows {known}"),
        )
        .hint("use the newer haul; or put back the copy that it made, state.db.before-…, with what was done since then missing")
        .hint("or move the file away: the next run finds what is loaded in the warehouse")),
    }
}

/// Waits for the right to bring the file up to date; it ends with the value.
async fn gate(file: &Path) -> Result<File> {
    let path = file.with_extension("db.migrating");
    let doing = format!("waiting for {}", path.display());
    let lock = move || {
        let gate = File::options().create(true).write(true).truncate(false).open(path)?;
        gate.lock()?;
        Ok::<File, std::io::Error>(gate)
    };
    let locked =
        tokio::task::spawn_blocking(lock).await.map_err(|error| Error::internal("a thread ended").because(error))?;
    locked.context(Kind::Storage, || doing)
}

/// Copies the file as it is beside it, and removes all but the newest copies.
///
/// Others may read meanwhile. What they write afterwards is in the file, and not in its copy.
async fn copy(store: &Store) -> Result<()> {
    let target = store.file.with_extension(format!("db.before-{:04}", MIGRATIONS.len()));
    let part = target.with_extension("part");
    let doing = || format!("copying {} to {} before it is brought up to date", store.file.display(), target.display());
    match fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).context(Kind::Storage, doing),
        _ => {}
    }
    if !copy_bytes(store, &part).await? {
        let copied = sqlx::query("VACUUM INTO $1").bind(part.to_string_lossy()).execute(&store.writer).await;
        if let Err(error) = copied {
            let _ = fs::remove_file(&part);
            return Err(store.fault("copying")(error).while_doing(doing()).hint("it was not changed"));
        }
    }
    fs::rename(&part, &target).context(Kind::Storage, doing)?;
    for old in copies(&store.file).iter().rev().skip(COPIES) {
        fs::remove_file(old).context(Kind::Storage, || format!("removing the old copy {}", old.display()))?;
    }
    Ok(())
}

/// Copies the bytes of the file, which takes no longer than a plain copy; false where that could not be done, and nothing is there.
async fn copy_bytes(store: &Store, part: &Path) -> Result<bool> {
    let doing = "copying";
    let emptied = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&store.writer).await;
    // Nobody writes until this ends, and nothing is changed by it.
    let still = store.begin(doing).await?;
    let log = fs::metadata(store.file.with_extension("db-wal")).map_or(0, |log| log.len());
    let copied = if emptied.is_ok() && log == 0 {
        let (from, to) = (store.file.clone(), part.to_owned());
        tokio::task::spawn_blocking(move || bytes(&from, &to)).await.is_ok_and(|copied| copied.is_ok())
    } else {
        false
    };
    still.rollback().await.map_err(store.fault(doing))?;
    if !copied {
        let _ = fs::remove_file(part);
    }
    Ok(copied)
}

fn bytes(from: &Path, to: &Path) -> std::io::Result<()> {
    let (mut source, mut target) = (File::open(from)?, File::create_new(to)?);
    let copied = std::io::copy(&mut source, &mut target).and_then(|_| target.sync_all());
    // Never closed: with a file that is closed, all locks of this process on it would be gone, those of SQLite too ("How To
    // Corrupt An SQLite Database File", 2.2).
    std::mem::forget(source);
    copied
}

/// The copies that are there, the oldest first.
pub(super) fn copies(file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok);
    let is_copy = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix("state.db.before-").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut copies: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_copy).collect();
    copies.sort();
    copies
}
