//! One cause is one message, however many units it has and however often it is seen.

use serde_json::json;

use crate::support::inbox::{DAYS, Day, Inbox, TEAM};
use crate::support::project::told;

const ALL: [&str; 3] = ["2024-05-01", "2024-05-02", "2024-05-03"];

fn refused(status: u16) -> Day {
    Day::Refused(status, "out of order".to_owned())
}

#[test]
fn a_failure_of_many_units_is_one_message_and_its_recovery_is_another() {
    let inbox = Inbox::new(TEAM, DAYS);
    inbox.says(&ALL, &refused(500));
    inbox.days.run("2024-05-04", 1);
    assert_eq!(inbox.titles(), ["shop: raw.items failed"]);
    let notice = &inbox.notices()[0];
    assert_eq!((&notice["topic"], &notice["units"]), (&json!("failure"), &json!(ALL)));
    assert_eq!((&notice["pipeline"], &notice["command"]), (&json!("days"), &json!("haul run days")));
    assert!(notice["reason"].as_str().is_some_and(|why| why.contains("500")), "{notice}");
    // It goes on: seen again at every run, and told no more.
    inbox.days.run("2024-05-04", 1);
    inbox.look("2024-05-04T07:00:00Z", 0);
    assert_eq!(inbox.messages().len(), 1);
    let open = inbox.open();
    assert_eq!((open.len(), &open[0]["key"]), (1, &json!("failure:raw.items")));
    assert_eq!(
        (&open[0]["opened_at"], &open[0]["told_at"]),
        (&json!("2024-05-04T06:00:00Z"), &json!("2024-05-04T06:00:00Z"))
    );

    inbox.says(&ALL, &Day::Rows(4));
    inbox.days.run("2024-05-04", 0);
    assert_eq!(inbox.titles(), ["shop: raw.items failed", "shop: raw.items is well again"]);
    assert_eq!((&inbox.notices()[0]["was"], inbox.open().len()), (&json!("failure"), 0));
    inbox.days.run("2024-05-04", 0);
    assert_eq!(inbox.messages().len(), 2);
}

#[test]
fn some_units_that_recover_are_not_all_and_another_cause_is_another_message() {
    let inbox = Inbox::new(TEAM, DAYS);
    inbox.says(&ALL, &refused(500));
    inbox.days.run("2024-05-04", 1);
    inbox.says(&ALL[..2], &Day::Rows(4));
    inbox.days.run("2024-05-04", 1);
    assert_eq!((inbox.messages().len(), &inbox.open()[0]["units"]), (1, &json!(["2024-05-03"])));
    inbox.says(&ALL[2..], &Day::Refused(200, "{".to_owned()));
    inbox.days.run("2024-05-04", 1);
    assert_eq!(inbox.titles(), ["shop: raw.items failed", "shop: raw.items failed"]);
    assert_eq!(inbox.notices()[0]["since"], json!("2024-05-04T06:00:00Z"));
}

#[test]
fn a_held_unit_is_told_with_the_command_that_decides_and_each_held_unit_is_news() {
    let inbox = Inbox::new(TEAM, DAYS);
    inbox.days.run("2024-05-04", 0);
    inbox.says(&["2024-05-02"], &Day::Rows(1));
    inbox.days.run("2024-05-04", 3);
    let notice = &inbox.notices()[0];
    assert_eq!(notice["command"], "haul approve raw.items 2024-05-02");
    assert!(notice["reason"].as_str().is_some_and(|why| why.contains("4 rows became 1")), "{notice}");
    inbox.says(&["2024-05-03"], &Day::Rows(1));
    inbox.days.run("2024-05-04", 3);
    assert_eq!(inbox.notices()[0]["units"], json!(["2024-05-03"]), "only the second one is news");
    for unit in ["2024-05-02", "2024-05-03"] {
        let ran = inbox.days.at("2024-05-04", &["approve", "raw.items", unit]);
        assert!(ran.status.success(), "{}", told(&ran));
    }
    inbox.look("2024-05-04T07:00:00Z", 0);
    assert_eq!(inbox.titles()[2..], ["shop: raw.items is decided"]);
}

