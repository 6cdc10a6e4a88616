//! Files sent so that a cut connection costs no more than what was on its way: Google's resumable uploads.
//!
//! The protocol is that of "Upload media" in the documentation of Google's APIs, which BigQuery and Cloud Storage share: a
//! session is opened with the metadata, pieces are put with their `Content-Range`, a 308 tells by its `Range` what has
//! arrived, and a question for that (`bytes */length`) goes before every new attempt.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use serde_json::Value;
use tokio::sync::mpsc;
use url::Url;

use super::call::Answer;
use super::{BigQuery, Caller, Refused};
use crate::error::{Context, Error, Kind, Result};

/// Pieces are as long as this; all but the last have to be a multiple of 256 KiB.
const PIECE: u64 = 64 << 20;

/// A file is read in blocks of this size.
const BLOCK: usize = 1 << 20;

/// Blocks that may wait for the network.
const WAITING: usize = 4;

/// A piece may take this long, and a second more for each [`SLOWEST`] bytes.
const PIECE_PATIENCE: Duration = Duration::from_mins(1);

/// A slower network has given up.
const SLOWEST: u64 = 64 << 10;

/// So many sessions are opened for one file at the most.
const MOST_SESSIONS: u32 = 3;

/// A file on its way.
pub(super) struct Upload {
    file: Arc<File>,
    /// Its bytes.
    pub len: u64,
}

impl Upload {
    pub fn open(path: &Path) -> Result<Self> {
        let doing = || format!("reading {}", path.display());
        let file = File::open(path).context(Kind::Storage, doing)?;
        let len = file.metadata().context(Kind::Storage, doing)?.len();
        Ok(Self { file: Arc::new(file), len })
    }

    /// All of it.
    pub fn whole(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, 0).context(Kind::Storage, || "reading the rows to be sent".to_owned())?;
        Ok(bytes)
    }

    /// A part of it as the body of a request, read while it is sent.
    fn body(&self, from: u64, to: u64) -> reqwest::Body {
        let (send, receive) = mpsc::channel::<std::io::Result<Bytes>>(WAITING);
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || {
            let mut at = from;
            while at < to {
                let size = usize::try_from(to - at).unwrap_or(usize::MAX).min(BLOCK);
                let mut block = vec![0; size];
                let read = file.read_exact_at(&mut block, at).map(|()| Bytes::from(block));
                let broken = read.is_err();
                // Nobody takes it any more once the request has ended.
                if send.blocking_send(read).is_err() || broken {
                    return;
                }
                at += size as u64;
            }
        });
        let stream = futures::stream::unfold(receive, |mut receive| async {
            let block = receive.recv().await?;
            Some((block, receive))
        });
        reqwest::Body::wrap_stream(stream)
    }
}

/// What became of a session.
enum Sent {
    /// Everything has arrived.
    Whole(Bytes),
    /// The service does not know the session any more.
    Lost(Refused),
}

/// What a request for a session came to.
enum Step {
    Whole(Bytes),
    /// So many bytes have arrived.
    Upto(u64),
    /// The service does not know the session any more.
    Lost(Refused),
}

