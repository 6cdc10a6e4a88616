//! What the ledger knows: tables, their units, how long these move, what they have cost; and decisions on what a guard held.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::exchange::{Answer, Named, Page, Params, json, limit};
use crate::api::fault::{Fault, FaultBody};
use crate::api::house::House;
use crate::error::{Error, Kind};
use crate::execute::{self, Decided};
use crate::model::cost::{CostLine, CostsAsk, CostsBy};
use crate::model::drift::Drift;
use crate::model::ledger::{UnitRecord, UnitState};
use crate::model::name::TableName;
use crate::time::{Instant, UnitKey, parse_duration};

/// A table that a step of the project writes.
#[derive(Debug, Serialize, ToSchema)]
pub struct TableView {
    /// The table, as the ledger calls it.
    table: String,
    /// The pipeline whose step writes it.
    pipeline: String,
    /// The step.
    step: String,
    /// How many of its units stand how: `loaded`, `failed`, `held`, `late`, `missing`.
    units: BTreeMap<String, u64>,
    /// Its last unit that is loaded.
    last: Option<String>,
    /// When its rows last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    loaded_at: Option<Instant>,
}

/// Which units.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UnitsParams {
    /// Only those that stand so.
    state: Option<UnitState>,
    /// Only from this unit on.
    from: Option<String>,
    /// Only those before this unit.
    to: Option<String>,
    /// The unit that the page before ended with.
    after: Option<String>,
    /// How many, 100 by default and 1000 at the most.
    limit: Option<u32>,
}

/// Which costs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CostsParams {
    /// Only of this pipeline.
    pipeline: Option<String>,
    /// Only since then: `30d` ago, which is the default, or a date in UTC.
    since: Option<String>,
    /// By what they are put together. Default `pipeline`.
    by: Option<CostsWord>,
}

/// By what costs are put together.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostsWord {
    /// By pipeline.
    #[default]
    Pipeline,
    /// By table.
    Table,
    /// By the day of the bill, in UTC.
    Day,
    /// By pipeline and step.
    Step,
}

/// What was billed and saved.
#[derive(Debug, Serialize, ToSchema)]
pub struct CostsView {
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Instant,
    /// One line for each pipeline, table, day or step.
    #[schema(value_type = Vec<Object>)]
    lines: Vec<CostLine>,
    /// All of them together.
    #[schema(value_type = Object)]
    total: CostLine,
}

/// What became of a decision.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DecidedView {
    /// The table.
    pub table: String,
    /// The unit.
    #[schema(value_type = String)]
    pub unit: UnitKey,
    /// The rows that the unit has now.
    pub rows: u64,
    /// The pipeline whose next run brings what reads them up to date.
    pub pipeline: String,
}

/// The tables that the project's steps write.
#[utoipa::path(get, path = "/api/v1/tables", tag = "tables", security(("token" = [])),
    responses((status = 200, body = Vec<TableView>), (status = 401, body = FaultBody)))]
pub async fn tables(State(house): State<House>) -> Answer {
    let project = house.project();
    let steps = || {
        let all = project.pipelines.iter().flat_map(|pipeline| pipeline.steps.iter().map(move |step| (pipeline, step)));
        all.filter(|(_, step)| step.writes())
    };
    let names: Vec<TableName> = steps().map(|(_, step)| step.into.clone()).collect();
    let snapshot = house.state().snapshot(&names).await?;
    let view = |(pipeline, step): (
        &std::sync::Arc<crate::model::pipeline::Pipeline>,
        &std::sync::Arc<crate::model::pipeline::Step>,
    )| {
        let mut units: BTreeMap<String, u64> = BTreeMap::new();
        let (mut last, mut loaded_at) = (None, None);
        for unit in snapshot.table(&step.into) {
            *units.entry(unit.state.name().to_owned()).or_default() += 1;
            if let Some(loaded) = &unit.loaded {
                last = Some(unit.unit.to_string());
                loaded_at = loaded_at.max(Some(loaded.loaded_at));
            }
        }
        let table = step.into.to_string();
        TableView { table, pipeline: pipeline.name.clone(), step: step.name.clone(), units, last, loaded_at }
    };
    json(&house, &steps().map(view).collect::<Vec<_>>())
}

/// The units of a table, in their order.
#[utoipa::path(get, path = "/api/v1/tables/{table}/units", tag = "tables", security(("token" = [])),
    params(("table" = String, Path, description = "The table, as `schema.table`."), UnitsParams),
    responses((status = 200, body = Page<UnitRecord>), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody)))]
pub async fn units(
    State(house): State<House>,
    Named(table): Named<String>,
    Params(params): Params<UnitsParams>,
) -> Answer {
    let limit = limit(params.limit)?;
    let table = known(&house, &table).await?;
    let snapshot = house.state().snapshot(std::slice::from_ref(&table)).await?;
    let wanted = |record: &&UnitRecord| {
        let unit = record.unit.as_str();
        params.state.is_none_or(|state| record.state == state)
            && params.from.as_deref().is_none_or(|from| unit >= from)
            && params.to.as_deref().is_none_or(|to| unit < to)
            && params.after.as_deref().is_none_or(|after| unit > after)
    };
    let units: Vec<&UnitRecord> = snapshot.table(&table).filter(wanted).take(limit as usize + 1).collect();
    json(&house, &Page::cut(units, limit, |record| record.unit.to_string()))
}

