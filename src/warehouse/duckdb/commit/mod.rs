//! One commit into DuckDB: all of it, or nothing.

mod changes;
mod checks;
mod files;
mod rows;
mod table;

use duckdb::{Connection, params};
use tokio::runtime::Handle;

pub(super) use files::write as write_files;
pub(super) use table::{describe, loads, stocked};

use crate::error::{Error, Kind, Result};
use crate::model::fit;
use crate::model::ledger::Changes;
use crate::model::pipeline::Write;
use crate::model::schema::{Reconciled, TableSchema};
use crate::time::UnitKey;
use crate::warehouse::dialect::DUCKDB;
use crate::warehouse::excerpt::failed_at;
use crate::warehouse::verdict::{self, LastLoad};
use crate::warehouse::{Commit, CommitOutcome, Committed, NEW_ROWS, NewRows, UnitCommit, UnitCommitted, units};

/// Commits, or rolls everything back.
///
/// `runtime` leads to whoever gives the permit.
pub(super) fn run(connection: &mut Connection, commit: &Commit, runtime: Option<&Handle>) -> Result<Committed> {
    let begin = |error| failed("beginning a transaction", error);
    // Outside of the transaction: a rolled back one must not take the table away from the statements that know it.
    table::ensure_loads(connection)?;
    connection.execute_batch("BEGIN TRANSACTION").map_err(begin)?;
    let result = steps(connection, commit).and_then(|committed| commit.permit.holds_for(runtime).map(|()| committed));
    let end = match &result {
        Ok(committed) if committed.units.iter().any(|unit| unit.outcome == CommitOutcome::Written) => "COMMIT",
        _ => "ROLLBACK",
    };
    let ended = connection.execute_batch(end);
    // The temporary rows are of no use to anybody, however it ended.
    let _ = connection.execute_batch(&format!("DROP TABLE IF EXISTS temp.main.{NEW_ROWS}"));
    match (result, ended) {
        (Ok(_), Err(error)) => Err(failed("committing", error)),
        (result, _) => result,
    }
}

fn steps(connection: &Connection, commit: &Commit) -> Result<Committed> {
    table::assert_plain(connection, &commit.table)?;
    let target = describe(connection, &commit.table)?;
    let last = last_loads(connection, commit)?;
    let (known, pending) = verdict::standings(commit, target.is_some(), |unit| {
        last.iter().find(|(key, _)| *key == unit.key).map(|(_, last)| *last)
    })?;
    let mut committed = Committed { units: known, ..Committed::default() };
    if pending.is_empty() {
        return Ok(committed);
    }
    let incoming = match &commit.rows {
        NewRows::Staged { columns, .. } => columns.clone(),
        NewRows::Query { sql, time_column } => {
            rows::compute(connection, commit, sql, time_column.as_deref())?;
            rows::columns(connection)?
        }
    };
    let reconciled = fit::reconcile(target.as_ref(), &incoming, commit.contract)?;
    let judged = judge(connection, commit, &pending, &reconciled, target.is_some())?;
    let written = verdict::written(&pending, &judged);
    let all = written.len() == pending.len();
    committed.units.extend(judged);
    if written.is_empty() {
        return Ok(committed);
    }
    if matches!(commit.rows, NewRows::Query { .. }) {
        table::assert_digits(connection, &incoming, &reconciled)?;
        if !all {
            let others = units::condition(&DUCKDB, commit, &written);
            let sql = format!("DELETE FROM temp.main.{NEW_ROWS} WHERE NOT ({others})");
            execute(connection, "leaving out the units that stay", &sql)?;
        }
    }
    table::apply(connection, commit, target.as_ref(), &reconciled)?;
    put(connection, commit, &written, &reconciled, target.as_ref(), &mut committed)?;
    record(connection, commit, &written, &committed)?;
    committed.schema_changes = reconciled.changes;
    committed.left_out = reconciled.left_out;
    Ok(committed)
}

/// The newest load of each unit of a commit.
fn last_loads(connection: &Connection, commit: &Commit) -> Result<Vec<(UnitKey, LastLoad)>> {
    let sql = "SELECT generation, pull, rows, fingerprint FROM main._haul_loads \
               WHERE table_name = ? AND unit = ? ORDER BY generation DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql).map_err(|error| failed("reading _haul_loads", error))?;
    let mut loads = Vec::new();
    for unit in &commit.units {
        let found = statement.query_row(params![commit.table.to_string(), unit.key.as_str()], |row| {
            let print: String = row.get(3)?;
            let fingerprint = print.parse().unwrap_or_default();
            Ok(LastLoad { generation: row.get(0)?, pull: row.get(1)?, rows: row.get(2)?, fingerprint })
        });
        match found {
            Ok(found) => loads.push((unit.key.clone(), found)),
            Err(duckdb::Error::QueryReturnedNoRows) => {}
            Err(error) => return Err(failed("reading _haul_loads", error)),
        }
    }
    Ok(loads)
}

/// Says of each unit whether its new rows are to be written.
fn judge(
    connection: &Connection,
    commit: &Commit,
    pending: &[&UnitCommit],
    reconciled: &Reconciled,
    exists: bool,
) -> Result<Vec<UnitCommitted>> {
    let mut judged = Vec::new();
    for unit in pending {
        let (rows, fingerprint) = match unit.staged {
            Some(staged) => staged,
            None => rows::fingerprint(connection, commit, unit, reconciled)?,
        };
        judged.push(verdict::judge(unit, rows, fingerprint, exists));
    }
    Ok(judged)
}

