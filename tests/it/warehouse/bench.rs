//! A warehouse to be tested, and rows on their way into it: the real stage, the real commit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use haul::error::{Error, Kind};
use haul::model::connection::{BigQueryConnection, Connection, ConnectionKind, DuckDbConnection};
use haul::model::layout::Layout;
use haul::model::ledger::Loaded;
use haul::model::name::TableName;
use haul::model::page::{PageEntry, Position};
use haul::model::pipeline::{CheckRule, Guard, Naming, Nested, Severity, Write};
use haul::model::schema::{Contract, LogicalType};
use haul::stage::{Manifest, Spec, Stage};
use haul::time::{Calendar, Grain, Instant, Tz, Unit, UnitKey};
use haul::warehouse::{BoundCheck, Commit, Committed, Labels, NewRows, UnitCommit, Warehouse};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support::bigquery::emulator;
use crate::support::databases::PostgresDatabase;

/// The warehouses that pass this suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    DuckDb,
    Postgres,
    BigQuery,
}

impl Driver {
    /// Runs a test in a fresh warehouse.
    pub fn run<F: Future<Output = ()>>(self, test: impl Fn(Bench) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        // The test's future keeps no more of the bench than it uses, and the server must not end before it.
        let place = std::rc::Rc::new(Place::new(self));
        runtime.block_on(async { test(Bench::new(std::rc::Rc::clone(&place)).await).await });
    }
}

/// Where a warehouse of a driver lies.
pub enum Place {
    DuckDb,
    Postgres(PostgresDatabase),
    /// A project of the emulator that nobody else uses.
    BigQuery(String),
}

impl Place {
    fn new(driver: Driver) -> Self {
        match driver {
            Driver::DuckDb => Self::DuckDb,
            Driver::Postgres => Self::Postgres(PostgresDatabase::new()),
            Driver::BigQuery => {
                let _ = rustls::crypto::ring::default_provider().install_default();
                // It begins here, outside of the test's own runtime.
                emulator();
                Self::BigQuery(format!("suite-{:016x}", rand::random::<u64>()))
            }
        }
    }
}

/// A fresh warehouse with room for stages.
pub struct Bench {
    pub warehouse: Warehouse,
    pub driver: Driver,
    pub place: std::rc::Rc<Place>,
    folder: tempfile::TempDir,
    stages: std::cell::Cell<u32>,
}

/// The table that most tests load.
pub fn items() -> TableName {
    TableName::parse("raw.items").expect("a name")
}

