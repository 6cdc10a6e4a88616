//! Where the items of a fan-out are from: rows of a table or a SELECT, a list, a file; written into a snapshot as they come.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

use super::gear::Gear;
use super::worker::Shared;
use crate::error::{Context, Error, Kind, Result};
use crate::model::fanout::{ForEach, Over};
use crate::model::pipeline::{Pipeline, Read};
use crate::model::plan::PlannedTask;
use crate::stage::{Items, ItemsWriter};
use crate::template::Scope;
use crate::time::{Grain, Unit, UnitKey};

/// Where items are from, ready to be read.
pub(super) enum Origin {
    /// A SELECT on this connection.
    Select {
        /// The statement.
        sql: String,
        /// The connection of a warehouse.
        connection: String,
    },
    /// What the list or the file of the step says.
    Own,
}

/// Finds where the items of a task are from.
///
/// # Errors
/// A step whose rows are not there yet.
pub(super) async fn origin(
    gear: &Gear,
    pipeline: &Pipeline,
    each: &ForEach,
    units: &[Unit],
    scope: &Scope,
) -> Result<Origin> {
    match &each.over {
        Over::Values(_) | Over::File(_) => Ok(Origin::Own),
        Over::Sql { text, connection } => Ok(Origin::Select {
            sql: gear.templates.render(text, scope)?,
            connection: connection.clone().unwrap_or_else(|| pipeline.warehouse.clone()),
        }),
        Over::Step(step) => {
            let read = each.reads.first().ok_or_else(|| Error::internal(format!("`{step}` is not resolved")))?;
            let condition = of_units(gear, read, units).await?;
            let relation = scope.relations.get(&read.name).cloned().unwrap_or_default();
            Ok(Origin::Select {
                sql: format!("SELECT * FROM {relation}{condition}"),
                connection: pipeline.warehouse.clone(),
            })
        }
    }
}

/// The rows of the same units, where the table has units; all of them elsewhere.
async fn of_units(gear: &Gear, read: &Read, units: &[Unit]) -> Result<String> {
    let ledger = gear.state.snapshot(std::slice::from_ref(&read.table)).await?;
    let loaded = |key: &UnitKey| ledger.unit(&read.table, key).is_some_and(|record| record.loaded.is_some());
    let windowed = gear
        .project
        .pipeline(&read.pipeline)
        .and_then(|pipeline| pipeline.window.as_ref().zip(pipeline.step(&read.step)))
        .filter(|(_, step)| step.write != crate::model::pipeline::Write::Full);
    let missing = |what: String| {
        Error::new(Kind::Source, format!("reading the items from `{}`", read.name))
            .because(format!("{what} is not loaded"))
            .hint(format!("load it first: `haul run {} --select +{}`", read.pipeline, read.step))
    };
    if windowed.is_none() {
        let whole = loaded(&UnitKey::whole());
        return if whole { Ok(String::new()) } else { Err(missing(read.table.to_string())) };
    }
    if units.is_empty() {
        let any = ledger.table(&read.table).any(|record| record.loaded.is_some());
        return if any { Ok(String::new()) } else { Err(missing(read.table.to_string())) };
    }
    if let Some(unit) = units.iter().find(|unit| !loaded(&unit.key())) {
        return Err(missing(format!("{} of {}", unit.key(), read.table)));
    }
    let list: Vec<String> = units.iter().map(literal).collect();
    Ok(format!(" WHERE _haul_unit IN ({})", list.join(", ")))
}

/// The start of a unit as the warehouse compares it with `_haul_unit`.
fn literal(unit: &Unit) -> String {
    match unit.calendar.grain {
        Grain::Hour => format!("TIMESTAMP '{}'", unit.start.format("%Y-%m-%d %H:%M:%S")),
        Grain::Day | Grain::Week | Grain::Month => format!("DATE '{}'", unit.date()),
    }
}

/// Writes the snapshot of a task's items into the folder of its stage.
pub(super) async fn snapshot(
    shared: &Shared<'_>,
    task: &PlannedTask,
    each: &ForEach,
    scope: &Scope,
    stage: &Path,
) -> Result<Items> {
    let from = origin(shared.gear, shared.pipeline, each, &task.units, scope).await?;
    write(shared.gear, each, from, stage).await
}

