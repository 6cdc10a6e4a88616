//! Repair: the ledger is compared with the warehouse's own record of loads, and the warehouse is right.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ledger;
use super::sqlite::Store;
use crate::error::Result;
use crate::model::ledger::{Loaded, PullOutcome, PullRecord, UnitRecord, UnitState};
use crate::model::name::TableName;
use crate::time::{Instant, UnitKey};

/// The reason of a pull whose story died with its process.
const FOUND: &str = "found in the warehouse";

/// What can be out of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The warehouse has a load that the ledger lacks.
    Found,
    /// The warehouse has another load than the ledger says.
    Other,
    /// The warehouse no longer has what the ledger says is loaded.
    Gone,
}

impl Fault {
    fn sentence(self, table: &TableName, units: &[&UnitKey]) -> String {
        let (these, names) = (units.len(), named(units));
        let (s, was, is) = if these == 1 { ("", "was", "it") } else { ("s", "were", "they") };
        match self {
            Self::Found => {
                format!("{table}: {these} load{s} that the ledger lacked {was} found in the warehouse ({names})")
            }
            Self::Other => {
                format!(
                    "{table}: of {these} unit{s} the warehouse has another load than the ledger had; it is right ({names})"
                )
            }
            Self::Gone => format!(
                "{table}: {these} loaded unit{s} {was} no longer in the warehouse; {is} count as missing ({names})"
            )
            .replace("it count as", "it counts as"),
        }
    }
}

/// The first few names, and that there are more.
fn named(units: &[&UnitKey]) -> String {
    const SHOWN: usize = 3;
    let mut names: Vec<&str> = units.iter().take(SHOWN).map(|unit| unit.as_str()).collect();
    if units.len() > SHOWN {
        names.push("…");
    }
    names.join(", ")
}

/// One unit brought in line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mend {
    fault: Fault,
    /// Whether the ledger did not know the unit at all.
    new: bool,
    record: UnitRecord,
}

/// Compares and mends.
pub(super) async fn repair(
    store: &Store,
    tables: &[TableName],
    loads: &[(TableName, UnitKey, Loaded)],
    now: Instant,
) -> Result<Vec<String>> {
    // Most of the time all is in order, and nothing needs to be written.
    if compare(&ledger::units(store, tables).await?, tables, loads, now).is_empty() {
        return Ok(Vec::new());
    }
    let doing = "mending the ledger in";
    let mut transaction = store.begin(doing).await?;
    let units = ledger::units_in(store, &mut *transaction, tables).await?;
    let mut mends = compare(&units, tables, loads, now);
    for mend in &mut mends {
        if let Some(loaded) = &mend.record.loaded {
            let claimant = ledger::claimant(store, &mut transaction, &mend.record, loaded.generation).await?;
            if let Some((run, _)) = claimant.as_ref().filter(|_| mend.new) {
                mend.record.backfilled = ledger::is_backfill(store, &mut transaction, run).await?;
            }
            ledger::add_pull(store, &mut transaction, &found(&mend.record, loaded, claimant)).await?;
            ledger::raise_generation(store, &mut transaction, &mend.record, now).await?;
        }
        ledger::put_unit(store, &mut transaction, &mend.record).await?;
    }
    store.commit(transaction, doing).await?;
    Ok(sentences(&mends))
}

/// The pull that a found load must have come from; what it cost is lost, and also whose it was if the claim is.
fn found(unit: &UnitRecord, loaded: &Loaded, claimant: Option<(String, Instant)>) -> PullRecord {
    let (run, started_at) = claimant.unwrap_or_else(|| (String::new(), loaded.loaded_at));
    PullRecord {
        table: unit.table.clone(),
        unit: unit.unit.clone(),
        pull: loaded.pull,
        run,
        outcome: PullOutcome::Loaded,
        rows: loaded.rows,
        fingerprint: Some(loaded.fingerprint),
        changes: None,
        age: None,
        requests: 0,
        bytes: 0,
        started_at,
        finished_at: loaded.loaded_at,
        reason: Some(FOUND.to_owned()),
    }
}

