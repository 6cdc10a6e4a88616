//! A step with SQL for each warehouse: the right one runs, all are looked at, and they read the same steps.

use crate::support::project::{Project, told};

/// A project whose transform `sums` has this `sql`, in a pipeline without a window.
fn project(sql: &str) -> Project {
    let project = Project::with_api("http://localhost:1", "");
    project.write(
        "pipelines/p.toml",
        &format!("[[transform]]\nname = \"orders\"\nsql = \"SELECT 1 AS id\"\n[[transform]]\nname = \"sums\"\n{sql}\n"),
    );
    project
}

#[test]
fn the_variant_of_the_warehouse_is_what_runs() {
    let variants = "sql = { duckdb = \"SELECT 'duck' AS who, id FROM {{ ref('orders') }}\", bigquery = \"SELECT 'big' AS who, id FROM {{ ref('orders') }}\" }";
    let table =
        "[transform.sql]\nbigquery = \"SELECT 'big' AS who, id FROM {{ ref('orders') }}\"\ndefault = \"sql/sums.sql\"";
    for sql in [variants, table] {
        let project = project(sql);
        project.write("sql/sums.sql", "SELECT 'duck' AS who, id FROM {{ ref('orders') }}");
        assert!(project.stdout(&["check"]).contains("no faults"));
        project.stdout(&["run", "p", "--date", "2024-05-04"]);
        assert_eq!(project.query("SELECT who, id FROM mart.sums"), serde_json::json!([{ "who": "duck", "id": 1 }]));
    }
}

#[test]
fn every_variant_is_checked_and_reads_the_same_steps() {
    for (sql, words) in [
        (
            "sql = { duckdb = \"SELECT 1 FROM {{ ref('orders') }}\", bigquery = \"SELECT 1 AS id\" }",
            ["`sums` reads `orders` for duckdb, but not for bigquery", "variants have the same ref()s"],
        ),
        (
            "sql = { duckdb = \"SELECT 1\", bigquery = \"SELECT {{ wrong }}\" }",
            ["`wrong` is undefined", "pipelines/p.toml:6"],
        ),
        ("sql = { duckbd = \"SELECT 1\" }", ["`duckbd` is no warehouse", "did you mean `duckdb`?"]),
        (
            "sql = { bigquery = \"SELECT 1\" }",
            ["no SQL for duckdb, which its warehouse is", "add sql.duckdb or sql.default"],
        ),
        ("sql = {}", ["`sums` has no SQL", "bigquery ="]),
        ("sql = 1", ["`transform.sql`", "a text, not a whole number"]),
    ] {
        let output = project(sql).output(&["check"]);
        assert_eq!(output.status.code(), Some(2), "{sql}: {}", told(&output));
        for word in words {
            assert!(told(&output).contains(word), "`{word}` is missing for {sql}:\n{}", told(&output));
        }
    }
}

#[test]
fn a_warehouse_without_a_variant_fails_with_those_there_are() {
    let said = told(&project("sql = { bigquery = \"SELECT 1\" }").output(&["run", "p", "--date", "2024-05-04"]));
    assert!(said.contains("the step `sums` has no SQL for duckdb"), "{said}");
}
