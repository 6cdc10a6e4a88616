//! A load task: rows of one connection are read, judged and committed elsewhere as if they had just been pulled.

use std::sync::{Arc, PoisonError};

use super::extract::{self, Given};
use super::gear::Gear;
use super::landing::place;
use super::outcome::UnitOutcome;
use super::place as places;
use super::scope::{self, Occasion};
use super::source::{self, Terms};
use super::transform::inputs;
use super::worker::{Shared, is_forced};
use crate::error::{Error, Kind, Result};
use crate::extract::{LandedRows, MongoPull, MongoQuery, Pull};
use crate::landing::Current;
use crate::model::connection::ConnectionKind;
use crate::model::files::{CsvFormat, FilesSource};
use crate::model::hook::RetryPolicy;
use crate::model::ledger::UnitState;
use crate::model::load::Load;
use crate::model::name::Text;
use crate::model::pipeline::{Extract, Landing, Outside, Pipeline, Step, TimeColumn, TimeFormat};
use crate::model::plan::PlannedTask;
use crate::model::source::{
    CollectionProbe, CollectionQuery, CollectionSource, ProbeRule, Source, StoredMember, StoredTime, TableRows,
    TableSource,
};
use crate::template::Scope;
use crate::time::{Tz, Unit, UnitKey};

/// How many documents are read at once.
const BATCH: u32 = 2000;

/// The column in which a table of haul's says which unit a row is of.
const UNIT: &str = "_haul_unit";

/// Whether a load has anything to do.
pub(super) enum Prepared {
    /// It has not, and why.
    Skip(String),
    /// It has; with a digest of what it reads, where a step of the project has written that.
    Run(Option<String>),
}

/// Finds out whether what the step reads has changed since it was last loaded.
pub(super) fn prepare(shared: &Shared<'_>, task: &PlannedTask, step: &Load) -> Prepared {
    if step.reads.is_empty() {
        return Prepared::Run(None);
    }
    let ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let found = match &step.rows.source {
        Source::Landed(_) => {
            let landed = step.reads.first().and_then(|read| ledger.unit(&read.table, &task.keys()[0]));
            landed.and_then(|unit| unit.loaded.as_ref()).map(|at| format!("{} rows, {}", at.rows, at.fingerprint))
        }
        _ => {
            let found = inputs(&ledger, &step.reads, &identity(step), task.units.first());
            found.any.then_some(found.digest)
        }
    };
    let Some(inputs) = found else { return Prepared::Skip("there is nothing to read yet".to_owned()) };
    let fresh = ledger.unit(&task.step.into, &task.keys()[0]).is_some_and(|record| {
        record.state == UnitState::Loaded
            && record.loaded.as_ref().and_then(|loaded| loaded.inputs.as_ref()) == Some(&inputs)
    });
    if fresh && !is_forced(task) {
        return Prepared::Skip("nothing that it reads has changed".to_owned());
    }
    Prepared::Run(Some(inputs))
}

/// All that the step itself says of its rows: another text makes other rows of the same ones.
fn identity(step: &Load) -> String {
    let rows = &step.rows;
    let asked = match &rows.source {
        Source::Table(source) => source.rows.texts().iter().map(|text| &*text.text).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    };
    let files = step.target.as_ref().map(|target| (&target.into.text, target.files));
    format!("{asked}\0{:?}\0{:?}\0{:?}\0{files:?}", rows.columns, rows.nested, rows.naming)
}

