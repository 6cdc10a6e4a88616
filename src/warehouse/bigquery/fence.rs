//! Two processes never commit one unit from two pulls: the commits of a table stand in one row, each under its number.
//!
//! The n-th commit of a table is a job whose name says table and n. BigQuery takes each name once, so that of all who want to
//! be the n-th only one is; the others see it end, and look again at what `_haul_loads` says. No commit begins before the one
//! in front of it has ended, and each asserts in its own transaction that no newer lease has written. A worker that comes back
//! after its lease has ended finds its number taken, or its assertion fails.
//!
//! The names also tell when `_haul_loads` was made: a dataset that was dropped and made anew begins at one.

use xxhash_rust::xxh3::xxh3_128;

use super::arrive::Arrival;
use super::commit::{Task, load_values, rows_of};
use super::judge::{keys_of, newest_of};
use super::layout::every_row;
use super::loads::{COLUMNS, Known};
use crate::bigquery::{JobRequest, Refused, Work};
use crate::error::{Error, Kind, Result};
use crate::model::pipeline::Write;
use crate::model::schema::{Reconciled, SchemaChange};
use crate::warehouse::dialect::BIGQUERY;
use crate::warehouse::verdict::{self, LastLoad};
use crate::warehouse::{CommitOutcome, Committed, UnitCommit};

/// The label that tells whose commit a job is.
pub(super) const COMMIT: &str = "haul_commit";

/// What the assertion says when it fails.
const STALE: &str = "haul: a newer lease has written";

/// A commit that others get in the way of is tried so often.
const MOST_CONFLICTS: u32 = 8;

