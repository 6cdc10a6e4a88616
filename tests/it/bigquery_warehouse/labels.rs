//! The labels of jobs: by pipeline, step, unit and run bills can be grouped.

use std::collections::BTreeSet;

use serde_json::Value;

use super::partitions::project;
use crate::support::bigquery_strict::Strict;

/// One step whose requests are of a unit each, and one that asks for all at once.
const PIPELINE: &str = r#"
[window]
lookback = 2

[[extract]]
name = "items"
connection = "files"
files = "{{ ds }}.jsonl"
into = "raw.items"
write = "partition"

[[extract]]
name = "all"
connection = "files"
per = "window"
files = "*.jsonl"
time_column = "day"
into = "raw.all"
write = "partition"
checks = [{ not_null = ["id"] }]
"#;

/// What kind of job it is, by its name and by what it does.
fn kind(id: &str, configuration: &Value) -> &'static str {
    if id.ends_with("_told") {
        "told"
    } else if configuration["load"].is_object() {
        "load"
    } else if configuration["copy"].is_object() {
        "copy"
    } else {
        "query"
    }
}

#[test]
fn every_job_says_its_pipeline_step_unit_and_run() {
    let server = Strict::start();
    let project = project(&server, PIPELINE);
    project.stdout(&["run", "days", "--date", "2024-05-03"]);
    project.stdout(&["run", "days", "--date", "2024-05-03"]);
    project.stdout(&["query", "SELECT * FROM raw.items"]);
    let mut seen = BTreeSet::new();
    for (id, job) in server.jobs() {
        let labels = job.configuration["labels"].as_object().cloned().unwrap_or_default();
        let label = |name: &str| labels.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let sort = kind(&id, &job.configuration);
        if labels.contains_key("haul") {
            // Of no step: what is looked at before any, and what somebody asks.
            assert_eq!((sort, labels.len()), ("query", 1), "{id}: {labels:?}");
            seen.insert(format!("{sort} {}", label("haul")));
            continue;
        }
        let runs = ["days-2024-05-03-1", "days-2024-05-03-2"];
        assert!(label("pipeline") == "days" && runs.contains(&label("run").as_str()), "{id}: {labels:?}");
        seen.insert(format!("{sort} {} {}", label("step"), label("unit")));
    }
    let expected = [
        "copy all 2024-05-01",
        "copy all 2024-05-02",
        "load all 2024-05-01__2024-05-02",
        "load items 2024-05-01",
        "load items 2024-05-02",
        "query all 2024-05-01__2024-05-02",
        "query items 2024-05-01",
        "query items 2024-05-02",
        "query plan",
        "query query",
        "told all 2024-05-01",
        "told all 2024-05-02",
        "told items 2024-05-01",
        "told items 2024-05-02",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}
