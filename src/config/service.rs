//! What a supervisor of services says to the processes that it starts, in their environment.

use std::path::PathBuf;
use std::time::Duration;

/// What the supervisor of this process has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// The socket at which it listens for states, by `NOTIFY_SOCKET`.
    pub socket: Option<PathBuf>,
    /// How often it wants to hear that the process is alive, by `WATCHDOG_USEC`.
    pub watchdog: Option<Duration>,
}

/// Reads what the supervisor of this process has said; nothing where none started it.
pub fn service() -> Service {
    let text = |name: &str| std::env::var_os(name).filter(|text| !text.is_empty());
    let number = |name: &str| text(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
    // A child of the process that is meant inherits the variables.
    let meant = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id()));
    Service {
        socket: text("NOTIFY_SOCKET").map(PathBuf::from),
        watchdog: number("WATCHDOG_USEC").filter(|_| meant).filter(|wait| *wait > 0).map(Duration::from_micros),
    }
}
