//! Messages wait until their channel takes them: it may be down, told too much, or the process may die.

use serde_json::json;

use crate::support::inbox::{DAYS, Day, Inbox, TEAM};
use crate::support::project::told;
use crate::support::station::{Reply, Station};

const ALL: [&str; 3] = ["2024-05-01", "2024-05-02", "2024-05-03"];

#[test]
fn a_message_is_not_lost_while_the_channel_is_down_and_what_waited_is_told_together() {
    let inbox = Inbox::new(TEAM, DAYS);
    inbox.hook_answers(503);
    inbox.says(&ALL, &Day::Refused(500, String::new()));
    let said = inbox.days.run("2024-05-04", 1);
    assert!(said.contains("`team` was not told") && said.contains("it answered 503"), "{said}");
    assert!(!said.contains("T0KEN-of-the-hook"), "the address of a webhook is a secret: {said}");
    assert_eq!(inbox.open()[0]["told_at"], json!(null));
    let listed = inbox.days.project.json(&["notify", "list"]);
    assert_eq!(listed[0]["waiting"], 1, "{listed}");
    // Not at once again, but after a pause.
    inbox.look("2024-05-04T06:00:10Z", 0);
    assert_eq!(inbox.messages().len(), 1);
    inbox.look("2024-05-04T06:01:00Z", 1);
    assert_eq!(inbox.messages().len(), 2);
    // Meanwhile it is well again; the channel is up, and hears of both in one message.
    inbox.says(&ALL, &Day::Rows(4));
    inbox.days.run("2024-05-04", 0);
    inbox.hook_answers(200);
    inbox.look("2024-05-04T08:00:00Z", 0);
    let topics: Vec<_> = inbox.notices().iter().map(|notice| notice["topic"].clone()).collect();
    assert_eq!(topics, ["failure", "recovery"]);
    let ids: Vec<String> = inbox.messages().iter().map(|message| message["id"].to_string()).collect();
    assert_eq!(ids[0], ids[1], "the same message, told once more");
    assert_ne!(ids[1], ids[2], "a receiver that drops what it knows already would lose the recovery");
    let sent = inbox.messages().len();
    inbox.look("2024-05-04T09:00:00Z", 0);
    assert_eq!(inbox.messages().len(), sent);
    assert_eq!(inbox.days.project.json(&["notify", "list"])[0]["waiting"], 0);
}

#[test]
fn a_channel_is_told_no_more_than_its_limit_and_the_rest_together_later() {
    let inbox = Inbox::new(&format!("{TEAM}limit = \"1/h\"\n"), DAYS);
    let run = |minute: u32, code: i32| {
        let now = format!("2024-05-04T06:{minute:02}:00Z");
        let ran = inbox.days.project.output(&["run", "days", "--date", "2024-05-04", "--now", &now]);
        assert_eq!(ran.status.code(), Some(code), "{}", told(&ran));
    };
    // It comes and goes, again and again.
    for round in 0..3 {
        inbox.says(&ALL, &Day::Refused(500, String::new()));
        run(round * 10, 1);
        inbox.says(&ALL, &Day::Rows(4));
        run(round * 10 + 5, 0);
    }
    assert_eq!(inbox.messages().len(), 1);
    inbox.look("2024-05-04T07:00:01Z", 0);
    assert_eq!((inbox.messages().len(), inbox.notices().len()), (2, 5));
}

#[test]
fn a_message_whose_process_was_killed_while_it_was_sent_is_sent_again() {
    let (enter, entered) = std::sync::mpsc::channel();
    let hook = Station::start(move |_| {
        enter.send(()).expect("the test listens");
        // The first message is never answered: its process is killed.
        std::thread::sleep(std::time::Duration::from_secs(1));
        Reply::new(200, "")
    });
    let inbox = Inbox::new(TEAM, DAYS);
    inbox.says(&ALL, &Day::Refused(500, String::new()));
    let connections = std::fs::read_to_string(inbox.days.project.path().join("connections.toml")).expect("connections");
    inbox.days.project.write("connections.toml", &connections.replace(&inbox.hook.url, &hook.url));
    let mut run = inbox.days.project.haul(&["run", "days", "--date", "2024-05-04", "--now", "2024-05-04T06:00:00Z"]);
    let mut run = run.stderr(std::process::Stdio::null()).spawn().expect("haul starts");
    entered.recv().expect("the message comes in");
    run.kill().expect("it is killed");
    run.wait().expect("it ends");
    hook.wait_for("/in/T0KEN-of-the-hook", 1);
    // Its message is still taken, by a process that no longer lives.
    inbox.look("2024-05-04T06:01:00Z", 0);
    assert_eq!(hook.asked().len(), 1);
    inbox.look("2024-05-04T06:06:00Z", 0);
    let ids: Vec<String> = hook.asked().iter().map(|asked| asked.body.clone()).collect();
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]), "the same message, by which it is known again");
    inbox.look("2024-05-04T07:00:00Z", 0);
    assert_eq!(hook.asked().len(), 2);
}
