//! The door: who comes in, by which name, how long it may take; and answers that have not changed.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use xxhash_rust::xxh3::xxh3_128;

use super::fault::Fault;
use super::house::House;

/// An answer that takes longer is given up.
const PATIENCE: Duration = Duration::from_mins(2);

/// Larger answers are sent as they are, and are never the same as before.
const LARGEST: usize = 8 << 20;

/// Takes secrets out of what is answered when something cannot be done.
pub(super) async fn redacted(State(house): State<House>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let Some(fault) = response.extensions().get::<Fault>() else { return response };
    let told = fault.clone().redacted(house.redactor());
    if told.body() == fault.body() { response } else { told.into_response() }
}

/// Refuses a request that calls the house by a name that is not its own: a page elsewhere may have made that name lead here.
pub(super) async fn known_host(State(house): State<House>, request: Request, next: Next) -> Response {
    let asked = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let asked = asked.or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str)).unwrap_or_default();
    let name = host_name(asked);
    // An address needs no name server, so that nobody can have bent it.
    let known = name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || house.hosts().iter().any(|host| host.eq_ignore_ascii_case(name));
    if known {
        return next.run(request).await;
    }
    let fault = Fault::new(StatusCode::MISDIRECTED_REQUEST, "host", format!("this is not `{name}`"));
    fault.hint("serve.hosts in haul.toml has the names by which it may be called").into_response()
}

/// The name of `name:port` or `[address]:port`.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Refuses whoever does not bring the token.
pub(super) async fn token(State(house): State<House>, request: Request, next: Next) -> Response {
    let brought = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let brought =
        brought.and_then(|value| value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")));
    if brought.is_some_and(|(_, text)| house.token().is(text.trim())) {
        return next.run(request).await;
    }
    let what = if brought.is_some() { "the token is another one" } else { "the request has no token" };
    let fault = Fault::new(StatusCode::UNAUTHORIZED, "auth", what).hint(
        "Authorization: Bearer …; the token is what serve.token leads to, or the file `token` of the state folder",
    );
    let mut response = fault.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"haul\""));
    response
}

/// Gives up what takes too long to begin.
pub(super) async fn patience(request: Request, next: Next) -> Response {
    tokio::time::timeout(PATIENCE, next.run(request)).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", PATIENCE.as_secs());
        Fault::new(StatusCode::GATEWAY_TIMEOUT, "unavailable", message).into_response()
    })
}

/// Marks what is read by a digest of it, and answers who has it already that it is the same.
pub(super) async fn same_again(request: Request, next: Next) -> Response {
    let had = request.headers().get(header::IF_NONE_MATCH).cloned();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let response = next.run(request).await;
    if !reads || response.status() != StatusCode::OK || !is_json(response.headers()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, LARGEST).await else {
        let message = format!("the answer has more than {LARGEST} bytes");
        return Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "usage", message).hint("a smaller `limit`").into_response();
    };
    let tag = format!("\"{:032x}\"", xxh3_128(&bytes));
    if let Ok(value) = HeaderValue::from_str(&tag) {
        parts.headers.insert(header::ETAG, value);
    }
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if had.is_some_and(|had| had.to_str().is_ok_and(|had| had.contains(&tag))) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::CONTENT_TYPE);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json")
}

#[cfg(test)]
mod tests {
    use super::host_name;

    #[test]
    fn a_host_is_told_without_its_port() {
        for (host, name) in
            [("a.test:80", "a.test"), ("a.test", "a.test"), ("[::1]:8642", "::1"), ("127.0.0.1:1", "127.0.0.1")]
        {
            assert_eq!(host_name(host), name);
        }
    }
}
