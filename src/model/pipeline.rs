//! A project and its pipelines, validated: what the files of a project mean.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::{Limit, LimitScope};
use super::errand::{Command, Wait};
use super::files::Download;
use super::layout::Layout;
use super::load::{Load, Target};
use super::manual::Manual;
use super::name::{Origin, TableName, Text};
use super::notify::{Retention, Telling};
use super::parameter::ParameterValues;
use super::schedule::Schedule;
use super::schema::{Contract, LogicalType};
use super::serve::ServeSettings;
use super::source::Source;
use super::steering::Steering;
use crate::time::{Calendar, Grain, Reach, Tz};

/// All files of a project, validated and with their references resolved.
#[derive(Debug, Clone)]
pub struct Project {
    /// The project's folder, absolute.
    pub root: PathBuf,
    /// Where the state store and the stage lie, absolute; `.haul` in the root by default.
    pub state_dir: PathBuf,
    /// Variables of `haul.toml`, seen by every template through `var()`.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// How many slots each pool has, over all processes that share the state store.
    pub pools: BTreeMap<String, u32>,
    /// How `haul serve` works.
    pub serve: ServeSettings,
    /// The pipelines in the order of their names.
    pub pipelines: Vec<Arc<Pipeline>>,
    /// All of `sql/`, by path relative to the root, for `{% include %}`, `{% import %}` and steps.
    pub sql: BTreeMap<String, Arc<str>>,
    /// What the files of `hooks/` tell of themselves, in the order of their names.
    pub hooks: Vec<Manual>,
    /// Who is told of what.
    pub telling: Telling,
    /// How long history is kept.
    pub retention: Retention,
}

impl Project {
    /// The pipeline of this name.
    pub fn pipeline(&self, name: &str) -> Option<&Arc<Pipeline>> {
        self.pipelines.iter().find(|pipeline| pipeline.name == name)
    }
}

/// One file of `pipelines/`.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The file's name without its ending.
    pub name: String,
    /// What it is for, in its author's words.
    pub description: Option<String>,
    /// The file, relative to the project's root.
    pub file: PathBuf,
    /// The zone of its days.
    pub timezone: Tz,
    /// The connection of the warehouse that its tables lie in.
    pub warehouse: String,
    /// When it runs by itself.
    pub schedule: Option<Schedule>,
    /// Which units a run covers; without one, every run covers all there is.
    pub window: Option<WindowRule>,
    /// Variables of this pipeline, over those of the project.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// How many tasks of one run may be under way at once.
    pub max_active: usize,
    /// The most bytes that all statements of one run may be billed for together.
    pub max_bytes: Option<Limit>,
    /// How its runs go beside those of others.
    pub steering: Steering,
    /// The steps, in the order of the file.
    pub steps: Vec<Arc<Step>>,
}

impl Pipeline {
    /// The calendar of its units, if it has a window.
    pub fn calendar(&self) -> Option<Calendar> {
        self.window.as_ref().map(|window| Calendar::new(window.grain, self.timezone))
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&Arc<Step>> {
        self.steps.iter().find(|step| step.name == name)
    }
}

/// Which units a run covers, and when they count as settled.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowRule {
    /// The length of a unit.
    pub grain: Grain,
    /// How many units back, every how often: the first tier is pulled at every run.
    pub tiers: Vec<Tier>,
    /// The first date that exists at the source.
    pub begin: Option<NaiveDate>,
    /// A unit that ended longer ago than this no longer moves.
    pub settle_after: Option<Duration>,
    /// A unit whose last pulls, this many, changed nothing no longer moves.
    pub settle_pulls: Option<NonZeroU32>,
    /// What a re-pull may take away.
    pub guard: Guard,
}

impl WindowRule {
    /// The units that every run covers.
    pub fn lookback(&self) -> u32 {
        self.tiers.first().map_or(1, |tier| tier.units.get())
    }
}

/// How many units back are pulled again, and every how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// The time between two pulls of the same unit; the first tier's is one grain.
    pub every: Duration,
    /// How many units back.
    pub units: NonZeroU32,
}

