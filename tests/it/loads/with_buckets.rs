//! A bucket of Amazon S3 as the place that rows go to, where every write says what it replaces.

use serde_json::{Value, json};

use super::{Bench, DAYS, MORNING};
use crate::support::buckets::S3;
use crate::support::project::told;

/// Rows that go into the bucket, and from there back into the warehouse.
pub const STEPS: &str = r#"
[[load]]
name = "export"
from = "items"
connection = "lake"
into = "exports/dt={{ ds }}/part.parquet"

[[load]]
name = "back"
from_connection = "again"
from = "exports/dt={{ ds }}/*.parquet"
"#;

pub fn there_and_back(bench: &Bench) {
    let rows = |table: &str| {
        let sql = format!("select id, day, amount, big, text from {table} order by id");
        bench.query("warehouse", &sql)
    };
    // What was not there when the run began is late, and comes with the next.
    bench.mornings.run(MORNING, 4);
    assert_eq!(rows("raw.items").as_array().expect("rows").len(), 12);
    bench.run();
    assert_eq!(rows("raw.back"), rows("raw.items"));
    bench.day("2024-05-02", 6);
    bench.run();
    assert_eq!(bench.ended("export")[1], "2024-05-02 loaded");
    assert!(bench.ended("export")[0].contains("skipped"), "{:?}", bench.ended("export"));
    bench.run();
    assert_eq!(rows("raw.back"), rows("raw.items"));
    assert_eq!(rows("raw.items").as_array().expect("rows").len(), 14);
}

/// The connections `lake`, which writes, and `again`, which reads.
pub fn both(one: &dyn Fn(&str) -> String) -> String {
    format!("{}\n{}", one("lake"), one("again"))
}

#[test]
fn rows_go_into_a_bucket_of_s3_and_come_back() {
    let s3 = S3::shared();
    let connections = both(&|name| s3.connection(name, "there-and-back", &s3.secret));
    there_and_back(&Bench::new(STEPS, &connections));
    let record = s3.get("there-and-back/exports/_haul_loads/dt=ds+part.parquet/2024-05-02.json");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    assert_eq!(record["load"]["rows"], json!(6));
    assert_eq!(record["files"][0]["path"], json!("exports/dt=2024-05-02/part.parquet"));
}

#[test]
fn a_writer_whose_time_has_passed_writes_nothing() {
    let s3 = S3::shared();
    let bench = Bench::new(
        STEPS.split("\n[[load]]\nname = \"back\"").next().expect("steps"),
        &s3.connection("lake", "fence", &s3.secret),
    );
    bench.run();
    // Somebody else has claimed the day since, with a later generation.
    let path = "fence/exports/_haul_loads/dt=ds+part.parquet/2024-05-02.json";
    let mut record: Value = serde_json::from_slice(&s3.get(path)).expect("JSON");
    let before = s3.get("fence/exports/dt=2024-05-02/part.parquet");
    record["fence"] = json!(99);
    s3.put(path, record.to_string().into_bytes());
    bench.day("2024-05-02", 9);
    let output = bench.mornings.at(MORNING, &["run", "days", "--date", MORNING]);
    let told = told(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("a later one has claimed the unit"), "{told}");
    assert_eq!(s3.get("fence/exports/dt=2024-05-02/part.parquet"), before);
    assert_eq!(DAYS.len(), 3);
}

#[test]
fn killed_in_the_middle_the_next_run_ends_it() {
    let s3 = S3::shared();
    let connections = both(&|name| s3.connection(name, "killed", &s3.secret));
    let bench = Bench::new(STEPS, &connections);
    let now = format!("{MORNING}T06:00:00Z");
    for point in ["written:1", "flipped:1", "written:2", "committed:5"] {
        bench.project().output(&["run", "days", "--date", MORNING, "--now", &now, "--kill-at", point]);
    }
    bench.run();
    bench.run();
    let rows =
        |table: &str| bench.query("warehouse", &format!("select id, amount, big, text from {table} order by id"));
    assert_eq!(rows("raw.back"), rows("raw.items"));
}
