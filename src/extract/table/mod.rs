//! Rows of databases: what is asked of a table or a SELECT, in the terms that all systems share.
//!
//! Every system is a file of its own, with a [`Pull`](super::Pull) that puts this into its own SQL.

mod duckdb;
mod json;
mod mysql;
mod pages;
mod postgres;
mod server;
mod sql;

pub use duckdb::DuckDbPull;
pub use mysql::MySqlPull;
pub use postgres::{PostgresPull, connect as connect_postgres};

use chrono::NaiveDate;

use crate::error::{Error, Result};
use crate::model::hook::RetryPolicy;
use crate::model::infer::OWN;
use crate::model::pipeline::TimeFormat;
use crate::model::source::ProbeRule;
use crate::time::{Grain, Instant, Tz, Unit};

/// What is asked of a database, rendered for one unit, for a window, or for all there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableAsk {
    /// Which rows, before their time is looked at.
    pub rows: AskedRows,
    /// In which time the rows lie; none where all rows are wanted, or where the statement chooses.
    pub range: Option<TimeRange>,
    /// The column that grows whenever a row changes.
    pub changed_column: Option<String>,
    /// How a unit that is as it was is recognized.
    pub probe: ProbeRule,
    /// How often a connection is tried again.
    pub retry: RetryPolicy,
}

impl TableAsk {
    /// Where the rows come from, for messages.
    fn place(&self, database: &str) -> String {
        match &self.rows {
            AskedRows::Table { name, .. } => format!("{name} in {database}"),
            AskedRows::Query(_) => format!("the rows of `sql` in {database}"),
        }
    }

    /// Why the table of a unit is believed to come later.
    fn late(&self, database: &str) -> String {
        match &self.rows {
            AskedRows::Table { name, intraday: Some(intraday), .. } => {
                format!("there is neither a table {name} nor {intraday} in {database} yet")
            }
            AskedRows::Table { name, .. } => format!("there is no table {name} in {database} yet"),
            AskedRows::Query(_) => String::new(),
        }
    }

    /// What is sent, for people: the range's bounds are sent in the type that the column turns out to have.
    ///
    /// `quote` is what stands around a name.
    pub fn lines(&self, quote: char) -> Vec<String> {
        let writing = sql::Writing { quote, backslash: false };
        let mut lines: Vec<String> = match &self.rows {
            AskedRows::Table { name, intraday, .. } => {
                let relation = |name: &String| writing.relation(name).unwrap_or_else(|_| name.clone());
                let mut lines = vec![format!("SELECT * FROM {}", relation(name))];
                lines.extend(intraday.as_ref().map(|name| format!("-- until it is there: FROM {}", relation(name))));
                lines
            }
            AskedRows::Query(sql) if self.range.is_none() => sql::plain(sql).lines().map(str::to_owned).collect(),
            AskedRows::Query(sql) => std::iter::once("SELECT * FROM (")
                .chain(sql::plain(sql).lines())
                .chain(std::iter::once(") AS q"))
                .map(str::to_owned)
                .collect(),
        };
        if let Some(range) = &self.range {
            let column = writing.ident(&range.column);
            let time = |at: Instant| match range.format {
                TimeFormat::Iso => {
                    writing.text(&at.with_timezone(&range.zone).format("%Y-%m-%d %H:%M:%S%:z").to_string())
                }
                TimeFormat::Epoch => at.timestamp().to_string(),
                TimeFormat::EpochMs => at.timestamp_millis().to_string(),
            };
            lines.push(format!("WHERE {column} >= {} AND {column} < {}", time(range.start), time(range.end)));
        }
        lines
    }
}

/// Which rows are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedRows {
    /// All rows of a table.
    Table {
        /// The table's name, with dots between its parts.
        name: String,
        /// Whether it is the table of one unit: if it is missing, it is late.
        sharded: bool,
        /// The table that has the unit's rows until its shard comes.
        intraday: Option<String>,
    },
    /// The rows of a SELECT.
    Query(String),
}

/// Whether a column is haul's own, of a table that haul writes: it belongs to that table, and not to its rows.
pub(super) fn is_own(column: &str) -> bool {
    column.to_ascii_lowercase().starts_with(OWN)
}

/// The half-open range of time in which the rows lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeRange {
    /// The column that has a row's time.
    pub column: String,
    /// How a number there means a time.
    pub format: TimeFormat,
    /// The zone of times without an offset.
    pub zone: Tz,
    /// The first instant.
    pub start: Instant,
    /// The first instant that no longer belongs to it.
    pub end: Instant,
    /// The same as calendar dates, `[first, after)`; none where units are shorter than a day.
    pub dates: Option<(NaiveDate, NaiveDate)>,
}

impl TimeRange {
    /// The range from the beginning of one unit to the end of another.
    pub fn of(column: String, format: TimeFormat, zone: Tz, first: &Unit, last: &Unit) -> Self {
        let dated = first.calendar.grain != Grain::Hour;
        let dates = dated.then(|| (first.date(), last.calendar.next(last).date()));
        Self { column, format, zone, start: first.start, end: last.end, dates }
    }

    /// The range as dates, for a column of dates.
    ///
    /// # Errors
    /// Units that are shorter than a day.
    pub fn as_dates(&self) -> Result<(NaiveDate, NaiveDate)> {
        self.dates.ok_or_else(|| {
            Error::config(format!("the column `{}` has dates, which do not tell the hour of a row", self.column))
                .hint("name a column that has the time of day, or choose the grain \"day\"")
        })
    }
}
