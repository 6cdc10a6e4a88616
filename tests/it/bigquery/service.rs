//! What no emulator vouches for: tokens, patience, names of jobs, what a table tells of its changes, types that are rare.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use serde_json::json;

use crate::support::bigquery_service::{Plan, Service, Stored, columns, refusal, stored};
use crate::support::doors::{Ran, Reply, nobody};
use crate::support::mornings::Mornings;
use crate::support::project::{Project, told};

const TABLE: &str = "shop.events_20240503";

/// The daily tables of `shop`, one day back.
const SHARDS: &str = r#"
[window]
lookback = 1

[[extract]]
name = "events"
connection = "ga4"
table = "shop.events_{{ ds_nodash }}"
into = "raw.events"
"#;

/// A SELECT, one day back.
const SELECT: &str = r#"
[window]
lookback = 1

[[extract]]
name = "events"
connection = "ga4"
sql = "SELECT * FROM shop.orders WHERE day = {{ ds | sql }}"
max_bytes = "10 GB"
into = "raw.events"
"#;

const STATEMENT: &str = "SELECT * FROM shop.orders WHERE day = DATE '2024-05-03'";

fn days(project: Project, pipeline: &str) -> Mornings {
    project.write("pipelines/days.toml", pipeline);
    Mornings { project }
}

fn ids(days: &Mornings) -> Vec<u64> {
    let rows = days.project.query("select id from raw.events order by id");
    rows.as_array().expect("rows").iter().map(|row| row["id"].as_u64().expect("an id")).collect()
}

fn rows(ids: std::ops::Range<u64>) -> Plan {
    Plan::Rows(columns(), stored(ids, 0).rows)
}

#[test]
fn a_service_account_signs_in_once_and_again_when_its_token_is_not_taken() {
    let service = Service::start(10);
    service.put(TABLE, stored(0..25, 1));
    let days = days(service.project(), SHARDS);
    let mut said = days.run("2024-05-04", 0);
    assert_eq!(service.asked("/token"), 1);
    assert_eq!(ids(&days), (0..25).collect::<Vec<_>>());
    // A token that dies while pages are read is renewed, and the page is asked for again.
    service.put(TABLE, stored(0..45, 2));
    service.fail("0503/data", 1, || refusal(401, "authError", "Request had invalid authentication credentials."));
    said += &days.run("2024-05-04", 0);
    assert_eq!(service.asked("/token"), 3);
    assert_eq!(ids(&days), (0..45).collect::<Vec<_>>());
    // One that is never taken is the end of it.
    service.put(TABLE, stored(0..46, 3));
    service.fail("0503/data", 9, || refusal(401, "authError", "Request had invalid authentication credentials."));
    let before = service.asked("0503/data");
    let refused = days.run("2024-05-04", 1);
    assert!(refused.contains("auth: ") && refused.contains("invalid authentication credentials"), "{refused}");
    assert_eq!(service.asked("0503/data") - before, 2);
    said += &refused;
    let tried = Ran::of(&mut days.project.haul(&["connections", "test", "ga4"])).well().told();
    assert!(tried.contains("as robot@strict-project.iam.gserviceaccount.com"), "{tried}");
    assert!(tried.contains("BigQuery has 1 dataset in strict-project"), "{tried}");
    said += &tried;
    assert!(!said.contains("ya29") && !said.contains("PRIVATE KEY"), "{said}");
}

#[test]
fn what_passes_is_asked_again_and_what_does_not_is_told_at_once() {
    let passing: [fn() -> Reply; 5] = [
        || Reply::new(503, "<html>Service Unavailable</html>"),
        || refusal(403, "rateLimitExceeded", "Exceeded rate limits: too many api requests per user per method"),
        || refusal(500, "backendError", "An internal error occurred and the request could not be completed."),
        || Reply::new(502, ""),
        || refusal(429, "rateLimitExceeded", "Quota exceeded").header("retry-after", "0"),
    ];
    let service = Service::start(10);
    service.put(TABLE, stored(0..3, 1));
    for (at, reply) in ["/events_20240503", "0503/data"].iter().cycle().zip(passing) {
        service.fail(at, 1, reply);
    }
    let days = days(service.project(), SHARDS);
    days.run("2024-05-04", 0);
    assert_eq!(ids(&days), [0, 1, 2]);
    // One of each, and once more for every fault.
    assert_eq!(service.asked("/events_20240503"), 2 + 5);

    for (reply, words) in [
        (
            (|| refusal(403, "accessDenied", "Access Denied: Table strict-project:shop.events_20240503"))
                as fn() -> Reply,
            "BigQuery Data Viewer",
        ),
        (|| refusal(403, "quotaExceeded", "Quota exceeded: Your project exceeded quota"), "used up a quota of its day"),
        (|| refusal(400, "invalid", "Invalid value"), "Invalid value"),
    ] {
        let before = service.asked("/events_20240503");
        service.fail("/events_20240503", 1, reply);
        let said = days.run("2024-05-04", 1);
        assert!(said.contains(words), "{said}");
        assert_eq!(service.asked("/events_20240503") - before, 1, "{said}");
    }
}

