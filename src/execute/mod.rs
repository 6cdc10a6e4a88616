//! Execution: walks a plan; the dispatcher owns what happens, workers do it.
//!
//! ```text
//!  Plan ──▶ dispatcher ──task──▶ worker ──▶ extract: lease ▶ pull ▶ stage ▶ guard ▶ commit ▶ record
//!              ▲  │                  │      transform: inputs ▶ lease ▶ render ▶ commit ▶ record
//!              │  └─events─▶ state   │
//!              └──────TaskEvent──────┘
//! ```
//!
//! The dispatcher is the only writer of task events. A worker touches only its own units. What a unit's rows are is
//! decided in the warehouse's transaction; the state store mirrors that and is repaired from it before every plan.

mod backfill;
mod bookmark;
mod change;
mod collection;
mod command;
mod decide;
mod dispatcher;
mod extract;
mod fan;
mod files;
mod gear;
mod items;
mod landing;
mod load;
mod look;
mod outcome;
mod place;
mod price;
mod probe;
mod process;
mod purse;
mod request;
mod resumed;
mod retry;
mod scope;
mod slots;
mod source;
mod stages;
mod table;
mod transform;
mod wait;
mod worker;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use backfill::{Cut, queue_backfill};
pub use decide::{Decided, approve, reject};
pub use gear::Gear;
pub use look::{Rendered, bring, preview, render};
pub use probe::{Probed, probe};
pub use retry::{Unfinished, plan_retry, run_retry, unfinished};

use crate::error::{Kind, Result};
use crate::model::ledger::Snapshot;
use crate::model::name::TableName;
use crate::model::pipeline::{Action, Pipeline};
use crate::model::plan::Plan;
use crate::model::run::RunRecord;
use crate::monitor::Monitor;
use crate::plan::Ask;

/// What was noticed before a plan was made, in sentences for people.
#[derive(Debug, Default)]
pub struct Noticed {
    /// What the ledger had wrong, and has right now.
    pub mended: Vec<String>,
    /// What could not be looked at: what the ledger knows of it stands.
    pub unseen: Vec<String>,
}

/// Mends the state store from the warehouse, then plans: what `haul run` does before it begins.
pub async fn plan(gear: &Gear, pipeline: &Arc<Pipeline>, ask: &Ask) -> Result<(Plan, Noticed)> {
    let warehouse = gear.warehouse(&pipeline.warehouse).await?;
    let steps =
        pipeline.steps.iter().filter(|step| step.writes() && step.landing().is_none() && step.target().is_none());
    let tables: Vec<_> = steps.map(|step| (&**step, &step.into)).collect();
    let mut loads = place::in_tables(&warehouse, &tables).await?;
    let landed = landing::landed(gear, pipeline).await?;
    let elsewhere = place::loads(gear, pipeline).await?;
    loads.extend(landed.loads);
    loads.extend(elsewhere.loads);
    let unseen = |table: &TableName| landed.unseen.contains(table) || elsewhere.unseen.contains(table);
    // What commands have done is known to the ledger alone.
    let written = pipeline.steps.iter().filter(|step| step.writes()).map(|step| step.into.clone());
    let seen: Vec<TableName> = written.filter(|table| !unseen(table)).collect();
    let mended = gear.state.repair(&seen, &loads, gear.clock.now()).await?;
    let unseen = [landed.sentences, elsewhere.sentences].concat();
    let snapshot = ledger_of(gear, pipeline).await?;
    Ok((build(gear, pipeline, &snapshot, ask).await?, Noticed { mended, unseen }))
}

/// Plans without the right to wait: where another process has the warehouse, from what the state store knows.
pub async fn foresee(gear: &Gear, pipeline: &Arc<Pipeline>, ask: &Ask) -> Result<(Plan, Noticed)> {
    if let Err(error) = gear.warehouse(&pipeline.warehouse).await {
        if error.kind() != Kind::Storage {
            return Err(error);
        }
        let snapshot = ledger_of(gear, pipeline).await?;
        let plan = build(gear, pipeline, &snapshot, ask).await?;
        let sentence = "the warehouse cannot be opened now: this plan is made from what the last run left behind";
        return Ok((plan, Noticed { unseen: vec![sentence.to_owned()], ..Noticed::default() }));
    }
    plan(gear, pipeline, ask).await
}

/// Makes the plan, counts the items that are written down somewhere, and prices what is billed by bytes.
async fn build(gear: &Gear, pipeline: &Arc<Pipeline>, snapshot: &Snapshot, ask: &Ask) -> Result<Plan> {
    let mut plan = crate::plan::build(pipeline, snapshot, ask, gear.clock.now())?;
    for step in &pipeline.steps {
        let Action::Extract(extract) = &step.action else { continue };
        let Some(each) = extract.source.for_each() else { continue };
        // A file that cannot be read fails its own step, and not the plan of the others.
        if let Ok(Some(count)) = items::count(&each.over, &gear.project.root) {
            plan.requests.insert(step.name.clone(), count);
        }
    }
    price::fill_in(gear, &mut plan, snapshot).await;
    Ok(plan)
}

/// Walks a plan to its end, or until `cancel` is called.
///
/// # Errors
/// Only what keeps the run as a whole from going on: a state store that cannot be written. A task's failure is part
/// of the returned record.
pub async fn run(gear: &Gear, plan: &Plan, monitor: Arc<dyn Monitor>, cancel: CancellationToken) -> Result<RunRecord> {
    dispatcher::run(gear, plan, monitor, cancel).await
}

/// What the ledger knows of a pipeline: its tables, and what its commands have done.
fn tables_of(pipeline: &Pipeline) -> Vec<TableName> {
    pipeline.steps.iter().map(|step| step.into.clone()).collect()
}

/// The ledger of all tables that a pipeline writes or reads.
async fn ledger_of(gear: &Gear, pipeline: &Pipeline) -> Result<Snapshot> {
    let mut tables = tables_of(pipeline);
    for step in &pipeline.steps {
        tables.extend(step.action.reads().iter().map(|read| read.table.clone()));
    }
    tables.sort();
    tables.dedup();
    gear.state.snapshot(&tables).await
}
