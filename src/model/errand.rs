//! Steps that write no table: waits for something outside, and commands.

use std::time::Duration;

use chrono::NaiveTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hook::RequestTemplate;
use super::name::{TableName, Text};
use super::pipeline::{Extract, Per, Read};
use super::source::ProcessSource;

/// A step that waits until something is so.
#[derive(Debug, Clone)]
pub struct Wait {
    /// What it waits for.
    pub condition: Condition,
    /// Whether it waits once for a run or once for each unit of its window.
    pub per: Per,
    /// The pause between two looks, at first.
    pub poll: Duration,
    /// The pause between two looks, at last: it doubles until then.
    pub max_poll: Duration,
    /// When it gives up.
    pub until: Until,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// How long what was seen has to stay as it was seen.
    pub stable_for: Option<Duration>,
}

/// What a step waits for.
#[derive(Debug, Clone)]
pub enum Condition {
    /// An answer of an API.
    Answer(Box<AnswerCondition>),
    /// A SELECT whose first value is true, or a number other than zero, or a text that is not empty.
    Query {
        /// The connection of a warehouse; the pipeline's own when not given.
        connection: Option<String>,
        /// The SELECT.
        sql: Text,
    },
    /// A file that matches a pattern.
    Files {
        /// The connection; the project's folder when not given.
        connection: Option<String>,
        /// The pattern.
        pattern: Text,
    },
    /// A table of a database that exists and is not empty.
    Table(Box<Extract>),
    /// The same days of another pipeline, loaded.
    Pipeline(String),
}

/// What an answer of an API has to be.
#[derive(Debug, Clone)]
pub struct AnswerCondition {
    /// The connection.
    pub connection: String,
    /// The request.
    pub request: RequestTemplate,
    /// The statuses that are meant; any from 200 to 299 when none is given.
    pub status: Vec<u16>,
    /// JSONPath of what has to be in the answer.
    pub path: Option<String>,
    /// The values that are meant; any but null and false when none is given.
    pub is: Vec<serde_json::Value>,
}

/// When a wait gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After so long.
    Timeout(Duration),
    /// At this time of the run's logical date, in the pipeline's zone; where that has passed, after the first look.
    Deadline(NaiveTime),
}

/// What happens when a wait gives up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// It fails, and what comes after it is skipped.
    #[default]
    Fail,
    /// It is late, and what comes after it is skipped until the next run.
    Skip,
    /// What comes after it begins all the same.
    GoOn,
}

/// A step that runs a program for its effect.
#[derive(Debug, Clone)]
pub struct Command {
    /// The connection whose fields the program gets; empty for none.
    pub connection: String,
    /// The program.
    pub program: ProcessSource,
    /// Whether it runs once for each unit or once for all that are due.
    pub per: Per,
    /// How often it is tried again after a failure.
    pub retries: u32,
    /// The pause before the first of these; each further one is twice as long.
    pub retry_pause: Duration,
    /// The steps behind which it runs: a unit of which none has changed is not done again.
    pub reads: Vec<Read>,
}

/// The name by which the ledger knows a step that writes no table. No table can have it.
pub fn ledger_name(word: &str, pipeline: &str, step: &str) -> TableName {
    TableName { schema: format!("{word}:{pipeline}"), name: step.to_owned() }
}
