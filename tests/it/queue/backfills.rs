//! Backfills by the queue: planned first, in pieces, steered as a whole; what is loaded is not asked for again.

use haul::model::job::{Backfill, BackfillState, Class, JobEnd, NewBackfill, NewJob, Planned, Settled};
use haul::state::State;
use serde_json::Value;

use super::{at, claimed, job, rules, store, succeed};
use crate::support::mornings::{DAYS, Mornings};
use crate::support::project::told as told_of;
use crate::support::scripted::Scripted;

/// An API with ten rows for each of the first nine days of May.
fn may() -> Scripted {
    let api = Scripted::start();
    (1..=9).for_each(|day| api.put_day(&format!("2024-05-0{day}"), 10));
    api
}

/// A backfill of three pieces, `1`, `2` and `3`, of ten days each.
pub async fn three_pieces(state: &State, pipeline: &str) -> Backfill {
    let new = NewBackfill {
        pipeline: pipeline.to_owned(),
        from: "2020-01-01".to_owned(),
        to: "2020-01-31".to_owned(),
        ask: "{}".to_owned(),
        newest_first: false,
        planned: Planned { units: 30, tasks: 60, requests: None, bytes: None },
        by: "me".to_owned(),
    };
    let piece = |key: &str| NewJob { units: 10, ..job(pipeline, key, Class::Backfill) };
    state.create_backfill(&new, &[piece("1"), piece("2"), piece("3")], at(0)).await.expect("a backfill")
}

#[tokio::test]
async fn a_backfill_tells_how_far_it_is_and_when_it_will_have_ended() {
    let (_folder, state) = store().await;
    let made = three_pieces(&state, "p").await;
    assert_eq!((made.progress.jobs, made.progress.units, made.progress.expected_end(at(0))), (3, 30, None));
    let rules = rules(&["p"], 4);
    let first = claimed(&state, &rules, at(0)).await.expect("the first piece");
    assert!(succeed(&state, &first, at(100)).await);
    let second = claimed(&state, &rules, at(100)).await.expect("the second piece");
    let now = state.backfill(&made.id).await.expect("a look").expect("it is there");
    assert_eq!(
        (now.progress.succeeded, now.progress.leased, now.progress.queued, now.progress.units_done),
        (1, 1, 1, 10)
    );
    assert_eq!(now.progress.expected_end(at(100)), Some(at(300)), "a hundred seconds for each ten days");
    assert!(succeed(&state, &second, at(200)).await);
    let third = claimed(&state, &rules, at(200)).await.expect("the third piece");
    assert!(succeed(&state, &third, at(300)).await);
    let ended = state.backfill(&made.id).await.expect("a look").expect("it is there");
    assert_eq!((ended.state, ended.finished_at), (BackfillState::Done, Some(at(300))));
    assert_eq!(ended.progress.expected_end(at(400)), None);
}

#[tokio::test]
async fn a_paused_backfill_waits_a_resumed_one_goes_on_a_cancelled_one_ends() {
    let (_folder, state) = store().await;
    let made = three_pieces(&state, "p").await;
    let rules = rules(&["p"], 4);
    let steer = |wanted, second| state.set_backfill(&made.id, wanted, "me", at(second));
    let first = claimed(&state, &rules, at(0)).await.expect("the first piece");
    steer(BackfillState::Paused, 1).await.expect("paused");
    assert!(succeed(&state, &first, at(2)).await, "what is under way ends");
    assert_eq!(claimed(&state, &rules, at(3)).await, None);
    steer(BackfillState::Running, 4).await.expect("resumed");
    let second = claimed(&state, &rules, at(5)).await.expect("the second piece");
    // A fresh run wants the third piece too.
    state.enqueue(&[job("p", "3", Class::Fresh)], at(5)).await.expect("queued");
    let cancelled = steer(BackfillState::Cancelled, 6).await.expect("cancelled").expect("it is there");
    assert_eq!(cancelled.state, BackfillState::Cancelled);
    assert!(state.job(second.id).await.expect("a look").expect("the job").cancel_asked);
    assert!(succeed(&state, &second, at(7)).await);
    assert_eq!(claimed(&state, &rules, at(8)).await.expect("what the run wants stays").key, "3");
    let resumed = steer(BackfillState::Running, 9).await.expect("asked").expect("it is there");
    assert_eq!(resumed.state, BackfillState::Cancelled, "it has ended");
}

#[tokio::test]
async fn a_day_that_two_backfills_want_is_one_job_and_counts_for_both() {
    let (_folder, state) = store().await;
    let (one, two) = (three_pieces(&state, "p").await, three_pieces(&state, "p").await);
    assert_eq!((one.progress.jobs, two.progress.jobs), (3, 3));
    assert_eq!(super::unfinished(&state).await.len(), 3);
    state.set_backfill(&one.id, BackfillState::Cancelled, "me", at(1)).await.expect("cancelled");
    assert_eq!(super::unfinished(&state).await.len(), 3, "the other one goes on");
    state.set_backfill(&two.id, BackfillState::Cancelled, "me", at(2)).await.expect("cancelled");
    assert_eq!(super::unfinished(&state).await.len(), 0);
    let jobs = state.jobs(&haul::model::job::JobFilter::default()).await.expect("jobs");
    assert!(jobs.iter().all(|job| job.outcome == Some(JobEnd::Cancelled)), "{jobs:?}");
}

