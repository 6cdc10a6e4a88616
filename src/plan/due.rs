//! Which units of an extract are due, by the ledger: new, moving, failed, missing, or a gap.

use chrono::Duration;

use super::timeline::Timeline;
use super::{Draft, Reprocess};
use crate::model::ledger::{UnitRecord, UnitState};
use crate::model::pipeline::{Step, WindowRule};
use crate::model::plan::Due;

/// The due units of an extract, by their places in the timeline, in the order of time.
pub(super) fn extract(draft: &mut Draft<'_>, step: &Step, timeline: &Timeline) -> Vec<(usize, Due)> {
    let records = records(draft, step, timeline);
    if draft.ask.range.is_some() {
        return in_range(draft, step, timeline, &records);
    }
    let mut due = older(draft, step, timeline, &records);
    for place in timeline.window.clone() {
        match verdict_in_window(draft, timeline, place, records[place]) {
            Ok(reason) => due.push((place, reason)),
            Err(why) => draft.leave(step, timeline.keys[place].clone(), why),
        }
    }
    due
}

/// What the ledger knows of each unit of the timeline.
pub(super) fn records<'a>(draft: &Draft<'a>, step: &Step, timeline: &Timeline) -> Vec<Option<&'a UnitRecord>> {
    let mut records = vec![None; timeline.units.len()];
    for record in draft.snapshot.table(&step.into) {
        if let Some(place) = timeline.place(&record.unit) {
            records[place] = Some(record);
        }
    }
    records
}

/// The units of a backfill.
fn in_range(
    draft: &mut Draft<'_>,
    step: &Step,
    timeline: &Timeline,
    records: &[Option<&UnitRecord>],
) -> Vec<(usize, Due)> {
    let mut due = Vec::new();
    for place in timeline.window.clone() {
        match begun(draft, timeline, place).and_then(|()| asked_again(draft, records[place])) {
            Ok(reason) => due.push((place, reason)),
            Err(why) => draft.leave(step, timeline.keys[place].clone(), why),
        }
    }
    due
}

/// Whether a backfill does a unit again, and why it is due or left alone.
pub(super) fn asked_again(draft: &Draft<'_>, record: Option<&UnitRecord>) -> Result<Due, String> {
    let reprocess = draft.ask.range.map_or(Reprocess::All, |range| range.reprocess);
    let state = record.map(|record| record.state);
    let reason = state.map_or(Due::New, |state| because(state).unwrap_or(Due::Forced));
    match (reprocess, state) {
        _ if draft.ask.force => Ok(Due::Forced),
        (Reprocess::All, _) | (Reprocess::Missing, None) => Ok(reason),
        (_, Some(UnitState::Loaded)) => Err("it is loaded".to_owned()),
        (Reprocess::Missing, Some(_))
        | (Reprocess::Failed, Some(UnitState::Failed | UnitState::Held | UnitState::Late)) => Ok(reason),
        (Reprocess::Failed, _) => Err("it has not failed".to_owned()),
    }
}

/// The reason that lies in a unit's state; a loaded one has none.
pub(super) fn because(state: UnitState) -> Option<Due> {
    match state {
        UnitState::Loaded => None,
        UnitState::Failed => Some(Due::Failed),
        UnitState::Held => Some(Due::Held),
        UnitState::Late => Some(Due::Late),
        UnitState::Missing => Some(Due::Missing),
    }
}

/// Refuses a unit that lies in the future: it would be loaded empty.
pub(super) fn begun(draft: &Draft<'_>, timeline: &Timeline, place: usize) -> Result<(), String> {
    if timeline.units[place].start < draft.now { Ok(()) } else { Err("it has not begun yet".to_owned()) }
}

fn verdict_in_window(
    draft: &Draft<'_>,
    timeline: &Timeline,
    place: usize,
    record: Option<&UnitRecord>,
) -> Result<Due, String> {
    begun(draft, timeline, place)?;
    match record {
        _ if draft.ask.force => Ok(Due::Forced),
        None => Ok(Due::New),
        Some(record) => match because(record.state) {
            Some(reason) => Ok(reason),
            None => unchanged_for_long(&timeline.rule, record).map_or(Ok(Due::Repull), Err),
        },
    }
}

/// Why an ordinary run leaves a unit alone that failed in a backfill.
pub(super) const OF_BACKFILLS: &str = "only a backfill has asked for it, and only a backfill does it again";

