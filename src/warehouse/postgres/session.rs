//! Sessions of a PostgreSQL server: kept open between commits, named after the work, and stopped when a run is stopped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row};
use tokio_util::sync::CancellationToken;

use super::fault::failed;
use crate::error::{Error, Kind, Result};
use crate::model::connection::ServerConnection;
use crate::server::{connect_postgres, try_postgres};
use crate::warehouse::closed;
use crate::warehouse::dialect::POSTGRES;

/// So many sessions wait for the next work; more are opened where more work comes at once.
const IDLE: usize = 8;

/// How long a cancelled statement has to end before it is cancelled again, and how long it has in all.
const CANCEL_PAUSE: Duration = Duration::from_millis(250);
const CANCEL_WITHIN: Duration = Duration::from_secs(10);

/// How long a side question to the server may take: one that is at work answers at once.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How often the server is asked how work is getting on, and how many times in a row it may say that it knows of none, or nothing:
/// then nobody will ever tell us the end, since the network was cut or the server was started anew.
const LOOK_EVERY: Duration = Duration::from_secs(4);
const LOOKS_IN_VAIN: u32 = 8;

/// A session that holds us up, and whose client has not said anything at so many looks, is that of a process that is dead, stands
/// still, or is out of reach.
const LOOKS_IN_SILENCE: u32 = 3;

/// PostgreSQL cuts off the name of a session here.
const LONGEST_NAME: usize = 63;

/// What every session begins with.
///
/// Texts of values, and with them digests, must not depend on how the server is set up.
const SETTINGS: &str = "SET TIME ZONE 'UTC'; SET extra_float_digits = 1; SET IntervalStyle = 'postgres'; \
                        SET DateStyle = 'ISO, YMD'; SET bytea_output = 'hex'; SET standard_conforming_strings = on; \
                        SET client_min_messages = warning; SET idle_in_transaction_session_timeout = 0";

/// The sessions of haul that another waits for and that wait for their clients, with what changes where these say anything.
///
/// The columns are those of "Monitoring Database Activity" in PostgreSQL's documentation.
const HELD_UP_BY: &str = "SELECT a.pid, concat_ws(' ', a.backend_start, a.state_change, c.bytes_processed)
    FROM pg_stat_activity AS a LEFT JOIN pg_stat_progress_copy AS c ON c.pid = a.pid
    WHERE a.pid = ANY (pg_blocking_pids($1)) AND a.usename = current_user AND a.application_name LIKE 'haul %'
      AND a.wait_event = 'ClientRead'";

/// A server and the sessions that wait for work.
pub(super) struct Server {
    settings: ServerConnection,
    /// None once it is closed.
    idle: Mutex<Option<Vec<Session>>>,
}

