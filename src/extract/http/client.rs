//! The client of one connection: its limits, its pauses, its token, and how it tries again.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::auth::{self, Token};
use super::limits::{Limits, Refusal, Shift, Slot};
use super::{Sink, TokenKeeper};
use crate::error::{Context, Disposition, Error, Kind, Result};
use crate::model::connection::HttpConnection;
use crate::model::hook::{AuthStyle, Method, Request, RetryPolicy};
use crate::secret::{ExposeSecret, Redactor, SecretString};
use crate::time::Clock;

/// An answer larger than this is no page.
const LARGEST_BODY: usize = 256 << 20;

/// So many broken bodies of one page are no accident.
const BROKEN_ATTEMPTS: u32 = 3;

/// How many characters of a refusal are told.
const LONGEST_EXCERPT: usize = 300;

/// No server may ask for a longer pause.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// So long a request waits in all for a server that says when to come back, without an attempt being counted.
const PATIENCE: Duration = Duration::from_hours(2);

/// A server that says less than this does not ask for patience.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);

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
    limits: Limits,
    /// How many pulls have begun: who came first is served first.
    pulls: AtomicU64,
}

/// What came back.
pub(super) struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What one pull wants of the client, whatever the page.
pub(super) struct Errand<'a> {
    pub style: Option<&'a AuthStyle>,
    pub retry: &'a RetryPolicy,
    pub sink: &'a dyn Sink,
    pub cancel: &'a CancellationToken,
    /// Counts the requests that were sent for it.
    pub sent: &'a AtomicU64,
    /// The limits of the step itself, under those of the connection.
    pub gate: Option<&'a Limits>,
    /// Of those who wait for the connection the smallest comes first.
    pub rank: u64,
}

/// An answer that was not taken.
pub(super) struct Refused {
    error: Error,
    retry: bool,
    /// The body is no JSON: cut on its way, or never any.
    broken: bool,
    after: Option<Duration>,
    unauthorized: Option<u64>,
    /// Whether it says that the server is pressed too hard.
    refusal: Option<Refusal>,
}

/// What a request that is under way holds: a slot of its connection, and one of its step.
#[derive(Debug)]
pub(super) struct Held {
    _own: Slot,
    _gate: Option<Slot>,
}

/// Hears nothing of retries.
struct Silent;

impl Sink for Silent {
    fn put(&self, _page: super::super::Page) -> Result<()> {
        Ok(())
    }

    fn retrying(&self, _reason: &str, _pause: Duration) {}
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let retry = error.kind().disposition() == Disposition::Retry;
        Self { error, retry, broken: false, after: None, unauthorized: None, refusal: None }
    }
}

impl Refused {
    /// A body that is no JSON as a whole.
    pub fn broken(error: Error) -> Self {
        Self { broken: true, ..Self::from(error) }
    }

    /// The pause of a server that asks for patience: it will take the request then, and no attempt is lost on it.
    fn patience(&self) -> Option<Duration> {
        let asked = self.after.filter(|asked| *asked >= SHORTEST_PATIENCE && self.refusal == Some(Refusal::TooMany));
        asked.map(|asked| asked.min(LONGEST_PAUSE))
    }

