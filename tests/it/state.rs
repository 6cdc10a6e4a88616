//! The state store: runs, leases, pulls and repair, in a real file.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use haul::error::Kind;
use haul::model::ledger::{Changes, Fingerprint, Lease, Loaded, PullOutcome, PullRecord, UnitRecord, UnitState};
use haul::model::name::TableName;
use haul::model::run::{RunCounts, RunStatus, TaskEvent, TaskId, TaskLog, TaskState, Trigger, fold};
use haul::state::State;
use haul::time::{Instant, UnitKey};

fn at(text: &str) -> Instant {
    DateTime::parse_from_rfc3339(text).expect("an instant").with_timezone(&Utc)
}

fn now() -> Instant {
    at("2024-05-04T06:00:00.123456789Z")
}

fn items() -> TableName {
    TableName::parse("raw.items").expect("a name")
}

fn day(text: &str) -> UnitKey {
    UnitKey::stored(text)
}

fn loaded(pull: u64, generation: u64, fingerprint: u128) -> Loaded {
    let fingerprint = Fingerprint(fingerprint);
    Loaded { pull, generation, rows: 10 * pull, fingerprint, inputs: None, loaded_at: now() }
}

fn unit(key: &str, state: UnitState, last_pull: u64, loaded: Option<Loaded>) -> UnitRecord {
    UnitRecord {
        table: items(),
        unit: day(key),
        state,
        loaded,
        last_pull,
        pulled_at: now(),
        unchanged_pulls: 0,
        reason: (state != UnitState::Loaded).then(|| "a reason".to_owned()),
        probe: (last_pull > 1).then(|| format!("state {last_pull}")),
        held_stage: (state == UnitState::Held).then(|| "held/items".to_owned()),
        backfilled: false,
    }
}

fn pull(key: &str, number: u64, outcome: PullOutcome) -> PullRecord {
    PullRecord {
        table: items(),
        unit: day(key),
        pull: number,
        run: "items-2024-05-04-1".to_owned(),
        outcome,
        rows: u64::from(u32::MAX) + 7,
        fingerprint: Some(Fingerprint(u128::MAX - u128::from(number))),
        changes: (number > 1).then_some(Changes { added: 1, removed: 2, changed: 3 }),
        age: Some(-1),
        requests: 4,
        bytes: 5,
        started_at: now() - TimeDelta::seconds(3),
        finished_at: now(),
        reason: None,
    }
}

fn log(step: &str, event: TaskEvent) -> TaskLog {
    TaskLog { task: TaskId { step: step.to_owned(), unit: day("2024-05-01") }, at: now(), event }
}

async fn open(dir: &Path) -> State {
    State::open(dir).await.expect("the store opens")
}

#[tokio::test]
async fn a_run_is_read_back_as_it_was_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path()).await;
    let mut run = state.begin_run("items", "2024-05-04", Trigger::Backfill, now()).await.expect("a run");
    assert_eq!(run.id, "items-2024-05-04-1");
    let events = vec![
        log("items", TaskEvent::Started { attempt: 1 }),
        log("items", TaskEvent::Retried { reason: "503".into() }),
        log("items", TaskEvent::Started { attempt: 2 }),
        log(
            "items",
            TaskEvent::Loaded {
                rows: 3,
                changes: Some(Changes { added: 1, removed: 0, changed: 2 }),
                incomplete: None,
            },
        ),
    ];
    state.append(&run.id, &events[..2]).await.expect("events");
    state.append(&run.id, &events[2..]).await.expect("events");
    run.status = RunStatus::Held;
    run.finished_at = Some(now() + TimeDelta::seconds(9));
    run.counts = RunCounts {
        loaded: 1,
        unchanged: 2,
        held: 3,
        late: 6,
        failed: 4,
        skipped: 5,
        incomplete: 0,
        billed_bytes: 0,
        done: 0,
    };
    state.finish_run(&run).await.expect("an end");
    state.close().await;

    let state = open(dir.path()).await;
    let (read, logs) = state.run(&run.id).await.expect("a read").expect("the run");
    assert_eq!(read, run);
    assert_eq!(logs, events);
    let states = fold(&logs).expect("the events follow each other");
    assert!(matches!(states[&events[0].task], TaskState::Loaded { rows: 3, .. }));
    assert_eq!(state.run("items-2024-05-04-9").await.expect("a read"), None);
}

