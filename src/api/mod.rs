//! The HTTP API of `haul serve`: what an operator asks and orders, as JSON, for programs and for the command line.
//!
//! ```text
//!   request ─▶ known host ─▶ token ─▶ handler ─▶ State, Project, Steward ─▶ JSON without secrets, with an ETag
//! ```
//!
//! Handlers decide nothing: each is one call of what the command line calls too. The OpenAPI document is made from the same
//! declarations as the routes, so that there is none without the other.

mod client;
mod exchange;
mod fault;
mod guard;
mod house;
mod metrics;
mod routes;
mod token;

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;

pub use client::{Client, Followed};
pub use fault::{FaultBody, FaultText};
pub use house::{House, Keeper, Pulse};
pub use metrics::Metrics;
pub use routes::{DecidedView, JobView, JobWithNotes, QueryBody, TriggerBody, TriggeredView};
pub use token::{Door, DoorSign, Token};

use crate::error::{Context as _, Kind, Result};
use crate::model::serve::Listen;

/// The largest request.
const LARGEST_REQUEST: usize = 1 << 20;

/// How long answers that are under way may take when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// The OpenAPI document of all routes.
pub fn document() -> OpenApi {
    routes::document()
}

/// Opens the door; an address that nobody has chosen and that is taken makes way for any free one of the machine.
///
/// # Errors
/// The address is not the machine's, or in use.
pub async fn listen(listen: &Listen) -> Result<TcpListener> {
    let address = listen.address;
    match TcpListener::bind(address).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && !listen.chosen => {
            TcpListener::bind((address.ip(), 0)).await
        }
        bound => bound,
    }
    .context(Kind::Storage, || format!("listening on {address}"))
    .map_err(|error| error.hint("serve.listen in haul.toml says another address; \"127.0.0.1:0\" takes any free port"))
}

/// Answers until `stop` is called; what is being answered then has a little time to end.
///
/// # Errors
/// The listener is broken.
pub async fn serve(listener: TcpListener, house: House, stop: CancellationToken) -> Result<()> {
    let router = doors(routes::all(), &house);
    let farewell = stop.clone();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move { farewell.cancelled().await });
    tokio::select! {
        served = async { serving.await } => served.context(Kind::Internal, || "answering requests".to_owned()),
        () = async { stop.cancelled().await; tokio::time::sleep(FAREWELL).await; } => Ok(()),
    }
}

/// The routes with everything that stands before them.
fn doors((open, closed): (Router<House>, Router<House>), house: &House) -> Router {
    let closed = closed.route_layer(from_fn_with_state(house.clone(), guard::token));
    open.merge(closed)
        .fallback(routes::nothing)
        .method_not_allowed_fallback(routes::no_such_method)
        .layer(from_fn(guard::same_again))
        .layer(from_fn(guard::patience))
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
        .layer(from_fn_with_state(house.clone(), guard::known_host))
        .layer(from_fn_with_state(house.clone(), guard::redacted))
        .with_state(house.clone())
}
