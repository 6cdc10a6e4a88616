//! A collector that is gone, slow, or does not want any: spans are lost and counted, and no run is.

use super::*;
use crate::support::collector::{Collector, Reply};
use crate::support::doors::{Ran, nobody};

/// Runs the command of the pipeline, which makes two spans, and sends them to this address.
fn run(url: &str) -> String {
    let (_api, project) = project(&format!("traces = {{ endpoint = \"{url}\" }}"));
    Ran::of(&mut project.haul(&["run", "p", "--date", DATE, "--select", "tell"])).well().told()
}

#[test]
fn a_run_ends_well_where_nobody_collects_and_says_what_was_lost() {
    let url = format!("http://127.0.0.1:{}", nobody());
    let told = run(&url);
    assert!(told.contains(&format!("traces are lost: {url} cannot be reached")), "{told}");
    assert!(told.contains("the runs go on") && told.contains("2 spans of traces were lost"), "{told}");
}

#[test]
fn a_collector_that_never_answers_keeps_no_run_from_its_end() {
    let collector = Collector::that(|_| Reply::Silence);
    let told = run(&collector.url);
    assert!(!collector.batches().is_empty());
    assert!(told.contains("2 spans of traces were lost"), "{told}");
}

#[test]
fn a_collector_that_is_busy_is_asked_again_with_the_same_spans() {
    let collector = Collector::that(|number| if number == 0 { Reply::Status(503) } else { Reply::Taken });
    let told = run(&collector.url);
    assert!(!told.contains("lost"), "{told}");
    let batches = collector.batches();
    assert_eq!(batches[0].body, batches[1].body);
}

#[test]
fn what_a_collector_does_not_want_is_not_sent_again() {
    let refused = Collector::that(|_| Reply::Status(401));
    let told = run(&refused.url);
    assert!(told.contains("answers 401 Unauthorized") && told.contains("2 spans of traces were lost"), "{told}");
    assert_eq!(refused.spans().len(), 2, "each span was sent once");

    let partly = Collector::that(|_| Reply::But(1));
    let told = run(&partly.url);
    assert!(told.contains("takes only a part: too many"), "{told}");
    assert_eq!(partly.spans().len(), 2, "each span was sent once");
}

#[test]
fn headers_that_cannot_be_found_keep_no_run_from_its_work() {
    let collector = Collector::start();
    let (_api, project) = project(&format!(
        "traces = {{ endpoint = \"{}\", headers = {{ x-key = {{ env = \"NO_SUCH_KEY\" }} }} }}",
        collector.url
    ));
    let told = Ran::of(&mut project.haul(&["run", "p", "--date", DATE, "--select", "tell"])).well().told();
    assert!(told.contains("no traces are sent: reading `serve.traces.headers.x-key`"), "{told}");
    assert!(collector.batches().is_empty());
}
