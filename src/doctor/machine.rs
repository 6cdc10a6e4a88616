//! The machine: room on its disk, its clock, the age of its time zones.

use std::path::Path;

use chrono::Datelike;

use super::Check;
use crate::model::cost::Bytes;
use crate::time::Instant;

/// With less room than this a run is likely to fail.
const LITTLE_ROOM: u64 = 256 << 20;

/// With less room than this somebody ought to look.
const SOME_ROOM: u64 = 2 << 30;

/// When this haul was made, more or less: a clock that says less is wrong.
const EARLIEST_YEAR: i32 = 2025;

pub(super) fn machine(root: &Path, now: Instant) -> Vec<Check> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut checks = vec![Check::ok(
        "machine",
        "haul",
        format!("{} on {} {}, {cores} cores", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH),
    )];
    checks.push(room(root));
    checks.push(clock(now));
    checks.push(zones(now));
    checks
}

fn room(root: &Path) -> Check {
    match rustix::fs::statvfs(root) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let seen = format!("{} free at {}", Bytes(free), root.display());
            let hint = "haul gc removes old history; [retention] in haul.toml says how much is kept";
            match free {
                0..LITTLE_ROOM => Check::fail("machine", "disk", seen).hint(hint),
                LITTLE_ROOM..SOME_ROOM => Check::warn("machine", "disk", seen).hint(hint),
                _ => Check::ok("machine", "disk", seen),
            }
        }
        Err(error) => Check::warn("machine", "disk", format!("its room cannot be asked for: {error}")),
    }
}

fn clock(now: Instant) -> Check {
    let seen = now.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    if now.year() < EARLIEST_YEAR {
        return Check::fail("machine", "clock", format!("it says {seen}, which is long ago"))
            .hint("set it, and let it be kept by NTP: days and tokens are counted by it");
    }
    Check::ok("machine", "clock", seen)
}

/// The zones come with haul: a year that changed its clocks since then is computed wrongly.
fn zones(now: Instant) -> Check {
    let version = chrono_tz::IANA_TZDB_VERSION;
    let year: i32 = version.get(..4).and_then(|year| year.parse().ok()).unwrap_or(0);
    let seen = format!("IANA {version}, within haul");
    if now.year() - year >= 2 {
        return Check::warn("machine", "time zones", format!("{seen}, which is old"))
            .hint("a newer haul knows the clock changes that were decided since then");
    }
    Check::ok("machine", "time zones", seen)
}