/// What a re-pull may take away before it is held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guard {
    /// The share of a unit's rows that may be lost: 0.5 for `"50%"`.
    pub max_shrink: f64,
    /// Whether a unit that had rows may become empty.
    pub allow_empty: bool,
}

impl Default for Guard {
    fn default() -> Self {
        Self { max_shrink: 0.5, allow_empty: false }
    }
}

/// What a guard says about new rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The new rows may replace the old ones.
    Pass,
    /// The new rows wait for somebody's decision; the text says why.
    Hold(String),
}

impl Guard {
    /// A guard that lets everything pass.
    pub const OPEN: Self = Self { max_shrink: 1.0, allow_empty: true };

    /// Compares a unit's new row count with what the warehouse has.
    #[expect(clippy::cast_precision_loss, reason = "a share of rows needs no more than 52 bits")]
    pub fn judge(&self, old_rows: u64, new_rows: u64) -> Verdict {
        if old_rows == 0 || new_rows >= old_rows {
            return Verdict::Pass;
        }
        if new_rows == 0 {
            return if self.allow_empty {
                Verdict::Pass
            } else {
                Verdict::Hold(format!("{old_rows} rows became none"))
            };
        }
        let lost = (old_rows - new_rows) as f64 / old_rows as f64;
        if lost > self.max_shrink {
            return Verdict::Hold(format!(
                "{old_rows} rows became {new_rows}: {:.0} % lost, {:.0} % allowed",
                lost * 100.0,
                self.max_shrink * 100.0
            ));
        }
        Verdict::Pass
    }
}

/// One step of a pipeline.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name, unique in the pipeline.
    pub name: String,
    /// Where it begins in its file.
    pub origin: Origin,
    /// What it writes, as the ledger calls it: a table of the warehouse; of another place with its connection in front.
    pub into: TableName,
    /// How its rows get into the table.
    pub write: Write,
    /// The columns that identify a row: by them a row that changed is told from one that is new.
    pub keys: Vec<String>,
    /// How its table is laid out.
    pub layout: Layout,
    /// What its new rows must satisfy before they replace the old ones.
    pub checks: Vec<Check>,
    /// What a new pull may take away.
    pub guard: Guard,
    /// The steps of its pipeline that it begins after, besides those that it reads.
    pub after: Vec<String>,
    /// What it does.
    pub action: Action,
}

impl Step {
    /// Whether it writes rows, here or elsewhere; the ledger knows commands too, by names that no table has.
    pub fn writes(&self) -> bool {
        !matches!(self.action, Action::Wait(_) | Action::Run(_))
    }

    /// The most bytes that one of its statements may be billed for.
    pub fn max_bytes(&self) -> Option<Limit> {
        let bytes = match &self.action {
            Action::Extract(extract) => match &extract.source {
                Source::Table(table) => table.max_bytes,
                _ => None,
            },
            Action::Transform(transform) => transform.max_bytes,
            Action::Load(load) => match &load.rows.source {
                Source::Table(table) => table.max_bytes,
                _ => None,
            },
            Action::Wait(_) | Action::Run(_) => None,
        };
        bytes.map(|bytes| Limit { bytes, scope: LimitScope::Step })
    }

    /// Where its rows land, if not in a table of the warehouse.
    pub fn landing(&self) -> Option<&Landing> {
        match &self.action {
            Action::Extract(extract) => extract.landing.as_ref(),
            Action::Transform(_) | Action::Load(_) | Action::Wait(_) | Action::Run(_) => None,
        }
    }

    /// Where its rows go, if it loads them into a place outside of the pipeline's warehouse.
    pub fn target(&self) -> Option<&Target> {
        match &self.action {
            Action::Load(load) => load.target.as_ref(),
            Action::Extract(_) | Action::Transform(_) | Action::Wait(_) | Action::Run(_) => None,
        }
    }
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Pulls rows from outside.
    Extract(Box<Extract>),
    /// Computes rows in the warehouse.
    Transform(Transform),
    /// Brings rows of one connection into another.
    Load(Box<Load>),
    /// Waits for something outside.
    Wait(Box<Wait>),
    /// Runs a program for its effect.
    Run(Box<Command>),
}

