//! Calendar units: the hours, days, weeks and months of one zone, also where its clocks are put forward or back.

use std::fmt;
use std::sync::Arc;

use chrono::{Datelike, Days, Duration, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Instant;
use crate::error::{Error, Result};

/// The length of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grain {
    /// An hour of the clock; it ends at its sixtieth minute or where the zone's offset changes.
    Hour,
    /// A calendar day: 23 or 25 hours long when the clocks change.
    Day,
    /// A week from Monday to Monday.
    Week,
    /// A calendar month.
    Month,
}

impl Grain {
    /// The word for several of them.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Hour => "hours",
            Self::Day => "days",
            Self::Week => "weeks",
            Self::Month => "months",
        }
    }

    /// The letter that stands behind a count of these units, as in `-6d..0d`.
    pub fn letter(self) -> char {
        match self {
            Self::Hour => 'h',
            Self::Day => 'd',
            Self::Week => 'w',
            Self::Month => 'm',
        }
    }
}

/// The name of a unit, unique in its table and in the order of time: `2018-02-01`, `2018-02-01T05:00Z`, or `all`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnitKey(Arc<str>);

impl UnitKey {
    /// The key of the only unit of a table that has no window.
    pub fn whole() -> Self {
        Self("all".into())
    }

    /// Whether this is the unit of a table that has no window.
    pub fn is_whole(&self) -> bool {
        &*self.0 == "all"
    }

