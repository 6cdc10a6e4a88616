//! Database servers: how a connection to PostgreSQL or MySQL is made, and what the refusal of a server means.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};

use crate::error::{Error, Kind, Result};
use crate::model::connection::{ServerConnection, Tls};
use crate::secret::ExposeSecret;

/// A server that has not let us in by then is out of reach: a network that is cut says nothing at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// Waits for a connection, but not for ever.
async fn in_time<C>(connecting: impl Future<Output = Result<C, sqlx::Error>>) -> Result<C, sqlx::Error> {
    let silent = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer for 30 seconds");
    tokio::time::timeout(CONNECT_WITHIN, Box::pin(connecting)).await.unwrap_or_else(|_| Err(sqlx::Error::Io(silent())))
}

/// How a session of a PostgreSQL server is begun.
fn options_of(server: &ServerConnection, application: &str) -> PgConnectOptions {
    let tls = match server.tls {
        Tls::Disable => PgSslMode::Disable,
        Tls::Prefer => PgSslMode::Prefer,
        Tls::Require => PgSslMode::Require,
        Tls::VerifyFull => PgSslMode::VerifyFull,
    };
    let options = PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .database(&server.database)
        .application_name(application)
        .ssl_mode(tls);
    match &server.password {
        Some(password) => options.password(password.expose_secret()),
        None => options,
    }
}

/// Connects to a PostgreSQL server without any settings of the session, and leaves the fault as it is.
///
/// # Errors
/// Whatever keeps us out; no answer within half a minute is one of input and output.
pub async fn try_postgres(server: &ServerConnection, application: &str) -> Result<PgConnection, sqlx::Error> {
    in_time(PgConnection::connect_with(&options_of(server, application))).await
}

/// Connects to a PostgreSQL server, where the session is shown under this name.
///
/// # Errors
/// A server that is out of reach or refuses us.
pub async fn connect_postgres(server: &ServerConnection, application: &str) -> Result<PgConnection> {
    let mut connection = try_postgres(server, application).await.map_err(|error| refused(&error, server))?;
    // As a statement and not among the options of the start, which poolers between refuse.
    let limits = [("statement_timeout", server.statement_timeout), ("lock_timeout", server.lock_timeout)];
    let limits: Vec<String> = limits
        .into_iter()
        .filter_map(|(name, limit)| limit.map(|limit| format!("SET {name} = {}", limit.as_millis())))
        .collect();
    if !limits.is_empty() {
        let set = sqlx::raw_sql(sqlx::AssertSqlSafe(limits.join("; "))).execute(&mut connection).await;
        set.map_err(|error| refused(&error, server))?;
    }
    Ok(connection)
}

/// Connects to a MySQL or MariaDB server; the session's zone is UTC.
///
/// # Errors
/// A server that is out of reach or refuses us.
pub async fn connect_mysql(server: &ServerConnection) -> Result<MySqlConnection> {
    let tls = match server.tls {
        Tls::Disable => MySqlSslMode::Disabled,
        Tls::Prefer => MySqlSslMode::Preferred,
        Tls::Require => MySqlSslMode::Required,
        Tls::VerifyFull => MySqlSslMode::VerifyIdentity,
    };
    let mut options = MySqlConnectOptions::new()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .database(&server.database)
        // A statement means here what it means to its author's other programs.
        .pipes_as_concat(false)
        .ssl_mode(tls);
    if let Some(password) = &server.password {
        options = options.password(password.expose_secret());
    }
    in_time(MySqlConnection::connect_with(&options)).await.map_err(|error| refused(&error, server))
}

/// What a server's refusal of a connection means.
pub fn refused(error: &sqlx::Error, server: &ServerConnection) -> Error {
    let place = format!("connecting to {}:{} as {}", server.host, server.port, server.user);
    let (kind, hint) = match error {
        sqlx::Error::Io(_) => (Kind::Unavailable, format!("is a server listening on {}:{}?", server.host, server.port)),
        // What stands before the server, such as a balancer, lets us in and hangs up at once: there is no server behind it.
        sqlx::Error::Protocol(said) if said.contains("response from SSLRequest: 0x00") => {
            (Kind::Unavailable, "the connection was closed at once; is the server behind it up?".to_owned())
        }
        sqlx::Error::Tls(_) => (
            Kind::Unavailable,
            "the server and `tls` do not agree; it is one of disable, prefer, require, verify-full".to_owned(),
        ),
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("28P01" | "28000") => (Kind::Auth, format!("is the password of {} right?", server.user)),
            Some("3D000") => (Kind::Connection, format!("there is no database `{}` on that server", server.database)),
            // The server is starting, stopping, or has no connection left.
            Some("57P01" | "57P02" | "57P03" | "53300") => {
                (Kind::Unavailable, "the server takes no connections now; the next run tries again".to_owned())
            }
            _ if error.message().contains("Access denied") => {
                (Kind::Auth, format!("is the password of {} right?", server.user))
            }
            _ => (Kind::Connection, "the server tells the reason above".to_owned()),
        },
        _ => (Kind::Connection, "does the server at that port speak this protocol?".to_owned()),
    };
    Error::new(kind, place).because(words(error)).hint(hint)
}

/// What an error says: the words of the server, to which the library adds where in the server's own sources it failed.
pub fn words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(fault) => fault.message().to_owned(),
        other => other.to_string(),
    }
}
