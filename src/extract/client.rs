//! The client of one connection: its limits, its pauses, its token, and how it tries again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use super::auth::{self, Token};
use super::{Sink, TokenKeeper};
use crate::error::{Context, Disposition, Error, Kind, Result};
use crate::model::connection::HttpConnection;
use crate::model::hook::{Method, Request, RetryPolicy};
use crate::model::pipeline::AuthStyle;
use crate::secret::{ExposeSecret, Redactor, SecretString};
use crate::time::Clock;

/// An answer larger than this is no page.
const LARGEST_BODY: usize = 256 << 20;

/// How many characters of a refusal are told.
const LONGEST_EXCERPT: usize = 300;

/// No server may ask for a longer pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The client of one connection; clones share its limits and its token.
#[derive(Clone)]
pub struct HttpClient {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub name: String,
    pub settings: HttpConnection,
    pub http: reqwest::Client,
    pub tokens: Arc<dyn TokenKeeper>,
    pub redactor: Redactor,
    pub clock: Clock,
    pub token: Mutex<Option<Token>>,
    pub refresh_token: Mutex<Option<SecretString>>,
    limiter: Option<DefaultDirectRateLimiter>,
    slots: Semaphore,
    /// A `Retry-After` holds for the whole connection.
    quiet_until: Mutex<Option<tokio::time::Instant>>,
    sent: AtomicU64,
}

/// What came back.
pub(super) struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
}

struct Refused {
    error: Error,
    retry: bool,
    after: Option<Duration>,
    unauthorized: Option<u64>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let retry = error.kind().disposition() == Disposition::Retry;
        Self { error, retry, after: None, unauthorized: None }
    }
}

impl HttpClient {
    /// Opens the client of a connection; nothing is sent yet.
    pub fn open(
        name: &str,
        connection: &HttpConnection,
        tokens: Arc<dyn TokenKeeper>,
        redactor: Redactor,
        clock: Clock,
    ) -> Result<Self> {
        let doing = || format!("opening the connection `{name}`");
        let mut headers = HeaderMap::new();
        for (header, value) in &connection.headers {
            let header: HeaderName = header.parse().context(Kind::Connection, doing)?;
            let mut value = HeaderValue::from_str(value.expose_secret()).context(Kind::Connection, doing)?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("haul/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(Duration::from_secs(10))
            .redirect(same_host())
            .tcp_nodelay(true)
            .build()
            .context(Kind::Connection, doing)?;
        let limiter = connection.rate.map(|rate| {
            let period = rate.per / rate.requests.get();
            let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_second(rate.requests));
            RateLimiter::direct(quota)
        });
        let inner = Inner {
            name: name.to_owned(),
            settings: connection.clone(),
            http,
            tokens,
            redactor,
            clock,
            token: Mutex::default(),
            refresh_token: Mutex::default(),
            limiter,
            slots: Semaphore::new(connection.max_concurrent.max(1)),
            quiet_until: Mutex::default(),
            sent: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The address that paths are appended to.
    pub fn url(&self) -> &str {
        &self.inner.settings.url
    }

    /// Asks for one address of the API once, without a retry: whether it is there, and whether it takes who we are.
    ///
    /// `path` is appended to the connection's address. Returns one sentence on the answer.
    ///
    /// # Errors
    /// The server cannot be reached, refuses who we are, or answers with an error to a `path` that was given.
    pub async fn probe(&self, path: Option<&str>) -> Result<String> {
        let url = format!("{}{}", self.url(), path.unwrap_or_default());
        let request = Request { method: Method::Get, url, params: Vec::new(), headers: Vec::new(), body: None };
        let mut tried = self.once(&request, None).await;
        if let Err(refused) = &tried
            && refused.unauthorized.is_some()
            && auth::renew(&self.inner, refused.unauthorized).await?
        {
            tried = self.once(&request, None).await;
        }
        match tried {
            Ok(answer) => Ok(format!("it answered {} bytes", answer.body.len())),
            // Without a path of its own, the root of an API need not exist: an answer is all that can be asked for.
            Err(refused) if path.is_none() && refused.error.kind() == Kind::Source => {
                Ok(format!("it answered: {}", refused.error.chain()))
            }
            Err(refused) => {
                Err(refused.error.while_doing(format!("asking {}", self.inner.redactor.redact(&request.url))))
            }
        }
    }

    /// How many requests may be under way at once.
    pub(super) fn width(&self) -> usize {
        self.inner.settings.max_concurrent.max(1)
    }

    /// How many requests were sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.inner.sent.load(Ordering::Relaxed)
    }

    /// Sends a request until an answer is taken by `read`, or nothing is left to try.
    pub(super) async fn fetch<T>(
        &self,
        request: &Request,
        style: Option<&AuthStyle>,
        retry: &RetryPolicy,
        sink: &dyn Sink,
        cancel: &CancellationToken,
        read: impl Fn(Answer) -> Result<T>,
    ) -> Result<T> {
        let (mut attempt, mut renewed, mut broken) = (1, false, 0);
        loop {
            let tried = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::new(Kind::Cancelled, "stopped")),
                tried = self.once(request, style) => tried.and_then(|answer| read(answer).map_err(|error| {
                    // A body that is no JSON was most likely cut on its way.
                    let retry = error.kind() == Kind::Unavailable;
                    Refused { error, retry, after: None, unauthorized: None }
                })),
            };
            let refused = match tried {
                Ok(value) => return Ok(value),
                Err(refused) => refused,
            };
            if refused.unauthorized.is_some() && !renewed && auth::renew(&self.inner, refused.unauthorized).await? {
                renewed = true;
                continue;
            }
            broken += u32::from(refused.error.chain().contains("is not JSON"));
            if !refused.retry || attempt >= retry.max_attempts || broken > 2 {
                return Err(refused.error.while_doing(format!(
                    "asking {} (attempt {attempt} of {})",
                    self.inner.redactor.redact(&request.url),
                    retry.max_attempts
                )));
            }
            let pause = match refused.after {
                Some(asked) => self.quiet(asked.min(LONGEST_PAUSE)).await,
                None => jitter(retry, attempt),
            };
            sink.retrying(&self.inner.redactor.redact(&refused.error.chain()), pause);
            tokio::select! {
                () = cancel.cancelled() => return Err(Error::new(Kind::Cancelled, "stopped")),
                () = tokio::time::sleep(pause) => {}
            }
            attempt += 1;
        }
    }

