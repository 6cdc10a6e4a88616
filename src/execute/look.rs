//! Looking without touching: what a step would send, and the first rows that it would bring.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::gear::Gear;
use super::scope::{self, Occasion};
use super::source::Terms;
use super::{command, fan, load, source, transform, wait};
use crate::error::{Context, Error, Kind, Result};
use crate::extract::{Page, Pull, Pulled, Sink};
use crate::model::page::Progress;
use crate::model::pipeline::{Action, Per, Pipeline, Step, Write};
use crate::time::{Unit, UnitKey, Window};
use crate::warehouse::{Dialect, Rows};

/// What a step sends for one unit.
#[derive(Debug, Clone, Serialize)]
pub struct Rendered {
    /// The unit, or the first one of a window.
    pub unit: UnitKey,
    /// The SQL, or the lines of a request; without any secret.
    pub what: String,
}

/// What a step sends when it runs for a logical date: one text a unit, or one for the window.
pub async fn render(gear: &Gear, pipeline: &Arc<Pipeline>, step: &str, date: NaiveDate) -> Result<Vec<Rendered>> {
    let (step, occasion) = occasion(gear, pipeline, step, date).await?;
    // What is rendered must not need the warehouse: another process may hold it.
    let dialect = Dialect::of(&gear.connections.get(&pipeline.warehouse)?)?;
    let per = step.action.per();
    let units: Vec<Option<Unit>> = match &occasion.window {
        Some(window) if per == Per::Unit && !is_whole_load(&step) => window.units().iter().copied().map(Some).collect(),
        _ => vec![None],
    };
    let mut all = Vec::with_capacity(units.len());
    for unit in units {
        let key = unit.or_else(|| occasion.window.as_ref().map(|window| *window.first()));
        let what = match &step.action {
            Action::Transform(transform) => {
                transform::rendered(gear, pipeline, &step, transform, &occasion, unit.as_ref(), &dialect)?
            }
            Action::Extract(extract) => {
                let scope = scope::scope(gear, pipeline, &step, &occasion, unit.as_ref(), &dialect);
                match fan::fan_out(extract) {
                    Some((http, each)) => fan::rendered(gear, extract, http, each, &scope).await?,
                    None => source::lines_of(gear, (pipeline, &step, extract), &scope).await?.join("\n"),
                }
            }
            Action::Wait(wait) => {
                let scope = scope::scope(gear, pipeline, &step, &occasion, unit.as_ref(), &dialect);
                wait::lines(gear, wait, &scope)?.join("\n")
            }
            Action::Run(command) => {
                let scope = scope::scope(gear, pipeline, &step, &occasion, unit.as_ref(), &dialect);
                command::lines(gear, (pipeline, &step, command), &scope)?.join("\n")
            }
            Action::Load(load) => {
                load::lines(gear, (pipeline, &step, load), &occasion, unit.as_ref()).await?.join("\n")
            }
        };
        all.push(Rendered {
            unit: key.map_or_else(UnitKey::whole, |unit| unit.key()),
            what: gear.redactor.redact(&what),
        });
    }
    Ok(all)
}

/// Whether a step loads a whole table, whatever window its pipeline has.
fn is_whole_load(step: &Step) -> bool {
    matches!(step.action, Action::Load(_)) && step.write == Write::Full
}

/// The first rows that a step would bring for the last unit before a logical date; nothing is written.
pub async fn preview(gear: &Gear, pipeline: &Arc<Pipeline>, step: &str, date: NaiveDate, rows: usize) -> Result<Rows> {
    let (step, occasion) = occasion(gear, pipeline, step, date).await?;
    let unit = occasion.window.as_ref().map(|window| *window.last());
    match &step.action {
        Action::Transform(transform) => {
            let warehouse = gear.warehouse(&pipeline.warehouse).await?;
            let unit = unit.filter(|_| transform.per == Per::Unit);
            let sql =
                transform::rendered(gear, pipeline, &step, transform, &occasion, unit.as_ref(), warehouse.dialect())?;
            warehouse.query(&sql, rows).await
        }
        Action::Extract(extract) => {
            let dialect = Dialect::of(&gear.connections.get(&pipeline.warehouse)?)?;
            let unit = unit.filter(|_| extract.per == Per::Unit);
            let scope = scope::scope(gear, pipeline, &step, &occasion, unit.as_ref(), &dialect);
            let pull: Arc<dyn Pull> = match fan::fan_out(extract) {
                Some((http, each)) => {
                    let units: Vec<Unit> = match (&occasion.window, unit) {
                        (_, Some(unit)) => vec![unit],
                        (Some(window), None) if step.write != Write::Full => window.units().to_vec(),
                        _ => Vec::new(),
                    };
                    Arc::new(fan::first_pull(gear, pipeline, extract, http, each, &units, &scope).await?)
                }
                None => source::pull_of(gear, (pipeline, &step, extract), &scope, Terms::default()).await?,
            };
            first_page(&*pull, rows).await
        }
        Action::Wait(_) | Action::Run(_) => {
            Err(Error::usage(format!("`{}` brings no rows: it is a `[[{}]]` step", step.name, step.action.word()))
                .hint("`haul render` shows what it does"))
        }
        Action::Load(load) => {
            let unit = unit.filter(|_| step.write != Write::Full);
            let pull = load::reading(gear, (pipeline, &step, load), &occasion, unit.as_ref()).await?;
            first_page(&*pull, rows).await
        }
    }
}

