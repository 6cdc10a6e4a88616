//! Transforms: one unit or a window at a time, in the order of their references, with the templates' and the warehouse's errors at their lines.

use serde_json::Value;

use crate::support::mornings::{Mornings, counted};
use crate::support::project::told;
use crate::support::scripted::{Scripted, day_row};

const DATE: &str = "2024-05-04";

/// The extract that all of these read; transforms come behind it.
const ITEMS: &str = r#"
[window]
lookback = 3

[[extract]]
name = "items"
connection = "api"
request = { path = "/rows", params = { key = "{{ ds }}" } }
paginate = { by = "offset", limit = 4, total = "$.total" }
records = "$.rows[*]"
"#;

fn may() -> Scripted {
    let api = Scripted::start();
    (1..=6).for_each(|day| api.put_day(&format!("2024-05-0{day}"), 4));
    api
}

fn with(api: &Scripted, transforms: &str) -> Mornings {
    Mornings::new(&api.url, &format!("{ITEMS}\n{transforms}"))
}

#[test]
fn a_transform_over_the_window_is_divided_into_units_by_its_own_time_and_writes_only_those_that_changed() {
    let api = may();
    let days = with(
        &api,
        r#"[[transform]]
name = "daily"
per = "window"
time_column = "day"
sql = """
select day, count(*) as items, sum(amount) as amount from {{ ref('items') }}
where _haul_unit between {{ window.first | sql }} and {{ window.last | sql }} group by day"""
"#,
    );
    days.run(DATE, 0);
    let one_each = counted(&[("2024-05-01", 1), ("2024-05-02", 1), ("2024-05-03", 1)]);
    assert_eq!(days.rows("mart.daily"), one_each);
    assert_eq!(days.that_are("loaded").len(), 4, "three extracts and one statement: {:?}", days.outcome());
    api.put("2024-05-02", (0..4).map(|index| day_row("2024-05-02", index, 9)).collect());
    days.run(DATE, 0);
    let expected = counted(&[("2024-05-01", 1), ("2024-05-02", 2), ("2024-05-03", 1)]);
    assert_eq!(days.commits("mart.daily"), expected);
    days.run(DATE, 0);
    assert_eq!(days.outcome()["daily 2024-05-01"], "skipped: nothing that it reads has changed");
    let said = days.run("2024-05-05", 0);
    assert!(said.contains("loaded    daily 2024-05-02 to 2024-05-04: "), "a task over several days says so: {said}");
    assert_eq!(days.rows("mart.daily").len(), 4);
    assert_eq!(days.commits("mart.daily")["2024-05-03"], 1);
}

#[test]
fn rows_of_another_time_than_the_windows_are_refused_and_counted() {
    let api = may();
    let statement = "select day, count(*) as items from {{ ref('items') }} group by day";
    let step =
        format!("[[transform]]\nname = \"daily\"\nper = \"window\"\ntime_column = \"day\"\nsql = \"{statement}\"\n");
    let days = with(&api, &step);
    days.run(DATE, 0);
    let said = days.run("2024-05-05", 1);
    assert!(said.contains("outside of the window"), "{said}");
    assert!(said.contains("hint: restrict the statement to `window.start` and `window.end`"), "{said}");
    assert_eq!(days.rows("mart.daily").len(), 3, "the old rows stay");
}

#[test]
fn steps_run_in_the_order_of_their_references_with_macros_and_includes_of_sql() {
    let api = may();
    let days = with(
        &api,
        r#"[[transform]]
name = "last"
sql = "select sum(items) as items from {{ ref('middle') }} where _haul_unit = {{ ds | sql }}"

[[transform]]
name = "middle"
sql = "sql/middle.sql"
"#,
    );
    days.project.write("sql/macros/sums.sql", "{% macro total(column) %}sum({{ column | ident }}){% endmacro %}");
    days.project.write("sql/parts/of_the_day.sql", "_haul_unit = {{ ds | sql }}");
    let middle = "{% import 'sql/macros/sums.sql' as sums %}\n\
                  select count(*) as items, {{ sums.total('amount') }} as amount\n\
                  from {{ ref('items') }}\nwhere {% include 'sql/parts/of_the_day.sql' %}\n";
    days.project.write("sql/middle.sql", middle);
    days.run(DATE, 0);
    assert_eq!(days.project.query("select sum(items)::bigint as n from mart.last")[0]["n"], 12);
    assert_eq!(days.project.query("select sum(amount)::bigint as n from mart.middle")[0]["n"], 12);
    let plan = days.json(DATE, &["plan", "days", "--date", DATE]);
    let after: Vec<&Value> = plan[0]["tasks"].as_array().expect("tasks").iter().map(|task| &task["after"]).collect();
    assert_eq!(after.last().and_then(|after| after[0].as_str()), Some("middle 2024-05-03"), "{plan}");
}

