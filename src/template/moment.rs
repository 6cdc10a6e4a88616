//! Dates and instants inside templates: values that print as ISO 8601, compare, and know their zone.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use chrono::format::{Item, StrftimeItems};
use chrono::{Datelike, Days, Duration, Months, NaiveDate, NaiveDateTime, SecondsFormat, TimeZone, Timelike, Utc};
use minijinja::value::{DynObject, Object, ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};

use crate::time::{Calendar, Grain, Instant, Tz};

/// A calendar date; its days begin at midnight in `zone`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Day {
    pub date: NaiveDate,
    pub zone: Tz,
}

/// An instant; `zone` is the pipeline's, `shown` the one that somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub at: Instant,
    pub zone: Tz,
    pub shown: Option<Tz>,
}

/// A date or an instant.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    Day(Day),
    Moment(Moment),
}

impl When {
    /// Takes a value for a time: a date, an instant, or the ISO 8601 text of either.
    pub fn of(value: &Value, zone: Tz) -> Result<Self, Error> {
        if let Some(day) = value.downcast_object_ref::<Day>() {
            return Ok(Self::Day(*day));
        }
        if let Some(moment) = value.downcast_object_ref::<Moment>() {
            return Ok(Self::Moment(*moment));
        }
        if value.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        value
            .as_str()
            .and_then(|text| Self::parse(text.trim(), zone))
            .ok_or_else(|| invalid(format!("{} is neither a date nor an instant", shown(value))))
    }

    fn parse(text: &str, zone: Tz) -> Option<Self> {
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Some(Self::Day(Day { date, zone }));
        }
        if let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) {
            return Some(Self::Moment(Moment { at: at.with_timezone(&Utc), zone, shown: None }));
        }
        let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
            .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"))
            .ok()?;
        Some(Self::Moment(Moment { at: instant_of(local, zone), zone, shown: None }))
    }

    /// The calendar date, in the zone asked for or the pipeline's.
    pub fn date(self) -> Day {
        match self {
            Self::Day(day) => day,
            Self::Moment(moment) => Day { date: moment.local().date(), zone: moment.zone },
        }
    }

    /// The instant; a date's is its first.
    pub fn instant(self) -> Instant {
        match self {
            Self::Day(day) => Calendar::new(Grain::Day, day.zone).of_date(day.date).start,
            Self::Moment(moment) => moment.at,
        }
    }

    /// ISO 8601: in UTC unless another zone was asked for.
    pub fn iso(self) -> String {
        match self {
            Self::Day(day) => day.date.format("%Y-%m-%d").to_string(),
            Self::Moment(moment) => match moment.shown {
                None | Some(Tz::UTC) => moment.at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
                Some(tz) => moment.at.with_timezone(&tz).to_rfc3339_opts(SecondsFormat::AutoSi, false),
            },
        }
    }

    /// Formats with `%` directives, on the wall clock of the zone asked for or the pipeline's.
    pub fn strftime(self, format: &str) -> Result<String, Error> {
        let format = python_directives(format);
        let items: Vec<Item<'_>> =
            StrftimeItems::new(&format).parse().map_err(|_| invalid(format!("`{format}` is not a time format")))?;
        let mut text = String::new();
        let written = match self {
            Self::Day(day) => write!(text, "{}", day.date.format_with_items(items.iter())),
            Self::Moment(moment) => {
                let local = moment.at.with_timezone(&moment.shown.unwrap_or(moment.zone));
                write!(text, "{}", local.format_with_items(items.iter()))
            }
        };
        written.map_err(|_| invalid(format!("a date has no time of day for the format `{format}`")))?;
        Ok(text)
    }

    /// The time `count` units later; days and longer keep the wall clock's time.
    pub fn add(self, count: i64, unit: &str) -> Result<Self, Error> {
        let unit = unit.strip_suffix('s').unwrap_or(unit);
        match (self, unit) {
            (Self::Moment(moment), "hour" | "minute" | "second") => {
                let seconds = match unit {
                    "hour" => 3600,
                    "minute" => 60,
                    _ => 1,
                };
                let at = count
                    .checked_mul(seconds)
                    .and_then(Duration::try_seconds)
                    .and_then(|duration| moment.at.checked_add_signed(duration))
                    .ok_or_else(too_far)?;
                Ok(Self::Moment(Moment { at, ..moment }))
            }
            (Self::Day(_), "hour" | "minute" | "second") => {
                Err(invalid(format!("a date has no time of day to add {unit}s to")))
            }
            (Self::Day(day), _) => Ok(Self::Day(Day { date: later(day.date, count, unit)?, ..day })),
            (Self::Moment(moment), _) => {
                let zone = moment.shown.unwrap_or(moment.zone);
                let local = moment.local();
                let at = instant_of(later(local.date(), count, unit)?.and_time(local.time()), zone);
                Ok(Self::Moment(Moment { at, ..moment }))
            }
        }
    }

    /// As a value of a template.
    pub fn value(self) -> Value {
        match self {
            Self::Day(day) => Value::from_object(day),
            Self::Moment(moment) => Value::from_object(moment),
        }
    }

    fn field(self, name: &str) -> Option<Value> {
        let date = self.date().date;
        let time = || match self {
            Self::Moment(moment) => Some(moment.local().time()),
            Self::Day(_) => None,
        };
        Some(match name {
            "year" => Value::from(date.year()),
            "month" => Value::from(date.month()),
            "day" => Value::from(date.day()),
            "hour" => Value::from(time()?.hour()),
            "minute" => Value::from(time()?.minute()),
            "second" => Value::from(time()?.second()),
            _ => return None,
        })
    }

    fn method(self, name: &str, args: &[Value]) -> Result<Value, Error> {
        match (name, args) {
            ("strftime", [format]) => {
                let format = format.as_str().ok_or_else(|| invalid("strftime() takes a text".to_owned()))?;
                self.strftime(format).map(Value::from)
            }
            ("isoformat", []) => Ok(Value::from(self.iso())),
            ("date", []) => Ok(Self::Day(self.date()).value()),
            ("timestamp", []) => Ok(Value::from(self.instant().timestamp())),
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

impl Moment {
    /// The wall clock's time in the zone asked for, or the pipeline's.
    pub fn local(&self) -> NaiveDateTime {
        self.at.with_timezone(&self.shown.unwrap_or(self.zone)).naive_local()
    }
}

impl Object for Day {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        When::Day(**self).field(key.as_str()?)
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        When::Day(**self).method(name, args)
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        Some(self.date.cmp(&other.downcast_ref::<Self>()?.date))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&When::Day(**self).iso())
    }
}

