//! What changed: drift against the old rows, and computed rows that are what they were.

use haul::error::Kind;
use haul::model::ledger::Changes;
use haul::model::pipeline::Guard;
use haul::warehouse::CommitOutcome;

use super::bench::{Bench, Driver, Load, day, refused};

#[expect(clippy::unnecessary_wraps, reason = "it stands where a commit has an option")]
fn changes(added: u64, removed: u64, changed: u64) -> Option<Changes> {
    Some(Changes { added, removed, changed })
}

/// Replaces the rows of a day and says what that changed.
async fn drift(bench: &Bench, keys: &[&str], old: &str, new: &str) -> Option<Changes> {
    let next = bench.loads().await.first().map_or(0, |(_, load)| load.pull) + 1;
    let mut load = Load::of(day("2024-03-01"));
    load.keys = keys.iter().map(|&key| key.to_owned()).collect();
    bench.load(&load.clone().pull(next), &[old]).await.expect("a commit");
    // Rows of another day are no part of it.
    bench.load(&Load::of(day("2024-03-02")).pull(next), &["{\"id\":1,\"n\":1}"]).await.expect("a commit");
    let committed = bench.load(&load.pull(next + 1).known(bench).await, &[new]).await.expect("a commit");
    committed.units[0].changes
}

fn rows_that_came_went_and_changed_are_counted(driver: Driver) {
    driver.run(|bench| async move {
        let old = "{\"id\":1,\"n\":1}\n{\"id\":2,\"n\":1}\n{\"id\":3,\"n\":1}";
        let new = "{\"id\":1,\"n\":1}\n{\"id\":2,\"n\":2}\n{\"id\":4,\"n\":1}\n{\"id\":5,\"n\":1}";
        assert_eq!(
            drift(&bench, &[], old, new).await,
            changes(3, 2, 0),
            "without keys a change is one more and one less"
        );
        assert_eq!(drift(&bench, &["id"], old, new).await, changes(2, 1, 1));
        assert_eq!(drift(&bench, &["id"], old, old).await, changes(0, 0, 0));
        assert_eq!(drift(&bench, &["nr"], old, new).await, changes(3, 2, 0), "a key that is no column tells nothing");
        // The same row twice counts twice.
        let twice = "{\"id\":1,\"n\":1}\n{\"id\":1,\"n\":1}";
        assert_eq!(drift(&bench, &[], twice, "{\"id\":1,\"n\":1}").await, changes(0, 1, 0));
    });
}

fn nested_values_and_columns_that_come_and_go_are_compared_too(driver: Driver) {
    driver.run(|bench| async move {
        let old = "{\"id\":1,\"o\":{\"a\":[1]},\"gone\":\"x\"}\n{\"id\":2,\"o\":{\"a\":[2]},\"gone\":null}";
        assert_eq!(
            drift(&bench, &["id"], old, "{\"id\":1,\"o\":{\"a\":[3]},\"gone\":\"x\"}\n{\"id\":2,\"o\":{\"a\":[2]}}")
                .await,
            changes(0, 0, 1)
        );
        assert_eq!(
            drift(&bench, &["id"], old, "{\"id\":1,\"o\":{\"a\":[1]}}\n{\"id\":2,\"o\":{\"a\":[2]}}").await,
            changes(0, 0, 1)
        );
        assert_eq!(drift(&bench, &["id"], old, &old.replace("null", "null,\"new\":5")).await, changes(0, 0, 1));
    });
}

fn computed_rows_that_are_what_they_were_are_not_written(driver: Driver) {
    driver.run(|bench| async move {
        let ids = driver.numbers("id", 0, 2);
        let sql = |order: &str| format!("SELECT id, 'x' AS t, ARRAY[id] AS l FROM {ids} ORDER BY id {order}");
        let load = Load::of(day("2024-03-01"));
        let first = bench.compute(&load, &sql("ASC"), None).await.expect("a commit");
        assert_eq!((first.units[0].rows, &first.units[0].outcome), (3, &CommitOutcome::Written));
        let before = bench.state().await;
        let again =
            bench.compute(&load.clone().pull(2).known(&bench).await, &sql("DESC"), None).await.expect("a commit");
        assert_eq!(again.units[0].outcome, CommitOutcome::Unchanged);
        assert_eq!(again.units[0].fingerprint, first.units[0].fingerprint);
        assert_eq!(bench.state().await, before);
        // The same values under another name, or of another type, are other rows.
        let wide = driver.decimals("DECIMAL(38,0)");
        for sql in [
            format!("SELECT id AS nr, 'x' AS t, ARRAY[id] AS l FROM {ids}"),
            format!("SELECT CAST(id AS {wide}) AS id, 'x' AS t, ARRAY[id] AS l FROM {ids}"),
        ] {
            let next = bench.loads().await[0].1.pull + 1;
            let other =
                bench.compute(&load.clone().pull(next).known(&bench).await, &sql, None).await.expect("a commit");
            assert_eq!(other.units[0].outcome, CommitOutcome::Written, "{sql}");
        }
        // Where the table is gone, nothing is unchanged.
        let known = load.pull(9).known(&bench).await;
        let bench = bench.by_hand("DROP TABLE raw.items").await;
        let other = bench.compute(&known, &sql("ASC"), None).await.expect("a commit");
        assert_eq!(other.units[0].outcome, CommitOutcome::Written);
    });
}

