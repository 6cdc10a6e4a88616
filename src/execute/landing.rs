//! The commit of rows that land in a collection: claimed, written, pointed at, and what was there before removed.

use super::gear::Gear;
use super::outcome::UnitOutcome;
use super::worker::Shared;
use crate::error::{Kind, Result};
use crate::landing::{Landing, LandingUnit, Lot};
use crate::model::ledger::Loaded;
use crate::model::name::TableName;
use crate::model::pipeline;
use crate::model::pipeline::Pipeline;
use crate::model::plan::PlannedTask;
use crate::monitor::Boundary;
use crate::stage::{self, Manifest};
use crate::time::UnitKey;
use crate::warehouse::UnitCommit;

/// The collection that a step's rows land in.
pub(super) async fn place(gear: &Gear, landing: &pipeline::Landing) -> Result<Landing> {
    Ok(Landing::new(gear.mongo(&landing.connection).await?, &landing.collection))
}

/// Lands the units of a sealed stage.
pub(super) async fn land(
    shared: &Shared<'_>,
    task: &PlannedTask,
    landing: &pipeline::Landing,
    manifest: &Manifest,
    units: Vec<UnitCommit>,
) -> Result<()> {
    let place = place(shared.gear, landing).await?;
    let lot = Lot {
        files: manifest.segments.clone(),
        unit_in_rows: manifest.unit_in_rows,
        units: units.into_iter().map(unit).collect(),
        shape: manifest.shape.clone(),
        columns: manifest.columns.clone(),
        run: shared.occasion.run.clone(),
        at: shared.gear.clock.now(),
    };
    place.claim(&lot.units).await?;
    place.write(&lot).await?;
    shared.crossed(task, Boundary::Written);
    shared.permit.holds().await?;
    place.flip(&lot).await?;
    shared.crossed(task, Boundary::Flipped);
    for unit in &lot.units {
        place.sweep(&unit.key, unit.generation).await?;
    }
    Ok(())
}

/// Removes what killed attempts at these units have left behind.
pub(super) async fn tidy(
    gear: &Gear,
    landing: &pipeline::Landing,
    outcomes: impl Iterator<Item = &UnitOutcome>,
) -> Result<()> {
    let place = place(gear, landing).await?;
    for outcome in outcomes {
        place.tidy(&outcome.key, outcome.lease.generation).await?;
    }
    Ok(())
}

fn unit(commit: UnitCommit) -> LandingUnit {
    let (rows, fingerprint) = commit.staged.unwrap_or_default();
    LandingUnit {
        prefix: commit.unit.as_ref().map(stage::unit_prefix).unwrap_or_default(),
        key: commit.key,
        pull: commit.pull,
        generation: commit.generation,
        rows,
        fingerprint,
    }
}

/// What a collection has of each unit, once what a killed process has left undone there is finished.
pub(super) async fn loads(gear: &Gear, landing: &pipeline::Landing) -> Result<Vec<(UnitKey, Loaded)>> {
    let place = place(gear, landing).await?;
    let (loads, unclean) = place.loads().await?;
    place.mend(&unclean).await?;
    Ok(loads)
}

/// What landed, as the places themselves tell it.
#[derive(Default)]
pub(super) struct Landed {
    pub loads: Vec<(TableName, UnitKey, Loaded)>,
    /// What could not be looked at; what the ledger knows of it stands.
    pub unseen: Vec<TableName>,
    /// One sentence for each of these.
    pub sentences: Vec<String>,
}

/// Looks at the collections that a pipeline's rows land in, and finishes what a killed process has left undone there.
pub(super) async fn landed(gear: &Gear, pipeline: &Pipeline) -> Result<Landed> {
    let mut landed = Landed::default();
    for step in &pipeline.steps {
        let Some(landing) = step.landing() else { continue };
        match loads(gear, landing).await {
            Ok(loads) => {
                landed.loads.extend(loads.into_iter().map(|(unit, loaded)| (step.into.clone(), unit, loaded)));
            }
            // Its steps will fail by themselves; the others need not wait for it.
            Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Auth) => {
                let message = format!("what landed in {} cannot be looked at: {}", step.into, error.chain());
                landed.sentences.push(gear.redactor.redact(&message));
                landed.unseen.push(step.into.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(landed)
}
