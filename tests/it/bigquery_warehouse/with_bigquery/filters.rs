//! Tables that want a filter on their partitions, written by transactions: made so, and never read without one.

use serde_json::{Value, json};

use crate::support::bigquery_gate::Gate;
use crate::support::project::{Project, told};

/// An extract by day in partitions of months, a merge by a column's months, and a transform that reads one of them.
const PIPELINE: &str = r#"
[window]
lookback = 2

[[extract]]
name = "items"
connection = "files"
files = "{{ ds }}.jsonl"
into = "raw.items"
keys = ["id"]
partition_by = { grain = "month" }
require_partition_filter = true
partition_expires = "9000d"

[[extract]]
name = "newest"
connection = "files"
files = "{{ ds }}.jsonl"
into = "raw.newest"
write = "merge"
keys = ["id"]
partition_by = { column = "made", grain = "month" }
require_partition_filter = true

[[transform]]
name = "daily"
sql = "select count(*) as items from {{ ref('items') }} where _haul_unit = {{ ds | sql }}"
into = "mart.daily"
"#;

fn rows(project: &Project, day: &str, ids: &[u32]) {
    let line = |id: &u32| format!("{{\"id\":{id},\"made\":\"{day}\"}}\n");
    project.write(&format!("data/{day}.jsonl"), &ids.iter().map(line).collect::<String>());
}

fn run(project: &Project) -> String {
    let output = project.output(&["run", "days", "--date", "2024-05-02"]);
    assert!(output.status.success(), "{}", told(&output));
    told(&output)
}

#[test]
fn a_table_that_wants_a_filter_is_written_and_counted_with_one() {
    let gate = Gate::open();
    let project = gate.project(PIPELINE);
    rows(&project, "2024-04-30", &[1, 2]);
    rows(&project, "2024-05-01", &[3]);
    run(&project);
    let made = gate.bodies("/datasets/raw/tables ");
    let of = |name: &str| {
        let found = made.iter().find(|table| table["tableReference"]["tableId"] == name);
        found.cloned().unwrap_or_else(|| panic!("{name} was not made: {made:#?}"))
    };
    let end = (9_000_u64 * 24 * 3600 * 1000).to_string();
    let items = json!({ "type": "MONTH", "field": "_haul_unit", "expirationMs": end });
    assert_eq!((&of("items")["timePartitioning"], &of("items")["requirePartitionFilter"]), (&items, &json!(true)));
    let newest = json!({ "type": "MONTH", "field": "made" });
    assert_eq!((&of("newest")["timePartitioning"], &of("newest")["requirePartitionFilter"]), (&newest, &json!(true)));

    // Replaced, merged, counted, and looked at before the next run: the emulator refuses to read without a filter.
    let refused = told(&project.output(&["query", "select count(*) from raw.items"]));
    assert!(refused.contains("without a filter"), "{refused}");
    gate.forget();
    rows(&project, "2024-05-01", &[3, 2]);
    let said = run(&project);
    assert!(said.contains("unchanged items 2024-04-30"), "{said}");
    let all = "_haul_unit >= '2024-01-01'";
    let rows = |table: &str, filter: &str| {
        project.query(&format!("select id, _haul_unit as unit from raw.{table} where {filter} order by unit, id"))
    };
    let row = |id: u32, unit: &str| json!({ "id": id, "unit": unit });
    let (first, second) = ("2024-04-30", "2024-05-01");
    assert_eq!(rows("items", all), json!([row(1, first), row(2, first), row(2, second), row(3, second)]));
    let newest = rows("newest", "made >= '2024-01-01'");
    assert_eq!(newest, json!([row(1, first), row(2, second), row(3, second)]));
    assert_eq!(
        project.query("select items, _haul_unit as unit from mart.daily order by unit"),
        json!([{ "items": 2, "unit": first }, { "items": 2, "unit": second }])
    );

    // What changes rows is held back by BigQuery for the lack of a filter, but not by the emulator.
    let mut deleted = 0;
    for job in gate.bodies("/jobs haul_commit_") {
        let sql = job["configuration"]["query"]["query"].as_str().unwrap_or_default().to_owned();
        for (table, column) in [("items", "_haul_unit"), ("newest", "made")] {
            let wanted = format!("DELETE FROM `raw`.`{table}` WHERE ");
            for condition in sql.split(&wanted).skip(1) {
                let condition = condition.split(";\n").next().unwrap_or_default();
                assert!(
                    condition.contains(&format!("{column} IN ("))
                        || condition.contains(&format!("`{column}` IS NULL OR")),
                    "{condition}"
                );
                deleted += 1;
            }
        }
        let labels = &job["configuration"]["labels"];
        assert!(["2024-05-01", "2024-04-30__2024-05-01"].iter().any(|unit| labels["unit"] == *unit), "{labels}");
        assert_ne!((&labels["pipeline"], &labels["step"], &labels["run"]), (&Value::Null, &Value::Null, &Value::Null));
    }
    assert_eq!(deleted, 2, "{:#?}", gate.bodies("/jobs haul_commit_"));
}
