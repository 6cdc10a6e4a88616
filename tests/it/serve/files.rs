//! Files that change, and files that are wrong, under a daemon at work.

use super::*;
use crate::support::gate::{Door, Served};

#[test]
fn a_run_keeps_the_version_that_it_began_with_and_the_next_has_the_new_one() {
    let gate = Gate::start(Door::Shut);
    let project = gated(&gate);
    let version = |number: u8| {
        format!(
            "{ROWS}[[transform]]\nname = \"daily\"\nsql = \"select {number} as v from {{{{ ref('rows') }}}}\"\ninto = \"mart.daily\"\n"
        )
    };
    project.write("pipelines/rows.toml", &version(1));
    let served = Served::start(&project, &[]);
    project.stdout(&["trigger", "rows", "--date", "2024-05-04"]);
    gate.wait_for(1);
    project.write("pipelines/rows.toml", &version(2));
    let read = served.says("read again");
    assert!(read["message"].as_str().is_some_and(|line| line.contains("changed: rows")), "{read}");
    gate.is(Door::Open);
    served.says("succeeded");
    project.stdout(&["trigger", "rows", "--date", "2024-05-05"]);
    served.says_times("succeeded", 2);
    served.stop();
    let rows = project.query("select distinct _haul_unit::varchar as day, v from mart.daily order by 1");
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "{rows}");
    assert_eq!((&rows[0]["v"], &rows[1]["v"]), (&Value::from(1), &Value::from(2)), "{rows}");
}

#[test]
fn a_broken_file_is_told_once_and_stops_nothing() {
    let project = shared();
    project.write("pipelines/a.toml", &command("[schedule]\nevery = \"1s\"", "echo a >> out.txt"));
    project.write("pipelines/b.toml", &command("[schedule]\nevery = \"1s\"", "echo b >> out.txt"));
    let served = Served::start(&project, &[]);
    served.says("succeeded");
    project.write("pipelines/b.toml", "[schedule]\nevry = \"1s\"\n");
    let told = served.says("pipelines/b.toml is wrong");
    assert!(told["detail"].as_str().is_some_and(|text| text.contains("evry")), "{told}");
    let before = lines(&project, "out.txt").len();
    until("both go on", || {
        let lines = lines(&project, "out.txt");
        let now = &lines[before..];
        ["a", "b"].iter().all(|name| now.iter().filter(|line| line == name).count() >= 2).then_some(())
    });
    assert_eq!(served.said("is wrong"), 1);
    // Another pipeline changes while that one is still wrong.
    project.write("pipelines/a.toml", &command("[schedule]\nevery = \"1s\"", "echo new >> out.txt"));
    until("the new one", || lines(&project, "out.txt").contains(&"new".to_owned()).then_some(()));
    project.write("pipelines/b.toml", &command("[schedule]\nevery = \"1s\"", "echo mended >> out.txt"));
    served.says("all files are right again");
    until("the mended one", || lines(&project, "out.txt").contains(&"mended".to_owned()).then_some(()));
    assert_eq!(served.said("is wrong"), 1);
    served.stop();
}

