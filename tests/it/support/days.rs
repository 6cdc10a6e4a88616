//! A loopback API of days: items in offset pages and notes behind cursors, the same at every call, with every request counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use super::loopback::serve;
use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use serde_json::{Value, json};

/// A page of the API: its path, the day, and where the page begins.
pub type PageKey = (String, String, String);

/// The running API; it ends with the test's process.
pub struct DaysApi {
    pub url: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    counts: Mutex<BTreeMap<PageKey, usize>>,
    revision: Mutex<BTreeMap<String, u64>>,
    rows: Mutex<BTreeMap<String, usize>>,
}

/// Rows of a day, unless a test says otherwise.
pub const ROWS: usize = 170;
/// Rows of a page.
pub const LIMIT: usize = 25;

impl DaysApi {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let seen = Arc::new(Seen::default());
        let router =
            Router::new().route("/items", get(items)).route("/notes", get(notes)).with_state(Arc::clone(&seen));
        Self { url: serve(router), seen }
    }

    /// How often each page was asked for.
    pub fn counts(&self) -> BTreeMap<PageKey, usize> {
        self.seen.counts.lock().expect("no test panicked here").clone()
    }

    /// Forgets what was asked for.
    pub fn forget(&self) {
        self.seen.counts.lock().expect("no test panicked here").clear();
    }

    /// Changes some rows of a day from now on.
    pub fn revise(&self, day: &str) {
        *self.seen.revision.lock().expect("no test panicked here").entry(day.to_owned()).or_default() += 1;
    }

    /// Gives a day another number of rows from now on.
    pub fn resize(&self, day: &str, rows: usize) {
        self.seen.rows.lock().expect("no test panicked here").insert(day.to_owned(), rows);
    }
}

impl Seen {
    fn count(&self, path: &str, day: &str, at: &str) {
        let key = (path.to_owned(), day.to_owned(), at.to_owned());
        *self.counts.lock().expect("no test panicked here").entry(key).or_default() += 1;
    }

    fn rows_of(&self, day: &str) -> usize {
        self.rows.lock().expect("no test panicked here").get(day).copied().unwrap_or(ROWS)
    }

    fn row(&self, day: &str, index: usize) -> Value {
        let revision = self.revision.lock().expect("no test panicked here").get(day).copied().unwrap_or(0);
        let changed = if index.is_multiple_of(10) { revision } else { 0 };
        json!({
            "id": format!("{day}-{index:04}"),
            "day": day,
            "at": format!("{day}T{:02}:{:02}:00Z", index % 24, index % 60),
            "amount": f64::from(u32::try_from(index as u64 + changed).expect("a small number")) + 0.25,
            "count": index as u64 * 1_000_003 + changed,
            "tags": ["a", "b"],
            "place": { "name": format!("place {}", index % 7), "floor": index % 3 },
        })
    }
}

async fn items(State(seen): State<Arc<Seen>>, Query(query): Query<HashMap<String, String>>) -> String {
    let (day, offset) = (&query["day"], &query["offset"]);
    seen.count("items", day, offset);
    let offset: usize = offset.parse().expect("an offset");
    let total = seen.rows_of(day);
    let rows: Vec<Value> = (offset..total.min(offset + LIMIT)).map(|index| seen.row(day, index)).collect();
    json!({ "total": total, "items": rows }).to_string()
}

async fn notes(State(seen): State<Arc<Seen>>, Query(query): Query<HashMap<String, String>>) -> String {
    let day = &query["day"];
    let cursor = query.get("cursor").cloned().unwrap_or_default();
    seen.count("notes", day, &cursor);
    let page: usize = cursor.trim_start_matches('c').parse().unwrap_or(0);
    let total = seen.rows_of(day) / 2;
    let (from, to) = (page * LIMIT, total.min((page + 1) * LIMIT));
    let rows: Vec<Value> = (from..to).map(|index| seen.row(day, index)).collect();
    let next = (to < total).then(|| format!("c{}", page + 1));
    json!({ "notes": rows, "next": next }).to_string()
}
