//! How the binary is linked.

use std::env;
use std::process::Command;

/// The first glibc that reads packed relocations ("NEWS" of 2.36: `DT_RELR`).
const PACKED_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // 140,000 relocations, most of them DuckDB's, take 43 KB instead of 3.5 MB, which every process reads at its start, and keeps.
    if is_for_this_machine() && glibc().is_some_and(|version| version >= PACKED_SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether the binary is made for the machine that makes it, with GNU's C library.
fn is_for_this_machine() -> bool {
    let (host, target) = (env::var("HOST"), env::var("TARGET"));
    target.as_ref().is_ok_and(|target| target.ends_with("-linux-gnu")) && host == target
}

/// The version of this machine's C library.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
