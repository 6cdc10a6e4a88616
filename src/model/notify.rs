//! Who is told of what: channels, deadlines, the report, and how long the history is kept that they tell of.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{NaiveDate, NaiveTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::TableName;
use crate::time::{Calendar, Grain, Instant, Tz, UnitKey};

/// All that a project says of telling people.
#[derive(Debug, Clone, Default)]
pub struct Telling {
    /// What the project is called in messages.
    pub project: String,
    /// Whom, in the order of the file.
    pub channels: Vec<Channel>,
    /// By when which days have to be there.
    pub deadlines: Vec<Deadline>,
    /// When the report of the day is told.
    pub report: Option<ReportRule>,
    /// Which changes of old units are told.
    pub drift: Option<DriftRule>,
    /// The address under which people reach the daemon, without a trailing slash; messages link to it.
    pub url: Option<String>,
}

/// What a channel can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// A unit, a step or a whole run failed.
    Failure,
    /// New rows wait for a decision.
    Held,
    /// A deadline has passed, and its day is not there.
    Deadline,
    /// The source does not have a unit yet.
    Late,
    /// A pull changed more of an old unit than is expected.
    Drift,
    /// What was told is well again.
    Recovery,
    /// The report of the day.
    Report,
}

impl Topic {
    /// The word as it is stored and printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Held => "held",
            Self::Deadline => "deadline",
            Self::Late => "late",
            Self::Drift => "drift",
            Self::Recovery => "recovery",
            Self::Report => "report",
        }
    }

    /// Reads the stored word.
    pub fn stored(name: &str) -> Option<Self> {
        [Self::Failure, Self::Held, Self::Deadline, Self::Late, Self::Drift, Self::Recovery, Self::Report]
            .into_iter()
            .find(|topic| topic.name() == name)
    }
}

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its name, unique in the project.
    pub name: String,
    /// The way there.
    pub to: To,
    /// What of.
    pub on: Vec<Topic>,
    /// Only of these pipelines; of all where there is none.
    pub pipelines: Vec<String>,
    /// The most messages in a period; what is more waits, and is told together.
    pub limit: Flood,
}

impl Channel {
    /// Whether it is told of a topic, and of a pipeline; what belongs to no pipeline is everybody's.
    pub fn hears(&self, topic: Topic, pipeline: Option<&str>) -> bool {
        let of_pipeline =
            |name: &str| self.pipelines.is_empty() || self.pipelines.iter().any(|pipeline| pipeline == name);
        self.on.contains(&topic) && pipeline.is_none_or(of_pipeline)
    }
}

/// The way to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// A POST of JSON to the address of a connection of type `http`.
    Webhook {
        /// The connection.
        connection: String,
    },
    /// An incoming webhook of Slack: the address of a connection of type `http`.
    Slack {
        /// The connection.
        connection: String,
    },
    /// Mail by a connection of type `smtp`.
    Email {
        /// The connection.
        connection: String,
        /// To whom.
        recipients: Vec<String>,
    },
    /// A program that gets the message on its standard input, as JSON.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// How long it may run.
        timeout: Duration,
    },
}

impl To {
    /// The word that stands behind `to =`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Email { .. } => "email",
            Self::Command { .. } => "command",
        }
    }

    /// The connection that leads there.
    pub fn connection(&self) -> Option<&str> {
        match self {
            Self::Webhook { connection } | Self::Slack { connection } | Self::Email { connection, .. } => {
                Some(connection)
            }
            Self::Command { .. } => None,
        }
    }
}

/// A number of messages in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood {
    /// How many.
    pub messages: NonZeroU32,
    /// In how long a time.
    pub per: Duration,
}

/// By when the day of a table has to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// The pipeline that loads it.
    pub pipeline: String,
    /// What it is called in messages: the table, the step, or the pipeline.
    pub subject: String,
    /// The tables that have to have the day.
    pub tables: Vec<TableName>,
    /// The time of the day.
    pub by: NaiveTime,
    /// The zone of that time, and of the date that it belongs to.
    pub tz: Tz,
    /// How many days before that date the day is: 1 for yesterday's.
    pub days_back: u32,
    /// The calendar of the pipeline's units; none for tables that have no window.
    pub calendar: Option<Calendar>,
    /// The first date that exists at the source.
    pub begin: Option<NaiveDate>,
}

