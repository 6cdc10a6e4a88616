//! The shipped GA4 pipeline: its own tests, its promises, the functions of GoogleSQL in DuckDB, and five mornings.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::bigquery::{PROJECT, emulator};
use crate::support::ga4;
use crate::support::project::{Project, told};

/// The shipped project, as far as the pipeline needs it, with these connections.
fn shipped(connections: &str) -> Project {
    let project = Project::empty();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["haul.toml", "pipelines/ga4_events.toml", "tests/ga4_events.toml"] {
        project.write(name, &std::fs::read_to_string(root.join(name)).expect("a shipped file"));
    }
    for name in ["ga4_sessions.sql", "ga4_conversions.sql", "ga4_daily.sql"] {
        project.write(&format!("sql/{name}"), &std::fs::read_to_string(root.join("sql").join(name)).expect("SQL"));
    }
    project.write("connections.toml", connections);
    project
}

#[test]
fn the_shipped_pipeline_passes_its_own_tests_and_keeps_its_promises_offline() {
    let project = shipped("");
    let said = project.stdout(&["test"]);
    assert!(said.ends_with("3 passed, 0 failed\n"), "{said}");
    let said = project.stdout(&["verify-window", "ga4_events"]);
    assert!(said.ends_with("3 proved, 0 broken\n"), "{said}");
}

#[test]
fn functions_of_googlesql_are_there_in_duckdb() {
    let project = Project::with_api("http://localhost:1", "");
    let found = project.query(
        "SELECT SAFE_DIVIDE(1, 0) AS none, SAFE_DIVIDE(1, 4) AS quarter, TIMESTAMP_MICROS(1714732830000007) AS micros, \
         PARSE_DATE('%Y%m%d', '20240503') AS day, FORMAT_DATE('%d.%m.%Y', DATE '2024-05-03') AS text, COUNTIF(n > 1) AS many, \
         IFNULL(NULL, 3) AS three, LOGICAL_OR(n > 2) AS any, REGEXP_CONTAINS('abc', 'b') AS has, \
         TIMESTAMP_SUB(TIMESTAMP '2024-05-03 10:00:00', INTERVAL 3 HOUR) AS seven, len(GENERATE_DATE_ARRAY(DATE '2024-05-01', DATE '2024-05-03')) AS days \
         FROM UNNEST(GENERATE_ARRAY(1, 3)) AS t(n)",
    );
    assert_eq!(
        found,
        json!([{ "none": null, "quarter": 0.25, "micros": "2024-05-03 10:40:30.000007", "day": "2024-05-03", "text": "03.05.2024",
            "many": 2, "three": 3, "any": true, "has": true, "seven": "2024-05-03 07:00:00", "days": 3 }])
    );
    // They are nobody's: another program that opens the file finds none.
    let kept = project.query("SELECT count(*) AS n FROM duckdb_functions() WHERE function_name = 'parse_date'");
    assert_eq!(kept, json!([{ "n": 0 }]));
}

/// Five mornings of the property: the days' tables come late, and change until they are three days old.
fn five_mornings(project: &Project, put: &dyn Fn(&str, &[Value])) {
    let morning = |date: &str, wanted: i32| {
        let output = project.output(&["run", "ga4_events", "--date", date]);
        assert_eq!(output.status.code(), Some(wanted), "{date}: {}", told(&output));
    };
    put("20240501", &visits("2024-05-01", 9));
    put("20240502", &visits("2024-05-02", 6));
    // The third day's table is not there yet when the third morning begins.
    morning("2024-05-04", 4);
    put("20240503", &visits("2024-05-03", 12));
    // Events of the second day that arrived late: one more session, which buys.
    put("20240502", &visits("2024-05-02", 9));
    morning("2024-05-05", 4);
    put("20240504", &visits("2024-05-04", 3));
    morning("2024-05-05", 0);
    put("20240505", &visits("2024-05-05", 6));
    put("20240504", &visits("2024-05-04", 4));
    morning("2024-05-06", 0);
    put("20240506", &visits("2024-05-06", 6));
    morning("2024-05-07", 0);
    put("20240507", &visits("2024-05-07", 6));
    morning("2024-05-08", 0);
}

