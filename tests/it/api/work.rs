//! What is asked and ordered: runs, their logs, the queue, the ledger, metrics, readiness.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::{date, ended, project, run};
use crate::support::steward::{FAR, Serving, until};

#[test]
fn a_run_that_is_asked_for_runs_and_everything_of_it_can_be_asked() {
    let project = project();
    let serving = Serving::start(&project);
    let job = run(&serving, "p", &date());
    assert_eq!((&job["outcome"], &job["pipeline"]), (&json!("succeeded"), &json!("p")));
    let name = job["run"].as_str().expect("a run");
    let one = serving.get(&format!("/api/v1/runs/{name}"));
    assert_eq!((&one["run"]["status"], &one["alive"]), (&json!("succeeded"), &json!(false)));
    let tasks: Vec<(&str, &str, &str)> = one["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|task| {
            let text = |name: &str| task[name].as_str().expect("a text");
            (text("step"), text("unit"), text("state"))
        })
        .collect();
    assert_eq!(
        tasks,
        [("tell", "2024-05-02", "done"), ("days", "2024-05-02", "loaded"), ("days", "2024-05-03", "loaded")]
    );
    assert!(one["tasks"].as_array().expect("tasks").iter().all(|task| task["finished_at"].is_string()));
    let units = serving.get("/api/v1/tables/mart.days/units?state=loaded&from=2024-05-03");
    assert_eq!(units["items"][0]["unit"], "2024-05-03");
    assert_eq!(units["items"].as_array().map(Vec::len), Some(1));
    let tables = serving.get("/api/v1/tables");
    assert_eq!(
        (&tables[0]["table"], &tables[0]["units"], &tables[0]["last"]),
        (&json!("mart.days"), &json!({ "loaded": 2 }), &json!("2024-05-03"))
    );
    // The daemon has the file; it is asked, and no digit is lost.
    let rows = serving.post("/api/v1/query", &json!({ "sql": "SELECT n, count(*) AS c FROM mart.days GROUP BY n" }));
    assert_eq!(rows["rows"].to_string(), "[[9007199254740993,2]]");
    let refused = serving.ask("POST", "/api/v1/query", "{\"sql\": \"DROP TABLE mart.days\"}");
    assert!(refused.status == 502 && refused.body.contains("it changes nothing"), "{}", refused.body);
    let plan = serving.get("/api/v1/pipelines/p/plan?date=2024-05-05&select=days");
    assert_eq!(plan["tasks"][0]["step"], "days");
    assert_eq!(serving.get("/api/v1/costs?by=day")["total"]["jobs"], 0);
    let tested = serving.post("/api/v1/connections/warehouse/test", &json!({}));
    assert_eq!(tested["works"], true, "{tested}");
    assert!(serving.get("/api/v1/tables/mart.days/drift")["ages"].is_array());
    let preview = serving.get("/api/v1/pipelines/p/steps/days/preview?date=2024-05-04&rows=1");
    assert_eq!(preview["rows"].as_array().map(Vec::len), Some(1), "{preview}");
    for word in ["approve", "reject"] {
        let place = |unit: &str| format!("/api/v1/tables/mart.days/units/{unit}/{word}");
        let loaded = serving.ask("POST", &place("2024-05-02"), "{}");
        assert!(loaded.status == 409 && loaded.body.contains("is loaded, not held"), "{}", loaded.body);
        let never = serving.ask("POST", &place("2024-06-02"), "{}");
        assert!(never.status == 400 && never.body.contains("was never pulled"), "{}", never.body);
    }
}

#[test]
fn lists_come_in_pages_that_leave_nothing_out() {
    let project = project();
    let serving = Serving::start(&project);
    for day in 4..7 {
        run(&serving, "p", &json!({ "date": format!("2024-05-0{day}"), "force": true }));
    }
    let all: Vec<Value> = serving.get("/api/v1/runs")["items"].as_array().expect("runs").clone();
    assert_eq!(all.len(), 3);
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = serving.get(&format!("/api/v1/runs?pipeline=p&status=succeeded&limit=1{after}"));
        paged.extend(page["items"].as_array().expect("runs").clone());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(paged, all);
    let name = all[0]["id"].as_str().expect("a run").to_owned();
    let whole = serving.get(&format!("/api/v1/runs/{name}/logs?level=debug&limit=1000"));
    let first = serving.get(&format!("/api/v1/runs/{name}/logs?level=debug&limit=4"));
    let rest =
        serving.get(&format!("/api/v1/runs/{name}/logs?level=debug&after={}", first["next"].as_str().expect("more")));
    let mut both = first["items"].as_array().expect("lines").clone();
    both.extend(rest["items"].as_array().expect("lines").clone());
    assert_eq!(whole["items"].as_array(), Some(&both));
    let tail = serving.get(&format!("/api/v1/runs/{name}/logs?task=tell&tail=2"));
    let texts: Vec<&str> =
        tail["items"].as_array().expect("lines").iter().filter_map(|line| line["text"].as_str()).collect();
    assert_eq!(texts, ["over", "exit code 0"]);
}