/// Reads the task's rows and brings them where they belong, if they are not there already.
pub(super) async fn run(
    shared: &Shared<'_>,
    task: &PlannedTask,
    step: &Load,
    inputs: Option<String>,
) -> Result<Vec<UnitOutcome>> {
    let asked = resolved(shared.gear, shared.pipeline, step)?;
    if let Asked::Landed(landing) = &asked {
        let (pull, current) = landed(shared.gear, landing, &task.keys()[0]).await?;
        let expected = (current.loaded.rows, current.loaded.fingerprint);
        let given = Given { pull: Some(Arc::new(pull)), inputs, expected: Some(expected) };
        return extract::run(shared, task, &step.rows, Some(given)).await;
    }
    let terms = Terms { bookmark: None, billing: shared.purse.billing(task), ..Terms::default() };
    let pull =
        pull_of(shared.gear, (shared.pipeline, &task.step, step), &shared.occasion, task.units.first(), &asked, terms)
            .await?;
    let given = Given { pull: Some(pull), inputs, expected: None };
    let rows = match &asked {
        // A server that finds rows by a time of its own gives no others; a unit of haul's is no member of the row.
        Asked::Rows(rows) if step.by_unit || matches!(rows.source, Source::Collection(_)) => {
            Extract { time: None, ..(**rows).clone() }
        }
        Asked::Rows(rows) => (**rows).clone(),
        Asked::Landed(_) => return Err(Error::internal("rows that landed are read otherwise")),
    };
    extract::run(shared, task, &rows, Some(given)).await
}

/// What a load step reads, once the type of its connection is known.
pub(super) enum Asked {
    /// Rows that haul has put into a collection, with their pointers.
    Landed(Landing),
    /// Rows of a table, a collection, or files.
    Rows(Box<Extract>),
}

/// Looks which kind of system the rows are in.
pub(super) fn resolved(gear: &Gear, pipeline: &Pipeline, step: &Load) -> Result<Asked> {
    let rows = &step.rows;
    let source = match &rows.source {
        Source::Landed(landing) => return Ok(Asked::Landed(landing.clone())),
        Source::Table(source) => source,
        _ => return Err(Error::internal("a load reads a table, a collection or files")),
    };
    let connection = gear.connections.get(&rows.connection)?;
    let named = match &source.rows {
        TableRows::Table { name, .. } => Some(name),
        TableRows::Query(_) => None,
    };
    let source = match (&connection.kind, named) {
        (ConnectionKind::MongoDb(_), Some(name)) if !step.reads.is_empty() => {
            return Ok(Asked::Landed(Landing {
                connection: rows.connection.clone(),
                collection: name.text.to_string(),
            }));
        }
        (ConnectionKind::MongoDb(_), Some(name)) => collection(name, source, rows.time.as_ref()),
        (ConnectionKind::Files(_), Some(name)) => files(name),
        (ConnectionKind::MongoDb(_) | ConnectionKind::Files(_), None) => {
            return Err(Error::config(format!(
                "`sql` cannot run in `{}`, which has type {}",
                connection.name, connection.kind
            ))
            .hint("from = \"…\" names a collection, or files; an `[[extract]]` has `filter` and `pipeline` for collections"));
        }
        (kind @ (ConnectionKind::Http(_) | ConnectionKind::Smtp(_) | ConnectionKind::Process), _) => {
            return Err(Error::config(format!("a load cannot read from `{}`, which has type {kind}", connection.name))
                .hint("an API or a program is read by an `[[extract]]`"));
        }
        _ => rows.source.clone(),
    };
    let unit = TimeColumn { path: UNIT.to_owned(), format: TimeFormat::Iso, outside: Outside::Refuse };
    let (time, time_zone) = if step.by_unit && pipeline.window.is_some() {
        // Hours are written in UTC, days by their dates.
        (Some(unit), Some(Tz::UTC))
    } else {
        (rows.time.clone(), rows.time_zone)
    };
    Ok(Asked::Rows(Box::new(Extract { source, time, time_zone, ..rows.clone() })))
}

fn collection(name: &Text, source: &TableSource, time: Option<&TimeColumn>) -> Source {
    let stored = |time: &TimeColumn| match (time.path.as_str(), time.format) {
        ("_id", _) => StoredTime::ObjectId,
        (_, TimeFormat::Iso) => StoredTime::Date,
        (_, TimeFormat::Epoch) => StoredTime::Epoch,
        (_, TimeFormat::EpochMs) => StoredTime::EpochMs,
    };
    Source::Collection(Box::new(CollectionSource {
        collection: name.clone(),
        query: CollectionQuery::Find { filter: None, projection: None },
        time: time.map(|time| StoredMember { path: time.path.clone(), stored: stored(time) }),
        batch_size: BATCH,
        probe: match (&source.changed_column, source.probe) {
            (Some(changed), _) => CollectionProbe::Newest(changed.clone()),
            (None, ProbeRule::Count) => CollectionProbe::Count,
            (None, _) => CollectionProbe::Off,
        },
        retry: source.retry,
    }))
}

