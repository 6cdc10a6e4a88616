//! Uploads to the strict BigQuery and to its buckets: whole with a job, or in pieces that follow each other.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::collections::HashMap;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::{Fault, PROJECT, State, ok, refusal};

/// Pieces are multiples of this, but for the last.
const QUARTER: u64 = 256 << 10;

/// A resumable upload.
pub(super) struct Session {
    metadata: Value,
    len: u64,
    received: Vec<u8>,
    target: Option<String>,
}

impl State {
    /// An upload begins, or comes as a whole.
    pub(super) fn upload(
        &mut self,
        path: &str,
        query: &HashMap<String, String>,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Response {
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let bucket = path.strip_prefix("/upload/storage/v1/b/").and_then(|rest| rest.strip_suffix("/o"));
        assert!(bucket.is_some() || path == format!("/upload/bigquery/v2/projects/{PROJECT}/jobs"), "{path}");
        match query["uploadType"].as_str() {
            "multipart" => {
                let content = header("content-type");
                let boundary = content.strip_prefix("multipart/related; boundary=").expect("a boundary").to_owned();
                let (metadata, media) = parts(body, &boundary);
                self.uploaded += media.len() as u64;
                match self.insert_job(&metadata, Some(&media)) {
                    Ok(job) => ok(&job),
                    Err((status, reason, message)) => refusal(status, reason, &message),
                }
            }
            "resumable" => {
                let len = header("x-upload-content-length").parse().expect("the length is told first");
                let metadata = serde_json::from_slice(body).expect("metadata");
                self.opened += 1;
                let id = format!("/session/{}", self.opened);
                let target = bucket.map(|bucket| format!("{bucket}/{}", query["name"]));
                self.sessions.insert(id.clone(), Session { metadata, len, received: Vec::new(), target });
                (StatusCode::OK, [("location", id)]).into_response()
            }
            other => panic!("uploadType={other}"),
        }
    }

    /// A piece of an upload, or the question for what has arrived.
    pub(super) fn piece(&mut self, id: &str, headers: &HeaderMap, body: &Bytes, fault: Option<Fault>) -> Response {
        let range = headers.get("content-range").and_then(|value| value.to_str().ok()).expect("a range").to_owned();
        if fault == Some(Fault::Forget) {
            self.sessions.remove(id);
        }
        let Some(session) = self.sessions.get_mut(id) else { return refusal(410, "gone", "the session is gone") };
        let (span, len) = range.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')).expect(&range);
        assert_eq!(len.parse::<u64>().expect("a length"), session.len, "{range}");
        if let Some((first, last)) = span.split_once('-') {
            let (first, last): (u64, u64) = (first.parse().expect(&range), last.parse().expect(&range));
            assert_eq!(first, session.received.len() as u64, "a piece begins where the last ended");
            assert_eq!(body.len() as u64, last + 1 - first, "{range}");
            assert!(last + 1 == session.len || (last + 1 - first) % QUARTER == 0, "{range}");
            self.uploaded += body.len() as u64;
            let arrived = match fault {
                Some(Fault::CutAfter(bytes)) => {
                    usize::try_from(bytes / QUARTER * QUARTER).expect("small").min(body.len())
                }
                _ => body.len(),
            };
            session.received.extend_from_slice(&body[..arrived]);
        } else {
            assert_eq!(span, "*", "{range}");
        }
        let arrived = session.received.len() as u64;
        if arrived < session.len {
            let mut answer = StatusCode::PERMANENT_REDIRECT.into_response();
            if arrived > 0 {
                answer.headers_mut().insert("range", format!("bytes=0-{}", arrived - 1).parse().expect("a header"));
            }
            return answer;
        }
        let (metadata, media, target) = (session.metadata.clone(), session.received.clone(), session.target.clone());
        if let Some(name) = target {
            self.objects.insert(name, media);
            return ok(&metadata);
        }
        match self.insert_job(&metadata, Some(&media)) {
            Ok(job) => ok(&job),
            Err((status, reason, message)) => refusal(status, reason, &message),
        }
    }
}

/// The two parts of a body (RFC 2387).
fn parts(body: &[u8], boundary: &str) -> (Value, Vec<u8>) {
    let find = |from: usize, text: &str| {
        let at = body[from..].windows(text.len()).position(|window| window == text.as_bytes());
        from + at.unwrap_or_else(|| panic!("{text:?} is missing"))
    };
    let first = find(0, "\r\n\r\n") + 4;
    let between = find(first, &format!("\r\n--{boundary}\r\n"));
    let second = find(between, "\r\n\r\n") + 4;
    let end = find(second, &format!("\r\n--{boundary}--"));
    (serde_json::from_slice(&body[first..between]).expect("a job"), body[second..end].to_vec())
}
