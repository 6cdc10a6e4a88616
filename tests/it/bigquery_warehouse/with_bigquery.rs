//! Commits in transactions, in the emulator `local-bigquery`: every mode, schemas that grow, and processes that die.

mod filters;
mod once;

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::bigquery_gate::Gate;
use crate::support::project::{Project, told};

const ITEMS: &str = r#"
[window]
lookback = 1

[[extract]]
name = "items"
connection = "files"
files = "{{ ds }}.jsonl"
into = "raw.items"
keys = ["id"]
"#;

const DAILY: &str = r#"
[[transform]]
name = "daily"
sql = "select count(*) as items, sum(price) as price from {{ ref('items') }} where _haul_unit = {{ unit.start | date | sql }}"
into = "mart.daily"
"#;

fn rows(project: &Project, day: &str, rows: &[Value]) {
    let lines: Vec<String> = rows.iter().map(|row| format!("{row}\n")).collect();
    project.write(&format!("data/{day}.jsonl"), &lines.concat());
}

fn a_day(project: &Project) {
    rows(project, "2024-05-02", &[json!({ "id": 1, "price": 0.5 }), json!({ "id": 2, "price": 1.5 })]);
}

fn run(project: &Project) -> String {
    let output = project.output(&["run", "days", "--date", "2024-05-03"]);
    assert!(output.status.success(), "{}", told(&output));
    told(&output)
}

/// Everything that was loaded, without what tells one run from another.
fn picture(project: &Project) -> Vec<Value> {
    vec![
        project.query("select id, price, _haul_unit from raw.items order by id"),
        project.query("select unit, `rows`, count(*) as commits from raw._haul_loads group by 1, 2 order by 1"),
    ]
}

#[test]
fn days_are_replaced_in_transactions_and_their_changes_counted() {
    let gate = Gate::open();
    let project = gate.project(&format!("{ITEMS}{DAILY}"));
    a_day(&project);
    run(&project);
    assert_eq!(
        project.query("select * from raw.items order by id"),
        json!([
            { "id": 1, "price": 0.5, "_haul_unit": "2024-05-02", "_haul_pull": 1 },
            { "id": 2, "price": 1.5, "_haul_unit": "2024-05-02", "_haul_pull": 1 },
        ])
    );
    let daily = |project: &Project| project.query("select items, price from mart.daily");
    assert_eq!(daily(&project), json!([{ "items": 2, "price": 2.0 }]));
    rows(&project, "2024-05-02", &[json!({ "id": 1, "price": 9.5 }), json!({ "id": 4, "price": 1.0 })]);
    let said = run(&project);
    assert!(said.contains("2 rows, +1 -1 ~1"), "{said}");
    assert_eq!(daily(&project), json!([{ "items": 2, "price": 10.5 }]));
    gate.forget();
    assert!(run(&project).contains("unchanged items 2024-05-02"));
    assert_eq!(
        gate.sent("haul_load_").len() + gate.sent("haul_co").len(),
        0,
        "a day that did not change is not written"
    );
    let left = project.query("select table_name from raw.INFORMATION_SCHEMA.TABLES order by 1");
    assert_eq!(
        left,
        json!([{ "table_name": "_haul_loads" }, { "table_name": "items" }]),
        "nothing that arrived is left behind"
    );
    let refused = told(&project.output(&["query", "delete from raw.items where true"]));
    assert!(refused.contains("a query only reads, and this statement is DELETE"), "{refused}");
}

#[test]
fn a_table_follows_its_rows() {
    let gate = Gate::open();
    let project = gate.project(ITEMS);
    rows(
        &project,
        "2024-05-01",
        &[
            json!({ "id": 1, "o": { "a": 1 }, "l": [1, 2], "at": "2024-05-01T10:00:00+02:00", "big": 9_223_372_036_854_775_808_u64 }),
        ],
    );
    project.stdout(&["run", "days", "--date", "2024-05-02"]);
    rows(&project, "2024-05-02", &[json!({ "id": 2.5, "o": { "a": 2 }, "new": true })]);
    run(&project);
    let plain = project.query("select id, l, at, big, new from raw.items order by id");
    assert_eq!(
        plain[0],
        json!({ "id": 1.0, "l": [1, 2], "at": "2024-05-01T08:00:00Z", "big": "9223372036854775808", "new": null })
    );
    rows(&project, "2024-05-02", &[json!({ "id": 2.5, "l": [1, null] })]);
    let said = told(&project.output(&["run", "days", "--date", "2024-05-03"]));
    assert!(said.contains("`l`: a list has a null") && said.contains("nested = \"json\""), "{said}");
}

