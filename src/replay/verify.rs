//! The promises of windowed transforms, proved on the rows that tests give.
//!
//! Of every transform: a unit alone equals the unit within a window, twice equals once, a run touches no row outside of its
//! window, an emptied day empties, and the clock does not matter. What a step reads is taken from one whole run, so that a
//! fault of one step is not told of those behind it.

use serde::Serialize;
use serde_json::Value;

use super::bench::{Bench, pipeline_of};
use super::compare;
use super::given::Table;
use super::trial::one_run;
use super::{Fault, Report};
use crate::error::{Error, Result};
use crate::model::name::TableName;
use crate::model::pipeline::{Action, Guard, Pipeline, Project, Step, Transform, Write};
use crate::model::run::RunStatus;
use crate::model::trial::{Subject, Trial};
use crate::time::{Instant, Unit, Window};
use crate::warehouse::Rows;

/// No table of a fixture has more rows.
const MOST_ROWS: usize = 1_000_000;

/// The clock's second reading lies so far behind the first.
const LATER: chrono::Duration = chrono::Duration::days(400);

/// What was found of one transform on the rows of one test.
#[derive(Debug, Clone, Serialize)]
pub struct Proof {
    /// The step, with its pipeline: `ga4_events.sessions`.
    pub step: String,
    /// The test whose given rows it was proved on.
    pub fixture: String,
    /// How many units the window had.
    pub units: usize,
    /// The promises that hold.
    pub kept: Vec<&'static str>,
    /// Those that do not, each with the first row that differs.
    pub broken: Vec<Fault>,
}

/// One promise: what it says, and why it usually is broken.
struct Promise {
    name: &'static str,
    broken: &'static str,
    why: &'static str,
}

const TWICE: Promise = Promise {
    name: "twice equals once",
    broken: "computed twice, it is not what it was",
    why: "something decides by chance: random(), uuid(), row_number() whose ORDER BY leaves ties, any_value(), an \
          aggregate of a list without an order; or write = \"append\"",
};
const ALONE: Promise = Promise {
    name: "a unit alone equals the unit within the window",
    broken: "computed alone, it is not what it is within the window",
    why: "the SQL reads more units than its `reach` says, or speaks of `window` where it means `unit`",
};
const OUTSIDE: Promise = Promise {
    name: "no row outside of the window is touched",
    broken: "a run over the last unit changed others",
    why: "rows are written whose time lies outside of the window, or write = \"merge\" finds its keys in other units",
};
const EMPTIED: Promise = Promise {
    name: "an emptied unit empties",
    broken: "rows whose source has gone stay",
    why: "write = \"merge\" and \"append\" remove nothing; or the SQL reads its own rows by {{ this }}",
};
const CLOCK: Promise = Promise {
    name: "it is the same whenever it is computed",
    broken: "computed 400 days later for the same date, it is another",
    why: "the SQL reads the clock: {{ run_date }}, {{ run.started_at }}, current_date, now()",
};

/// Proves the promises of the transforms of a pipeline, or of one of them, on the given rows of a test.
///
/// # Errors
/// A test whose rows cannot be given, or a pipeline without a window.
pub async fn verify(project: &Project, trial: &Trial, only: Option<&str>) -> Result<Vec<Proof>> {
    let lab = Lab::open(project, trial).await?;
    let found = lab.prove_all(only).await;
    let closed = lab.whole.close().await;
    let proofs = found?;
    closed?;
    Ok(proofs)
}

/// A fixture with what one whole run makes of it.
struct Lab<'p> {
    project: &'p Project,
    trial: &'p Trial,
    pipeline: Pipeline,
    window: Window,
    now: Instant,
    whole: Bench,
}

impl<'p> Lab<'p> {
    async fn open(project: &'p Project, trial: &'p Trial) -> Result<Self> {
        let first = trial.runs.first().ok_or_else(|| Error::internal("a test without a run"))?;
        let mut pipeline = pipeline_of(project, trial)?;
        for step in &mut pipeline.steps {
            // What a guard holds back proves nothing of the SQL.
            *step = std::sync::Arc::new(Step { guard: Guard::OPEN, ..Step::clone(step) });
        }
        let given: Vec<_> = [&trial.given[..], &first.given[..]].concat();
        let names: Vec<TableName> = given.iter().map(|given| given.table.clone()).collect();
        let mut whole = Bench::open(project, pipeline.clone(), &names, &trial.env, first.now).await?;
        let window = whole.window(first.date)?;
        let window = window.ok_or_else(|| Error::usage(format!("`{}` has no [window]", trial.pipeline)))?;
        let tables = whole.read(&given).await?;
        whole.give(&tables, Some(&window)).await?;
        let lab = Self { project, trial, pipeline, window, now: first.now, whole };
        lab.run(&lab.whole, &lab.window, lab.whole.steps.clone()).await?;
        Ok(lab)
    }

