//! Whether it is alive, whether it can work, how it stands, and what is counted.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::api::exchange::{Answer, json};
use crate::api::fault::{Fault, FaultBody};
use crate::api::house::{House, Pulse};
use crate::model::job::Depth;
use crate::model::run::{RunFilter, RunRecord, RunStatus};
use crate::time::Instant;

/// The loop comes round at least this often when all is well.
const STILL: chrono::Duration = chrono::Duration::seconds(90);

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct AliveView {
    /// Always `ok`.
    status: &'static str,
    /// The version of haul.
    version: &'static str,
}

/// Whether the daemon can work.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReadyView {
    /// Whether all of the others are.
    ready: bool,
    /// Whether the state store can be written.
    store: CheckView,
    /// Whether the project's files are right.
    project: CheckView,
    /// Whether the loop comes round.
    r#loop: CheckView,
}

/// One of the things that have to be right.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckView {
    /// Whether it is.
    ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// How the daemon stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusView {
    /// The version of haul.
    version: &'static str,
    /// Now, on the daemon's clock.
    #[schema(value_type = String, format = DateTime)]
    now: Instant,
    /// How long it answers already.
    uptime_s: u64,
    /// The process.
    pid: u32,
    /// How its loop is.
    daemon: Pulse,
    /// How many pipelines the project has.
    pipelines: usize,
    /// Those that somebody has paused.
    paused: Vec<String>,
    /// The runs under way, newest first.
    running: Vec<RunRecord>,
    /// How many jobs wait, by class.
    #[schema(value_type = Object)]
    queue: BTreeMap<String, Depth>,
}

/// The process answers; asked by whoever would start it anew otherwise.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = AliveView)))]
pub async fn alive(State(house): State<House>) -> Answer {
    json(&house, &AliveView { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Whether it can work: the store is writable, the project is loaded, the loop comes round.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = ReadyView), (status = 503, body = ReadyView)))]
pub async fn ready(State(house): State<House>) -> Answer {
    let check = |reason: Option<String>| CheckView { ok: reason.is_none(), reason };
    let store = house.state().check_writable().await.err().map(|error| error.chain());
    let pulse = house.pulse();
    // Nobody needs the token to ask this: that there are faults is told, what they are is not.
    let faults = pulse.faults.as_ref().map(|_| "some files are wrong; `haul check` shows their faults".to_owned());
    let still = pulse.looked_at.is_none_or(|at| house.now() - at > STILL);
    let turns = match (pulse.draining, still) {
        (true, _) => Some("it is ending, and takes no new work".to_owned()),
        (false, true) => Some("it has not come round for a while".to_owned()),
        (false, false) => None,
    };
    // With a file that is wrong it works on: with what was there before.
    let ready = store.is_none() && turns.is_none();
    let view = ReadyView { ready, store: check(store), project: check(faults), r#loop: check(turns) };
    let mut response = json(&house, &view)?;
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "health", responses((status = 200, body = Object)))]
pub async fn document(State(house): State<House>) -> Answer {
    json(&house, &crate::api::document())
}

/// Counters and gauges in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", security(("token" = [])),
    responses((status = 200, content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8", body = String),
        (status = 401, body = FaultBody), (status = 503, body = FaultBody)))]
pub async fn metrics(State(house): State<House>) -> Answer {
    let text = house.metrics().text(&house).await.map_err(Fault::from)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// How the daemon stands: what runs, what waits, what is paused.
#[utoipa::path(get, path = "/api/v1/status", tag = "health", security(("token" = [])),
    responses((status = 200, body = StatusView), (status = 401, body = FaultBody)))]
pub async fn status(State(house): State<House>) -> Answer {
    let (state, now) = (house.state(), house.now());
    let filter = RunFilter { status: Some(RunStatus::Running), limit: 100, ..RunFilter::default() };
    let mut running = state.runs_where(&filter).await?;
    running.retain(|run| state.lives(&run.id));
    let queue = state.queue_depth(now).await?;
    json(
        &house,
        &StatusView {
            version: env!("CARGO_PKG_VERSION"),
            now,
            uptime_s: house.age().as_secs(),
            pid: std::process::id(),
            daemon: house.pulse(),
            pipelines: house.project().pipelines.len(),
            paused: state.paused().await?.into_keys().collect(),
            running,
            queue: queue.into_iter().map(|(class, depth)| (class.name().to_owned(), depth)).collect(),
        },
    )
}