#[tokio::test]
async fn runs_are_numbered_by_pipeline_and_date_and_listed_newest_first() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path()).await;
    for (pipeline, date) in [("a", "2024-05-01"), ("a", "2024-05-01"), ("b", "2024-05-01"), ("a", "2024-05-02")] {
        state.begin_run(pipeline, date, Trigger::Manual, now()).await.expect("a run");
    }
    let ids = |runs: Vec<haul::model::run::RunRecord>| runs.into_iter().map(|run| run.id).collect::<Vec<_>>();
    assert_eq!(
        ids(state.runs(Some("a"), 10).await.expect("runs")),
        ["a-2024-05-02-1", "a-2024-05-01-2", "a-2024-05-01-1"]
    );
    assert_eq!(ids(state.runs(None, 2).await.expect("runs")), ["a-2024-05-02-1", "b-2024-05-01-1"]);
}

#[tokio::test]
async fn a_run_whose_process_died_is_cancelled_and_a_living_one_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let dead = open(dir.path()).await;
    let run = dead.begin_run("items", "2024-05-04", Trigger::Manual, now()).await.expect("a run");
    let events = [
        log("items", TaskEvent::Started { attempt: 1 }),
        log("items", TaskEvent::Unchanged { rows: 3, incomplete: None }),
        log("notes", TaskEvent::Started { attempt: 1 }),
    ];
    dead.append(&run.id, &events).await.expect("events");

    let other = open(dir.path()).await;
    assert!(other.close_dead_runs("items", now()).await.expect("a look").is_empty(), "its process lives");
    assert_eq!(other.runs(None, 1).await.expect("runs")[0].status, RunStatus::Running);

    // The lock ends with the handle as it would with the process.
    drop(dead);
    assert!(other.close_dead_runs("notes", now()).await.expect("a look").is_empty(), "another pipeline");
    assert_eq!(other.close_dead_runs("items", now()).await.expect("a look"), std::slice::from_ref(&run.id));
    let (closed, logs) = other.run(&run.id).await.expect("a read").expect("the run");
    assert_eq!((closed.status, closed.finished_at, closed.counts.unchanged), (RunStatus::Cancelled, Some(now()), 1));
    assert_eq!(logs.last().map(|log| log.event.clone()), Some(TaskEvent::Cancelled));
    assert!(other.close_dead_runs("items", now()).await.expect("a look").is_empty(), "once is enough");
}

#[tokio::test]
async fn units_and_pulls_are_read_back_as_they_were_recorded() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path()).await;
    let pulls = [
        pull("2024-05-01", 1, PullOutcome::Loaded),
        pull("2024-05-01", 2, PullOutcome::Held),
        PullRecord {
            age: None,
            fingerprint: None,
            reason: Some("why".into()),
            ..pull("2024-05-02", 1, PullOutcome::Failed)
        },
    ];
    let mut held = unit("2024-05-01", UnitState::Held, 2, Some(loaded(1, 1, 7)));
    held.loaded.as_mut().expect("loaded").inputs = Some("digest".into());
    let units = [held, unit("2024-05-02", UnitState::Failed, 1, None)];
    state.record(&pulls, &units).await.expect("recorded");
    state.record(&pulls, &units).await.expect("the same again changes nothing");
    assert_eq!(state.pulls(&items(), None).await.expect("pulls"), pulls);
    assert_eq!(state.pulls(&items(), Some(&day("2024-05-02"))).await.expect("pulls"), pulls[2..]);
    let snapshot = state.snapshot(&[items()]).await.expect("a snapshot");
    assert_eq!(snapshot.table(&items()).cloned().collect::<Vec<_>>(), units);
    assert_eq!(state.tables().await.expect("tables"), [items()]);
    let other = TableName::parse("raw.notes").expect("a name");
    assert_eq!(state.snapshot(std::slice::from_ref(&other)).await.expect("a snapshot").table(&other).count(), 0);
}

#[tokio::test]
async fn a_record_that_comes_late_does_not_undo_a_later_pull() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path()).await;
    let newer = unit("2024-05-01", UnitState::Loaded, 2, Some(loaded(2, 2, 8)));
    state.record(&[], std::slice::from_ref(&newer)).await.expect("recorded");
    let older = unit("2024-05-01", UnitState::Loaded, 1, Some(loaded(1, 1, 7)));
    state.record(&[pull("2024-05-01", 1, PullOutcome::Loaded)], &[older]).await.expect("recorded");
    let snapshot = state.snapshot(&[items()]).await.expect("a snapshot");
    assert_eq!(snapshot.unit(&items(), &day("2024-05-01")), Some(&newer));
}

#[tokio::test]
async fn every_claim_raises_the_generation_and_a_pull_without_a_record_keeps_its_number() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path()).await;
    let days = [day("2024-05-02"), day("2024-05-01")];
    let first = state.lease(&items(), &days, "a", now()).await.expect("a lease");
    assert_eq!(first, [Lease { generation: 1, pull: 1 }, Lease { generation: 1, pull: 1 }]);
    let after_a_crash = state.lease(&items(), &days[..1], "b", now()).await.expect("a lease");
    assert_eq!(after_a_crash, [Lease { generation: 2, pull: 1 }]);
    let record = unit("2024-05-02", UnitState::Failed, 1, None);
    state.record(&[pull("2024-05-02", 1, PullOutcome::Failed)], &[record]).await.expect("recorded");
    let next = state.lease(&items(), &days, "b", now()).await.expect("a lease");
    assert_eq!(next, [Lease { generation: 3, pull: 2 }, Lease { generation: 2, pull: 1 }]);
}

