//! Recording and replaying: pipelines tested offline on cassettes, with a clock that stands still.

mod secrets;

use serde_json::json;

use super::support::doors::{Asked, Door, Ran, Reply};
use super::support::project::Project;

/// An API of orders of a day; every order of the first day is revised on the second morning.
fn orders() -> Door {
    Door::start(|asked: &Asked| {
        let day = asked.query.split('&').find_map(|pair| pair.strip_prefix("day=")).unwrap_or_default().to_owned();
        let revised = asked.header("x-morning") == "2";
        let order = |number: u64| {
            let price = if revised && day == "2024-05-01" { "2.50" } else { "1.50" };
            format!("{{\"id\": \"{day}/{number}\", \"price\": {price}, \"big\": 12345678901234567890}}")
        };
        let count = if day == "2024-05-03" { 3 } else { 2 };
        let rows: Vec<String> = (1..=count).map(order).collect();
        Reply::new(200, format!("[ {} ]", rows.join(", "))).header("content-type", "application/json")
    })
}

const PIPELINE: &str = r#"
[window]
lookback = 2
begin    = 2024-05-01

[vars]
least = 0

[[extract]]
name       = "orders"
connection = "api"
request    = { path = "/orders", params = { day = "{{ ds }}" } }
columns    = { price = "DECIMAL(9,2)" }
keys       = ["id"]

[[transform]]
name = "sums"
sql  = "SELECT count(*) AS orders, sum(price) AS total, {{ run_date | sql }} AS computed FROM {{ ref('orders') }} WHERE _haul_unit = {{ ds | sql }} AND price >= {{ var('least') }}"
"#;

fn project(url: &str, more: &str) -> Project {
    let project = Project::with_api(url, more);
    project.write("pipelines/shop.toml", PIPELINE);
    project
}

fn ran(project: &Project, arguments: &[&str]) -> Ran {
    Ran::of(&mut project.haul(arguments))
}

/// A project with two recorded mornings, whose API and connections are gone.
fn recorded() -> Project {
    let api = orders();
    let project = project(&api.url, "");
    ran(&project, &["record", "shop", "--date", "2024-05-03", "--name", "one"])
        .refused(0, &["2 exchanges", "cassettes/one.jsonl"]);
    let second = Project::with_api(&api.url, "headers = { X-Morning = \"2\" }");
    let connections = std::fs::read_to_string(second.path().join("connections.toml")).expect("connections");
    // The second morning also asks for the first day again.
    project.write("connections.toml", &connections);
    project.write("pipelines/shop.toml", &PIPELINE.replace("lookback = 2", "lookback = 3"));
    ran(&project, &["record", "shop", "--date", "2024-05-04", "--name", "two"]).refused(0, &["3 exchanges"]);
    assert!(
        !project.path().join("warehouse.duckdb").exists() && !project.path().join(".haul").exists(),
        "a recording leaves the project alone"
    );
    std::fs::remove_file(project.path().join("connections.toml")).expect("it was there");
    project
}

const TEST: &str = r#"
pipeline = "shop"

[[run]]
date     = 2024-05-03
cassette = "cassettes/one.jsonl"

[[run]]
date     = 2024-05-04
now      = 2024-05-05T06:00:00Z
cassette = "cassettes/two.jsonl"

[[expect]]
after = 1
table = "mart.sums"
rows  = [
    { orders = 2, total = 3, computed = 2024-05-03 },
    { orders = 2, total = 3.0, computed = 2024-05-03 },
]

[[expect]]
table = "mart.sums"
rows  = [
    { orders = 3, total = "4.50", computed = 2024-05-05 },
    { orders = 2, total = "3.00", computed = 2024-05-05 },
    { orders = 2, total = "5.00", computed = 2024-05-05 },
]

[[expect]]
table = "raw.orders"
count = 7
file  = "tests/orders.csv"
"#;

#[test]
fn two_mornings_are_replayed_without_api_connections_or_network() {
    let project = recorded();
    project.write("tests/mornings.toml", TEST);
    // Other files of the folder are nobody's concern here.
    project.write("tests/it/other.toml", "nonsense");
    ran(&project, &["test"]).refused(1, &["there is no tests/orders.csv", "haul test --update", "0 passed, 1 failed"]);
    ran(&project, &["test", "--update"]).refused(0, &["written tests/orders.csv", "1 passed, 0 failed"]);
    let csv = std::fs::read_to_string(project.path().join("tests/orders.csv")).expect("rows");
    assert!(csv.starts_with("id,price,big\n2024-05-01/1,2.50,12345678901234567890\n"), "{csv}");
    ran(&project, &["test", "mornings"]).refused(0, &["passed  mornings", "1 passed, 0 failed"]);
    let json = ran(&project, &["test", "--output", "json"]).well().json();
    assert_eq!(
        json["tests"][0],
        json!({ "name": "mornings", "passed": true, "faults": [], "notes": [], "written": [] })
    );
    assert!(!project.path().join("warehouse.duckdb").exists() && !project.path().join(".haul").exists());
}

