//! `haul run` and `haul plan`: the days of one pipeline, or of all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use tokio_util::sync::CancellationToken;

use super::fan_view::grouped;
use super::progress::Progress;
use super::screen::{BAD, DIM, GOOD, WARN, counted};
use super::{Common, Screen, notify, remote, session, traces};
use crate::api::Client;
use crate::config::Look;
use crate::error::{Context, Kind, Result};
use crate::execute::{self, Gear, Noticed};
use crate::model::cost::{Bytes, Expected, Sum};
use crate::model::ledger::UnitState;
use crate::model::pipeline::{Pipeline, Project};
use crate::model::plan::{LeftAlone, Plan, PlannedTask};
use crate::model::run::{RunRecord, RunStatus, Trigger};
use crate::monitor::Monitor;
use crate::plan::{Ask, CostTotals, Reprocess};
use crate::state::State;
use crate::time::Unit;
use crate::traces::{About, Say, Traces};

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

/// What is run, and where.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    what: Args,
    /// Run it here, also where `haul serve` is at work on the project
    #[arg(long)]
    local: bool,
}

impl Args {
    fn ask(&self, pipeline: &Pipeline, common: &Common) -> Ask {
        Ask {
            trigger: Trigger::Manual,
            logical_date: self.date.unwrap_or_else(|| common.today(pipeline.timezone)),
            select: self.select.clone(),
            range: None,
            window: None,
            force: self.force,
            retry: false,
        }
    }

    fn pipelines(&self, project: &Project) -> Result<Vec<Arc<Pipeline>>> {
        match &self.pipeline {
            Some(name) => Ok(vec![session::pipeline(project, name)?]),
            None => Ok(project.pipelines.clone()),
        }
    }
}

pub(super) async fn run(args: &RunArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let (project, connections) = session::project(common, screen)?;
    let mut asks = Vec::new();
    for pipeline in args.what.pipelines(&project)? {
        let ask = args.what.ask(&pipeline, common);
        asks.push((pipeline, ask));
    }
    if !args.local
        && let Some(client) = Client::of(&project, &connections, &screen.redactor)?
    {
        return remote::run(&client, asks, &project, screen).await;
    }
    let gear = Gear::open(project, connections, common.clock(), screen.redactor.clone()).await?;
    walk(gear, asks, common, screen).await
}

/// Plans and runs one pipeline after the other, and tells how it ended.
pub(super) async fn walk(gear: Gear, asks: Vec<(Arc<Pipeline>, Ask)>, common: &Common, screen: &Screen) -> Result<u8> {
    let cancel = cancel_on_interrupt(screen);
    let teller = notify::of_run(&gear, common, screen);
    let warn = screen.clone();
    let say: Say = Arc::new(move |sentence| warn.tell(&format!("{WARN}warning{WARN:#}: {sentence}")));
    let traces = traces::open(&gear.project, &gear.connections, common, &screen.redactor, say);
    let alone = asks.len() == 1;
    let mut code = 0;
    let mut records = Vec::new();
    for (pipeline, ask) in asks {
        match one(&gear, &pipeline, &ask, (common, screen), traces.as_ref(), &cancel).await {
            Ok(record) => {
                code = worse(code, exit_code(record.status));
                records.push(record);
            }
            Err(error) if alone => {
                if let Some(teller) = &teller {
                    teller.could_not_begin(&pipeline.name, &error, common.clock().now()).await?;
                    notify::look(teller, common, screen).await;
                }
                return Err(error);
            }
            // What keeps one pipeline from running is told; the others run all the same.
            Err(error) => {
                screen.error(&error);
                code = worse(code, error.kind().exit_code());
                if let Some(teller) = &teller {
                    teller.could_not_begin(&pipeline.name, &error, common.clock().now()).await?;
                }
            }
        }
        if cancel.is_cancelled() {
            break;
        }
    }
    if screen.is_json() {
        screen.json(&records);
    }
    if let Some(teller) = &teller {
        notify::look(teller, common, screen).await;
    }
    if let Some(traces) = traces {
        traces.close().await;
    }
    gear.close().await?;
    Ok(code)
}

async fn one(
    gear: &Gear,
    pipeline: &Arc<Pipeline>,
    ask: &Ask,
    (common, screen): (&Common, &Screen),
    traces: Option<&Traces>,
    cancel: &CancellationToken,
) -> Result<RunRecord> {
    let (plan, noticed) = execute::plan(gear, pipeline, ask).await?;
    tell_noticed(&noticed, screen);
    let monitor: Arc<dyn Monitor> = Arc::new(Progress::new(screen, &plan, common.kill_at.as_deref()));
    let monitor = match traces {
        Some(traces) => traces.listen(About::default(), monitor),
        None => monitor,
    };
    let begun = Instant::now();
    let record = execute::run(gear, &plan, monitor, cancel.clone()).await?;
    summary(&record, &plan, ask, begun.elapsed(), screen);
    money(gear, &record, screen).await?;
    if record.status == RunStatus::Refused
        && let Err(refusal) = crate::plan::within(&plan)
    {
        screen.error(&refusal);
    }
    if record.status == RunStatus::Held {
        decisions(&gear.state, pipeline, screen).await?;
    }
    Ok(record)
}

