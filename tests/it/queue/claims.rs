//! Which job is next: classes in their order with a floor, priorities, one run of a pipeline at a time.

use std::collections::BTreeMap;

use haul::model::job::{Class, Enqueued, Lane, NewJob};

use super::{at, claimed, job, rules, store, succeed, unfinished};

#[tokio::test]
async fn the_same_work_asked_for_by_several_is_one_job_of_the_most_urgent_class() {
    let (_folder, state) = store().await;
    let backfill = NewJob { not_before: at(500), ..job("p", "2024-05-01", Class::Backfill) };
    let first = state.enqueue(&[backfill], at(0)).await.expect("queued");
    let again = [job("p", "2024-05-01", Class::Fresh), job("p", "2024-05-01", Class::Repull)];
    let again = state.enqueue(&again, at(1)).await.expect("queued");
    assert_eq!(again, vec![Enqueued { id: first[0].id, new: false }; 2]);
    let other = state.enqueue(&[job("q", "2024-05-01", Class::Fresh)], at(1)).await.expect("queued");
    assert!(other[0].new, "another pipeline's day is other work");

    let taken = claimed(&state, &rules(&["p"], 4), at(2)).await.expect("it may begin now");
    assert_eq!((taken.id, taken.class), (first[0].id, Class::Fresh));
    let meanwhile = state.enqueue(&[job("p", "2024-05-01", Class::Fresh)], at(3)).await.expect("queued");
    assert_eq!(meanwhile[0], Enqueued { id: taken.id, new: false }, "it is under way");
    assert!(succeed(&state, &taken, at(4)).await);
    let later = state.enqueue(&[job("p", "2024-05-01", Class::Fresh)], at(5)).await.expect("queued");
    assert!(later[0].new, "what has ended may be asked for again");
}

#[tokio::test]
async fn the_most_urgent_comes_first_then_the_higher_priority_then_the_older() {
    let (_folder, state) = store().await;
    let names = ["a", "b", "c", "d", "e", "f"];
    let jobs = [
        job("a", "1", Class::Backfill),
        job("b", "1", Class::Repull),
        job("c", "1", Class::Fresh),
        NewJob { priority: 5, ..job("d", "1", Class::Fresh) },
        job("e", "1", Class::Fresh),
        NewJob { not_before: at(100), priority: 9, ..job("f", "1", Class::Fresh) },
    ];
    state.enqueue(&jobs, at(0)).await.expect("queued");
    let rules = rules(&names, 20);
    let mut order = String::new();
    while let Some(job) = claimed(&state, &rules, at(1)).await {
        order += &job.pipeline;
    }
    assert_eq!(order, "dceba", "f may not begin yet");
    assert_eq!(claimed(&state, &rules, at(100)).await.expect("its time has come").pipeline, "f");
}

#[tokio::test]
async fn a_pipeline_has_as_many_runs_at_once_as_its_lane_and_an_unknown_one_is_left_alone() {
    let (_folder, state) = store().await;
    let jobs: Vec<_> = ["1", "2", "3"].iter().map(|key| job("p", key, Class::Fresh)).collect();
    state.enqueue(&jobs, at(0)).await.expect("queued");
    state.enqueue(&[job("gone", "1", Class::Fresh), job("q", "1", Class::Repull)], at(0)).await.expect("queued");
    let mut rules = rules(&["p", "q"], 9);
    let first = claimed(&state, &rules, at(1)).await.expect("the first");
    assert_eq!(first.key, "1");
    assert_eq!(claimed(&state, &rules, at(1)).await.expect("another pipeline's").pipeline, "q");
    assert_eq!(claimed(&state, &rules, at(1)).await, None, "one run of p, and `gone` is not ours");
    assert!(state.claim("other", &rules, at(1)).await.expect("a claim").is_none(), "whoever asks");

    rules.pipelines.insert("p".to_owned(), Lane { max_runs: 2 });
    assert_eq!(claimed(&state, &rules, at(2)).await.expect("a second run").key, "2");
    assert_eq!(claimed(&state, &rules, at(2)).await, None);
    assert!(succeed(&state, &first, at(3)).await);
    assert_eq!(claimed(&state, &rules, at(3)).await.expect("there is room again").key, "3");
}

#[tokio::test]
async fn a_backfill_leaves_one_worker_free_for_the_morning() {
    let (_folder, state) = store().await;
    let names: Vec<String> = (0..9).map(|n| format!("old{n}")).collect();
    let old: Vec<_> = names.iter().map(|name| job(name, "1", Class::Backfill)).collect();
    state.enqueue(&old, at(0)).await.expect("queued");
    let all: Vec<&str> = names.iter().map(String::as_str).chain(["morning"]).collect();
    let rules = rules(&all, 4);
    for _ in 0..3 {
        assert_eq!(claimed(&state, &rules, at(1)).await.expect("a piece").class, Class::Backfill);
    }
    assert_eq!(claimed(&state, &rules, at(1)).await, None, "the fourth worker stays free");
    state.enqueue(&[job("morning", "1", Class::Fresh)], at(2)).await.expect("queued");
    assert_eq!(claimed(&state, &rules, at(2)).await.expect("at once").pipeline, "morning");
}

