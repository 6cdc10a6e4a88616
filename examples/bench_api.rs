//! The API that the benchmark pulls from: ratings and nested events in offset pages, built once and served from memory.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use tokio::sync::oneshot;

/// The pages of one data set, by offset.
struct Dataset {
    limit: usize,
    pages: Vec<Bytes>,
}

type Datasets = Arc<HashMap<&'static str, Dataset>>;

type Delay = mpsc::Sender<(Instant, oneshot::Sender<()>)>;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> std::io::Result<()> {
    let ratings: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(300_000);
    let events: usize = std::env::args().nth(2).and_then(|text| text.parse().ok()).unwrap_or(60_000);
    let datasets: Datasets = Arc::new(HashMap::from([
        ("ratings", Dataset { limit: 1000, pages: pages(ratings, 1000, rating) }),
        ("events", Dataset { limit: 500, pages: pages(events, 500, event) }),
        ("few", Dataset { limit: 10, pages: pages(3, 10, rating) }),
    ]));
    let router = Router::new()
        .route("/items/{item}", get(item))
        .route("/{dataset}", get(page))
        .with_state(datasets)
        .route("/slow/{item}", get(slow))
        .with_state(delay());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let line = format!("http://{}\n", listener.local_addr()?);
    tokio::io::AsyncWriteExt::write_all(&mut tokio::io::stdout(), line.as_bytes()).await?;
    axum::serve(listener, router).await
}

async fn page(
    State(datasets): State<Datasets>,
    Path(dataset): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> impl IntoResponse {
    let body = datasets.get(dataset.as_str()).and_then(|dataset| {
        let offset: usize = query.get("offset").and_then(|text| text.parse().ok()).unwrap_or(0);
        dataset.pages.get(offset / dataset.limit).cloned()
    });
    let body = body.unwrap_or_else(|| Bytes::from_static(b"{\"result\":[],\"total\":0}"));
    ([(header::CONTENT_TYPE, "application/json")], body)
}

/// A small answer, as fast as can be.
async fn item(Path(item): Path<String>) -> impl IntoResponse {
    let body = format!("[{{\"id\":\"{item}\",\"views\":{},\"likes\":12,\"title\":\"a video\"}}]", item.len() * 1009);
    ([(header::CONTENT_TYPE, "application/json")], body)
}

/// The same answer after 50 ms, and hardly more: the runtime's own clock would round up to whole milliseconds.
async fn slow(State(delay): State<Delay>, path: Path<String>) -> impl IntoResponse {
    let (wake, woken) = oneshot::channel();
    // The thread lives as long as the server does.
    let _ = delay.send((Instant::now() + Duration::from_millis(50), wake));
    let _ = woken.await;
    item(path).await
}

/// Wakes who waits, each at its time; all wait equally long, so the first to come is the first to go.
fn delay() -> Delay {
    let (sender, waiting) = mpsc::channel::<(Instant, oneshot::Sender<()>)>();
    std::thread::spawn(move || {
        for (due, wake) in waiting {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // Who has gone meanwhile needs no waking.
            let _ = wake.send(());
        }
    });
    sender
}

fn pages(rows: usize, limit: usize, row: fn(usize) -> String) -> Vec<Bytes> {
    (0..rows.div_ceil(limit))
        .map(|page| {
            let mut body = format!("{{\"total\":{rows},\"offset\":{},\"result\":[", page * limit);
            for index in page * limit..rows.min((page + 1) * limit) {
                if index > page * limit {
                    body.push(',');
                }
                body.push_str(&row(index));
            }
            body.push_str("]}");
            Bytes::from(body)
        })
        .collect()
}

/// Spreads numbers without a random generator, so that every run serves the same bytes.
fn spread(index: usize, modulus: usize) -> usize {
    index.wrapping_mul(2_654_435_761) % modulus
}

fn rating(index: usize) -> String {
    format!(
        "{{\"userId\":{},\"movieId\":{},\"rating\":{}.{},\"timestamp\":{}}}",
        spread(index, 60_000),
        spread(index + 7, 20_000),
        index % 5,
        if index.is_multiple_of(2) { 5 } else { 0 },
        1_546_300_800 + index
    )
}

fn event(index: usize) -> String {
    let mut params = String::new();
    for param in 0..8 {
        let _ = write!(
            params,
            "{}{{\"key\":\"param_{param}\",\"value\":{{\"string_value\":\"value {} of the event\",\"int_value\":{},\"double_value\":{}.25}}}}",
            if param == 0 { "" } else { "," },
            spread(index + param, 100_000),
            index * 10 + param,
            index % 1000,
        );
    }
    format!(
        "{{\"event_id\":\"e{index:09}\",\"event_name\":\"{}\",\"event_timestamp\":\"2024-05-01T{:02}:{:02}:{:02}Z\",\"user\":{{\"id\":{},\"country\":\"KR\",\"devices\":[\"phone\",\"web\"]}},\"params\":[{params}]}}",
        ["page_view", "click", "purchase", "scroll"][index % 4],
        index / 3600 % 24,
        index / 60 % 60,
        index % 60,
        spread(index, 1_000_000),
    )
}
