//! The client of one connection: its limits, its pauses, its token, and how it tries again.

use std::future::Future;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::super::cassette::{Tape, Taped};
use super::answer::{self, Answer, Fate, LONGEST_PAUSE, Manner, Refused};
use super::auth::{self, Token};
use super::cache::{Cache, Kept};
use super::limits::{Limits, Shift, Slot};
use super::{Sink, TokenKeeper, wire};
use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::HttpConnection;
use crate::model::hook::{AuthStyle, Method, Request, RetryPolicy};
use crate::secret::{ExposeSecret, Redactor, SecretString};
use crate::time::Clock;

/// So many broken bodies of one page are no accident.
const BROKEN_ATTEMPTS: u32 = 3;

/// So long a request waits in all for a server that says when to come back, without an attempt being counted.
const PATIENCE: Duration = Duration::from_hours(2);

/// The client of one connection; clones share its limits and its token.
#[derive(Clone)]
pub struct HttpClient {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub name: String,
    pub settings: HttpConnection,
    pub http: reqwest::Client,
    /// For addresses elsewhere, which learn nothing of who we are.
    pub stranger: reqwest::Client,
    pub tokens: Arc<dyn TokenKeeper>,
    pub redactor: Redactor,
    pub clock: Clock,
    pub token: Mutex<Option<Token>>,
    pub refresh_token: Mutex<Option<SecretString>>,
    pub limits: Limits,
    /// How many pulls have begun: who came first is served first.
    pulls: AtomicU64,
    /// Records what goes over the wire, or stands in its place.
    pub tape: OnceLock<Tape>,
}

/// What one pull wants of the client, whatever the page.
pub(super) struct Errand<'a> {
    pub style: Option<&'a AuthStyle>,
    pub retry: &'a RetryPolicy,
    pub sink: &'a dyn Sink,
    pub cancel: &'a CancellationToken,
    /// Counts the requests that were sent for it.
    pub sent: &'a AtomicU64,
    /// Counts those of them that are under way.
    pub flying: &'a AtomicU64,
    /// The limits of the step itself, under those of the connection.
    pub gate: Option<&'a Limits>,
    /// Of those who wait for the connection the smallest comes first.
    pub rank: u64,
    /// What is said of answers.
    pub manner: &'a Manner,
    /// Whether the address may be elsewhere: then nothing of who we are goes there.
    pub abroad: bool,
    /// The status of the last answer that came.
    pub status: &'a AtomicU16,
}

/// What a request that is under way holds: a slot of its connection, and one of its step.
#[derive(Debug)]
pub(super) struct Held {
    _own: Slot,
    _gate: Option<Slot>,
}

/// Counts a request for as long as it is under way, also when nobody waits for it any more.
struct Flying<'a>(&'a AtomicU64);

impl<'a> Flying<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Hears nothing of retries.
pub(super) struct Silent;

impl Sink for Silent {
    fn put(&self, _page: super::super::Page) -> Result<()> {
        Ok(())
    }

