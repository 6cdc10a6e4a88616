//! Fetching one file: politely, again when that may help, and with credentials for the API's own host alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use url::Url;

use super::super::Sink;
use super::super::cassette::{Tape, Taped};
use super::super::http::HttpClient;
use super::index::Known;
use super::library::Library;
use crate::error::{Context, Disposition, Error, Kind, Result};
use crate::model::files::Download;
use crate::model::hook::{AuthStyle, RetryPolicy};
use crate::secret::Redactor;

/// More redirects than this lead nowhere.
const MOST_HOPS: usize = 6;

/// The time for one file.
const PATIENCE: Duration = Duration::from_mins(2);

/// No server may ask for a longer pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Fetches files, and stores each once.
#[derive(Clone)]
pub struct Fetcher {
    library: Library,
    http: Client,
    /// The API that the rows are from, with how it is told who we are.
    api: Option<(HttpClient, Option<AuthStyle>)>,
    redactor: Redactor,
    tape: Option<Tape>,
}

/// What a row got.
pub(super) struct Got {
    /// The name of the stored file; none where nothing is at the address.
    pub name: Option<String>,
    pub requests: u64,
    pub bytes: u64,
}

/// What is at an address.
enum Answer {
    File { bytes: Bytes, headers: HeaderMap, path: String },
    Unchanged,
    Gone,
}

/// Why there is no answer, and the pause that was asked for.
struct Refused {
    error: Error,
    after: Option<Duration>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, after: None }
    }
}

