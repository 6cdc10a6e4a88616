//! One commit into MySQL: all rows of it, or none.

use super::session::{Session, ident, literal, loads_of, number, relation, text};
use super::{rows, table};
use crate::error::{Error, Kind, Result};
use crate::model::fit;
use crate::model::ledger::{Changes, Fingerprint};
use crate::model::pipeline::Write;
use crate::model::schema::{LogicalType, Reconciled, SchemaChange};
use crate::time::UnitKey;
use crate::warehouse::dialect::MYSQL;
use crate::warehouse::verdict::{self, LastLoad};
use crate::warehouse::{Commit, Committed, NEW_ROWS, NewRows, UnitCommit, units};
use table::Table;

/// Commits, or rolls all rows back.
pub(super) async fn run(session: &mut Session, commit: &Commit) -> Result<Committed> {
    if !commit.checks.is_empty() {
        return Err(Error::config("checks run where rows are computed, and MySQL is only loaded into")
            .hint("put the checks on the step that this one reads"));
    }
    session.lock(&commit.table).await?;
    let before = table::read(session, &commit.table).await?;
    if before.is_some() || commit.table.schema == session.database {
        table::ensure_loads(session, &commit.table).await?;
    }
    let last = if before.is_some() { last_loads(session, commit).await? } else { Vec::new() };
    let (known, pending) = verdict::standings(commit, before.is_some(), |unit| {
        last.iter().find(|(key, _)| *key == unit.key).map(|(_, last)| *last)
    })?;
    let mut committed = Committed { units: known, ..Committed::default() };
    if pending.is_empty() {
        return Ok(committed);
    }
    let NewRows::Staged { columns, .. } = &commit.rows else {
        return Err(Error::config("MySQL is a place that rows are loaded into; nothing is computed there"));
    };
    let reconciled = fit::reconcile(before.as_ref().map(|table| &table.schema), columns, commit.contract)?;
    committed.units.extend(pending.iter().map(|unit| {
        let (rows, fingerprint) = unit.staged.unwrap_or_default();
        verdict::judge(unit, rows, fingerprint, before.is_some())
    }));
    table::apply(session, commit, before.as_ref(), &reconciled).await?;
    table::ensure_loads(session, &commit.table).await?;
    let Some(now) = table::read(session, &commit.table).await? else {
        return Err(Error::new(Kind::Warehouse, format!("the table {} is gone again", commit.table)));
    };
    let work = Work { commit, pending, reconciled: &reconciled, table: &now };
    if let Write::Merge { .. } = commit.write {
        make_temporary(session, &work).await?;
    }
    session.run("beginning a transaction", "START TRANSACTION").await?;
    let put = match put(session, &work, &mut committed).await {
        Ok(()) => commit.permit.holds().await,
        fault => fault,
    };
    match put {
        Ok(()) => session.run("committing", "COMMIT").await?,
        Err(error) => {
            let _ = session.run("rolling back", "ROLLBACK").await;
            return Err(error);
        }
    };
    committed.left_out.clone_from(&reconciled.left_out);
    committed.schema_changes.clone_from(&reconciled.changes);
    Ok(committed)
}

/// What is known once it is decided that rows are written.
struct Work<'c> {
    commit: &'c Commit,
    pending: Vec<&'c UnitCommit>,
    reconciled: &'c Reconciled,
    table: &'c Table,
}

impl Work<'_> {
    /// The columns of haul's own that the table has.
    fn own(&self) -> Vec<&'static str> {
        let unit = self.commit.grain.is_some() && self.table.has("_haul_unit");
        let mut own = Vec::new();
        if unit {
            own.push("_haul_unit");
        }
        if self.table.has("_haul_pull") {
            own.push("_haul_pull");
        }
        own
    }

    /// The server's types of the columns that are loaded.
    fn types(&self) -> Vec<String> {
        let kept = &self.reconciled.kept;
        kept.iter()
            .map(|staged| {
                let nested = matches!(
                    staged.column.data_type,
                    LogicalType::Json | LogicalType::List(_) | LogicalType::Struct(_)
                );
                match self.table.type_of(&staged.column.name) {
                    // MariaDB calls its JSON a text; a text of JSON would lose its quotes.
                    Some("longtext") if nested => MYSQL.types.json.to_owned(),
                    Some(known) => known.to_owned(),
                    None => MYSQL.type_of(&staged.column.data_type),
                }
            })
            .collect()
    }

    fn is_new(&self) -> bool {
        self.reconciled.changes.contains(&SchemaChange::Create)
    }
}

