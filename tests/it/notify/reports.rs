//! The report of the day.

use serde_json::json;

use crate::support::inbox::{DAYS, Day, Inbox, TEAM};

const AT_EIGHT: &str = "\n[report]\nat = \"08:00\"\n";

#[test]
fn the_report_is_told_once_a_day_at_its_time_and_says_what_ran_and_what_is_wrong() {
    let inbox = Inbox::new(&format!("{}{AT_EIGHT}", TEAM.replace("\"failure\", ", "")), DAYS);
    inbox.days.run("2024-05-03", 0);
    inbox.says(&["2024-05-03"], &Day::Refused(500, String::new()));
    inbox.says(&["2024-05-02"], &Day::Rows(6));
    inbox.days.run("2024-05-04", 1);
    inbox.look("2024-05-04T07:59:59Z", 0);
    assert_eq!(inbox.messages().len(), 0);
    inbox.look("2024-05-04T08:00:00Z", 0);
    inbox.look("2024-05-04T08:01:00Z", 0);
    assert_eq!(inbox.titles(), ["shop: 1 run, 1 thing is wrong"]);
    let report = inbox.messages()[0]["content"]["report"].clone();
    let line = json!({
        "pipeline": "days", "runs": 1, "succeeded": 0, "loaded": 1, "unchanged": 1, "held": 0, "late": 0, "failed": 1,
        "rows": 6, "drift": 2,
    });
    assert_eq!((&report["since"], &report["pipelines"]), (&json!("2024-05-03T08:00:00Z"), &json!([line])));
    assert_eq!(
        (&report["open"][0]["subject"], &report["open"][0]["units"]),
        (&json!("raw.items"), &json!(["2024-05-03"]))
    );
    // The next morning again.
    inbox.look("2024-05-05T09:00:00Z", 0);
    assert_eq!(inbox.titles()[1..], ["shop: 0 runs, 1 thing is wrong"]);
}

#[test]
fn the_report_is_printed_at_any_time_and_sent_when_asked() {
    let inbox = Inbox::new(&format!("{TEAM}{AT_EIGHT}"), DAYS);
    inbox.days.run("2024-05-04", 0);
    let text = inbox.days.text("2024-05-04", &["report"]);
    assert!(text.starts_with("shop: 1 run, nothing is wrong\n2024-05-03 08:00 to 2024-05-04 06:00 UTC\n"), "{text}");
    assert!(text.contains("  days: 1 of 1 runs succeeded, 3 loaded, 0 unchanged; 12 rows\n"), "{text}");
    assert_eq!(inbox.messages().len(), 0);
    inbox.days.text("2024-05-04", &["report", "--send"]);
    assert_eq!(inbox.titles(), ["shop: 1 run, nothing is wrong"]);
}