pub(super) fn tell_noticed(noticed: &Noticed, screen: &Screen) {
    for sentence in &noticed.mended {
        screen.note(&format!("{WARN}mended{WARN:#}    {sentence}"));
    }
    for sentence in &noticed.unseen {
        screen.note(&format!("{WARN}unseen{WARN:#}    {sentence}"));
    }
}

/// What Ctrl-C stops.
pub(super) fn cancel_on_interrupt(screen: &Screen) -> CancellationToken {
    let cancel = CancellationToken::new();
    watch_interrupts(cancel.clone(), screen.clone());
    cancel
}

fn watch_interrupts(cancel: CancellationToken, screen: Screen) {
    let Ok(mut interrupts) = Interrupts::watch() else { return };
    tokio::spawn(async move {
        interrupts.next().await;
        screen.tell("stopping: requests under way are dropped, what is durable stays; Ctrl-C again ends at once");
        cancel.cancel();
        interrupts.next().await;
        std::process::exit(130);
    });
}

/// Ctrl-C, as often as it comes: one watch for all of them, so that none is lost between two.
#[cfg(unix)]
struct Interrupts(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Interrupts {
    fn watch() -> std::io::Result<Self> {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// Ctrl-C, as often as it comes: one watch for all of them, so that none is lost between two.
#[cfg(windows)]
struct Interrupts(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Interrupts {
    fn watch() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}

pub(super) fn exit_code(status: RunStatus) -> u8 {
    match status {
        RunStatus::Succeeded => 0,
        RunStatus::Held => 3,
        RunStatus::Late => 4,
        RunStatus::Refused => Kind::Budget.exit_code(),
        RunStatus::Cancelled => 130,
        RunStatus::Failed | RunStatus::Running => 1,
    }
}

/// Of two endings the one that needs more attention.
pub(super) fn worse(one: u8, other: u8) -> u8 {
    let rank = |code| match code {
        0 => 0,
        4 => 1,
        3 => 2,
        5 => 3,
        1 => 4,
        _ => 5,
    };
    if rank(one) >= rank(other) { one } else { other }
}

fn summary(record: &RunRecord, plan: &Plan, ask: &Ask, took: Duration, screen: &Screen) {
    counts(record, plan, took, screen);
    match record.status {
        RunStatus::Failed => screen.note(&format!(
            "{BAD}failed{BAD:#}: `haul show {}` says why; what failed is done again by `{}`",
            record.id,
            again(ask, plan, record.status)
        )),
        RunStatus::Cancelled => screen.tell(&format!(
            "{WARN}stopped{WARN:#}: everything durable is kept: go on with `{}`",
            again(ask, plan, record.status)
        )),
        RunStatus::Late => screen.note(&format!(
            "{WARN}late{WARN:#}: the source does not have everything yet; {}`{}`{}",
            // What only a backfill has asked for, no run of a day asks for again.
            if ask.range.is_none() { "the next run asks again, and so does " } else { "" },
            again(ask, plan, record.status),
            if ask.range.is_none() { "" } else { " asks again" },
        )),
        RunStatus::Refused => screen.tell(&format!("{BAD}refused{BAD:#}: nothing was begun, and nothing was spent")),
        RunStatus::Held | RunStatus::Succeeded | RunStatus::Running => {}
    }
}

/// What a run was billed for, and what it saved, where there is anything to tell.
async fn money(gear: &Gear, record: &RunRecord, screen: &Screen) -> Result<()> {
    let costs = gear.state.costs_of_run(&record.id).await?;
    let mut told = Vec::new();
    if costs.jobs > 0 {
        let jobs = counted(costs.jobs, "job");
        told.push(format!("billed {} for {jobs} ({})", Bytes(costs.billed_bytes), costs.money));
    }
    if costs.spared_units > 0 {
        let units = counted(costs.spared_units, "unchanged unit");
        told.push(format!("saved {} by {units} ({})", Bytes(costs.saved_bytes), costs.saved_money));
    }
    if !told.is_empty() {
        screen.note(&format!("{}: {}", record.id, told.join(", ")));
    }
    Ok(())
}

/// How many tasks of a run ended how.
pub(super) fn counts(record: &RunRecord, plan: &Plan, took: Duration, screen: &Screen) {
    let counts = record.counts;
    let ended =
        counts.done + counts.loaded + counts.unchanged + counts.held + counts.late + counts.failed + counts.skipped;
    let open = (plan.tasks.len() as u64).saturating_sub(ended);
    let open = if open > 0 { format!(", {open} not done") } else { String::new() };
    let late = if counts.late > 0 { format!("{} late, ", counts.late) } else { String::new() };
    let done = if counts.done > 0 { format!("{} done, ", counts.done) } else { String::new() };
    let incomplete = match counts.incomplete {
        0 => String::new(),
        some => format!(" ({some} incomplete)"),
    };
    screen.note(&format!(
        "{}: {done}{} loaded{incomplete}, {} unchanged, {} held, {late}{} failed, {} skipped{open} {DIM}({:.1} s){DIM:#}",
        record.id,
        counts.loaded,
        counts.unchanged,
        counts.held,
        counts.failed,
        counts.skipped,
        took.as_secs_f64()
    ));
}

/// The command that does what is left of a run.
fn again(ask: &Ask, plan: &Plan, status: RunStatus) -> String {
    let name = &plan.pipeline.name;
    let mut command = match ask.range {
        None => format!("haul run {name} --date {}", ask.logical_date),
        Some(range) => {
            let reprocess = match (range.reprocess, status) {
                (Reprocess::Missing, _) => "",
                (Reprocess::All, RunStatus::Cancelled) => " --reprocess all",
                (Reprocess::Failed | Reprocess::All, _) => " --reprocess failed",
            };
            format!("haul backfill {name} --from {} --to {}{reprocess}", range.from, range.to)
        }
    };
    for select in &ask.select {
        command = format!("{command} --select {select}");
    }
    if ask.force {
        command.push_str(" --force");
    }
    command
}

/// Names the held units of a pipeline with the commands that decide on them.
pub(super) async fn decisions(state: &State, pipeline: &Pipeline, screen: &Screen) -> Result<()> {
    let tables: Vec<_> = pipeline.steps.iter().map(|step| step.into.clone()).collect();
    let snapshot = state.snapshot(&tables).await?;
    screen.note(&format!("{WARN}held{WARN:#}: the old rows stay until somebody decides:"));
    for record in tables.iter().flat_map(|table| snapshot.table(table)).filter(|unit| unit.state == UnitState::Held) {
        let reason = record.reason.as_deref().and_then(|reason| reason.lines().next()).unwrap_or_default();
        screen.note(&format!("  haul approve {} {}  {DIM}{reason}{DIM:#}", record.table, record.unit));
    }
    screen.note("  this loads the new rows; with --reject they are thrown away");
    Ok(())
}

pub(super) async fn plan(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    let site = session::Site::open(common, screen)?;
    let loaded = Look::at(&site.root, &site.options()).load(args.pipeline.as_deref());
    let project = session::sound(loaded, screen)?;
    let gear = Gear::open(project, site.connections, common.clock(), screen.redactor.clone()).await?;
    let asks = args.pipelines(&gear.project)?.into_iter().map(|pipeline| {
        let ask = args.ask(&pipeline, common);
        (pipeline, ask)
    });
    let code = show_plans(&gear, asks.collect(), screen).await?;
    gear.close().await?;
    Ok(code)
}

/// Shows what runs would do; a pipeline that has nothing to do says so.
///
/// Returns the exit code: a run that would be refused is told.
pub(super) async fn show_plans(gear: &Gear, asks: Vec<(Arc<Pipeline>, Ask)>, screen: &Screen) -> Result<u8> {
    let alone = asks.len() == 1;
    let mut all = Vec::new();
    let mut code = 0;
    for (pipeline, ask) in asks {
        let (plan, noticed) = match execute::foresee(gear, &pipeline, &ask).await {
            Ok(planned) => planned,
            Err(error) if !alone && matches!(error.kind(), Kind::Usage | Kind::NothingDue) => {
                screen.error(&error);
                continue;
            }
            Err(error) => return Err(error),
        };
        tell_noticed(&noticed, screen);
        if screen.is_json() {
            let value = serde_json::to_value(crate::plan::explain(&plan));
            all.push(value.context(Kind::Internal, || "printing the plan".to_owned())?);
        } else {
            print(&plan, screen);
        }
        if let Err(refusal) = crate::plan::within(&plan) {
            screen.error(&refusal);
            code = refusal.kind().exit_code();
        }
    }
    if screen.is_json() {
        screen.json(&all);
    }
    Ok(code)
}

fn print(plan: &Plan, screen: &Screen) {
    let window = plan.window.as_ref().map_or_else(
        || "no window".to_owned(),
        |window| {
            let count = window.units().len();
            let words = window.first().calendar.grain.plural();
            let word = if count == 1 { words.trim_end_matches('s') } else { words };
            format!("{} to {} ({count} {word})", window.first(), window.last())
        },
    );
    screen.data(&format!("{GOOD}{}{GOOD:#} for {}: {window}", plan.pipeline.name, plan.logical_date));
    let mut rows = Vec::new();
    let costs = crate::plan::cost_of(plan);
    for group in plan.tasks.chunk_by(|one, next| one.step.name == next.step.name && one.due == next.due) {
        if group.len() <= LISTED_UNITS {
            rows.extend(group.iter().map(|task| row(task, spanned(&task.units), billed(std::slice::from_ref(task)))));
        } else if let [first, .., last] = group {
            let units: Vec<Unit> = first.units.iter().chain(&last.units).copied().collect();
            rows.push(row(first, format!("{} ({})", spanned(&units), group.len()), billed(group)));
        }
    }
    let mut header = vec!["step", "does", "unit", "into", "write", "why", "billed"];
    if costs.is_none() {
        header.pop();
        rows.iter_mut().for_each(|row| drop(row.pop()));
    }
    screen.table(&header, rows);
    if let Some(costs) = costs {
        cost_lines(&costs, plan, screen);
    }
    for (step, each) in &plan.requests {
        let tasks = plan.tasks.iter().filter(|task| task.step.name == *step).count() as u64;
        if tasks > 0 {
            let product = if tasks > 1 { format!(" ({tasks} × {})", grouped(*each)) } else { String::new() };
            screen.data(&format!(
                "{step} sends {} requests{product}, and more where answers have several pages",
                grouped(tasks * each)
            ));
        }
    }
    left_alone(&plan.left, screen);
}

/// More tasks in a row that differ only by their unit are one line of a plan.
const LISTED_UNITS: usize = 7;

/// What tasks would be billed for, in a cell.
fn billed(tasks: &[PlannedTask]) -> String {
    let (mut bytes, mut priced, mut spared, mut unknown) = (0, false, 0, Vec::new());
    for task in tasks {
        match &task.expected {
            Expected::Free => {}
            Expected::Spared => spared += 1,
            Expected::Unknown(why) => unknown.push(why.as_str()),
            Expected::Priced(quote) => (bytes, priced) = (bytes + quote.price.billed, true),
        }
    }
    let mut told = Vec::new();
    if priced {
        told.push(Bytes(bytes).to_string());
    }
    match unknown.first() {
        Some(why) if tasks.len() == 1 => told.push(format!("unknown {why}")),
        Some(why) => told.push(format!("{} unknown {why}", unknown.len())),
        None => {}
    }
    match spared {
        0 => {}
        _ if tasks.len() == 1 => told.push("0 B, unchanged".to_owned()),
        some => told.push(format!("{some} unchanged")),
    }
    told.join(", ")
}

/// What a plan would be billed for: each step where there are several, and all of it.
fn cost_lines(costs: &CostTotals, plan: &Plan, screen: &Screen) {
    let told = |costs: &CostTotals| {
        let billed = || format!("{} billed, {}", Bytes(costs.billed_bytes), costs.money);
        let mut text = if costs.money == Sum::default() { "nothing billed".to_owned() } else { billed() };
        if costs.unknown > 0 {
            text = format!("{text}, and {} not known yet", counted(costs.unknown as u64, "task"));
        }
        text
    };
    if costs.by_step.len() > 1 {
        for (step, costs) in &costs.by_step {
            screen.data(&format!("{step}: {}", told(costs)));
        }
    }
    let limit = plan.pipeline.max_bytes.map(|limit| format!("; max_bytes is {limit}")).unwrap_or_default();
    screen.data(&format!("in all: {}{limit}", told(costs)));
}

fn row(task: &PlannedTask, unit: String, billed: String) -> Vec<String> {
    let step = &task.step;
    vec![
        step.name.clone(),
        step.action.word().to_owned(),
        unit,
        step.into.to_string(),
        step.write.word().to_owned(),
        task.due.words().to_owned(),
        billed,
    ]
}

fn spanned(units: &[Unit]) -> String {
    match units {
        [] => "all".to_owned(),
        [only] => only.to_string(),
        [first, .., last] => format!("{first} to {last}"),
    }
}

/// Units that are left alone, a line for all in a row that have the same reason.
fn left_alone(left: &[LeftAlone], screen: &Screen) {
    for group in left.chunk_by(|one, next| one.step == next.step && one.why == next.why) {
        let units = match group {
            [] => continue,
            [only] => only.unit.to_string(),
            [first, .., last] => {
                format!("{} from {} to {}", counted(group.len() as u64, "unit"), first.unit, last.unit)
            }
        };
        screen.data(&format!("{DIM}left alone: {} {units}: {}{DIM:#}", group[0].step, group[0].why));
    }
}
