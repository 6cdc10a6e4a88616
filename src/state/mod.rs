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
mod health;
mod incidents;
mod jobs;
mod ledger;
mod liveness;
mod messages;
mod migrate;
mod occurrences;
mod queue;
mod repair;
mod rows;
mod runs;
mod slots;
mod sqlite;
mod sweep;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
pub use health::Health;
pub use incidents::{Facts, FactsAsk, Judged};
pub use messages::Waiting;
pub use sweep::{FileSize, SweepRule, SweptRows};

use crate::model::cost::{Account, CostLine, CostsAsk, JobCost};
use crate::model::incident::{Incident, Message};
use crate::model::ledger::{Lease, Loaded, PullRecord, Snapshot, UnitRecord};
use crate::model::name::TableName;
use crate::model::notify::Flood;
use crate::model::run::{RunFilter, RunRecord, TaskLog, Trigger};
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

    /// Refuses a state folder that could not be made, or written to; nothing is changed.
    ///
    /// # Errors
    /// What is in the way.
    pub fn usable(dir: &Path) -> Result<()> {
        sqlite::usable(dir)
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

    /// Whether a process, this one or another, still walks a run.
    pub fn lives(&self, run: &str) -> bool {
        self.store.liveness.lives(run)
    }

    /// The last runs, of one pipeline or of all, newest first.
    pub async fn runs(&self, pipeline: Option<&str>, limit: u32) -> Result<Vec<RunRecord>> {
        runs::list(&self.store, pipeline, limit).await
    }

    /// The runs that a filter lets through, newest first.
    pub async fn runs_where(&self, filter: &RunFilter) -> Result<Vec<RunRecord>> {
        runs::list_where(&self.store, filter).await
    }

    /// Whether the store can be written now: nothing in it is changed.
    ///
    /// # Errors
    /// A file that is locked or cannot be written, a disk that is full.
    pub async fn check_writable(&self) -> Result<()> {
        self.store.check_writable().await
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

    /// Looks at the state file in `dir` as it lies there, without changing anything; none where there is none.
    ///
    /// # Errors
    /// Why it cannot be read at all, in SQLite's words.
    pub async fn examine(dir: &Path, now: Instant) -> std::result::Result<Option<Health>, String> {
        health::examine(dir, now).await
    }

    /// Removes history that is no longer wanted, a little at a time, or only counts it.
    pub async fn sweep(&self, rule: SweepRule, dry_run: bool) -> Result<SweptRows> {
        sweep::sweep(&self.store, rule, dry_run).await
    }

    /// Gives unused room back to the file system; `whole` rewrites a file of an older haul, which cannot do that piece by piece.
    pub async fn vacuum(&self, whole: bool) -> Result<()> {
        sweep::vacuum(&self.store, whole).await
    }

    /// How large the file is.
    pub async fn file_size(&self) -> Result<FileSize> {
        sweep::file_size(&self.store).await
    }

    /// Keeps a word under its name.
    pub async fn mark(&self, name: &str, value: &str, now: Instant) -> Result<()> {
        let marks = vec![(name.to_owned(), value.to_owned())];
        incidents::judge(&self.store, &FactsAsk::default(), now, |_| Ok(Judged { marks, ..Judged::default() })).await?;
        Ok(())
    }

    /// Compares what is wrong with what is known to be wrong: `judge` says what follows from the facts, which are read and
    /// written in one transaction. Returns how many messages wait that did not before.
    pub async fn judge(
        &self,
        ask: &FactsAsk,
        now: Instant,
        judge: impl FnOnce(Facts) -> Result<Judged>,
    ) -> Result<usize> {
        incidents::judge(&self.store, ask, now, judge).await
    }

    /// The incidents that are open, the oldest first.
    pub async fn open_incidents(&self) -> Result<Vec<Incident>> {
        incidents::open_now(&self.store).await
    }

    /// The last incidents, newest first: all, or those that are open; only those that were seen before one, where it is named.
    pub async fn incidents(&self, open: bool, before: Option<i64>, limit: u32) -> Result<Vec<Incident>> {
        incidents::last(&self.store, open, before, limit).await
    }

    /// Words that were kept under their names.
    pub async fn marks(&self) -> Result<std::collections::BTreeMap<String, String>> {
        incidents::marks(&self.store, self.store.readers()).await
    }

    /// Keeps why a pipeline could not begin; its next run forgets it.
    pub async fn note_obstacle(&self, pipeline: &str, reason: &str, now: Instant) -> Result<()> {
        incidents::note_obstacle(&self.store, pipeline, reason, now).await
    }

    /// Keeps why jobs failed that came to no run, since an instant, as [`State::note_obstacle`] does.
    pub async fn note_vain_jobs(&self, since: Instant) -> Result<()> {
        incidents::note_vain_jobs(&self.store, since).await
    }

    /// The runs that ended at or after an instant, in the order in which they ended.
    pub async fn runs_ended(&self, since: Instant) -> Result<Vec<RunRecord>> {
        incidents::runs_ended(&self.store, since).await
    }

    /// Takes all that waits for a channel, if any of it is due and the channel was not told too much lately; nobody else gets
    /// it until `until`.
    pub async fn take_messages(
        &self,
        channel: &str,
        limit: Flood,
        now: Instant,
        until: Instant,
    ) -> Result<Vec<Message>> {
        messages::take(&self.store, channel, limit, now, until).await
    }

    /// Writes down that a channel has taken messages as one, and that somebody knows of these incidents.
    pub async fn messages_sent(&self, ids: &[i64], incidents: &[String], now: Instant) -> Result<()> {
        messages::sent(&self.store, ids, incidents, now).await
    }

    /// Lets messages that their channel did not take wait for another time.
    pub async fn messages_refused(&self, ids: &[i64], fault: &str, again: Instant) -> Result<()> {
        messages::refused(&self.store, ids, fault, again).await
    }

    /// The channels that have messages waiting.
    pub async fn waiting_messages(&self) -> Result<Vec<Waiting>> {
        messages::waiting(&self.store).await
    }

    /// Closes the file, once nothing uses it any more.
    pub async fn close(&self) {
        self.store.close().await;
    }
}
