//! `haul doctor`: each thing that is wrong is one line that says so, and what to do.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::project::{Project, told};
use crate::support::station::{Reply, Station};

const DAYS: &str =
    "[[extract]]\nname = \"items\"\ntype = \"process\"\ncommand = [\"echo\", \"{}\"]\ninto = \"raw.items\"\n";

fn project() -> Project {
    let project = Project::empty();
    project.write("connections.toml", "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n");
    project.write("pipelines/days.toml", DAYS);
    readable(&project, "connections.toml", 0o600);
    project
}

fn readable(project: &Project, name: &str, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(project.path().join(name), permissions).expect("a mode");
}

/// All lines of the doctor, who must end with this exit code.
fn checks(project: &Project, more: &[&str], code: i32) -> Vec<Value> {
    let ran = project.output(&[&["doctor", "--output", "json"], more].concat());
    assert_eq!(ran.status.code(), Some(code), "{}", told(&ran));
    let found: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    found["checks"].as_array().expect("checks").clone()
}

/// The lines that are not fine: their level, area and name.
fn bad(checks: &[Value]) -> Vec<String> {
    let word = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let not_fine = checks.iter().filter(|check| check["level"] != "ok" && check["name"] != "disk");
    not_fine.map(|check| format!("{} {} {}", word(check, "level"), word(check, "area"), word(check, "name"))).collect()
}

fn line<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no `{name}`: {checks:?}"))
}

#[test]
fn a_project_in_good_health_has_nothing_but_good_lines() {
    let project = project();
    assert_eq!(bad(&checks(&project, &[], 0)), Vec::<String>::new());
    assert!(!project.path().join(".haul").exists(), "a look leaves nothing behind");
    assert!(project.output(&["run"]).status.success());
    let found = checks(&project, &[], 0);
    assert_eq!(bad(&found), Vec::<String>::new());
    assert!(line(&found, "time zones")["seen"].as_str().is_some_and(|seen| seen.starts_with("IANA 20")));
    let text = project.stdout(&["doctor"]);
    assert!(text.starts_with("ok    machine     haul: "), "{text}");
}

#[test]
fn faults_of_files_and_secrets_that_others_may_read_are_told() {
    let project = project();
    project.write("pipelines/broken.toml", "[[extract]]\nnam = \"x\"\n");
    readable(&project, "connections.toml", 0o644);
    let found = checks(&project, &["--offline"], 1);
    assert_eq!(bad(&found), ["fail project files", "warn project secrets"]);
    assert_eq!(line(&found, "secrets")["hint"], "chmod 600 connections.toml");
    assert_eq!(line(&found, "files")["hint"], "haul check");
}

#[test]
fn a_state_folder_that_cannot_be_made_is_found_and_every_command_says_which_it_is() {
    let project = project();
    project.write("taken", "a file");
    // Nobody makes a folder below /proc, whoever it is.
    for (folder, in_the_way) in
        [("taken", "taken is a file"), ("taken/state", "taken is a file"), ("/proc/haul", "/proc")]
    {
        project.write("haul.toml", &format!("state_dir = \"{folder}\"\n[serve]\nlisten = \"off\"\n"));
        let found = checks(&project, &["--offline"], 1);
        assert_eq!(bad(&found), ["fail state folder"], "{folder}: {found:?}");
        let seen = line(&found, "folder");
        assert!(seen["seen"].as_str().is_some_and(|seen| seen.contains(in_the_way)), "{seen}");
        assert!(seen["hint"].as_str().is_some_and(|hint| hint.contains("`state_dir` in haul.toml")), "{seen}");
        for command in [&["run"][..], &["serve"], &["status"]] {
            let ran = project.output(command);
            let said = told(&ran);
            assert!(!ran.status.success(), "{command:?}: {said}");
            assert!(said.contains("the state folder") && said.contains(in_the_way), "{command:?}: {said}");
            assert!(said.contains("`state_dir` in haul.toml"), "{command:?}: {said}");
        }
    }
    assert_eq!(std::fs::read_to_string(project.path().join("taken")).expect("the file"), "a file");
}

