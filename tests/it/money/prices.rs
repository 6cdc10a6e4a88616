//! What a plan says that it would be billed for.

use serde_json::json;

use super::{GIB, SELECT, days, json, rows};
use crate::support::bigquery_service::{Plan, Service, stored};
use crate::support::project::told;

#[test]
fn a_plan_tells_what_each_unit_and_all_of_it_would_be_billed_for_and_sends_no_job() {
    let service = Service::start(10);
    service.plan("shop.orders", vec![rows(0..3)]);
    service.reads("shop.orders", 2 * GIB, 1);
    service.reads("2024-05-02", 1, 2);
    let days = days(&service, SELECT);
    let plan = &json(&days, &["plan", "days", "--date", "2024-05-04"])[0];
    let costs: Vec<_> = plan["tasks"].as_array().expect("tasks").iter().map(|task| task["cost"].clone()).collect();
    let large = json!({ "processed_bytes": 2 * GIB, "billed_bytes": 2 * GIB, "money": { "USD": 0.012_207 } });
    // Each of two tables counts ten MiB at least.
    let small = json!({ "processed_bytes": 1, "billed_bytes": 20 << 20, "money": { "USD": 0.000_119 } });
    assert_eq!(costs, [large.clone(), small, large]);
    assert_eq!(plan["cost"]["billed_bytes"], 4 * GIB + (20 << 20));
    let shown = told(&days.project.output(&["plan", "days", "--date", "2024-05-04"]));
    for words in ["billed", "2.00 GiB", "20.00 MiB", "in all: 4.02 GiB billed, 0.0245 USD"] {
        assert!(shown.contains(words), "`{words}` is missing:\n{shown}");
    }
    assert_eq!(service.jobs().len(), 0);
    // Twice three days, and each statement once.
    assert_eq!(service.dry_runs().len(), 6);
}

#[test]
fn a_backfill_by_the_queue_tells_what_all_of_it_would_be_billed_for() {
    let service = Service::start(10);
    service.plan("shop.orders", vec![rows(0..3)]);
    service.reads("shop.orders", 2 * GIB, 1);
    service.reads("2024-05-02", 1, 2);
    let days = days(&service, SELECT);
    let range = ["--from", "2024-05-01", "--through", "2024-05-03", "--queue"];
    let made = json(&days, &[&["backfill", "days"][..], &range].concat());
    assert_eq!(made["planned"]["bytes"], 4 * GIB + (20 << 20), "{made}");
    assert_eq!(made["planned"]["requests"], json!(null), "a SELECT is no request of a fan-out: {made}");
    let shown = days.project.stdout(&["backfill", "show", "bf-1"]);
    assert!(shown.contains("3 units, 3 tasks, 4.02 GiB billed"), "{shown}");
    assert_eq!(service.jobs().len(), 0);
}

#[test]
fn one_statement_is_priced_once_however_many_units_send_it() {
    let service = Service::start(10);
    service.plan("shop.orders", vec![rows(0..3)]);
    service.reads("shop.orders", GIB, 1);
    let window = "[window]\nlookback = 5\n\n";
    let step = |name: &str| {
        format!(
            "[[extract]]\nname = \"{name}\"\nconnection = \"ga4\"\nsql = \"SELECT * FROM shop.orders\"\nper = \"window\"\ntime_column = \"day\"\nprobe = \"off\"\n"
        )
    };
    // With a `time_column` the columns are asked for first, and then the statement around it is priced.
    let days = days(&service, &format!("{window}{}{}", step("one"), step("two")));
    json(&days, &["plan", "days", "--date", "2024-05-04"]);
    let asked = service.dry_runs();
    let around = asked.iter().filter(|sql| sql.starts_with("SELECT * FROM (")).count();
    assert!(around <= 1, "{asked:?}");
}

#[test]
fn the_price_of_a_tib_is_the_connections_own() {
    let service = Service::start(10);
    service.plan("shop.orders", vec![rows(0..3)]);
    service.reads("shop.orders", 1 << 40, 1);
    let days = days(&service, SELECT);
    let connections = std::fs::read_to_string(days.project.path().join("connections.toml")).expect("a file");
    days.project.write("connections.toml", &format!("{connections}price_per_tib = \"7.5 EUR\"\n"));
    let shown = told(&days.project.output(&["plan", "days", "--date", "2024-05-04"]));
    assert!(shown.contains("in all: 3.00 TiB billed, 22.50 EUR"), "{shown}");
    days.project.write("connections.toml", &format!("{connections}price_per_tib = \"7.5\"\n"));
    let refused = days.run("2024-05-04", 1);
    assert!(refused.contains("`price_per_tib` has to be an amount with its currency"), "{refused}");
}

#[test]
fn what_cannot_be_priced_is_unknown_and_the_plan_is_made_all_the_same() {
    let service = Service::start(10);
    let fails = Plan::Fails { reason: "invalidQuery", message: "Unrecognized name: dya at [1:35]" };
    service.plan("shop.orders", vec![fails]);
    let days = days(&service, SELECT);
    let plan = &json(&days, &["plan", "days", "--date", "2024-05-04"])[0];
    assert_eq!(plan["cost"]["unknown"], 3);
    let reason = plan["tasks"][0]["cost"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("Unrecognized name: dya"), "{reason}");
    assert_eq!(plan["tasks"][0]["cost"]["billed_bytes"], json!(null));
}

#[test]
fn rows_that_are_listed_cost_nothing_and_are_not_priced() {
    let service = Service::start(10);
    service.put("shop.events_20240503", stored(0..5, 1));
    let shards = "[window]\nlookback = 1\n\n[[extract]]\nname = \"events\"\nconnection = \"ga4\"\ntable = \"shop.events_{{ ds_nodash }}\"\n";
    let days = days(&service, shards);
    let plan = &json(&days, &["plan", "days", "--date", "2024-05-04"])[0];
    assert!(plan["cost"].is_null() && plan["tasks"][0]["cost"].is_null(), "{plan}");
    days.run("2024-05-04", 0);
    assert_eq!(service.dry_runs(), [""; 0]);
    assert_eq!(service.jobs().len(), 0);
}
