//! Conditional requests: an unchanged page costs a 304, and what was kept is believed only while it is whole.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{check, project, run};
use crate::support::station::{Reply, Station};

const STEP: &str = "request = { path = \"/items\", params = { day = \"2024-05-01\", unit = \"{{ ds_nodash }}\" } }
records = \"$.rows[*]\"
paginate = { by = \"link\" }
conditional = true";

/// Two pages whose second one has a version; counts how many 304s it gave.
struct Api {
    station: Station,
    version: Arc<AtomicUsize>,
    unchanged: Arc<AtomicUsize>,
}

fn api() -> Api {
    let (version, unchanged) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
    let (shown, same) = (Arc::clone(&version), Arc::clone(&unchanged));
    let station = Station::start(move |asked| {
        let second = asked.param("page") == "2";
        let now = if second { shown.load(Ordering::SeqCst) } else { 1 };
        // One page has an entity tag, the other only a date.
        let (validator, value, condition) = if second {
            ("ETag", format!("W/\"{now}\""), "if-none-match")
        } else {
            ("Last-Modified", "Wed, 01 May 2024 07:28:00 GMT".to_owned(), "if-modified-since")
        };
        if asked.header(condition) == value {
            same.fetch_add(1, Ordering::SeqCst);
            return Reply::new(304, "").header(validator, &value);
        }
        let rows = if second { json!([{ "id": 2, "version": now }]) } else { json!([{ "id": 1, "version": 1 }]) };
        let reply = Reply::json(json!({ "rows": rows })).header(validator, &value);
        if second { reply } else { reply.header("Link", "</items?page=2>; rel=\"next\"") }
    });
    Api { station, version, unchanged }
}

fn again(project: &crate::support::project::Project) -> String {
    let output = project.output(&["run", "items", "--date", "2024-05-02"]);
    assert!(output.status.success(), "{}", crate::support::project::told(&output));
    super::words(&crate::support::project::told(&output))
}

#[test]
fn an_unchanged_page_costs_a_304_and_leaves_the_unit_unchanged() {
    let api = api();
    let project = project(&api.station, "", STEP);
    run(&project, "2024-05-02");
    assert_eq!(api.unchanged.load(Ordering::SeqCst), 0);
    let told = again(&project);
    assert_eq!(api.unchanged.load(Ordering::SeqCst), 2, "both pages");
    assert!(told.contains("2 of 2 answers are the same as before: 304 Not Modified"), "{told}");
    assert!(told.contains("unchanged"), "{told}");
    api.version.store(2, Ordering::SeqCst);
    again(&project);
    assert_eq!(api.unchanged.load(Ordering::SeqCst), 3, "the first page alone");
    let rows = project.query("select id, version from raw.items order by id");
    assert_eq!(rows, json!([{ "id": 1, "version": 1 }, { "id": 2, "version": 2 }]));
}

#[test]
fn what_was_kept_is_asked_for_anew_where_it_is_damaged_or_gone() {
    let api = api();
    let project = project(&api.station, "", STEP);
    run(&project, "2024-05-02");
    let folder = project.path().join(".haul/cache/api");
    let files: Vec<_> =
        fs::read_dir(&folder).expect("kept answers").map(|entry| entry.expect("a file").path()).collect();
    assert_eq!(files.len(), 2);
    let mut bytes = fs::read(&files[0]).expect("a file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    bytes.truncate(last);
    fs::write(&files[0], bytes).expect("a file");
    again(&project);
    assert_eq!(api.unchanged.load(Ordering::SeqCst), 1, "the damaged one was sent again");
    fs::remove_dir_all(&folder).expect("a folder");
    again(&project);
    assert_eq!(api.unchanged.load(Ordering::SeqCst), 1, "all were sent again");
    again(&project);
    assert_eq!(api.unchanged.load(Ordering::SeqCst), 3, "and are kept again");
    assert_eq!(project.query("select count(*) as rows from raw.items"), json!([{ "rows": 2 }]));
}

#[test]
fn another_owner_is_not_told_what_was_kept_of_the_first() {
    let api = api();
    let project = project(&api.station, "auth = { type = \"bearer\", token = \"the-first-token\" }", STEP);
    run(&project, "2024-05-02");
    let toml = fs::read_to_string(project.path().join("connections.toml")).expect("a file");
    project.write("connections.toml", &toml.replace("the-first-token", "the-second-token"));
    again(&project);
    assert_eq!(api.unchanged.load(Ordering::SeqCst), 0);
    for entry in fs::read_dir(project.path().join(".haul/cache/api")).expect("kept answers") {
        let path = entry.expect("a file").path();
        let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
        assert!(!text.contains("token") && !path.to_string_lossy().contains("token"), "{}", path.display());
    }
}

#[test]
fn nothing_is_kept_unless_that_is_asked_for() {
    let api = api();
    let project = project(&api.station, "", &STEP.replace("conditional = true", ""));
    run(&project, "2024-05-02");
    again(&project);
    assert_eq!(api.unchanged.load(Ordering::SeqCst), 0);
    assert!(!project.path().join(".haul/cache").exists());
    let told = check("request = { path = \"/{{ ds }}\", body = {} }\nconditional = true");
    assert!(told.contains("asks by POST"), "{told}");
}
