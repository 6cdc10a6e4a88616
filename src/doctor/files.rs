//! Files of the project that others should not read, and hooks that were taken long ago.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Check;
use crate::config::lock;

/// Files that have secrets, and who may read them.
pub(super) fn secrets(root: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    for path in secret_files(root) {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let Ok(metadata) = path.metadata() else { continue };
        let mode = metadata.mode() & 0o777;
        let seen = format!("{name} has mode {mode:03o}");
        checks.push(if mode & 0o077 == 0 {
            Check::ok("project", "secrets", seen)
        } else {
            Check::warn("project", "secrets", format!("{seen}: others than its owner may use it"))
                .hint(format!("chmod 600 {name}"))
        });
    }
    checks
}

/// The file of connections, the encrypted store with its key, and the files that connections refer to.
fn secret_files(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        ["connections.toml", ".haul/connections.enc", ".haul/key"].iter().map(|name| root.join(name)).collect();
    let text = std::fs::read_to_string(root.join("connections.toml")).unwrap_or_default();
    if let Ok(table) = text.parse::<toml::Table>() {
        for connection in table.values().filter_map(toml::Value::as_table) {
            for (key, value) in connection {
                let file = value.as_table().and_then(|place| place.get("file")).and_then(toml::Value::as_str);
                // Certificates are for everybody to see.
                files.extend(
                    file.filter(|_| !["ca", "client_cert"].contains(&key.as_str())).map(|file| root.join(file)),
                );
            }
        }
    }
    files.retain(|path| path.is_file());
    files.dedup();
    files
}

/// The hooks of others, as they were taken.
pub(super) fn hooks(root: &Path) -> Option<Check> {
    match lock::read(root) {
        Ok(pins) if pins.is_empty() => None,
        Ok(pins) => {
            let mut faults = Vec::new();
            lock::verify(root, &pins, &mut faults);
            let seen = format!("{} of others in {}", pins.len(), lock::FILE);
            Some(match faults.first() {
                None => Check::ok("project", "hooks", seen),
                Some(fault) => {
                    let check = Check::fail("project", "hooks", format!("{seen}: {}", fault.message));
                    fault.help.iter().fold(check, |check, help| check.hint(help))
                }
            })
        }
        Err(error) => Some(Check::fail("project", "hooks", error.chain())),
    }
}
