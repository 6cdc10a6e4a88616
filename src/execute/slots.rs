//! Slots of pools: a task that names a pool begins only with its slot, which all processes of the store share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::gear::Gear;
use crate::error::Result;
use crate::model::pipeline::Pipeline;
use crate::model::plan::PlannedTask;
use crate::monitor::{Event, Monitor};
use crate::time::Instant;

/// How long a slot stays taken by a process that says nothing.
const LEASE: Duration = Duration::from_mins(1);

/// How often a full pool is looked at; a slot that a task of this run gives back is seen at once.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// The slots of one run.
pub(super) struct Slots<'a> {
    gear: &'a Gear,
    pipeline: &'a Pipeline,
    run: &'a str,
    /// The tasks that hold slots, by their place in the plan.
    held: BTreeSet<usize>,
    /// The pools that were full at the last look.
    full: BTreeSet<&'a str>,
    /// The pools that a wait was told of.
    told: BTreeSet<&'a str>,
}

impl<'a> Slots<'a> {
    pub fn new(gear: &'a Gear, pipeline: &'a Pipeline, run: &'a str) -> Self {
        Self { gear, pipeline, run, held: BTreeSet::new(), full: BTreeSet::new(), told: BTreeSet::new() }
    }

    /// The pools that a task takes a slot of, with their sizes.
    fn pools(&self, task: &PlannedTask) -> Vec<(&'a str, u32)> {
        let sizes: &BTreeMap<String, u32> = &self.gear.project.pools;
        let names = self.pipeline.steering.pools_of(&task.step.name).iter();
        // One without a size was refused when the files were read.
        names.filter_map(|name| Some((name.as_str(), *sizes.get(name)?))).collect()
    }

    /// Whether nothing says that the task would have to wait for a slot.
    pub fn may_have(&self, task: &PlannedTask) -> bool {
        self.full.is_empty() || self.pools(task).iter().all(|(pool, _)| !self.full.contains(pool))
    }

    /// Whether tasks wait for slots.
    pub fn waits(&self) -> bool {
        !self.full.is_empty()
    }

    /// Full pools are looked at again.
    pub fn look_again(&mut self) {
        self.full.clear();
    }

    /// Takes the slots of a task. False: one of its pools is full, which is told once of each pool.
    pub async fn take(&mut self, index: usize, task: &PlannedTask, monitor: &dyn Monitor) -> Result<bool> {
        let pools = self.pools(task);
        if pools.is_empty() {
            return Ok(true);
        }
        let (now, until) = self.lease();
        if self.gear.state.try_slots(&pools, &self.holder(task), now, until).await? {
            self.held.insert(index);
            return Ok(true);
        }
        let taken = self.gear.state.slots(now).await?;
        for (pool, size) in pools {
            let holders: Vec<&str> =
                taken.iter().filter(|slot| slot.pool == pool).map(|slot| slot.holder.as_str()).collect();
            if holders.len() < size as usize {
                continue;
            }
            self.full.insert(pool);
            if self.told.insert(pool) {
                let (taken, first) = (holders.len(), holders.first().copied().unwrap_or_default());
                let more = if taken > 1 { format!(" and {} more", taken - 1) } else { String::new() };
                let sentence = format!(
                    "tasks wait for a slot of the pool `{pool}`: {taken} of {size} are taken, by {first}{more}"
                );
                monitor.event(&Event::Pace { sentence });
            }
        }
        if self.full.is_empty() {
            // A slot came free between the two looks, or is for somebody who has waited longer.
            for (pool, _) in self.pools(task) {
                self.full.insert(pool);
                if self.told.insert(pool) {
                    let sentence = format!("tasks wait for their turn at the pool `{pool}`: others came before");
                    monitor.event(&Event::Pace { sentence });
                }
            }
        }
        Ok(false)
    }

    /// Gives the slots of a task back.
    pub async fn give_back(&mut self, index: usize, task: &PlannedTask) -> Result<()> {
        if self.held.remove(&index) {
            self.gear.state.free_slots(&self.holder(task)).await?;
            self.look_again();
        }
        Ok(())
    }

    fn holder(&self, task: &PlannedTask) -> String {
        format!("{} {}", self.run, task.id)
    }

    fn lease(&self) -> (Instant, Instant) {
        let now = self.gear.clock.now();
        (now, now + LEASE)
    }
}

/// Prolongs the leases of a run's slots for as long as it is polled.
pub(super) async fn keep(gear: &Gear, pipeline: &Pipeline, run: &str, monitor: &dyn Monitor) {
    let any = !pipeline.steering.pools.is_empty() || pipeline.steering.steps.values().any(|step| step.pools.is_some());
    loop {
        if any {
            tokio::time::sleep(LEASE / 4).await;
        } else {
            std::future::pending::<()>().await;
        }
        let now = gear.clock.now();
        if let Err(error) = gear.state.keep_slots(run, now, now + LEASE).await {
            let message = format!("the slots of this run could not be kept: {}", error.chain());
            monitor.event(&Event::Warning { task: None, message });
        }
    }
}
