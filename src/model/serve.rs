//! How the daemon works: how many runs at once, how long it answers for them, how it ends.

use std::time::Duration;

/// The settings of `[serve]` in `haul.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeSettings {
    /// How many runs one process has under way at once; those that only wait are not counted.
    pub workers: usize,
    /// How long a process that says nothing is believed to be alive: after that its runs belong to whoever is.
    pub lease: Duration,
    /// How long runs may go on when the process is asked to end.
    pub drain_timeout: Duration,
    /// How often the project's files and what others have written into the state store are looked at.
    pub poll: Duration,
    /// The address under which people reach it, without a trailing slash; messages link to it.
    pub url: Option<String>,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            workers: 4,
            lease: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            url: None,
        }
    }
}
