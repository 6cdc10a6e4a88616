//! Who may come in: the token of the settings, or one that is made and lies in the state folder; and where the door is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::connections::Connections;
use crate::error::{Context as _, Error, Kind, Result};
use crate::model::serve::SecretPlace;
use crate::secret::{ExposeSecret as _, SecretString};

/// A token that is shorter could be guessed.
const SHORTEST: usize = 16;

/// The file of a token that was made here.
const FILE: &str = "token";

/// The file that says where the door is.
const DOOR: &str = "serve.json";

/// What opens the door.
#[derive(Clone)]
pub struct Token {
    text: SecretString,
    digest: [u8; 32],
}

impl Token {
    /// A token of this text.
    ///
    /// # Errors
    /// It is too short.
    pub fn new(text: String) -> Result<Self> {
        if text.len() < SHORTEST {
            return Err(Error::config("reading `serve.token`")
                .because(format!("it has less than {SHORTEST} characters"))
                .hint("openssl rand -hex 32"));
        }
        let digest = Sha256::digest(text.as_bytes()).into();
        Ok(Self { text: SecretString::from(text), digest })
    }

    /// The token that the settings lead to; without one, that of the state folder, which is made where it is missing.
    pub fn open(place: Option<&SecretPlace>, connections: &Connections, state_dir: &Path) -> Result<Self> {
        match place {
            Some(place) => {
                let secret = connections.secret(place).map_err(|error| error.while_doing("reading `serve.token`"))?;
                Self::new(secret.expose_secret().to_owned())
            }
            None => Self::of_folder(state_dir),
        }
    }

    fn of_folder(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join(FILE);
        let doing = || format!("making the token {}", path.display());
        fs::create_dir_all(state_dir).context(Kind::Storage, doing)?;
        let made = hex::encode(rand::random::<[u8; 32]>());
        // Whoever comes first makes it: a second process reads what the first has written.
        match private(&path) {
            Ok(mut file) => {
                file.write_all(format!("{made}\n").as_bytes()).context(Kind::Storage, doing)?;
                Self::new(made)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Self::new(read(&path)?),
            Err(error) => Err(Error::new(Kind::Storage, doing()).because(error)),
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.text.expose_secret()
    }

    /// Whether somebody brings it, told in a time that does not depend on how much of it is right.
    pub fn is(&self, brought: &str) -> bool {
        let brought: [u8; 32] = Sha256::digest(brought.as_bytes()).into();
        let different = self.digest.iter().zip(brought).fold(0, |sum, (one, other)| sum | (one ^ other));
        std::hint::black_box(different) == 0
    }
}

#[cfg(unix)]
fn private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn read(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).context(Kind::Storage, || format!("reading {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// Where a daemon can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// Its address; one that stands for all of the machine's is told as the loopback one.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// The version of haul.
    pub version: String,
}

/// The file that says where the door is, for as long as this is held: it is locked, and a lock ends with its process.
pub struct DoorSign {
    path: PathBuf,
    _file: File,
}

impl DoorSign {
    /// Puts the sign up; none where the daemon of another process has one up already.
    pub fn put_up(state_dir: &Path, mut address: SocketAddr) -> Result<Option<Self>> {
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() { "127.0.0.1" } else { "::1" };
            address.set_ip(loopback.parse().map_err(|_| Error::internal("an address that is none"))?);
        }
        let door = Door { address, pid: std::process::id(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let path = state_dir.join(DOOR);
        let doing = || format!("writing {}", path.display());
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .context(Kind::Storage, doing)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(Error::new(Kind::Storage, doing()).because(error)),
        }
        let text = serde_json::to_string_pretty(&door).context(Kind::Internal, doing)?;
        file.set_len(0).and_then(|()| file.rewind()).context(Kind::Storage, doing)?;
        file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.flush()).context(Kind::Storage, doing)?;
        Ok(Some(Self { path, _file: file }))
    }

    /// The door of the daemon that works on a state folder; none where nobody does: a sign whose process is gone counts nothing.
    pub fn read(state_dir: &Path) -> Option<Door> {
        let mut file = File::open(state_dir.join(DOOR)).ok()?;
        if file.try_lock_shared().is_ok() {
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

impl Drop for DoorSign {
    fn drop(&mut self) {
        // The lock goes with the process; a file that stays says nothing without it.
        let _ = fs::remove_file(&self.path);
    }
}