#[tokio::test]
async fn a_single_worker_does_backfills_too_when_nothing_else_waits() {
    let (_folder, state) = store().await;
    state.enqueue(&[job("p", "old", Class::Backfill)], at(0)).await.expect("queued");
    let only = rules(&["p"], 1);
    assert_eq!(claimed(&state, &only, at(1)).await.expect("the piece").key, "old");
    assert_eq!(claimed(&state, &only, at(1)).await, None, "it has its hands full");
}

#[tokio::test]
async fn a_backfill_is_not_left_for_ever_where_all_other_workers_are_taken_for_long() {
    let (_folder, state) = store().await;
    state.enqueue(&[job("long", "1", Class::Fresh)], at(0)).await.expect("queued");
    let rules = rules(&["long", "p", "q"], 2);
    assert_eq!(claimed(&state, &rules, at(0)).await.expect("the long run").pipeline, "long");
    state.enqueue(&[job("p", "1", Class::Backfill), job("q", "1", Class::Backfill)], at(0)).await.expect("queued");
    assert_eq!(claimed(&state, &rules, at(60)).await, None, "the last free worker is kept for the morning");
    assert_eq!(claimed(&state, &rules, at(700)).await.expect("after ten minutes").pipeline, "p");
}

/// airflow#72730: a backfill waited for ever while enough other runs were active.
#[tokio::test]
async fn a_backfill_of_300_days_goes_on_while_25_pipelines_run_all_the_time_and_does_not_slow_them() {
    let (_folder, state) = store().await;
    let names: Vec<String> = (0..25).map(|n| format!("p{n}")).collect();
    let days: Vec<_> = (0..300).map(|day| job("old", &day.to_string(), Class::Backfill)).collect();
    state.enqueue(&days, at(0)).await.expect("queued");
    let all: Vec<&str> = names.iter().map(String::as_str).chain(["old"]).collect();
    let rules = rules(&all, 5);
    let mut under_way = std::collections::VecDeque::new();
    let (mut asked, mut claims): (BTreeMap<String, i64>, BTreeMap<Class, usize>) = (BTreeMap::new(), BTreeMap::new());
    let mut longest = 0;
    for second in 0..600_i64 {
        // Whatever has ended is asked for once more: there is never nothing to do.
        let idle: Vec<&String> = names.iter().filter(|name| !asked.contains_key(*name)).collect();
        let jobs: Vec<_> = idle.iter().map(|name| job(name, &second.to_string(), Class::Fresh)).collect();
        asked.extend(idle.iter().map(|name| ((*name).clone(), second)));
        state.enqueue(&jobs, at(second)).await.expect("queued");
        while let Some(job) = claimed(&state, &rules, at(second)).await {
            *claims.entry(job.class).or_default() += 1;
            if job.class == Class::Fresh {
                longest = longest.max(second - asked[&job.pipeline]);
            }
            under_way.push_back(job);
        }
        assert_eq!(under_way.len(), 5, "all workers work");
        assert!(
            under_way.iter().filter(|job| job.class == Class::Backfill).count() < 5,
            "a backfill has not all of them"
        );
        let job = under_way.pop_front().expect("one of them");
        assert!(succeed(&state, &job, at(second)).await);
        asked.remove(&job.pipeline);
    }
    let (fresh, old) = (claims[&Class::Fresh], claims[&Class::Backfill]);
    assert!(old * 11 >= fresh + old && old * 9 <= fresh + old, "one of ten claims: {old} beside {fresh}");
    assert!(longest <= 30, "25 pipelines and five workers wait for 20 seconds, and for {longest} with the backfill");
}

#[tokio::test]
async fn re_pulls_get_their_turn_beside_fresh_days_too() {
    let (_folder, state) = store().await;
    let names: Vec<String> = (0..30).map(|n| format!("p{n}")).collect();
    let mut jobs: Vec<_> = names.iter().map(|name| job(name, "new", Class::Fresh)).collect();
    jobs.push(job("again", "1", Class::Repull));
    state.enqueue(&jobs, at(0)).await.expect("queued");
    let all: Vec<&str> = names.iter().map(String::as_str).chain(["again"]).collect();
    let rules = rules(&all, 100);
    let mut place = 0;
    while let Some(job) = claimed(&state, &rules, at(1)).await {
        place += 1;
        if job.pipeline == "again" {
            break;
        }
    }
    assert_eq!(place, 10, "the tenth claim");
    assert_eq!(unfinished(&state).await.len(), 31);
}

#[tokio::test]
async fn a_job_of_a_paused_backfill_is_no_candidate_until_a_run_wants_it() {
    let (_folder, state) = store().await;
    let made = super::backfills::three_pieces(&state, "p").await;
    state.set_backfill(&made.id, haul::model::job::BackfillState::Paused, "me", at(1)).await.expect("paused");
    let rules = rules(&["p"], 4);
    assert_eq!(claimed(&state, &rules, at(1)).await, None);
    state.enqueue(&[job("p", "2", Class::Fresh)], at(2)).await.expect("queued");
    assert_eq!(claimed(&state, &rules, at(2)).await.expect("a person wants it").key, "2");
}
