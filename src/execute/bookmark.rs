//! Where a source goes on: told by a pull, kept once its rows are loaded, given to the next pull.

use super::gear::Gear;
use super::worker::{Shared, is_forced};
use crate::error::{Error, Kind, Result};
use crate::model::pipeline::{Extract, Step, Write};
use crate::model::plan::PlannedTask;
use crate::model::schema::StagedColumn;
use crate::model::source::{Source, Speaks};
use crate::stage::Manifest;

/// The stream whose bookmark a step keeps; none where every pull begins at the beginning.
fn stream(step: &Extract) -> Option<&str> {
    match &step.source {
        Source::Process(process) => match &process.speaks {
            Speaks::Singer(tap) if tap.keeps_state => Some(&tap.stream),
            Speaks::Singer(_) | Speaks::JsonLines => None,
        },
        Source::Http(_) | Source::Files(_) | Source::Table(_) | Source::Collection(_) | Source::Landed(_) => None,
    }
}

/// Where the next pull of a task goes on.
///
/// At the beginning where its table is no longer loaded, or where somebody asked for the task in so many words.
pub(super) async fn of(shared: &Shared<'_>, task: &PlannedTask, step: &Extract) -> Result<Option<String>> {
    let Some(stream) = stream(step).filter(|_| !is_forced(task)) else { return Ok(None) };
    let loaded = |key| shared.record(&task.step, key).is_some_and(|record| record.loaded.is_some());
    if task.keys().iter().all(loaded) { shared.gear.state.bookmark(&task.step.into, stream).await } else { Ok(None) }
}

/// Keeps where the source wants to go on, now that its rows are loaded.
pub(super) async fn keep(gear: &Gear, step: &Step, extract: &Extract, manifest: &Manifest) -> Result<()> {
    match (stream(extract), &manifest.bookmark) {
        (Some(stream), Some(json)) => gear.state.keep_bookmark(&step.into, stream, json, gear.clock.now()).await,
        _ => Ok(()),
    }
}

/// How a step's staged rows get into the table: a merge that names no keys has those that the source told.
pub(super) fn write_of(step: &Step, manifest: &Manifest, columns: &[StagedColumn]) -> Result<Write> {
    let Write::Merge { keys, newest_by } = &step.write else { return Ok(step.write.clone()) };
    if !keys.is_empty() {
        return Ok(step.write.clone());
    }
    if manifest.keys.is_empty() {
        let doing = format!("merging into {}: the source does not tell which columns identify a row", step.into);
        return Err(Error::new(Kind::Source, doing).hint("say it in the step: keys = [\"id\"]"));
    }
    let column = |key: &String| {
        let found = columns.iter().find(|column| column.source == *key);
        found.map_or_else(|| key.clone(), |column| column.column.name.clone())
    };
    Ok(Write::Merge { keys: manifest.keys.iter().map(column).collect(), newest_by: newest_by.clone() })
}
