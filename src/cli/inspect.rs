//! `haul status`, `runs`, `show` and `drift`: what the ledger knows; the warehouse is not opened.

use std::collections::BTreeSet;

use serde_json::json;

use super::screen::{BAD, DIM, GOOD, WARN};
use super::{Common, Screen, session};
use crate::error::{Error, Result};
use crate::model::drift::{Advice, Drift};
use crate::model::ledger::{UnitRecord, UnitState};
use crate::model::name::TableName;
use crate::model::pipeline::Project;
use crate::state::State;
use crate::time::UnitKey;

/// How much of the past is shown.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// How many units back
    #[arg(long, default_value_t = 14)]
    days: usize,
}

/// Which runs are listed.
#[derive(Debug, clap::Args)]
pub(super) struct RunsArgs {
    /// Only of this pipeline
    pipeline: Option<String>,
    /// How many
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

impl Default for StatusArgs {
    fn default() -> Self {
        Self { days: 14 }
    }
}

async fn open(common: &Common, screen: &Screen) -> Result<(std::sync::Arc<Project>, State)> {
    let (project, _) = session::project(common, screen)?;
    let state = State::open(&project.state_dir).await?;
    Ok((project, state))
}

pub(super) async fn status(args: &StatusArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let (project, state) = open(common, screen).await?;
    let tables: Vec<TableName> =
        project.pipelines.iter().flat_map(|pipeline| pipeline.steps.iter().map(|step| step.into.clone())).collect();
    let snapshot = state.snapshot(&tables).await?;
    if screen.is_json() {
        let units: Vec<&UnitRecord> = tables.iter().flat_map(|table| snapshot.table(table)).collect();
        screen.json(&units);
        return Ok(0);
    }
    let mut keys: BTreeSet<UnitKey> = BTreeSet::new();
    for table in &tables {
        keys.extend(snapshot.table(table).filter(|record| !record.unit.is_whole()).map(|record| record.unit.clone()));
    }
    let keys: Vec<UnitKey> = keys.into_iter().rev().take(args.days).rev().collect();
    let width = tables.iter().map(|table| table.to_string().len()).max().unwrap_or(0);
    let heads: Vec<String> =
        keys.iter().map(|key| key.as_str().get(5..10).unwrap_or(key.as_str()).to_owned()).collect();
    screen.data(&format!("{:width$}  {}", "", heads.join(" ")));
    for table in &tables {
        let signs: Vec<String> = if snapshot.unit(table, &UnitKey::whole()).is_some() {
            vec![sign(snapshot.unit(table, &UnitKey::whole()))]
        } else {
            keys.iter().map(|key| format!("  {}  ", sign(snapshot.unit(table, key)))).collect()
        };
        screen.data(&format!("{:width$}  {}", table.to_string(), signs.join(" ").trim_end()));
    }
    screen.data(&format!("{DIM}● loaded   ○ loaded, changed at its last pull   ! held   x failed   - missing in the warehouse   · never{DIM:#}"));
    for table in &tables {
        for record in snapshot.table(table).filter(|record| record.state != UnitState::Loaded) {
            let reason = record.reason.as_deref().unwrap_or("").lines().next().unwrap_or("");
            screen.data(&format!("{} {} is {}: {reason}", record.table, record.unit, record.state.name()));
        }
    }
    Ok(0)
}

fn sign(record: Option<&UnitRecord>) -> String {
    match record {
        None => format!("{DIM}·{DIM:#}"),
        Some(record) => match record.state {
            UnitState::Loaded if record.unchanged_pulls > 0 => format!("{GOOD}●{GOOD:#}"),
            UnitState::Loaded => format!("{GOOD}○{GOOD:#}"),
            UnitState::Held => format!("{WARN}!{WARN:#}"),
            UnitState::Failed => format!("{BAD}x{BAD:#}"),
            UnitState::Missing => format!("{BAD}-{BAD:#}"),
        },
    }
}

pub(super) async fn runs(args: &RunsArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let (_, state) = open(common, screen).await?;
    let runs = state.runs(args.pipeline.as_deref(), args.limit).await?;
    if screen.is_json() {
        screen.json(&runs);
        return Ok(0);
    }
    let rows = runs
        .iter()
        .map(|run| {
            let counts = run.counts;
            vec![
                run.id.clone(),
                word(run.status),
                run.started_at.format("%Y-%m-%d %H:%M:%S").to_string(),
                counts.loaded.to_string(),
                counts.unchanged.to_string(),
                counts.held.to_string(),
                counts.failed.to_string(),
                counts.skipped.to_string(),
            ]
        })
        .collect();
    screen.table(&["run", "status", "started (UTC)", "loaded", "unchanged", "held", "failed", "skipped"], rows);
    Ok(0)
}

/// A word as it is stored.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(super) async fn show(id: &str, common: &Common, screen: &Screen) -> Result<u8> {
    let (_, state) = open(common, screen).await?;
    let Some((run, logs)) = state.run(id).await? else {
        return Err(Error::usage(format!("there is no run `{id}`")).hint("`haul runs` lists them"));
    };
    if screen.is_json() {
        screen.json(&json!({ "run": run, "events": logs }));
        return Ok(0);
    }
    screen.data(&format!("{} for {}: {}", run.id, run.logical_date, word(run.status)));
    for (task, state) in crate::model::run::fold(&logs)? {
        let value = serde_json::to_value(&state).unwrap_or_default();
        let reason = value.get("reason").and_then(|reason| reason.as_str()).unwrap_or("");
        let rows = value.get("rows").map(|rows| format!("{rows} rows")).unwrap_or_default();
        screen.data(&format!("{:10} {task}  {rows}{reason}", state.name()));
    }
    Ok(0)
}

pub(super) async fn drift(table: Option<&str>, common: &Common, screen: &Screen) -> Result<u8> {
    let (_, state) = open(common, screen).await?;
    let tables = match table {
        Some(name) => vec![TableName::parse(name)?],
        None => state.tables().await?,
    };
    let mut all = serde_json::Map::new();
    for table in tables {
        let drift = Drift::of(&state.pulls(&table, None).await?);
        if screen.is_json() {
            all.insert(table.to_string(), serde_json::to_value(&drift).unwrap_or_default());
        } else {
            print(&table, &drift, screen);
        }
    }
    if screen.is_json() {
        screen.json(&all);
    }
    Ok(0)
}

fn print(table: &TableName, drift: &Drift, screen: &Screen) {
    screen.data(&format!("{GOOD}{table}{GOOD:#}: {} re-pulls of {} units", drift.repulls, drift.units));
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
        Advice::Units { lookback } => format!("advice: lookback = {lookback} would have caught 99 % of the changes"),
        Advice::MoreThan { lookback } => {
            format!("advice: more than {lookback} days; changes are still seen at the oldest age that was observed")
        }
    });
}
