//! Checks see the new rows before they replace the old ones, and only the new rows.

use haul::error::Kind;
use haul::model::name::{Origin, TableName, Text};
use haul::model::pipeline::{CheckRule, Guard, Severity, Write};
use haul::warehouse::{BoundCheck, CommitOutcome, NEW_ROWS};
use serde_json::json;

use super::bench::{Bench, Driver, Load, day, refused};

fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn own_sql(sql: &str, severity: Severity) -> BoundCheck {
    let origin = Origin { file: std::sync::Arc::new("pipelines/p.toml".into()), line: 1, column: 1 };
    let rule = CheckRule::Sql(Text::new(sql, origin));
    BoundCheck { name: "own".to_owned(), rule, severity, sql: Some(sql.to_owned()) }
}

/// Loads two rows that are to be the old ones.
async fn old_rows(bench: &Bench) {
    let rows = "{\"id\":1,\"s\":\"a\"}\n{\"id\":2,\"s\":\"b\"}";
    bench.load(&Load::of(day("2024-03-01")), &[rows]).await.expect("a commit");
}

/// Says whether new rows pass a rule: the error where they do not.
async fn verdict(bench: &Bench, rule: CheckRule, rows: &str) -> Option<String> {
    let load = Load::of(day("2024-03-01"));
    let next = bench.loads().await.first().map_or(1, |(_, load)| load.pull) + 1;
    let before = bench.state().await;
    match bench.load(&load.pull(next).known(bench).await.check(rule), &[rows]).await {
        Ok(_) => None,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Check, "{error:?}");
            assert_eq!(bench.state().await, before, "the old rows stay");
            Some(format!("{} {}", error.chain(), error.details().unwrap_or_default()))
        }
    }
}

fn rules_pass_what_is_right_and_stop_what_is_wrong(driver: Driver) {
    driver.run(|bench| async move {
        let accepted = |values: serde_json::Value| CheckRule::Accepted {
            column: "s".into(),
            values: values.as_array().expect("a list").clone(),
        };
        let count = |min, max| CheckRule::RowCount { min, max };
        let table = [
            (CheckRule::NotNull(columns(&["id", "s"])), "{\"id\":1,\"s\":\"a\"}", None),
            (
                CheckRule::NotNull(columns(&["id", "s"])),
                "{\"id\":1,\"s\":\"a\"}\n{\"id\":2}",
                Some("1 row is wrong {\"id\":2"),
            ),
            (CheckRule::NotNull(columns(&["s"])), "{\"id\":1}", Some("1 row is wrong")),
            (CheckRule::NotNull(columns(&["typo"])), "{\"id\":1}", Some("none has a column `typo`")),
            (CheckRule::Unique(columns(&["id", "s"])), "{\"id\":1,\"s\":\"a\"}\n{\"id\":1,\"s\":\"b\"}", None),
            (
                CheckRule::Unique(columns(&["id"])),
                "{\"id\":1}\n{\"id\":1}\n{\"id\":1}\n{\"id\":3}",
                Some("{\"id\":1,\"times\":3}"),
            ),
            (accepted(json!(["a", "it's", null])), "{\"s\":\"it's\"}\n{\"s\":null}", None),
            (accepted(json!(["a", null])), "{\"s\":\"a\"}\n{\"s\":\"b\"}", Some("1 row is wrong {\"s\":\"b\"")),
            (accepted(json!([])), "{\"s\":null}", None),
            (accepted(json!([])), "{\"s\":\"a\"}", Some("1 row is wrong")),
            (count(Some(1), Some(2)), "{\"id\":1}\n{\"id\":2}", None),
            (count(Some(3), None), "{\"id\":1}\n{\"id\":2}", Some("2024-03-01 has 2 rows")),
            (count(None, Some(1)), "{\"id\":1}\n{\"id\":2}", Some("2024-03-01 has 2 rows")),
            (count(Some(1), None), "", Some("2024-03-01 has 0 rows")),
            (CheckRule::NotNull(columns(&["id"])), "", None),
        ];
        old_rows(&bench).await;
        for (rule, rows, wanted) in table {
            let shown = format!("{rule:?} on {rows}");
            match (verdict(&bench, rule, rows).await, wanted) {
                (None, None) => {}
                (Some(error), Some(wanted)) => {
                    assert!(error.contains("the check `it`") && error.contains(wanted), "{shown}: {error}");
                }
                (found, _) => panic!("{shown}: {found:?}"),
            }
        }
    });
}

fn accepted_values_may_be_numbers_and_truths(driver: Driver) {
    driver.run(|bench| async move {
        let rule = |column: &str, values: serde_json::Value| CheckRule::Accepted {
            column: column.into(),
            values: values.as_array().expect("a list").clone(),
        };
        let load = Load::whole().check(rule("n", json!([1, 2.5]))).check(rule("b", json!([true])));
        bench.load(&load, &["{\"n\":1,\"b\":true}\n{\"n\":2.5,\"b\":null}"]).await.expect("a commit");
        refused(bench.load(&load.pull(2), &["{\"n\":2,\"b\":true}"]).await, Kind::Check);
    });
}

