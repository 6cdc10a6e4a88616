//! Files on a web server: exact names only, since nothing lists them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Method, Response, StatusCode};

use super::super::http::same_host;
use super::store::{FileMeta, Opened};
use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::WebFolder;
use crate::secret::{ExposeSecret, Redactor};

/// How often a request is sent at the most, and a body that broke off is gone on with.
const ATTEMPTS: u32 = 5;

/// A web server's folder.
#[derive(Clone)]
pub(super) struct Web {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    folder: WebFolder,
    http: Client,
    redactor: Redactor,
}

impl Web {
    pub fn open(name: &str, folder: &WebFolder, redactor: Redactor) -> Result<Self> {
        let doing = || format!("opening the connection `{name}`");
        let mut headers = HeaderMap::new();
        for (header, value) in &folder.headers {
            let header: HeaderName = header.parse().context(Kind::Connection, doing)?;
            let mut value = HeaderValue::from_str(value.expose_secret()).context(Kind::Connection, doing)?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let http = Client::builder()
            .user_agent(concat!("haul/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_mins(1))
            // The bytes of a file are what its server keeps: a `.gz` is unpacked by its name, not on its way.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .redirect(same_host())
            .build()
            .context(Kind::Connection, doing)?;
        Ok(Self { inner: Arc::new(Inner { name: name.to_owned(), folder: folder.clone(), http, redactor }) })
    }

    fn url(&self, path: &str) -> String {
        let mut url = self.inner.folder.url.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            url.push('/');
            // Names may have a `?` or `#` in them, which would end the path.
            url.push_str(&part.replace('%', "%25").replace('?', "%3F").replace('#', "%23").replace(' ', "%20"));
        }
        url
    }

    async fn send(&self, method: Method, url: &str, headers: &[(HeaderName, String)]) -> Result<Response> {
        let inner = &*self.inner;
        let mut attempt = 1;
        loop {
            let mut request = inner.http.request(method.clone(), url);
            if let Some((user, password)) = &inner.folder.login {
                request = request.basic_auth(user, Some(password.expose_secret()));
            }
            if let Some(token) = &inner.folder.token {
                request = request.bearer_auth(token.expose_secret());
            }
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let again = match request.send().await {
                Ok(answer) if !matches!(answer.status().as_u16(), 408 | 429 | 500 | 502..=504) => return Ok(answer),
                Ok(answer) => Error::new(Kind::Unavailable, answer.status().to_string()),
                Err(error) if error.is_redirect() => {
                    return Err(self.broken(&error, Kind::Source).hint(
                        "credentials are sent to the connection's own host only; if the other is right, change its `url`",
                    ));
                }
                Err(error) => self.broken(&error, Kind::Unavailable),
            };
            if attempt == ATTEMPTS {
                return Err(again
                    .while_doing(format!("attempt {attempt} of {ATTEMPTS}"))
                    .hint(format!("`haul connections test {}` tries it alone", inner.name)));
            }
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    fn broken(&self, error: &reqwest::Error, kind: Kind) -> Error {
        let mut text = "the connection was cut".to_owned();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            text = inner.to_string();
            source = inner.source();
        }
        Error::new(kind, self.inner.redactor.redact(&text))
    }

    fn doing(&self, path: &str) -> String {
        format!("reading {}", self.inner.redactor.redact(&self.url(path)))
    }

    /// What a status means that is neither the file nor its absence.
    fn refused(&self, status: StatusCode, path: &str) -> Error {
        let kind = if matches!(status.as_u16(), 401 | 403) { Kind::Auth } else { Kind::Source };
        Error::new(kind, self.doing(path))
            .because(status.to_string())
            .hint(format!("`haul connections test {}` tries it alone", self.inner.name))
    }

    pub async fn head(&self, path: &str) -> Result<Option<FileMeta>> {
        let url = self.url(path);
        let doing = |error: Error| error.while_doing(self.doing(path));
        let mut answer = self.send(Method::HEAD, &url, &[]).await.map_err(doing)?;
        if matches!(answer.status().as_u16(), 405 | 501) {
            // The body is not read: dropping the answer ends the transfer.
            answer = self.send(Method::GET, &url, &[]).await.map_err(doing)?;
        }
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status if status.is_success() => Ok(Some(meta_of(path, answer.headers()))),
            status => Err(self.refused(status, path)),
        }
    }

    pub async fn read(&self, file: &FileMeta, from: u64) -> Result<Option<Opened>> {
        let Some(answer) = self.get(file, from).await? else { return Ok(None) };
        let (answer, left) = answer;
        let state = Body { web: self.clone(), file: file.clone(), at: from, failed: 0, answer: Some(answer), left };
        let body: BoxStream<'static, Result<Bytes>> = stream::unfold(state, Body::next).boxed();
        Ok(Some(Opened::Remote(body)))
    }

    /// The file's bytes from a place on, of which some may have come already; none where it has changed.
    async fn get(&self, file: &FileMeta, from: u64) -> Result<Option<(Response, Bytes)>> {
        let url = self.url(&file.path);
        let mut headers = Vec::new();
        if from > 0 {
            headers.push((RANGE, format!("bytes={from}-")));
            if file.version.starts_with('"') {
                headers.push((IF_RANGE, file.version.clone()));
            }
        }
        let sent = self.send(Method::GET, &url, &headers).await;
        let mut answer = sent.map_err(|error| error.while_doing(self.doing(&file.path)))?;
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            // There is nothing behind the last byte.
            StatusCode::RANGE_NOT_SATISFIABLE if file.size.is_some_and(|size| size > from) => return Ok(None),
            StatusCode::RANGE_NOT_SATISFIABLE => {}
            status if status.is_success() => {}
            status => return Err(self.refused(status, &file.path)),
        }
        let whole = answer.status() != StatusCode::PARTIAL_CONTENT && answer.status().is_success();
        let now = meta_of(&file.path, answer.headers());
        if now.version != file.version || whole && now.size.is_some() && now.size != file.size {
            return Ok(None);
        }
        let mut left = Bytes::new();
        let mut skipped = 0;
        // A server that sends no parts sends what is known once more.
        while whole && skipped < from {
            let chunk = answer.chunk().await.map_err(|error| self.broken(&error, Kind::Unavailable))?;
            let Some(mut chunk) = chunk else { return Ok(None) };
            let known = usize::try_from(from - skipped).unwrap_or(usize::MAX).min(chunk.len());
            left = chunk.split_off(known);
            skipped += known as u64;
        }
        Ok(Some((answer, left)))
    }

    pub async fn probe(&self) -> Result<String> {
        let answer = self.send(Method::HEAD, &self.inner.folder.url, &[]).await;
        let answer = answer.map_err(|error| error.while_doing(self.doing("")))?;
        match answer.status() {
            status if matches!(status.as_u16(), 401 | 403) => Err(self.refused(status, "")),
            // The folder itself need not be anything: an answer is all that can be asked for.
            status => Ok(format!("it answered {status}")),
        }
    }
}

/// A body that is gone on with where it broke off.
struct Body {
    web: Web,
    file: FileMeta,
    at: u64,
    failed: u32,
    answer: Option<Response>,
    /// What came with the beginning that was known.
    left: Bytes,
}

impl Body {
    async fn next(mut self) -> Option<(Result<Bytes>, Self)> {
        loop {
            if !self.left.is_empty() {
                let left = std::mem::take(&mut self.left);
                self.at += left.len() as u64;
                return Some((Ok(left), self));
            }
            let answer = self.answer.as_mut()?;
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    self.at += chunk.len() as u64;
                    self.failed = 0;
                    return Some((Ok(chunk), self));
                }
                Ok(None) => return None,
                Err(error) => {
                    self.failed += 1;
                    let broken =
                        self.web.broken(&error, Kind::Unavailable).while_doing(self.web.doing(&self.file.path));
                    if self.failed == ATTEMPTS {
                        self.answer = None;
                        return Some((Err(broken), self));
                    }
                    tokio::time::sleep(pause(self.failed)).await;
                    match self.web.get(&self.file, self.at).await {
                        Ok(Some((answer, left))) => (self.answer, self.left) = (Some(answer), left),
                        Ok(None) => {
                            self.answer = None;
                            return Some((Err(broken.hint("the file has changed while it was read")), self));
                        }
                        Err(error) => {
                            self.answer = None;
                            return Some((Err(error), self));
                        }
                    }
                }
            }
        }
    }
}

fn meta_of(path: &str, headers: &HeaderMap) -> FileMeta {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let version = text(ETAG).or_else(|| text(LAST_MODIFIED)).unwrap_or_default();
    FileMeta { path: path.to_owned(), size: text(CONTENT_LENGTH).and_then(|text| text.parse().ok()), version }
}

fn pause(attempt: u32) -> Duration {
    Duration::from_millis(200) * 2_u32.pow(attempt.min(8) - 1)
}
