//! A loopback server that answers with bytes, as a test says, and remembers what it was asked.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::loopback::serve;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Asked {
    /// The text of a header; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The text of a parameter; empty when it is not there.
    pub fn param(&self, name: &str) -> String {
        let found = url::form_urlencoded::parse(self.query.as_bytes()).find(|(own, _)| own == name);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    }
}

/// What is answered.
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// A good answer of this type.
    pub fn of(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body).header("content-type", content_type)
    }

    #[expect(clippy::needless_pass_by_value, reason = "a value that is made for the call reads better")]
    pub fn json(value: serde_json::Value) -> Self {
        Self::of("application/json", value.to_string())
    }

    #[must_use]
    pub fn header(mut self, name: &str, text: &str) -> Self {
        self.headers.push((name.to_owned(), text.to_owned()));
        self
    }
}

#[derive(Default)]
struct Log {
    asked: Mutex<Vec<Asked>>,
    moved: Condvar,
}

/// The running server; it ends with the test's process.
pub struct Station {
    pub url: String,
    log: Arc<Log>,
}

impl Station {
    /// Starts it on a free port.
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let log: Arc<Log> = Arc::default();
        let (seen, answer) = (Arc::clone(&log), Arc::new(answer));
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let one = Asked {
                method: method.to_string(),
                path: uri.path().to_owned(),
                query: uri.query().unwrap_or_default().to_owned(),
                headers,
                body: String::from_utf8_lossy(&body).into_owned(),
            };
            let reply = answer(&one);
            seen.asked.lock().expect("no test panicked here").push(one);
            seen.moved.notify_all();
            async move { response(reply) }
        };
        Self { url: serve(Router::new().fallback(handler)), log }
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.log.asked.lock().expect("no test panicked here").clone()
    }

    /// How often a path was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path == path).count()
    }

    /// Blocks the test until a path has been asked for so often.
    pub fn wait_for(&self, path: &str, times: usize) {
        let asked = self.log.asked.lock().expect("no test panicked here");
        let missing = |asked: &mut Vec<Asked>| asked.iter().filter(|one| one.path == path).count() < times;
        let waited = self.log.moved.wait_timeout_while(asked, Duration::from_mins(1), missing);
        let (asked, timeout) = waited.expect("no test panicked here");
        assert!(!timeout.timed_out(), "{path} was not asked for {times} times: {asked:?}");
    }
}

fn response(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).expect("a status");
    let mut response = (status, reply.body).into_response();
    response.headers_mut().remove("content-type");
    for (name, text) in reply.headers {
        let value = HeaderValue::from_str(&text).expect("a header's value");
        response.headers_mut().append(name.parse::<HeaderName>().expect("a header's name"), value);
    }
    response
}