pub fn instant(text: &str) -> Instant {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The day of this date in UTC.
pub fn day(date: &str) -> Unit {
    Calendar::new(Grain::Day, Tz::UTC).of_date(date.parse().expect("a date"))
}

/// How rows are to be loaded; the fields that a test does not care for have the values of a plain daily pull.
#[derive(Clone)]
pub struct Load {
    pub table: TableName,
    pub grain: Option<Grain>,
    pub write: Write,
    pub keys: Vec<String>,
    pub contract: Contract,
    pub columns: BTreeMap<String, LogicalType>,
    pub nested: Nested,
    pub naming: Naming,
    pub units: Vec<UnitCommit>,
    pub checks: Vec<BoundCheck>,
    pub layout: Layout,
    pub cancel: CancellationToken,
}

impl Load {
    /// A first pull of one unit.
    pub fn of(unit: Unit) -> Self {
        Self { grain: Some(unit.calendar.grain), units: vec![first(Some(unit))], ..Self::whole() }
    }

    /// A pull of several units at once.
    pub fn over(units: &[Unit]) -> Self {
        let units = units.iter().map(|unit| first(Some(*unit))).collect();
        Self { grain: Some(Grain::Day), units, ..Self::whole() }
    }

    /// A table without a window.
    pub fn whole() -> Self {
        Self {
            table: items(),
            grain: None,
            write: Write::Replace,
            keys: Vec::new(),
            contract: Contract::Evolve,
            columns: BTreeMap::new(),
            nested: Nested::Struct,
            naming: Naming::Source,
            units: vec![first(None)],
            checks: Vec::new(),
            layout: Layout::default(),
            cancel: CancellationToken::new(),
        }
    }

    /// The pull of this number under a lease of the same generation.
    pub fn pull(mut self, number: u64) -> Self {
        for unit in &mut self.units {
            (unit.pull, unit.generation) = (number, number);
        }
        self
    }

    pub fn write(mut self, write: Write) -> Self {
        self.write = write;
        self
    }

    pub fn merge(self, keys: &[&str], newest_by: Option<&str>) -> Self {
        let keys = keys.iter().map(|&key| key.to_owned()).collect();
        self.write(Write::Merge { keys, newest_by: newest_by.map(str::to_owned) })
    }

    pub fn contract(mut self, contract: Contract) -> Self {
        self.contract = contract;
        self
    }

    pub fn declare(mut self, column: &str, data_type: &str) -> Self {
        self.columns.insert(column.to_owned(), LogicalType::parse(data_type).expect(data_type));
        self
    }

    pub fn json(mut self) -> Self {
        self.nested = Nested::Json;
        self
    }

    pub fn check(mut self, rule: CheckRule) -> Self {
        self.checks.push(BoundCheck { name: "it".to_owned(), rule, severity: Severity::Error, sql: None });
        self
    }

    /// What the ledger knows of each unit, as the warehouse has it now.
    pub async fn known(mut self, bench: &Bench) -> Self {
        let loads = bench.warehouse.loads(std::slice::from_ref(&self.table)).await.expect("loads");
        for unit in &mut self.units {
            unit.previous = loads.iter().find(|(_, key, _)| *key == unit.key).map(|(_, _, loaded)| loaded.clone());
        }
        self
    }

    fn commit(&self, rows: NewRows) -> Commit {
        Commit {
            table: self.table.clone(),
            grain: self.grain,
            rows,
            write: self.write.clone(),
            keys: self.keys.clone(),
            contract: self.contract,
            units: self.units.clone(),
            checks: self.checks.clone(),
            layout: self.layout.clone(),
            labels: Labels { pipeline: "suite".to_owned(), step: "items".to_owned() },
            billing: haul::model::cost::Billing::default(),
            cancel: self.cancel.clone(),
            permit: haul::warehouse::Permit::default(),
            run: "suite-1".to_owned(),
            at: instant("2024-06-01T03:04:05.678901Z"),
        }
    }
}

fn first(unit: Option<Unit>) -> UnitCommit {
    UnitCommit {
        key: unit.map_or_else(UnitKey::whole, |unit| unit.key()),
        unit,
        pull: 1,
        generation: 1,
        previous: None,
        guard: Guard::OPEN,
        staged: None,
        inputs: None,
    }
}

/// A page of a pull.
pub fn page(number: u64, rows: u64) -> PageEntry {
    PageEntry { number, at: Position::Page(number), next: None, total: None, rows, digest: number }
}

impl Bench {
    async fn new(place: std::rc::Rc<Place>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let driver = match &*place {
            Place::DuckDb => Driver::DuckDb,
            Place::Postgres(_) => Driver::Postgres,
            Place::BigQuery(_) => Driver::BigQuery,
        };
        let warehouse = Warehouse::open(&connection(&place, folder.path())).await.expect("a warehouse");
        Self { warehouse, driver, place, folder, stages: std::cell::Cell::new(0) }
    }

    /// Another process at work in the same warehouse, with stages of its own; only a server lets it in.
    pub async fn another(&self, connection: Connection) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let warehouse = Warehouse::open(&connection).await.expect("a warehouse");
        let place = std::rc::Rc::clone(&self.place);
        Self { warehouse, driver: self.driver, place, folder, stages: std::cell::Cell::new(0) }
    }

    /// The connection that leads to the warehouse.
    pub fn connection(&self) -> Connection {
        connection(&self.place, self.path())
    }

    /// Somebody's own hand on the warehouse, without haul.
    pub async fn by_hand(mut self, sql: &str) -> Self {
        self.warehouse.clone().close().await.expect("closed");
        match &*self.place {
            Place::DuckDb => {
                let connection =
                    ::duckdb::Connection::open(self.path().join("warehouse.duckdb")).expect("a connection");
                connection.execute_batch(sql).expect(sql);
            }
            Place::Postgres(database) => database.run(sql).await,
            Place::BigQuery(project) => {
                let url = format!("{}/bigquery/v2/projects/{project}/queries", emulator().url);
                let ask = serde_json::json!({ "query": sql, "useLegacySql": false });
                let answer = reqwest::Client::new().post(url).json(&ask).send().await.expect("an answer");
                assert!(answer.status().is_success(), "{sql}: {:?}", answer.text().await);
            }
        }
        self.warehouse = Warehouse::open(&self.connection()).await.expect("a warehouse");
        self
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Stages rows as pages of a pull; each text is a page of rows, one a line.
    pub fn stage(&self, load: &Load, pages: &[&str]) -> Manifest {
        self.stage_in(load, pages, "stages", None)
    }

    pub fn stage_in(
        &self,
        load: &Load,
        pages: &[&str],
        folder: &str,
        time: Option<haul::model::pipeline::TimeColumn>,
    ) -> Manifest {
        self.stages.set(self.stages.get() + 1);
        let spec = Spec {
            table: load.table.clone(),
            units: load.units.iter().filter_map(|unit| unit.unit).collect(),
            split: load.units.len() > 1,
            time,
            tz: Tz::UTC,
            pull: load.units[0].pull,
            request: String::new(),
            target_bytes: 1 << 20,
        };
        let dir = self.path().join(folder).join(self.stages.get().to_string());
        let stage = Stage::open(&dir, spec).expect("a stage");
        for (number, body) in pages.iter().enumerate() {
            let mut ranges = Vec::new();
            let mut at = 0;
            for line in body.split_inclusive('\n') {
                if !line.trim().is_empty() {
                    ranges.push(at..at + line.trim_end().len());
                }
                at += line.len();
            }
            let page = page(number as u64, ranges.len() as u64);
            stage.append(&page, body.as_bytes(), &ranges).expect("a page");
        }
        stage.seal().expect("a manifest")
    }

    /// Stages and commits rows.
    pub async fn load(&self, load: &Load, pages: &[&str]) -> Result<Committed, Error> {
        let manifest = self.stage(load, pages);
        self.commit_stage(load, &manifest).await
    }

    pub async fn commit_stage(&self, load: &Load, manifest: &Manifest) -> Result<Committed, Error> {
        let columns = manifest.shape.into_schema(&load.columns, load.nested, load.naming)?;
        let mut commit = load.commit(NewRows::Staged {
            files: manifest.segments.clone(),
            columns,
            unit_in_rows: manifest.unit_in_rows,
            longest_row: manifest.longest_row,
        });
        for unit in &mut commit.units {
            unit.staged = Some(manifest.units[&unit.key]);
        }
        self.warehouse.commit(commit).await
    }

    /// Computes and commits rows.
    pub async fn compute(&self, load: &Load, sql: &str, time_column: Option<&str>) -> Result<Committed, Error> {
        let time_column = time_column.map(str::to_owned);
        self.warehouse.commit(load.commit(NewRows::Query { sql: sql.to_owned(), time_column })).await
    }

    /// All rows of a query.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let rows = self.warehouse.query(sql, 10_000).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert!(!rows.truncated);
        rows.rows
    }

    /// All rows of a query as one JSON text.
    pub async fn text(&self, sql: &str) -> String {
        serde_json::to_string(&self.rows(sql).await).expect("JSON")
    }

    /// The columns of a table: `name TYPE, name TYPE`; nothing where it does not exist.
    pub async fn columns(&self, table: &TableName) -> String {
        let schema = self.warehouse.describe(table).await.expect("a description");
        let columns = schema.map(|schema| schema.columns).unwrap_or_default();
        columns.iter().map(|column| format!("{} {}", column.name, column.data_type)).collect::<Vec<_>>().join(", ")
    }

    /// What the warehouse says that it has of `raw.items`.
    pub async fn loads(&self) -> Vec<(String, Loaded)> {
        let loads = self.warehouse.loads(&[items()]).await.expect("loads");
        loads.into_iter().map(|(_, unit, loaded)| (unit.to_string(), loaded)).collect()
    }

    /// Everything that a commit may change, as one text.
    pub async fn state(&self) -> String {
        let columns = self.columns(&items()).await;
        if columns.is_empty() {
            return format!("{:?}", self.loads().await);
        }
        let all = self.driver.pick(
            "SELECT * FROM raw.items ORDER BY ALL",
            "SELECT * FROM raw.items AS i ORDER BY i::text",
            "SELECT * FROM raw.items AS i ORDER BY TO_JSON_STRING(i)",
        );
        format!("{columns} {} {:?}", self.text(all).await, self.loads().await)
    }
}

