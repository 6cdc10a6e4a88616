//! The record of a unit's files: who may write them, which they are, and what rows they have.

use serde::{Deserialize, Serialize};

use super::Lot;
use crate::error::{Context, Kind, Result};
use crate::model::ledger::{Fingerprint, Loaded};
use crate::time::{Instant, UnitKey};

/// One file of `_haul_loads`, as JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Record {
    /// The unit.
    pub unit: String,
    /// The largest generation that has claimed the unit.
    pub fence: u64,
    /// What is there, once something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// The files that are there, in their order.
    #[serde(default)]
    pub files: Vec<Written>,
}

/// A row of `_haul_loads`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Load {
    pub pull: u64,
    pub generation: u64,
    pub rows: u64,
    pub fingerprint: Fingerprint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<String>,
    pub run: String,
    pub committed_at: String,
}

/// A file of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub path: String,
    pub bytes: u64,
}

impl Record {
    /// The record once these files are there.
    pub fn flipped(lot: &Lot, files: Vec<Written>) -> Self {
        let load = Load {
            pull: lot.pull,
            generation: lot.generation,
            rows: lot.rows,
            fingerprint: lot.fingerprint,
            inputs: lot.inputs.clone(),
            run: lot.run.clone(),
            committed_at: lot.at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        };
        Self { unit: lot.key.to_string(), fence: lot.generation, load: Some(load), files }
    }

    /// What the ledger has to know of it; none of a unit that was claimed and never written.
    pub fn loaded(self) -> Result<Option<(UnitKey, Loaded)>> {
        let Some(load) = self.load else { return Ok(None) };
        let at: chrono::DateTime<chrono::FixedOffset> = chrono::DateTime::parse_from_rfc3339(&load.committed_at)
            .context(Kind::Storage, || format!("reading the record of {} in _haul_loads", self.unit))?;
        let loaded = Loaded {
            pull: load.pull,
            generation: load.generation,
            rows: load.rows,
            fingerprint: load.fingerprint,
            inputs: load.inputs,
            loaded_at: Instant::from(at),
        };
        Ok(Some((UnitKey::stored(&self.unit), loaded)))
    }
}

/// The folder of a step's records: the part of its path that is rendered, as one name.
pub(super) fn folder(template: &str) -> String {
    let mut name = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, inside)) = rest.split_once("{{") {
        let (expression, after) = inside.split_once("}}").unwrap_or((inside, ""));
        name.push_str(before);
        name.push_str(expression.trim());
        rest = after;
    }
    name.push_str(rest);
    name.chars().map(|c| if c.is_alphanumeric() || "-_.=".contains(c) { c } else { '+' }).collect()
}

/// The name of one of a unit's files: `part.parquet`, `part-2.parquet`; of a pull that appends, `part-pull3.parquet`.
pub(super) fn numbered(path: &str, pull: Option<u64>, number: usize) -> String {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let (stem, ending) = name.split_once('.').map_or((name, String::new()), |(stem, rest)| (stem, format!(".{rest}")));
    let pull = pull.map(|pull| format!("-pull{pull}")).unwrap_or_default();
    let number = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    super::joined(folder, &format!("{stem}{pull}{number}{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_unit_have_names_of_their_own() {
        assert_eq!(numbered("a/dt=1/part.csv.gz", None, 0), "a/dt=1/part.csv.gz");
        assert_eq!(numbered("a/dt=1/part.csv.gz", None, 1), "a/dt=1/part-2.csv.gz");
        assert_eq!(numbered("part.parquet", Some(3), 1), "part-pull3-2.parquet");
        assert_eq!(folder("dt={{ ds }}/part.parquet"), "dt=ds+part.parquet");
    }
}
