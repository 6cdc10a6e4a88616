//! Connections: their names and types, never what is behind them; and whether they work.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::exchange::{Answer, Named, json};
use crate::api::fault::{Fault, FaultBody, FaultText};
use crate::api::house::House;
use crate::execute;

/// A connection.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionView {
    /// Its name.
    name: String,
    /// Its type; none where it cannot be read.
    kind: Option<String>,
    /// Where it is told: a variable, the encrypted store, `connections.toml`.
    origin: String,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

/// What trying a connection showed.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestView {
    /// The connection.
    name: String,
    /// Whether it works.
    works: bool,
    /// What was done, one sentence each.
    tried: Vec<String>,
    /// What the other side answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    /// Why it does not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FaultText>,
}

/// The connections, by their names.
#[utoipa::path(get, path = "/api/v1/connections", tag = "connections", security(("token" = [])),
    responses((status = 200, body = Vec<ConnectionView>), (status = 401, body = FaultBody), (status = 422, body = FaultBody)))]
pub async fn list(State(house): State<House>) -> Answer {
    let listed = house.gear().connections.list()?;
    let view = |line: crate::connections::Listed| ConnectionView {
        name: line.name,
        kind: line.kind,
        origin: line.origin.to_string(),
        fault: line.fault,
    };
    json(&house, &listed.into_iter().map(view).collect::<Vec<_>>())
}

/// Connects for real, and tells what was tried.
#[utoipa::path(post, path = "/api/v1/connections/{name}/test", tag = "connections", security(("token" = [])),
    params(("name" = String, Path, description = "The connection.")),
    responses((status = 200, body = TestView), (status = 401, body = FaultBody), (status = 404, body = FaultBody),
        (status = 422, body = FaultBody)))]
pub async fn test(State(house): State<House>, Named(name): Named<String>) -> Answer {
    let gear = house.gear();
    let listed = gear.connections.list()?;
    let Some(line) = listed.into_iter().find(|line| line.name == name) else {
        return Err(Fault::missing("connection", &name).hint("GET /api/v1/connections lists them"));
    };
    let tested = if line.kind.as_deref() == Some("duckdb") {
        // The file may be open here already, and must not be opened twice.
        let tried = vec!["asked the open file for a row".to_owned()];
        match gear.warehouse(&name).await {
            Ok(warehouse) => warehouse.query("SELECT 1", 1).await.map(|_| (tried, "it answers".to_owned())),
            Err(error) => Err(error),
        }
    } else {
        let probed = execute::probe(&gear.connections, &name, house.redactor(), gear.clock).await;
        probed.map(|probed| (probed.tried, probed.answer))
    };
    let view = match tested {
        Ok((tried, answer)) => TestView { name, works: true, tried, answer: Some(answer), error: None },
        Err(error) => {
            let error = Some(Fault::from(error).body().error.clone());
            TestView { name, works: false, tried: Vec::new(), answer: None, error }
        }
    };
    json(&house, &view)
}
