//! Predicates are literals in the text that is sent: a partition is pruned by nothing else.

use super::{days, json, rows};
use crate::support::bigquery_service::{Plan, Service, Stored};
use serde_json::{Value, json as value};

/// What must not stand where a partition's column is compared.
fn assert_literal(sql: &str) {
    let predicate = sql.to_uppercase();
    let predicate = predicate.rsplit_once("WHERE").map_or("", |(_, predicate)| predicate);
    assert!(!predicate.is_empty(), "there is no predicate in {sql}");
    for banned in ["SELECT", "@", "?", "$", "CURRENT_", "DATE_SUB", "DATE_ADD", "PARSE_", "CAST(", "DECLARE"] {
        assert!(!predicate.contains(banned), "`{banned}` in {sql}");
    }
    assert!(predicate.contains('\'') || predicate.chars().any(|c| c.is_ascii_digit()), "{sql}");
}

fn table(data_type: &str, cell: &Value) -> Stored {
    let schema = value!([{ "name": "at", "type": data_type }]);
    Stored { schema, rows: vec![value!({ "f": [{ "v": cell }] })], modified: 1, streaming: false }
}

#[test]
fn the_time_column_of_a_source_is_compared_with_literals_of_its_type() {
    for (data_type, format, expected) in [
        ("TIMESTAMP", "iso", "`at` >= TIMESTAMP '2024-05-02T15:00:00Z' AND `at` < TIMESTAMP '2024-05-03T15:00:00Z'"),
        ("DATETIME", "iso", "`at` >= DATETIME '2024-05-03T00:00:00' AND `at` < DATETIME '2024-05-04T00:00:00'"),
        ("DATE", "iso", "`at` >= DATE '2024-05-03' AND `at` < DATE '2024-05-04'"),
        ("INTEGER", "epoch", "`at` >= 1714662000 AND `at` < 1714748400"),
        ("INTEGER", "epoch_ms", "`at` >= 1714662000000 AND `at` < 1714748400000"),
    ] {
        let service = Service::start(10);
        let table = table(data_type, &value!("0"));
        service.plan("shop.events", vec![Plan::Rows(table.schema.clone(), Vec::new())]);
        service.put("shop.events", table);
        let pipeline = format!(
            "timezone = \"Asia/Seoul\"\n[window]\nlookback = 1\n\n[[extract]]\nname = \"events\"\nconnection = \"ga4\"\ntable = \"shop.events\"\ntime_column = \"at\"\ntime_format = \"{format}\"\n"
        );
        let days = days(&service, &pipeline);
        days.run("2024-05-04", 0);
        let jobs = service.jobs();
        let job = jobs.values().next().expect("a job");
        let sql = job["configuration"]["query"]["query"].as_str().expect("a statement");
        assert!(sql.ends_with(expected), "{sql}");
        assert_literal(sql);
        assert!(job["configuration"]["query"]["queryParameters"].is_null(), "{job}");
        // What is priced is what is sent.
        assert_eq!(service.dry_runs(), [sql]);
    }
}

#[test]
fn what_a_template_says_of_its_window_is_a_literal() {
    let service = Service::start(10);
    service.plan("shop.orders", vec![rows(0..3)]);
    for predicate in [
        "day = {{ ds | sql }}",
        "day >= {{ ds | sql }} AND day < {{ next_ds | sql }}",
        "at >= {{ unit.start | sql }} AND at < {{ unit.end | sql }}",
        "day BETWEEN {{ unit.start | date | sql }} AND {{ ds | date_add(-1) | sql }}",
        "_TABLE_SUFFIX = '{{ ds_nodash }}'",
        "day >= {{ window.start | date | sql }} AND day <= {{ window.last | sql }}",
    ] {
        let pipeline = format!(
            "[window]\nlookback = 2\n\n[[extract]]\nname = \"events\"\nconnection = \"ga4\"\nsql = \"SELECT * FROM shop.orders WHERE {predicate}\"\n\n[[transform]]\nname = \"daily\"\nsql = \"SELECT 1 AS n FROM {{{{ ref('events') }}}} WHERE {predicate}\"\n"
        );
        let days = days(&service, &pipeline);
        for step in ["events", "daily"] {
            let shown = json(&days, &["render", "days", step, "--date", "2024-05-04"]);
            let all = shown.as_array().expect("units");
            assert_eq!(all.len(), 2);
            for one in all {
                assert_literal(one["what"].as_str().expect("SQL"));
            }
        }
    }
}
