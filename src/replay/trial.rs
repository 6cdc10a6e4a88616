//! One test of a project: its runs one after the other on recorded answers, then its tables against the expected ones.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::bench::{Bench, pipeline_of};
use super::{Fault, Report, api, asked_by, compare, elsewhere, expected, warehouse};
use crate::config;
use crate::connections::Connections;
use crate::error::{Context, Error, Kind, Result};
use crate::execute::{self, Gear};
use crate::extract::cassette::{self, Player, Tape};
use crate::model::connection::Connection;
use crate::model::name::TableName;
use crate::model::pipeline::{Pipeline, Project};
use crate::model::run::{RunStatus, TaskState, Trigger, fold};
use crate::model::trial::{Expectation, Expected, Subject, Trial, TrialRun};
use crate::monitor::Void;
use crate::plan::Ask;
use crate::secret::Redactor;
use crate::time::Clock;
use crate::warehouse::{Rows, Warehouse};

/// No expected table has more rows.
const MOST_ROWS: usize = 1_000_000;

/// Runs a test; with `update`, what came becomes what is expected, where that stands in files.
pub async fn test(project: &Project, trial: &Trial, update: bool) -> Report {
    let mut report = Report::new(&trial.name);
    if let Err(error) = run_all(project, trial, update, &mut report).await {
        report.error(&error);
    }
    report
}

async fn run_all(project: &Project, trial: &Trial, update: bool, report: &mut Report) -> Result<()> {
    if !trial.given.is_empty() || trial.runs.iter().any(|run| !run.given.is_empty()) {
        return on_bench(project, trial, update, report).await;
    }
    let folder = tempfile::tempdir().context(Kind::Storage, || "making a folder for a test".to_owned())?;
    let pipeline = Arc::new(pipeline_of(project, trial)?);
    let throwaway = Arc::new(Project { state_dir: folder.path().join("state"), ..project.clone() });
    for (index, run) in trial.runs.iter().enumerate() {
        let number = index + 1;
        let (connections, player) = surroundings(&throwaway, &pipeline, trial, run, folder.path())?;
        let gear = Gear::open(Arc::clone(&throwaway), connections, Clock::Fixed(run.now), Redactor::default()).await?;
        let gear = gear.with_tape(Tape::Replay(Arc::clone(&player)));
        let ended = one_run(&gear, &pipeline, &asked(run)).await;
        let label = label(trial, number, run);
        let went_on = ended.map(|ended| judge(&ended, run, &label, report));
        let looked = match went_on {
            Ok(()) => look(&gear, &pipeline, project, trial, number, update, report).await,
            Err(error) => Err(error.while_doing(label.clone())),
        };
        gear.state.close().await;
        gear.close().await?;
        looked?;
        let left = player.left();
        if let (Some(first), RunStatus::Succeeded, true) = (left.first(), run.status, run.steps.is_empty()) {
            let count = left.len();
            report.notes.push(format!("{label} left {count} recorded requests unasked, the first is {first}"));
        }
    }
    Ok(())
}

fn label(trial: &Trial, number: usize, run: &TrialRun) -> String {
    if trial.runs.len() > 1 { format!("run {number} ({})", run.date) } else { "the run".to_owned() }
}

/// A test whose rows are given: the same tables through all its runs, in memory.
async fn on_bench(project: &Project, trial: &Trial, update: bool, report: &mut Report) -> Result<()> {
    let Some(first) = trial.runs.first() else { return Ok(()) };
    let mut bench = Bench::of_trial(project, trial, first.now).await?;
    let ended = on_open_bench(&mut bench, project, trial, update, report).await;
    bench.close().await?;
    ended
}

