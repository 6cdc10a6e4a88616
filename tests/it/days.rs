//! The days of a pipeline over several mornings: lookback, unchanged days, the guard, gaps, and what is mended by itself.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::support::days::DaysApi;
use crate::support::mornings::{DAYS, Mornings, counted, due, outcome};
use crate::support::project::told as told_of;
use crate::support::scripted::{Scripted, day_row};

/// An API with ten rows for each of the first nine days of May.
fn may() -> Scripted {
    let api = Scripted::start();
    (1..=9).for_each(|day| api.put_day(&format!("2024-05-0{day}"), 10));
    api
}

fn names(tasks: &[&str]) -> Vec<String> {
    tasks.iter().map(|task| (*task).to_owned()).collect()
}

#[test]
fn a_window_moves_on_every_morning_and_unchanged_days_are_skipped_with_all_that_is_downstream() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    assert_eq!(days.rows("raw.items"), counted(&[("2024-05-01", 10), ("2024-05-02", 10), ("2024-05-03", 10)]));
    assert_eq!(days.that_are("loaded").len(), 9);
    api.asked();

    let told = days.run("2024-05-05", 0);
    let asked = api.asked();
    assert_eq!(asked.len(), 9, "three pages for each of three days, and none for the first of May: {asked:?}");
    assert!(asked.iter().all(|page| !page.starts_with("2024-05-01")), "{asked:?}");
    assert_eq!(days.that_are("loaded"), names(&["daily 2024-05-04", "items 2024-05-04", "weekly 2024-05-04"]));
    assert_eq!(days.that_are("unchanged"), names(&["items 2024-05-02", "items 2024-05-03"]));
    assert_eq!(days.outcome()["weekly 2024-05-03"], "skipped: nothing that it reads has changed");
    let once = counted(&[("2024-05-01", 1), ("2024-05-02", 1), ("2024-05-03", 1), ("2024-05-04", 1)]);
    for table in ["raw.items", "mart.daily", "mart.weekly"] {
        assert_eq!(days.commits(table), once, "{table}");
    }
    assert!(told.contains("3 loaded, 2 unchanged") && told.contains("4 skipped"), "{told}");
}

#[test]
fn a_changed_day_is_computed_again_exactly_where_it_is_read() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    for date in ["2024-05-04", "2024-05-07", "2024-05-10"] {
        days.run(date, 0);
    }
    let before = days.commits("mart.weekly");
    assert_eq!(before.len(), 9);
    api.put("2024-05-07", (0..10).map(|index| day_row("2024-05-07", index, 7)).collect());
    days.run("2024-05-10", 0);
    assert_eq!(days.that_are("unchanged"), names(&["items 2024-05-08", "items 2024-05-09"]));
    let expected =
        ["daily 2024-05-07", "items 2024-05-07", "weekly 2024-05-07", "weekly 2024-05-08", "weekly 2024-05-09"];
    assert_eq!(days.that_are("loaded"), names(&expected));
    let sums = days.project.query("select cast(day as varchar) as unit, amount::bigint as n from mart.weekly");
    assert!(sums.to_string().contains(r#""unit":"2024-05-09","n":130"#), "six days of 10 and one of 70: {sums}");
}

#[test]
fn a_revised_day_tells_how_many_rows_came_went_and_changed() {
    let api = DaysApi::start();
    let extract = r#"paginate = { by = "offset", limit = 25, total = "$.total" }
records = "$.items[*]"
keys = ["id"]
"#;
    let days = Mornings::new(
        &api.url,
        &format!(
            "[window]\nlookback = 1\n[[extract]]\nname = \"items\"\nconnection = \"api\"\nrequest = {{ path = \"/items\", params = {{ day = \"{{{{ ds }}}}\" }} }}\n{extract}"
        ),
    );
    days.run("2024-05-04", 0);
    api.revise("2024-05-03");
    let told = days.run("2024-05-04", 0);
    assert!(told.contains("170 rows, +0 -0 ~17"), "{told}");
    api.resize("2024-05-03", 165);
    let told = days.run("2024-05-04", 0);
    assert!(told.contains("165 rows, +0 -5 ~0"), "{told}");
}

#[test]
fn a_shrunk_day_is_held_and_the_other_days_go_on() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    api.put_day("2024-05-02", 4);
    api.put_day("2024-05-03", 0);
    let told = days.run("2024-05-05", 3);
    assert_eq!(days.rows("raw.items")["2024-05-02"], 10, "the old rows stay");
    assert_eq!(days.rows("raw.items")["2024-05-03"], 10, "the old rows stay");
    assert_eq!(days.that_are("held"), names(&["items 2024-05-02", "items 2024-05-03"]));
    assert_eq!(days.that_are("loaded"), names(&["daily 2024-05-04", "items 2024-05-04", "weekly 2024-05-04"]));
    assert!(told.contains("haul approve raw.items 2024-05-02"), "the way out is told in full: {told}");

    let shown = days.text("2024-05-05", &["show", "days-2024-05-05-1"]);
    assert!(shown.contains("10 rows became 4: 60 % lost, 50 % allowed"), "{shown}");
    assert!(shown.contains("10 rows became none"), "{shown}");
    let status = days.text("2024-05-05", &["status"]);
    let line = status.lines().find(|line| line.starts_with("raw.items ")).expect("a line of the table");
    let signs: Vec<&str> = line.split_whitespace().skip(1).collect();
    assert_eq!(signs, ["○", "!", "!", "○"], "{status}");
    assert!(status.contains("haul approve raw.items 2024-05-02"), "{status}");
}

