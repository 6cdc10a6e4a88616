//! What only PostgreSQL has: jsonb, partitions, indexes, limits, sessions, and several processes at work in one warehouse.

use std::time::Duration;

use haul::error::Kind;
use haul::model::connection::{Connection, ConnectionKind, ServerConnection};
use haul::model::layout::{Layout, Partition};
use haul::model::pipeline::Write;
use haul::time::{Calendar, Grain, Tz};
use haul::warehouse::CommitOutcome;
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, Driver, Load, Place, day, instant, items, refused};

fn run<F: Future<Output = ()>>(test: impl Fn(Bench) -> F) {
    Driver::Postgres.run(test);
}

/// The same database through other settings of its connection.
async fn with(bench: &Bench, settings: ServerConnection) -> Bench {
    let connection = Connection { name: "other".to_owned(), kind: ConnectionKind::Postgres(settings) };
    bench.another(connection).await
}

fn divided(load: Load, partition: Partition) -> Load {
    Load { layout: Layout { partition, ..Layout::default() }, ..load }
}

/// The partitions of a table with the number of rows in each.
async fn partitions(bench: &Bench, table: &str) -> String {
    bench
        .text(&format!(
            "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), \
             (xpath('/row/n/text()', query_to_xml('SELECT count(*) AS n FROM raw.' || c.relname, false, true, '')))[1]::text::int \
             FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'raw.{table}'::regclass ORDER BY 1"
        ))
        .await
}

