//! Backfills: ranges of dates that are done piece by piece, behind what is more urgent.

use std::num::NonZeroU32;

use axum::extract::State;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::jobs::accepted;
use crate::api::exchange::{Answer, Body, Named, Page, Params, json, limit, no_page};
use crate::api::fault::{Fault, FaultBody};
use crate::api::house::House;
use crate::error::{Error, Kind};
use crate::execute::{self, Cut};
use crate::model::job::{Backfill, BackfillState, Planned, Progress};
use crate::model::run::Trigger;
use crate::plan::{Ask, Range, Reprocess};
use crate::time::Instant;

/// Who asks, for the record.
const BY: &str = "api";

/// How many days a job has, where nothing is said.
const CHUNK: u32 = 7;

/// A backfill with its progress.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackfillView {
    /// Its name.
    id: String,
    /// The pipeline.
    pipeline: String,
    /// The first date.
    from: String,
    /// The first date after it.
    to: String,
    /// Whether the newest days come first.
    newest_first: bool,
    /// Who asked for it.
    by: String,
    /// `running`, `paused`, `cancelled` or `done`.
    #[schema(value_type = String)]
    state: BackfillState,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    created_at: Instant,
    /// When the last of its jobs ended, or it was cancelled.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Instant>,
    /// When it will have ended, if the rest takes as long as what is done.
    #[schema(value_type = Option<String>, format = DateTime)]
    expected_end: Option<Instant>,
    /// What was planned: `units`, `tasks`, `requests`, `bytes`.
    #[schema(value_type = Object)]
    planned: Planned,
    /// How its jobs stand: `jobs`, `queued`, `leased`, `succeeded`, `open`, `failed`, `cancelled`, `units`, `units_done`, `units_open`, `units_failed`, `units_cancelled`, ….
    #[schema(value_type = Object)]
    progress: Progress,
}

impl BackfillView {
    fn of(backfill: Backfill, now: Instant) -> Self {
        let expected_end =
            (backfill.state == BackfillState::Running).then(|| backfill.progress.expected_end(now)).flatten();
        Self {
            id: backfill.id,
            pipeline: backfill.pipeline,
            from: backfill.from,
            to: backfill.to,
            newest_first: backfill.newest_first,
            by: backfill.by,
            state: backfill.state,
            created_at: backfill.created_at,
            finished_at: backfill.finished_at,
            expected_end,
            planned: backfill.planned,
            progress: backfill.progress,
        }
    }
}

/// A backfill that is asked for.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackfillBody {
    /// The pipeline.
    pub pipeline: String,
    /// The first date.
    #[schema(value_type = String, format = Date)]
    pub from: Option<NaiveDate>,
    /// The first date after the range.
    #[schema(value_type = String, format = Date)]
    pub to: Option<NaiveDate>,
    /// Only these steps.
    pub select: Vec<String>,
    /// Which units of the range: `missing`, which is the default, `failed` or `all`.
    pub reprocess: Option<ReprocessWord>,
    /// How many days a job has; 7 by default.
    #[schema(value_type = Option<u32>)]
    pub chunk: Option<NonZeroU32>,
    /// Whether the oldest days come first.
    pub oldest_first: bool,
}

/// Which units of a range are done again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReprocessWord {
    /// Those that are not loaded.
    #[default]
    Missing,
    /// Those that failed or are held.
    Failed,
    /// All of them.
    All,
}

/// Which backfills.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BackfillsParams {
    /// Only of this pipeline.
    pipeline: Option<String>,
    /// What the page before said as `next`.
    after: Option<String>,
    /// How many, 100 by default and 1000 at the most.
    limit: Option<u32>,
}

/// The backfills, newest first.
#[utoipa::path(get, path = "/api/v1/backfills", tag = "backfills", security(("token" = [])), params(BackfillsParams),
    responses((status = 200, body = Page<BackfillView>), (status = 400, body = FaultBody), (status = 401, body = FaultBody)))]
pub async fn list(State(house): State<House>, Params(params): Params<BackfillsParams>) -> Answer {
    let limit = limit(params.limit)?;
    let after = params.after.as_deref();
    let found = house.state().backfills(params.pipeline.as_deref(), after, limit + 1).await;
    let found = found.map_err(|error| if after.is_some() { no_page() } else { error.into() })?;
    let now = house.now();
    json(&house, &Page::cut(found, limit, |one| one.id.clone()).map(|one| BackfillView::of(one, now)))
}

