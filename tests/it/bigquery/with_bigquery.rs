//! The export of a website's events, morning after morning, in the emulator `local-bigquery`.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::bigquery::{Doorway, emulator, project_at};
use crate::support::ga4;
use crate::support::mornings::Mornings;
use crate::support::project::{Project, told};

/// The daily tables of a dataset, three days back.
fn shards(dataset: &str, more: &str) -> String {
    format!(
        r#"
[window]
lookback = 3

[[extract]]
name = "events"
connection = "ga4"
table = "{dataset}.events_{{{{ ds_nodash }}}}"
into = "raw.events"
{more}
"#
    )
}

fn mornings(door: &Doorway, pipeline: &str) -> Mornings {
    let project = project_at(&door.url);
    project.write("pipelines/days.toml", pipeline);
    Mornings { project }
}

/// The events of the table as JSON, in the order of their time.
fn events(project: &Project, unit: &str) -> Vec<Value> {
    let rows = project.query(&format!(
        "select cast(to_json(e) as varchar) as event from (select * exclude (_haul_unit, _haul_pull) from raw.events where _haul_unit = date '{unit}' order by event_timestamp) as e"
    ));
    let rows = rows.as_array().expect("rows").iter();
    rows.map(|row| serde_json::from_str(row["event"].as_str().expect("a text")).expect("JSON")).collect()
}

fn put(dataset: &str, date: &str, count: u64) {
    let table = format!("events_{}", date.replace('-', ""));
    emulator().put(dataset, &table, &ga4::schema(), &ga4::day(date, count));
}

/// What was asked of the rows of a day.
fn reads(asked: &[String], date: &str) -> usize {
    let rows = format!("events_{}/data", date.replace('-', ""));
    asked.iter().filter(|one| one.contains(&rows)).count()
}

#[test]
fn nested_and_repeated_fields_arrive_as_the_export_has_them() {
    put("nested", "2024-05-03", 30);
    let days = mornings(&Doorway::open(1000), &shards("nested", "").replace("lookback = 3", "lookback = 1"));
    days.run("2024-05-04", 0);
    assert_eq!(events(&days.project, "2024-05-03"), ga4::day("2024-05-03", 30));
    // As people ask for them.
    let sessions = days.project.query(
        "select count(distinct list_filter(event_params, lambda p: p.key = 'ga_session_id')[1].value.int_value) as sessions, sum(len(items)) as items, min(geo.city) as city from raw.events",
    );
    assert_eq!(sessions, json!([{ "sessions": 10, "items": 15, "city": "서울" }]));
}

#[test]
fn over_three_mornings_only_days_that_changed_are_read_and_a_day_that_is_missing_is_late() {
    let door = Doorway::open(1000);
    let days = mornings(&door, &shards("mornings", ""));
    put("mornings", "2024-05-01", 9);
    put("mornings", "2024-05-02", 12);
    let said = days.run("2024-05-04", 4);
    assert!(
        said.contains("there is no table test-project.mornings.events_20240503 yet; the newest is `events_20240502`"),
        "{said}"
    );
    assert_eq!(days.that_are("late"), ["events 2024-05-03"]);
    assert_eq!(days.rows("raw.events"), [("2024-05-01".to_owned(), 9), ("2024-05-02".to_owned(), 12)].into());
    door.asked();

    // The next morning: late events in one day, the missing day is there, one day is as it was.
    put("mornings", "2024-05-02", 14);
    put("mornings", "2024-05-03", 10);
    days.run("2024-05-04", 0);
    let asked = door.asked();
    let read = ["2024-05-01", "2024-05-02", "2024-05-03"].map(|date| reads(&asked, date));
    assert_eq!(read, [0, 1, 1], "{asked:?}");
    assert!(asked.contains(&"GET datasets/mornings/tables/events_20240501".to_owned()), "{asked:?}");
    assert_eq!(days.that_are("unchanged"), ["events 2024-05-01"]);
    assert_eq!(events(&days.project, "2024-05-02"), ga4::day("2024-05-02", 14));

    // The third: nothing has changed, and nothing is read.
    days.run("2024-05-04", 0);
    let asked = door.asked();
    assert_eq!(asked.iter().filter(|one| one.contains("/data")).count(), 0, "{asked:?}");
    assert_eq!(days.that_are("unchanged").len(), 3);
    // Whoever insists gets every row read again.
    days.project.stdout(&["run", "days", "--date", "2024-05-04", "--force"]);
    assert_eq!(door.asked().iter().filter(|one| one.contains("/data")).count(), 3);
}

