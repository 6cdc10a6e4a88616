//! The odd days of a year: where the clocks of a schedule's zone are moved, and what that does to its runs.

use chrono::{Datelike, Duration, NaiveDate, NaiveDateTime, TimeZone, Utc};
use serde::Serialize;

use super::moves::{Piece, ahead};
use super::{Occurrence, Timetable};
use crate::time::{Instant, Tz};

/// A day on which the clocks of a schedule's zone are moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OddDay {
    /// The date, before the clocks are moved.
    pub date: NaiveDate,
    /// The instant.
    pub at: Instant,
    /// What the clocks would have said.
    pub from: NaiveDateTime,
    /// What they say instead.
    pub to: NaiveDateTime,
    /// The occurrences that this concerns: moved, left out, or doubled.
    pub occurrences: Vec<Occurrence>,
    /// The last occurrence before it that runs as ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Occurrence>,
    /// The first occurrence after it that runs as ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Occurrence>,
}

impl OddDay {
    /// How far the clocks are moved: forward where positive.
    pub fn moved(&self) -> Duration {
        self.to - self.from
    }
}

/// The days of a year on which the clocks of the schedule's zone are moved.
pub fn odd_days(timetable: &Timetable, year: i32) -> Vec<OddDay> {
    let zone = timetable.zone;
    let (Some(start), Some(end)) = (new_year(zone, year), new_year(zone, year + 1)) else { return Vec::new() };
    let mut days = Vec::new();
    let mut piece = Piece::from(zone, start - Duration::seconds(1), end);
    while piece.end < end {
        let next = Piece::from(zone, piece.end, end);
        if next.ahead != piece.ahead {
            days.push(odd_day(timetable, &piece, &next));
        }
        piece = next;
    }
    days
}

fn odd_day(timetable: &Timetable, before: &Piece, after: &Piece) -> OddDay {
    let (at, from, to) = (after.start, before.local_end(), after.local_start());
    // What comes twice begins so long before the clocks are put back, and ends so long after.
    let length = (to - from).abs();
    let near = timetable.occurrences(at - length - Duration::seconds(1), at + length);
    let occurrences: Vec<Occurrence> = near.filter(|occurrence| occurrence.odd.is_some()).collect();
    let first = occurrences.first().map_or(at, |one| one.at) - Duration::seconds(1);
    let last = occurrences.last().map_or(at, |one| one.at);
    OddDay {
        date: (from - Duration::seconds(1)).date(),
        at,
        from,
        to,
        before: timetable.previous(first),
        after: timetable.next(last),
        occurrences,
    }
}

/// The first instant of a year in a zone.
fn new_year(zone: Tz, year: i32) -> Option<Instant> {
    let local = NaiveDate::from_ymd_opt(year, 1, 1).filter(|date| (1..=9998).contains(&date.year()))?;
    let midnight = local.and_hms_opt(0, 0, 0)?;
    // The clocks of the zone are nowhere a day apart from where they are a day before.
    Some(Utc.from_utc_datetime(&midnight) - ahead(zone, Utc.from_utc_datetime(&midnight)))
}
