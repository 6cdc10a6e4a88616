//! Jobs as they lie in the file, and the lists of them.

use std::collections::BTreeMap;

use chrono::DateTime;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::State;
use super::sqlite::Store;
use crate::error::{Error, Kind, Result};
use crate::model::job::{Class, Depth, Job, JobFilter, JobNote, JobState};
use crate::time::Instant;

/// How many jobs are listed where nothing else is said.
const LIMIT: u32 = 100;

/// An instant of the queue: whole microseconds.
pub(super) fn micros(instant: Instant) -> i64 {
    instant.timestamp_micros()
}

/// A length of time in microseconds.
pub(super) fn micros_of(length: std::time::Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX / 4)
}

/// A class as its place in the order of urgency.
pub(super) fn rank(class: Class) -> i64 {
    Class::ALL.iter().position(|one| *one == class).and_then(|place| i64::try_from(place).ok()).unwrap_or_default()
}

/// The columns of one row of the queue's tables; each fault names the column.
pub(super) struct Columns<'a>(pub &'a SqliteRow);

impl Columns<'_> {
    pub fn get<T>(&self, column: &str) -> Result<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.0.try_get(column).map_err(|error| unreadable(column).because(error))
    }

    pub fn number(&self, column: &str) -> Result<u64> {
        let number: i64 = self.get(column)?;
        u64::try_from(number).map_err(|error| unreadable(column).because(error))
    }

    pub fn instant(&self, column: &str) -> Result<Instant> {
        DateTime::from_timestamp_micros(self.get(column)?).ok_or_else(|| unreadable(column))
    }

    pub fn maybe_instant(&self, column: &str) -> Result<Option<Instant>> {
        let found: Option<i64> = self.get(column)?;
        found.map(|found| DateTime::from_timestamp_micros(found).ok_or_else(|| unreadable(column))).transpose()
    }

    pub fn word<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T> {
        let text: String = self.get(column)?;
        serde_json::from_value(serde_json::Value::String(text)).map_err(|error| unreadable(column).because(error))
    }

    pub fn class(&self) -> Result<Class> {
        let rank = usize::try_from(self.number("class")?).unwrap_or(usize::MAX);
        Class::ALL.get(rank).copied().ok_or_else(|| unreadable("class"))
    }

    fn short(&self, column: &str) -> Result<u32> {
        u32::try_from(self.number(column)?).map_err(|error| unreadable(column).because(error))
    }

    /// A row of `job`.
    pub fn job(&self) -> Result<Job> {
        let outcome: Option<String> = self.get("outcome")?;
        Ok(Job {
            id: self.get("id")?,
            pipeline: self.get("pipeline")?,
            key: self.get("key")?,
            ask: self.get("ask")?,
            class: self.class()?,
            priority: self.get("priority")?,
            scheduled_for: self.maybe_instant("scheduled_for")?,
            not_before: self.instant("not_before")?,
            backfill: self.get("backfill")?,
            units: self.number("units")?,
            state: self.word("state")?,
            on_hold: self.get("on_hold")?,
            attempts: self.short("attempts")?,
            deaths: self.short("deaths")?,
            generation: self.number("generation")?,
            owner: self.get("owner")?,
            lease_until: self.maybe_instant("lease_until")?,
            run: self.get("run")?,
            runs: serde_json::from_str(&self.get::<String>("runs")?)
                .map_err(|error| unreadable("runs").because(error))?,
            cancel_asked: self.get("cancel_asked")?,
            queued_at: self.instant("queued_at")?,
            claimed_at: self.maybe_instant("claimed_at")?,
            started_at: self.maybe_instant("started_at")?,
            finished_at: self.maybe_instant("finished_at")?,
            outcome: outcome.is_some().then(|| self.word("outcome")).transpose()?,
            reason: self.get("reason")?,
        })
    }
}

impl State {
    /// A job of the queue.
    pub async fn job(&self, id: i64) -> Result<Option<Job>> {
        let doing = "reading a job in";
        let row = sqlx::query("SELECT * FROM job WHERE id = $1").bind(id).fetch_optional(self.store.readers()).await;
        row.map_err(self.store.fault(doing))?.as_ref().map(|row| Columns(row).job()).transpose()
    }

