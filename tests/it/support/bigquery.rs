//! The BigQuery emulator, started once for all tests, and doors before it that count what is asked.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::counterparts::program;
use super::doors::nobody;
use super::project::Project;

/// The emulator's project.
pub const PROJECT: &str = "test-project";

/// The running emulator; every test has datasets of its own in it.
pub struct Emulator {
    pub url: String,
    /// It ends when this process does, and takes its folder along: its shell waits for the end of a pipe.
    _shell: Mutex<Child>,
}

/// The emulator of this test process.
pub fn emulator() -> &'static Emulator {
    static STARTED: OnceLock<Emulator> = OnceLock::new();
    STARTED.get_or_init(Emulator::start)
}

impl Emulator {
    fn start() -> Self {
        let folder = folder();
        let (rest, grpc) = (nobody(), nobody());
        let shell = Command::new("sh")
            .args(["-c", r#""$@" >"$0/log" 2>&1 & pid=$!; cat >/dev/null; kill -9 $pid; wait $pid; rm -rf "$0""#])
            .arg(&folder)
            .arg(program("bigquery", "python3"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/counterparts/bigquery.py"))
            .args(["--host", "127.0.0.1", "--port", &rest.to_string(), "--grpc-port", &grpc.to_string()])
            .args(["--project", PROJECT, "--dataset", "main", "--data-dir"])
            .arg(folder.join("data"))
            .arg("serve")
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let emulator = Self { url: format!("http://127.0.0.1:{rest}"), _shell: Mutex::new(shell) };
        // An open port is not readiness: only an answered statement is.
        let end = Instant::now() + Duration::from_mins(1);
        while emulator.ask("SELECT 1").is_err() {
            assert!(Instant::now() < end, "the emulator does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        emulator
    }

    fn ask(&self, sql: &str) -> Result<Value, String> {
        let url = format!("{}/bigquery/v2/projects/{PROJECT}/queries", self.url);
        let (status, answer) =
            send(Method::POST, &url, "application/json", json!({ "query": sql, "useLegacySql": false }).to_string())?;
        let answer: Value = serde_json::from_str(&answer).map_err(|_| answer)?;
        if status != 200 || answer["jobComplete"] != true { Err(answer.to_string()) } else { Ok(answer) }
    }

    /// Runs a statement.
    pub fn sql(&self, sql: &str) -> Value {
        self.ask(sql).unwrap_or_else(|told| panic!("{told} in {sql}"))
    }

    /// Makes these rows all that a table has, and the table another one: an emulator's table keeps its time when it is overwritten.
    pub fn put(&self, dataset: &str, table: &str, schema: &Value, rows: &[Value]) {
        self.sql(&format!("CREATE SCHEMA IF NOT EXISTS {dataset}"));
        self.drop(dataset, table);
        if rows.is_empty() {
            let resource = json!({
                "tableReference": { "projectId": PROJECT, "datasetId": dataset, "tableId": table },
                "schema": { "fields": schema },
            });
            let url = format!("{}/bigquery/v2/projects/{PROJECT}/datasets/{dataset}/tables", self.url);
            let answer = send(Method::POST, &url, "application/json", resource.to_string()).expect("an answer");
            assert_eq!(answer.0, 200, "{}", answer.1);
            return;
        }
        let load = json!({ "configuration": { "load": {
            "destinationTable": { "projectId": PROJECT, "datasetId": dataset, "tableId": table },
            "sourceFormat": "NEWLINE_DELIMITED_JSON",
            "writeDisposition": "WRITE_TRUNCATE",
            "schema": { "fields": schema },
        } } });
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        let lines = lines.join("\n");
        let body = format!(
            "--part\r\nContent-Type: application/json\r\n\r\n{load}\r\n--part\r\nContent-Type: application/octet-stream\r\n\r\n{lines}\r\n--part--\r\n"
        );
        let url = format!("{}/upload/bigquery/v2/projects/{PROJECT}/jobs?uploadType=multipart", self.url);
        let (status, answer) = send(Method::POST, &url, "multipart/related; boundary=part", body).expect("an answer");
        let state: Value = serde_json::from_str(&answer).expect("JSON");
        assert!(status == 200 && state["status"]["errorResult"].is_null(), "{answer}");
    }

    /// Drops a table that may be there.
    pub fn drop(&self, dataset: &str, table: &str) {
        self.sql(&format!("DROP TABLE IF EXISTS `{dataset}.{table}`"));
    }
}

/// Where it keeps its tables: in memory where that can be had, for it writes everything down and waits for the disk.
fn folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("haul-bigquery-").tempdir_in(root).expect("a folder");
    folder.keep()
}

/// Sends one request and waits for its answer.
fn send(method: Method, url: &str, content: &str, body: String) -> Result<(u16, String), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let sent = client().request(method, url).header("content-type", content).body(body).send().await;
        let answer = sent.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(|error| error.to_string())?))
    })
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// A door before the emulator: it counts what goes through, makes pages small, and holds back what a test names.
pub struct Doorway {
    pub url: String,
    inner: Arc<Inner>,
}

struct Inner {
    behind: String,
    page_size: u64,
    seen: Mutex<Seen>,
    moved: Condvar,
}

#[derive(Default)]
struct Seen {
    asked: Vec<String>,
    held: BTreeSet<String>,
}

impl Doorway {
    /// Opens it; pages have at most `page_size` rows.
    pub fn open(page_size: u64) -> Self {
        let inner = Arc::new(Inner {
            behind: emulator().url.clone(),
            page_size,
            seen: Mutex::default(),
            moved: Condvar::new(),
        });
        let shared = Arc::clone(&inner);
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let http = client();
                let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
                    pass(Arc::clone(&shared), http.clone(), method, uri, headers, body)
                };
                let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
                tell.send(listener.local_addr().expect("an address")).expect("the test listens");
                axum::serve(listener, Router::new().fallback(handler)).await.expect("the door stands");
            });
        });
        Self { url: format!("http://{}", told.recv().expect("the door opens")), inner }
    }

    /// What was asked since the last call: method, path behind the project, and the page's token.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.seen.lock().expect("no test panicked here").asked)
    }

    /// Requests that are told like this are not answered from now on.
    pub fn hold(&self, asked: &str) {
        self.inner.seen.lock().expect("no test panicked here").held.insert(asked.to_owned());
    }

    /// Nothing is held back any more.
    pub fn let_go(&self) {
        self.inner.seen.lock().expect("no test panicked here").held.clear();
    }

    /// Blocks the test until this was asked.
    pub fn wait_for(&self, asked: &str) {
        let missing = |seen: &mut Seen| !seen.asked.iter().any(|one| one == asked);
        let seen = self.inner.seen.lock().expect("no test panicked here");
        let (seen, timeout) =
            self.inner.moved.wait_timeout_while(seen, Duration::from_mins(1), missing).expect("no panic");
        assert!(!timeout.timed_out(), "{asked} was never asked: {:?}", seen.asked);
    }
}

