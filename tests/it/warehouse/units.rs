//! Write modes: which rows a commit takes away, and which it leaves.

use haul::error::Kind;
use haul::model::ledger::Changes;
use haul::model::pipeline::{Outside, TimeColumn, TimeFormat, Write};
use haul::time::{Calendar, Grain, Tz};
use haul::warehouse::CommitOutcome;

use super::bench::{Driver, Load, day, instant, refused};

const ALL: &str = "SELECT _haul_unit, _haul_pull, n FROM raw.items ORDER BY 1, 2, 3";

fn a_replaced_unit_leaves_its_neighbours_untouched(driver: Driver) {
    driver.run(|bench| async move {
        for date in ["2024-02-28", "2024-02-29", "2024-03-01"] {
            let committed = bench.load(&Load::of(day(date)), &["{\"n\":1}\n{\"n\":2}"]).await.expect("a commit");
            assert_eq!((committed.units[0].rows, &committed.units[0].outcome), (2, &CommitOutcome::Written));
            assert_eq!(committed.units[0].changes, None, "a first pull changes nothing");
        }
        let again = Load::of(day("2024-02-29")).pull(2).known(&bench).await;
        bench.load(&again, &["{\"n\":3}"]).await.expect("a commit");
        assert_eq!(
            bench.text(ALL).await,
            r#"[["2024-02-28",1,1],["2024-02-28",1,2],["2024-02-29",2,3],["2024-03-01",1,1],["2024-03-01",1,2]]"#
        );
        let loads = bench.loads().await;
        let short: Vec<_> = loads.iter().map(|(unit, load)| (unit.as_str(), load.pull, load.rows)).collect();
        assert_eq!(short, [("2024-02-28", 1, 2), ("2024-02-29", 2, 1), ("2024-03-01", 1, 2)]);
        assert_eq!(loads[0].1.loaded_at, instant("2024-06-01T03:04:05.678901Z"));
    });
}

