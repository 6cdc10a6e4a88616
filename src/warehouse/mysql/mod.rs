//! MySQL and MariaDB as places that rows are loaded into: by statements of many rows, in one transaction a commit.
//!
//! Nothing is computed here: there is no pipeline whose warehouse this is.

mod commit;
mod encode;
mod rows;
mod session;
mod table;

use std::collections::HashSet;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::dialect::MYSQL;
use super::{Commit, Committed, Dialect, Driver, Rows};
use crate::error::{Error, Result};
use crate::model::connection::ServerConnection;
use crate::model::ledger::Loaded;
use crate::model::name::TableName;
use crate::model::schema::TableSchema;
use crate::time::UnitKey;
use session::{Session, guarded};

/// A MySQL or MariaDB database.
pub(super) struct MySql {
    server: ServerConnection,
}

impl MySql {
    /// The database; it is reached when it is first asked.
    pub fn new(server: ServerConnection) -> Self {
        Self { server }
    }
}

fn asks_nothing() -> Error {
    Error::config("a MySQL database is loaded into and read from by steps, and asked nothing else")
        .hint("its own client asks it: mysql, mariadb")
}

#[async_trait]
impl Driver for MySql {
    fn dialect(&self) -> &Dialect {
        &MYSQL
    }

    async fn describe(&self, table: TableName) -> Result<Option<TableSchema>> {
        let mut session = Session::open(&self.server).await?;
        let found = table::read(&mut session, &table).await;
        session.close().await;
        Ok(found?.map(|table| table.schema))
    }

    async fn commit(&self, commit: Commit) -> Result<Committed> {
        let session = Session::open(&self.server).await?;
        guarded(&self.server, session, &commit.cancel, async |session| commit::run(session, &commit).await).await
    }

    async fn query(&self, _: String, _: usize) -> Result<Rows> {
        Err(asks_nothing())
    }

    async fn loads(&self, tables: Vec<TableName>) -> Result<Vec<(TableName, UnitKey, Loaded)>> {
        let mut session = Session::open(&self.server).await?;
        let found = table::loads(&mut session, &tables).await;
        session.close().await;
        found
    }

    async fn stocked(&self, table: TableName) -> Result<Option<HashSet<UnitKey>>> {
        let mut session = Session::open(&self.server).await?;
        let found = table::stocked(&mut session, &table).await;
        session.close().await;
        found
    }

    async fn stream(&self, _: String, _: mpsc::Sender<Vec<String>>) -> Result<()> {
        Err(asks_nothing())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
