//! Where a step's rows go: a table of a warehouse, or a collection; committed into each in its own way.

use std::sync::Arc;

use super::extract::staged_commit;
use super::gear::Gear;
use super::landing;
use super::outcome::UnitOutcome;
use super::scope;
use super::worker::Shared;
use crate::delivery::{Delivery, Lot};
use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::ConnectionKind;
use crate::model::ledger::Loaded;
use crate::model::load::{FileForm, Target};
use crate::model::name::{TableName, Text};
use crate::model::pipeline::{Extract, Landing, Pipeline, Step, Write};
use crate::model::plan::PlannedTask;
use crate::monitor::Boundary;
use crate::stage::Manifest;
use crate::template::Scope;
use crate::time::UnitKey;
use crate::warehouse::{Committed, Dialect, UnitCommit, Warehouse, write_files};

/// A place that rows go to.
pub(super) enum Place {
    /// A table.
    Table {
        /// Its warehouse.
        warehouse: Warehouse,
        /// The table there.
        table: TableName,
    },
    /// A collection, unit by unit.
    Collection(Landing),
    /// Files, unit by unit.
    Files {
        /// Where.
        delivery: Delivery,
        /// How.
        form: FileForm,
        /// The template of their path.
        path: Text,
    },
}

impl Place {
    /// The place of a step's rows, opened.
    pub async fn of(gear: &Gear, pipeline: &Pipeline, step: &Step) -> Result<Self> {
        if let Some(landing) = step.landing() {
            return Ok(Self::Collection(landing.clone()));
        }
        let Some(target) = step.target() else {
            return Ok(Self::Table { warehouse: gear.warehouse(&pipeline.warehouse).await?, table: step.into.clone() });
        };
        let connection = gear.connections.get(&target.connection)?;
        match &connection.kind {
            ConnectionKind::MongoDb(_) => {
                assert_collection(step, target)?;
                Ok(Self::Collection(Landing {
                    connection: target.connection.clone(),
                    collection: target.into.text.to_string(),
                }))
            }
            ConnectionKind::Files(_) if target.files.is_some() => {
                let store = gear.files(&target.connection).await?;
                let form = target.files.ok_or_else(|| Error::internal("files have a form"))?;
                Ok(Self::Files { delivery: Delivery::new(store, &target.into.text), form, path: target.into.clone() })
            }
            kind => {
                let table = table_of(target, kind)?;
                Ok(Self::Table { warehouse: gear.target(&target.connection).await?, table })
            }
        }
    }

    /// How names and values are written in what runs there.
    pub fn dialect(&self, gear: &Gear, pipeline: &Pipeline) -> Result<Dialect> {
        match self {
            Self::Table { warehouse, .. } => Ok(*warehouse.dialect()),
            Self::Files { .. } => Ok(Dialect::of_files()),
            Self::Collection(_) => Dialect::of(&gear.connections.get(&pipeline.warehouse)?),
        }
    }

    /// Removes what killed attempts at units have left behind that are not written now.
    pub async fn tidy(&self, gear: &Gear, outcomes: impl Iterator<Item = &UnitOutcome>) -> Result<()> {
        match self {
            Self::Collection(place) => landing::tidy(gear, place, outcomes).await,
            // What is left there has a name that the next attempt writes to.
            Self::Table { .. } | Self::Files { .. } => Ok(()),
        }
    }

    /// Brings the units of a sealed stage there, all of them or none.
    ///
    /// A place that has no transaction over all of them goes unit by unit, and tells nothing of them.
    pub async fn put(
        &self,
        shared: &Shared<'_>,
        task: &PlannedTask,
        rows: &Extract,
        manifest: &Manifest,
        units: Vec<UnitCommit>,
    ) -> Result<Committed> {
        let gear = shared.gear;
        match self {
            Self::Collection(place) => {
                landing::land(shared, task, place, manifest, units).await?;
                Ok(Committed::default())
            }
            Self::Files { delivery, form, path } => {
                deliver(shared, task, (delivery, *form, path), rows, manifest, units).await
            }
            Self::Table { warehouse, table } => {
                let (pipeline, occasion) = (shared.pipeline, &shared.occasion);
                let step: &Arc<Step> = &task.step;
                let dialect = warehouse.dialect();
                let mut commit = staged_commit(
                    gear,
                    pipeline,
                    step,
                    rows,
                    occasion,
                    manifest,
                    units,
                    dialect,
                    &shared.cancel_of(task),
                )?;
                commit.table = table.clone();
                commit.billing = shared.purse.billing(task);
                commit.permit = shared.permit.clone();
                warehouse.commit(commit).await
            }
        }
    }
}

