//! What a plan is going to cost: every statement that is billed by bytes is priced by a dry run, before anything is spent.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;

use super::change;
use super::gear::Gear;
use super::scope::{self, Occasion};
use super::source::{self, Terms};
use super::{extract, load, transform};
use crate::error::Result;
use crate::extract::Pull;
use crate::model::connection::ConnectionKind;
use crate::model::cost::{Expected, Prices, Quote};
use crate::model::ledger::Snapshot;
use crate::model::pipeline::{Action, Extract, Pipeline, Step, Transform};
use crate::model::plan::{Plan, PlannedTask};
use crate::model::source::Source;
use crate::warehouse::Dialect;

/// So many dry runs are under way at once.
const AT_ONCE: usize = 16;

/// Fills in what each task of a plan is expected to be billed for.
///
/// What cannot be told stays unknown, with its reason: a price that does not come is no reason not to plan.
pub(super) async fn fill_in(gear: &Gear, plan: &mut Plan, ledger: &Snapshot) {
    let mut steps: HashMap<String, Expected> = HashMap::new();
    for task in &mut plan.tasks {
        let found =
            steps.entry(task.step.name.clone()).or_insert_with(|| match is_billed(gear, &plan.pipeline, &task.step) {
                Ok(false) => Expected::Free,
                Ok(true) => Expected::Unknown(String::new()),
                Err(error) => Expected::Unknown(format!("since {}", gear.redactor.redact(&error.chain()))),
            });
        task.expected = found.clone();
    }
    let asked = |task: &PlannedTask| task.expected == Expected::Unknown(String::new());
    if !plan.tasks.iter().any(asked) {
        return;
    }
    let occasion = Occasion::new("plan".to_owned(), plan.logical_date, plan.window.clone(), &plan.pipeline, ledger);
    let known = Prices::default();
    let questions: Vec<_> = plan
        .tasks
        .iter()
        .enumerate()
        .filter(|(_, task)| asked(task))
        .map(|(index, task)| {
            let (occasion, known) = (&occasion, &known);
            let pipeline = &plan.pipeline;
            async move { (index, expected(gear, pipeline, task, occasion, ledger, known).await) }
        })
        .collect();
    let priced = stream::iter(questions).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    let names: Vec<String> = plan.tasks.iter().map(|task| task.step.name.clone()).collect();
    for (index, expected) in priced {
        let task = &mut plan.tasks[index];
        task.expected = expected.unwrap_or_else(|error| {
            // What an earlier step of the same run still has to make cannot be looked at yet.
            let before = task.after.first().map(|place| format!("until `{}` ran", names[*place]));
            Expected::Unknown(gear.redactor.redact(&before.unwrap_or_else(|| format!("since {}", error.chain()))))
        });
    }
}

/// Whether statements of a step run where bytes are billed.
fn is_billed(gear: &Gear, pipeline: &Pipeline, step: &Step) -> Result<bool> {
    let connection = match &step.action {
        Action::Extract(extract) if matches!(extract.source, Source::Table(_)) => &extract.connection,
        Action::Transform(_) => &pipeline.warehouse,
        Action::Load(load) if matches!(load.rows.source, Source::Table(_)) => &load.rows.connection,
        Action::Extract(_) | Action::Load(_) | Action::Wait(_) | Action::Run(_) => return Ok(false),
    };
    Ok(matches!(gear.connections.get(connection)?.kind, ConnectionKind::BigQuery(_)))
}

async fn expected(
    gear: &Gear,
    pipeline: &Arc<Pipeline>,
    task: &PlannedTask,
    occasion: &Occasion,
    ledger: &Snapshot,
    known: &Prices,
) -> Result<Expected> {
    match &task.step.action {
        Action::Extract(step) => {
            let occasion = extract::occasion(occasion, task, step);
            let pull = pull_of(gear, pipeline, task, step, &occasion).await?;
            let Some(quote) = pull.price(known).await? else { return Ok(Expected::Free) };
            let state = quote.state.as_ref().map(|state| change::fingerprint(&*pull, step, state));
            if state.is_some_and(|state| change::is_as_loaded(ledger, task, &state)) {
                return Ok(Expected::Spared);
            }
            Ok(Expected::Priced(quote))
        }
        Action::Transform(step) => {
            let quote = of_transform(gear, pipeline, task, step, &transform::occasion(occasion, task)).await?;
            Ok(quote.map_or(Expected::Free, Expected::Priced))
        }
        Action::Load(step) => {
            let load = (pipeline, &task.step, &**step);
            let pull = load::reading(gear, load, occasion, task.units.first()).await?;
            Ok(pull.price(known).await?.map_or(Expected::Free, Expected::Priced))
        }
        Action::Wait(_) | Action::Run(_) => Ok(Expected::Free),
    }
}

async fn pull_of(
    gear: &Gear,
    pipeline: &Pipeline,
    task: &PlannedTask,
    step: &Extract,
    occasion: &Occasion,
) -> Result<Arc<dyn Pull>> {
    let dialect = Dialect::of(&gear.connections.get(&pipeline.warehouse)?)?;
    let scope = scope::scope(gear, pipeline, &task.step, occasion, extract::unit_of(task, step), &dialect);
    source::pull_of(gear, (pipeline, &task.step, step), &scope, Terms::default()).await
}

async fn of_transform(
    gear: &Gear,
    pipeline: &Pipeline,
    task: &PlannedTask,
    step: &Transform,
    occasion: &Occasion,
) -> Result<Option<Quote>> {
    let warehouse = gear.warehouse(&pipeline.warehouse).await?;
    let unit = transform::unit(task, step);
    let sql = transform::rendered(gear, pipeline, &task.step, step, occasion, unit, warehouse.dialect())?;
    warehouse.price(&sql).await
}
