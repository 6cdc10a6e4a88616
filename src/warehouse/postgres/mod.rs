//! PostgreSQL as a warehouse: rows by binary COPY, units replaced in one transaction, partitions where they are wanted.

mod commit;
mod computed;
mod copy;
mod digits;
mod encode;
mod fault;
mod fresh;
mod loads;
pub(super) mod members;
pub(super) mod nested;
mod partition;
mod query;
mod session;
mod table;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::dialect::POSTGRES;
use super::{Commit, Committed, Dialect, Driver, Rows};
use crate::error::Result;
use crate::model::connection::ServerConnection;
use crate::model::ledger::Loaded;
use crate::model::name::TableName;
use crate::model::schema::TableSchema;
use crate::time::UnitKey;
use session::{ANSWER_WITHIN, Server, Session};

/// A PostgreSQL database.
pub(super) struct Postgres {
    server: Server,
}

impl Postgres {
    /// Opens the database: a first session shows that it is there and lets us in.
    pub async fn open(settings: ServerConnection) -> Result<Self> {
        let server = Server::new(settings);
        let first = server.session().await?;
        server.keep(first);
        Ok(Self { server })
    }

    /// A session in a transaction that only reads.
    async fn reading(&self) -> Result<Session> {
        let mut session = self.server.session().await?;
        session.begin("beginning a query", "BEGIN READ ONLY").await?;
        Ok(session)
    }

    /// Ends a transaction that only reads; whatever its statement was, nothing of it stays.
    async fn end<T>(&self, mut session: Session, result: Result<T>) -> Result<T> {
        // One that does not answer is closed, and so is its transaction.
        let ended = tokio::time::timeout(ANSWER_WITHIN, session.roll_back()).await;
        if matches!(ended, Ok(Ok(()))) {
            self.server.keep(session);
        }
        result
    }
}

#[async_trait]
impl Driver for Postgres {
    fn dialect(&self) -> &Dialect {
        &POSTGRES
    }

    async fn describe(&self, table: TableName) -> Result<Option<TableSchema>> {
        let mut session = self.reading().await?;
        let pid = Arc::clone(&session.pid);
        let found = self.server.watched(&pid, table::read(&mut session, &table)).await;
        self.end(session, found.map(|found| found.map(|table| table.schema))).await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed> {
        let mut session = self.server.session().await?;
        let pid = Arc::clone(&session.pid);
        let work = Box::pin(commit::run(&mut session, &commit));
        let committed = Box::pin(self.server.guarded(&pid, &commit.cancel, work)).await;
        // A session of which it is not known how its work ended is closed, and with it the work.
        if committed.is_ok() {
            self.server.keep(session);
        }
        committed
    }

    async fn query(&self, sql: String, max_rows: usize) -> Result<Rows> {
        let mut session = self.reading().await?;
        let pid = Arc::clone(&session.pid);
        let rows = self.server.watched(&pid, query::run(&mut session, &sql, max_rows)).await;
        self.end(session, rows).await
    }

    async fn export(&self, sql: String, path: PathBuf) -> Result<()> {
        let mut session = self.reading().await?;
        let pid = Arc::clone(&session.pid);
        let written = self.server.watched(&pid, query::export(&mut session, &sql, &path)).await;
        self.end(session, written).await
    }

    async fn loads(&self, tables: Vec<TableName>) -> Result<Vec<(TableName, UnitKey, Loaded)>> {
        let mut session = self.reading().await?;
        let pid = Arc::clone(&session.pid);
        let loads = self.server.watched(&pid, loads::loads(&mut session, &tables)).await;
        self.end(session, loads).await
    }

    async fn stocked(&self, table: TableName) -> Result<Option<HashSet<UnitKey>>> {
        let mut session = self.reading().await?;
        let pid = Arc::clone(&session.pid);
        let stocked = self.server.watched(&pid, loads::stocked(&mut session, &table)).await;
        self.end(session, stocked).await
    }

    async fn stream(&self, sql: String, rows: mpsc::Sender<Vec<String>>) -> Result<()> {
        let mut session = self.reading().await?;
        let pid = Arc::clone(&session.pid);
        let streamed = self.server.watched(&pid, query::stream(&mut session, &sql, rows)).await;
        self.end(session, streamed).await
    }

    async fn close(&self) -> Result<()> {
        self.server.close().await;
        Ok(())
    }
}