/// Writes the rows of each unit as files, and brings these to where they belong.
async fn deliver(
    shared: &Shared<'_>,
    task: &PlannedTask,
    (delivery, form, path): (&Delivery, FileForm, &Text),
    rows: &Extract,
    manifest: &Manifest,
    units: Vec<UnitCommit>,
) -> Result<Committed> {
    let (gear, pipeline, occasion) = (shared.gear, shared.pipeline, &shared.occasion);
    let dialect = Dialect::of_files();
    let mut committed = Committed::default();
    for unit in units {
        let scope = scope::scope(gear, pipeline, &task.step, occasion, unit.unit.as_ref(), &dialect);
        let path = path_of(gear, path, &scope)?;
        let scratch = gear.project.state_dir.join("scratch");
        std::fs::create_dir_all(&scratch).context(Kind::Storage, || format!("creating {}", scratch.display()))?;
        let folder = tempfile::tempdir_in(&scratch).context(Kind::Storage, || "writing files".to_owned())?;
        let (staged, of) = (unit.staged.unwrap_or_default(), unit.clone());
        let commit = staged_commit(
            gear,
            pipeline,
            &task.step,
            rows,
            occasion,
            manifest,
            vec![unit],
            &dialect,
            &shared.cancel_of(task),
        )?;
        let at = commit.at;
        let (files, written) = write_files(commit, form, folder.path().to_owned()).await?;
        shared.crossed(task, Boundary::Written);
        let lot = Lot {
            key: of.key,
            path,
            files,
            appends: task.step.write == Write::Append,
            pull: of.pull,
            generation: of.generation,
            rows: staged.0,
            fingerprint: staged.1,
            inputs: of.inputs,
            run: occasion.run.clone(),
            at,
        };
        shared.permit.holds().await?;
        delivery.put(&lot).await?;
        shared.crossed(task, Boundary::Flipped);
        committed.warnings.extend(written.warnings);
    }
    Ok(committed)
}

/// The path of a unit's files, which no other unit has.
fn path_of(gear: &Gear, template: &Text, scope: &Scope) -> Result<String> {
    let path = gear.templates.render(template, scope)?.trim().to_owned();
    let wrong = |why: &str| {
        Error::config(format!("the files at {}", template.origin))
            .because(format!("`{path}` {why}"))
            .hint("into = \"exports/dt={{ ds }}/part.parquet\"; of hours: {{ unit.start | strftime('%Y%m%dT%H') }}")
    };
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.starts_with("_haul");
    if !path.split('/').all(plain) {
        return Err(wrong("is no path below the connection"));
    }
    if let Some(unit) = scope.unit {
        let next = Scope { unit: Some(unit.calendar.next(&unit)), ..scope.clone() };
        if gear.templates.render(template, &next)?.trim() == path {
            return Err(wrong("is the path of two units"));
        }
    }
    Ok(path)
}

/// How names and values are written behind a connection; of one without SQL, as in the pipeline's warehouse.
pub(super) fn dialect(gear: &Gear, pipeline: &Pipeline, connection: &str) -> Result<Dialect> {
    let own = || Dialect::of(&gear.connections.get(&pipeline.warehouse)?);
    Dialect::of(&gear.connections.get(connection)?).or_else(|_| own())
}

/// What the collections of a load can do.
fn assert_collection(step: &Step, target: &Target) -> Result<()> {
    let doing = || format!("loading into the collection {} of {}", target.into.text, target.connection);
    if target.files.is_some() || target.into.text.contains('.') {
        return Err(Error::config(doing())
            .because("a collection's name has no slash and no dot")
            .hint("into = \"ranking\", or a connection of type files for a path"));
    }
    if let Write::Append | Write::Merge { .. } = step.write {
        return Err(Error::config(doing())
            .because(format!(
                "a collection gets the rows of a unit in place of those it had; `{}` is for tables",
                step.write.word()
            ))
            .hint("leave `write` out, or write = \"full\""));
    }
    if !step.checks.is_empty() {
        return Err(Error::config(doing())
            .because("checks run in a warehouse, and these rows go into none")
            .hint("put the checks on the step that computes the rows"));
    }
    Ok(())
}

