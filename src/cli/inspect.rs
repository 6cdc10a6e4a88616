//! `haul status`, `runs`, `show` and `drift`: what the ledger knows; the warehouse is not opened.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::screen::{BAD, DIM, GOOD, WARN, counted, indented};
use super::{Common, Screen, session};
use crate::config::{self, Look};
use crate::error::{Error, Result};
use crate::model::drift::{Advice, Drift};
use crate::model::ledger::{Snapshot, UnitRecord, UnitState};
use crate::model::name::TableName;
use crate::model::pipeline::{Pipeline, Project};
use crate::model::run::{RunRecord, TaskState};
use crate::state::State;
use crate::time::{Grain, UnitKey, display_duration};

/// How much of the past is shown.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// Only the tables of this pipeline
    pipeline: Option<String>,
    /// How many units back
    #[arg(long, default_value_t = 14)]
    days: usize,
}

/// More tables than these are not shown day by day.
const MOST_TABLES: usize = 500;

/// Which runs are listed.
#[derive(Debug, clap::Args)]
pub(super) struct RunsArgs {
    /// Only of this pipeline
    pipeline: Option<String>,
    /// How many
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

/// The tables that steps write, and by the same numbers the pipelines of these.
struct Written {
    tables: Vec<TableName>,
    owners: Vec<String>,
}

impl FromIterator<(TableName, String)> for Written {
    fn from_iter<I: IntoIterator<Item = (TableName, String)>>(all: I) -> Self {
        let (tables, owners) = all.into_iter().unzip();
        Self { tables, owners }
    }
}

fn tables_of(pipeline: &Arc<Pipeline>) -> impl Iterator<Item = (TableName, String)> {
    let written = pipeline.steps.iter().filter(|step| step.writes());
    written.map(|step| (step.into.clone(), pipeline.name.clone()))
}

impl Default for StatusArgs {
    fn default() -> Self {
        Self { pipeline: None, days: 14 }
    }
}

async fn open(common: &Common, screen: &Screen) -> Result<(Arc<Project>, State)> {
    let (project, _) = session::seen(common, screen).await?;
    let state = State::open(&project.state_dir).await?;
    Ok((project, state))
}

/// The state store alone: what the pipelines are is not asked.
async fn store(common: &Common) -> Result<State> {
    State::open(&config::state_dir(&session::root(common)?)).await
}

pub(super) async fn status(args: &StatusArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let site = session::Site::open(common, screen)?;
    let options = site.options();
    let look = Look::at(&site.root, &options);
    if let Some(outline) = look.outline().filter(|_| args.pipeline.is_none() && !screen.is_json()) {
        let written: Written = outline.tables().collect();
        if written.tables.len() > MOST_TABLES {
            let state = State::open(&config::state_dir(&site.root)).await?;
            return short(outline.pipelines(), &written, &state, screen).await;
        }
    }
    let read = session::sound(look.load(args.pipeline.as_deref()), screen);
    let project = session::or_without_faults(read, &site.root, screen).await?;
    let state = State::open(&project.state_dir).await?;
    let chosen = args.pipeline.as_deref().map(|name| session::pipeline(&project, name)).transpose()?;
    let pipelines = chosen.as_ref().map_or(project.pipelines.as_slice(), std::slice::from_ref);
    let written: Written = pipelines.iter().flat_map(tables_of).collect();
    let tables = &written.tables;
    if screen.is_json() {
        let snapshot = state.snapshot(tables).await?;
        let units: Vec<&UnitRecord> = tables.iter().flat_map(|table| snapshot.table(table)).collect();
        screen.json(&units);
        return Ok(0);
    }
    if tables.len() > MOST_TABLES {
        return short(pipelines.len(), &written, &state, screen).await;
    }
    let snapshot = state.recent(tables, u32::try_from(args.days).unwrap_or(u32::MAX)).await?;
    days(pipelines, &snapshot, args.days, screen);
    attention(&written, &snapshot, screen);
    Ok(0)
}

/// The tables of each grain day by day, and those without days.
fn days(pipelines: &[Arc<Pipeline>], snapshot: &Snapshot, count: usize, screen: &Screen) {
    let width = pipelines.iter().flat_map(tables_of).map(|(table, _)| table.to_string().len()).max().unwrap_or(0);
    let mut blocks: Vec<(Option<Grain>, Vec<TableName>)> = Vec::new();
    for pipeline in pipelines {
        for (table, _) in tables_of(pipeline) {
            let whole = snapshot.unit(&table, &UnitKey::whole()).is_some();
            let grain = pipeline.window.as_ref().map(|rule| rule.grain).filter(|_| !whole);
            match blocks.iter_mut().find(|(other, _)| *other == grain) {
                Some((_, tables)) => tables.push(table),
                None => blocks.push((grain, vec![table])),
            }
        }
    }
    for (grain, tables) in &blocks {
        match grain {
            Some(grain) => matrix(*grain, tables, snapshot, count, width, screen),
            None => tables.iter().for_each(|table| {
                let sign = sign(snapshot.unit(table, &UnitKey::whole()));
                screen.data(&format!("{:width$}    {sign}    {DIM}the whole table{DIM:#}", table.to_string()));
            }),
        }
    }
    screen.data(&format!("{DIM}● loaded   ○ loaded, new or changed at its last pull   ! held   ~ late   x failed   - missing in the warehouse   · never{DIM:#}"));
}

/// More tables than anybody reads through: only what somebody should look at.
async fn short(pipelines: usize, written: &Written, state: &State, screen: &Screen) -> Result<u8> {
    let odd = state.odd(&written.tables).await?;
    let concerned = written.tables.iter().filter(|table| odd.table(table).next().is_some()).count();
    screen.data(&format!(
        "{} tables of {} pipelines: {concerned} with units that are not simply loaded; `haul status PIPELINE` shows the days of one",
        written.tables.len(),
        pipelines
    ));
    attention(written, &odd, screen);
    Ok(0)
}

/// Tables of one grain by their last units, a sign for each.
fn matrix(grain: Grain, tables: &[TableName], snapshot: &Snapshot, units: usize, width: usize, screen: &Screen) {
    let keys: BTreeSet<&UnitKey> =
        tables.iter().flat_map(|table| snapshot.table(table)).map(|record| &record.unit).collect();
    let keys: Vec<&UnitKey> = keys.into_iter().rev().take(units).rev().collect();
    let year = |key: Option<&&UnitKey>| key.and_then(|key| key.as_str().get(..4)).unwrap_or_default().to_owned();
    let (first, last) = (year(keys.first()), year(keys.last()));
    let years = if first == last { first } else { format!("{first}-{last}") };
    // Five signs each: a date without its year, an hour with its day, a month with its year.
    let part = match grain {
        Grain::Hour => 8..13,
        Grain::Day | Grain::Week => 5..10,
        Grain::Month => 2..7,
    };
    let heads: Vec<&str> = keys.iter().map(|key| key.as_str().get(part.clone()).unwrap_or(key.as_str())).collect();
    if !keys.is_empty() {
        screen.data(&format!("{DIM}{years:width$}{DIM:#}  {}", heads.join(" ")));
    }
    for table in tables {
        let signs: Vec<String> = keys.iter().map(|key| format!("  {}  ", sign(snapshot.unit(table, key)))).collect();
        let signs = if signs.is_empty() { vec![format!("{DIM}nothing is loaded yet{DIM:#}")] } else { signs };
        screen.data(&format!("{:width$}  {}", table.to_string(), signs.join(" ").trim_end()));
    }
}

/// The units that are not loaded, each with its reason, and what may be done.
fn attention(written: &Written, snapshot: &Snapshot, screen: &Screen) {
    for (table, owner) in written.tables.iter().zip(&written.owners) {
        for record in snapshot.table(table) {
            concern(record, owner, screen);
        }
    }
}

/// What is odd about a unit, and what may be done.
fn concern(record: &UnitRecord, pipeline: &str, screen: &Screen) {
    let reason = record.reason.as_deref().unwrap_or("").lines().next().unwrap_or("");
    let (table, unit) = (&record.table, &record.unit);
    let by_backfill = format!("`haul backfill {pipeline}` over it");
    let who = if record.backfilled { &by_backfill } else { "the next run" };
    match record.state {
        UnitState::Loaded if record.reason.is_some() && record.held_stage.is_some() => {
            let unit = if unit.is_whole() { String::new() } else { format!(" {unit}") };
            screen.data(&format!("{table}{unit} is incomplete: {reason}; `haul retry {pipeline}` completes it"));
        }
        UnitState::Loaded => {}
        UnitState::Held => screen.data(&format!(
            "{table} {unit} is held: {reason}; `haul approve {table} {unit}` loads the new rows, with --reject it drops them"
        )),
        UnitState::Failed => screen.data(&format!("{table} {unit} failed: {reason}; {who} does it again")),
        UnitState::Late => screen.data(&format!("{table} {unit} is late: {reason}; {who} asks again")),
        UnitState::Missing => screen.data(&format!("{table} {unit} is {reason}; {who} loads it again")),
    }
}

fn sign(record: Option<&UnitRecord>) -> String {
    match record {
        None => format!("{DIM}·{DIM:#}"),
        Some(record) => match record.state {
            UnitState::Loaded if record.unchanged_pulls > 0 => format!("{GOOD}●{GOOD:#}"),
            UnitState::Loaded => format!("{GOOD}○{GOOD:#}"),
            UnitState::Held => format!("{WARN}!{WARN:#}"),
            UnitState::Late => format!("{WARN}~{WARN:#}"),
            UnitState::Failed => format!("{BAD}x{BAD:#}"),
            UnitState::Missing => format!("{BAD}-{BAD:#}"),
        },
    }
}

pub(super) async fn runs(args: &RunsArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let state = store(common).await?;
    let runs = state.runs(args.pipeline.as_deref(), args.limit.saturating_add(1)).await?;
    let runs = screen.newest(runs, args.limit);
    if screen.is_json() {
        screen.json(&runs);
        return Ok(0);
    }
    if runs.is_empty() {
        screen.note("nothing has run yet: `haul run` does");
    }
    let rows = runs
        .iter()
        .map(|run| {
            let counts = run.counts;
            vec![
                run.id.clone(),
                word(run.status),
                run.started_at.format("%Y-%m-%d %H:%M:%S").to_string(),
                took(run),
                match counts.incomplete {
                    0 => counts.loaded.to_string(),
                    some => format!("{} ({some} incomplete)", counts.loaded),
                },
                counts.unchanged.to_string(),
                counts.held.to_string(),
                counts.late.to_string(),
                counts.failed.to_string(),
                counts.skipped.to_string(),
            ]
        })
        .collect();
    screen.table(
        &["run", "status", "started (UTC)", "took", "loaded", "unchanged", "held", "late", "failed", "skipped"],
        rows,
    );
    Ok(0)
}

/// How long a run took.
fn took(run: &RunRecord) -> String {
    let Some(finished_at) = run.finished_at else { return String::new() };
    let took = finished_at.signed_duration_since(run.started_at).to_std().unwrap_or_default();
    // Longer runs are told without their milliseconds.
    let tenths = u64::try_from(took.as_millis() / 100).unwrap_or(u64::MAX);
    if tenths < 600 { format!("{}.{} s", tenths / 10, tenths % 10) } else { display_duration(took) }
}

/// A word as it is stored.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(super) async fn show(id: &str, common: &Common, screen: &Screen) -> Result<u8> {
    let state = store(common).await?;
    let Some((run, logs)) = state.run(id).await? else {
        return Err(Error::usage(format!("there is no run `{id}`")).hint("`haul runs` lists them"));
    };
    if screen.is_json() {
        screen.json(&json!({ "run": run, "events": logs }));
        return Ok(0);
    }
    let begun = run.started_at.format("%Y-%m-%d %H:%M:%S UTC");
    let took = if run.finished_at.is_some() { format!(", took {}", took(&run)) } else { String::new() };
    screen.data(&format!("{} for {}: {}, begun {begun}{took}", run.id, run.logical_date, word(run.status)));
    let states = crate::model::run::fold(&logs)?;
    let mut steps: Vec<&str> = Vec::new();
    for log in &logs {
        if !steps.contains(&log.task.step.as_str()) {
            steps.push(&log.task.step);
        }
    }
    let width = states.keys().map(|task| task.to_string().len()).max().unwrap_or(0);
    for step in steps {
        for (task, state) in states.iter().filter(|(task, _)| task.step == step) {
            let task = format!("{task:width$}");
            screen.data(format!("{:9}  {task}  {}", state.name(), indented(&ended(state), 4)).trim_end());
        }
    }
    Ok(0)
}

