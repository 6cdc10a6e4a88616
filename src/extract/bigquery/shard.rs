//! The table of one unit: there, not there yet, or never to come since its name is wrong.

use crate::bigquery::{BigQuery, Caller, Refused, Table, TableId, Why};
use crate::error::{Error, Result};

/// What became of the search for a unit's table.
pub(super) enum Found {
    /// It is there.
    Table(TableId, Box<Table>),
    /// It is not there yet, and why that is believed.
    Late(String),
}

/// Looks for a unit's table, then for the one that stands in for it.
pub(super) async fn find(
    client: &BigQuery,
    daily: &TableId,
    intraday: Option<&TableId>,
    caller: &Caller<'_>,
) -> Result<Found> {
    let mut missing = None;
    for id in std::iter::once(daily).chain(intraday) {
        match client.table(id, caller).await {
            Ok(table) => return Ok(Found::Table(id.clone(), Box::new(table))),
            Err(refused) if refused.why == Why::NotFound => missing = missing.or(Some(refused)),
            Err(refused) => return Err(of_table(id, refused)),
        }
    }
    match missing {
        Some(refused) => late(client, daily, refused, caller).await.map(Found::Late),
        None => Ok(Found::Late(format!("{daily} is not there yet"))),
    }
}

/// A table that is not there is late where its siblings are; where nothing is called like it, its name is wrong.
async fn late(client: &BigQuery, daily: &TableId, refused: Refused, caller: &Caller<'_>) -> Result<String> {
    let prefix = daily.table.trim_end_matches(|c: char| c.is_ascii_digit());
    let Ok(siblings) = client.siblings(daily, caller).await else {
        return Err(not_there(client, daily, refused, caller).await);
    };
    let is_shard = |name: &&String| {
        name.strip_prefix(prefix).is_some_and(|date| {
            date.len() == daily.table.len() - prefix.len() && date.bytes().all(|c| c.is_ascii_digit())
        })
    };
    let newest = siblings.names.iter().filter(is_shard).max();
    match newest {
        Some(newest) => Ok(format!("there is no table {daily} yet; the newest is `{newest}`")),
        // Nothing was exported so far, or too much to look through.
        None if siblings.names.is_empty() || !siblings.all => Ok(format!("there is no table {daily} yet")),
        None => Err(not_there(client, daily, refused, caller).await),
    }
}

/// The error for a table that is not there, with names that are alike.
pub(super) async fn not_there(client: &BigQuery, id: &TableId, refused: Refused, caller: &Caller<'_>) -> Error {
    if refused.why != Why::NotFound {
        return of_table(id, refused);
    }
    let error = of_table(id, refused);
    client.missing(id, caller, error).await
}

fn of_table(id: &TableId, refused: Refused) -> Error {
    refused.error.while_doing(format!("looking at {id}"))
}
