//! `haul doctor` and `haul gc`: what may be wrong around a project, and what of its history may go.

use std::sync::Arc;

use serde_json::json;

use super::screen::{BAD, DIM, GOOD, WARN, counted};
use super::{Common, Screen, session};
use crate::doctor::{self, Check, Examination, Level};
use crate::error::Result;
use crate::model::cost::Bytes;
use crate::retention::{self, Swept};
use crate::state::State;

/// How thoroughly is looked.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Ask no other system: connections are only read
    #[arg(long)]
    offline: bool,
}

/// What of the history goes.
#[derive(Debug, clap::Args)]
pub(super) struct GcArgs {
    /// Only count what would go
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn doctor(args: &DoctorArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let root = session::root(common)?;
    let examination = Examination { root: &root, online: !args.offline, clock: common.clock() };
    let checks = doctor::examine(examination, &screen.redactor).await;
    let worst = checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok);
    if screen.is_json() {
        screen.json(&json!({ "level": worst, "checks": checks }));
    } else {
        checks.iter().for_each(|check| line(check, screen));
        let of = |level| checks.iter().filter(|check| check.level == level).count() as u64;
        screen.note(&format!(
            "{}: {} fine, {} to look at, {} wrong",
            counted(checks.len() as u64, "check"),
            of(Level::Ok),
            of(Level::Warn),
            of(Level::Fail)
        ));
    }
    Ok(u8::from(worst == Level::Fail))
}

fn line(check: &Check, screen: &Screen) {
    let (style, word) = match check.level {
        Level::Ok => (GOOD, "ok"),
        Level::Warn => (WARN, "warn"),
        Level::Fail => (BAD, "fail"),
    };
    let seen = check.seen.lines().next().unwrap_or_default();
    screen.data(&format!("{style}{word:<5}{style:#} {:<11} {}: {seen}", check.area, check.name));
    if let Some(hint) = check.hint.as_ref().filter(|_| check.level != Level::Ok || screen.is_verbose()) {
        screen.data(&format!("{:18}{DIM}{hint}{DIM:#}", ""));
    }
}

pub(super) async fn gc(args: &GcArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let (project, _) = session::project(common, screen)?;
    let state = State::open(&project.state_dir).await?;
    let swept = retention::sweep(&Arc::clone(&project), &state, common.clock().now(), args.dry_run, true).await?;
    state.close().await;
    if screen.is_json() {
        screen.json(&json!({ "dry_run": args.dry_run, "swept": swept }));
    } else {
        told(&swept, args.dry_run, screen);
    }
    Ok(0)
}

fn told(swept: &Swept, dry_run: bool, screen: &Screen) {
    let (rows, files) = (swept.rows, swept.files);
    let counts = [
        (rows.runs, "run"),
        (rows.events, "event"),
        (rows.pulls, "pull"),
        (rows.bills, "bill"),
        (rows.jobs, "row of the queue"),
        (rows.incidents, "incident and message"),
        (files.logs, "log"),
        (files.answers, "kept answer"),
        (files.stages, "stage"),
    ];
    let some: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, noun)| match *noun {
            "row of the queue" if *count != 1 => format!("{count} rows of the queue"),
            "incident and message" => format!("{count} incidents and messages"),
            noun => counted(*count, noun),
        })
        .collect();
    let verb = if dry_run { "would remove" } else { "removed" };
    let what = if some.is_empty() { "nothing".to_owned() } else { some.join(", ") };
    screen.data(&format!("{verb} {what}"));
    if files.bytes > 0 {
        screen.data(&format!("{verb} {} of files", Bytes(files.bytes)));
    }
    if !dry_run {
        screen.data(&format!("state.db: {} before, {} now", Bytes(swept.before.bytes), Bytes(swept.after.bytes)));
    }
}