/// Checks the new rows and puts them where the old ones were.
fn put(
    connection: &Connection,
    commit: &Commit,
    written: &[&UnitCommit],
    reconciled: &Reconciled,
    target: Option<&TableSchema>,
    committed: &mut Committed,
) -> Result<()> {
    let has_old = target.is_some() && written.iter().any(|unit| unit.previous.as_ref().is_some_and(|old| old.rows > 0));
    let direct = !has_old && commit.checks.is_empty() && !matches!(commit.write, Write::Merge { .. });
    let columns = rows::columns_of(commit, reconciled);
    let source = match &commit.rows {
        NewRows::Staged { .. } => {
            let select = rows::staged_select(commit, written, reconciled);
            if direct {
                select
            } else {
                let select = rows::whole_select(&select, target, reconciled);
                execute(connection, "reading the staged rows", &format!("CREATE TEMP TABLE {NEW_ROWS} AS {select}"))?;
                format!("SELECT {columns} FROM temp.main.{NEW_ROWS}")
            }
        }
        NewRows::Query { .. } => rows::computed_select(commit, written, reconciled),
    };
    if let Write::Merge { keys, newest_by } = &commit.write {
        changes::one_row_a_key(connection, keys, newest_by.as_deref())?;
    }
    if !direct {
        checks::run(connection, commit, written, committed)?;
    }
    for unit in written {
        let Some(old) = &unit.previous else { continue };
        let rows = committed.units.iter_mut().find(|one| one.key == unit.key);
        if let Some(own) = rows {
            // Where nothing was, all is new; a look at the table would tell no more.
            own.changes = Some(if old.rows == 0 || !has_old || commit.write == Write::Append {
                Changes { added: own.rows, ..Changes::default() }
            } else {
                changes::count(connection, commit, unit, reconciled, target)?
            });
        }
    }
    let relation = DUCKDB.relation(&commit.table);
    match &commit.write {
        Write::Replace => {
            let bounds = units::condition(&DUCKDB, commit, written);
            execute(connection, "removing the old rows", &format!("DELETE FROM {relation} WHERE {bounds}"))?;
        }
        Write::Full => {
            execute(connection, "removing the old rows", &format!("DELETE FROM {relation}"))?;
            table::forget_loads(connection, commit)?;
        }
        Write::Merge { keys, .. } => changes::remove_keys(connection, commit, keys)?,
        Write::Append => {}
    }
    let insert = format!("INSERT INTO {relation} BY NAME {source}");
    let inserted = connection.execute(&insert, []).map_err(|error| failed("inserting the new rows", error))?;
    assert_complete(commit, written, inserted)
}

/// Refuses a stage whose files have other rows than its manifest: they were changed since.
fn assert_complete(commit: &Commit, written: &[&UnitCommit], inserted: usize) -> Result<()> {
    let NewRows::Staged { files, .. } = &commit.rows else { return Ok(()) };
    let expected: u64 = written.iter().filter_map(|unit| unit.staged).map(|(rows, _)| rows).sum();
    if matches!(commit.write, Write::Merge { .. }) || u64::try_from(inserted).is_ok_and(|rows| rows == expected) {
        return Ok(());
    }
    let folder = files.first().and_then(|file| file.parent()).and_then(|folder| folder.parent());
    let folder = folder.map(|folder| folder.display().to_string()).unwrap_or_default();
    Err(Error::new(Kind::Storage, format!("the stage has {inserted} rows, its manifest says {expected}"))
        .hint(format!("its files were changed since it was sealed; remove the folder {folder} and pull again")))
}

fn record(connection: &Connection, commit: &Commit, written: &[&UnitCommit], committed: &Committed) -> Result<()> {
    let sql = "INSERT INTO main._haul_loads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?::TIMESTAMP)";
    let mut statement = connection.prepare_cached(sql).map_err(|error| failed("writing _haul_loads", error))?;
    for unit in written {
        let Some(own) = committed.units.iter().find(|one| one.key == unit.key) else { continue };
        let at = commit.at.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
        let values = params![
            commit.table.to_string(),
            unit.key.as_str(),
            unit.pull,
            unit.generation,
            own.rows,
            own.fingerprint.to_string(),
            unit.inputs,
            commit.run,
            at
        ];
        statement.execute(values).map_err(|error| failed("writing _haul_loads", error))?;
    }
    Ok(())
}

fn execute(connection: &Connection, doing: &str, sql: &str) -> Result<()> {
    connection.execute_batch(sql).map_err(|error| failed(doing, error))
}

/// An error of DuckDB while `doing`.
pub(super) fn failed(doing: &str, error: duckdb::Error) -> Error {
    Error::new(Kind::Warehouse, doing).because(error)
}

/// An error of DuckDB in a statement that a user wrote, shown beside its line; `shift` lines of ours stand before it.
pub(super) fn failed_in(doing: &str, sql: &str, shift: usize, error: &duckdb::Error) -> Error {
    let message = error.to_string();
    let line = message
        .find("LINE ")
        .and_then(|at| message[at + 5..].split(':').next())
        .and_then(|number| number.parse::<usize>().ok())
        .and_then(|line| line.checked_sub(shift + 1));
    let first = message.split("\n\nLINE").next().unwrap_or(&message).trim().to_owned();
    failed_at(doing, sql, line, first)
}
