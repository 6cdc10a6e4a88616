//! What `haul schedule` prints.

use serde_json::json;

use crate::support::project::{Project, told};

const STEP: &str =
    "[[extract]]\nname = \"{}\"\nconnection = \"api\"\nrequest = { path = \"/a\", params = { day = \"{{ ds }}\" } }\n";

fn project(files: &[(&str, &str)]) -> Project {
    let project = Project::with_api("http://127.0.0.1:9", "");
    for (name, head) in files {
        let step = STEP.replacen("{}", name, 1);
        project.write(&format!("pipelines/{name}.toml"), &format!("{head}\n[window]\nlookback = 3\n{step}"));
    }
    project
}

const NOW: [&str; 2] = ["--now", "2026-03-27T12:00:00Z"];

#[test]
fn the_next_occurrences_of_all_pipelines_are_shown_in_both_times() {
    let project = project(&[
        ("ratings", "timezone = \"Europe/Berlin\"\n[schedule]\ncron = \"30 2 * * *\""),
        ("hourly", "[schedule]\nevery = \"12h\"\nanchor = 2026-01-01T03:00:00Z"),
        ("ranking", "[schedule]\nafter = \"ratings\""),
        ("asleep", "[schedule]\ncron = \"0 6 * * *\"\npaused = true"),
        ("other", ""),
    ]);
    let printed = project.stdout(&["schedule", "--next", "5", NOW[0], NOW[1]]);
    let lines: Vec<&str> = printed.lines().map(str::trim).collect();
    let row = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        lines[2..].iter().map(|line| row(line)).collect::<Vec<_>>(),
        [
            "hourly Fri 2026-03-27 15:00 +00:00 UTC 2026-03-27 15:00Z 2026-03-27 2026-03-24 .. 2026-03-26",
            "ratings Sat 2026-03-28 02:30 +01:00 Europe/Berlin 2026-03-28 01:30Z 2026-03-28 2026-03-25 .. 2026-03-27",
            "hourly Sat 2026-03-28 03:00 +00:00 UTC 2026-03-28 03:00Z 2026-03-28 2026-03-25 .. 2026-03-27",
            "hourly Sat 2026-03-28 15:00 +00:00 UTC 2026-03-28 15:00Z 2026-03-28 2026-03-25 .. 2026-03-27",
            "ratings Sun 2026-03-29 03:00 +02:00 Europe/Berlin 2026-03-29 01:00Z 2026-03-29 2026-03-26 .. 2026-03-28 \
             02:30 does not exist (clocks 02:00 → 03:00): runs at 03:00",
            "asleep: paused (0 6 * * *)",
            "other: on demand",
            "ranking: after each day that ratings has done",
        ]
    );
}

#[test]
fn the_odd_days_of_a_year_are_shown_with_what_becomes_of_the_runs() {
    let project = project(&[
        ("early", "timezone = \"Europe/Berlin\"\n[schedule]\ncron = \"30 2 * * *\"\nfold = \"both\""),
        ("late", "timezone = \"Europe/Berlin\"\n[schedule]\ncron = \"0 6 * * *\""),
        ("seoul", "timezone = \"Asia/Seoul\"\n[schedule]\ncron = \"0 6 * * *\""),
        ("skips", "timezone = \"Europe/Berlin\"\n[schedule]\ncron = \"30 2 * * *\"\ngap = \"skip\""),
    ]);
    let printed = project.stdout(&["schedule", "--year", "2026", NOW[0], NOW[1]]);
    for line in [
        "early: 30 2 * * * (Europe/Berlin)",
        "2026-03-29  02:00 → 03:00  Sun 2026-03-29 03:00 +02:00  2026-03-29 01:00Z",
        "2026-10-25  03:00 → 02:00  Sun 2026-10-25 02:30 +02:00  2026-10-25 00:30Z  comes twice, and runs both times: the first",
        "2026-10-25  03:00 → 02:00  Sun 2026-10-25 02:30 +01:00  2026-10-25 01:30Z  comes twice, and runs both times: the second",
        "none is concerned: Sat 03-28 06:00 +01:00, then Sun 03-29 06:00 +02:00",
        "seoul: 0 6 * * * (Asia/Seoul): no odd days in 2026, the clocks are not moved",
        "02:30 does not exist (clocks 02:00 → 03:00): not run",
    ] {
        let found = printed.replace("  ", " ").replace("  ", " ").contains(&line.replace("  ", " "));
        assert!(found, "{line}\n{printed}");
    }
    let odd = project.json(&["schedule", "skips", "--year", "2026", "--next", "1", NOW[0], NOW[1]]);
    let pipeline = &odd["pipelines"][0];
    assert_eq!(pipeline["odd_days"].as_array().map(Vec::len), Some(2));
    assert_eq!(pipeline["odd_days"][0]["occurrences"][0]["runs"], false);
    assert_eq!(pipeline["odd_days"][0]["occurrences"][0]["odd"]["times"], json!(["2026-03-29T02:30:00"]));
    assert_eq!(pipeline["next"][0]["local"], "2026-03-28T02:30:00+01:00");
    assert_eq!(pipeline["next"][0]["covers"], json!({ "first": "2026-03-25", "last": "2026-03-27" }));
}

#[test]
fn a_pipeline_that_does_not_exist_and_a_year_that_is_none_are_refused() {
    let project = project(&[("ratings", "[schedule]\ncron = \"0 6 * * *\"")]);
    let unknown = project.output(&["schedule", "rating"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(told(&unknown).contains("did you mean `ratings`?"), "{}", told(&unknown));
    assert_eq!(project.output(&["schedule", "--year", "12000"]).status.code(), Some(2));
}
