//! The wire: a request is built and sent, and its answer is read, in bounded memory.

use bytes::BytesMut;
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;

use super::answer::{Answer, Refused};
use super::client::Inner;
use crate::error::{Error, Kind};
use crate::model::hook::{Method, Request};

/// An answer larger than this is no page.
const LARGEST_BODY: usize = 256 << 20;

/// A request as it goes out, but for who we are.
pub(super) fn build(inner: &Inner, request: &Request) -> RequestBuilder {
    let http = &inner.http;
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
            || inner.settings.headers.keys().any(|name| is_type(name));
        if !told {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        builder = builder.body(body.clone());
    }
    builder
}

/// Sends a request and reads all of its answer, whatever its status.
///
/// The one place where a request for data leaves the process.
pub(super) async fn send(inner: &Inner, request: RequestBuilder) -> Result<Answer, Refused> {
    let unreachable = |error: reqwest::Error| unreachable(inner, &error);
    let request = request.timeout(inner.settings.timeout).build().map_err(unreachable)?;
    let mut answer = inner.http.execute(request).await.map_err(unreachable)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > LARGEST_BODY {
            return Err(Error::new(Kind::Source, "the answer is larger than 256 MiB")
                .hint("ask for smaller pages")
                .into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body: body.freeze() })
}

/// Why there is no whole answer.
fn unreachable(inner: &Inner, error: &reqwest::Error) -> Refused {
    let what = if error.is_timeout() {
        format!("no whole answer within {:?}", inner.settings.timeout)
    } else if error.is_connect() {
        "the server cannot be reached".to_owned()
    } else {
        "the connection was cut".to_owned()
    };
    let mut cause = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(deeper) = source {
        cause = format!(": {deeper}");
        source = deeper.source();
    }
    if error.is_redirect() {
        let cause = inner.redactor.redact(cause.trim_start_matches(": "));
        return Error::new(Kind::Source, cause)
            .hint("credentials are sent to the connection's own host only; if the other is right, change its `url`")
            .into();
    }
    Error::new(Kind::Unavailable, inner.redactor.redact(&format!("{what}{cause}")))
        .hint(format!("`haul connections test {}` tries it alone", inner.name))
        .into()
}