/// All pages that an extract brings for the last unit before a logical date; nothing is staged or written.
pub async fn bring(
    gear: &Gear,
    pipeline: &Arc<Pipeline>,
    step: &str,
    date: NaiveDate,
    sink: Arc<dyn Sink>,
) -> Result<Pulled> {
    let (step, occasion) = occasion(gear, pipeline, step, date).await?;
    let Action::Extract(extract) = &step.action else {
        return Err(Error::usage(format!("the step `{}` asks no source", step.name)));
    };
    let dialect = Dialect::of(&gear.connections.get(&pipeline.warehouse)?)?;
    let unit = occasion.window.as_ref().map(|window| *window.last()).filter(|_| extract.per == Per::Unit);
    let scope = scope::scope(gear, pipeline, &step, &occasion, unit.as_ref(), &dialect);
    let pull = source::pull_of(gear, (pipeline, &step, extract), &scope, Terms::default()).await?;
    pull.pages(Progress::default(), sink, CancellationToken::new()).await.map_err(|failure| failure.error)
}

async fn first_page(pull: &dyn Pull, rows: usize) -> Result<Rows> {
    let enough = CancellationToken::new();
    let sink = Arc::new(FirstPage { rows, found: Mutex::default(), enough: enough.clone() });
    let ended = pull.pages(Progress::default(), Arc::clone(&sink) as Arc<dyn Sink>, enough).await;
    let found = std::mem::take(&mut *sink.found.lock().unwrap_or_else(PoisonError::into_inner));
    match ended {
        Err(failure) if failure.error.kind() != Kind::Cancelled => Err(failure.error),
        _ => Ok(table(found)),
    }
}

/// Keeps the first rows and then asks for no more.
struct FirstPage {
    rows: usize,
    found: Mutex<Vec<Value>>,
    enough: CancellationToken,
}

impl Sink for FirstPage {
    fn put(&self, page: Page) -> Result<()> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for range in page.rows {
            if found.len() < self.rows {
                let row = serde_json::from_slice(&page.body[range]);
                found.push(row.context(Kind::Source, || "reading a row".to_owned())?);
            }
        }
        if found.len() >= self.rows {
            self.enough.cancel();
        }
        Ok(())
    }

    fn retrying(&self, _reason: &str, _pause: Duration) {}
}

/// Lays rows out as a table whose columns are all members that any of them has.
fn table(rows: Vec<Value>) -> Rows {
    let mut columns: Vec<String> = Vec::new();
    for row in &rows {
        match row {
            Value::Object(members) => {
                for name in members.keys().filter(|name| !columns.contains(name)).cloned().collect::<Vec<_>>() {
                    columns.push(name);
                }
            }
            _ if !columns.iter().any(|name| name == "value") => columns.push("value".to_owned()),
            _ => {}
        }
    }
    let rows = rows
        .into_iter()
        .map(|row| match row {
            Value::Object(mut members) => {
                columns.iter().map(|name| members.remove(name).unwrap_or(Value::Null)).collect()
            }
            value => columns.iter().map(|name| if name == "value" { value.clone() } else { Value::Null }).collect(),
        })
        .collect();
    Rows { columns, rows, truncated: false }
}

async fn occasion(gear: &Gear, pipeline: &Arc<Pipeline>, step: &str, date: NaiveDate) -> Result<(Arc<Step>, Occasion)> {
    let Some(found) = pipeline.step(step) else {
        let names: Vec<_> = pipeline.steps.iter().map(|step| step.name.as_str()).collect();
        return Err(Error::usage(format!("the pipeline `{}` has no step `{step}`", pipeline.name))
            .hint(format!("its steps are {}", names.join(", "))));
    };
    let window = match (&pipeline.window, pipeline.calendar()) {
        (Some(rule), Some(calendar)) => {
            Some(Window::before(calendar, &calendar.logical(date, gear.clock.now()), rule.lookback())?)
        }
        _ => None,
    };
    let ledger = super::ledger_of(gear, pipeline).await?;
    Ok((Arc::clone(found), Occasion::new("preview".to_owned(), date, window, pipeline, &ledger)))
}
