//! Units replaced as whole partitions: by one job each, which is adopted and never doubled, and which an old lease cannot send.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::bigquery_strict::{Fault, PROJECT, Strict};
use crate::support::project::{Project, told};

const PIPELINE: &str = r#"
[window]
lookback = 2

[[extract]]
name = "items"
connection = "files"
files = "{{ ds }}.jsonl"
into = "raw.items"
write = "partition"
cluster_by = ["id"]
"#;

/// A project whose warehouse is this server, with two days of rows.
pub(super) fn project(server: &Strict, pipeline: &str) -> Project {
    let project = Project::empty();
    project.write("haul.toml", "warehouse = \"bq\"\n");
    project.write(
        "connections.toml",
        &format!(
            "[bq]\ntype = \"bigquery\"\nproject = \"{PROJECT}\"\nlocation = \"EU\"\nendpoint = \"{}\"\n\n[files]\ntype = \"files\"\nurl = \"data\"\n",
            server.url
        ),
    );
    project.write("pipelines/days.toml", pipeline);
    for day in ["2024-05-01", "2024-05-02"] {
        rows(&project, day, 3);
    }
    project
}

/// These are all rows of a day.
fn rows(project: &Project, day: &str, count: u64) {
    let lines: Vec<String> =
        (1..=count).map(|id| format!("{{\"id\":{id},\"price\":0.5,\"day\":\"{day}\"}}\n")).collect();
    project.write(&format!("data/{day}.jsonl"), &lines.concat());
}

/// Unit and id of each row of the table, with the pull that it is of.
fn picture(server: &Strict) -> Vec<String> {
    let rows = server.table("raw.items").rows;
    let mut rows: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} pull {}", row["_haul_unit"].as_str().unwrap_or("?"), row["id"], row["_haul_pull"]))
        .collect();
    rows.sort();
    rows
}

/// What `_haul_loads` says: unit, rows, generation.
fn loads(server: &Strict) -> Vec<String> {
    let line = |row: &Value| {
        format!("{} {} rows generation {}", row["unit"].as_str().unwrap_or("?"), row["rows"], row["generation"])
    };
    server.table("raw._haul_loads").rows.iter().map(line).collect()
}

#[test]
fn a_day_is_one_free_load_job_into_its_partition_and_no_statement_writes() {
    let server = Strict::start();
    let guard = "lookback = 2\nguard = { allow_empty = true, max_shrink = \"100%\" }";
    let project = project(&server, &PIPELINE.replace("lookback = 2", guard));
    project.stdout(&["run", "days", "--date", "2024-05-03"]);
    assert_eq!(
        picture(&server),
        [
            "2024-05-01 1 pull 1",
            "2024-05-01 2 pull 1",
            "2024-05-01 3 pull 1",
            "2024-05-02 1 pull 1",
            "2024-05-02 2 pull 1",
            "2024-05-02 3 pull 1"
        ]
    );
    let table = server.table("raw.items").resource;
    assert_eq!(table["timePartitioning"], json!({ "type": "DAY", "field": "_haul_unit" }));
    assert_eq!(table["clustering"], json!({ "fields": ["id"] }));
    let jobs = server.jobs();
    let sent: Vec<&Value> = jobs
        .values()
        .map(|job| &job.configuration["load"])
        .filter(|load| load["destinationTable"]["tableId"].as_str().is_some_and(|table| table.starts_with("items$")))
        .collect();
    assert_eq!(sent.len(), 2);
    for load in sent {
        assert_eq!(load["writeDisposition"], "WRITE_TRUNCATE", "{load}");
    }
    for (id, job) in &jobs {
        let sql = job.configuration["query"]["query"].as_str().unwrap_or("SELECT");
        assert!(sql.starts_with("SELECT"), "{sql}");
        let labels = &job.configuration["labels"];
        assert!(
            id.starts_with("asked_")
                || labels["pipeline"] == "days" && labels["step"] == "items" && labels["run"] == "days-2024-05-03-1",
            "{labels}"
        );
    }

    // A day that changed is replaced, one that did not is not written, and one that emptied empties.
    rows(&project, "2024-05-02", 1);
    let said = told(&project.output(&["run", "days", "--date", "2024-05-03"]));
    assert!(
        said.contains("unchanged items 2024-05-01"),
        "{said}\n{:#?}\n{:#?}",
        loads(&server),
        server.table("raw.items")
    );
    assert_eq!(picture(&server)[3..], ["2024-05-02 1 pull 2"]);
    rows(&project, "2024-05-02", 0);
    project.stdout(&["run", "days", "--date", "2024-05-03"]);
    assert_eq!(picture(&server).len(), 3);
}