impl Action {
    /// The word that stands between `[[` and `]]`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Extract(_) => "extract",
            Self::Transform(_) => "transform",
            Self::Load(_) => "load",
            Self::Wait(_) => "wait",
            Self::Run(_) => "run",
        }
    }

    /// The steps whose units a unit reads.
    pub fn reads(&self) -> &[Read] {
        match self {
            Self::Extract(extract) => extract.source.for_each().map_or(&[][..], |each| &each.reads),
            Self::Transform(transform) => &transform.reads,
            Self::Load(load) => &load.reads,
            Self::Wait(_) => &[],
            Self::Run(command) => &command.reads,
        }
    }

    /// The tables outside of every pipeline that it reads.
    pub fn sources(&self) -> &[TableName] {
        match self {
            Self::Extract(_) | Self::Load(_) | Self::Wait(_) | Self::Run(_) => &[],
            Self::Transform(transform) => &transform.sources,
        }
    }

    /// What one execution of it covers.
    pub fn per(&self) -> Per {
        match self {
            Self::Extract(extract) => extract.per,
            Self::Transform(transform) => transform.per,
            Self::Load(load) => load.rows.per,
            Self::Wait(wait) => wait.per,
            Self::Run(command) => command.per,
        }
    }
}

/// How a step's rows get into its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The rows of a unit replace the rows of that unit.
    Replace,
    /// The rows come on top of what is there.
    Append,
    /// A row replaces the row of the same key.
    Merge {
        /// The columns that identify a row.
        keys: Vec<String>,
        /// Of several new rows of one key, the one with the largest value here stays.
        newest_by: Option<String>,
    },
    /// The rows replace the whole table.
    Full,
}

impl Write {
    /// The word that stands behind `write =`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Append => "append",
            Self::Merge { .. } => "merge",
            Self::Full => "full",
        }
    }
}

/// An extract step: what is asked of a source, and what becomes of the rows.
#[derive(Debug, Clone)]
pub struct Extract {
    /// The connection that says where and who.
    pub connection: String,
    /// The shared hook that it uses, by the name of its file.
    pub hook: Option<String>,
    /// Whether that hook was taken from others: then its requests go to the connection's own host only.
    pub foreign: bool,
    /// The values of the hook's parameters, as its templates see them.
    pub params: ParameterValues,
    /// What it asks the connection for.
    pub source: Source,
    /// What it downloads for every row.
    pub download: Option<Download>,
    /// Whether one request sequence covers one unit or the whole window.
    pub per: Per,
    /// The row's own time, to tell which unit it belongs to.
    pub time: Option<TimeColumn>,
    /// The zone of times without an offset; the pipeline's own when not given.
    pub time_zone: Option<Tz>,
    /// Declared types, by the source's column names; they win over what the rows look like.
    pub columns: BTreeMap<String, LogicalType>,
    /// What happens with columns and types that the table does not have.
    pub contract: Contract,
    /// How nested values land.
    pub nested: Nested,
    /// How the source's names become column names.
    pub naming: Naming,
    /// Where the rows land instead of a table; a load step brings them into one.
    pub landing: Option<Landing>,
}

/// A collection that rows land in, unit by unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landing {
    /// The connection of its database.
    pub connection: String,
    /// The collection.
    pub collection: String,
}

/// What one execution of a step covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One unit.
    #[default]
    Unit,
    /// The whole window at once; the rows' own time tells their unit.
    Window,
}

/// Where a row has its own time, and what happens when that lies outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeColumn {
    /// The member of the row, with dots between levels.
    pub path: String,
    /// How the time is written.
    pub format: TimeFormat,
    /// What happens with rows whose time lies outside of the unit or window.
    pub outside: Outside,
}

/// How a time is written in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// ISO 8601 text; without an offset it is read in the pipeline's zone.
    #[default]
    Iso,
    /// Seconds since 1970-01-01T00:00:00Z.
    Epoch,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    EpochMs,
}