#[test]
fn the_table_of_the_running_day_stands_in_until_the_daily_one_is_there() {
    let door = Doorway::open(1000);
    let more = "intraday = \"intraday.events_intraday_{{ ds_nodash }}\"";
    let days = mornings(&door, &shards("intraday", more).replace("lookback = 3", "lookback = 1"));
    emulator().put("intraday", "events_intraday_20240503", &ga4::schema(), &ga4::day("2024-05-03", 5));
    days.run("2024-05-04", 0);
    assert_eq!(events(&days.project, "2024-05-03").len(), 5);
    days.run("2024-05-04", 0);
    assert_eq!(days.that_are("unchanged"), ["events 2024-05-03"]);
    // The same number of rows in another table is another state.
    put("intraday", "2024-05-03", 7);
    emulator().drop("intraday", "events_intraday_20240503");
    days.run("2024-05-04", 0);
    assert_eq!(events(&days.project, "2024-05-03"), ga4::day("2024-05-03", 7));
    let gone = days.run("2024-05-05", 4);
    assert!(gone.contains("late      events 2024-05-04"), "{gone}");
}

#[test]
fn killed_between_two_pages_a_pull_goes_on_behind_the_durable_ones() {
    let door = Doorway::open(10);
    put("killed", "2024-05-03", 45);
    let days = mornings(&door, &shards("killed", "").replace("lookback = 3", "lookback = 1"));
    let third = "GET datasets/killed/tables/events_20240503/data at 30";
    door.hold(third);
    let mut child = days
        .project
        .haul(&["run", "days", "--date", "2024-05-04"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("haul starts");
    door.wait_for(third);
    child.kill().expect("it is running");
    assert_eq!(child.wait().expect("it ends").signal(), Some(9));
    door.let_go();
    door.asked();
    let said = days.run("2024-05-04", 0);
    let asked = door.asked();
    let pages: Vec<&String> = asked.iter().filter(|one| one.contains("/data")).collect();
    // The page before the one that was held may have been on its way to the disk.
    let newest = [
        "GET datasets/killed/tables/events_20240503/data at 20".to_owned(),
        third.to_owned(),
        third.replace("30", "40"),
    ];
    assert!(pages.iter().copied().eq(&newest[1..]) || pages.iter().copied().eq(&newest), "{asked:?}");
    assert!(said.contains("resumed   events 2024-05-03: ") && said.contains("0 rows on disk already"), "{said}");
    assert_eq!(events(&days.project, "2024-05-03"), ga4::day("2024-05-03", 45));
}

#[test]
fn pages_of_two_versions_of_a_table_are_never_mixed() {
    let door = Doorway::open(10);
    put("versions", "2024-05-03", 45);
    let days = mornings(&door, &shards("versions", "").replace("lookback = 3", "lookback = 1"));
    let killed = days.project.output(&["run", "days", "--date", "2024-05-04", "--kill-at", "page:2"]);
    assert_eq!(killed.status.signal(), Some(9), "{}", told(&killed));
    let other: Vec<Value> = (100..145).map(|number| ga4::event("2024-05-03", number)).collect();
    emulator().put("versions", "events_20240503", &ga4::schema(), &other);
    days.run("2024-05-04", 0);
    assert_eq!(events(&days.project, "2024-05-03"), other);
}

#[test]
fn every_type_arrives_with_all_that_it_holds() {
    emulator().sql("CREATE SCHEMA IF NOT EXISTS kinds");
    emulator().sql("DROP TABLE IF EXISTS kinds.all_of_them");
    emulator().sql(
        "CREATE TABLE kinds.all_of_them (i INT64, f FLOAT64, nan FLOAT64, inf FLOAT64, n NUMERIC, big BIGNUMERIC, b BOOL, s STRING, y BYTES, d DATE, dt DATETIME, t TIME, ts TIMESTAMP, j JSON, g GEOGRAPHY, r STRUCT<n NUMERIC, at TIMESTAMP, deep STRUCT<c STRING>>, l ARRAY<INT64>, empty ARRAY<STRING>, nothing STRING)",
    );
    emulator().sql(
        r#"INSERT kinds.all_of_them VALUES (9223372036854775807, 0.1, CAST('NaN' AS FLOAT64), CAST('-inf' AS FLOAT64), NUMERIC '12345678901234567890.123456789', BIGNUMERIC '12345678901234567890.5', TRUE, 'O\'Reilly\n"', b'\x00\xff', DATE '0001-01-01', DATETIME '2024-05-03T02:03:04.5', TIME '01:02:03.000001', TIMESTAMP '2024-05-03T00:00:00.123456+09:00', JSON '{"a":[1,2.50],"b":null}', ST_GEOGPOINT(1, 2), STRUCT(NUMERIC '0.123456789', TIMESTAMP '2024-05-03T00:00:00Z', STRUCT('c')), [1, 9007199254740993], [], NULL)"#,
    );
    let project = project_at(&emulator().url);
    project.write(
        "pipelines/days.toml",
        "[[extract]]\nname = \"kinds\"\nconnection = \"ga4\"\ntable = \"kinds.all_of_them\"\ninto = \"raw.kinds\"\n",
    );
    project.stdout(&["run", "days", "--date", "2024-05-04"]);
    let types = project.query("select column_name as name, data_type as type from information_schema.columns where table_name = 'kinds' and column_name not like '\\_haul%' escape '\\' order by ordinal_position");
    let types: Vec<String> = types
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| format!("{} {}", row["name"].as_str().expect("a name"), row["type"].as_str().expect("a type")))
        .collect();
    assert_eq!(
        types,
        [
            "i BIGINT",
            "f DOUBLE",
            "nan DOUBLE",
            "inf DOUBLE",
            "n DECIMAL(38,9)",
            "big VARCHAR",
            "b BOOLEAN",
            "s VARCHAR",
            "y VARCHAR",
            "d DATE",
            "dt TIMESTAMP",
            "t TIME",
            "ts TIMESTAMP",
            "j JSON",
            "g VARCHAR",
            "r STRUCT(n DECIMAL(38,9), \"at\" TIMESTAMP, deep STRUCT(c VARCHAR))",
            "l BIGINT[]",
            "empty VARCHAR[]",
            "nothing VARCHAR",
        ]
    );
    let texts = project.query("select cast(columns(* exclude (_haul_pull)) as varchar) from raw.kinds");
    assert_eq!(
        texts,
        json!([{
            "i": "9223372036854775807", "f": "0.1", "nan": "nan", "inf": "-inf", "n": "12345678901234567890.123456789",
            "big": "12345678901234567890.5", "b": "true", "s": "O'Reilly\n\"", "y": "AP8=",
            "d": "0001-01-01", "dt": "2024-05-03 02:03:04.5", "t": "01:02:03.000001", "ts": "2024-05-02 15:00:00.123456",
            "j": "{\"a\":[1,2.5],\"b\":null}", "g": "POINT(1 2)",
            "r": "{'n': 0.123456789, 'at': '2024-05-03 00:00:00', 'deep': {'c': c}}", "l": "[1, 9007199254740993]",
            "empty": "[]", "nothing": null,
        }])
    );
}

#[test]
fn rows_are_asked_for_by_their_own_time_in_the_terms_of_its_column() {
    emulator().sql("CREATE SCHEMA IF NOT EXISTS by_time");
    emulator().sql("DROP TABLE IF EXISTS by_time.orders");
    emulator().sql(
        "CREATE TABLE by_time.orders AS SELECT id, TIMESTAMP_ADD(TIMESTAMP '2024-05-01 15:00:00+00', INTERVAL id HOUR) AS at, DATETIME_ADD(DATETIME '2024-05-02 00:00:00', INTERVAL id HOUR) AS local, DATE_ADD(DATE '2024-05-02', INTERVAL CAST(FLOOR(id / 24) AS INT64) DAY) AS day, 1714575600 + id * 3600 AS seconds FROM UNNEST(GENERATE_ARRAY(-5, 80)) AS id",
    );
    for (column, more) in [("at", ""), ("local", ""), ("day", ""), ("seconds", "time_format = \"epoch\"\n")] {
        let project = project_at(&emulator().url);
        project.write(
            "pipelines/days.toml",
            &format!(
                "timezone = \"Asia/Seoul\"\n[window]\nlookback = 2\n[[extract]]\nname = \"orders\"\nconnection = \"ga4\"\ntable = \"by_time.orders\"\ntime_column = \"{column}\"\n{more}into = \"raw.orders\"\n"
            ),
        );
        project.stdout(&["run", "days", "--date", "2024-05-04"]);
        let rows = project.query("select cast(_haul_unit as varchar) as unit, count(*) as n, min(id) as first, max(id) as last from raw.orders group by all order by all");
        assert_eq!(
            rows,
            json!([{ "unit": "2024-05-02", "n": 24, "first": 0, "last": 23 }, { "unit": "2024-05-03", "n": 24, "first": 24, "last": 47 }]),
            "{column}"
        );
    }
}

#[test]
fn a_select_is_read_for_each_unit_and_its_probe_counts_first() {
    emulator().sql("CREATE SCHEMA IF NOT EXISTS selects");
    let fill = |last: u64| {
        emulator().sql("DROP TABLE IF EXISTS selects.orders");
        emulator().sql(&format!(
            "CREATE TABLE selects.orders AS SELECT id, DATE_ADD(DATE '2024-05-02', INTERVAL DIV(id, 10) DAY) AS day, id AS version FROM UNNEST(GENERATE_ARRAY(0, {last})) AS id"
        ));
    };
    fill(14);
    let door = Doorway::open(4);
    let days = mornings(
        &door,
        r#"
vars = { note = "it's \\ so\n" }
[window]
lookback = 2
[[extract]]
name = "orders"
connection = "ga4"
sql = "WITH o AS (SELECT id, day, version, {{ var('note') | sql }} AS note FROM selects.orders) SELECT * FROM o;"
time_column = "day"
changed_column = "version"
into = "raw.orders"
"#,
    );
    days.run("2024-05-04", 0);
    assert_eq!(days.rows("raw.orders"), [("2024-05-02".to_owned(), 10), ("2024-05-03".to_owned(), 5)].into());
    assert_eq!(days.project.query("select distinct note from raw.orders"), json!([{ "note": "it's \\ so\n" }]));
    fill(16);
    days.run("2024-05-04", 0);
    assert_eq!(days.that_are("unchanged"), ["orders 2024-05-02"]);
    assert_eq!(days.rows("raw.orders"), [("2024-05-02".to_owned(), 10), ("2024-05-03".to_owned(), 7)].into());
}

#[test]
fn a_wrong_name_is_told_with_those_that_are_alike() {
    put("names", "2024-05-03", 1);
    for (table, words) in [
        ("names.event_{{ ds_nodash }}", "did you mean `events_20240503`?"),
        ("nams.events_{{ ds_nodash }}", "did you mean `names`?"),
        ("names.events", "the dataset `names` has `events_20240503`"),
        ("events", "dataset.table, or project.dataset.table"),
    ] {
        let days =
            mornings(&Doorway::open(10), &shards("x", "write = \"full\"").replace("x.events_{{ ds_nodash }}", table));
        let said = days.run("2024-05-04", 1);
        assert!(said.contains(words), "{table}: {said}");
    }
}

#[test]
fn a_fault_in_the_sql_is_shown_beside_its_line() {
    let days = mornings(
        &Doorway::open(10),
        r#"
[window]
[[extract]]
name = "orders"
connection = "ga4"
sql = """
SELECT
  1 AS id,
  {{ ds | sql }} AS day
FRM a.b
"""
"#,
    );
    let said = days.run("2024-05-04", 1);
    assert!(said.contains("Syntax error"), "{said}");
    assert!(said.contains("3 |   DATE '2024-05-03' AS day\n") && said.contains("> 4 | FRM a.b"), "{said}");
}

#[test]
fn render_and_preview_show_what_is_asked_and_what_comes() {
    put("looks", "2024-05-03", 8);
    let days = mornings(&Doorway::open(1000), &shards("looks", "intraday = \"looks.events_intraday_{{ ds_nodash }}\""));
    let rendered = days.text("2024-05-04", &["render", "days", "events", "--date", "2024-05-04"]);
    assert!(rendered.contains("tabledata.list test-project.looks.events_20240503"), "{rendered}");
    let preview = days.text("2024-05-04", &["preview", "days", "events", "--date", "2024-05-04"]);
    assert!(preview.contains("page_view") && preview.contains("1714694400000007"), "{preview}");
}
