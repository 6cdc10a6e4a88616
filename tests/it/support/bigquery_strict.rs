//! A strict BigQuery of a test's own that takes rows: uploads, load and copy jobs, partitions, as Google documents them.
//!
//! It refuses what the REST reference does not have: unknown members, labels that are none, a job's name that was taken,
//! pieces of an upload that do not follow each other or are no multiple of 256 KiB. It holds requests back, cuts them off,
//! and loses answers where a test wants that.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The project.
pub const PROJECT: &str = "strict-project";

const QUARTER: u64 = 256 << 10;

/// The running service.
pub struct Strict {
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    datasets: BTreeSet<String>,
    tables: BTreeMap<String, Table>,
    jobs: BTreeMap<String, Job>,
    sessions: HashMap<String, Session>,
    opened: usize,
    objects: BTreeMap<String, Vec<u8>>,
    removed: Vec<String>,
    /// What was asked: method, path, and the job's name where there is one.
    asked: Vec<String>,
    faults: Vec<(String, Fault)>,
    held: BTreeSet<String>,
    /// The bytes of uploads that came in, each time they came.
    uploaded: u64,
    clock: u64,
    /// Jobs of these names stay as they are.
    endless: Vec<String>,
}

/// A table: its resource, and its rows as JSON.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub resource: Value,
    pub rows: Vec<Value>,
}

/// A job: its configuration, and why it failed.
#[derive(Clone)]
pub struct Job {
    pub configuration: Value,
    pub error: Option<(String, String)>,
    /// A query's columns and rows.
    result: (Value, Vec<Value>),
    rows: u64,
    cancelled: bool,
}

/// A resumable upload.
struct Session {
    metadata: Value,
    len: u64,
    received: Vec<u8>,
    target: Option<String>,
}

/// What goes wrong with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut once so many bytes of the body have arrived.
    CutAfter(u64),
    /// What was asked is done, and the answer is lost.
    LoseAnswer,
    /// The session is not known any more.
    Forget,
}

type Answer = Result<Value, (u16, &'static str, String)>;

impl Strict {
    pub fn start() -> Self {
        let shared: Arc<Shared> = Arc::default();
        let inner = Arc::clone(&shared);
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
                    let shared = Arc::clone(&inner);
                    async move {
                        tokio::task::spawn_blocking(move || shared.serve(&method, &uri, &headers, &body))
                            .await
                            .expect("an answer")
                    }
                };
                let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
                tell.send(listener.local_addr().expect("an address")).expect("the test listens");
                let router = Router::new().fallback(handler).layer(DefaultBodyLimit::disable());
                axum::serve(listener, router).await.expect("the server runs");
            });
        });
        Self { url: format!("http://{}", told.recv().expect("the server starts")), shared }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no test panicked here")
    }

    /// The next request that is told with this text goes wrong like this.
    pub fn fail(&self, text: &str, fault: Fault) {
        self.state().faults.push((text.to_owned(), fault));
    }

    /// Requests that are told with this text wait from now on.
    pub fn hold(&self, text: &str) {
        self.state().held.insert(text.to_owned());
    }

    pub fn let_go(&self) {
        self.state().held.clear();
        self.shared.moved.notify_all();
    }

    /// Jobs whose names begin like this never end by themselves.
    pub fn endless(&self, name: &str) {
        self.state().endless.push(name.to_owned());
    }

    /// Blocks the test until something was asked that is told with this text.
    pub fn wait_for(&self, text: &str) {
        let missing = |state: &mut State| !state.asked.iter().any(|one| one.contains(text));
        let (state, timeout) = self
            .shared
            .moved
            .wait_timeout_while(self.state(), Duration::from_mins(1), missing)
            .expect("no test panicked here");
        assert!(!timeout.timed_out(), "{text} was never asked: {:#?}", state.asked);
    }

    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    pub fn jobs(&self) -> BTreeMap<String, Job> {
        self.state().jobs.clone()
    }

    /// The names of jobs that begin like this.
    pub fn named(&self, prefix: &str) -> Vec<String> {
        self.state().jobs.keys().filter(|id| id.starts_with(prefix)).cloned().collect()
    }

    pub fn table(&self, name: &str) -> Table {
        self.state().tables.get(name).cloned().unwrap_or_default()
    }

    pub fn uploaded(&self) -> u64 {
        self.state().uploaded
    }

    /// The objects that are there, and those that were removed.
    pub fn objects(&self) -> (Vec<String>, Vec<String>) {
        let state = self.state();
        (state.objects.keys().cloned().collect(), state.removed.clone())
    }
}

