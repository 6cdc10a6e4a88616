//! Which units of a transform or a load are due: those that read what may change, or what has changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::due::{OF_BACKFILLS, asked_again, because, begun, first_of_days, is_of_backfills, records};
use super::timeline::Timeline;
use super::{Draft, Placed};
use crate::model::ledger::UnitRecord;
use crate::model::pipeline::Action;
use crate::model::plan::Due;
use crate::time::UnitKey;

/// The due units of a step that reads others, by their places in the timeline, in the order of time.
pub(super) fn reader(draft: &mut Draft<'_>, index: usize, action: &Action, timeline: &Timeline) -> Vec<(usize, Due)> {
    let step = draft.pipeline.steps[index].clone();
    let own = records(draft, &step, timeline);
    let mut due: BTreeMap<usize, Due> = dirty(draft, index, action, timeline, &own)
        .into_iter()
        .filter(|place| *place >= timeline.begin && (*place < timeline.window.end || own[*place].is_some()))
        .map(|place| (place, Due::Downstream))
        .collect();
    let own_units = own_units(draft, index, action, timeline, &own);
    due.extend(own_units.due);
    for (place, why) in own_units.left {
        if !due.contains_key(&place) {
            draft.leave(&step, timeline.keys[place].clone(), why);
        }
    }
    let mut kept = Vec::with_capacity(due.len());
    for (place, reason) in due {
        match begun(draft, timeline, place).and_then(|()| readable(draft, index, action, timeline, place)) {
            Ok(()) => kept.push((place, reason)),
            Err(why) => draft.leave(&step, timeline.keys[place].clone(), why),
        }
    }
    kept
}

/// The places of units that read something that may change in this run, or has changed since they were computed.
fn dirty(
    draft: &Draft<'_>,
    index: usize,
    action: &Action,
    timeline: &Timeline,
    own: &[Option<&UnitRecord>],
) -> BTreeSet<usize> {
    let mut dirty = BTreeSet::new();
    for (upstream, reach) in &draft.graph.upstream[index] {
        for placed in &draft.planned[*upstream] {
            if placed.units.is_empty() {
                dirty.extend(timeline.window.clone());
            }
            for unit in &placed.units {
                dirty.extend(timeline.downstream(*unit, *reach));
            }
        }
    }
    for read in action.reads() {
        for record in draft.snapshot.table(&read.table) {
            let Some(loaded) = &record.loaded else { continue };
            let Some(place) = timeline.place(&record.unit) else { continue };
            let stale = |place: &usize| own[*place].is_some_and(|own| own.pulled_at < loaded.loaded_at);
            dirty.extend(timeline.downstream(place, read.reach).filter(stale));
        }
    }
    dirty
}

/// Units by what is known of themselves: their places with a reason, or with why they are left alone.
#[derive(Default)]
struct OwnUnits {
    due: Vec<(usize, Due)>,
    left: Vec<(usize, String)>,
}

/// The units that are due by their own state, whatever happens upstream.
fn own_units(
    draft: &Draft<'_>,
    index: usize,
    action: &Action,
    timeline: &Timeline,
    own: &[Option<&UnitRecord>],
) -> OwnUnits {
    let mut units = OwnUnits::default();
    if draft.ask.range.is_some() {
        for place in timeline.window.clone() {
            match asked_again(draft, own[place]) {
                Ok(reason) => units.due.push((place, reason)),
                Err(why) => units.left.push((place, why)),
            }
        }
        return units;
    }
    let first = first_of_days(own);
    for (place, record) in own.iter().enumerate().take(timeline.window.start).skip(timeline.begin) {
        let reason = match record {
            None => first.is_some_and(|first| first < place).then_some(Due::Gap),
            Some(record) => because(record.state).filter(|reason| *reason != Due::Held),
        };
        if reason.is_some() && record.is_some_and(|record| is_of_backfills(record, place, first)) {
            units.left.push((place, OF_BACKFILLS.to_owned()));
            continue;
        }
        units.due.extend(reason.map(|reason| (place, reason)));
    }
    // What is read without an edge, or through an edge that was not selected, may have changed unseen.
    let unseen = !action.sources().is_empty()
        || action.reads().iter().any(|read| read.pipeline != draft.pipeline.name)
        || draft.graph.upstream[index].iter().any(|(upstream, _)| !draft.selected[*upstream]);
    let otherwise = if action.reads().is_empty() { Some(Due::Repull) } else { unseen.then_some(Due::Downstream) };
    for place in timeline.window.clone() {
        let reason = own[place].map_or(Some(Due::New), |record| because(record.state).or(otherwise));
        match reason.or(draft.ask.force.then_some(Due::Forced)) {
            Some(reason) => units.due.push((place, reason)),
            None => units.left.push((place, "nothing that it reads is due".to_owned())),
        }
    }
    units
}

