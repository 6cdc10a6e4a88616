//! One call: sent with a token, tried again while that may help, given up when somebody wants to stop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, IF_MATCH, RETRY_AFTER};
use reqwest::{RequestBuilder, StatusCode};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::auth::SCOPES;
use super::{BigQuery, PATIENCE, Refused};
use crate::error::{Error, Kind, Result};
use crate::model::cost::Receipts;
use crate::model::hook::RetryPolicy;

/// So many calls in a row may stay without any answer.
const BROKEN_ATTEMPTS: u32 = 3;

/// An answer may not be longer.
const LARGEST_BODY: usize = 256 << 20;

/// A pause that the service asks for is cut at this.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// Who waits for an answer, and how long.
pub struct Caller<'a> {
    /// How often and how patiently a call is tried again.
    pub retry: &'a RetryPolicy,
    /// The wish to stop.
    pub cancel: &'a CancellationToken,
    /// Is told of every call that is going to be sent again, and after which pause.
    pub retrying: &'a (dyn Fn(&str, Duration) + Send + Sync),
    /// Counts the calls that were sent.
    pub sent: &'a AtomicU64,
    /// Is told what jobs were billed for that the caller has waited for.
    pub receipts: &'a Receipts,
}

/// An answer of any status.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The answer as what it is when it is no success.
    pub fn refused(&self) -> Refused {
        let after = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Refused::answer(self.status.as_u16(), &self.body, after.map(Duration::from_secs))
    }

    /// The text of a header.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl BigQuery {
    /// Tries a call until it is answered, or refused for good.
    pub(super) async fn patiently<T, F: Future<Output = Result<T, Refused>>>(
        &self,
        caller: &Caller<'_>,
        call: impl Fn() -> F,
    ) -> Result<T, Refused> {
        self.patiently_for(caller, PATIENCE, call).await
    }

    /// The same with another patience for one call.
    pub(super) async fn patiently_for<T, F: Future<Output = Result<T, Refused>>>(
        &self,
        caller: &Caller<'_>,
        patience: Duration,
        call: impl Fn() -> F,
    ) -> Result<T, Refused> {
        let (mut attempt, mut broken, mut renewed) = (1, 0, false);
        loop {
            caller.sent.fetch_add(1, Ordering::Relaxed);
            let answered = tokio::time::timeout(patience, call());
            let refused = match self.unless_cancelled(caller, answered).await? {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(refused)) => self.told(refused),
                Err(_) => {
                    let seconds = patience.as_secs();
                    Error::new(Kind::Unavailable, format!("no whole answer within {seconds} s")).into()
                }
            };
            if refused.unauthorized && !renewed {
                renewed = true;
                self.inner.tokens.token(SCOPES, true).await.map_err(|error| self.told(Refused::token(&error)))?;
                continue;
            }
            broken += u32::from(refused.broken);
            if !refused.retry || attempt >= caller.retry.max_attempts || broken >= BROKEN_ATTEMPTS {
                // Answers that break off have fewer attempts.
                let most = if broken >= BROKEN_ATTEMPTS { attempt } else { caller.retry.max_attempts };
                let error = refused.error;
                let error =
                    if attempt == 1 { error } else { error.while_doing(format!("attempt {attempt} of {most}")) };
                return Err(Refused { error, ..refused });
            }
            let asked = refused.after.unwrap_or_default().min(LONGEST_PAUSE);
            let pause = jitter(caller.retry, attempt).max(asked);
            (caller.retrying)(&self.inner.redactor.redact(&refused.error.chain()), pause);
            self.unless_cancelled(caller, tokio::time::sleep(pause)).await?;
            attempt += 1;
        }
    }

    /// Asks for a resource, by the parts of its path behind `projects/` and the parameters of its query.
    pub(super) async fn get(
        &self,
        caller: &Caller<'_>,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Bytes, Refused> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.patiently(caller, || self.once(self.inner.http.get(url.clone()), &url)).await
    }

    /// Changes a resource by the members that are sent (RFC 7396), by the parts of its path behind `projects/`; with an `etag`
    /// only where it is still the one that had it, and says whether it was.
    pub(super) async fn patch(
        &self,
        caller: &Caller<'_>,
        path: &[&str],
        body: &serde_json::Value,
        etag: Option<&str>,
    ) -> Result<bool, Refused> {
        let url = self.url(path)?;
        self.patiently(caller, || async {
            let request = self.inner.http.patch(url.clone()).json(body);
            let request = match etag {
                Some(etag) => request.header(IF_MATCH, etag),
                None => request,
            };
            let answer = self.exchange(request, &url, SCOPES).await?;
            match answer.status {
                status if status.is_success() => Ok(true),
                StatusCode::PRECONDITION_FAILED => Ok(false),
                _ => Err(answer.refused()),
            }
        })
        .await
    }

    /// Removes a resource, by the parts of its path behind `projects/`.
    pub(super) async fn delete(&self, caller: &Caller<'_>, path: &[&str]) -> Result<Bytes, Refused> {
        let url = self.url(path)?;
        self.patiently(caller, || self.once(self.inner.http.delete(url.clone()), &url)).await
    }

    /// Sends a resource as JSON, by the parts of its path behind `projects/`.
    pub(super) async fn post(
        &self,
        caller: &Caller<'_>,
        path: &[&str],
        body: &serde_json::Value,
    ) -> Result<Bytes, Refused> {
        let url = self.url(path)?;
        self.patiently(caller, || self.once(self.inner.http.post(url.clone()).json(body), &url)).await
    }

    fn url(&self, path: &[&str]) -> Result<Url> {
        let mut url = Url::parse(&format!("{}/projects", self.inner.base)).map_err(|error| {
            let endpoint = self.inner.settings.endpoint.as_deref().unwrap_or_default();
            let text = format!("`{endpoint}` is no address: {error}");
            Error::new(Kind::Connection, text).hint("endpoint = \"http://localhost:9050\"")
        })?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        Ok(url)
    }

    async fn once(&self, request: RequestBuilder, url: &Url) -> Result<Bytes, Refused> {
        let answer = self.exchange(request, url, SCOPES).await?;
        if answer.status.is_success() { Ok(answer.body) } else { Err(answer.refused()) }
    }

    /// Sends one request with a token, and reads its whole answer, whatever it is.
    pub(super) async fn exchange(
        &self,
        request: RequestBuilder,
        url: &Url,
        scopes: &[&str],
    ) -> Result<Answer, Refused> {
        let token = self.inner.tokens.token(scopes, false).await.map_err(|error| Refused::token(&error))?;
        let place = url.origin().ascii_serialization();
        let cut = |error: &reqwest::Error| {
            let what = if error.is_connect() { "the service cannot be reached" } else { "the connection was cut" };
            Refused::unreachable(what, error, &place)
        };
        let mut answer = request.bearer_auth(token).send().await.map_err(|error| cut(&error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| cut(&error))? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(Error::new(Kind::Source, "the answer is larger than 256 MiB").into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body: body.freeze() })
    }

    /// Takes secrets out, and says which connection it was.
    fn told(&self, refused: Refused) -> Refused {
        let name = &self.inner.name;
        let error = match refused.error.kind() {
            Kind::Auth | Kind::Unavailable => {
                refused.error.hint(format!("`haul connections test {name}` tries it alone"))
            }
            _ => refused.error,
        };
        Refused { error, ..refused }
    }

    /// Waits for something, but not beyond the wish to stop.
    pub(super) async fn unless_cancelled<T>(
        &self,
        caller: &Caller<'_>,
        work: impl Future<Output = T>,
    ) -> Result<T, Refused> {
        tokio::select! {
            biased;
            () = caller.cancel.cancelled() => Err(Error::new(Kind::Cancelled, "stopped").into()),
            done = work => Ok(done),
        }
    }
}

/// Exponential backoff with full jitter: anything from nothing to the doubled pause.
fn jitter(retry: &RetryPolicy, attempt: u32) -> Duration {
    let ceiling = retry.min_backoff.saturating_mul(1 << (attempt - 1).min(20)).min(retry.max_backoff);
    ceiling.mul_f64(rand::random::<f64>())
}
