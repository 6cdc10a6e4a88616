//! What was billed and what was saved, by the server's own count.

use std::process::Stdio;

use serde_json::{Value, json};

use super::{GIB, SELECT, days, json, rows};
use crate::support::bigquery_service::{Service, Stored, stored};
use crate::support::gate::until;
use crate::support::mornings::Mornings;
use crate::support::project::told;

/// A table that is asked for its rows by a statement, since only those of a unit are wanted.
const BY_TIME: &str = r#"
[window]
lookback = 2

[[extract]]
name = "events"
connection = "ga4"
table = "shop.events_{{ ds_nodash }}"
time_column = "at"
time_format = "epoch"
into = "raw.events"
"#;

/// Rows `{ at }` at noon of a day in May 2024.
fn noon(day: u64, modified: u64) -> Stored {
    let at = 1_714_521_600 + (day - 1) * 86_400 + 43_200;
    Stored {
        schema: json!([{ "name": "at", "type": "INTEGER" }]),
        rows: vec![json!({ "f": [{ "v": at.to_string() }] })],
        modified,
        streaming: false,
    }
}

fn put_days(service: &Service) {
    for day in [2, 3] {
        let table = noon(day, 1);
        let name = format!("events_202405{day:02}");
        service
            .plan(&name, vec![crate::support::bigquery_service::Plan::Rows(table.schema.clone(), table.rows.clone())]);
        service.reads(&name, day * GIB, 1);
        service.put(&format!("shop.{name}"), table);
    }
}

fn costs(days: &Mornings, arguments: &[&str]) -> Value {
    json(days, &[&["costs"], arguments].concat())
}

#[test]
fn costs_tell_what_was_billed_and_what_unchanged_days_have_saved() {
    let service = Service::start(10);
    put_days(&service);
    let days = days(&service, BY_TIME);
    let said = days.run("2024-05-04", 0);
    assert!(said.contains("days-2024-05-04-1: billed 5.00 GiB for 2 jobs (0.0305 USD)"), "{said}");
    // Nothing has changed: the tables say so for nothing, no statement is sent, and the plan knows it too.
    let plan = &json(&days, &["plan", "days", "--date", "2024-05-04"])[0];
    assert_eq!((&plan["cost"]["spared"], &plan["cost"]["billed_bytes"]), (&json!(2), &json!(0)), "{plan}");
    let said = days.run("2024-05-04", 0);
    assert!(said.contains("saved 5.00 GiB by 2 unchanged units (0.0305 USD)"), "{said}");
    assert_eq!(service.jobs().len(), 2);
    // One day changes: it alone is billed again.
    service.put("shop.events_20240503", noon(3, 2));
    let said = days.run("2024-05-04", 0);
    assert!(said.contains("billed 3.00 GiB for 1 job") && said.contains("saved 2.00 GiB by 1 unchanged"), "{said}");
    assert_eq!(service.jobs().len(), 3);

    let all = costs(&days, &[]);
    let line = json!({
        "name": "days", "processed_bytes": 8 * GIB, "billed_bytes": 8 * GIB, "money": { "USD": 0.048_829 }, "jobs": 3,
        "cache_hits": 0, "slot_ms": 3 * 1234, "free_jobs": 0, "spared_units": 3, "saved_bytes": 7 * GIB,
        "saved_money": { "USD": 0.042_725 },
    });
    assert_eq!(all["lines"], json!([line]));
    for (by, name) in [("table", "raw.events"), ("step", "days.events"), ("day", "2024-05-04")] {
        let found = costs(&days, &["--by", by]);
        assert_eq!(found["lines"][0]["name"], name, "{found}");
        assert_eq!(found["total"]["billed_bytes"], 8 * GIB);
    }
    assert_eq!(costs(&days, &["--since", "2024-05-05"])["lines"], json!([]));
    assert_eq!(costs(&days, &["--pipeline", "days"])["total"]["jobs"], 3);
    let runs = json(&days, &["runs"]);
    let billed: Vec<_> =
        runs.as_array().expect("runs").iter().map(|run| run["counts"]["billed_bytes"].clone()).collect();
    assert_eq!(billed, [json!(3 * GIB), json!(null), json!(5 * GIB)]);
    let shown = told(&days.at(super::MORNING, &["costs"]));
    assert!(shown.contains("8.00 GiB") && shown.contains("0.0488 USD") && shown.contains("7.00 GiB"), "{shown}");
    let csv = days.at(super::MORNING, &["costs", "--output", "csv"]);
    let csv = String::from_utf8_lossy(&csv.stdout);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[1], format!("days,3,0,0,{0},{0},3702,0.048829 USD,3,{1},0.042725 USD", 8 * GIB, 7 * GIB));
}

