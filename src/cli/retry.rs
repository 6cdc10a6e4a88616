//! `haul retry`: the requests of a fan-out that failed for good, once more, just those.

use std::sync::Arc;
use std::time::Instant;

use super::progress::Progress;
use super::screen::{DIM, counted};
use super::{Common, Screen, notify, remote, run, session};
use crate::error::Result;
use crate::execute::{self, Gear, Unfinished};
use crate::model::pipeline::Pipeline;
use crate::model::plan::Plan;
use crate::model::run::Trigger;
use crate::monitor::Monitor;
use crate::plan::Ask;

/// Whose requests are sent once more.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The pipeline
    pipeline: String,
    /// Only of this step
    step: Option<String>,
    /// Only show which requests failed, and why
    #[arg(long)]
    list: bool,
}

impl Args {
    fn ask(&self, pipeline: &Pipeline, common: &Common) -> Ask {
        Ask {
            trigger: Trigger::Manual,
            logical_date: common.today(pipeline.timezone),
            select: self.step.iter().cloned().collect(),
            range: None,
            window: None,
            force: false,
            retry: true,
        }
    }
}

pub(super) async fn retry(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    let gear = session::gear(common, screen).await?;
    let pipeline = session::pipeline(&gear.project, &args.pipeline)?;
    if args.list {
        let unfinished = execute::unfinished(&gear, &pipeline, args.step.as_deref()).await?;
        list(&unfinished, screen);
        gear.close().await?;
        return Ok(0);
    }
    let plans = execute::plan_retry(&gear, &pipeline, args.step.as_deref()).await?;
    let keeper = remote::keeper_of(&pipeline.warehouse, &gear.project, &gear.connections, screen)?;
    let code = match keeper {
        Some(client) => {
            let asks = vec![(Arc::clone(&pipeline), args.ask(&pipeline, common))];
            let project = Arc::clone(&gear.project);
            gear.close().await?;
            remote::run(&client, asks, &project, screen).await?
        }
        None => walk(gear, &plans, common, screen).await?,
    };
    let name = &pipeline.name;
    if code == 0 {
        screen.note(&format!("`haul run {name}` brings what reads them up to date"));
    } else {
        screen.note(&format!("`haul retry {name} --list` shows the requests that are still missing"));
    }
    Ok(code)
}

/// Sends them from here, and tells those who want to know what is well again.
async fn walk(gear: Gear, plans: &[Plan], common: &Common, screen: &Screen) -> Result<u8> {
    let cancel = run::cancel_on_interrupt(screen);
    let (mut code, mut records) = (0, Vec::new());
    for plan in plans {
        let monitor: Arc<dyn Monitor> = Arc::new(Progress::new(screen, plan, common.kill_at.as_deref()));
        let begun = Instant::now();
        let record = execute::run_retry(&gear, plan, monitor, cancel.clone()).await?;
        run::counts(&record, plan, begun.elapsed(), screen);
        code = run::worse(code, run::exit_code(record.status));
        records.push(record);
        if cancel.is_cancelled() {
            break;
        }
    }
    if screen.is_json() {
        screen.json(&records);
    }
    if let Some(teller) = notify::of_run(&gear, common, screen) {
        notify::look(&teller, common, screen).await;
    }
    gear.close().await?;
    Ok(code)
}

fn list(unfinished: &[Unfinished], screen: &Screen) {
    if screen.is_json() {
        return screen.json(&unfinished);
    }
    if unfinished.is_empty() {
        screen.note("no request has failed");
    }
    for task in unfinished {
        let unit = if task.unit.is_whole() { String::new() } else { format!(" {}", task.unit) };
        let loaded = if task.loaded { "loaded without them" } else { "not loaded" };
        let count = counted(task.failed.len() as u64, "request");
        screen.data(&format!("{}{unit}: {count} failed, {loaded}", task.step));
        for failed in &task.failed {
            screen.data(&format!("  {}  {DIM}{}{DIM:#}", failed.request, failed.item));
            screen.data(&format!("    {}", failed.reason));
        }
    }
}
