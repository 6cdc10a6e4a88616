//! Runs of one pipeline beside each other: as many as it says, whoever runs them, and never two commits of one unit.

use std::sync::{Arc, Mutex};

use haul::config::{Options, load};
use haul::serve::{Daemon, Order, Runner, Tell};
use haul::state::State;

use super::*;
use crate::support::gate::{Door, Served};

/// A command that says that it has begun, and waits to be let go.
const WAITS: &str = "echo begun >> out.txt; until test -f go; do sleep 0.02; done";

#[test]
fn two_runs_of_a_pipeline_are_under_way_at_once_over_all_processes_where_it_says_so() {
    let project = shared();
    project.write("pipelines/two.toml", &format!("max_runs = 2\n{}", command("", WAITS)));
    project.write("pipelines/one.toml", &command("", "echo over >> one.txt"));
    let both = [Served::start(&project, &[]), Served::start(&project, &[])];
    for day in 1..=4 {
        project.stdout(&["trigger", "two", "--date", &format!("2024-05-0{day}")]);
    }
    until("two that have begun", || (lines(&project, "out.txt").len() == 2).then_some(()));
    // A daemon that could begin a third one has looked at the queue since: it has begun and ended another pipeline's run.
    project.stdout(&["trigger", "one", "--date", "2024-05-04"]);
    job_until(&project, "the other pipeline's run", |job| job["pipeline"] == "one" && job["state"] == "done");
    let states = |wanted: &str| jobs(&project).iter().filter(|job| job["state"] == wanted).count();
    assert_eq!((states("leased"), states("queued")), (2, 2), "{:#?}", jobs(&project));
    assert_eq!(lines(&project, "out.txt").len(), 2);

    project.write("go", "");
    until("the end of all", || (states("done") == 5).then_some(()));
    assert!(jobs(&project).iter().all(|job| job["outcome"] == "succeeded"), "{:#?}", jobs(&project));
    assert_eq!(lines(&project, "out.txt").len(), 4);
    both.into_iter().for_each(Served::stop);
}

/// Runs that never end, by their dates.
#[derive(Default)]
struct Endless(Mutex<Vec<Order>>);

impl Runner for Endless {
    fn start(&self, order: Order) {
        self.0.lock().expect("no panic here").push(order);
    }
}

#[tokio::test]
async fn an_occurrence_waits_only_where_all_places_of_its_pipeline_are_taken() {
    for (max_runs, overlap, ends, cancelled) in [
        ("", "skip", ["ran", "skipped", "skipped"], 0),
        ("max_runs = 2", "skip", ["ran", "ran", "skipped"], 0),
        ("max_runs = 2", "queue", ["ran", "ran", "waiting"], 0),
        ("max_runs = 2", "cancel_other", ["ran", "ran", "ran"], 1),
    ] {
        let project = shared();
        project.write("haul.toml", "warehouse = \"warehouse\"\n[serve]\nlease = \"1d\"\n");
        let schedule = format!("[schedule]\ncron = \"0 * * * *\"\noverlap = \"{overlap}\"\n[window]\ngrain = \"hour\"");
        project.write(
            "pipelines/a.toml",
            &format!("{max_runs}\n{}", command(&schedule, "true").replacen("\n[window]\nlookback", "\nlookback", 1)),
        );
        let loaded = load(project.path(), &Options::default()).into_project().expect("a project");
        let state = State::open(&project.path().join(".haul")).await.expect("a store");
        let at = |text: &str| format!("2024-05-04T{text}Z").parse().expect("an instant");
        let runner = Arc::new(Endless::default());
        let (tell, loaded): (Tell, _) = (Arc::new(|_| ()), Arc::new(loaded));
        let opened =
            Daemon::open(state.clone(), loaded, Arc::clone(&runner) as _, "me".to_owned(), tell, at("00:30:00"));
        let mut daemon = opened.await.expect("a daemon");
        for time in ["00:30:00", "01:00:01", "02:00:01", "03:00:01", "03:00:02"] {
            daemon.step(at(time)).await.expect("a step");
        }
        let found = state.occurrences(Some("a"), at("00:00:00"), 10).await.expect("occurrences");
        let found: Vec<&str> = found.iter().rev().map(|one| one.end.as_str()).collect();
        assert_eq!(found, ends, "{max_runs} {overlap}");
        let begun = runner.0.lock().expect("no panic here");
        let stopped: Vec<i64> = begun.iter().filter(|one| one.cancel.is_cancelled()).map(|one| one.job.id).collect();
        assert_eq!(stopped.len(), cancelled, "{max_runs} {overlap}");
        assert!(stopped.iter().all(|job| *job == begun[0].job.id), "the oldest makes room");
    }
}

#[test]
fn two_runs_that_want_one_unit_at_once_both_succeed_and_its_rows_are_there_once() {
    let gate = Gate::start(Door::Shut);
    let project = gated(&gate);
    let retry = "[retry]\nmin_backoff = \"10ms\"\nmax_backoff = \"20ms\"\n";
    project.write(
        "pipelines/rows.toml",
        &format!("max_runs = 2\n{retry}{}", ROWS.replace("lookback = 1", "lookback = 2")),
    );
    let served = Served::start(&project, &[]);
    project.stdout(&["trigger", "rows", "--date", "2024-05-04"]);
    project.stdout(&["trigger", "rows", "--date", "2024-05-05"]);
    // Both are at the day that they share.
    gate.wait_for(4);
    assert_eq!(gate.asked().iter().filter(|day| *day == "2024-05-03").count(), 2, "{:?}", gate.asked());
    gate.is(Door::Open);
    until("both ends", || jobs(&project).iter().all(|job| job["state"] == "done").then_some(()));
    assert!(jobs(&project).iter().all(|job| job["outcome"] == "succeeded"), "{:#?}", jobs(&project));
    served.stop();
    let rows = project.query("select cast(day as text) as day, count(*) as n from raw.rows group by 1 order by 1");
    let one = |day: &str| serde_json::json!({ "day": day, "n": 1 });
    assert_eq!(rows, serde_json::json!([one("2024-05-02"), one("2024-05-03"), one("2024-05-04")]));
    let loads = project.query("select unit, count(*) as n from _haul_loads group by 1 having count(*) > 1");
    assert_eq!(loads, serde_json::json!([]), "a unit has one load");
}