#[test]
fn what_differs_is_drawn_as_a_table() {
    let project = recorded();
    let changed = TEST
        .replace(
            "{ orders = 3, total = \"4.50\", computed = 2024-05-05 }",
            "{ orders = 3, total = \"4.75\", computed = 2024-05-05 }",
        )
        .replace("count = 7", "count = 8");
    project.write("tests/mornings.toml", &changed);
    project.write("tests/orders.csv", "price,id\n2.5,2024-05-01/1\n9.99,2024-05-01/2\n1.5,2024-05-02/1\n1.5,2024-05-02/2\n1.5,2024-05-03/1\n1.5,2024-05-03/2\n1.5,2024-05-09/3\n");
    let told = ran(&project, &["test"]);
    assert_eq!(told.code, Some(1), "{}", told.told());
    insta::assert_snapshot!(told.out, @r"
    failed  mornings
      mart.sums is not as expected: 3 rows expected, 3 came; 1 different
        orders  total        computed
    ───────────────────────────────────
     ~  3       4.75 → 4.50  2024-05-05
      raw.orders has 7 rows, expected are 8
      raw.orders is not as expected: 7 rows expected, 7 came; 1 missing, 1 unexpected, 1 different
        price        id
    ─────────────────────────────
     ~  9.99 → 2.50  2024-05-01/2
     -  1.5          2024-05-09/3
     +  1.50         2024-05-03/3
      hint: if what came is right: haul test --update
    0 passed, 1 failed
    ");
}

#[test]
fn a_request_that_was_not_recorded_is_told_with_the_nearest_one() {
    let project = recorded();
    project.write("tests/mornings.toml", &TEST.replace("cassettes/two.jsonl", "cassettes/one.jsonl"));
    ran(&project, &["test"]).refused(
        1,
        &[
            "run 2 (2024-05-04) failed, expected was succeeded",
            "cassettes/one.jsonl has no answer to GET",
            "`day` is 2024-05-03, recorded is",
            "0 passed, 1 failed",
        ],
    );
    let again = "pipeline = \"shop\"\ndate = 2024-05-03\nstatus = \"failed\"\ntells = \"nothing is recorded there\"\n";
    project.write("tests/mornings.toml", again);
    ran(&project, &["test"]).refused(0, &["1 passed"]);
    project.write("tests/mornings.toml", &again.replace("nothing is", "something is"));
    ran(&project, &["test"]).refused(1, &["no task of the run tells `something is recorded there`"]);
}

#[test]
fn variables_steps_and_the_clock_are_those_of_the_test() {
    let project = recorded();
    let test = "pipeline = \"shop\"\ndate = 2024-05-03\nnow = 2024-05-03T23:59:00Z\ncassette = \"cassettes/one.jsonl\"\nvars = { least = 2 }\n\n\
                [[expect]]\nsql = \"SELECT DISTINCT orders, computed FROM mart.sums\"\nrows = [{ orders = 0, computed = 2024-05-03 }]\n";
    project.write("tests/vars.toml", test);
    ran(&project, &["test"]).refused(0, &["1 passed"]);
    let only = test.replace("vars =", "steps = [\"orders\"]\nvars =").replace(
        "sql = \"SELECT DISTINCT orders, computed FROM mart.sums\"\nrows = [{ orders = 0, computed = 2024-05-03 }]",
        "table = \"mart.sums\"\ncount = 0",
    );
    project.write("tests/vars.toml", &only);
    ran(&project, &["test"]).refused(1, &["looking at mart.sums", "does not exist"]);
}

#[test]
fn faults_of_a_test_are_told_at_their_place() {
    let project = recorded();
    for (written, instead, words) in [
        ("\"shop\"", "\"shpo\"", &["no pipeline `shpo`", "did you mean `shop`?"][..]),
        ("cassettes/one", "cassettes/none", &["no cassette", "haul record shop --date 2024-05-03 --name none"]),
        ("mart.sums\"\nrows", "mart.sum\"\nrows", &["no step of `shop` writes mart.sum", "did you mean `mart.sums`?"]),
        ("after = 1", "after = 3", &["there is no run 3"]),
        ("tests/orders.csv", "../orders.csv", &["no file of rows inside the project"]),
        ("count = 7\nfile  = \"tests/orders.csv\"", "", &["one of `rows`, `file` or `count`"]),
        ("date     = 2024-05-04", "", &["no logical date"]),
    ] {
        project.write("tests/mornings.toml", &TEST.replace(written, instead));
        for command in ["test", "check"] {
            // A check looks at the connections too, of which there are none here.
            let told = ran(&project, &[command]);
            if command == "test" {
                told.refused(2, words).refused(2, &["tests/mornings.toml"]);
            }
        }
    }
}

#[test]
fn a_recording_that_fails_writes_nothing() {
    let api = Door::start(|_| Reply::new(500, "no"));
    let project = project(&api.url, "");
    let pipeline = PIPELINE.replace("keys ", "retry = { max_attempts = 1 }\nkeys ");
    project.write("pipelines/shop.toml", &pipeline);
    ran(&project, &["record", "shop", "--date", "2024-05-03"])
        .refused(1, &["recording `shop`", "500", "nothing was written"]);
    assert!(!project.path().join("cassettes").exists());
    ran(&project, &["record", "shop", "--name", "../x"]).refused(2, &["cannot be the name of a cassette"]);
}

#[test]
fn a_pause_that_the_server_asked_for_is_kept_by_nobody_on_replay() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let api = Door::start(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Reply::new(503, "busy").header("retry-after", "1"),
        _ => Reply::json(&json!([{ "id": 1, "price": 1 }])),
    });
    let project = project(&api.url, "");
    project.write("pipelines/shop.toml", &PIPELINE.replace("lookback = 2", "lookback = 1"));
    ran(&project, &["record", "shop", "--date", "2024-05-03"]).refused(0, &["2 exchanges"]);
    let cassette = project.path().join("cassettes/shop.jsonl");
    let text = std::fs::read_to_string(&cassette).expect("a cassette");
    // An hour would be longer than any test.
    std::fs::write(&cassette, text.replace("\"retry-after\":\"1\"", "\"retry-after\":\"3600\"")).expect("a cassette");
    project.write(
        "tests/busy.toml",
        "pipeline = \"shop\"\ndate = 2024-05-03\ncassette = \"cassettes/shop.jsonl\"\n[[expect]]\ntable = \"raw.orders\"\ncount = 1\n",
    );
    ran(&project, &["test"]).refused(0, &["1 passed"]);
}

