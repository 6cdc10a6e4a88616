//! `max_bytes` of step, pipeline and project: what is too much is refused before anything is spent.

use serde_json::Value;

use super::{GIB, SELECT, days, json, rows};
use crate::support::bigquery_service::{Plan, Service, columns, stored};
use crate::support::project::told;

/// Three days of 2 GiB each.
fn service() -> Service {
    let service = Service::start(10);
    service.plan("shop.orders", vec![rows(0..3)]);
    service.reads("shop.orders", 2 * GIB, 1);
    service
}

#[test]
fn a_run_over_a_limit_is_refused_and_nothing_is_sent() {
    let of_step = format!("{SELECT}max_bytes = \"1 GB\"\n");
    let of_pipeline = format!("max_bytes = \"5 GiB\"\n{SELECT}");
    for (pipeline, project, words) in [
        (
            &of_step,
            "",
            [
                "events 2024-05-01 would be billed for 2.00 GiB, `max_bytes` of the step `events` is 1 GB (953.67 MiB)",
                "and so do 2 other units",
            ],
        ),
        (&of_pipeline, "", ["it would be billed for 6.00 GiB, `max_bytes` of the pipeline is 5.00 GiB", "raise"]),
        (
            &SELECT.to_owned(),
            "max_bytes = \"2 GiB\"\n",
            ["it would be billed for 6.00 GiB, `max_bytes` of haul.toml is 2.00 GiB", "nothing was spent"],
        ),
    ] {
        let service = service();
        let days = days(&service, pipeline);
        days.project.write("haul.toml", &format!("warehouse = \"warehouse\"\n{project}"));
        let said = days.run("2024-05-04", 5);
        for word in words {
            assert!(said.contains(word), "`{word}` is missing:\n{said}");
        }
        assert!(said.contains("error[budget]"), "{said}");
        assert_eq!(service.jobs().len(), 0);
        // The plan says the same beforehand, and the run is remembered.
        let plan = days.project.output(&["plan", "days", "--date", "2024-05-04"]);
        assert!(plan.status.code() == Some(5) && told(&plan).contains(words[0]), "{}", told(&plan));
        let runs = json(&days, &["runs"]);
        assert_eq!((&runs[0]["status"], &runs[0]["counts"]["skipped"]), (&"refused".into(), &3.into()), "{runs}");
        let shown = told(&days.project.output(&["show", "days-2024-05-04-1"]));
        assert!(shown.contains("would be billed for"), "{shown}");
    }
}

#[test]
fn a_run_below_its_limits_runs_and_hands_the_smallest_to_bigquery() {
    let service = service();
    let pipeline = format!("max_bytes = \"7 GiB\"\n{SELECT}max_bytes = \"4 GiB\"\n");
    let days = days(&service, &pipeline);
    // The pipeline's own limit is over the project's.
    days.project.write("haul.toml", "warehouse = \"warehouse\"\nmax_bytes = \"1 GiB\"\n");
    days.run("2024-05-04", 0);
    // Of 7 GiB, 4 belong to the two other days: 3 are left, which is less than the step's own 4.
    assert_eq!(fences(&service), [3 * GIB; 3]);
}

#[test]
fn what_a_day_was_billed_for_while_it_goes_on_does_not_count_twice() {
    let service = service();
    let days = days(&service, &format!("max_active = 2\nmax_bytes = \"7 GiB\"\n{SELECT}"));
    // One day is billed and its rows are on their way until the last day, the third, has been sent.
    service.hold_rows("", 3);
    days.run("2024-05-04", 0);
    assert_eq!(fences(&service), [3 * GIB; 3]);
}

/// The most that BigQuery was told to bill for each job.
fn fences(service: &Service) -> Vec<u64> {
    let most = |job: &Value| {
        job["configuration"]["query"]["maximumBytesBilled"].as_str().expect("a limit").parse().expect("bytes")
    };
    service.jobs().values().map(most).collect()
}

