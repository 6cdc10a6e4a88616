//! Leases: who has lost one hears so, the jobs of the dead come back, a clock that jumps breaks nothing.

use haul::model::job::{Beat, Class, JobEnd, JobState, NewJob, Settled};

use super::{LEASE, at, claimed, job, notes, rules, store, succeed};

#[tokio::test]
async fn who_has_lost_a_lease_can_neither_prolong_nor_settle_it_and_that_is_on_record() {
    let (_folder, state) = store().await;
    state.enqueue(&[job("p", "1", Class::Fresh)], at(0)).await.expect("queued");
    let rules = rules(&["p"], 1);
    let first = state.claim("one", &rules, at(0)).await.expect("a claim").expect("the job");
    assert!(state.job_started(first.id, first.generation, "p-1", at(0)).await.expect("its run"));
    assert_eq!(state.beat(first.id, first.generation, at(20), at(50)).await.expect("a beat"), Beat::Alive);
    assert_eq!(state.reap(at(49)).await.expect("nobody"), []);
    let back = state.reap(at(51)).await.expect("one");
    assert_eq!((back[0].state, back[0].deaths, back[0].attempts), (JobState::Queued, 1, 1));

    let second = state.claim("two", &rules, at(52)).await.expect("a claim").expect("the job again");
    assert!(second.generation > first.generation);
    assert_eq!(second.runs, ["p-1"], "the next attempt knows what to go on with");
    assert_eq!(state.beat(first.id, first.generation, at(53), at(90)).await.expect("a beat"), Beat::Lost);
    assert!(!state.job_started(first.id, first.generation, "p-2", at(53)).await.expect("no run"));
    assert!(!succeed(&state, &first, at(53)).await, "the first has nothing to say any more");
    assert!(succeed(&state, &second, at(54)).await);
    assert!(!succeed(&state, &second, at(55)).await, "a job ends once");
    let job = state.job(first.id).await.expect("a look").expect("the job");
    assert_eq!((job.outcome, job.owner.as_deref()), (Some(JobEnd::Succeeded), Some("two")));
    let notes = notes(&state, job.id).await;
    assert!(notes.contains("one gave no word until its lease ended"), "{notes}");
    assert!(notes.contains("1: a holder whose lease had ended came back and settled as succeeded: refused"), "{notes}");
}

#[tokio::test]
async fn a_job_whose_processes_die_five_times_is_not_begun_again() {
    let (_folder, state) = store().await;
    state.enqueue(&[job("p", "1", Class::Fresh)], at(0)).await.expect("queued");
    let rules = rules(&["p"], 1);
    for death in 0..5 {
        let now = death * 100;
        let job = claimed(&state, &rules, at(now)).await.expect("it waits again");
        assert_eq!(i64::from(job.deaths), death);
        assert_eq!(state.reap(at(now + 31)).await.expect("taken").len(), 1);
    }
    assert_eq!(claimed(&state, &rules, at(900)).await, None);
    let ended = state.jobs(&haul::model::job::JobFilter::default()).await.expect("jobs");
    assert_eq!((ended[0].state, ended[0].outcome), (JobState::Done, Some(JobEnd::Failed)));
    assert!(ended[0].reason.as_deref().is_some_and(|why| why.contains("its process died 5 times")), "{ended:?}");
}