impl Shared {
    fn serve(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Response {
        let told = told(method, uri, body);
        let mut state = self.state.lock().expect("no test panicked here");
        state.asked.push(told.clone());
        self.moved.notify_all();
        let mut state = self
            .moved
            .wait_while(state, |state| state.held.iter().any(|text| told.contains(text.as_str())))
            .expect("no test panicked here");
        let at = state.faults.iter().position(|(text, _)| told.contains(text.as_str()));
        let fault = at.map(|at| state.faults.remove(at).1);
        let answer = state.answer(method, uri, headers, body, fault);
        drop(state);
        match fault {
            // Headers, and then no more: the connection is cut before there is an answer.
            Some(Fault::CutAfter(_) | Fault::LoseAnswer) => {
                let broken = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
                (StatusCode::OK, [("content-length", "10")], Body::from_stream(broken)).into_response()
            }
            Some(Fault::Forget) | None => answer,
        }
    }
}

/// A request in one line.
fn told(method: &Method, uri: &Uri, body: &Bytes) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4000)]).into_owned();
    let id = text.split_once("\"jobId\":\"").and_then(|(_, rest)| rest.split_once('"')).map(|(id, _)| format!(" {id}"));
    let query = uri.query().unwrap_or_default();
    let way = query.split('&').find(|pair| pair.starts_with("uploadType=")).map(|way| format!("?{way}"));
    format!("{method} {}{}{}", uri.path(), way.unwrap_or_default(), id.unwrap_or_default())
}

fn refusal(status: u16, reason: &str, message: &str) -> Response {
    let error = json!({ "error": {
        "code": status, "message": message, "status": "SOME_STATUS",
        "errors": [{ "message": message, "domain": "global", "reason": reason }],
    } });
    (StatusCode::from_u16(status).expect("a status"), [("content-type", "application/json")], error.to_string())
        .into_response()
}

fn ok(value: &Value) -> Response {
    (StatusCode::OK, [("content-type", "application/json")], value.to_string()).into_response()
}

fn known(value: &Value, names: &[&str]) -> Result<(), (u16, &'static str, String)> {
    for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
        if !names.contains(&name.as_str()) {
            return Err((400, "invalid", format!("Invalid JSON payload received. Unknown name \"{name}\"")));
        }
    }
    Ok(())
}

impl State {
    fn answer(
        &mut self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
        fault: Option<Fault>,
    ) -> Response {
        let query: HashMap<String, String> =
            url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let path = uri.path();
        if path.starts_with("/session/") {
            return self.piece(path, headers, body, fault);
        }
        if path.starts_with("/upload/") {
            return self.upload(path, &query, headers, body);
        }
        let decoded = path.replace("%24", "$").replace("%2F", "/");
        if let Some(object) = decoded.strip_prefix("/storage/v1/b/") {
            assert_eq!(method, Method::DELETE);
            let name = object.replacen("/o/", "/", 1);
            self.objects.remove(&name);
            self.removed.push(name);
            return StatusCode::NO_CONTENT.into_response();
        }
        let Some(path) = decoded.strip_prefix(&format!("/bigquery/v2/projects/{PROJECT}/")) else {
            return refusal(404, "notFound", &format!("Not found: {path}"));
        };
        let resource: Value = serde_json::from_slice(body).unwrap_or_default();
        let answer = match (method.as_str(), path.split('/').collect::<Vec<_>>().as_slice()) {
            ("POST", ["datasets"]) => self.insert_dataset(&resource),
            ("GET", ["datasets", dataset, "tables"]) => self.list(dataset),
            ("POST", ["datasets", dataset, "tables"]) => self.insert_table(dataset, resource),
            ("GET", ["datasets", dataset, "tables", table]) => self.get_table(dataset, table),
            ("PATCH", ["datasets", dataset, "tables", table]) => self.patch_table(dataset, table, headers, &resource),
            ("DELETE", ["datasets", dataset, "tables", table]) => {
                self.tables.remove(&format!("{dataset}.{table}"));
                return StatusCode::NO_CONTENT.into_response();
            }
            ("POST", ["jobs"]) => self.insert_job(&resource, None),
            ("GET", ["jobs", id]) => self.job(id),
            ("POST", ["jobs", id, "cancel"]) => {
                if let Some(job) = self.jobs.get_mut(*id) {
                    job.cancelled = true;
                    job.error = Some(("stopped".to_owned(), "Job execution was cancelled".to_owned()));
                }
                self.job(id).map(|job| json!({ "kind": "bigquery#jobCancelResponse", "job": job }))
            }
            ("POST", ["queries"]) => self.ask(&resource),
            ("GET", ["queries", id]) => self.results(id, &query),
            (method, _) => Err((404, "notFound", format!("Not found: {method} {path}"))),
        };
        match answer {
            Ok(value) => ok(&value),
            Err((status, reason, message)) => refusal(status, reason, &message),
        }
    }

