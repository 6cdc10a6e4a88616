//! A strict BigQuery of a test's own that takes rows: uploads, load and copy jobs, partitions, as Google documents them.
//!
//! It refuses what the REST reference does not have: unknown members, labels that are none, a job's name that was taken,
//! pieces of an upload that do not follow each other or are no multiple of 256 KiB. It holds requests back, cuts them off,
//! and loses answers where a test wants that.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod jobs;
mod statements;
mod tables;
mod uploads;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::loopback::serve;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uploads::Session;

/// The project.
pub const PROJECT: &str = "strict-project";

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
    /// Where everything has to be; anywhere, if nothing is said.
    location: Option<String>,
    /// The datasets, and where each was wanted.
    datasets: BTreeMap<String, Value>,
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

/// Status, reason and message of what is not done.
type Refusal = (u16, &'static str, String);

type Answer = Result<Value, Refusal>;

impl Strict {
    pub fn start() -> Self {
        let shared: Arc<Shared> = Arc::default();
        let inner = Arc::clone(&shared);
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let shared = Arc::clone(&inner);
            async move {
                tokio::task::spawn_blocking(move || shared.serve(&method, &uri, &headers, &body))
                    .await
                    .expect("an answer")
            }
        };
        let router = Router::new().fallback(handler).layer(DefaultBodyLimit::disable());
        Self { url: serve(router), shared }
    }

    /// A service that is in one place only: datasets that are wanted elsewhere and jobs that do not say where they are, or say
    /// it wrongly, are refused.
    pub fn start_in(location: &str) -> Self {
        let server = Self::start();
        server.state().location = Some(location.to_owned());
        server
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

    /// Where each dataset was wanted.
    pub fn datasets(&self) -> BTreeMap<String, Value> {
        self.state().datasets.clone()
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

fn known(value: &Value, names: &[&str]) -> Result<(), Refusal> {
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
        let parts: Vec<&str> = path.split('/').collect();
        if let ["jobs" | "queries", id, ..] = parts[..]
            && let Err((status, reason, message)) = self.placed(query.get("location").map(String::as_str), id)
        {
            return refusal(status, reason, &message);
        }
        let answer = match (method.as_str(), parts.as_slice()) {
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
}
