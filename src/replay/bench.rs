//! A bench: a pipeline's transforms computed from given rows, in memory, by the same gear as every run.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;

use super::given::{self, Table};
use super::{Fault, api, asked_by};
use crate::config;
use crate::connections::Connections;
use crate::error::{Context, Error, Kind, Result};
use crate::execute::Gear;
use crate::model::connection::{Connection, ConnectionKind, DuckDbConnection};
use crate::model::name::TableName;
use crate::model::pipeline::{Action, Pipeline, Project, Tier};
use crate::model::run::Trigger;
use crate::model::trial::{Given, Trial};
use crate::plan::{Ask, Range, Reprocess};
use crate::secret::Redactor;
use crate::time::{Clock, Grain, Instant, Unit, UnitKey, Window};
use crate::warehouse::Warehouse;

/// A throwaway warehouse and state with the pipeline that is computed there.
pub(super) struct Bench {
    pub gear: Gear,
    pub pipeline: Arc<Pipeline>,
    pub warehouse: Warehouse,
    project: Arc<Project>,
    /// The steps that can be computed from what is given.
    pub steps: Vec<String>,
    given: BTreeMap<TableName, BTreeMap<UnitKey, Unit>>,
    pulls: u64,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// Opens a bench for a test whose rows are given.
    pub async fn of_trial(project: &Project, trial: &Trial, now: Instant) -> Result<Self> {
        let later = trial.runs.iter().flat_map(|run| &run.given);
        let given: Vec<TableName> = trial.given.iter().chain(later).map(|given| given.table.clone()).collect();
        Self::open(project, pipeline_of(project, trial)?, &given, &trial.env, now).await
    }

    /// Opens a bench on which these tables will be given, and the transforms be computed that need no others.
    pub async fn open(
        project: &Project,
        pipeline: Pipeline,
        given: &[TableName],
        env: &BTreeMap<String, String>,
        now: Instant,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context(Kind::Storage, || "making a folder for a test".to_owned())?;
        let pipeline = Arc::new(pipeline);
        let project = Arc::new(Project { state_dir: folder.path().join("state"), ..project.clone() });
        let mut instead: Vec<Connection> =
            asked_by(&pipeline).map(|name| api(name, &config::test_address(name))).collect();
        instead.push(in_memory(&pipeline.warehouse));
        let connections = Connections::offline(&project.root, env.clone(), Redactor::default()).with(instead);
        let gear = Gear::open(Arc::clone(&project), connections, Clock::Fixed(now), Redactor::default()).await?;
        let warehouse = gear.warehouse(&pipeline.warehouse).await?;
        let steps = computable(&pipeline, given);
        Ok(Self { gear, pipeline, warehouse, project, steps, given: BTreeMap::new(), pulls: 0, _folder: folder })
    }

    /// The given rows of a test, typed and divided into units.
    pub async fn read(&self, given: &[Given]) -> Result<Vec<Table>> {
        let mut tables = Vec::with_capacity(given.len());
        for table in given {
            tables.push(given::read(&self.project, &self.pipeline, table, &self.warehouse).await?);
        }
        Ok(tables)
    }

    /// Makes the rows of these tables all that they have; the units of `window` that have none are there, and empty.
    pub async fn give(&mut self, tables: &[Table], window: Option<&Window>) -> Result<()> {
        for table in tables {
            self.pulls += 1;
            let known = self.given.entry(table.name.clone()).or_default();
            known.extend(table.units());
            if let (Some(calendar), Some(window)) = (table.calendar, window) {
                let units = calendar.between(window.start(), window.end());
                known.extend(units.into_iter().map(|unit| (unit.key(), unit)));
            }
            let units: Vec<Unit> = known.values().copied().collect();
            table.put(&self.warehouse, &units, self.pulls, self.gear.clock.now()).await?;
        }
        let names: Vec<TableName> = tables.iter().map(|table| table.name.clone()).collect();
        let loads = self.warehouse.loads(&names).await?;
        self.gear.state.repair(&names, &loads, self.gear.clock.now()).await?;
        Ok(())
    }

    /// The window of a run for a date.
    pub fn window(&self, date: NaiveDate) -> Result<Option<Window>> {
        let (Some(rule), Some(calendar)) = (&self.pipeline.window, self.pipeline.calendar()) else { return Ok(None) };
        let logical = calendar.logical(date, self.gear.clock.now());
        Window::before(calendar, &logical, rule.lookback()).map(Some)
    }

