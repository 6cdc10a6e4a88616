//! Rows on their way to BigQuery: whole, in pieces that go on where they were cut, and through a bucket.

use serde_json::json;

use crate::support::bigquery_strict::{Fault, PROJECT, Strict};
use crate::support::project::Project;

const PIPELINE: &str = r#"
[window]
lookback = 1

[[extract]]
name = "items"
connection = "files"
files = "{{ ds }}.jsonl"
into = "raw.items"
write = "partition"
"#;

/// A project with a day whose rows no compression makes small.
fn project(server: &Strict, megabytes: usize, more: &str) -> Project {
    let project = Project::empty();
    project.write("haul.toml", "warehouse = \"bq\"\n");
    project.write(
        "connections.toml",
        &format!(
            "[bq]\ntype = \"bigquery\"\nproject = \"{PROJECT}\"\nendpoint = \"{0}\"\nstorage_endpoint = \"{0}\"\n{more}\n\n[files]\ntype = \"files\"\nurl = \"data\"\n",
            server.url
        ),
    );
    project.write("pipelines/days.toml", PIPELINE);
    let (mut text, mut seed) = (String::new(), 7_u64);
    for id in 0..megabytes * 1000 {
        text.push_str(&format!("{{\"id\":{id},\"noise\":\""));
        for _ in 0..61 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(&format!("{seed:016x}"));
        }
        text.push_str("\"}\n");
    }
    project.write("data/2024-05-01.jsonl", &text);
    project
}

fn run(project: &Project) -> String {
    project.stdout(&["run", "days", "--date", "2024-05-02"])
}

#[test]
fn a_large_upload_goes_on_where_it_was_cut() {
    let server = Strict::start();
    let project = project(&server, 12, "compress = false");
    server.fail("PUT /session/1", Fault::CutAfter(5 << 20));
    run(&project);
    assert_eq!(server.table("raw.items").rows.len(), 12_000);
    let asked = server.asked();
    let puts = asked.iter().filter(|one| one.starts_with("PUT /session/1")).count();
    assert_eq!(puts, 3, "the whole, the question, the rest: {asked:#?}");
    let size: u64 = 12_000 * 1_040;
    assert!(
        server.uploaded() > size + size / 3 && server.uploaded() < 2 * size - (4 << 20),
        "only the rest went twice: {}",
        server.uploaded()
    );
    assert_eq!(server.named("haul_unit_").len(), 2, "one job, and the line that tells of it");
}

#[test]
fn an_upload_whose_session_is_forgotten_begins_anew() {
    let server = Strict::start();
    let project = project(&server, 10, "compress = false");
    server.fail("PUT /session/1", Fault::Forget);
    run(&project);
    assert_eq!(server.table("raw.items").rows.len(), 10_000);
    assert!(server.asked().iter().any(|one| one.starts_with("PUT /session/2")));
}

#[test]
fn an_upload_whose_last_answer_was_lost_is_not_sent_again() {
    let server = Strict::start();
    let project = project(&server, 10, "");
    server.fail("PUT /session/1", Fault::LoseAnswer);
    run(&project);
    assert_eq!(server.table("raw.items").rows.len(), 10_000);
    assert_eq!(server.named("haul_unit_").len(), 2);
}

#[test]
fn rows_are_compressed_unless_the_connection_says_otherwise() {
    let size = |more: &str| {
        let server = Strict::start();
        run(&project(&server, 1, more));
        assert_eq!(server.table("raw.items").rows.len(), 1_000);
        server.uploaded()
    };
    let (compressed, plain) = (size(""), size("compress = false"));
    assert!(compressed < plain * 3 / 4, "{compressed} of {plain}");
}

#[test]
fn large_uploads_go_through_a_bucket_and_leave_nothing_there() {
    let server = Strict::start();
    let project = project(&server, 2, "stage_bucket = \"gs://lake/haul\"\nstage_above = \"1 MB\"");
    run(&project);
    assert_eq!(server.table("raw.items").rows.len(), 2_000);
    let jobs = server.jobs();
    let load = jobs.values().map(|job| &job.configuration["load"]).find(|load| load["sourceUris"].is_array());
    let uri = load.expect("a job that reads the bucket")["sourceUris"][0].as_str().expect("an address").to_owned();
    assert!(uri.starts_with("gs://lake/haul/haul_unit_"), "{uri}");
    let (there, removed) = server.objects();
    assert_eq!(there, Vec::<String>::new());
    assert_eq!(json!(removed), json!([uri.trim_start_matches("gs://")]));
    // What is small does not take that way.
    assert!(jobs.iter().any(|(id, job)| id.ends_with("_told") && job.configuration["load"]["sourceUris"].is_null()));
}