/// One backfill.
#[utoipa::path(get, path = "/api/v1/backfills/{backfill}", tag = "backfills", security(("token" = [])),
    params(("backfill" = String, Path, description = "Its name.")),
    responses((status = 200, body = BackfillView), (status = 401, body = FaultBody), (status = 404, body = FaultBody)))]
pub async fn one(State(house): State<House>, Named(id): Named<String>) -> Answer {
    let backfill = find(&house, &id).await?;
    json(&house, &BackfillView::of(backfill, house.now()))
}

/// Plans a backfill and puts its pieces into the queue.
#[utoipa::path(post, path = "/api/v1/backfills", tag = "backfills", security(("token" = [])), request_body = BackfillBody,
    responses((status = 202, body = BackfillView), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody), (status = 409, body = FaultBody), (status = 422, body = FaultBody),
        (status = 503, body = FaultBody)))]
pub async fn create(State(house): State<House>, Body(body): Body<BackfillBody>) -> Answer {
    let (Some(from), Some(to)) = (body.from, body.to) else {
        return Err(Fault::bad("a backfill needs `pipeline`, `from` and `to`")
            .hint("{ \"pipeline\": \"ratings\", \"from\": \"2024-01-01\", \"to\": \"2024-02-01\" }: `to` is the first date after it"));
    };
    let pipeline = house.pipeline(&body.pipeline)?;
    let reprocess = match body.reprocess.unwrap_or_default() {
        ReprocessWord::Missing => Reprocess::Missing,
        ReprocessWord::Failed => Reprocess::Failed,
        ReprocessWord::All => Reprocess::All,
    };
    let ask = Ask {
        trigger: Trigger::Backfill,
        logical_date: to,
        select: body.select,
        range: Some(Range { from, to, reprocess }),
        window: None,
        force: false,
        retry: false,
    };
    let cut =
        Cut { days: body.chunk.map_or(CHUNK, NonZeroU32::get), newest_first: !body.oldest_first, by: BY.to_owned() };
    let (made, _) = execute::queue_backfill(&house.gear(), &pipeline, &ask, &cut).await?;
    let now = house.now();
    accepted(&house, BackfillView::of(made, now))
}

/// Lets the jobs of a backfill wait until it is resumed; what is under way ends.
#[utoipa::path(post, path = "/api/v1/backfills/{backfill}/pause", tag = "backfills", security(("token" = [])),
    params(("backfill" = String, Path, description = "Its name.")),
    responses((status = 200, body = BackfillView), (status = 401, body = FaultBody), (status = 404, body = FaultBody),
        (status = 409, body = FaultBody)))]
pub async fn pause(State(house): State<House>, Named(id): Named<String>) -> Answer {
    set(&house, &id, BackfillState::Paused).await
}

/// Goes on with a backfill.
#[utoipa::path(post, path = "/api/v1/backfills/{backfill}/resume", tag = "backfills", security(("token" = [])),
    params(("backfill" = String, Path, description = "Its name.")),
    responses((status = 200, body = BackfillView), (status = 401, body = FaultBody), (status = 404, body = FaultBody),
        (status = 409, body = FaultBody)))]
pub async fn resume(State(house): State<House>, Named(id): Named<String>) -> Answer {
    set(&house, &id, BackfillState::Running).await
}

/// Cancels what a backfill has not done yet; what it has stays.
#[utoipa::path(post, path = "/api/v1/backfills/{backfill}/cancel", tag = "backfills", security(("token" = [])),
    params(("backfill" = String, Path, description = "Its name.")),
    responses((status = 200, body = BackfillView), (status = 401, body = FaultBody), (status = 404, body = FaultBody),
        (status = 409, body = FaultBody)))]
pub async fn cancel(State(house): State<House>, Named(id): Named<String>) -> Answer {
    set(&house, &id, BackfillState::Cancelled).await
}

async fn find(house: &House, id: &str) -> Result<Backfill, Fault> {
    let missing = || Fault::missing("backfill", id).hint("GET /api/v1/backfills lists them");
    match house.state().backfill(id).await {
        Ok(found) => found.ok_or_else(missing),
        // A name that no backfill can have.
        Err(error) if error.kind() == Kind::Usage => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

async fn set(house: &House, id: &str, state: BackfillState) -> Answer {
    let found = find(house, id).await?;
    if matches!(found.state, BackfillState::Done | BackfillState::Cancelled) {
        let message = format!("the backfill {id} is over: it is {}", found.state.name());
        return Err(Fault::from(Error::new(Kind::Cancelled, message)));
    }
    let now = house.now();
    let set = house.state().set_backfill(id, state, BY, now).await?;
    house.wake();
    json(house, &BackfillView::of(set.unwrap_or(found), now))
}
