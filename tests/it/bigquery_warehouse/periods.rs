//! Partitions of months and hours, required filters, expiry and locations: what BigQuery is told of them.

use serde_json::{Value, json};

use super::partitions::project;
use crate::support::bigquery_strict::{PROJECT, Strict};
use crate::support::project::{Project, told};

/// An extract whose units are of this grain, with a file for each.
fn by(grain: &str, file: &str, keys: &str) -> String {
    format!(
        r#"
[window]
grain = "{grain}"
lookback = 2
guard = {{ allow_empty = true, max_shrink = "100%" }}

[[extract]]
name = "items"
connection = "files"
files = "{file}.jsonl"
into = "raw.items"
write = "partition"
{keys}
"#
    )
}

/// These are all rows of a unit.
fn rows(project: &Project, file: &str, ids: &[u64]) {
    let lines: Vec<String> = ids.iter().map(|id| format!("{{\"id\":{id}}}\n")).collect();
    project.write(&format!("data/{file}.jsonl"), &lines.concat());
}

fn picture(server: &Strict) -> Vec<String> {
    let line = |row: &Value| format!("{} {}", row["_haul_unit"].as_str().unwrap_or("?"), row["id"]);
    let mut lines: Vec<String> = server.table("raw.items").rows.iter().map(line).collect();
    lines.sort();
    lines
}

/// The destinations of load jobs into the table, and how each says that the table is divided.
fn loads(server: &Strict) -> Vec<(String, Value)> {
    let jobs = server.jobs();
    let loads = jobs.values().map(|job| &job.configuration["load"]);
    let mut loads: Vec<(String, Value)> = loads
        .filter_map(|load| {
            let to = load["destinationTable"]["tableId"].as_str()?;
            to.starts_with("items").then(|| (to.to_owned(), load["timePartitioning"].clone()))
        })
        .collect();
    loads.sort_by(|one, other| one.0.cmp(&other.0));
    loads
}

fn run(project: &Project, date: &str) -> String {
    let output = project.output(&["run", "days", "--date", date]);
    assert!(output.status.success(), "{}", told(&output));
    told(&output)
}

#[test]
fn months_are_partitions_of_their_own_with_a_filter_and_an_end() {
    let server = Strict::start();
    let keys = "require_partition_filter = true\npartition_expires = \"400d\"\n";
    let project = project(&server, &by("month", "{{ ds }}", keys));
    rows(&project, "2024-03-01", &[1, 2]);
    rows(&project, "2024-04-01", &[3]);
    run(&project, "2024-05-03");
    assert_eq!(picture(&server), ["2024-03-01 1", "2024-03-01 2", "2024-04-01 3"]);
    let table = server.table("raw.items").resource;
    let end = (400_u64 * 24 * 3600 * 1000).to_string();
    assert_eq!(table["timePartitioning"], json!({ "type": "MONTH", "field": "_haul_unit", "expirationMs": end }));
    assert_eq!(table["requirePartitionFilter"], true);
    // A job that says how the table is divided must not say anew when its partitions end.
    let month = json!({ "type": "MONTH", "field": "_haul_unit" });
    assert_eq!(loads(&server), [("items$202403".to_owned(), month.clone()), ("items$202404".to_owned(), month)]);
    // The units that are there are read with a filter, which the server insists on.
    rows(&project, "2024-04-01", &[4, 5]);
    let said = run(&project, "2024-05-04");
    assert!(said.contains("unchanged items 2024-03-01"), "{said}");
    assert_eq!(picture(&server), ["2024-03-01 1", "2024-03-01 2", "2024-04-01 4", "2024-04-01 5"]);
    rows(&project, "2024-03-01", &[]);
    run(&project, "2024-05-05");
    assert_eq!(picture(&server), ["2024-04-01 4", "2024-04-01 5"]);
}

