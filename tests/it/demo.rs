//! The demo: the event service on loopback, and `haul demo` from an empty folder without any network.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use haul::demo::Server;
use serde_json::Value;

/// Status and body of a GET.
fn get(server: &Server, path: &str) -> (u16, String) {
    let address = server.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

#[test]
fn the_event_service_answers_as_the_real_one_and_its_world_grows() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let entered = runtime.enter();
    let mornings = haul::demo::mornings();
    let server = Server::start(mornings[0].1).expect("the server");
    drop(entered);

    let day = "/fdsnws/event/1/query?format=geojson&starttime=2018-02-01&endtime=2018-02-02&limit=100&offset=101";
    let page = |server: &Server| -> Value {
        let (status, body) = get(server, day);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    };
    let first = page(&server);
    assert_eq!(first["metadata"]["offset"], 101);
    assert_eq!(first["features"].as_array().map(Vec::len), Some(100));
    assert_eq!(first, page(&server), "the same morning, the same answer");

    let total = |server: &Server| get(server, &day.replace("query", "count").replace("geojson", "text")).1;
    let before: u32 = total(&server).parse().expect("a count");
    server.set_asof(mornings[5].1);
    let after: u32 = total(&server).parse().expect("a count");
    assert!(before < after, "{before} events became {after}");
    assert_ne!(first["features"], page(&server)["features"], "and some were revised");

    let (status, body) = get(&server, "/fdsnws/event/1/query?format=geojson&offset=0");
    assert_eq!(status, 400);
    assert!(body.starts_with("Error 400: Bad Request"), "{body}");
    assert_eq!(server.requests(), 6);
}

#[test]
fn the_demo_runs_from_an_empty_folder_and_ends_with_the_advice() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_haul"))
        .arg("demo")
        .current_dir(folder.path())
        .env_remove("HAUL_PROJECT")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("haul starts");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    for expected in ["raw.earthquakes", "mart.earthquakes_ranking", "2018-02-06", "more than 3 days"] {
        assert!(told.contains(expected), "{expected} is missing in:\n{told}");
    }
}
