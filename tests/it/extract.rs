//! The conformance suite of the extract styles: whatever way an API divides, proves and limits, every row arrives once.

#![expect(clippy::expect_used, reason = "a test whose own setting fails has to panic")]

mod auth;
mod requests;
mod short_pages;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use haul::model::name::TableName;
use haul::state::State;
use serde_json::json;

use crate::support::pages::{Fault, PAGE, PagesApi, ROWS};
use crate::support::project::{Project, told};

/// Small pauses, so that no test waits.
pub const RETRY: &str = "retry = { max_attempts = 4, min_backoff = \"1ms\", max_backoff = \"3ms\" }";

/// A pipeline of one window, `items`, with these extract steps: a name, which is the path too, and the keys of the step.
pub fn pipeline(lookback: usize, steps: &[(&str, &str)]) -> String {
    let mut text = format!("[window]\nlookback = {lookback}\nbegin = 2020-01-01\n");
    for (name, keys) in steps {
        let request = format!("request = {{ path = \"/{name}\", params = {{ day = \"{{{{ ds }}}}\" }} }}");
        let own = |key: &str| keys.lines().any(|line| line.trim_start().starts_with(key));
        let _ = write!(text, "\n[[extract]]\nname = \"{name}\"\nconnection = \"api\"\n{keys}\n");
        for (key, line) in [("retry", RETRY), ("request", &request), ("records", "records = \"$.items[*]\"")] {
            if !own(key) {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}

/// A project with that pipeline, whose connection has these further keys.
pub fn project(api: &PagesApi, connection: &str, lookback: usize, steps: &[(&str, &str)]) -> Project {
    let project = Project::with_api(&api.url, connection);
    project.write("pipelines/items.toml", &pipeline(lookback, steps));
    project
}

/// Runs the pipeline for a date, and ends well.
pub fn run(project: &Project, date: &str) {
    project.stdout(&["run", "items", "--date", date]);
}

/// Runs the pipeline, which fails, and returns what it told.
pub fn run_badly(project: &Project, date: &str) -> String {
    let output = project.output(&["run", "items", "--date", date]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    // Words are looked for, wherever the screen breaks its lines.
    told(&output).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The identifiers of a table's rows by their days.
pub fn ids(project: &Project, table: &str) -> BTreeMap<String, Vec<u64>> {
    let sql = format!("select cast(_haul_unit as varchar) as unit, day, id from {table} order by unit, id");
    let mut days: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in project.query(&sql).as_array().expect("rows") {
        assert_eq!(row["unit"], row["day"], "{table}: a row came to the wrong day");
        let id = row["id"].as_u64().expect("an id");
        days.entry(row["unit"].as_str().expect("a unit").to_owned()).or_default().push(id);
    }
    days
}

/// Every row of these days, once.
pub fn all(days: &[&str], rows: usize) -> BTreeMap<String, Vec<u64>> {
    days.iter().map(|day| ((*day).to_owned(), (1..=rows as u64).collect())).collect()
}

/// The styles: a name, the keys of the step, and how many requests a day of 25 rows costs.
const STYLES: &[(&str, &str, usize)] = &[
    ("offset_total", "paginate = { by = \"offset\", limit = 10, total = \"$.meta.total\" }", 3),
    ("offset_short_page", "paginate = { by = \"offset\", limit = 10 }", 3),
    ("offset_empty_page", "paginate = { by = \"offset\", limit = 5 }", 6),
    ("offset_has_more", "paginate = { by = \"offset\", limit = 5, has_more = \"$.meta.has_more\" }", 5),
    ("from_one", "paginate = { by = \"offset\", first = 1, limit = 10, total = \"$.meta.total\" }", 3),
    ("page_short_page", "paginate = { by = \"page\", size = 10, size_param = \"size\" }", 3),
    ("page_total", "paginate = { by = \"page\", size = 5, size_param = \"limit\", total = \"$.meta.total\" }", 5),
    ("page_total_pages", "paginate = { by = \"page\", total_pages = \"$.meta.pages\" }", 3),
    ("page_unsized_total", "paginate = { by = \"page\", total = \"$.meta.total\" }", 3),
    ("page_empty_page", "paginate = { by = \"page\" }", 4),
    ("cursor_in_body_of_answer", "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.next\" }", 3),
    ("cursor_with_total", "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.next\", total = \"$.meta.total\" }", 3),
    ("cursor_that_is_a_number", "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.next_number\" }", 3),
    ("cursor_in_header", "paginate = { by = \"cursor\", param = \"cursor\", at = { header = \"X-Next-Cursor\" } }", 3),
    (
        "cursor_in_body_of_request",
        "request = { path = \"/cursor_in_body_of_request\", body = { day = \"{{ ds }}\" } }
         paginate = { by = \"cursor\", in = \"body\", param = \"cursor\", at = \"$.meta.next\" }",
        3,
    ),
    (
        "cursor_deep_in_body",
        "request = { path = \"/cursor_deep_in_body\", body = { query = \"q\", variables = { day = \"{{ ds }}\", cursor = \"\" } } }
         paginate = { by = \"cursor\", in = \"body\", param = \"variables.cursor\", at = \"$.meta.next_number\" }",
        3,
    ),
    ("next_url", "paginate = { by = \"next_url\", at = \"$.meta.next_url\" }", 3),
    ("next_path", "paginate = { by = \"next_url\", at = \"$.meta.next_path\" }", 3),
    ("link", "paginate = { by = \"link\" }", 3),
    ("keyset", "paginate = { by = \"keyset\", param = \"since\", value = \"$.id\", limit = 10, limit_param = \"limit\" }", 3),
    // The API's page is smaller than anything that was said: only an empty page can be the last.
    ("keyset_unsized", "paginate = { by = \"keyset\", param = \"since\", value = \"$.id\" }", 4),
    ("single", "paginate = { by = \"single\" }", 1),
];

#[test]
fn every_style_brings_every_row_of_every_day_once() {
    let api = PagesApi::start();
    let steps: Vec<(&str, &str)> = STYLES.iter().map(|(name, keys, _)| (*name, *keys)).collect();
    let project = project(&api, "", 2, &steps);
    run(&project, "2024-05-03");
    let expected = all(&["2024-05-01", "2024-05-02"], ROWS);
    let selects: Vec<String> = STYLES
        .iter()
        .map(|(name, ..)| {
            format!("select '{name}' as style, cast(_haul_unit as varchar) as unit, id, day from raw.{name}")
        })
        .collect();
    let sql = format!(
        "select style, unit, list(id order by id) as ids, bool_and(unit = day) as own from ({}) group by all",
        selects.join(" union all ")
    );
    let mut found: BTreeMap<String, BTreeMap<String, Vec<u64>>> = BTreeMap::new();
    for row in project.query(&sql).as_array().expect("rows") {
        assert_eq!(row["own"], json!(true), "{row}");
        let ids = row["ids"].as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id")).collect();
        let text = |name: &str| row[name].as_str().expect("a text").to_owned();
        found.entry(text("style")).or_default().insert(text("unit"), ids);
    }
    for (name, _, requests) in STYLES {
        assert_eq!(found.get(*name), Some(&expected), "{name}");
        assert_eq!(api.counts()[&format!("/{name}")], 2 * requests, "{name}: requests of two days");
    }
}

#[test]
fn an_empty_day_is_one_request_in_every_style_and_leaves_no_row() {
    let api = PagesApi::start();
    api.resize("2024-05-01", 0);
    let steps: Vec<(&str, &str)> = STYLES.iter().map(|(name, keys, _)| (*name, *keys)).collect();
    let project = project(&api, "", 1, &steps);
    run(&project, "2024-05-02");
    for (name, ..) in STYLES {
        assert_eq!(api.counts()[&format!("/{name}")], 1, "{name}");
    }
    let loads = project.query("select count(*) as loads, sum(rows) as rows from _haul_loads");
    assert_eq!(loads, json!([{ "loads": STYLES.len(), "rows": 0 }]), "an empty day is a loaded day");
}

#[test]
fn an_answer_without_content_is_an_empty_day() {
    let api = PagesApi::start();
    api.misbehave(|_| Some(Fault::Status(204, None)));
    let project =
        project(&api, "", 1, &[("items", "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.next\" }")]);
    run(&project, "2024-05-02");
    assert_eq!(project.query("select rows from _haul_loads"), json!([{ "rows": 0 }]));
}

/// Steps whose API never comes to an end, or not to the right one, and the words by which that is told.
const ENDLESS: &[(&str, &str, &str)] = &[
    (
        "ignores_the_offset_side_by_side",
        "paginate = { by = \"offset\", limit = 10, offset_param = \"skip\", total = \"$.meta.total\" }",
        "the same rows as",
    ),
    (
        "ignores_the_offset_of_two_pages",
        "request = { path = \"/two\", params = { day = \"two pages, {{ ds }}\" } }
         paginate = { by = \"offset\", limit = 10, offset_param = \"skip\", total = \"$.meta.total\" }",
        "page 2 has the same rows as another page",
    ),
    (
        "ignores_the_page",
        "paginate = { by = \"page\", page_param = \"p\" }",
        "page 2 has the same rows as the page before",
    ),
    (
        "ignores_the_cursor",
        "paginate = { by = \"cursor\", param = \"after\", at = \"$.meta.next\" }",
        "page 2 has the same rows",
    ),
    (
        "runs_in_a_circle",
        "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.circle\" }\nrecords = \"$.rows[*]\"",
        "leads back to a page that was read",
    ),
    (
        "has_no_end",
        "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.next\", max_pages = 7 }\nrecords = \"$.rows[*]\"",
        "page 7 is the last that is allowed",
    ),
    (
        "has_more_pages_than_allowed",
        "paginate = { by = \"offset\", limit = 5, total = \"$.meta.total\", max_pages = 4 }",
        "5 pages, more than are allowed",
    ),
    (
        "gives_smaller_pages",
        "paginate = { by = \"page\", size = 20, total = \"$.meta.total\" }",
        "page 1 has 10 rows, 20 were asked for",
    ),
    (
        "gives_smaller_pages_and_has_more",
        "paginate = { by = \"offset\", limit = 20, limit_param = \"l\", has_more = \"$.meta.has_more\" }",
        "page 1 has 10 rows, 20 were asked for",
    ),
    (
        "ends_too_early",
        "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.nowhere\", total = \"$.meta.total\" }",
        "10 rows came, the API tells of 25",
    ),
    (
        "includes_the_key",
        "paginate = { by = \"keyset\", param = \"since\", value = \"$.id\" }\nrecords = \"$.rows[*]\"",
        "begins with the row that the page before ended with",
    ),
    (
        "has_no_key",
        "paginate = { by = \"keyset\", param = \"since\", value = \"$.key\" }",
        "the last row of page 1 has no `$.key`",
    ),
    (
        "has_a_cursor_of_another_kind",
        "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta\" }",
        "neither a text nor a number",
    ),
];

#[test]
fn endless_repeating_and_incomplete_pages_are_errors_and_load_nothing() {
    let api = PagesApi::start();
    api.resize("two pages, 2024-05-01", 2 * PAGE);
    let mut pages = 0;
    api.misbehave(move |asked| {
        pages += 1;
        match asked.path.as_str() {
            "/runs_in_a_circle" => {
                let next = if asked.param("cursor") == "a" { "b" } else { "a" };
                Some(Fault::Body(json!({ "rows": [{ "id": pages }], "circle": next }).to_string()))
            }
            "/has_no_end" => Some(Fault::Body(json!({ "rows": [{ "id": pages }], "next": pages }).to_string())),
            "/includes_the_key" => {
                let from: u64 = asked.param("since").parse().unwrap_or(1);
                Some(Fault::Body(json!({ "rows": [{ "id": from }, { "id": from + 1 }] }).to_string()))
            }
            _ => None,
        }
    });
    let steps: Vec<(&str, &str)> = ENDLESS.iter().map(|(name, keys, _)| (*name, *keys)).collect();
    let project = project(&api, "", 1, &steps);
    let told = run_badly(&project, "2024-05-02");
    for (name, _, words) in ENDLESS {
        assert!(told.contains(words), "{name}: `{words}` is not in {told}");
    }
    let tables = "select count(*) as tables from information_schema.tables where table_schema = 'raw'";
    assert_eq!(project.query(tables), json!([{ "tables": 0 }]));
    assert!(api.counts()["/has_no_end"] == 7 && api.asked().len() < 60, "{:?}", api.counts());
}

#[test]
fn pages_that_may_be_the_same_are_no_page_that_came_twice() {
    let api = PagesApi::start();
    api.misbehave(|asked| {
        let last = asked.param("cursor") == "2";
        let next = if last { json!(null) } else { json!(if asked.param("cursor") == "1" { "2" } else { "1" }) };
        Some(Fault::Body(json!({ "items": [{ "reading": 0 }], "next": next, "total": 3 }).to_string()))
    });
    let cursor = "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.next\", may_repeat = true }";
    let offset = "paginate = { by = \"offset\", limit = 1, total = \"$.total\", may_repeat = true }";
    let project = project(&api, "", 1, &[("by_cursor", cursor), ("by_offset", offset)]);
    run(&project, "2024-05-02");
    let rows = "select (select count(*) from raw.by_cursor) as cursor, (select count(*) from raw.by_offset) as offset_";
    assert_eq!(project.query(rows), json!([{ "cursor": 3, "offset_": 3 }]));
}

#[test]
fn pages_of_one_day_run_side_by_side_within_the_limit_of_the_connection() {
    let api = PagesApi::start();
    api.resize("2024-05-01", 200);
    api.slow_down(Duration::from_millis(15));
    let keys = "paginate = { by = \"offset\", limit = 10, total = \"$.meta.total\" }";
    let project = project(&api, "max_concurrent = 3", 1, &[("items", keys)]);
    run(&project, "2024-05-02");
    assert_eq!(ids(&project, "raw.items"), all(&["2024-05-01"], 200));
    assert_eq!(api.asked().len(), 20);
    assert_eq!(api.most_at_once(), 3, "side by side, and never more at once than the connection allows");
}

#[test]
fn days_run_side_by_side_within_the_limit_of_the_connection() {
    let api = PagesApi::start();
    api.slow_down(Duration::from_millis(15));
    let keys = "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.next\" }";
    let project = project(&api, "max_concurrent = 2", 5, &[("items", keys), ("others", keys)]);
    run(&project, "2024-05-06");
    let days = ["2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04", "2024-05-05"];
    assert_eq!(ids(&project, "raw.items"), all(&days, ROWS));
    assert_eq!(ids(&project, "raw.others"), all(&days, ROWS));
    assert_eq!(api.most_at_once(), 2, "cursors go one after the other, days do not");
}

#[test]
fn the_rate_of_a_connection_holds_over_all_its_steps() {
    let api = PagesApi::start();
    let keys = "paginate = { by = \"offset\", limit = 5, total = \"$.meta.total\" }";
    let project = project(&api, "rate = \"50/s\"", 1, &[("items", keys), ("others", keys), ("more", keys)]);
    run(&project, "2024-05-02");
    let asked = api.asked();
    assert_eq!(asked.len(), 15);
    // Fourteen pauses of 20 ms lie between the first and the last; a slow machine only makes them longer.
    let whole = asked[14].at.duration_since(asked[0].at);
    assert!(whole >= Duration::from_millis(14 * 20 - 40), "{whole:?}");
}

#[test]
fn rows_are_found_at_every_depth_and_a_path_that_fits_nowhere_says_what_is_there() {
    let api = PagesApi::start();
    api.resize("2024-05-01", 3);
    let found = [
        ("bare", "records = \"$[*]\""),
        ("deep", "records = \"$.data.groups[*].rows[*]\""),
        ("plain", "records = \"$.items[*]\""),
        ("quoted", "records = \"$['items'][*]\""),
        ("without_star", "records = \"$.items\""),
        ("anywhere", "records = \"$..items[*]\""),
        ("filtered", "records = \"$.items[?@.id <= 3]\""),
    ];
    let project_found = project(&api, "", 1, &found);
    run(&project_found, "2024-05-02");
    for (name, _) in found {
        assert_eq!(ids(&project_found, &format!("raw.{name}")), all(&["2024-05-01"], 3), "{name}");
    }

    let lost = [
        ("member", "records = \"$.rows[*]\"", "the answer has no member `rows`: it has meta, items"),
        (
            "list",
            "records = \"$.meta[*]\"",
            "the rows are not a list: found { \"total\"|the rows are not a list: found {\"total\"",
        ),
        ("inside", "records = \"$.items[*].parts[*]\"", "the answer has no member `parts`"),
    ];
    let project_lost = project(&api, "", 1, &lost.map(|(name, keys, _)| (name, keys)));
    let told = run_badly(&project_lost, "2024-05-02");
    for (name, _, words) in lost {
        assert!(words.split('|').any(|words| told.contains(words)), "{name}: {told}");
    }
    assert!(told.contains("reading page 1 of") && told.contains("`records` must lead to"), "{told}");
}

#[test]
fn digits_arrive_as_they_were_written() {
    let api = PagesApi::start();
    let rows = [
        r#"{"id": 9007199254740993, "huge": 170141183460469231731687303715884105727, "price": 0.1, "exact": 12345678901234567.89, "n": {"deep": 9223372036854775807}}"#,
        r#"{"id": 9007199254740995, "huge": -3, "price": 19.99, "exact": 0.01, "n": {"deep": -9223372036854775808}}"#,
    ];
    api.set_rows("2024-05-01", rows.map(str::to_owned).to_vec());
    let keys = "columns = { exact = \"DECIMAL(38,2)\", price = \"DECIMAL(9,2)\" }";
    let project = project(&api, "", 1, &[("single", keys)]);
    run(&project, "2024-05-02");
    let sql = "select cast(id as varchar) as id, cast(huge as varchar) as huge, cast(price as varchar) as price,
               cast(exact as varchar) as exact, cast(n.deep as varchar) as deep from raw.single order by id";
    assert_eq!(
        project.query(sql),
        json!([
            { "id": "9007199254740993", "huge": "170141183460469231731687303715884105727", "price": "0.10",
              "exact": "12345678901234567.89", "deep": "9223372036854775807" },
            { "id": "9007199254740995", "huge": "-3", "price": "19.99", "exact": "0.01", "deep": "-9223372036854775808" },
        ])
    );
}

#[test]
fn a_key_beyond_all_floats_is_handed_back_digit_by_digit() {
    let api = PagesApi::start();
    let row = |id: &str| format!(r#"{{"rows": [{{"id": {id}, "day": "2024-05-01"}}]}}"#);
    let bodies =
        Arc::new([row("12345678901234567890123"), row("12345678901234567890124.50"), "{\"rows\": []}".to_owned()]);
    api.misbehave(move |asked| {
        let page = match asked.param("since") {
            "" => 0,
            "12345678901234567890123" => 1,
            _ => 2,
        };
        Some(Fault::Body(bodies[page].clone()))
    });
    let keys = "paginate = { by = \"keyset\", param = \"since\", value = \"$.id\" }\nrecords = \"$.rows[*]\"\ncolumns = { id = \"VARCHAR\" }";
    let project = project(&api, "", 1, &[("items", keys)]);
    run(&project, "2024-05-02");
    let since: Vec<String> = api.asked().iter().map(|asked| asked.param("since").to_owned()).collect();
    assert_eq!(since, ["", "12345678901234567890123", "12345678901234567890124.50"]);
}

#[test]
fn a_pull_that_stops_goes_on_at_its_durable_pages() {
    let api = PagesApi::start();
    let broken = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&broken);
    api.misbehave(move |asked| {
        (asked.param("cursor") == "c20" && still.load(Ordering::Relaxed)).then(|| Fault::Body("<html>".to_owned()))
    });
    let keys = "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.next\" }";
    let project = project(&api, "", 1, &[("items", keys)]);
    run_badly(&project, "2024-05-02");
    api.forget();
    broken.store(false, Ordering::Relaxed);
    run(&project, "2024-05-02");
    assert_eq!(ids(&project, "raw.items"), all(&["2024-05-01"], ROWS));
    let asked: Vec<String> = api.asked().iter().map(|asked| asked.param("cursor").to_owned()).collect();
    assert_eq!(asked, ["c20"], "the two pages that were good are not asked for again");
}

#[test]
fn a_cursor_that_has_died_is_not_gone_on_with_for_ever() {
    let api = PagesApi::start();
    let dead = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&dead);
    api.misbehave(move |asked| {
        (asked.param("cursor") == "c20" && still.load(Ordering::Relaxed)).then_some(Fault::Status(410, None))
    });
    let keys = "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.next\" }";
    let project = project(&api, "", 1, &[("items", keys)]);
    assert!(run_badly(&project, "2024-05-02").contains("410"));
    run_badly(&project, "2024-05-02");
    api.forget();
    dead.store(false, Ordering::Relaxed);
    run(&project, "2024-05-02");
    let asked: BTreeSet<String> = api.asked().iter().map(|asked| asked.param("cursor").to_owned()).collect();
    assert_eq!(asked.len(), 3, "from the beginning: {asked:?}");
    assert_eq!(ids(&project, "raw.items"), all(&["2024-05-01"], ROWS));
}

#[test]
fn requests_are_counted_for_the_day_that_they_were_for() {
    let api = PagesApi::start();
    let keys = "paginate = { by = \"offset\", limit = 5, total = \"$.meta.total\" }";
    let project = project(&api, "", 4, &[("items", keys)]);
    run(&project, "2024-05-05");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let table = TableName::parse("raw.items").expect("a name");
    let pulls = runtime.block_on(async {
        let state = State::open(&project.path().join(".haul")).await.expect("the state store");
        state.pulls(&table, None).await.expect("pulls")
    });
    let requests: Vec<u64> = pulls.iter().map(|pull| pull.requests).collect();
    assert_eq!(requests, [5, 5, 5, 5], "four days ran at once");
}