#[tokio::test]
async fn claims_of_many_at_once_are_all_different() {
    let dir = tempfile::tempdir().expect("a folder");
    let (one, two) = (open(dir.path()).await, open(dir.path()).await);
    let claims = (0..40).map(|index| {
        let state = if index % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move { state.lease(&items(), &[day("2024-05-01")], "x", now()).await.expect("a lease")[0] })
    });
    let mut generations = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        generations.push(claim.await.expect("no panic").generation);
    }
    generations.sort_unstable();
    assert_eq!(generations, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_commit_whose_process_died_is_found_in_the_warehouse() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path()).await;
    let key = day("2024-05-01");
    state.lease(&items(), std::slice::from_ref(&key), "a", now()).await.expect("a lease");
    let loads = [(items(), key.clone(), loaded(1, 1, 7))];
    let said = state.repair(&[items()], &loads, now()).await.expect("mended");
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("raw.items") && said[0].contains("2024-05-01"), "{said:?}");
    let snapshot = state.snapshot(&[items()]).await.expect("a snapshot");
    let record = snapshot.unit(&items(), &key).expect("the unit");
    assert_eq!((record.state, record.last_pull, record.loaded.clone()), (UnitState::Loaded, 1, Some(loaded(1, 1, 7))));
    let pulls = state.pulls(&items(), Some(&key)).await.expect("pulls");
    assert_eq!((pulls[0].outcome, pulls[0].reason.as_deref()), (PullOutcome::Loaded, Some("found in the warehouse")));
    assert_eq!((pulls[0].run.as_str(), pulls[0].started_at), ("a", now()), "the claim tells whose it was");
    let lease = state.lease(&items(), &[key], "b", now()).await.expect("a lease");
    assert_eq!(lease, [Lease { generation: 2, pull: 2 }]);
    assert!(
        state.repair(&[items()], &loads, now()).await.expect("in order").is_empty(),
        "the second look finds nothing"
    );
}

#[tokio::test]
async fn a_commit_of_a_backfill_whose_process_died_is_no_beginning_of_a_gap() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path()).await;
    for (trigger, key) in [(Trigger::Backfill, day("2024-05-01")), (Trigger::Manual, day("2024-05-02"))] {
        let run = state.begin_run("items", "2024-05-04", trigger, now()).await.expect("a run");
        state.lease(&items(), std::slice::from_ref(&key), &run.id, now()).await.expect("a lease");
    }
    let loads = ["2024-05-01", "2024-05-02"].map(|key| (items(), day(key), loaded(1, 1, 7)));
    state.repair(&[items()], &loads, now()).await.expect("mended");
    let snapshot = state.snapshot(&[items()]).await.expect("a snapshot");
    let backfilled = |key: &str| snapshot.unit(&items(), &day(key)).expect("the unit").backfilled;
    assert_eq!((backfilled("2024-05-01"), backfilled("2024-05-02")), (true, false));
}

#[tokio::test]
async fn a_lost_store_learns_from_the_warehouse_what_is_loaded_and_claims_beyond_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path()).await;
    let loads: Vec<_> =
        (1..=5_u8).map(|n| (items(), day(&format!("2024-05-0{n}")), loaded(4, 9, u128::from(n)))).collect();
    let said = state.repair(&[items()], &loads, now()).await.expect("mended");
    assert_eq!(
        said,
        [
            "raw.items: 5 loads that the ledger lacked were found in the warehouse (2024-05-01, 2024-05-02, 2024-05-03, …)"
        ]
    );
    let lease = state.lease(&items(), &[day("2024-05-03")], "b", now()).await.expect("a lease");
    assert_eq!(lease, [Lease { generation: 10, pull: 5 }]);
}

#[tokio::test]
async fn a_unit_that_the_warehouse_lost_is_missing_and_other_tables_are_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path()).await;
    let notes = TableName::parse("raw.notes").expect("a name");
    let record = unit("2024-05-01", UnitState::Loaded, 1, Some(loaded(1, 1, 7)));
    let other = UnitRecord { table: notes.clone(), ..record.clone() };
    state.record(&[], &[record, other.clone()]).await.expect("recorded");
    let said = state.repair(&[items()], &[], now()).await.expect("mended");
    assert_eq!(said, ["raw.items: 1 loaded unit was no longer in the warehouse; it counts as missing (2024-05-01)"]);
    let snapshot = state.snapshot(&[items(), notes.clone()]).await.expect("a snapshot");
    let missing = snapshot.unit(&items(), &day("2024-05-01")).expect("the unit");
    assert_eq!((missing.state, missing.loaded.clone(), missing.last_pull), (UnitState::Missing, None, 1));
    assert_eq!(snapshot.unit(&notes, &day("2024-05-01")), Some(&other));
}

