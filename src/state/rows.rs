//! How values lie in the file: instants, counts, words, and the records that are read back.

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::error::{Error, Kind, Result};
use crate::model::ledger::{Changes, Fingerprint, Loaded, PullOutcome, PullRecord, UnitRecord, UnitState};
use crate::model::name::TableName;
use crate::model::run::{RunCounts, RunRecord, RunStatus, TaskId, TaskLog, Trigger};
use crate::time::{Instant, UnitKey};

/// An instant as text that sorts like time.
pub(super) fn instant(instant: Instant) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// A count as SQLite has it. Nothing that is counted here comes near 2^63.
pub(super) fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The word of an enum of plain words.
pub(super) fn word<T: serde::Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => format!("{other:?}"),
    }
}

/// One row of the file, read column by column; each fault names the column.
pub(super) struct Reading<'a>(pub &'a SqliteRow);

impl Reading<'_> {
    fn get<T>(&self, column: &str) -> Result<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.0.try_get(column).map_err(|error| unreadable(column).because(error))
    }

    pub fn text(&self, column: &str) -> Result<String> {
        self.get(column)
    }

    pub fn number(&self, column: &str) -> Result<u64> {
        let number: i64 = self.get(column)?;
        u64::try_from(number).map_err(|error| unreadable(column).because(error))
    }

    fn maybe_number(&self, column: &str) -> Result<Option<u64>> {
        let number: Option<i64> = self.get(column)?;
        number.map(|number| u64::try_from(number).map_err(|error| unreadable(column).because(error))).transpose()
    }

    pub fn instant(&self, column: &str) -> Result<Instant> {
        parse_instant(column, &self.text(column)?)
    }

    pub fn maybe_instant(&self, column: &str) -> Result<Option<Instant>> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| parse_instant(column, &text)).transpose()
    }

    fn fingerprint(&self, column: &str) -> Result<Option<Fingerprint>> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| text.parse().map_err(|error| unreadable(column).because(error))).transpose()
    }

    fn word<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T> {
        let text = self.text(column)?;
        serde_json::from_value(serde_json::Value::String(text)).map_err(|error| unreadable(column).because(error))
    }

    fn table(&self) -> Result<TableName> {
        Ok(TableName::stored(&self.text("table_name")?))
    }

    fn unit(&self) -> Result<UnitKey> {
        Ok(UnitKey::stored(&self.text("unit")?))
    }

    /// A row of `run`.
    pub fn run(&self) -> Result<RunRecord> {
        Ok(RunRecord {
            id: self.text("id")?,
            pipeline: self.text("pipeline")?,
            logical_date: self.text("logical_date")?,
            trigger: self.word::<Trigger>("asked_by")?,
            status: self.word::<RunStatus>("status")?,
            started_at: self.instant("started_at")?,
            finished_at: self.maybe_instant("finished_at")?,
            counts: RunCounts {
                loaded: self.number("loaded")?,
                unchanged: self.number("unchanged")?,
                held: self.number("held")?,
                late: self.number("late")?,
                failed: self.number("failed")?,
                skipped: self.number("skipped")?,
                incomplete: self.number("incomplete").unwrap_or_default(),
                billed_bytes: self.number("billed_bytes").unwrap_or_default(),
                // Not stored: only who walks a run counts what writes no table.
                done: 0,
            },
        })
    }

    /// A row of `event`.
    pub fn log(&self) -> Result<TaskLog> {
        Ok(TaskLog {
            task: TaskId { step: self.text("step")?, unit: self.unit()? },
            at: self.instant("at")?,
            event: serde_json::from_str(&self.text("event")?).map_err(|error| unreadable("event").because(error))?,
        })
    }

    /// A row of `unit`.
    pub fn record(&self) -> Result<UnitRecord> {
        let state = self.text("state")?;
        Ok(UnitRecord {
            table: self.table()?,
            unit: self.unit()?,
            state: UnitState::stored(&state).ok_or_else(|| unreadable("state"))?,
            loaded: self.loaded()?,
            last_pull: self.number("last_pull")?,
            pulled_at: self.instant("pulled_at")?,
            unchanged_pulls: u32::try_from(self.number("unchanged_pulls")?).unwrap_or(u32::MAX),
            reason: self.get("reason")?,
            probe: self.get("probe")?,
            held_stage: self.get("held_stage")?,
            backfilled: self.get("backfilled")?,
        })
    }

    fn loaded(&self) -> Result<Option<Loaded>> {
        let Some(pull) = self.maybe_number("loaded_pull")? else { return Ok(None) };
        Ok(Some(Loaded {
            pull,
            generation: self.number("loaded_generation")?,
            rows: self.number("loaded_rows")?,
            fingerprint: self.fingerprint("loaded_fingerprint")?.unwrap_or_default(),
            inputs: self.get("loaded_inputs")?,
            loaded_at: self.instant("loaded_at")?,
        }))
    }

    /// The owner and the time of a row of `lease`.
    pub fn claimant(&self) -> Result<(String, Instant)> {
        Ok((self.text("owner")?, self.instant("leased_at")?))
    }

    /// A row of `pull`.
    pub fn pull(&self) -> Result<PullRecord> {
        let outcome = self.text("outcome")?;
        let changes = match self.maybe_number("added")? {
            Some(added) => Some(Changes { added, removed: self.number("removed")?, changed: self.number("changed")? }),
            None => None,
        };
        Ok(PullRecord {
            table: self.table()?,
            unit: self.unit()?,
            pull: self.number("pull")?,
            run: self.text("run")?,
            outcome: PullOutcome::stored(&outcome).ok_or_else(|| unreadable("outcome"))?,
            rows: self.number("row_count")?,
            fingerprint: self.fingerprint("fingerprint")?,
            changes,
            age: self.get("age")?,
            requests: self.number("requests")?,
            bytes: self.number("bytes")?,
            started_at: self.instant("started_at")?,
            finished_at: self.instant("finished_at")?,
            reason: self.get("reason")?,
        })
    }
}

fn parse_instant(column: &str, text: &str) -> Result<Instant> {
    let instant = DateTime::parse_from_rfc3339(text).map_err(|error| unreadable(column).because(error))?;
    Ok(instant.with_timezone(&Utc))
}

fn unreadable(column: &str) -> Error {
    Error::new(Kind::Storage, format!("reading `{column}` in the state file"))
        .hint("it is damaged; move it away, and the next run finds what is loaded in the warehouse")
}