    fn retrying(&self, _reason: &str, _pause: Duration) {}
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
        let http = identified(connection, plain()).map_err(|error| error.while_doing(doing()))?;
        let http = http.default_headers(headers).redirect(same_host()).build().context(Kind::Connection, doing)?;
        let stranger = plain().build().context(Kind::Connection, doing)?;
        let interval = connection.rate.map(|rate| rate.per / rate.requests.get());
        let inner = Inner {
            name: name.to_owned(),
            settings: connection.clone(),
            http,
            stranger,
            tokens,
            redactor,
            clock,
            token: Mutex::default(),
            refresh_token: Mutex::default(),
            limits: Limits::new(connection.max_concurrent, interval),
            pulls: AtomicU64::new(0),
            tape: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Lets everything that is asked from now on be recorded, or be answered by what was.
    pub fn tape(&self, tape: Tape) {
        // A second tape would be a defect of the caller; the first one stays.
        let _ = self.inner.tape.set(tape);
    }

    /// The connection's name.
    pub(in crate::extract) fn name(&self) -> &str {
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
        let (sent, status, cancel) = (AtomicU64::new(0), AtomicU16::new(0), CancellationToken::new());
        let (retry, manner) = (RetryPolicy::default(), Manner::default());
        let errand = Errand {
            style: None,
            retry: &retry,
            sink: &Silent,
            cancel: &cancel,
            sent: &sent,
            flying: &AtomicU64::new(0),
            gate: None,
            rank: 0,
            manner: &manner,
            abroad: false,
            status: &status,
        };
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
            if let Some(wait) = refused.wait.filter(|_| attempt < most) {
                errand.sink.retrying(&self.inner.redactor.redact(&refused.error.chain()), wait);
                if !self.is_replay() {
                    self.inner.limits.quiet(wait);
                    self.unless_cancelled(errand, tokio::time::sleep(wait)).await?;
                }
                attempt += 1;
                continue;
            }
            let asked = refused.patience().filter(|asked| *asked <= patience);
            let replayed = self.inner.tape.get().is_some_and(Tape::is_replay);
            if let Some(asked) = asked.filter(|_| !replayed) {
                patience -= asked;
                errand.sink.retrying(&self.inner.redactor.redact(&refused.error.chain()), asked);
                self.unless_cancelled(errand, tokio::time::sleep(asked)).await?;
                continue;
            }
            if !refused.retry || attempt >= most || broken >= BROKEN_ATTEMPTS {
                // Answers that break off have fewer attempts.
                return Err(refused.last(attempt, if broken >= BROKEN_ATTEMPTS { attempt } else { most }));
            }
            let jitter = jitter(errand.retry, attempt);
            let pause = match refused.after {
                Some(asked) => asked.min(LONGEST_PAUSE).max(jitter),
                None => jitter,
            };
            errand.sink.retrying(&self.inner.redactor.redact(&refused.error.chain()), pause);
            if self.is_replay() {
                attempt += 1;
                continue;
            }
            self.unless_cancelled(errand, tokio::time::sleep(pause)).await?;
            attempt += 1;
        }
    }

