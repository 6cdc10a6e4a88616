//! How hard a fan-out presses: its own limits, those of the connection, and what it does when the server asks for less.

use std::time::Duration;

use super::{RETRY, number, project};
use crate::support::fan_api::{FanApi, Manner};
use crate::support::project::told;

fn values(count: usize) -> String {
    let values: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    format!("for_each = {{ values = [{}] }}\nrequest = {{ path = \"/v/{{{{ item }}}}\" }}", values.join(", "))
}

#[test]
fn a_step_never_has_more_under_way_than_it_says() {
    let api = FanApi::start(Manner { latency: Duration::from_millis(5), ..Manner::default() });
    let step = format!("{}\nlimits = {{ max_concurrent_dispatches = 3 }}", values(40));
    let head = "[window]\ngrain = \"day\"\nlookback = 3\n";
    let project = project(&api, "max_concurrent = 16", head, &step.replace("item }}", "item }}/{{ ds }}"));
    project.stdout(&["run", "fan", "--date", "2024-05-04"]);
    assert_eq!(api.answers(), 120);
    assert_eq!(api.most_in_flight(), 3, "also over several tasks");
}

#[test]
fn a_connection_is_kept_full_over_several_tasks_and_never_overfull() {
    let api = FanApi::start(Manner { latency: Duration::from_millis(20), ..Manner::default() });
    let head = "[window]\ngrain = \"day\"\nlookback = 20\n";
    let step = values(5).replace("item }}", "item }}/{{ ds }}");
    let project = project(&api, "max_concurrent = 12", head, &step);
    project.stdout(&["run", "fan", "--date", "2024-05-30"]);
    assert_eq!(api.answers(), 100);
    assert_eq!(api.most_in_flight(), 12, "tasks of five requests overlap");
}

#[test]
fn a_step_sends_no_more_a_second_than_it_says() {
    let api = FanApi::start(Manner::default());
    let step = format!("{}\nlimits = {{ max_dispatches_per_second = 50 }}", values(60));
    let project = project(&api, "max_concurrent = 16", "", &step);
    project.stdout(&["run", "fan"]);
    let arrivals = api.arrivals();
    assert_eq!(arrivals.len(), 60);
    for half in arrivals.windows(36) {
        // 35 steps of 20 ms are 700 ms; a scheduler may bunch a few.
        let took = half[35] - half[0];
        assert!(took > Duration::from_millis(500), "36 requests came within {took:?}");
    }
}

#[test]
fn one_retry_after_holds_for_everybody_and_costs_no_attempt() {
    let api = FanApi::start(Manner { latency: Duration::from_millis(2), most_a_second: 60, ..Manner::default() });
    // Two attempts would be used up at once, if waiting when asked to were one.
    let step = format!("{}\nretry = {{ max_attempts = 2, min_backoff = \"1ms\", max_backoff = \"2ms\" }}", values(200));
    let project = project(&api, "max_concurrent = 16", "", &step);
    let output = project.output(&["run", "fan"]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!((api.answers(), api.twice()), (200, 0));
    assert!(told(&output).contains("`api` refuses requests:"), "{}", told(&output));
    let (_, refusals) = api.refusals();
    // Each time only those that were under way already are refused.
    let arrivals = api.arrivals();
    let pauses = arrivals.windows(2).filter(|pair| pair[1] - pair[0] > Duration::from_millis(700)).count();
    assert!(pauses >= 1, "nobody was quiet");
    assert!(refusals <= 16 * (pauses as u64 + 1), "{refusals} refusals in {pauses} pauses");
}

#[test]
fn sixty_four_requests_whose_token_dies_renew_it_once() {
    let api = FanApi::start(Manner {
        latency: Duration::from_millis(40),
        token_life: Some(Duration::from_millis(800)),
        ..Manner::default()
    });
    let connection = format!(
        "max_concurrent = 64\nauth = {{ type = \"client_credentials\", token_url = \"{}/token\", client_id = \"me\", client_secret = \"s3cret-value\" }}",
        api.url
    );
    let project = project(&api, &connection, "", &format!("{}\n{RETRY}", values(3000)));
    project.stdout(&["run", "fan"]);
    assert_eq!((api.answers(), api.twice()), (3000, 0));
    assert_eq!(number(&project, "select count(*) from raw.stats"), 3000);
    let (unauthorized, _) = api.refusals();
    assert!(api.tokens() >= 2, "no token died");
    assert!(unauthorized >= 32, "{unauthorized} requests had the dead token");
    // Every token but the last was found dead by many requests, and renewed by one of them.
    let lives = api.arrivals();
    let took = lives[lives.len() - 1] - lives[0];
    let most = usize::try_from(took.as_millis() / 800).expect("a count") + 2;
    assert!(api.tokens() <= most, "{} tokens in {took:?}", api.tokens());
}

#[test]
fn every_fiftieth_503_slows_nobody_down() {
    let api = FanApi::start(Manner { out_of_order_every: 50, ..Manner::default() });
    // Which requests meet the 503 is chance, and one may meet it more than once: the attempts must outlast that.
    let retry = RETRY.replace("max_attempts = 3", "max_attempts = 12");
    let project = project(&api, "max_concurrent = 16", "", &format!("{}\n{retry}", values(1000)));
    let output = project.output(&["run", "fan"]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!((api.answers(), api.twice()), (1000, 0));
    assert!(!told(&output).contains("refuses requests"), "{}", told(&output));
}
