//! Pages that are smaller than what was asked for: the end of a day, or an API whose pages are no larger.

use super::{all, ids, project, run, run_badly};
use crate::support::pages::{PAGE, PagesApi};
use crate::support::project::told;

const DAY: &str = "2024-03-01";

/// What the API gives ten rows of, however many are asked for.
const CAPPED: &[(&str, &str, &str)] = &[
    ("capped_offset", "paginate = { by = \"offset\", limit = 1000 }", "`limit = 10`"),
    ("capped_default", "paginate = { by = \"offset\" }", "`limit = 10`"),
    ("capped_page", "paginate = { by = \"page\", size = 100, size_param = \"limit\" }", "`size = 10`"),
    ("capped_name", "paginate = { by = \"page\", size = 100, size_param = \"per_page\" }", "`size = 10`"),
    (
        "capped_keyset",
        "paginate = { by = \"keyset\", param = \"since\", value = \"$.id\", limit = 100, limit_param = \"limit\" }",
        "`limit = 10`",
    ),
];

#[test]
fn pages_that_are_smaller_than_asked_for_are_told_with_the_size_that_they_have_and_load_nothing() {
    for (name, keys, right) in CAPPED {
        let api = PagesApi::start();
        let project = project(&api, "", 1, &[(name, keys)]);
        let told = run_badly(&project, "2024-03-02");
        assert!(told.contains("page 1 has 10 rows") && told.contains("there are more behind it"), "{name}: {told}");
        assert!(told.contains(right), "{name}: {told}");
        assert_eq!(project.json(&["status"])[0]["state"], "failed", "{name}");
    }
}

#[test]
fn who_asks_for_pages_of_their_size_gets_every_row() {
    for (name, keys, right) in CAPPED.iter().filter(|(name, ..)| *name != "capped_default") {
        let api = PagesApi::start();
        let right = right.trim_matches('`');
        let keys = ["limit = 1000", "limit = 100", "size = 100"].iter().fold((*keys).to_owned(), |keys, wrong| {
            if keys.contains(&format!("{wrong},")) || keys.contains(&format!("{wrong} ")) {
                keys.replacen(wrong, right, 1)
            } else {
                keys
            }
        });
        let project = project(&api, "", 1, &[(name, &keys)]);
        run(&project, "2024-03-02");
        assert_eq!(ids(&project, &format!("raw.{name}")), all(&[DAY], 25), "{name}: {keys}");
    }
}

#[test]
fn a_number_of_pages_counts_more_than_a_page_that_is_small() {
    let api = PagesApi::start();
    let keys = "paginate = { by = \"page\", size = 100, size_param = \"per_page\", total_pages = \"$.meta.pages\" }";
    let project = project(&api, "", 1, &[("items", keys)]);
    run(&project, "2024-03-02");
    assert_eq!(ids(&project, "raw.items"), all(&[DAY], 25));
    assert_eq!(api.asked().len(), 3);
}

#[test]
fn a_first_page_of_a_round_number_of_rows_is_asked_behind_once_and_any_other_is_the_end() {
    for (rows, requests) in [(7, 1), (20, 2), (25, 2), (99, 1), (100, 2)] {
        let api = PagesApi::start();
        api.resize(DAY, rows);
        let project = project(&api, "", 1, &[("items", "paginate = { by = \"offset\", limit = 100 }")]);
        run(&project, "2024-03-02");
        assert_eq!(ids(&project, "raw.items"), all(&[DAY], rows));
        assert_eq!(api.asked().len(), requests, "{rows} rows");
    }
}

#[test]
fn an_api_that_knows_no_pages_and_gives_everything_each_time_is_read_once() {
    let api = PagesApi::start();
    api.resize(DAY, 2 * PAGE);
    let keys = "paginate = { by = \"page\", size = 100, size_param = \"limit\" }";
    let project = project(&api, "", 1, &[("single", keys)]);
    api.misbehave({
        // Whatever page is asked for, it is the first.
        let rows: Vec<String> = (1..=2 * PAGE).map(|id| crate::support::pages::ordinary(DAY, id)).collect();
        let body = format!("{{\"items\": [{}]}}", rows.join(","));
        move |_| Some(crate::support::pages::Fault::Body(body.clone()))
    });
    run(&project, "2024-03-02");
    assert_eq!(ids(&project, "raw.single"), all(&[DAY], 2 * PAGE));
    assert_eq!(api.asked().len(), 2);
}

#[test]
fn a_way_to_the_next_page_that_no_answer_has_is_told() {
    let wrong = "at = \"$.meta.nxt\"";
    let right = "at = \"$.meta.next\"";
    for (rows, at, is_told) in [(25, wrong, true), (10, wrong, true), (7, wrong, false), (10, right, false)] {
        let api = PagesApi::start();
        api.resize(DAY, rows);
        let keys = format!("paginate = {{ by = \"cursor\", param = \"cursor\", {at} }}");
        let project = project(&api, "", 1, &[("cursor", &keys)]);
        let ran = told(&project.output(&["run", "items", "--date", "2024-03-02"]));
        let sentence = "page 1 has 10 rows and nothing at `$.meta.nxt`";
        assert_eq!(ran.contains(sentence), is_told, "{rows} {at}: {ran}");
    }
}
