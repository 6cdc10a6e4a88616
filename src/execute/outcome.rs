//! What a worker has to say at its end, and how that becomes records of the ledger.

use crate::error::{Error, Kind};
use crate::model::ledger::{Changes, Fingerprint, Lease, Loaded, PullOutcome, PullRecord, UnitRecord, UnitState};
use crate::model::name::TableName;
use crate::model::run::TaskEvent;
use crate::secret::Redactor;
use crate::time::{Instant, Unit, UnitKey};

/// What became of one unit in a task.
#[derive(Debug, Clone)]
pub(super) struct UnitOutcome {
    pub key: UnitKey,
    pub unit: Option<Unit>,
    pub lease: Lease,
    pub outcome: PullOutcome,
    pub rows: u64,
    pub fingerprint: Option<Fingerprint>,
    pub changes: Option<Changes>,
    pub inputs: Option<String>,
    pub reason: Option<String>,
    /// The state of the source that these rows are of, where it could be told.
    pub probe: Option<String>,
    pub held_stage: Option<String>,
}

/// What a whole task cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub requests: u64,
    pub bytes: u64,
    pub started_at: Instant,
    pub finished_at: Instant,
}

impl UnitOutcome {
    /// The ledger's entries for this outcome: the pull, and the unit as it stands now; `backfilled` tells whether only
    /// backfills have touched it, this pull included.
    pub fn records(
        &self,
        table: &TableName,
        run: &str,
        cost: Cost,
        previous: Option<&UnitRecord>,
        backfilled: bool,
    ) -> (PullRecord, UnitRecord) {
        let pull = PullRecord {
            table: table.clone(),
            unit: self.key.clone(),
            pull: self.lease.pull,
            run: run.to_owned(),
            outcome: self.outcome,
            rows: self.rows,
            fingerprint: self.fingerprint,
            changes: self.changes,
            age: self.unit.as_ref().map(|unit| age(unit, cost.started_at)),
            requests: cost.requests,
            bytes: cost.bytes,
            started_at: cost.started_at,
            finished_at: cost.finished_at,
            reason: self.reason.clone(),
        };
        let before = previous.and_then(|record| record.loaded.clone());
        let written = matches!(self.outcome, PullOutcome::Loaded | PullOutcome::Approved);
        let loaded = if written {
            Some(Loaded {
                pull: self.lease.pull,
                generation: self.lease.generation,
                rows: self.rows,
                fingerprint: self.fingerprint.unwrap_or_default(),
                inputs: self.inputs.clone(),
                loaded_at: cost.finished_at,
            })
        } else {
            // An unchanged transform was computed from newer inputs: the next run need not look again.
            before.map(|loaded| match (self.outcome, &self.inputs) {
                (PullOutcome::Unchanged, Some(inputs)) => Loaded { inputs: Some(inputs.clone()), ..loaded },
                _ => loaded,
            })
        };
        let unchanged = self.outcome == PullOutcome::Unchanged;
        let unit = UnitRecord {
            table: table.clone(),
            unit: self.key.clone(),
            state: match self.outcome {
                PullOutcome::Loaded | PullOutcome::Unchanged | PullOutcome::Approved | PullOutcome::Rejected => {
                    UnitState::Loaded
                }
                PullOutcome::Held => UnitState::Held,
                PullOutcome::Failed => UnitState::Failed,
                PullOutcome::Late => UnitState::Late,
            },
            loaded,
            last_pull: self.lease.pull,
            pulled_at: cost.finished_at,
            unchanged_pulls: if unchanged { previous.map_or(0, |record| record.unchanged_pulls) + 1 } else { 0 },
            reason: self.reason.clone(),
            probe: match self.outcome {
                PullOutcome::Loaded | PullOutcome::Unchanged | PullOutcome::Approved => self.probe.clone(),
                // The rows that are there are those of an earlier pull, and so is the state that they are of.
                PullOutcome::Held | PullOutcome::Failed | PullOutcome::Late | PullOutcome::Rejected => {
                    previous.and_then(|record| record.probe.clone())
                }
            },
            held_stage: self.held_stage.clone(),
            backfilled,
        };
        (pull, unit)
    }
}

/// How many whole units lie between a unit's end and `now`: 0 on the morning after.
fn age(unit: &Unit, now: Instant) -> i64 {
    if now < unit.end {
        return -1;
    }
    let mut age = 0;
    let mut next = unit.calendar.next(unit);
    while next.end <= now && age < 10_000 {
        age += 1;
        next = unit.calendar.next(&next);
    }
    age
}

/// The event that ends a task whose units ended like this.
pub(super) fn summary(outcomes: &[UnitOutcome]) -> TaskEvent {
    let held: Vec<String> = outcomes
        .iter()
        .filter(|outcome| outcome.outcome == PullOutcome::Held)
        .map(|outcome| match &outcome.reason {
            // A task over one unit is called by it already.
            Some(reason) if outcomes.len() == 1 => reason.clone(),
            Some(reason) => format!("{}: {reason}", outcome.key),
            None => outcome.key.to_string(),
        })
        .collect();
    if !held.is_empty() {
        return TaskEvent::Held { reason: held.join("; ") };
    }
    if let Some(late) = outcomes.iter().find(|outcome| outcome.outcome == PullOutcome::Late) {
        return TaskEvent::Late { reason: late.reason.clone().unwrap_or_default() };
    }
    let rows = outcomes.iter().map(|outcome| outcome.rows).sum();
    // Whatever is not held and has a reason lacks something.
    let incomplete = outcomes.iter().find_map(|outcome| outcome.reason.clone());
    if outcomes.iter().all(|outcome| outcome.outcome == PullOutcome::Unchanged) {
        return TaskEvent::Unchanged { rows, incomplete };
    }
    let changes = outcomes.iter().filter_map(|outcome| outcome.changes).reduce(|sum, one| Changes {
        added: sum.added + one.added,
        removed: sum.removed + one.removed,
        changed: sum.changed + one.changed,
    });
    TaskEvent::Loaded { rows, changes, incomplete }
}

/// The event that ends a task with an error.
pub(super) fn failure(error: &Error, redactor: &Redactor) -> TaskEvent {
    match error.kind() {
        Kind::Cancelled => TaskEvent::Cancelled,
        Kind::Held => TaskEvent::Held { reason: redactor.redact(&error.chain()) },
        kind => TaskEvent::Failed { kind: kind.name().to_owned(), reason: redactor.redact(&told(error)) },
    }
}

/// An error as one text: the chain, its detail, its hints.
pub(super) fn told(error: &Error) -> String {
    let mut text = error.chain();
    if let Some(detail) = error.details() {
        text.push('\n');
        text.push_str(detail);
    }
    for hint in error.hints() {
        text.push_str("\nhint: ");
        text.push_str(hint);
    }
    text
}
