//! Questions to a warehouse: rows as JSON with all their digits, and nothing left behind.

use haul::error::Kind;
use haul::model::name::TableName;
use haul::warehouse::Warehouse;

use super::bench::{Driver, Load, items};

fn a_query_gives_the_first_rows_and_says_whether_there_are_more(driver: Driver) {
    driver.run(|bench| async move {
        for (max, rows, truncated) in [(0, 0, true), (2, 2, true), (3, 3, false), (4, 3, false)] {
            let sql = format!("SELECT * FROM {} ORDER BY 1;", driver.numbers("n", 1, 3));
            let found = bench.warehouse.query(&sql, max).await.expect("rows");
            assert_eq!((found.rows.len(), found.truncated), (rows, truncated), "{max}");
        }
        let none = bench.warehouse.query("SELECT 1 AS a WHERE false", 5).await.expect("rows");
        assert_eq!((none.columns, none.rows.len(), none.truncated), (vec!["a".to_owned()], 0, false));
    });
}

#[test]
fn numbers_come_with_all_their_digits() {
    Driver::DuckDb.run(|bench| async move {
        let sql = "SELECT 9223372036854775807 AS a, 18446744073709551615::UBIGINT AS b, 170141183460469231731687303715884105727 AS c, \
                   12345678901234567890123456789012345.678::DECIMAL(38,3) AS d, 1.50::DECIMAL(4,2) AS e, 0.1::DOUBLE AS f, 5::HUGEINT AS g";
        assert_eq!(
            bench.text(sql).await,
            r#"[[9223372036854775807,18446744073709551615,"170141183460469231731687303715884105727","12345678901234567890123456789012345.678","1.50",0.1,5]]"#
        );
        let sql = "SELECT {'d': [1.50::DECIMAL(4,2), NULL], 'in': {'h': -170141183460469231731687303715884105727}} AS s, \
                   '{\"n\": 123456789012345678901234567890, \"f\": 1e3}'::JSON AS j";
        assert_eq!(
            bench.text(sql).await,
            r#"[[{"d":["1.50",null],"in":{"h":"-170141183460469231731687303715884105727"}},{"n":"123456789012345678901234567890","f":1000.0}]]"#
        );
    });
}

#[test]
fn every_kind_of_value_can_be_shown() {
    Driver::DuckDb.run(|bench| async move {
        let sql = "SELECT NULL AS a, true AS b, DATE '2024-02-29' AS c, TIMESTAMP '2024-02-29 01:02:03.5' AS d, \
                   '12:30:00'::TIME AS e, 'x\"y' AS f, [1, NULL] AS g, MAP {'k': 1} AS h, INTERVAL 1 DAY AS i, \
                   '00000000-0000-0000-0000-000000000001'::UUID AS j";
        assert_eq!(
            bench.text(sql).await,
            r#"[[null,true,"2024-02-29","2024-02-29 01:02:03.5","12:30:00","x\"y",[1,null],{"k":1},"1 day","00000000-0000-0000-0000-000000000001"]]"#
        );
        // JSON has no words for these.
        assert_eq!(
            bench
                .text("SELECT 'nan'::DOUBLE AS a, '-inf'::FLOAT AS b, [1, 'inf'::DOUBLE] AS c, '\\xAA'::BLOB AS d")
                .await,
            r#"[["NaN","-Infinity","[1.0,Infinity]","\\xAA"]]"#
        );
        let sql = "SELECT '2024-02-29 01:02:03.5+09:00'::TIMESTAMPTZ AS a, NULL::TIMESTAMPTZ AS b";
        assert_eq!(bench.text(sql).await, r#"[["2024-02-28 16:02:03.5+00",null]]"#);
    });
}

fn columns_whose_names_repeat_are_all_there(driver: Driver) {
    driver.run(|bench| async move {
        let found = bench.warehouse.query("SELECT 1 AS a, 2 AS a, 3 AS \"A\", 4 AS \"q\"\"\"", 1).await.expect("rows");
        assert_eq!(found.rows[0], [1, 2, 3, 4]);
        assert_eq!(found.columns.len(), 4);
        assert_eq!((&*found.columns[0], &*found.columns[3]), ("a", "q\""));
    });
}

fn a_statement_that_writes_leaves_nothing(driver: Driver) {
    driver.run(|bench| async move {
        bench.load(&Load::whole(), &["{\"n\":1}"]).await.expect("a commit");
        let before = bench.state().await;
        for sql in [
            "DELETE FROM raw.items",
            "DROP TABLE raw.items",
            "INSERT INTO raw.items (n) VALUES (2) RETURNING n",
            "SELECT 1; DELETE FROM raw.items",
            "SELECT 1; COMMIT; DELETE FROM raw.items",
            "COMMIT",
            "CREATE TABLE raw.other AS SELECT 1 AS n",
            "",
        ] {
            let error = bench.warehouse.query(sql, 5).await.expect_err(sql);
            assert_eq!(error.kind(), Kind::Warehouse, "{sql}: {error:?}");
        }
        assert_eq!(bench.state().await, before);
        let other = TableName::parse("raw.other").expect("a name");
        assert_eq!(bench.warehouse.describe(&other).await.expect("a description"), None);
    });
}

fn a_faulty_query_is_shown_by_its_line(driver: Driver) {
    driver.run(|bench| async move {
        let from = driver.numbers("n", 1, 3);
        for select in ["SELECT 1,\n  nothing(1)", "SELECT\n  CAST('x' AS INTEGER)"] {
            let error = bench.warehouse.query(&format!("{select}\nFROM {from}"), 5).await.expect_err("a fault");
            let line = select.lines().nth(1).expect("a line");
            assert!(
                error.details().is_none_or(|text| text.contains(&format!(">    2 | {line}"))),
                "{:?}",
                error.details()
            );
            assert_eq!(error.kind(), Kind::Warehouse);
        }
        let error = bench.warehouse.query("SELECT 1,\n  nothing(1)", 5).await.expect_err("a fault");
        assert!(error.details().is_some(), "{error:?}");
    });
}

#[test]
fn a_table_is_described_without_haul_s_own_columns_and_by_any_case() {
    Driver::DuckDb.run(|bench| async move {
        assert_eq!(bench.warehouse.describe(&items()).await.expect("a description"), None);
        bench.load(&Load::of(super::bench::day("2024-03-01")), &["{\"a\":1,\"b\":\"x\"}"]).await.expect("a commit");
        assert_eq!(bench.columns(&items()).await, "a BIGINT, b VARCHAR");
        let mut shouted = Load::of(super::bench::day("2024-03-02"));
        shouted.table = TableName::parse("RAW.Items").expect("a name");
        bench.load(&shouted, &["{\"A\":2}"]).await.expect("a commit");
        assert_eq!(bench.text("SELECT a FROM raw.items ORDER BY a").await, "[[1],[2]]");
    });
}

fn a_closed_warehouse_says_so(driver: Driver) {
    driver.run(|bench| async move {
        let other: Warehouse = bench.warehouse.clone();
        bench.warehouse.close().await.expect("closed");
        let error = other.query("SELECT 1", 1).await.expect_err("it is closed");
        assert!(error.chain().contains("talking to the warehouse"), "{error:?}");
    });
}

suite!(
    a_query_gives_the_first_rows_and_says_whether_there_are_more,
    columns_whose_names_repeat_are_all_there
        but not on BigQuery: "it refuses a SELECT two of whose columns have one name",
    a_statement_that_writes_leaves_nothing,
    a_faulty_query_is_shown_by_its_line,
    a_closed_warehouse_says_so
);
