//! What a template sees while a step is executed: its window, its unit, and the tables behind its references.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::gear::Gear;
use crate::model::ledger::Snapshot;
use crate::model::name::TableName;
use crate::model::parameter::ParameterValues;
use crate::model::pipeline::{Action, Pipeline, Step, Write};
use crate::template::{Quoting, Scope};
use crate::time::{Unit, Window};
use crate::warehouse::Dialect;

/// How a warehouse's literals are written, in the terms of templates.
fn quoting(dialect: &Dialect) -> Quoting {
    let (dialect, ident, backslash, zone) = (dialect.name, dialect.quote, dialect.backslash, dialect.zone);
    Quoting { dialect, ident, backslash, zone, ..Quoting::default() }
}

/// The dates and the name of the run that a template is rendered for.
#[derive(Debug, Clone)]
pub(super) struct Occasion {
    /// The run's name.
    pub run: String,
    /// The date that it is for.
    pub logical_date: chrono::NaiveDate,
    /// Its window, if the pipeline has one.
    pub window: Option<Window>,
    /// The tables that had rows when the run began.
    pub filled: Arc<BTreeSet<TableName>>,
}

impl Occasion {
    pub fn new(
        run: String,
        logical_date: chrono::NaiveDate,
        window: Option<Window>,
        pipeline: &Pipeline,
        ledger: &Snapshot,
    ) -> Self {
        let has_rows = |table: &&TableName| ledger.table(table).any(|record| record.loaded.is_some());
        let filled = pipeline.steps.iter().map(|step| &step.into).filter(has_rows).cloned().collect();
        Self { run, logical_date, window, filled: Arc::new(filled) }
    }
}

/// The scope of one step, for one unit or for the units of `window`.
pub(super) fn scope(
    gear: &Gear,
    pipeline: &Pipeline,
    step: &Step,
    occasion: &Occasion,
    unit: Option<&Unit>,
    dialect: &Dialect,
) -> Scope {
    let mut vars = gear.project.vars.clone();
    vars.extend(pipeline.vars.clone());
    let mut relations = BTreeMap::new();
    let mut params = ParameterValues::new();
    let reads = match &step.action {
        Action::Transform(transform) => &transform.reads[..],
        Action::Extract(extract) => {
            params.clone_from(&extract.params);
            extract.source.for_each().map_or(&[][..], |each| &each.reads)
        }
        Action::Load(load) => &load.reads,
        Action::Wait(_) | Action::Run(_) => &[],
    };
    for read in reads {
        relations.insert(read.name.clone(), dialect.relation(&read.relation));
    }
    let now = gear.clock.now();
    let connections = gear.connections.clone();
    Scope {
        timezone: pipeline.timezone,
        logical_date: Some(occasion.logical_date),
        window: occasion.window.clone(),
        unit: unit.copied(),
        run_id: occasion.run.clone(),
        run_date: now.with_timezone(&pipeline.timezone).date_naive(),
        now,
        vars,
        report: None,
        params,
        relations,
        this: Some(dialect.relation(&step.into)),
        is_incremental: step.write != Write::Full && occasion.filled.contains(&step.into),
        env: Arc::new(move |name| connections.variable(name)),
        quoting: quoting(dialect),
    }
}