fn queue(days: &Mornings, more: &[&str]) -> std::process::Output {
    let fill = ["backfill", "days", "--from", "2024-05-01", "--through", "2024-05-06", "--queue"];
    days.at("2024-05-10", &fill.iter().chain(more).copied().collect::<Vec<_>>())
}

#[test]
fn a_range_is_planned_and_cut_into_jobs_and_days_that_are_loaded_make_none() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    api.asked();
    let made = queue(&days, &["--chunk", "2", "--order", "oldest", "--output", "json"]);
    assert!(made.status.success(), "{}", told_of(&made));
    assert_eq!(api.asked(), [""; 0], "planning asks nobody");
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let shown = days.project.json(&["backfill", "show", made["id"].as_str().expect("a name")]);
    let mut keys: Vec<&str> =
        shown["jobs"].as_array().expect("jobs").iter().map(|job| job["key"].as_str().expect("a key")).collect();
    keys.reverse();
    assert_eq!(keys.len(), 2, "the first two days are loaded: {keys:?}");
    assert!(keys[0].contains("2024-05-03..2024-05-05"), "oldest first: {keys:?}");
    assert!(keys[1].contains("2024-05-05..2024-05-07"), "the last day is there: {keys:?}");
    let listed = days.project.stdout(&["backfill", "list"]);
    assert!(listed.contains("bf-1") && listed.contains("running"), "{listed}");
    for (word, state) in [("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")] {
        let told = days.project.json(&["backfill", word, "bf-1"]);
        assert_eq!(told["state"], state);
    }
    let ended = days.project.output(&["backfill", "resume", "bf-1"]);
    assert_eq!(ended.status.code(), Some(2), "{}", told_of(&ended));
    let unknown = days.project.output(&["backfill", "show", "bf-9"]);
    assert!(told_of(&unknown).contains("there is no backfill `bf-9`"), "{}", told_of(&unknown));
}

#[test]
fn the_requests_of_a_planned_backfill_are_told_where_they_are_known() {
    let api = may();
    let step =
        "for_each = { values = [1, 2, 3] }\nrequest = { path = \"/rows\", params = { key = \"{{ ds }}-{{ item }}\" } }";
    let plain = "request = { path = \"/rows\", params = { key = \"{{ ds }}\" } }\npaginate = { by = \"offset\", limit = 4, total = \"$.total\" }";
    let fan = DAYS.replace(plain, step);
    assert_ne!(fan, DAYS);
    for (pipeline, requests) in [(fan.as_str(), Value::from(18)), (DAYS, Value::Null)] {
        let days = Mornings::new(&api.url, pipeline);
        let made = queue(&days, &["--output", "json"]);
        assert!(made.status.success(), "{}", told_of(&made));
        let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        assert_eq!((&made["planned"]["units"], &made["planned"]["requests"]), (&Value::from(6), &requests), "{made}");
        let shown = days.project.stdout(&["backfill", "show", "bf-1"]);
        assert_eq!(shown.contains("18 requests"), !requests.is_null(), "{shown}");
    }
}

#[tokio::test]
async fn what_failed_or_was_cancelled_does_not_count_as_done() {
    let (_folder, state) = store().await;
    let made = three_pieces(&state, "p").await;
    let rules = rules(&["p"], 4);
    for (second, end) in [(0, JobEnd::Failed), (100, JobEnd::Held)] {
        let piece = claimed(&state, &rules, at(second)).await.expect("a piece");
        let settled = Settled::Done { end, reason: None, run: None };
        assert!(state.settle(piece.id, piece.generation, settled, at(second + 100)).await.expect("settled"));
    }
    let now = state.backfill(&made.id).await.expect("a look").expect("it is there").progress;
    assert_eq!((now.succeeded, now.units_done, now.units_failed, now.units_open), (0, 0, 10, 10));
    assert_eq!(now.expected_end(at(200)), Some(at(300)), "what ended badly has taken its time, too");
    let ended = state.set_backfill(&made.id, BackfillState::Cancelled, "me", at(200)).await.expect("cancelled");
    let now = ended.expect("it is there").progress;
    assert_eq!((now.cancelled, now.units_cancelled, now.units_done), (1, 10, 0));
}

#[test]
fn a_cancelled_backfill_does_not_say_that_it_is_done() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    assert!(queue(&days, &["--chunk", "2"]).status.success());
    days.project.stdout(&["backfill", "cancel", "bf-1"]);
    let shown = days.project.stdout(&["backfill", "show", "bf-1"]);
    assert!(shown.contains("done       0 of 3 jobs, 0 of 6 units; 0 under way, 0 wait"), "{shown}");
    assert!(shown.contains("not done   3 jobs cancelled (6 units)"), "{shown}");
    let listed = days.project.stdout(&["backfill", "list"]);
    assert!(listed.contains("0 of 3 jobs, 0 of 6 units"), "{listed}");
}

#[test]
fn a_backfill_of_nothing_is_refused_and_makes_no_job() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    let first = days.at("2024-05-10", &["backfill", "days", "--from", "2024-05-01", "--to", "2024-05-07"]);
    assert!(first.status.success(), "{}", told_of(&first));
    let nothing = queue(&days, &[]);
    assert_eq!(nothing.status.code(), Some(2), "{}", told_of(&nothing));
    assert!(told_of(&nothing).contains("--reprocess all"), "{}", told_of(&nothing));
    assert_eq!(days.project.json(&["backfill", "list"]), Value::Array(Vec::new()));
    let all = queue(&days, &["--reprocess", "all"]);
    assert!(all.status.success(), "{}", told_of(&all));
}
