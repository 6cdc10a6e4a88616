//! The clock: the machine's, or one that stands still for tests and demonstrations.

use super::Instant;

/// Tells the time; handed down from the command line so that a run can be repeated at another time.
#[derive(Debug, Clone, Copy, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// A clock that always says the same.
    Fixed(Instant),
}

impl Clock {
    /// The current instant.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn now(self) -> Instant {
        match self {
            Self::System => chrono::Utc::now(),
            Self::Fixed(instant) => instant,
        }
    }
}