fn a_unit_is_replaced_by_its_bounds_even_where_the_ledger_knew_of_no_rows(driver: Driver) {
    driver.run(|bench| async move {
        bench.load(&Load::of(day("2024-03-01")), &["{\"n\":1}"]).await.expect("a commit");
        bench.load(&Load::of(day("2024-03-01")).pull(2), &["{\"n\":2}"]).await.expect("a commit");
        assert_eq!(bench.text(ALL).await, r#"[["2024-03-01",2,2]]"#);
    });
}

fn an_emptied_unit_takes_its_old_rows_with_it_and_no_others(driver: Driver) {
    driver.run(|bench| async move {
        for date in ["2024-03-01", "2024-03-02"] {
            bench.load(&Load::of(day(date)), &["{\"n\":1}"]).await.expect("a commit");
        }
        // Pages without rows, and no page at all.
        for (date, pages) in [("2024-03-01", vec![""]), ("2024-03-02", vec![])] {
            let again = Load::of(day(date)).pull(2).known(&bench).await;
            let committed = bench.load(&again, &pages).await.expect("a commit");
            assert_eq!(committed.units[0].changes, Some(Changes { added: 0, removed: 1, changed: 0 }));
        }
        assert_eq!(bench.text(ALL).await, "[]");
        let rows: Vec<u64> = bench.loads().await.iter().map(|(_, load)| load.rows).collect();
        assert_eq!(rows, [0, 0]);
        // And a unit that was empty from the start has rows later.
        let again = Load::of(day("2024-03-01")).pull(3).known(&bench).await;
        let committed = bench.load(&again, &["{\"n\":4}\n{\"n\":5}"]).await.expect("a commit");
        assert_eq!(committed.units[0].changes, Some(Changes { added: 2, removed: 0, changed: 0 }));
    });
}

fn a_table_may_begin_with_an_empty_unit_in_every_write_mode(driver: Driver) {
    driver.run(|bench| async move {
        let modes = ["replace", "append", "merge", "full"];
        for (number, mode) in modes.iter().enumerate() {
            let mut load = Load::of(day("2024-03-01"));
            load.table.name = format!("empty_{mode}");
            load = match *mode {
                "append" => load.write(Write::Append),
                "full" => load.write(Write::Full),
                "merge" => load.merge(&["n"], None),
                _ => load,
            };
            let pages = if number % 2 == 0 { vec![] } else { vec![""] };
            bench.load(&load, &pages).await.unwrap_or_else(|error| panic!("{mode}: {error:?}"));
            let sql = format!("SELECT n, _haul_pull FROM raw.empty_{mode}");
            bench.load(&load.pull(2), &["{\"n\":7}"]).await.unwrap_or_else(|error| panic!("{mode}: {error:?}"));
            assert_eq!(bench.text(&sql).await, "[[7,2]]", "{mode}");
        }
    });
}

fn append_adds_and_never_takes_away(driver: Driver) {
    driver.run(|bench| async move {
        let load = Load::of(day("2024-03-01")).write(Write::Append);
        bench.load(&load, &["{\"n\":1}"]).await.expect("a commit");
        let again = load.pull(2).known(&bench).await;
        let committed = bench.load(&again, &["{\"n\":1}\n{\"n\":2}"]).await.expect("a commit");
        assert_eq!(committed.units[0].changes, Some(Changes { added: 2, removed: 0, changed: 0 }));
        assert_eq!(bench.text(ALL).await, r#"[["2024-03-01",1,1],["2024-03-01",2,1],["2024-03-01",2,2]]"#);
    });
}

fn full_replaces_the_whole_table_and_forgets_the_units_that_went_with_it(driver: Driver) {
    driver.run(|bench| async move {
        bench.load(&Load::whole().write(Write::Full), &["{\"n\":1}\n{\"n\":2}"]).await.expect("a commit");
        let again = Load::whole().write(Write::Full).pull(2).known(&bench).await;
        let committed = bench.load(&again, &["{\"n\":2}\n{\"n\":3}"]).await.expect("a commit");
        assert_eq!(committed.units[0].changes, Some(Changes { added: 1, removed: 1, changed: 0 }));
        assert_eq!(bench.text("SELECT n, _haul_pull FROM raw.items ORDER BY n").await, "[[2,2],[3,2]]");

        let mut days = Load::of(day("2024-03-01"));
        "days".clone_into(&mut days.table.name);
        bench.load(&days, &["{\"n\":1}"]).await.expect("a commit");
        let mut other = Load::of(day("2024-03-02")).write(Write::Full);
        "days".clone_into(&mut other.table.name);
        bench.load(&other, &["{\"n\":2}"]).await.expect("a commit");
        assert_eq!(bench.text("SELECT n FROM raw.days").await, "[[2]]");
        let loads = bench.warehouse.loads(&[other.table]).await.expect("loads");
        let units: Vec<&str> = loads.iter().map(|(_, unit, _)| unit.as_str()).collect();
        assert_eq!(units, ["2024-03-02"], "a unit whose rows are gone is not loaded");
    });
}

fn a_merge_replaces_rows_of_the_same_key_wherever_they_are_and_keeps_the_rest(driver: Driver) {
    driver.run(|bench| async move {
        let load = |date: &str| Load::of(day(date)).merge(&["id", "part"], None);
        let first =
            "{\"id\":1,\"part\":\"a\",\"n\":1}\n{\"id\":2,\"part\":null,\"n\":1}\n{\"id\":3,\"part\":\"a\",\"n\":1}";
        bench.load(&load("2024-03-01"), &[first]).await.expect("a commit");
        // A key with a null in it is a key too; the row of key 2 moves to another day.
        let second = "{\"id\":2,\"part\":null,\"n\":2}\n{\"id\":4,\"part\":\"a\",\"n\":2}";
        bench.load(&load("2024-03-02"), &[second]).await.expect("a commit");
        let third =
            "{\"id\":1,\"part\":\"a\",\"n\":1}\n{\"id\":3,\"part\":\"a\",\"n\":3}\n{\"id\":5,\"part\":\"b\",\"n\":3}";
        let again = load("2024-03-01").pull(2).known(&bench).await;
        let committed = bench.load(&again, &[third]).await.expect("a commit");
        assert_eq!(committed.units[0].changes, Some(Changes { added: 1, removed: 0, changed: 1 }));
        assert_eq!(
            bench.text("SELECT id, part, n, _haul_unit FROM raw.items ORDER BY id").await,
            r#"[[1,"a",1,"2024-03-01"],[2,null,2,"2024-03-02"],[3,"a",3,"2024-03-01"],[4,"a",2,"2024-03-02"],[5,"b",3,"2024-03-01"]]"#
        );
        // An empty pull takes nothing away.
        bench.load(&load("2024-03-01").pull(3).known(&bench).await, &[""]).await.expect("a commit");
        assert_eq!(bench.text("SELECT count(*) FROM raw.items").await, "[[5]]");
    });
}

fn of_several_rows_of_a_key_the_newest_stays_and_a_tie_is_told_and_not_chosen(driver: Driver) {
    driver.run(|bench| async move {
        let rows = "{\"id\":1,\"at\":1,\"n\":1}\n{\"id\":1,\"at\":3,\"n\":3}\n{\"id\":1,\"at\":null,\"n\":9}\n{\"id\":1,\"at\":2,\"n\":2}";
        bench.load(&Load::whole().merge(&["id"], Some("at")), &[rows]).await.expect("a commit");
        assert_eq!(bench.text("SELECT id, n FROM raw.items").await, "[[1,3]]");

        let before = bench.state().await;
        let error = refused(bench.load(&Load::whole().merge(&["id"], None).pull(2), &[rows]).await, Kind::Data);
        assert!(error.contains("several different rows have the key {\"id\":1}"), "{error}");
        let tie = "{\"id\":1,\"at\":3,\"n\":4}\n{\"id\":1,\"at\":3,\"n\":5}";
        let error = refused(bench.load(&Load::whole().merge(&["id"], Some("at")).pull(2), &[tie]).await, Kind::Data);
        assert!(error.contains("several different rows"), "{error}");
        let error = refused(bench.load(&Load::whole().merge(&["nr"], None).pull(2), &[rows]).await, Kind::Data);
        assert!(error.contains("no column `nr`"), "{error}");
        assert_eq!(bench.state().await, before);

        // The same row twice is one row.
        let twice = "{\"id\":1,\"at\":4,\"n\":4}\n{\"id\":1,\"at\":4,\"n\":4}";
        bench.load(&Load::whole().merge(&["id"], None).pull(2), &[twice]).await.expect("a commit");
        assert_eq!(bench.text("SELECT id, n FROM raw.items").await, "[[1,4]]");
    });
}

fn hours_are_replaced_by_the_hour_even_when_the_clocks_go_back(driver: Driver) {
    driver.run(|bench| async move {
        let calendar = Calendar::new(Grain::Hour, Tz::Europe__Berlin);
        // 02:00 comes twice on this morning; these are two units.
        let hours: Vec<_> = ["2024-10-27T00:00:00Z", "2024-10-27T01:00:00Z", "2024-10-27T02:00:00Z"]
            .into_iter()
            .map(|at| calendar.containing(instant(at)))
            .collect();
        for hour in &hours {
            bench.load(&Load::of(*hour), &["{\"n\":1}"]).await.expect("a commit");
        }
        bench.load(&Load::of(hours[1]).pull(2).known(&bench).await, &["{\"n\":2}"]).await.expect("a commit");
        // BigQuery tells instants in ISO 8601.
        assert_eq!(
            bench.text(ALL).await.replace('T', " ").replace('Z', ""),
            r#"[["2024-10-27 00:00:00",1,1],["2024-10-27 01:00:00",2,2],["2024-10-27 02:00:00",1,1]]"#
        );
        let units: Vec<String> = bench.loads().await.into_iter().map(|(unit, _)| unit).collect();
        assert_eq!(units, ["2024-10-27T00:00Z", "2024-10-27T01:00Z", "2024-10-27T02:00Z"]);
    });
}

fn the_rows_of_a_window_are_divided_among_its_units_by_their_own_time(driver: Driver) {
    driver.run(|bench| async move {
        let days = [day("2024-03-01"), day("2024-03-02"), day("2024-03-03")];
        let time = TimeColumn { path: "meta.at".into(), format: TimeFormat::Iso, outside: Outside::Drop };
        let load = Load::over(&days);
        let rows = "{\"n\":1,\"meta\":{\"at\":\"2024-03-01T00:00:00Z\"}}\n{\"n\":2,\"meta\":{\"at\":\"2024-03-01T23:59:59.999999Z\"}}\n\
                    {\"n\":3,\"meta\":{\"at\":\"2024-03-03T01:00:00+02:00\"}}\n{\"n\":4,\"meta\":{\"at\":\"2024-03-04\"}}\n\
                    {\"meta\":{\"at\":\"2024-03-03\"}}";
        let manifest = bench.stage_in(&load, &[rows], "stages", Some(time));
        assert_eq!(manifest.outside, 1);
        bench.commit_stage(&load, &manifest).await.expect("a commit");
        assert_eq!(
            bench.text(ALL).await,
            r#"[["2024-03-01",1,1],["2024-03-01",1,2],["2024-03-02",1,3],["2024-03-03",1,null]]"#
        );
        // Of the same stage, only the units that are asked for are written.
        let mut one = Load::over(&days).pull(2);
        one.units.remove(0);
        bench.commit_stage(&one, &manifest).await.expect("a commit");
        let pulls = bench.text("SELECT _haul_unit, max(_haul_pull) FROM raw.items GROUP BY 1 ORDER BY 1").await;
        assert_eq!(pulls, r#"[["2024-03-01",1],["2024-03-02",2],["2024-03-03",2]]"#);
    });
}

#[test]
fn a_schema_with_the_name_of_the_warehouse_s_file_is_refused_with_a_way_out() {
    Driver::DuckDb.run(|bench| async move {
        let mut load = Load::of(day("2024-03-01"));
        load.table = haul::model::name::TableName::parse("Warehouse.items").expect("a name");
        let error = bench.load(&load, &["{\"n\":1}"]).await.expect_err("it is ambiguous");
        assert_eq!(error.kind(), Kind::Config, "{error:?}");
        assert!(error.hints()[0].contains("give the file or the schema another name"), "{error:?}");
    });
}

suite!(
    a_replaced_unit_leaves_its_neighbours_untouched,
    a_unit_is_replaced_by_its_bounds_even_where_the_ledger_knew_of_no_rows,
    an_emptied_unit_takes_its_old_rows_with_it_and_no_others,
    a_table_may_begin_with_an_empty_unit_in_every_write_mode,
    append_adds_and_never_takes_away,
    full_replaces_the_whole_table_and_forgets_the_units_that_went_with_it,
    a_merge_replaces_rows_of_the_same_key_wherever_they_are_and_keeps_the_rest,
    of_several_rows_of_a_key_the_newest_stays_and_a_tie_is_told_and_not_chosen,
    hours_are_replaced_by_the_hour_even_when_the_clocks_go_back,
    the_rows_of_a_window_are_divided_among_its_units_by_their_own_time
);
