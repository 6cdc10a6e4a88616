//! What the faults of a database server mean: by their class and their code, not by their words.

use std::time::Duration;

use rand::RngExt;
use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use super::super::Sink;
use crate::error::{Disposition, Error, Kind, Result};
use crate::model::hook::RetryPolicy;

/// How patiently a connection is tried again while its server cannot be reached.
pub(super) struct Patience<'a> {
    retry: &'a RetryPolicy,
    attempt: u32,
}

impl<'a> Patience<'a> {
    pub fn new(retry: &'a RetryPolicy) -> Self {
        Self { retry, attempt: 1 }
    }

    /// Waits before another attempt; without a sink nobody is told of the pause.
    ///
    /// # Errors
    /// The error itself, where another attempt would not help, or was the last.
    pub async fn after(&mut self, error: Error, sink: Option<&dyn Sink>) -> Result<()> {
        if error.kind().disposition() == Disposition::Stop || self.attempt >= self.retry.max_attempts {
            return Err(error);
        }
        let doubled = self.retry.min_backoff.saturating_mul(1 << (self.attempt - 1).min(20));
        let pause: Duration = doubled.min(self.retry.max_backoff).mul_f64(rand::rng().random::<f64>());
        if let Some(sink) = sink {
            sink.retrying(&error.chain(), pause);
        }
        tokio::time::sleep(pause).await;
        self.attempt += 1;
        Ok(())
    }
}

/// What the fault of a statement means.
pub(super) fn failed(doing: &str, error: &sqlx::Error) -> Error {
    let (kind, hint) = match error {
        sqlx::Error::Database(fault) => match fault.code().as_deref().unwrap_or_default() {
            // PostgreSQL ends the connection: an administrator, a crash, a shutdown.
            "57P01" | "57P02" | "57P03" => (Kind::Unavailable, Some(GONE)),
            "57014" => {
                (Kind::Unavailable, Some("the server cancelled the statement; is `statement_timeout` too short?"))
            }
            // A standby had to remove rows that were still being read.
            "40001" | "40P01" => (Kind::Unavailable, Some(GONE)),
            "42501" => (Kind::Auth, Some("may this user read that table?")),
            // Two columns of one name: of a subquery, or named in a list.
            "42S21" | "42702" => (Kind::Source, Some(TWICE)),
            _ if fault.message().contains("denied") => (Kind::Auth, Some("may this user read that table?")),
            _ => (Kind::Source, None),
        },
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => (Kind::Unavailable, Some(GONE)),
        _ => (Kind::Source, None),
    };
    let told = Error::new(kind, doing).because(crate::server::words(error));
    match hint {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

/// What the fault of a statement means, with the line of it that PostgreSQL points to.
pub(super) fn failed_in(doing: &str, statement: &str, error: &sqlx::Error) -> Error {
    let told = failed(doing, error);
    let fault = error.as_database_error().and_then(|fault| fault.try_downcast_ref::<PgDatabaseError>());
    let Some(PgErrorPosition::Original(place)) = fault.and_then(PgDatabaseError::position) else { return told };
    let before: String = statement.chars().take(place.saturating_sub(1)).collect();
    // The statement's own first line stands before those of its author.
    let (line, column) = (before.matches('\n').count(), before.chars().rev().take_while(|c| *c != '\n').count());
    match statement.lines().nth(line) {
        Some(text) if line > 0 => {
            told.detail(format!("line {line}: {text}\n{:width$}^", "", width = column + 7 + line.to_string().len()))
        }
        _ => told,
    }
}

/// What to do about two columns of one name.
pub(super) const TWICE: &str = "name its columns one by one, each with a name of its own: SELECT a.id, b.id AS b_id, …";

const GONE: &str = "the connection was lost; nothing was loaded, and the next run reads the unit from its beginning";
