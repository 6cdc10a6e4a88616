//! Backfills by the queue: planned as a whole first, then cut into pieces, each of which is a job.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Noticed;
use super::gear::Gear;
use crate::error::{Error, Result};
use crate::model::job::{Backfill, Class, NewBackfill, NewJob, Planned};
use crate::model::pipeline::Pipeline;
use crate::model::plan::Plan;
use crate::plan::{self, Ask, Range};
use crate::time::Instant;

/// How a backfill is cut into jobs.
#[derive(Debug, Clone)]
pub struct Cut {
    /// How many days a job has at the least; units are not divided.
    pub days: u32,
    /// Whether the newest days come first.
    pub newest_first: bool,
    /// Who asks for it.
    pub by: String,
}

/// Plans a range, and puts its pieces into the queue; days on which nothing is to be done make no job.
///
/// Returns the backfill, and what was noticed on the way.
///
/// # Errors
/// A range on which nothing is to be done, and whatever keeps it from being planned.
pub async fn queue_backfill(
    gear: &Gear,
    pipeline: &Arc<Pipeline>,
    ask: &Ask,
    cut: &Cut,
) -> Result<(Backfill, Noticed)> {
    let Some(range) = ask.range else { return Err(Error::internal("a backfill without a range")) };
    let (plan, noticed) = super::foresee(gear, pipeline, ask).await?;
    let starts: Vec<Instant> = starts(&plan).into_iter().collect();
    let mut jobs = Vec::new();
    let now = gear.clock.now();
    for piece in plan::pieces(pipeline, range, cut.days, cut.newest_first) {
        let covered = plan::instants(pipeline, piece);
        let first = starts.partition_point(|start| *start < covered.start);
        let end = starts.partition_point(|start| *start < covered.end);
        if first < end {
            jobs.push(job(pipeline, ask, piece, (end - first) as u64, now)?);
        }
    }
    if jobs.is_empty() {
        // What is due has no units of its own: it is done once.
        jobs.push(job(pipeline, ask, range, 0, now)?);
    }
    let totals = plan::explain(&plan).totals;
    let new = NewBackfill {
        pipeline: pipeline.name.clone(),
        from: range.from.to_string(),
        to: range.to.to_string(),
        ask: plan::written(ask)?,
        newest_first: cut.newest_first,
        planned: Planned {
            units: starts.len() as u64,
            tasks: plan.tasks.len() as u64,
            requests: totals.requests,
            bytes: plan::cost_of(&plan).filter(|cost| cost.unknown == 0).map(|cost| cost.billed_bytes),
        },
        by: cut.by.clone(),
    };
    Ok((gear.state.create_backfill(&new, &jobs, now).await?, noticed))
}

fn job(pipeline: &Pipeline, whole: &Ask, piece: Range, units: u64, now: Instant) -> Result<NewJob> {
    let ask = Ask { logical_date: piece.to, range: Some(piece), ..whole.clone() };
    let key = plan::key(pipeline, &ask);
    let job = NewJob::new(&pipeline.name, &key, &plan::written(&ask)?, Class::Backfill, now);
    Ok(NewJob { priority: pipeline.steering.priority, units, ..job })
}

/// When the units begin that anything is planned for.
fn starts(plan: &Plan) -> BTreeSet<Instant> {
    plan.tasks.iter().flat_map(|task| task.units.iter().map(|unit| unit.start)).collect()
}
