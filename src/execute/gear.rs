//! The gear of a process: everything that a run needs, opened once and shared by all its tasks.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::connections::Connections;
use crate::error::{Error, Result};
use crate::extract::{HttpClient, TokenKeeper};
use crate::model::connection::ConnectionKind;
use crate::model::pipeline::Project;
use crate::mongo::Mongo;
use crate::secret::{Redactor, SecretString};
use crate::state::State;
use crate::template::Templates;
use crate::time::Clock;
use crate::warehouse::Warehouse;

/// Everything that a run needs, opened once for the process.
///
/// Warehouses and HTTP clients are opened when first asked for, and once: a rate limit holds over all pipelines, and a
/// DuckDB file must never be opened twice.
pub struct Gear {
    /// The project.
    pub project: Arc<Project>,
    /// The connection store.
    pub connections: Connections,
    /// The one template environment.
    pub templates: Arc<Templates>,
    /// The state store.
    pub state: State,
    /// The clock.
    pub clock: Clock,
    /// Takes secrets out of all that is kept or told.
    pub redactor: Redactor,
    warehouses: Mutex<HashMap<String, Warehouse>>,
    clients: Mutex<HashMap<String, HttpClient>>,
    mongos: Mutex<HashMap<String, Mongo>>,
}

impl Gear {
    /// Opens the state store and compiles the templates; warehouses and clients come later, as they are needed.
    pub async fn open(
        project: Arc<Project>,
        connections: Connections,
        clock: Clock,
        redactor: Redactor,
    ) -> Result<Self> {
        let state = State::open(&project.state_dir).await?;
        let templates = Arc::new(Templates::new(&project.sql)?);
        Ok(Self {
            project,
            connections,
            templates,
            state,
            clock,
            redactor,
            warehouses: Mutex::default(),
            clients: Mutex::default(),
            mongos: Mutex::default(),
        })
    }

    /// The warehouse behind a connection.
    pub async fn warehouse(&self, connection: &str) -> Result<Warehouse> {
        let mut warehouses = self.warehouses.lock().await;
        if let Some(warehouse) = warehouses.get(connection) {
            return Ok(warehouse.clone());
        }
        let warehouse = Warehouse::open(&self.connections.get(connection)?).await?;
        warehouses.insert(connection.to_owned(), warehouse.clone());
        Ok(warehouse)
    }

    /// The HTTP client of a connection, with its limits and its token.
    pub(super) async fn client(&self, connection: &str) -> Result<HttpClient> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(connection) {
            return Ok(client.clone());
        }
        let resolved = self.connections.get(connection)?;
        let ConnectionKind::Http(http) = &resolved.kind else {
            return Err(Error::config(format!(
                "the connection `{connection}` has type {}, an extract over HTTP needs one of type http",
                resolved.kind
            )));
        };
        let tokens = Arc::new(Keeper::new(self.connections.clone()));
        let client = HttpClient::open(connection, http, tokens, self.redactor.clone(), self.clock)?;
        clients.insert(connection.to_owned(), client.clone());
        Ok(client)
    }

    /// The MongoDB database of a connection.
    pub(super) async fn mongo(&self, connection: &str) -> Result<Mongo> {
        let mut mongos = self.mongos.lock().await;
        if let Some(mongo) = mongos.get(connection) {
            return Ok(mongo.clone());
        }
        let resolved = self.connections.get(connection)?;
        let ConnectionKind::MongoDb(settings) = &resolved.kind else {
            return Err(Error::config(format!(
                "the connection `{connection}` has type {}, a collection needs one of type mongodb",
                resolved.kind
            )));
        };
        let mongo = Mongo::open(connection, settings, self.redactor.clone()).await?;
        mongos.insert(connection.to_owned(), mongo.clone());
        Ok(mongo)
    }

    /// Closes the warehouses, so that another process may open them.
    pub async fn close(self) -> Result<()> {
        for (_, warehouse) in self.warehouses.into_inner() {
            warehouse.close().await?;
        }
        Ok(())
    }
}

/// Puts rotated refresh tokens back into the connection store.
pub(super) struct Keeper(Connections);

impl Keeper {
    pub(super) fn new(connections: Connections) -> Self {
        Self(connections)
    }
}

impl TokenKeeper for Keeper {
    fn keep(&self, connection: &str, refresh_token: &SecretString) -> Result<()> {
        self.0.keep_refresh_token(connection, refresh_token)
    }
}
