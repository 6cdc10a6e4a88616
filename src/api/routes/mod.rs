//! The routes, each with its documentation, and the OpenAPI document that they make together.
#![expect(unused_qualifications, reason = "the documentation's macros name the parameters by their paths")]

mod backfills;
mod connections;
mod health;
mod incidents;
mod jobs;
mod ledger;
mod logs;
mod pipelines;
mod query;
mod runs;
mod steps;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::fault::Fault;
use super::house::House;

pub use jobs::{JobView, JobWithNotes, TriggerBody, TriggeredView};
pub use ledger::DecidedView;
pub use query::QueryBody;

const ABOUT: &str = "What `haul serve` is asked and told. Every answer is JSON; what cannot be done is answered by \
    `{ \"error\": { \"kind\", \"message\", \"hint\" } }` with a status that fits. Lists come in pages: `next` of one is `after` of \
    the request for the following one. Answers have an `ETag`, so that asking again with `If-None-Match` costs little.";

/// The routes that are open to everybody and those that need the token, with the document of both.
pub(super) fn all() -> ((Router<House>, Router<House>), OpenApi) {
    let (open, mut document) = OpenApiRouter::with_openapi(base()).merge(open()).split_for_parts();
    let (closed, of_closed) = OpenApiRouter::new().merge(closed()).split_for_parts();
    document.merge(of_closed);
    ((open, closed), document)
}

fn open() -> OpenApiRouter<House> {
    OpenApiRouter::new().routes(routes!(health::alive)).routes(routes!(health::ready)).routes(routes!(health::document))
}

fn closed() -> OpenApiRouter<House> {
    OpenApiRouter::new()
        .routes(routes!(health::metrics))
        .routes(routes!(health::status))
        .routes(routes!(pipelines::list))
        .routes(routes!(pipelines::one))
        .routes(routes!(pipelines::plan))
        .routes(routes!(pipelines::schedule))
        .routes(routes!(jobs::trigger))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::occurrences))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::one))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::cancel_run))
        .routes(routes!(jobs::retry))
        .routes(routes!(steps::preview))
        .routes(routes!(backfills::list))
        .routes(routes!(backfills::create))
        .routes(routes!(backfills::one))
        .routes(routes!(backfills::pause))
        .routes(routes!(backfills::resume))
        .routes(routes!(backfills::cancel))
        .routes(routes!(runs::list))
        .routes(routes!(runs::one))
        .routes(routes!(incidents::list))
        .routes(routes!(logs::list))
        .routes(routes!(logs::stream))
        .routes(routes!(ledger::tables))
        .routes(routes!(ledger::units))
        .routes(routes!(ledger::drift))
        .routes(routes!(ledger::approve))
        .routes(routes!(ledger::reject))
        .routes(routes!(ledger::costs))
        .routes(routes!(connections::list))
        .routes(routes!(connections::test))
        .routes(routes!(query::query))
}

fn base() -> OpenApi {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    // Parameters name their words, and bring no schema of them along.
    let components = ComponentsBuilder::new()
        .schema_from::<ledger::CostsWord>()
        .security_scheme("token", SecurityScheme::Http(bearer))
        .build();
    let info = InfoBuilder::new().title("haul").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)).build();
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// What is answered where no route leads.
pub(super) async fn nothing(uri: Uri) -> Fault {
    Fault::missing("page", uri.path()).hint("GET /api/openapi.json has all there are")
}

/// What is answered where a route leads, but not by this method.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Fault {
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "usage", format!("{} is not asked by {method}", uri.path()))
        .hint("GET /api/openapi.json has all there are")
}
