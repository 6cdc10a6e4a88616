//! The books of a BigQuery warehouse, on the emulator: it reads nothing by its own account, but its jobs are counted.

use serde_json::json;

use super::json;
use crate::support::bigquery_gate::Gate;
use crate::support::mornings::Mornings;

#[test]
fn jobs_of_a_warehouse_are_counted_loads_as_free_and_a_skipped_table_has_none() {
    let gate = Gate::open();
    let pipeline = r#"
max_bytes = "1 GB"

[[extract]]
name = "items"
files = "rows.jsonl"
into = "money_raw.items"

[[transform]]
name = "sums"
sql = "SELECT count(*) AS n FROM {{ ref('items') }}"
into = "money_mart.sums"
max_bytes = "1 GB"
"#;
    let days = Mornings { project: gate.project(pipeline) };
    days.project.write("rows.jsonl", "{\"id\": 1}\n{\"id\": 2}\n");
    // The table that `sums` reads is not there yet: its price comes right before its statement.
    let plan = &json(&days, &["plan", "days", "--date", "2024-05-04"])[0];
    assert_eq!(plan["tasks"][1]["cost"]["reason"], "unknown until `items` ran", "{plan}");
    days.run("2024-05-04", 0);
    let costs = json(&days, &["costs", "--by", "step"]);
    let line = |name: &str| {
        let lines = costs["lines"].as_array().expect("lines");
        lines.iter().find(|line| line["name"] == name).cloned().unwrap_or_else(|| panic!("no {name}: {costs}"))
    };
    assert!(line("days.items")["free_jobs"].as_u64() >= Some(1), "{costs}");
    assert!(line("days.sums")["jobs"].as_u64() >= Some(1), "{costs}");
    assert_eq!(line("days.sums")["billed_bytes"], 0);
    let jobs = costs["total"]["jobs"].clone();
    // Nothing has changed: the sums are not computed again.
    let said = days.run("2024-05-04", 0);
    assert!(said.contains("1 unchanged") && said.contains("1 skipped"), "{said}");
    assert_eq!(json(&days, &["costs", "--by", "step"])["lines"][1]["jobs"], line("days.sums")["jobs"]);
    assert_ne!(jobs, json!(0));
}
