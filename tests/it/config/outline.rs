//! Projects of hundreds of pipelines: what is remembered of their files is never older than the files.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::project::{Project, told};

/// More than are shown day by day.
const PIPELINES: usize = 600;

/// Long ago: a file of this very moment might be written once more in it.
fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// Writes a file as if its content were of that time.
fn write_at(project: &Project, name: &str, text: &str, time: SystemTime) {
    project.write(name, text);
    File::options()
        .append(true)
        .open(project.path().join(name))
        .and_then(|file| file.set_modified(time))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn pipeline(number: usize) -> String {
    let (head, from) = match number {
        1 => ("", "{{ ref('p000.rows') }} WHERE day = {{ ds | sql }}"),
        2 => ("[schedule]\nafter = \"p001\"\n", "range(3), (SELECT {{ ds | sql }} AS day)"),
        _ => ("", "range(3), (SELECT {{ ds | sql }} AS day)"),
    };
    let sql = if number == 3 { "sql = \"sql/three.sql\"".to_owned() } else { format!("sql = \"FROM {from}\"") };
    format!("{head}[window]\nlookback = 3\n\n[[transform]]\nname = \"rows\"\ninto = \"mart.t{number:03}\"\n{sql}\n")
}

/// A project whose outline is written.
fn project() -> Project {
    let project = Project::empty();
    let then = long_ago();
    write_at(&project, "connections.toml", "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n", then);
    write_at(&project, "sql/three.sql", "SELECT {{ ds | sql }} AS day\n", then);
    for number in 0..PIPELINES {
        write_at(&project, &format!("pipelines/p{number:03}.toml"), &pipeline(number), then);
    }
    project.stdout(&["runs"]);
    project.stdout(&["status"]);
    project
}

fn outline(project: &Project) -> PathBuf {
    project.path().join(".haul/outline.json")
}

/// Takes two pipelines out of what is remembered, so that it can be told from what is.
fn forget_two(project: &Project) {
    let path = outline(project);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("no outline: {error}"));
    let mut all: Value = serde_json::from_str(&text).expect("JSON");
    for name in ["p598", "p599"] {
        all["pipelines"].as_object_mut().expect("pipelines").remove(name).expect("it is there");
    }
    std::fs::write(path, all.to_string()).expect("a file");
}

/// How many tables `haul status` knows of.
fn tables(project: &Project) -> usize {
    let told = project.stdout(&["status"]);
    told.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{told}"))
}

#[test]
fn one_pipeline_of_hundreds_is_planned_as_if_all_had_been_read() {
    let project = project();
    let commands: Vec<Vec<String>> = ["p000", "p001", "p002", "p003"]
        .iter()
        .flat_map(|name| [vec!["plan", name, "--date", "2026-03-05"], vec!["status", name]])
        .map(|words| words.into_iter().map(str::to_owned).collect())
        .collect();
    let seen = || -> Vec<String> {
        let told = |words: &Vec<String>| told(&project.output(&words.iter().map(String::as_str).collect::<Vec<_>>()));
        commands.iter().map(told).collect()
    };
    project.stdout(&["run", "p000", "--date", "2026-03-05"]);
    forget_two(&project);
    assert_eq!(tables(&project), PIPELINES - 2, "it is used");
    let in_part = seen();
    std::fs::remove_file(outline(&project)).expect("it is there");
    assert_eq!(in_part, seen());
    assert!(in_part[2].contains("mart.t001"), "{}", in_part[2]);
}

#[test]
fn warnings_are_told_of_the_files_that_are_read() {
    let project = project();
    write_at(&project, "pipelines/p000.toml", &pipeline(0).replace("{{ ds | sql }}", "1"), long_ago());
    let told = |words: &[&str]| told(&project.output(words));
    assert!(told(&["status"]).contains("p000.toml:7"), "all are read");
    for (name, warned) in [("p000", true), ("p001", true), ("p002", true), ("p003", false)] {
        assert_eq!(told(&["plan", name]).contains("p000.toml:7"), warned, "{name}: {}", told(&["plan", name]));
    }
}

#[test]
fn a_pipeline_that_is_not_there_is_told_with_the_nearest_of_all() {
    let project = project();
    let output = project.output(&["plan", "p59x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("did you mean `p59"), "{}", told(&output));
}

#[test]
fn a_file_that_changes_is_read_again_also_where_its_size_and_date_are_as_before() {
    let project = project();
    forget_two(&project);
    assert_eq!(tables(&project), PIPELINES - 2);
    let (name, text) = ("pipelines/p300.toml", pipeline(300));
    let then = std::fs::metadata(project.path().join(name)).and_then(|file| file.modified()).expect("a time");
    write_at(&project, name, &text.replace("lookback", "lookbakc"), then);
    for (command, code) in [(&["plan", "p001"][..], 2), (&["status"], 0), (&["status", "p002"], 0)] {
        let output = project.output(command);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {}", told(&output));
        assert!(told(&output).contains("p300.toml") && told(&output).contains("lookbakc"), "{}", told(&output));
    }
    write_at(&project, name, &text, then);
    assert_eq!(tables(&project), PIPELINES);
}

#[test]
fn whatever_else_a_project_is_made_of_counts_too() {
    let project = project();
    let again = |what: &str, change: &dyn Fn()| {
        let before = tables(&project);
        forget_two(&project);
        assert_eq!(tables(&project), before - 2, "before {what}");
        change();
        let after = tables(&project);
        std::fs::remove_file(outline(&project)).expect("it is there");
        assert_eq!(after, tables(&project), "{what}");
    };
    let at = |name: &str| project.path().join(name);
    again("a file of SQL", &|| write_at(&project, "sql/three.sql", "SELECT {{ ds | sql }} AS today\n", long_ago()));
    again("settings", &|| write_at(&project, "haul.toml", "[vars]\nname = 1\n", long_ago()));
    again("a connection", &|| {
        let own = std::fs::read_to_string(at("connections.toml")).expect("a file");
        let more = format!("{own}\n[other]\ntype = \"duckdb\"\npath = \"other.duckdb\"\n");
        write_at(&project, "connections.toml", &more, long_ago());
    });
    again("a new pipeline", &|| write_at(&project, "pipelines/q.toml", &pipeline(700), long_ago()));
    again("a pipeline that is gone", &|| std::fs::remove_file(at("pipelines/q.toml")).expect("it is there"));
    again("a name", &|| std::fs::rename(at("pipelines/p400.toml"), at("pipelines/r.toml")).expect("it is there"));
}

#[test]
fn files_that_are_as_new_as_the_outline_are_not_trusted() {
    let project = project();
    // Newer than any outline of it.
    let to_come = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    write_at(&project, "pipelines/p300.toml", &pipeline(300), to_come);
    assert_eq!(tables(&project), PIPELINES);
    forget_two(&project);
    assert_eq!(tables(&project), PIPELINES);
}

#[test]
fn an_outline_that_is_damaged_is_none() {
    let project = project();
    std::fs::write(outline(&project), "{\"print\":").expect("a file");
    assert_eq!(tables(&project), PIPELINES);
    forget_two(&project);
    assert_eq!(tables(&project), PIPELINES - 2, "it was written anew");
}