#[test]
fn a_daemon_starts_without_the_pipelines_that_are_wrong_and_takes_them_up_when_they_are_right() {
    let project = shared();
    project.write("pipelines/a.toml", &command("[schedule]\nevery = \"1s\"", "echo a >> out.txt"));
    project.write("pipelines/b.toml", "[[transform]]\nname = \"b\"\nsql = \"sql/none.sql\"\n");
    let served = Served::start(&project, &[]);
    served.says("pipelines/b.toml is wrong, and left out until it is right");
    served.says("succeeded");
    // The rest can be steered all the same, and so can the one that is wrong.
    let refused = project.output(&["trigger", "b"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the file of the pipeline `b` is wrong"));
    project.stdout(&["pause", "b", "--reason", "being mended"]);
    project.stdout(&["trigger", "a", "--date", "2024-05-04"]);
    project.write("pipelines/b.toml", &command("", "echo b >> out.txt"));
    served.says("all files are right again");
    project.stdout(&["trigger", "b"]);
    until("the mended one", || lines(&project, "out.txt").contains(&"b".to_owned()).then_some(()));
    served.stop();
}

#[test]
fn a_project_file_that_is_wrong_refuses_the_start() {
    let project = shared();
    project.write("haul.toml", "[serve]\nlease = \"10ms\"\nworkrs = 2\n");
    project.write("pipelines/a.toml", &command("", "true"));
    let output = project.output(&["serve"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in ["`serve.lease` lies outside of 1s to 1d", "workrs", "workers"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn connections_that_are_wrong_leave_those_that_there_were_and_blame_no_pipeline() {
    let gate = Gate::start(Door::Open);
    let project = gated(&gate);
    let served = Served::start(&project, &[]);
    let right = std::fs::read_to_string(project.path().join("connections.toml")).expect("connections");
    project.write("connections.toml", &format!("{right}\n[[[\n"));
    let told = served.says("connections.toml is wrong: what was there before stays in force");
    let detail = told["detail"].as_str().expect("faults");
    assert!(detail.contains("connections.toml:") && !detail.contains("there is no connection"), "{detail}");
    project.stdout(&["trigger", "rows", "--date", "2024-05-04"]);
    served.says("succeeded");
    // A pipeline that changes meanwhile is taken up, and one that is wrong is told.
    project.write("pipelines/rows.toml", &ROWS.replace("lookback = 1", "lookback = 2"));
    served.says("changed: rows");
    project.write("pipelines/b.toml", "[[extract]]\nname = \"b\"\nconnection = \"nowhere\"\n");
    let told =
        served.says("connections.toml is wrong: what was there before stays in force; pipelines/b.toml is wrong");
    let detail = told["detail"].as_str().expect("faults");
    assert!(detail.contains("there is no connection `nowhere`"), "{detail}");
    assert_eq!(detail.matches("there is no connection").count(), 1, "{detail}");
    project.write("pipelines/b.toml", &command("", "true"));
    project.write("connections.toml", &right);
    served.says("all files are right again");
    served.stop();
}

#[test]
fn connections_that_are_wrong_at_the_start_are_told_and_taken_up_when_they_are_right() {
    let gate = Gate::start(Door::Open);
    let project = gated(&gate);
    project.write("haul.toml", &QUICK.replace("warehouse = \"warehouse\"\n", ""));
    let right = std::fs::read_to_string(project.path().join("connections.toml")).expect("connections");
    project.write("connections.toml", &format!("[[[\n{right}"));
    project.write("pipelines/rows.toml", &format!("warehouse = \"warehouse\"\n{ROWS}"));
    let served = Served::start(&project, &[]);
    let told = served.says("connections.toml is wrong: what needs its connections does not run until it is right");
    let detail = told["detail"].as_str().expect("faults");
    assert!(!detail.contains("there is no connection"), "{detail}");
    project.write("connections.toml", &right);
    served.says("all files are right again");
    project.stdout(&["trigger", "rows", "--date", "2024-05-04"]);
    served.says("succeeded");
    served.stop();
}

#[test]
fn settings_that_hold_until_a_new_start_say_so_when_they_change() {
    let project = shared();
    project.write("haul.toml", &format!("{QUICK}listen = \"127.0.0.1:0\"\n"));
    project.write("pipelines/a.toml", &command("", "true"));
    let served = Served::start(&project, &[]);
    served.says("the API answers");
    project.write("haul.toml", &format!("{QUICK}listen = \"off\"\n"));
    let told = served.says("`serve.listen` has changed: it holds from the next start of `haul serve`");
    assert_eq!(told["level"], "warning");
    project.write("haul.toml", &format!("{QUICK}listen = \"off\"\nworkers = 2\n"));
    served.says_times("read again", 2);
    served.stop();
}
