//! Answers of an API: how they are written, what is done with those that are no rows, and reports that are waited for.

use std::time::Duration;

use super::files::CsvFormat;
use super::hook::{CursorPlace, RequestTemplate};
use crate::time::{Instant, Tz};

/// How an answer is written; what is not said is seen from the answer itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerForm {
    /// How its rows are written.
    pub format: Option<Format>,
    /// Whether the answer is a compressed file.
    pub compression: Option<Compression>,
    /// The members of a zip file that have rows: a name with `*` and `?`.
    pub members: Option<String>,
    /// How CSV is written.
    pub csv: CsvFormat,
    /// How the characters of CSV are written.
    pub encoding: Encoding,
    /// The names of elements that are lists, however often they occur in a row of XML.
    pub lists: Vec<String>,
}

/// How the rows of an answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON document.
    Json,
    /// A JSON value on each line.
    Jsonl,
    /// Values between delimiters, a row on each line.
    Csv,
    /// An XML document.
    Xml,
}

impl Format {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Jsonl => "JSON Lines",
            Self::Csv => "CSV",
            Self::Xml => "XML",
        }
    }
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
    /// As members of a zip file.
    Zip,
}

/// How characters are written as bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// In UTF-8, with or without a byte order mark.
    #[default]
    Utf8,
    /// In Windows-1252, of which Latin-1 is a part.
    Windows1252,
}

/// What is done with answers of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The lowest and the highest status.
    pub statuses: (u16, u16),
    /// What the body has to contain, in lower case.
    pub containing: Option<String>,
    /// What is done.
    pub then: Then,
    /// The rule as it was written, for messages.
    pub written: String,
}

impl Rule {
    /// Whether the rule speaks of an answer; `body` gives the body's beginning in lower case.
    pub fn fits(&self, status: u16, body: impl FnOnce() -> String) -> bool {
        (self.statuses.0..=self.statuses.1).contains(&status)
            && self.containing.as_ref().is_none_or(|words| body().contains(words))
    }

    /// How much a rule says: of several that fit, the one that says more wins.
    pub fn weight(&self) -> (bool, bool) {
        (self.containing.is_some(), self.statuses.0 == self.statuses.1)
    }
}

/// What is done with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is a page without rows.
    Empty,
    /// It is left out, which is told; the pages behind it are asked for.
    Skip,
    /// It is no page, and none comes behind it.
    Stop,
    /// The pull fails.
    Fail,
    /// The request is sent again, as `retry` says.
    Retry,
    /// The token is renewed, and the request sent again.
    Renew,
    /// The whole connection waits for so long, then the request is sent again.
    Wait(Duration),
    /// The whole connection waits for a time of the day, then the request is sent again.
    WaitUntil {
        /// The hour.
        hour: u32,
        /// The minute.
        minute: u32,
        /// The zone of that time.
        zone: Tz,
    },
}

/// No rule waits for longer.
pub const LONGEST_WAIT: Duration = Duration::from_hours(25);

/// How long it is until the next time that a clock in this zone shows an hour and a minute.
pub fn until(now: Instant, hour: u32, minute: u32, zone: Tz) -> Duration {
    let today = now.with_timezone(&zone).date_naive();
    let shown = |date: chrono::NaiveDate| {
        // A time that a change of the clock leaves out is an hour later.
        (0..3).find_map(|later| {
            let local = date.and_hms_opt(hour, minute, 0)? + chrono::TimeDelta::hours(later);
            local.and_local_timezone(zone).earliest().map(|at| at.to_utc())
        })
    };
    let next = (0..3).find_map(|days| shown(today + chrono::Days::new(days)).filter(|at| *at > now));
    next.and_then(|at| (at - now).to_std().ok()).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)
}

/// A report that is created, waited for and downloaded: the step's own request creates it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportTemplate {
    /// What is kept of the answer that creates it, seen by later templates as `report.<name>`.
    pub values: Vec<(String, CursorPlace)>,
    /// The request by which it is asked whether it is there.
    pub poll: RequestTemplate,
    /// What the answer to that tells.
    pub rule: PollRule,
    /// What is kept of the answer that says that it is there.
    pub found: Vec<(String, CursorPlace)>,
    /// The request for its rows; without one, the poll's own request is sent once more for them.
    pub download: Option<RequestTemplate>,
}

/// What the answer to a poll tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollRule {
    /// JSONPath of the report's status; without one, `202 Accepted` means that it is not there yet.
    pub status: Option<String>,
    /// The statuses of a report that is there.
    pub done: Vec<String>,
    /// The statuses of a report that will never be there.
    pub failed: Vec<String>,
    /// JSONPath of what the server says of a failure.
    pub reason: Option<String>,
    /// The pause between two questions, where the server names none.
    pub every: Duration,
    /// How long a report is waited for.
    pub timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(now: &str, hour: u32, minute: u32, zone: &str) -> u64 {
        until(now.parse().expect("an instant"), hour, minute, zone.parse().expect("a zone")).as_secs()
    }

    #[test]
    fn midnight_is_the_next_one_of_the_zone() {
        assert_eq!(wait("2024-05-02T06:59:59Z", 0, 0, "America/Los_Angeles"), 1);
        assert_eq!(wait("2024-05-02T07:00:00Z", 0, 0, "America/Los_Angeles"), 86_400);
        assert_eq!(wait("2024-05-02T07:00:00Z", 9, 30, "Asia/Seoul"), 17 * 3600 + 1800);
    }

    #[test]
    fn a_time_that_the_clock_leaves_out_is_an_hour_later_and_a_long_day_is_waited_for() {
        // On that night, half past two does not exist in Berlin.
        assert_eq!(wait("2024-03-31T00:00:00Z", 2, 30, "Europe/Berlin"), 90 * 60);
        assert_eq!(wait("2024-11-03T07:00:00Z", 0, 0, "America/Los_Angeles"), 25 * 3600);
    }
}
