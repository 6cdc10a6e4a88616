//! One commit into BigQuery: what has arrived is judged, then put where the old rows were, all of it or nothing.

use std::collections::BTreeMap;

use super::Session;
use super::arrive::Arrival;
use super::columns::{described, storables};
use super::judge::newest_of;
use super::loads::Known;
use crate::bigquery::{Caller, Table, TableId};
use crate::error::{Error, Kind, Result};
use crate::model::fit;
use crate::model::layout::Replacing;
use crate::model::ledger::Changes;
use crate::model::pipeline::Write;
use crate::model::schema::{Reconciled, StagedColumn, TableSchema};
use crate::warehouse::dialect::BIGQUERY;
use crate::warehouse::{Commit, Committed, NewRows, UnitCommit, units, verdict};

/// A commit that is under way.
pub(super) struct Task<'a> {
    pub session: &'a Session,
    pub commit: &'a Commit,
    pub labels: BTreeMap<String, String>,
    pub caller: Caller<'a>,
    pub target: TableId,
    /// The table as it was when the commit began.
    pub table: Option<Table>,
    /// When `_haul_loads` was made.
    pub made: u64,
}

/// Commits, or leaves everything as it was.
pub(super) async fn run(session: &Session, commit: &Commit) -> Result<Committed> {
    let caller = session.caller_of(&commit.cancel, &commit.billing.receipts);
    let labels: BTreeMap<String, String> =
        commit.labels().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let made = session.ensure_loads(&commit.table.schema, &caller).await?;
    let target = session.table_id(&commit.table);
    let table = session.found(&target, &caller).await?;
    if let Some(table) = table.as_ref().filter(|table| table.kind != "TABLE" && !table.kind.is_empty()) {
        return Err(Error::new(Kind::Warehouse, format!("writing to {}", commit.table))
            .because(format!("it is no table but a {}", table.kind.to_lowercase().replace('_', " "))));
    }
    let task = Task { session, commit, labels, caller, target, table, made };
    task.steps().await
}