fn lacking(incomplete: Option<&str>) -> String {
    incomplete.map(|why| format!("; incomplete: {why}")).unwrap_or_default()
}

/// How a task ended, in words.
fn ended(state: &TaskState) -> String {
    match state {
        TaskState::Loaded { rows, changes, incomplete } => {
            let rows = counted(*rows, "row");
            let changes =
                changes.map(|changes| format!(", +{} -{} ~{}", changes.added, changes.removed, changes.changed));
            format!("{rows}{}{}", changes.unwrap_or_default(), lacking(incomplete.as_deref()))
        }
        TaskState::Unchanged { rows, incomplete } => {
            format!("{}{}", counted(*rows, "row"), lacking(incomplete.as_deref()))
        }
        TaskState::Done { note } => note.clone(),
        TaskState::Failed { kind, reason } => format!("{kind}: {reason}"),
        TaskState::Held { reason } | TaskState::Late { reason } | TaskState::Skipped { reason } => reason.clone(),
        TaskState::Waiting | TaskState::Running { .. } | TaskState::Cancelled => String::new(),
    }
}

pub(super) async fn drift(table: Option<&str>, common: &Common, screen: &Screen) -> Result<u8> {
    let (project, state) = open(common, screen).await?;
    let known = state.tables().await?;
    let tables = match table {
        Some(name) => {
            let table = TableName::stored(name);
            let written = project.pipelines.iter().flat_map(|pipeline| &pipeline.steps).any(|step| step.into == table);
            if !written && !known.contains(&table) {
                let names: Vec<String> = known.iter().map(ToString::to_string).collect();
                return Err(Error::usage(format!("no step of this project writes {table}")).hint(format!(
                    "the ledger knows {}",
                    if names.is_empty() { "no table yet".to_owned() } else { names.join(", ") }
                )));
            }
            vec![table]
        }
        None => known,
    };
    if tables.is_empty() {
        screen.note("nothing was pulled yet: `haul run` does");
    }
    let grain = |table: &TableName| {
        let writes = |pipeline: &&Arc<Pipeline>| pipeline.steps.iter().any(|step| step.into == *table);
        let window = project.pipelines.iter().find(writes).and_then(|pipeline| pipeline.window.as_ref());
        window.map_or(Grain::Day, |rule| rule.grain)
    };
    let mut all = serde_json::Map::new();
    for table in tables {
        let drift = Drift::of(&state.pulls(&table, None).await?);
        if screen.is_json() {
            all.insert(table.to_string(), serde_json::to_value(&drift).unwrap_or_default());
        } else {
            print(&table, grain(&table), &drift, screen);
        }
    }
    if screen.is_json() {
        screen.json(&all);
    }
    Ok(0)
}

