//! From the warehouse into another, and back: whole days, exactly once, and only those that changed.

use serde_json::json;

use super::{Bench, DAYS, MORNING};
use crate::support::project::told;

const OTHER: &str = "[app]\ntype = \"duckdb\"\npath = \"app.duckdb\"\n";

const SERVE: &str = r#"
[[transform]]
name = "ranking"
sql = "select id, day::date as day, cast(amount as decimal(12,4)) as amount, big, text, null::bigint as none from {{ ref('items') }} where _haul_unit = {{ ds | sql }}"

[[load]]
name = "serve"
from = "ranking"
connection = "app"
into = "public.ranking"
"#;

/// The rows of both sides, with their units.
fn both(bench: &Bench) -> [serde_json::Value; 2] {
    let sql = |table: &str| format!("select * exclude (_haul_pull) from {table} order by id");
    [bench.query("warehouse", &sql("mart.ranking")), bench.query("app", &sql("public.ranking"))]
}

#[test]
fn a_table_of_the_warehouse_is_the_same_table_elsewhere() {
    let bench = Bench::new(SERVE, OTHER);
    bench.run();
    let [here, there] = both(&bench);
    assert_eq!(here.as_array().expect("rows").len(), 12);
    assert_eq!(here, there);
    let types = |connection: &str, table: &str| {
        bench.query(connection, &format!("select column_name, column_type from (describe {table}) order by all"))
    };
    assert_eq!(types("warehouse", "mart.ranking"), types("app", "public.ranking"));
    // The place itself knows what it has, under the name that it has there.
    let loads = bench.query("app", "select distinct table_name, rows from _haul_loads");
    assert_eq!(loads, json!([{ "table_name": "public.ranking", "rows": 4 }]));
    assert_eq!(bench.query("warehouse", "select 1 as n from _haul_loads where table_name like '%public%'"), json!([]));
    // The plan puts the load behind the step that it reads.
    let plan = bench.mornings.json(MORNING, &["plan", "days", "--date", MORNING, "--force"]);
    let task = plan[0]["tasks"].as_array().expect("tasks").iter().find(|task| task["task"] == "serve 2024-05-02");
    let task = task.expect("the load's task");
    assert_eq!((&task["kind"], &task["after"]), (&json!("load"), &json!(["ranking 2024-05-02"])));
}

#[test]
fn only_the_day_that_changed_is_loaded_again() {
    let bench = Bench::new(SERVE, OTHER);
    bench.run();
    bench.run();
    let unchanged = "skipped: nothing that it reads has changed";
    assert_eq!(bench.ended("serve"), DAYS.map(|day| format!("{day} {unchanged}")));
    bench.day("2024-05-02", 7);
    bench.run();
    assert_eq!(
        bench.ended("serve"),
        [format!("2024-05-01 {unchanged}"), "2024-05-02 loaded".to_owned(), format!("2024-05-03 {unchanged}")]
    );
    let commits = "select unit, count(*) as n from _haul_loads group by all order by all";
    assert_eq!(
        bench.query("app", commits),
        json!([{ "unit": "2024-05-01", "n": 1 }, { "unit": "2024-05-02", "n": 2 }, { "unit": "2024-05-03", "n": 1 }])
    );
    let [here, there] = both(&bench);
    assert_eq!(here, there);
    assert_eq!(there.as_array().expect("rows").len(), 15);
    // A day that has become empty is emptied there too.
    bench.day("2024-05-03", 0);
    bench.run();
    let [here, there] = both(&bench);
    assert_eq!(here, there);
    assert_eq!(there.as_array().expect("rows").len(), 11);
}

#[test]
fn a_day_that_somebody_removed_there_is_loaded_again() {
    let bench = Bench::new(SERVE, OTHER);
    bench.run();
    let file = duckdb::Connection::open(bench.project().path().join("app.duckdb")).expect("the file");
    file.execute_batch("delete from public.ranking where _haul_unit = DATE '2024-05-02'").expect("rows are removed");
    drop(file);
    let told = bench.run();
    assert!(told.contains("app.public.ranking: 1 loaded unit was no longer in the warehouse"), "{told}");
    assert!(bench.ended("serve").contains(&"2024-05-02 loaded".to_owned()), "{:?}", bench.ended("serve"));
    let [here, there] = both(&bench);
    assert_eq!(here, there);
}

#[test]
fn a_table_is_found_by_its_name_and_by_the_step_that_writes_it() {
    let bench = Bench::new(&SERVE.replace("from = \"ranking\"", "from = \"mart.ranking\""), OTHER);
    bench.run();
    let plan = bench.mornings.json(MORNING, &["plan", "days", "--date", MORNING, "--force"]);
    let task = plan[0]["tasks"].as_array().expect("tasks").iter().find(|task| task["task"] == "serve 2024-05-01");
    assert_eq!(task.expect("the load's task")["after"], json!(["ranking 2024-05-01"]));
}

