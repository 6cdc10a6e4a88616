//! What becomes of a unit's new rows: decided from what `_haul_loads` says of it, for every warehouse alike.

use super::{Commit, CommitOutcome, UnitCommit, UnitCommitted};
use crate::error::{Error, Kind, Result};
use crate::model::ledger::Fingerprint;
use crate::model::name::TableName;
use crate::model::pipeline::Verdict;

/// The newest load of a unit, as `_haul_loads` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastLoad {
    pub generation: u64,
    pub pull: u64,
    pub rows: u64,
    pub fingerprint: Fingerprint,
}

/// Whether a unit is still to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is.
    Pending,
    /// This very pull has committed it before.
    Already { rows: u64, fingerprint: Fingerprint },
}

/// Refuses a lease that is no longer the newest; finds a unit that this very pull has committed before.
///
/// Without its table (`exists`), no unit is committed, whatever was once.
///
/// # Errors
/// [`Kind::Stale`] where a newer lease has written, or another pull under the same one.
pub(super) fn standing(
    table: &TableName,
    unit: &UnitCommit,
    last: Option<&LastLoad>,
    exists: bool,
) -> Result<Standing> {
    let Some(last) = last else { return Ok(Standing::Pending) };
    let same = last.pull == unit.pull && unit.staged.is_none_or(|(_, staged)| staged == last.fingerprint);
    if same && exists {
        return Ok(Standing::Already { rows: last.rows, fingerprint: last.fingerprint });
    }
    if last.generation > unit.generation || (last.generation == unit.generation && !same) {
        return Err(Error::new(Kind::Stale, format!("the lease on {} of {table}", unit.key)).because(format!(
            "generation {} wants to write, generation {} has written",
            unit.generation, last.generation
        )));
    }
    Ok(Standing::Pending)
}

/// Divides the units of a commit into those that are there already and those that are still to be written.
///
/// # Errors
/// Those of [`standing`].
pub(super) fn standings(
    commit: &Commit,
    exists: bool,
    last: impl Fn(&UnitCommit) -> Option<LastLoad>,
) -> Result<(Vec<UnitCommitted>, Vec<&UnitCommit>)> {
    let (mut already, mut pending) = (Vec::new(), Vec::new());
    for unit in &commit.units {
        match standing(&commit.table, unit, last(unit).as_ref(), exists)? {
            Standing::Pending => pending.push(unit),
            Standing::Already { rows, fingerprint } => {
                let outcome = CommitOutcome::Already;
                already.push(UnitCommitted { key: unit.key.clone(), outcome, rows, fingerprint, changes: None });
            }
        }
    }
    Ok((already, pending))
}

/// Says whether a unit's new rows are to be written; staged ones were judged before they came here.
pub(super) fn judge(unit: &UnitCommit, rows: u64, fingerprint: Fingerprint, exists: bool) -> UnitCommitted {
    let outcome = match &unit.previous {
        Some(old) if exists && unit.staged.is_none() && old.rows == rows && old.fingerprint == fingerprint => {
            CommitOutcome::Unchanged
        }
        Some(old) if unit.staged.is_none() => match unit.guard.judge(old.rows, rows) {
            Verdict::Pass => CommitOutcome::Written,
            Verdict::Hold(reason) => CommitOutcome::Held(reason),
        },
        _ => CommitOutcome::Written,
    };
    UnitCommitted { key: unit.key.clone(), outcome, rows, fingerprint, changes: None }
}

/// Those of `pending` that were judged to be written.
pub(super) fn written<'c>(pending: &[&'c UnitCommit], judged: &[UnitCommitted]) -> Vec<&'c UnitCommit> {
    let is_written =
        |unit: &&&UnitCommit| judged.iter().any(|one| one.key == unit.key && one.outcome == CommitOutcome::Written);
    pending.iter().filter(is_written).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pipeline::Guard;
    use crate::time::UnitKey;

    #[test]
    fn a_lease_writes_once_and_only_while_it_is_the_newest() {
        let table = TableName::parse("raw.items").expect("a name");
        let unit = UnitCommit {
            unit: None,
            key: UnitKey::whole(),
            pull: 3,
            generation: 5,
            previous: None,
            guard: Guard::OPEN,
            staged: Some((2, Fingerprint(7))),
            inputs: None,
        };
        let last = |generation, pull, print| LastLoad { generation, pull, rows: 2, fingerprint: Fingerprint(print) };
        let ask = |last: LastLoad, exists| standing(&table, &unit, Some(&last), exists).map_err(|error| error.kind());
        let already = Standing::Already { rows: 2, fingerprint: Fingerprint(7) };
        assert_eq!(standing(&table, &unit, None, true).ok(), Some(Standing::Pending));
        assert_eq!(ask(last(5, 3, 7), true), Ok(already.clone()), "the same pull again");
        assert_eq!(ask(last(4, 2, 7), true), Ok(Standing::Pending), "an older lease");
        assert_eq!(ask(last(6, 4, 7), true), Err(Kind::Stale), "a newer lease");
        assert_eq!(ask(last(5, 4, 7), true), Err(Kind::Stale), "another pull under the same lease");
        assert_eq!(ask(last(5, 3, 8), true), Err(Kind::Stale), "other rows under the same lease");
        assert_eq!(ask(last(5, 3, 7), false), Ok(Standing::Pending), "its table is gone");
        assert_eq!(ask(last(9, 3, 7), true), Ok(already), "the same rows were committed, whoever did it");
    }
}
