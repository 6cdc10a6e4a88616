//! SQL unit tests: given rows, a window and a clock that stands still, and the tables after two runs.

mod ga4;
mod keys;
mod windows;

use serde_json::Value;

use crate::support::project::{Project, told};

/// A pipeline of orders by their days, with a step for each write mode; its source does not exist.
pub fn shop() -> Project {
    let project = Project::empty();
    project.write("haul.toml", "warehouse = \"warehouse\"\n");
    project.write(
        "connections.toml",
        "[warehouse]\ntype = \"duckdb\"\npath = \"w.duckdb\"\n[api]\ntype = \"http\"\nurl = \"http://localhost:1\"\n",
    );
    project.write(
        "pipelines/shop.toml",
        r#"
[window]
lookback = 3

[[extract]]
name = "orders"
connection = "api"
request = { path = "/orders", params = { day = "{{ ds }}" } }
time_column = "placed"
columns = { price = "DECIMAL(18,2)", note = "VARCHAR" }

[[transform]]
name = "sums"
sql = "SELECT count(*) AS orders, sum(price) AS total, max(note) AS note FROM {{ ref('orders') }} WHERE _haul_unit = {{ ds | sql }} HAVING count(*) > 0"

[[transform]]
name = "rolling"
sql = "SELECT count(*) AS orders FROM {{ ref('orders') }} WHERE _haul_unit > {{ ds | date_add(-2) | sql }} AND _haul_unit <= {{ ds | sql }}"
reach = "-1d..0d"

[[transform]]
name = "priced"
sql = "SELECT o.id, o.price * r.rate AS price FROM {{ ref('orders') }} AS o JOIN {{ source('ref', 'rates') }} AS r USING (currency) WHERE o._haul_unit = {{ ds | sql }}"
"#,
    );
    project
}

const GROUND: &str = r#"
pipeline = "shop"
date = 2024-05-04

[[given]]
table = "orders"
rows = [
    { id = 1, placed = "2024-05-01T10:00:00Z", price = 2.5 },
    { id = 2, placed = "2024-05-01T23:59:59Z", price = "1.25" },
    { id = 3, placed = 2024-05-03T00:00:00Z },
]
"#;

/// A shop with a test of this ground and these expectations.
fn tested(more: &str) -> Project {
    let project = shop();
    project.write("tests/shop.toml", &format!("{GROUND}\n{more}"));
    project
}

#[test]
fn sparse_rows_become_tables_and_their_sums_are_compared() {
    let project = tested(
        "[[expect]]\ntable = \"mart.sums\"\nrows = [{ _haul_unit = 2024-05-01, orders = 2, total = 3.75 }, { _haul_unit = 2024-05-03, orders = 1 }]\n\
         [[expect]]\ntable = \"rolling\"\nrows = [{ _haul_unit = 2024-05-02, orders = 2 }, { _haul_unit = 2024-05-01, orders = 2 }, { _haul_unit = 2024-05-03, orders = 1 }]\n",
    );
    assert!(project.stdout(&["check"]).contains("no faults"));
    assert_eq!(project.stdout(&["test"]), "passed  shop\n1 passed, 0 failed\n");
    // Nothing of the project was touched.
    assert!(!project.path().join("w.duckdb").exists() && !project.path().join(".haul").exists());
}

#[test]
fn a_difference_is_told_by_row_and_cell() {
    let project = tested(
        "[[expect]]\ntable = \"mart.sums\"\nrows = [{ _haul_unit = 2024-05-01, orders = 2, total = 3.5 }, { _haul_unit = 2024-05-02, orders = 1, total = 1 }]\n",
    );
    let output = project.output(&["test", "--junit", "out/tests.xml"]);
    assert_eq!(output.status.code(), Some(1));
    let said = told(&output);
    for words in ["2 rows expected, 2 came", "3.5 → 3.75", "2024-05-01"] {
        assert!(said.contains(words), "`{words}` is missing:\n{said}");
    }
    let xml = std::fs::read_to_string(project.path().join("out/tests.xml")).expect("JUnit XML");
    assert!(xml.contains("tests=\"1\" failures=\"1\"") && xml.contains("<failure message=\"mart.sums"), "{xml}");
    let json = project.output(&["test", "--output", "json"]);
    let printed: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&printed["failed"], &printed["tests"][0]["name"]), (&Value::from(1), &Value::from("shop")));
}

