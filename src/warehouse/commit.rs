//! A commit as plain data: new rows for a table, the units that they are, and what became of them.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::Permit;
use crate::model::cost::Billing;
use crate::model::layout::Layout;
use crate::model::ledger::{Changes, Fingerprint, Loaded};
use crate::model::name::TableName;
use crate::model::pipeline::{CheckRule, Guard, Severity, Write};
use crate::model::schema::{Contract, SchemaChange, StagedColumn};
use crate::time::{Grain, Instant, Unit, UnitKey};

/// New rows for a table.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The table.
    pub table: TableName,
    /// The grain of its units; none for a table without a window.
    pub grain: Option<Grain>,
    /// The rows.
    pub rows: NewRows,
    /// How they get into the table.
    pub write: Write,
    /// The columns that identify a row, by which changed rows are counted.
    pub keys: Vec<String>,
    /// What new columns do.
    pub contract: Contract,
    /// The units that are written.
    pub units: Vec<UnitCommit>,
    /// What the new rows must satisfy.
    pub checks: Vec<BoundCheck>,
    /// How the table is laid out where it does not exist yet.
    pub layout: Layout,
    /// Who commits.
    pub labels: Labels,
    /// Under which terms its statements are sent, where they are billed.
    pub billing: Billing,
    /// Ends the commit when the run is cancelled; nothing is written then, or all of it.
    pub cancel: CancellationToken,
    /// Asked for once more right before the end of the commit.
    pub permit: Permit,
    /// The run.
    pub run: String,
    /// The time of the commit.
    pub at: Instant,
}

/// Who commits: what a warehouse shows of a statement that is under way, and what a bill is divided by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// The pipeline.
    pub pipeline: String,
    /// The step.
    pub step: String,
}

impl Commit {
    /// The labels of its jobs: pipeline, step, unit or units, and run.
    pub fn labels(&self) -> [(&'static str, String); 4] {
        let units = match self.units.as_slice() {
            [] => String::new(),
            [only] => only.key.to_string(),
            [first, .., last] => format!("{}..{}", first.key, last.key),
        };
        let Labels { pipeline, step } = self.labels.clone();
        [("pipeline", pipeline), ("step", step), ("unit", units), ("run", self.run.clone())]
    }
}

/// Where new rows come from.
#[derive(Debug, Clone)]
pub enum NewRows {
    /// Segments of a stage.
    Staged {
        /// The segments.
        files: Vec<PathBuf>,
        /// The rows' columns.
        columns: Vec<StagedColumn>,
        /// Whether each row says its unit in `_haul_unit`.
        unit_in_rows: bool,
        /// The bytes of the longest row.
        longest_row: u64,
    },
    /// A SELECT in the warehouse.
    Query {
        /// The statement.
        sql: String,
        /// The column that tells a row's unit, where it has several.
        time_column: Option<String>,
    },
}

/// One unit of a commit.
#[derive(Debug, Clone)]
pub struct UnitCommit {
    /// The unit; none for a table without a window.
    pub unit: Option<Unit>,
    /// Its key.
    pub key: UnitKey,
    /// The pull.
    pub pull: u64,
    /// The lease's generation.
    pub generation: u64,
    /// What the ledger thinks is there.
    pub previous: Option<Loaded>,
    /// What the new rows may take away.
    pub guard: Guard,
    /// Rows and fingerprint of staged rows; those of a query are found in the warehouse.
    pub staged: Option<(u64, Fingerprint)>,
    /// What the rows are computed from.
    pub inputs: Option<String>,
}

/// A check whose own SQL is rendered.
#[derive(Debug, Clone)]
pub struct BoundCheck {
    /// Its name.
    pub name: String,
    /// The condition.
    pub rule: CheckRule,
    /// Whether a failure stops the commit.
    pub severity: Severity,
    /// The rendered SELECT of wrong rows.
    pub sql: Option<String>,
}

/// What became of a commit.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// What became of each unit.
    pub units: Vec<UnitCommitted>,
    /// How the table changed.
    pub schema_changes: Vec<SchemaChange>,
    /// Columns that the contract left out.
    pub left_out: Vec<String>,
    /// Checks that failed without stopping it.
    pub warnings: Vec<String>,
}

/// What became of one unit.
#[derive(Debug, Clone)]
pub struct UnitCommitted {
    /// The unit.
    pub key: UnitKey,
    /// What became of it.
    pub outcome: CommitOutcome,
    /// Its rows.
    pub rows: u64,
    /// Their digest.
    pub fingerprint: Fingerprint,
    /// What changed against the rows that were there.
    pub changes: Option<Changes>,
}

/// What became of one unit's new rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    /// They are in the table.
    Written,
    /// They are what was there.
    Unchanged,
    /// This pull was committed before.
    Already,
    /// The guard refused them.
    Held(String),
}