    /// What is told when nothing is left to try.
    fn last(self, attempt: u32, most: u32) -> Error {
        if self.broken {
            // A body that stays broken is the source's fault, not the network's.
            return Error::new(Kind::Source, format!("attempt {attempt} of {most}")).because(self.error);
        }
        if attempt == 1 { self.error } else { self.error.while_doing(format!("attempt {attempt} of {most}")) }
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
        let interval = connection.rate.map(|rate| rate.per / rate.requests.get());
        let inner = Inner {
            name: name.to_owned(),
            settings: connection.clone(),
            http,
            tokens,
            redactor,
            clock,
            token: Mutex::default(),
            refresh_token: Mutex::default(),
            limits: Limits::new(connection.max_concurrent, interval),
            pulls: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The connection's name.
    pub(super) fn name(&self) -> &str {
        &self.inner.name
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
        let (sent, cancel) = (AtomicU64::new(0), CancellationToken::new());
        let retry = RetryPolicy::default();
        let errand =
            Errand { style: None, retry: &retry, sink: &Silent, cancel: &cancel, sent: &sent, gate: None, rank: 0 };
        let mut tried = self.once(&request, &errand).await.map(|(answer, _)| answer);
        if let Err(refused) = &tried
            && refused.unauthorized.is_some()
            && auth::renew(&self.inner, refused.unauthorized).await?
        {
            tried = self.once(&request, &errand).await.map(|(answer, _)| answer);
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

    /// The place of a new pull among those who wait for the connection.
    pub(super) fn rank(&self) -> u64 {
        self.inner.pulls.fetch_add(1, Ordering::Relaxed)
    }

    /// How many requests may be under way at once.
    pub(super) fn width(&self) -> usize {
        self.inner.settings.max_concurrent.max(1)
    }

    /// Sends a request until an answer is taken by `read`, or nothing is left to try.
    ///
    /// The slot that comes with the answer is the request's until it is dropped.
    pub(super) async fn fetch<T>(
        &self,
        request: &Request,
        errand: &Errand<'_>,
        read: impl Fn(Answer) -> Result<T, Refused>,
    ) -> Result<(T, Held)> {
        let most = errand.retry.max_attempts;
        let (mut attempt, mut renewed, mut broken, mut patience) = (1, false, 0, PATIENCE);
        loop {
            let answered = self.unless_cancelled(errand, self.once(request, errand)).await?;
            let mut refused = match answered.and_then(|(answer, held)| Ok((read(answer)?, held))) {
                Ok(value) => return Ok(value),
                Err(refused) => refused,
            };
            if refused.unauthorized.is_some() && !renewed {
                match self.unless_cancelled(errand, auth::renew(&self.inner, refused.unauthorized)).await? {
                    Ok(true) => {
                        renewed = true;
                        continue;
                    }
                    Ok(false) => {}
                    Err(error) => refused = error.into(),
                }
            }
            broken += u32::from(refused.broken);
            let asked = refused.patience().filter(|asked| *asked <= patience);
            if let Some(asked) = asked {
                patience -= asked;
                errand.sink.retrying(&self.inner.redactor.redact(&refused.error.chain()), asked);
                self.inner.limits.quiet(asked);
                self.unless_cancelled(errand, tokio::time::sleep(asked)).await?;
                continue;
            }
            if !refused.retry || attempt >= most || broken >= BROKEN_ATTEMPTS {
                return Err(refused.last(attempt, most));
            }
            let jitter = jitter(errand.retry, attempt);
            let pause = match refused.after {
                Some(asked) => asked.min(LONGEST_PAUSE).max(jitter),
                None => jitter,
            };
            errand.sink.retrying(&self.inner.redactor.redact(&refused.error.chain()), pause);
            self.unless_cancelled(errand, tokio::time::sleep(pause)).await?;
            attempt += 1;
        }
    }

    /// Waits for something, but not beyond the wish to stop.
    async fn unless_cancelled<T>(&self, errand: &Errand<'_>, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = errand.cancel.cancelled() => {
                // A renewal that is under way may bring a refresh token, and the old one is worth nothing then.
                drop(self.inner.token.lock().await);
                Err(Error::new(Kind::Cancelled, "stopped"))
            }
            done = work => Ok(done),
        }
    }

    /// Sends a request once, in its turn.
    async fn once(&self, request: &Request, errand: &Errand<'_>) -> Result<(Answer, Held), Refused> {
        let inner = &*self.inner;
        let gate = match errand.gate {
            Some(gate) => {
                let slot = gate.slot(errand.rank).await;
                gate.turn().await;
                Some(slot)
            }
            None => None,
        };
        let held = Held { _own: inner.limits.slot(errand.rank).await, _gate: gate };
        let sent = inner.limits.turn().await;
        let answered = self.send(request, errand).await;
        let refusal = answered.as_ref().err().and_then(|refused| refused.refusal);
        if let Err(Refused { after: Some(after), .. }) = &answered {
            inner.limits.quiet((*after).min(LONGEST_PAUSE));
        }
        if let Some(shift) = inner.limits.answered(sent, refusal) {
            errand.sink.paced(&self.told(shift));
        }
        answered.map(|answer| (answer, held))
    }

    /// A change of the pace, for people.
    fn told(&self, shift: Shift) -> String {
        let rate = |rate: f64| if rate < 10.0 { format!("{rate:.1}/s") } else { format!("{rate:.0}/s") };
        match shift {
            Shift::Slower { from, to } => format!(
                "`{}` refuses requests: {} became {}, and grows again slowly",
                self.inner.name,
                rate(from),
                rate(to)
            ),
            Shift::Free => format!("`{}` refuses no more: it is asked at full speed again", self.inner.name),
        }
    }

    async fn send(&self, request: &Request, errand: &Errand<'_>) -> Result<Answer, Refused> {
        let inner = &*self.inner;
        let (builder, serial) = auth::authorize(&self.inner, errand.style, self.build(request)).await?;
        errand.sent.fetch_add(1, Ordering::Relaxed);
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
        if status == StatusCode::NO_CONTENT {
            return Ok(Answer { headers, body: Bytes::from_static(b"null") });
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
            let is_type = |name: &str| name.eq_ignore_ascii_case("content-type");
            let told = request.headers.iter().any(|(name, _)| is_type(name))
                || self.inner.settings.headers.keys().any(|name| is_type(name));
            if !told {
                builder = builder.header(CONTENT_TYPE, "application/json");
            }
            builder = builder.body(body.clone());
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
        if error.is_redirect() {
            let cause = self.inner.redactor.redact(cause.trim_start_matches(": "));
            return Error::new(Kind::Source, cause)
                .hint("credentials are sent to the connection's own host only; if the other is right, change its `url`")
                .into();
        }
        Error::new(Kind::Unavailable, self.inner.redactor.redact(&format!("{what}{cause}")))
            .hint(format!("`haul connections test {}` tries it alone", self.inner.name))
            .into()
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], serial: Option<u64>) -> Refused {
        let excerpt = excerpt(body, &self.inner.redactor);
        let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| self.after(text));
        let kind = match status.as_u16() {
            429 => Kind::RateLimited,
            // Some limit by 403, and say for how long.
            403 if after.is_some() => Kind::RateLimited,
            401 | 403 => Kind::Auth,
            501 | 505 => Kind::Source,
            408 | 500..=599 => Kind::Unavailable,
            _ => Kind::Source,
        };
        let mut error = Error::new(kind, format!("{status} {excerpt}").trim().to_owned()).with_status(status.as_u16());
        if kind == Kind::Auth {
            error = error.hint(format!("check the credentials: `haul connections test {}`", self.inner.name));
        }
        let unauthorized = serial.filter(|_| status == StatusCode::UNAUTHORIZED);
        let refusal = match kind {
            Kind::RateLimited => Some(Refusal::TooMany),
            _ => (status == StatusCode::SERVICE_UNAVAILABLE).then_some(Refusal::Overload),
        };
        Refused { after, unauthorized, refusal, ..error.into() }
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

/// A redirect to another host, or to another port of it, would carry our credentials there.
fn same_host() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let origin = attempt.url().origin();
        if attempt.previous().first().is_none_or(|first| first.origin() != origin) {
            return attempt.error(format!("the server redirects to {}", origin.ascii_serialization()));
        }
        if attempt.previous().len() > 5 {
            attempt.error("the server redirects again and again")
        } else {
            attempt.follow()
        }
    })
}

/// Exponential backoff with full jitter: anything from nothing to the doubled pause.
fn jitter(retry: &RetryPolicy, attempt: u32) -> Duration {
    retry.ceiling(attempt).mul_f64(rand::random::<f64>())
}
