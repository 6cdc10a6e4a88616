//! `haul run` and `haul plan`: the days of one pipeline, or of all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::screen::{BAD, DIM, GOOD, WARN};
use super::{Common, Screen, session};
use crate::error::{Context, Kind, Result};
use crate::execute::{self, Gear};
use crate::model::pipeline::Pipeline;
use crate::model::plan::Plan;
use crate::model::run::{RunRecord, RunStatus, Trigger};
use crate::monitor::Monitor;
use crate::plan::Ask;

/// What a run, or the plan of one, is for.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The pipeline; all of them by default
    pipeline: Option<String>,
    /// The logical date: the window ends before it; today in the pipeline's zone by default
    #[arg(long, value_name = "DATE")]
    date: Option<NaiveDate>,
    /// Only these steps: `name`, `+name` with what it reads, `name+` with what reads it
    #[arg(long, value_name = "STEP")]
    select: Vec<String>,
    /// Also where nothing has changed
    #[arg(long)]
    force: bool,
}

impl Args {
    fn ask(&self, pipeline: &Pipeline, common: &Common) -> Ask {
        Ask {
            trigger: Trigger::Manual,
            logical_date: self.date.unwrap_or_else(|| common.today(pipeline.timezone)),
            select: self.select.clone(),
            range: None,
            force: self.force,
        }
    }

    fn pipelines(&self, gear: &Gear) -> Result<Vec<Arc<Pipeline>>> {
        match &self.pipeline {
            Some(name) => Ok(vec![session::pipeline(&gear.project, name)?]),
            None => Ok(gear.project.pipelines.clone()),
        }
    }
}

pub(super) async fn run(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    let gear = session::gear(common, screen).await?;
    let mut asks = Vec::new();
    for pipeline in args.pipelines(&gear)? {
        let ask = args.ask(&pipeline, common);
        asks.push((pipeline, ask));
    }
    walk(gear, asks, common, screen).await
}

/// Plans and runs one pipeline after the other, and tells how it ended.
pub(super) async fn walk(gear: Gear, asks: Vec<(Arc<Pipeline>, Ask)>, common: &Common, screen: &Screen) -> Result<u8> {
    let cancel = CancellationToken::new();
    watch_interrupts(cancel.clone(), screen.clone());
    let mut code = 0;
    let mut records = Vec::new();
    for (pipeline, ask) in asks {
        let (plan, mended) = execute::plan(&gear, &pipeline, &ask).await?;
        mended.iter().for_each(|sentence| screen.note(&format!("{WARN}mended{WARN:#}    {sentence}")));
        let monitor: Arc<dyn Monitor> = Arc::new(Progress::new(screen, common.kill_at.as_deref()));
        let begun = Instant::now();
        let record = execute::run(&gear, &plan, monitor, cancel.clone()).await?;
        summary(&record, &plan, begun.elapsed(), screen);
        code = worse(code, exit_code(record.status));
        records.push(record);
        if cancel.is_cancelled() {
            break;
        }
    }
    if screen.is_json() {
        screen.json(&records);
    }
    gear.close().await?;
    Ok(code)
}

fn watch_interrupts(cancel: CancellationToken, screen: Screen) {
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            screen.tell("stopping: requests under way are dropped, what is durable stays; Ctrl-C again ends at once");
            cancel.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
}

fn exit_code(status: RunStatus) -> u8 {
    match status {
        RunStatus::Succeeded => 0,
        RunStatus::Held => 3,
        RunStatus::Cancelled => 130,
        RunStatus::Failed | RunStatus::Running => 1,
    }
}

/// Of two endings the one that needs more attention.
fn worse(one: u8, other: u8) -> u8 {
    let rank = |code| match code {
        0 => 0,
        3 => 1,
        1 => 2,
        _ => 3,
    };
    if rank(one) >= rank(other) { one } else { other }
}

fn summary(record: &RunRecord, plan: &Plan, took: Duration, screen: &Screen) {
    let counts = record.counts;
    screen.note(&format!(
        "{}: {} loaded, {} unchanged, {} held, {} failed, {} skipped {DIM}({:.1} s){DIM:#}",
        record.id,
        counts.loaded,
        counts.unchanged,
        counts.held,
        counts.failed,
        counts.skipped,
        took.as_secs_f64()
    ));
    let name = &plan.pipeline.name;
    let again = format!("haul run {name} --date {}", plan.logical_date);
    match record.status {
        RunStatus::Held => screen.note(&format!(
            "{WARN}held{WARN:#}: the old rows stay. `haul show {}` says why, `haul approve TABLE UNIT` loads the new ones",
            record.id
        )),
        RunStatus::Failed => screen.note(&format!("{BAD}failed{BAD:#}: `haul show {}` says why; again with `{again}`", record.id)),
        RunStatus::Cancelled => screen.note(&format!("stopped; everything durable is kept: go on with `{again}`")),
        RunStatus::Succeeded | RunStatus::Running => {}
    }
}

pub(super) async fn plan(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    let gear = session::gear(common, screen).await?;
    let mut all = Vec::new();
    for pipeline in args.pipelines(&gear)? {
        let tables: Vec<_> = pipeline.steps.iter().map(|step| step.into.clone()).collect();
        let snapshot = gear.state.snapshot(&tables).await?;
        let plan = crate::plan::build(&pipeline, &snapshot, &args.ask(&pipeline, common), common.clock().now())?;
        if screen.is_json() {
            let value = serde_json::to_value(crate::plan::explain(&plan));
            all.push(value.context(Kind::Internal, || "printing the plan".to_owned())?);
        } else {
            print(&plan, screen);
        }
    }
    if screen.is_json() {
        screen.json(&all);
    }
    Ok(0)
}

fn print(plan: &Plan, screen: &Screen) {
    let window = plan.window.as_ref().map_or_else(
        || "no window".to_owned(),
        |window| format!("{} to {} ({} units)", window.first(), window.last(), window.units().len()),
    );
    screen.data(&format!("{GOOD}{}{GOOD:#} for {}: {window}", plan.pipeline.name, plan.logical_date));
    let rows = plan
        .tasks
        .iter()
        .map(|task| {
            let unit = match task.units.as_slice() {
                [] => "all".to_owned(),
                [only] => only.to_string(),
                [first, .., last] => format!("{first} to {last}"),
            };
            let step = &task.step;
            vec![
                step.name.clone(),
                step.action.word().to_owned(),
                unit,
                step.into.to_string(),
                step.write.word().to_owned(),
                task.due.words().to_owned(),
            ]
        })
        .collect();
    screen.table(&["step", "does", "unit", "into", "write", "why"], rows);
    for left in &plan.left {
        screen.data(&format!("{DIM}left alone: {} {}: {}{DIM:#}", left.step, left.unit, left.why));
    }
}