/// What happens with rows whose time lies outside of the unit or window that asked for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// They are counted and kept in the unit that asked for them; over a whole window this is not possible.
    Keep,
    /// They are counted and left out.
    Drop,
    /// They fail the pull.
    #[default]
    Refuse,
}

/// How nested values land in the warehouse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Nested {
    /// As records and lists with types.
    #[default]
    Struct,
    /// As JSON.
    Json,
}

/// How the source's names become column names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// As they are.
    #[default]
    Source,
    /// In `snake_case`.
    Snake,
}

/// A transform step: a SELECT whose rows become a table.
#[derive(Debug, Clone)]
pub struct Transform {
    /// The template of the SELECT.
    pub sql: Sql,
    /// The steps and tables that it reads, found in the template by `ref()`.
    pub reads: Vec<Read>,
    /// The tables outside of every pipeline that it reads, found by `source()`.
    pub sources: Vec<TableName>,
    /// Whether it runs once for each unit or once for the window.
    pub per: Per,
    /// The column that tells a row's unit where it runs per window.
    pub time_column: Option<String>,
    /// The most bytes that one statement may be billed for, where the warehouse bills by them.
    pub max_bytes: Option<u64>,
}

/// The template of a SELECT: the same for every warehouse, or one for each dialect.
#[derive(Debug, Clone)]
pub enum Sql {
    /// The same for every warehouse.
    One(Text),
    /// By the names of dialects; what has none of its own gets that of [`Sql::DEFAULT`].
    Each(BTreeMap<String, Text>),
}

impl Sql {
    /// The name of the variant for every dialect that has none of its own.
    pub const DEFAULT: &str = "default";

    /// The text for a dialect.
    pub fn of(&self, dialect: &str) -> Option<&Text> {
        match self {
            Self::One(text) => Some(text),
            Self::Each(variants) => variants.get(dialect).or_else(|| variants.get(Self::DEFAULT)),
        }
    }

    /// The dialects that have a text of their own.
    pub fn dialects(&self) -> Vec<&str> {
        match self {
            Self::One(_) => Vec::new(),
            Self::Each(variants) => variants.keys().map(String::as_str).collect(),
        }
    }
}

/// A table of the project that a transform reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The name inside `ref()`.
    pub name: String,
    /// The pipeline of the step that writes the table.
    pub pipeline: String,
    /// The step that writes the table.
    pub step: String,
    /// The table, as the ledger calls it.
    pub table: TableName,
    /// The table where it lies.
    pub relation: TableName,
    /// Which of its units a unit reads.
    pub reach: Reach,
}

/// A condition that new rows must satisfy before they replace the old ones.
#[derive(Debug, Clone)]
pub struct Check {
    /// A name for screens: `not_null(id)`.
    pub name: String,
    /// Where it was written.
    pub origin: Origin,
    /// The condition.
    pub rule: CheckRule,
    /// Whether a failure stops the load or is only told.
    pub severity: Severity,
}

/// The conditions there are.
#[derive(Debug, Clone)]
pub enum CheckRule {
    /// These columns are never null.
    NotNull(Vec<String>),
    /// These columns together are different in every row of the table's new rows.
    Unique(Vec<String>),
    /// The column has none but these values; null passes.
    Accepted {
        /// The column.
        column: String,
        /// The values.
        values: Vec<serde_json::Value>,
    },
    /// The number of new rows in a unit lies in this range, both ends included.
    RowCount {
        /// At least so many.
        min: Option<u64>,
        /// At most so many.
        max: Option<u64>,
    },
    /// Every value of the column stands in a column of another table; null passes.
    Relation {
        /// The column.
        column: String,
        /// The other table.
        to: TableName,
        /// The other table's column.
        field: String,
    },
    /// A SELECT of the rows that are wrong; `{{ this }}` are the new rows.
    Sql(Text),
}

/// What a failed check does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The load stops, the old rows stay.
    #[default]
    Error,
    /// The load goes on and the failure is told.
    Warn,
}
