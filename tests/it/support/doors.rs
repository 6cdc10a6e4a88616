//! A loopback server that answers as a test says, and the binary's answers taken apart.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use super::loopback::serve;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use serde_json::Value;

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Asked {
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
}

/// What is answered.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// It is sent when this is true.
    ready: Option<Box<dyn Fn() -> bool + Send>>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), ready: None }
    }

    /// Holds it back until something is true.
    #[must_use]
    pub fn once(mut self, ready: impl Fn() -> bool + Send + 'static) -> Self {
        self.ready = Some(Box::new(ready));
        self
    }

    pub fn json(value: &Value) -> Self {
        Self::new(200, value.to_string())
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.headers.push((name, text.into()));
        self
    }
}

/// The running server; it ends with the test's process.
pub struct Door {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Door {
    /// Starts it on a free port.
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        let handler = move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let body = String::from_utf8_lossy(&body).into_owned();
            let one =
                Asked { path: uri.path().to_owned(), query: uri.query().unwrap_or_default().to_owned(), headers, body };
            let reply = answer(&one);
            seen.lock().expect("no test panicked here").push(one);
            async move {
                while reply.ready.as_ref().is_some_and(|ready| !ready()) {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                response(reply)
            }
        };
        Self { url: serve(Router::new().fallback(handler)), asked }
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panicked here").clone()
    }
}

fn response(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).expect("a status");
    let mut response = (status, reply.body).into_response();
    for (name, text) in reply.headers {
        let value = HeaderValue::from_str(&text).expect("a header's value");
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
    response
}

/// The header of basic authentication.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// A port on which nobody listens.
pub fn nobody() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// How a process ended, and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Self {
        Self::from(command.output().expect("haul starts"))
    }

    /// Runs with a text on stdin.
    pub fn with_stdin(command: &mut Command, text: &str) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("haul starts");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("haul reads");
        Self::from(child.wait_with_output().expect("haul ends"))
    }

    /// Both streams.
    pub fn told(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Fails the test unless it ended well.
    #[track_caller]
    pub fn well(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.told());
        self
    }

    /// Fails the test unless it ended with this code and said all of this.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.told());
        for word in words {
            assert!(self.told().contains(word), "`{word}` is missing in:\n{}", self.told());
        }
        self
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in:\n{}", self.told()))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}
