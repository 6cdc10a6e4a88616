//! `haul test` and `haul record`: pipelines replayed offline on recorded answers, and the recording of such answers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use chrono::NaiveDate;
use futures::stream::{self, StreamExt};
use serde_json::json;

use super::screen::{BAD, DIM, GOOD, WARN, counted, indented};
use super::{Common, Screen, junit, session};
use crate::config::{self, Severity};
use crate::error::{Error, Result};
use crate::model::trial::Trial;
use crate::monitor::Void;
use crate::replay::{self, Fault, Report};

/// Which tests.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The tests: a file of tests/ without its ending, `file::case`, or a pattern with `*`; all of them by default
    names: Vec<String>,
    /// Write what came into the files of expected rows
    #[arg(long)]
    update: bool,
    /// Write the results as JUnit XML too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// What is recorded.
#[derive(Debug, clap::Args)]
pub(super) struct RecordArgs {
    /// The pipeline
    pipeline: String,
    /// Only these steps; all extracts by default
    #[arg(long, value_name = "STEP")]
    step: Vec<String>,
    /// The logical date; today in the pipeline's zone by default
    #[arg(long, value_name = "DATE")]
    date: Option<NaiveDate>,
    /// The cassette's name in cassettes/; the pipeline's by default
    #[arg(long)]
    name: Option<String>,
}

pub(super) async fn test(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    let project = session::offline(common, screen)?;
    let all = config::trials(&project);
    let wanted =
        |file: &str, _: Option<&str>| args.names.is_empty() || args.names.iter().any(|name| may_be(name, file));
    let (faults, others) = all.faults_of(wanted);
    if !faults.is_empty() {
        screen.tell(config::render(&faults, &all.sources, screen.colors()).trim_end());
    }
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return Ok(2);
    }
    tell_others(&others, screen);
    let trials = chosen(&all.trials, &args.names)?;
    // Tests have nothing in common: several are under way at once, and told in their order.
    let at_once = std::thread::available_parallelism().map_or(2, usize::from);
    let project = &project;
    let timed = |trial| async move {
        let started = Instant::now();
        (replay::test(project, trial, args.update).await, started.elapsed())
    };
    let mut ended = stream::iter(trials.into_iter().map(timed)).buffered(at_once);
    let mut reports = Vec::new();
    while let Some(report) = ended.next().await {
        tell(&report.0, screen);
        reports.push(report);
    }
    if let Some(path) = &args.junit {
        junit::write(&reports, path)?;
    }
    let reports: Vec<Report> = reports.into_iter().map(|(report, _)| report).collect();
    Ok(finish(&reports, screen))
}

fn chosen<'t>(trials: &'t [Trial], names: &[String]) -> Result<Vec<&'t Trial>> {
    if trials.is_empty() {
        return Err(Error::usage("there are no tests").hint("a test is a file: tests/<name>.toml"));
    }
    if names.is_empty() {
        return Ok(trials.iter().collect());
    }
    let is_one = |name: &str, trial: &Trial| {
        let file = trial.name.split("::").next().unwrap_or_default();
        file == name || alike(name, &trial.name)
    };
    if let Some(name) = names.iter().find(|name| !trials.iter().any(|trial| is_one(name, trial))) {
        let known: Vec<&str> = trials.iter().map(|trial| trial.name.as_str()).take(20).collect();
        return Err(Error::usage(format!("there is no test `{name}`")).hint(format!("there are {}", known.join(", "))));
    }
    Ok(trials.iter().filter(|trial| names.iter().any(|name| is_one(name, trial))).collect())
}

/// Whether a name, or a pattern, may mean tests of a file.
fn may_be(name: &str, file: &str) -> bool {
    match (name.split_once("::"), name.rsplit_once('*')) {
        (Some((own, _)), _) => alike(own, file),
        // What stands behind its last star may be the name of a case.
        (None, Some((before, _))) => alike(&format!("{before}*"), file),
        (None, None) => name == file,
    }
}

/// Tells which files of tests are wrong that nobody has asked for.
pub(super) fn tell_others(files: &BTreeSet<PathBuf>, screen: &Screen) {
    for file in files {
        screen
            .note(&format!("{WARN}note{WARN:#}: {} is wrong, and is left out; `haul check` says why", file.display()));
    }
}

/// Whether a name is what a pattern with `*` says.
fn alike(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, rest)) => name.strip_prefix(before).is_some_and(|name| {
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| alike(rest, &name[at..]))
        }),
    }
}

/// Tells how one test ended.
pub(super) fn tell(report: &Report, screen: &Screen) {
    if screen.is_json() {
        return;
    }
    if report.passed {
        screen.data(&format!("{GOOD}passed{GOOD:#}  {}", report.name));
    } else {
        screen.data(&format!("{BAD}failed{BAD:#}  {}", report.name));
    }
    tell_faults(&report.faults, screen);
    for file in &report.written {
        screen.data(&format!("  {WARN}written{WARN:#} {file}"));
    }
    for note in &report.notes {
        screen.note(&format!("  {WARN}note{WARN:#}: {note}"));
    }
}

/// Tells what is not as it should be, with the rows that differ.
pub(super) fn tell_faults(faults: &[Fault], screen: &Screen) {
    for fault in faults {
        screen.data(&format!("  {}", indented(&fault.what, 4)));
        if let Some(difference) = &fault.difference {
            let header: Vec<&str> = difference.columns.iter().map(String::as_str).collect();
            screen.table(&header, difference.rows.clone());
            if difference.more > 0 {
                screen.data(&format!("{DIM}and {} more{DIM:#}", difference.more));
            }
        }
        if let Some(hint) = &fault.hint {
            screen.data(&format!("  {GOOD}hint{GOOD:#}: {hint}"));
        }
    }
}

/// Tells how all tests ended; returns the exit code.
pub(super) fn finish(reports: &[Report], screen: &Screen) -> u8 {
    let passed = reports.iter().filter(|report| report.passed).count();
    let failed = reports.len() - passed;
    if screen.is_json() {
        screen.json(&json!({ "passed": passed, "failed": failed, "tests": reports }));
    } else {
        screen.data(&format!("{passed} passed, {failed} failed"));
    }
    u8::from(failed > 0)
}

pub(super) async fn record(args: &RecordArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let (project, connections) = session::project(common, screen)?;
    let pipeline = session::pipeline(&project, &args.pipeline)?;
    let date = args.date.unwrap_or_else(|| common.today(pipeline.timezone));
    let name = args.name.clone().unwrap_or_else(|| pipeline.name.clone());
    if !config::is_plain_name(&name) {
        return Err(Error::usage(format!("`{name}` cannot be the name of a cassette"))
            .hint("a name has letters, digits, underscores and hyphens"));
    }
    let clock = common.clock();
    let recorded = replay::record(
        &project,
        &connections,
        &pipeline,
        &args.step,
        date,
        &name,
        clock,
        &screen.redactor,
        Arc::new(Void),
    )
    .await?;
    if screen.is_json() {
        screen.json(&recorded);
        return Ok(0);
    }
    let exchanges = counted(recorded.exchanges as u64, "exchange");
    screen.data(&format!("{GOOD}recorded{GOOD:#} {exchanges} into {}", recorded.cassette.display()));
    for step in &recorded.left_out {
        screen.note(&format!("{WARN}note{WARN:#}: `{step}` asks no API over HTTP, and is not in it"));
    }
    screen.note("secrets were taken out; rows are as they came: read the file before others do");
    Ok(0)
}
