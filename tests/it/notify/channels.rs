//! The ways to people, and what arrives there.

use serde_json::{Value, json};

use crate::support::inbox::{DAYS, Day, Inbox, TEAM};
use crate::support::project::{Project, told};

const ALL: [&str; 3] = ["2024-05-01", "2024-05-02", "2024-05-03"];

#[test]
fn slack_gets_a_text_and_blocks_that_it_takes() {
    let settings = "[[notify]]\nname = \"team\"\nto = \"slack\"\nconnection = \"hook\"\n";
    let inbox = Inbox::new(settings, DAYS);
    inbox.says(&ALL, &Day::Refused(500, "<b>&".to_owned()));
    inbox.days.run("2024-05-04", 1);
    let message = inbox.messages().pop().expect("a message");
    assert_eq!(message["text"], "shop: raw.items failed");
    assert_eq!(
        message["blocks"][0],
        json!({ "type": "header", "text": { "type": "plain_text", "text": message["text"] } })
    );
    let section = &message["blocks"][1];
    assert_eq!((&section["type"], &section["text"]["type"]), (&json!("section"), &json!("mrkdwn")));
    let text = section["text"]["text"].as_str().expect("a text");
    assert!(text.contains(":red_circle: *raw.items failed*") && text.contains("_do_  `haul run days`"), "{text}");
    assert!(!text.contains("<b>"), "{text}");
    assert_eq!(inbox.hook.asked()[0].header("content-type"), "application/json");
}

#[test]
fn a_command_gets_the_message_on_its_standard_input_and_its_failure_is_told() {
    let settings = r#"
[[notify]]
name = "pager"
to = "command"
command = ["sh", "-c", "cat > got.json; printf '%s' \"$HAUL_TITLE\" > title.txt; test ! -e broken || { echo no line >&2; exit 3; }"]
"#;
    let inbox = Inbox::new(settings, DAYS);
    let project = &inbox.days.project;
    assert!(project.output(&["notify", "test", "pager"]).status.success());
    let got = || -> Value {
        let text = std::fs::read_to_string(project.path().join("got.json")).expect("the message");
        serde_json::from_str(&text).expect("JSON")
    };
    assert_eq!((&got()["content"]["what"], &got()["project"]), (&json!("test"), &json!("shop")));
    inbox.says(&ALL, &Day::Refused(500, String::new()));
    project.write("broken", "");
    let said = inbox.days.run("2024-05-04", 1);
    assert!(said.contains("`pager` was not told") && said.contains("exit status: 3: no line"), "{said}");
    std::fs::remove_file(project.path().join("broken")).expect("a file");
    inbox.look("2024-05-04T07:00:00Z", 0);
    assert_eq!(got()["content"]["notices"][0]["units"], json!(ALL));
    assert_eq!(std::fs::read_to_string(project.path().join("title.txt")).expect("a title"), "shop: raw.items failed");
}

#[test]
fn a_webhook_says_who_we_are_as_its_connection_does() {
    let inbox = Inbox::new(TEAM, DAYS);
    let connections = std::fs::read_to_string(inbox.days.project.path().join("connections.toml")).expect("connections");
    inbox.days.project.write("connections.toml", &format!("{connections}token = \"let-me-in-please\"\n"));
    assert!(inbox.days.project.output(&["notify", "test", "team"]).status.success());
    assert_eq!(inbox.hook.asked()[0].header("authorization"), "Bearer let-me-in-please");
    assert_eq!(inbox.titles(), ["shop: messages arrive"]);
}

#[test]
fn no_message_has_a_secret_in_it() {
    let inbox = Inbox::new(TEAM, DAYS);
    let connections = std::fs::read_to_string(inbox.days.project.path().join("connections.toml")).expect("connections");
    let api = connections.replace("[hook]", "token = \"the-token-of-the-api\"\n\n[hook]");
    inbox.days.project.write("connections.toml", &api);
    // The server repeats what it was told.
    inbox.says(&ALL, &Day::Refused(500, "who is the-token-of-the-api?".to_owned()));
    inbox.days.run("2024-05-04", 1);
    let message = inbox.messages().pop().expect("a message").to_string();
    assert!(message.contains("who is •••?") && !message.contains("the-token-of-the-api"), "{message}");
}

#[test]
fn a_channel_that_is_not_there_or_leads_nowhere_says_so() {
    let settings =
        "[[notify]]\nname = \"team\"\nto = \"email\"\nconnection = \"hook\"\nrecipients = \"a@example.com\"\n";
    let inbox = Inbox::new(settings, DAYS);
    let ran = inbox.days.project.output(&["notify", "test", "taem"]);
    assert!(told(&ran).contains("there is no channel `taem`") && told(&ran).contains("`team`"), "{}", told(&ran));
    let ran = inbox.days.project.output(&["notify", "test", "team"]);
    assert!(told(&ran).contains("has type http, mail needs one of type smtp"), "{}", told(&ran));
}

#[test]
fn a_command_that_takes_too_long_ends_with_all_that_it_began() {
    let settings = r#"
[[notify]]
name = "pager"
to = "command"
command = ["sh", "-c", "trap '' TERM; sleep 600 & echo $! $$ > pids.txt; wait; wait"]
timeout = "300ms"
"#;
    let inbox = Inbox::new(settings, DAYS);
    let project = &inbox.days.project;
    let output = project.output(&["notify", "test", "pager"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("it had not ended after 300ms"), "{said}");
    assert_ended(project, 2);
}

#[test]
fn what_a_command_leaves_running_ends_with_it_and_keeps_nobody_waiting() {
    let settings = r#"
[[notify]]
name = "pager"
to = "command"
command = ["sh", "-c", "sleep 600 & echo $! > pids.txt; echo oh no >&2; exit 4"]
timeout = "10m"
"#;
    let inbox = Inbox::new(settings, DAYS);
    let project = &inbox.days.project;
    let output = project.output(&["notify", "test", "pager"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // The pipe of stderr is still held by the child when the program ends.
    assert!(said.contains("exit status: 4: oh no"), "{said}");
    assert_ended(project, 1);
}

/// Whether so many processes have ended whose numbers a program has written down.
fn assert_ended(project: &Project, count: usize) {
    let pids = std::fs::read_to_string(project.path().join("pids.txt")).expect("the numbers");
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert_eq!(pids.len(), count);
    for pid in pids {
        // Whoever is dead and not yet buried has ended too.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim().chars().next();
        assert!(matches!(state, None | Some('Z')), "the process {pid} is still there: {stat}");
    }
}