fn files(name: &Text) -> Source {
    Source::Files(Box::new(FilesSource {
        files: name.clone(),
        format: None,
        csv: CsvFormat::default(),
        records: None,
        file_column: None,
        allow_none: false,
    }))
}

/// What the step asks for its rows, rendered for a unit.
async fn pull_of(
    gear: &Gear,
    (pipeline, step, load): (&Arc<Pipeline>, &Arc<Step>, &Load),
    occasion: &Occasion,
    unit: Option<&Unit>,
    asked: &Asked,
    terms: Terms,
) -> Result<Arc<dyn Pull>> {
    let rows = match asked {
        Asked::Landed(landing) => {
            let key = unit.map_or_else(UnitKey::whole, Unit::key);
            return Ok(Arc::new(landed(gear, landing, &key).await?.0));
        }
        Asked::Rows(rows) => rows,
    };
    let scope = scope_of(gear, (pipeline, step, load), occasion, unit)?;
    source::pull_of(gear, (pipeline, step, rows), &scope, terms).await
}

/// What the step's templates see: the tables that they refer to stand as their own warehouse writes them.
fn scope_of(
    gear: &Gear,
    (pipeline, step, load): (&Arc<Pipeline>, &Arc<Step>, &Load),
    occasion: &Occasion,
    unit: Option<&Unit>,
) -> Result<Scope> {
    let dialect = places::dialect(gear, pipeline, &load.rows.connection)?;
    Ok(scope::scope(gear, pipeline, step, occasion, unit, &dialect))
}

/// What a load step would read, for people.
pub(super) async fn reading(
    gear: &Gear,
    (pipeline, step, load): (&Arc<Pipeline>, &Arc<Step>, &Load),
    occasion: &Occasion,
    unit: Option<&Unit>,
) -> Result<Arc<dyn Pull>> {
    let asked = resolved(gear, pipeline, load)?;
    pull_of(gear, (pipeline, step, load), occasion, unit, &asked, Terms::default()).await
}

/// What a load step sends, for people; a source that is a file is not opened for that.
pub(super) async fn lines(
    gear: &Gear,
    (pipeline, step, load): (&Arc<Pipeline>, &Arc<Step>, &Load),
    occasion: &Occasion,
    unit: Option<&Unit>,
) -> Result<Vec<String>> {
    let asked = resolved(gear, pipeline, load)?;
    match &asked {
        Asked::Landed(_) => {
            Ok(pull_of(gear, (pipeline, step, load), occasion, unit, &asked, Terms::default()).await?.lines())
        }
        Asked::Rows(rows) => {
            let scope = scope_of(gear, (pipeline, step, load), occasion, unit)?;
            source::lines_of(gear, (pipeline, step, rows), &scope).await
        }
    }
}

/// What reads the rows of a unit from where they landed.
async fn landed(gear: &Gear, landing: &Landing, unit: &UnitKey) -> Result<(MongoPull, Current)> {
    let place = place(gear, landing).await?;
    let Some(current) = place.current(unit).await? else {
        return Err(Error::new(
            Kind::Source,
            format!("reading {unit} from {}", place.mongo().place(place.collection())),
        )
        .because("it never landed there, or somebody has removed it")
        .hint("the next run pulls it again"));
    };
    let landed = LandedRows {
        unit: unit.clone(),
        generation: current.loaded.generation,
        shape: current.shape.clone(),
        columns: current.columns.clone(),
    };
    let pull = MongoPull {
        mongo: place.mongo().clone(),
        collection: landing.collection.clone(),
        query: MongoQuery::Landed(Box::new(landed)),
        range: None,
        batch_size: BATCH,
        probe: CollectionProbe::Off,
        retry: RetryPolicy::default(),
    };
    Ok((pull, current))
}
