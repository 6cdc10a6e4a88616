//! Files that rows are delivered as: which files are those of a unit is said beside them, in `_haul_loads`.
//!
//! A folder or a bucket has no transaction over several files. Each file is there as a whole or not at all, and is put in
//! the place of what was seen at its name, and of nothing else. A unit's record says who may write (the fence, a generation
//! that only grows) and which files are there; it too is only replaced where it is what was seen.
//!
//! ```text
//! claim: fence := generation   store: each file, if its name is   flip: files, rows,   sweep: files that the
//!        (only if not larger)         as seen and the claim holds        fingerprint          record no longer has
//! ```

mod record;

use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::error::{Context, Error, Kind, Result};
use crate::extract::{FileStore, Mark, Pattern};
use crate::model::ledger::{Fingerprint, Loaded};
use crate::time::{Instant, UnitKey};
use record::{Record, Written};

/// So many records are read at once.
const AT_ONCE: usize = 32;

/// How often a name is looked at again that somebody else writes to.
const TRIES: usize = 50;

/// The files of one step in one place; clones are the same ones.
#[derive(Clone)]
pub struct Delivery {
    store: FileStore,
    /// The folder in front of everything that is rendered.
    base: String,
    /// The folder of its records.
    records: String,
}

/// New files of a unit.
#[derive(Debug, Clone)]
pub struct Lot {
    /// The unit.
    pub key: UnitKey,
    /// The path of the first file; further ones have a number.
    pub path: String,
    /// The files on this machine, in their order; none of a unit without rows.
    pub files: Vec<PathBuf>,
    /// Whether they come on top of those that are there.
    pub appends: bool,
    /// The pull.
    pub pull: u64,
    /// The lease's generation.
    pub generation: u64,
    /// The rows.
    pub rows: u64,
    /// Their digest.
    pub fingerprint: Fingerprint,
    /// What they were computed from.
    pub inputs: Option<String>,
    /// The run.
    pub run: String,
    /// The time.
    pub at: Instant,
}

impl Delivery {
    /// The files of a step whose paths are made by this template.
    pub fn new(store: FileStore, template: &str) -> Self {
        let plain = template.split("{{").next().unwrap_or(template).split("{%").next().unwrap_or(template);
        let base = plain.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let rest = template[base.len()..].trim_start_matches('/');
        let records = joined(&base, &format!("_haul_loads/{}", record::folder(rest)));
        Self { store, base, records }
    }

    /// Where they lie, for messages.
    pub fn address(&self) -> String {
        self.store.address(&self.base)
    }

    /// Brings a unit's files to where they belong, in the place of those that are there.
    ///
    /// # Errors
    /// [`Kind::Stale`] when a later generation has claimed the unit.
    pub async fn put(&self, lot: &Lot) -> Result<()> {
        let (record, mark) = self.claim(lot).await?;
        let mut files = if lot.appends { record.files.clone() } else { Vec::new() };
        for (number, local) in lot.files.iter().enumerate() {
            let path = record::numbered(&lot.path, lot.appends.then_some(lot.pull), number);
            let bytes =
                std::fs::metadata(local).context(Kind::Storage, || format!("reading {}", local.display()))?.len();
            self.store_one(lot, &path, local, &mark).await?;
            files.retain(|file| file.path != path);
            files.push(Written { path, bytes });
        }
        let flipped = Record::flipped(lot, files);
        if self.write(&lot.key, &flipped, &mark).await?.is_none() {
            return Err(self.stale(lot));
        }
        for old in &record.files {
            if !flipped.files.iter().any(|new| new.path == old.path) {
                self.store.remove(&old.path).await?;
            }
        }
        Ok(())
    }