    /// What a run over the units of a window, and no others, is asked for; without a window, the whole tables.
    pub fn over(&self, date: NaiveDate, window: Option<&Window>, select: Vec<String>, force: bool) -> Ask {
        let range = window.filter(|window| window.first().calendar.grain != Grain::Hour).map(|window| Range {
            from: window.first().date(),
            to: window.end().with_timezone(&window.first().calendar.tz).date_naive(),
            reprocess: Reprocess::All,
        });
        Ask { trigger: Trigger::Manual, logical_date: date, select, range, window: None, force, retry: false }
    }

    /// Of the steps that can be computed, those that these tables need.
    pub fn needed(&self, tables: &[&TableName]) -> Vec<String> {
        let mut waiting: Vec<&TableName> = tables.to_vec();
        let mut needed: Vec<String> = Vec::new();
        while let Some(table) = waiting.pop() {
            let step = self.pipeline.steps.iter().find(|step| step.into == *table);
            let Some(step) = step.filter(|step| self.steps.contains(&step.name) && !needed.contains(&step.name)) else {
                continue;
            };
            needed.push(step.name.clone());
            waiting.extend(step.action.reads().iter().map(|read| &read.table));
        }
        needed
    }

    /// Why a table that is expected has no rows: it was never computed.
    pub fn missing(&self, table: &TableName) -> Option<Fault> {
        let step = self.pipeline.steps.iter().find(|step| step.into == *table)?;
        if self.steps.contains(&step.name) || self.given.contains_key(table) {
            return None;
        }
        let lacking = self.lacking(&step.name);
        Some(Fault {
            what: format!("{table} is not computed, for want of {}", lacking.join(", ")),
            difference: None,
            hint: Some(format!("[[given]] table = \"{}\" says what is in it", lacking.first().unwrap_or(&step.name))),
        })
    }

    /// The tables that a step reads, directly or not, and that are neither given nor computed.
    fn lacking(&self, step: &str) -> Vec<String> {
        let (mut waiting, mut seen, mut lacking) = (vec![step.to_owned()], Vec::new(), Vec::new());
        while let Some(name) = waiting.pop() {
            let Some(step) = self.pipeline.step(&name) else { continue };
            let Action::Transform(transform) = &step.action else {
                lacking.push(step.into.to_string());
                continue;
            };
            let unknown = transform.sources.iter().filter(|source| !self.given.contains_key(*source));
            lacking.extend(unknown.map(TableName::to_string));
            for read in &transform.reads {
                if self.given.contains_key(&read.table) || self.steps.contains(&read.step) || seen.contains(&read.name)
                {
                    continue;
                }
                seen.push(read.name.clone());
                if read.pipeline == self.pipeline.name {
                    waiting.push(read.step.clone());
                } else {
                    lacking.push(read.table.to_string());
                }
            }
        }
        lacking
    }

    /// Closes it.
    pub async fn close(self) -> Result<()> {
        self.gear.state.close().await;
        self.gear.close().await
    }
}

/// The pipeline as a test computes it.
pub(super) fn pipeline_of(project: &Project, trial: &Trial) -> Result<Pipeline> {
    let found = project.pipeline(&trial.pipeline);
    let found = found.ok_or_else(|| Error::usage(format!("there is no pipeline `{}`", trial.pipeline)))?;
    let mut pipeline = Pipeline::clone(found);
    pipeline.vars.extend(trial.vars.clone());
    if let (Some(window), Some(units)) = (&mut pipeline.window, trial.lookback) {
        let every = window.tiers.first().map_or(std::time::Duration::from_hours(24), |tier| tier.every);
        window.tiers = vec![Tier { every, units }];
    }
    Ok(pipeline)
}

/// The transforms that read nothing but what is given, or computed from that.
fn computable(pipeline: &Pipeline, given: &[TableName]) -> Vec<String> {
    let is_given = |table: &TableName| given.contains(table);
    let mut computed: Vec<String> = Vec::new();
    loop {
        let next = pipeline.steps.iter().find(|step| {
            let Action::Transform(transform) = &step.action else { return false };
            let known = |read: &crate::model::pipeline::Read| {
                is_given(&read.table) || (read.pipeline == pipeline.name && computed.contains(&read.step))
            };
            let is_new = !is_given(&step.into) && !computed.contains(&step.name);
            is_new && transform.reads.iter().all(known) && transform.sources.iter().all(is_given)
        });
        match next {
            Some(step) => computed.push(step.name.clone()),
            None => return computed,
        }
    }
}

/// A warehouse that nothing is left of.
fn in_memory(name: &str) -> Connection {
    let settings = DuckDbConnection { path: ":memory:".into(), memory_limit: "512MB".to_owned(), threads: Some(1) };
    Connection { name: name.to_owned(), kind: ConnectionKind::DuckDb(settings) }
}
