//! Files of items, and files of the project that say something wrong of them.

use serde_json::json;

use super::{column, faults, project};
use crate::support::fan_api::{FanApi, Manner};
use crate::support::project::told;

#[test]
fn items_come_from_files_of_every_kind() {
    let api = FanApi::start(Manner::default());
    for (file, text, request, expected) in [
        ("videos.csv", "\u{feff}id,title\n007,\"a, b\"\n8,\"c\nd\"\n", "/v/{{ item.id }}", ["/v/007", "/v/8"]),
        ("videos.jsonl", "{\"id\": {\"n\": 1}}\n\n{\"id\": {\"n\": 2}}\n", "/v/{{ item.id.n }}", ["/v/1", "/v/2"]),
        ("lists/videos.txt", "one\r\n two \n", "/v/{{ item }}", ["/v/one", "/v/two"]),
    ] {
        let step = format!("for_each = {{ file = \"{file}\" }}\nrequest = {{ path = \"{request}\" }}");
        let project = project(&api, "", "", &step);
        project.write(file, text);
        project.stdout(&["run", "fan"]);
        assert_eq!(column(&project, "select path from raw.stats order by path"), expected.map(|path| json!(path)));
        let plan = project.json(&["plan", "fan"]);
        assert_eq!(plan[0]["totals"]["requests"], 2, "{plan}");
    }
}

#[test]
fn a_file_that_is_not_there_or_is_broken_is_told_by_its_name_and_line() {
    let api = FanApi::start(Manner::default());
    let step = "for_each = { file = \"v.jsonl\" }\nrequest = { path = \"/v/{{ item.id }}\" }";
    let project = project(&api, "", "", step);
    let output = project.output(&["run", "fan"]);
    assert!(told(&output).contains("v.jsonl"), "{}", told(&output));
    project.write("v.jsonl", "{\"id\": 1}\n{\"id\": }\n");
    let output = project.output(&["run", "fan"]);
    assert!(told(&output).contains("reading the item on line 2 of"), "{}", told(&output));
    project.write("v.jsonl", "{\"id\": 1}\n{\"no\": 2}\n");
    let output = project.output(&["run", "fan"]);
    assert!(told(&output).contains("making request 2") && told(&output).contains("item.id"), "{}", told(&output));
    assert!(api.answers() <= 1, "a request that cannot be made stops the step");
}

#[test]
fn wrong_keys_are_found_before_anything_is_sent() {
    let api = FanApi::start(Manner::default());
    let good = "request = { path = \"/v/{{ item }}\" }";
    for (step, code, message) in [
        ("for_each = { values = [1] }\nrequest = { path = \"/v/{{ itme }}\" }", "template", "`itme` is undefined"),
        ("request = { path = \"/v/{{ item.id }}\" }", "template", "`item.id` is undefined"),
        ("for_each = { values = [1] }\nrequest = { path = \"/v\" }", "unused-item", "never uses `item`"),
        (
            "for_each = { values = [{ id = 1 }] }\nrequest = { path = \"/v/{{ item.ident }}\" }",
            "unknown-member",
            "no item has a member `ident`",
        ),
        (
            "for_each = { step = \"nowhere\" }\nrequest = { path = \"/v/{{ parent.id }}\" }",
            "unknown-ref",
            "there is no step `nowhere`",
        ),
        ("for_each = { step = \"stats\" }\nrequest = { path = \"/v/{{ parent.id }}\" }", "cycle", "reads itself"),
        (&format!("for_each = {{ }}\n{good}"), "bad-for-each", "has no items"),
        (&format!("for_each = {{ values = [1], file = \"x.csv\" }}\n{good}"), "bad-for-each", "items of several kinds"),
        (&format!("for_each = {{ values = [] }}\n{good}"), "empty", "a list without an item"),
        (&format!("for_each = {{ file = \"x.xlsx\" }}\n{good}"), "unknown-format", "x.xlsx"),
        (
            &format!("for_each = {{ values = [1], connection = \"api\" }}\n{good}"),
            "foreign-key",
            "says where `sql` runs",
        ),
        (&format!("for_each = {{ values = [1], vlaues = 1 }}\n{good}"), "unknown-key", "vlaues"),
        (
            "for_each = { values = [1], as = \"ds\" }\nrequest = { path = \"/v/{{ item }}\" }",
            "bad-name",
            "templates have already",
        ),
        (
            &format!("for_each = {{ values = [1] }}\n{good}\nlimits = {{ max_dispatches_per_second = 0 }}"),
            "bad-rate",
            "not a number of requests",
        ),
        (&format!("for_each = {{ values = [1] }}\n{good}\nmax_failed = \"101%\""), "bad-percentage", "max_failed"),
        ("request = { path = \"/v\" }\nmax_failed = 3", "missing-key", "`max_failed` means nothing without `for_each`"),
        ("request = { path = \"/v\" }\nadd = { a = \"b\" }", "missing-key", "`add` means nothing without `for_each`"),
    ] {
        let project = project(&api, "", "", step);
        let found = faults(&project);
        assert!(found.iter().any(|(is, says)| is == code && says.contains(message)), "{step}\n{found:?}");
    }
    assert_eq!(api.answers(), 0);
}