    async fn prove_all(&self, only: Option<&str>) -> Result<Vec<Proof>> {
        let mut proofs = Vec::new();
        for step in &self.pipeline.steps {
            let Action::Transform(transform) = &step.action else { continue };
            let chosen = only.is_none_or(|name| name == step.name) && self.whole.steps.contains(&step.name);
            if chosen && step.write != Write::Full {
                proofs.push(self.prove(step, transform).await?);
            }
        }
        Ok(proofs)
    }

    async fn prove(&self, step: &Step, transform: &Transform) -> Result<Proof> {
        let reference = rows_of(&self.whole, &step.into).await?;
        let mut inputs = Vec::new();
        for name in transform.reads.iter().map(|read| &read.table).chain(&transform.sources) {
            inputs.extend(Table::of(&self.whole.warehouse, name, self.pipeline.calendar()).await?);
        }
        let mut proof = Proof {
            step: format!("{}.{}", self.pipeline.name, step.name),
            fixture: self.trial.name.clone(),
            units: self.window.units().len(),
            kept: Vec::new(),
            broken: Vec::new(),
        };
        let found = self.twice(step, &inputs).await?;
        proof.judge(&TWICE, step, &reference, &found);
        if !proof.broken.is_empty() {
            // What is never the same twice cannot be compared with anything else.
            return Ok(proof);
        }
        let mut alone = Ok(());
        for unit in self.window.units() {
            alone = self.alone(step, transform, &inputs, unit, &reference).await?;
            if alone.is_err() {
                break;
            }
        }
        proof.keep(&ALONE, alone);
        let found = self.moved(step, &inputs).await?;
        proof.judge(&OUTSIDE, step, &reference, &found);
        let (wanted, found) = self.emptied(step, &inputs).await?;
        proof.judge(&EMPTIED, step, &wanted, &found);
        let found = self.fresh(step, &inputs, self.now + LATER, &self.window).await?;
        proof.judge(&CLOCK, step, &reference, &found);
        Ok(proof)
    }

    /// The table after it was computed twice.
    async fn twice(&self, step: &Step, inputs: &[Table]) -> Result<Rows> {
        let bench = self.bench(step, inputs, self.now).await?;
        self.run(&bench, &self.window, vec![step.name.clone()]).await?;
        self.run(&bench, &self.window, vec![step.name.clone()]).await?;
        finished(bench, step).await
    }

    /// Whether a unit that sees nothing but what its reach says is as within the window.
    async fn alone(
        &self,
        step: &Step,
        transform: &Transform,
        inputs: &[Table],
        unit: &Unit,
        reference: &Rows,
    ) -> Result<std::result::Result<(), Fault>> {
        let restricted: Vec<Table> = inputs
            .iter()
            .map(|table| match transform.reads.iter().find(|read| read.table == table.name) {
                Some(read) => {
                    let seen = read.reach.upstream_of(unit);
                    table.within(|of| seen.iter().any(|one| one.key() == of.key()))
                }
                None => table.clone(),
            })
            .collect();
        let window = Window::spanning(unit.calendar, unit.start, unit.end)?;
        let found = self.fresh(step, &restricted, self.now, &window).await?;
        let key = unit.key();
        let of_unit = |row: &Vec<Value>| {
            let at = reference.columns.iter().position(|column| column == "_haul_unit");
            at.and_then(|at| row.get(at)).and_then(Value::as_str).is_some_and(|text| is_unit(text, unit))
        };
        let wanted =
            Rows { rows: reference.rows.iter().filter(|row| of_unit(row)).cloned().collect(), ..reference.clone() };
        Ok(match difference(step, &wanted, &found) {
            None => Ok(()),
            Some(fault) => Err(Fault { what: format!("{} of {key}: {}", step.into, ALONE.broken), ..fault }),
        })
    }

    /// The table after a second run over the last unit alone.
    async fn moved(&self, step: &Step, inputs: &[Table]) -> Result<Rows> {
        let bench = self.bench(step, inputs, self.now).await?;
        self.run(&bench, &self.window, vec![step.name.clone()]).await?;
        let last = self.window.last();
        let window = Window::spanning(last.calendar, last.start, last.end)?;
        self.run(&bench, &window, vec![step.name.clone()]).await?;
        finished(bench, step).await
    }