#[test]
fn an_approved_day_gets_its_new_rows_and_the_next_run_brings_its_readers_up_to_date() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    api.put_day("2024-05-02", 4);
    days.run("2024-05-05", 3);
    let told = days.text("2024-05-05", &["approve", "raw.items", "2024-05-02"]);
    assert!(told.contains("raw.items 2024-05-02") && told.contains("4 rows"), "{told}");
    assert_eq!(days.rows("raw.items")["2024-05-02"], 4);
    let again = days.at("2024-05-05", &["approve", "raw.items", "2024-05-02"]);
    assert_eq!(again.status.code(), Some(2), "{}", told_of(&again));
    assert!(told_of(&again).contains("is loaded, not held"), "{}", told_of(&again));

    days.run("2024-05-06", 0);
    // The day lies before this window; its readers are computed again all the same.
    assert!(days.that_are("loaded").contains(&"daily 2024-05-02".to_owned()), "{:?}", days.outcome());
    let sums = days.project.query("select cast(day as varchar) as unit, items::bigint as n from mart.weekly");
    assert!(sums.to_string().contains(r#""unit":"2024-05-03","n":24"#), "{sums}");
    assert!(!days.project.path().join(".haul/stage/days.items").join("2024-05-02").exists(), "the stage is gone");
}

#[test]
fn a_rejected_day_keeps_its_old_rows_and_counts_as_loaded() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    api.put_day("2024-05-02", 4);
    days.run("2024-05-05", 3);
    let told = days.text("2024-05-05", &["approve", "raw.items", "2024-05-02", "--reject"]);
    assert!(told.contains("thrown away") && told.contains("10 rows"), "{told}");
    assert_eq!(days.rows("raw.items")["2024-05-02"], 10);
    let status = days.json("2024-05-05", &["status"]);
    let units: Vec<&Value> = status.as_array().expect("units").iter().map(|unit| &unit["state"]).collect();
    assert!(units.iter().all(|state| *state == "loaded"), "{status}");
    assert!(!days.project.path().join(".haul/stage/days.items").join("2024-05-02").exists(), "the stage is gone");
    // The same rows are not asked about again, other ones are.
    let said = days.run("2024-05-05", 0);
    assert!(said.contains("2024-05-02 has the rows that were rejected before; its old rows stay"), "{said}");
    assert_eq!(days.rows("raw.items")["2024-05-02"], 10);
    api.put_day("2024-05-02", 3);
    days.run("2024-05-05", 3);
}

