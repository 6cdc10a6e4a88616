//! Days of 23 and 25 hours, and pipelines by the hour, over the mornings on which the clocks change.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use crate::support::mornings::{Mornings, counted};
use crate::support::project::told;
use crate::support::scripted::Scripted;

const BY_DAY: &str = r#"
timezone = "Europe/Berlin"

[window]
lookback = 3

[[extract]]
name = "items"
connection = "api"
per = "window"
request = { path = "/rows", params = { key = "{{ window.first }}" } }
paginate = { by = "offset", limit = 4, total = "$.total" }
records = "$.rows[*]"
time_column = "at"
outside = "drop"

[[transform]]
name = "daily"
sql = "select {{ ds | sql }} as day, count(*) as hours from {{ ref('items') }} where _haul_unit = {{ ds | sql }}"
"#;

const BY_HOUR: &str = r#"
timezone = "Europe/Berlin"

[window]
grain = "hour"
lookback = 25

[[extract]]
name = "items"
connection = "api"
request = { path = "/rows", params = { key = "{{ unit.start | iso }}" } }
paginate = { by = "offset", limit = 4, total = "$.total" }
records = "$.rows[*]"
time_column = "at"

[[transform]]
name = "hourly"
reach = "-1h..0h"
sql = """
select count(*) as items from {{ ref('items') }}
where _haul_unit in ({{ unit.start | sql }}, {{ unit.start | date_add(-1, 'hours') | sql }})"""
"#;

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

/// One row in the middle of every hour of a range.
fn hours(from: &str, to: &str) -> Vec<Value> {
    let (mut at, to) = (instant(from) + Duration::minutes(30), instant(to));
    let mut rows = Vec::new();
    while at < to {
        rows.push(json!({ "at": at.to_rfc3339(), "hour": rows.len() }));
        at += Duration::hours(1);
    }
    rows
}

#[test]
fn a_day_has_as_many_hours_as_its_zone_gives_it() {
    for (first, date, rows, expected) in [
        ("2024-03-30", "2024-04-02", ("2024-03-29T00:00:00Z", "2024-04-03T00:00:00Z"), [24, 23, 24]),
        ("2024-10-26", "2024-10-29", ("2024-10-25T00:00:00Z", "2024-10-30T00:00:00Z"), [24, 25, 24]),
    ] {
        let api = Scripted::start();
        api.put(first, hours(rows.0, rows.1));
        let days = Mornings::new(&api.url, BY_DAY);
        let said = days.run(date, 0);
        assert!(said.contains("rows lie outside of the unit and were left out"), "{said}");
        let counts: Vec<u64> = days.rows("raw.items").into_values().collect();
        assert_eq!(counts, expected, "{date}");
        let sums = days.counts("select cast(day as varchar) as unit, hours as n from mart.daily");
        assert_eq!(sums.into_values().collect::<Vec<_>>(), expected, "{date}");
        let plan = &days.json(date, &["plan", "days", "--date", date])[0];
        let window = &plan["window"];
        let length =
            instant(window["end"].as_str().expect("an end")) - instant(window["start"].as_str().expect("a start"));
        assert_eq!(length.num_hours(), expected.iter().sum::<u64>().cast_signed(), "{window}");
        assert_eq!((&window["timezone"], &window["units"]), (&json!("Europe/Berlin"), &json!(3)));
    }
}

/// One row for every hour, under the hour's own key.
fn by_hour(from: &str, to: &str) -> (Scripted, Mornings) {
    let api = Scripted::start();
    for row in hours(from, to) {
        let at = instant(row["at"].as_str().expect("a time")) - Duration::minutes(30);
        api.put(&at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true), vec![row]);
    }
    let days = Mornings::new(&api.url, BY_HOUR);
    (api, days)
}

#[test]
fn the_hour_that_comes_twice_is_two_units() {
    let (api, days) = by_hour("2024-10-26T00:00:00Z", "2024-10-29T00:00:00Z");
    let output = days.at("2024-10-30", &["run", "days", "--date", "2024-10-28"]);
    assert!(output.status.success(), "{}", told(&output));
    let asked = api.asked();
    assert_eq!(asked.len(), 25, "{asked:?}");
    assert_eq!(asked[0], "2024-10-26T22:00:00Z@0", "midnight in summer time");
    assert_eq!(asked[24], "2024-10-27T22:00:00Z@0", "eleven at night in winter time");
    let loaded = days.counts("select unit, rows as n from _haul_loads where table_name = 'raw.items'");
    assert!(loaded.contains_key("2024-10-27T00:00Z") && loaded.contains_key("2024-10-27T01:00Z"), "{loaded:?}");
    let items = days.project.query("select items, count(*) as n from mart.hourly group by 1 order by 1");
    assert_eq!(items, json!([{ "items": 1, "n": 1 }, { "items": 2, "n": 24 }]), "an hour and the one before");
    let status = days.text("2024-10-30", &["status", "--days", "3"]);
    assert!(status.contains("27T20 27T21 27T22"), "{status}");
}

#[test]
fn a_run_by_the_hour_covers_the_hours_before_this_one_and_finds_those_that_were_missed() {
    let (api, days) = by_hour("2024-03-30T00:00:00Z", "2024-04-01T00:00:00Z");
    let pipeline = BY_HOUR.replace("lookback = 25", "lookback = 2");
    days.project.write("pipelines/days.toml", &pipeline);
    let run = |now: &str| {
        let output = days.project.output(&["run", "days", "--now", now]);
        assert!(output.status.success(), "{}", told(&output));
        let asked = api.asked();
        asked.iter().map(|page| page[..16].to_owned()).collect::<Vec<_>>()
    };
    // Two o'clock is put forward to three at 01:00Z.
    assert_eq!(run("2024-03-31T01:10:00Z"), ["2024-03-30T23:00", "2024-03-31T00:00"]);
    assert_eq!(run("2024-03-31T02:10:00Z"), ["2024-03-31T00:00", "2024-03-31T01:00"]);
    let asked = run("2024-03-31T06:10:00Z");
    assert_eq!(asked, ["2024-03-31T02:00", "2024-03-31T03:00", "2024-03-31T04:00", "2024-03-31T05:00"]);
    assert_eq!(days.rows("raw.items").len(), 7);
    assert_eq!(days.rows("raw.items").values().sum::<u64>(), 7);
}

#[test]
fn weeks_and_months_are_units_too() {
    let api = Scripted::start();
    for (grain, expected) in [("week", ["2024-05-06", "2024-05-13"]), ("month", ["2024-03-01", "2024-04-01"])] {
        for unit in expected {
            api.put_day(unit, 2);
        }
        let pipeline = BY_HOUR.split("[[transform]]").next().expect("the extract");
        let pipeline = pipeline.replace("\"hour\"", &format!("\"{grain}\"")).replace("lookback = 25", "lookback = 2");
        let pipeline = pipeline.replace("unit.start | iso", "ds").replace("time_column = \"at\"\n", "");
        let days = Mornings::new(&api.url, &pipeline);
        days.run("2024-05-22", 0);
        assert_eq!(days.rows("raw.items"), counted(&[(expected[0], 2), (expected[1], 2)]), "{grain}");
        let text = days.text("2024-05-22", &["plan", "days", "--date", "2024-05-22"]);
        assert!(text.contains(&format!("(2 {grain}s)")), "{text}");
        let status = days.text("2024-05-22", &["status"]);
        let heads: Vec<&str> = status.lines().next().expect("a line").split_whitespace().collect();
        assert_eq!(heads.len(), 3, "{status}");
        assert_eq!(heads[2].len(), 5, "{status}");
    }
}
