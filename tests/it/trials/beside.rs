//! Commands beside a daemon at work on a DuckDB file, which belongs to one process at a time.

use crate::fanout::{RETRY, number, project};
use crate::support::fan_api::{FanApi, Manner};
use crate::support::gate::{Served, until};
use crate::support::inbox::{DAYS, Day, Inbox, TEAM};
use crate::support::project::told;

const STEP: &str =
    "for_each = { values = [1, 2, 3, 4, 5, 6] }\nrequest = { path = \"/v/{{ item }}\" }\nadd = { id = \"{{ item }}\" }";

#[test]
fn requests_that_failed_are_sent_once_more_by_the_daemon_that_has_the_warehouse() {
    let refused = [("/v/3".to_owned(), 404), ("/v/5".to_owned(), 404)].into();
    let api = FanApi::start(Manner { refused, ..Manner::default() });
    let project = project(&api, "", "", &format!("{STEP}\n{RETRY}"));
    project.write("haul.toml", "warehouse = \"warehouse\"\n[serve]\npoll = \"100ms\"\n");
    assert!(!project.output(&["run", "fan"]).status.success());
    let served = Served::start(&project, &[]);

    api.behave(|manner| manner.refused.retain(|path, _| path != "/v/3"));
    let output = project.output(&["retry", "fan", "stats"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let said = told(&output);
    for words in ["`haul serve` (process", "1 of 6 requests failed", "`haul retry fan --list`"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("--local"), "{said}");
    api.behave(|manner| manner.refused.clear());
    let output = project.output(&["retry", "fan"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains("`haul run fan` brings what reads them up to date"), "{}", told(&output));
    assert_eq!((api.answers(), api.twice()), (6, 0), "nothing that was answered is asked for again");
    // What is left to send is known without the daemon.
    let nothing = project.output(&["retry", "fan"]);
    assert_eq!(nothing.status.code(), Some(2), "{}", told(&nothing));
    let jobs = project.json(&["queue", "--all"]);
    let ends: Vec<&str> = jobs.as_array().expect("a list").iter().filter_map(|job| job["outcome"].as_str()).collect();
    assert_eq!(ends, ["succeeded", "failed"], "{jobs:#}");
    served.stop();
    assert_eq!(number(&project, "select count(distinct id) from raw.stats"), 6);
    assert_eq!(number(&project, "select count(*) from raw.stats"), 6);
}

#[test]
fn a_backfill_beside_a_daemon_is_refused_with_the_command_that_the_daemon_works_on() {
    let inbox = Inbox::new("[serve]\npoll = \"100ms\"\n", DAYS);
    let project = &inbox.days.project;
    let served = Served::start(project, &[]);
    let refused = project.output(&["backfill", "days", "--from", "2024-05-01", "--through", "2024-05-03"]);
    assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
    let said = told(&refused);
    assert!(said.contains("is at work on the project, and its warehouse is a file"), "{said}");
    let command = "haul backfill days --from 2024-05-01 --to 2024-05-04 --queue";
    assert!(said.contains(&format!("`{command}`")), "{said}");
    // It does what it says.
    project.stdout(&command.split(' ').skip(1).collect::<Vec<_>>());
    until("its end", || (project.json(&["backfill", "show", "bf-1"])["state"] == "done").then_some(()));
    served.stop();
    assert_eq!(inbox.days.rows("raw.items").len(), 3);
}

#[test]
fn who_heard_that_a_unit_is_held_hears_at_once_that_it_is_decided_here_or_by_the_daemon() {
    let inbox = Inbox::new(&format!("[serve]\npoll = \"100ms\"\n{TEAM}"), DAYS);
    inbox.days.run("2024-05-04", 0);
    for (times, unit) in [(1, "2024-05-02"), (2, "2024-05-03")] {
        inbox.says(&[unit], &Day::Rows(1));
        inbox.days.run("2024-05-04", 3);
        assert_eq!(inbox.titles().len(), 2 * times - 1, "{:?}", inbox.titles());
        // The second one is decided by a daemon.
        let served = (times == 2).then(|| Served::start(&inbox.days.project, &[]));
        let ran = inbox.days.project.output(&["approve", "raw.items", unit]);
        assert!(ran.status.success(), "{}", told(&ran));
        until("the word", || (inbox.titles().len() == 2 * times).then_some(()));
        assert_eq!(inbox.titles()[2 * times - 1], "shop: raw.items is decided");
        assert_eq!(inbox.open(), Vec::<serde_json::Value>::new());
        served.into_iter().for_each(Served::stop);
    }
}

#[test]
fn who_heard_that_requests_failed_hears_after_a_retry_that_all_is_well_again() {
    let pipeline = "[[extract]]\nname = \"items\"\nconnection = \"api\"\ninto = \"raw.items\"\nretry = { max_attempts = 1 }\n\
                    for_each = { values = [\"a\", \"b\", \"c\"] }\nrequest = { path = \"/items/{{ item }}\" }\n";
    let inbox = Inbox::new(TEAM, pipeline);
    inbox.says(&["b"], &Day::Refused(404, "no".to_owned()));
    inbox.days.run("2024-05-04", 1);
    assert_eq!(inbox.titles(), ["shop: raw.items failed"]);
    inbox.says(&["b"], &Day::Rows(4));
    let ran = inbox.days.at("2024-05-04", &["retry", "days"]);
    assert!(ran.status.success(), "{}", told(&ran));
    assert_eq!(inbox.titles()[1..], ["shop: raw.items is well again"]);
}
