//! Lists in pages: nothing is left out and nothing comes twice, also while rows are added.

use chrono::{DurationRound as _, TimeDelta};
use haul::model::incident::Finding;
use haul::model::job::{Class, NewBackfill, NewJob, OccurrenceEnd, Planned};
use haul::model::notify::Topic;
use haul::model::run::Trigger;
use haul::state::{FactsAsk, Judged, State};
use haul::time::Instant;
use serde_json::Value;

use super::project;
use crate::support::steward::Serving;

/// So many rows are there at first; in two pages more than two.
const ROWS: i64 = 5;

/// A moment of yesterday, which the daemon does not let go of, and so many minutes after it.
fn at(minutes: i64) -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the daemon lets go of what is old by the machine's clock")]
    let now = chrono::Utc::now();
    now.duration_trunc(TimeDelta::days(1)).expect("a day") - TimeDelta::days(1) + TimeDelta::minutes(minutes)
}

/// Adds a row to every list, all of a pipeline that the project does not have; nobody works on it.
async fn add(state: &State, number: i64) {
    let job = |key: &str| NewJob::new("other", &format!("{key}{number}"), "{}", Class::Fresh, at(number));
    state.enqueue(&[job("job")], at(number)).await.expect("a job");
    let planned = Planned { units: 1, tasks: 1, requests: None, bytes: None };
    let (from, to) = ("2024-01-01".to_owned(), "2024-01-02".to_owned());
    let (ask, by) = ("{}".to_owned(), "me".to_owned());
    let backfill = NewBackfill { pipeline: "other".to_owned(), from, to, ask, newest_first: true, planned, by };
    state.create_backfill(&backfill, &[job("piece")], at(number)).await.expect("a backfill");
    // Two pipelines have the same instant.
    for pipeline in ["one", "two"] {
        let end = OccurrenceEnd {
            pipeline: pipeline.to_owned(),
            at: at(number),
            logical_date: "2024-01-01".to_owned(),
            end: "skipped".to_owned(),
            reason: None,
            job: None,
            run: None,
        };
        state.note(pipeline, &[end], at(number), at(number)).await.expect("an occurrence");
    }
    state.begin_run("other", "2024-01-01", Trigger::Manual, at(number)).await.expect("a run");
    let finding = Finding {
        key: format!("failure:t{number}"),
        topic: Topic::Failure,
        pipeline: None,
        subject: format!("t{number}"),
        units: Vec::new(),
        reason: "why".to_owned(),
        causes: Vec::new(),
        evidence: at(number),
    };
    let opened = vec![(finding, Vec::new())];
    let judged = |_| Ok(Judged { opened, ..Judged::default() });
    state.judge(&FactsAsk::default(), at(number), judged).await.expect("an incident");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_leave_nothing_out_and_repeat_nothing_while_rows_are_added() {
    let project = project();
    let state = State::open(&project.path().join(".haul")).await.expect("the store");
    for number in 0..ROWS {
        add(&state, number).await;
    }
    let serving = Serving::start(&project);
    let items = |page: &Value| page["items"].as_array().expect("items").clone();
    for (added, (path, each)) in (0..).zip([
        ("jobs?pipeline=other&state=queued", 2),
        ("backfills?pipeline=other", 1),
        ("occurrences?since=2020-01-01T00:00:00Z", 2),
        ("runs?pipeline=other", 1),
        ("incidents?all=true", 1),
        ("incidents?all=false", 1),
    ]) {
        let path = format!("/api/v1/{path}");
        let whole = serving.get(&format!("{path}&limit=1000"));
        let before = items(&whole);
        assert_eq!(i64::try_from(before.len()), Ok(each * (ROWS + added)), "{path}: {whole}");
        assert!(whole["next"].is_null(), "{path}: {whole}");
        let mut paged = Vec::new();
        let mut page = serving.get(&format!("{path}&limit=2"));
        // What is new belongs before the first page, which was given already.
        add(&state, ROWS + added).await;
        loop {
            let of_page = items(&page);
            assert!(!of_page.is_empty() && of_page.len() <= 2, "{path}: {page}");
            paged.extend(of_page);
            let Some(next) = page["next"].as_str() else { break };
            page = serving.get(&format!("{path}&limit=2&after={next}"));
        }
        assert_eq!(paged, before, "{path}");
        assert!(
            items(&serving.get(&path)).len() > before.len(),
            "{path}: the new row is there for whoever begins again"
        );
    }
    for path in ["jobs", "backfills", "occurrences", "runs", "incidents"] {
        let reply = serving.ask("GET", &format!("/api/v1/{path}?after=nonsense"), "");
        assert_eq!(reply.status, 400, "{path}: {}", reply.body);
        assert!(reply.body.contains("`after` is not what a page said"), "{path}: {}", reply.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_where_it_leaves_older_rows_out() {
    let project = project();
    let state = State::open(&project.path().join(".haul")).await.expect("the store");
    for number in 0..3 {
        add(&state, number).await;
    }
    for (command, all) in [
        (vec!["queue"], 6),
        (vec!["queue", "--all"], 6),
        (vec!["occurrences"], 6),
        (vec!["runs"], 3),
        (vec!["incidents", "--all"], 3),
        (vec!["backfill", "list"], 3),
    ] {
        for (limit, shown) in [("2", 2), ("100", all)] {
            let arguments: Vec<&str> = command.iter().copied().chain(["--limit", limit]).collect();
            let listed = project.json(&arguments);
            assert_eq!(listed.as_array().map(Vec::len), Some(shown), "{arguments:?}: {listed}");
            let told = String::from_utf8(project.output(&arguments).stderr).expect("UTF-8");
            assert_eq!(told.contains("older ones are left out"), shown < all, "{arguments:?}: {told}");
        }
    }
}