/// One session of the server.
pub(super) struct Session {
    pub connection: PgConnection,
    /// The number by which its statements are cancelled; behind a pooler each transaction may have another.
    pub pid: Arc<AtomicI32>,
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
                // The server may have been started anew since, or be out of reach.
                let answers = !session.used
                    || matches!(tokio::time::timeout(ANSWER_WITHIN, session.connection.ping()).await, Ok(Ok(())));
                if answers { Ok(session) } else { self.open().await }
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
        Ok(Session { connection, pid: Arc::new(AtomicI32::new(pid)), used: false })
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
            let _ = tokio::time::timeout(ANSWER_WITHIN, session.connection.close()).await;
        }
    }

    /// Does work in a session, and cancels its statement where the run is cancelled.
    ///
    /// What is under way then ends as a whole or not at all; the caller is told which, if the server can be asked.
    pub async fn guarded<T>(
        &self,
        pid: &AtomicI32,
        cancel: &CancellationToken,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut work = std::pin::pin!(self.watched(pid, work));
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = cancel.cancelled() => {}
        }
        let stopping = async {
            loop {
                self.cancel(pid).await;
                tokio::time::sleep(CANCEL_PAUSE).await;
            }
        };
        tokio::select! {
            biased;
            done = &mut work => {
                done.map_err(|error| Error::new(Kind::Cancelled, "stopped in the warehouse").because(error))
            }
            () = stopping => Err(Error::internal("stopping has no end")),
            () = tokio::time::sleep(CANCEL_WITHIN) => Err(Error::new(Kind::Cancelled, "stopped in the warehouse")),
        }
    }

    /// Does work in a session as long as the server is at it.
    ///
    /// The session of a process that died far away, or stands still, keeps its locks until the server finds that out, which
    /// may take hours: where the work waits for one of these, it is ended. What its process brings later is refused by the
    /// unit's generation, like anything that comes too late.
    ///
    /// # Errors
    /// Besides those of the work: a server that is out of reach, or has no such session any more. What was not committed is not
    /// there then.
    pub async fn watched<T>(&self, pid: &AtomicI32, work: impl Future<Output = Result<T>>) -> Result<T> {
        let silent = Mutex::new(HashMap::new());
        let look = || async { tokio::time::timeout(ANSWER_WITHIN, self.look(pid, &silent)).await.unwrap_or(false) };
        as_long_as(work, LOOK_EVERY, look).await
    }

    /// Whether the server has a session, which is freed from those that hold it up for nothing.
    async fn look(&self, pid: &AtomicI32, silent: &Mutex<HashMap<i32, (String, u32)>>) -> bool {
        let mut second = match try_postgres(&self.settings, "haul: looking").await {
            Ok(second) => second,
            // One that answers and does not let us in, since it has no place left or is starting, may well have it.
            Err(error) => return matches!(error, sqlx::Error::Database(_)),
        };
        let pid = pid.load(Ordering::Relaxed);
        let has = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)").bind(pid);
        let has: bool = has.fetch_one(&mut second).await.unwrap_or(false);
        let held_up: Vec<(i32, String)> =
            sqlx::query_as(HELD_UP_BY).bind(pid).fetch_all(&mut second).await.unwrap_or_default();
        for dead in still_silent(silent, held_up) {
            let _ = sqlx::query("SELECT pg_terminate_backend($1)").bind(dead).execute(&mut second).await;
        }
        let _ = second.close().await;
        has
    }

    /// Asks the server to end the statement of a session; it may have ended by itself.
    async fn cancel(&self, pid: &AtomicI32) {
        let pid = pid.load(Ordering::Relaxed);
        let asked = async {
            if let Ok(mut second) = connect_postgres(&self.settings, "haul: cancelling").await {
                let _ = sqlx::query("SELECT pg_cancel_backend($1)").bind(pid).execute(&mut second).await;
                let _ = second.close().await;
            }
        };
        let _ = tokio::time::timeout(ANSWER_WITHIN, asked).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Session>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Begins a transaction, and finds out by which number it is cancelled.
    pub async fn begin(&mut self, doing: &str, begin: &str) -> Result<()> {
        let pid = self.number(doing, &format!("{begin}; SELECT pg_backend_pid()::int8")).await?;
        self.pid.store(i32::try_from(pid).unwrap_or_default(), Ordering::Relaxed);
        Ok(())
    }

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

/// Of the sessions that hold us up, those that have not changed for some looks; the others are kept in mind.
fn still_silent(silent: &Mutex<HashMap<i32, (String, u32)>>, held_up: Vec<(i32, String)>) -> Vec<i32> {
    let mut silent = silent.lock().unwrap_or_else(PoisonError::into_inner);
    let before = std::mem::take(&mut *silent);
    for (pid, mark) in held_up {
        let looks = before.get(&pid).filter(|(known, _)| *known == mark).map_or(0, |(_, looks)| *looks);
        silent.insert(pid, (mark, looks + 1));
    }
    silent.iter().filter(|(_, (_, looks))| *looks >= LOOKS_IN_SILENCE).map(|(pid, _)| *pid).collect()
}

/// Does work as long as whoever does it is seen to be at it: it is given up after some looks in vain.
async fn as_long_as<T, Look: Future<Output = bool>>(
    work: impl Future<Output = Result<T>>,
    every: Duration,
    is_at_it: impl Fn() -> Look,
) -> Result<T> {
    let mut work = std::pin::pin!(work);
    let mut in_vain = 0;
    while in_vain < LOOKS_IN_VAIN {
        let look = async {
            tokio::time::sleep(every).await;
            is_at_it().await
        };
        tokio::select! {
            biased;
            done = &mut work => return done,
            seen = look => in_vain = if seen { 0 } else { in_vain + 1 },
        }
    }
    Err(Error::new(Kind::Unavailable, "waiting for the server")
        .because("it is out of reach, or no longer has the session")
        .hint("the connection was lost; what was not committed is not there, and the next run goes on"))
}

/// The name of a session while it does this work, as `pg_stat_activity` shows it.
pub(super) fn named(work: &str) -> String {
    let mut name = format!("haul {work}");
    while name.len() > LONGEST_NAME {
        name.pop();
    }
    format!("SET LOCAL application_name = {}", POSTGRES.literal(&name))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::{LOOKS_IN_VAIN, as_long_as};
    use crate::error::{Kind, Result};

    #[tokio::test]
    async fn work_whose_server_has_forgotten_it_is_given_up_and_other_work_is_waited_for() {
        let every = Duration::from_millis(1);
        let looks = AtomicU32::new(0);
        let error = as_long_as(std::future::pending::<Result<()>>(), every, || async {
            // It is seen now and then, and in the end no more.
            let look = looks.fetch_add(1, Ordering::Relaxed);
            look < 10 && look.is_multiple_of(LOOKS_IN_VAIN)
        });
        let error = error.await.expect_err("nobody is at it");
        assert_eq!((error.kind(), looks.load(Ordering::Relaxed)), (Kind::Unavailable, 10 + LOOKS_IN_VAIN));

        let (end, ended) = tokio::sync::oneshot::channel();
        let (looks, end) = (AtomicU32::new(0), std::sync::Mutex::new(Some(end)));
        let work = async { Ok(ended.await.unwrap_or_default()) };
        let done = as_long_as(work, every, || async {
            if looks.fetch_add(1, Ordering::Relaxed) == 20 {
                drop(end.lock().map(|mut end| end.take().map(|end| end.send(7))));
            }
            true
        });
        assert_eq!(done.await.ok(), Some(7), "it may take as long as it takes");
    }
}
