//! Older files are brought up to date, and what was there before stays beside them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::support::project::{Project, told};

/// A project whose state file is that of version 4, as it was left by two runs.
fn old() -> Project {
    let project = Project::empty();
    project.write("connections.toml", "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n");
    let step = "[window]\nlookback = 3\n[[extract]]\nname = \"items\"\ntype = \"process\"\ncommand = [\"true\"]\ninto = \"raw.items\"\n";
    project.write("pipelines/days.toml", step);
    project.write(".haul/.keep", "");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state/0004.db");
    std::fs::copy(fixture, file(&project)).expect("the fixture");
    project
}

fn file(project: &Project) -> PathBuf {
    project.path().join(".haul/state.db")
}

/// The names in the state folder that begin like this.
fn named(project: &Project, prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(project.path().join(".haul")).expect("the folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    names
}

/// The first number of a statement on a state file.
fn number(path: &Path, sql: &'static str) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = options.connect().await.expect("it opens");
        let (number,): (i64,) = sqlx::query_as(sql).fetch_one(&mut connection).await.expect("a number");
        connection.close().await.expect("it closes");
        number
    })
}

#[test]
fn an_older_file_is_copied_and_brought_up_to_date_with_all_that_it_has() {
    let project = old();
    let runs = project.json(&["runs"]);
    assert_eq!((&runs[0]["id"], &runs[1]["status"]), (&json!("days-2024-05-05-1"), &json!("failed")));
    let status = project.json(&["status"]);
    let states: Vec<&str> =
        status.as_array().expect("units").iter().filter_map(|unit| unit["state"].as_str()).collect();
    assert_eq!(states, ["loaded", "failed", "loaded", "loaded"]);
    let copies = named(&project, "state.db.before-");
    assert_eq!(copies.len(), 1, "{copies:?}");
    let copy = project.path().join(".haul").join(&copies[0]);
    assert_eq!((number(&copy, "PRAGMA user_version"), number(&copy, "SELECT count(*) FROM pull")), (4, 6));
    assert!(number(&file(&project), "PRAGMA user_version") > 4);
    // A copy is a state file: put back, it is brought up to date once more.
    project.json(&["runs"]);
    assert_eq!(named(&project, "state.db.before-"), copies);
    for part in ["state.db", "state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(project.path().join(".haul").join(part));
    }
    std::fs::copy(&copy, file(&project)).expect("the copy");
    assert_eq!(project.json(&["runs"]), runs);
}

/// How much of tables, indices and rows a state file and the older one do not have in common.
const DIFFERENT: &str = concat!(
    "ATTACH '",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/state/0004.db' AS old;
     SELECT (SELECT count(*) FROM (SELECT name, sql FROM main.sqlite_master EXCEPT SELECT name, sql FROM old.sqlite_master))
          + (SELECT count(*) FROM (SELECT name, sql FROM old.sqlite_master EXCEPT SELECT name, sql FROM main.sqlite_master))
          + (SELECT count(*) FROM (SELECT * FROM main.run EXCEPT SELECT * FROM old.run))
          + (SELECT count(*) FROM (SELECT * FROM old.run EXCEPT SELECT * FROM main.run))
          + (SELECT count(*) FROM (SELECT table_name, unit, state, last_pull, pulled_at, unchanged_pulls, reason, held_stage, loaded_pull, loaded_rows, loaded_at, probe FROM main.unit
                                EXCEPT SELECT table_name, unit, state, last_pull, pulled_at, unchanged_pulls, reason, held_stage, loaded_pull, loaded_rows, loaded_at, probe FROM old.unit))
          + (SELECT count(*) FROM (SELECT table_name, unit, state, last_pull, pulled_at, unchanged_pulls, reason, held_stage, loaded_pull, loaded_rows, loaded_at, probe FROM old.unit
                                EXCEPT SELECT table_name, unit, state, last_pull, pulled_at, unchanged_pulls, reason, held_stage, loaded_pull, loaded_rows, loaded_at, probe FROM main.unit))
          + (SELECT count(*) FROM (SELECT * FROM old.pull EXCEPT SELECT * FROM main.pull))
          + (SELECT count(*) FROM (SELECT * FROM old.event EXCEPT SELECT * FROM main.event))"
);

/// airflow#63866, windmill#5301: there was no way back from a migration.
#[test]
fn the_copy_of_an_older_file_is_what_the_older_version_reads() {
    let project = old();
    project.json(&["runs"]);
    let copy = project.path().join(".haul").join(&named(&project, "state.db.before-")[0]);
    assert_eq!(number(&copy, DIFFERENT), 0);
    assert_eq!(number(&copy, "PRAGMA user_version"), 4);
    assert_ne!(number(&file(&project), DIFFERENT), 0, "the file itself has gone on");
}

#[test]
fn processes_that_open_an_older_file_at_once_bring_it_up_to_date_once() {
    let project = old();
    let start = || project.haul(&["runs", "--output", "json"]).stdout(Stdio::piped()).spawn().expect("haul starts");
    let started: Vec<_> = (0..6).map(|_| start()).collect();
    for one in started {
        let ended = one.wait_with_output().expect("it ends");
        assert!(ended.status.success(), "{}", told(&ended));
    }
    assert_eq!(named(&project, "state.db.before-").len(), 1);
    assert_eq!(named(&project, "state.db.before-").iter().filter(|name| name.ends_with("part")).count(), 0);
}

#[test]
fn the_last_two_copies_are_kept() {
    let project = old();
    for older in ["0002", "0003"] {
        project.write(&format!(".haul/state.db.before-{older}"), "an older copy");
    }
    project.json(&["runs"]);
    let copies = named(&project, "state.db.before-");
    assert_eq!((copies.len(), copies[0].as_str()), (2, "state.db.before-0003"), "{copies:?}");
}

#[test]
fn a_newer_file_is_refused_with_what_helps_and_is_not_touched() {
    let project = old();
    number(&file(&project), "PRAGMA user_version = 99; SELECT 1");
    number(&file(&project), "PRAGMA wal_checkpoint(TRUNCATE)");
    let before = std::fs::read(file(&project)).expect("the file");
    let ran = project.output(&["runs"]);
    assert_eq!(ran.status.code(), Some(1), "{}", told(&ran));
    assert!(told(&ran).contains("written by a newer haul: its version is 99"), "{}", told(&ran));
    assert!(told(&ran).contains("use the newer haul"), "{}", told(&ran));
    assert_eq!(
        (std::fs::read(file(&project)).expect("the file"), named(&project, "state.db.before-").len()),
        (before, 0)
    );
}

#[test]
fn a_copy_that_cannot_be_written_leaves_the_older_file_as_it_is() {
    let project = old();
    // Folders stand where the copy is to be put, whatever its number.
    for number in 5..30 {
        let folder = project.path().join(format!(".haul/state.db.before-{number:04}"));
        std::fs::create_dir(folder).expect("a folder");
    }
    let ran = project.output(&["runs"]);
    assert_eq!(ran.status.code(), Some(1), "{}", told(&ran));
    assert!(told(&ran).contains("before it is brought up to date"), "{}", told(&ran));
    assert_eq!(number(&file(&project), "PRAGMA user_version"), 4);
}