fn a_relation_holds_where_every_value_stands_in_the_other_table(driver: Driver) {
    driver.run(|bench| async move {
        let mut users = Load::whole();
        users.table = TableName::parse("raw.users").expect("a name");
        bench.load(&users, &["{\"key\":1}\n{\"key\":2}\n{\"key\":null}"]).await.expect("a commit");
        old_rows(&bench).await;
        let rule = || CheckRule::Relation { column: "id".into(), to: users.table.clone(), field: "key".into() };
        assert_eq!(verdict(&bench, rule(), "{\"id\":1}\n{\"id\":null}\n{\"id\":2}").await, None);
        let error = verdict(&bench, rule(), "{\"id\":1}\n{\"id\":7}").await.expect("7 is nobody");
        assert!(error.contains("1 row is wrong {\"id\":7"), "{error}");
        let missing = CheckRule::Relation {
            column: "id".into(),
            to: TableName::parse("raw.nobody").expect("a name"),
            field: "key".into(),
        };
        let error = refused(bench.load(&Load::whole().pull(99).check(missing), &["{\"id\":1}"]).await, Kind::Warehouse);
        assert!(error.contains("running the check `it`") && error.contains("nobody"), "{error}");
    });
}

fn own_sql_sees_the_new_rows_and_the_old_table_and_its_faults_are_shown_by_line(driver: Driver) {
    driver.run(|bench| async move {
        let load = Load::of(day("2024-03-01"));
        bench.load(&load, &["{\"id\":1}"]).await.expect("a commit");
        let sql = format!("SELECT id FROM {NEW_ROWS}\nWHERE id NOT IN (SELECT id FROM raw.items) -- nothing new\n;");
        let with = |sql: &str| {
            let mut load = Load::of(day("2024-03-01")).pull(2);
            load.checks = vec![own_sql(sql, Severity::Error)];
            load
        };
        let error = bench.load(&with(&sql), &["{\"id\":1}\n{\"id\":9007199254740993}"]).await.expect_err("9 is new");
        assert_eq!((error.kind(), error.details()), (Kind::Check, Some("{\"id\":9007199254740993}")));
        let error = bench
            .load(&with("SELECT id\nFROM _haul_new\nWHERE idd(id) = 1"), &["{\"id\":1}"])
            .await
            .expect_err("a typo");
        assert_eq!(error.kind(), Kind::Warehouse);
        assert!(
            error.details().is_some_and(|text| text.contains(">    3 | WHERE idd(id) = 1")),
            "{error:?} {:?}",
            error.details()
        );
        bench.load(&with(&sql), &["{\"id\":1}\n{\"id\":1}"]).await.expect("a commit");
    });
}

fn a_warning_is_told_and_stops_nothing(driver: Driver) {
    driver.run(|bench| async move {
        let mut load = Load::whole().check(CheckRule::NotNull(columns(&["id"])));
        load.checks[0].severity = Severity::Warn;
        load.checks.push(own_sql("SELECT 1", Severity::Warn));
        let committed = bench.load(&load, &["{\"id\":null,\"n\":1}\n{\"id\":2}"]).await.expect("a commit");
        assert_eq!(
            committed.warnings,
            ["the check `it` failed: 1 row is wrong", "the check `own` failed: 1 row is wrong"]
        );
        assert_eq!(bench.text("SELECT count(*) FROM raw.items").await, "[[2]]");
    });
}

fn checks_of_a_merge_see_the_rows_that_it_would_leave(driver: Driver) {
    driver.run(|bench| async move {
        let load = Load::whole().merge(&["id"], Some("at")).check(CheckRule::Unique(columns(&["id"])));
        bench.load(&load, &["{\"id\":1,\"at\":1}\n{\"id\":1,\"at\":2}"]).await.expect("one row of the key is left");
        assert_eq!(bench.text(&format!("SELECT id, {} FROM raw.items", driver.quoted("at"))).await, "[[1,2]]");
    });
}

fn checks_of_computed_rows_see_only_the_units_that_are_written(driver: Driver) {
    driver.run(|bench| async move {
        let days = [day("2024-03-01"), day("2024-03-02")];
        let sql = |second: &str| {
            format!("SELECT DATE '2024-03-01' AS d, NULL AS n UNION ALL SELECT DATE '2024-03-02', {second}")
        };
        bench.compute(&Load::over(&days), &sql("1"), Some("d")).await.expect("a commit");
        // The first day is the same as before, nulls and all; only the second is new and is checked.
        let load = Load::over(&days).pull(2).known(&bench).await.check(CheckRule::NotNull(columns(&["n"])));
        let committed = bench.compute(&load, &sql("2"), Some("d")).await.expect("a commit");
        let outcomes: Vec<_> = committed.units.iter().map(|unit| unit.outcome.clone()).collect();
        assert_eq!(outcomes, [CommitOutcome::Unchanged, CommitOutcome::Written]);
        let load = Load::over(&days).pull(3).known(&bench).await.check(CheckRule::NotNull(columns(&["n"])));
        refused(bench.compute(&load, &sql("NULL"), Some("d")).await, Kind::Check);
    });
}

fn a_check_runs_in_every_write_mode(driver: Driver) {
    driver.run(|bench| async move {
        let modes = [Write::Replace, Write::Append, Write::Full];
        for write in modes {
            let mut load = Load::of(day("2024-03-01")).write(write).check(CheckRule::NotNull(columns(&["id"])));
            load.units[0].guard = Guard::default();
            refused(bench.load(&load, &["{\"id\":null}"]).await, Kind::Check);
        }
    });
}

suite!(
    rules_pass_what_is_right_and_stop_what_is_wrong,
    accepted_values_may_be_numbers_and_truths,
    a_relation_holds_where_every_value_stands_in_the_other_table,
    own_sql_sees_the_new_rows_and_the_old_table_and_its_faults_are_shown_by_line,
    a_warning_is_told_and_stops_nothing,
    checks_of_a_merge_see_the_rows_that_it_would_leave,
    checks_of_computed_rows_see_only_the_units_that_are_written,
    a_check_runs_in_every_write_mode
);
