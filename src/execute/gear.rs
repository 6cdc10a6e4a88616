//! The gear of a process: everything that a run needs, opened once and shared by all its tasks.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::bigquery::BigQuery;
use crate::connections::Connections;
use crate::error::{Error, Result};
use crate::extract::cassette::Tape;
use crate::extract::{Catalogs, FileStore, HttpClient, Library, Limits, TokenKeeper, sweep_private_files};
use crate::model::connection::{BigQueryConnection, Connection, ConnectionKind, DuckDbConnection};
use crate::model::fanout::StepLimits;
use crate::model::pipeline::{Extract, Project};
use crate::model::source::Source;
use crate::mongo::Mongo;
use crate::secret::{Redactor, SecretString};
use crate::state::State;
use crate::template::Templates;
use crate::time::Clock;
use crate::warehouse::{Dialect, Warehouse};

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
    /// The catalogs of Singer taps that were discovered.
    pub(super) catalogs: Catalogs,
    pub(super) tape: Option<Tape>,
    /// The limits of steps, by the step's own place in memory: the project lives as long as this does.
    gates: std::sync::Mutex<HashMap<usize, Arc<Limits>>>,
    warehouses: Arc<Mutex<Warehouses>>,
    /// Which reading of the connections these are: what a name led to before may be another place now.
    edition: u64,
    doors: Arc<Doors>,
}

