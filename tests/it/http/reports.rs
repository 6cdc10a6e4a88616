//! Reports: created once, waited for, downloaded; whatever happens in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{check, project, run, run_badly};
use crate::support::station::{Asked, Reply, Station};

const STEP: &str = "request = { path = \"/reports\", body = { day = \"{{ ds }}\" } }
format = \"csv\"
[extract.report]
values = { id = \"$.report.id\" }
[extract.report.poll]
path = \"/reports/{{ report.id }}\"
status = \"$.status\"
done = [\"SUCCESS\"]
failed = [\"FATAL\", \"CANCELLED\"]
reason = \"$.error\"
values = { url = \"$.location\" }
every = \"1ms\"
timeout = \"20s\"
[extract.report.download]
path = \"{{ report.url }}\"";

/// An API that is done with a report at the third question.
fn api(answer: impl Fn(&Asked, usize) -> Option<Reply> + Send + Sync + 'static) -> Station {
    let (created, polled) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Station::start(move |asked| {
        let polls = polled.load(Ordering::SeqCst);
        if let Some(reply) = answer(asked, polls) {
            return reply;
        }
        let host = asked.header("host");
        match asked.path.as_str() {
            "/reports" => {
                assert_eq!((asked.method.as_str(), asked.body.as_str()), ("POST", "{\"day\":\"2024-05-01\"}"));
                let id = created.fetch_add(1, Ordering::SeqCst) + 1;
                Reply::new(202, json!({ "report": { "id": id } }).to_string())
            }
            path if path.starts_with("/reports/") => {
                let poll = polled.fetch_add(1, Ordering::SeqCst) + 1;
                let status = if poll < 3 { "IN_PROGRESS" } else { "SUCCESS" };
                Reply::json(
                    json!({ "status": status, "location": format!("http://{host}/files{}?poll={poll}", &path[8..]) }),
                )
            }
            _ => Reply::of("text/csv", "id\n1\n2\n"),
        }
    })
}

fn rows(project: &crate::support::project::Project) -> String {
    project.query("select string_agg(id, ' ' order by id) as ids from raw.items")[0]["ids"].to_string()
}

#[test]
fn a_report_is_created_waited_for_and_downloaded() {
    let station = api(|_, _| None);
    let project = project(&station, "auth = { type = \"bearer\", token = \"secret-token\" }", STEP);
    let told = run(&project, "2024-05-02");
    assert_eq!(rows(&project), "\"1 2\"");
    assert_eq!((station.count("/reports"), station.count("/reports/1"), station.count("/files/1")), (1, 3, 1));
    assert!(told.contains("the report is IN_PROGRESS"), "{told}");
    assert!(station.asked().iter().all(|asked| asked.header("authorization") == "Bearer secret-token"));
}

#[test]
fn a_pull_that_is_killed_goes_on_with_the_same_report() {
    for boundary in ["page:1", "page:2", "sealed:1", "judged:1", "committed:1"] {
        let station = api(|_, _| None);
        let project = project(&station, "", STEP);
        let killed = project.output(&["run", "items", "--date", "2024-05-02", "--kill-at", boundary]);
        assert!(!killed.status.success(), "{boundary}");
        run(&project, "2024-05-02");
        assert_eq!(rows(&project), "\"1 2\"", "{boundary}");
        assert_eq!(station.count("/reports"), 1, "{boundary}: no second report");
        assert_eq!(station.count("/files/1"), 1, "{boundary}: and no second download");
    }
}

#[test]
fn a_pull_that_is_killed_while_it_waits_goes_on_waiting() {
    let patient = Arc::new(AtomicUsize::new(0));
    let served = Arc::clone(&patient);
    let station = api(move |asked, _| {
        (asked.path == "/reports/1" && served.load(Ordering::SeqCst) == 0)
            .then(|| Reply::json(json!({ "status": "QUEUED" })))
    });
    let project = project(&station, "", STEP);
    let mut child = project.haul(&["run", "items", "--date", "2024-05-02"]).spawn().expect("haul starts");
    station.wait_for("/reports/1", 3);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    patient.store(1, Ordering::SeqCst);
    run(&project, "2024-05-02");
    assert_eq!((rows(&project), station.count("/reports")), ("\"1 2\"".to_owned(), 1));
}

#[test]
fn a_report_that_fails_is_told_with_the_servers_reason_and_created_anew_by_the_next_run() {
    let fixed = Arc::new(AtomicUsize::new(0));
    let served = Arc::clone(&fixed);
    let station = api(move |asked, _| {
        let fails = asked.path.starts_with("/reports/") && served.load(Ordering::SeqCst) == 0;
        fails.then(|| Reply::json(json!({ "status": "fatal", "error": "too many rows" })))
    });
    let project = project(&station, "", STEP);
    let told = run_badly(&project, "2024-05-02");
    assert!(told.contains("the report is fatal: too many rows"), "{told}");
    fixed.store(1, Ordering::SeqCst);
    run(&project, "2024-05-02");
    assert_eq!((rows(&project), station.count("/reports")), ("\"1 2\"".to_owned(), 2));
}

#[test]
fn an_address_that_has_expired_is_asked_for_again() {
    let station = api(|asked, _| {
        (asked.path == "/files/1" && asked.query == "poll=3").then(|| Reply::new(403, "Request has expired"))
    });
    let project = project(&station, "", STEP);
    let told = run(&project, "2024-05-02");
    assert!(told.contains("has expired, and is asked for again"), "{told}");
    let polls = ["poll=3", "poll=4"];
    let files: Vec<String> =
        station.asked().into_iter().filter(|one| one.path == "/files/1").map(|one| one.query).collect();
    assert_eq!((rows(&project), files), ("\"1 2\"".to_owned(), polls.map(str::to_owned).to_vec()));
}

#[test]
fn a_download_elsewhere_learns_nothing_of_who_we_are() {
    let elsewhere = Station::start(|_| Reply::of("text/csv", "id\n7\n"));
    let url = elsewhere.url.clone();
    let station = api(move |asked, polls| {
        let done = asked.path.starts_with("/reports/") && polls == 0;
        done.then(|| Reply::json(json!({ "status": "SUCCESS", "location": format!("{url}/f?signature=abc") })))
    });
    let connection =
        "auth = { type = \"bearer\", token = \"secret-token\" }\nheaders = { X-Tenant = \"secret-tenant\" }";
    let project = project(&station, connection, STEP);
    run(&project, "2024-05-02");
    assert_eq!(rows(&project), "\"7\"");
    let headers = format!("{:?}", elsewhere.asked()[0].headers);
    assert!(!headers.contains("secret"), "{headers}");
    assert!(station.asked().iter().all(|asked| asked.header("x-tenant") == "secret-tenant"));
}

#[test]
fn a_report_that_the_server_has_forgotten_is_created_anew() {
    let station = api(|asked, _| (asked.path == "/reports/1").then(|| Reply::new(404, "no such report")));
    let project = project(&station, "", STEP);
    assert!(run_badly(&project, "2024-05-02").contains("no such report"));
    let told = run(&project, "2024-05-02");
    assert!(told.contains("begins anew"), "{told}");
    assert_eq!((rows(&project), station.count("/reports")), ("\"1 2\"".to_owned(), 2));
}

#[test]
fn a_status_of_http_and_retry_after_are_enough() {
    let polls = AtomicUsize::new(0);
    let station = Station::start(move |asked| match asked.path.as_str() {
        "/export" => Reply::new(202, "").header("Location", "/jobs/9"),
        "/jobs/9" if polls.fetch_add(1, Ordering::SeqCst) == 0 => Reply::new(202, "").header("Retry-After", "0"),
        _ => Reply::json(json!([{ "id": "a" }])),
    });
    let step = "request = { path = \"/export\", params = { day = \"{{ ds }}\" } }
[extract.report]
values = { job = { header = \"Location\" } }
[extract.report.poll]
path = \"{{ report.job }}\"
every = \"1h\"";
    let project = project(&station, "", step);
    run(&project, "2024-05-02");
    // The answer that says that it is there has the rows; it is asked for once more, for them.
    assert_eq!((rows(&project), station.count("/jobs/9")), ("\"a\"".to_owned(), 3));
}

#[test]
fn a_report_that_does_not_come_ends_the_wait_and_not_the_report() {
    let patient = Arc::new(AtomicUsize::new(0));
    let served = Arc::clone(&patient);
    let station = api(move |asked, _| {
        let pending = asked.path.starts_with("/reports/") && served.load(Ordering::SeqCst) == 0;
        pending.then(|| Reply::json(json!({ "status": "QUEUED" })))
    });
    let project = project(&station, "", &STEP.replace("timeout = \"20s\"", "timeout = \"50ms\""));
    let told = run_badly(&project, "2024-05-02");
    assert!(told.contains("it is not there after 50ms, but QUEUED"), "{told}");
    patient.store(1, Ordering::SeqCst);
    run(&project, "2024-05-02");
    assert_eq!((rows(&project), station.count("/reports")), ("\"1 2\"".to_owned(), 1));
}

#[test]
fn a_report_that_is_told_in_part_is_explained() {
    let request = "request = { path = \"/reports\", body = { day = \"{{ ds }}\" } }";
    for (report, expected) in [
        ("report = { values = { id = \"$.id\" } }", "`extract.report` has no `poll`"),
        (
            "report = { poll = { path = \"/r\", status = \"$.s\" } }",
            "does not say which status means that the report is there",
        ),
        ("report = { poll = { path = \"/r\", done = [\"A\"] } }", "nothing says where the status is"),
        ("report = { poll = { path = \"/r\" }, download = { params = { a = 1 } } }", "`report.download` has no `path`"),
        ("report = { poll = { path = \"/r\", every = 5 } }", "has no unit"),
    ] {
        let told = check(&format!("{request}\n{report}"));
        assert!(told.contains(expected), "`{expected}` is not in {told}");
    }
}
