//! BigQuery as a warehouse: rows arrive by load jobs, which are free, and take the place of old ones in one transaction.
//!
//! Every job has a name that follows from what it does: one that is sent a second time is the first one again, whoever sends
//! it. `fence.rs` tells how that also keeps two processes from committing one unit from two pulls.

mod arrive;
mod ask;
mod columns;
mod commit;
mod encode;
mod fence;
mod judge;
mod layout;
mod loads;
mod partition;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::dialect::BIGQUERY;
use super::{Commit, Committed, Dialect, Driver, Rows};
use crate::bigquery::{BigQuery, Caller, TableId};
use crate::error::Result;
use crate::model::connection::BigQueryConnection;
use crate::model::cost::{Quote, Receipts};
use crate::model::hook::RetryPolicy;
use crate::model::ledger::Loaded;
use crate::model::name::TableName;
use crate::model::schema::TableSchema;
use crate::secret::Redactor;
use crate::time::UnitKey;

/// A project at BigQuery, as a warehouse.
pub(super) struct BigQueryWarehouse {
    session: Session,
}

/// What all that is done there shares.
struct Session {
    client: BigQuery,
    compress: bool,
    retry: RetryPolicy,
    /// Ends what no run can cancel, when the warehouse is closed.
    cancel: CancellationToken,
    sent: AtomicU64,
    /// Of what no run has asked for.
    receipts: Receipts,
    /// The datasets whose `_haul_loads` is known to be there, and when each was made.
    loads: Mutex<HashMap<String, u64>>,
    /// The number of the newest commit of each table that this process has seen, and whose turn it is.
    turns: Mutex<HashMap<TableName, Arc<Mutex<u64>>>>,
}

impl BigQueryWarehouse {
    pub async fn open(name: &str, settings: &BigQueryConnection, redactor: Redactor) -> Result<Self> {
        let client = BigQuery::open(name, settings, redactor).await?;
        Ok(Self {
            session: Session {
                client,
                compress: settings.compress,
                retry: RetryPolicy::default(),
                cancel: CancellationToken::new(),
                sent: AtomicU64::new(0),
                receipts: Receipts::default(),
                loads: Mutex::default(),
                turns: Mutex::default(),
            },
        })
    }
}

impl Session {
    /// A caller whom only the end of the warehouse cancels.
    fn caller(&self) -> Caller<'_> {
        self.caller_of(&self.cancel, &self.receipts)
    }

    fn caller_of<'a>(&'a self, cancel: &'a CancellationToken, receipts: &'a Receipts) -> Caller<'a> {
        Caller { retry: &self.retry, cancel, retrying: &|_, _| {}, sent: &self.sent, receipts }
    }

    fn table_id(&self, table: &TableName) -> TableId {
        TableId { project: self.client.project().to_owned(), dataset: table.schema.clone(), table: table.name.clone() }
    }

    /// Whose turn it is to commit to a table.
    async fn turn(&self, table: &TableName) -> Arc<Mutex<u64>> {
        Arc::clone(self.turns.lock().await.entry(table.clone()).or_default())
    }
}

#[async_trait]
impl Driver for BigQueryWarehouse {
    fn dialect(&self) -> &Dialect {
        &BIGQUERY
    }

    async fn describe(&self, table: TableName) -> Result<Option<TableSchema>> {
        let session = &self.session;
        let found = session.found(&session.table_id(&table), &session.caller()).await?;
        Ok(found.map(|found| columns::described(&found.schema)))
    }

    async fn commit(&self, commit: Commit) -> Result<Committed> {
        // What a commit holds is too much for the stack of whoever waits for it.
        Box::pin(commit::run(&self.session, &commit)).await
    }

    async fn price(&self, sql: String) -> Result<Option<Quote>> {
        let (session, client) = (&self.session, &self.session.client);
        let price = client.price(&sql, &session.caller()).await;
        let price = price.map_err(|refused| session.failed_in("pricing a statement", &sql, 0, refused))?;
        Ok(Some(Quote::of(&[price], client.tariff().clone(), None)))
    }

    async fn query(&self, sql: String, max_rows: usize) -> Result<Rows> {
        Box::pin(self.session.query(&sql, max_rows)).await
    }

    async fn export(&self, sql: String, path: PathBuf) -> Result<()> {
        Box::pin(self.session.export(&sql, &path)).await
    }

    async fn loads(&self, tables: Vec<TableName>) -> Result<Vec<(TableName, UnitKey, Loaded)>> {
        Box::pin(self.session.loaded(&tables)).await
    }

    async fn stocked(&self, table: TableName) -> Result<Option<HashSet<UnitKey>>> {
        Box::pin(self.session.units(&table)).await
    }

    async fn stream(&self, sql: String, rows: mpsc::Sender<Vec<String>>) -> Result<()> {
        Box::pin(self.session.stream(&sql, &rows)).await
    }

    async fn close(&self) -> Result<()> {
        self.session.cancel.cancel();
        Ok(())
    }
}
