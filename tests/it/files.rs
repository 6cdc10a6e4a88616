//! Files as a source: every format and compression, days that come late or again, half a file, and files on a web server.

mod broken;
mod kinds;
mod mornings;
mod pictures;
mod web;
mod with_s3;

use std::fs;

use crate::support::project::{Project, told};

/// A project with a DuckDB warehouse, these further connections, and one pipeline `days`.
pub fn project(connections: &str, pipeline: &str) -> Project {
    let project = Project::empty();
    project.write("haul.toml", "warehouse = \"warehouse\"\n");
    let warehouse = "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n";
    project.write("connections.toml", &format!("{warehouse}\n{connections}\n"));
    project.write("pipelines/days.toml", pipeline);
    project
}

/// Writes bytes into a file of the project, and the folders that it is in.
pub fn store(project: &Project, path: &str, bytes: &[u8]) {
    let path = project.path().join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    fs::write(path, bytes).expect("a file");
}

/// Runs the pipeline for a date; returns both streams after it ended with this code.
pub fn run(project: &Project, date: &str, code: i32) -> String {
    let output = project.output(&["run", "days", "--date", date, "--now", &format!("{date}T06:00:00Z")]);
    assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    told(&output)
}

/// The rows of a query as texts, cells with `|` between.
pub fn rows(project: &Project, sql: &str) -> Vec<String> {
    let answer = project.query(sql);
    let rows = answer.get("rows").unwrap_or(&answer).as_array().expect("rows").clone();
    let cell = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    rows.iter().map(|row| row.as_object().expect("a row").values().map(cell).collect::<Vec<_>>().join("|")).collect()
}
