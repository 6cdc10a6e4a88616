//! Trials: the tests of a project, which replay a pipeline on recorded answers and compare tables.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use chrono::NaiveDate;
use serde_json::{Map, Value};

use super::name::TableName;
use super::run::RunStatus;
use super::schema::LogicalType;
use crate::time::Instant;

/// One file of `tests/`.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The file's name without its ending.
    pub name: String,
    /// The file, relative to the project's root.
    pub file: PathBuf,
    /// What it shows.
    pub description: Option<String>,
    /// The pipeline.
    pub pipeline: String,
    /// Variables over those of the pipeline.
    pub vars: BTreeMap<String, Value>,
    /// What `env_var()` finds; nothing else of the environment is seen.
    pub env: BTreeMap<String, String>,
    /// The units that each of its runs covers, instead of as many as the pipeline says.
    pub lookback: Option<NonZeroU32>,
    /// Tables whose rows are given, so that no source is asked for them.
    pub given: Vec<Given>,
    /// Its runs, one after the other on the same warehouse.
    pub runs: Vec<TrialRun>,
    /// The tables that it ends with, or has between two runs.
    pub expectations: Vec<Expectation>,
}

/// One run of a trial.
#[derive(Debug, Clone)]
pub struct TrialRun {
    /// The logical date.
    pub date: NaiveDate,
    /// The instant at which the clock stands still.
    pub now: Instant,
    /// The cassette that answers, relative to the project's root; without one no request is answered.
    pub cassette: Option<PathBuf>,
    /// The steps, as `--select` takes them; none for all.
    pub steps: Vec<String>,
    /// How the run has to end.
    pub status: RunStatus,
    /// A text that a failed or held task has to tell.
    pub tells: Option<String>,
    /// Tables whose rows are others from this run on.
    pub given: Vec<Given>,
    /// Whether the units of the window are computed whatever the ledger says, and no others.
    pub window_only: bool,
}

/// A table whose rows a test gives.
#[derive(Debug, Clone)]
pub struct Given {
    /// The table.
    pub table: TableName,
    /// The rows.
    pub rows: GivenRows,
    /// Types of columns; the others have those that the step which writes the table declares, or that the values look like.
    pub columns: BTreeMap<String, LogicalType>,
    /// The column that tells a row's unit.
    pub time_column: Option<String>,
}

/// Where given rows stand.
#[derive(Debug, Clone, PartialEq)]
pub enum GivenRows {
    /// In the test itself; what a row leaves out is null.
    Inline(Vec<Map<String, Value>>),
    /// In a file of CSV, JSON or JSON Lines, relative to the project's root.
    File(PathBuf),
    /// What a SELECT says.
    Sql(String),
}

/// A table, or the rows of a query, that has to have these rows.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The number of the run after which it is looked at, from 1.
    pub after: usize,
    /// What is looked at.
    pub subject: Subject,
    /// The rows that are expected.
    pub rows: Expected,
    /// How many rows are expected.
    pub count: Option<u64>,
    /// The columns that are compared; those of the expected rows where none are named.
    pub columns: Vec<String>,
    /// Whether the order of the rows counts.
    pub ordered: bool,
}

/// What an expectation looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// All rows of a table.
    Table(TableName),
    /// The rows of a SELECT.
    Query(String),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Table(table) => table.fmt(f),
            Self::Query(sql) => f.write_str(sql.split_whitespace().collect::<Vec<_>>().join(" ").as_str()),
        }
    }
}

/// Where expected rows stand.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// Nowhere: only the count is compared.
    Count,
    /// In the test itself.
    Inline(Vec<Map<String, Value>>),
    /// In a file of CSV or JSON Lines, relative to the project's root.
    File(PathBuf),
}
