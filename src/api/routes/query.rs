//! A question to a warehouse that the daemon has open; nothing that the statement writes stays.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::exchange::{Answer, Body, json};
use crate::api::fault::{Fault, FaultBody};
use crate::api::house::House;
use crate::warehouse::Rows;

/// The most rows of an answer.
const MOST: usize = 100_000;

/// A question.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryBody {
    /// The SELECT.
    pub sql: String,
    /// The warehouse's connection; the first pipeline's by default.
    pub connection: Option<String>,
    /// How many rows at the most; 10000 by default, and 100000 at the most.
    pub rows: Option<usize>,
}

/// The rows of a SELECT.
#[utoipa::path(post, path = "/api/v1/query", tag = "warehouse", security(("token" = [])), request_body = QueryBody,
    responses((status = 200, body = Rows), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 422, body = FaultBody), (status = 502, body = FaultBody), (status = 503, body = FaultBody)))]
pub async fn query(State(house): State<House>, Body(body): Body<QueryBody>) -> Answer {
    if body.sql.trim().is_empty() {
        return Err(Fault::bad("`sql` is empty").hint("{ \"sql\": \"SELECT 1\" }"));
    }
    let rows = body.rows.unwrap_or(10_000);
    if rows > MOST {
        return Err(Fault::bad(format!("`rows` is more than {MOST}")));
    }
    let gear = house.gear();
    let first = gear.project.pipelines.first().map(|pipeline| pipeline.warehouse.clone());
    let connection = body.connection.or(first).unwrap_or_else(|| "warehouse".to_owned());
    let rows = gear.warehouse(&connection).await?.query(&body.sql, rows).await?;
    json(&house, &rows)
}