    fn insert_dataset(&mut self, resource: &Value) -> Answer {
        known(resource, &["datasetReference", "location"])?;
        let name = resource["datasetReference"]["datasetId"].as_str().expect("a name").to_owned();
        if !self.datasets.insert(name.clone()) {
            return Err((409, "duplicate", format!("Already Exists: Dataset {PROJECT}:{name}")));
        }
        Ok(resource.clone())
    }

    fn list(&self, dataset: &str) -> Answer {
        if !self.datasets.contains(dataset) {
            return Err((404, "notFound", format!("Not found: Dataset {PROJECT}:{dataset}")));
        }
        let names = self.tables.keys().filter_map(|name| name.strip_prefix(&format!("{dataset}.")));
        let tables: Vec<Value> = names
            .map(|name| json!({ "tableReference": { "projectId": PROJECT, "datasetId": dataset, "tableId": name } }))
            .collect();
        Ok(json!({ "kind": "bigquery#tableList", "totalItems": tables.len(), "tables": tables }))
    }

    fn insert_table(&mut self, dataset: &str, mut resource: Value) -> Answer {
        const MEMBERS: [&str; 8] = [
            "tableReference",
            "schema",
            "timePartitioning",
            "clustering",
            "expirationTime",
            "description",
            "requirePartitionFilter",
            "labels",
        ];
        known(&resource, &MEMBERS)?;
        known(&resource["timePartitioning"], &["type", "field", "expirationMs"])?;
        let name = resource["tableReference"]["tableId"].as_str().expect("a name").to_owned();
        if !self.datasets.contains(dataset) {
            return Err((404, "notFound", format!("Not found: Dataset {PROJECT}:{dataset}")));
        }
        let name = format!("{dataset}.{name}");
        if self.tables.contains_key(&name) {
            return Err((409, "duplicate", format!("Already Exists: Table {PROJECT}:{name}")));
        }
        self.clock += 1;
        resource["type"] = json!("TABLE");
        resource["creationTime"] = json!((1_714_600_000_000 + self.clock).to_string());
        resource["etag"] = json!(format!("e{}", self.clock));
        self.tables.insert(name, Table { resource: resource.clone(), rows: Vec::new() });
        Ok(resource)
    }

    fn get_table(&self, dataset: &str, table: &str) -> Answer {
        let name = format!("{dataset}.{table}");
        let found =
            self.tables.get(&name).ok_or_else(|| (404, "notFound", format!("Not found: Table {PROJECT}:{name}")))?;
        let mut resource = found.resource.clone();
        resource["numRows"] = json!(found.rows.len().to_string());
        Ok(resource)
    }

    fn patch_table(&mut self, dataset: &str, table: &str, headers: &HeaderMap, change: &Value) -> Answer {
        known(change, &["schema"])?;
        let etag = headers.get("if-match").and_then(|etag| etag.to_str().ok()).expect("a change names what it changes");
        let own = self.get_table(dataset, table)?;
        if own["etag"] != etag {
            return Err((412, "conditionNotMet", "Precondition Failed".to_owned()));
        }
        let names = |schema: &Value| -> Vec<String> {
            let fields = schema["fields"].as_array().cloned().unwrap_or_default();
            fields.iter().filter_map(|field| field["name"].as_str().map(str::to_owned)).collect()
        };
        let new = names(&change["schema"]);
        if names(&own["schema"]).iter().any(|name| !new.contains(name)) {
            return Err((400, "invalid", "Provided Schema does not match Table".to_owned()));
        }
        self.clock += 1;
        let table = self.tables.get_mut(&format!("{dataset}.{table}")).expect("it is there");
        table.resource["schema"] = change["schema"].clone();
        table.resource["etag"] = json!(format!("e{}", self.clock));
        Ok(table.resource.clone())
    }

