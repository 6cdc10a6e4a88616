//! A web server with files on it: it tells versions, sends parts, redirects, breaks off, and remembers who asked for what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::loopback::serve;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use futures::{StreamExt, stream};

/// What is at a path.
#[derive(Debug, Clone)]
pub enum Thing {
    /// A file with its content type; its `ETag` is a digest of its bytes.
    File(Vec<u8>, &'static str),
    /// The same without anything that tells a version.
    Plain(Vec<u8>, &'static str),
    /// Another address.
    Redirect(String),
    /// A status without a body.
    Status(u16),
    /// The file breaks off after so many bytes, so often; then it comes whole.
    Cut(Vec<u8>, usize, u32),
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub none_match: Option<String>,
    pub status: u16,
}

type Things = Arc<Mutex<(HashMap<String, Thing>, Vec<Asked>)>>;

/// A running server; it lives as long as the test's process.
pub struct Shelf {
    pub url: String,
    things: Things,
}

impl Shelf {
    pub fn start() -> Self {
        let things = Things::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&things));
        Self { url: serve(router), things }
    }

    /// Puts something at a path.
    pub fn put(&self, path: &str, thing: Thing) {
        self.things.lock().expect("no test panicked here").0.insert(path.to_owned(), thing);
    }

    /// The requests so far, which are forgotten then.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.things.lock().expect("no test panicked here").1)
    }

    /// The paths that were asked for by GET so far, in order of their names; they are forgotten then.
    pub fn got(&self) -> Vec<String> {
        let mut paths: Vec<String> =
            self.asked().into_iter().filter(|asked| asked.method == "GET").map(|asked| asked.path).collect();
        paths.sort();
        paths
    }
}

async fn answer(State(things): State<Things>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let path = uri.path().to_owned();
    let (range, none_match) = (text(header::RANGE), text(header::IF_NONE_MATCH));
    let mut things = things.lock().expect("no test panicked here");
    if method == Method::PUT {
        let told = if path.ends_with(".png") { "image/png" } else { "application/octet-stream" };
        things.0.insert(path.clone(), Thing::File(body.to_vec(), told));
    }
    let thing = things.0.get(&path).cloned();
    let response = match thing {
        None => empty(404),
        Some(Thing::Status(status)) => empty(status),
        Some(Thing::Redirect(to)) => {
            let mut response = empty(302);
            response.headers_mut().insert(header::LOCATION, to.parse().expect("a header"));
            response
        }
        Some(Thing::Plain(bytes, told)) => whole(bytes, told, None),
        Some(Thing::File(bytes, told)) => {
            let etag = format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(&bytes));
            if none_match.as_deref() == Some(&etag) { empty(304) } else { part(bytes, told, &etag, range.as_deref()) }
        }
        Some(Thing::Cut(bytes, after, 0)) => {
            let etag = format!("\"{after}\"");
            part(bytes, "text/csv", &etag, range.as_deref())
        }
        Some(Thing::Cut(bytes, after, times)) => {
            if method == Method::GET {
                things.0.insert(path.clone(), Thing::Cut(bytes.clone(), after, times - 1));
            }
            cut(&bytes, after, range.as_deref(), method == Method::HEAD)
        }
    };
    let authorization = text(header::AUTHORIZATION);
    let (method, status) = (method.to_string(), response.status().as_u16());
    things.1.push(Asked { method, path, authorization, range, none_match, status });
    response
}

fn empty(status: u16) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    Response::builder().status(status).body(Body::empty()).expect("a response")
}

fn whole(bytes: Vec<u8>, told: &str, etag: Option<&str>) -> Response {
    let mut builder = Response::builder().header(header::CONTENT_TYPE, told);
    if let Some(etag) = etag {
        builder = builder.header(header::ETAG, etag).header(header::ACCEPT_RANGES, "bytes");
    }
    builder.body(Body::from(bytes)).expect("a response")
}

fn first_byte(range: Option<&str>) -> Option<usize> {
    range?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

fn part(bytes: Vec<u8>, told: &str, etag: &str, range: Option<&str>) -> Response {
    let Some(from) = first_byte(range) else { return whole(bytes, told, Some(etag)) };
    if from >= bytes.len() {
        return empty(416);
    }
    let mut response = whole(bytes[from..].to_vec(), told, Some(etag));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let told = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
    response.headers_mut().insert(header::CONTENT_RANGE, told.parse().expect("a header"));
    response
}

fn cut(bytes: &[u8], after: usize, range: Option<&str>, head: bool) -> Response {
    let from = first_byte(range).unwrap_or(0);
    let end = (from + after).min(bytes.len());
    let status = if range.is_some() { 206 } else { 200 };
    let builder = Response::builder()
        .status(status)
        .header(header::ETAG, format!("\"{after}\""))
        .header(header::CONTENT_LENGTH, bytes.len() - from);
    if head {
        return builder.body(Body::empty()).expect("a response");
    }
    let begun = Ok(Bytes::copy_from_slice(&bytes[from..end]));
    let broken = async {
        // What has come is sent before the rest is missing.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        Err(std::io::Error::other("the server breaks off"))
    };
    let pieces = stream::iter([begun]).chain(stream::once(broken));
    builder.body(Body::from_stream(pieces)).expect("a response")
}