/// The events of a day, of people who came on no other: a session that goes on after midnight is no session of the next day.
fn visits(date: &str, count: u64) -> Vec<Value> {
    let of_day = |mut event: Value| {
        event["user_pseudo_id"] = json!(format!("{date}.{}", event["user_pseudo_id"].as_str().unwrap_or_default()));
        event
    };
    ga4::day(date, count).into_iter().map(of_day).collect()
}

/// The tables that the pipeline makes, in an order that is always the same.
fn tables(project: &Project) -> [Value; 3] {
    let daily = "SELECT _haul_unit AS day, source, medium, sessions, visitors, conversions, revenue, conversion_rate FROM mart.ga4_daily ORDER BY day, source, medium";
    let sessions = "SELECT _haul_unit AS day, session_key, session_id, started_at, seconds, events, page_views, engaged, landing_page, source, device FROM mart.ga4_sessions ORDER BY day, session_key";
    let conversions = "SELECT _haul_unit AS day, conversion_key, event_name, converted_at, revenue, source, plan FROM mart.ga4_conversions ORDER BY day, conversion_key";
    [daily, sessions, conversions].map(|sql| plain(&project.query(sql)))
}

/// Numbers and instants as every warehouse means them.
fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        Value::Number(number) => json!(number.as_f64()),
        Value::String(text) if text.len() > 18 && text.starts_with("2024-") => {
            let text = text.replace('T', " ");
            let text = text.trim_end_matches("+00").trim_end_matches('Z');
            let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
            json!(text)
        }
        other => other.clone(),
    }
}

mod with_bigquery {
    use super::{PROJECT, Value, emulator, five_mornings, ga4, json, shipped, tables};
    use crate::support::databases::{Database, PostgresDatabase, SECRET};

    /// The pipeline over daily tables in the emulator and users in PostgreSQL, into a warehouse.
    fn mornings(dataset: &str, warehouse: &str) -> [Value; 3] {
        let users = PostgresDatabase::new();
        users.execute(&[
            "CREATE TABLE users (user_id text, plan text, signed_up_at timestamptz)",
            "INSERT INTO users VALUES ('u1', 'pro', '2024-04-01 08:00:00+00')",
        ]);
        let url = &emulator().url;
        let origin = format!("type = \"bigquery\"\nproject = \"{PROJECT}\"\nendpoint = \"{url}\"\n");
        let shop = users.connection(SECRET).replace("[origin]", "[shop]");
        let project = shipped(&format!("[warehouse]\n{warehouse}\n[ga4]\n{origin}\n{shop}"));
        let pipeline = std::fs::read_to_string(project.path().join("pipelines/ga4_events.toml")).expect("a file");
        project.write("pipelines/ga4_events.toml", &pipeline.replace("analytics_123456", dataset));
        five_mornings(&project, &|day, rows| emulator().put(dataset, &format!("events_{day}"), &ga4::schema(), rows));
        tables(&project)
    }

    #[test]
    fn five_mornings_make_the_same_tables_in_duckdb_and_in_bigquery() {
        let url = &emulator().url;
        let in_bigquery =
            format!("type = \"bigquery\"\nproject = \"{PROJECT}\"\nendpoint = \"{url}\"\ncompress = false\n");
        // Side by side: each waits for the emulator most of its time.
        let (duckdb, bigquery) = std::thread::scope(|scope| {
            let bigquery = scope.spawn(|| mornings("mornings_big", &in_bigquery));
            let duckdb = mornings("mornings_duck", "type = \"duckdb\"\npath = \"warehouse.duckdb\"\n");
            (duckdb, bigquery.join().expect("mornings in BigQuery"))
        });
        // Nine events are three sessions, of which every third event buys.
        let days: Vec<_> = duckdb[1].as_array().expect("rows").iter().map(|row| row["day"].clone()).collect();
        assert_eq!(days.iter().filter(|day| **day == json!("2024-05-02")).count(), 3, "{days:?}");
        assert_eq!(duckdb[2].as_array().map(Vec::len), Some(3 + 3 + 4 + 1 + 2 + 2 + 2), "{:?}", duckdb[2]);
        for (one, other) in duckdb.iter().zip(&bigquery) {
            assert_eq!(one, other);
        }
    }
}