#[test]
fn a_day_is_read_again_when_its_table_says_so_and_always_while_rows_stream_in() {
    let service = Service::start(10);
    let days = days(service.project(), SHARDS);
    service.put(TABLE, stored(0..5, 1));
    let mut reads = Vec::new();
    let steps = [
        stored(0..5, 1),
        // The same number of rows and bytes, changed in their places.
        Stored { rows: stored(100..105, 2).rows, ..stored(0..5, 2) },
        Stored { streaming: true, ..stored(0..5, 3) },
        Stored { streaming: true, ..stored(0..5, 3) },
        stored(0..5, 3),
        stored(0..5, 3),
    ];
    for step in steps {
        service.put(TABLE, step);
        let before = service.asked("0503/data");
        days.run("2024-05-04", 0);
        reads.push(service.asked("0503/data") - before);
    }
    assert_eq!(reads, [1, 1, 1, 1, 1, 0]);
}

#[test]
fn a_table_that_changes_while_it_is_read_is_read_from_its_beginning() {
    let service = Service::start(10);
    service.put(TABLE, stored(0..35, 1));
    service.put_after(2, TABLE, stored(500..540, 2));
    let days = days(service.project(), SHARDS);
    days.run("2024-05-04", 0);
    assert_eq!(ids(&days), (500..540).collect::<Vec<_>>());
    // What was seen before the rows counts: the next morning looks again, and then no more.
    days.run("2024-05-04", 0);
    let before = service.asked("0503/data");
    days.run("2024-05-04", 0);
    assert_eq!(service.asked("0503/data"), before);
}

#[test]
fn a_job_has_a_name_of_ours_and_is_found_again_when_the_answer_was_lost() {
    let service = Service::start(10);
    service.plan(STATEMENT, vec![rows(0..25)]);
    service.lose("/jobs", 1, || Reply::new(503, "upstream connect error"));
    let days = days(service.project(), SELECT);
    days.run("2024-05-04", 0);
    assert_eq!(ids(&days), (0..25).collect::<Vec<_>>());
    let jobs = service.jobs();
    let (id, job) = jobs.iter().next().expect("a job");
    assert_eq!(jobs.len(), 1);
    assert!(id.starts_with("haul_days-2024-05-04-1_2024-05-03_"), "{id}");
    assert_eq!(job["configuration"]["query"]["query"], STATEMENT);
    assert_eq!(job["configuration"]["query"]["maximumBytesBilled"], "10000000000");
    let labels = json!({ "pipeline": "days", "step": "events", "unit": "2024-05-03", "run": "days-2024-05-04-1" });
    assert_eq!(job["configuration"]["labels"], labels);
    assert_eq!(job["jobReference"]["location"], "EU");
}

#[test]
fn a_statement_that_would_read_too_much_is_not_run() {
    let service = Service::start(10);
    let fails = Plan::Fails {
        reason: "bytesBilledLimitExceeded",
        message: "Query exceeded limit for bytes billed: 10000000000. 12000000000 or higher required.",
    };
    service.plan(STATEMENT, vec![fails]);
    let days = days(service.project(), SELECT);
    let said = days.run("2024-05-04", 1);
    assert!(said.contains("exceeded limit for bytes billed") && said.contains("`max_bytes`"), "{said}");
    assert_eq!(service.jobs().len(), 1, "it is not tried again");
}

#[test]
fn a_job_that_failed_for_a_reason_that_passes_is_sent_again_under_another_name() {
    let service = Service::start(10);
    let fails = Plan::Fails {
        reason: "backendError",
        message: "Error encountered during execution. Retrying may solve the problem.",
    };
    service.plan(STATEMENT, vec![fails, rows(0..3)]);
    let days = days(service.project(), SELECT);
    days.run("2024-05-04", 0);
    assert_eq!(ids(&days), [0, 1, 2]);
    let names: Vec<String> = service.jobs().into_keys().collect();
    assert_eq!(names.len(), 2);
    assert_eq!(format!("{}_2", names[0]), names[1]);
}

#[test]
fn killed_between_two_pages_of_a_result_it_goes_on_with_the_same_job() {
    let service = Service::start(10);
    service.plan(STATEMENT, vec![rows(0..45)]);
    let days = days(service.project(), SELECT);
    let killed = days.project.output(&["run", "days", "--date", "2024-05-04", "--kill-at", "page:2"]);
    assert_eq!(killed.status.signal(), Some(9), "{}", told(&killed));
    days.run("2024-05-04", 0);
    assert_eq!(ids(&days), (0..45).collect::<Vec<_>>());
    assert_eq!(service.jobs().len(), 1);
}