#[tokio::test]
async fn what_fails_in_passing_waits_and_counts_what_is_given_back_does_not() {
    let (_folder, state) = store().await;
    state.enqueue(&[job("p", "1", Class::Fresh)], at(0)).await.expect("queued");
    let rules = rules(&["p"], 1);
    let first = claimed(&state, &rules, at(0)).await.expect("the job");
    let again = Settled::Again { not_before: at(60), reason: "the API is down".to_owned() };
    assert!(state.settle(first.id, first.generation, again, at(1)).await.expect("settled"));
    assert_eq!(claimed(&state, &rules, at(59)).await, None, "not yet");
    let second = claimed(&state, &rules, at(60)).await.expect("now");
    assert_eq!((second.attempts, second.reason.as_deref()), (2, Some("the API is down")));
    let back = Settled::Back { reason: "the process ends".to_owned() };
    assert!(state.settle(second.id, second.generation, back, at(61)).await.expect("settled"));
    let third = claimed(&state, &rules, at(61)).await.expect("at once");
    assert_eq!((third.attempts, third.generation), (2, 3));
    let notes = notes(&state, third.id).await;
    assert_eq!(notes, "1: the API is down\n2: the process ends");
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once_and_one_under_way_hears_of_it() {
    let (_folder, state) = store().await;
    let queued =
        state.enqueue(&[job("p", "1", Class::Fresh), job("p", "2", Class::Fresh)], at(0)).await.expect("queued");
    let rules = rules(&["p"], 1);
    let first = claimed(&state, &rules, at(0)).await.expect("the first");
    let second = state.ask_to_cancel(queued[1].id, "somebody", at(1)).await.expect("asked").expect("it is there");
    assert_eq!((second.state, second.outcome), (JobState::Done, Some(JobEnd::Cancelled)));
    assert_eq!(second.reason.as_deref(), Some("cancelled by somebody"));

    let asked = state.ask_to_cancel(first.id, "somebody", at(1)).await.expect("asked").expect("it is there");
    assert!(asked.cancel_asked && asked.state == JobState::Leased);
    assert_eq!(state.beat(first.id, first.generation, at(2), at(32)).await.expect("a beat"), Beat::CancelAsked);
    // Whatever its holder says now, it does not come back.
    let again = Settled::Again { not_before: at(3), reason: "a fault on the way".to_owned() };
    assert!(state.settle(first.id, first.generation, again, at(3)).await.expect("settled"));
    assert_eq!(claimed(&state, &rules, at(99)).await, None);
    assert_eq!(state.ask_to_cancel(99, "somebody", at(4)).await.expect("asked"), None);
}

#[tokio::test]
async fn one_that_dies_after_somebody_asked_to_cancel_it_ends_as_cancelled() {
    let (_folder, state) = store().await;
    state.enqueue(&[job("p", "1", Class::Fresh)], at(0)).await.expect("queued");
    let taken = claimed(&state, &rules(&["p"], 1), at(0)).await.expect("the job");
    state.ask_to_cancel(taken.id, "somebody", at(1)).await.expect("asked");
    let reaped = state.reap(at(31)).await.expect("taken");
    assert_eq!(reaped[0].outcome, Some(JobEnd::Cancelled));
}

#[tokio::test]
async fn a_piece_of_a_backfill_gives_way_to_a_fresh_day_of_its_pipeline() {
    let (_folder, state) = store().await;
    state.enqueue(&[job("p", "old", Class::Backfill)], at(0)).await.expect("queued");
    let rules = rules(&["p", "q"], 4);
    let piece = claimed(&state, &rules, at(0)).await.expect("the piece");
    let later = NewJob { not_before: at(50), ..job("p", "new", Class::Fresh) };
    state.enqueue(&[job("q", "new", Class::Fresh), later], at(1)).await.expect("queued");
    let beat = |second| state.beat(piece.id, piece.generation, at(second), at(second + 30));
    assert_eq!(beat(10).await.expect("a beat"), Beat::Alive, "another pipeline's day does not concern it");
    assert_eq!(beat(50).await.expect("a beat"), Beat::GiveWay);
    let back = Settled::Back { reason: "gave way".to_owned() };
    assert!(state.settle(piece.id, piece.generation, back, at(51)).await.expect("settled"));
    let mut order = Vec::new();
    while let Some(job) = claimed(&state, &rules, at(52)).await {
        order.push(job.key);
    }
    assert_eq!(order, ["new", "new"], "and then the piece waits for its pipeline");
}

#[tokio::test]
async fn a_clock_that_is_put_forward_takes_leases_early_and_the_work_ends_once() {
    let (_folder, state) = store().await;
    state.enqueue(&[job("p", "1", Class::Fresh)], at(0)).await.expect("queued");
    let rules = rules(&["p"], 1);
    let first = state.claim("one", &rules, at(0)).await.expect("a claim").expect("the job");
    assert_eq!(state.reap(at(3600)).await.expect("an hour at once").len(), 1);
    let second = state.claim("two", &rules, at(3600)).await.expect("a claim").expect("the job");
    assert_eq!(state.beat(first.id, first.generation, at(3601), at(3631)).await.expect("a beat"), Beat::Lost);
    assert!(succeed(&state, &second, at(3602)).await);
    assert!(!succeed(&state, &first, at(3602)).await);
}

#[tokio::test]
async fn a_clock_that_is_put_back_leaves_no_job_with_the_dead_and_none_in_a_pause_for_longer_than_it_was_meant_to_be() {
    let (_folder, state) = store().await;
    state.enqueue(&[job("p", "1", Class::Fresh), job("q", "1", Class::Fresh)], at(100_000)).await.expect("queued");
    let rules = rules(&["p", "q"], 2);
    let dead = claimed(&state, &rules, at(100_000)).await.expect("p");
    let paused = claimed(&state, &rules, at(100_000)).await.expect("q");
    let again = Settled::Again { not_before: at(100_060), reason: "down".to_owned() };
    assert!(state.settle(paused.id, paused.generation, again, at(100_000)).await.expect("settled"));
    // A day back. The holder of the first says nothing any more.
    assert_eq!(state.reap(at(10_000)).await.expect("nobody yet"), []);
    assert_eq!(state.reap(at(10_029)).await.expect("nobody yet"), []);
    let back = state.reap(at(10_031)).await.expect("within one lease");
    assert_eq!(back.iter().map(|job| job.id).collect::<Vec<_>>(), [dead.id]);
    assert_eq!(claimed(&state, &rules, at(10_032)).await.expect("the dead one's").id, dead.id);
    assert_eq!(claimed(&state, &rules, at(10_059)).await, None);
    assert_eq!(claimed(&state, &rules, at(10_060)).await.expect("after its minute").id, paused.id);
}

#[tokio::test]
async fn a_store_that_another_process_writes_to_is_waited_for() {
    let (folder, state) = store().await;
    let file = folder.path().join("state.db");
    let other = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.expect("the file");
    let writing = other.begin_with("BEGIN IMMEDIATE").await.expect("the right to write");
    let waiting = tokio::spawn({
        let state = state.clone();
        async move { state.enqueue(&[job("p", "1", Class::Fresh)], at(0)).await }
    });
    tokio::time::sleep(LEASE / 100).await;
    assert!(!waiting.is_finished(), "it waits");
    writing.rollback().await.expect("let go");
    assert!(waiting.await.expect("no panic").expect("queued")[0].new);
}