/// Reads server-sent events until one of this name has come.
fn events(serving: &Serving, path: &str, mut each: impl FnMut(&str, &str)) {
    let mut stream = TcpStream::connect(&serving.address).expect("a connection");
    stream.set_read_timeout(Some(FAR)).expect("a timeout");
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n", serving.token);
    stream.write_all(head.as_bytes()).expect("a request");
    let mut event = String::new();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut event);
        } else if let Some(data) = line.strip_prefix("data: ") {
            each(&event, data);
            if event == "end" {
                return;
            }
        }
    }
    panic!("the stream broke off");
}

#[test]
fn a_log_is_followed_while_the_run_goes_on_until_it_ends() {
    let project = project();
    project.write("wait", "");
    let serving = Serving::start(&project);
    let asked = serving.post("/api/v1/pipelines/p/trigger", &date());
    let job = asked["job"]["id"].as_i64().expect("a number");
    let name =
        until("the run", || serving.get(&format!("/api/v1/jobs/{job}"))["job"]["run"].as_str().map(str::to_owned));
    let mut seen = Vec::new();
    events(&serving, &format!("/api/v1/runs/{name}/logs/stream?task=tell"), |event, data| {
        let data: Value = serde_json::from_str(data).expect("JSON");
        if data["text"] == "hello" {
            assert_eq!(serving.get(&format!("/api/v1/runs/{name}"))["alive"], true);
            project.write("go", "");
        }
        seen.push(if event == "end" { format!("end: {}", data["status"]) } else { data["text"].to_string() });
    });
    assert_eq!(seen, ["\"\"", "\"hello\"", "\"over\"", "\"exit code 0\"", "end: \"succeeded\""]);
    // Who has heard some of it goes on behind that.
    let mut rest = Vec::new();
    let lines = serving.get(&format!("/api/v1/runs/{name}/logs?task=tell"));
    let after = lines["items"][2]["n"].as_u64().expect("a number");
    events(&serving, &format!("/api/v1/runs/{name}/logs/stream?task=tell&after={after}"), |event, _| {
        rest.push(event.to_owned());
    });
    assert_eq!(rest, ["line", "end"]);
}

#[test]
fn a_run_is_cancelled_tried_again_and_asked_for_only_once() {
    let project = project();
    project.write("wait", "");
    let serving = Serving::start(&project);
    let asked = serving.post("/api/v1/pipelines/p/trigger", &date());
    let again = serving.post("/api/v1/pipelines/p/trigger", &date());
    assert_eq!((&asked["new"], &again["new"], &again["job"]["id"]), (&json!(true), &json!(false), &asked["job"]["id"]));
    let job = asked["job"]["id"].as_i64().expect("a number");
    let name =
        until("the run", || serving.get(&format!("/api/v1/jobs/{job}"))["job"]["run"].as_str().map(str::to_owned));
    assert_eq!(serving.get("/api/v1/status")["running"][0]["id"], name.as_str());
    assert_eq!(serving.ask("POST", &format!("/api/v1/runs/{name}/retry"), "").status, 409, "it has not ended");
    serving.post(&format!("/api/v1/runs/{name}/cancel"), &json!({}));
    let over = ended(&serving, job);
    assert_eq!(over["outcome"], "cancelled");
    let late = serving.ask("POST", &format!("/api/v1/jobs/{job}/cancel"), "");
    assert!(late.status == 409 && late.body.contains("is over: cancelled"), "{}", late.body);
    project.write("go", "");
    let retried = serving.post(&format!("/api/v1/runs/{name}/retry"), &json!({}));
    assert_eq!(ended(&serving, retried["job"]["id"].as_i64().expect("a number"))["outcome"], "succeeded");
}

