//! A loopback API that a test writes line by line: rows under keys, refusals, requests that wait until the test lets them go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::loopback::serve;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};

/// Rows of a page.
pub const LIMIT: usize = 4;

/// The running API; it ends with the test's process.
pub struct Scripted {
    pub url: String,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    lines: Mutex<Lines>,
    moved: Condvar,
}

#[derive(Default)]
struct Lines {
    rows: BTreeMap<String, Vec<Value>>,
    refusals: BTreeMap<String, (u16, String)>,
    /// Requests that are not answered, as `key@offset`.
    closed: BTreeSet<String>,
    /// All requests in their order, as `key@offset`.
    asked: Vec<String>,
}

impl Scripted {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let script = Arc::new(Script::default());
        let router = Router::new().route("/rows", get(rows)).with_state(Arc::clone(&script));
        Self { url: serve(router), script }
    }

    /// These rows lie under a key from now on; a key without any has none.
    pub fn put(&self, key: &str, rows: Vec<Value>) {
        self.lines().rows.insert(key.to_owned(), rows);
    }

    /// Rows `{ id, day, at, amount }` under a day, one an hour from midnight on.
    pub fn put_day(&self, day: &str, count: usize) {
        self.put(day, (0..count).map(|index| day_row(day, index, 1)).collect());
    }

    /// Every request for a key is refused.
    pub fn refuse(&self, key: &str, status: u16, body: &str) {
        self.lines().refusals.insert(key.to_owned(), (status, body.to_owned()));
    }

    /// It no longer is.
    pub fn relent(&self, key: &str) {
        self.lines().refusals.remove(key);
    }

    /// Requests for a page of a key wait.
    pub fn close(&self, key: &str, offset: usize) {
        self.lines().closed.insert(format!("{key}@{offset}"));
    }

    /// Nothing waits any more.
    pub fn open(&self) {
        self.lines().closed.clear();
    }

    /// Blocks the test until a page of a key has been asked for.
    pub fn wait_for(&self, key: &str, offset: usize) {
        let page = format!("{key}@{offset}");
        let missing = |lines: &mut Lines| !lines.asked.contains(&page);
        let (lines, timeout) =
            self.script.moved.wait_timeout_while(self.lines(), Duration::from_mins(1), missing).expect("no panic");
        assert!(!timeout.timed_out(), "{page} was never asked for: {:?}", lines.asked);
    }

    /// What was asked for since the last call, in the order of keys and pages.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut self.lines().asked);
        asked.sort();
        asked
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.script.lines.lock().expect("no test panicked here")
    }
}

/// One row of a day.
pub fn day_row(day: &str, index: usize, amount: u64) -> Value {
    json!({ "id": format!("{day}-{index}"), "day": day, "at": format!("{day}T{:02}:30:00Z", index % 24), "amount": amount })
}

async fn rows(
    State(script): State<Arc<Script>>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<String, (StatusCode, String)> {
    let key = &query["key"];
    let offset: usize = query.get("offset").map_or(0, |offset| offset.parse().expect("an offset"));
    let page = format!("{key}@{offset}");
    script.lines.lock().expect("no test panicked here").asked.push(page.clone());
    script.moved.notify_all();
    // A closed page keeps its client waiting; the client's patience is what is tested.
    while script.lines.lock().expect("no test panicked here").closed.contains(&page) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let lines = script.lines.lock().expect("no test panicked here");
    if let Some((status, body)) = lines.refusals.get(key) {
        return Err((StatusCode::from_u16(*status).expect("a status"), body.clone()));
    }
    let all = lines.rows.get(key).cloned().unwrap_or_default();
    let page: Vec<&Value> = all.iter().skip(offset).take(LIMIT).collect();
    Ok(json!({ "total": all.len(), "rows": page }).to_string())
}
