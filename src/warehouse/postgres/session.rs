//! Sessions of a PostgreSQL server: kept open between commits, named after the work, and stopped when a run is stopped.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row};
use tokio_util::sync::CancellationToken;

use super::fault::failed;
use crate::error::{Error, Kind, Result};
use crate::model::connection::ServerConnection;
use crate::server::connect_postgres;
use crate::warehouse::closed;
use crate::warehouse::dialect::POSTGRES;

/// So many sessions wait for the next work; more are opened where more work comes at once.
const IDLE: usize = 8;

/// How long a cancelled statement has to end before it is cancelled again, and how often.
const CANCEL_PAUSE: Duration = Duration::from_millis(250);
const CANCEL_ATTEMPTS: u32 = 40;

/// PostgreSQL cuts off the name of a session here.
const LONGEST_NAME: usize = 63;

/// What every session begins with.
///
/// Texts of values, and with them digests, must not depend on how the server is set up.
const SETTINGS: &str = "SET TIME ZONE 'UTC'; SET extra_float_digits = 1; SET IntervalStyle = 'postgres'; \
                        SET DateStyle = 'ISO, YMD'; SET bytea_output = 'hex'; SET standard_conforming_strings = on; \
                        SET client_min_messages = warning; SET idle_in_transaction_session_timeout = 0";

/// A server and the sessions that wait for work.
pub(super) struct Server {
    settings: ServerConnection,
    /// None once it is closed.
    idle: Mutex<Option<Vec<Session>>>,
}

/// One session of the server.
pub(super) struct Session {
    pub connection: PgConnection,
    /// The number by which its statements are cancelled.
    pub pid: i32,
    /// Whether it has done work before: then the server may have ended it since.
    used: bool,
}

impl Server {
    pub fn new(settings: ServerConnection) -> Self {
        Self { settings, idle: Mutex::new(Some(Vec::new())) }
    }

    /// A session that waits, or a new one.
    ///
    /// # Errors
    /// A server that is out of reach or refuses us; a warehouse that is closed.
    pub async fn session(&self) -> Result<Session> {
        let waiting = match &mut *self.lock() {
            Some(idle) => idle.pop(),
            None => return Err(closed()),
        };
        match waiting {
            Some(mut session) => {
                // The server may have been started anew since.
                if session.used && session.connection.ping().await.is_err() { self.open().await } else { Ok(session) }
            }
            None => self.open().await,
        }
    }

    /// Opens a session that nobody has used.
    async fn open(&self) -> Result<Session> {
        let mut connection = connect_postgres(&self.settings, "haul").await?;
        let doing = "preparing a session";
        sqlx::raw_sql(SETTINGS).execute(&mut connection).await.map_err(|error| failed(doing, &error))?;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await;
        let pid = pid.map_err(|error| failed(doing, &error))?;
        // A client that is gone is noticed in the middle of a statement too, where the server can.
        let alive = "SELECT set_config('client_connection_check_interval', '10s', false) \
                     WHERE current_setting('client_connection_check_interval', true) IS NOT NULL";
        let _ = sqlx::raw_sql(alive).execute(&mut connection).await;
        Ok(Session { connection, pid, used: false })
    }

    /// Keeps a session for the next work.
    pub fn keep(&self, mut session: Session) {
        session.used = true;
        if let Some(idle) = &mut *self.lock()
            && idle.len() < IDLE
        {
            idle.push(session);
        }
    }

    /// Closes all sessions that wait; those that work are closed when they are done.
    pub async fn close(&self) {
        let idle = self.lock().take();
        for session in idle.into_iter().flatten() {
            let _ = session.connection.close().await;
        }
    }

    /// Does work in a session, and cancels its statement where the run is cancelled.
    ///
    /// What is under way then ends as a whole or not at all; the caller is told which.
    pub async fn guarded<T>(
        &self,
        pid: i32,
        cancel: &CancellationToken,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = cancel.cancelled() => {}
        }
        for _ in 0..CANCEL_ATTEMPTS {
            self.cancel(pid).await;
            if let Ok(done) = tokio::time::timeout(CANCEL_PAUSE, &mut work).await {
                return done.map_err(|error| Error::new(Kind::Cancelled, "stopped in the warehouse").because(error));
            }
        }
        Err(Error::new(Kind::Cancelled, "stopped in the warehouse"))
    }

    /// Asks the server to end the statement of a session; it may have ended by itself.
    async fn cancel(&self, pid: i32) {
        if let Ok(mut second) = connect_postgres(&self.settings, "haul: cancelling").await {
            let _ = sqlx::query("SELECT pg_cancel_backend($1)").bind(pid).execute(&mut second).await;
            let _ = second.close().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Session>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Runs statements of ours, one after the other.
    pub async fn batch(&mut self, doing: &str, sql: &str) -> Result<()> {
        self.write(doing, sql).await.map(drop)
    }

    /// Runs a statement of ours, and says how many rows it has written.
    pub async fn write(&mut self, doing: &str, sql: &str) -> Result<u64> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await;
        done.map(|done| done.rows_affected()).map_err(|error| failed(doing, &error))
    }

    /// The rows of a statement of ours.
    pub async fn rows(&mut self, doing: &str, sql: &str) -> Result<Vec<PgRow>> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await;
        rows.map_err(|error| failed(doing, &error))
    }

    /// The only number of a statement of ours.
    pub async fn number(&mut self, doing: &str, sql: &str) -> Result<u64> {
        let rows = self.rows(doing, sql).await?;
        let number: i64 = match rows.first() {
            Some(row) => row.try_get(0).map_err(|error| failed(doing, &error))?,
            None => 0,
        };
        Ok(u64::try_from(number).unwrap_or_default())
    }

    /// Ends a transaction without a trace.
    ///
    /// # Errors
    /// A session that is of no more use.
    pub async fn roll_back(&mut self) -> Result<()> {
        self.batch("rolling back", "ROLLBACK").await
    }
}

/// The name of a session while it does this work, as `pg_stat_activity` shows it.
pub(super) fn named(work: &str) -> String {
    let mut name = format!("haul {work}");
    while name.len() > LONGEST_NAME {
        name.pop();
    }
    format!("SET LOCAL application_name = {}", POSTGRES.literal(&name))
}
