//! The state store: runs with their events, the ledger of units and pulls, the counters of leases, and the queue.
//!
//! The store is a mirror, not the truth: what is loaded stands in the warehouse's own `_haul_loads`, and
//! [`State::repair`] brings the ledger in line with it. What only the store knows is the history of pulls and runs.
//! A task has no stored status; its events are stored, and [`crate::model::run::fold`] tells how it stands.
//!
//! One SQLite file in WAL mode: one connection writes, a few read beside it. A write is over when the operating system has it,
//! so that it survives the process; a loss of power may take the last ones, and repair finds what was loaded.
//! Whatever is stored was redacted by the caller. This room renders nothing and decides nothing.

mod backfills;
mod bookmarks;
mod claim;
mod costs;
mod jobs;
mod ledger;
mod liveness;
mod occurrences;
mod queue;
mod repair;
mod rows;
mod runs;
mod slots;
mod sqlite;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::model::cost::{Account, CostLine, CostsAsk, JobCost};
use crate::model::ledger::{Lease, Loaded, PullRecord, Snapshot, UnitRecord};
use crate::model::name::TableName;
use crate::model::run::{RunRecord, TaskLog, Trigger};
use crate::time::{Instant, UnitKey};

/// How long a write waits for another process that is writing.
const PATIENCE: Duration = Duration::from_secs(10);

/// The state store of a project; a cheap clone.
#[derive(Clone)]
pub struct State {
    store: Arc<sqlite::Store>,
}

impl State {
    /// Opens `state.db` in `dir`; makes both where they are missing, and brings an older file up to date.
    ///
    /// # Errors
    /// A file that a newer haul wrote, that is no database, or that cannot be opened.
    pub async fn open(dir: &Path) -> Result<Self> {
        Self::open_with_patience(dir, PATIENCE).await
    }

    async fn open_with_patience(dir: &Path, patience: Duration) -> Result<Self> {
        Ok(Self { store: Arc::new(sqlite::Store::open(dir, patience).await?) })
    }

    /// Begins a run and gives it its name; it counts as under way until it is finished or this process ends.
    pub async fn begin_run(
        &self,
        pipeline: &str,
        logical_date: &str,
        trigger: Trigger,
        now: Instant,
    ) -> Result<RunRecord> {
        runs::begin(&self.store, pipeline, logical_date, trigger, now).await
    }

    /// Adds events of a run, all or none of them.
    pub async fn append(&self, run: &str, logs: &[TaskLog]) -> Result<()> {
        runs::append(&self.store, run, logs).await
    }

    /// Writes how a run ended.
    pub async fn finish_run(&self, run: &RunRecord) -> Result<()> {
        runs::finish(&self.store, run).await
    }

    /// Ends the pipeline's runs whose process died: they become cancelled, with the counts that their events tell.
    ///
    /// Returns their names. A run of a living process is left alone.
    pub async fn close_dead_runs(&self, pipeline: &str, now: Instant) -> Result<Vec<String>> {
        runs::close_dead(&self.store, pipeline, now).await
    }

    /// The last runs, of one pipeline or of all, newest first.
    pub async fn runs(&self, pipeline: Option<&str>, limit: u32) -> Result<Vec<RunRecord>> {
        runs::list(&self.store, pipeline, limit).await
    }

    /// A run with its events in their order.
    pub async fn run(&self, id: &str) -> Result<Option<(RunRecord, Vec<TaskLog>)>> {
        runs::one(&self.store, id).await
    }

    /// The ledger of these tables at this moment.
    pub async fn snapshot(&self, tables: &[TableName]) -> Result<Snapshot> {
        Ok(Snapshot::new(ledger::units(&self.store, tables).await?))
    }

    /// The ledger of the last units of these tables, so many of each, and of all units that are not simply loaded.
    pub async fn recent(&self, tables: &[TableName], last: u32) -> Result<Snapshot> {
        Ok(Snapshot::new(ledger::recent(&self.store, tables, last).await?))
    }

    /// The units of these tables that are not simply loaded: held, late, failed, missing, or lacking something.
    pub async fn odd(&self, tables: &[TableName]) -> Result<Snapshot> {
        Ok(Snapshot::new(ledger::odd(&self.store, tables).await?))
    }

    /// The tables that the ledger knows, in the order of their names.
    pub async fn tables(&self) -> Result<Vec<TableName>> {
        ledger::tables(&self.store).await
    }

    /// Claims units of a table for writing, all or none of them, in the order given.
    ///
    /// Each claim raises the unit's generation, so that whoever claimed it before can no longer commit. The pull's
    /// number is the one after the last recorded pull: the same again where an earlier claim came to no record.
    pub async fn lease(&self, table: &TableName, units: &[UnitKey], owner: &str, now: Instant) -> Result<Vec<Lease>> {
        ledger::lease(&self.store, table, units, owner, now).await
    }

    /// Records pulls, and how their units stand now, all or none of them; the same again changes nothing.
    ///
    /// A unit of which a later pull is recorded already is left as it is.
    pub async fn record(&self, pulls: &[PullRecord], units: &[UnitRecord]) -> Result<()> {
        ledger::record(&self.store, pulls, units).await
    }

    /// The pulls of a table, or of one unit of it, in the order of units and pulls.
    pub async fn pulls(&self, table: &TableName, unit: Option<&UnitKey>) -> Result<Vec<PullRecord>> {
        ledger::pulls(&self.store, table, unit).await
    }

    /// Where the source of a table wants to go on with a stream, as JSON.
    pub async fn bookmark(&self, table: &TableName, stream: &str) -> Result<Option<String>> {
        bookmarks::read(&self.store, table, stream).await
    }

    /// Keeps where the source of a table wants to go on with a stream.
    pub async fn keep_bookmark(&self, table: &TableName, stream: &str, json: &str, now: Instant) -> Result<()> {
        bookmarks::keep(&self.store, table, stream, json, now).await
    }

    /// Writes down what a job was billed for; the same job again is the same bill.
    pub async fn bill(&self, account: &Account, cost: &JobCost) -> Result<()> {
        costs::bill(&self.store, account, cost).await
    }

    /// Writes down that units were not read or computed again, with what that was billed for the last time.
    pub async fn spare(&self, account: &Account, reason: &str) -> Result<()> {
        costs::spare(&self.store, account, reason).await
    }

    /// What was billed and what was saved, in the order of the lines' names.
    pub async fn costs(&self, ask: &CostsAsk) -> Result<Vec<CostLine>> {
        costs::lines(&self.store, ask).await
    }

    /// What one run was billed for, and what it saved.
    pub async fn costs_of_run(&self, run: &str) -> Result<CostLine> {
        costs::of_run(&self.store, run).await
    }

    /// Brings the ledger of these tables in line with what their warehouse has; the warehouse is right.
    ///
    /// Returns one sentence for each kind of thing that was mended in a table; none when all was in order.
    pub async fn repair(
        &self,
        tables: &[TableName],
        loads: &[(TableName, UnitKey, Loaded)],
        now: Instant,
    ) -> Result<Vec<String>> {
        repair::repair(&self.store, tables, loads, now).await
    }

    /// Closes the file, once nothing uses it any more.
    pub async fn close(&self) {
        self.store.close().await;
    }
}
