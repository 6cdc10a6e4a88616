//! Tables follow their rows: new columns, wider types, contracts, and conflicts that are told.

use haul::error::Kind;
use haul::model::schema::{Contract, SchemaChange};

use super::bench::{Bench, Driver, Load, day, items, refused};

fn first() -> Load {
    Load::of(day("2024-03-01"))
}

fn second() -> Load {
    Load::of(day("2024-03-02"))
}

fn new_columns_are_added_and_absent_ones_are_null(driver: Driver) {
    driver.run(|bench| async move {
        bench.load(&first(), &["{\"a\":1,\"b\":2}"]).await.expect("a commit");
        let committed = bench.load(&second(), &["{\"c\":\"x\",\"a\":3}"]).await.expect("a commit");
        assert!(matches!(&committed.schema_changes[..], [SchemaChange::Add(column)] if column.name == "c"));
        assert_eq!(bench.text("SELECT a, b, c FROM raw.items ORDER BY a").await, r#"[[1,2,null],[3,null,"x"]]"#);
        // The table's way of writing a name is kept.
        bench.load(&second().pull(2).known(&bench).await, &["{\"A\":4}"]).await.expect("a commit");
        assert_eq!(bench.columns(&items()).await, "a BIGINT, b BIGINT, c VARCHAR");
    });
}

/// Loads pairs of values after each other and says that the column's type becomes the one that holds both; nothing where they
/// are to be refused.
async fn widens(bench: &Bench, table: &[(&str, &str, &str, &str)]) {
    for (number, (old, new, data_type, values)) in table.iter().enumerate() {
        let (mut one, mut two) = (first(), second());
        one.table.name = format!("t{number}");
        two.table.name.clone_from(&one.table.name);
        bench.load(&one, &[&format!("{{\"n\":{old}}}")]).await.expect(old);
        let result = bench.load(&two, &[&format!("{{\"n\":{new}}}")]).await;
        if values.is_empty() {
            refused(result, Kind::Data);
            continue;
        }
        result.unwrap_or_else(|error| panic!("{old} then {new}: {error:?}"));
        assert_eq!(bench.columns(&one.table).await, format!("n {data_type}"), "{old} then {new}");
        let sql = format!("SELECT n FROM raw.t{number} ORDER BY _haul_unit");
        assert_eq!(bench.text(&sql).await, *values, "{old} then {new}");
    }
}

fn a_type_widens_to_one_that_holds_old_and_new_values(driver: Driver) {
    driver.run(|bench| async move {
        let times = driver.instants(r#"[["2024-03-01 10:00:00"],["2024-03-02 00:00:00"]]"#);
        let table = [
            ("1", "0.5", "DOUBLE", "[[1.0],[0.5]]"),
            ("0.5", "7", "DOUBLE", "[[0.5],[7.0]]"),
            ("\"2024-03-01T10:00:00Z\"", "\"2024-03-02\"", "TIMESTAMP", times.as_str()),
            ("\"text\"", "\"2024-03-02T00:00:00+01:00\"", "VARCHAR", r#"[["text"],["2024-03-02T00:00:00+01:00"]]"#),
        ];
        widens(&bench, &table).await;
    });
}

fn a_number_widens_until_it_has_room_for_every_digit(driver: Driver) {
    driver.run(|bench| async move {
        let table = [
            ("1", "9223372036854775808", "HUGEINT", "[[1],[9223372036854775808]]"),
            ("-9223372036854775808", "0.12345678901234567891", "DECIMAL(39,20)", ""),
            (
                "-9223372036854775808",
                "0.1234567890123456789",
                "DECIMAL(38,19)",
                r#"[["-9223372036854775808.0000000000000000000"],["0.1234567890123456789"]]"#,
            ),
            ("0.1234567890123456789", "12345678901234567890.5", "DECIMAL(39,19)", ""),
            (
                "0.1234567890123456789",
                "1.5",
                "DECIMAL(37,19)",
                r#"[["0.1234567890123456789"],["1.5000000000000000000"]]"#,
            ),
            (
                "0.1234567890123456789",
                "7",
                "DECIMAL(37,19)",
                r#"[["0.1234567890123456789"],["7.0000000000000000000"]]"#,
            ),
            ("9223372036854775808", "7", "HUGEINT", "[[9223372036854775808],[7]]"),
        ];
        widens(&bench, &table).await;
    });
}

fn a_date_becomes_a_time_once_times_come(driver: Driver) {
    driver.run(|bench| async move {
        let times = driver.instants(r#"[["2024-03-01 00:00:00"],["2024-03-02 00:00:00"]]"#);
        let table = [("\"2024-03-01\"", "\"2024-03-02T01:00:00+01:00\"", "TIMESTAMP", times.as_str())];
        widens(&bench, &table).await;
    });
}

fn a_float_takes_no_whole_number_that_it_would_round(driver: Driver) {
    driver.run(|bench| async move {
        // The table's numbers are too long for the new type.
        bench.load(&first(), &["{\"n\":9007199254740993}"]).await.expect("a commit");
        let before = bench.state().await;
        let error = refused(bench.load(&second(), &["{\"n\":0.5}"]).await, Kind::Data);
        assert!(error.contains("BIGINT") && error.contains("would lose digits as DOUBLE"), "{error}");
        assert_eq!(bench.state().await, before);
        // The new numbers are too long for the table's type.
        let (mut one, mut two) = (first(), second());
        (one.table.name, two.table.name) = ("floats".to_owned(), "floats".to_owned());
        bench.load(&one, &["{\"n\":0.5,\"o\":{\"n\":0.5}}"]).await.expect("a commit");
        let error = refused(bench.load(&two, &["{\"n\":1}\n{\"n\":9007199254740993}"]).await, Kind::Data);
        assert!(
            error.contains("`n` is DOUBLE in the table and BIGINT in the new rows, first on page 1, row 2"),
            "{error}"
        );
        if bench.driver == Driver::Postgres {
            // Its records are JSON, which takes any number.
            return;
        }
        let error = refused(bench.load(&two, &["{\"o\":{\"n\":9007199254740993}}"]).await, Kind::Data);
        assert!(error.contains("`o.n` is DOUBLE in the table"), "{error}");
    });
}

fn a_conflict_with_the_table_names_column_types_page_and_row(driver: Driver) {
    driver.run(|bench| async move {
        let row = "{\"n\":1,\"at\":\"2024-03-01T00:00:00Z\",\"o\":{\"list\":[{\"id\":1}]},\"b\":true,\"t\":\"x\"}";
        bench.load(&first(), &[row]).await.expect("a commit");
        let before = bench.state().await;
        for (pages, wanted) in [
            (["{\"n\":1}", "{\"n\":null}\n{}\n{\"n\":2}"], None),
            (
                ["{\"n\":null}", "{\"n\":null}\n{\"n\":\"many\"}"],
                Some("`n` is BIGINT in the table and VARCHAR in the new rows, first on page 2, row 2"),
            ),
            (
                ["{\"at\":\"2024-03-02T00:00:00Z\"}\n{\"at\":\"n/a\"}", "{\"at\":\"-\"}"],
                Some("`at` is TIMESTAMP in the table and VARCHAR in the new rows, first on page 1, row 2"),
            ),
            (["{\"at\":\"2024-03-02T00:00:00Z\"}", "{\"at\":\"2024-03-02T00:00:00\"}"], Some("first on page 2, row 1")),
            (
                ["{\"o\":{\"list\":[]}}", "{\"o\":{\"list\":[{\"id\":null},{\"id\":\"x\"}]}}"],
                Some("`o.list[].id` is BIGINT in the table and VARCHAR in the new rows, first on page 2, row 1"),
            ),
            (
                ["{\"b\":null}\n{\"b\":0}", ""],
                Some("`b` is BOOLEAN in the table and BIGINT in the new rows, first on page 1, row 2"),
            ),
            (["{\"t\":5}", ""], Some("`t` is VARCHAR in the table and BIGINT in the new rows, first on page 1, row 1")),
            (
                ["{\"n\":{\"x\":1}}", ""],
                Some("`n` is BIGINT in the table and STRUCT(\"x\" BIGINT) in the new rows, first on page 1, row 1"),
            ),
        ] {
            let result = bench.load(&second(), &pages).await;
            // The records of PostgreSQL are JSON, in which types do not meet.
            let nested = wanted.is_some_and(|wanted| wanted.contains("o.list")) && bench.driver == Driver::Postgres;
            if nested {
                continue;
            }
            let Some(wanted) = wanted else {
                result.expect("no conflict");
                bench.load(&second().pull(2).known(&bench).await, &[""]).await.expect("a commit");
                continue;
            };
            let error = refused(bench.load(&second().pull(3), &pages).await, Kind::Data);
            assert!(error.contains(wanted), "{error}");
        }
        let after = bench.state().await;
        assert_eq!(before.split(" [(").next(), after.split(" [(").next());
    });
}

fn a_conflict_within_a_pull_names_column_kinds_pages_and_rows(driver: Driver) {
    driver.run(|bench| async move {
        let pages = ["{\"a\":null}\n{\"a\":7}", "{\"a\":8}\n{\"a\":null}\n{\"a\":\"seven\"}"];
        let error = refused(bench.load(&first(), &pages).await, Kind::Data);
        assert!(error.contains("`a` is a number on page 1, row 2 and a text on page 2, row 3"), "{error}");
        let pages = ["{\"a\":{\"b\":[1]}}", "{\"a\":{\"b\":[true]}}"];
        let error = refused(bench.load(&first(), &pages).await, Kind::Data);
        assert!(error.contains("`a.b[]` is a number on page 1, row 1 and a boolean on page 2, row 1"), "{error}");
        let load = first().declare("a", "VARCHAR");
        bench.load(&load, &["{\"a\":7}\n{\"a\":\"seven\"}\n{\"a\":true}"]).await.expect("a declared type settles it");
        assert_eq!(bench.text("SELECT a FROM raw.items ORDER BY a").await, r#"[["7"],["seven"],["true"]]"#);
    });
}

fn a_frozen_contract_refuses_and_a_discarding_one_leaves_out_and_says_so(driver: Driver) {
    driver.run(|bench| async move {
        bench.load(&first().contract(Contract::Freeze), &["{\"a\":1}"]).await.expect("a new table is no change");
        let before = bench.state().await;
        let frozen = second().contract(Contract::Freeze);
        let error = refused(bench.load(&frozen, &["{\"a\":1}\n{\"a\":1,\"new\":\"x\"}"]).await, Kind::Data);
        assert!(error.contains("`new` (VARCHAR) is new, first on page 1, row 2"), "{error}");
        let error = refused(bench.load(&frozen, &["{\"a\":1}\n{\"a\":0.5}"]).await, Kind::Data);
        assert!(error.contains("`a` is BIGINT and would have to become DOUBLE, first on page 1, row 2"), "{error}");
        assert_eq!(bench.state().await, before);
        let committed =
            bench.load(&second().contract(Contract::Discard), &["{\"a\":2,\"new\":\"x\"}"]).await.expect("a commit");
        assert_eq!(committed.left_out, ["new"]);
        assert_eq!(bench.columns(&items()).await, "a BIGINT");
        bench.load(&frozen.pull(2).known(&bench).await, &["{\"a\":null}\n{\"a\":3}"]).await.expect("nothing is new");
        assert_eq!(bench.text("SELECT a FROM raw.items ORDER BY a NULLS LAST").await, "[[1],[3],[null]]");
    });
}

fn a_table_that_somebody_made_keeps_its_own_types(driver: Driver) {
    driver.run(|bench| async move {
        let columns = driver.pick(
            "id INTEGER, small SMALLINT, price DECIMAL(10,2), \"at\" TIMESTAMPTZ, u UUID, note VARCHAR DEFAULT 'none', _haul_unit DATE, _haul_pull BIGINT",
            "id INTEGER, small SMALLINT, price DECIMAL(10,2), \"at\" TIMESTAMPTZ, u UUID, note VARCHAR DEFAULT 'none', _haul_unit DATE, _haul_pull BIGINT",
            "id INT64, small INT64, price NUMERIC(10,2), `at` TIMESTAMP, u STRING, note STRING DEFAULT 'none', _haul_unit DATE, _haul_pull INT64",
        );
        let bench = bench.by_hand(&format!("CREATE SCHEMA raw; CREATE TABLE raw.items ({columns})")).await;
        let row = "{\"id\":7,\"small\":1,\"price\":1.25,\"at\":\"2024-01-01T00:00:00+01:00\",\"u\":\"00000000-0000-0000-0000-000000000001\"}";
        bench.load(&first(), &[row]).await.expect("a commit");
        assert_eq!(
            bench.columns(&items()).await,
            driver.pick(
                "id INTEGER, small SMALLINT, price DECIMAL(10,2), at TIMESTAMP WITH TIME ZONE, u UUID, note VARCHAR",
                "id INTEGER, small SMALLINT, price DECIMAL(10,2), at TIMESTAMP, u uuid, note VARCHAR",
                "id BIGINT, small BIGINT, price DECIMAL(10,2), at TIMESTAMP, u VARCHAR, note VARCHAR",
            )
        );
        let (at, text) = (driver.quoted("at"), driver.texts());
        let instant = driver.pick("2023-12-31 23:00:00+00", "2023-12-31 23:00:00+00", "2023-12-31T23:00:00Z");
        assert_eq!(
            bench.text(&format!("SELECT id, price, {at}, CAST(u AS {text}), note FROM raw.items")).await,
            format!(r#"[[7,"1.25","{instant}","00000000-0000-0000-0000-000000000001","none"]]"#)
        );
        // A longer number widens, a fraction is not rounded into a whole number.
        bench.load(&second(), &["{\"id\":3000000000,\"small\":0.5}"]).await.expect("a commit");
        assert!(bench.columns(&items()).await.starts_with("id BIGINT, small DOUBLE, price"));
        assert_eq!(bench.text("SELECT id, small FROM raw.items ORDER BY id").await, "[[7,1.0],[3000000000,0.5]]");
    });
}

suite!(
    new_columns_are_added_and_absent_ones_are_null,
    a_type_widens_to_one_that_holds_old_and_new_values,
    a_number_widens_until_it_has_room_for_every_digit
        but not on BigQuery: "the emulator has no more than nine digits behind a point; `bigquery_warehouse::digits` has all",
    a_date_becomes_a_time_once_times_come
        but not on BigQuery: "it cannot do that in place; `bigquery_warehouse::digits` sees what is said instead",
    a_float_takes_no_whole_number_that_it_would_round,
    a_conflict_with_the_table_names_column_types_page_and_row,
    a_conflict_within_a_pull_names_column_kinds_pages_and_rows,
    a_frozen_contract_refuses_and_a_discarding_one_leaves_out_and_says_so,
    a_table_that_somebody_made_keeps_its_own_types
);