    /// A key as it was stored.
    pub fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One grain of time in a zone: `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unit {
    /// The first instant that belongs to the unit.
    pub start: Instant,
    /// The first instant that no longer does.
    pub end: Instant,
    /// The calendar that the unit belongs to.
    pub calendar: Calendar,
}

impl Unit {
    /// The unit's name in the ledger.
    pub fn key(&self) -> UnitKey {
        match self.calendar.grain {
            Grain::Hour => UnitKey(self.start.format("%Y-%m-%dT%H:%MZ").to_string().into()),
            _ => UnitKey(self.date().format("%Y-%m-%d").to_string().into()),
        }
    }

    /// The unit's first calendar date in its zone.
    pub fn date(&self) -> NaiveDate {
        // A date whose midnight does not exist begins later on that same date.
        self.start.with_timezone(&self.calendar.tz).date_naive()
    }

    /// The start on the wall clock of the unit's zone.
    pub fn local_start(&self) -> NaiveDateTime {
        self.start.with_timezone(&self.calendar.tz).naive_local()
    }

    /// The length: 23 or 25 hours for a day on which the clocks change.
    pub fn length(&self) -> Duration {
        self.end - self.start
    }

    /// Whether the instant belongs to the unit.
    pub fn contains(&self, instant: Instant) -> bool {
        self.start <= instant && instant < self.end
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key().as_str())
    }
}

/// Divides time into units of one grain in one zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Calendar {
    /// The length of the units.
    pub grain: Grain,
    /// The zone whose clock and calendar they follow.
    pub tz: Tz,
}

impl Calendar {
    /// A calendar of `grain` in `tz`.
    pub fn new(grain: Grain, tz: Tz) -> Self {
        Self { grain, tz }
    }

    /// The unit that an instant belongs to.
    pub fn containing(self, instant: Instant) -> Unit {
        if self.grain == Grain::Hour {
            let start = self.hour_start(instant);
            return self.unit(start, self.hour_end(start));
        }
        let mut first = self.first_date(instant.with_timezone(&self.tz).date_naive());
        let mut unit = self.of_date(first);
        while unit.end <= instant {
            // Clocks put back across midnight show the old date once more, after the new one has begun.
            first = self.date_after(first);
            unit = self.of_date(first);
        }
        unit
    }

    /// The unit that begins on, or contains, a calendar date; for hours the first one of that date.
    pub fn of_date(self, date: NaiveDate) -> Unit {
        if self.grain == Grain::Hour {
            return self.containing(self.midnight(date));
        }
        let mut first = self.first_date(date);
        loop {
            let (start, end) = (self.midnight(first), self.midnight(self.date_after(first)));
            if start < end {
                return self.unit(start, end);
            }
            // A zone that crossed the date line has a date that never was; its unit is the next one.
            first = self.date_after(first);
        }
    }

    /// The unit before which the window of a run ends: that of its logical date, and for hours of today the one that is
    /// under way, since a day's hours do not wait for its end.
    pub fn logical(self, date: NaiveDate, now: Instant) -> Unit {
        let current = self.containing(now);
        if self.grain == Grain::Hour && current.date() == date { current } else { self.of_date(date) }
    }

    /// The unit that follows.
    pub fn next(self, unit: &Unit) -> Unit {
        self.containing(unit.end)
    }

    /// The unit before.
    pub fn previous(self, unit: &Unit) -> Unit {
        self.containing(unit.start - Duration::nanoseconds(1))
    }

    /// The unit `count` places later (earlier when negative).
    pub fn shift(self, unit: &Unit, count: i64) -> Unit {
        let mut shifted = *unit;
        for _ in 0..count.unsigned_abs() {
            shifted = if count > 0 { self.next(&shifted) } else { self.previous(&shifted) };
        }
        shifted
    }

    /// All units from the one that contains `from` up to, and without, the one that begins at or after `to`.
    pub fn between(self, from: Instant, to: Instant) -> Vec<Unit> {
        let mut units = Vec::new();
        let mut unit = self.containing(from);
        while unit.start < to {
            units.push(unit);
            unit = self.next(&unit);
        }
        units
    }

    /// Reads a unit's name, or any date or instant inside the unit: `2018-02-01`, `2018-02-01T05:00Z`.
    ///
    /// # Errors
    /// A text that is neither.
    pub fn parse(self, text: &str) -> Result<Unit> {
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Ok(self.of_date(date));
        }
        if let Ok(naive) = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%MZ") {
            return Ok(self.containing(naive.and_utc()));
        }
        chrono::DateTime::parse_from_rfc3339(text).map(|instant| self.containing(instant.with_timezone(&Utc))).map_err(
            |error| {
                Error::usage(format!("`{text}` is not a date or an instant"))
                    .because(error)
                    .hint("dates look like 2018-02-01, instants like 2018-02-01T05:00:00Z")
            },
        )
    }

    fn unit(self, start: Instant, end: Instant) -> Unit {
        Unit { start, end, calendar: self }
    }

    fn first_date(self, date: NaiveDate) -> NaiveDate {
        match self.grain {
            Grain::Hour | Grain::Day => date,
            Grain::Week => date - Days::new(u64::from(date.weekday().num_days_from_monday())),
            Grain::Month => date.with_day(1).unwrap_or(date),
        }
    }

    fn date_after(self, date: NaiveDate) -> NaiveDate {
        match self.grain {
            Grain::Hour | Grain::Day => date + Days::new(1),
            Grain::Week => date + Days::new(7),
            Grain::Month => date + Months::new(1),
        }
    }

    /// The first instant of a date: midnight, or where midnight is skipped the first instant after the gap,
    /// or where it comes twice the earlier one.
    fn midnight(self, date: NaiveDate) -> Instant {
        self.at_clock(date.and_time(NaiveTime::MIN))
    }

    /// The instant at which the clock on the wall shows this: where it comes twice the earlier one, where it is skipped the
    /// first instant after the gap.
    pub fn at_clock(self, local: NaiveDateTime) -> Instant {
        match self.tz.from_local_datetime(&local) {
            chrono::LocalResult::Single(instant) | chrono::LocalResult::Ambiguous(instant, _) => {
                instant.with_timezone(&Utc)
            }
            chrono::LocalResult::None => {
                // No zone is more than 15 hours from UTC, and no gap is longer than a day.
                let before = local.and_utc() - Duration::hours(48);
                let after = local.and_utc() + Duration::hours(48);
                first_instant_where(before, after, |instant| self.local(instant) >= local)
            }
        }
    }

    fn hour_start(self, instant: Instant) -> Instant {
        let local = self.local(instant);
        let into = Duration::seconds(i64::from(local.minute() * 60 + local.second()))
            + Duration::nanoseconds(i64::from(local.nanosecond()));
        let candidate = instant - into;
        if self.offset(candidate) == self.offset(instant) {
            return candidate;
        }
        let offset = self.offset(instant);
        first_instant_where(candidate, instant, |at| self.offset(at) == offset)
    }

    fn hour_end(self, start: Instant) -> Instant {
        let local = self.local(start);
        let candidate = start + Duration::seconds(3600 - i64::from(local.minute() * 60 + local.second()));
        let offset = self.offset(start);
        if self.offset(candidate - Duration::seconds(1)) == offset {
            return candidate;
        }
        first_instant_where(start, candidate, |at| self.offset(at) != offset)
    }

    fn local(self, instant: Instant) -> NaiveDateTime {
        instant.with_timezone(&self.tz).naive_local()
    }

    fn offset(self, instant: Instant) -> i32 {
        instant.with_timezone(&self.tz).offset().fix().local_minus_utc()
    }
}

/// The first whole second in `(from, to]` at which `reached` holds, where it holds from then on.
fn first_instant_where(from: Instant, to: Instant, reached: impl Fn(Instant) -> bool) -> Instant {
    let (mut low, mut high) = (from.timestamp(), to.timestamp());
    while low < high {
        let middle = low + (high - low) / 2;
        let at = Utc.timestamp_opt(middle, 0).single().unwrap_or(to);
        if reached(at) { high = middle } else { low = middle + 1 }
    }
    Utc.timestamp_opt(low, 0).single().unwrap_or(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(tz: Tz, text: &str) -> Unit {
        Calendar::new(Grain::Day, tz).parse(text).expect("a date")
    }

    #[test]
    fn a_day_is_as_long_as_the_zone_makes_it() {
        assert_eq!(day(Tz::Europe__Berlin, "2024-03-31").length(), Duration::hours(23));
        assert_eq!(day(Tz::Europe__Berlin, "2024-10-27").length(), Duration::hours(25));
        assert_eq!(day(Tz::Asia__Seoul, "2024-10-27").length(), Duration::hours(24));
        assert_eq!(day(Tz::Australia__Lord_Howe, "2024-10-06").length(), Duration::minutes(23 * 60 + 30));
    }

    #[test]
    fn a_day_without_midnight_begins_where_the_clock_goes_on() {
        // Brazil put its clocks forward at midnight: 2018-11-04 began at 01:00.
        let unit = day(Tz::America__Sao_Paulo, "2018-11-04");
        assert_eq!(unit.local_start().to_string(), "2018-11-04 01:00:00");
        assert_eq!(unit.length(), Duration::hours(23));
    }

    #[test]
    fn the_day_that_samoa_skipped_is_no_unit() {
        let before = day(Tz::Pacific__Apia, "2011-12-29");
        let after = before.calendar.next(&before);
        assert_eq!(after.key().as_str(), "2011-12-31");
        assert_eq!(before.end, after.start);
    }
}