/// Writes items into a folder.
pub(super) async fn write(gear: &Gear, each: &ForEach, from: Origin, folder: &Path) -> Result<Items> {
    if let Origin::Select { sql, connection } = from {
        let rows = folder.join("items.rows");
        gear.warehouse(&connection).await?.export(&sql, &rows).await?;
        let folder = folder.to_owned();
        return super::extract::blocking(move || {
            let mut items = ItemsWriter::create(&folder)?;
            json_lines(&rows, &mut items)?;
            std::fs::remove_file(&rows).context(Kind::Storage, || format!("removing {}", rows.display()))?;
            items.seal()
        })
        .await;
    }
    let (over, root, folder) = (each.over.clone(), gear.project.root.clone(), folder.to_owned());
    super::extract::blocking(move || {
        let mut items = ItemsWriter::create(&folder)?;
        own(&over, &root, &mut |item| items.put(item))?;
        items.seal()
    })
    .await
}

/// How many items a list or a file has, without keeping any.
pub(super) fn count(over: &Over, root: &Path) -> Result<Option<u64>> {
    match over {
        Over::Step(_) | Over::Sql { .. } => Ok(None),
        Over::Values(values) => Ok(Some(values.len() as u64)),
        Over::File(_) => {
            let mut count = 0;
            own(over, root, &mut |_| {
                count += 1;
                Ok(())
            })?;
            Ok(Some(count))
        }
    }
}

/// How many items a list or a file has, and the first of them.
pub(super) fn first_own(over: &Over, root: &Path) -> Result<(u64, Option<String>)> {
    let (mut count, mut first) = (0, None);
    own(over, root, &mut |item| {
        count += 1;
        first.get_or_insert_with(|| item.to_owned());
        Ok(())
    })?;
    Ok((count, first))
}

fn own(over: &Over, root: &Path, put: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    match over {
        Over::Step(_) | Over::Sql { .. } => Ok(()),
        Over::Values(values) => values.iter().try_for_each(|value| put(&value.to_string())),
        Over::File(file) => {
            let path = root.join(file);
            let ending = file.extension().map(|ending| ending.to_string_lossy().to_lowercase());
            match ending.as_deref() {
                Some("csv") => csv(&path, put),
                Some("txt") => lines(&path, &mut |line, _| put(&Value::from(line.trim()).to_string())),
                _ => lines(&path, &mut |line, number| put(&on_one_line(line, &path, number)?)),
            }
        }
    }
}

fn json_lines(path: &Path, items: &mut ItemsWriter) -> Result<()> {
    lines(path, &mut |line, _| items.put(line))
}

/// The lines of a file that are not empty, with their numbers from 1.
fn lines(path: &Path, each: &mut dyn FnMut(&str, usize) -> Result<()>) -> Result<()> {
    for (index, line) in BufReader::new(open(path)?).lines().enumerate() {
        let line = line.context(Kind::Storage, || format!("reading the items of {}", path.display()))?;
        let line = line.strip_prefix('\u{feff}').unwrap_or(&line);
        if !line.trim().is_empty() {
            each(line, index + 1)?;
        }
    }
    Ok(())
}

fn on_one_line(line: &str, path: &Path, number: usize) -> Result<String> {
    let known: Result<serde::de::IgnoredAny, _> = serde_json::from_str(line);
    known.context(Kind::Config, || format!("reading the item on line {number} of {}", path.display()))?;
    Ok(line.trim().to_owned())
}

/// The rows of a CSV file with a head; every value is a text.
fn csv(path: &Path, put: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let doing = || format!("reading the items of {}", path.display());
    let mut reader = csv::Reader::from_reader(BufReader::new(open(path)?));
    let head = reader.headers().context(Kind::Config, doing)?.clone();
    let names: Vec<&str> = head.iter().map(|name| name.trim_start_matches('\u{feff}').trim()).collect();
    for row in reader.records() {
        let row = row.context(Kind::Config, doing)?;
        let members = names.iter().zip(&row).map(|(name, value)| ((*name).to_owned(), Value::from(value)));
        put(&Value::Object(members.collect::<Map<String, Value>>()).to_string())?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    File::open(path)
        .context(Kind::Config, || format!("opening the items of {}", path.display()))
        .map_err(|error| error.hint("`file` of a `for_each` is relative to the project's folder"))
}
