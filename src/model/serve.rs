//! How the daemon works: how many runs at once, how long it answers for them, how it ends.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::secret::SecretString;

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
    /// Where it can be asked, and by whom.
    pub door: DoorSettings,
    /// The address under which people reach it, without a trailing slash; messages link to it.
    pub url: Option<String>,
    /// Where the traces of runs go; none where nobody wants them.
    pub traces: Option<TraceSettings>,
}

/// Where the traces of runs go, as the project says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSettings {
    /// The address of a collector that speaks OTLP over HTTP, without the path of traces.
    pub endpoint: String,
    /// The name of the service that the spans are of.
    pub service: Option<String>,
    /// Headers that every request has.
    pub headers: Vec<(String, HeaderText)>,
}

/// What stands in a header: a text, or the place of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderText {
    /// The text.
    Plain(String),
    /// Where it is found.
    Secret(SecretPlace),
}

/// Where traces are sent, with all that is secret in it.
#[derive(Debug, Clone)]
pub struct TraceTarget {
    /// The address that spans are posted to.
    pub url: url::Url,
    /// Headers of every request.
    pub headers: Vec<(String, SecretString)>,
    /// The name of the service that the spans are of.
    pub service: String,
    /// Further attributes of the service.
    pub attributes: Vec<(String, String)>,
}

/// Where the daemon can be asked over HTTP, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorSettings {
    /// The address; none where it cannot be asked.
    pub listen: Option<Listen>,
    /// Where the token is found; without one it is made, and lies in the state folder.
    pub token: Option<SecretPlace>,
    /// Names by which it may be called besides `localhost` and addresses.
    pub hosts: Vec<String>,
}

/// An address that requests come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 stands for any that is free.
    pub address: SocketAddr,
    /// Whether somebody has chosen it.
    pub chosen: bool,
}

/// The port where nothing else is said.
pub const PORT: u16 = 8642;

/// Where a secret is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// In this variable of the environment.
    Env(String),
    /// In this file.
    File(String),
    /// What this command prints.
    Command(String),
}

impl Default for DoorSettings {
    fn default() -> Self {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
        Self { listen: Some(Listen { address, chosen: false }), token: None, hosts: Vec::new() }
    }
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            workers: 4,
            lease: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            door: DoorSettings::default(),
            url: None,
            traces: None,
        }
    }
}