fn a_computed_unit_is_its_own_whatever_units_it_reads(driver: Driver) {
    driver.run(|bench| async move {
        for date in ["2024-03-01", "2024-03-02"] {
            bench.load(&Load::of(day(date)), &["{\"n\":1}"]).await.expect("a commit");
        }
        let mut load = Load::of(day("2024-03-02"));
        "two_days".clone_into(&mut load.table.name);
        bench.compute(&load, "SELECT * FROM raw.items -- all columns, haul's too", None).await.expect("a commit");
        assert_eq!(bench.columns(&load.table).await, "n BIGINT");
        let found = bench.text("SELECT n, _haul_unit, _haul_pull FROM raw.two_days").await;
        assert_eq!(found, r#"[[1,"2024-03-02",1],[1,"2024-03-02",1]]"#);
    });
}

fn computed_rows_of_a_window_find_their_unit_by_their_time_column(driver: Driver) {
    driver.run(|bench| async move {
        let days = [day("2024-03-01"), day("2024-03-02"), day("2024-03-03")];
        let times = "SELECT TIMESTAMP '2024-03-01 00:00:00' AS d, 1 AS n UNION ALL \
                     SELECT TIMESTAMP '2024-03-01 23:59:59.999999', 2 UNION ALL SELECT TIMESTAMP '2024-03-02 00:00:00', 3";
        let committed = bench.compute(&Load::over(&days), times, Some("d")).await.expect("a commit");
        let rows: Vec<u64> = committed.units.iter().map(|unit| unit.rows).collect();
        assert_eq!(rows, [2, 1, 0]);
        assert_eq!(
            bench.text("SELECT _haul_unit, n FROM raw.items ORDER BY n").await,
            r#"[["2024-03-01",1],["2024-03-01",2],["2024-03-02",3]]"#
        );
        // Only the units that changed are written again.
        let load = Load::over(&days).pull(2).known(&bench).await;
        let other = times.replace("2024-03-02", "2024-03-03");
        let committed = bench.compute(&load, &other, Some("d")).await.expect("a commit");
        let outcomes: Vec<_> = committed.units.iter().map(|unit| (unit.outcome.clone(), unit.changes)).collect();
        assert_eq!(
            outcomes,
            [
                (CommitOutcome::Unchanged, None),
                (CommitOutcome::Written, changes(0, 1, 0)),
                (CommitOutcome::Written, changes(1, 0, 0))
            ]
        );
        let before = bench.state().await;
        let outside = times.replace("2024-03-02", "2024-03-04");
        let error = refused(bench.compute(&Load::over(&days).pull(3), &outside, Some("d")).await, Kind::Data);
        assert!(error.contains("rows outside of the window: 1"), "{error}");
        assert_eq!(bench.state().await, before);
    });
}

fn a_guard_holds_computed_units_that_shrink_and_lets_the_others_pass(driver: Driver) {
    driver.run(|bench| async move {
        let days = [day("2024-03-01"), day("2024-03-02")];
        let sql = |one: u32, two: u32| {
            let (one, two) = (driver.numbers("i", 1, one), driver.numbers("i", 1, two));
            format!("SELECT DATE '2024-03-01' AS d, i FROM {one} UNION ALL SELECT DATE '2024-03-02', i FROM {two}")
        };
        bench.compute(&Load::over(&days), &sql(10, 10), Some("d")).await.expect("a commit");
        let mut load = Load::over(&days).pull(2).known(&bench).await;
        for unit in &mut load.units {
            unit.guard = Guard { max_shrink: 0.5, allow_empty: false };
        }
        let committed = bench.compute(&load, &sql(4, 5), Some("d")).await.expect("a commit");
        assert!(matches!(&committed.units[0].outcome, CommitOutcome::Held(why) if why.contains("10 rows became 4")));
        assert_eq!(committed.units[1].outcome, CommitOutcome::Written);
        assert_eq!(
            bench.text("SELECT d, count(*), max(_haul_pull) FROM raw.items GROUP BY d ORDER BY d").await,
            r#"[["2024-03-01",10,1],["2024-03-02",5,2]]"#
        );
        // A merge of a window touches no key of a unit that is held.
        let mut load = Load::over(&days).pull(3).merge(&["d", "i"], None).known(&bench).await;
        load.units[0].guard = Guard { max_shrink: 0.5, allow_empty: false };
        bench.compute(&load, &sql(1, 6), Some("d")).await.expect("a commit");
        let counts = bench.text("SELECT d, count(*), min(_haul_pull) FROM raw.items GROUP BY d ORDER BY d").await;
        assert_eq!(counts, r#"[["2024-03-01",10,1],["2024-03-02",6,3]]"#);
    });
}

fn a_faulty_statement_is_shown_by_its_line(driver: Driver) {
    driver.run(|bench| async move {
        let error = bench
            .compute(
                &Load::of(day("2024-03-01")),
                &format!("SELECT 1 AS n,\n  nothing(1) AS m\nFROM {};\n", driver.numbers("i", 0, 2)),
                None,
            )
            .await
            .expect_err("no such function");
        assert_eq!(error.kind(), Kind::Warehouse);
        let details = error.details();
        assert!(details.is_some_and(|text| text.contains(">    2 |   nothing(1) AS m")), "{details:?}");
        assert_eq!(bench.loads().await.len(), 0);
    });
}

fn computed_numbers_follow_the_same_types_as_staged_ones(driver: Driver) {
    driver.run(|bench| async move {
        let load = Load::of(day("2024-03-01"));
        let cents = driver.decimals("DECIMAL(5,2)");
        let double = driver.pick("DOUBLE", "DOUBLE PRECISION", "FLOAT64");
        let sql = format!(
            "SELECT CAST(1 AS INTEGER) AS i, CAST(1 AS BIGINT) AS b, CAST(0.5 AS {double}) AS f, CAST(1.25 AS {cents}) AS d"
        );
        bench.compute(&load, &sql, None).await.expect("a commit");
        let next = Load::of(day("2024-03-02"));
        let longer = driver.decimals("DECIMAL(9,4)");
        let sql = format!(
            "SELECT 3000000000 AS i, CAST(1 AS SMALLINT) AS b, 7 AS f, CAST(12345.6789 AS {longer}) AS d"
        );
        bench.compute(&next, &sql, None).await.expect("a commit");
        // What BigQuery computes as NUMERIC has all the digits that a NUMERIC can have.
        let decimals = driver.pick("DECIMAL(9,4)", "DECIMAL(9,4)", "DECIMAL(38,9)");
        assert_eq!(bench.columns(&load.table).await, format!("i BIGINT, b BIGINT, f DOUBLE, d {decimals}"));
        assert_eq!(
            bench.text("SELECT i, b, f, d FROM raw.items ORDER BY i").await,
            format!(r#"[[1,1,0.5,"{}"],[3000000000,1,7.0,"12345.6789"]]"#, driver.decimal("1.2500"))
        );
        let before = bench.state().await;
        let sql = "SELECT 1 AS i, 1 AS b, 9007199254740993 AS f, 1 AS d";
        let error = refused(bench.compute(&next.pull(2), sql, None).await, Kind::Data);
        assert!(error.contains("lose digits as DOUBLE"), "{error}");
        assert_eq!(bench.state().await, before);
    });
}

fn a_column_of_untyped_nulls_fits_every_table_and_makes_no_column(driver: Driver) {
    driver.run(|bench| async move {
        let load = Load::of(day("2024-03-01"));
        bench.compute(&load, "SELECT 1 AS a, NULL AS b", None).await.expect("a commit");
        // PostgreSQL has no untyped nulls: it makes them texts.
        assert_eq!(bench.columns(&load.table).await, driver.pick("a INTEGER", "a INTEGER, b VARCHAR", ""));
        bench.compute(&load.clone().pull(2), "SELECT NULL AS a, 'x' AS b", None).await.expect("a commit");
        bench.compute(&Load::of(day("2024-03-02")), "SELECT 2 AS a, NULL AS b", None).await.expect("a commit");
        assert_eq!(bench.text("SELECT a, b FROM raw.items ORDER BY a").await, r#"[[2,null],[null,"x"]]"#);
    });
}

suite!(
    rows_that_came_went_and_changed_are_counted,
    nested_values_and_columns_that_come_and_go_are_compared_too,
    computed_rows_that_are_what_they_were_are_not_written,
    a_computed_unit_is_its_own_whatever_units_it_reads,
    computed_rows_of_a_window_find_their_unit_by_their_time_column,
    a_guard_holds_computed_units_that_shrink_and_lets_the_others_pass,
    a_faulty_statement_is_shown_by_its_line,
    computed_numbers_follow_the_same_types_as_staged_ones,
    a_column_of_untyped_nulls_fits_every_table_and_makes_no_column
        but not on BigQuery: "a NULL without a type is an INT64 there, and so is its column",
);
