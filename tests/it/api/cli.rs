//! The command line beside a daemon that is at work: it asks the daemon, and says and ends the same as without.

use serde_json::json;

use super::{date, project, run};
use crate::support::project::{Project, told};
use crate::support::steward::{Serving, until};

const RUN: [&str; 4] = ["run", "p", "--date", "2024-05-04"];

#[test]
fn a_run_beside_a_daemon_is_the_daemons_and_ends_as_it_would_here() {
    let project = project();
    let serving = Serving::start(&project);
    let output = project.output(&RUN);
    let said = told(&output);
    assert_eq!(output.status.code(), Some(0), "{said}\n{}", serving.said());
    assert!(said.contains(&format!("`haul serve` (process {}) runs it", serving.pid())), "{said}");
    for words in [
        "run p-2024-05-04-1 for 2024-05-04, 3 tasks",
        "loaded    days 2024-05-02: 1 row ",
        "done      tell 2024-05-02: exit code 0",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.contains("p-2024-05-04-1: 2 loaded, 0 unchanged"), "{said}");
    let jobs = serving.get("/api/v1/jobs?state=done");
    assert_eq!(
        (&jobs["items"][0]["run"], &jobs["items"][0]["outcome"]),
        (&json!("p-2024-05-04-1"), &json!("succeeded"))
    );
    // What fails, fails the command; what is not there, is told at once.
    let output = project.output(&["run", "q"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("failed with exit code 3"), "{}", told(&output));
    let records = project.json(&["run", "p", "--date", "2024-05-05", "--force"]);
    assert_eq!((&records[0]["id"], &records[0]["status"]), (&json!("p-2024-05-05-1"), &json!("succeeded")));
    assert_eq!(project.output(&["run", "nothing"]).status.code(), Some(2));
}

#[test]
fn rows_are_asked_for_while_the_daemon_has_the_file() {
    let project = project();
    let serving = Serving::start(&project);
    run(&serving, "p", &date());
    // A run that goes on keeps the file in the daemon's hands.
    project.write("wait", "");
    let asked = serving.post("/api/v1/pipelines/p/trigger", &json!({ "date": "2024-05-08" }));
    let job = asked["job"]["id"].as_i64().expect("a number");
    until("the run", || serving.get(&format!("/api/v1/jobs/{job}"))["job"]["run"].as_str().map(str::to_owned));
    assert_eq!(project.query("SELECT count(*) AS n FROM mart.days"), json!([{ "n": 2 }]));
    let output = project.output(&["query", "SELECT nothing FROM nowhere"]);
    assert!(!output.status.success() && told(&output).contains("nowhere"), "{}", told(&output));
    let preview = project.json(&["preview", "p", "days", "--date", "2024-05-04", "--rows", "1"]);
    assert_eq!(preview[0]["n"].to_string(), "9007199254740993");
    project.write("go", "");
}

#[test]
fn a_sign_of_a_daemon_that_is_gone_counts_nothing() {
    let project = project();
    Serving::start(&project).kill();
    assert!(project.path().join(".haul/serve.json").is_file(), "a daemon that is killed takes nothing down");
    let output = project.output(&RUN);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(!told(&output).contains("haul serve"), "{}", told(&output));
    // One that ends in order takes its sign with it.
    Serving::start(&project).end();
    assert!(!project.path().join(".haul/serve.json").exists());
}

#[test]
fn whoever_wants_it_here_has_it_here_where_nobody_else_has_the_warehouse() {
    let project = project();
    let serving = Serving::start(&project);
    let output = project.output(&["run", "p", "--date", "2024-05-04", "--local"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(!told(&output).contains("haul serve"), "{}", told(&output));
    assert_eq!(serving.get("/api/v1/jobs?state=done")["items"], json!([]), "the queue knows nothing of it");
    assert_eq!(serving.get("/api/v1/runs")["items"][0]["id"], "p-2024-05-04-1", "the ledger does");
}

#[test]
fn interrupting_a_run_of_the_daemon_cancels_it_there() {
    let project = project();
    project.write("wait", "");
    let serving = Serving::start(&project);
    let mut child = project.haul(&RUN).stderr(std::process::Stdio::piped()).spawn().expect("haul starts");
    let hello = |project: &Project| {
        let text = std::fs::read_to_string(project.path().join(".haul/logs/p-2024-05-04-1.jsonl")).unwrap_or_default();
        text.contains("hello").then_some(())
    };
    until("the first word", || hello(&project));
    let interrupted = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.expect("kill").success());
    let code = until("the end", || child.try_wait().expect("a look")).code();
    assert_eq!(code, Some(130));
    let jobs = serving.get("/api/v1/jobs?state=done");
    assert_eq!(jobs["items"][0]["outcome"], "cancelled", "{jobs}");
}