/// The place of the first unit that an ordinary run has loaded: behind it, a unit that was never loaded is a gap.
///
/// What backfills alone have loaded begins no gap: they name their days themselves, and a run of a day must not load what lies
/// between those and its own.
pub(super) fn first_of_days(records: &[Option<&UnitRecord>]) -> Option<usize> {
    let is_of_a_day = |record: &UnitRecord| record.loaded.is_some() && !record.backfilled;
    records.iter().position(|record| record.is_some_and(is_of_a_day))
}

/// Whether a unit before the window is left to backfills: none but they have touched it, and no gap would be seen there.
pub(super) fn is_of_backfills(record: &UnitRecord, place: usize, first: Option<usize>) -> bool {
    record.backfilled && first.is_none_or(|first| place < first)
}

/// The units before the window: tiers that are due again, and gaps.
fn older(
    draft: &mut Draft<'_>,
    step: &Step,
    timeline: &Timeline,
    records: &[Option<&UnitRecord>],
) -> Vec<(usize, Due)> {
    let first_known = records.iter().position(Option::is_some).unwrap_or(timeline.window.start);
    let first = first_of_days(records);
    let mut due = Vec::new();
    let begin = first_known.max(timeline.begin);
    for (place, record) in records.iter().enumerate().take(timeline.window.start).skip(begin) {
        let verdict = match record {
            None if first.is_some_and(|first| first < place) => Ok(Due::Gap),
            None => continue,
            Some(record) => match record.state {
                UnitState::Failed | UnitState::Late | UnitState::Missing if is_of_backfills(record, place, first) => {
                    verdict_in_tier(draft, timeline, place, record).unwrap_or_else(|| Err(OF_BACKFILLS.to_owned()))
                }
                UnitState::Failed => Ok(Due::Failed),
                UnitState::Late => Ok(Due::Late),
                UnitState::Missing => Ok(Due::Missing),
                UnitState::Held => verdict_in_tier(draft, timeline, place, record)
                    .unwrap_or_else(|| Err("it is held and waits for a decision".to_owned())),
                UnitState::Loaded => match verdict_in_tier(draft, timeline, place, record) {
                    Some(verdict) => verdict,
                    None => continue,
                },
            },
        };
        match verdict {
            Ok(reason) => due.push((place, reason)),
            Err(why) => draft.leave(step, timeline.keys[place].clone(), why),
        }
    }
    due
}

/// Whether a unit of a later tier is pulled again; none when no tier reaches so far back.
fn verdict_in_tier(
    draft: &Draft<'_>,
    timeline: &Timeline,
    place: usize,
    record: &UnitRecord,
) -> Option<Result<Due, String>> {
    let rule = &timeline.rule;
    let age = timeline.window.end - place;
    let tier = rule.tiers.iter().skip(1).find(|tier| usize::try_from(tier.units.get()).unwrap_or(usize::MAX) >= age)?;
    if let Some(why) = settled(draft, timeline, place, record) {
        return Some(Err(why));
    }
    // A run that begins a little earlier than the last one did must not skip the unit until the next run.
    let every = Duration::from_std(tier.every.mul_f64(0.9)).unwrap_or(Duration::MAX);
    if draft.now.signed_duration_since(record.pulled_at) < every {
        let every = crate::time::display_duration(tier.every);
        return Some(Err(format!("it was pulled less than {every} ago")));
    }
    Some(Ok(because(record.state).unwrap_or(Due::Repull)))
}

/// Why a unit no longer moves, if it does not.
fn settled(draft: &Draft<'_>, timeline: &Timeline, place: usize, record: &UnitRecord) -> Option<String> {
    let rule = &timeline.rule;
    let age = draft.now.signed_duration_since(timeline.units[place].end);
    match rule.settle_after {
        Some(after) if Duration::from_std(after).is_ok_and(|after| age > after) => {
            Some(format!("it is settled: it ended more than {} ago", crate::time::display_duration(after)))
        }
        _ => unchanged_for_long(rule, record),
    }
}

fn unchanged_for_long(rule: &WindowRule, record: &UnitRecord) -> Option<String> {
    let pulls = rule.settle_pulls?.get();
    (record.unchanged_pulls >= pulls).then(|| format!("it is settled: {pulls} pulls in a row changed nothing"))
}
