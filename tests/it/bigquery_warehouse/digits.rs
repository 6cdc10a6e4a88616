//! Numbers with more digits than the emulator keeps, and a type that BigQuery cannot change: what is sent, stored and said.

use serde_json::json;

use super::partitions::project;
use crate::support::bigquery_strict::Strict;
use crate::support::project::{Project, told};

const PIPELINE: &str = r#"
[window]
lookback = 1

[[extract]]
name = "items"
connection = "files"
files = "{{ ds }}.jsonl"
into = "raw.items"
write = "partition"
"#;

/// Runs the day before `date` with these rows.
fn run(project: &Project, day: &str, date: &str, rows: &str) -> Result<String, String> {
    project.write(&format!("data/{day}.jsonl"), rows);
    let output = project.output(&["run", "days", "--date", date]);
    if output.status.success() { Ok(told(&output)) } else { Err(told(&output)) }
}

/// The columns of the table: name, type, digits.
fn columns(server: &Strict) -> Vec<String> {
    let fields = server.table("raw.items").resource["schema"]["fields"].clone();
    let word = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let column = |field: &serde_json::Value| {
        format!(
            "{} {} {} {}",
            word(&field["name"]),
            word(&field["type"]),
            word(&field["precision"]),
            word(&field["scale"])
        )
    };
    let own = |column: &String| !column.starts_with("_haul_");
    fields.as_array().into_iter().flatten().map(column).filter(own).collect()
}

/// What has an exponent is sent as it is written: BigQuery reads it so.
#[test]
fn numbers_land_in_types_that_have_room_for_every_digit_and_come_back_with_them() {
    let server = Strict::start();
    let project = project(&server, PIPELINE);
    let rows = "{\"n\":9007199254740993,\"h\":1,\"d\":1234567890123456789012345678.0123456789,\"x\":1.2345678901234567891e-2}\n\
                {\"n\":-9223372036854775808,\"h\":-170141183460469231731687303715884105727,\"d\":-0.1,\"x\":1234567890123456.789e1}\n";
    run(&project, "2024-05-02", "2024-05-03", rows).expect("a run");
    assert_eq!(columns(&server), ["n INTEGER - -", "h BIGNUMERIC 38 -", "d BIGNUMERIC 38 10", "x BIGNUMERIC 38 21"],);
    assert_eq!(
        project.query("SELECT * FROM raw.items"),
        json!([
            {
                "n": 9_007_199_254_740_993_u64, "h": "1", "d": "1234567890123456789012345678.0123456789",
                "x": "1.2345678901234567891e-2", "_haul_unit": "2024-05-02", "_haul_pull": 1,
            },
            {
                "n": i64::MIN, "h": "-170141183460469231731687303715884105727", "d": "-0.1",
                "x": "1234567890123456.789e1", "_haul_unit": "2024-05-02", "_haul_pull": 1,
            },
        ])
    );
}

#[test]
fn a_number_widens_in_place_until_it_has_room_for_every_digit() {
    let server = Strict::start();
    let project = project(&server, PIPELINE);
    let rows = "{\"h\":1,\"d\":-9223372036854775808,\"x\":0.1234567890123456789,\"no\":-9223372036854775808}\n";
    run(&project, "2024-05-02", "2024-05-03", rows).expect("a run");
    let before = columns(&server);
    assert_eq!(before[..2], ["h INTEGER - -", "d INTEGER - -"]);
    let told = run(&project, "2024-05-03", "2024-05-04", "{\"no\":0.12345678901234567891}\n").expect_err("too long");
    assert!(told.contains("`no` is BIGINT in the table and DECIMAL(38,20) in the new rows"), "{told}");
    assert_eq!(columns(&server), before);
    let rows = "{\"h\":9223372036854775808,\"d\":0.1234567890123456789,\"x\":7}\n";
    run(&project, "2024-05-03", "2024-05-04", rows).expect("a run");
    assert_eq!(columns(&server), ["h BIGNUMERIC 38 -", "d BIGNUMERIC 38 19", "x BIGNUMERIC 37 19", "no INTEGER - -"]);
}

#[test]
fn a_date_that_cannot_become_a_time_is_refused_with_the_statement_that_would_do_it() {
    let server = Strict::start();
    let project = project(&server, PIPELINE);
    run(&project, "2024-05-02", "2024-05-03", "{\"at\":\"2024-03-01\"}\n").expect("a run");
    let rows = "{\"at\":\"2024-03-02T01:00:00+01:00\"}\n";
    let told = run(&project, "2024-05-03", "2024-05-04", rows).expect_err("it is a date");
    assert!(told.contains("is DATE and has to become TIMESTAMP: BigQuery cannot change that in place"), "{told}");
    assert!(
        told.contains("CREATE OR REPLACE TABLE `raw`.`items`") && told.contains("CAST(`at` AS TIMESTAMP)"),
        "{told}"
    );
    assert_eq!(columns(&server), ["at DATE - -"]);
    assert_eq!(server.table("raw.items").rows.len(), 1);
}
