//! Rules for answers: what is done with a 404, a quota, an error inside of a good answer.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{check, project, run, run_badly};
use crate::support::station::{Reply, Station};

const PAGES: &str = "request = { path = \"/items\", params = { day = \"{{ ds }}\" } }
records = \"$.rows[*]\"
paginate = { by = \"page\" }";

/// Pages of two rows; the page that is asked for first is this one, and `odd` is what it answers.
fn api(odd: impl Fn(u64, usize) -> Option<Reply> + Send + Sync + 'static) -> Station {
    let times = AtomicUsize::new(0);
    Station::start(move |asked| {
        let page: u64 = asked.param("page").parse().unwrap_or(1);
        let time = times.fetch_add(1, Ordering::SeqCst);
        odd(page, time).unwrap_or_else(|| {
            let rows = if page > 4 { vec![] } else { vec![json!({ "id": 2 * page }), json!({ "id": 2 * page + 1 })] };
            Reply::json(json!({ "rows": rows }))
        })
    })
}

fn ids(project: &crate::support::project::Project) -> String {
    project.query("select coalesce(string_agg(id, ' ' order by id), '') as ids from raw.items")[0]["ids"].to_string()
}

#[test]
fn an_answer_can_be_an_empty_page_or_the_end_or_be_left_out() {
    let third = || api(|page, _| (page == 3).then(|| Reply::new(404, "no such page")));
    for (then, expected, requests) in
        [("empty", "\"2 3 4 5\"", 3), ("stop", "\"2 3 4 5\"", 3), ("skip", "\"2 3 4 5 8 9\"", 5)]
    {
        let station = third();
        let project = project(&station, "", &format!("{PAGES}\non = {{ 404 = \"{then}\" }}"));
        let told = run(&project, "2024-05-02");
        assert_eq!(ids(&project), expected, "{then}");
        assert_eq!(station.count("/items"), requests, "{then}");
        assert_eq!(told.contains("was left out"), then == "skip", "{told}");
    }
    let station = third();
    let project = project(&station, "", PAGES);
    assert!(run_badly(&project, "2024-05-02").contains("404 Not Found no such page"));
}

#[test]
fn an_empty_answer_at_the_beginning_is_an_empty_day() {
    let station = api(|_, _| Some(Reply::new(404, "nothing on that day")));
    let project = project(&station, "", &format!("{PAGES}\non.404 = \"empty\""));
    run(&project, "2024-05-02");
    assert_eq!(project.query("select rows from _haul_loads"), json!([{ "rows": 0 }]));
}

#[test]
fn an_error_in_a_good_answer_is_tried_again_or_fails() {
    let busy =
        || api(|page, time| (page == 1 && time == 0).then(|| Reply::json(json!({ "error": "Busy, TRY later" }))));
    let station = busy();
    let project = project(
        &station,
        "",
        &format!("{PAGES}\non = {{ '200 containing \"try later\"' = \"retry\", 2xx = \"fail\" }}"),
    );
    let told = run_badly(&project, "2024-05-02");
    // The rule that says more was looked at first, then the other one.
    assert!(told.contains("by the rule `2xx = \"fail\"`"), "{told}");
    assert_eq!(station.count("/items"), 2);
    let station = busy();
    let project = super::project(&station, "", &format!("{PAGES}\non.\"200 containing try later\" = \"retry\""));
    run(&project, "2024-05-02");
    assert_eq!(ids(&project), "\"2 3 4 5 6 7 8 9\"");
}

#[test]
fn a_rule_of_a_step_wins_over_that_of_its_hook() {
    let station = api(|page, _| (page == 2).then(|| Reply::new(410, "gone")));
    let project = project(&station, "", &format!("{PAGES}\nhook = \"h\""));
    project.write("hooks/h.toml", "on = { 410 = \"stop\", 404 = \"fail\" }\n");
    run(&project, "2024-05-02");
    assert_eq!(ids(&project), "\"2 3\"");
    super::write(&project, &format!("{PAGES}\nhook = \"h\"\non.410 = \"skip\""));
    run(&project, "2024-05-03");
    let rows = project.query("select count(*) as rows from raw.items where _haul_unit = date '2024-05-02'");
    assert_eq!(rows, json!([{ "rows": 6 }]));
}

#[test]
fn a_wait_holds_the_whole_connection_and_ends_where_the_rule_says() {
    let station =
        api(|page, time| (page == 2 && time < 3).then(|| Reply::new(403, "{\"reason\": \"Quota exceeded\"}")));
    // Half a second before midnight in Los Angeles, as the machine's clock of this run shows it.
    let rule = "on = { \"403 containing quota\" = \"wait until midnight America/Los_Angeles\" }";
    let project = project(&station, "", &format!("{PAGES}\n{rule}"));
    let arguments = ["run", "items", "--date", "2024-05-02", "--now", "2024-05-02T06:59:59.800Z"];
    project.stdout(&arguments);
    assert_eq!(ids(&project), "\"2 3 4 5 6 7 8 9\"");
    assert_eq!(station.count("/items"), 7);
    let project = super::project(&station, "", &format!("{PAGES}\non.403 = \"wait 1ms\""));
    run(&project, "2024-05-02");
}

#[test]
fn a_long_wait_is_told_and_ends_at_once_when_it_is_stopped() {
    let station = api(|_, _| Some(Reply::new(403, "quota")));
    let rule = "on = { \"403 containing quota\" = \"wait until noon Asia/Seoul\" }";
    let project = project(&station, "", &format!("{PAGES}\n{rule}"));
    let mut child = project
        .haul(&["run", "items", "--date", "2024-05-02"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("haul starts");
    let mut told = String::new();
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    // The wait is told before it begins.
    while !told.contains("again in") {
        told += &lines.next().expect("it waits").expect("a line");
        told.push(' ');
    }
    let stopped = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    assert!(stopped.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let told = super::words(&told);
    assert!(told.contains("by the rule `403 containing quota = \"wait until noon Asia/Seoul\"`"), "{told}");
    assert_eq!(station.count("/items"), 1, "{told}");
}

#[test]
fn a_rule_that_says_nothing_is_explained() {
    for (on, expected) in [
        ("{ 4o4 = \"empty\" }", "`4o4` does not say which answers are meant"),
        ("{ \"403 with quota\" = \"empty\" }", "does not say which answers are meant"),
        ("{ 404 = \"emtpy\" }", "did you mean `empty`?"),
        ("{ 404 = \"wait\" }", "this is no time to wait"),
        ("{ 404 = \"wait 3d\" }", "no wait is longer than a day"),
        ("{ 404 = \"wait until 25:00 UTC\" }", "`25:00` is no time of the day"),
        ("{ 404 = \"wait until midnight\" }", "names the time and its zone"),
        ("{ 404 = \"wait until midnight America/Los_Angles\" }", "did you mean `America/Los_Angeles`?"),
        ("{ 200 = \"renew\" }", "every good answer would renew the token"),
    ] {
        let told = check(&format!("{PAGES}\non = {on}"));
        assert!(told.contains(expected), "`{expected}` is not in {told}");
    }
}
