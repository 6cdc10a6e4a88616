//! Exactly once: leases, one transaction, and what is known of a table that somebody dropped.

use haul::error::Kind;
use haul::model::pipeline::{CheckRule, Write};
use haul::warehouse::CommitOutcome;

use super::bench::{Driver, Load, day, items, refused};
use crate::support::project::Project;

fn the_same_pull_committed_twice_is_there_once(driver: Driver) {
    driver.run(|bench| async move {
        for write in [Write::Replace, Write::Append] {
            let load = Load::of(day("2024-03-01")).write(write).pull(4);
            bench.load(&load, &["{\"n\":1}"]).await.expect("a commit");
            let before = bench.state().await;
            let again = bench.load(&load, &["{\"n\":1}"]).await.expect("a commit");
            assert_eq!(again.units[0].outcome, CommitOutcome::Already);
            assert_eq!(again.units[0].rows, 1);
            assert_eq!(bench.state().await, before);
        }
    });
}

fn a_pull_that_was_committed_is_found_again_under_a_newer_lease(driver: Driver) {
    driver.run(|bench| async move {
        let load = Load::of(day("2024-03-01")).write(Write::Append).pull(1);
        bench.load(&load, &["{\"n\":1}"]).await.expect("a commit");
        let mut reborn = load.clone();
        reborn.units[0].generation = 9;
        let again = bench.load(&reborn, &["{\"n\":1}"]).await.expect("a commit");
        assert_eq!(again.units[0].outcome, CommitOutcome::Already);
        assert_eq!(bench.text("SELECT n FROM raw.items").await, "[[1]]");
    });
}

fn a_stale_lease_commits_nothing(driver: Driver) {
    driver.run(|bench| async move {
        bench.load(&Load::of(day("2024-03-01")).pull(5), &["{\"n\":5}"]).await.expect("a commit");
        let before = bench.state().await;
        // An older one, one of the same generation with other rows, and one among several units.
        let older = Load::of(day("2024-03-01")).pull(4);
        let error = refused(bench.load(&older, &["{\"n\":4,\"new\":1}"]).await, Kind::Stale);
        assert!(error.contains("2024-03-01") && error.contains("generation 4"), "{error}");
        let mut same = Load::of(day("2024-03-01")).pull(5);
        refused(bench.load(&same, &["{\"n\":6}"]).await, Kind::Stale);
        same.units[0].pull = 6;
        refused(bench.load(&same, &["{\"n\":6}"]).await, Kind::Stale);
        let two = Load::over(&[day("2024-02-29"), day("2024-03-01")]).pull(3);
        refused(bench.compute(&two, "SELECT DATE '2024-02-29' AS d", Some("d")).await, Kind::Stale);
        assert_eq!(bench.state().await, before);
    });
}

fn what_is_rolled_back_leaves_no_trace_not_even_a_column(driver: Driver) {
    driver.run(|bench| async move {
        // No table yet: a refused first load leaves none.
        let checked = Load::of(day("2024-03-01")).check(CheckRule::NotNull(vec!["n".into()]));
        refused(bench.load(&checked, &["{\"n\":1}\n{\"n\":null}"]).await, Kind::Check);
        assert_eq!((bench.columns(&items()).await, bench.loads().await.len()), (String::new(), 0));

        bench.load(&checked, &["{\"n\":1}"]).await.expect("a commit");
        let before = bench.state().await;
        let again = checked.clone().pull(2).known(&bench).await;
        // A failed check, after a new column and a wider one.
        refused(bench.load(&again, &["{\"n\":2.5,\"new\":true}\n{\"n\":null}"]).await, Kind::Check);
        assert_eq!(bench.state().await, before);
        // A type conflict beside a new column.
        refused(bench.load(&again, &["{\"new\":true,\"n\":\"many\"}"]).await, Kind::Data);
        assert_eq!(bench.state().await, before);
        // Values that the declared type cannot take are found in the middle of the insert.
        let declared = Load::of(day("2024-03-01")).pull(2).declare("n", "BIGINT").known(&bench).await;
        bench.load(&declared, &["{\"n\":3,\"new\":1}\n{\"n\":\"x\"}"]).await.expect_err("no number");
        assert_eq!(bench.state().await, before);
        // The same warehouse goes on afterwards.
        bench.load(&again, &["{\"n\":2.5,\"new\":true}"]).await.expect("a commit");
        assert_eq!(bench.columns(&items()).await, "n DOUBLE, new BOOLEAN");
    });
}

fn a_stage_whose_files_were_changed_since_it_was_sealed_is_refused(driver: Driver) {
    driver.run(|bench| async move {
        let load = Load::of(day("2024-03-01"));
        let manifest = bench.stage(&load, &["{\"n\":1}", "{\"n\":2}"]);
        let other = bench.stage(&load, &["{\"n\":1}"]);
        std::fs::copy(&other.segments[0], &manifest.segments[0]).expect("a copy");
        let error = refused(bench.commit_stage(&load, &manifest).await, Kind::Storage);
        assert!(error.contains("1 rows, its manifest says 2"), "{error}");
        assert_eq!(bench.loads().await.len(), 0);
    });
}

fn a_dropped_table_has_no_units_and_those_of_its_namesake_are_its_own(driver: Driver) {
    driver.run(|bench| async move {
        for date in ["2024-03-01", "2024-03-02"] {
            bench.load(&Load::of(day(date)), &["{\"n\":1}"]).await.expect("a commit");
        }
        let bench = bench.by_hand("DROP TABLE raw.items").await;
        assert_eq!(bench.loads().await.len(), 0);
        // The pull that was committed once is committed again; the other unit stays unknown.
        let again = bench.load(&Load::of(day("2024-03-01")), &["{\"n\":1}"]).await.expect("a commit");
        assert_eq!(again.units[0].outcome, CommitOutcome::Written);
        let units: Vec<String> = bench.loads().await.into_iter().map(|(unit, _)| unit).collect();
        assert_eq!(units, ["2024-03-01"]);
    });
}

#[test]
fn a_second_process_on_the_same_file_is_told_what_to_do() {
    let project = Project::with_api("http://127.0.0.1:9", "");
    let first = ::duckdb::Connection::open(project.path().join("warehouse.duckdb")).expect("a connection");
    let output = project.output(&["query", "SELECT 1"]);
    let told = crate::support::project::told(&output);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("belongs to one process at a time") && told.contains("warehouse.duckdb"), "{told}");
    drop(first);
    assert!(project.output(&["query", "SELECT 1"]).status.success(), "it opens once the first has let go");
}

suite!(
    the_same_pull_committed_twice_is_there_once,
    a_pull_that_was_committed_is_found_again_under_a_newer_lease,
    a_stale_lease_commits_nothing,
    what_is_rolled_back_leaves_no_trace_not_even_a_column,
    a_stage_whose_files_were_changed_since_it_was_sealed_is_refused,
    a_dropped_table_has_no_units_and_those_of_its_namesake_are_its_own
);