    /// The job that a run was begun for; none where a person began it.
    pub async fn job_of_run(&self, run: &str) -> Result<Option<Job>> {
        let doing = "reading a job in";
        let row = sqlx::query("SELECT * FROM job WHERE run = $1 ORDER BY id DESC LIMIT 1")
            .bind(run)
            .fetch_optional(self.store.readers())
            .await;
        row.map_err(self.store.fault(doing))?.as_ref().map(|row| Columns(row).job()).transpose()
    }

    /// Jobs, newest first.
    pub async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        list(&self.store, filter).await
    }

    /// What happened to a job besides its plain life, in the order of time.
    pub async fn job_notes(&self, id: i64) -> Result<Vec<JobNote>> {
        sqlx::query("SELECT at, generation, note FROM job_note WHERE job = $1 ORDER BY seq")
            .bind(id)
            .fetch_all(self.store.readers())
            .await
            .map_err(self.store.fault("reading the notes of a job in"))?
            .iter()
            .map(|row| {
                let row = Columns(row);
                Ok(JobNote { at: row.instant("at")?, generation: row.number("generation")?, note: row.get("note")? })
            })
            .collect()
    }

    /// How many jobs wait and are under way, by class.
    pub async fn queue_depth(&self, now: Instant) -> Result<BTreeMap<Class, Depth>> {
        depth(&self.store, now).await
    }
}

async fn list(store: &Store, filter: &JobFilter) -> Result<Vec<Job>> {
    // Words of our own, no values: they let SQLite see which of its partial indices it may take.
    let states = match (filter.states.is_empty(), filter.states.contains(&JobState::Done)) {
        (true, _) => String::new(),
        (false, done) => {
            let words: Vec<String> = filter.states.iter().map(|state| format!("'{}'", word(*state))).collect();
            let unfinished = if done { "" } else { "AND state <> 'done' " };
            format!("{unfinished}AND state IN ({})", words.join(", "))
        }
    };
    let ranks: Vec<String> = filter.classes.iter().map(|class| rank(*class).to_string()).collect();
    let classes = if ranks.is_empty() { String::new() } else { format!("AND class IN ({}) ", ranks.join(", ")) };
    let pipeline = if filter.pipeline.is_some() { "AND pipeline = $1 " } else { "AND $1 IS NULL " };
    let number = filter.backfill.as_deref().map(super::backfills::number).transpose()?;
    let backfill = if number.is_some() {
        "AND id IN (SELECT job FROM backfill_job WHERE backfill = $2) "
    } else {
        "AND $2 IS NULL "
    };
    let before = if filter.before.is_some() { "AND id < $4 " } else { "AND $4 IS NULL " };
    let statement =
        format!("SELECT * FROM job WHERE 1 {pipeline}{backfill}{classes}{before}{states} ORDER BY id DESC LIMIT $3");
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(&filter.pipeline)
        .bind(number)
        .bind(if filter.limit == 0 { LIMIT } else { filter.limit })
        .bind(filter.before)
        .fetch_all(store.readers())
        .await
        .map_err(store.fault("listing the jobs in"))?
        .iter()
        .map(|row| Columns(row).job())
        .collect()
}

fn word(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "queued",
        JobState::Leased => "leased",
        JobState::Done => "done",
    }
}

async fn depth(store: &Store, now: Instant) -> Result<BTreeMap<Class, Depth>> {
    let mut depths: BTreeMap<Class, Depth> = Class::ALL.iter().map(|class| (*class, Depth::default())).collect();
    let rows = sqlx::query(
        "SELECT class, sum(state = 'leased') AS leased,
                sum(state = 'queued' AND on_hold = 0 AND not_before <= $1) AS ready,
                sum(state = 'queued' AND (on_hold = 1 OR not_before > $1)) AS waiting,
                min(CASE WHEN state = 'queued' AND on_hold = 0 AND not_before <= $1 THEN queued_at END) AS oldest
         FROM job WHERE state <> 'done' GROUP BY class",
    )
    .bind(micros(now))
    .fetch_all(store.readers())
    .await
    .map_err(store.fault("counting the jobs in"))?;
    for row in &rows {
        let row = Columns(row);
        let depth = Depth {
            ready: row.number("ready")?,
            waiting: row.number("waiting")?,
            leased: row.number("leased")?,
            oldest: row.maybe_instant("oldest")?,
        };
        depths.insert(row.class()?, depth);
    }
    Ok(depths)
}

fn unreadable(column: &str) -> Error {
    Error::new(Kind::Storage, format!("reading `{column}` of the queue in the state file"))
        .hint("it is damaged; move it away, and the next run finds what is loaded in the warehouse")
}
