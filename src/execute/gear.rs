//! The gear of a process: everything that a run needs, opened once and shared by all its tasks.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::bigquery::BigQuery;
use crate::connections::Connections;
use crate::error::{Error, Result};
use crate::extract::{HttpClient, TokenKeeper};
use crate::model::connection::{BigQueryConnection, Connection, ConnectionKind, DuckDbConnection};
use crate::model::pipeline::Project;
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
    warehouses: Mutex<HashMap<PathBuf, Warehouse>>,
    clients: Mutex<HashMap<String, HttpClient>>,
    bigqueries: Mutex<HashMap<String, BigQuery>>,
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
            bigqueries: Mutex::default(),
        })
    }

    /// The warehouse behind a connection.
    pub async fn warehouse(&self, connection: &str) -> Result<Warehouse> {
        let resolved = self.connections.get(connection)?;
        let place = place(&resolved);
        let mut warehouses = self.warehouses.lock().await;
        if let Some(warehouse) = warehouses.get(&place) {
            return Ok(warehouse.clone());
        }
        let warehouse = Warehouse::open(&resolved).await?;
        warehouses.insert(place, warehouse.clone());
        Ok(warehouse)
    }

    /// A DuckDB file as a source: the warehouse itself, where it is the warehouse's file, else opened to be read.
    pub(super) async fn duckdb(&self, connection: &Connection, settings: &DuckDbConnection) -> Result<Warehouse> {
        let wanted = place(connection);
        for pipeline in &self.project.pipelines {
            // A warehouse that cannot be resolved is told where it is used.
            if self.connections.get(&pipeline.warehouse).is_ok_and(|warehouse| place(&warehouse) == wanted) {
                return self.warehouse(&pipeline.warehouse).await;
            }
        }
        let mut warehouses = self.warehouses.lock().await;
        if let Some(source) = warehouses.get(&wanted) {
            return Ok(source.clone());
        }
        let source = Warehouse::open_to_read(settings).await?;
        warehouses.insert(wanted, source.clone());
        Ok(source)
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

    /// The BigQuery client of a connection, with its token.
    pub(super) async fn bigquery(&self, connection: &str, settings: &BigQueryConnection) -> Result<BigQuery> {
        let mut clients = self.bigqueries.lock().await;
        if let Some(client) = clients.get(connection) {
            return Ok(client.clone());
        }
        let client = BigQuery::open(connection, settings, self.redactor.clone()).await?;
        clients.insert(connection.to_owned(), client.clone());
        Ok(client)
    }

    /// Closes the warehouses, so that another process may open them.
    pub async fn close(self) -> Result<()> {
        for (_, warehouse) in self.warehouses.into_inner() {
            warehouse.close().await?;
        }
        Ok(())
    }
}

/// What tells whether two connections lead to the same warehouse: the file that is really there, or the name.
fn place(connection: &Connection) -> PathBuf {
    let ConnectionKind::DuckDb(settings) = &connection.kind else { return PathBuf::from(&connection.name) };
    let path = &settings.path;
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    // A file that is not there yet lies in a folder that may be.
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    folder.zip(path.file_name()).map_or_else(|| path.clone(), |(folder, name)| folder.join(name))
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
