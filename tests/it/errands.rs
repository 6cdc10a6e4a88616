//! Steps that write no table: waits for something outside, and commands.

mod commands;
mod faults;
mod waits;

use serde_json::Value;

use crate::support::project::{Project, told};
use crate::support::running::Running;
use crate::support::scripted::Scripted;

const DATE: &str = "2024-05-04";
const WINDOW: &str = "[window]\nlookback = 2\n";

/// An extract of the days of the window, under a name.
fn extract(name: &str, more: &str) -> String {
    format!(
        "[[extract]]\nname = \"{name}\"\nconnection = \"api\"\nrequest = {{ path = \"/rows\", params = {{ key = \"{{{{ ds }}}}\" }} }}\n\
         paginate = {{ by = \"offset\", limit = 4, total = \"$.total\" }}\nrecords = \"$.rows[*]\"\n{more}\n"
    )
}

/// An API with two days, and a project with this pipeline.
fn project(steps: &str) -> (Scripted, Project) {
    let api = Scripted::start();
    api.put_day("2024-05-02", 3);
    api.put_day("2024-05-03", 2);
    let project = Project::with_api(&api.url, "");
    project.write("pipelines/p.toml", &format!("{WINDOW}{steps}"));
    (api, project)
}

/// Runs the pipeline for the date, with the exit code that is expected; returns what it said.
fn run(project: &Project, code: i32) -> String {
    let output = project.output(&["run", "p", "--date", DATE, "-v"]);
    assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    told(&output)
}

/// The rows of a table, none where it is not there.
fn count(project: &Project, table: &str) -> Value {
    project.query(&format!("select count(*) as rows from {table}"))[0]["rows"].clone()
}

/// The pipeline's run for the date, under way.
fn running(project: &Project) -> Running {
    Running::start(project, &["run", "p", "--date", DATE, "-v"])
}