#[test]
fn a_day_that_is_held_again_and_again_leaves_one_stage_and_none_once_it_is_well() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    api.put_day("2024-05-03", 4);
    days.run("2024-05-05", 3);
    assert_eq!(days.plan("2024-05-06", &[])["items 2024-05-03"], "held");
    days.run("2024-05-06", 3);
    let folder = days.project.path().join(".haul/stage/days.items/2024-05-03");
    assert_eq!(fs::read_dir(&folder).expect("the held stage").count(), 1);
    api.put_day("2024-05-03", 9);
    days.run("2024-05-06", 0);
    assert_eq!(days.rows("raw.items")["2024-05-03"], 9);
    assert!(!folder.exists(), "nothing waits for a decision");
}

#[test]
fn missed_mornings_are_found_by_the_next_run_and_the_plan_calls_them_gaps() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    let plan = days.plan("2024-05-10", &[]);
    let gaps: Vec<&String> = plan.iter().filter(|(_, due)| *due == "gap").map(|(task, _)| task).collect();
    let expected = ["2024-05-04", "2024-05-05", "2024-05-06"];
    let expected: Vec<String> =
        ["daily", "items", "weekly"].iter().flat_map(|step| expected.map(|day| format!("{step} {day}"))).collect();
    assert_eq!(gaps, expected.iter().collect::<Vec<_>>(), "{plan:?}");
    assert_eq!(plan["items 2024-05-07"], "new");
    let text = days.text("2024-05-10", &["plan", "days", "--date", "2024-05-10"]);
    assert!(text.lines().any(|line| line.contains("2024-05-04") && line.trim_end().ends_with("gap")), "{text}");

    days.run("2024-05-10", 0);
    for table in ["raw.items", "mart.daily", "mart.weekly"] {
        assert_eq!(days.rows(table).len(), 9, "{table}");
    }
    assert!(!days.plan("2024-05-10", &[]).values().any(|due| due == "gap"));
}

#[test]
fn nothing_before_the_first_loaded_day_is_a_gap() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-07", 0);
    let plan = days.plan("2024-05-07", &[]);
    assert!(plan.keys().all(|task| task.ends_with('4') || task.ends_with('5') || task.ends_with('6')), "{plan:?}");
}

#[test]
fn a_backfill_of_old_days_leaves_the_days_in_between_alone() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-09", 0);
    api.refuse("2024-05-02", 400, "no such day");
    let fill = |more: &[&str]| {
        let range = ["backfill", "days", "--from", "2024-05-01", "--through", "2024-05-03"];
        days.at("2024-05-09", &range.iter().chain(more).copied().collect::<Vec<_>>())
    };
    assert_eq!(fill(&[]).status.code(), Some(1));
    assert_eq!(days.rows("mart.daily").len(), 5, "what reads the days is computed by the backfill itself");
    api.asked();

    let window = ["2024-05-07", "2024-05-08", "2024-05-09"];
    let items = |plan: &BTreeMap<String, String>| -> Vec<String> {
        plan.keys().filter_map(|task| task.strip_prefix("items ")).map(str::to_owned).collect()
    };
    let plan = days.plan("2024-05-10", &[]);
    assert_eq!(items(&plan), window, "{plan:?}");
    assert!(!plan.values().any(|due| due == "gap" || due == "failed"), "{plan:?}");
    let status = days.text("2024-05-09", &["status"]);
    assert!(
        status.contains("raw.items 2024-05-02 failed: ")
            && status.contains("`haul backfill days` over it does it again"),
        "{status}"
    );
    days.run("2024-05-10", 0);
    assert!(api.asked().iter().all(|page| window.iter().any(|day| page.starts_with(day))));

    // The days' own gaps are found as ever, and what the backfill left is for a backfill.
    let plan = days.plan("2024-05-14", &[]);
    assert_eq!(items(&plan), ["2024-05-10", "2024-05-11", "2024-05-12", "2024-05-13"], "{plan:?}");
    assert_eq!(plan["items 2024-05-10"], "gap");
    api.relent("2024-05-02");
    assert!(fill(&["--reprocess", "failed"]).status.success());
    assert!(api.asked().iter().all(|page| page.starts_with("2024-05-02")));
    assert_eq!(days.rows("mart.daily").keys().filter(|day| day.as_str() < "2024-05-04").count(), 3);
}