#[test]
fn cases_share_a_ground_and_are_run_by_name() {
    let project = tested(
        "[[case]]\nname = \"as_given\"\n[[case.expect]]\ntable = \"sums\"\ncount = 2\n\
         [[case]]\nname = \"other_rows\"\n[[case.given]]\ntable = \"orders\"\nrows = [{ id = 9, placed = 2024-05-02T01:00:00Z, price = 1 }]\n[[case.expect]]\ntable = \"sums\"\nrows = [{ _haul_unit = 2024-05-02, total = 1 }]\n\
         [[case]]\nname = \"shorter\"\nlookback = 1\n[[case.expect]]\ntable = \"sums\"\nrows = [{ _haul_unit = 2024-05-03, orders = 1 }]\n\
         [[case]]\nname = \"wrong\"\n[[case.expect]]\ntable = \"sums\"\ncount = 7\n",
    );
    assert_eq!(project.output(&["test"]).status.code(), Some(1));
    let some = project.stdout(&["test", "shop::as_given", "shop::*r*s", "shop::shorter"]);
    assert_eq!(some, "passed  shop::as_given\npassed  shop::other_rows\npassed  shop::shorter\n3 passed, 0 failed\n");
    let output = project.output(&["test", "nothing::*"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}

#[test]
fn rows_come_from_files_and_sql_too_and_sources_are_tables() {
    let project = shop();
    project.write(
        "tests/orders.csv",
        "id,placed,price,currency\n1,2024-05-01T10:00:00Z,2.50,EUR\n2,2024-05-03T10:00:00Z,4,USD\n",
    );
    project.write("tests/orders.json", "[{ \"id\": 1, \"placed\": \"2024-05-01T10:00:00Z\", \"price\": 2.5, \"currency\": \"EUR\" }, { \"id\": 2, \"placed\": \"2024-05-03T10:00:00Z\", \"price\": 4, \"currency\": \"USD\" }]");
    project.write("tests/orders.jsonl", "{ \"id\": 1, \"placed\": \"2024-05-01T10:00:00Z\", \"price\": 2.5, \"currency\": \"EUR\" }\n{ \"id\": 2, \"placed\": \"2024-05-03T10:00:00Z\", \"price\": 4, \"currency\": \"USD\" }\n");
    for (name, given) in [
        ("csv", "file = \"tests/orders.csv\""),
        ("json", "file = \"tests/orders.json\""),
        ("lines", "file = \"tests/orders.jsonl\""),
        (
            "sql",
            "sql = \"SELECT 1 AS id, TIMESTAMP '2024-05-01 10:00:00' AS placed, 2.5 AS price, 'EUR' AS currency UNION ALL SELECT 2, TIMESTAMP '2024-05-03 10:00:00', 4, 'USD'\"",
        ),
    ] {
        project.write(
            &format!("tests/{name}.toml"),
            &format!(
                "pipeline = \"shop\"\ndate = 2024-05-04\n[[given]]\ntable = \"orders\"\n{given}\n\
                 [[given]]\ntable = \"ref.rates\"\nrows = [{{ currency = \"EUR\", rate = 2 }}, {{ currency = \"USD\", rate = 1 }}]\n\
                 [[expect]]\ntable = \"priced\"\nrows = [{{ id = 1, price = 5, _haul_unit = 2024-05-01 }}, {{ id = 2, price = 4, _haul_unit = 2024-05-03 }}]\n"
            ),
        );
    }
    assert_eq!(
        project.stdout(&["test"]),
        "passed  csv\npassed  json\npassed  lines\npassed  sql\n4 passed, 0 failed\n"
    );
}

#[test]
fn later_runs_get_other_rows_and_recompute_what_changed() {
    let project = tested(
        "[[run]]\ndate = 2024-05-04\n[[run]]\ndate = 2024-05-05\n[[run.given]]\ntable = \"orders\"\n\
         rows = [{ id = 1, placed = 2024-05-01T10:00:00Z, price = 2.5 }, { id = 2, placed = 2024-05-01T12:00:00Z, price = 1.25 }, { id = 4, placed = 2024-05-03T00:00:00Z, price = 7 }, { id = 5, placed = 2024-05-04T00:00:00Z, price = 1 }]\n\
         [[expect]]\nafter = 1\ntable = \"sums\"\nrows = [{ _haul_unit = 2024-05-01, total = 3.75 }, { _haul_unit = 2024-05-03, total = 0 }]\ncolumns = [\"_haul_unit\"]\n\
         [[expect]]\ntable = \"sums\"\nrows = [{ _haul_unit = 2024-05-01, total = 3.75 }, { _haul_unit = 2024-05-03, total = 7 }, { _haul_unit = 2024-05-04, total = 1 }]\n",
    );
    assert_eq!(project.stdout(&["test"]), "passed  shop\n1 passed, 0 failed\n");
}

#[test]
fn what_is_not_given_is_told_with_what_is_wanting() {
    let project = tested("[[expect]]\ntable = \"priced\"\ncount = 1\n");
    let said = told(&project.output(&["test"]));
    assert!(said.contains("mart.priced is not computed, for want of ref.rates"), "{said}");
    project.write("tests/shop.toml", "pipeline = \"shop\"\ndate = 2024-05-04\n[[given]]\ntable = \"ref.rates\"\nrows = [{ currency = \"EUR\", rate = 1 }]\n[[expect]]\ntable = \"sums\"\ncount = 1\n");
    let said = told(&project.output(&["test"]));
    assert!(said.contains("no transform of `shop` reads only what is given"), "{said}");
    let more = "[[transform]]\nname = \"free\"\nsql = \"SELECT {{ ds | sql }} AS d\"\n";
    let pipeline = std::fs::read_to_string(project.path().join("pipelines/shop.toml")).expect("a file");
    project.write("pipelines/shop.toml", &format!("{pipeline}{more}"));
    let said = told(&project.output(&["test"]));
    assert!(said.contains("mart.sums is not computed, for want of raw.orders"), "{said}");
    assert!(said.contains("[[given]] table = \"raw.orders\""), "{said}");
}