impl Task<'_> {
    async fn steps(&self) -> Result<Committed> {
        let commit = self.commit;
        let before = self.table.as_ref().map(|table| described(&table.schema));
        let known = self.session.known(commit, &self.labels, &self.caller).await?;
        let (already, pending) = verdict::standings(commit, before.is_some(), |unit| known.of(unit))?;
        let mut committed = Committed { units: already, ..Committed::default() };
        if pending.is_empty() {
            return Ok(committed);
        }
        let by_partition = self.by_partition()?;
        let computed = match &commit.rows {
            NewRows::Staged { .. } => None,
            NewRows::Query { sql, time_column } => Some(self.compute(sql, time_column.as_deref(), by_partition).await?),
        };
        let incoming: Vec<StagedColumn> = match (&commit.rows, &computed) {
            (NewRows::Staged { columns, .. }, _) => storables(columns),
            (NewRows::Query { .. }, Some(arrival)) => arrival.columns.clone(),
            (NewRows::Query { .. }, None) => Vec::new(),
        };
        let reconciled = fit::reconcile(before.as_ref(), &incoming, commit.contract)?;
        let counted = match &computed {
            Some(arrival) => self.counted(arrival, &reconciled).await?,
            None => std::collections::HashMap::new(),
        };
        for unit in &pending {
            let found = counted.get(&unit.key).copied().unwrap_or_default();
            let (rows, fingerprint) = unit.staged.unwrap_or(found);
            committed.units.push(verdict::judge(unit, rows, fingerprint, before.is_some()));
        }
        let written = verdict::written(&pending, &committed.units);
        if !written.is_empty() {
            let new = New {
                computed: computed.as_ref(),
                incoming: &incoming,
                reconciled: &reconciled,
                before: before.as_ref(),
            };
            self.put(&new, &known, &written, &mut committed).await?;
            committed.schema_changes = reconciled.changes;
            committed.left_out = reconciled.left_out;
        }
        if let Some(arrival) = &computed {
            self.leave(arrival).await;
        }
        Ok(committed)
    }

    /// Checks the new rows and puts them where the old ones were.
    async fn put(
        &self,
        new: &New<'_>,
        known: &Known,
        written: &[&UnitCommit],
        committed: &mut Committed,
    ) -> Result<()> {
        let (commit, reconciled) = (self.commit, new.reconciled);
        let by_partition = self.by_partition()?;
        let loaded = match new.computed {
            // Without a look at them, the rows go where they belong at once.
            None if by_partition && commit.checks.is_empty() => None,
            None => Some(self.load(written, reconciled, by_partition).await?),
            Some(arrival) => {
                for kept in &reconciled.kept {
                    if let Some(own) = new.incoming.iter().find(|own| own.source == kept.source) {
                        self.assert_held(&arrival.relation(), &own.column, &kept.column.data_type).await?;
                    }
                }
                None
            }
        };
        let arrival = loaded.as_ref().or(new.computed);
        let mut select = arrival.map(|arrival| self.new_rows(arrival, written, reconciled, new.before));
        if let Some(select) = &mut select {
            let columns = columns_of(reconciled, new.before);
            let rows = written.iter().map(|unit| rows_of(committed, unit)).sum();
            self.one_row_a_key(select, &columns, rows).await?;
            if let (Write::Merge { keys, newest_by }, true) = (&commit.write, rows > 0) {
                *select = newest_of(keys, newest_by.as_deref(), select);
            }
            self.checked(select, &columns, written, committed).await?;
        }
        let created = self.apply(new.before, reconciled).await?;
        if !by_partition {
            self.count(select.as_deref(), new, written, committed).await?;
        }
        match arrival {
            arrival if by_partition => self.replace_partitions(arrival, known, written, reconciled, committed).await?,
            Some(arrival) => {
                // Whatever was loaded into a table of this name before is gone with it.
                let forget = created.then_some(known.newest);
                self.transact(arrival, known, written, reconciled, forget, committed).await?;
            }
            None => return Err(Error::internal("rows that have arrived nowhere")),
        }
        if let Some(loaded) = &loaded {
            self.leave(loaded).await;
        }
        Ok(())
    }

    /// Counts what changes in each unit.
    async fn count(
        &self,
        select: Option<&str>,
        new: &New<'_>,
        written: &[&UnitCommit],
        committed: &mut Committed,
    ) -> Result<()> {
        let is_new = |unit: &UnitCommit| {
            new.before.is_none()
                || self.commit.write == Write::Append
                || unit.previous.as_ref().is_none_or(|old| old.rows == 0)
        };
        let changed: Vec<&UnitCommit> = written.iter().copied().filter(|unit| !is_new(unit)).collect();
        let counted = match (select, new.before) {
            (Some(select), Some(before)) if !changed.is_empty() => {
                self.changes(select, &changed, new.reconciled, before).await?
            }
            _ => std::collections::HashMap::new(),
        };
        for unit in written.iter().filter(|unit| unit.previous.is_some()) {
            let Some(own) = committed.units.iter_mut().find(|one| one.key == unit.key) else { continue };
            // Where nothing was, all is new; a look at the table would tell no more.
            own.changes = Some(if is_new(unit) {
                Changes { added: own.rows, ..Changes::default() }
            } else {
                counted.get(&unit.key).copied().unwrap_or_default()
            });
        }
        Ok(())
    }

    /// Whether units are replaced as whole partitions, which the table has to be divided for.
    fn by_partition(&self) -> Result<bool> {
        let commit = self.commit;
        if commit.layout.replace != Replacing::Partition || commit.write != Write::Replace {
            return Ok(false);
        }
        let Some(grain) = commit.grain else { return Ok(false) };
        let Some(table) = &self.table else { return Ok(true) };
        let every = super::layout::every(grain);
        let how = table.time_partitioning.as_ref();
        if how.is_some_and(|how| how.field.as_deref() == Some("_haul_unit") && how.every == every) {
            return Ok(true);
        }
        Err(Error::new(Kind::Warehouse, "replacing units as partitions")
            .because("the table was made without a partition for each unit")
            .hint("write = \"transaction\"; or drop the table, so that it is made anew"))
    }
}

/// New rows and the columns that they have.
struct New<'a> {
    /// Where computed rows are.
    computed: Option<&'a Arrival>,
    incoming: &'a [StagedColumn],
    reconciled: &'a Reconciled,
    /// The table as it was.
    before: Option<&'a TableSchema>,
}

fn columns_of(reconciled: &Reconciled, before: Option<&TableSchema>) -> Vec<String> {
    let kept = reconciled.kept.iter().map(|staged| staged.column.name.clone());
    let absent = units::absent(before, reconciled).map(|column| column.name.clone());
    kept.chain(absent).chain(["_haul_unit".to_owned(), "_haul_pull".to_owned()]).collect()
}

/// The rows of a unit, as they were judged.
pub(super) fn rows_of(committed: &Committed, unit: &UnitCommit) -> u64 {
    committed.units.iter().find(|one| one.key == unit.key).map_or(0, |one| one.rows)
}

/// The line of a unit in `_haul_loads`, as the values of an INSERT.
pub(super) fn load_values(commit: &Commit, unit: &UnitCommit, committed: &Committed, number: u64, job: &str) -> String {
    let own = committed.units.iter().find(|one| one.key == unit.key);
    let (rows, print) = own.map(|own| (own.rows, own.fingerprint)).unwrap_or_default();
    let text = |text: &str| BIGQUERY.literal(text);
    format!(
        "({}, {}, {}, {}, {rows}, {}, {}, {}, {}, {number}, {})",
        text(&commit.table.to_string()),
        text(unit.key.as_str()),
        unit.pull,
        unit.generation,
        text(&print.to_string()),
        unit.inputs.as_deref().map_or_else(|| "NULL".to_owned(), text),
        text(&commit.run),
        BIGQUERY.timestamp(commit.at),
        text(job),
    )
}