impl BigQuery {
    /// Sends a file with its metadata; returns what the service answers at the end.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(super) async fn send_resumable(
        &self,
        start: &Url,
        metadata: &Value,
        upload: &Upload,
        scopes: &[&str],
        caller: &Caller<'_>,
    ) -> Result<Bytes, Refused> {
        let mut sessions = 1;
        loop {
            let session = self.open_session(start, metadata, upload, scopes, caller).await?;
            match self.fill(&session, upload, scopes, caller).await? {
                Sent::Whole(body) => return Ok(body),
                Sent::Lost(refused) if sessions >= MOST_SESSIONS => return Err(refused),
                Sent::Lost(refused) => {
                    (caller.retrying)(&refused.error.chain(), Duration::ZERO);
                    sessions += 1;
                }
            }
        }
    }

    async fn open_session(
        &self,
        start: &Url,
        metadata: &Value,
        upload: &Upload,
        scopes: &[&str],
        caller: &Caller<'_>,
    ) -> Result<Url, Refused> {
        let answer = self
            .patiently(caller, || async {
                let request = self.inner.http.post(start.clone()).json(metadata);
                let request = request.header("x-upload-content-type", "application/octet-stream");
                let request = request.header("x-upload-content-length", upload.len);
                let answer = self.exchange(request, start, scopes).await?;
                if answer.status.is_success() { Ok(answer) } else { Err(answer.refused()) }
            })
            .await?;
        let strange = |why: String| Refused::strange("opening an upload", why);
        let location = answer.header(LOCATION).ok_or_else(|| strange("the answer has no `Location`".to_owned()))?;
        let session =
            start.join(location).map_err(|error| strange(format!("its `Location` is no address: {error}")))?;
        // The token goes there: it has to be the same place, or another one of Google's.
        let googles = session.scheme() == "https"
            && session.host_str().is_some_and(|host| host == "googleapis.com" || host.ends_with(".googleapis.com"));
        if session.origin() != start.origin() && !(googles && start.scheme() == "https") {
            return Err(strange("its `Location` leads elsewhere".to_owned()));
        }
        Ok(session)
    }

    async fn fill(
        &self,
        session: &Url,
        upload: &Upload,
        scopes: &[&str],
        caller: &Caller<'_>,
    ) -> Result<Sent, Refused> {
        let (mut at, mut failures, mut in_doubt) = (0, 0, false);
        loop {
            let step = if in_doubt {
                self.piece(session, upload, None, scopes, caller).await?
            } else {
                self.piece(session, upload, Some(at), scopes, caller).await?
            };
            let refused = match step {
                Ok(Step::Whole(body)) => return Ok(Sent::Whole(body)),
                Ok(Step::Upto(arrived)) => {
                    let moved = arrived > at;
                    (at, in_doubt) = (arrived, false);
                    if moved {
                        failures = 0;
                        continue;
                    }
                    if failures == 0 {
                        // An answer to the question after a cut: nothing had arrived.
                        failures += 1;
                        continue;
                    }
                    Error::new(Kind::Unavailable, "nothing of the upload arrives").into()
                }
                Ok(Step::Lost(refused)) => return Ok(Sent::Lost(refused)),
                Err(refused) => refused,
            };
            failures += 1;
            if !refused.retry || failures > caller.retry.max_attempts {
                return Err(refused);
            }
            in_doubt = true;
            let pause =
                caller.retry.ceiling(failures).mul_f64(rand::random::<f64>()).max(refused.after.unwrap_or_default());
            (caller.retrying)(&self.inner.redactor.redact(&refused.error.chain()), pause);
            self.unless_cancelled(caller, tokio::time::sleep(pause)).await?;
        }
    }

    /// Puts the piece that begins at `from`, or asks what has arrived; outside is what ends everything.
    async fn piece(
        &self,
        session: &Url,
        upload: &Upload,
        from: Option<u64>,
        scopes: &[&str],
        caller: &Caller<'_>,
    ) -> Result<Result<Step, Refused>, Refused> {
        caller.sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let len = upload.len;
        let to = from.map_or(0, |from| len.min(from + PIECE));
        let size = from.map_or(0, |from| to - from);
        let range = match from {
            Some(from) => format!("bytes {from}-{}/{len}", to.saturating_sub(1)),
            None => format!("bytes */{len}"),
        };
        let patience = PIECE_PATIENCE + Duration::from_secs(size / SLOWEST);
        let request = self.inner.http.put(session.clone()).timeout(patience);
        let request = request.header(CONTENT_RANGE, range).header(CONTENT_LENGTH, size);
        let request = match from {
            Some(from) => request.header(CONTENT_TYPE, "application/octet-stream").body(upload.body(from, to)),
            None => request,
        };
        let answered = self.unless_cancelled(caller, self.exchange(request, session, scopes)).await?;
        Ok(answered.and_then(|answer| step(answer, len)))
    }
}

/// Reads what a session says of itself.
fn step(answer: Answer, len: u64) -> Result<Step, Refused> {
    if answer.status.is_success() {
        return Ok(Step::Whole(answer.body));
    }
    if matches!(answer.status.as_u16(), 404 | 410) {
        return Ok(Step::Lost(answer.refused()));
    }
    if answer.status.as_u16() != 308 {
        return Err(answer.refused());
    }
    // Without a range nothing has arrived.
    let Some(range) = answer.header(RANGE) else { return Ok(Step::Upto(0)) };
    let last = range.strip_prefix("bytes=0-").and_then(|last| last.parse::<u64>().ok());
    match last.filter(|last| *last < len) {
        Some(last) => Ok(Step::Upto(last + 1)),
        None => Err(Refused::strange("an upload", format!("the `Range` of its answer is `{range}`"))),
    }
}
