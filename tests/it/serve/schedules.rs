//! The binary on its schedules: by itself, beside others, and after an outage.

use super::*;
use crate::support::gate::{Door, Served};

const EVERY_SECOND: &str = "[schedule]\nevery = \"1s\"\n[window]\nlookback = 1\n[[transform]]\nname = \"one\"\n\
                            sql = \"select 1 as x\"\ninto = \"mart.one\"\n";

#[test]
fn a_pipeline_runs_by_itself_and_the_warehouse_is_free_between_runs() {
    let gate = Gate::start(Door::Open);
    let project = gated(&gate);
    project.write("pipelines/one.toml", &EVERY_SECOND.replace("1s", "20s"));
    let served = Served::start(&project, &[]);
    assert!(served.says("serves")["message"].as_str().is_some_and(|line| line.contains("2 pipelines; next: one at")));
    project.stdout(&["trigger", "rows", "--date", "2024-05-04"]);
    served.says("succeeded");
    // Nobody told the daemon to let go of the file.
    let rows = until("a query", || {
        let output = project.output(&["query", "select day from raw.rows", "--output", "json"]);
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).expect("JSON"))
    });
    assert_eq!(rows, serde_json::json!([{ "day": "2024-05-03" }]));
    job_until(&project, "an occurrence", |job| job["pipeline"] == "one" && job["outcome"] == "succeeded");
    served.stop();
    let found = project.json(&["occurrences", "one"]);
    assert_eq!(found[0]["end"], "ran");
    assert!(found[0]["run"].as_str().is_some_and(|run| run.starts_with("one-")), "{found}");
}

#[test]
fn two_daemons_on_one_project_do_nothing_twice() {
    let project = shared();
    for name in ["a", "b", "c"] {
        let text = format!("echo \"{name} $HAUL_RUN\" >> out.txt");
        project.write(&format!("pipelines/{name}.toml"), &command("[schedule]\nevery = \"1s\"", &text));
    }
    let (one, two) = (Served::start(&project, &[]), Served::start(&project, &[]));
    until("work for both", || {
        let owners =
            jobs(&project).iter().map(|job| job["owner"].to_string()).collect::<std::collections::BTreeSet<_>>();
        (owners.len() >= 2 && lines(&project, "out.txt").len() > 12).then_some(())
    });
    one.stop();
    two.stop();
    let mut done = lines(&project, "out.txt");
    let count = done.len();
    done.sort();
    done.dedup();
    assert_eq!(done.len(), count, "no run twice");
    let all = project.json(&["occurrences", "--limit", "1000"]);
    let ran: Vec<&Value> = all.as_array().expect("a list").iter().filter(|one| one["end"] == "ran").collect();
    let finished = jobs(&project).into_iter().filter(|job| job["outcome"] == "succeeded").count();
    assert_eq!(count, finished, "each job did its work once");
    assert!(ran.len() >= finished, "each job is of an occurrence of its own");
    let mut made: Vec<&Value> = ran.iter().map(|one| &one["job"]).collect();
    made.sort_by_key(|job| job.as_i64());
    made.dedup();
    assert_eq!(made.len(), ran.len(), "no occurrence shares its job");
}

#[test]
fn after_an_outage_one_run_covers_all_that_was_missed() {
    let gate = Gate::start(Door::Open);
    let project = gated(&gate);
    let schedule = "[schedule]\ncron = \"0 6 * * *\"\n";
    project.write("pipelines/rows.toml", &format!("{schedule}{}", ROWS.replace("lookback = 1", "lookback = 3")));
    Served::start(&project, &["--now", "2024-05-01T12:00:00Z"]).stop();
    assert!(project.json(&["occurrences"]).as_array().is_some_and(Vec::is_empty), "a new pipeline begins now");

    let served = Served::start(&project, &["--now", "2024-05-05T06:00:00Z"]);
    served.says("succeeded");
    served.stop();
    let mut asked = gate.asked();
    asked.sort();
    let days: Vec<String> = (29..=30).map(|day| format!("2024-04-{day}")).collect();
    let more = (1..=4).map(|day| format!("2024-05-0{day}"));
    assert_eq!(asked, days.into_iter().chain(more).collect::<Vec<_>>(), "the union of four windows, each day once");
    let ends = project.json(&["occurrences"]);
    let ends: Vec<&str> = ends.as_array().expect("a list").iter().filter_map(|one| one["end"].as_str()).collect();
    assert_eq!(ends, ["ran", "coalesced", "coalesced", "coalesced"]);
}

