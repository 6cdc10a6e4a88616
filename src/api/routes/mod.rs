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
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use super::fault::Fault;
use super::house::House;

pub use jobs::{JobView, JobWithNotes, TriggerBody, TriggeredView};
pub use ledger::DecidedView;
pub use query::QueryBody;

const ABOUT: &str = "What `haul serve` is asked and told. Every answer is JSON; what cannot be done is answered by \
    `{ \"error\": { \"kind\", \"message\", \"hint\" } }` with a status that fits. Lists come in pages: `next` of one is `after` of \
    the request for the following one. Answers have an `ETag`, so that asking again with `If-None-Match` costs little.";

/// A route with its documentation.
type Route = UtoipaMethodRouter<House>;

/// The routes that are open to everybody.
const OPEN: &[fn() -> Route] = &[|| routes!(health::alive), || routes!(health::ready), || routes!(health::document)];

/// The routes that need the token.
const CLOSED: &[fn() -> Route] = &[
    || routes!(health::metrics),
    || routes!(health::status),
    || routes!(pipelines::list),
    || routes!(pipelines::one),
    || routes!(pipelines::plan),
    || routes!(pipelines::schedule),
    || routes!(jobs::trigger),
    || routes!(jobs::pause),
    || routes!(jobs::resume),
    || routes!(jobs::occurrences),
    || routes!(jobs::list),
    || routes!(jobs::one),
    || routes!(jobs::cancel),
    || routes!(jobs::cancel_run),
    || routes!(jobs::retry),
    || routes!(steps::preview),
    || routes!(backfills::list),
    || routes!(backfills::create),
    || routes!(backfills::one),
    || routes!(backfills::pause),
    || routes!(backfills::resume),
    || routes!(backfills::cancel),
    || routes!(runs::list),
    || routes!(runs::one),
    || routes!(incidents::list),
    || routes!(logs::list),
    || routes!(logs::stream),
    || routes!(ledger::tables),
    || routes!(ledger::units),
    || routes!(ledger::drift),
    || routes!(ledger::approve),
    || routes!(ledger::reject),
    || routes!(ledger::costs),
    || routes!(connections::list),
    || routes!(connections::test),
    || routes!(query::query),
];

/// The routes that are open to everybody and those that need the token.
pub(super) fn all() -> (Router<House>, Router<House>) {
    (served(OPEN), served(CLOSED))
}

/// Routes alone: the documentation of each is gone before the next is made, since it is larger than all else that waits here.
fn served(routes: &[fn() -> Route]) -> Router<House> {
    routes.iter().fold(Router::new(), |router, route| router.merge(OpenApiRouter::new().routes(route())))
}

/// The document of all routes.
pub(super) fn document() -> OpenApi {
    let routes = OPEN.iter().chain(CLOSED);
    let documented = routes
        .fold(OpenApiRouter::with_openapi(base()), |document: OpenApiRouter<House>, route| document.routes(route()));
    documented.into_openapi()
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
