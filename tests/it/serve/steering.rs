//! Steering from the command line, with and without a daemon at work.

use super::*;
use crate::support::gate::{Door, Served};

#[test]
fn the_same_work_is_one_job_however_often_it_is_asked_for() {
    let project = shared();
    project.write("pipelines/a.toml", &command("", "true"));
    let first = project.json(&["trigger", "a", "--date", "2024-05-04"]);
    let again = project.stdout(&["trigger", "a", "--date", "2024-05-04"]);
    assert!(again.contains("is the same work, and is queued already"), "{again}");
    let other = project.json(&["trigger", "a", "--date", "2024-05-05"]);
    assert_eq!((&first["new"], &other["new"]), (&Value::from(true), &Value::from(true)));
    assert_eq!(jobs(&project).len(), 2);
    let table = project.stdout(&["queue"]);
    assert!(table.contains("queued") && table.contains("fresh"), "{table}");
}

#[test]
fn what_does_not_exist_is_refused_with_what_was_meant() {
    let project = shared();
    project.write("pipelines/ratings.toml", &command("", "true"));
    let refused = |arguments: &[&str], text: &str| {
        let output = project.output(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(text), "{arguments:?}: {said}");
    };
    refused(&["trigger", "ratngs"], "did you mean `ratings`?");
    refused(&["trigger", "ratings", "--select", "itt"], "there is no step `itt`");
    refused(&["pause", "nothing"], "there is no pipeline `nothing`");
    refused(&["cancel", "7"], "there is no job 7");
    refused(&["cancel", "ratings-2024-05-04-1"], "no job has the run `ratings-2024-05-04-1`");
    refused(&["queue", "ratngs"], "did you mean `ratings`?");
}

#[test]
fn a_queued_job_is_cancelled_at_once_and_one_under_way_by_its_daemon() {
    let gate = Gate::start(Door::Shut);
    let project = gated(&gate);
    let queued = project.json(&["trigger", "rows", "--date", "2024-05-01"]);
    let cancelled = project.json(&["cancel", &queued["job"]["id"].to_string()]);
    assert_eq!(cancelled["outcome"], "cancelled");
    let over = project.output(&["cancel", &queued["job"]["id"].to_string()]);
    assert!(String::from_utf8_lossy(&over.stderr).contains("is over: cancelled"));

    let served = Served::start(&project, &[]);
    project.stdout(&["trigger", "rows", "--date", "2024-05-04"]);
    gate.wait_for(1);
    let run = job_until(&project, "the run", |job| job["state"] == "leased" && job["run"].is_string());
    project.stdout(&["cancel", run["run"].as_str().expect("a run")]);
    served.says("somebody asked to cancel it");
    let job = job_until(&project, "the end", |job| job["id"] == run["id"] && job["state"] == "done");
    assert_eq!(job["outcome"], "cancelled");
    served.stop();
    assert_eq!(project.json(&["runs"])[0]["status"], "cancelled");
}

/// The daemon looks so rarely that the commits themselves are the first to hear of the cancellation.
#[test]
fn what_is_cancelled_in_the_middle_of_its_commits_is_cancelled_and_nothing_of_it_has_failed() {
    let gate = Gate::start(Door::Shut);
    let project = gated(&gate);
    project.write("haul.toml", "warehouse = \"warehouse\"\n[serve]\npoll = \"1m\"\nlease = \"1h\"\n");
    project.write("pipelines/rows.toml", &format!("max_active = 4\n{ROWS}"));
    project.stdout(&["backfill", "rows", "--from", "2024-05-01", "--through", "2024-05-07", "--queue"]);
    let served = Served::start(&project, &[]);
    // Four tasks are under way, and three wait.
    gate.wait_for(4);
    project.stdout(&["backfill", "cancel", "bf-1"]);
    gate.is(Door::Open);
    served.says("cancelled");
    let job = job_until(&project, "the end", |job| job["state"] == "done");
    assert_eq!(job["outcome"], "cancelled", "{job}");
    assert_eq!((served.told("warning"), served.told("error")), (vec![], vec![]));
    served.stop();
    let run = &project.json(&["runs"])[0];
    assert_eq!((&run["status"], &run["counts"]["failed"]), (&Value::from("cancelled"), &Value::from(0)), "{run}");
    let shown = project.json(&["show", run["id"].as_str().expect("a run")]);
    let events = shown["events"].as_array().expect("events");
    let cancelled = events.iter().filter(|event| event["event"]["event"] == "cancelled").count();
    assert_eq!(cancelled, 7, "{shown:#}");
    assert_eq!(gate.asked().len(), 4, "nothing is begun after it");
    assert_eq!(project.json(&["status"]), Value::Array(Vec::new()));
    assert_eq!(project.json(&["backfill", "show", "bf-1"])["state"], "cancelled");
}

#[test]
fn a_paused_pipeline_records_its_occurrences_and_can_be_triggered() {
    let project = shared();
    project.write("pipelines/a.toml", &command("[schedule]\nevery = \"1s\"", "echo ran >> out.txt"));
    project.stdout(&["pause", "a", "--reason", "the source is moving"]);
    let served = Served::start(&project, &[]);
    served.says_times("is skipped: the schedule is paused", 2);
    assert!(lines(&project, "out.txt").is_empty());
    project.stdout(&["trigger", "a", "--date", "2024-05-04"]);
    until("the triggered run", || (lines(&project, "out.txt").len() == 1).then_some(()));
    project.stdout(&["resume", "a"]);
    until("the schedule", || (lines(&project, "out.txt").len() >= 3).then_some(()));
    served.stop();
    let found = project.stdout(&["occurrences", "--limit", "1000"]);
    assert!(found.contains("skipped") && found.contains("ran"), "{found}");
}

#[test]
fn what_is_triggered_by_hand_on_a_day_of_changing_clocks_costs_no_scheduled_run() {
    let gate = Gate::start(Door::Open);
    let project = gated(&gate);
    let schedule = "timezone = \"America/New_York\"\n[schedule]\ncron = \"0 2 * * *\"\n";
    project.write("pipelines/rows.toml", &format!("{schedule}{ROWS}"));
    Served::start(&project, &["--now", "2024-03-10T06:00:00Z"]).stop();
    // 02:00 does not exist on this day; by hand it runs at 03:30 local time.
    let served = Served::start(&project, &["--now", "2024-03-10T07:30:00Z"]);
    served.says("succeeded");
    project.stdout(&["trigger", "rows", "--now", "2024-03-10T07:30:00Z"]);
    served.says_times("succeeded", 2);
    served.stop();
    let served = Served::start(&project, &["--now", "2024-03-11T06:00:01Z"]);
    served.says("succeeded");
    served.stop();
    let ends = project.json(&["occurrences"]);
    let ends: Vec<(&str, &str)> = ends
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| Some((one["at"].as_str()?, one["end"].as_str()?)))
        .collect();
    assert_eq!(ends, [("2024-03-11T06:00:00Z", "ran"), ("2024-03-10T07:00:00Z", "ran")]);
    assert_eq!(gate.asked(), ["2024-03-09", "2024-03-09", "2024-03-10"], "a whole day each time");
}
