//! Where items come from, what templates make of them, and what rows get from them.

use serde_json::json;

use super::{RETRY, column, number, project};
use crate::support::fan_api::{FanApi, Manner};
use crate::support::project::{Project, told};

const DAYS: &str = "[window]\ngrain = \"day\"\nlookback = 3\n";

#[test]
fn a_list_is_crossed_with_the_days_and_rows_know_their_item() {
    let api = FanApi::start(Manner::default());
    let project = project(
        &api,
        "",
        DAYS,
        "for_each = { values = [{ id = \"a\", n = 1 }, { id = \"b\", n = 12345678901234567 }], as = \"video\" }\n\
         request = { path = \"/videos/{{ video.id }}\", params = { day = \"{{ ds }}\" } }\n\
         add = { video = \"{{ video.id }}\", n = \"{{ video.n }}\", day = \"{{ ds }}\", kind = \"a \\\"b\\\"\" }",
    );
    project.stdout(&["run", "fan", "--date", "2024-05-04"]);
    let rows = project.query("select * exclude (_haul_pull, views) from raw.stats order by day, video");
    let expected: Vec<_> = ["2024-05-01", "2024-05-02", "2024-05-03"]
        .into_iter()
        .flat_map(|day| {
            [("a", 1), ("b", 12_345_678_901_234_567_u64)].map(|(video, n)| {
                json!({ "video": video, "n": n, "day": day, "kind": "a \"b\"",
                        "path": format!("/videos/{video}?day={day}"), "_haul_unit": day })
            })
        })
        .collect();
    assert_eq!(rows, json!(expected));
    assert_eq!((api.answers(), api.twice()), (6, 0));
    // The same again changes nothing, and is asked for again all the same: the source may have changed.
    let again = project.json(&["run", "fan", "--date", "2024-05-04"]);
    assert_eq!(again[0]["counts"]["unchanged"], 3);
}

#[test]
fn a_child_waits_for_its_parent_and_asks_for_the_rows_of_the_same_unit() {
    let api = FanApi::start(Manner::default());
    let project = Project::with_api(&api.url, "");
    // The child stands before its parent: the graph knows better.
    project.write(
        "pipelines/fan.toml",
        &format!(
            "{DAYS}\n[[extract]]\nname = \"items\"\nconnection = \"api\"\nfor_each = {{ step = \"orders\" }}\n\
             request = {{ path = \"/items{{{{ parent.path }}}}\" }}\nadd = {{ unit = \"{{{{ ds }}}}\" }}\n\
             [[extract]]\nname = \"orders\"\nconnection = \"api\"\nrequest = {{ path = \"/orders/{{{{ ds }}}}\" }}\n\
             [[extract]]\nname = \"all\"\nconnection = \"api\"\nwrite = \"full\"\nfor_each = {{ step = \"orders\" }}\n\
             request = {{ path = \"/all{{{{ parent.path }}}}\" }}\n"
        ),
    );
    project.stdout(&["run", "fan", "--date", "2024-05-04"]);
    let paths = column(&project, "select path from raw.items order by path");
    let days = ["2024-05-01", "2024-05-02", "2024-05-03"];
    assert_eq!(paths, days.map(|day| json!(format!("/items/orders/{day}"))));
    assert_eq!(number(&project, "select count(*) from raw.items where strpos(path, unit::varchar) = 0"), 0);
    assert_eq!(number(&project, "select count(*) from raw.\"all\""), 3);

    // Without its parent's rows a unit fails, and says so.
    let output =
        project.output(&["backfill", "fan", "--from", "2024-04-01", "--to", "2024-04-02", "--select", "items"]);
    assert!(told(&output).contains("2024-04-01 of raw.orders is not loaded"), "{}", told(&output));
}

#[test]
fn items_of_a_select_follow_its_references_and_keep_their_digits() {
    let api = FanApi::start(Manner::default());
    let project = Project::with_api(&api.url, "");
    project.write(
        "pipelines/fan.toml",
        "[[transform]]\nname = \"ids\"\nsql = \"select 170141183460469231731687303715884105727::hugeint as id, 1.10::decimal(9,2) as price, 'ä b' as name\"\nwrite = \"full\"\n\
         [[extract]]\nname = \"stats\"\nconnection = \"api\"\nfor_each = { sql = \"select * from {{ ref('ids') }}\" }\n\
         request = { path = \"/v/{{ item.id }}\", params = { name = \"{{ item.name | upper }}\" } }\nadd = { id = \"{{ item.id }}\" }\n",
    );
    project.stdout(&["run", "fan"]);
    assert_eq!(
        column(&project, "select path from raw.stats"),
        [json!("/v/170141183460469231731687303715884105727?name=%C3%84+B")]
    );
}

#[test]
fn every_row_of_one_request_over_the_whole_window_finds_its_own_day() {
    let api = FanApi::start(Manner::default());
    let project = project(
        &api,
        "",
        DAYS,
        "per = \"window\"\ntime_column = \"day\"\nfor_each = { values = [\"2024-05-01\", \"2024-05-03\"] }\n\
         request = { path = \"/v/{{ item }}\", params = { from = \"{{ window.first }}\" } }\nadd = { day = \"{{ item }}\" }",
    );
    project.stdout(&["run", "fan", "--date", "2024-05-04"]);
    assert_eq!(api.answers(), 2);
    let rows = project.query("select _haul_unit::varchar as unit, path from raw.stats order by 1");
    assert_eq!(
        rows,
        json!([
            { "unit": "2024-05-01", "path": "/v/2024-05-01?from=2024-05-01" },
            { "unit": "2024-05-03", "path": "/v/2024-05-03?from=2024-05-01" },
        ])
    );
}

#[test]
fn what_is_added_never_hides_what_the_source_says() {
    let api = FanApi::start(Manner::default());
    let step = format!(
        "for_each = {{ values = [1] }}\nrequest = {{ path = \"/v/{{{{ item }}}}\" }}\nadd = {{ views = \"{{{{ item }}}}\" }}\n{RETRY}"
    );
    let project = project(&api, "", "", &step);
    let output = project.output(&["run", "fan"]);
    assert!(!output.status.success());
    let listed = project.stdout(&["retry", "fan", "--list"]);
    assert!(listed.contains("has a member `views` of its own, which `add` gives it too"), "{listed}");
}

#[test]
fn preview_and_render_show_the_first_item() {
    let api = FanApi::start(Manner::default());
    let step = "for_each = { values = [\"x y\", \"z\"] }\nrequest = { path = \"/v/{{ item }}\" }\nadd = { id = \"{{ item }}\" }";
    let project = project(&api, "", "", step);
    let rendered = project.stdout(&["render", "fan", "stats"]);
    assert!(rendered.contains("for each of 2 items, of which the first is \"x y\""), "{rendered}");
    assert!(rendered.contains("/v/x y"), "{rendered}");
    let rows = project.json(&["preview", "fan", "stats"]);
    assert_eq!(rows[0]["path"], "/v/x%20y");
    assert_eq!(api.answers(), 1);
}