#[test]
fn nested_values_are_jsonb_with_all_their_digits() {
    run(|bench| async move {
        let row = "{\"o\":{\"h\":170141183460469231731687303715884105727,\"d\":0.12345678901234567891,\"t\":\"0.1\",\"l\":[0.1234567890123456789,null]},\"l\":[1,{\"x\":\"7\"}],\"e\":{}}";
        let load = Load::of(day("2024-03-01")).declare("l", "JSON");
        bench.load(&load, &[row]).await.expect("a commit");
        assert_eq!(bench.columns(&items()).await, "o JSON, l JSON, e JSON");
        assert_eq!(
            bench
                .text("SELECT o::text, l::text, pg_typeof(o)::text, o->'l'->>0, jsonb_typeof(o->'t') FROM raw.items")
                .await,
            r#"[["{\"d\": 0.12345678901234567891, \"h\": 170141183460469231731687303715884105727, \"l\": [0.1234567890123456789, null], \"t\": \"0.1\"}","[1, {\"x\": \"7\"}]","jsonb","0.1234567890123456789","string"]]"#
        );
        assert_eq!(
            bench.text("SELECT o->'d', o->'h', 0.5::numeric, '[0.25]'::jsonb FROM raw.items").await,
            r#"[["0.12345678901234567891","170141183460469231731687303715884105727","0.5",[0.25]]]"#
        );
        // A list that a statement computes is an array, and what comes later has to fit it.
        let mut arrays = Load::of(day("2024-03-01"));
        "arrays".clone_into(&mut arrays.table.name);
        bench.compute(&arrays, "SELECT ARRAY[1, 2] AS l, sum(1.5) AS s", None).await.expect("a commit");
        assert_eq!(bench.columns(&arrays.table).await, "l integer[], s numeric");
        assert_eq!(bench.text("SELECT l, s FROM raw.arrays").await, r#"[[[1,2],"1.5"]]"#);
    });
}

#[test]
fn a_value_that_a_type_cannot_take_is_told_with_its_row_and_column() {
    run(|bench| async move {
        for (rows, wanted) in [
            (
                "{\"t\":\"a\"}\n{\"t\":\"x\\u0000y\"}",
                "row 2 of the pull: the column `t` cannot take \"x\\u0000y\": PostgreSQL has no room for the character NUL",
            ),
            ("{\"o\":{\"a\":\"\\u0000\"}}", "row 1 of the pull: the column `o` cannot take"),
        ] {
            let error = refused(bench.load(&Load::of(day("2024-03-01")), &[rows]).await, Kind::Data);
            assert!(error.contains(wanted), "{error}");
        }
        for (data_type, value) in
            [("BIGINT", "\"1.5\""), ("DECIMAL(4,2)", "\"1.234\""), ("DATE", "\"soon\""), ("BOOLEAN", "\"maybe\"")]
        {
            let load = Load::of(day("2024-03-01")).declare("n", data_type);
            let rows = format!("{{\"n\":null}}\n{{\"n\":{value}}}");
            let error = refused(bench.load(&load, &[&rows]).await, Kind::Data);
            assert!(error.contains(&format!("row 2 of the pull: the column `n` cannot take {value}")), "{error}");
        }
        let long = "n".repeat(64);
        let error = refused(bench.load(&Load::whole(), &[&format!("{{\"{long}\":1}}")]).await, Kind::Data);
        assert!(error.contains("has 64 bytes, PostgreSQL has room for 63"), "{error}");
        assert_eq!(bench.loads().await.len(), 0);
    });
}

#[test]
fn bytes_and_types_of_others_arrive() {
    run(|bench| async move {
        let bench = bench
            .by_hand("CREATE SCHEMA raw; CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TABLE raw.items (id uuid, m mood, ip inet, \
                      r int4range, b bytea, c varchar(3), t timestamptz, v real, _haul_unit date, _haul_pull bigint)")
            .await;
        let load = Load::of(day("2024-03-01")).declare("b", "BLOB");
        let row = "{\"id\":\"00000000-0000-0000-0000-00000000000A\",\"m\":\"good\",\"ip\":\"10.0.0.1\",\"r\":\"[1,4)\",\"b\":\"a\\\\xFF\",\"c\":\"abc\",\"t\":\"2024-03-01T00:00:00\",\"v\":0.5}";
        for (pull, checked) in [(1, false), (2, true)] {
            let mut load = load.clone().pull(pull).known(&bench).await;
            if checked {
                load = load.check(haul::model::pipeline::CheckRule::NotNull(vec!["m".to_owned()]));
            }
            bench.load(&load, &[row]).await.expect("a commit");
            assert_eq!(
                bench.text("SELECT id, m, ip, r, b, c, t, v FROM raw.items").await,
                r#"[["00000000-0000-0000-0000-00000000000a","good","10.0.0.1/32","[1,4)","\\x61ff","abc","2024-03-01 00:00:00+00",0.5]]"#
            );
        }
        let error = bench.load(&load.clone().pull(3), &["{\"m\":\"angry\"}"]).await.expect_err("no such mood");
        assert!(error.chain().contains("invalid input value for enum mood: \"angry\""), "{error:?}");
        let error = refused(bench.load(&load.pull(3), &["{\"c\":\"abcd\"}"]).await, Kind::Data);
        assert!(error.contains("too long for type character varying(3)"), "{error}");
    });
}

#[test]
fn a_table_is_divided_by_its_units_which_get_partitions_as_they_come() {
    run(|bench| async move {
        let load = |date: &str| divided(Load::of(day(date)), Partition::Unit(None));
        bench.load(&load("2024-03-01"), &["{\"n\":1}\n{\"n\":2}"]).await.expect("a commit");
        bench.load(&load("2024-03-02"), &["{\"n\":3}"]).await.expect("a commit");
        bench.load(&load("2024-03-01").pull(2).known(&bench).await, &["{\"n\":4}"]).await.expect("a commit");
        assert_eq!(
            partitions(&bench, "items").await,
            r#"[["items_20240301","FOR VALUES FROM ('2024-03-01') TO ('2024-03-02')",1],["items_20240302","FOR VALUES FROM ('2024-03-02') TO ('2024-03-03')",1]]"#
        );
        // A load that fails leaves an empty partition at most, and the rows as they were.
        let before = bench.text("SELECT n, _haul_unit, _haul_pull FROM raw.items ORDER BY n").await;
        bench.load(&load("2024-03-03").declare("n", "BIGINT"), &["{\"n\":\"x\"}"]).await.expect_err("no number");
        assert_eq!(bench.text("SELECT n, _haul_unit, _haul_pull FROM raw.items ORDER BY n").await, before);
        let stocked = bench.warehouse.stocked(&items()).await.expect("units").expect("it has units");
        let mut stocked: Vec<String> = stocked.iter().map(ToString::to_string).collect();
        stocked.sort();
        assert_eq!(stocked, ["2024-03-01", "2024-03-02"]);
        // A new column reaches every partition, those of later units too.
        bench.load(&load("2024-03-04"), &["{\"n\":5,\"new\":true}"]).await.expect("a commit");
        assert_eq!(bench.text("SELECT count(*), count(new) FROM raw.items").await, "[[3,1]]");
    });
}

#[test]
fn days_share_a_partition_of_their_month_and_hours_one_of_their_day() {
    run(|bench| async move {
        for date in ["2024-02-29", "2024-03-01", "2024-03-31"] {
            let load = divided(Load::of(day(date)), Partition::Unit(Some(Grain::Month)));
            bench.load(&load, &["{\"n\":1}"]).await.expect("a commit");
        }
        let again = divided(Load::of(day("2024-03-31")).pull(2), Partition::Unit(Some(Grain::Month)));
        bench.load(&again.known(&bench).await, &["{\"n\":2}\n{\"n\":3}"]).await.expect("a commit");
        assert_eq!(
            partitions(&bench, "items").await,
            r#"[["items_202402","FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')",1],["items_202403","FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')",3]]"#
        );
        let calendar = Calendar::new(Grain::Hour, Tz::UTC);
        for hour in ["2024-03-01T00:00:00Z", "2024-03-01T23:00:00Z"] {
            let mut load = divided(Load::of(calendar.containing(instant(hour))), Partition::Unit(Some(Grain::Day)));
            "hours".clone_into(&mut load.table.name);
            bench.load(&load, &["{\"n\":1}"]).await.expect("a commit");
        }
        assert_eq!(
            partitions(&bench, "hours").await,
            r#"[["hours_20240301","FOR VALUES FROM ('2024-03-01 00:00:00') TO ('2024-03-02 00:00:00')",2]]"#
        );
    });
}

#[test]
fn a_table_is_divided_by_a_column_and_rows_without_it_have_a_place_too() {
    run(|bench| async move {
        let by = |name: &str| Partition::Column { name: name.to_owned(), grain: Grain::Month };
        let load = |date: &str| divided(Load::of(day(date)), by("at"));
        let rows = "{\"at\":\"2024-01-31T23:59:59Z\",\"n\":1}\n{\"at\":\"2024-02-01T00:00:00Z\",\"n\":2}\n{\"at\":null,\"n\":3}";
        bench.load(&load("2024-03-01"), &[rows]).await.expect("a commit");
        bench
            .compute(
                &load("2024-03-02"),
                "SELECT TIMESTAMPTZ '2024-02-05 00:00:00+00' AS at, 4 AS n UNION ALL SELECT '2024-04-01', 5",
                None,
            )
            .await
            .expect("a commit");
        let found = partitions(&bench, "items").await;
        assert!(
            found.contains(
                r#"["items_202401","FOR VALUES FROM ('2024-01-01 00:00:00+00') TO ('2024-02-01 00:00:00+00')",1]"#
            ),
            "{found}"
        );
        assert!(found.contains(r#""items_202402""#) && found.contains(r#"["items_rest","DEFAULT",1]"#), "{found}");
        assert_eq!(bench.text("SELECT n FROM raw.items ORDER BY n").await, "[[1],[2],[3],[4],[5]]");
        for (column, wanted) in
            [("n", "which is BIGINT, neither a date nor a time"), ("gone", "which the rows do not have")]
        {
            let mut load = divided(Load::of(day("2024-03-01")), by(column));
            "other".clone_into(&mut load.table.name);
            let error = refused(bench.load(&load, &["{\"n\":1}"]).await, Kind::Data);
            assert!(error.contains(wanted), "{error}");
        }
    });
}

#[test]
fn units_keys_and_clusters_have_indexes() {
    run(|bench| async move {
        let mut load = Load::of(day("2024-03-01")).merge(&["id"], None);
        load.layout.cluster = vec!["country".to_owned(), "id".to_owned()];
        bench.load(&load, &["{\"id\":1,\"country\":\"KR\"}"]).await.expect("a commit");
        let indexes = "SELECT substring(indexdef FROM '\\(.*') FROM pg_indexes WHERE tablename = 'items' ORDER BY 1";
        assert_eq!(bench.text(indexes).await, r#"[["(_haul_unit)"],["(country, id)"],["(id)"]]"#);
        let mut other = Load::of(day("2024-03-01"));
        "other".clone_into(&mut other.table.name);
        other.layout.cluster = vec!["gone".to_owned()];
        let committed = bench.load(&other, &["{\"id\":1}"]).await.expect("a commit");
        assert_eq!(committed.warnings, ["`cluster_by` names `gone`, which is no column of raw.other yet"]);
    });
}

#[test]
fn of_two_processes_that_commit_one_unit_the_newer_lease_wins_whoever_is_first() {
    run(|bench| async move {
        bench.load(&Load::of(day("2024-03-01")), &["{\"n\":0}"]).await.expect("a commit");
        let other = bench.another(bench.connection()).await;
        for round in 0..8_u64 {
            let (older, newer) =
                (Load::of(day("2024-03-01")).pull(10 + 2 * round), Load::of(day("2024-03-01")).pull(11 + 2 * round));
            let sql = |n: u64| format!("SELECT {n}::bigint AS n FROM generate_series(1, 3)");
            let (one, two) = (sql(2 * round), sql(2 * round + 1));
            let (first, second) = tokio::join!(bench.compute(&older, &one, None), other.compute(&newer, &two, None));
            second.expect("the newer lease is never refused");
            if let Err(error) = first {
                assert_eq!(error.kind(), Kind::Stale, "{error:?}");
            }
            assert_eq!(
                bench.text("SELECT n, count(*) FROM raw.items GROUP BY n").await,
                format!("[[{},3]]", 2 * round + 1)
            );
        }
    });
}

#[test]
fn two_processes_that_create_one_table_or_its_columns_both_succeed() {
    run(|bench| async move {
        let other = bench.another(bench.connection()).await;
        let load = |date: &str| divided(Load::of(day(date)), Partition::Unit(None));
        let (one, two) = (load("2024-03-01"), load("2024-03-02"));
        let (first, second) = tokio::join!(bench.load(&one, &["{\"a\":1}"]), other.load(&two, &["{\"b\":2}"]));
        first.expect("a commit");
        second.expect("a commit");
        let (one, two) = (load("2024-03-03"), load("2024-03-04"));
        let (first, second) =
            tokio::join!(bench.load(&one, &["{\"c\":1.5}"]), other.load(&two, &["{\"c\":2,\"a\":0.5}"]));
        first.expect("a commit");
        second.expect("a commit");
        assert_eq!(bench.text("SELECT sum(a), sum(b), sum(c), count(*) FROM raw.items").await, r#"[[1.5,"2",3.5,4]]"#);
    });
}

#[test]
fn two_merges_of_one_key_leave_one_row_of_it() {
    run(|bench| async move {
        let other = bench.another(bench.connection()).await;
        bench.load(&Load::of(day("2024-03-01")).merge(&["id"], None), &["{\"id\":0,\"n\":0}"]).await.expect("a commit");
        for round in 1..6 {
            let row = format!("{{\"id\":{round},\"n\":1}}");
            let rows = [row.as_str()];
            let load = |date: &str| Load::of(day(date)).merge(&["id"], None).pull(1 + round);
            let (one, two) = (load("2024-03-01"), load("2024-03-02"));
            let (first, second) = tokio::join!(bench.load(&one, &rows), other.load(&two, &rows));
            first.expect("a commit");
            second.expect("a commit");
        }
        assert_eq!(bench.text("SELECT count(*), count(DISTINCT id) FROM raw.items").await, "[[6,6]]");
    });
}

#[test]
fn a_cancelled_commit_ends_its_statement_and_writes_nothing() {
    run(|bench| async move {
        let cancel = CancellationToken::new();
        let mut load = Load::of(day("2024-03-01"));
        load.cancel = cancel.clone();
        let sleeping =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE TEMP TABLE%pg_sleep%' AND state = 'active'";
        let other = bench.another(bench.connection()).await.warehouse;
        let stop = async {
            while other.query(sleeping, 1).await.expect("rows").rows[0][0] != 1 {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(bench.compute(&load, "SELECT pg_sleep(300)::text AS t", None), stop);
        refused(result, Kind::Cancelled);
        assert_eq!(other.query(sleeping, 1).await.expect("rows").rows[0][0], 0, "the server has stopped too");
        assert_eq!((bench.columns(&items()).await, bench.loads().await.len()), (String::new(), 0));
        // The same warehouse goes on afterwards.
        bench.load(&Load::of(day("2024-03-01")), &["{\"n\":1}"]).await.expect("a commit");
    });
}

#[test]
fn the_connection_limits_how_long_a_statement_runs_and_waits() {
    run(|bench| async move {
        bench.load(&Load::of(day("2024-03-01")), &["{\"n\":1}"]).await.expect("a commit");
        let Place::Postgres(database) = &*bench.place else { unreachable!("it is a server") };
        let mut settings = database.server();
        settings.statement_timeout = Some(Duration::from_millis(200));
        let hasty = with(&bench, settings.clone()).await;
        let error = hasty
            .compute(&Load::of(day("2024-03-02")), "SELECT 1 AS n, pg_sleep(300)::text AS t", None)
            .await
            .expect_err("it is too slow");
        assert_eq!(error.kind(), Kind::Warehouse, "{error:?}");
        assert!(error.hints().iter().any(|hint| hint.contains("statement_timeout")), "{error:?}");
        (settings.statement_timeout, settings.lock_timeout) = (None, Some(Duration::from_millis(200)));
        let waiting = with(&bench, settings).await;
        let mut holder = database.session().await;
        sqlx::raw_sql("BEGIN; LOCK TABLE raw.items IN ACCESS EXCLUSIVE MODE")
            .execute(&mut holder)
            .await
            .expect("a lock");
        let error =
            waiting.load(&Load::of(day("2024-03-02")), &["{\"n\":2}"]).await.expect_err("it waits for too long");
        assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
        assert!(error.hints().iter().any(|hint| hint.contains("lock_timeout")), "{error:?}");
    });
}

#[test]
fn a_session_says_whose_work_it_does() {
    run(|bench| async move {
        let sql =
            "SELECT current_setting('application_name') AS name, current_setting('transaction_read_only') AS reads";
        bench.compute(&Load::of(day("2024-03-01")), sql, None).await.expect("a commit");
        assert_eq!(bench.text("SELECT name, reads FROM raw.items").await, r#"[["haul suite/items suite-1","off"]]"#);
        assert_eq!(bench.text("SHOW transaction_read_only").await, r#"[["on"]]"#);
        assert!(bench.text("EXPLAIN SELECT 1").await.contains("Result"));
    });
}

#[test]
fn a_session_that_the_server_has_ended_is_replaced() {
    run(|bench| async move {
        bench.load(&Load::of(day("2024-03-01")), &["{\"n\":1}"]).await.expect("a commit");
        let Place::Postgres(database) = &*bench.place else { unreachable!("it is a server") };
        database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").await;
        let committed = bench.load(&Load::of(day("2024-03-02")), &["{\"n\":2}"]).await.expect("a commit");
        assert_eq!(committed.units[0].outcome, CommitOutcome::Written);
    });
}

#[test]
fn a_user_without_rights_is_told_and_one_without_more_than_a_schema_can_load() {
    run(|bench| async move {
        let Place::Postgres(database) = &*bench.place else { unreachable!("it is a server") };
        let user = format!("loader_{}", database.server().database);
        database
            .run(&format!("CREATE USER {user} PASSWORD 'small-rights'; CREATE SCHEMA raw AUTHORIZATION {user}"))
            .await;
        let mut settings = database.server();
        (settings.user, settings.password) = (user, Some("small-rights".to_owned().into()));
        let small = with(&bench, settings).await;
        small.load(&Load::of(day("2024-03-01")), &["{\"n\":1}"]).await.expect("its own schema is enough");
        let mut other = Load::of(day("2024-03-01")).write(Write::Append);
        other.table.schema = "mart".to_owned();
        let error = small.load(&other, &["{\"n\":1}"]).await.expect_err("it may create no schema");
        assert_eq!(error.kind(), Kind::Auth, "{error:?}");
        assert!(error.chain().contains("permission denied for database"), "{error:?}");
    });
}