    /// Makes the whole connection quiet for a while.
    async fn quiet(&self, pause: Duration) -> Duration {
        let until = tokio::time::Instant::now() + pause;
        let mut quiet = self.inner.quiet_until.lock().await;
        if quiet.is_none_or(|old| old < until) {
            *quiet = Some(until);
        }
        pause
    }

    async fn once(&self, request: &Request, style: Option<&AuthStyle>) -> Result<Answer, Refused> {
        let inner = &*self.inner;
        let _slot = inner.slots.acquire().await.map_err(|_| Error::internal("the connection's slots are closed"))?;
        let quiet = *inner.quiet_until.lock().await;
        if let Some(until) = quiet {
            tokio::time::sleep_until(until).await;
        }
        if let Some(limiter) = &inner.limiter {
            limiter.until_ready().await;
        }
        let (builder, serial) = auth::authorize(inner, style, self.build(request)).await?;
        inner.sent.fetch_add(1, Ordering::Relaxed);
        let mut answer =
            builder.timeout(inner.settings.timeout).send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let headers = answer.headers().clone();
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(Error::new(Kind::Source, "the answer is larger than 256 MiB")
                    .hint("ask for smaller pages")
                    .into());
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(Answer { headers, body: body.freeze() });
        }
        Err(self.refused(status, &headers, &body, serial))
    }

    fn build(&self, request: &Request) -> RequestBuilder {
        let http = &self.inner.http;
        let mut builder = match request.method {
            Method::Get => http.get(&request.url),
            Method::Post => http.post(&request.url),
        };
        if !request.params.is_empty() {
            builder = builder.query(&request.params);
        }
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some(body) = &request.body {
            builder = builder.header("content-type", "application/json").body(body.clone());
        }
        builder
    }

    fn unreachable(&self, error: &reqwest::Error) -> Refused {
        let what = if error.is_timeout() {
            format!("no whole answer within {:?}", self.inner.settings.timeout)
        } else if error.is_connect() {
            "the server cannot be reached".to_owned()
        } else {
            "the connection was cut".to_owned()
        };
        let mut cause = String::new();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            cause = format!(": {inner}");
            source = inner.source();
        }
        Error::new(Kind::Unavailable, self.inner.redactor.redact(&format!("{what}{cause}")))
            .hint(format!("`haul connections test {}` tries it alone", self.inner.name))
            .into()
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], serial: Option<u64>) -> Refused {
        let excerpt = excerpt(body, &self.inner.redactor);
        let kind = match status.as_u16() {
            401 | 403 => Kind::Auth,
            429 => Kind::RateLimited,
            408 | 500 | 502 | 503 | 504 => Kind::Unavailable,
            _ => Kind::Source,
        };
        let mut error = Error::new(kind, format!("{status} {excerpt}").trim().to_owned());
        if kind == Kind::Auth {
            error = error.hint(format!("check the credentials: `haul connections test {}`", self.inner.name));
        }
        let retry = matches!(kind, Kind::RateLimited | Kind::Unavailable);
        let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| self.after(text));
        Refused { error, retry, after, unauthorized: serial.filter(|_| status == StatusCode::UNAUTHORIZED) }
    }

    /// The pause of a `Retry-After`: seconds, or until a date (RFC 9110, section 10.2.3).
    fn after(&self, text: &str) -> Option<Duration> {
        if let Ok(seconds) = text.trim().parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let date = httpdate::parse_http_date(text.trim()).ok()?;
        let until = crate::time::Instant::from(date);
        Some((until - self.inner.clock.now()).to_std().unwrap_or_default())
    }
}

/// The beginning of an answer, for people. Secrets go first: one that is cut in half is no longer known.
pub(super) fn excerpt(body: &[u8], redactor: &Redactor) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(LONGEST_EXCERPT * 50).collect();
    redactor.redact(&text).chars().take(LONGEST_EXCERPT).collect()
}

/// A redirect to another host would carry our credentials there.
fn same_host() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let same = attempt.previous().first().is_some_and(|first| {
            first.host_str() == attempt.url().host_str() && first.scheme() == attempt.url().scheme()
        });
        if !same {
            return attempt.error("the server redirects to another host");
        }
        if attempt.previous().len() > 5 { attempt.error("too many redirects") } else { attempt.follow() }
    })
}

/// Exponential backoff with full jitter: anything from nothing to the doubled pause.
fn jitter(retry: &RetryPolicy, attempt: u32) -> Duration {
    let ceiling = retry.min_backoff.saturating_mul(1 << (attempt - 1).min(20)).min(retry.max_backoff);
    ceiling.mul_f64(rand::random::<f64>())
}