    /// Raises the fence; what was there stays as it is.
    async fn claim(&self, lot: &Lot) -> Result<(Record, Mark)> {
        for _ in 0..TRIES {
            let (record, mark) = self.read(&lot.key).await?;
            let record = record.unwrap_or_default();
            if record.fence > lot.generation {
                return Err(self.stale(lot));
            }
            let claimed = Record { fence: lot.generation, unit: lot.key.to_string(), ..record };
            if let Some(mark) = self.write(&lot.key, &claimed, &mark).await? {
                return Ok((claimed, mark));
            }
        }
        Err(self.restless(lot))
    }

    async fn store_one(&self, lot: &Lot, path: &str, local: &std::path::Path, claim: &Mark) -> Result<()> {
        for _ in 0..TRIES {
            // What is seen before the claim is looked at cannot be of anybody who claims later.
            let seen = self.store.mark(path).await?;
            if self.store.mark(&self.record_path(&lot.key)).await? != *claim {
                return Err(self.stale(lot));
            }
            if self.store.store_if(path, local, &seen, &self.lock()).await?.is_some() {
                return Ok(());
            }
        }
        Err(self.restless(lot))
    }

    /// What is there of each unit, as the records say it; a unit of which a file is gone counts as gone.
    pub async fn loads(&self) -> Result<Vec<(UnitKey, Loaded)>> {
        let records = self.listed(&format!("{}/*.json", self.records)).await?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let read = stream::iter(records).map(|(path, _)| async move { self.read_at(&path).await });
        let records: Vec<Option<Record>> = read.buffered(AT_ONCE).map_ok(|(record, _)| record).try_collect().await?;
        let pattern = if self.base.is_empty() { "**/*".to_owned() } else { format!("{}/**/*", self.base) };
        let there: std::collections::HashMap<String, Option<u64>> = self.listed(&pattern).await?.into_iter().collect();
        let whole = |record: &Record| {
            let is =
                |file: &Written| there.get(&file.path).is_some_and(|size| size.is_none_or(|size| size == file.bytes));
            record.files.iter().all(is)
        };
        let loads = records.into_iter().flatten().filter(whole).filter_map(|record| record.loaded().transpose());
        loads.collect()
    }

    async fn listed(&self, pattern: &str) -> Result<Vec<(String, Option<u64>)>> {
        let listed = self.store.list_if_there(&Pattern::parse(pattern)?).await?;
        Ok(listed.into_iter().map(|file| (file.path, file.size)).collect())
    }

    async fn read(&self, unit: &UnitKey) -> Result<(Option<Record>, Mark)> {
        self.read_at(&self.record_path(unit)).await
    }

    async fn read_at(&self, path: &str) -> Result<(Option<Record>, Mark)> {
        let (bytes, mark) = self.store.read_marked(path).await?;
        let Some(bytes) = bytes else { return Ok((None, mark)) };
        let record = serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(Kind::Storage, format!("reading {}", self.store.address(path)))
                .because(error)
                .hint("somebody has changed it; removed, its unit counts as missing and is loaded again")
        })?;
        Ok((Some(record), mark))
    }

    async fn write(&self, unit: &UnitKey, record: &Record, seen: &Mark) -> Result<Option<Mark>> {
        let text = serde_json::to_vec_pretty(record).context(Kind::Internal, || "writing _haul_loads".to_owned())?;
        self.store.write_if(&self.record_path(unit), Bytes::from(text), seen, &self.lock()).await
    }

    fn record_path(&self, unit: &UnitKey) -> String {
        format!("{}/{}.json", self.records, unit.as_str().replace(':', "-"))
    }

    fn lock(&self) -> String {
        format!("{}/.lock", self.records)
    }

    fn stale(&self, lot: &Lot) -> Error {
        Error::new(Kind::Stale, format!("the lease on {} of {}", lot.key, self.address()))
            .because(format!("generation {} wants to write, a later one has claimed the unit", lot.generation))
    }

    fn restless(&self, lot: &Lot) -> Error {
        Error::new(Kind::Unavailable, format!("storing {} in {}", lot.key, self.address()))
            .because("somebody else writes there all the time")
            .hint("do two projects write to the same path?")
    }
}

fn joined(folder: &str, path: &str) -> String {
    if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") }
}