#[test]
fn a_statement_that_grew_since_the_plan_is_stopped_by_bigquery() {
    let service = Service::start(10);
    let fails = Plan::Fails {
        reason: "bytesBilledLimitExceeded",
        message: "Query exceeded limit for bytes billed: 4294967296. 5368709120 or higher required.",
    };
    service.plan("2024-05-02", vec![fails]);
    service.plan("shop.orders", vec![rows(0..3)]);
    let days = days(&service, &format!("{SELECT}max_bytes = \"4 GiB\"\n"));
    let said = days.run("2024-05-04", 1);
    assert!(said.contains("5368709120 or higher required") && said.contains("2 loaded"), "{said}");
}

#[test]
fn what_could_not_be_priced_before_is_priced_right_before_its_statement() {
    let service = Service::start(10);
    // The table of the middle day is made while the run is under way: planned without it, run with it.
    service.plan("shop.orders", vec![rows(0..3)]);
    service.reads("shop.orders", 2 * GIB, 1);
    service.unplannable("2024-05-02", 1);
    let days = days(&service, &format!("max_active = 1\nmax_bytes = \"5 GiB\"\n{SELECT}"));
    let said = days.run("2024-05-04", 1);
    assert!(said.contains("events 2024-05-02 would be billed for 2.00 GiB, with 4.00 GiB of the run"), "{said}");
    assert!(said.contains("`max_bytes` of the pipeline is 5.00 GiB") && said.contains("2 loaded"), "{said}");
    let statements: Vec<String> =
        service.jobs().values().map(|job| job["configuration"]["query"]["query"].to_string()).collect();
    assert!(statements.len() == 2 && !statements.iter().any(|sql| sql.contains("2024-05-02")), "{statements:?}");
}

#[test]
fn limits_mean_nothing_where_nothing_is_billed_by_bytes() {
    let service = Service::start(10);
    let pipeline = r#"
max_bytes = "1 MB"

[[extract]]
name = "numbers"
connection = "warehouse"
sql = "SELECT * FROM range(5)"
max_bytes = "1 MB"

[[transform]]
name = "sum"
sql = "SELECT sum(range) AS s FROM {{ ref('numbers') }}"
max_bytes = "1 KB"
"#;
    let days = days(&service, pipeline);
    days.run("2024-05-04", 0);
    let plan = told(&days.project.output(&["plan", "days", "--date", "2024-05-04"]));
    assert!(!plan.contains("billed"), "{plan}");
}

#[test]
fn a_limit_is_a_size_with_its_unit() {
    let service = Service::start(10);
    for text in ["10", "\"10\"", "\"ten GB\"", "\"0 GB\"", "1.5", "\"1.5 PB\""] {
        for (file, pipeline) in [
            (format!("max_bytes = {text}\n"), SELECT.to_owned()),
            (String::new(), format!("max_bytes = {text}\n{SELECT}")),
            (String::new(), format!("{SELECT}max_bytes = {text}\n")),
            (String::new(), format!("[[transform]]\nname = \"t\"\nsql = \"SELECT 1\"\nmax_bytes = {text}\n")),
        ] {
            let days = days(&service, &pipeline);
            days.project.write("haul.toml", &format!("warehouse = \"warehouse\"\n{file}"));
            let said = told(&days.project.output(&["check"]));
            assert!(said.contains("is no number of bytes") && said.contains("10 GB"), "{text}: {said}");
        }
    }
}

#[test]
fn a_probe_that_counts_is_part_of_the_price() {
    let service = Service::start(10);
    let count = Plan::Rows(
        serde_json::json!([{ "name": "row_count", "type": "INTEGER" }]),
        vec![serde_json::json!({ "f": [{ "v": "3" }] })],
    );
    service.plan("COUNT(*)", vec![count]);
    service.plan("shop.orders", vec![Plan::Rows(columns(), stored(0..3, 0).rows)]);
    service.reads("shop.orders", 2 * GIB, 1);
    service.reads("COUNT(*)", GIB, 1);
    let days = days(&service, &format!("{SELECT}probe = \"count\"\n"));
    let plan = &json(&days, &["plan", "days", "--date", "2024-05-04"])[0];
    assert_eq!(plan["cost"]["billed_bytes"], 9 * GIB);
}