#[test]
fn a_connection_that_leads_nowhere_and_a_clock_that_is_away_are_told() {
    let old = Station::start(|_| Reply::json(json!({})).header("date", "Sat, 04 May 2024 06:10:00 GMT"));
    let project = project();
    let text = std::fs::read_to_string(project.path().join("connections.toml")).expect("connections");
    let nowhere = crate::support::doors::nobody();
    let more = format!(
        "{text}[api]\ntype = \"http\"\nurl = \"{}\"\n[gone]\ntype = \"http\"\nurl = \"http://127.0.0.1:{nowhere}\"\n\
         [unset]\ntype = \"http\"\nurl = \"http://127.0.0.1:{nowhere}\"\ntoken = {{ env = \"NO_SUCH_VARIABLE\" }}\n",
        old.url
    );
    project.write("connections.toml", &more);
    readable(&project, "connections.toml", 0o600);
    let found = checks(&project, &["--now", "2024-05-04T06:00:00Z"], 1);
    let own = bad(&found).into_iter().filter(|line| line.contains("connection")).collect::<Vec<_>>();
    assert_eq!(own, ["fail connection api", "fail connection gone", "fail connection unset"]);
    let skew = found.iter().find(|check| check["name"] == "api" && check["level"] == "fail").expect("a line");
    assert_eq!(skew["seen"], "its clock is 600 s ahead of ours");
    assert!(line(&found, "unset")["seen"].as_str().is_some_and(|seen| seen.contains("`NO_SUCH_VARIABLE`")));
    // Not asked, only read: what is not set is wrong all the same.
    let own = bad(&checks(&project, &["--offline", "--now", "2026-05-04T06:00:00Z"], 1));
    assert_eq!(own, ["fail connection unset"]);
}

#[test]
fn a_state_file_that_is_damaged_older_or_newer_is_told_and_left_as_it_is() {
    let project = project();
    let file = project.path().join(".haul/state.db");
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state/0004.db");
    project.write(".haul/.keep", "");
    std::fs::copy(&fixture, &file).expect("the fixture");
    let found = checks(&project, &["--offline"], 0);
    assert_eq!(bad(&found), ["warn state version"]);
    assert!(line(&found, "version")["seen"].as_str().is_some_and(|seen| seen.starts_with("4, this haul writes ")));
    let mut bytes = std::fs::read(&fixture).expect("the fixture");
    bytes[20_000..70_000].fill(0xA5);
    std::fs::write(&file, &bytes).expect("a damaged file");
    let found = checks(&project, &["--offline"], 1);
    assert!(bad(&found).contains(&"fail state file".to_owned()), "{found:?}");
    assert_eq!(std::fs::read(&file).expect("the file"), bytes);
    std::fs::write(&file, "no database at all, but a text that is long enough to be read as the header of one")
        .expect("a text");
    assert!(bad(&checks(&project, &["--offline"], 1)).contains(&"fail state file".to_owned()));
}

#[test]
fn what_a_killed_process_leaves_behind_is_told() {
    let project = project();
    project.write(
        "pipelines/days.toml",
        &DAYS.replace("[\"echo\", \"{}\"]", "[\"sh\", \"-c\", \"touch begun; sleep 600\"]"),
    );
    let mut run = project.haul(&["run"]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("haul starts");
    while !project.path().join("begun").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // While it lives all is well, and the file of the warehouse has its holder.
    let found = checks(&project, &["--offline"], 0);
    assert_eq!(bad(&found), Vec::<String>::new());
    let held = line(&found, "warehouse")["seen"].as_str().expect("a line").to_owned();
    assert!(held.contains(&format!("is held by process {}", run.id())), "{held}");
    run.kill().expect("it is killed");
    run.wait().expect("it ends");
    let found = checks(&project, &["--offline"], 0);
    assert_eq!(bad(&found), ["warn state processes"]);
}

#[test]
fn a_schedule_that_stands_still_or_follows_what_never_runs_is_told() {
    let project = project();
    project.write("pipelines/a.toml", &format!("[schedule]\ncron = \"0 6 * * *\"\n{DAYS}"));
    project.write(
        "pipelines/b.toml",
        &format!("[schedule]\ncron = \"0 6 * * *\"\npaused = true\n{}", DAYS.replace("raw.", "b.")),
    );
    project.write("pipelines/c.toml", &format!("[schedule]\nafter = \"days\"\n{}", DAYS.replace("raw.", "c.")));
    project.write("pipelines/days.toml", &DAYS.replace("raw.", "d."));
    let found = checks(&project, &["--offline", "--now", "2026-05-04T07:00:00Z"], 0);
    assert_eq!(bad(&found), ["warn schedule b", "warn schedule c"]);
    assert_eq!(line(&found, "a")["seen"], "next at 2026-05-05 06:00 UTC");
}