    /// Whether answers come from a cassette: no pause has to be kept then.
    pub(super) fn is_replay(&self) -> bool {
        self.inner.tape.get().is_some_and(Tape::is_replay)
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
    pub(super) async fn once(&self, request: &Request, errand: &Errand<'_>) -> Result<(Answer, Held), Refused> {
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
        let replayed = inner.tape.get().is_some_and(Tape::is_replay);
        if let (Err(Refused { after: Some(after), .. }), false) = (&answered, replayed) {
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
        let _flying = Flying::begin(errand.flying);
        let inner = &*self.inner;
        // What is recorded is whole, and what is replayed depends on nothing that was kept.
        let tape = inner.tape.get();
        let kept = if tape.is_none() { self.kept(request, errand).await } else { None };
        let abroad = errand.abroad && !self.is_home(&request.url);
        let http = if abroad { &inner.stranger } else { &inner.http };
        let mut builder = wire::build(http, inner, request).timeout(inner.settings.timeout);
        if let Some(Taped { status, headers, body }) =
            tape.map(|tape| tape.replayed(&inner.name, &builder)).transpose()?.flatten()
        {
            errand.sent.fetch_add(1, Ordering::Relaxed);
            errand.status.store(status.as_u16(), Ordering::Relaxed);
            let answer = Answer { status, headers, body, file: None, fate: Fate::Rows, unchanged: false };
            return answer::judge(inner, errand.manner, answer, None);
        }
        let asked = tape.map(|tape| tape.asked(&builder)).transpose()?.flatten();
        if let Some((_, kept)) = &kept {
            for (name, condition) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
                if let Some(value) = kept.headers.get(name) {
                    builder = builder.header(condition, value);
                }
            }
        }
        let mut serial = None;
        if !abroad {
            (builder, serial) = auth::authorize(&self.inner, errand.style, builder).await?;
        }
        let mut built = builder.build().map_err(|error| wire::unreachable(inner, &error))?;
        if !abroad {
            auth::sign(inner, errand.style, &mut built)?;
        }
        errand.sent.fetch_add(1, Ordering::Relaxed);
        let mut answer = wire::send(http, inner, errand.manner, built).await?;
        errand.status.store(answer.status.as_u16(), Ordering::Relaxed);
        if let (Some(tape), Some(asked)) = (tape, asked) {
            tape.keep(&inner.name, asked, answer.status, &answer.headers, &answer.body)?;
        }
        if let Some((name, kept)) = kept.filter(|_| answer.status == StatusCode::NOT_MODIFIED) {
            if let Some(cache) = &errand.manner.cache {
                cache.touch(&name, inner.clock.now());
            }
            answer =
                Answer { status: StatusCode::OK, headers: kept.headers, body: kept.body, unchanged: true, ..answer };
        }
        answer::judge(inner, errand.manner, answer, serial)
    }

    /// The kept answer to a request, where there is one, with its name.
    async fn kept(&self, request: &Request, errand: &Errand<'_>) -> Option<(String, Kept)> {
        let cache = errand.manner.cache.clone()?;
        let name = Cache::name(request, &auth::owner(&self.inner));
        let load = tokio::task::spawn_blocking(move || cache.load(&name).map(|kept| (name, kept)));
        load.await.ok().flatten()
    }

    /// Keeps an answer that was taken, so that it need not be sent again.
    pub(super) async fn keep(&self, request: &Request, manner: &Manner, answer: &Answer) -> Result<()> {
        let Some(cache) = manner.cache.clone() else { return Ok(()) };
        let taped = self.inner.tape.get().is_some();
        if taped
            || answer.unchanged
            || answer.status != StatusCode::OK
            || answer.file.is_some()
            || answer.fate != Fate::Rows
        {
            return Ok(());
        }
        let name = Cache::name(request, &auth::owner(&self.inner));
        let (headers, body) = (answer.headers.clone(), answer.body.clone());
        let kept = tokio::task::spawn_blocking(move || cache.keep(&name, &headers, &body));
        kept.await.context(Kind::Internal, || "keeping an answer".to_owned())?
    }

    /// Whether an address is of the connection's own host and port.
    fn is_home(&self, url: &str) -> bool {
        let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
        origin(url) == origin(&self.inner.settings.url)
    }
}

/// What all clients have.
fn plain() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("haul/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
}

/// A client with our certificate, and with the authorities that are believed.
fn identified(connection: &HttpConnection, mut builder: reqwest::ClientBuilder) -> Result<reqwest::ClientBuilder> {
    if let Some(own) = &connection.certificate {
        let pem = format!("{}\n{}\n", own.key.expose_secret().trim(), own.certificate.trim());
        // The parser's message could quote the key.
        let identity = reqwest::Identity::from_pem(pem.as_bytes()).map_err(|_| {
            Error::new(Kind::Connection, "`client_cert` and `client_key` are not a certificate and its key in PEM")
                .hint("client_cert = { file = \"client.pem\" }, client_key = { file = \"client.key\" }")
        })?;
        builder = builder.identity(identity);
    }
    if let Some(pem) = &connection.authorities {
        let authorities = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).ok().filter(|all| !all.is_empty());
        let authorities = authorities.ok_or_else(|| {
            Error::new(Kind::Connection, "`ca` has no certificate in PEM").hint("ca = { file = \"ca.pem\" }")
        })?;
        builder = builder.tls_certs_merge(authorities);
    }
    Ok(builder)
}

/// A redirect to another host, or to another port of it, would carry our credentials there.
pub(in crate::extract) fn same_host() -> reqwest::redirect::Policy {
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
