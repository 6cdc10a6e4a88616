//! The state folder: whether its file is sound, and what was left behind there.

use std::path::{Path, PathBuf};

use super::{Check, Level};
use crate::model::cost::Bytes;
use crate::model::count::counted;
use crate::model::pipeline::Project;
use crate::retention;
use crate::state::{Health, State};
use crate::time::Instant;

/// A file of which more than this is unused, and more than a half, may be made smaller.
const WASTE: u64 = 64 << 20;

pub(super) async fn check(dir: &Path, project: Option<&Project>, now: Instant) -> Vec<Check> {
    if let Err(error) = State::usable(dir) {
        let check = Check::fail("state", "folder", error.chain());
        return vec![error.hints().iter().fold(check, |check, hint| check.hint((*hint).to_owned()))];
    }
    let health = match State::examine(dir, now).await {
        Ok(Some(health)) => health,
        Ok(None) => return vec![Check::ok("state", "file", "there is none yet: the first run makes it")],
        Err(error) => {
            return vec![
                Check::fail("state", "file", format!("it cannot be read: {error}"))
                    .hint("put back a copy, state.db.before-…; or move it away: the next run finds what is loaded in the warehouse"),
            ];
        }
    };
    let mut checks = vec![file(&health), version(&health), left(&health)];
    let is_current = health.version == health.known && health.damage.is_empty();
    if let Some(project) = project.filter(|_| is_current) {
        checks.extend(inside(project, dir, now).await);
    }
    checks
}

fn file(health: &Health) -> Check {
    let seen = format!("{}, {} of it unused", Bytes(health.bytes), Bytes(health.free));
    if let Some(damage) = health.damage.first() {
        return Check::fail("state", "file", format!("it is damaged: {damage}")).hint(
            "put back a copy, state.db.before-…; or move it away: the next run finds what is loaded in the warehouse",
        );
    }
    if health.free > WASTE && health.free > health.bytes / 2 {
        return Check::warn("state", "file", seen).hint("haul gc gives it back");
    }
    Check::ok("state", "file", seen)
}

fn version(health: &Health) -> Check {
    let (version, known) = (health.version, health.known);
    let copies: Vec<String> = health
        .copies
        .iter()
        .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .collect();
    let copies = if copies.is_empty() { String::new() } else { format!("; copies: {}", copies.join(", ")) };
    let seen = format!("{version}{copies}");
    match version.cmp(&known) {
        std::cmp::Ordering::Equal => Check::ok("state", "version", seen),
        std::cmp::Ordering::Less => Check::warn("state", "version", format!("{seen}, this haul writes {known}"))
            .hint("the next run copies the file, and brings it up to date"),
        std::cmp::Ordering::Greater => {
            Check::fail("state", "version", format!("{seen}, this haul knows no more than {known}"))
                .hint("use the newer haul that wrote it")
        }
    }
}

/// What dead processes have left behind.
fn left(health: &Health) -> Check {
    let mut seen = Vec::new();
    if let Some(run) = health.dead_runs.first() {
        seen.push(format!("{} whose process is gone, such as {run}", counted(health.dead_runs.len() as u64, "run")));
    }
    if health.lost_jobs > 0 {
        seen.push(format!("{} whose lease has ended", counted(health.lost_jobs, "job")));
    }
    if seen.is_empty() {
        return Check::ok("state", "processes", "nothing is left of processes that died");
    }
    Check::warn("state", "processes", seen.join(", "))
        .hint("the next run of the pipeline ends them; what they had made durable is used. Is `haul serve` running?")
}

/// What only a file of this version tells.
async fn inside(project: &Project, dir: &Path, now: Instant) -> Vec<Check> {
    let state = match State::open(dir).await {
        Ok(state) => state,
        Err(error) => return vec![Check::fail("state", "opening", error.chain())],
    };
    let mut checks = Vec::new();
    match retention::stale_stages(project, &state, now).await {
        Ok(stale) if stale.is_empty() => checks.push(Check::ok("state", "stages", "none that nobody goes on with")),
        Ok(stale) => checks.push(
            Check::warn(
                "state",
                "stages",
                format!("{} that nobody goes on with", counted(stale.len() as u64, "stage")),
            )
            .hint("haul gc removes them"),
        ),
        Err(error) => checks.push(Check::new("state", "stages", Level::Fail, error.chain())),
    }
    let orphans = orphans(dir);
    if let Some(first) = orphans.first() {
        let seen = format!("{}, such as {}", counted(orphans.len() as u64, "file"), first.display());
        checks.push(
            Check::warn("state", "leftovers", format!("{seen}, of a process that was killed"))
                .hint("they may be removed"),
        );
    }
    if let Ok(waiting) = state.waiting_messages().await {
        for one in waiting {
            let fault = one.fault.map(|fault| format!(": {fault}")).unwrap_or_default();
            let seen = format!(
                "{} for `{}` since {}{fault}",
                counted(one.messages, "message"),
                one.channel,
                one.since.format("%Y-%m-%d %H:%MZ")
            );
            checks.push(Check::warn("state", "messages", seen).hint(format!("haul notify test {}", one.channel)));
        }
    }
    state.close().await;
    checks
}

/// Files that are made to be renamed at once.
fn orphans(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "part" || ending == "tmp"))
        .collect();
    found.sort();
    found
}