#[test]
fn a_day_that_has_not_changed_takes_nothing_of_the_limit() {
    let service = Service::start(10);
    put_days(&service);
    let days = days(&service, BY_TIME);
    days.run("2024-05-04", 0);
    // Both days together are 5 GiB; the one that has changed is 3.
    service.put("shop.events_20240503", noon(3, 2));
    days.project.write("pipelines/days.toml", &format!("max_bytes = \"4 GiB\"\n{BY_TIME}"));
    let said = days.run("2024-05-04", 0);
    assert!(said.contains("billed 3.00 GiB for 1 job"), "{said}");
    // Had both changed, it would have been too much.
    service.put("shop.events_20240502", noon(2, 2));
    service.put("shop.events_20240503", noon(3, 3));
    days.run("2024-05-04", 5);
    assert_eq!(service.jobs().len(), 3);
}

#[test]
fn a_bill_is_written_once_though_the_run_was_killed_behind_it() {
    let service = Service::start(10);
    service.plan("shop.orders", vec![rows(0..45)]);
    service.reads("shop.orders", 2 * GIB, 1);
    let days = days(&service, &SELECT.replace("lookback = 3", "lookback = 1"));
    // Its third page never comes, since it waits for a second job; when it is asked for, the first one is durable.
    let third = "%2F20";
    service.hold_rows(third, 2);
    let mut command = days.project.haul(&["run", "days", "--date", "2024-05-04"]);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("haul starts");
    until("the third page", || service.door.asked().iter().any(|asked| asked.query.contains(third)).then_some(()));
    until("the bill", || (costs(&days, &[])["total"]["billed_bytes"] == 2 * GIB).then_some(()));
    run.kill().expect("it was running");
    run.wait().expect("it ends");
    days.run("2024-05-04", 0);
    let all = costs(&days, &[]);
    assert_eq!((&all["total"]["jobs"], &all["total"]["billed_bytes"]), (&json!(1), &json!(2 * GIB)), "{all}");
    assert_eq!(service.jobs().len(), 1);
}

#[test]
fn thirty_days_of_which_two_have_changed_read_and_write_those_two() {
    let service = Service::start(100);
    let name = |day: u64| format!("shop.events_202404{day:02}");
    for day in 1..=30 {
        service.put(&name(day), stored(day * 10..day * 10 + 3, 1));
    }
    let pipeline = r#"
[window]
lookback = 30

[[extract]]
name = "events"
connection = "ga4"
table = "shop.events_{{ ds_nodash }}"
into = "raw.events"

[[transform]]
name = "daily"
sql = "SELECT count(*) AS n, min(id) AS first FROM {{ ref('events') }} WHERE _haul_unit = {{ ds | sql }}"
"#;
    let days = days(&service, pipeline);
    days.run("2024-05-01", 0);
    assert_eq!(read(&service).len(), 30);
    for day in [7, 23] {
        service.put(&name(day), stored(day * 10..day * 10 + 5, 2));
    }
    let said = days.run("2024-05-01", 0);
    assert!(said.contains("4 loaded, 28 unchanged") && said.contains("28 skipped"), "{said}");
    let read = read(&service);
    assert_eq!(read.len(), 32, "{read:?}");
    assert!(read[30..].iter().any(|path| path.contains("20240407")), "{read:?}");
    assert!(read[30..].iter().any(|path| path.contains("20240423")), "{read:?}");
    // Written: the loads of the second run are those of the two days, in both tables.
    let written = days.project.query(
        "select table_name, cast(unit as varchar) as unit from _haul_loads where run = 'days-2024-05-01-2' order by all",
    );
    let units: Vec<&str> =
        written.as_array().expect("rows").iter().map(|row| row["unit"].as_str().expect("a unit")).collect();
    assert_eq!(units, ["2024-04-07", "2024-04-23", "2024-04-07", "2024-04-23"]);
    assert_eq!(days.project.query("select count(*) as n from raw.events"), json!([{ "n": 28 * 3 + 2 * 5 }]));
}

/// The tables whose rows were listed, in the order in which they were.
fn read(service: &Service) -> Vec<String> {
    service.door.asked().into_iter().map(|asked| asked.path).filter(|path| path.ends_with("/data")).collect()
}
