//! `hooks.lock`: which hooks were taken from elsewhere, and what they were then.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::diagnostic::{Diagnostic, Source};
use crate::error::{Context, Error, Kind, Result};
use crate::model::manual::Pin;

/// The file, relative to the project's root.
pub const FILE: &str = "hooks.lock";

const HEAD: &str = "# Hooks of others, as they were when they were taken: `haul hooks add`, `update`, `pin` and `remove` write this file.\n\n";

/// The hooks that were taken from elsewhere, by name; none where there is no lock.
///
/// # Errors
/// A file that cannot be read, or that is no lock.
pub fn read(root: &Path) -> Result<BTreeMap<String, Pin>> {
    let doing = || format!("reading {FILE}");
    let text = match std::fs::read_to_string(root.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::new(Kind::Storage, doing()).because(error)),
    };
    toml::from_str(&text).map_err(|error| {
        Error::config(doing())
            .because(error.message().to_owned())
            .hint("`haul hooks` writes it; after a merge, keep both sides' tables")
    })
}

/// Writes the lock; without any hook it goes away.
///
/// # Errors
/// The file cannot be written.
pub fn write(root: &Path, pins: &BTreeMap<String, Pin>) -> Result<()> {
    let path = root.join(FILE);
    let doing = || format!("writing {FILE}");
    if pins.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context(Kind::Storage, doing),
            _ => Ok(()),
        };
    }
    let text = toml::to_string(pins).context(Kind::Internal, doing)?;
    std::fs::write(path, format!("{HEAD}{text}")).context(Kind::Storage, doing)
}

/// The digest of a file's bytes, as the lock writes it.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Compares the files of hooks with what they were when they were taken.
pub fn verify(root: &Path, pins: &BTreeMap<String, Pin>, faults: &mut Vec<Diagnostic>) {
    for (name, pin) in pins {
        for (file, known) in &pin.files {
            let place = |what: &str| {
                Diagnostic::error("changed-hook", what.to_owned()).at(&Source::new(file.as_str(), ""), 0..0, "")
            };
            match std::fs::read(root.join(file)) {
                Ok(bytes) if digest(&bytes) == *known => {}
                Ok(_) => faults.push(place(&format!("the hook `{name}` is not what was taken from {}", pin.source)).help(
                    format!("if the change is meant, accept it: haul hooks pin {name}; to have it as it was: haul hooks update {name}"),
                )),
                Err(error) => faults.push(
                    place(&format!("a file of the hook `{name}` cannot be read: {error}"))
                        .help(format!("haul hooks update {name} brings it back, haul hooks remove {name} takes it out of {FILE}")),
                ),
            }
        }
    }
}
