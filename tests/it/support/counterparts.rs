//! The servers and programs of others that tests talk to: where `scripts/counterparts.sh` puts them.

use std::path::PathBuf;

/// A program of a counterpart's Python environment: `program("mongodb", "secantusd-py")`.
///
/// Tests that need one have `with_mongodb` in their path, so that `scripts/test.sh` can leave them out where it is not to be had.
pub fn program(counterpart: &str, name: &str) -> PathBuf {
    let home = std::env::var_os("HAUL_COUNTERPARTS")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/haul-counterparts")));
    let path = home.unwrap_or_default().join(counterpart).join("bin").join(name);
    assert!(path.is_file(), "`{name}` is missing: scripts/counterparts.sh {counterpart} installs it");
    path
}
