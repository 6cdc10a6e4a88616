//! Runs as traces of OpenTelemetry, for whoever collects them; only in a program that was built with the feature `otel`.
//!
//! A run is a trace. Below its root lies a span of every attempt of every task, and below these one of what was pulled and one
//! of each step of the commit. Spans wait in a queue of bounded length and are sent in batches: a collector that is slow or gone
//! costs spans, which are counted, and never a run any time.

use std::sync::Arc;

use crate::time::Instant;

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod collector;
#[cfg(feature = "otel")]
mod queue;
#[cfg(feature = "otel")]
mod run;
#[cfg(feature = "otel")]
mod span;

#[cfg(not(feature = "otel"))]
pub use absent::Traces;
#[cfg(feature = "otel")]
pub use queue::Traces;

/// Where it is told that spans are lost; one sentence, redacted.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What a run is for, where the run itself does not know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The job that it is the run of.
    pub job: Option<i64>,
    /// How often the job was begun, this time included.
    pub attempt: Option<u32>,
    /// The occurrence of a schedule.
    pub scheduled_for: Option<Instant>,
    /// The backfill that it is a piece of.
    pub backfill: Option<String>,
}

/// What became of spans so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// They arrived.
    pub sent: u64,
    /// They were dropped: the queue was full, or nobody took them.
    pub dropped: u64,
}
