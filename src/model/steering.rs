//! How the runs of a pipeline go beside those of others: how urgent they are, what they share, when they are tried again.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::hook::RetryPolicy;

/// How the runs of a pipeline go beside those of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    /// Within a class of the queue, the higher number comes first.
    pub priority: i32,
    /// How many of its runs the queue lets be under way at once.
    pub max_runs: NonZeroU32,
    /// When a run that failed in a way that passes is tried again, and how often.
    pub retry: RetryPolicy,
    /// How long a run may take, its waits included.
    pub timeout: Option<Duration>,
    /// The pools that a task takes a slot of, where its step names none.
    pub pools: Vec<String>,
    /// What single steps say, by their names.
    pub steps: BTreeMap<String, StepSteering>,
}

/// What a single step says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepSteering {
    /// The pools that each of its tasks takes a slot of, in the place of the pipeline's.
    pub pools: Option<Vec<String>>,
    /// How long one of its tasks may take.
    pub timeout: Option<Duration>,
}

impl Default for Steering {
    fn default() -> Self {
        Self {
            priority: 0,
            max_runs: NonZeroU32::MIN,
            retry: RetryPolicy {
                max_attempts: 4,
                min_backoff: Duration::from_mins(1),
                max_backoff: Duration::from_hours(1),
                max_doublings: 16,
            },
            timeout: None,
            pools: Vec::new(),
            steps: BTreeMap::new(),
        }
    }
}

impl Steering {
    /// The pools that a task of this step takes a slot of.
    pub fn pools_of(&self, step: &str) -> &[String] {
        self.steps.get(step).and_then(|step| step.pools.as_deref()).unwrap_or(&self.pools)
    }

    /// How long a task of this step may take.
    pub fn timeout_of(&self, step: &str) -> Option<Duration> {
        self.steps.get(step)?.timeout
    }
}