#[tokio::test]
async fn where_ledger_and_warehouse_differ_the_warehouse_is_right() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path()).await;
    let ahead = unit("2024-05-01", UnitState::Loaded, 3, Some(loaded(3, 5, 7)));
    let failed = unit("2024-05-02", UnitState::Failed, 4, Some(loaded(1, 1, 1)));
    let inputs = Loaded { inputs: Some("newer".into()), ..loaded(1, 1, 2) };
    let same = unit("2024-05-03", UnitState::Loaded, 1, Some(inputs));
    state.record(&[], &[ahead, failed, same.clone()]).await.expect("recorded");
    let loads = [
        (items(), day("2024-05-01"), loaded(2, 2, 6)),
        (items(), day("2024-05-02"), loaded(2, 3, 5)),
        (items(), day("2024-05-03"), loaded(1, 1, 2)),
    ];
    let said = state.repair(&[items()], &loads, now()).await.expect("mended");
    assert_eq!(said.len(), 2, "{said:?}");
    let snapshot = state.snapshot(&[items()]).await.expect("a snapshot");
    let record = |key: &str| snapshot.unit(&items(), &day(key)).expect("the unit").clone();
    assert_eq!(record("2024-05-01").loaded, Some(loaded(2, 2, 6)), "a warehouse restored from a backup");
    assert_eq!(record("2024-05-01").last_pull, 3, "numbers of pulls are never used twice");
    assert_eq!((record("2024-05-02").state, record("2024-05-02").loaded), (UnitState::Failed, Some(loaded(2, 3, 5))));
    assert_eq!(record("2024-05-03"), same, "inputs that were judged since are kept");
}

#[tokio::test]
async fn a_file_of_a_newer_haul_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    open(dir.path()).await.close().await;
    let own = version(&dir.path().join("state.db")).await;
    set_version(&dir.path().join("state.db"), 99).await;
    let error = State::open(dir.path()).await.err().expect("a refusal");
    assert_eq!(error.kind(), Kind::Storage);
    assert!(error.chain().contains("newer haul"), "{}", error.chain());
    set_version(&dir.path().join("state.db"), own).await;
    assert!(open(dir.path()).await.runs(None, 1).await.expect("still whole").is_empty());
}

async fn version(file: &Path) -> u32 {
    use sqlx::{ConnectOptions, Connection};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut connection = options.connect().await.expect("a connection");
    let version = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await.expect("a version");
    connection.close().await.expect("closed");
    version
}

async fn set_version(file: &Path, version: u32) {
    use sqlx::{ConnectOptions, Connection};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut connection = options.connect().await.expect("a connection");
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {version}"));
    sqlx::raw_sql(pragma).execute(&mut connection).await.expect("the version is set");
    connection.close().await.expect("closed");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("state.db"), "this is not a database, but it is long enough to be read as one")
        .expect("a file");
    let error = State::open(dir.path()).await.err().expect("a refusal");
    assert_eq!(error.kind(), Kind::Storage);
    assert!(error.chain().contains("state.db"), "{}", error.chain());
    assert!(error.hints().iter().any(|hint| hint.contains("move it away")), "{:?}", error.hints());
}

#[tokio::test]
async fn tasks_write_their_state_without_waiting_for_the_disk() {
    const TASKS: u32 = 300;
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path()).await;
    let run = state.begin_run("items", "2024-05-04", Trigger::Manual, now()).await.expect("a run");
    let begun = std::time::Instant::now();
    for task in 0..TASKS {
        let key = format!("unit-{task:04}");
        let lease = state.lease(&items(), &[day(&key)], &run.id, now()).await.expect("a lease")[0];
        state.append(&run.id, &[log(&key, TaskEvent::Started { attempt: 1 })]).await.expect("an event");
        let record = unit(&key, UnitState::Loaded, lease.pull, Some(loaded(lease.pull, lease.generation, 1)));
        state.record(&[pull(&key, lease.pull, PullOutcome::Unchanged)], &[record]).await.expect("recorded");
        state
            .append(&run.id, &[log(&key, TaskEvent::Unchanged { rows: 1, incomplete: None })])
            .await
            .expect("an event");
    }
    let each = begun.elapsed() / TASKS;
    // Ten times the promise: this machine may be busy, and a store that waits for the disk takes longer still.
    assert!(each < std::time::Duration::from_millis(30), "{each:?} a task");
}
