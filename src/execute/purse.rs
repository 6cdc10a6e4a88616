//! The money of one run: what its tasks may still be billed for, what they were, and what was spared.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::worker::Shared;
use crate::error::{Error, Kind, Result};
use crate::model::cost::{Account, Billing, Bytes, Expected, JobCost, Limit, LimitScope, Quote, Receipt, Receipts};
use crate::model::plan::{Plan, PlannedTask};
use crate::model::run::TaskId;

/// The money of one run.
#[derive(Default)]
pub(super) struct Purse {
    limit: Option<Limit>,
    inner: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    /// What tasks that have not ended are expected to be billed for yet.
    reserved: HashMap<TaskId, u64>,
    /// What tasks were billed for.
    spent: HashMap<TaskId, u64>,
    receipts: HashMap<TaskId, Receipts>,
}

impl Tally {
    /// What is spent or promised to tasks other than this one.
    fn taken_by_others(&self, task: &TaskId) -> u64 {
        let reserved = self.reserved.iter().filter(|(id, _)| *id != task).map(|(_, bytes)| bytes).sum::<u64>();
        reserved + self.spent.iter().filter(|(id, _)| *id != task).map(|(_, bytes)| bytes).sum::<u64>()
    }
}

impl Purse {
    /// With what the plan knows of its tasks already put aside.
    pub fn of(plan: &Plan) -> Self {
        let reserved = plan.tasks.iter().filter_map(|task| match &task.expected {
            Expected::Priced(quote) => Some((task.id.clone(), quote.price.billed)),
            Expected::Free | Expected::Spared | Expected::Unknown(_) => None,
        });
        let inner = Tally { reserved: reserved.collect(), ..Tally::default() };
        Self { limit: plan.pipeline.max_bytes, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Tally> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a task's jobs tell what they took.
    fn receipts(&self, task: &PlannedTask) -> Receipts {
        self.inner().receipts.get(&task.id).cloned().unwrap_or_default()
    }

    /// The most that a statement of a task may be billed for: the second fence, which the warehouse itself holds.
    fn most(&self, task: &PlannedTask) -> Option<u64> {
        let left = self.limit.map(|limit| limit.bytes.saturating_sub(self.inner().taken_by_others(&task.id)));
        [left, task.step.max_bytes().map(|limit| limit.bytes)].into_iter().flatten().min()
    }

    /// Under which terms a task's statements are sent.
    pub fn billing(&self, task: &PlannedTask) -> Billing {
        Billing { max_bytes: self.most(task), receipts: self.receipts(task) }
    }

    /// Whether a task's statements have to be priced again before they run: they could not be before, and there is a limit.
    pub fn asks(&self, task: &PlannedTask) -> bool {
        let known = matches!(task.expected, Expected::Priced(_) | Expected::Free);
        !known && (self.limit.is_some() || task.step.max_bytes().is_some())
    }

    /// Lets a task's statements run that were priced just now, or refuses them.
    ///
    /// # Errors
    /// [`Kind::Budget`]: one of them, or all of the run, would be billed for too much.
    pub fn admit(&self, task: &PlannedTask, quote: &Quote) -> Result<()> {
        if let Some(error) = crate::plan::over_step(task, quote) {
            return Err(error.hint("the statement was not sent, and nothing was spent on it"));
        }
        let mut tally = self.inner();
        let taken = tally.taken_by_others(&task.id);
        if let Some(limit) = self.limit.filter(|limit| taken + quote.price.billed > limit.bytes) {
            let whose = if limit.scope == LimitScope::Project { "of haul.toml" } else { "of the pipeline" };
            let text = format!(
                "{} would be billed for {}, with {} of the run before it; `max_bytes` {whose} is {limit}",
                task.id,
                Bytes(quote.price.billed),
                Bytes(taken),
            );
            return Err(Error::new(Kind::Budget, text).hint("the statement was not sent, and nothing was spent on it"));
        }
        tally.reserved.insert(task.id.clone(), quote.price.billed);
        Ok(())
    }

    /// What the whole run was billed for so far.
    pub fn spent(&self) -> u64 {
        self.inner().spent.values().sum()
    }

    fn open(&self, task: &TaskId, receipts: Receipts) {
        self.inner().receipts.insert(task.clone(), receipts);
    }

    /// What is billed was promised before: it must not be counted twice while the task goes on.
    fn pay(&self, task: &TaskId, cost: &JobCost) {
        let mut tally = self.inner();
        *tally.spent.entry(task.clone()).or_default() += cost.billed;
        if let Some(reserved) = tally.reserved.get_mut(task) {
            *reserved = reserved.saturating_sub(cost.billed);
        }
    }

    /// What a task has not spent is there for others.
    pub fn close(&self, task: &TaskId) {
        let mut tally = self.inner();
        tally.receipts.remove(task);
        tally.reserved.remove(task);
    }
}

/// Does a task's work, and writes down what its jobs were billed for while it goes on: a crash must not lose a bill.
pub(super) async fn metered<T>(shared: &Shared<'_>, task: &PlannedTask, work: impl Future<Output = T>) -> T {
    let (tell, mut told) = mpsc::unbounded_channel();
    let receipts = Receipts::told(move |cost| {
        // Nobody listens any more when the task has ended.
        let _ = tell.send(cost);
    });
    shared.purse.open(&task.id, receipts);
    let ended = CancellationToken::new();
    let working = async {
        let done = work.await;
        ended.cancel();
        done
    };
    // Side by side: a task that holds the state file's writer must never wait for this, which wants to write there too.
    let writing = async {
        loop {
            tokio::select! {
                biased;
                Some(receipt) = told.recv() => keep(shared, task, receipt).await,
                () = ended.cancelled() => break,
            }
        }
    };
    let (done, ()) = tokio::join!(working, writing);
    shared.purse.close(&task.id);
    done
}

async fn keep(shared: &Shared<'_>, task: &PlannedTask, receipt: Receipt) {
    let (job, reason) = match receipt {
        Receipt::Paid(cost) => {
            shared.purse.pay(&task.id, &cost);
            let Err(error) = shared.gear.state.bill(&account(shared, task), &cost).await else { return };
            (cost.job, error.chain())
        }
        Receipt::Missing { job, reason } => (job, reason),
    };
    shared.warn(task, &format!("what the job {job} was billed for is not counted: {reason}"));
}

/// Writes down that a task had nothing to do since nothing had changed, and what that has saved.
pub(super) async fn spared(shared: &Shared<'_>, task: &PlannedTask, reason: &str) -> Result<()> {
    shared.gear.state.spare(&account(shared, task), reason).await
}

fn account(shared: &Shared<'_>, task: &PlannedTask) -> Account {
    Account {
        run: shared.occasion.run.clone(),
        pipeline: shared.pipeline.name.clone(),
        step: task.step.name.clone(),
        table: task.step.into.clone(),
        units: task.keys(),
        at: shared.gear.clock.now(),
    }
}