#[test]
fn whoever_stops_a_run_stops_the_job() {
    let service = Service::start(10);
    service.plan(STATEMENT, vec![Plan::Runs]);
    let days = days(service.project(), SELECT);
    let mut child = days
        .project
        .haul(&["run", "days", "--date", "2024-05-04"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("haul starts");
    while service.asked("/queries/") == 0 {
        assert_eq!(child.try_wait().expect("a child"), None, "it waits for the job");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let interrupted = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.expect("kill").success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let id = service.jobs().into_keys().next().expect("a job");
    assert_eq!(service.asked(&format!("/jobs/{id}/cancel")), 1);
}

#[test]
fn types_that_are_rare_keep_all_their_digits() {
    let service = Service::start(10);
    let schema = json!([
        { "name": "big", "type": "BIGNUMERIC" },
        { "name": "price", "type": "NUMERIC", "precision": "10", "scale": "2" },
        { "name": "span", "type": "RANGE", "rangeElementType": { "type": "DATE" } },
        { "name": "gap", "type": "INTERVAL" },
        { "name": "far", "type": "TIMESTAMP" },
        { "name": "nested", "type": "RECORD", "fields": [{ "name": "n", "type": "NUMERIC" }, { "name": "f", "type": "FLOAT" }] },
    ]);
    let cells = json!({ "f": [
        { "v": "578960446186580977117854925043439539266.34992332820282019728792003956564819967" },
        { "v": "12345678.9" },
        { "v": "[2024-01-01, UNBOUNDED)" },
        { "v": "1-2 3 4:5:6.789" },
        { "v": "-62135596800000000" },
        { "v": { "f": [{ "v": "12345678901234567890123456789.123456789" }, { "v": "1.7976931348623157E308" }] } },
    ] });
    service.put(TABLE, Stored { schema, rows: vec![cells], modified: 1, streaming: false });
    let days = days(service.project(), SHARDS);
    days.run("2024-05-04", 0);
    assert_eq!(
        days.project.query("select cast(columns(* exclude (_haul_unit, _haul_pull)) as varchar) from raw.events"),
        json!([{
            "big": "578960446186580977117854925043439539266.34992332820282019728792003956564819967",
            "price": "12345678.90", "span": "[2024-01-01, UNBOUNDED)", "gap": "1-2 3 4:5:6.789",
            "far": "0001-01-01 00:00:00",
            "nested": "{'n': 12345678901234567890123456789.123456789, 'f': 1.7976931348623157e+308}",
        }])
    );
}

#[test]
fn a_service_that_is_not_there_fails_the_day_and_the_next_run_repairs_it() {
    let service = Service::start(10);
    service.put(TABLE, stored(0..3, 1));
    let days = days(service.project(), SHARDS);
    let connections = std::fs::read_to_string(days.project.path().join("connections.toml")).expect("a file");
    let gone = format!("http://127.0.0.1:{}", nobody());
    // The token still comes from where it came from.
    days.project.write("connections.toml", &connections.replace(&service.door.url, &gone));
    let said = days.run("2024-05-04", 1);
    assert!(said.contains("unavailable: ") && said.contains("cannot be reached") && said.contains(&gone), "{said}");
    days.project.write("connections.toml", &connections);
    days.run("2024-05-04", 0);
    assert_eq!(ids(&days), [0, 1, 2]);
}

#[test]
fn credentials_of_the_environment_go_to_google_alone() {
    let service = Service::start(10);
    let project = service.project();
    let connect = |endpoint: &str| {
        project.write(
            "connections.toml",
            &format!("[ga4]\ntype = \"bigquery\"\nproject = \"strict-project\"\n{endpoint}"),
        );
        let mut command = project.haul(&["connections", "test", "ga4"]);
        command.env("GOOGLE_APPLICATION_CREDENTIALS", project.path().join("key.json"));
        command
    };
    // Another address gets none, and this one does not do without.
    let endpoint = format!("endpoint = \"{}\"\n", service.door.url);
    Ran::of(&mut connect(&endpoint)).refused(1, &["invalid authentication credentials"]);
    assert_eq!(service.asked("/token"), 0);
    assert!(service.door.asked().iter().all(|asked| asked.header("authorization") == "Bearer emulator"));
    // For Google they are read, and a token is asked for where they say.
    service.refuse_keys();
    let refused = Ran::of(&mut connect("")).refused(1, &["invalid_grant", "is the key still valid"]);
    assert!(!refused.told().contains("PRIVATE KEY"), "{}", refused.told());
    assert_eq!(service.asked("/token"), 1);
    let mut command = connect("");
    command.env("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json");
    Ran::of(&mut command).refused(2, &["/nowhere/key.json", "GOOGLE_APPLICATION_CREDENTIALS"]);
}
