//! An API of pages that asks for a password.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;

use super::super::{Event, Origin, passes};
use crate::support::doors::nobody;
use crate::support::loopback::serve;
use crate::support::project::Project;

const SECRET: &str = "open-sesame-42";

type Days = Arc<Mutex<HashMap<String, Vec<Event>>>>;

struct Api {
    url: String,
    days: Days,
}

impl Api {
    fn start() -> Self {
        let days = Days::default();
        let router = Router::new().route("/events", get(events)).with_state(Arc::clone(&days));
        Self { url: serve(router), days }
    }

    fn at(url: &str) -> String {
        format!(
            "[origin]\ntype = \"http\"\nurl = \"{url}\"\nauth = {{ type = \"basic\", user = \"me\", password = \"{SECRET}\" }}\n"
        )
    }
}

async fn events(
    State(days): State<Days>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> (StatusCode, String) {
    // `me` and the secret, as RFC 7617 writes them.
    if headers.get("authorization").is_none_or(|value| value != "Basic bWU6b3Blbi1zZXNhbWUtNDI=") {
        return (StatusCode::UNAUTHORIZED, "who are you?".to_owned());
    }
    let offset: usize = query["offset"].parse().expect("an offset");
    let days = days.lock().expect("no test panicked here");
    let all = days.get(&query["day"]).map_or(&[][..], Vec::as_slice);
    let page: Vec<String> = all.iter().skip(offset).take(7).map(Event::json).collect();
    (StatusCode::OK, format!("[{}]", page.join(",")))
}

impl Origin for Api {
    fn connection(&self) -> String {
        Self::at(&self.url)
    }

    fn step(&self) -> String {
        "connection = \"origin\"\nrequest = { path = \"/events\", params = { day = \"{{ ds }}\" } }\npaginate = { by = \"offset\", limit = 7 }"
            .to_owned()
    }

    fn put(&self, _project: &Project, day: &str, events: &[Event]) {
        self.days.lock().expect("no test panicked here").insert(day.to_owned(), events.to_vec());
    }

    fn secret(&self) -> Option<&str> {
        Some(SECRET)
    }

    fn gone(&self) -> Option<String> {
        Some(Self::at(&format!("http://127.0.0.1:{}", nobody())))
    }
}

#[test]
fn pages_of_an_api_pass() {
    passes(&Api::start());
}