#[test]
fn checks_see_the_rows_before_they_are_copied_into_their_partition() {
    let server = Strict::start();
    let project = project(&server, &format!("{PIPELINE}checks = [{{ not_null = [\"id\"] }}]\n"));
    project.stdout(&["run", "days", "--date", "2024-05-03"]);
    assert_eq!(picture(&server).len(), 6);
    let jobs = server.jobs();
    let copies: Vec<(&str, &str)> = jobs
        .values()
        .map(|job| &job.configuration["copy"])
        .filter(|copy| copy.is_object())
        .map(|copy| {
            (
                copy["sourceTable"]["tableId"].as_str().expect("a table"),
                copy["destinationTable"]["tableId"].as_str().expect("a table"),
            )
        })
        .collect();
    assert_eq!(copies.len(), 2, "{:?}", jobs.keys());
    for (from, to) in copies {
        assert!(
            from.starts_with("_haul_new_") && from.split_once('$').map(|at| at.1) == to.split_once('$').map(|at| at.1),
            "{from} to {to}"
        );
    }
    assert!(
        server.asked().iter().any(|asked| asked.starts_with("DELETE") && asked.contains("_haul_new_")),
        "what has arrived is removed"
    );
}

#[test]
fn columns_and_fields_of_records_are_added_by_a_patch_that_leaves_the_others_alone() {
    let server = Strict::start();
    let project = project(&server, &PIPELINE.replace("lookback = 2", "lookback = 1"));
    project.write("data/2024-05-01.jsonl", "{\"id\":1,\"o\":{\"a\":1,\"l\":[{\"x\":1}]}}\n");
    project.stdout(&["run", "days", "--date", "2024-05-02"]);
    project.write("data/2024-05-02.jsonl", "{\"id\":2,\"new\":true,\"o\":{\"b\":\"t\",\"l\":[{\"y\":0.5}]}}\n");
    project.stdout(&["run", "days", "--date", "2024-05-03"]);
    let fields = &server.table("raw.items").resource["schema"]["fields"];
    let names = |fields: &Value| -> Vec<String> {
        let fields = fields.as_array().cloned().unwrap_or_default();
        fields.iter().filter_map(|field| field["name"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!(names(fields), ["id", "o", "_haul_unit", "_haul_pull", "new"]);
    assert_eq!(names(&fields[1]["fields"]), ["a", "l", "b"]);
    assert_eq!(names(&fields[1]["fields"][1]["fields"]), ["x", "y"]);
    assert_eq!(server.asked().iter().filter(|one| one.starts_with("PATCH")).count(), 1);
}

#[test]
fn an_answer_that_was_lost_makes_no_second_job() {
    let server = Strict::start();
    let project = project(&server, &PIPELINE.replace("lookback = 2", "lookback = 1"));
    server.fail("uploadType=multipart haul_unit_", Fault::LoseAnswer);
    server.fail("uploadType=multipart haul_unit_", Fault::LoseAnswer);
    project.stdout(&["run", "days", "--date", "2024-05-02"]);
    assert_eq!(picture(&server).len(), 3);
    assert_eq!(server.named("haul_unit_").iter().filter(|id| !id.ends_with("_told")).count(), 1);
    assert_eq!(loads(&server), ["2024-05-01 3 rows generation 1"]);
}

#[test]
fn a_worker_that_dies_after_the_partition_was_written_leaves_a_job_that_its_successor_adopts() {
    let server = Strict::start();
    let project = project(&server, &PIPELINE.replace("lookback = 2", "lookback = 1"));
    // The partition is written, `_haul_loads` does not know it yet.
    server.hold("_told");
    let mut child = project
        .haul(&["run", "days", "--date", "2024-05-02"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("haul starts");
    server.wait_for("_told");
    child.kill().expect("SIGKILL");
    assert_eq!(child.wait().expect("an end").signal(), Some(9));
    assert_eq!((picture(&server).len(), loads(&server).len()), (3, 0));
    server.let_go();
    let said = project.stdout(&["run", "days", "--date", "2024-05-02"]);
    assert_eq!(picture(&server), ["2024-05-01 1 pull 1", "2024-05-01 2 pull 1", "2024-05-01 3 pull 1"], "{said}");
    assert_eq!(server.named("haul_unit_").iter().filter(|id| !id.ends_with("_told")).count(), 1, "{said}");
    assert_eq!(loads(&server), ["2024-05-01 3 rows generation 1"]);
    let said = told(&project.output(&["run", "days", "--date", "2024-05-02"]));
    assert!(said.contains("unchanged"), "{said}");
}

#[test]
fn a_worker_whose_lease_has_ended_writes_nothing() {
    let server = Strict::start();
    let project = project(&server, &PIPELINE.replace("lookback = 2", "lookback = 1"));
    project.stdout(&["run", "days", "--date", "2024-05-02"]);
    // It has read that nobody committed since, and is about to send its job when it falls asleep.
    rows(&project, "2024-05-01", 2);
    server.hold("uploadType=multipart haul_unit_");
    let asked = server.asked().len();
    let old = project
        .haul(&["run", "days", "--date", "2024-05-02"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("haul starts");
    while !server.asked()[asked..].iter().any(|one| one.contains("uploadType=multipart haul_unit_")) {
        std::thread::yield_now();
    }
    // Another machine takes over: the same state, a newer lease, other rows.
    let other = project_beside(&project);
    rows(&other, "2024-05-01", 5);
    let new = other
        .haul(&["run", "days", "--date", "2024-05-02"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("haul starts");
    let sent = || {
        server.asked()[asked..]
            .iter()
            .filter(|one| one.contains("uploadType=multipart haul_unit_") && !one.ends_with("_told"))
            .count()
    };
    while sent() < 2 {
        std::thread::yield_now();
    }
    server.let_go();
    let (old, new) = (old.wait_with_output().expect("an end"), new.wait_with_output().expect("an end"));
    // Both wanted to follow the same load, and one job was the first; in the end the newer lease's rows are there, and only they.
    let told = format!("{}\n{}\n{:#?}", told(&old), told(&new), loads(&server));
    assert_eq!(picture(&server).len(), 5, "{told}");
    let last = loads(&server).last().cloned().unwrap_or_default();
    assert_eq!(last, "2024-05-01 5 rows generation 3", "{told}");
}

/// A second copy of a project, with the same state.
fn project_beside(project: &Project) -> Project {
    let other = Project::empty();
    let status = std::process::Command::new("cp").args(["-r"]).arg(project.path().join(".")).arg(other.path()).status();
    assert!(status.expect("cp runs").success());
    other
}

#[test]
fn a_run_that_is_cancelled_cancels_its_job() {
    let server = Strict::start();
    let project = project(&server, &PIPELINE.replace("lookback = 2", "lookback = 1"));
    server.endless("haul_unit_");
    let child = project
        .haul(&["run", "days", "--date", "2024-05-02"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("haul starts");
    server.wait_for("uploadType=multipart haul_unit_");
    let polled = || {
        let asked = server.asked();
        let sent = asked.iter().position(|one| one.contains("uploadType=multipart haul_unit_")).unwrap_or(asked.len());
        asked[sent..].iter().any(|one| one.starts_with("GET") && one.contains("/jobs/haul_unit_"))
    };
    while !polled() {
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let ended = child.wait_with_output().expect("an end");
    assert_eq!(ended.status.code(), Some(130), "{}", told(&ended));
    let asked = server.asked();
    assert!(
        asked.iter().any(|one| one.starts_with("POST") && one.contains("/jobs/haul_unit_") && one.contains("/cancel")),
        "{asked:#?}"
    );
}

#[test]
fn a_partition_that_is_no_unit_is_told_with_what_would_be_right() {
    let server = Strict::start();
    for (keys, words) in [
        ("partition_by = \"none\"", "a partition of this table is not a unit"),
        ("partition_by = \"day\"", "a partition of this table is not a unit"),
        ("partition_by = { grain = \"month\" }", "a partition of this table is not a unit"),
    ] {
        let project = project(&server, &format!("{PIPELINE}{keys}\n"));
        let said = told(&project.output(&["check"]));
        assert!(said.contains(words) && said.contains("write = \"transaction\""), "{said}");
    }
}