#[test]
fn a_pipeline_is_paused_and_resumed_and_its_schedule_told() {
    let project = project();
    let serving = Serving::start(&project);
    let coming = serving.get("/api/v1/schedule?pipeline=q&next=2");
    assert_eq!(coming.as_array().map(Vec::len), Some(2));
    assert!(coming[0]["at"].as_str().is_some_and(|at| at.ends_with("T06:00:00Z")), "{coming}");
    let before = serving.get("/api/v1/pipelines/q");
    assert_eq!(
        (&before["next"], &before["paused"], &before["schedule"]),
        (&coming[0]["at"], &Value::Null, &json!("0 6 * * *"))
    );
    let paused = serving.post("/api/v1/pipelines/q/pause", &json!({ "reason": "the source moves house" }));
    assert_eq!(paused, json!({ "pipeline": "q", "paused": true, "was": false }));
    let after = serving.get("/api/v1/pipelines/q");
    assert_eq!((&after["next"], &after["paused"]["reason"]), (&Value::Null, &json!("the source moves house")));
    assert_eq!(serving.get("/api/v1/status")["paused"], json!(["q"]));
    assert_eq!(serving.post("/api/v1/pipelines/q/resume", &json!({}))["was"], true);
    assert_eq!(serving.get("/api/v1/pipelines/q")["next"], before["next"]);
}

#[test]
fn what_is_counted_is_told_in_the_format_of_prometheus() {
    let project = project();
    let serving = Serving::start(&project);
    run(&serving, "p", &date());
    let asked = serving.post("/api/v1/pipelines/q/trigger", &json!({}));
    let job = asked["job"]["id"].as_i64().expect("a number");
    until("the failed run", || (serving.get(&format!("/api/v1/jobs/{job}"))["job"]["run"].is_string()).then_some(()));
    let failed = "haul_runs_total{pipeline=\"q\",status=\"failed\"} 1";
    let text = until("the count", || {
        let text = serving.ask("GET", "/metrics", "").body;
        text.contains(failed).then_some(text)
    });
    for line in [
        "haul_runs_total{pipeline=\"p\",status=\"succeeded\"} 1",
        "haul_tasks_total{pipeline=\"p\",status=\"loaded\"} 2",
        "haul_tasks_total{pipeline=\"q\",status=\"failed\"} 1",
        "haul_rows_loaded_total{pipeline=\"p\"} 2",
        "haul_task_duration_seconds_count{pipeline=\"p\"} 3",
        "haul_run_duration_seconds_count{pipeline=\"p\"} 1",
        "haul_queue_jobs{class=\"fresh\",state=\"ready\"} 0",
        "haul_occurrence_lag_seconds{pipeline=\"q\"} 0.0",
        "haul_pipelines 2",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.lines().any(|line| line.starts_with("haul_next_occurrence_timestamp_seconds{pipeline=\"q\"} ")));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn it_is_ready_while_its_store_can_be_written_and_its_loop_comes_round() {
    let project = project();
    let serving = Serving::start(&project);
    assert_eq!(serving.raw("GET", "/healthz", &[], "").json()["status"], "ok");
    let ready = serving.raw("GET", "/readyz", &[], "");
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)), "{}", ready.body);
    // A file that is wrong is told, and stops nothing.
    project.write("pipelines/r.toml", "steps = \"secret-word\"\n");
    until("the fault", || (serving.raw("GET", "/readyz", &[], "").json()["project"]["ok"] == false).then_some(()));
    let told = serving.raw("GET", "/readyz", &[], "");
    assert!(told.status == 200 && !told.body.contains("secret-word"), "{}", told.body);
    assert!(serving.get("/api/v1/status")["daemon"]["faults"].as_str().is_some_and(|text| text.contains("r.toml")));
    // A daemon that ends takes no new work, and says so as long as a run is under way.
    project.write("wait", "");
    let asked = serving.post("/api/v1/pipelines/p/trigger", &date());
    let job = asked["job"]["id"].as_i64().expect("a number");
    until("the run", || serving.get(&format!("/api/v1/jobs/{job}"))["job"]["run"].as_str().map(str::to_owned));
    let pid = serving.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    until("the draining", || (serving.raw("GET", "/readyz", &[], "").status == 503).then_some(()));
    assert_eq!(serving.raw("GET", "/healthz", &[], "").status, 200);
    project.write("go", "");
    serving.end();
}
