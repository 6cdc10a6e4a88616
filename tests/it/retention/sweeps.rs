//! What is older than the project wants to keep goes away, what is needed stays, and the file does not grow.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::inbox::{DAYS, Day, Inbox, TEAM};
use crate::support::project::told;

fn run(inbox: &Inbox, date: &str, code: i32) {
    inbox.days.run(date, code);
}

fn gc(inbox: &Inbox, now: &str, more: &[&str]) -> serde_json::Value {
    let arguments = [&["gc", "--output", "json", "--now", now], more].concat();
    let ran = inbox.days.project.output(&arguments);
    assert!(ran.status.success(), "{}", told(&ran));
    serde_json::from_slice(&ran.stdout).expect("JSON")
}

/// A file that was written to so many days before a date in 2025.
fn aged(inbox: &Inbox, name: &str, days: u64) {
    inbox.days.project.write(name, "old");
    let file = std::fs::File::options().append(true).open(inbox.days.project.path().join(name)).expect("a file");
    // 2025-07-01T00:00:00Z.
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(486_480);
    file.set_modified(now - Duration::from_secs(days * 86_400)).expect("a time");
}

fn is_there(inbox: &Inbox, name: &str) -> bool {
    Path::new(inbox.days.project.path()).join(name).exists()
}

#[test]
fn runs_beyond_what_is_kept_go_with_their_events_but_for_the_last_of_a_pipeline() {
    let inbox = Inbox::new(TEAM, DAYS);
    inbox.says(&["2024-05-03"], &Day::Refused(500, String::new()));
    run(&inbox, "2024-05-04", 1);
    inbox.says(&["2024-05-03"], &Day::Rows(4));
    run(&inbox, "2024-05-04", 0);
    run(&inbox, "2024-05-05", 0);
    // 400 days after the 4th, not yet after the 5th.
    let now = "2025-06-08T12:00:00Z";
    let counted = gc(&inbox, now, &["--dry-run"]);
    assert_eq!(inbox.days.project.json(&["runs"]).as_array().map(Vec::len), Some(3), "nothing was removed yet");
    let swept = gc(&inbox, now, &[]);
    assert_eq!(counted["swept"]["rows"], swept["swept"]["rows"]);
    let rows = &swept["swept"]["rows"];
    assert_eq!((&rows["runs"], &rows["pulls"]), (&json!(2), &json!(0)), "{rows}");
    // An incident that is over, and the two messages about it.
    assert_eq!(
        (&rows["incidents"], rows["events"].as_u64().is_some_and(|events| events >= 9)),
        (&json!(3), true),
        "{rows}"
    );
    let runs = inbox.days.project.json(&["runs"]);
    assert_eq!((runs.as_array().map(Vec::len), &runs[0]["id"]), (Some(1), &json!("days-2024-05-05-1")));
    // However old it is, the last run tells how the pipeline stands; and the ledger stays.
    let later = gc(&inbox, "2030-01-01T00:00:00Z", &[]);
    assert_eq!(later["swept"]["rows"]["runs"], 0);
    assert_eq!(inbox.days.project.json(&["status"]).as_array().map(Vec::len), Some(4));
    run(&inbox, "2024-05-05", 0);
}

#[test]
fn the_newest_pulls_of_each_unit_stay_and_the_one_that_its_rows_are_from() {
    let inbox = Inbox::new("[retention]\npulls = 2\n", DAYS);
    for round in 0..5 {
        // After the first, each pull is unchanged: the rows are from the first.
        let now = format!("2024-05-04T06:{round:02}:00Z");
        let ran = inbox.days.project.output(&["run", "days", "--date", "2024-05-04", "--now", &now]);
        assert!(ran.status.success(), "{}", told(&ran));
    }
    let counted = gc(&inbox, "2024-05-05T00:00:00Z", &["--dry-run"]);
    let swept = gc(&inbox, "2024-05-05T00:00:00Z", &[]);
    assert_eq!((&counted["swept"]["rows"]["pulls"], &swept["swept"]["rows"]["pulls"]), (&json!(6), &json!(6)));
    assert_eq!(gc(&inbox, "2024-05-05T00:00:00Z", &[])["swept"]["rows"]["pulls"], 0);
    let drift = inbox.days.project.json(&["drift", "raw.items"]);
    assert!(drift.to_string().contains("\"repulls\":6"), "{drift}");
    run(&inbox, "2024-05-05", 0);
}