impl Task<'_> {
    /// What this commit is, and no other: units, leases and content.
    pub(super) fn identity(&self, written: &[&UnitCommit], committed: &Committed) -> String {
        let mut text = format!("{}\0{}\0", self.target, self.commit.run);
        for unit in written {
            let own = committed.units.iter().find(|one| one.key == unit.key);
            let print = own.map(|own| own.fingerprint).unwrap_or_default();
            text.push_str(&format!("{}\0{}\0{}\0{print}\0", unit.key, unit.generation, unit.pull));
        }
        format!("{:032x}", xxh3_128(text.as_bytes()))
    }

    /// What the names of jobs begin with that stand in one row.
    pub(super) fn row_of_jobs(&self, what: &str) -> String {
        format!("{:032x}", xxh3_128(format!("{}\0{}\0{what}", self.target, self.made).as_bytes()))
    }

    /// Puts what has arrived into the table, in one transaction, which may `forget` the commits up to a number.
    pub(super) async fn transact(
        &self,
        arrival: &Arrival,
        known: &Known,
        written: &[&UnitCommit],
        reconciled: &Reconciled,
        forget: Option<u64>,
        committed: &mut Committed,
    ) -> Result<()> {
        let identity = self.identity(written, committed);
        let (client, failed) = (&self.session.client, |refused| self.session.failed("committing", refused));
        let turn = self.session.turn(&self.commit.table).await;
        let mut newest = turn.lock().await;
        let mut number = (*newest).max(known.newest) + 1;
        let (row, mut conflicts) = (self.row_of_jobs("commits"), 0);
        loop {
            let id = format!("haul_commit_{row}_{number}");
            let mut labels = self.labels.clone();
            labels.insert(COMMIT.to_owned(), identity.clone());
            self.commit.permit.holds().await?;
            let sql = self.script(arrival, written, reconciled, forget, committed, (number, &id));
            let job = JobRequest { id, labels, work: Work::Statement { sql, max_bytes: None } };
            let state = client.settled(&job, &self.caller).await.map_err(failed)?;
            *newest = number;
            let own = state.labels.get(COMMIT).is_some_and(|label| *label == identity);
            match (own, state.well()) {
                (true, Ok(_)) => return Ok(()),
                (true, Err(refused)) => {
                    conflicts += 1;
                    if !passes(&refused) || conflicts >= MOST_CONFLICTS {
                        return Err(self.told(refused));
                    }
                }
                (false, Err(_)) => {}
                (false, Ok(_)) => {
                    if self.is_there(written, committed).await? {
                        return Ok(());
                    }
                }
            }
            number += 1;
        }
    }

    /// After somebody else's commit: whether it was this one, whose process died before it could say so.
    pub(super) async fn is_there(&self, written: &[&UnitCommit], committed: &mut Committed) -> Result<bool> {
        let known = self.session.known(self.commit, &self.labels, &self.caller).await?;
        let exists = self.session.found(&self.target, &self.caller).await?.is_some();
        let mut already = 0;
        for unit in written {
            let last = known.of(unit);
            match verdict::standing(&self.commit.table, unit, last.as_ref(), exists)? {
                verdict::Standing::Already { .. } => already += 1,
                verdict::Standing::Pending => self.assert_expected(unit, last.as_ref())?,
            }
        }
        if already == 0 {
            return Ok(false);
        }
        if already < written.len() {
            return Err(Error::new(Kind::Stale, "some of these units were committed meanwhile").hint("run again"));
        }
        for one in committed.units.iter_mut().filter(|one| written.iter().any(|unit| unit.key == one.key)) {
            one.outcome = CommitOutcome::Already;
        }
        Ok(true)
    }

    /// Rows that are appended come on top of what is there: of that the ledger has to know.
    fn assert_expected(&self, unit: &UnitCommit, last: Option<&LastLoad>) -> Result<()> {
        let expected = unit.previous.as_ref().map(|load| load.generation);
        if self.commit.write != Write::Append || last.map(|last| last.generation) == expected {
            return Ok(());
        }
        Err(Error::new(Kind::Stale, format!("{} of {} was appended to meanwhile", unit.key, self.commit.table))
            .hint("run again: what is there is looked at first"))
    }

    /// What a script that failed came to.
    fn told(&self, refused: Refused) -> Error {
        if refused.error.chain().contains(STALE) {
            return Error::new(Kind::Stale, format!("the lease on units of {}", self.commit.table))
                .because("a newer lease has written");
        }
        self.session.failed("committing", refused)
    }

    /// The one statement that changes rows.
    fn script(
        &self,
        arrival: &Arrival,
        written: &[&UnitCommit],
        reconciled: &Reconciled,
        forget: Option<u64>,
        committed: &Committed,
        (number, job): (u64, &str),
    ) -> String {
        let commit = self.commit;
        let (relation, loads) = (BIGQUERY.relation(&commit.table), BIGQUERY.loads_of(&commit.table));
        let table = BIGQUERY.literal(&commit.table.to_string());
        let made = reconciled.changes.contains(&SchemaChange::Create);
        // The same lease may have written to a table of this name that is gone.
        let newer = if made { ">" } else { ">=" };
        let leases: Vec<String> = written
            .iter()
            .map(|unit| {
                format!("(unit = {} AND generation {newer} {})", BIGQUERY.literal(unit.key.as_str()), unit.generation)
            })
            .collect();
        let mut steps = vec![format!(
            "ASSERT NOT EXISTS (SELECT 1 FROM {loads} WHERE table_name = {table} AND ({})) AS '{STALE}'",
            leases.join(" OR ")
        )];
        let mut source = self.select(arrival, &self.outputs(arrival, reconciled), written);
        match &commit.write {
            Write::Replace => steps.push(format!("DELETE FROM {relation} WHERE {}", self.condition(written))),
            Write::Full => steps.push(format!("DELETE FROM {relation} WHERE {}", every_row(self.table.as_ref()))),
            Write::Append => {}
            Write::Merge { keys, newest_by } => {
                let rows: u64 = written.iter().map(|unit| rows_of(committed, unit)).sum();
                if rows > 0 {
                    let key = keys_of(keys);
                    steps.push(format!(
                        "DELETE FROM {relation} WHERE {} AND {key} IN (SELECT {key} FROM ({source}))",
                        every_row(self.table.as_ref())
                    ));
                    source = newest_of(keys, newest_by.as_deref(), &source);
                }
            }
        }
        if let Some(newest) = forget {
            steps.push(format!("DELETE FROM {loads} WHERE table_name = {table} AND number <= {newest}"));
        }
        if commit.write == Write::Full {
            let units: Vec<String> = commit.units.iter().map(|unit| BIGQUERY.literal(unit.key.as_str())).collect();
            steps
                .push(format!("DELETE FROM {loads} WHERE table_name = {table} AND unit NOT IN ({})", units.join(", ")));
        }
        let mut columns: Vec<String> =
            reconciled.kept.iter().map(|staged| BIGQUERY.ident(&staged.column.name)).collect();
        columns.extend(commit.grain.map(|_| "_haul_unit".to_owned()));
        columns.push("_haul_pull".to_owned());
        steps.push(format!("INSERT INTO {relation} ({}) {source}", columns.join(", ")));
        let values: Vec<String> =
            written.iter().map(|unit| load_values(commit, unit, committed, number, job)).collect();
        steps.push(format!("INSERT INTO {loads} ({COLUMNS}) VALUES {}", values.join(", ")));
        format!(
            "BEGIN\n  BEGIN TRANSACTION;\n  {};\n  COMMIT TRANSACTION;\nEXCEPTION WHEN ERROR THEN\n  \
             ROLLBACK TRANSACTION;\n  RAISE USING MESSAGE = @@error.message;\nEND;",
            steps.join(";\n  ")
        )
    }
}

/// Whether a transaction failed because others wrote at the same time, or for a reason that passes.
pub(super) fn passes(refused: &Refused) -> bool {
    let told = refused.error.chain();
    refused.error.kind().disposition() == crate::error::Disposition::Retry
        || told.contains("aborted due to concurrent update")
        || told.contains("Could not serialize access")
}
