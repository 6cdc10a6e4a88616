//! `haul hooks list | show | test`: what hooks tell of themselves, and their own tests on recorded answers.

use super::*;

#[test]
fn list_and_show_tell_what_a_hook_is_and_what_it_needs() {
    let hook = HOOK.replace(
        "connection  = \"api\"",
        "connection = \"api\"\nauth = \"bearer\"\nversion = \"1.2\"\nlicense = \"MIT\"\nhomepage = \"https://shop.test\"\n\
         docs = \"Ask politely.\"\ncolumn_docs = { id = \"its number\" }\ncolumns = { id = \"BIGINT\" }",
    );
    let project = project("http://127.0.0.1:9", &hook, "");
    let listed = ran(&project, &["hooks", "list"]).well().out;
    insta::assert_snapshot!(listed, @r"
     hook  description  parameters                             tests  from
    ──────────────────────────────────────────────────────────────────────────────
     shop  A shop       page_size, lang, since, short, member  0      this project
    ");
    let shown = ran(&project, &["hooks", "show", "shop"]).well().out;
    for word in [
        "shop: A shop",
        "1.2",
        "MIT",
        "https://shop.test",
        "auth with a token",
        "Ask politely.",
        "items in a page",
        "(en, ko)",
        "BIGINT: its number",
        "hook = \"shop\"",
    ] {
        assert!(shown.contains(word), "{word} is missing in:\n{shown}");
    }
    let json = ran(&project, &["hooks", "show", "shop", "--output", "json"]).well().json();
    assert_eq!(json["parameters"][0]["type"], "integer");
    assert_eq!(json["needs"], serde_json::json!(["type = \"http\"", "url", "auth with a token"]));
    ran(&project, &["hooks", "show", "shpo"]).refused(2, &["no hook `shpo`", "the project has shop"]);
}

const TEST: &str = r#"
[[test]]
name    = "three pages"
with    = { page_size = 3 }
expect  = { rows = 7, pages = 3, first = [{ id = 0 }, { kind = "items" }] }

[[test]]
name    = "an empty page"
answers = [{ path = "/items", params = { lang = "en", since = "02.01.2020", page = 1, page_size = 100 }, body = { items = [] } }]
expect  = { rows = 0, pages = 1 }
"#;

#[test]
fn a_hook_is_tested_offline_on_answers_that_were_recorded_once() {
    let api = items();
    let project = project(&api.url, &format!("{HOOK}{TEST}"), "");
    ran(&project, &["hooks", "test"])
        .refused(1, &["failed  shop: three pages", "shop.cassette.jsonl", "--record", "passed  shop: an empty page"]);
    ran(&project, &["hooks", "test", "--record"]).refused(0, &["recorded 3 exchanges", "2 passed, 0 failed"]);
    assert_eq!(api.asked().len(), 3);

    // Neither connection nor network is needed any more.
    project.write("connections.toml", "");
    ran(&project, &["hooks", "test", "shop"]).refused(0, &["passed  shop: three pages", "2 passed, 0 failed"]);
    assert_eq!(api.asked().len(), 3, "nobody was asked again");
    let json = Ran::of(&mut project.haul(&["hooks", "test", "--output", "json"])).well().json();
    assert_eq!((&json["passed"], &json["failed"]), (&serde_json::json!(2), &serde_json::json!(0)));

    project.write(
        "hooks/shop.toml",
        &format!("{HOOK}{}", TEST.replace("id = 0", "id = 1").replace("pages = 3", "pages = 2")),
    );
    ran(&project, &["hooks", "test"])
        .refused(1, &["3 pages came, expected: 2", "row 1 has id = 0, expected is 1", "1 passed, 1 failed"]);

    project.write("hooks/shop.toml", &format!("{HOOK}{}", TEST.replace("page_size = 3", "page_size = 4")));
    ran(&project, &["hooks", "test"]).refused(1, &["has no answer to GET", "`page_size` is 4, recorded is 3"]);
}

#[test]
fn a_test_may_expect_a_failure_and_has_to_expect_something() {
    let fails = "\n[[test]]\nname = \"refused\"\nanswers = [{ path = \"/items\", params = { lang = \"en\", since = \"02.01.2020\", page = 1, page_size = 100 }, status = 404, body = \"gone\" }]\nexpect = { fails = \"404\" }\n";
    let project = project("http://127.0.0.1:9", &format!("{HOOK}{fails}"), "");
    ran(&project, &["hooks", "test"]).refused(0, &["1 passed, 0 failed"]);
    project.write("hooks/shop.toml", &format!("{HOOK}{}", fails.replace("fails = \"404\"", "fails = \"405\"")));
    ran(&project, &["hooks", "test"]).refused(1, &["fails otherwise", "404"]);
    project.write("hooks/shop.toml", &format!("{HOOK}{}", fails.replace("fails = \"404\"", "")));
    ran(&project, &["check"]).refused(2, &["expects nothing", "hooks/shop.toml"]);
}

#[test]
fn a_project_without_any_test_is_no_success() {
    let project = project("http://127.0.0.1:9", HOOK, "");
    ran(&project, &["hooks", "test"]).refused(2, &["no tests", "[[test]]"]);
    ran(&project, &["test"]).refused(2, &["no tests", "tests/<name>.toml"]);
}
