//! A loopback API that speaks every page style at once, remembers what it was asked, and misbehaves when it is told to.

#![expect(clippy::expect_used, reason = "a test whose own setting fails has to panic")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

/// Rows of a day, unless a test says otherwise.
pub const ROWS: usize = 25;
/// Rows of a page, where the request does not ask for a number.
pub const PAGE: usize = 10;

/// The running API; it ends with the test's process.
pub struct PagesApi {
    pub url: String,
    shared: Arc<Shared>,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    /// The parameters of the query, or the members of a JSON body, those of its `variables` included.
    pub params: BTreeMap<String, String>,
    pub headers: HeaderMap,
    pub body: String,
    pub at: Instant,
    /// How often the same was asked before.
    pub again: usize,
}

impl Asked {
    /// A parameter's text; empty when it is not there.
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    /// A header's text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// What the API does in the place of an answer.
pub enum Fault {
    /// Answers with a status and a `Retry-After`.
    Status(u16, Option<String>),
    /// Sends half of the answer and closes the connection.
    Cut,
    /// Sends half of the answer and then nothing more.
    Stall,
    /// Sends this body.
    Body(String),
    /// Sends the client there.
    Redirect(String),
}

type Mischief = dyn FnMut(&Asked) -> Option<Fault> + Send;
type Doorkeeper = dyn Fn(&Asked) -> bool + Send;

struct Shared {
    log: Mutex<Vec<Asked>>,
    rows: Mutex<BTreeMap<String, Vec<String>>>,
    mischief: Mutex<Box<Mischief>>,
    doorkeeper: Mutex<Box<Doorkeeper>>,
    tokens: Mutex<Tokens>,
    traffic: Mutex<Traffic>,
    url: String,
}

#[derive(Default)]
struct Traffic {
    now: usize,
    most: usize,
    /// How long an answer takes.
    pause: Duration,
}

/// What the token endpoint gives.
#[derive(Debug, Default)]
pub struct Terms {
    /// What it says of a token's life.
    pub expires_in: Option<Value>,
    /// How many requests a token is good for.
    pub uses: Option<usize>,
    /// Whether every renewal takes the old refresh token away.
    pub rotates: bool,
    /// The requests, counted from one, at which it is out of order.
    pub outages: Vec<usize>,
}

/// The token endpoint `/token`, whose tokens are `t1`, `t2`, … and whose refresh tokens are `refresh-0`, `refresh-1`, ….
#[derive(Debug, Default)]
pub struct Tokens {
    /// What the endpoint was sent.
    pub forms: Vec<BTreeMap<String, String>>,
    terms: Terms,
    issued: usize,
    rotation: usize,
    used: BTreeMap<String, usize>,
}

impl PagesApi {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
                let url = format!("http://{}", listener.local_addr().expect("an address"));
                let shared = Arc::new(Shared::new(url));
                let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
                tell.send(shared).expect("the test listens");
                axum::serve(listener, router).await.expect("the server runs");
            });
        });
        let shared: Arc<Shared> = told.recv().expect("the server starts");
        Self { url: shared.url.clone(), shared }
    }

    /// Everything that was asked, tokens left out, in the order of arrival.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.log).clone()
    }

    /// How many requests each path got.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for asked in self.asked() {
            *counts.entry(asked.path).or_default() += 1;
        }
        counts
    }

    /// Forgets what was asked.
    pub fn forget(&self) {
        lock(&self.shared.log).clear();
    }

    /// Gives a day these rows, as JSON.
    pub fn set_rows(&self, day: &str, rows: Vec<String>) {
        lock(&self.shared.rows).insert(day.to_owned(), rows);
    }

    /// Gives a day this number of ordinary rows.
    pub fn resize(&self, day: &str, count: usize) {
        self.set_rows(day, (1..=count).map(|id| ordinary(day, id)).collect());
    }

    /// Misbehaves from now on wherever the closure says how.
    pub fn misbehave(&self, mischief: impl FnMut(&Asked) -> Option<Fault> + Send + 'static) {
        *lock(&self.shared.mischief) = Box::new(mischief);
    }

    /// Answers 401 from now on unless the closure lets the request in.
    pub fn let_in(&self, doorkeeper: impl Fn(&Asked) -> bool + Send + 'static) {
        *lock(&self.shared.doorkeeper) = Box::new(doorkeeper);
    }

    /// Lets in from now on who has a token of `/token` that is alive.
    pub fn ask_for_tokens(&self, terms: Terms) {
        *lock(&self.shared.tokens) = Tokens { terms, ..Tokens::default() };
        let shared = Arc::downgrade(&self.shared);
        self.let_in(move |asked| {
            let Some(shared) = shared.upgrade() else { return false };
            let token = asked.header("authorization").strip_prefix("Bearer ").unwrap_or("").to_owned();
            let mut tokens = lock(&shared.tokens);
            let known = token.strip_prefix('t').and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
            let tokens = &mut *tokens;
            let used = tokens.used.entry(token).or_default();
            *used += 1;
            let worn = *used > tokens.terms.uses.unwrap_or(usize::MAX);
            known <= tokens.issued && !worn
        });
    }

    /// The state of the token endpoint.
    pub fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.shared.tokens)
    }

    /// Every answer takes this long from now on.
    pub fn slow_down(&self, pause: Duration) {
        lock(&self.shared.traffic).pause = pause;
    }

    /// The most requests that were under way at once.
    pub fn most_at_once(&self) -> usize {
        lock(&self.shared.traffic).most
    }
}