#[test]
fn rows_of_another_database_come_into_the_warehouse_by_their_own_time() {
    let steps = r#"
[[load]]
name = "orders"
from_connection = "shop"
from = "sales.orders"
time_column = "at"
changed_column = "at"
columns = { amount = "DECIMAL(10,2)" }
"#;
    let bench = Bench::new(steps, "[shop]\ntype = \"duckdb\"\npath = \"shop.duckdb\"\n");
    let file = || duckdb::Connection::open(bench.project().path().join("shop.duckdb")).expect("a file");
    file()
        .execute_batch(
            "create schema sales; create table sales.orders as select n as id, timestamp '2024-05-01 12:00:00' + to_days(n::int) as at, 1.50 as amount from range(3) as t(n)",
        )
        .expect("a table");
    bench.run();
    let rows =
        "select cast(_haul_unit as varchar) as unit, id, cast(amount as varchar) as amount from raw.orders order by id";
    assert_eq!(
        bench.query("warehouse", rows),
        json!([
            { "unit": "2024-05-01", "id": 0, "amount": "1.50" },
            { "unit": "2024-05-02", "id": 1, "amount": "1.50" },
            { "unit": "2024-05-03", "id": 2, "amount": "1.50" }
        ])
    );
    // The probe sees which day has changed.
    file().execute_batch("insert into sales.orders values (9, '2024-05-02 13:00:00', 2.25)").expect("a row");
    bench.run();
    assert_eq!(bench.ended("orders"), ["2024-05-01 unchanged", "2024-05-02 loaded", "2024-05-03 unchanged"]);
}

#[test]
fn a_statement_runs_where_its_rows_are_and_follows_what_it_refers_to() {
    let steps = format!(
        "{SERVE}{}",
        r#"
[[load]]
name = "totals"
sql = "select day, count(*) as items, sum(amount) as amount from {{ ref('ranking') }} where _haul_unit = {{ ds | sql }} group by day"
connection = "app"
into = "public.totals"
keys = ["day"]
write = "merge"
"#
    );
    let bench = Bench::new(&steps, OTHER);
    bench.run();
    let totals = "select cast(day as varchar) as day, items from public.totals order by day";
    let day = |day: &str, items: u32| json!({ "day": day, "items": items });
    assert_eq!(bench.query("app", totals), json!([day(DAYS[0], 4), day(DAYS[1], 4), day(DAYS[2], 4)]));
    bench.day("2024-05-02", 6);
    bench.run();
    assert_eq!(bench.query("app", totals), json!([day(DAYS[0], 4), day(DAYS[1], 6), day(DAYS[2], 4)]));
    assert!(bench.ended("totals")[0].contains("skipped"), "{:?}", bench.ended("totals"));
    let sent = bench.mornings.text(MORNING, &["render", "days", "totals", "--date", MORNING]);
    assert!(sent.contains("\"mart\".\"ranking\" where _haul_unit = DATE '2024-05-02'"), "{sent}");
}

#[test]
fn a_load_reads_what_another_load_has_brought() {
    let steps = format!("{SERVE}{}", "\n[[load]]\nname = \"back\"\nfrom = \"serve\"\ninto = \"raw.back\"\n");
    let bench = Bench::new(&steps, OTHER);
    bench.run();
    let rows =
        |table: &str| bench.query("warehouse", &format!("select * exclude (_haul_pull) from {table} order by id"));
    assert_eq!(rows("raw.back"), rows("mart.ranking"));
    bench.day("2024-05-01", 1);
    bench.run();
    assert_eq!(rows("raw.back"), rows("mart.ranking"));
    assert!(bench.ended("back")[1].contains("skipped"), "{:?}", bench.ended("back"));
}

#[test]
fn a_whole_table_is_loaded_again_when_any_of_its_days_changed() {
    let steps = format!("{SERVE}write = \"full\"\n");
    let bench = Bench::new(&steps, OTHER);
    bench.run();
    let count = || bench.query("app", "select count(*) as n from public.ranking")[0]["n"].clone();
    assert_eq!(count(), json!(12));
    bench.run();
    assert_eq!(bench.ended("serve"), [" skipped: nothing that it reads has changed"]);
    bench.day("2024-05-03", 1);
    bench.run();
    assert_eq!(count(), json!(9));
    // All of it: also the days that are older than the window of the run.
    bench.day("2024-05-04", 2);
    bench.day("2024-05-05", 2);
    bench.mornings.run("2024-05-06", 0);
    assert_eq!(count(), json!(13));
}

#[test]
fn a_place_that_cannot_be_reached_fails_its_own_step_alone() {
    let steps = format!(
        "{SERVE}{}",
        "\n[[load]]\nname = \"gone\"\nfrom = \"ranking\"\nconnection = \"nowhere\"\ninto = \"public.ranking\"\n"
    );
    let nowhere = crate::support::doors::nobody();
    let connections = format!(
        "{OTHER}\n[nowhere]\ntype = \"postgres\"\nhost = \"127.0.0.1\"\nport = {nowhere}\nuser = \"u\"\npassword = \"p\"\ndatabase = \"d\"\n"
    );
    let bench = Bench::new(&steps, &connections);
    let output = bench.try_run();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(bench.ended("gone").iter().all(|ended| ended.contains("failed")), "{:?}", bench.ended("gone"));
    let [here, there] = both(&bench);
    assert_eq!(here, there);
}

#[test]
fn what_a_type_cannot_hold_is_refused_with_its_column() {
    let steps = r#"
[[transform]]
name = "numbers"
sql = "select 1 as id, 12.345 as price, day from {{ ref('items') }} where _haul_unit = {{ ds | sql }} limit 1"

[[load]]
name = "serve"
from = "numbers"
connection = "app"
into = "public.numbers"
contract = "freeze"
"#;
    let bench = Bench::new(steps, OTHER);
    let file = duckdb::Connection::open(bench.project().path().join("app.duckdb")).expect("a file");
    file.execute_batch("create schema public; create table public.numbers (id bigint, price decimal(4,1), day varchar, _haul_unit date, _haul_pull bigint)")
        .expect("a table");
    drop(file);
    let output = bench.try_run();
    let told = told(&output);
    assert_ne!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("`price` is DECIMAL(4,1)"), "{told}");
    assert_eq!(bench.query("app", "select count(*) as n from public.numbers")[0]["n"], json!(0));
}