#[test]
fn a_pipeline_follows_the_days_that_another_has_done() {
    let project = shared();
    project.write("pipelines/first.toml", &command("", "test -f ok.txt"));
    project.write(
        "pipelines/second.toml",
        &command("[schedule]\nafter = \"first\"", "echo \"${HAUL_WINDOW_END%T*}\" >> out.txt"),
    );
    let served = Served::start(&project, &[]);
    project.stdout(&["trigger", "first", "--date", "2024-05-04"]);
    served.says("failed");
    project.write("ok.txt", "");
    project.stdout(&["trigger", "first", "--date", "2024-05-05"]);
    job_until(&project, "the second", |job| job["pipeline"] == "second" && job["state"] == "done");
    // A run from the command line is a day that is done like any other.
    project.stdout(&["run", "first", "--date", "2024-05-06"]);
    until("the second again", || (lines(&project, "out.txt").len() == 2).then_some(()));
    served.stop();
    assert_eq!(lines(&project, "out.txt"), ["2024-05-05", "2024-05-06"]);
}

#[test]
fn a_run_longer_than_its_interval_loses_no_occurrence() {
    let gate = Gate::start(Door::Shut);
    let project = gated(&gate);
    project.write("pipelines/rows.toml", &format!("[schedule]\nevery = \"1s\"\n{ROWS}"));
    let served = Served::start(&project, &[]);
    gate.wait_for(1);
    let waiting = |count: usize| {
        let found = project.json(&["occurrences", "--limit", "1000"]);
        (found.as_array().expect("a list").iter().filter(|one| one["end"] == "waiting").count() >= count).then_some(())
    };
    until("three that wait", || waiting(3));
    gate.is(Door::Open);
    served.says_times("succeeded", 2);
    served.stop();
    let found = project.json(&["occurrences", "--limit", "1000"]);
    let mut at: Vec<&str> = Vec::new();
    for one in found.as_array().expect("a list") {
        let end = one["end"].as_str().expect("an end");
        assert!(end == "ran" || one["reason"].is_string(), "{one}");
        at.push(one["at"].as_str().expect("an instant"));
    }
    assert!(found.to_string().contains("coalesced"), "{found}");
    at.sort_unstable();
    let times: Vec<chrono::DateTime<chrono::Utc>> = at.iter().map(|at| at.parse().expect("an instant")).collect();
    assert!(times.windows(2).all(|two| (two[1] - two[0]).num_seconds() == 1), "every second is on record: {at:?}");
}

#[tokio::test]
async fn no_day_of_the_pipeline_before_is_lost_when_two_end_at_once_and_are_written_in_the_other_order() {
    use haul::model::run::{RunStatus, Trigger};
    let project = shared();
    project.write("pipelines/first.toml", &command("", "true"));
    project
        .write("pipelines/then.toml", &command("[schedule]\nafter = \"first\"", "echo $HAUL_WINDOW_START >> out.txt"));
    let served = Served::start(&project, &[]);
    let state = haul::state::State::open(&project.path().join(".haul")).await.expect("the store");
    #[expect(clippy::disallowed_methods, reason = "the binary beside it goes by the machine's clock")]
    let now = chrono::Utc::now();
    let mut one = state.begin_run("first", "2024-05-01", Trigger::Manual, now).await.expect("a run");
    let mut two = state.begin_run("first", "2024-05-02", Trigger::Manual, now).await.expect("a run");
    (one.status, two.status) = (RunStatus::Succeeded, RunStatus::Succeeded);
    (one.finished_at, two.finished_at) =
        (Some(now + chrono::Duration::milliseconds(1)), Some(now + chrono::Duration::milliseconds(3)));
    // The one that ended later is written, and seen, first.
    state.finish_run(&two).await.expect("its end");
    until("what follows the second", || (lines(&project, "out.txt") == ["2024-05-01T00:00:00Z"]).then_some(()));
    state.finish_run(&one).await.expect("its end");
    until("what follows the first", || {
        (lines(&project, "out.txt") == ["2024-05-01T00:00:00Z", "2024-04-30T00:00:00Z"]).then_some(())
    });
    served.stop();
}