/// An ordinary row, whose digits no float can hold.
pub fn ordinary(day: &str, id: usize) -> String {
    format!(r#"{{"id": {id}, "day": "{day}", "name": "row {id} of {day}", "big": {}}}"#, 9_007_199_254_740_993 + id)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Shared {
    fn new(url: String) -> Self {
        Self {
            log: Mutex::default(),
            rows: Mutex::default(),
            mischief: Mutex::new(Box::new(|_| None)),
            doorkeeper: Mutex::new(Box::new(|_| true)),
            tokens: Mutex::default(),
            traffic: Mutex::default(),
            url,
        }
    }

    fn rows_of(&self, day: &str) -> Vec<String> {
        let rows = lock(&self.rows).get(day).cloned();
        rows.unwrap_or_else(|| (1..=ROWS).map(|id| ordinary(day, id)).collect())
    }

    fn remember(&self, path: &str, params: BTreeMap<String, String>, headers: HeaderMap, body: String) -> Asked {
        let mut log = lock(&self.log);
        let again = log.iter().filter(|old| old.path == path && old.params == params).count();
        let asked = Asked { path: path.to_owned(), params, headers, body, at: Instant::now(), again };
        log.push(asked.clone());
        asked
    }

    /// The answer of the path, in the terms of all page styles at once.
    fn page(&self, asked: &Asked) -> Response {
        let number = |name: &str| asked.param(name).parse::<usize>().ok();
        let day = asked.param("day");
        let rows = self.rows_of(day);
        let all = asked.path.starts_with("/single");
        let mut size = if all { rows.len() } else { number("limit").or(number("size")).unwrap_or(PAGE) };
        if asked.path.starts_with("/capped") {
            size = size.min(PAGE);
        }
        let counted_from = usize::from(asked.path.starts_with("/from_one"));
        let from = if let Some(offset) = number("offset") {
            offset - counted_from
        } else if let Some(page) = number("page") {
            (page - 1) * size
        } else if let Some(after) = number("since") {
            rows.iter().take_while(|row| id_of(row) <= after).count()
        } else {
            asked.param("cursor").trim_start_matches('c').parse().unwrap_or(0)
        };
        let to = rows.len().min(from + size);
        let more = to < rows.len();
        let cursor = format!("c{to}");
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        // The key is given back, as many an API does.
        query.extend_pairs(asked.params.iter().filter(|(name, _)| *name != "cursor"));
        let next_path = format!("{}?{}", asked.path, query.append_pair("cursor", &cursor).finish());
        let items = rows.get(from..to).unwrap_or_default().join(",");
        let meta = json!({
            "total": rows.len(), "pages": rows.len().div_ceil(size.max(1)), "has_more": more,
            "next": more.then_some(&cursor), "next_number": more.then_some(to),
            "next_path": more.then_some(&next_path), "next_url": more.then(|| format!("{}{next_path}", self.url)),
        });
        let body = match asked.path.as_str() {
            "/bare" => format!("[{items}]"),
            "/deep" => format!(r#"{{"data": {{"groups": [{{"name": "a", "rows": [{items}]}}, {{"name": "b"}}]}}}}"#),
            _ => format!(r#"{{"meta": {meta}, "items": [{items}]}}"#),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "application/json".parse().expect("a header"));
        if more {
            let link = format!("<{}{next_path}>; rel=\"next\", </about,us>; rel=\"help\"", self.url);
            headers.insert(header::LINK, link.parse().expect("a header"));
            headers.insert("x-next-cursor", cursor.parse().expect("a header"));
        }
        (headers, body).into_response()
    }

    fn token(&self, form: &BTreeMap<String, String>) -> Response {
        let mut tokens = lock(&self.tokens);
        tokens.forms.push(form.clone());
        if tokens.terms.outages.contains(&tokens.forms.len()) {
            return (StatusCode::SERVICE_UNAVAILABLE, "the endpoint is out of order").into_response();
        }
        let refreshes = form.get("grant_type").is_some_and(|grant| grant == "refresh_token");
        let expected = format!("refresh-{}", tokens.rotation);
        if refreshes && form.get("refresh_token") != Some(&expected) {
            return (StatusCode::BAD_REQUEST, "{\"error\": \"invalid_grant\"}").into_response();
        }
        tokens.issued += 1;
        let mut answer = json!({ "access_token": format!("t{}", tokens.issued), "token_type": "Bearer" });
        if let Some(expires_in) = &tokens.terms.expires_in {
            answer["expires_in"] = expires_in.clone();
        }
        if refreshes && tokens.terms.rotates {
            tokens.rotation += 1;
            answer["refresh_token"] = json!(format!("refresh-{}", tokens.rotation));
        }
        answer.to_string().into_response()
    }
}

fn id_of(row: &str) -> usize {
    let row: Value = serde_json::from_str(row).expect("a row");
    usize::try_from(row["id"].as_u64().expect("an id")).expect("an id")
}

/// The pairs of a query or a form; what is there twice is told twice.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let mut pairs: BTreeMap<String, String> = BTreeMap::new();
    for (name, text) in url::form_urlencoded::parse(text.as_bytes()).into_owned() {
        pairs.entry(name).and_modify(|old| *old = format!("{old}, {text}")).or_insert(text);
    }
    pairs
}

/// The members of a JSON body as parameters.
fn members(body: &str) -> BTreeMap<String, String> {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let mut params = BTreeMap::new();
    for members in [value.as_object(), value["variables"].as_object()].into_iter().flatten() {
        for (name, value) in members {
            params.insert(name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    params
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let body = String::from_utf8(body.to_vec()).expect("a text");
    if parts.uri.path() == "/token" {
        // Long enough for all who wait for the same token to ask for it too.
        tokio::time::sleep(Duration::from_millis(30)).await;
        return shared.token(&pairs(&body));
    }
    let mut params = pairs(parts.uri.query().unwrap_or(""));
    params.extend(members(&body));
    let asked = shared.remember(parts.uri.path(), params, parts.headers, body);
    let pause = {
        let mut traffic = lock(&shared.traffic);
        traffic.now += 1;
        traffic.most = traffic.most.max(traffic.now);
        traffic.pause
    };
    tokio::time::sleep(pause).await;
    let fault = (*lock(&shared.mischief))(&asked);
    let let_in = (*lock(&shared.doorkeeper))(&asked);
    let answer = match fault {
        _ if !let_in => (StatusCode::UNAUTHORIZED, "who are you?").into_response(),
        None => shared.page(&asked),
        Some(fault) => misbehaved(fault, shared.page(&asked)).await,
    };
    lock(&shared.traffic).now -= 1;
    answer
}

async fn misbehaved(fault: Fault, answer: Response) -> Response {
    match fault {
        Fault::Status(status, after) => {
            let status = StatusCode::from_u16(status).expect("a status");
            let after = after.map(|after| [(header::RETRY_AFTER, after)]);
            (status, after, "not now").into_response()
        }
        Fault::Body(body) => body.into_response(),
        Fault::Redirect(place) => (StatusCode::FOUND, [(header::LOCATION, place)]).into_response(),
        Fault::Cut => {
            let half = stream::iter([Ok(half(answer).await), Err(std::io::Error::other("cut"))]);
            Body::from_stream(half).into_response()
        }
        Fault::Stall => {
            let half = stream::iter([Ok::<_, Infallible>(half(answer).await)]);
            Body::from_stream(half.chain(stream::pending())).into_response()
        }
    }
}

async fn half(answer: Response) -> Bytes {
    let body = axum::body::to_bytes(answer.into_body(), 1 << 30).await.expect("a body");
    body.slice(..body.len() / 2)
}