/// What was opened by the names of connections.
#[derive(Default)]
struct Doors {
    clients: Mutex<HashMap<String, HttpClient>>,
    mongos: Mutex<HashMap<String, Mongo>>,
    files: Mutex<HashMap<String, FileStore>>,
    bigqueries: Mutex<HashMap<String, BigQuery>>,
    libraries: Mutex<HashMap<String, Library>>,
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
        sweep_private_files(&project.state_dir)?;
        let templates = Arc::new(Templates::new(&project.sql)?);
        Ok(Self {
            project,
            connections,
            templates,
            state,
            clock,
            redactor,
            catalogs: Catalogs::default(),
            tape: None,
            gates: std::sync::Mutex::default(),
            warehouses: Arc::default(),
            edition: 0,
            doors: Arc::default(),
        })
    }

    /// The gear of another version of the same project, which works beside this one: with the same state store, limits and
    /// open warehouses. What is behind the names of connections is opened anew if they were read anew.
    pub fn successor(&self, project: Arc<Project>, connections: Option<Connections>) -> Result<Self> {
        let anew = connections.is_some();
        Ok(Self {
            templates: Arc::new(Templates::new(&project.sql)?),
            project,
            connections: connections.unwrap_or_else(|| self.connections.clone()),
            state: self.state.clone(),
            clock: self.clock,
            redactor: self.redactor.clone(),
            catalogs: Catalogs::default(),
            tape: self.tape.clone(),
            gates: std::sync::Mutex::default(),
            warehouses: Arc::clone(&self.warehouses),
            edition: self.edition + u64::from(anew),
            doors: if anew { Arc::default() } else { Arc::clone(&self.doors) },
        })
    }

    /// The same gear, of which every request to an API is recorded, or answered by what was.
    #[must_use]
    pub fn with_tape(self, tape: Tape) -> Self {
        Self { tape: Some(tape), ..self }
    }

    /// The warehouse behind a connection.
    pub async fn warehouse(&self, connection: &str) -> Result<Warehouse> {
        // One that is only loaded into is opened by others too, and none to compute in.
        Dialect::of(&self.connections.get(connection)?)?;
        self.target(connection).await
    }

    /// What rows are loaded into behind a connection: a warehouse, or a database that is none.
    pub(super) async fn target(&self, connection: &str) -> Result<Warehouse> {
        let mut warehouses = self.warehouses.lock().await;
        let name = (self.edition, connection.to_owned());
        let known = warehouses.named.get(&name).and_then(|place| warehouses.placed.get(place));
        if let Some(warehouse) = known {
            return Ok(warehouse.at());
        }
        let resolved = self.connections.get(connection)?;
        let place = self.place(&resolved);
        let warehouse = match warehouses.placed.get(&place) {
            Some(warehouse) => warehouse.at(),
            None => Warehouse::open_target(&resolved, self.redactor.clone()).await?,
        };
        warehouses.named.insert(name, place.clone());
        warehouses.placed.entry(place).or_insert_with(|| Opened::new(&warehouse));
        Ok(warehouse)
    }

    /// A DuckDB file as a source: the warehouse itself, where it is the warehouse's file, else opened to be read.
    pub(super) async fn duckdb(&self, connection: &Connection, settings: &DuckDbConnection) -> Result<Warehouse> {
        let wanted = self.place(connection);
        for pipeline in &self.project.pipelines {
            let targets = pipeline.steps.iter().filter_map(|step| step.target());
            let written = std::iter::once(&pipeline.warehouse).chain(targets.map(|target| &target.connection));
            for name in written {
                // One that cannot be resolved is told where it is used.
                if self.connections.get(name).is_ok_and(|warehouse| self.place(&warehouse) == wanted) {
                    return self.target(name).await;
                }
            }
        }
        let mut warehouses = self.warehouses.lock().await;
        if let Some(source) = warehouses.placed.get(&wanted) {
            return Ok(source.at());
        }
        let source = Warehouse::open_to_read(settings).await?;
        warehouses.placed.insert(wanted, Opened::new(&source));
        Ok(source)
    }

    /// The HTTP client of a connection, with its limits and its token.
    pub(super) async fn client(&self, connection: &str) -> Result<HttpClient> {
        let mut clients = self.doors.clients.lock().await;
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
        if let Some(tape) = &self.tape {
            client.tape(tape.clone());
        }
        clients.insert(connection.to_owned(), client.clone());
        Ok(client)
    }

    /// The limits of a step, which all its tasks share.
    pub(super) fn gate(&self, step: &Extract) -> Option<Arc<Limits>> {
        let Source::Http(http) = &step.source else { return None };
        let limits = *http.limits;
        if limits == StepLimits::default() {
            return None;
        }
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry(Arc::as_ptr(&http.limits) as usize).or_insert_with(|| {
            let interval = limits.max_dispatches_per_second.map(|rate| Duration::from_secs_f64(1.0 / rate));
            // Without a limit of its own the step has that of its connection.
            Arc::new(Limits::new(limits.max_concurrent_dispatches.unwrap_or(usize::MAX), interval))
        });
        Some(Arc::clone(gate))
    }

    /// The MongoDB database of a connection.
    pub(super) async fn mongo(&self, connection: &str) -> Result<Mongo> {
        let mut mongos = self.doors.mongos.lock().await;
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

    /// The place with files behind a connection; the project's own folder without one.
    pub(super) async fn files(&self, connection: &str) -> Result<FileStore> {
        let mut files = self.doors.files.lock().await;
        if let Some(store) = files.get(connection) {
            return Ok(store.clone());
        }
        let store = if connection.is_empty() {
            FileStore::folder(self.project.root.clone(), self.redactor.clone())
        } else {
            let resolved = self.connections.get(connection)?;
            let ConnectionKind::Files(place) = &resolved.kind else {
                return Err(Error::config(format!(
                    "the connection `{connection}` has type {}, files need one of type files",
                    resolved.kind
                )));
            };
            FileStore::open(connection, place, self.redactor.clone())?
        };
        files.insert(connection.to_owned(), store.clone());
        Ok(store)
    }

    /// The BigQuery client of a connection, with its token.
    pub(super) async fn bigquery(&self, connection: &str, settings: &BigQueryConnection) -> Result<BigQuery> {
        let mut clients = self.doors.bigqueries.lock().await;
        if let Some(client) = clients.get(connection) {
            return Ok(client.clone());
        }
        let client = BigQuery::open(connection, settings, self.redactor.clone()).await?;
        clients.insert(connection.to_owned(), client.clone());
        Ok(client)
    }

    /// The place of downloaded files: a connection of type `files`, else a folder below the project.
    pub(super) async fn library(&self, to: &str) -> Result<Library> {
        let mut libraries = self.doors.libraries.lock().await;
        if let Some(library) = libraries.get(to) {
            return Ok(library.clone());
        }
        let store = if self.tape.is_some() {
            // What is recorded or replayed leaves the places of the project alone.
            FileStore::folder(self.project.state_dir.join("library").join(to), self.redactor.clone())
        } else if self.connections.names()?.iter().any(|name| name == to) {
            self.files(to).await?
        } else {
            FileStore::folder(self.project.root.join(to), self.redactor.clone())
        };
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let name: String = to.chars().map(plain).collect();
        // The same place under another name, or another place under the same, has an index of its own.
        let place = xxhash_rust::xxh3::xxh3_64(store.address("").as_bytes());
        let index = self.project.state_dir.join("downloads").join(format!("{name}-{place:016x}.jsonl"));
        let library = Library::open(store, &index)?;
        libraries.insert(to.to_owned(), library.clone());
        Ok(library)
    }

    /// Closes the warehouses that nobody has used for so long, so that another process may open them; whoever wants one
    /// opens it again.
    ///
    /// Returns whether all are closed.
    pub async fn rest(&self, idle: Duration) -> Result<bool> {
        let mut warehouses = self.warehouses.lock().await;
        let resting = |opened: &Opened| opened.warehouse.is_alone() && opened.used().elapsed() >= idle;
        let places: Vec<Place> =
            warehouses.placed.iter().filter(|(_, opened)| resting(opened)).map(|(place, _)| place.clone()).collect();
        for place in places {
            if let Some(opened) = warehouses.placed.remove(&place) {
                opened.warehouse.close().await?;
            }
        }
        Ok(warehouses.placed.is_empty())
    }

    /// Closes the warehouses, so that another process may open them.
    pub async fn close(self) -> Result<()> {
        for opened in std::mem::take(&mut self.warehouses.lock().await.placed).into_values() {
            opened.warehouse.close().await?;
        }
        Ok(())
    }

    /// What tells whether two connections lead to the same warehouse: the file that is really there, or the name.
    fn place(&self, connection: &Connection) -> Place {
        match &connection.kind {
            ConnectionKind::DuckDb(settings) if settings.path.as_os_str() != ":memory:" => Place::File(real(settings)),
            _ => Place::Named(self.edition, connection.name.clone()),
        }
    }
}

/// Open warehouses, and DuckDB files that are only read.
#[derive(Default)]
struct Warehouses {
    /// What the names of connections lead to, by the reading of the connections.
    named: HashMap<(u64, String), Place>,
    /// What is really opened, each once.
    placed: HashMap<Place, Opened>,
}

/// Where a warehouse is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    /// In this file.
    File(PathBuf),
    /// Behind this name, as the connections were read.
    Named(u64, String),
}

/// An open warehouse, and when it was last asked for.
struct Opened {
    warehouse: Warehouse,
    used: std::sync::Mutex<tokio::time::Instant>,
}

impl Opened {
    fn new(warehouse: &Warehouse) -> Self {
        Self { warehouse: warehouse.clone(), used: std::sync::Mutex::new(tokio::time::Instant::now()) }
    }

    /// The warehouse, for whoever works with it now.
    fn at(&self) -> Warehouse {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = tokio::time::Instant::now();
        self.warehouse.clone()
    }

    fn used(&self) -> tokio::time::Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A DuckDB file as it is really there.
fn real(settings: &DuckDbConnection) -> PathBuf {
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
