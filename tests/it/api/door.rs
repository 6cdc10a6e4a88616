//! Who comes in, and who does not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::project;
use crate::support::project::told;
use crate::support::steward::Serving;

#[test]
fn only_who_brings_the_token_comes_in() {
    let project = project();
    let serving = Serving::start(&project);
    let mode = fs::metadata(project.path().join(".haul/token")).expect("the token").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads the token");
    assert_eq!(serving.token.len(), 64);
    assert_eq!(serving.ask("GET", "/api/v1/status", "").status, 200);
    let wrong = format!("Authorization: Bearer {}0", &serving.token[1..]);
    for head in [&[][..], &[wrong.as_str()], &["Authorization: Basic YWRtaW46YWRtaW4="], &["Authorization: Bearer "]] {
        for (method, path) in [("GET", "/api/v1/status"), ("POST", "/api/v1/pipelines/p/trigger"), ("GET", "/metrics")]
        {
            let reply = serving.raw(method, path, head, "");
            assert_eq!(reply.status, 401, "{method} {path} {head:?}");
            assert_eq!(reply.json()["error"]["kind"], "auth");
            assert!(reply.header("www-authenticate").is_some());
        }
    }
    // Nobody was let in: nothing was asked for.
    assert_eq!(serving.get("/api/v1/jobs?state=queued,leased,done")["items"].as_array().map(Vec::len), Some(0));
    // The same token opens the door of the next daemon.
    let (token, _) = (serving.token.clone(), serving.end());
    assert_eq!(Serving::start(&project).token, token);
}

#[test]
fn a_name_that_somebody_has_bent_is_refused_and_one_of_the_settings_is_not() {
    let project = project();
    let text = fs::read_to_string(project.path().join("haul.toml")).expect("the file");
    project.write("haul.toml", &format!("{text}hosts = [\"haul.example.com\"]\n"));
    let serving = Serving::start(&project);
    let token = format!("Authorization: Bearer {}", serving.token);
    for (host, status) in [
        ("evil.example.com", 421),
        ("evil.example.com:80", 421),
        ("localhost.evil.example.com", 421),
        ("", 421),
        ("localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8642", 200),
        ("haul.example.com", 200),
        ("HAUL.example.com:443", 200),
    ] {
        let reply = serving.raw("GET", "/api/v1/status", &[&format!("Host: {host}"), &token], "");
        assert_eq!(reply.status, status, "{host}: {}", reply.body);
    }
}

#[test]
fn the_token_of_the_settings_is_the_one_that_counts_and_is_never_told() {
    let project = project();
    let text = fs::read_to_string(project.path().join("haul.toml")).expect("the file");
    project.write("haul.toml", &format!("{text}token = {{ env = \"DOOR\" }}\n"));
    let mut serving = Serving::start_with(&project, &[("DOOR", "open-sesame-and-let-me-in")]);
    assert!(!project.path().join(".haul/token").exists(), "none is made where one is given");
    serving.token = "open-sesame-and-let-me-in".to_owned();
    assert_eq!(serving.ask("GET", "/api/v1/status", "").status, 200);
    let reply = serving.ask("GET", "/api/v1/pipelines/open-sesame-and-let-me-in", "");
    assert!(reply.status == 404 && !reply.body.contains("sesame"), "{}", reply.body);
    assert!(!serving.end().contains("sesame"));
    let output = project.haul(&["serve"]).env("DOOR", "short").output().expect("haul starts");
    assert!(!output.status.success() && told(&output).contains("less than 16 characters"), "{}", told(&output));
}

#[test]
fn settings_of_the_door_that_are_wrong_are_told_at_their_place() {
    for (settings, fault) in [
        ("listen = \"0.0.0.0:8642\"", "other machines reach `0.0.0.0:8642`, and there is no token of your own"),
        ("listen = \"127.0.0.1\"", "`127.0.0.1` is no address with a port"),
        ("listen = \"example.com:80\"", "`example.com:80` is no address with a port"),
        ("token = \"abcdefghijklmnopqrstuvwxyz\"", "a token does not stand in this file"),
        ("hosts = [\"https://haul.example.com\"]", "`https://haul.example.com` is no name of a host"),
        ("door = true", "unknown key"),
    ] {
        let project = project();
        project.write("haul.toml", &format!("[serve]\n{settings}\n"));
        let output = project.output(&["check"]);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(fault) && told.contains("haul.toml:2"), "{settings}: {told}");
        assert!(!told.contains("abcdefghijklmnop"), "{told}");
    }
}

#[test]
fn what_is_too_large_or_is_no_json_or_leads_nowhere_is_answered_in_words() {
    let project = project();
    let serving = Serving::start(&project);
    let large = format!("{{\"sql\": \"{}\"}}", "x".repeat(2 << 20));
    for (method, path, body, status, words) in [
        ("POST", "/api/v1/query", large.as_str(), 413, "length limit"),
        ("POST", "/api/v1/query", "{\"sql\": ", 400, "EOF"),
        ("POST", "/api/v1/query", "{\"sequel\": \"SELECT 1\"}", 400, "unknown field `sequel`"),
        ("POST", "/api/v1/query", "", 400, "`sql` is empty"),
        ("POST", "/api/v1/query", "{\"sql\": \"SELEC 1\"}", 502, "running the query"),
        ("GET", "/api/v1/runs?limit=0", "", 400, "`limit` is 0"),
        ("GET", "/api/v1/runs?limit=5000", "", 400, "`limit` is more than 1000"),
        ("GET", "/api/v1/runs?pipelin=p", "", 400, "unknown field `pipelin`"),
        ("GET", "/api/v1/jobs/x", "", 400, "`x`"),
        ("GET", "/api/v1/jobs/77", "", 404, "there is no job `77`"),
        ("GET", "/api/v1/runs/none", "", 404, "there is no run `none`"),
        ("GET", "/api/v1/runs/..%2F..%2Fetc/logs", "", 404, "there is no run"),
        ("GET", "/api/v1/pipelines/pp", "", 404, "there is no pipeline `pp`"),
        ("GET", "/api/v1/tables/mart.other/units", "", 404, "there is no table"),
        ("DELETE", "/api/v1/status", "", 405, "is not asked by DELETE"),
        ("GET", "/api/v2/status", "", 404, "there is no page"),
    ] {
        let reply = serving.ask(method, path, body);
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        let error = &reply.json()["error"];
        assert!(error["message"].as_str().is_some_and(|text| text.contains(words)), "{method} {path}: {error}");
    }
}

#[test]
fn an_answer_that_has_not_changed_is_not_sent_again() {
    let project = project();
    let serving = Serving::start(&project);
    let first = serving.ask("GET", "/api/v1/pipelines", "");
    let tag = first.header("etag").expect("a tag").to_owned();
    let token = format!("Authorization: Bearer {}", serving.token);
    let again = serving.raw("GET", "/api/v1/pipelines", &[&token, &format!("If-None-Match: {tag}")], "");
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    serving.post("/api/v1/pipelines/p/pause", &serde_json::json!({}));
    let changed = serving.raw("GET", "/api/v1/pipelines", &[&token, &format!("If-None-Match: {tag}")], "");
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
}