    /// The table over sources of which the last unit with rows has lost them all: computed anew, and over what was there.
    async fn emptied(&self, step: &Step, inputs: &[Table]) -> Result<(Rows, Rows)> {
        let in_window = |unit: &&Unit| self.window.units().iter().any(|one| one.key() == unit.key());
        let units: Vec<Unit> = inputs.iter().flat_map(|table| table.units().into_values()).collect();
        let last = units.iter().filter(in_window).max_by_key(|unit| unit.start).copied();
        let without = |table: &Table| table.within(|unit| last.is_none_or(|last| last.key() != unit.key()));
        let emptied: Vec<Table> = inputs.iter().map(without).collect();
        let wanted = self.fresh(step, &emptied, self.now, &self.window).await?;
        let mut bench = self.bench(step, inputs, self.now).await?;
        self.run(&bench, &self.window, vec![step.name.clone()]).await?;
        bench.give(&emptied, Some(&self.window)).await?;
        self.run(&bench, &self.window, vec![step.name.clone()]).await?;
        Ok((wanted, finished(bench, step).await?))
    }

    /// The table as it is computed from nothing, over a window and at a time.
    async fn fresh(&self, step: &Step, inputs: &[Table], now: Instant, window: &Window) -> Result<Rows> {
        let bench = self.bench(step, inputs, now).await?;
        self.run(&bench, window, vec![step.name.clone()]).await?;
        finished(bench, step).await
    }

    /// A bench on which one step can be computed.
    async fn bench(&self, step: &Step, inputs: &[Table], now: Instant) -> Result<Bench> {
        let names: Vec<TableName> = inputs.iter().map(|table| table.name.clone()).collect();
        let mut bench = Bench::open(self.project, self.pipeline.clone(), &names, &self.trial.env, now).await?;
        bench.steps.retain(|name| *name == step.name);
        bench.give(inputs, Some(&self.window)).await?;
        Ok(bench)
    }

    async fn run(&self, bench: &Bench, window: &Window, steps: Vec<String>) -> Result<()> {
        let date = self.trial.runs.first().map_or_else(|| window.last().date(), |run| run.date);
        let ended = one_run(&bench.gear, &bench.pipeline, &bench.over(date, Some(window), steps, true)).await?;
        if ended.status == RunStatus::Succeeded {
            return Ok(());
        }
        let told = ended.told.join("\n");
        Err(Error::new(
            crate::error::Kind::Warehouse,
            format!("computing `{}` on {}", self.pipeline.name, self.trial.name),
        )
        .because(told))
    }
}

async fn finished(bench: Bench, step: &Step) -> Result<Rows> {
    let rows = rows_of(&bench, &step.into).await;
    bench.close().await?;
    rows
}

/// A table's rows without what tells of pulls; floats without their last digits, which depend on the order of sums.
async fn rows_of(bench: &Bench, table: &TableName) -> Result<Rows> {
    let relation = bench.warehouse.dialect().relation(table);
    let mut rows = bench.warehouse.query(&format!("SELECT * FROM {relation}"), MOST_ROWS).await?;
    for value in rows.rows.iter_mut().flatten() {
        if let Some(number) = value.as_f64().filter(|_| value.is_f64()) {
            *value = format!("{number:.11e}").parse::<f64>().map_or(Value::Null, Value::from);
        }
    }
    Ok(rows)
}

/// Whether the text of `_haul_unit` is that of a unit: its date, or the instant at which an hour begins.
fn is_unit(text: &str, unit: &Unit) -> bool {
    text == unit.key().as_str() || text.starts_with(&unit.start.format("%Y-%m-%d %H:%M").to_string())
}

/// The first row that differs, if any does.
fn difference(step: &Step, wanted: &Rows, found: &Rows) -> Option<Fault> {
    let columns: Vec<String> = found
        .columns
        .iter()
        .chain(wanted.columns.iter().filter(|column| !found.columns.contains(column)))
        .filter(|column| !column.starts_with("_haul_") || *column == "_haul_unit")
        .cloned()
        .collect();
    let table = compare::Table { columns: wanted.columns.clone(), rows: wanted.rows.clone(), texts: false };
    let mut fault = compare::tables(&Subject::Table(step.into.clone()), &table, found, &columns, &step.keys, false)?;
    if let Some(difference) = &mut fault.difference {
        difference.more += difference.rows.len().saturating_sub(1);
        difference.rows.truncate(1);
    }
    Some(fault)
}

impl Proof {
    fn judge(&mut self, promise: &Promise, step: &Step, wanted: &Rows, found: &Rows) {
        let outcome = match difference(step, wanted, found) {
            None => Ok(()),
            Some(fault) => Err(Fault { what: format!("{}: {}", step.into, promise.broken), ..fault }),
        };
        self.keep(promise, outcome);
    }

    fn keep(&mut self, promise: &Promise, outcome: std::result::Result<(), Fault>) {
        match outcome {
            Ok(()) => self.kept.push(promise.name),
            Err(fault) => self.broken.push(Fault { hint: Some(format!("usually: {}", promise.why)), ..fault }),
        }
    }

    /// The same as the report of a test.
    pub fn report(&self) -> Report {
        let mut report = Report::new(&format!("{} on {}", self.step, self.fixture));
        self.broken.iter().cloned().for_each(|fault| report.fault(fault));
        report
    }
}
