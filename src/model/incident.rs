//! What is wrong, and what is told of it: incidents by their cause, notices of them, and messages to channels.

use serde::{Deserialize, Serialize};

use super::notify::Topic;
use crate::time::Instant;

/// Something that is wrong with one thing, from when it was seen until it is well again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its number.
    pub id: i64,
    /// What it is about, by which it is known again: `failure:raw.ratings`.
    pub key: String,
    /// What kind of thing is wrong.
    pub topic: Topic,
    /// The pipeline.
    pub pipeline: Option<String>,
    /// The table, the step, or the pipeline.
    pub subject: String,
    /// Its units: those that are wrong now, and once it is over those that were last.
    pub units: Vec<String>,
    /// Why, redacted.
    pub reason: String,
    /// The causes that were told, each once.
    pub causes: Vec<String>,
    /// When what it follows from had happened: what is older changes nothing any more.
    pub evidence: Instant,
    /// When it was seen first.
    pub opened_at: Instant,
    /// When somebody was told, if anybody was.
    pub told_at: Option<Instant>,
    /// When it was seen to be over.
    pub closed_at: Option<Instant>,
    /// The channels that are told of it, and of its end.
    pub channels: Vec<String>,
}

/// One thing that is wrong now, before it is known whether it is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: [`Incident::key`].
    pub key: String,
    /// What kind of thing is wrong.
    pub topic: Topic,
    /// The pipeline.
    pub pipeline: Option<String>,
    /// The table, the step, or the pipeline.
    pub subject: String,
    /// Its units, in their order.
    pub units: Vec<String>,
    /// Why, redacted; the reason of the first cause where there are several.
    pub reason: String,
    /// Its causes: reasons without what differs from unit to unit.
    pub causes: Vec<String>,
    /// When what it follows from had happened.
    pub evidence: Instant,
}

/// What is told of one incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What is told: the incident's own topic, or its recovery.
    pub topic: Topic,
    /// The incident: [`Incident::key`].
    pub key: String,
    /// The pipeline.
    pub pipeline: Option<String>,
    /// The table, the step, or the pipeline.
    pub subject: String,
    /// Its units.
    pub units: Vec<String>,
    /// Since when.
    pub since: Instant,
    /// Why, redacted.
    pub reason: String,
    /// The command that helps.
    pub command: Option<String>,
    /// What it was, where it is over.
    pub was: Option<Topic>,
}

/// A message that waits for its channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its number.
    pub id: i64,
    /// The channel.
    pub channel: String,
    /// What it tells.
    pub content: Content,
    /// How often it was tried.
    pub attempts: u32,
    /// Since when it waits.
    pub queued_at: Instant,
}

/// What a message tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Content {
    /// Incidents, new ones and such as are over.
    Notices {
        /// Which.
        notices: Vec<Notice>,
    },
    /// The report of a day.
    Report {
        /// It, complete.
        report: Box<Report>,
    },
    /// That messages arrive.
    Test,
}

impl Eq for Content {}

/// What happened in a day, and how things stand.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// From when on.
    pub since: Instant,
    /// Until when.
    pub until: Instant,
    /// The zone of its times, by its IANA name.
    pub timezone: String,
    /// What ran, by pipeline.
    pub pipelines: Vec<PipelineReport>,
    /// What is wrong now.
    pub open: Vec<Incident>,
    /// The runs that took the longest, the longest first.
    pub slowest: Vec<SlowRun>,
    /// What was billed, as people read it; empty where nothing is billed.
    pub cost: String,
    /// What was saved by not doing again what had not changed; empty where nothing was.
    pub saved: String,
}

/// What ran of one pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineReport {
    /// The pipeline.
    pub pipeline: String,
    /// Its runs that ended.
    pub runs: u64,
    /// Of these, those that succeeded.
    pub succeeded: u64,
    /// Tasks that wrote new rows.
    pub loaded: u64,
    /// Tasks that found nothing changed.
    pub unchanged: u64,
    /// Tasks whose rows are held.
    pub held: u64,
    /// Tasks whose source was late.
    pub late: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// The rows of the units that were written.
    pub rows: u64,
    /// Of these the rows that came, went or changed in units that had rows before.
    pub drift: u64,
}

/// A run that took long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowRun {
    /// The run.
    pub run: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}
