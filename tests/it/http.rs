//! More of HTTP: bodies, odd answers, formats, reports, conditional requests, and every further way to say who we are.

#![expect(clippy::expect_used, reason = "a test whose own setting fails has to panic")]

mod bodies;
mod conditional;
mod formats;
mod identity;
mod reports;
mod rules;

use crate::support::project::{Project, told};
use crate::support::station::Station;

/// Small pauses, so that no test waits.
const RETRY: &str = "retry = { max_attempts = 4, min_backoff = \"1ms\", max_backoff = \"3ms\" }";

/// A project with one step `items` over a day, with these keys; `connection` are further keys of its connection.
fn project(station: &Station, connection: &str, step: &str) -> Project {
    let project = Project::with_api(&station.url, connection);
    write(&project, step);
    project
}

/// Writes the step anew.
fn write(project: &Project, step: &str) {
    let head = "[window]\nlookback = 1\nbegin = 2020-01-01\n\n[[extract]]\nname = \"items\"\nconnection = \"api\"\n";
    project.write("pipelines/items.toml", &format!("{head}{RETRY}\n{step}\n"));
}

/// Runs the day before a date, and ends well.
fn run(project: &Project, date: &str) -> String {
    let output = project.output(&["run", "items", "--date", date]);
    assert!(output.status.success(), "{}", told(&output));
    words(&told(&output))
}

/// Runs the day before a date, which fails, and returns what it told.
fn run_badly(project: &Project, date: &str) -> String {
    let output = project.output(&["run", "items", "--date", date]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    words(&told(&output))
}

/// Words are looked for, wherever the screen breaks its lines.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What `haul check` says of a step that is wrong.
fn check(step: &str) -> String {
    let project = Project::with_api("http://localhost:1", "");
    write(&project, step);
    let output = project.output(&["check"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    words(&told(&output))
}