#[test]
fn a_day_of_a_backfill_that_a_run_had_in_its_window_belongs_to_the_days() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    let filled = days.at("2024-05-05", &["backfill", "days", "--from", "2024-05-01", "--through", "2024-05-04"]);
    assert!(filled.status.success(), "{}", told_of(&filled));
    let backfilled = |date: &str| -> Vec<String> {
        let units = days.json(date, &["status"]);
        let units = units.as_array().expect("units").iter().filter(|unit| unit["backfilled"] == true);
        let items = units.filter(|unit| unit["table"]["name"] == "items");
        items.map(|unit| unit["unit"].as_str().expect("a unit").to_owned()).collect()
    };
    assert_eq!(backfilled("2024-05-05"), ["2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04"]);
    assert!(!days.plan("2024-05-09", &[]).values().any(|due| due == "gap"));
    days.run("2024-05-05", 0);
    assert_eq!(backfilled("2024-05-05"), ["2024-05-01"]);
    let plan = days.plan("2024-05-09", &[]);
    assert_eq!(plan["items 2024-05-05"], "gap", "{plan:?}");
}

#[test]
fn what_somebody_removed_from_the_warehouse_is_missing_and_is_loaded_again() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    days.run("2024-05-07", 0);
    sql(&days, "DROP TABLE mart.daily; DELETE FROM raw.items WHERE _haul_unit = DATE '2024-05-01'");
    let planned = days.at("2024-05-07", &["plan", "days", "--date", "2024-05-07"]);
    let told = told_of(&planned);
    assert!(told.contains("raw.items: 1 loaded unit was no longer in the warehouse; it counts as missing"), "{told}");
    assert!(told.contains("mart.daily: 6 loaded units were no longer in the warehouse"), "{told}");
    let plan = days.plan("2024-05-07", &[]);
    assert_eq!(plan.get("items 2024-05-01").map(String::as_str), Some("missing"), "{plan:?}");
    assert_eq!(plan.get("items 2024-05-02"), None, "{plan:?}");
    assert_eq!(plan["daily 2024-05-03"], "missing");
    days.run("2024-05-07", 0);
    assert_eq!(days.rows("raw.items").len(), 6);
    assert_eq!(days.rows("mart.daily").len(), 6);
    assert_eq!(days.commits("raw.items")["2024-05-01"], 2);
    assert_eq!(days.commits("raw.items")["2024-05-02"], 1);
}

/// Somebody at work in the warehouse without haul.
fn sql(days: &Mornings, statements: &str) {
    let connection = duckdb::Connection::open(days.project.path().join("warehouse.duckdb")).expect("the warehouse");
    connection.execute_batch(statements).expect("the statements run");
}

#[test]
fn a_lost_state_file_is_made_anew_from_what_the_warehouse_has() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    days.run("2024-05-05", 0);
    let before = days.commits("mart.weekly");
    fs::remove_dir_all(days.project.path().join(".haul")).expect("the state is gone");
    let plan = days.plan("2024-05-05", &[]);
    assert_eq!(plan["items 2024-05-04"], "repull", "the plan, too, looks at the warehouse: {plan:?}");
    let told = days.run("2024-05-05", 0);
    assert_eq!(days.that_are("loaded"), Vec::<String>::new(), "{told}");
    assert_eq!(days.commits("mart.weekly"), before);
    assert_eq!(days.json("2024-05-05", &["status"]).as_array().map(Vec::len), Some(12));
    api.put_day("2024-05-03", 11);
    days.run("2024-05-06", 0);
    assert_eq!(days.commits("raw.items")["2024-05-03"], 2, "the generations go on from those of the warehouse");
}

