//! Fan-outs: a request for each item, each answer durable once, and the others go on when one fails.

mod big;
mod failed;
mod files;
mod items;
mod pressure;

use serde_json::{Value, json};

use crate::support::fan_api::FanApi;
use crate::support::project::Project;

/// Retries that a test does not wait for.
pub const RETRY: &str = "retry = { max_attempts = 3, min_backoff = \"1ms\", max_backoff = \"3ms\" }";

/// A project with one step, `stats`, and what else stands in its pipeline, which is called `fan`.
pub fn project(api: &FanApi, connection: &str, head: &str, step: &str) -> Project {
    let project = Project::with_api(&api.url, connection);
    project.write(
        "pipelines/fan.toml",
        &format!("{head}\n[[extract]]\nname = \"stats\"\nconnection = \"api\"\ninto = \"raw.stats\"\n{step}\n"),
    );
    project
}

/// The values of one column, in their order.
pub fn column(project: &Project, sql: &str) -> Vec<Value> {
    let rows = project.query(sql);
    let rows = rows.as_array().expect("rows");
    rows.iter().map(|row| row.as_object().and_then(|row| row.values().next()).cloned().unwrap_or(json!(null))).collect()
}

/// The only value of a query, as a number.
pub fn number(project: &Project, sql: &str) -> u64 {
    column(project, sql)[0].as_u64().expect("a number")
}

/// What the binary says of files that are wrong, as the codes of its faults.
pub fn faults(project: &Project) -> Vec<(String, String)> {
    let output = project.output(&["check", "--output", "json"]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |fault: &Value, key: &str| fault[key].as_str().expect("a text").to_owned();
    let list = found.as_array().or_else(|| found["diagnostics"].as_array()).expect("a list");
    list.iter().map(|fault| (text(fault, "code"), text(fault, "message"))).collect()
}