impl Deadline {
    /// The deadline of a date, by the clock of its zone: a time that comes twice is the first of the two, one that is
    /// skipped is the first instant after the gap.
    pub fn at(&self, date: NaiveDate) -> Instant {
        Calendar::new(Grain::Day, self.tz).at_clock(date.and_time(self.by))
    }

    /// The units that have to be there at the deadline of a date: those of its day that have ended by then.
    ///
    /// Of a pipeline without a window it is everything, brought up to date since that day ended.
    pub fn wants(&self, date: NaiveDate) -> Wanted {
        let Some(day) = date.checked_sub_days(chrono::Days::new(u64::from(self.days_back))) else {
            return Wanted::Units(Vec::new());
        };
        if self.begin.is_some_and(|begin| day < begin) {
            return Wanted::Units(Vec::new());
        }
        let at = self.at(date);
        let Some(calendar) = self.calendar else {
            return Wanted::Since(Calendar::new(Grain::Day, self.tz).of_date(day).end.min(at));
        };
        let first = calendar.of_date(day);
        let units = if calendar.grain == Grain::Hour {
            let whole = Calendar::new(Grain::Day, calendar.tz).of_date(day);
            calendar.between(whole.start, whole.end)
        } else {
            vec![first]
        };
        Wanted::Units(units.into_iter().filter(|unit| unit.end <= at).map(|unit| unit.key()).collect())
    }
}

/// What has to be there at a deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// These units.
    Units(Vec<UnitKey>),
    /// The whole table, brought up to date since then.
    Since(Instant),
}

/// When the report of the day is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportRule {
    /// The time of the day.
    pub at: NaiveTime,
    /// Its zone.
    pub tz: Tz,
}

/// Which changes of old units are told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriftRule {
    /// More than this share of a unit's rows: 0.1 for `"10%"`.
    pub changed: f64,
    /// Of units that ended at least so many units before.
    pub age: u32,
}

/// How long the history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Runs with all that happened in them, bills, and incidents that are over.
    pub runs: Duration,
    /// The newest pulls of each unit, so many.
    pub pulls: u32,
    /// The logs of tasks.
    pub logs: Duration,
    /// Answers of APIs that are kept for conditional requests, since they were last used.
    pub answers: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self { runs: 400 * DAY, pulls: 100, logs: 30 * DAY, answers: 90 * DAY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(tz: Tz, by: &str, calendar: Option<Calendar>) -> Deadline {
        Deadline {
            pipeline: "days".into(),
            subject: "raw.days".into(),
            tables: Vec::new(),
            by: by.parse().expect("a time"),
            tz,
            days_back: 1,
            calendar,
            begin: None,
        }
    }

    fn date(text: &str) -> NaiveDate {
        text.parse().expect("a date")
    }

    #[test]
    fn a_deadline_follows_the_clock_on_odd_days() {
        let at = |by, day| deadline(Tz::Europe__Berlin, by, None).at(date(day)).to_rfc3339();
        assert_eq!(at("07:00:00", "2024-03-30"), "2024-03-30T06:00:00+00:00");
        assert_eq!(at("07:00:00", "2024-03-31"), "2024-03-31T05:00:00+00:00");
        // Skipped: the first instant after the gap. Twice: the first of the two.
        assert_eq!(at("02:30:00", "2024-03-31"), "2024-03-31T01:00:00+00:00");
        assert_eq!(at("02:30:00", "2024-10-27"), "2024-10-27T00:30:00+00:00");
    }

    #[test]
    fn a_deadline_wants_the_days_that_have_ended_by_then() {
        let of = |grain| deadline(Tz::Asia__Seoul, "07:00:00", Some(Calendar::new(grain, Tz::Asia__Seoul)));
        let day = UnitKey::stored("2024-05-03");
        assert_eq!(of(Grain::Day).wants(date("2024-05-04")), Wanted::Units(vec![day]));
        let hours = of(Grain::Hour).wants(date("2024-05-04"));
        assert!(matches!(&hours, Wanted::Units(units) if units.len() == 24), "{hours:?}");
        // On a Monday last week is wanted, on a Tuesday this one, which has not ended.
        assert_eq!(of(Grain::Week).wants(date("2024-05-06")), Wanted::Units(vec![UnitKey::stored("2024-04-29")]));
        assert_eq!(of(Grain::Week).wants(date("2024-05-07")), Wanted::Units(Vec::new()));
    }
}
