//! What a run has told, at once or as it comes.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;

use super::runs;
use crate::api::exchange::{Answer, Named, Page, Params, json, limit};
use crate::api::fault::FaultBody;
use crate::api::house::House;
use crate::error::Result;
use crate::logs::{self, Filter, Follow, Level, Line, What};
use crate::model::run::RunStatus;

/// How often a log is looked at while somebody listens.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Which lines.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogParams {
    /// Only of this task: a step, or `STEP/UNIT`.
    task: Option<String>,
    /// Only what matters at least so much. Default `info`.
    level: Option<Level>,
    /// The number of the line that the page before ended with.
    after: Option<u64>,
    /// Only so many lines, the last ones.
    tail: Option<usize>,
    /// How many, 100 by default and 1000 at the most.
    limit: Option<u32>,
}

/// Which lines are sent as they come.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamParams {
    /// Only of this task: a step, or `STEP/UNIT`.
    task: Option<String>,
    /// Only what matters at least so much. Default `info`.
    level: Option<Level>,
    /// The number of the last line that is known already; `Last-Event-ID` says the same.
    after: Option<u64>,
}

fn filter(task: Option<&str>, level: Option<Level>) -> Filter {
    Filter { least: Some(level.unwrap_or(Level::Info)), ..task.map(Filter::of_task).unwrap_or_default() }
}

/// The lines of a run's log, in their order.
#[utoipa::path(get, path = "/api/v1/runs/{run}/logs", tag = "logs", security(("token" = [])),
    params(("run" = String, Path, description = "The run, or a pipeline for its last one."), LogParams),
    responses((status = 200, body = Page<Line>), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody)))]
pub async fn list(State(house): State<House>, Named(run): Named<String>, Params(params): Params<LogParams>) -> Answer {
    let limit = limit(params.limit)?;
    let (run, _) = runs::find(&house, &run).await?;
    let (state_dir, filter) = (house.project().state_dir.clone(), filter(params.task.as_deref(), params.level));
    let after = params.after.unwrap_or_default();
    let read = tokio::task::spawn_blocking(move || logs::read(&state_dir, &run.id, &filter)).await;
    let mut lines = read.map_err(|error| crate::error::Error::internal("reading a log").because(error))??;
    lines.retain(|line| line.n > after);
    if let Some(tail) = params.tail {
        lines.drain(..lines.len().saturating_sub(tail));
    }
    lines.truncate(limit as usize + 1);
    json(&house, &Page::cut(lines, limit, |line: &Line| line.n.to_string()))
}

/// The lines of a run's log as they come, until it ends: events `line`, each with its number as the id, and one `end` with the run.
#[utoipa::path(get, path = "/api/v1/runs/{run}/logs/stream", tag = "logs", security(("token" = [])),
    params(("run" = String, Path, description = "The run, or a pipeline for its last one."), StreamParams),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 400, body = FaultBody),
        (status = 401, body = FaultBody), (status = 404, body = FaultBody)))]
pub async fn stream(
    State(house): State<House>,
    Named(run): Named<String>,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
) -> Answer {
    let (run, _) = runs::find(&house, &run).await?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let after = last.or(params.after).unwrap_or_default();
    let filter = filter(params.task.as_deref(), params.level);
    let (send, receive) = mpsc::channel(64);
    tokio::spawn(async move {
        let tell = |error: crate::error::Error| {
            let fault = crate::api::fault::Fault::from(error).redacted(house.redactor());
            Event::default().event("fault").data(serde_json::to_string(fault.body()).unwrap_or_default())
        };
        if let Err(error) = follow(&house, &run.id, &filter, after, &send).await {
            let _ = send.send(tell(error)).await;
        }
    });
    Ok(Sse::new(events(receive)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response())
}

fn events(receive: mpsc::Receiver<Event>) -> impl Stream<Item = std::result::Result<Event, Infallible>> {
    futures::stream::unfold(receive, |mut receive| async move { Some((Ok(receive.recv().await?), receive)) })
}

/// Sends lines until the run has ended, the daemon ends, or nobody listens any more.
async fn follow(house: &House, run: &str, filter: &Filter, after: u64, send: &mpsc::Sender<Event>) -> Result<()> {
    let mut follow = Follow::new(&house.project().state_dir, run);
    let mut over = false;
    loop {
        let lines = if over { follow.rest()? } else { follow.more()? };
        let ended = over || lines.iter().any(|line| line.what == What::RunFinished);
        for line in lines.iter().filter(|line| line.n > after && filter.wants(line)) {
            let text = serde_json::to_string(line).unwrap_or_default();
            let event = Event::default().event("line").id(line.n.to_string()).data(text);
            if send.send(event).await.is_err() {
                return Ok(());
            }
        }
        let found = house.state().run(run).await?;
        if ended {
            let record = found.map(|(record, _)| record);
            let text = serde_json::to_string(&record).unwrap_or_default();
            let _ = send.send(Event::default().event("end").data(text)).await;
            return Ok(());
        }
        // What was written before this was seen is read at the next turn.
        over = found.is_none_or(|(record, _)| record.status != RunStatus::Running || !house.state().lives(run));
        if !over {
            tokio::select! {
                () = house.stop().cancelled() => return Ok(()),
                () = send.closed() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}
