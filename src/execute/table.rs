//! From a step that reads a database to what is asked of it: names and SQL rendered, and the range of time.

use std::sync::Arc;

use super::gear::Gear;
use crate::error::{Error, Result};
use crate::extract::Pull;
use crate::extract::table::{AskedRows, TableAsk, TimeRange};
use crate::model::connection::Connection;
use crate::model::pipeline::Extract;
use crate::model::source::{TableRows, TableSource};
use crate::template::Scope;

/// What a step asks its database for; nothing is sent yet.
pub(super) async fn pull_of(gear: &Gear, step: &Extract, source: &TableSource, scope: &Scope) -> Result<Arc<dyn Pull>> {
    let connection = gear.connections.get(&step.connection)?;
    let _ask = ask(gear, step, source, scope)?;
    Err(no_tables(&connection))
}

fn no_tables(connection: &Connection) -> Error {
    Error::config(format!(
        "the connection `{}` has type {}, which has no tables to read",
        connection.name, connection.kind
    ))
    .hint("`table` and `sql` need a connection of type \"postgres\", \"mysql\", \"duckdb\" or \"bigquery\"")
}

/// Renders what is asked for.
fn ask(gear: &Gear, step: &Extract, source: &TableSource, scope: &Scope) -> Result<TableAsk> {
    let render = |text| gear.templates.render(text, scope).map(|text| text.trim().to_owned());
    let rows = match &source.rows {
        TableRows::Table { name, sharded, intraday } => AskedRows::Table {
            name: render(name)?,
            sharded: *sharded,
            intraday: intraday.as_ref().map(render).transpose()?,
        },
        TableRows::Query(sql) => AskedRows::Query(render(sql)?),
    };
    let units = match (&scope.unit, &scope.window) {
        (Some(unit), _) => Some((*unit, *unit)),
        (None, Some(window)) => Some((*window.first(), *window.last())),
        (None, None) => None,
    };
    let range = step.time.as_ref().zip(units).map(|(time, (first, last))| {
        TimeRange::of(time.path.clone(), time.format, step.time_zone.unwrap_or(scope.timezone), &first, &last)
    });
    Ok(TableAsk { rows, range, changed_column: source.changed_column.clone(), probe: source.probe })
}