/// What re-pulls of a table have changed, by the age of the unit, and the lookback that this advises.
#[utoipa::path(get, path = "/api/v1/tables/{table}/drift", tag = "tables", security(("token" = [])),
    params(("table" = String, Path, description = "The table, as `schema.table`.")),
    responses((status = 200, body = Object), (status = 401, body = FaultBody), (status = 404, body = FaultBody)))]
pub async fn drift(State(house): State<House>, Named(table): Named<String>) -> Answer {
    let table = known(&house, &table).await?;
    json(&house, &Drift::of(&house.state().pulls(&table, None).await?))
}

/// Loads the rows of a unit that a guard held.
#[utoipa::path(post, path = "/api/v1/tables/{table}/units/{unit}/approve", tag = "tables", security(("token" = [])),
    params(("table" = String, Path, description = "The table."), ("unit" = String, Path, description = "The unit, such as 2018-02-01.")),
    responses((status = 200, body = DecidedView), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody), (status = 409, body = FaultBody)))]
pub async fn approve(State(house): State<House>, Named((table, unit)): Named<(String, String)>) -> Answer {
    decide(&house, &table, &unit, true).await
}

/// Throws the rows of a unit away that a guard held.
#[utoipa::path(post, path = "/api/v1/tables/{table}/units/{unit}/reject", tag = "tables", security(("token" = [])),
    params(("table" = String, Path, description = "The table."), ("unit" = String, Path, description = "The unit, such as 2018-02-01.")),
    responses((status = 200, body = DecidedView), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody), (status = 409, body = FaultBody)))]
pub async fn reject(State(house): State<House>, Named((table, unit)): Named<(String, String)>) -> Answer {
    decide(&house, &table, &unit, false).await
}

async fn decide(house: &House, table: &str, unit: &str, approve: bool) -> Answer {
    let table = known(house, table).await?;
    let gear = house.gear();
    let decided =
        if approve { execute::approve(&gear, &table, unit).await } else { execute::reject(&gear, &table, unit).await };
    let decided = match decided {
        Ok(decided) => decided,
        Err(error) => return Err(undecided(house, &table, unit, error).await?),
    };
    house.stir();
    let Decided { table, unit, rows, pipeline } = decided;
    json(house, &DecidedView { table: table.to_string(), unit, rows, pipeline })
}

/// Why a unit could not be decided on: one that is not held is no mistake of the request.
async fn undecided(house: &House, table: &TableName, unit: &str, error: Error) -> Result<Fault, Fault> {
    if error.kind() == Kind::Usage {
        let snapshot = house.state().snapshot(std::slice::from_ref(table)).await?;
        let known = snapshot.table(table).find(|record| record.unit.as_str() == unit);
        if known.is_some_and(|record| record.state != UnitState::Held) {
            return Ok(Fault::new(StatusCode::CONFLICT, "conflict", error.chain()));
        }
    }
    Ok(error.into())
}

/// What was billed, and what skipping what had not changed has saved.
#[utoipa::path(get, path = "/api/v1/costs", tag = "costs", security(("token" = [])), params(CostsParams),
    responses((status = 200, body = CostsView), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody)))]
pub async fn costs(State(house): State<House>, Params(params): Params<CostsParams>) -> Answer {
    if let Some(name) = &params.pipeline {
        house.pipeline(name)?;
    }
    let since = params.since.as_deref().unwrap_or("30d");
    let since = match since.parse::<NaiveDate>() {
        Ok(date) => date.and_time(chrono::NaiveTime::MIN).and_utc(),
        Err(_) => {
            let ago = parse_duration(since).map_err(|error| error.while_doing("reading `since`"))?;
            let ago = chrono::Duration::from_std(ago).ok();
            ago.and_then(|ago| house.now().checked_sub_signed(ago)).unwrap_or(Instant::MIN_UTC)
        }
    };
    let by = match params.by.unwrap_or_default() {
        CostsWord::Pipeline => CostsBy::Pipeline,
        CostsWord::Table => CostsBy::Table,
        CostsWord::Day => CostsBy::Day,
        CostsWord::Step => CostsBy::Step,
    };
    let lines = house.state().costs(&CostsAsk { pipeline: params.pipeline, since, by }).await?;
    let mut total = CostLine { name: "total".to_owned(), ..CostLine::default() };
    lines.iter().for_each(|line| total.add(line));
    json(&house, &CostsView { since, lines, total })
}

/// A table that the project writes, or that the ledger knows.
async fn known(house: &House, name: &str) -> Result<TableName, Fault> {
    let table = TableName::stored(name);
    let project = house.project();
    let written = project.pipelines.iter().flat_map(|pipeline| &pipeline.steps).any(|step| step.into == table);
    if written || house.state().tables().await?.contains(&table) {
        return Ok(table);
    }
    Err(Fault::missing("table", name).hint("GET /api/v1/tables lists them"))
}