#[test]
fn hours_are_partitions_of_their_own() {
    let server = Strict::start();
    let keys = "checks = [{ not_null = [\"id\"] }]\ncluster_by = [\"id\"]\n";
    let project = project(&server, &by("hour", "{{ unit.start | strftime('%Y%m%dT%H') }}", keys));
    rows(&project, "20240501T22", &[1]);
    rows(&project, "20240501T23", &[2, 3]);
    run(&project, "2024-05-02");
    let expected = ["2024-05-01 22:00:00 1", "2024-05-01 23:00:00 2", "2024-05-01 23:00:00 3"];
    assert_eq!(picture(&server), expected);
    let table = server.table("raw.items").resource;
    assert_eq!(table["timePartitioning"], json!({ "type": "HOUR", "field": "_haul_unit" }));
    assert_eq!((&table["requirePartitionFilter"], &table["clustering"]), (&Value::Null, &json!({ "fields": ["id"] })));
    // Rows that are looked at first come by way of a copy, of which both sides are divided by the hour.
    let jobs = server.jobs();
    let decorators = |of: &str| -> Vec<String> {
        let tables = jobs.values().filter_map(|job| job.configuration["copy"][of]["tableId"].as_str());
        let mut hours: Vec<String> =
            tables.filter_map(|table| table.split_once('$').map(|(_, hour)| hour.to_owned())).collect();
        hours.sort();
        hours
    };
    assert_eq!(decorators("sourceTable"), ["2024050122", "2024050123"]);
    assert_eq!(decorators("destinationTable"), ["2024050122", "2024050123"]);
    let made: Vec<&Value> = jobs
        .values()
        .map(|job| &job.configuration["load"])
        .filter(|load| load["destinationTable"]["tableId"].as_str().is_some_and(|to| to.starts_with("_haul_new_")))
        .map(|load| &load["timePartitioning"])
        .collect();
    assert_eq!(made, [&json!({ "type": "HOUR", "field": "_haul_unit" }); 2]);
    rows(&project, "20240501T23", &[3]);
    let said = run(&project, "2024-05-02");
    assert!(said.contains("unchanged items 2024-05-01T22:00Z"), "{said}");
    assert_eq!(picture(&server), [expected[0], expected[2]]);
}

/// Says where the connection's datasets are; an empty text leaves it to BigQuery.
fn located(project: &Project, server: &Strict, location: &str) {
    let line = if location.is_empty() { String::new() } else { format!("location = \"{location}\"\n") };
    project.write(
        "connections.toml",
        &format!(
            "[bq]\ntype = \"bigquery\"\nproject = \"{PROJECT}\"\nendpoint = \"{}\"\n{line}\n[files]\ntype = \"files\"\nurl = \"data\"\n",
            server.url
        ),
    );
}

#[test]
fn datasets_are_made_and_jobs_looked_for_where_the_connection_says() {
    let server = Strict::start_in("asia-northeast3");
    let project = project(&server, &by("day", "{{ ds }}", "checks = [{ not_null = [\"id\"] }]\n"));
    for elsewhere in ["", "EU"] {
        located(&project, &server, elsewhere);
        let output = project.output(&["run", "days", "--date", "2024-05-03"]);
        let place = if elsewhere.is_empty() { "US" } else { elsewhere };
        let words = format!("'{place}' violates constraint");
        assert!(!output.status.success() && told(&output).contains(&words), "{}", told(&output));
        assert!(server.datasets().is_empty() && server.jobs().is_empty(), "{:?}", server.asked());
    }
    located(&project, &server, "asia-northeast3");
    run(&project, "2024-05-03");
    assert_eq!(server.datasets().into_iter().collect::<Vec<_>>(), [("raw".to_owned(), json!("asia-northeast3"))]);
    assert_eq!(picture(&server).len(), 6);
    let said = run(&project, "2024-05-03");
    assert!(said.contains("unchanged"), "{said}");
    // Datasets that are there are not found elsewhere, and nothing is written.
    let jobs = server.jobs().len();
    rows(&project, "2024-05-02", &[9]);
    for elsewhere in ["", "US"] {
        located(&project, &server, elsewhere);
        let output = project.output(&["run", "days", "--date", "2024-05-03"]);
        assert!(!output.status.success(), "{}", told(&output));
        assert!(told(&output).contains("was not found in location US"), "{}", told(&output));
    }
    assert_eq!((server.jobs().len(), picture(&server).len()), (jobs, 6));
}