#[test]
fn four_processes_that_look_at_once_tell_once() {
    let inbox = Inbox::new("", DAYS);
    inbox.says(&ALL, &refused(500));
    inbox.days.run("2024-05-04", 1);
    assert_eq!(inbox.messages().len(), 0, "there was nobody to tell");
    inbox.days.project.write("haul.toml", &format!("warehouse = \"warehouse\"\n{TEAM}"));
    let start = || inbox.days.project.haul(&["notify", "look", "--now", "2024-05-04T06:10:00Z"]).spawn().expect("haul");
    let looks: Vec<_> = (0..4).map(|_| start()).collect();
    for mut look in looks {
        assert!(look.wait().expect("it ends").success());
    }
    assert_eq!(inbox.messages().len(), 1);
}

#[test]
fn a_channel_hears_of_its_pipelines_and_topics_alone() {
    let settings = r#"
[[notify]]
name = "others"
to = "webhook"
connection = "hook"
pipelines = ["other"]

[[notify]]
name = "held_only"
to = "webhook"
connection = "hook"
on = ["held"]
"#;
    let inbox = Inbox::new(settings, DAYS);
    inbox.days.project.write("pipelines/other.toml", &DAYS.replace("raw.items", "raw.others"));
    inbox.says(&ALL, &refused(500));
    inbox.days.run("2024-05-04", 1);
    assert_eq!(inbox.messages().len(), 0);
    let ran = inbox.days.at("2024-05-04", &["run", "other", "--date", "2024-05-04"]);
    assert_eq!(ran.status.code(), Some(1), "{}", told(&ran));
    assert_eq!(inbox.titles(), ["shop: raw.others failed"]);
}

#[test]
fn a_pipeline_that_could_not_begin_is_told_and_so_is_its_next_beginning() {
    let inbox = Inbox::new(TEAM, DAYS);
    let file = inbox.days.project.path().join("warehouse.duckdb");
    std::fs::write(&file, "this is no database, and it is longer than the header of one would be").expect("a file");
    let ran = inbox.days.at("2024-05-04", &["run", "days"]);
    assert!(!ran.status.success(), "{}", told(&ran));
    assert_eq!(inbox.titles(), ["shop: days failed"]);
    assert!(inbox.notices()[0]["reason"].as_str().is_some_and(|why| why.starts_with("it could not begin: ")));
    std::fs::remove_file(file).expect("it goes away");
    let ran = inbox.days.project.output(&["run", "days", "--date", "2024-05-04", "--now", "2024-05-04T06:01:00Z"]);
    assert!(ran.status.success(), "{}", told(&ran));
    assert_eq!(inbox.titles(), ["shop: days failed", "shop: days is well again"]);
}

#[test]
fn a_wait_that_failed_is_well_when_a_later_run_has_seen_what_it_waits_for() {
    let waits = format!("{DAYS}\n[[wait]]\nname = \"flag\"\nfiles = \"flag.txt\"\ntimeout = \"1ms\"\npoll = \"1ms\"\n");
    let inbox = Inbox::new(TEAM, &waits);
    let run = |minute: u32, code: i32| {
        let now = format!("2024-05-04T06:{minute:02}:00Z");
        let ran = inbox.days.project.output(&["run", "days", "--date", "2024-05-04", "--now", &now]);
        assert_eq!(ran.status.code(), Some(code), "{}", told(&ran));
    };
    run(0, 1);
    run(1, 1);
    assert_eq!(inbox.titles(), ["shop: days.flag failed"]);
    inbox.days.project.write("flag.txt", "here");
    run(2, 0);
    assert_eq!(inbox.titles(), ["shop: days.flag failed", "shop: days.flag is well again"]);
    // What is older than what is known changes nothing, though it is looked at again.
    inbox.look("2024-05-04T06:03:00Z", 0);
    assert_eq!(inbox.messages().len(), 2);
}

#[test]
fn an_old_unit_that_changed_a_lot_is_told_once() {
    let settings = format!("{TEAM}\n[drift]\nchanged = \"40%\"\n");
    let inbox = Inbox::new(&settings, DAYS);
    inbox.days.run("2024-05-04", 0);
    inbox.says(&ALL[1..], &Day::Rows(8));
    let run = |minute: u32| {
        let now = format!("2024-05-05T06:{minute:02}:00Z");
        let ran = inbox.days.project.output(&["run", "days", "--date", "2024-05-05", "--now", &now]);
        assert!(ran.status.success(), "{}", told(&ran));
    };
    run(0);
    assert_eq!(inbox.titles(), ["shop: raw.items changed more than expected"]);
    let notice = &inbox.notices()[0];
    assert_eq!((&notice["units"], &notice["command"]), (&json!(ALL[1..]), &json!("haul drift raw.items")));
    run(1);
    assert_eq!((inbox.messages().len(), inbox.open().len()), (1, 0));
}
