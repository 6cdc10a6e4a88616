//! Sessions of a MySQL or MariaDB server: strict, in UTC, one commit of a table after the other.

use std::time::Duration;

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Connection as _, Row};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::model::connection::ServerConnection;
use crate::model::name::TableName;
use crate::server::connect_mysql;

/// What every session begins with: nothing is cut, rounded or replaced in silence, and time is UTC.
const SETTINGS: [&str; 4] = [
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'",
    "SET SESSION time_zone = '+00:00'",
    "SET NAMES utf8mb4",
    // The lock of a process that is out of reach is free again after so many seconds.
    "SET SESSION wait_timeout = 600",
];

/// How long ending a session of a cancelled run may take.
const END_WITHIN: Duration = Duration::from_secs(10);

/// One session.
pub(super) struct Session {
    pub connection: MySqlConnection,
    /// The number by which it is ended.
    id: u64,
    /// The longest statement that the server takes.
    pub packet: usize,
    /// The text that a name is compared with.
    pub database: String,
}

impl Session {
    /// Opens a session.
    ///
    /// # Errors
    /// A server that is out of reach or refuses us.
    pub async fn open(server: &ServerConnection) -> Result<Self> {
        let connection = connect_mysql(server).await?;
        let mut session = Self { connection, id: 0, packet: 1 << 20, database: server.database.clone() };
        for setting in SETTINGS {
            session.run("preparing a session", setting).await?;
        }
        let sql = "SELECT CAST(connection_id() AS UNSIGNED), CAST(@@max_allowed_packet AS UNSIGNED)";
        if let Some(row) = session.rows("preparing a session", sql).await?.first() {
            session.id = number(row, 0)?;
            session.packet = usize::try_from(number(row, 1)?).unwrap_or(1 << 20);
        }
        Ok(session)
    }

    /// Runs a statement of ours, and says how many rows it has written.
    pub async fn run(&mut self, doing: &str, sql: &str) -> Result<u64> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await;
        done.map(|done| done.rows_affected()).map_err(|error| failed(doing, &error))
    }

    /// The rows of a statement of ours.
    pub async fn rows(&mut self, doing: &str, sql: &str) -> Result<Vec<MySqlRow>> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await;
        rows.map_err(|error| failed(doing, &error))
    }

    /// Waits until no other session commits to the table; the server gives the turn back where the session ends.
    pub async fn lock(&mut self, table: &TableName) -> Result<()> {
        let name = format!("haul {:016x}", xxhash_rust::xxh3::xxh3_64(table.to_string().to_lowercase().as_bytes()));
        let doing = "waiting for another commit of the same table";
        self.rows(doing, &format!("SELECT GET_LOCK('{name}', 86400)")).await.map(drop)
    }

    /// Ends it.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }
}

/// Does work in a session, and ends the session where the run is cancelled: the server rolls back what it did.
pub(super) async fn guarded<T>(
    server: &ServerConnection,
    mut session: Session,
    cancel: &CancellationToken,
    work: impl AsyncFnOnce(&mut Session) -> Result<T>,
) -> Result<T> {
    let id = session.id;
    let done = {
        let work = work(&mut session);
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => Some(done),
            () = cancel.cancelled() => None,
        }
    };
    if let Some(done) = done {
        session.close().await;
        return done;
    }
    let ending = async {
        if let Ok(mut second) = Session::open(server).await {
            let _ = second.run("ending a session", &format!("KILL {id}")).await;
            second.close().await;
        }
    };
    // A server that is out of reach ends it when it finds us gone.
    let _ = tokio::time::timeout(END_WITHIN, ending).await;
    Err(Error::new(Kind::Cancelled, "stopped in the database"))
}

/// A number that is not negative.
pub(super) fn number(row: &MySqlRow, place: usize) -> Result<u64> {
    let found = row
        .try_get::<u64, _>(place)
        .or_else(|_| row.try_get::<i64, _>(place).map(|number| u64::try_from(number).unwrap_or_default()));
    found.map_err(|error| failed("reading a number", &error))
}

/// A text, whatever the server takes it to be.
pub(super) fn text(row: &MySqlRow, place: usize) -> Result<Option<String>> {
    let bytes: Option<Vec<u8>> = row.try_get_unchecked(place).map_err(|error| failed("reading a text", &error))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// What the fault of a statement means.
pub(super) fn failed(doing: &str, error: &sqlx::Error) -> Error {
    let (kind, hint) = match error {
        sqlx::Error::Database(fault) => match fault.code().as_deref().unwrap_or_default() {
            // Deadlocks, and locks that were waited for too long.
            "40001" => (Kind::Unavailable, Some("another session held the table; the next run tries again")),
            "42000" if fault.message().contains("denied") => (Kind::Auth, Some("may this user write that table?")),
            // A value that a type of the server's own does not take, a key that is there already.
            "22001" | "22003" | "22007" | "23000" | "01000" | "22032" => (
                Kind::Data,
                Some("declare another type for the column: columns = { … = \"VARCHAR\" }; or change the table"),
            ),
            _ => (Kind::Warehouse, None),
        },
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => (
            Kind::Unavailable,
            Some("the connection was lost; what was not committed is not there, and the next run goes on"),
        ),
        _ => (Kind::Warehouse, None),
    };
    let told = Error::new(kind, doing).because(crate::server::words(error));
    match hint {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

/// A quoted name.
pub(super) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A quoted text.
pub(super) fn literal(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    super::encode::quoted(text, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A quoted table.
pub(super) fn relation(table: &TableName) -> String {
    format!("{}.{}", ident(&table.schema), ident(&table.name))
}

/// `_haul_loads` beside a table.
pub(super) fn loads_of(table: &TableName) -> String {
    format!("{}._haul_loads", ident(&table.schema))
}
