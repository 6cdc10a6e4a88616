//! From a step that reads a database to what is asked of it: names and SQL rendered, and the range of time.

use std::sync::Arc;

use super::gear::Gear;
use super::source::Terms;
use crate::error::{Error, Result};
use crate::extract::Pull;
use crate::extract::bigquery::{self, BigQueryPull, Jobs};
use crate::extract::table::{AskedRows, DuckDbPull, MySqlPull, PostgresPull, TableAsk, TimeRange};
use crate::model::connection::{Connection, ConnectionKind};
use crate::model::pipeline::Extract;
use crate::model::source::{TableRows, TableSource};
use crate::template::{Quoting, Scope};
use crate::time::Window;

/// What a step asks its database for; nothing is sent yet.
pub(super) async fn pull_of(
    gear: &Gear,
    step: &Extract,
    source: &TableSource,
    scope: &Scope,
    terms: Terms,
) -> Result<Arc<dyn Pull>> {
    let connection = gear.connections.get(&step.connection)?;
    let ask = ask(gear, step, source, &quoting(scope, &connection.kind))?;
    Ok(match &connection.kind {
        ConnectionKind::Postgres(server) => Arc::new(PostgresPull { server: server.clone(), ask }),
        ConnectionKind::MySql(server) => Arc::new(MySqlPull { server: server.clone(), ask }),
        ConnectionKind::DuckDb(settings) => Arc::new(DuckDbPull {
            file: gear.duckdb(&connection, settings).await?,
            path: settings.path.display().to_string(),
            ask,
        }),
        ConnectionKind::BigQuery(settings) => {
            let client = gear.bigquery(&step.connection, settings).await?;
            Arc::new(BigQueryPull::new(client, ask, jobs(scope, terms))?)
        }
        _ => return Err(no_tables(&connection)),
    })
}

/// What is sent to the database, for people; nothing is opened.
pub(super) fn lines_of(gear: &Gear, step: &Extract, source: &TableSource, scope: &Scope) -> Result<Vec<String>> {
    let kind = gear.connections.get(&step.connection)?.kind;
    let scope = quoting(scope, &kind);
    let ask = ask(gear, step, source, &scope)?;
    match &kind {
        ConnectionKind::BigQuery(settings) => bigquery::lines(&ask, &settings.project),
        _ => Ok(ask.lines(scope.quoting.ident)),
    }
}

/// The scope with values and names as the source writes them; the warehouse may write them otherwise.
fn quoting(scope: &Scope, kind: &ConnectionKind) -> Scope {
    let quoting = match kind {
        ConnectionKind::BigQuery(_) => Quoting::BIGQUERY,
        ConnectionKind::MySql(_) => Quoting::MYSQL,
        ConnectionKind::Postgres(_) => Quoting::POSTGRES,
        _ => Quoting::default(),
    };
    Scope { quoting, ..scope.clone() }
}

/// How the query jobs of a step are called: by run and unit, so that what was sent twice is there once.
fn jobs(scope: &Scope, terms: Terms) -> Jobs {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let unit = scope.unit.map(|unit| unit.key().to_string());
    let name = format!("haul_{}_{}", scope.run_id, unit.as_deref().unwrap_or("all")).chars().map(plain).collect();
    let mut labels = terms.labels;
    labels.insert("run".to_owned(), scope.run_id.clone());
    let units = scope.window.as_ref().map(Window::units).unwrap_or_default();
    let of_window = match units {
        [] => None,
        [only] => Some(only.key().to_string()),
        [first, .., last] => Some(format!("{}..{}", first.key(), last.key())),
    };
    labels.extend(unit.or(of_window).map(|units| ("unit".to_owned(), units)));
    Jobs { name, labels, billing: terms.billing }
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
    Ok(TableAsk {
        rows,
        range,
        changed_column: source.changed_column.clone(),
        probe: source.probe,
        retry: source.retry,
    })
}
