//! A gate before the BigQuery emulator: it writes down what is asked, and holds requests or their answers back.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::bigquery::emulator;
use super::project::Project;

/// The open gate; what goes through it is of a project of its own.
pub struct Gate {
    pub url: String,
    /// The emulator's project.
    pub project: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    moved: Condvar,
}

#[derive(Default)]
struct Seen {
    asked: Vec<String>,
    answered: Vec<String>,
    held: BTreeSet<String>,
    kept: BTreeSet<String>,
    lost: BTreeSet<String>,
    /// What was lost once already.
    cut: BTreeSet<String>,
    /// What was sent: in one line, and as JSON.
    bodies: Vec<(String, Value)>,
}

impl Gate {
    /// Opens it to a project that nobody else uses.
    pub fn open() -> Self {
        let behind = emulator().url.clone();
        let shared: Arc<Shared> = Arc::default();
        let inner = Arc::clone(&shared);
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let _ = rustls::crypto::ring::default_provider().install_default();
                let http = reqwest::Client::new();
                let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
                    pass(Arc::clone(&inner), http.clone(), behind.clone(), method, uri, headers, body)
                };
                let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
                tell.send(listener.local_addr().expect("an address")).expect("the test listens");
                let router = Router::new().fallback(handler).layer(DefaultBodyLimit::disable());
                axum::serve(listener, router).await.expect("the gate stands");
            });
        });
        let address: std::net::SocketAddr = told.recv().expect("the gate opens");
        Self { url: format!("http://{address}"), project: format!("p-{}", address.port()), shared }
    }

    /// A haul project whose warehouse is behind it, with files of rows.
    pub fn project(&self, pipeline: &str) -> Project {
        let project = Project::empty();
        project.write("haul.toml", "warehouse = \"bq\"\n");
        project.write(
            "connections.toml",
            &format!(
                "[bq]\ntype = \"bigquery\"\nproject = \"{}\"\nendpoint = \"{}\"\ncompress = false\n\n[files]\ntype = \"files\"\nurl = \"data\"\n",
                self.project, self.url
            ),
        );
        project.write("pipelines/days.toml", pipeline);
        project
    }

    /// Requests with this text wait before they are passed on.
    pub fn hold(&self, text: &str) {
        self.shared.seen.lock().expect("no test panicked here").held.insert(text.to_owned());
    }

    /// Answers to requests with this text are not given.
    pub fn keep(&self, text: &str) {
        self.shared.seen.lock().expect("no test panicked here").kept.insert(text.to_owned());
    }

    /// The first answer to each request with this text is lost: the connection is cut where it should come.
    pub fn lose(&self, text: &str) {
        self.shared.seen.lock().expect("no test panicked here").lost.insert(text.to_owned());
    }

    /// How many answers to requests with this text were lost.
    pub fn lost(&self, text: &str) -> usize {
        self.shared.seen.lock().expect("no test panicked here").cut.iter().filter(|told| told.contains(text)).count()
    }

    /// What was sent with this text in its line, as JSON; of an upload its job.
    pub fn bodies(&self, text: &str) -> Vec<Value> {
        let seen = self.shared.seen.lock().expect("no test panicked here");
        seen.bodies.iter().filter(|(told, _)| told.contains(text)).map(|(_, body)| body.clone()).collect()
    }

    pub fn let_go(&self) {
        let mut seen = self.shared.seen.lock().expect("no test panicked here");
        seen.held.clear();
        seen.kept.clear();
        seen.lost.clear();
        self.shared.moved.notify_all();
    }

    /// Blocks the test until something with this text was asked, and answered if `answered`.
    pub fn wait_for(&self, text: &str, answered: bool) {
        let missing = |seen: &mut Seen| {
            let list = if answered { &seen.answered } else { &seen.asked };
            !list.iter().any(|one| one.contains(text))
        };
        let seen = self.shared.seen.lock().expect("no test panicked here");
        let (seen, timeout) =
            self.shared.moved.wait_timeout_while(seen, Duration::from_mins(1), missing).expect("no panic");
        assert!(!timeout.timed_out(), "{text} never happened: {:#?}", seen.asked);
    }

    /// The names of jobs that were sent, each as often as it was.
    pub fn sent(&self, prefix: &str) -> Vec<String> {
        let seen = self.shared.seen.lock().expect("no test panicked here");
        let posts = seen.asked.iter().filter(|one| one.starts_with("POST"));
        posts
            .filter_map(|one| one.rsplit_once(' ').map(|(_, id)| id.to_owned()))
            .filter(|id| id.starts_with(prefix))
            .collect()
    }

    pub fn forget(&self) {
        let mut seen = self.shared.seen.lock().expect("no test panicked here");
        seen.asked.clear();
        seen.answered.clear();
        seen.bodies.clear();
        seen.cut.clear();
    }
}

async fn pass(
    shared: Arc<Shared>,
    http: reqwest::Client,
    behind: String,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = String::from_utf8_lossy(&body[..body.len().min(4000)]).into_owned();
    let id = text.split_once("\"jobId\":\"").and_then(|(_, rest)| rest.split_once('"')).map(|(id, _)| id);
    let told = format!("{method} {} {}", uri.path(), id.unwrap_or_default());
    let waits = |of: fn(&Seen) -> &BTreeSet<String>| {
        let seen = shared.seen.lock().expect("no test panicked here");
        of(&seen).iter().any(|text| told.contains(text.as_str()))
    };
    {
        let mut seen = shared.seen.lock().expect("no test panicked here");
        seen.asked.push(told.clone());
        seen.bodies.extend(first_json(&body).map(|body| (told.clone(), body)));
    }
    shared.moved.notify_all();
    while waits(|seen| &seen.held) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut request = http.request(method, format!("{behind}{uri}")).body(body);
    for name in ["content-type", "content-range", "if-match", "x-upload-content-length", "x-upload-content-type"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let answer = match request.send().await {
        Ok(answer) => {
            let status = answer.status();
            let body = answer.bytes().await.expect("a whole answer");
            (status, [("content-type", "application/json")], Body::from(body)).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    shared.seen.lock().expect("no test panicked here").answered.push(told.clone());
    shared.moved.notify_all();
    while waits(|seen| &seen.kept) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if shared.loses(&told) {
        let broken = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
        return (StatusCode::OK, [("content-length", "10")], Body::from_stream(broken)).into_response();
    }
    answer
}

impl Shared {
    /// Whether the answer to this request is lost.
    fn loses(&self, told: &str) -> bool {
        let mut seen = self.seen.lock().expect("no test panicked here");
        seen.lost.iter().any(|text| told.contains(text.as_str())) && seen.cut.insert(told.to_owned())
    }
}

/// The first JSON object of a body.
fn first_json(body: &[u8]) -> Option<Value> {
    let from = body.iter().position(|byte| *byte == b'{')?;
    serde_json::Deserializer::from_slice(&body[from..]).into_iter().next()?.ok()
}
