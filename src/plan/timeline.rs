//! The timeline: all units that a plan may speak of, in order, so that reach is arithmetic on places.

use std::collections::HashMap;
use std::ops::Range;

use super::{Ask, too_many};
use crate::error::{Error, Kind, Result};
use crate::model::ledger::Snapshot;
use crate::model::name::TableName;
use crate::model::pipeline::{Pipeline, WindowRule};
use crate::time::{Calendar, Grain, Instant, Reach, Unit, UnitKey, Window};

/// More units than this are taken for a mistake.
const MAX_UNITS: i64 = 1_000_000;

/// All units from the first to the last that the ledger or the request knows of.
#[derive(Debug)]
pub(super) struct Timeline {
    /// The units in the order of time, gapless.
    pub units: Vec<Unit>,
    /// Their keys.
    pub keys: Vec<UnitKey>,
    /// The places of the run's units.
    pub window: Range<usize>,
    /// The place of the first unit that exists at the source.
    pub begin: usize,
    /// The rule that the window is made by.
    pub rule: WindowRule,
    places: HashMap<UnitKey, usize>,
}

impl Timeline {
    /// The timeline of a run; none for a pipeline without a window.
    pub fn of(pipeline: &Pipeline, snapshot: &Snapshot, ask: &Ask, now: Instant) -> Result<Option<Self>> {
        let (Some(rule), Some(calendar)) = (&pipeline.window, pipeline.calendar()) else {
            return match ask.range {
                None => Ok(None),
                Some(_) => {
                    Err(Error::usage(format!("`{}` has no [window]: there is nothing to backfill", pipeline.name))
                        .hint("every run of it covers all there is; use `haul run`"))
                }
            };
        };
        let begin = rule.begin.map(|date| calendar.of_date(date).start);
        let asked = asked(calendar, rule, ask, now);
        let window = asked.start.max(begin.unwrap_or(asked.start))..asked.end;
        if window.start >= window.end {
            return Err(before_begin(pipeline, rule));
        }
        let (first, last) = bounds(pipeline, snapshot, calendar, rule, &window);
        if (last - first).num_seconds() / seconds(rule.grain) > MAX_UNITS {
            return Err(too_many());
        }
        let units = calendar.between(first, last);
        let keys: Vec<UnitKey> = units.iter().map(Unit::key).collect();
        let at = |instant: Instant| units.partition_point(|unit| unit.start < instant);
        Ok(Some(Self {
            window: at(window.start)..at(window.end),
            begin: begin.map_or(0, at),
            places: keys.iter().cloned().enumerate().map(|(place, key)| (key, place)).collect(),
            rule: rule.clone(),
            units,
            keys,
        }))
    }

    /// The place of a unit by its key.
    pub fn place(&self, key: &UnitKey) -> Option<usize> {
        self.places.get(key).copied()
    }

    /// The places of the units that read the one at `place`; those off the timeline are left out.
    pub fn downstream(&self, place: usize, reach: Reach) -> Range<usize> {
        self.clip(place, -i64::from(reach.to), -i64::from(reach.from))
    }

    /// The places of the units that the one at `place` reads; those off the timeline are left out.
    pub fn upstream(&self, place: usize, reach: Reach) -> Range<usize> {
        self.clip(place, i64::from(reach.from), i64::from(reach.to))
    }

    /// The run's window.
    pub fn into_window(self) -> Result<Window> {
        let units = &self.units[self.window];
        match (units.first(), units.last()) {
            (Some(first), Some(last)) => Window::spanning(first.calendar, first.start, last.end),
            _ => Err(Error::internal("a plan's window holds no unit")),
        }
    }

    fn clip(&self, place: usize, from: i64, to: i64) -> Range<usize> {
        let at = |offset: i64| {
            let place = i64::try_from(place).unwrap_or(i64::MAX).saturating_add(offset);
            usize::try_from(place.max(0)).unwrap_or(usize::MAX).min(self.units.len())
        };
        at(from)..at(to.saturating_add(1))
    }
}

/// The instants that the run is asked to cover.
fn asked(calendar: Calendar, rule: &WindowRule, ask: &Ask, now: Instant) -> Range<Instant> {
    if let Some(range) = ask.range {
        let midnight = |date| Calendar::new(Grain::Day, calendar.tz).of_date(date).start;
        return calendar.of_date(range.from).start..midnight(range.to);
    }
    if let Some(window) = &ask.window {
        return window.clone();
    }
    let logical = calendar.logical(ask.logical_date, now);
    back(calendar, logical, rule.lookback()).start..logical.start
}

/// The unit `count` places earlier.
fn back(calendar: Calendar, from: Unit, count: u32) -> Unit {
    (0..count).fold(from, |unit, _| calendar.previous(&unit))
}

/// The first and the last instant that anything in the ledger, the tiers or the window needs.
fn bounds(
    pipeline: &Pipeline,
    snapshot: &Snapshot,
    calendar: Calendar,
    rule: &WindowRule,
    window: &Range<Instant>,
) -> (Instant, Instant) {
    let reach = rule.tiers.iter().map(|tier| tier.units.get()).max().unwrap_or_default();
    let mut first = back(calendar, calendar.containing(window.end), reach).start.min(window.start);
    let mut last = window.end;
    for table in tables(pipeline) {
        let mut keys = snapshot.table(table).map(|record| &record.unit).filter(|key| !key.is_whole());
        let oldest = keys.next();
        let newest = keys.last().or(oldest);
        let unit = |key: Option<&UnitKey>| key.and_then(|key| calendar.parse(key.as_str()).ok());
        first = unit(oldest).map_or(first, |unit| first.min(unit.start));
        last = unit(newest).map_or(last, |unit| last.max(unit.end));
    }
    (first, last)
}

/// The tables that the pipeline writes or reads.
fn tables(pipeline: &Pipeline) -> impl Iterator<Item = &TableName> {
    pipeline
        .steps
        .iter()
        .flat_map(|step| std::iter::once(&step.into).chain(step.action.reads().iter().map(|read| &read.table)))
}

fn seconds(grain: Grain) -> i64 {
    match grain {
        Grain::Hour => 3_600,
        Grain::Day => 86_400,
        Grain::Week => 7 * 86_400,
        Grain::Month => 28 * 86_400,
    }
}

fn before_begin(pipeline: &Pipeline, rule: &WindowRule) -> Error {
    let begin = rule.begin.map(|date| date.to_string()).unwrap_or_default();
    let what = format!("`{}` begins with {begin}, and the run lies wholly before it", pipeline.name);
    Error::new(Kind::NothingDue, what).hint("the window of a run for a date ends with the unit before that date")
}