#[test]
fn logs_answers_and_stages_go_by_their_age_and_what_waits_for_somebody_stays() {
    let inbox = Inbox::new("", DAYS);
    run(&inbox, "2024-05-04", 0);
    inbox.says(&["2024-05-03"], &Day::Rows(1));
    run(&inbox, "2024-05-04", 3);
    aged(&inbox, ".haul/logs/days/old.log", 31);
    aged(&inbox, ".haul/logs/days/new.log", 29);
    aged(&inbox, ".haul/cache/api/old", 91);
    aged(&inbox, ".haul/cache/api/new", 89);
    aged(&inbox, ".haul/stage/days.items/2024-05-01/pull-1/journal.jsonl", 8);
    aged(&inbox, ".haul/stage/days.items/2024-05-02/pull-1/journal.jsonl", 6);
    aged(&inbox, ".haul/stage/days.items/2024-05-02/retry-1/journal.jsonl", 600);
    aged(&inbox, "hooks/api.cassette.jsonl", 600);
    let stage = inbox.days.project.path().join(".haul/stage/days.items/2024-05-01/pull-1");
    let then = SystemTime::UNIX_EPOCH + Duration::from_hours(486_480) - Duration::from_hours(8 * 24);
    std::fs::File::open(stage).expect("the folder").set_modified(then).expect("a time");
    let counted = gc(&inbox, "2025-07-01T00:00:00Z", &["--dry-run"]);
    assert!(is_there(&inbox, ".haul/logs/days/old.log"));
    let swept = gc(&inbox, "2025-07-01T00:00:00Z", &[]);
    assert_eq!(counted["swept"]["files"], swept["swept"]["files"]);
    assert_eq!(swept["swept"]["files"], json!({ "logs": 1, "answers": 1, "stages": 1, "bytes": 9 }));
    for gone in [".haul/logs/days/old.log", ".haul/cache/api/old", ".haul/stage/days.items/2024-05-01"] {
        assert!(!is_there(&inbox, gone), "{gone}");
    }
    for kept in [
        ".haul/logs/days/new.log",
        ".haul/cache/api/new",
        ".haul/stage/days.items/2024-05-02/pull-1",
        ".haul/stage/days.items/2024-05-02/retry-1",
        "hooks/api.cassette.jsonl",
    ] {
        assert!(is_there(&inbox, kept), "{kept}");
    }
    // What is held can still be decided, years later.
    let ran = inbox.days.at("2025-07-01", &["approve", "raw.items", "2024-05-03"]);
    assert!(ran.status.success(), "{}", told(&ran));
}

#[test]
fn the_file_stays_as_small_as_what_is_kept_over_a_year_of_mornings() {
    let inbox = Inbox::new("[retention]\nruns = \"10d\"\npulls = 3\n", DAYS);
    let state = haul_state(&inbox);
    let mut sizes = Vec::new();
    for day in 0..360 {
        state.morning(day);
        if day % 40 == 39 {
            sizes.push(state.sweep(day));
        }
    }
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    assert!(last <= first + first / 10, "{sizes:?}");
}

/// A state file that mornings are written to as runs do, without any warehouse.
fn haul_state(inbox: &Inbox) -> Mornings {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = inbox.days.project.path().join(".haul-year");
    let state = runtime.block_on(haul::state::State::open(&dir)).expect("a state file");
    Mornings { runtime, state, file: dir.join("state.db") }
}

struct Mornings {
    runtime: tokio::runtime::Runtime,
    state: haul::state::State,
    file: std::path::PathBuf,
}

impl Mornings {
    fn at(day: i64) -> haul::time::Instant {
        chrono::DateTime::UNIX_EPOCH + chrono::Duration::days(20_000 + day)
    }

    /// A run of fifty tasks, each with its pull of one of twenty units.
    fn morning(&self, day: i64) {
        use haul::model::ledger::{PullOutcome, PullRecord};
        use haul::model::run::{RunStatus, TaskEvent, TaskId, TaskLog, Trigger};
        let now = Self::at(day);
        self.runtime.block_on(async {
            let mut run = self.state.begin_run("days", &day.to_string(), Trigger::Schedule, now).await.expect("a run");
            let table = haul::model::name::TableName::stored("raw.items");
            let (mut logs, mut pulls) = (Vec::new(), Vec::new());
            for task in 0..50_u64 {
                let unit = haul::time::UnitKey::stored(&format!("2024-01-{:02}", task % 20 + 1));
                let task_id = TaskId { step: format!("step-{task}"), unit: unit.clone() };
                let event = TaskEvent::Skipped { reason: "a reason of some length, as it is usual".repeat(3) };
                logs.push(TaskLog { task: task_id, at: now, event });
                pulls.push(PullRecord {
                    table: table.clone(),
                    unit,
                    pull: u64::try_from(day).expect("a day") * 3 + task / 20 + 1,
                    run: run.id.clone(),
                    outcome: PullOutcome::Unchanged,
                    rows: 1,
                    fingerprint: None,
                    changes: None,
                    age: Some(1),
                    requests: 1,
                    bytes: 1,
                    started_at: now,
                    finished_at: now,
                    reason: None,
                });
            }
            self.state.append(&run.id, &logs).await.expect("events");
            self.state.record(&pulls, &[]).await.expect("pulls");
            (run.status, run.finished_at) = (RunStatus::Succeeded, Some(now));
            self.state.finish_run(&run).await.expect("an end");
        });
    }

    /// The bytes of the file after a sweep.
    fn sweep(&self, day: i64) -> u64 {
        let rule = haul::state::SweepRule { before: Self::at(day - 10), pulls: 3 };
        self.runtime.block_on(async {
            self.state.sweep(rule, false).await.expect("a sweep");
            self.state.vacuum(false).await.expect("room");
        });
        self.file.metadata().expect("the file").len()
    }
}