#[test]
fn a_check_that_fails_leaves_the_old_rows() {
    let gate = Gate::open();
    let project = gate.project(&format!(
        "{ITEMS}checks = [{{ unique = [\"id\"] }}, {{ sql = \"select * from {{{{ this }}}} where price < 0\" }}]\n"
    ));
    a_day(&project);
    run(&project);
    for (wrong, words) in [
        (vec![json!({ "id": 1, "price": 1.0 }), json!({ "id": 1, "price": 2.0 })], "\"id\":1"),
        (vec![json!({ "id": 1, "price": -1.0 })], "\"price\":-1"),
    ] {
        rows(&project, "2024-05-02", &wrong);
        let said = told(&project.output(&["run", "days", "--date", "2024-05-03"]));
        assert!(said.contains("1 row is wrong") && said.contains(words), "{said}");
        let left = project.query("select id, price from raw.items order by id");
        assert_eq!(left, json!([{ "id": 1, "price": 0.5 }, { "id": 2, "price": 1.5 }]));
    }
}

/// Runs until a request, or its answer, is held back; kills; runs again; and compares with what an undisturbed run leaves.
fn killed_at(text: &str, answered: bool, undisturbed: &[Value]) -> Gate {
    let gate = Gate::open();
    let project = gate.project(ITEMS);
    a_day(&project);
    if answered {
        gate.keep(text);
    } else {
        gate.hold(text);
    }
    let mut child = project
        .haul(&["run", "days", "--date", "2024-05-03"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("haul starts");
    gate.wait_for(text, answered);
    child.kill().expect("SIGKILL");
    assert_eq!(child.wait().expect("an end").signal(), Some(9));
    gate.let_go();
    let said = run(&project);
    assert_eq!(picture(&project), undisturbed, "killed at {text}: {said}");
    gate
}

#[test]
fn a_process_that_dies_anywhere_leaves_jobs_that_are_adopted_and_rows_that_are_there_once() {
    let gate = Gate::open();
    let project = gate.project(ITEMS);
    a_day(&project);
    run(&project);
    let undisturbed = picture(&project);
    // While the rows are on their way.
    killed_at("haul_load_", false, &undisturbed);
    // Between their arrival and the transaction: the load is not sent again.
    let gate = killed_at("haul_commit_", false, &undisturbed);
    assert_eq!(gate.sent("haul_load_").len(), 1, "{:?}", gate.sent("haul_"));
    // Between the transaction and the state: nothing is.
    let gate = killed_at("haul_commit_", true, &undisturbed);
    assert_eq!((gate.sent("haul_load_").len(), gate.sent("haul_commit_").len()), (1, 1), "{:?}", gate.sent("haul_"));
}

#[test]
fn a_worker_whose_lease_has_ended_commits_nothing() {
    let gate = Gate::open();
    let project = gate.project(ITEMS);
    rows(&project, "2024-05-02", &[json!({ "id": 1, "price": 0.5 })]);
    run(&project);
    rows(&project, "2024-05-02", &[json!({ "id": 2, "price": 0.5 })]);
    gate.forget();
    gate.hold("haul_commit_");
    let old = project
        .haul(&["run", "days", "--date", "2024-05-03"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("haul starts");
    gate.wait_for("haul_commit_", false);
    // Another machine takes over with a newer lease, by a copy of the state.
    let other = Project::empty();
    let copied = std::process::Command::new("cp").arg("-r").arg(project.path().join(".")).arg(other.path()).status();
    assert!(copied.expect("cp runs").success());
    rows(&other, "2024-05-02", &[json!({ "id": 3, "price": 0.5 })]);
    gate.let_go();
    let new = other.output(&["run", "days", "--date", "2024-05-03"]);
    let old = old.wait_with_output().expect("an end");
    let said = format!("{}\n{}", told(&old), told(&new));
    // Whoever came first: the newer lease's rows are there, and once.
    assert_eq!(project.query("select id from raw.items"), json!([{ "id": 3 }]), "{said}");
}
