//! When a pipeline runs by itself, and what becomes of the times at which it could not.

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::{Instant, Tz};

/// When a pipeline runs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What its times are made by.
    pub when: When,
    /// The zone of the cron expressions; the pipeline's own by default.
    pub timezone: Tz,
    /// What happens to times that the clocks leave out; by default what the expression is for.
    pub gap: Option<Gap>,
    /// What happens to times that come twice; by default what the expression is for.
    pub fold: Option<Fold>,
    /// What happens to occurrences that passed while nothing ran.
    pub missed: Missed,
    /// How many of them are made up at the most, the latest ones.
    pub missed_limit: Option<NonZeroU32>,
    /// What happens when the run before is still under way.
    pub overlap: Overlap,
    /// Whether it stands still: its occurrences are recorded, and not run.
    pub paused: bool,
}

/// What the times of a schedule are made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// By cron expressions of five fields; a time that several of them name is one occurrence.
    Cron(Vec<String>),
    /// By elapsed time, whatever the clocks on the wall say.
    Every {
        /// The time between two occurrences: whole seconds, at least one.
        every: Duration,
        /// An occurrence that the others are counted from, forward and back.
        anchor: Instant,
    },
    /// By another pipeline: a day of its own follows each day that the other one has done.
    After(String),
}

/// What happens to times that the clocks leave out when they are put forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// One run at the first instant after the gap, however many times of the expression lie in it.
    RunAfter,
    /// None.
    Skip,
}

/// What happens to times that come twice when the clocks are put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// One run, at the first of the two.
    First,
    /// A run at both.
    Both,
}

/// What happens to occurrences of a schedule that passed while nothing ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// One run over the longer window.
    #[default]
    Widen,
    /// One run each.
    Each,
    /// The last one only.
    Last,
    /// None.
    Skip,
}

/// What happens to an occurrence whose time comes while the run before is still under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It waits for the end of that run; what waits together becomes runs as `missed` says.
    #[default]
    Queue,
    /// It is left out.
    Skip,
    /// It runs, and the run before is cancelled.
    CancelOther,
}
