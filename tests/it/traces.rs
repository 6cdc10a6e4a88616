//! Runs as traces of OpenTelemetry: what is sent, to whom, and that no run is worse for it.

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod faults;
#[cfg(feature = "otel")]
mod lost;
#[cfg(feature = "otel")]
mod sent;

use crate::support::project::Project;
use crate::support::scripted::Scripted;

/// The logical date of all runs.
const DATE: &str = "2024-05-04";

/// An extract of two days, a table that reads it, and a command that fails where there is a file `broken`.
const PIPELINE: &str = r#"
[window]
lookback = 2

[[extract]]
name       = "items"
connection = "api"
request    = { path = "/rows", params = { key = "{{ ds }}" } }
paginate   = { by = "offset", limit = 4, total = "$.total" }
records    = "$.rows[*]"

[[transform]]
name = "counted"
sql  = "select {{ ds | sql }} as day, count(*) as n from {{ ref('items') }}"
into = "mart.counted"

[[run]]
name    = "tell"
per     = "window"
shell   = true
command = "test ! -f broken || { echo nobody is there >&2; exit 3; }"
"#;

/// An API with two days of rows, and a project that sends its traces where `serve` says.
fn project(serve: &str) -> (Scripted, Project) {
    let api = Scripted::start();
    api.put_day("2024-05-02", 6);
    api.put_day("2024-05-03", 2);
    let project = Project::with_api(&api.url, "");
    let listen = "listen = \"127.0.0.1:0\"\npoll = \"200ms\"\n";
    project.write("haul.toml", &format!("warehouse = \"warehouse\"\n\n[serve]\n{listen}{serve}\n"));
    project.write("pipelines/p.toml", PIPELINE);
    (api, project)
}
