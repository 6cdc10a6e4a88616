//! Parameters and resources: what a step sets reaches requests, pages and paths, and what it sets wrongly is told at its place.

use super::*;

#[test]
fn a_step_sets_parameters_that_reach_request_pages_and_paths() {
    let api = items();
    let with = "with = { page_size = 3, lang = \"ko\", since = 2021-12-31, member = \"goods\" }";
    let project = project(&api.url, HOOK, with);
    ran(&project, &["run", "p", "--date", "2024-05-04"]).well();
    let asked: Vec<String> = api.asked().iter().map(|asked| asked.query.clone()).collect();
    assert_eq!(asked.len(), 3, "pages of three: {asked:?}");
    assert!(asked.iter().all(|query| query.contains("lang=ko") && query.contains("since=31.12.2021")), "{asked:?}");
    assert_eq!(project.query("select count(*) as n from raw.items")[0]["n"], 7);
}

#[test]
fn without_words_of_the_step_the_defaults_hold() {
    let api = items();
    let project = project(&api.url, HOOK, "");
    let lines = ran(&project, &["render", "p", "items", "--date", "2024-05-04"]).well().out;
    assert!(lines.contains("lang = en") && lines.contains("since = 02.01.2020"), "{lines}");
    ran(&project, &["run", "p", "--date", "2024-05-04"]).well();
    assert_eq!(api.asked().len(), 1);
}

#[test]
fn what_a_step_sets_wrongly_is_told_at_its_line() {
    let hook = format!("{HOOK}account = {{ type = \"string\", doc = \"whose\" }}\n")
        .replace("\"/items\"", "\"/items/{{ param.account }}\"");
    let cases: [(&str, &[&str]); 6] = [
        ("", &["needs the parameter `account`", "with = { account = … }: whose", "pipelines/p.toml:6:8"]),
        (
            "with = { account = \"a\", page_sise = 3 }",
            &["no parameter `page_sise`", "did you mean `page_size`?", "pipelines/p.toml:8:25"],
        ),
        (
            "with = { account = \"a\", page_size = \"3\" }",
            &["`page_size` is of type integer", "a whole number", "pipelines/p.toml:8:37"],
        ),
        ("with = { account = \"a\", page_size = 0 }", &["an integer from 1 on", "`page_size` is 0", "hooks/shop.toml"]),
        ("with = { account = \"a\", lang = \"kr\" }", &["`kr` is no choice", "did you mean `ko`?"]),
        ("with = { account = \"{{ ds }}\" }", &["a value, not a template"]),
    ];
    for (step, words) in cases {
        let project = project("http://127.0.0.1:9", &hook, step);
        ran(&project, &["check"]).refused(2, words);
    }
}

#[test]
fn what_a_hook_declares_wrongly_is_told_in_the_hook() {
    let cases: [(&str, i32, &[&str]); 6] = [
        ("x = { type = \"integer\", default = \"a\" }", 2, &["`x` is of type integer"]),
        ("x = { type = \"integer\", default = 1, required = true }", 2, &["has a default, and so no step has to"]),
        ("x = { type = \"number\", default = 1 }", 2, &["`number` is no value", "`integer`"]),
        ("x = { default = 1 }", 2, &["has no `type`"]),
        ("x = { type = \"list\", default = [\"a\"], choices = [\"b\"] }", 2, &["no choice"]),
        ("x = { type = \"duration\", default = \"3d\" }", 0, &["nothing in this hook uses the parameter `x`"]),
    ];
    for (parameter, code, words) in cases {
        let project = project("http://127.0.0.1:9", &format!("{HOOK}{parameter}\n"), "");
        ran(&project, &["check"]).refused(code, words);
    }
    let unknown = HOOK.replace("param.lang", "param.lnag");
    let project = project("http://127.0.0.1:9", &unknown, "");
    ran(&project, &["check"]).refused(2, &["no parameter `lnag`", "did you mean `lang`?", "hooks/shop.toml"]);
}

#[test]
fn parameters_are_those_of_hooks_and_of_nothing_else() {
    let project = Project::with_api("http://127.0.0.1:9", "");
    let extract = "[[extract]]\nname = \"a\"\nconnection = \"api\"\nwrite = \"full\"\n";
    project.write("pipelines/p.toml", &format!("{extract}request = {{ path = \"/{{{{ param.x }}}}\" }}\n"));
    ran(&project, &["check"]).refused(2, &["`param.x` is undefined", "var('name')"]);
    project.write("pipelines/p.toml", &format!("{extract}with = {{ x = 1 }}\n"));
    ran(&project, &["check"]).refused(2, &["`with` means nothing without a `hook`"]);
    let transform = "\n[[transform]]\nname = \"t\"\nsql = \"SELECT {{ param.x }} FROM {{ ref('a') }}\"\n";
    project.write("pipelines/p.toml", &format!("{extract}{transform}"));
    ran(&project, &["check"]).refused(2, &["`param.x` is undefined"]);
}

const RESOURCES: &str = r#"
connection = "api"
records    = "$.items[*]"
paginate   = { by = "page", size = 100 }

[resources.books]
description = "what people read"
request     = { path = "/books" }

[resources.records]
request = { path = "/records" }
records = "$.goods[*]"
"#;

#[test]
fn one_hook_file_describes_several_parts_of_an_api() {
    let api = items();
    let project = project(&api.url, RESOURCES, "resource = \"records\"");
    ran(&project, &["run", "p", "--date", "2024-05-04"]).well();
    assert_eq!(project.query("select distinct kind from raw.items")[0]["kind"], "records");
    project.write("pipelines/p.toml", PIPELINE);
    ran(&project, &["check"]).refused(2, &["several resources", "resource = \"books\"", "`records`"]);
    project.write("pipelines/p.toml", &format!("{PIPELINE}resource = \"boks\"\n"));
    ran(&project, &["check"]).refused(2, &["no resource `boks`", "did you mean `books`?"]);
    let shown = ran(&project, &["hooks", "list"]);
    assert_eq!(shown.code, Some(2), "a project with faults is told: {}", shown.told());
}