async fn put(session: &mut Session, work: &Work<'_>, committed: &mut Committed) -> Result<()> {
    let Work { commit, pending, reconciled, .. } = work;
    let (types, own) = (work.types(), work.own());
    let target = relation(&commit.table);
    if work.is_new() || commit.write == Write::Full {
        let keys: Vec<String> = pending.iter().map(|unit| literal(unit.key.as_str())).collect();
        let (loads, name) = (loads_of(&commit.table), literal(&commit.table.to_string()));
        let sql = format!("DELETE FROM {loads} WHERE table_name = {name} AND unit NOT IN ({})", keys.join(", "));
        session.run("writing _haul_loads", &sql).await?;
    }
    match &commit.write {
        Write::Replace => {
            let bounds = units::condition(&MYSQL, commit, pending);
            session.run("removing the old rows", &format!("DELETE FROM {target} WHERE {bounds}")).await?;
        }
        Write::Full => {
            session.run("removing the old rows", &format!("DELETE FROM {target}")).await?;
        }
        Write::Append | Write::Merge { .. } => {}
    }
    let merges = matches!(commit.write, Write::Merge { .. });
    let temporary = ident(NEW_ROWS);
    let place = if merges { &temporary } else { &target };
    let sent = rows::send(session, &commit.rows, pending, (&reconciled.kept, &types), (place, &own)).await?;
    let expected: u64 = pending.iter().filter_map(|unit| unit.staged).map(|(rows, _)| rows).sum();
    if sent != expected {
        return Err(Error::new(Kind::Storage, format!("the stage has {sent} rows, its manifest says {expected}"))
            .hint("its files were changed since it was sealed: run again with --force"));
    }
    if merges {
        merge(session, work, &own).await?;
    }
    for unit in pending {
        let of = committed.units.iter_mut().find(|one| one.key == unit.key);
        // What changed among rows that were there is not counted here: only where nothing was, all is new.
        if let (Some(told), Some(old)) = (of, &unit.previous)
            && (old.rows == 0 || commit.write == Write::Append)
        {
            told.changes = Some(Changes { added: told.rows, ..Changes::default() });
        }
    }
    record(session, work, committed).await
}

/// A table for the new rows alone, of the same columns; it goes away with the session.
async fn make_temporary(session: &mut Session, work: &Work<'_>) -> Result<()> {
    let Write::Merge { keys, newest_by } = &work.commit.write else { return Ok(()) };
    for name in keys.iter().chain(newest_by) {
        if !work.reconciled.kept.iter().any(|staged| staged.column.name.eq_ignore_ascii_case(name)) {
            return Err(Error::new(Kind::Data, format!("the new rows have no column `{name}`"))
                .hint("`keys` and `newest_by` name columns that every row has"));
        }
    }
    let (new, target) = (ident(NEW_ROWS), relation(&work.commit.table));
    session.run("making room for the new rows", &format!("DROP TEMPORARY TABLE IF EXISTS {new}")).await?;
    let mut columns: Vec<String> = work.reconciled.kept.iter().map(|staged| ident(&staged.column.name)).collect();
    columns.extend(work.own().into_iter().map(ident));
    let sql =
        format!("CREATE TEMPORARY TABLE {new} ENGINE = InnoDB AS SELECT {} FROM {target} LIMIT 0", columns.join(", "));
    session.run("making room for the new rows", &sql).await.map(drop)
}

