//! A loopback API for fan-outs: every answer is counted, and it can be slow, out of order, strict about tokens and about haste.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::loopback::serve;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// How the server behaves.
#[derive(Clone, Default)]
pub struct Manner {
    /// How long an answer takes.
    pub latency: Duration,
    /// Of so many requests one is answered by 503.
    pub out_of_order_every: u64,
    /// More requests than this within a second are answered by 429, with `Retry-After: 1`.
    pub most_a_second: u64,
    /// How long a token lives; none: no token is asked for.
    pub token_life: Option<Duration>,
    /// Paths that are answered by this status.
    pub refused: BTreeMap<String, u16>,
    /// The status of every answer.
    pub always: Option<u16>,
    /// Rows of each path: pages of two rows by `?page=`, from 1.
    pub pages: BTreeMap<String, u64>,
    /// Every path from the n-th request on waits for ever.
    pub stalls_after: Option<u64>,
}

/// The running server; it ends with the test's process.
pub struct FanApi {
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    manner: Mutex<Manner>,
    /// Path and query of each answer with rows, and how often it was given.
    answered: Mutex<BTreeMap<String, u32>>,
    arrivals: Mutex<Vec<Instant>>,
    requests: AtomicU64,
    tokens: Mutex<Vec<Instant>>,
    unauthorized: AtomicU64,
    refusals: AtomicU64,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

impl FanApi {
    /// Starts it on a free port, with two threads of its own.
    pub fn start(manner: Manner) -> Self {
        let shared = Arc::new(Shared {
            manner: Mutex::new(manner),
            answered: Mutex::default(),
            arrivals: Mutex::default(),
            requests: AtomicU64::new(0),
            tokens: Mutex::default(),
            unauthorized: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        });
        let state = Arc::clone(&shared);
        let router = Router::new().fallback(answer).with_state(state);
        Self { url: serve(router), shared }
    }

    /// Changes its manner.
    pub fn behave(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut lock(&self.shared.manner));
    }

    /// How often each path, with its query, was answered with rows.
    pub fn answered(&self) -> BTreeMap<String, u32> {
        lock(&self.shared.answered).clone()
    }

    /// How many answers with rows were given.
    pub fn answers(&self) -> u64 {
        lock(&self.shared.answered).values().map(|count| u64::from(*count)).sum()
    }

    /// How many answers with rows were given more than once.
    pub fn twice(&self) -> u64 {
        lock(&self.shared.answered).values().map(|count| u64::from(*count - 1)).sum()
    }

    /// When requests came, those for tokens left out.
    pub fn arrivals(&self) -> Vec<Instant> {
        lock(&self.shared.arrivals).clone()
    }

    /// How many tokens were handed out.
    pub fn tokens(&self) -> usize {
        lock(&self.shared.tokens).len()
    }

    /// How many requests were refused for an old token, and how many by 429 or 503.
    pub fn refusals(&self) -> (u64, u64) {
        (self.shared.unauthorized.load(Ordering::Relaxed), self.shared.refusals.load(Ordering::Relaxed))
    }

    /// How many requests were under way at once at the most.
    pub fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::Relaxed)
    }

    /// Forgets what was counted.
    pub fn forget(&self) {
        lock(&self.shared.answered).clear();
        lock(&self.shared.arrivals).clear();
        self.shared.most_in_flight.store(0, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a request for as long as it is under way, also when its client goes away.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn begin(shared: &Arc<Shared>) -> Self {
        let now = shared.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_in_flight.fetch_max(now, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if path == "/token" {
        let mut tokens = lock(&shared.tokens);
        tokens.push(Instant::now());
        let life = lock(&shared.manner).token_life.unwrap_or_default().as_secs();
        // It says that its tokens live for ever: only a 401 tells of their end.
        let body = format!("{{\"access_token\":\"t{}\",\"life\":{life}}}", tokens.len());
        return ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    let _under_way = UnderWay::begin(&shared);
    let manner = lock(&shared.manner).clone();
    let number = shared.requests.fetch_add(1, Ordering::Relaxed);
    let haste = {
        let mut arrivals = lock(&shared.arrivals);
        let now = Instant::now();
        arrivals.push(now);
        let second = arrivals.iter().rev().take_while(|at| now - **at < Duration::from_secs(1)).count() as u64;
        manner.most_a_second > 0 && second > manner.most_a_second
    };
    if manner.stalls_after.is_some_and(|after| number >= after) {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(manner.latency).await;
    if let Some(life) = manner.token_life {
        let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let sent: Option<usize> = sent.and_then(|value| value.strip_prefix("Bearer t")?.parse().ok());
        let lives = sent.is_some_and(|sent| lock(&shared.tokens).get(sent - 1).is_some_and(|at| at.elapsed() < life));
        if !lives {
            shared.unauthorized.fetch_add(1, Ordering::Relaxed);
            return (StatusCode::UNAUTHORIZED, "the token has ended").into_response();
        }
    }
    if haste {
        shared.refusals.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], "too many requests").into_response();
    }
    if manner.out_of_order_every > 0 && number % manner.out_of_order_every == 7 {
        shared.refusals.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::SERVICE_UNAVAILABLE, "out of order").into_response();
    }
    let status = manner.always.or_else(|| manner.refused.get(&path).copied());
    if let Some(status) = status.and_then(|status| StatusCode::from_u16(status).ok()) {
        return (status, "no").into_response();
    }
    rows(&shared, &manner, &path, request.uri().query().unwrap_or(""))
}

fn rows(shared: &Shared, manner: &Manner, path: &str, query: &str) -> Response {
    let whole = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    *lock(&shared.answered).entry(whole.clone()).or_default() += 1;
    let body = match manner.pages.get(path) {
        None => format!("[{{\"path\":\"{whole}\",\"views\":{}}}]", whole.len()),
        Some(pages) => {
            let page: u64 = query.split('&').find_map(|pair| pair.strip_prefix("page=")?.parse().ok()).unwrap_or(1);
            let row = |n: u64| format!("{{\"path\":\"{path}\",\"page\":{page},\"n\":{n}}}");
            let rows = if page < *pages { format!("{},{}", row(1), row(2)) } else { row(1) };
            format!("[{rows}]")
        }
    };
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
