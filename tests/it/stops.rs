//! Runs that are stopped, that meet each other, or that are refused: what they say, how they exit, what the next one does.

use crate::support::mornings::{DAYS, Mornings};
use crate::support::project::told;
use crate::support::running::Running;
use crate::support::scripted::Scripted;

const DATE: &str = "2024-05-04";

/// Pages one after the other, so that a page that is asked for tells that the one before is durable.
const ONE_BY_ONE: &str = r#"
[window]
lookback = 2

[[extract]]
name = "items"
connection = "api"
request = { path = "/rows", params = { key = "{{ ds }}" } }
paginate = { by = "offset", limit = 4 }
records = "$.rows[*]"

[[transform]]
name = "daily"
sql = "select day, count(*) as items from {{ ref('items') }} where _haul_unit = {{ ds | sql }} group by day"
"#;

#[test]
fn a_stopped_run_says_how_to_go_on_and_the_next_one_asks_for_no_durable_page_again() {
    let api = Scripted::start();
    api.put_day("2024-05-02", 6);
    api.put_day("2024-05-03", 10);
    let days = Mornings::new(&api.url, ONE_BY_ONE);
    api.close("2024-05-03", 8);
    let mut run = Running::start(&days.project, &["run", "days", "--date", DATE]);
    run.says("loaded    items 2024-05-02");
    api.wait_for("2024-05-03", 8);
    run.interrupt();
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("stopping: requests under way are dropped"), "{said}");
    assert!(said.contains("go on with `haul run days --date 2024-05-04`"), "{said}");
    assert!(said.contains("not done"), "{said}");
    assert_eq!(days.project.json(&["runs"])[0]["status"], "cancelled");

    api.open();
    api.asked();
    let output = days.project.output(&["run", "days", "--date", DATE]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(api.asked(), ["2024-05-03@8"]);
    assert_eq!(days.outcome()["items 2024-05-02"], "skipped: done by the stopped run that this one goes on with");
    assert_eq!(days.rows("raw.items").values().sum::<u64>(), 16);
    assert_eq!(days.rows("mart.daily").len(), 2);
    assert_eq!(days.commits("raw.items").into_values().collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_run_that_is_stopped_twice_goes_on_with_what_both_have_done() {
    let api = Scripted::start();
    api.put_day("2024-05-02", 6);
    api.put_day("2024-05-03", 6);
    let days = Mornings::new(&api.url, &ONE_BY_ONE.replace("lookback = 2", "lookback = 3"));
    let stopped_at = |done: &str, closed: &[(&str, usize)]| {
        api.open();
        for (day, offset) in closed {
            api.close(day, *offset);
        }
        let mut run = Running::start(&days.project, &["run", "days", "--date", DATE]);
        run.says(&format!("loaded    items {done}"));
        api.wait_for(closed[0].0, closed[0].1);
        run.interrupt();
        let (code, said) = run.end();
        assert_eq!(code, Some(130), "{said}");
    };
    stopped_at("2024-05-01", &[("2024-05-02", 4), ("2024-05-03", 0)]);
    stopped_at("2024-05-02", &[("2024-05-03", 4)]);
    api.open();
    api.asked();
    let output = days.project.output(&["run", "days", "--date", DATE]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(api.asked(), ["2024-05-03@4"], "what the first of the two has done counts as well");
    assert_eq!(days.rows("raw.items").values().sum::<u64>(), 12);
}

#[test]
fn a_stopped_backfill_is_gone_on_with_by_the_same_words() {
    let api = Scripted::start();
    api.put_day("2024-05-01", 3);
    api.put_day("2024-05-02", 6);
    let days = Mornings::new(&api.url, ONE_BY_ONE);
    let command = ["backfill", "days", "--from", "2024-05-01", "--to", "2024-05-03", "--reprocess", "all"];
    assert!(days.project.output(&command).status.success());
    api.asked();
    api.close("2024-05-02", 4);
    let mut run = Running::start(&days.project, &command);
    run.says("loaded    items 2024-05-01");
    api.wait_for("2024-05-02", 4);
    run.interrupt();
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains(&format!("go on with `haul {}`", command.join(" "))), "{said}");
    api.open();
    api.asked();
    assert!(days.project.output(&command).status.success());
    assert_eq!(api.asked(), ["2024-05-02@4"]);
}

#[test]
fn a_second_interrupt_ends_at_once_what_the_first_one_could_not() {
    let api = Scripted::start();
    api.put_day("2024-05-03", 3);
    // A statement that no machine brings to its end.
    let endless =
        "select sum(a.range * b.range + c.range) as n from range(9000000) a, range(9000000) b, range(9000000) c";
    let pipeline =
        ONE_BY_ONE.replace("select day", &format!("with e as ({endless}) select (select n from e) as n, day"));
    let days = Mornings::new(&api.url, &pipeline.replace("lookback = 2", "lookback = 1"));
    let mut run = Running::start(&days.project, &["run", "days", "--date", DATE]);
    run.says("loaded    items 2024-05-03");
    run.interrupt();
    run.says("Ctrl-C again ends at once");
    run.interrupt();
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    days.project.write("pipelines/days.toml", ONE_BY_ONE);
    let output = days.project.output(&["run", "days", "--date", DATE]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(days.commits("mart.daily").into_values().collect::<Vec<_>>(), [1, 1], "{}", told(&output));
}

#[test]
fn a_second_run_of_one_project_says_who_is_in_the_way_and_disturbs_nothing() {
    let api = Scripted::start();
    api.put_day("2024-05-02", 6);
    api.put_day("2024-05-03", 10);
    let days = Mornings::new(&api.url, ONE_BY_ONE);
    api.close("2024-05-03", 4);
    let run = Running::start(&days.project, &["run", "days", "--date", DATE]);
    api.wait_for("2024-05-03", 4);

    let second = days.project.output(&["run", "days", "--date", DATE]);
    let said = told(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("warehouse.duckdb"), "{said}");
    assert!(said.contains("hint: a DuckDB file belongs to one process at a time"), "{said}");
    // Looking needs no warehouse; planning does with what is known.
    assert!(days.project.stdout(&["status"]).contains("raw.items"));
    let plan = days.project.output(&["plan", "days", "--date", DATE]);
    assert!(plan.status.success(), "{}", told(&plan));
    assert!(told(&plan).contains("the warehouse cannot be opened now"), "{}", told(&plan));
    assert_eq!(days.project.json(&["runs"]).as_array().map(Vec::len), Some(1), "the refused run was none");
    assert_eq!(days.project.json(&["runs"])[0]["status"], "running");

    api.open();
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(days.rows("raw.items").values().sum::<u64>(), 16);
    assert_eq!(days.commits("raw.items").into_values().collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn what_is_refused_exits_with_two_and_a_hint_and_runs_nothing() {
    let api = Scripted::start();
    let days = Mornings::new(&api.url, DAYS);
    for (arguments, expected) in [
        (vec!["run", "dyas"], "did you mean `days`?"),
        (vec!["run", "days", "--date", "2024-13-01"], "--date"),
        (vec!["run", "days", "--date", DATE, "--select", "nothing"], "its steps are"),
        (vec!["show", "days-2024-05-04-1"], "haul runs"),
        (vec!["render", "days", "itmes", "--date", DATE], "items"),
        (vec!["approve", "raw.nothing", "2024-05-01"], "haul status"),
        (vec!["approve", "raw.items", "2024-05-01"], "was never pulled"),
        (vec!["backfill", "days", "--from", "2024-05-04", "--to", "2024-05-01"], "--to"),
        (vec!["drift", "raw.nothing"], "no step of this project writes raw.nothing"),
    ] {
        let output = days.project.output(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", told(&output));
        assert!(told(&output).contains(expected), "{arguments:?}: {}", told(&output));
        assert!(output.stdout.is_empty(), "errors are no data: {}", told(&output));
    }
    days.project.write("pipelines/broken.toml", "[window]\nlookbak = 3\n");
    let output = days.project.output(&["run", "days", "--date", DATE]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("broken.toml:2"), "{}", told(&output));
    assert!(api.asked().is_empty());
    let json = days.project.output(&["run", "dyas", "--output", "json"]);
    let error: serde_json::Value = serde_json::from_slice(&json.stderr).unwrap_or_default();
    assert_eq!(json.status.code(), Some(2), "{}", told(&json));
    assert!(error["error"].is_object() || told(&json).contains("broken.toml"), "{}", told(&json));
}