#[test]
fn a_fault_of_a_template_is_told_with_its_line_before_anything_runs() {
    let api = may();
    let days = with(&api, "[[transform]]\nname = \"daily\"\nsql = \"sql/daily.sql\"\n");
    days.project.write(
        "sql/daily.sql",
        "select day,\n  count(*) as items\nfrom {{ ref('items') }}\nwhere day = {{ dss | sql }}\n",
    );
    let output = days.at(DATE, &["run", "days", "--date", DATE]);
    let said = told(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("sql/daily.sql:4") && said.contains("dss") && said.contains("`ds`"), "{said}");
    assert!(api.asked().is_empty(), "nothing was pulled");
}

#[test]
fn a_fault_that_only_rendering_finds_fails_the_step_with_the_templates_line() {
    let api = may();
    let days = with(&api, "[[transform]]\nname = \"daily\"\nsql = \"sql/daily.sql\"\n");
    days.project.write(
        "sql/daily.sql",
        "select day\nfrom {{ ref('items') }}\nwhere amount > {{ ['a', 'b'][5].size }}\n  and _haul_unit = {{ ds | sql }}\n",
    );
    let said = days.run(DATE, 1);
    assert!(said.contains("sql/daily.sql:3"), "{said}");
    assert!(said.contains("['a', 'b'][5].size"), "the line itself: {said}");
    assert_eq!(days.that_are("failed").len(), 3);
    assert_eq!(days.rows("raw.items").len(), 3, "what comes before is loaded");
}