#[test]
fn a_run_does_what_its_plan_says() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    for (date, select) in [
        ("2024-05-04", vec![]),
        ("2024-05-05", vec!["--select", "items"]),
        ("2024-05-06", vec!["--select", "daily+"]),
        ("2024-05-07", vec!["--select", "+daily"]),
        ("2024-05-08", vec!["--force"]),
        ("2024-05-09", vec![]),
    ] {
        let plan = days.plan(date, &select);
        let text = days.text(date, &[&["plan", "days", "--date", date], select.as_slice()].concat());
        for task in plan.keys() {
            let (step, unit) = task.split_once(' ').expect("step and unit");
            assert!(
                text.lines().any(|line| line.contains(&format!(" {step} ")) && line.contains(unit)),
                "{task}: {text}"
            );
        }
        let output = days.at(date, &[&["run", "days", "--date", date], select.as_slice()].concat());
        assert!(output.status.success(), "{}", told_of(&output));
        let ran: Vec<String> = days.outcome().into_keys().collect();
        assert_eq!(ran, plan.into_keys().collect::<Vec<_>>(), "{date} {select:?}");
    }
}

#[test]
fn steps_are_selected_alone_with_what_they_read_and_with_what_reads_them() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    let steps = |select: &str| -> Vec<String> {
        let plan = days.plan("2024-05-04", &["--select", select]);
        let mut steps: Vec<String> =
            plan.keys().map(|task| task.split(' ').next().expect("a step").to_owned()).collect();
        steps.dedup();
        steps
    };
    assert_eq!(steps("items"), ["items"]);
    assert_eq!(steps("+daily"), ["daily", "items"]);
    assert_eq!(steps("items+"), ["daily", "items", "weekly"]);
    let wrong = days.at("2024-05-04", &["plan", "days", "--select", "dialy"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(told_of(&wrong).contains("did you mean `daily`?"), "{}", told_of(&wrong));
    // Nothing is there that the transform could read: that is an error and no success.
    let early = days.at("2024-05-04", &["run", "days", "--date", "2024-05-04", "--select", "daily"]);
    assert_eq!(early.status.code(), Some(2), "{}", told_of(&early));
    assert!(told_of(&early).contains("nothing to read yet"), "{}", told_of(&early));
}

#[test]
fn force_writes_again_what_has_not_changed() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    let plan = days.plan("2024-05-04", &["--force"]);
    assert!(plan.values().all(|due| due == "forced"), "{plan:?}");
    let output = days.at("2024-05-04", &["run", "days", "--date", "2024-05-04", "--force"]);
    assert!(output.status.success(), "{}", told_of(&output));
    assert!(days.commits("raw.items").values().all(|commits| *commits == 2), "{:?}", days.commits("raw.items"));
    assert_eq!(days.rows("raw.items").values().sum::<u64>(), 30);
}