/// The table that a target names, in the words of its system.
fn table_of(target: &Target, kind: &ConnectionKind) -> Result<TableName> {
    let text = &*target.into.text;
    let wrong = |why: String, hint: &str| {
        Err(Error::config(format!("loading into `{text}` of `{}`", target.connection))
            .because(why)
            .hint(hint.to_owned()))
    };
    let schema = match kind {
        ConnectionKind::Files(_) => {
            return wrong(
                "a connection of type files has no tables".to_owned(),
                "into = \"exports/dt={{ ds }}/part.parquet\"",
            );
        }
        _ if target.files.is_some() => {
            return wrong(
                format!("a connection of type {kind} has no files"),
                "into = \"schema.table\"; files need a connection of type files",
            );
        }
        ConnectionKind::Http(_) | ConnectionKind::Smtp(_) | ConnectionKind::Process => {
            return wrong(
                format!("nothing can be loaded into a connection of type {kind}"),
                "a load goes into duckdb, postgres, mysql, bigquery, mongodb or files",
            );
        }
        ConnectionKind::Postgres(_) => "public",
        ConnectionKind::MySql(server) => &server.database,
        ConnectionKind::BigQuery(_) if !text.contains('.') => {
            return wrong("a table of BigQuery lies in a dataset".to_owned(), "into = \"dataset.table\"");
        }
        _ => "main",
    };
    match text.split_once('.') {
        None => Ok(TableName { schema: schema.to_owned(), name: text.to_owned() }),
        Some(_) => TableName::parse(text),
    }
}

/// What places have of each unit, as they tell it themselves.
#[derive(Default)]
pub(super) struct Found {
    /// By the ledger's names.
    pub loads: Vec<(TableName, UnitKey, Loaded)>,
    /// What could not be looked at; what the ledger knows of it stands.
    pub unseen: Vec<TableName>,
    /// One sentence for each of these.
    pub sentences: Vec<String>,
}

/// Looks at the places outside of the warehouse that a pipeline's rows are loaded into.
pub(super) async fn loads(gear: &Gear, pipeline: &Pipeline) -> Result<Found> {
    let mut found = Found::default();
    for step in pipeline.steps.iter().map(|step| &**step).filter(|step| step.target().is_some()) {
        let looked = async {
            match Place::of(gear, pipeline, step).await? {
                Place::Collection(place) => landing::loads(gear, &place).await,
                Place::Files { delivery, .. } => delivery.loads().await,
                Place::Table { warehouse, table } => {
                    let loads = in_tables(&warehouse, &[(step, &table)]).await?;
                    Ok(loads.into_iter().map(|(_, unit, loaded)| (unit, loaded)).collect())
                }
            }
        };
        match looked.await {
            Ok(loads) => {
                found.loads.extend(loads.into_iter().map(|(unit, at): (UnitKey, _)| (step.into.clone(), unit, at)));
            }
            // Its step will fail by itself; the others need not wait for it.
            Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Auth | Kind::Connection | Kind::Config) => {
                let message = format!("what is loaded in {} cannot be looked at: {}", step.into, error.chain());
                found.sentences.push(gear.redactor.redact(&message));
                found.unseen.push(step.into.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// What tables of one warehouse have of each unit: what it says of them, and has rows of.
pub(super) async fn in_tables(
    warehouse: &Warehouse,
    tables: &[(&Step, &TableName)],
) -> Result<Vec<(TableName, UnitKey, Loaded)>> {
    let names: Vec<TableName> = tables.iter().map(|(_, table)| (*table).clone()).collect();
    let mut loads = warehouse.loads(&names).await?;
    for (step, table) in tables {
        // A merge may move all rows of a unit to later ones; elsewhere a unit with rows has them under its own name.
        if matches!(step.write, Write::Replace | Write::Append)
            && let Some(stocked) = warehouse.stocked(table).await?
        {
            let there = |unit: &UnitKey, loaded: &Loaded| loaded.rows == 0 || stocked.contains(unit);
            loads.retain(|(of, unit, loaded)| of != *table || there(unit, loaded));
        }
    }
    Ok(loads)
}