/// Puts the new rows in the place of those of the same keys.
async fn merge(session: &mut Session, work: &Work<'_>, own: &[&str]) -> Result<()> {
    let Write::Merge { keys, newest_by } = &work.commit.write else { return Ok(()) };
    let (new, target) = (ident(NEW_ROWS), relation(&work.commit.table));
    let list = |prefix: &str| keys.iter().map(|key| format!("{prefix}{}", ident(key))).collect::<Vec<_>>().join(", ");
    let mut columns: Vec<String> = work.reconciled.kept.iter().map(|staged| ident(&staged.column.name)).collect();
    columns.extend(own.iter().map(|name| ident(name)));
    let columns = columns.join(", ");
    // Rows that are alike count as one; several of the newest are told and not chosen by chance.
    let newest = match newest_by {
        None => format!("SELECT DISTINCT {columns} FROM {new}"),
        Some(newest) => format!(
            "SELECT DISTINCT {columns} FROM (SELECT n.*, rank() OVER (PARTITION BY {} ORDER BY n.{} DESC) AS _haul_rank \
             FROM {new} AS n) AS r WHERE _haul_rank = 1",
            list("n."),
            ident(newest)
        ),
    };
    let twice = format!(
        "SELECT CAST(count(*) AS UNSIGNED), {} FROM ({newest}) AS d GROUP BY {} HAVING count(*) > 1 LIMIT 1",
        list(""),
        list("")
    );
    if let Some(row) = session.rows("looking for keys that come twice", &twice).await?.first() {
        let mut shown = Vec::with_capacity(keys.len());
        for (place, key) in keys.iter().enumerate() {
            shown.push(format!("{key} = {}", text(row, place + 1)?.unwrap_or_else(|| "null".to_owned())));
        }
        return Err(Error::new(Kind::Data, format!("several different rows have the key {}", shown.join(", ")))
            .hint("`newest_by` names the column that tells which of them is the newest"));
    }
    // A text with spaces behind it is another text, whatever the table's collation takes it for.
    let same = keys.iter().map(|key| {
        let key = ident(key);
        format!("t.{key} <=> n.{key} AND CAST(t.{key} AS BINARY) <=> CAST(n.{key} AS BINARY)")
    });
    let same = same.collect::<Vec<_>>().join(" AND ");
    session.run("removing the old rows", &format!("DELETE t FROM {target} AS t JOIN {new} AS n ON {same}")).await?;
    session.run("inserting the new rows", &format!("INSERT INTO {target} ({columns}) {newest}")).await.map(drop)
}

async fn last_loads(session: &mut Session, commit: &Commit) -> Result<Vec<(UnitKey, LastLoad)>> {
    let keys: Vec<String> = commit.units.iter().map(|unit| literal(unit.key.as_str())).collect();
    let sql = format!(
        "SELECT unit, generation, pull, `rows`, fingerprint FROM {} WHERE table_name = {} AND unit IN ({}) ORDER BY generation",
        loads_of(&commit.table),
        literal(&commit.table.to_string()),
        keys.join(", ")
    );
    let mut loads: Vec<(UnitKey, LastLoad)> = Vec::new();
    for row in session.rows("reading _haul_loads", &sql).await? {
        let key = UnitKey::stored(&text(&row, 0)?.unwrap_or_default());
        let fingerprint: Fingerprint = text(&row, 4)?.unwrap_or_default().parse().unwrap_or_default();
        let last =
            LastLoad { generation: number(&row, 1)?, pull: number(&row, 2)?, rows: number(&row, 3)?, fingerprint };
        loads.retain(|(other, _)| *other != key);
        loads.push((key, last));
    }
    Ok(loads)
}

async fn record(session: &mut Session, work: &Work<'_>, committed: &Committed) -> Result<()> {
    let commit = work.commit;
    let values = work.pending.iter().filter_map(|unit| {
        let own = committed.units.iter().find(|one| one.key == unit.key)?;
        Some(format!(
            "({}, {}, {}, {}, {}, '{}', {}, {}, '{}')",
            literal(&commit.table.to_string()),
            literal(unit.key.as_str()),
            unit.pull,
            unit.generation,
            own.rows,
            own.fingerprint,
            unit.inputs.as_ref().map_or_else(|| "NULL".to_owned(), |inputs| literal(inputs)),
            literal(&commit.run),
            commit.at.format("%Y-%m-%d %H:%M:%S%.6f"),
        ))
    });
    let values: Vec<String> = values.collect();
    let sql = format!("INSERT INTO {} VALUES {}", loads_of(&commit.table), values.join(", "));
    session.run("writing _haul_loads", &sql).await.map(drop)
}
