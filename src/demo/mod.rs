//! The demo's world: a week of real earthquakes, served on loopback in the form of the USGS event service.
//!
//! [`Feed`] has the events and tells how each was known at an instant; `service` answers requests like
//! <https://earthquake.usgs.gov/fdsnws/event/1/>; [`Server`] listens. Nothing here knows of pipelines: the demo points the
//! connection `usgs` at the server, moves its clock from morning to morning, and runs `pipelines/earthquakes.toml`.

mod feed;
mod service;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::NaiveDate;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use feed::Feed;

use crate::error::{Context, Error, Kind, Result};
use crate::time::Instant;

/// The mornings of the demo, at six o'clock UTC: the data spans 2018-01-31 to 2018-02-07.
pub fn mornings() -> Vec<(NaiveDate, Instant)> {
    let first = NaiveDate::from_ymd_opt(2018, 2, 2).and_then(|date| Some((date, date.and_hms_opt(6, 0, 0)?.and_utc())));
    std::iter::successors(first, |(date, instant)| Some((date.succ_opt()?, *instant + chrono::Duration::days(1))))
        .take(6)
        .collect()
}

/// The event service on loopback; it ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    world: Arc<World>,
    _running: DropGuard,
}

/// What the handlers share.
struct World {
    feed: Feed,
    asof: RwLock<Instant>,
    requests: AtomicU64,
}

impl World {
    fn asof(&self) -> Instant {
        *self.asof.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Listens on a free port of the loopback address and shows the world as it was known at `asof`.
    ///
    /// # Errors
    /// No free port, or no runtime around the caller.
    pub fn start(asof: Instant) -> Result<Self> {
        let doing = || "starting the demo's event service on loopback".to_owned();
        let runtime = tokio::runtime::Handle::try_current().context(Kind::Internal, doing)?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(Kind::Storage, doing)?;
        listener.set_nonblocking(true).context(Kind::Storage, doing)?;
        let address = listener.local_addr().context(Kind::Storage, doing)?;
        let listener = tokio::net::TcpListener::from_std(listener).context(Kind::Storage, doing)?;
        let world = Arc::new(World { feed: Feed::shipped()?, asof: RwLock::new(asof), requests: AtomicU64::new(0) });
        let router = Router::new()
            .route("/fdsnws/event/1/query", get(query))
            .route("/fdsnws/event/1/count", get(count))
            .with_state(Arc::clone(&world));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        runtime.spawn(async move {
            let serving = axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned());
            // A loopback listener only ends when it is told to.
            drop(serving.await);
        });
        Ok(Self { address, world, _running: stop.drop_guard() })
    }

    /// The address that stands for `https://earthquake.usgs.gov`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Shows the world as it was known at another instant from now on.
    pub fn set_asof(&self, asof: Instant) {
        *self.world.asof.write().unwrap_or_else(PoisonError::into_inner) = asof;
    }

    /// How many requests were answered.
    pub fn requests(&self) -> u64 {
        self.world.requests.load(Ordering::Relaxed)
    }
}

async fn query(State(world): State<Arc<World>>, OriginalUri(uri): OriginalUri) -> Response {
    world.requests.fetch_add(1, Ordering::Relaxed);
    let asof = world.asof();
    match service::Query::parse(uri.query().unwrap_or_default(), asof) {
        Ok(query) => json(&service::features(&world.feed, &query, asof, &uri)),
        Err(fault) => bad_request(&fault, &uri, asof),
    }
}

async fn count(State(world): State<Arc<World>>, OriginalUri(uri): OriginalUri) -> Response {
    world.requests.fetch_add(1, Ordering::Relaxed);
    let asof = world.asof();
    match service::Query::parse(uri.query().unwrap_or_default(), asof) {
        Ok(query) => {
            let count = query.matching(&world.feed, asof).len();
            if query.as_geojson() {
                json(&serde_json::json!({ "count": count, "maxAllowed": service::MOST_ROWS }))
            } else {
                count.to_string().into_response()
            }
        }
        Err(fault) => bad_request(&fault, &uri, asof),
    }
}

fn json(value: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], value.to_string()).into_response()
}

fn bad_request(fault: &Error, uri: &axum::http::Uri, asof: Instant) -> Response {
    (StatusCode::BAD_REQUEST, service::refusal(&fault.chain(), &uri.to_string(), asof)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_has_six_mornings_at_six_o_clock() {
        let mornings = mornings();
        let text: Vec<String> = mornings.iter().map(|(_, instant)| instant.to_rfc3339()).collect();
        assert_eq!((text.len(), text[0].as_str()), (6, "2018-02-02T06:00:00+00:00"));
        assert_eq!(text[5], "2018-02-07T06:00:00+00:00");
    }
}
