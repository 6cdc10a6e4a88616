//! `haul verify-window`: each promise is proved where it holds, and named with a row and a reason where it is broken.

use super::{GROUND, shop};
use crate::support::project::{Project, told};

/// A shop with one more transform, and rows to prove it on.
fn with(step: &str) -> Project {
    let project = shop();
    let pipeline = std::fs::read_to_string(project.path().join("pipelines/shop.toml")).expect("a file");
    project.write("pipelines/shop.toml", &format!("{pipeline}\n[[transform]]\nname = \"own\"\n{step}\n"));
    project.write("tests/shop.toml", &format!("{GROUND}\n[[expect]]\ntable = \"sums\"\ncount = 2\n"));
    project
}

#[test]
fn promises_that_hold_are_proved() {
    let project = shop();
    project.write("tests/shop.toml", &format!("{GROUND}\n[[expect]]\ntable = \"sums\"\ncount = 2\n"));
    let said = project.stdout(&["verify-window", "shop", "rolling"]);
    assert_eq!(said, "proved  shop.rolling on shop: 5 promises over 3 units\n1 proved, 0 broken\n");
}

#[test]
fn a_broken_promise_is_told_with_the_first_row_and_the_usual_reason() {
    const ORDERS: &str = "FROM {{ ref('orders') }} WHERE _haul_unit = {{ ds | sql }}";
    for (step, words) in [
        (
            "sql = \"SELECT count(*) AS n FROM {{ ref('orders') }} WHERE _haul_unit <= {{ ds | sql }}\"".to_owned(),
            ["mart.own of 2024-05-02: computed alone, it is not what it is within the window", "2 → 0", "`reach`"],
        ),
        (
            format!("sql = \"SELECT id, random() AS x {ORDERS}\""),
            ["mart.own: computed twice, it is not what it was", "→", "random()"],
        ),
        (
            format!("sql = \"SELECT id, {{{{ run_date | sql }}}} AS seen {ORDERS}\""),
            ["computed 400 days later for the same date, it is another", "2024-05-04 → 2025-06-08", "{{ run_date }}"],
        ),
        (
            format!("sql = \"SELECT id {ORDERS}\"\nwrite = \"merge\"\nkeys = [\"id\"]"),
            ["mart.own: rows whose source has gone stay", " +  3", "write = \"merge\""],
        ),
    ] {
        let output = with(&step).output(&["verify-window", "shop", "own"]);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        for word in words {
            assert!(told(&output).contains(word), "`{word}` is missing for {step}:\n{}", told(&output));
        }
    }
}

#[test]
fn a_test_of_another_pipeline_that_is_wrong_keeps_nobody_from_proving_or_testing() {
    let project = shop();
    project.write("tests/shop.toml", &format!("{GROUND}\n[[expect]]\ntable = \"sums\"\ncount = 2\n"));
    project.write("tests/other.toml", "pipeline = \"other\"\nnonsense = 1\n");
    let note = "tests/other.toml is wrong, and is left out; `haul check` says why";
    for command in [&["verify-window", "shop", "rolling"][..], &["test", "shop"], &["test", "sh*"]] {
        let output = project.output(command);
        let said = told(&output);
        assert!(output.status.success() && said.contains(note), "{command:?}: {said}");
        assert!(!said.contains("nonsense"), "{command:?}: {said}");
    }
    for command in
        [&["verify-window"][..], &["verify-window", "other"], &["test"], &["test", "other"], &["test", "*::late"]]
    {
        let output = project.output(command);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {}", told(&output));
    }
    assert!(told(&project.output(&["test", "other"])).contains("nonsense"));
}

#[test]
fn without_rows_there_is_nothing_to_prove() {
    let project = shop();
    let output = project.output(&["verify-window"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("there are no rows to prove anything on"), "{}", told(&output));
    let output = project.output(&["verify-window", "shop", "nothing"]);
    assert!(told(&output).contains("has no step `nothing`"), "{}", told(&output));
}