async fn pass(
    inner: Arc<Inner>,
    http: reqwest::Client,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut query: Vec<(String, String)> =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    for (name, value) in &mut query {
        // A question for the schema alone stays one.
        if name == "maxResults" && value != "0" && uri.path().contains("/queries/") | uri.path().ends_with("/data") {
            *value = value.parse::<u64>().expect("a number").min(inner.page_size).to_string();
        }
    }
    let token = query.iter().find(|(name, _)| name == "pageToken").map(|(_, token)| format!(" at {token}"));
    let place = uri.path().rsplit_once(&format!("{PROJECT}/")).map_or(uri.path(), |(_, place)| place);
    let asked = format!("{method} {place}{}", token.unwrap_or_default());
    inner.seen.lock().expect("no test panicked here").asked.push(asked.clone());
    inner.moved.notify_all();
    while inner.seen.lock().expect("no test panicked here").held.contains(&asked) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut url = url::Url::parse(&format!("{}{}", inner.behind, uri.path())).expect("an address");
    url.query_pairs_mut().extend_pairs(&query);
    let mut request = http.request(method, url).body(body);
    if let Some(content) = headers.get("content-type") {
        request = request.header("content-type", content);
    }
    match request.send().await {
        Ok(answer) => {
            let status = answer.status();
            let body = answer.bytes().await.expect("a whole answer");
            (status, [("content-type", "application/json")], Body::from(body)).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// A project with a DuckDB warehouse whose connection `ga4` leads to this address, without credentials.
pub fn project_at(url: &str) -> Project {
    let project = Project::empty();
    project.write("haul.toml", "warehouse = \"warehouse\"\n");
    project.write(
        "connections.toml",
        &format!(
            "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n[ga4]\ntype = \"bigquery\"\nproject = \"{PROJECT}\"\nendpoint = \"{url}\"\n"
        ),
    );
    project
}