impl Fetcher {
    /// Fetches into a library; addresses on the host of `api` are asked as the API itself is.
    ///
    /// A tape records the requests, or stands in the place of the network.
    pub fn open(
        library: Library,
        api: Option<(HttpClient, Option<AuthStyle>)>,
        redactor: Redactor,
        tape: Option<Tape>,
    ) -> Result<Self> {
        let http = Client::builder()
            .user_agent(concat!("haul/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            // Every hop is looked at: credentials must not follow a redirect to another host.
            .redirect(Policy::none())
            .build()
            .context(Kind::Internal, || "opening a client for downloads".to_owned())?;
        Ok(Self { library, http, api, redactor, tape })
    }

    /// Where the files go.
    pub(super) fn place(&self) -> String {
        self.library.place()
    }

    /// The name of the stored file of an address.
    pub(super) async fn get(&self, url: &str, download: &Download, sink: &dyn Sink) -> Result<Got> {
        let sent = AtomicU64::new(0);
        let address = self.address(url)?;
        let turn = self.library.turn(address.as_str());
        let _turn = turn.lock().await;
        let known = self.library.known(address.as_str()).await?;
        let done = |name: String| Got { name: Some(name), requests: sent.load(Ordering::Relaxed), bytes: 0 };
        if let Some(known) = &known {
            let can_tell = known.etag.is_some() || known.modified.is_some();
            if self.library.is_fresh(address.as_str()) || !download.revalidate || !can_tell {
                return Ok(done(known.file.clone()));
            }
        }
        if known.is_none() && self.library.is_gone(address.as_str()) {
            return Ok(Got { name: None, requests: 0, bytes: 0 });
        }
        let slots = self.library.slots(download.max_concurrent.get());
        let slot = slots.acquire().await.map_err(|_| Error::internal("the slots for downloads are closed"))?;
        let answer = self.patiently(&address, known.as_ref(), download, sink, &sent).await;
        drop(slot);
        let answer = match (answer, known) {
            (Ok(answer), None) => answer,
            (Ok(answer @ Answer::File { .. }), Some(_)) => answer,
            // What was fetched once stays, also where its server has it no longer, or cannot tell now.
            (Ok(Answer::Unchanged | Answer::Gone) | Err(_), Some(known)) => {
                self.library.set_fresh(address.as_str());
                return Ok(done(known.file));
            }
            (Err(error), None) => return Err(error.while_doing(format!("fetching {}", self.shown(&address)))),
        };
        let Answer::File { bytes, headers, path } = answer else {
            self.library.set_gone(address.as_str());
            return Ok(Got { name: None, requests: sent.load(Ordering::Relaxed), bytes: 0 });
        };
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let content_type = text(CONTENT_TYPE);
        let size = bytes.len() as u64;
        let kept =
            self.library.keep(address.as_str(), &path, bytes, content_type.as_deref(), text(ETAG), text(LAST_MODIFIED));
        Ok(Got { name: Some(kept.await?), requests: sent.load(Ordering::Relaxed), bytes: size })
    }

    /// The address of a row; one without a host is meant to be on the API's.
    fn address(&self, url: &str) -> Result<Url> {
        let base = self.api.as_ref().and_then(|(client, _)| Url::parse(&format!("{}/", client.url())).ok());
        let parsed = match (Url::parse(url), base) {
            (Err(url::ParseError::RelativeUrlWithoutBase), Some(base)) => base.join(url),
            (parsed, _) => parsed,
        };
        let shown = || self.redactor.redact(url).chars().take(200).collect::<String>();
        let address =
            parsed.map_err(|error| Error::new(Kind::Data, format!("`{}` is no address", shown())).because(error))?;
        if !matches!(address.scheme(), "http" | "https") {
            return Err(Error::new(Kind::Data, format!("`{}` is no address of a web server", shown()))
                .hint("files are downloaded over http and https"));
        }
        Ok(address)
    }

    /// The address for messages: what stands behind the `?` may be a signature.
    fn shown(&self, address: &Url) -> String {
        let mut plain = address.clone();
        plain.set_query(None);
        plain.set_fragment(None);
        let _ = plain.set_password(None);
        self.redactor.redact(plain.as_str())
    }

    /// Asks again where that may help.
    async fn patiently(
        &self,
        address: &Url,
        known: Option<&Known>,
        download: &Download,
        sink: &dyn Sink,
        sent: &AtomicU64,
    ) -> Result<Answer> {
        let retry = download.retry;
        let mut attempt = 1;
        loop {
            let refused = match self.follow(address, known, download.max_bytes, sent).await {
                Ok(answer) => return Ok(answer),
                Err(refused) => refused,
            };
            if refused.error.kind().disposition() != Disposition::Retry || attempt >= retry.max_attempts {
                return Err(match attempt {
                    1 => refused.error,
                    attempt => refused.error.while_doing(format!("attempt {attempt} of {}", retry.max_attempts)),
                });
            }
            let pause =
                refused.after.map_or(Duration::ZERO, |after| after.min(LONGEST_PAUSE)).max(backoff(&retry, attempt));
            sink.retrying(&format!("{}: {}", self.shown(address), refused.error.chain()), pause);
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    /// Follows redirects to the file.
    async fn follow(&self, first: &Url, known: Option<&Known>, max: u64, sent: &AtomicU64) -> Result<Answer, Refused> {
        let mut address = first.clone();
        for _ in 0..MOST_HOPS {
            let mut request = self.http.get(address.clone()).timeout(PATIENCE);
            if let Some(known) = known {
                if let Some(etag) = &known.etag {
                    request = request.header(IF_NONE_MATCH, etag);
                }
                if let Some(modified) = &known.modified {
                    request = request.header(IF_MODIFIED_SINCE, modified);
                }
            }
            sent.fetch_add(1, Ordering::Relaxed);
            let Taped { status, headers, body } = self.exchange(request, &address, max).await?;
            match status {
                StatusCode::NOT_MODIFIED => return Ok(Answer::Unchanged),
                StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Answer::Gone),
                status if status.is_redirection() => address = self.next(&address, &headers)?,
                status if status.is_success() => {
                    return Ok(Answer::File { bytes: body, headers, path: address.path().to_owned() });
                }
                status => return Err(refused(status, &headers)),
            }
        }
        Err(Error::new(Kind::Source, "the server redirects again and again").into())
    }

    fn next(&self, address: &Url, headers: &HeaderMap) -> Result<Url> {
        let to = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let next = to.and_then(|to| address.join(to).ok()).filter(|next| matches!(next.scheme(), "http" | "https"));
        next.ok_or_else(|| {
            let to = self.redactor.redact(to.unwrap_or("nowhere"));
            Error::new(Kind::Source, format!("the server redirects to {to}"))
        })
    }

    /// One request and its answer, of which the body is read where it is the file.
    async fn exchange(&self, mut request: RequestBuilder, address: &Url, max: u64) -> Result<Taped, Refused> {
        let api = self.api.as_ref().filter(|(client, _)| client.is_own(address));
        let asked = match &self.tape {
            Some(tape) => {
                if let Some(taped) = tape.replayed(self.name(), &request)? {
                    return Ok(taped);
                }
                tape.asked(&request)?
            }
            None => None,
        };
        if let Some((client, style)) = api {
            request = client.authorized(style.as_ref(), request).await?;
        }
        let answer = request.send().await.map_err(|error| unreachable(&error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = if status.is_success() { read(answer, max).await? } else { Bytes::new() };
        if let (Some(tape), Some(asked)) = (&self.tape, asked) {
            tape.keep(self.name(), asked, status, &headers, &body)?;
        }
        Ok(Taped { status, headers, body })
    }

    /// The connection that the rows are from, by which a tape knows its requests.
    fn name(&self) -> &str {
        self.api.as_ref().map_or("downloads", |(client, _)| client.name())
    }
}

/// A body that is not too large.
async fn read(mut answer: Response, max: u64) -> Result<Bytes, Refused> {
    let too_large = || {
        Error::new(Kind::Source, format!("the file has more than {max} bytes"))
            .hint("`max_bytes` of `download` is the largest that is taken")
    };
    if answer.content_length().is_some_and(|length| length > max) {
        return Err(too_large().into());
    }
    let mut bytes = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable(&error))? {
        if (bytes.len() + chunk.len()) as u64 > max {
            return Err(too_large().into());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

fn unreachable(error: &reqwest::Error) -> Error {
    let what = if error.is_timeout() {
        "no whole answer in time"
    } else if error.is_connect() {
        "the server cannot be reached"
    } else {
        "the connection was cut"
    };
    Error::new(Kind::Unavailable, what)
}

fn refused(status: StatusCode, headers: &HeaderMap) -> Refused {
    let kind = match status.as_u16() {
        429 => Kind::RateLimited,
        401 | 403 => Kind::Auth,
        408 | 500 | 502..=504 => Kind::Unavailable,
        _ => Kind::Source,
    };
    let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Refused { error: Error::new(kind, status.to_string()), after: after.map(Duration::from_secs) }
}

/// Exponential backoff with full jitter.
fn backoff(retry: &RetryPolicy, attempt: u32) -> Duration {
    let ceiling = retry.min_backoff.saturating_mul(1 << (attempt - 1).min(20)).min(retry.max_backoff);
    ceiling.mul_f64(rand::random::<f64>())
}