impl Object for Moment {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        When::Moment(**self).field(key.as_str()?)
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        When::Moment(**self).method(name, args)
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        Some(self.at.cmp(&other.downcast_ref::<Self>()?.at))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&When::Moment(**self).iso())
    }
}

/// An error about a value.
pub(super) fn invalid(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// A value as an error names it: short, and quoted.
pub(super) fn shown(value: &Value) -> String {
    let text: String = value.to_string().chars().take(40).collect();
    format!("`{text}`")
}

/// The instant of a wall clock's time: of two the earlier; where it is skipped, the first after the gap.
fn instant_of(local: NaiveDateTime, zone: Tz) -> Instant {
    let mut candidate = local;
    // No gap is longer than a day.
    for _ in 0..=24 * 4 {
        if let Some(at) = zone.from_local_datetime(&candidate).earliest() {
            return at.with_timezone(&Utc);
        }
        candidate += Duration::minutes(15);
    }
    local.and_utc()
}

fn later(date: NaiveDate, count: i64, unit: &str) -> Result<NaiveDate, Error> {
    let months = |count: i64| {
        let step = Months::new(u32::try_from(count.unsigned_abs()).ok()?);
        if count < 0 { date.checked_sub_months(step) } else { date.checked_add_months(step) }
    };
    let days = |count: i64| {
        let step = Days::new(count.unsigned_abs());
        if count < 0 { date.checked_sub_days(step) } else { date.checked_add_days(step) }
    };
    match unit {
        "day" => days(count),
        "week" => count.checked_mul(7).and_then(days),
        "month" => months(count),
        "year" => count.checked_mul(12).and_then(months),
        _ => {
            return Err(invalid(format!(
                "`{unit}` is not a unit of time; there are years, months, weeks, days, hours, minutes and seconds"
            )));
        }
    }
    .ok_or_else(too_far)
}

fn too_far() -> Error {
    invalid("the date lies outside of the calendar".to_owned())
}

/// Python's `%f` has six digits.
fn python_directives(format: &str) -> String {
    let mut text = String::with_capacity(format.len() + 1);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        text.push(c);
        if c == '%' {
            match chars.next() {
                Some('f') => text.push_str("6f"),
                Some(other) => text.push(other),
                None => {}
            }
        }
    }
    text
}