#[test]
fn pictures_are_recorded_and_replayed_without_touching_the_project_s_own() {
    let api = Door::start(|asked: &Asked| match asked.path.as_str() {
        "/orders" => Reply::json(&json!([{ "id": 1, "image": "/moved.png" }, { "id": 2, "image": "/gone.png" }])),
        "/moved.png" => Reply::new(302, "").header("location", "/here.png"),
        "/here.png" => Reply::new(200, "a picture").header("content-type", "image/png"),
        _ => Reply::new(404, "gone"),
    });
    let project = Project::with_api(&api.url, "");
    project.write(
        "pipelines/shop.toml",
        "[window]\nlookback = 1\n\n[[extract]]\nname = \"orders\"\nconnection = \"api\"\nrequest = { path = \"/orders\", params = { day = \"{{ ds }}\" } }\n\
         download = { url = \"$.image\", to = \"pictures\", column = \"file\" }\n",
    );
    ran(&project, &["record", "shop", "--date", "2024-05-03"]).refused(0, &["4 exchanges"]);
    let before = api.asked().len();
    project.write(
        "tests/pictures.toml",
        "pipeline = \"shop\"\ndate = 2024-05-03\ncassette = \"cassettes/shop.jsonl\"\n[[expect]]\nsql = \"SELECT id, file IS NOT NULL AS there FROM raw.orders\"\n\
         rows = [{ id = 1, there = true }, { id = 2, there = false }]\n",
    );
    ran(&project, &["test"]).refused(0, &["1 passed"]);
    assert_eq!(api.asked().len(), before, "nobody was asked again");
    assert!(!project.path().join("pictures").exists());
}

#[test]
fn the_project_s_own_tests_pass_and_would_not_with_another_answer() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = Project::empty();
    for part in ["pipelines", "hooks", "sql", "cassettes", "tests"] {
        for file in std::fs::read_dir(root.join(part)).expect("a folder").map(|file| file.expect("a file")) {
            if file.path().is_file() {
                let name = format!("{part}/{}", file.file_name().to_string_lossy());
                project.write(&name, &std::fs::read_to_string(file.path()).expect("a text"));
            }
        }
    }
    ran(&project, &["test"]).refused(
        0,
        &[
            "passed  earthquakes",
            "passed  launches",
            "passed  ratings",
            "passed  ga4_events::sessions",
            "6 passed, 0 failed",
        ],
    );
    ran(&project, &["hooks", "test"]).refused(0, &["5 passed, 0 failed"]);
    let cassette = std::fs::read_to_string(project.path().join("cassettes/ratings.jsonl")).expect("a cassette");
    project.write("cassettes/ratings.jsonl", &cassette.replacen("\"movieId\":296", "\"movieId\":297", 1));
    ran(&project, &["test", "ratings"]).refused(1, &["mart.ranking is not as expected", "0 passed, 1 failed"]);
}
