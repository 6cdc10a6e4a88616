//! New rows against the old ones: what they change, and, where rows have keys, which of them stay.

use duckdb::Connection;

use super::{execute, failed, rows};
use crate::error::{Error, Kind, Result};
use crate::model::ledger::Changes;
use crate::model::pipeline::Write;
use crate::model::schema::{Reconciled, TableSchema};
use crate::warehouse::dialect::DUCKDB;
use crate::warehouse::{Commit, NEW_ROWS, UnitCommit, units};

/// What the new rows of a unit change against the old ones.
pub(super) fn count(
    connection: &Connection,
    commit: &Commit,
    unit: &UnitCommit,
    reconciled: &Reconciled,
    target: Option<&TableSchema>,
) -> Result<Changes> {
    let mut columns: Vec<String> = reconciled.kept.iter().map(|staged| DUCKDB.ident(&staged.column.name)).collect();
    let mut new_columns = columns.clone();
    for column in units::absent(target, reconciled) {
        columns.push(DUCKDB.ident(&column.name));
        new_columns.push(format!("NULL::{}", column.data_type));
    }
    if columns.is_empty() {
        return Ok(Changes::default());
    }
    let (bounds, relation) = (units::condition(&DUCKDB, commit, &[unit]), DUCKDB.relation(&commit.table));
    let new = format!("SELECT {} FROM temp.main.{NEW_ROWS} WHERE {bounds}", new_columns.join(", "));
    let count = |sql: String| -> Result<u64> {
        connection.query_row(&sql, [], |row| row.get(0)).map_err(|error| failed("counting what changed", error))
    };
    if let Write::Merge { keys, .. } = &commit.write {
        // A merge takes nothing away, and a key's old row may lie in any unit.
        let old = format!("SELECT {} FROM {relation}", columns.join(", "));
        let different = count(format!("SELECT count(*) FROM ({new} EXCEPT ALL {old})"))?;
        let added = count(format!(
            "SELECT count(*) FROM temp.main.{NEW_ROWS} AS n WHERE {bounds} AND NOT EXISTS (SELECT 1 FROM {relation} AS o WHERE {})",
            units::same_keys(&DUCKDB, keys, "o", "n")
        ))?;
        return Ok(Changes { added, removed: 0, changed: different.saturating_sub(added) });
    }
    let old = format!("SELECT {} FROM {relation} WHERE {bounds}", columns.join(", "));
    let added = count(format!("SELECT count(*) FROM ({new} EXCEPT ALL {old})"))?;
    let removed = count(format!("SELECT count(*) FROM ({old} EXCEPT ALL {new})"))?;
    // A key that neither rows nor table have tells nothing apart.
    let known = |key: &&String| reconciled.kept.iter().any(|staged| staged.column.name.eq_ignore_ascii_case(key));
    if commit.keys.is_empty() || !commit.keys.iter().all(|key| known(&key)) || added == 0 || removed == 0 {
        return Ok(Changes { added, removed, changed: 0 });
    }
    let keys: Vec<String> = commit.keys.iter().map(|key| DUCKDB.ident(key)).collect();
    let keys = keys.join(", ");
    let changed = count(format!(
        "SELECT count(*) FROM (SELECT {keys} FROM ({new} EXCEPT ALL {old}) INTERSECT SELECT {keys} FROM ({old} EXCEPT ALL {new}))"
    ))?;
    Ok(Changes { added: added.saturating_sub(changed), removed: removed.saturating_sub(changed), changed })
}

/// Leaves one new row of each key.
///
/// # Errors
/// A key that no row has as a column, or several different rows of one key of which none is the newest.
pub(super) fn one_row_a_key(connection: &Connection, keys: &[String], newest_by: Option<&str>) -> Result<()> {
    let new = format!("temp.main.{NEW_ROWS}");
    let rows: u64 = connection
        .query_row(&format!("SELECT count(*) FROM {new}"), [], |row| row.get(0))
        .map_err(|error| failed("counting rows", error))?;
    if rows == 0 {
        return Ok(());
    }
    let columns = rows::columns(connection)?;
    for name in keys.iter().map(String::as_str).chain(newest_by) {
        if !columns.iter().any(|column| column.source.eq_ignore_ascii_case(name)) {
            return Err(Error::new(Kind::Data, format!("the new rows have no column `{name}`"))
                .hint("`keys` and `newest_by` name columns that every row has"));
        }
    }
    let list: Vec<String> = keys.iter().map(|key| DUCKDB.ident(key)).collect();
    let list = list.join(", ");
    let mut statement = format!("CREATE OR REPLACE TEMP TABLE {NEW_ROWS} AS SELECT DISTINCT * FROM {new}");
    if let Some(newest) = newest_by {
        let newest = DUCKDB.ident(newest);
        // Rows that are equally new stay, so that they are told and not chosen by chance.
        statement =
            format!("{statement} QUALIFY rank() OVER (PARTITION BY {list} ORDER BY {newest} DESC NULLS LAST) = 1");
    }
    execute(connection, "leaving one row of each key", &statement)?;
    let twice = format!(
        "SELECT CAST(to_json(struct_pack({})) AS VARCHAR) FROM {new} GROUP BY {list} HAVING count(*) > 1 ORDER BY 1 LIMIT 1",
        keys.iter().map(|key| format!("{0} := {0}", DUCKDB.ident(key))).collect::<Vec<_>>().join(", ")
    );
    match connection.query_row(&twice, [], |row| row.get::<_, String>(0)) {
        Ok(key) => Err(Error::new(Kind::Data, format!("several different rows have the key {key}"))
            .hint("`newest_by` names the column that tells which of them is the newest")),
        Err(duckdb::Error::QueryReturnedNoRows) => Ok(()),
        Err(error) => Err(failed("looking for keys that come twice", error)),
    }
}

/// Removes the old rows whose keys the new rows have.
pub(super) fn remove_keys(connection: &Connection, commit: &Commit, keys: &[String]) -> Result<()> {
    let relation = DUCKDB.relation(&commit.table);
    let rows: u64 = connection
        .query_row(&format!("SELECT count(*) FROM temp.main.{NEW_ROWS}"), [], |row| row.get(0))
        .map_err(|error| failed("counting rows", error))?;
    if rows == 0 {
        return Ok(());
    }
    let same = units::same_keys(&DUCKDB, keys, &relation, "n");
    let sql = format!("DELETE FROM {relation} USING temp.main.{NEW_ROWS} AS n WHERE {same}");
    execute(connection, "removing the rows of the new keys", &sql)
}
