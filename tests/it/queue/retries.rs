//! Retries and ends in time: a step and a run that take too long fail, and the next attempt goes on with what is done.

use serde_json::Value;

use crate::support::mornings::Mornings;
use crate::support::project::told;
use crate::support::scripted::Scripted;

const THREE: &str = r#"
TOP

[window]
lookback = 3

[[extract]]
name = "items"
connection = "api"
request = { path = "/rows", params = { key = "{{ ds }}" } }
paginate = { by = "offset", limit = 4, total = "$.total" }
records = "$.rows[*]"
STEP

[[transform]]
name = "daily"
sql = "select day, count(*) as items from {{ ref('items') }} where _haul_unit = {{ ds | sql }} group by day"
"#;

fn mornings(api: &Scripted, top: &str, step: &str) -> Mornings {
    (1..=3).for_each(|day| api.put_day(&format!("2024-05-0{day}"), 6));
    Mornings::new(&api.url, &THREE.replace("TOP", top).replace("STEP", step))
}

fn reasons(days: &Mornings) -> Vec<String> {
    days.outcome().into_iter().map(|(task, ended)| format!("{task} {ended}")).collect()
}

#[test]
fn a_task_that_takes_longer_than_its_step_allows_fails_and_the_others_go_on() {
    let api = Scripted::start();
    let days = mornings(&api, "", "timeout = \"5s\"");
    api.close("2024-05-02", 4);
    days.run("2024-05-04", 1);
    let ended = reasons(&days);
    assert!(ended[1].starts_with("daily 2024-05-02 skipped"), "{ended:?}");
    assert!(ended[4].contains("`items` took longer than its timeout of 5s"), "{ended:?}");
    assert_eq!(days.that_are("loaded").len(), 4, "{ended:?}");
    api.open();
    api.asked();
    days.run("2024-05-04", 0);
    let asked = api.asked();
    assert!(!asked.contains(&"2024-05-02@0".to_owned()), "its first page was durable: {asked:?}");
}

#[test]
fn a_run_that_takes_longer_than_it_may_fails_and_says_so() {
    let api = Scripted::start();
    let days = mornings(&api, "timeout = \"5s\"\nmax_active = 1", "");
    api.close("2024-05-02", 0);
    days.run("2024-05-04", 1);
    let ended = reasons(&days).join("\n");
    assert!(ended.contains("items 2024-05-02 failed: the run took longer than its timeout of 5s"), "{ended}");
    assert!(ended.contains("items 2024-05-03 skipped: the run took longer than its timeout of 5s"), "{ended}");
    let runs = days.project.json(&["runs"]);
    assert_eq!(runs[0]["status"], Value::from("failed"));
}

#[test]
fn a_step_that_asks_an_api_may_have_a_timeout_and_a_hook_for_one_may_not() {
    let api = Scripted::start();
    let days = mornings(&api, "", "timeout = \"1h\"");
    let output = days.project.output(&["check"]);
    assert!(output.status.success(), "{}", told(&output));
    days.project.write("hooks/h.toml", "type = \"http\"\nconnection = \"api\"\ntimeout = \"1h\"\n");
    let output = days.project.output(&["check"]);
    assert!(told(&output).contains("`timeout` belongs to a program"), "{}", told(&output));
}
