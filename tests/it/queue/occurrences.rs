//! Occurrences of schedules: each has one end, and makes at most one job, whoever looks after it.

use haul::model::job::{Class, NewJob, OccurrenceEnd, Settled};

use super::{at, claimed, job, rules, store};

fn end(second: i64, end: &str) -> OccurrenceEnd {
    OccurrenceEnd {
        pipeline: String::new(),
        at: at(second),
        logical_date: "2023-11-14".to_owned(),
        end: end.to_owned(),
        reason: None,
        job: None,
        run: None,
    }
}

#[tokio::test]
async fn an_occurrence_that_two_processes_look_after_makes_one_job_and_has_one_end() {
    let (_folder, state) = store().await;
    let ends = [end(0, "coalesced"), end(60, "ran")];
    let made = [NewJob { scheduled_for: Some(at(60)), ..job("p", "day", Class::Fresh) }];
    let first = state.note_and_enqueue("p", &ends, at(60), &made, at(61)).await.expect("noted");
    assert!(first[0].expect("a job").new);
    let taken = claimed(&state, &rules(&["p"], 1), at(61)).await.expect("the job");
    assert!(state.job_started(taken.id, taken.generation, "p-1", at(61)).await.expect("its run"));
    let done = Settled::Done { end: haul::model::job::JobEnd::Succeeded, reason: None, run: Some("p-1".to_owned()) };
    assert!(state.settle(taken.id, taken.generation, done, at(62)).await.expect("settled"));

    // The second process has looked at the same time, and writes later.
    let second = state.note_and_enqueue("p", &[end(60, "skipped")], at(60), &made, at(63)).await.expect("noted");
    assert_eq!(second, [None]);
    assert_eq!(claimed(&state, &rules(&["p"], 1), at(64)).await, None);
    let seen = state.occurrences(Some("p"), at(0), 10).await.expect("occurrences");
    let seen: Vec<_> = seen.iter().map(|one| (one.at, one.end.as_str(), one.run.as_deref())).collect();
    assert_eq!(seen, [(at(60), "ran", Some("p-1")), (at(0), "coalesced", None)]);
    assert_eq!(state.cursor("p").await.expect("a look"), Some(at(60)));
    assert_eq!(state.cursor("q").await.expect("a look"), None);
}

#[tokio::test]
async fn a_pause_is_there_until_somebody_resumes() {
    let (_folder, state) = store().await;
    state.pause("p", "anna", Some("the source moves"), at(0)).await.expect("paused");
    let paused = state.paused().await.expect("a look");
    assert_eq!((paused["p"].by.as_str(), paused["p"].reason.as_deref()), ("anna", Some("the source moves")));
    assert!(state.resume("p").await.expect("resumed"));
    assert!(!state.resume("p").await.expect("resumed"), "it was not paused any more");
}
