//! A range of dates in pieces: each of them a job of its own, none of them with a part of a unit.

use chrono::{Days, NaiveDate};

use super::Range;
use crate::model::pipeline::Pipeline;
use crate::time::{Calendar, Grain, Instant};

/// The pieces of a range, each of `days` dates or somewhat more, so that each unit is in one of them; the newest first, or the
/// oldest.
pub fn pieces(pipeline: &Pipeline, range: Range, days: u32, newest_first: bool) -> Vec<Range> {
    let mut pieces = Vec::new();
    let mut from = range.from;
    while from < range.to {
        let next = from.checked_add_days(Days::new(u64::from(days.max(1)))).unwrap_or(range.to);
        let to = whole(pipeline, next).min(range.to);
        pieces.push(Range { from, to, ..range });
        from = to;
    }
    if newest_first {
        pieces.reverse();
    }
    pieces
}

/// The first date from this one on with which a unit begins.
fn whole(pipeline: &Pipeline, date: NaiveDate) -> NaiveDate {
    let Some(calendar) = pipeline.calendar() else { return date };
    let unit = calendar.of_date(date);
    if unit.date() == date { date } else { calendar.next(&unit).date() }
}

/// The instants at which the units of a range begin.
pub fn instants(pipeline: &Pipeline, range: Range) -> std::ops::Range<Instant> {
    let calendar = pipeline.calendar().unwrap_or(Calendar::new(Grain::Day, pipeline.timezone));
    calendar.of_date(range.from).start..Calendar::new(Grain::Day, calendar.tz).of_date(range.to).start
}