fn print(table: &TableName, grain: Grain, drift: &Drift, screen: &Screen) {
    let (pulls, units) = (counted(drift.repulls, "re-pull"), counted(drift.units, "unit"));
    screen.data(&format!("{GOOD}{table}{GOOD:#}: {pulls} of {units}"));
    let rows = drift
        .ages
        .iter()
        .map(|age| {
            let value = serde_json::to_value(age).unwrap_or_default();
            let text = |name: &str| value.get(name).map(ToString::to_string).unwrap_or_default();
            vec![text("age"), text("pulls"), text("changed_pulls"), text("added"), text("removed"), text("changed")]
        })
        .collect();
    screen.table(&["age", "pulls", "that changed", "rows added", "removed", "changed"], rows);
    screen.data(&match &drift.advice {
        Advice::Unknown => "advice: none yet, too few units were pulled again".to_owned(),
        Advice::Units { lookback } if drift.changed_pulls == 0 => {
            format!("advice: no re-pull changed anything so far: lookback = {lookback} would do")
        }
        Advice::Units { lookback } => format!("advice: lookback = {lookback} would have caught 99 % of the changes"),
        Advice::MoreThan { lookback } => {
            let units = counted(*lookback, grain.plural().trim_end_matches('s'));
            format!("advice: more than {units}; changes are still seen at the oldest age that was observed")
        }
    });
}
