//! The daemon: a year in seconds by its steps, and the binary at work, killed, stopped, steered and asked to end.

mod beside;
mod death;
mod drain;
mod files;
mod schedules;
mod steering;
mod waits;
mod world;
mod year;

use serde_json::Value;

use crate::support::gate::{Gate, until};
use crate::support::project::Project;

/// The daemon's settings in tests: it looks often, and believes nobody for long.
const QUICK: &str = "warehouse = \"warehouse\"\n[serve]\npoll = \"100ms\"\nlease = \"1s\"\n";

/// A project whose warehouse is in memory, so that several processes can work in it.
fn shared() -> Project {
    let project = Project::empty();
    project.write("haul.toml", QUICK);
    project.write("connections.toml", "[warehouse]\ntype = \"duckdb\"\npath = \":memory:\"\n");
    project
}

/// A project with a warehouse on disk, and an API.
fn gated(gate: &Gate) -> Project {
    let project = Project::with_api(&gate.url, "");
    project.write("haul.toml", QUICK);
    project.write("pipelines/rows.toml", ROWS);
    project
}

/// One day of the API.
const ROWS: &str = "[window]\nlookback = 1\n[[extract]]\nname = \"rows\"\nconnection = \"api\"\n\
                    request = { path = \"/rows\", params = { key = \"{{ ds }}\" } }\nrecords = \"$.rows[*]\"\n";

/// A pipeline of one command in a shell.
fn command(schedule: &str, text: &str) -> String {
    let window = "[window]\nlookback = 1\n";
    format!("{schedule}\n{window}[[run]]\nname = \"it\"\nshell = true\nper = \"window\"\ncommand = '''{text}'''\n")
}

/// The jobs of a project, whatever became of them, the first one first.
fn jobs(project: &Project) -> Vec<Value> {
    let mut jobs = project.json(&["queue", "--all"]).as_array().expect("a list").clone();
    jobs.reverse();
    jobs
}

/// Waits until a job of the project is as it should be.
fn job_until(project: &Project, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    until(what, || jobs(project).into_iter().find(|job| is(job)))
}

fn lines(project: &Project, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project.path().join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
