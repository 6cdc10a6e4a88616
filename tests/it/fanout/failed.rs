//! Requests that fail for good: recorded, left out or waited for, and sent once more by `haul retry`.

use serde_json::json;

use super::{RETRY, column, number, project};
use crate::support::fan_api::{FanApi, Manner};
use crate::support::project::{Project, told};

const STEP: &str = "for_each = { values = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] }\nrequest = { path = \"/v/{{ item }}\" }\nadd = { id = \"{{ item }}\" }";

fn refusing(paths: &[(&str, u16)]) -> Manner {
    Manner { refused: paths.iter().map(|(path, status)| ((*path).to_owned(), *status)).collect(), ..Manner::default() }
}

fn status(project: &Project) -> serde_json::Value {
    project.json(&["status"])[0].clone()
}

#[test]
fn one_request_that_fails_keeps_the_unit_back_and_a_retry_sends_just_that() {
    let api = FanApi::start(refusing(&[("/v/3", 404), ("/v/7", 403), ("/v/9", 503)]));
    let project = project(&api, "", "", &format!("{STEP}\n{RETRY}"));
    let output = project.output(&["run", "fan"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let says = told(&output);
    assert!(says.contains("3 of 12 requests failed: 1 × 404"), "{says}");
    assert!(says.contains("`haul retry fan stats` sends just those"), "{says}");
    assert_eq!(api.answers(), 9, "the others went on");
    assert_eq!(status(&project)["state"], "failed");

    let listed = project.json(&["retry", "fan", "--list"]);
    let failed = listed[0]["failed"].as_array().expect("a list");
    let told_of: Vec<_> = failed.iter().map(|failed| (failed["item"].clone(), failed["status"].clone())).collect();
    assert_eq!(told_of, [(json!("3"), json!(404)), (json!("7"), json!(403)), (json!("9"), json!(503))]);
    assert!(failed[0]["request"].as_str().is_some_and(|line| line.ends_with("/v/3")), "{listed}");

    // One of them comes: the unit waits for the others.
    api.behave(|manner| manner.refused.retain(|path, _| path != "/v/3"));
    let output = project.output(&["retry", "fan", "stats"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("2 of 12 requests failed"), "{}", told(&output));
    assert_eq!(api.answers(), 10);

    api.behave(|manner| manner.refused.clear());
    project.stdout(&["retry", "fan"]);
    assert_eq!((api.answers(), api.twice()), (12, 0), "nothing that was answered is asked for again");
    assert_eq!(number(&project, "select count(distinct id) from raw.stats"), 12);
    assert_eq!(number(&project, "select count(*) from raw.stats"), 12);
    assert_eq!(status(&project)["state"], "loaded");
    let output = project.output(&["retry", "fan"]);
    assert_eq!(output.status.code(), Some(2), "nothing is left to send: {}", told(&output));
}

#[test]
fn the_next_run_goes_on_with_what_is_missing_as_well() {
    let api = FanApi::start(refusing(&[("/v/3", 404)]));
    let project = project(&api, "", "", &format!("{STEP}\n{RETRY}"));
    assert!(!project.output(&["run", "fan"]).status.success());
    api.behave(|manner| manner.refused.clear());
    project.stdout(&["run", "fan"]);
    assert_eq!((api.answers(), api.twice()), (12, 0));
    assert_eq!(number(&project, "select count(*) from raw.stats"), 12);
}

#[test]
fn a_unit_may_be_loaded_without_a_few_and_is_completed_later() {
    for allowed in ["2", "\"20%\""] {
        let api = FanApi::start(refusing(&[("/v/3", 404), ("/v/5", 410)]));
        let project = project(&api, "", "", &format!("{STEP}\n{RETRY}\nmax_failed = {allowed}"));
        let output = project.output(&["run", "fan"]);
        assert!(output.status.success(), "{}", told(&output));
        let missing = "2 of 12 requests failed and are left out: 1 × 404";
        assert!(told(&output).contains(missing), "{}", told(&output));
        assert_eq!(number(&project, "select count(*) from raw.stats"), 10);
        let unit = status(&project);
        assert_eq!(unit["state"], "loaded");
        assert!(unit["reason"].as_str().is_some_and(|reason| reason.starts_with("2 of 12 requests failed")), "{unit}");
        let screen = project.stdout(&["status"]);
        assert!(screen.contains("raw.stats is incomplete: 2 of 12 requests failed"), "{screen}");
        let runs = project.stdout(&["runs"]);
        assert!(runs.contains("1 (1 incomplete)"), "{runs}");
        assert_eq!(project.json(&["runs"])[0]["counts"]["incomplete"], 1);

        api.behave(|manner| manner.refused.clear());
        project.stdout(&["retry", "fan"]);
        assert_eq!((api.answers(), api.twice()), (12, 0));
        assert_eq!(number(&project, "select count(*) from raw.stats"), 12);
        assert_eq!(status(&project)["reason"], json!(null));
    }
    let api = FanApi::start(refusing(&[("/v/3", 404), ("/v/5", 410)]));
    let project = project(&api, "", "", &format!("{STEP}\n{RETRY}\nmax_failed = 1"));
    assert!(!project.output(&["run", "fan"]).status.success(), "one more than is allowed");
}

#[test]
fn a_complete_pull_forgets_the_incomplete_one() {
    let api = FanApi::start(refusing(&[("/v/3", 404)]));
    let project = project(&api, "", "", &format!("{STEP}\n{RETRY}\nmax_failed = 1"));
    project.stdout(&["run", "fan"]);
    api.behave(|manner| manner.refused.clear());
    project.stdout(&["run", "fan"]);
    assert_eq!(api.answers(), 11 + 12, "a new pull asks for everything");
    assert_eq!(status(&project)["reason"], json!(null));
    assert!(!project.path().join(".haul/stage/fan.stats/all").exists());
    assert_eq!(project.output(&["retry", "fan"]).status.code(), Some(2));
}

#[test]
fn requests_of_many_days_are_retried_together_and_the_days_come_right() {
    let api = FanApi::start(refusing(&[("/2024-05-01/b", 404), ("/2024-05-03/a", 500)]));
    let head = "[window]\ngrain = \"day\"\nlookback = 3\n";
    let step = "for_each = { values = [\"a\", \"b\"] }\nrequest = { path = \"/{{ ds }}/{{ item }}\" }";
    let project = project(&api, "", head, &format!("{step}\n{RETRY}"));
    assert!(!project.output(&["run", "fan", "--date", "2024-05-04"]).status.success());
    assert_eq!(column(&project, "select path from raw.stats order by 1"), ["/2024-05-02/a", "/2024-05-02/b"]);
    api.behave(|manner| manner.refused.clear());
    let output = project.output(&["retry", "fan"]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!((api.answers(), api.twice()), (6, 0));
    assert_eq!(number(&project, "select count(*) from raw.stats where strpos(path, _haul_unit::varchar) = 2"), 6);
}

#[test]
fn a_step_stops_where_asking_on_is_of_no_use() {
    let many: Vec<String> = (1..=500).map(|n| n.to_string()).collect();
    let step = format!(
        "for_each = {{ values = [{}] }}\nrequest = {{ path = \"/v/{{{{ item }}}}\" }}\n{RETRY}",
        many.join(", ")
    );
    for (status, says) in [(404, "10 requests that were sent all failed for one reason"), (401, "401")] {
        let api = FanApi::start(Manner { always: Some(status), ..Manner::default() });
        let head = "[window]\ngrain = \"day\"\nlookback = 10\n";
        let project = project(&api, "max_concurrent = 4", head, &step.replace("item }}", "item }}/{{ ds }}"));
        let output = project.output(&["run", "fan", "--date", "2024-05-04"]);
        assert!(told(&output).contains(says), "{}", told(&output));
        let asked = api.arrivals().len();
        assert!(asked < 300, "5,000 requests would have failed, {asked} were sent");
        // It is not broken for ever.
        api.behave(|manner| manner.always = None);
        project.stdout(&["run", "fan", "--date", "2024-05-04", "--select", "stats"]);
        assert_eq!(number(&project, "select count(*) from raw.stats"), 5_000);
    }
}

#[test]
fn one_answer_that_does_not_fit_is_its_requests_failure_alone() {
    let api = FanApi::start(Manner::default());
    let head = "[window]\ngrain = \"day\"\nlookback = 1\n";
    let step = "for_each = { values = [\"2024-05-03\", \"2024-05-09\", \"2024-05-03T12:00:00\"] }\nrequest = { path = \"/v/{{ item }}/{{ ds }}\" }\n\
                add = { day = \"{{ item }}\" }\ntime_column = \"day\"\nmax_failed = 1";
    let project = project(&api, "", head, step);
    let output = project.output(&["run", "fan", "--date", "2024-05-04"]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(told(&output).contains("1 of 3 requests failed and are left out: 1 × data"), "{}", told(&output));
    assert_eq!(number(&project, "select count(*) from raw.stats"), 2);
    assert!(project.stdout(&["retry", "fan", "--list"]).contains("outside of"));
}

#[test]
fn pages_of_one_request_go_on_behind_the_last_durable_one() {
    let pages = |count: u64| (0..6).map(|n| (format!("/v/{n}"), count)).collect();
    let api = FanApi::start(Manner { pages: pages(3), refused: refusing(&[]).refused, ..Manner::default() });
    let step = "for_each = { values = [0, 1, 2, 3, 4, 5] }\nrequest = { path = \"/v/{{ item }}\" }\n\
                paginate = { by = \"page\", size = 2, size_param = \"size\" }\nadd = { id = \"{{ item }}\" }";
    let project = project(&api, "", "", &format!("{step}\n{RETRY}"));
    project.stdout(&["run", "fan"]);
    assert_eq!(number(&project, "select count(*) from raw.stats"), 6 * 5);
    assert_eq!(number(&project, "select count(distinct (id, page, n)) from raw.stats"), 6 * 5);
    assert_eq!(api.answers(), 18);

    // Stopped in the middle, it goes on where it was.
    api.forget();
    api.behave(|manner| manner.stalls_after = Some(18 + 10));
    let mut child = project.haul(&["run", "fan", "--force"]).spawn().expect("haul starts");
    while api.arrivals().len() < 10 + 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().expect("a kill");
    child.wait().expect("an end");
    api.behave(|manner| manner.stalls_after = None);
    project.stdout(&["run", "fan"]);
    assert!(api.twice() <= 6, "pages that were durable are not asked for again: {:?}", api.answered());
    assert_eq!(api.answers(), 18 + api.twice());
    assert_eq!(number(&project, "select count(distinct (id, page, n)) from raw.stats"), 6 * 5);
    assert_eq!(number(&project, "select count(*) from raw.stats"), 6 * 5);
}

#[test]
fn what_no_status_tells_is_told_by_its_reason() {
    let api = FanApi::start(Manner::default());
    // The rows have an `id` of their own.
    let step =
        "for_each = { values = [1, 2] }\nrequest = { path = \"/v/{{ item }}\" }\nadd = { path = \"{{ item }}\" }";
    let project = project(&api, "", "", &format!("{step}\n{RETRY}"));
    let says = told(&project.output(&["run", "fan"]));
    assert!(says.contains("2 of 2 requests failed: 2 × source, first GET"), "{says}");
    assert!(says.contains("`path`"), "the member that is there twice is named: {says}");
}