async fn on_open_bench(
    bench: &mut Bench,
    project: &Project,
    trial: &Trial,
    update: bool,
    report: &mut Report,
) -> Result<()> {
    for (index, run) in trial.runs.iter().enumerate() {
        let number = index + 1;
        bench.gear.clock = Clock::Fixed(run.now);
        let window = bench.window(run.date)?;
        let given = if index == 0 { [&trial.given[..], &run.given[..]].concat() } else { run.given.clone() };
        let tables = bench.read(&given).await?;
        bench.give(&tables, window.as_ref()).await?;
        let select = if run.steps.is_empty() { wanted(bench, trial) } else { run.steps.clone() };
        if select.is_empty() {
            let what = format!("no transform of `{}` reads only what is given", trial.pipeline);
            return Err(Error::config(what).hint("[[given]] says the rows of every table that a transform reads"));
        }
        let ask = if run.window_only {
            bench.over(run.date, window.as_ref(), select, index > 0)
        } else {
            Ask { select, ..asked(run) }
        };
        let label = label(trial, number, run);
        let ended = one_run(&bench.gear, &bench.pipeline, &ask).await;
        let went_on = ended.map(|ended| judge(&ended, run, &label, report));
        went_on.map_err(|error| error.while_doing(label))?;
        for expectation in trial.expectations.iter().filter(|expectation| expectation.after == number) {
            if let Subject::Table(table) = &expectation.subject
                && let Some(fault) = bench.missing(table)
            {
                report.fault(fault);
                return Ok(());
            }
        }
        look(&bench.gear, &bench.pipeline, project, trial, number, update, report).await?;
    }
    Ok(())
}

/// The steps that a test computes: those of the tables that it looks at, or all where it looks by SQL, or at how a run ends.
fn wanted(bench: &Bench, trial: &Trial) -> Vec<String> {
    let table = |expectation: &Expectation| match &expectation.subject {
        Subject::Table(table) => Some(table.clone()),
        Subject::Query(_) => None,
    };
    let tables: Option<Vec<TableName>> = trial.expectations.iter().map(table).collect();
    match tables {
        Some(tables) if !tables.is_empty() => {
            let needed = bench.needed(&tables.iter().collect::<Vec<_>>());
            if needed.is_empty() { bench.steps.clone() } else { needed }
        }
        _ => bench.steps.clone(),
    }
}

/// What a run of a test is asked for, as `haul run` would.
fn asked(run: &TrialRun) -> Ask {
    Ask {
        trigger: Trigger::Manual,
        logical_date: run.date,
        select: run.steps.clone(),
        range: None,
        window: None,
        force: false,
        retry: false,
    }
}

/// What a run of a test may reach: throwaway warehouses, and the APIs that its cassette tells of.
fn surroundings(
    project: &Project,
    pipeline: &Pipeline,
    trial: &Trial,
    run: &TrialRun,
    folder: &Path,
) -> Result<(Connections, Arc<Player>)> {
    let again = format!("haul record {} --date {} records it", trial.pipeline, run.date);
    let (name, addresses, exchanges) = match &run.cassette {
        None => ("a test without a cassette".to_owned(), BTreeMap::new(), Vec::new()),
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(project.root.join(path))
                .context(Kind::Storage, || format!("reading the cassette {name}"))?;
            let (head, exchanges) = cassette::read(&name, &text)?;
            (name, head.connections, exchanges)
        }
    };
    let mut instead: Vec<Connection> = addresses.iter().map(|(name, url)| api(name, url)).collect();
    // What no cassette tells of has an address all the same: a request to it says what is missing.
    let unknown = asked_by(pipeline).filter(|name| !addresses.contains_key(*name));
    instead.extend(unknown.map(|name| api(name, &config::test_address(name))));
    let mut warehouses: Vec<&str> = project.pipelines.iter().map(|pipeline| pipeline.warehouse.as_str()).collect();
    warehouses.dedup();
    instead.extend(warehouses.into_iter().map(|name| warehouse(name, folder)));
    instead.extend(elsewhere(project, folder));
    let connections = Connections::offline(&project.root, trial.env.clone(), Redactor::default()).with(instead);
    Ok((connections, Arc::new(Player::new(name, again, exchanges))))
}

/// How a run ended, with what its tasks told that were not fine.
pub(super) struct Ended {
    pub status: RunStatus,
    pub told: Vec<String>,
}

pub(super) async fn one_run(gear: &Gear, pipeline: &Arc<Pipeline>, ask: &Ask) -> Result<Ended> {
    let (plan, _) = execute::plan(gear, pipeline, ask).await?;
    let record = execute::run(gear, &plan, Arc::new(Void), CancellationToken::new()).await?;
    let logs = gear.state.run(&record.id).await?.map(|(_, logs)| logs).unwrap_or_default();
    let told = fold(&logs)?.into_iter().filter_map(|(task, state)| match state {
        TaskState::Failed { kind, reason } => Some(format!("{task} failed: {kind}: {reason}")),
        TaskState::Held { reason } => Some(format!("{task} is held: {reason}")),
        _ => None,
    });
    Ok(Ended { status: record.status, told: told.collect() })
}

