//! The ledger: what is known of every unit of every table, and of every pull of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::name::TableName;
use crate::time::{Instant, UnitKey};

/// An order-independent 128-bit digest of a unit's rows: equal means unchanged.
///
/// Neither the order of rows and pages nor the space between the parts of a row is part of it. Everything else is: a row whose
/// members come in another order, or that writes `1.0` where `1` was, is another row. Its unit is then written again, and
/// what changed is counted by values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How a unit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// Its rows are in the warehouse.
    Loaded,
    /// Its last pull failed; older rows, if there are any, are still there.
    Failed,
    /// Its last pull's rows wait for a decision; older rows, if there are any, are still there.
    Held,
    /// Its source did not have it yet; older rows, if there are any, are still there.
    Late,
    /// The state store knew it, the warehouse no longer has it.
    Missing,
}

impl UnitState {
    /// The word as it is stored and printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Late => "late",
            Self::Missing => "missing",
        }
    }

    /// Reads the stored word.
    pub fn stored(name: &str) -> Option<Self> {
        [Self::Loaded, Self::Failed, Self::Held, Self::Late, Self::Missing]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// What the ledger knows of one unit of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnitRecord {
    /// The table.
    pub table: TableName,
    /// The unit.
    #[schema(value_type = String)]
    pub unit: UnitKey,
    /// How it stands.
    pub state: UnitState,
    /// What the warehouse has of it, if anything.
    pub loaded: Option<Loaded>,
    /// The number of the last pull, whatever became of it.
    pub last_pull: u64,
    /// When the last pull ended.
    #[schema(value_type = String, format = DateTime)]
    pub pulled_at: Instant,
    /// How many pulls in a row, up to the last, changed nothing.
    pub unchanged_pulls: u32,
    /// Why it failed, is held or late, redacted.
    pub reason: Option<String>,
    /// What the source's change probe told when the rows that are loaded were read; equal means unchanged.
    pub probe: Option<String>,
    /// The stage that an approval would load, relative to the state folder.
    pub held_stage: Option<String>,
    /// Whether only backfills have touched it so far: no gap begins with it, and a run of a day leaves it to backfills.
    #[serde(default)]
    pub backfilled: bool,
}

/// What the warehouse has of a unit; the mirror of its row in `_haul_loads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Loaded {
    /// The pull that the rows are from.
    pub pull: u64,
    /// The generation of the lease under which they were committed.
    pub generation: u64,
    /// How many rows.
    pub rows: u64,
    /// Their digest.
    #[schema(value_type = String)]
    pub fingerprint: Fingerprint,
    /// What they were computed from: a digest of the statement and of the upstream units; extracts have none.
    pub inputs: Option<String>,
    /// When the rows last changed.
    #[schema(value_type = String, format = DateTime)]
    pub loaded_at: Instant,
}

/// What became of one pull of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullOutcome {
    /// New rows are in the warehouse.
    Loaded,
    /// The rows were the same; nothing was written.
    Unchanged,
    /// A guard refused the rows.
    Held,
    /// It failed.
    Failed,
    /// The source does not have the unit yet.
    Late,
    /// Rows that were held are in the warehouse by somebody's decision.
    Approved,
    /// Rows that were held were thrown away by somebody's decision.
    Rejected,
}

impl PullOutcome {
    /// The word as it is stored and printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Unchanged => "unchanged",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
        }
    }

    /// Reads the stored word.
    pub fn stored(name: &str) -> Option<Self> {
        [Self::Loaded, Self::Unchanged, Self::Held, Self::Failed, Self::Late, Self::Approved, Self::Rejected]
            .into_iter()
            .find(|outcome| outcome.name() == name)
    }
}

/// What a re-pull changed in a unit's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changes {
    /// Rows that were not there before.
    pub added: u64,
    /// Rows that are no longer there.
    pub removed: u64,
    /// Rows of the same key with other values; known only where the step names its keys.
    pub changed: u64,
}

impl Changes {
    /// Whether anything changed.
    pub fn any(self) -> bool {
        self.added + self.removed + self.changed > 0
    }
}

/// One pull of one unit, as the ledger keeps it for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRecord {
    /// The table.
    pub table: TableName,
    /// The unit.
    pub unit: UnitKey,
    /// The pull's number, from 1 in each unit.
    pub pull: u64,
    /// The run that it belonged to.
    pub run: String,
    /// What became of it.
    pub outcome: PullOutcome,
    /// How many rows it had.
    pub rows: u64,
    /// Their digest, where it came so far.
    pub fingerprint: Option<Fingerprint>,
    /// What it changed; `None` for the first rows of a unit.
    pub changes: Option<Changes>,
    /// How many whole units after the unit's end the pull began: 0 on the morning after; none without a window.
    pub age: Option<i64>,
    /// Requests sent, retries included.
    pub requests: u64,
    /// Bytes received.
    pub bytes: u64,
    /// When it began.
    pub started_at: Instant,
    /// When it ended.
    pub finished_at: Instant,
    /// Why it failed, is held or late, redacted.
    pub reason: Option<String>,
}

/// The right to write one unit, until another claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Grows with every claim; the warehouse refuses a smaller one than it has.
    pub generation: u64,
    /// The number of the pull that this claim is for: the same again after a crash, so that its stage is found.
    pub pull: u64,
}

/// The ledger of a few tables at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    units: std::collections::HashMap<TableName, std::collections::BTreeMap<UnitKey, UnitRecord>>,
}

impl Snapshot {
    /// A snapshot of these records.
    pub fn new(records: impl IntoIterator<Item = UnitRecord>) -> Self {
        let mut snapshot = Self::default();
        for record in records {
            snapshot.put(record);
        }
        snapshot
    }

    /// Adds or replaces a record.
    pub fn put(&mut self, record: UnitRecord) {
        self.units.entry(record.table.clone()).or_default().insert(record.unit.clone(), record);
    }

    /// The record of a unit.
    pub fn unit(&self, table: &TableName, unit: &UnitKey) -> Option<&UnitRecord> {
        self.units.get(table)?.get(unit)
    }

    /// The records of a table in the order of their units.
    pub fn table(&self, table: &TableName) -> impl Iterator<Item = &UnitRecord> {
        self.units.get(table).into_iter().flat_map(std::collections::BTreeMap::values)
    }
}
