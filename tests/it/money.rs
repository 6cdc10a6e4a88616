//! Money: plans are priced before anything is spent, limits refuse, unchanged days cost nothing, and the books are right.

mod books;
mod limits;
mod literals;
mod prices;
mod with_bigquery;

use serde_json::Value;

use crate::support::bigquery_service::{Plan, Service, columns, stored};
use crate::support::mornings::Mornings;

/// When everything happens.
const MORNING: &str = "2024-05-04";

/// A GiB.
const GIB: u64 = 1 << 30;

/// A SELECT for each of three days.
const SELECT: &str = r#"
[window]
lookback = 3

[[extract]]
name = "events"
connection = "ga4"
sql = "SELECT * FROM shop.orders WHERE day = {{ ds | sql }}"
into = "raw.events"
"#;

fn days(service: &Service, pipeline: &str) -> Mornings {
    let project = service.project();
    project.write("pipelines/days.toml", pipeline);
    Mornings { project }
}

fn rows(ids: std::ops::Range<u64>) -> Plan {
    Plan::Rows(columns(), stored(ids, 0).rows)
}

/// What a command prints as JSON, whatever it exits with.
fn json(days: &Mornings, arguments: &[&str]) -> Value {
    let ran = days.at(MORNING, &[arguments, &["--output", "json"]].concat());
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", crate::support::project::told(&ran)))
}
