//! Cron expressions of five fields: which times of day they name, on which dates.

use chrono::{Datelike, Days, NaiveDate, NaiveTime};

use crate::error::{Error, Result};

/// A cron expression, taken apart. It speaks of dates and of times on the clock, never of instants: a zone makes these.
#[derive(Debug, Clone)]
pub struct Cron {
    parsed: croner::Cron,
    times: Vec<NaiveTime>,
    hourly: bool,
}

impl Cron {
    /// Reads minute, hour, day of month, month and day of week, or a word such as `@daily`.
    ///
    /// # Errors
    /// Another form.
    pub fn parse(text: &str) -> Result<Self> {
        let parser = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Disallowed).build();
        let parsed =
            parser.parse(text).map_err(|error| Error::config(format!("`{text}` is not a cron expression: {error}")))?;
        let set = |matches: Result<bool, croner::errors::CronError>| matches.unwrap_or_default();
        let hours: Vec<u32> = (0..24).filter(|hour| set(parsed.pattern.hour_match(*hour))).collect();
        let minutes: Vec<u32> = (0..60).filter(|minute| set(parsed.pattern.minute_match(*minute))).collect();
        let times = hours.iter().flat_map(|hour| minutes.iter().filter_map(|m| NaiveTime::from_hms_opt(*hour, *m, 0)));
        Ok(Self { times: times.collect(), hourly: hours.len() == 24, parsed })
    }

    /// The times of a date, in their order; none on a date that the expression does not name.
    pub fn on(&self, date: NaiveDate) -> &[NaiveTime] {
        if self.names(date) { &self.times } else { &[] }
    }

    /// Whether it names all 24 hours: then it means the hours that pass, not times of the day.
    pub fn is_hourly(&self) -> bool {
        self.hourly
    }

    /// Whether there is any date that it names; 31 February is none.
    pub fn ever(&self) -> bool {
        // Eight years have every date of the calendar; the 29th of February falls on each day of the week within 40.
        let first = NaiveDate::from_ymd_opt(2001, 1, 1).unwrap_or_default();
        (0..40 * 366).any(|day| self.names(first + Days::new(day)))
    }

    fn names(&self, date: NaiveDate) -> bool {
        use croner::Weekday;
        let weekday = match date.weekday() {
            chrono::Weekday::Mon => Weekday::Monday,
            chrono::Weekday::Tue => Weekday::Tuesday,
            chrono::Weekday::Wed => Weekday::Wednesday,
            chrono::Weekday::Thu => Weekday::Thursday,
            chrono::Weekday::Fri => Weekday::Friday,
            chrono::Weekday::Sat => Weekday::Saturday,
            chrono::Weekday::Sun => Weekday::Sunday,
        };
        let pattern = &self.parsed.pattern;
        pattern.month_match(date.month()).unwrap_or_default()
            && pattern.day_match(date.year(), date.month(), date.day(), weekday).unwrap_or_default()
    }
}
