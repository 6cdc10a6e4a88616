//! The manifest: what a sealed stage holds, and what every line of the journal says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::fanout::BatchEntry;
use crate::model::ledger::Fingerprint;
use crate::model::page::{PageEntry, Progress};
use crate::model::schema::SourceColumn;
use crate::model::shape::Shape;
use crate::time::UnitKey;

/// What a sealed stage holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The segments; absolute when read.
    pub segments: Vec<PathBuf>,
    /// All rows that were kept.
    pub rows: u64,
    /// Their bytes before compression.
    pub bytes: u64,
    /// The bytes of the longest row.
    pub longest_row: u64,
    /// The shape of the rows.
    pub shape: Shape,
    /// The columns that the source declares; none of a source that does not.
    #[serde(default)]
    pub columns: Vec<SourceColumn>,
    /// The members that identify a row, where the source told them.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Where the source wants to go on at the next pull, as JSON.
    #[serde(default)]
    pub bookmark: Option<String>,
    /// Rows and fingerprint of each unit.
    pub units: BTreeMap<UnitKey, (u64, Fingerprint)>,
    /// Rows whose time lies outside.
    pub outside: u64,
    /// Whether each row says its unit in `_haul_unit`.
    pub unit_in_rows: bool,
    /// All pages.
    pub pages: u64,
    /// The pull.
    pub pull: u64,
    /// Requests of a fan-out that failed for good and whose rows are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
}

/// Requests whose rows a stage does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// How many.
    pub failed: u64,
    /// Of how many.
    pub of: u64,
    /// Why, in one sentence.
    pub why: String,
}

/// What a line of the journal makes durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Of {
    Page(PageEntry),
    Batch(BatchEntry),
}

impl Of {
    pub fn add_to(&self, progress: &mut Progress) {
        match self {
            Self::Page(page) => progress.add(page),
            Self::Batch(batch) => progress.add_batch(batch),
        }
    }

    pub fn pages(&self) -> u64 {
        match self {
            Self::Page(_) => 1,
            Self::Batch(batch) => batch.pages,
        }
    }
}

/// The first line of a journal: whose pages these are.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub identity: String,
}

/// A line of the journal: one durable page, or the answers of several requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    #[serde(flatten)]
    pub of: Of,
    pub segment: u32,
    pub offset: u64,
    pub length: u64,
    pub checksum: u64,
    pub bytes: u64,
    pub longest_row: u64,
    pub outside: u64,
    pub units: Vec<(UnitKey, u64, Fingerprint)>,
    /// The page's shape, where it taught something new.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shape: Option<Shape>,
}
