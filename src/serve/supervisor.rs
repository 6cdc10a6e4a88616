//! Telling the supervisor of services how the process stands, by the protocol of `sd_notify(3)`: one datagram a state.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

/// Where a supervisor listens; nobody listens without one.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<PathBuf>,
    /// How often it wants to hear that the process is alive.
    watchdog: Option<Duration>,
    next: Option<Instant>,
}

impl Supervisor {
    /// A supervisor that listens at a socket: a path, or a name that begins with `@`.
    pub fn new(socket: Option<PathBuf>, watchdog: Option<Duration>) -> Self {
        Self { socket, watchdog, next: None }
    }

    /// Everything is up.
    pub fn ready(&mut self) {
        self.send("READY=1\nSTATUS=running");
        self.alive();
    }

    /// The end has begun.
    pub fn stopping(&mut self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// The process is alive; told no oftener than is wanted.
    pub fn alive(&mut self) {
        let Some(watchdog) = self.watchdog else { return };
        let now = Instant::now();
        if self.next.is_none_or(|next| now >= next) {
            self.next = Some(now + watchdog / 3);
            self.send("WATCHDOG=1");
        }
    }

    /// Sends a state; a supervisor that cannot be reached is no reason to stop working.
    #[cfg(unix)]
    fn send(&self, state: &str) {
        use std::os::unix::net::UnixDatagram;
        let Some(place) = &self.socket else { return };
        let Ok(socket) = UnixDatagram::unbound() else { return };
        #[cfg(target_os = "linux")]
        if let Some(name) = place.to_string_lossy().strip_prefix('@') {
            use std::os::linux::net::SocketAddrExt;
            if let Ok(address) = std::os::unix::net::SocketAddr::from_abstract_name(name) {
                drop(socket.send_to_addr(state.as_bytes(), &address));
            }
            return;
        }
        drop(socket.send_to(state.as_bytes(), place));
    }

    #[cfg(not(unix))]
    fn send(&self, _state: &str) {}
}