    /// jobs.insert; rows are those that were uploaded with it.
    fn insert_job(&mut self, job: &Value, rows: Option<&[u8]>) -> Answer {
        known(job, &["jobReference", "configuration"])?;
        let configuration = &job["configuration"];
        known(configuration, &["labels", "query", "load", "copy", "dryRun"])?;
        if configuration["dryRun"] == true {
            let query = json!({ "statementType": "SELECT", "totalBytesProcessed": "0", "schema": { "fields": [] } });
            return Ok(json!({ "status": { "state": "DONE" }, "statistics": { "query": query } }));
        }
        let id = job["jobReference"]["jobId"].as_str().expect("a job of a name").to_owned();
        assert!(id.len() <= 1024 && id.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)), "{id}");
        for (name, value) in configuration["labels"].as_object().expect("labels") {
            let value = value.as_str().expect("a text");
            let plain = |text: &str| {
                text.len() <= 63
                    && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
            };
            assert!(
                plain(name) && name.starts_with(|c: char| c.is_ascii_lowercase()) && plain(value),
                "{name}={value}"
            );
        }
        if self.jobs.contains_key(&id) {
            return Err((409, "duplicate", format!("Already Exists: Job {PROJECT}:EU.{id}")));
        }
        let mut made = Job {
            configuration: configuration.clone(),
            error: None,
            result: (json!([]), Vec::new()),
            rows: 0,
            cancelled: false,
        };
        if !self.endless.iter().any(|name| id.starts_with(name.as_str())) {
            let done = if configuration["load"].is_object() {
                self.load(&configuration["load"], rows)
            } else if configuration["copy"].is_object() {
                self.copy(&configuration["copy"])
            } else {
                self.run(&configuration["query"], &mut made)
            };
            match done {
                Ok(rows) => made.rows = rows,
                Err((_, reason, message)) => made.error = Some((reason.to_owned(), message)),
            }
        }
        self.jobs.insert(id.clone(), made);
        self.job(&id)
    }

    fn job(&self, id: &str) -> Answer {
        let job = self.jobs.get(id).ok_or_else(|| (404, "notFound", format!("Not found: Job {PROJECT}:{id}")))?;
        let endless = self.endless.iter().any(|name| id.starts_with(name.as_str())) && !job.cancelled;
        let mut status = json!({ "state": if endless { "RUNNING" } else { "DONE" } });
        if let Some((reason, message)) = &job.error {
            status["errorResult"] = json!({ "reason": reason, "message": message });
        }
        Ok(json!({
            "kind": "bigquery#job", "id": format!("{PROJECT}:EU.{id}"), "status": status,
            "configuration": job.configuration, "user_email": "robot", "selfLink": "",  "etag": "e",
            "jobReference": { "projectId": PROJECT, "jobId": id, "location": "EU" },
            "statistics": { "load": { "outputRows": job.rows.to_string() } },
        }))
    }

    /// jobs.query: a statement that is answered at once.
    fn ask(&mut self, request: &Value) -> Answer {
        const MEMBERS: [&str; 7] =
            ["query", "useLegacySql", "labels", "maxResults", "requestId", "formatOptions", "location"];
        known(request, &MEMBERS)?;
        assert!(request["requestId"].as_str().is_some_and(|id| id.len() <= 36));
        let id = format!("asked_{}", self.jobs.len());
        let query = json!({ "query": request["query"], "useLegacySql": request["useLegacySql"] });
        let configuration = json!({ "labels": request["labels"], "query": query });
        self.insert_job(&json!({ "jobReference": { "jobId": id }, "configuration": configuration }), None)?;
        let mut answer = self.results(&id, &HashMap::from([("maxResults".to_owned(), "1".to_owned())]))?;
        answer["jobReference"] = json!({ "projectId": PROJECT, "jobId": id, "location": "EU" });
        Ok(answer)
    }

    fn results(&self, id: &str, query: &HashMap<String, String>) -> Answer {
        let job = self.jobs.get(id).ok_or_else(|| (404, "notFound", format!("Not found: Job {PROJECT}:{id}")))?;
        if let Some((reason, message)) = &job.error {
            return Err((400, if reason == "stopped" { "stopped" } else { "invalidQuery" }, message.clone()));
        }
        let (fields, rows) = &job.result;
        let mut answer =
            json!({ "jobComplete": true, "schema": { "fields": fields }, "totalRows": rows.len().to_string() });
        if query["maxResults"] != "0" {
            answer["rows"] = json!(rows);
        }
        Ok(answer)
    }

    fn load(&mut self, load: &Value, rows: Option<&[u8]>) -> Result<u64, (u16, &'static str, String)> {
        const MEMBERS: [&str; 10] = [
            "destinationTable",
            "schema",
            "sourceFormat",
            "createDisposition",
            "writeDisposition",
            "maxBadRecords",
            "ignoreUnknownValues",
            "timePartitioning",
            "clustering",
            "sourceUris",
        ];
        known(load, &MEMBERS)?;
        let mut bytes = rows.unwrap_or_default().to_vec();
        for uri in load["sourceUris"].as_array().into_iter().flatten() {
            let name = uri.as_str().and_then(|uri| uri.strip_prefix("gs://")).expect("an address");
            let object = self.objects.get(name);
            bytes.extend(object.ok_or_else(|| (404, "notFound", format!("Not found: URI gs://{name}")))?);
        }
        let mut text = String::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("gzip");
        } else {
            text = String::from_utf8(bytes).expect("UTF-8");
        }
        let rows: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        let (name, partition) = self.place(&load["destinationTable"]);
        if !self.tables.contains_key(&name) {
            let (dataset, table) = name.split_once('.').expect("a dataset");
            let mut resource = json!({ "tableReference": { "tableId": table }, "schema": load["schema"] });
            for member in ["timePartitioning", "clustering"] {
                if load[member].is_object() {
                    resource[member] = load[member].clone();
                }
            }
            self.insert_table(dataset, resource)?;
        }
        let count = rows.len() as u64;
        let table = self.tables.get(&name).expect("it is there");
        let columns: Vec<String> = table.resource["schema"]["fields"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|field| field["name"].as_str().map(str::to_owned))
            .collect();
        for row in &rows {
            for member in row.as_object().expect("a row").keys() {
                if !columns.contains(member) {
                    return Err((400, "invalid", format!("no such field: {member}")));
                }
            }
        }
        self.write(&name, partition.as_deref(), rows, load["writeDisposition"].as_str().unwrap_or("WRITE_APPEND"))?;
        Ok(count)
    }

    fn copy(&mut self, copy: &Value) -> Result<u64, (u16, &'static str, String)> {
        let (from, of) = self.place(&copy["sourceTable"]);
        let (to, partition) = self.place(&copy["destinationTable"]);
        let source = self.tables.get(&from).ok_or_else(|| (404, "notFound", format!("Not found: Table {from}")))?;
        let target = self.tables.get(&to).ok_or_else(|| (404, "notFound", format!("Not found: Table {to}")))?;
        let how = |table: &Table| {
            (table.resource["timePartitioning"]["type"].clone(), table.resource["timePartitioning"]["field"].clone())
        };
        if how(source) != how(target) {
            return Err((400, "invalid", "Incompatible table partitioning specification when copying".to_owned()));
        }
        let rows = source.rows.iter().filter(|row| of.is_none() || of == Some(decorator(row))).cloned().collect();
        self.write(&to, partition.as_deref(), rows, copy["writeDisposition"].as_str().expect("a disposition"))?;
        Ok(0)
    }

    /// A table and its partition.
    fn place(&self, reference: &Value) -> (String, Option<String>) {
        let (dataset, table) =
            (reference["datasetId"].as_str().expect("a dataset"), reference["tableId"].as_str().expect("a table"));
        match table.split_once('$') {
            Some((table, partition)) => (format!("{dataset}.{table}"), Some(partition.to_owned())),
            None => (format!("{dataset}.{table}"), None),
        }
    }

    fn write(
        &mut self,
        name: &str,
        partition: Option<&str>,
        rows: Vec<Value>,
        disposition: &str,
    ) -> Result<(), (u16, &'static str, String)> {
        let table = self.tables.get_mut(name).expect("it is there");
        if let Some(partition) = partition {
            assert_eq!(table.resource["timePartitioning"]["field"], "_haul_unit", "{name} has partitions");
            if rows.iter().any(|row| decorator(row) != partition) {
                return Err((
                    400,
                    "invalid",
                    "Some rows belong to different partitions rather than destination partition".to_owned(),
                ));
            }
        }
        match disposition {
            "WRITE_TRUNCATE" => table.rows.retain(|row| partition.is_some_and(|partition| decorator(row) != partition)),
            "WRITE_EMPTY" if !table.rows.is_empty() => {
                return Err((409, "duplicate", format!("Already Exists: Table {name}")));
            }
            _ => {}
        }
        table.rows.extend(rows);
        Ok(())
    }

    /// The few statements that are asked of a table that is replaced by partitions.
    fn run(&mut self, query: &Value, job: &mut Job) -> Result<u64, (u16, &'static str, String)> {
        known(query, &["query", "useLegacySql", "maximumBytesBilled"])?;
        assert_eq!(query["useLegacySql"], false);
        let sql = query["query"].as_str().expect("a statement");
        let dataset = sql.split_once("FROM `").and_then(|(_, rest)| rest.split('`').next()).unwrap_or_default();
        let columns: Vec<&str> = if sql.contains("INFORMATION_SCHEMA.PARTITIONS") {
            vec!["unit"]
        } else if sql.contains("_haul_loads") && sql.starts_with("SELECT table_name") {
            vec!["table_name", "unit", "pull", "generation", "rows", "fingerprint", "inputs", "committed_at"]
        } else if sql.contains("_haul_loads") && sql.starts_with("SELECT unit") {
            vec!["unit", "generation", "pull", "rows", "fingerprint", "number"]
        } else if sql.contains("SELECT COUNT(*) FROM _haul_wrong") {
            vec!["wrong", "sample"]
        } else {
            return Err((400, "invalidQuery", format!("this server does not run {sql}")));
        };
        let kind = |name: &str| {
            if ["pull", "generation", "rows", "number"].contains(&name) {
                "INTEGER"
            } else if name == "committed_at" {
                "TIMESTAMP"
            } else {
                "STRING"
            }
        };
        let fields: Vec<Value> = columns.iter().map(|name| json!({ "name": name, "type": kind(name) })).collect();
        let cell = |value: &Value| json!({ "v": match value { Value::Null => Value::Null, Value::String(text) => json!(text), other => json!(other.to_string()) } });
        let rows = if columns == ["unit"] {
            let table = sql.split('\'').find(|part| self.tables.contains_key(&format!("{dataset}.{part}")));
            let rows =
                self.tables.get(&format!("{dataset}.{}", table.unwrap_or_default())).map(|table| table.rows.clone());
            let units: BTreeSet<String> = rows
                .unwrap_or_default()
                .iter()
                .filter_map(|row| row["_haul_unit"].as_str().map(str::to_owned))
                .collect();
            units.into_iter().map(|unit| json!({ "f": [{ "v": unit }] })).collect()
        } else if columns[0] == "wrong" {
            vec![json!({ "f": [{ "v": "0" }, { "v": [] }] })]
        } else {
            let mut newest: BTreeMap<(String, String), Value> = BTreeMap::new();
            for row in &self.tables.get(&format!("{dataset}._haul_loads")).cloned().unwrap_or_default().rows {
                let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                let key = (text("table_name"), text("unit"));
                if sql.contains(&format!("'{}'", key.0))
                    && newest.get(&key).is_none_or(|own| own["generation"].as_u64() < row["generation"].as_u64())
                {
                    newest.insert(key, row.clone());
                }
            }
            newest
                .values()
                .map(|row| json!({ "f": columns.iter().map(|name| cell(&row[*name])).collect::<Vec<_>>() }))
                .collect()
        };
        let mut fields = json!(fields);
        if columns[0] == "wrong" {
            fields = json!([{ "name": "wrong", "type": "INTEGER" }, { "name": "sample", "type": "STRING", "mode": "REPEATED" }]);
        }
        job.result = (fields, rows);
        Ok(0)
    }

    /// An upload begins, or comes as a whole.
    fn upload(&mut self, path: &str, query: &HashMap<String, String>, headers: &HeaderMap, body: &Bytes) -> Response {
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let bucket = path.strip_prefix("/upload/storage/v1/b/").and_then(|rest| rest.strip_suffix("/o"));
        assert!(bucket.is_some() || path == format!("/upload/bigquery/v2/projects/{PROJECT}/jobs"), "{path}");
        match query["uploadType"].as_str() {
            "multipart" => {
                let content = header("content-type");
                let boundary = content.strip_prefix("multipart/related; boundary=").expect("a boundary").to_owned();
                let (metadata, media) = parts(body, &boundary);
                self.uploaded += media.len() as u64;
                match self.insert_job(&metadata, Some(&media)) {
                    Ok(job) => ok(&job),
                    Err((status, reason, message)) => refusal(status, reason, &message),
                }
            }
            "resumable" => {
                let len = header("x-upload-content-length").parse().expect("the length is told first");
                let metadata = serde_json::from_slice(body).expect("metadata");
                self.opened += 1;
                let id = format!("/session/{}", self.opened);
                let target = bucket.map(|bucket| format!("{bucket}/{}", query["name"]));
                self.sessions.insert(id.clone(), Session { metadata, len, received: Vec::new(), target });
                (StatusCode::OK, [("location", id)]).into_response()
            }
            other => panic!("uploadType={other}"),
        }
    }

    /// A piece of an upload, or the question for what has arrived.
    fn piece(&mut self, id: &str, headers: &HeaderMap, body: &Bytes, fault: Option<Fault>) -> Response {
        let range = headers.get("content-range").and_then(|value| value.to_str().ok()).expect("a range").to_owned();
        if fault == Some(Fault::Forget) {
            self.sessions.remove(id);
        }
        let Some(session) = self.sessions.get_mut(id) else { return refusal(410, "gone", "the session is gone") };
        let (span, len) = range.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')).expect(&range);
        assert_eq!(len.parse::<u64>().expect("a length"), session.len, "{range}");
        if let Some((first, last)) = span.split_once('-') {
            let (first, last): (u64, u64) = (first.parse().expect(&range), last.parse().expect(&range));
            assert_eq!(first, session.received.len() as u64, "a piece begins where the last ended");
            assert_eq!(body.len() as u64, last + 1 - first, "{range}");
            assert!(last + 1 == session.len || (last + 1 - first) % QUARTER == 0, "{range}");
            self.uploaded += body.len() as u64;
            let arrived = match fault {
                Some(Fault::CutAfter(bytes)) => {
                    usize::try_from(bytes / QUARTER * QUARTER).expect("small").min(body.len())
                }
                _ => body.len(),
            };
            session.received.extend_from_slice(&body[..arrived]);
        } else {
            assert_eq!(span, "*", "{range}");
        }
        let arrived = session.received.len() as u64;
        if arrived < session.len {
            let mut answer = StatusCode::PERMANENT_REDIRECT.into_response();
            if arrived > 0 {
                answer.headers_mut().insert("range", format!("bytes=0-{}", arrived - 1).parse().expect("a header"));
            }
            return answer;
        }
        let (metadata, media, target) = (session.metadata.clone(), session.received.clone(), session.target.clone());
        if let Some(name) = target {
            self.objects.insert(name, media);
            return ok(&metadata);
        }
        match self.insert_job(&metadata, Some(&media)) {
            Ok(job) => ok(&job),
            Err((status, reason, message)) => refusal(status, reason, &message),
        }
    }
}

/// The partition of a row.
fn decorator(row: &Value) -> String {
    let text = row["_haul_unit"].as_str().unwrap_or_default();
    text.chars().filter(char::is_ascii_digit).take(if text.len() > 10 { 10 } else { 8 }).collect()
}

/// The two parts of a body (RFC 2387).
fn parts(body: &[u8], boundary: &str) -> (Value, Vec<u8>) {
    let find = |from: usize, text: &str| {
        let at = body[from..].windows(text.len()).position(|window| window == text.as_bytes());
        from + at.unwrap_or_else(|| panic!("{text:?} is missing"))
    };
    let first = find(0, "\r\n\r\n") + 4;
    let between = find(first, &format!("\r\n--{boundary}\r\n"));
    let second = find(between, "\r\n\r\n") + 4;
    let end = find(second, &format!("\r\n--{boundary}--"));
    (serde_json::from_slice(&body[first..between]).expect("a job"), body[second..end].to_vec())
}