/// A connection of this driver to a warehouse of its own in `folder`.
fn connection(place: &Place, folder: &Path) -> Connection {
    match place {
        Place::DuckDb => duckdb(folder.join("warehouse.duckdb")),
        Place::Postgres(database) => {
            Connection { name: "warehouse".to_owned(), kind: ConnectionKind::Postgres(database.server()) }
        }
        Place::BigQuery(project) => Connection {
            name: "warehouse".to_owned(),
            kind: ConnectionKind::BigQuery(BigQueryConnection {
                project: project.clone(),
                location: None,
                service_account: None,
                default_credentials: None,
                metadata_host: None,
                impersonate: None,
                stage_bucket: None,
                stage_above: u64::MAX,
                compress: false,
                job_timeout: std::time::Duration::from_mins(5),
                endpoint: Some(emulator().url.clone()),
                storage_endpoint: None,
                tariff: haul::model::cost::Tariff::default(),
            }),
        },
    }
}

fn duckdb(path: PathBuf) -> Connection {
    Connection {
        name: "warehouse".to_owned(),
        kind: ConnectionKind::DuckDb(DuckDbConnection { path, memory_limit: "512MB".to_owned(), threads: Some(2) }),
    }
}

/// The error of a commit that must fail, and its kind.
pub fn refused(result: Result<Committed, Error>, kind: Kind) -> String {
    let error = result.expect_err("the commit is refused");
    assert_eq!(error.kind(), kind, "{error:?}");
    error.chain()
}
