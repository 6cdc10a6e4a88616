//! Days that have to be there by a time of the day.

use serde_json::json;

use crate::support::inbox::{DAYS, Day, Inbox, TEAM};
use crate::support::project::told;

const SEOUL: &str = "\n[[deadline]]\ntable = \"raw.items\"\nby = \"07:00\"\ntimezone = \"Asia/Seoul\"\n";

fn seoul(settings: &str) -> Inbox {
    Inbox::new(&format!("timezone = \"Asia/Seoul\"\n{TEAM}{settings}"), DAYS)
}

fn run(inbox: &Inbox, date: &str, now: &str, code: i32) {
    let ran = inbox.days.project.output(&["run", "days", "--date", date, "--now", now]);
    assert_eq!(ran.status.code(), Some(code), "{}", told(&ran));
}

#[test]
fn yesterdays_unit_that_is_not_there_by_seven_is_told_and_told_again_once_it_is_there() {
    let inbox = seoul(SEOUL);
    run(&inbox, "2024-05-04", "2024-05-03T20:00:00Z", 0);
    // 06:59 and 07:00 in Seoul, on the 4th: it is there. On the 5th nothing ran.
    inbox.look("2024-05-03T21:59:00Z", 0);
    inbox.look("2024-05-03T22:00:00Z", 0);
    inbox.look("2024-05-04T21:59:59Z", 0);
    assert_eq!(inbox.messages().len(), 0);
    inbox.look("2024-05-04T22:00:00Z", 0);
    inbox.look("2024-05-04T22:01:00Z", 0);
    assert_eq!(inbox.titles(), ["shop: raw.items missed its deadline"]);
    let notice = &inbox.notices()[0];
    assert_eq!(notice["units"], json!(["2024-05-04"]));
    assert!(notice["reason"].as_str().is_some_and(|why| why.contains("raw.items by 07:00 Asia/Seoul")), "{notice}");
    // The next day is missing too, and that is news.
    inbox.look("2024-05-05T22:00:00Z", 0);
    assert_eq!(inbox.notices()[0]["units"], json!(["2024-05-05"]));
    run(&inbox, "2024-05-06", "2024-05-05T23:00:00Z", 0);
    assert_eq!(inbox.titles()[2..], ["shop: raw.items is there now"]);
}

#[test]
fn a_deadline_of_a_pipeline_is_about_all_of_its_tables_and_stands_in_its_own_file() {
    let sums = "\n[[transform]]\nname = \"sums\"\nsql = \"select count(*) as n from {{ ref('items') }}\"\ninto = \"mart.sums\"\n";
    let pipeline = format!("{DAYS}{sums}\n[[deadline]]\nby = \"07:00\"\n");
    let inbox = Inbox::new(TEAM, &pipeline);
    let ran = inbox.days.at("2024-05-04", &["run", "days", "--date", "2024-05-04", "--select", "items"]);
    assert!(ran.status.success(), "{}", told(&ran));
    inbox.look("2024-05-04T07:00:00Z", 0);
    assert_eq!(inbox.titles(), ["shop: days missed its deadline"]);
    let reason = inbox.notices()[0]["reason"].as_str().expect("why").to_owned();
    assert!(reason.contains("mart.sums") && !reason.contains("raw.items"), "{reason}");
}

#[test]
fn a_deadline_follows_the_clocks_when_they_are_moved() {
    let settings =
        "\n[[deadline]]\ntable = \"raw.items\"\nby = \"02:30\"\ntimezone = \"Europe/Berlin\"\ndays_back = 2\n";
    let inbox = Inbox::new(&format!("timezone = \"Europe/Berlin\"\n{TEAM}{settings}"), DAYS);
    run(&inbox, "2024-03-29", "2024-03-29T06:00:00Z", 0);
    // 02:30 does not exist on the 31st: the deadline is the first instant after the gap, 01:00 in UTC.
    inbox.look("2024-03-31T00:59:59Z", 0);
    assert_eq!(inbox.messages().len(), 0);
    inbox.look("2024-03-31T01:00:00Z", 0);
    assert_eq!(inbox.notices()[0]["units"], json!(["2024-03-29"]));
}

#[test]
fn a_whole_table_is_there_if_it_was_brought_up_to_date_since_its_day_ended() {
    let whole = "[[extract]]\nname = \"items\"\nconnection = \"api\"\nrequest = { path = \"/items/all\" }\nretry = { max_attempts = 1 }\ninto = \"raw.items\"\n";
    let inbox = Inbox::new(&format!("{TEAM}{}", SEOUL.replace("timezone = \"Asia/Seoul\"\n", "")), whole);
    run(&inbox, "2024-05-03", "2024-05-03T06:00:00Z", 0);
    inbox.look("2024-05-03T07:00:00Z", 0);
    assert_eq!(inbox.messages().len(), 0);
    inbox.says(&["all"], &Day::Refused(500, String::new()));
    run(&inbox, "2024-05-04", "2024-05-04T06:00:00Z", 1);
    inbox.look("2024-05-04T07:00:00Z", 0);
    assert_eq!(inbox.titles(), ["shop: raw.items failed", "shop: raw.items missed its deadline"]);
    inbox.says(&["all"], &Day::Rows(5));
    run(&inbox, "2024-05-04", "2024-05-04T08:00:00Z", 0);
    let mut heads: Vec<String> = inbox.notices().iter().map(|notice| notice["was"].to_string()).collect();
    heads.sort();
    assert_eq!(heads, ["\"deadline\"", "\"failure\""]);
}

#[test]
fn deadlines_that_had_passed_before_anybody_looked_are_not_told_but_for_the_last() {
    let inbox = seoul(SEOUL);
    inbox.look("2024-05-04T23:00:00Z", 0);
    assert_eq!(inbox.notices()[0]["units"], json!(["2024-05-04"]));
}
