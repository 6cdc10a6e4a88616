//! A collection as the place that rows go to, and as the place that they come from.

use mongodb::bson::{DateTime, doc};
use serde_json::json;

use super::{Bench, DAYS};
use crate::support::mongodb::Database;
use crate::support::project::told;

const STEPS: &str = r#"
[[load]]
name = "serve"
from = "items"
connection = "mongo"
into = "items"

[[load]]
name = "back"
from = "serve"
into = "raw.back"
"#;

#[test]
fn rows_go_into_a_collection_and_come_back() {
    let database = Database::new();
    let bench = Bench::new(STEPS, &database.connection("mongo"));
    let rows = |table: &str| {
        let sql =
            format!("select id, day, amount, big, text, cast(_haul_unit as varchar) as unit from {table} order by id");
        bench.query("warehouse", &sql)
    };
    bench.run();
    assert_eq!(rows("raw.back"), rows("raw.items"));
    assert_eq!(database.all("items").len(), 12);
    bench.day("2024-05-02", 6);
    bench.day("2024-05-03", 0);
    bench.run();
    assert_eq!(rows("raw.back"), rows("raw.items"));
    let units: Vec<String> =
        database.all("items").iter().map(|row| row.get_str("_haul_unit").expect("a unit").to_owned()).collect();
    assert_eq!(units.iter().filter(|unit| *unit == "2024-05-02").count(), 6);
    assert_eq!(units.len(), 10);
    bench.run();
    assert!(bench.ended("serve").iter().all(|ended| ended.contains("skipped")), "{:?}", bench.ended("serve"));
}

#[test]
fn documents_of_others_come_by_their_own_time() {
    let database = Database::new();
    let steps = "[[load]]\nname = \"users\"\nfrom_connection = \"mongo\"\nfrom = \"users\"\ntime_column = \"at\"\n";
    let bench = Bench::new(steps, &database.connection("mongo"));
    let at = |text: &str| DateTime::parse_rfc3339_str(text).expect("a time");
    let documents =
        DAYS.iter().map(|day| doc! { "_id": *day, "at": at(&format!("{day}T12:00:00Z")), "n": 1_i64 << 60 });
    database.insert("users", documents.collect());
    bench.run();
    let rows = bench.query("warehouse", "select _id, n, cast(_haul_unit as varchar) as unit from raw.users order by 1");
    assert_eq!(rows[1], json!({ "_id": "2024-05-02", "n": 1_u64 << 60, "unit": "2024-05-02" }));
    assert_eq!(rows.as_array().expect("rows").len(), 3);
}

#[test]
fn what_a_collection_cannot_do_is_told() {
    let database = Database::new();
    let steps = STEPS.replace("into = \"items\"\n", "into = \"items\"\nwrite = \"merge\"\nkeys = [\"id\"]\n");
    let steps = steps.split("\n[[load]]\nname = \"back\"").next().expect("steps").to_owned();
    let bench = Bench::new(&steps, &database.connection("mongo"));
    let output = bench.try_run();
    let told = told(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("`merge` is for tables"), "{told}");
}