fn judge(ended: &Ended, run: &TrialRun, label: &str, report: &mut Report) {
    let word = |status| match status {
        RunStatus::Succeeded => "succeeded",
        RunStatus::Held => "held",
        RunStatus::Late => "late",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "was stopped",
        RunStatus::Refused => "was refused",
        RunStatus::Running => "did not end",
    };
    let lines: Vec<String> = ended.told.iter().map(|line| line.replace('\n', "\n    ")).collect();
    let told = if lines.is_empty() { String::new() } else { format!("\n  {}", lines.join("\n  ")) };
    if ended.status != run.status {
        let what = format!("{label} {}, expected was {}{told}", word(ended.status), word(run.status));
        report.fault(Fault { what, ..Fault::default() });
    } else if let Some(text) = run.tells.as_ref().filter(|text| !ended.told.iter().any(|line| line.contains(*text))) {
        let what = format!("no task of {label} tells `{text}`{told}");
        report.fault(Fault { what, ..Fault::default() });
    }
}

/// Compares the tables that are looked at after this run.
async fn look(
    gear: &Gear,
    pipeline: &Pipeline,
    project: &Project,
    trial: &Trial,
    number: usize,
    update: bool,
    report: &mut Report,
) -> Result<()> {
    for expectation in trial.expectations.iter().filter(|expectation| expectation.after == number) {
        let doing = || format!("looking at {}", expectation.subject);
        let store = gear.warehouse(&pipeline.warehouse).await?;
        let rows = match rows_of(&store, &expectation.subject).await {
            Ok(rows) => rows,
            Err(error) => {
                report.error(&error.while_doing(doing()));
                continue;
            }
        };
        check(pipeline, project, expectation, &rows, update, report).map_err(|error| error.while_doing(doing()))?;
    }
    Ok(())
}

fn check(
    pipeline: &Pipeline,
    project: &Project,
    expectation: &Expectation,
    found: &Rows,
    update: bool,
    report: &mut Report,
) -> Result<()> {
    let subject = &expectation.subject;
    if let Some(count) = expectation.count.filter(|count| *count != found.rows.len() as u64) {
        let what = format!("{subject} has {} rows, expected are {count}", found.rows.len());
        report.fault(Fault { what, ..Fault::default() });
    }
    let wanted = match &expectation.rows {
        Expected::Count => return Ok(()),
        Expected::Inline(rows) => expected::inline(rows),
        Expected::File(path) => {
            let place = project.root.join(path);
            let known = if place.is_file() { Some(expected::read(&place, path)?) } else { None };
            if update {
                let columns = known.as_ref().map(|known| known.columns.clone()).unwrap_or_default();
                let columns = if expectation.columns.is_empty() { columns } else { expectation.columns.clone() };
                if expected::write(&place, path, &columns, found, expectation.ordered)? {
                    report.written.push(path.display().to_string());
                }
                return Ok(());
            }
            let Some(known) = known else {
                report.fault(Fault {
                    what: format!("{subject} has {} rows, but there is no {}", found.rows.len(), path.display()),
                    difference: None,
                    hint: Some("`haul test --update` writes what came; look at it before it is committed".to_owned()),
                });
                return Ok(());
            };
            known
        }
    };
    let keys = match subject {
        Subject::Table(table) => pipeline.steps.iter().find(|step| step.into == *table).map(|step| step.keys.clone()),
        Subject::Query(_) => None,
    };
    let columns = if expectation.columns.is_empty() { wanted.columns.clone() } else { expectation.columns.clone() };
    if let Some(fault) =
        compare::tables(subject, &wanted, found, &columns, &keys.unwrap_or_default(), expectation.ordered)
    {
        let hint = match &expectation.rows {
            Expected::File(_) => Some("if what came is right: haul test --update".to_owned()),
            _ => None,
        };
        report.fault(Fault { hint, ..fault });
    }
    Ok(())
}

async fn rows_of(warehouse: &Warehouse, subject: &Subject) -> Result<Rows> {
    let sql = match subject {
        Subject::Table(table) => format!("SELECT * FROM {}", warehouse.dialect().relation(table)),
        Subject::Query(sql) => sql.clone(),
    };
    warehouse.query(&sql, MOST_ROWS).await
}