/// What has to be changed in the ledger.
fn compare(
    units: &[UnitRecord],
    tables: &[TableName],
    loads: &[(TableName, UnitKey, Loaded)],
    now: Instant,
) -> Vec<Mend> {
    let tables: HashSet<&TableName> = tables.iter().collect();
    let known: HashMap<(&TableName, &UnitKey), &UnitRecord> =
        units.iter().map(|record| ((&record.table, &record.unit), record)).collect();
    let loads: BTreeMap<(&TableName, &UnitKey), &Loaded> = loads
        .iter()
        .filter(|(table, _, _)| tables.contains(table))
        .map(|(table, unit, loaded)| ((table, unit), loaded))
        .collect();
    let mut mends = Vec::new();
    for (&(table, unit), &loaded) in &loads {
        let record = known.get(&(table, unit)).copied();
        if let Some(fault) = differs(record, loaded) {
            mends.push(Mend { fault, new: record.is_none(), record: with(record, table, unit, loaded) });
        }
    }
    for record in units.iter().filter(|record| record.loaded.is_some()) {
        if !loads.contains_key(&(&record.table, &record.unit)) {
            mends.push(Mend { fault: Fault::Gone, new: false, record: without(record, now) });
        }
    }
    mends
}

/// Whether the warehouse's load is another one than the ledger's; inputs may be newer in the ledger.
fn differs(record: Option<&UnitRecord>, loaded: &Loaded) -> Option<Fault> {
    let Some(record) = record else { return Some(Fault::Found) };
    match &record.loaded {
        None => Some(Fault::Found),
        Some(ours) if ours.generation == loaded.generation && ours.fingerprint == loaded.fingerprint => None,
        Some(ours) if loaded.generation > ours.generation => Some(Fault::Found),
        Some(_) => Some(Fault::Other),
    }
}

/// The unit with what the warehouse has of it.
fn with(record: Option<&UnitRecord>, table: &TableName, unit: &UnitKey, loaded: &Loaded) -> UnitRecord {
    // A pull that failed or was held after this load still is the last word on the unit.
    let later = record.filter(|record| {
        record.last_pull > loaded.pull && matches!(record.state, UnitState::Failed | UnitState::Held | UnitState::Late)
    });
    UnitRecord {
        table: table.clone(),
        unit: unit.clone(),
        state: later.map_or(UnitState::Loaded, |record| record.state),
        loaded: Some(loaded.clone()),
        last_pull: record.map_or(loaded.pull, |record| record.last_pull.max(loaded.pull)),
        pulled_at: later.map_or(loaded.loaded_at, |record| record.pulled_at),
        unchanged_pulls: 0,
        reason: later.and_then(|record| record.reason.clone()),
        // Which state of the source these rows are of is not known.
        probe: None,
        held_stage: later.and_then(|record| record.held_stage.clone()),
        backfilled: record.is_some_and(|record| record.backfilled),
    }
}

/// The unit without any rows in the warehouse.
fn without(record: &UnitRecord, now: Instant) -> UnitRecord {
    let stays = matches!(record.state, UnitState::Failed | UnitState::Held | UnitState::Late);
    UnitRecord {
        state: if stays { record.state } else { UnitState::Missing },
        loaded: None,
        probe: None,
        unchanged_pulls: 0,
        reason: if stays {
            record.reason.clone()
        } else {
            Some(format!("no longer in the warehouse on {}", now.format("%Y-%m-%d")))
        },
        ..record.clone()
    }
}

fn sentences(mends: &[Mend]) -> Vec<String> {
    let mut groups: BTreeMap<(&TableName, Fault), Vec<&UnitKey>> = BTreeMap::new();
    for mend in mends {
        groups.entry((&mend.record.table, mend.fault)).or_default().push(&mend.record.unit);
    }
    groups.iter().map(|((table, fault), units)| fault.sentence(table, units)).collect()
}
