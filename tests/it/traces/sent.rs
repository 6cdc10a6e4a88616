//! What a collector hears of a run.

use std::collections::HashSet;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::json;

use super::*;
use crate::support::collector::{Collector, attribute};
use crate::support::doors::Ran;
use crate::support::steward::{Serving, until};

fn of<'a>(span: &'a Span, key: &str) -> String {
    attribute(&span.attributes, key)
}

/// The only span of this name and unit; the unit of a phase is that of its parent.
fn named<'a>(spans: &'a [Span], name: &str, unit: &str) -> &'a Span {
    let unit_of = |span: &Span| {
        let parent = spans.iter().find(|other| other.span_id == span.parent_span_id);
        Some(of(span, "haul.unit")).filter(|unit| !unit.is_empty()).or_else(|| Some(of(parent?, "haul.unit")))
    };
    let found: Vec<&Span> =
        spans.iter().filter(|span| span.name == name && unit_of(span).unwrap_or_default() == unit).collect();
    assert_eq!(found.len(), 1, "{name} {unit} in {spans:#?}");
    found[0]
}

#[test]
fn a_run_is_a_trace_with_its_tasks_what_they_pulled_and_their_commits() {
    let collector = Collector::start();
    let (_api, project) = project(&format!("traces = {{ endpoint = \"{}\", service = \"shop\" }}", collector.url));
    let ran = Ran::of(&mut project.haul(&["run", "p", "--date", DATE])).well();
    assert!(!ran.told().contains("warning"), "{}", ran.told());
    let (batches, spans) = (collector.batches(), collector.spans());
    assert!(batches.iter().all(|batch| batch.path == "/v1/traces"));
    assert!(batches.iter().all(|batch| batch.header("content-type") == "application/x-protobuf"));
    assert_eq!(attribute(&batches[0].resource().attributes, "service.name"), "shop");
    assert!(!attribute(&batches[0].resource().attributes, "service.version").is_empty());

    let root = named(&spans, "run p", "");
    assert!(root.parent_span_id.is_empty());
    for (key, value) in [
        ("haul.run.id", "p-2024-05-04-1"),
        ("haul.pipeline", "p"),
        ("haul.logical_date", "2024-05-04"),
        ("haul.trigger", "manual"),
        ("haul.run.status", "succeeded"),
        ("haul.run.tasks", "5"),
        ("haul.run.loaded", "4"),
        ("haul.run.done", "1"),
    ] {
        assert_eq!(of(root, key), value, "{key}");
    }
    let ids: HashSet<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
    assert_eq!(ids.len(), spans.len(), "every span has a name of its own");
    for span in &spans {
        assert_eq!((span.trace_id.as_slice(), span.trace_id.len()), (root.trace_id.as_slice(), 16));
        assert!(root.start_time_unix_nano <= span.start_time_unix_nano, "{span:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{span:?}");
    }

    let task = named(&spans, "items", "2024-05-02");
    assert_eq!(task.parent_span_id, root.span_id);
    for (key, value) in [
        ("haul.step", "items"),
        ("haul.attempt", "1"),
        ("haul.outcome", "loaded"),
        ("haul.rows", "6"),
        ("haul.pages", "2"),
        ("haul.run.id", "p-2024-05-04-1"),
    ] {
        assert_eq!(of(task, key), value, "{key}");
    }
    assert!(of(task, "haul.bytes").parse::<u64>().expect("a number") > 100);
    let pull = named(&spans, "pull", "2024-05-02");
    assert_eq!((pull.parent_span_id.clone(), of(pull, "haul.rows")), (task.span_id.clone(), "6".to_owned()));
    let batch = pull.events.first().expect("a batch of pages");
    assert_eq!((batch.name.as_str(), attribute(&batch.attributes, "haul.pages").as_str()), ("pages", "1"));
    let commits = spans.iter().filter(|span| span.name == "commit").count();
    assert_eq!(commits, 4, "two days in two tables");
    let counted = spans.iter().find(|span| span.name == "counted" && of(span, "haul.unit") == "2024-05-03");
    assert_eq!(of(counted.expect("the transform"), "haul.rows"), "1");
    assert_eq!(of(named(&spans, "tell", "2024-05-02"), "haul.outcome"), "done");
}

#[test]
fn what_failed_says_of_what_kind_and_what_was_skipped_is_counted() {
    let collector = Collector::start();
    let (api, project) = project(&format!("traces = {{ endpoint = \"{}\" }}", collector.url));
    project.write("broken", "");
    let second = PIPELINE.replace("name    = \"tell\"", "name = \"tell\"\nretries = 1\nretry_pause = \"1ms\"")
        + "\n[[run]]\nname = \"after\"\nafter = \"tell\"\nper = \"window\"\nshell = true\ncommand = \"true\"\n";
    project.write("pipelines/p.toml", &second);
    Ran::of(&mut project.haul(&["run", "p", "--date", DATE])).refused(1, &["failed"]);
    drop(api);
    let spans = collector.spans();
    let root = named(&spans, "run p", "");
    let status = root.status.clone().expect("a status");
    assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "1 of the tasks failed"));
    assert_eq!((of(root, "haul.run.failed"), of(root, "haul.run.skipped")), ("1".to_owned(), "1".to_owned()));
    let attempts: Vec<&Span> = spans.iter().filter(|span| span.name == "tell").collect();
    let told: Vec<String> = attempts.iter().map(|span| of(span, "haul.outcome")).collect();
    assert_eq!(told, ["retried", "failed"]);
    let last = attempts[1].status.clone().expect("a status");
    assert!(last.code() == StatusCode::Error && last.message.contains("failed with exit code 3"), "{last:?}");
    assert_eq!((of(attempts[1], "error.type"), of(attempts[1], "haul.attempt")), ("source".to_owned(), "2".to_owned()));
    assert!(spans.iter().all(|span| span.name != "after"), "what was never begun has no span");
}

