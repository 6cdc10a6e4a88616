//! A look at a state file as it lies there: nothing is changed, made or brought up to date.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::liveness::Liveness;
use super::migrate::{MIGRATIONS, copies};
use super::sqlite::FILE;
use crate::time::Instant;

/// How a state file is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The file.
    pub file: PathBuf,
    /// Its version.
    pub version: u64,
    /// The version that this haul writes.
    pub known: u64,
    /// Its bytes, with those that are written beside it first.
    pub bytes: u64,
    /// Of these, the bytes that nothing uses.
    pub free: u64,
    /// What SQLite finds wrong with it; nothing where it is sound.
    pub damage: Vec<String>,
    /// Runs that count as under way and whose process is gone.
    pub dead_runs: Vec<String>,
    /// Jobs whose lease has ended, and which nobody took up again.
    pub lost_jobs: u64,
    /// Stages that units wait with for a decision, relative to the state folder.
    pub held_stages: Vec<String>,
    /// Copies of older versions.
    pub copies: Vec<PathBuf>,
}

/// Looks at the state file in `dir`; none where there is none.
///
/// # Errors
/// Why it cannot be read at all, in SQLite's words.
pub(super) async fn examine(dir: &Path, now: Instant) -> Result<Option<Health>, String> {
    let file = dir.join(FILE);
    if !file.exists() {
        return Ok(None);
    }
    let options = SqliteConnectOptions::new().filename(&file).read_only(true).busy_timeout(Duration::from_secs(5));
    let told = |error: sqlx::Error| error.to_string();
    let mut connection = options.connect().await.map_err(told)?;
    let mut health = Health { copies: copies(&file), known: MIGRATIONS.len() as u64, ..Health::default() };
    health.version = number(&mut connection, "PRAGMA user_version").await?;
    let page = number(&mut connection, "PRAGMA page_size").await?;
    health.free = number(&mut connection, "PRAGMA freelist_count").await? * page;
    health.bytes = [&file, &file.with_extension("db-wal")]
        .into_iter()
        .filter_map(|path| path.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    let checked: Vec<(String,)> =
        sqlx::query_as("PRAGMA quick_check(10)").fetch_all(&mut connection).await.map_err(told)?;
    health.damage = checked.into_iter().map(|(line,)| line).filter(|line| line != "ok").collect();
    if health.version >= 1 && health.damage.is_empty() {
        let running: Vec<(String,)> = sqlx::query_as("SELECT id FROM run WHERE status = 'running' ORDER BY seq")
            .fetch_all(&mut connection)
            .await
            .map_err(told)?;
        let liveness = Liveness::new(dir);
        health.dead_runs = running.into_iter().map(|(run,)| run).filter(|run| !liveness.lives(run)).collect();
        let held: Vec<(String,)> = sqlx::query_as("SELECT held_stage FROM unit WHERE held_stage IS NOT NULL")
            .fetch_all(&mut connection)
            .await
            .map_err(told)?;
        health.held_stages = held.into_iter().map(|(stage,)| stage).collect();
    }
    if health.version >= 5 && health.damage.is_empty() {
        let (lost,): (i64,) = sqlx::query_as("SELECT count(*) FROM job WHERE state = 'leased' AND lease_until < $1")
            .bind(now.timestamp_micros())
            .fetch_one(&mut connection)
            .await
            .map_err(told)?;
        health.lost_jobs = u64::try_from(lost).unwrap_or_default();
    }
    let _ = connection.close().await;
    Ok(Some(Health { file, ..health }))
}

async fn number(connection: &mut SqliteConnection, pragma: &'static str) -> Result<u64, String> {
    let (value,): (i64,) = sqlx::query_as(pragma).fetch_one(connection).await.map_err(|error| error.to_string())?;
    Ok(u64::try_from(value).unwrap_or(u64::MAX))
}
