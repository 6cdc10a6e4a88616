//! What is wrong in the tables about telling people: one fault for each, with its place and a help.

use serde_json::Value;

use crate::support::inbox::DAYS;
use crate::support::project::Project;

/// The codes of the faults of a `haul.toml`, with the words that are underlined.
fn faults(settings: &str) -> Vec<(String, String)> {
    let project = Project::with_api("http://127.0.0.1:9", "");
    let text = format!("warehouse = \"warehouse\"\n{settings}");
    project.write("haul.toml", &text);
    project.write("pipelines/days.toml", DAYS);
    let ran = project.output(&["check", "--output", "json"]);
    let found: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    let found = found["diagnostics"].as_array().or(found.as_array()).expect("diagnostics").clone();
    let place = |fault: &Value| {
        let span = &fault["labels"][0]["span"];
        let (start, end) = (span["start"].as_u64().expect("a place"), span["end"].as_u64().expect("a place"));
        let at = usize::try_from(start).expect("a place")..usize::try_from(end).expect("a place");
        assert!(fault["help"].is_string(), "{fault}");
        (fault["code"].as_str().expect("a code").to_owned(), text[at].lines().next().unwrap_or_default().to_owned())
    };
    found.iter().map(place).collect()
}

fn fault(settings: &str) -> (String, String) {
    let mut found = faults(settings);
    assert_eq!(found.len(), 1, "{settings}: {found:?}");
    found.remove(0)
}

fn of(code: &str, place: &str) -> (String, String) {
    (code.to_owned(), place.to_owned())
}

#[test]
fn a_channel_that_cannot_be_has_one_fault_for_each_thing_that_is_wrong() {
    let channel = |more: &str| fault(&format!("[[notify]]\nname = \"a\"\n{more}\n"));
    assert_eq!(channel("to = \"slak\"\nconnection = \"api\""), of("unknown-value", "\"slak\""));
    assert_eq!(channel("to = \"slack\""), of("missing-key", "[[notify]]"));
    assert_eq!(channel("to = \"slack\"\nconnection = \"apy\""), of("unknown-connection", "\"apy\""));
    assert_eq!(channel("to = \"webhook\"\nconnection = \"api\"\non = [\"failur\"]"), of("unknown-value", "\"failur\""));
    assert_eq!(channel("to = \"webhook\"\nconnection = \"api\"\non = []"), of("empty", "[]"));
    assert_eq!(channel("to = \"webhook\"\nconnection = \"api\"\nlimit = \"20\""), of("bad-limit", "\"20\""));
    assert_eq!(
        channel("to = \"webhook\"\nconnection = \"api\"\npipelines = [\"dais\"]"),
        of("unknown-pipeline", "[\"dais\"]")
    );
    assert_eq!(
        channel("to = \"webhook\"\nconnection = \"api\"\nrecipients = \"a@example.com\""),
        of("foreign-key", "\"a@example.com\"")
    );
    assert_eq!(channel("to = \"email\"\nconnection = \"api\""), of("missing-key", "[[notify]]"));
    assert_eq!(
        channel("to = \"email\"\nconnection = \"api\"\nrecipients = [\"ann at home\"]"),
        of("bad-address", "[\"ann at home\"]")
    );
    assert_eq!(channel("to = \"command\""), of("missing-key", "[[notify]]"));
    let twice = "[[notify]]\nname = \"a\"\nto = \"slack\"\nconnection = \"api\"\n";
    assert_eq!(fault(&format!("{twice}{twice}")), of("duplicate-name", "\"a\""));
}

#[test]
fn a_deadline_that_cannot_be_has_its_fault() {
    let deadline = |more: &str| fault(&format!("[[deadline]]\n{more}\n"));
    assert_eq!(deadline("by = \"07:00\""), of("missing-key", "[[deadline]]"));
    assert_eq!(deadline("table = \"raw.item\"\nby = \"07:00\""), of("unknown-table", "\"raw.item\""));
    assert_eq!(deadline("pipeline = \"day\"\nby = \"07:00\""), of("unknown-pipeline", "\"day\""));
    assert_eq!(deadline("pipeline = \"days\"\nstep = \"item\"\nby = \"07:00\""), of("unknown-step", "\"item\""));
    assert_eq!(deadline("table = \"raw.items\"\nstep = \"items\"\nby = \"07:00\""), of("two-subjects", "\"items\""));
    assert_eq!(deadline("table = \"raw.items\"\nby = \"7\""), of("wrong-type", "\"7\""));
    // Today has not ended at seven, and neither has yesterday of New York at seven in Seoul.
    assert_eq!(deadline("table = \"raw.items\"\nby = \"07:00\"\ndays_back = 0"), of("bad-deadline", "[[deadline]]"));
    let seoul = "table = \"raw.items\"\nby = \"07:00\"\ntimezone = \"Asia/Seoul\"";
    assert_eq!(deadline(seoul), of("bad-deadline", "[[deadline]]"));
}

#[test]
fn retention_and_the_report_have_their_faults() {
    assert_eq!(fault("[retention]\nruns = \"1h\"\n"), of("out-of-range", "\"1h\""));
    assert_eq!(fault("[report]\nat = \"08:00\"\n"), of("untold", "[report]"));
    assert_eq!(fault("[drift]\nchanged = \"0.1\"\n"), of("bad-percentage", "\"0.1\""));
}