#[test]
fn a_fault_of_the_warehouse_is_told_beside_the_rendered_line() {
    let api = may();
    let days = with(&api, "[[transform]]\nname = \"daily\"\nsql = \"sql/daily.sql\"\n");
    days.project.write(
        "sql/daily.sql",
        "{# a comment\n   of two lines #}\nselect day,\n  sum(amuont) as amount\nfrom {{ ref('items') }}\nwhere _haul_unit = {{ ds | sql }}\ngroup by day\n",
    );
    let said = days.run(DATE, 1);
    assert!(said.contains("amuont"), "{said}");
    let marked =
        said.lines().find(|line| line.trim_start().starts_with('>')).unwrap_or_else(|| panic!("no line: {said}"));
    assert!(marked.ends_with("|   sum(amuont) as amount"), "{marked}");
    assert!(said.contains(r#"from "raw"."items""#), "the lines around it are the rendered ones: {said}");
}

#[test]
fn every_write_mode_does_what_its_name_says() {
    let api = may();
    let select = "select day, id, amount from {{ ref('items') }} where _haul_unit = {{ ds | sql }}";
    let step =
        |name: &str, more: &str, sql: &str| format!("[[transform]]\nname = \"{name}\"\n{more}\nsql = \"{sql}\"\n");
    let merged = "select 'latest' as id, day, sum(amount) as amount from {{ ref('items') }} where _haul_unit = {{ ds | sql }} group by day";
    let steps = [
        step("replaced", "write = \"replace\"", select),
        step("added", "write = \"append\"\nappend_repeats = true", select),
        step("merged", "write = \"merge\"\nkeys = [\"id\"]", merged),
        step("whole", "write = \"full\"", "select count(*) as items from {{ ref('items') }}"),
    ];
    let days = with(&api, &steps.join("\n"));
    days.run(DATE, 0);
    api.put("2024-05-03", (0..6).map(|index| day_row("2024-05-03", index, 5)).collect());
    days.run(DATE, 0);
    let count = |table: &str| days.project.query(&format!("select count(*) as n from {table}"))[0]["n"].clone();
    assert_eq!(count("mart.replaced"), 14);
    assert_eq!(count("mart.added"), 18, "the four of before, and the six of now");
    assert_eq!(count("mart.merged"), 1);
    assert_eq!(days.project.query("select items as n from mart.whole")[0]["n"], 14);
    assert_eq!(days.commits("mart.whole")["all"], 2);
    days.run(DATE, 0);
    assert_eq!(count("mart.added"), 18, "an unchanged day is not added once more");
    assert_eq!(days.commits("mart.whole")["all"], 2, "a whole table is not made anew for nothing");
}

#[test]
fn a_failed_check_keeps_the_old_rows_and_shows_the_wrong_ones() {
    for (check, expected) in [
        ("{ not_null = \"note\" }", "not_null(note)"),
        ("{ unique = [\"day\"] }", "unique(day)"),
        ("{ accepted = { column = \"amount\", values = [1] } }", "accepted(amount)"),
        ("{ row_count = { max = 4 } }", "row_count"),
        (
            "{ relation = { column = \"amount\", to = \"raw.items\", field = \"grade\" } }",
            "relation(amount -> raw.items.grade)",
        ),
        (
            "{ name = \"day of its own\", sql = \"select * from {{ this }} where day <> {{ ds | sql }} or amount > 1\" }",
            "day of its own",
        ),
    ] {
        let api = Scripted::start();
        let row = |index: usize, amount: u64| {
            let mut row = day_row("2024-05-03", index, amount);
            row["grade"] = 1.into();
            row["note"] = if amount == 1 { "fine".into() } else { Value::Null };
            row
        };
        let sql = "select day, id, amount, note from {{ ref('items') }} where _haul_unit = {{ ds | sql }}";
        let unique = if check.contains("unique") { format!("{sql} limit 1") } else { sql.to_owned() };
        let step = format!("[[transform]]\nname = \"daily\"\nchecks = [{check}]\nsql = \"{unique}\"\n");
        let days = Mornings::new(&api.url, &format!("{}\n{step}", ITEMS.replace("lookback = 3", "lookback = 1")));
        api.put("2024-05-03", (0..4).map(|index| row(index, 1)).collect());
        days.run(DATE, 0);
        let before = days.project.query("select * from mart.daily order by id");
        api.put("2024-05-03", (0..5).map(|index| row(index, if index == 4 { 2 } else { 1 })).collect());
        if check.contains("unique") {
            days.project.write("pipelines/days.toml", &days_without_limit(&days));
        }
        let said = days.run(DATE, 1);
        assert!(said.contains(&format!("the check `{expected}`")), "{check}: {said}");
        assert!(said.contains("the old rows stay"), "{check}: {said}");
        if !check.contains("row_count") && !check.contains("unique") {
            assert!(said.contains("2024-05-03-4"), "{check}: the wrong row is shown: {said}");
        }
        assert_eq!(days.project.query("select * from mart.daily order by id"), before, "{check}");
        assert_eq!(days.commits("mart.daily")["2024-05-03"], 1, "{check}");
    }
}

fn days_without_limit(days: &Mornings) -> String {
    let path = days.project.path().join("pipelines/days.toml");
    std::fs::read_to_string(path).expect("the pipeline").replace(" limit 1\"", "\"")
}

#[test]
fn a_check_that_only_warns_is_told_and_stops_nothing_and_an_extract_is_checked_too() {
    let api = may();
    let checks = "checks = [{ row_count = { min = 9 }, severity = \"warn\" }, { unique = \"id\" }]";
    let days = Mornings::new(&api.url, &format!("{ITEMS}{checks}\n"));
    let said = days.run(DATE, 0);
    assert!(said.contains("warning") && said.contains("the check `row_count` failed: 2024-05-01 has 4 rows"), "{said}");
    api.put("2024-05-02", (0..6).map(|_| day_row("2024-05-02", 0, 1)).collect());
    let said = days.run(DATE, 1);
    assert!(said.contains("the check `unique(id)`") && said.contains("1 row is wrong"), "{said}");
    assert_eq!(days.rows("raw.items")["2024-05-02"], 4);
    assert_eq!(days.that_are("unchanged").len(), 2);
}

#[test]
fn a_check_of_its_own_sees_the_dates_of_the_unit_that_is_checked() {
    let api = may();
    let check = r#"checks = [{ sql = "select * from {{ this }} where day <> {{ ds | sql }} or day <> {{ unit.date | sql }}" }]"#;
    let sql = "select day, id from {{ ref('items') }} where _haul_unit = {{ ds | sql }}";
    let days =
        Mornings::new(&api.url, &format!("{ITEMS}{check}\n[[transform]]\nname = \"copy\"\nsql = \"{sql}\"\n{check}\n"));
    days.run(DATE, 0);
    assert_eq!(days.that_are("loaded").len(), 6);
    api.put("2024-05-02", (0..4).map(|index| day_row("2024-05-01", index, 1)).collect());
    let said = days.run(DATE, 1);
    assert!(said.contains("the check `sql`") && said.contains("4 rows"), "{said}");
}

#[test]
fn a_transform_that_reads_nothing_that_haul_knows_is_computed_at_every_run() {
    let api = may();
    let days = with(
        &api,
        r#"[[transform]]
name = "from_outside"
sql = "select n from {{ source('main', 'outside') }}"

[[transform]]
name = "from_nowhere"
sql = "select n from main.outside where {{ ds | sql }} is not null"
"#,
    );
    let put = |n: u32| {
        let connection = duckdb::Connection::open(days.project.path().join("warehouse.duckdb")).expect("the warehouse");
        connection.execute_batch(&format!("CREATE OR REPLACE TABLE main.outside AS SELECT {n} AS n")).expect("a table");
    };
    put(1);
    days.run(DATE, 0);
    days.run(DATE, 0);
    assert_eq!(days.outcome()["from_nowhere 2024-05-03"], "unchanged");
    put(2);
    days.run(DATE, 0);
    for table in ["mart.from_outside", "mart.from_nowhere"] {
        let sum = days.project.query(&format!("select sum(n)::bigint as n from {table}"));
        assert_eq!(sum[0]["n"], 6, "{table}");
    }
}

#[test]
fn looking_shows_what_a_step_sends_and_brings_and_writes_nothing() {
    let api = may();
    let days = with(
        &api,
        "[[transform]]\nname = \"daily\"\nsql = \"select day, count(*) as items from {{ ref('items') }} where _haul_unit = {{ ds | sql }} group by day\"\n",
    );
    let rendered = days.json(DATE, &["render", "days", "daily", "--date", DATE]);
    assert_eq!(rendered.as_array().map(Vec::len), Some(3));
    assert_eq!(rendered[2]["unit"], "2024-05-03");
    assert_eq!(
        rendered[2]["what"],
        r#"select day, count(*) as items from "raw"."items" where _haul_unit = DATE '2024-05-03' group by day"#
    );
    let request = days.text(DATE, &["render", "days", "items", "--date", DATE]);
    assert!(request.contains("key = 2024-05-02") && request.contains("GET "), "{request}");
    assert!(api.asked().is_empty(), "rendering asks nobody");

    let preview = days.json(DATE, &["preview", "days", "items", "--date", DATE, "--rows", "2"]);
    assert_eq!(preview.as_array().map(Vec::len), Some(2));
    assert_eq!(preview[0]["id"], "2024-05-03-0");
    assert_eq!(days.project.json(&["status"]), Value::Array(Vec::new()), "nothing was written");
    days.run(DATE, 0);
    let before = days.commits("mart.daily");
    let preview = days.json(DATE, &["preview", "days", "daily", "--date", DATE]);
    assert_eq!(preview[0]["items"], 4);
    assert_eq!(days.commits("mart.daily"), before);

    for statement in ["delete from raw.items", "insert into raw.items select * from raw.items", "drop table raw.items"]
    {
        let output = days.at(DATE, &["query", statement]);
        assert_eq!(output.status.code(), Some(1), "{statement}: {}", told(&output));
        assert!(told(&output).contains("hint: "), "{statement}: {}", told(&output));
    }
    assert_eq!(days.rows("raw.items").values().sum::<u64>(), 12);
    let few = days.at(DATE, &["query", "select * from raw.items", "--rows", "1"]);
    assert!(told(&few).contains("only the first row"), "{}", told(&few));
}

#[test]
fn a_statement_may_ask_whether_its_table_has_rows_already() {
    let api = may();
    let days = with(
        &api,
        r#"[[transform]]
name = "daily"
sql = """
select {{ ds | sql }} as day, {% if is_incremental() %}'again'{% else %}'first'{% endif %} as load, count(*) as items
from {{ ref('items') }} where _haul_unit = {{ ds | sql }}"""
"#,
    );
    let loads = || days.project.query("select day::varchar as day, load from mart.daily order by day");
    days.run("2024-05-03", 0);
    assert!(loads().as_array().expect("rows").iter().all(|row| row["load"] == "first"), "{}", loads());
    days.run(DATE, 0);
    let newest = loads().as_array().and_then(|rows| rows.last().cloned());
    assert_eq!(newest, Some(serde_json::json!({ "day": "2024-05-03", "load": "again" })));
}
