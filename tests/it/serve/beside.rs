//! Runs of one pipeline beside each other: as many as it says, whoever runs them, and never two commits of one unit.

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

#[test]
fn an_occurrence_waits_only_where_all_places_of_its_pipeline_are_taken() {
    let project = shared();
    let schedule = "max_runs = 2\n[schedule]\nevery = \"1s\"\noverlap = \"skip\"";
    project.write("pipelines/a.toml", &command(schedule, WAITS));
    let served = Served::start(&project, &[]);
    served.says("was still under way");
    until("two that have begun", || (lines(&project, "out.txt").len() == 2).then_some(()));
    let ran =
        project.json(&["occurrences"]).as_array().expect("a list").iter().filter(|one| one["end"] == "ran").count();
    assert_eq!(ran, 2, "the third one was skipped");
    project.write("go", "");
    served.stop();
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
