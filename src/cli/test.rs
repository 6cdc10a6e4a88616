//! `haul test` and `haul record`: pipelines replayed offline on recorded answers, and the recording of such answers.

use std::sync::Arc;

use chrono::NaiveDate;
use serde_json::json;

use super::screen::{BAD, DIM, GOOD, WARN, counted, indented};
use super::{Common, Screen, session};
use crate::config::{self, Severity};
use crate::error::{Error, Result};
use crate::model::trial::Trial;
use crate::monitor::Void;
use crate::replay::{self, Report};

/// Which tests.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The tests, which are files of tests/; all of them by default
    names: Vec<String>,
    /// Write what came into the files of expected rows
    #[arg(long)]
    update: bool,
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
    if !all.diagnostics.is_empty() {
        screen.tell(config::render(&all.diagnostics, &all.sources, screen.colors()).trim_end());
    }
    if all.diagnostics.iter().any(|fault| fault.severity == Severity::Error) {
        return Ok(2);
    }
    let trials = chosen(&all.trials, &args.names)?;
    let mut reports = Vec::new();
    for trial in trials {
        let report = replay::test(&project, trial, args.update).await;
        tell(&report, screen);
        reports.push(report);
    }
    Ok(finish(&reports, screen))
}

fn chosen<'t>(trials: &'t [Trial], names: &[String]) -> Result<Vec<&'t Trial>> {
    if trials.is_empty() {
        return Err(Error::usage("there are no tests").hint("a test is a file: tests/<name>.toml"));
    }
    if names.is_empty() {
        return Ok(trials.iter().collect());
    }
    let one = |name: &String| {
        trials.iter().find(|trial| trial.name == *name).ok_or_else(|| {
            let known: Vec<&str> = trials.iter().map(|trial| trial.name.as_str()).collect();
            Error::usage(format!("there is no test `{name}`")).hint(format!("there are {}", known.join(", ")))
        })
    };
    names.iter().map(one).collect()
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
    for fault in &report.faults {
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
    for file in &report.written {
        screen.data(&format!("  {WARN}written{WARN:#} {file}"));
    }
    for note in &report.notes {
        screen.note(&format!("  {WARN}note{WARN:#}: {note}"));
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
