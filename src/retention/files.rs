//! The files beside the state file that go: old logs, kept answers that nobody asked for, stages that nobody goes on with.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::error::{Context, Kind, Result};
use crate::model::ledger::{Snapshot, UnitState};
use crate::model::name::TableName;
use crate::model::pipeline::Project;
use crate::stage;
use crate::state::State;
use crate::time::{Instant, UnitKey};

/// A stage that nobody has written to for so long is no longer gone on with.
const STALE: Duration = Duration::from_hours(7 * 24);

/// How many files were removed, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SweptFiles {
    /// Logs of tasks.
    pub logs: u64,
    /// Answers that were kept for conditional requests.
    pub answers: u64,
    /// Stages.
    pub stages: u64,
    /// The bytes of all of them.
    pub bytes: u64,
}

pub(super) async fn sweep(project: &Project, state: &State, now: Instant, dry_run: bool) -> Result<SweptFiles> {
    let keep = project.retention;
    let mut swept = SweptFiles::default();
    for (folder, age, count) in [("logs", keep.logs, 0), ("cache", keep.answers, 1)] {
        for path in old_files(&project.state_dir.join(folder), age, now) {
            swept.bytes += size(&path);
            *(if count == 0 { &mut swept.logs } else { &mut swept.answers }) += 1;
            if !dry_run {
                fs::remove_file(&path).context(Kind::Storage, || format!("removing {}", path.display()))?;
            }
        }
        if !dry_run {
            remove_empty(&project.state_dir.join(folder));
        }
    }
    for path in stale_stages(project, state, now).await? {
        swept.bytes += size(&path);
        swept.stages += 1;
        if !dry_run {
            stage::discard(&path)?;
            // Fails, as it should, while another stage of the unit or of the step is there.
            let _ = path.parent().map(|unit| {
                fs::remove_dir(unit).is_ok() && unit.parent().is_some_and(|step| fs::remove_dir(step).is_ok())
            });
        }
    }
    Ok(swept)
}

/// Stages that no unit waits with, and that nobody will go on with.
///
/// Those of units that failed stay, since `haul retry` goes on with them, and so do those that lack some requests.
///
/// # Errors
/// The ledger cannot be read.
pub async fn stale_stages(project: &Project, state: &State, now: Instant) -> Result<Vec<PathBuf>> {
    let root = project.state_dir.join("stage");
    let mut tables: HashMap<String, TableName> = HashMap::new();
    for pipeline in &project.pipelines {
        for step in &pipeline.steps {
            tables.insert(format!("{}.{}", pipeline.name, step.name), step.into.clone());
        }
    }
    let names: Vec<TableName> = tables.values().cloned().collect();
    let snapshot = state.snapshot(&names).await?;
    let held: BTreeSet<PathBuf> = names
        .iter()
        .flat_map(|table| snapshot.table(table))
        .filter_map(|unit| Some(project.state_dir.join(unit.held_stage.as_ref()?)))
        .collect();
    let mut stale = Vec::new();
    for step in entries(&root) {
        let table = step.file_name().and_then(|name| tables.get(&*name.to_string_lossy()));
        for unit in entries(&step) {
            for path in entries(&unit) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let ours = name.starts_with("pull-") || name.starts_with("held-") && !held.contains(&path);
                if ours && is_old(&path, STALE, now) && table.is_none_or(|table| is_settled(table, &unit, &snapshot)) {
                    stale.push(path);
                }
            }
        }
    }
    Ok(stale)
}

/// Whether the first unit of a stage's folder has nothing left that could be gone on with.
fn is_settled(table: &TableName, folder: &Path, snapshot: &Snapshot) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let first = name.split('+').next().unwrap_or_default();
    // An hour's name has a colon, which a folder's name has not.
    let key = match first.split_once('T') {
        Some((date, time)) => format!("{date}T{}", time.replacen('-', ":", 1)),
        None => first.to_owned(),
    };
    let record = snapshot.unit(table, &UnitKey::stored(&key));
    record.is_none_or(|record| matches!(record.state, UnitState::Loaded))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok);
    let mut paths: Vec<PathBuf> = read.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The files below a folder that were not written to for so long.
fn old_files(folder: &Path, age: Duration, now: Instant) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(folder) {
        if path.is_dir() {
            found.extend(old_files(&path, age, now));
        } else if written(&path).is_some_and(|at| older(at, age, now)) {
            found.push(path);
        }
    }
    found
}

/// Whether nothing in a folder was written to for so long.
fn is_old(folder: &Path, age: Duration, now: Instant) -> bool {
    let fresh = |path: &PathBuf| written(path).is_none_or(|at| !older(at, age, now));
    !std::iter::once(folder.to_path_buf()).chain(entries(folder)).any(|path| fresh(&path))
}

fn older(at: Instant, age: Duration, now: Instant) -> bool {
    now.signed_duration_since(at).to_std().is_ok_and(|since| since > age)
}

fn written(path: &Path) -> Option<Instant> {
    path.metadata().and_then(|metadata| metadata.modified()).ok().map(Instant::from)
}

fn size(path: &Path) -> u64 {
    if path.is_dir() {
        return entries(path).iter().map(|path| size(path)).sum();
    }
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// Removes the folders below a folder that have nothing in them.
fn remove_empty(folder: &Path) {
    for path in entries(folder).into_iter().filter(|path| path.is_dir()) {
        remove_empty(&path);
        let _ = fs::remove_dir(path);
    }
}
