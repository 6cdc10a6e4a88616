//! The HTTP API of `haul serve`: asked as a program asks it, over a socket, with the real binary behind it.

mod cli;
mod documented;
mod door;
mod pages;
mod work;

use serde_json::{Value, json};

use crate::support::project::Project;
use crate::support::steward::{Serving, until};

/// A project that is served on any free port, with a pipeline `p` of programs and a table of a SELECT.
pub(super) fn project() -> Project {
    let project = Project::with_api("http://127.0.0.1:9", "");
    project.write("haul.toml", "warehouse = \"warehouse\"\n\n[serve]\nlisten = \"127.0.0.1:0\"\npoll = \"200ms\"\n");
    project.write(
        "pipelines/p.toml",
        "description = \"Programs and a table\"\n\n[window]\nlookback = 2\nbegin = 2024-05-01\n\n\
         [[run]]\nname = \"tell\"\nper = \"window\"\nshell = true\ncommand = 'echo hello; test ! -f wait || until test -f go; do sleep 0.02; done; echo over'\n\n\
         [[transform]]\nname = \"days\"\nsql = \"SELECT CAST('{{ ds }}' AS DATE) AS day, 9007199254740993 AS n\"\ninto = \"mart.days\"\nafter = \"tell\"\n",
    );
    project.write(
        "pipelines/q.toml",
        "[schedule]\ncron = \"0 6 * * *\"\n\n[[run]]\nname = \"fail\"\nshell = true\ncommand = 'echo no; exit 3'\n",
    );
    project
}

/// Asks for a run and waits until its job has ended.
pub(super) fn run(serving: &Serving, pipeline: &str, body: &Value) -> Value {
    let asked = serving.post(&format!("/api/v1/pipelines/{pipeline}/trigger"), body);
    ended(serving, asked["job"]["id"].as_i64().expect("a number"))
}

/// A job as it stands when it has ended.
pub(super) fn ended(serving: &Serving, job: i64) -> Value {
    until("the job's end", || {
        let job = serving.get(&format!("/api/v1/jobs/{job}"))["job"].clone();
        (job["state"] == "done").then_some(job)
    })
}

/// The date of all runs.
pub(super) fn date() -> Value {
    json!({ "date": "2024-05-04" })
}
