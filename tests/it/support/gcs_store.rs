//! Objects as Google Cloud Storage's XML API gives and takes them, with the conditions under which it does.
//!
//! Built from the public documentation: <https://cloud.google.com/storage/docs/xml-api/reference-headers>. The server of others
//! that the tests have takes no writes over that API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::loopback::serve;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

/// Generation and bytes of each object, by its key.
type Objects = BTreeMap<String, (u64, Vec<u8>)>;

/// A bucket `landing` with conditional writes; it ends with the test's process.
pub struct GcsStore {
    url: String,
    objects: Arc<Mutex<Objects>>,
}

impl GcsStore {
    pub fn start() -> Self {
        let objects: Arc<Mutex<Objects>> = Arc::default();
        let known = Arc::clone(&objects);
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let answer = answer(&mut known.lock().expect("no test panicked here"), &method, &uri, &headers, &body);
            async move { answer }
        };
        Self { url: serve(Router::new().fallback(handler)), objects }
    }

    /// The connection to a prefix of the bucket.
    pub fn connection(&self, name: &str, prefix: &str) -> String {
        format!(
            "[{name}]\ntype = \"files\"\nurl = \"gs://landing/{prefix}\"\nendpoint = \"{}\"\nanonymous = true\n",
            self.url
        )
    }

    /// The keys that are there, with how often each was written.
    pub fn generations(&self) -> BTreeMap<String, u64> {
        let objects = self.objects.lock().expect("no test panicked here");
        objects.iter().map(|(key, (generation, _))| (key.clone(), *generation)).collect()
    }
}

fn answer(objects: &mut Objects, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Response {
    let path = percent_decoded(uri.path());
    let key =
        path.trim_start_matches('/').strip_prefix("landing").unwrap_or_default().trim_start_matches('/').to_owned();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if key.is_empty() {
        return list(objects, uri.query().unwrap_or_default());
    }
    let current = objects.get(&key).map(|(generation, _)| *generation);
    if *method == Method::PUT {
        let wanted = header("x-goog-if-generation-match").map(|text| text.parse::<u64>().expect("a generation"));
        if wanted.is_some_and(|wanted| wanted != current.unwrap_or(0)) {
            return (StatusCode::PRECONDITION_FAILED, "<Error><Code>PreconditionFailed</Code></Error>").into_response();
        }
        let generation = current.unwrap_or(0) + 1;
        objects.insert(key, (generation, body.to_vec()));
        return told(StatusCode::OK, generation, Vec::new());
    }
    if *method == Method::DELETE {
        let gone = objects.remove(&key).is_some();
        return if gone { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }.into_response();
    }
    let Some((generation, bytes)) = objects.get(&key) else {
        return (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>").into_response();
    };
    let from = header("range").and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok());
    match from {
        Some(from) if from > 0 => {
            let length = bytes.len();
            let mut part = told(StatusCode::PARTIAL_CONTENT, *generation, bytes[from..].to_vec());
            let range = format!("bytes {from}-{}/{length}", length - 1);
            part.headers_mut().insert("content-range", range.parse().expect("a header"));
            part
        }
        _ => told(StatusCode::OK, *generation, bytes.clone()),
    }
}

fn told(status: StatusCode, generation: u64, bytes: Vec<u8>) -> Response {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + generation);
    let headers = [
        ("x-goog-generation", generation.to_string()),
        ("etag", format!("\"{generation}\"")),
        ("last-modified", httpdate::fmt_http_date(modified)),
    ];
    (status, headers, bytes).into_response()
}

fn list(objects: &Objects, query: &str) -> Response {
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default();
    let prefix = percent_decoded(prefix);
    let found = objects.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(key, (generation, bytes))| {
        format!(
            "<Contents><Key>{key}</Key><Generation>{generation}</Generation><LastModified>2023-11-14T22:13:20.000Z</LastModified>\
             <ETag>\"{generation}\"</ETag><Size>{}</Size></Contents>",
            bytes.len()
        )
    });
    let found: String = found.collect();
    let body = format!(
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>landing</Name>{found}</ListBucketResult>"
    );
    ([("content-type", "application/xml")], body).into_response()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
