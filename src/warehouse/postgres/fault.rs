//! What the faults of a PostgreSQL server mean: by their codes, and by the line that they point to.

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use crate::error::{Error, Kind};
use crate::warehouse::excerpt::{failed_at, line_of};

const GONE: &str = "nothing was loaded that had not been committed; the next run finds out what was";

/// What the fault of a statement means.
pub(super) fn failed(doing: &str, error: &sqlx::Error) -> Error {
    let (kind, hint) = meaning(error);
    let told = Error::new(kind, doing).because(words(error));
    match hint {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

/// What a fault means while rows are put into a table: most are faults of the rows.
pub(super) fn failed_rows(doing: &str, error: &sqlx::Error) -> Error {
    let of_rows = database(error).is_some_and(|fault| fault.code().starts_with("22") || fault.code().starts_with("23"));
    if of_rows { Error::new(Kind::Data, doing).because(words(error)) } else { failed(doing, error) }
}

/// What the fault of a statement means that a user wrote; `shift` lines of ours stand before it in `statement`.
pub(super) fn failed_in(doing: &str, sql: &str, statement: &str, shift: usize, error: &sqlx::Error) -> Error {
    let (kind, hint) = meaning(error);
    let place = match database(error).map(PgDatabaseError::position) {
        Some(Some(PgErrorPosition::Original(place))) => line_of(statement, place, shift),
        _ => None,
    };
    if kind != Kind::Warehouse {
        return failed(doing, error);
    }
    let told = failed_at(doing, sql, place, words(error));
    match hint {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

fn database(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error().and_then(|fault| fault.try_downcast_ref::<PgDatabaseError>())
}

/// The server's own words; the library adds where in its own sources the server failed.
fn words(error: &sqlx::Error) -> String {
    let Some(fault) = database(error) else { return error.to_string() };
    // Of a COPY, the context names line and column.
    let place = fault.r#where().filter(|place| place.starts_with("COPY ")).and_then(|place| place.lines().next());
    let further = [fault.detail(), fault.hint(), place].into_iter().flatten();
    std::iter::once(fault.message()).chain(further).collect::<Vec<_>>().join("; ")
}

/// The kind of a fault, and what would help. The codes are those of "PostgreSQL Error Codes" in its documentation.
fn meaning(error: &sqlx::Error) -> (Kind, Option<&'static str>) {
    let Some(fault) = database(error) else {
        return match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => (Kind::Unavailable, Some(GONE)),
            _ => (Kind::Warehouse, None),
        };
    };
    match fault.code() {
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "53300" => (Kind::Unavailable, Some(GONE)),
        "57014" if fault.message().contains("timeout") => (
            Kind::Warehouse,
            Some(
                "the statement was ended by a `statement_timeout`: that of the connection, of the user or of the server",
            ),
        ),
        "57014" => (Kind::Unavailable, Some("somebody cancelled the statement; the next run tries again")),
        "55P03" => (
            Kind::Unavailable,
            Some("another session holds what is needed, for longer than `lock_timeout` of the connection allows"),
        ),
        "40001" | "40P01" => (Kind::Unavailable, Some("the next run tries again")),
        "42501" => (Kind::Auth, Some("may this user create schemas, and write in this one?")),
        "25006" => (Kind::Warehouse, Some("a query changes nothing in the warehouse")),
        "42701" => (Kind::Warehouse, Some("name the columns one by one, each with a name of its own")),
        "53100" => (Kind::Storage, Some("the server's disk is full")),
        code if code.starts_with("08") => (Kind::Unavailable, Some(GONE)),
        _ => (Kind::Warehouse, None),
    }
}
