//! Incidents: what is wrong, and what was.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::exchange::{Answer, Page, Params, json, limit, no_page};
use crate::api::fault::FaultBody;
use crate::api::house::House;
use crate::model::incident::Incident;
use crate::model::notify::Topic;
use crate::time::Instant;

/// Which incidents.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct IncidentsParams {
    /// Also those that are over.
    #[serde(default)]
    all: bool,
    /// What the page before said as `next`.
    after: Option<String>,
    /// How many, 100 by default and 1000 at the most.
    limit: Option<u32>,
}

/// Something that is wrong with one thing, from when it was seen until it is well again.
#[derive(Debug, Serialize, ToSchema)]
pub struct IncidentView {
    /// Its number.
    id: i64,
    /// What it is about, by which it is known again: `failure:raw.ratings`.
    key: String,
    /// What kind of thing is wrong: `failure`, `held`, `deadline`, `late` or `drift`.
    #[schema(value_type = String)]
    topic: Topic,
    /// The pipeline.
    pipeline: Option<String>,
    /// The table, the step, or the pipeline.
    subject: String,
    /// Its units: those that are wrong now, and once it is over those that were last.
    units: Vec<String>,
    /// Why.
    reason: String,
    /// When it was seen first.
    #[schema(value_type = String, format = DateTime)]
    opened_at: Instant,
    /// When somebody was told, if anybody was.
    #[schema(value_type = Option<String>, format = DateTime)]
    told_at: Option<Instant>,
    /// When it was seen to be over.
    #[schema(value_type = Option<String>, format = DateTime)]
    closed_at: Option<Instant>,
    /// The channels that are told of it, and of its end.
    channels: Vec<String>,
}

impl From<Incident> for IncidentView {
    fn from(incident: Incident) -> Self {
        Self {
            id: incident.id,
            key: incident.key,
            topic: incident.topic,
            pipeline: incident.pipeline,
            subject: incident.subject,
            units: incident.units,
            reason: incident.reason,
            opened_at: incident.opened_at,
            told_at: incident.told_at,
            closed_at: incident.closed_at,
            channels: incident.channels,
        }
    }
}

/// The incidents that are open, or all of them, newest first.
#[utoipa::path(get, path = "/api/v1/incidents", tag = "incidents", security(("token" = [])), params(IncidentsParams),
    responses((status = 200, body = Page<IncidentView>), (status = 400, body = FaultBody), (status = 401, body = FaultBody)))]
pub async fn list(State(house): State<House>, Params(params): Params<IncidentsParams>) -> Answer {
    let limit = limit(params.limit)?;
    let before = params.after.map(|after| after.parse()).transpose().map_err(|_| no_page())?;
    let found = house.state().incidents(!params.all, before, limit + 1).await?;
    json(&house, &Page::cut(found, limit, |one| one.id.to_string()).map(IncidentView::from))
}