#[test]
fn the_environment_leads_elsewhere_with_its_own_headers() {
    let (ours, theirs) = (Collector::start(), Collector::start());
    let serve = format!("[serve.traces]\nendpoint = \"{}\"\nheaders = {{ x-key = {{ env = \"OUR_KEY\" }} }}", ours.url);
    let (_api, project) = project(&serve);
    let run = |variables: &[(&str, &str)]| {
        let mut command = project.haul(&["run", "p", "--date", DATE, "--select", "tell"]);
        Ran::of(command.env("OUR_KEY", "geheim-7").envs(variables.iter().copied())).well()
    };
    run(&[]);
    assert_eq!(ours.batches()[0].header("x-key"), "geheim-7");

    run(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &theirs.url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b,x-other=c"),
        ("OTEL_SERVICE_NAME", "other"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=lost"),
    ]);
    let there = theirs.batches();
    assert_eq!((there[0].header("x-tenant"), there[0].header("x-key")), ("a b", ""));
    let about = &there[0].resource().attributes;
    assert_eq!(attribute(about, "service.name"), "other");
    assert_eq!(attribute(about, "deployment.environment.name"), "test");

    let before = (ours.batches().len(), there.len());
    run(&[("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", &theirs.url)]);
    run(&[("OTEL_TRACES_EXPORTER", "none")]);
    assert_eq!((ours.batches().len(), theirs.batches().len()), before, "nobody was asked for these");
}

#[test]
fn a_secret_that_a_program_lets_slip_is_masked_in_the_trace() {
    let collector = Collector::start();
    let (_api, project) = project("");
    project.write(
        "pipelines/p.toml",
        "[[run]]\nname = \"slip\"\nshell = true\ncommand = 'echo \"key $OTEL_EXPORTER_OTLP_HEADERS\" >&2; exit 1'\n\
         env = { OTEL_EXPORTER_OTLP_HEADERS = \"{{ env_var('THE_TOKEN') }}\" }\n",
    );
    let mut command = project.haul(&["run", "p", "--date", DATE]);
    command.env("THE_TOKEN", "geheim-8").env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    Ran::of(&mut command).refused(1, &["failed"]);
    let batches = collector.batches();
    let told = batches.iter().map(|batch| String::from_utf8_lossy(&batch.body)).collect::<String>();
    assert!(told.contains("key •••") && !told.contains("geheim-8"), "{told}");
}

#[test]
fn a_run_of_the_daemon_names_its_job_and_a_drain_sends_what_is_left() {
    let collector = Collector::start();
    let (_api, project) = project(&format!("traces = {{ endpoint = \"{}\" }}", collector.url));
    let serving = Serving::start(&project);
    let job = serving.post("/api/v1/pipelines/p/trigger", &json!({ "date": DATE }))["job"]["id"].clone();
    until("the spans", || collector.spans().iter().any(|span| span.name == "run p").then_some(()));
    until("the count", || {
        let metrics = serving.ask("GET", "/metrics", "").body;
        let line = metrics.lines().find(|line| line.starts_with("haul_trace_spans_total{outcome=\"sent\"}"));
        line?.rsplit(' ').next()?.parse::<usize>().ok().filter(|sent| *sent == collector.spans().len())
    });
    let root = collector.spans().into_iter().find(|span| span.name == "run p").expect("the root");
    assert_eq!((of(&root, "haul.job.id"), of(&root, "haul.job.attempt")), (job.to_string(), "1".to_owned()));

    let second = serving.post("/api/v1/pipelines/p/trigger", &json!({ "date": "2024-05-03" }))["job"]["id"].clone();
    until("the end of the second", || {
        let job = serving.get(&format!("/api/v1/jobs/{second}"))["job"].clone();
        (job["state"] == "done").then_some(())
    });
    let said = serving.end();
    let roots = collector.spans().into_iter().filter(|span| span.name == "run p").count();
    assert_eq!(roots, 2, "{said}");
    assert!(!said.contains("lost"), "{said}");
}

#[test]
fn a_scheduled_run_names_its_instant() {
    let collector = Collector::start();
    let (_api, project) = project(&format!("traces = {{ endpoint = \"{}\" }}", collector.url));
    project.write(
        "pipelines/p.toml",
        "[schedule]\nevery = \"1s\"\n\n[[run]]\nname = \"tell\"\nshell = true\ncommand = \"true\"\n",
    );
    let serving = Serving::start(&project);
    let root = until("a scheduled run", || collector.spans().into_iter().find(|span| span.name == "run p"));
    assert_eq!(of(&root, "haul.trigger"), "schedule");
    let at = of(&root, "haul.schedule.time");
    assert!(at.ends_with("+00:00") && at.len() >= "2024-05-04T00:00:00+00:00".len(), "{at}");
    drop(serving);
}