#[test]
fn a_backfill_does_the_missing_the_failed_or_all_of_a_range() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    api.refuse("2024-05-03", 400, "no such day");
    let fill = |more: &[&str]| {
        let range = ["backfill", "days", "--from", "2024-05-01", "--to", "2024-05-07"];
        days.at("2024-05-10", &range.iter().chain(more).copied().collect::<Vec<_>>())
    };
    let plan = fill(&["--plan", "--output", "json"]);
    assert!(plan.status.success(), "{}", told_of(&plan));
    let plan: Value = serde_json::from_slice(&plan.stdout).expect("JSON");
    assert_eq!(due(&plan[0]).len(), 18, "{plan}");
    assert_eq!(days.project.json(&["runs"]), Value::Array(Vec::new()), "a plan runs nothing");

    let first = fill(&[]);
    assert_eq!(first.status.code(), Some(1), "{}", told_of(&first));
    assert!(told_of(&first).contains("haul backfill days --from 2024-05-01 --to 2024-05-07"), "{}", told_of(&first));
    assert_eq!(days.rows("raw.items").len(), 5);
    api.asked();

    api.relent("2024-05-03");
    let failed = fill(&["--reprocess", "failed"]);
    assert!(failed.status.success(), "{}", told_of(&failed));
    assert!(api.asked().iter().all(|page| page.starts_with("2024-05-03")));
    assert_eq!(days.rows("raw.items").len(), 6);

    assert_eq!(days.rows("mart.weekly").len(), 6, "what was skipped for its sake is there, too");
    let nothing = fill(&[]);
    assert_eq!(nothing.status.code(), Some(2), "a run over nothing is no success: {}", told_of(&nothing));
    assert!(told_of(&nothing).contains("--reprocess all"), "{}", told_of(&nothing));

    let all = fill(&["--reprocess", "all"]);
    assert!(all.status.success(), "{}", told_of(&all));
    assert_eq!(api.asked().len(), 18);
    assert!(days.commits("raw.items").values().all(|commits| *commits == 2), "{:?}", days.commits("raw.items"));
    let empty = days.at("2024-05-10", &["backfill", "days", "--from", "2024-05-07", "--to", "2024-05-07"]);
    assert_eq!(empty.status.code(), Some(2), "{}", told_of(&empty));
}

#[test]
fn a_failed_day_stops_only_what_reads_it_and_the_next_run_repairs_it() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    api.refuse("2024-05-02", 400, "no such day");
    let first = days.run("2024-05-04", 1);
    assert_eq!(days.that_are("failed"), names(&["items 2024-05-02"]));
    let outcome = days.outcome();
    for skipped in ["daily 2024-05-02", "weekly 2024-05-02", "weekly 2024-05-03"] {
        assert_eq!(outcome[skipped], "skipped: items 2024-05-02 failed", "{outcome:?}");
    }
    assert_eq!(outcome["weekly 2024-05-01"], "loaded");
    assert_eq!(outcome["daily 2024-05-03"], "loaded");
    assert!(first.contains("haul show days-2024-05-04-1"), "{first}");
    let shown = days.text("2024-05-04", &["show", "days-2024-05-04-1"]);
    assert!(shown.contains("no such day") && shown.contains("400"), "{shown}");
    assert!(shown.contains("skipped") && shown.contains("items 2024-05-02 failed"), "{shown}");
    let status = days.text("2024-05-04", &["status"]);
    assert!(
        status.contains("raw.items 2024-05-02 failed: ") && status.contains("the next run does it again"),
        "{status}"
    );
    let runs = days.text("2024-05-04", &["runs"]);
    assert!(runs.lines().any(|line| line.contains("days-2024-05-04-1") && line.contains("failed")), "{runs}");

    api.relent("2024-05-02");
    api.asked();
    assert_eq!(days.plan("2024-05-07", &[])["items 2024-05-02"], "failed");
    days.run("2024-05-07", 0);
    assert_eq!(days.rows("mart.weekly").len(), 6);
    assert_eq!(days.rows("raw.items").len(), 6);
    assert!(api.asked().iter().all(|page| !page.starts_with("2024-05-01")));
    assert_eq!(days.json("2024-05-07", &["runs"]).as_array().map(Vec::len), Some(2));
}

#[test]
fn one_pipeline_without_anything_to_do_does_not_keep_the_others_from_running() {
    let api = may();
    let days = Mornings::new(&api.url, &DAYS.replace("lookback = 3", "lookback = 1\nbegin = 2024-06-01"));
    let other = DAYS.replace("\"items\"", "\"things\"").replace("'items'", "'things'");
    let other =
        other.replace("\"daily\"", "\"by_day\"").replace("'daily'", "'by_day'").replace("\"weekly\"", "\"by_week\"");
    days.project.write("pipelines/others.toml", &other);
    let output = days.at("2024-05-04", &["run", "--date", "2024-05-04"]);
    let told = told_of(&output);
    assert_eq!(output.status.code(), Some(2), "the refusal is not forgotten: {told}");
    assert!(told.contains("others-2024-05-04-1: 9 loaded"), "{told}");
    assert!(told.contains("`days` begins with 2024-06-01"), "{told}");
}

