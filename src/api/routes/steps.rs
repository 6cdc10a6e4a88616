//! What a step sends, and the first rows that it would bring; nothing is written.

use axum::extract::State;
use chrono::NaiveDate;
use serde::Deserialize;
use utoipa::IntoParams;

use super::pipelines::today;
use crate::api::exchange::{Answer, Named, Params, json};
use crate::api::fault::{Fault, FaultBody};
use crate::api::house::House;
use crate::execute;
use crate::warehouse::Rows;

/// The most rows of a preview.
const MOST: usize = 1000;

/// Of which date, and how much of it.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StepParams {
    /// The logical date; today in the pipeline's zone by default.
    #[param(value_type = Option<String>, format = Date)]
    date: Option<NaiveDate>,
    /// How many rows, 10 by default and 1000 at the most.
    rows: Option<usize>,
}

/// The first rows that a step would bring; nothing is written.
#[utoipa::path(get, path = "/api/v1/pipelines/{pipeline}/steps/{step}/preview", tag = "pipelines", security(("token" = [])),
    params(("pipeline" = String, Path, description = "The pipeline."), ("step" = String, Path, description = "The step."), StepParams),
    responses((status = 200, body = Rows), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody), (status = 409, body = FaultBody), (status = 422, body = FaultBody),
        (status = 502, body = FaultBody), (status = 503, body = FaultBody)))]
pub async fn preview(
    State(house): State<House>,
    Named((name, step)): Named<(String, String)>,
    Params(params): Params<StepParams>,
) -> Answer {
    let pipeline = house.pipeline(&name)?;
    if pipeline.step(&step).is_none() {
        return Err(Fault::missing("step", &step).hint(format!("GET /api/v1/pipelines/{name} has them")));
    }
    let rows = params.rows.unwrap_or(10);
    if rows > MOST {
        return Err(Fault::bad(format!("`rows` is more than {MOST}")));
    }
    let date = params.date.unwrap_or_else(|| today(&house, &pipeline));
    json(&house, &execute::preview(&house.gear(), &pipeline, &step, date, rows).await?)
}