/// Whether anything that the unit reads is there, or comes in this run.
fn readable(draft: &Draft<'_>, index: usize, action: &Action, timeline: &Timeline, place: usize) -> Result<(), String> {
    if action.reads().is_empty() || !action.sources().is_empty() {
        return Ok(());
    }
    let planned = draft.graph.upstream[index].iter().any(|(upstream, reach)| {
        let units = timeline.upstream(place, *reach);
        let tasks = &draft.planned[*upstream];
        is_whole(tasks) || !touching(tasks, &units).is_empty()
    });
    let loaded = || {
        action.reads().iter().any(|read| {
            let has =
                |key: &UnitKey| draft.snapshot.unit(&read.table, key).is_some_and(|record| record.loaded.is_some());
            has(&UnitKey::whole()) || timeline.upstream(place, read.reach).any(|place| has(&timeline.keys[place]))
        })
    };
    if planned || loaded() { Ok(()) } else { Err("there is nothing to read yet".to_owned()) }
}

/// Whether the tasks of a step have no units: then there is one of them, over the whole table.
fn is_whole(tasks: &[Placed]) -> bool {
    tasks.first().is_some_and(|placed| placed.units.is_empty())
}

/// Those tasks of a step that have any of these units: found by halves, since a backfill has thousands of them.
fn touching<'t>(tasks: &'t [Placed], units: &Range<usize>) -> &'t [Placed] {
    // The tasks of a step are in the order of time and do not overlap, and a task's units are contiguous.
    let from = tasks.partition_point(|placed| placed.units.last().is_some_and(|last| *last < units.start));
    let to = tasks.partition_point(|placed| placed.units.first().is_some_and(|first| *first < units.end));
    tasks.get(from..to).unwrap_or_default()
}

/// The places in the plan of the tasks that one over these units waits for.
pub(super) fn after(draft: &Draft<'_>, index: usize, places: &[usize]) -> Vec<usize> {
    let mut after = BTreeSet::new();
    for (upstream, reach) in &draft.graph.upstream[index] {
        let tasks = &draft.planned[*upstream];
        match (draft.timeline, places.first(), places.last()) {
            (Some(timeline), Some(first), Some(last)) => {
                let units = timeline.upstream(*first, *reach).start..timeline.upstream(*last, *reach).end;
                let which = if is_whole(tasks) { &tasks[..] } else { touching(tasks, &units) };
                after.extend(which.iter().map(|placed| placed.task));
            }
            _ => after.extend(tasks.iter().map(|placed| placed.task)),
        }
    }
    for before in &draft.graph.behind[index] {
        let tasks = &draft.planned[*before];
        // Tasks over a whole table, or over a whole run, stand before or behind every unit.
        let which = match (places.first(), places.last()) {
            (Some(first), Some(last)) if !is_whole(tasks) => touching(tasks, &(*first..last + 1)),
            _ => &tasks[..],
        };
        after.extend(which.iter().map(|placed| placed.task));
    }
    after.into_iter().collect()
}