#[test]
fn every_listing_as_json_has_the_keys_that_programs_rely_on() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    api.put_day("2024-05-03", 12);
    days.run("2024-05-05", 0);
    let date = "2024-05-05";
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    };
    let status = days.json(date, &["status"]);
    let unit = [
        "backfilled",
        "held_stage",
        "last_pull",
        "loaded",
        "probe",
        "pulled_at",
        "reason",
        "state",
        "table",
        "unchanged_pulls",
        "unit",
    ];
    assert_eq!(keys(&status[0]), unit);
    assert_eq!(keys(&status[0]["loaded"]), ["fingerprint", "generation", "inputs", "loaded_at", "pull", "rows"]);
    let runs = days.json(date, &["runs"]);
    let run = ["counts", "finished_at", "id", "logical_date", "pipeline", "started_at", "status", "trigger"];
    assert_eq!(keys(&runs[0]), run);
    assert_eq!(keys(&runs[0]["counts"]), ["failed", "held", "incomplete", "late", "loaded", "skipped", "unchanged"]);
    let shown = days.json(date, &["show", "days-2024-05-05-1"]);
    assert_eq!(keys(&shown), ["events", "run"]);
    assert_eq!(keys(&shown["events"][0]), ["at", "event", "task"]);
    assert_eq!(outcome(&shown).len(), 9);
    let drift = days.json(date, &["drift", "raw.items"]);
    let drifted =
        ["advice", "ages", "changed_pulls", "confidence", "oldest_age", "repulls", "units", "units_at_oldest"];
    assert_eq!(keys(&drift["raw.items"]), drifted);
    let plan = days.json(date, &["plan", "days", "--date", date]);
    let planned = ["left", "logical_date", "pipeline", "tasks", "totals", "trigger", "window"];
    assert_eq!(keys(&plan[0]), planned);
    let task = ["after", "due", "into", "kind", "step", "task", "units", "why", "write"];
    assert_eq!(keys(&plan[0]["tasks"][0]), task);
    let ran: BTreeMap<String, Value> = days.json("2024-05-06", &["run", "days", "--date", "2024-05-06"])[0]
        .as_object()
        .expect("a run")
        .clone()
        .into_iter()
        .collect();
    assert_eq!(ran.into_keys().collect::<Vec<_>>(), run);
}

#[test]
fn drift_tells_at_which_age_days_still_change_and_what_lookback_would_do() {
    let api = may();
    let days = Mornings::new(&api.url, DAYS);
    days.run("2024-05-04", 0);
    for (date, changed) in [("2024-05-05", "2024-05-03"), ("2024-05-06", "2024-05-04"), ("2024-05-07", "2024-05-05")] {
        api.put_day(changed, 12);
        days.run(date, 0);
    }
    let drift = &days.json("2024-05-07", &["drift", "raw.items"])["raw.items"];
    let ages: Vec<(i64, u64, u64, u64)> = drift["ages"]
        .as_array()
        .expect("ages")
        .iter()
        .map(|age| {
            let count = |name: &str| age[name].as_u64().expect("a count");
            (age["age"].as_i64().expect("an age"), count("repulls"), count("changed_pulls"), count("added"))
        })
        .collect();
    assert_eq!(ages, [(0, 0, 0, 0), (1, 3, 3, 6), (2, 3, 0, 0)]);
    assert_eq!(drift["advice"]["verdict"], "units");
    assert_eq!(drift["advice"]["lookback"], 2);
    let text = days.text("2024-05-07", &["drift", "raw.items"]);
    assert!(text.contains("lookback = 2"), "{text}");
    assert!(text.contains("6 re-pulls of 6 units"), "{text}");
    let unknown = days.at("2024-05-07", &["drift", "raw.itmes"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", told_of(&unknown));
    assert!(told_of(&unknown).contains("raw.items"), "{}", told_of(&unknown));
}
