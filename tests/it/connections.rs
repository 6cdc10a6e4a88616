//! Connections: where they are told and which place wins, how references are resolved, and what the example documents.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod import;
mod probe;
mod store;

use std::path::Path;

use serde_json::{Value, json};

use super::support::doors::{Door, Ran, Reply, basic};
use super::support::project::Project;

/// One line of `haul connections list --output json`.
fn line(listed: &Value, name: &str) -> Value {
    let lines = listed.as_array().expect("a list");
    lines.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("no {name} in {listed}")).clone()
}

/// An API that lets one user in, and says so.
fn guarded(user: &'static str, password: &'static str) -> Door {
    Door::start(move |asked| {
        if asked.header("authorization") == basic(user, password) {
            return Reply::json(&json!({ "hello": user }));
        }
        Reply::new(401, "who are you?")
    })
}

#[test]
fn the_first_of_four_places_wins_and_the_list_says_what_it_hides() {
    let project = Project::empty();
    project.write("connections.toml", "[api]\ntype = \"http\"\nurl = \"http://file.test\"\n");
    Ran::of(&mut project.haul(&["connections", "set", "api", "http://store.test"])).well();
    let (own, airflow) = (("HAUL_CONN_API", "http://own.test"), ("AIRFLOW_CONN_API", "http://airflow.test"));
    let all =
        ["the variable HAUL_CONN_API", "the variable AIRFLOW_CONN_API", "the encrypted store", "connections.toml"];
    let look = |variables: &[(&str, &str)], arguments: &[&str]| {
        Ran::of(project.haul(arguments).envs(variables.iter().copied())).well()
    };
    for (variables, skipped, url) in [
        (&[own, airflow][..], 0, "http://own.test"),
        (&[airflow], 1, "http://airflow.test"),
        (&[], 2, "http://store.test"),
        (&[("HAUL_CONN_API", "")], 2, "http://store.test"),
    ] {
        let listed = look(variables, &["connections", "list", "--output", "json"]).json();
        let places: Vec<&str> = all[skipped..].to_vec();
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
        let expected =
            json!({ "name": "api", "kind": "http", "origin": places[0], "hidden": places[1..], "fault": null });
        assert_eq!(line(&listed, "api"), expected);
        let shown = look(variables, &["connections", "show", "api", "--output", "json"]).json();
        assert_eq!(shown["fields"]["url"], url, "{shown}");
        let told = look(variables, &["connections", "list"]).out;
        assert!(told.contains(&format!("{}, hides {}", places[0], places[1])), "{told}");
    }
    look(&[], &["connections", "remove", "api"]);
    let listed = look(&[], &["connections", "list", "--output", "json"]).json();
    let expected = json!({ "name": "api", "kind": "http", "origin": "connections.toml", "hidden": [], "fault": null });
    assert_eq!(line(&listed, "api"), expected);
}

#[test]
fn a_variable_holds_a_uri_or_json_of_every_type() {
    let project = Project::empty();
    let variables = [
        ("HAUL_CONN_A_HTTP", "https://ann:pw@api.example.com/v1?rate=10/s", "http"),
        ("HAUL_CONN_A_DUCK", "duckdb:warehouse.duckdb", "duckdb"),
        ("HAUL_CONN_A_PG", "postgres://u:p@db:5433/app?sslmode=verify-ca", "postgres"),
        ("HAUL_CONN_A_MY", "mysql://u:p@db/app", "mysql"),
        ("HAUL_CONN_A_MONGO", "mongodb+srv://u:p@cluster.example.com/app", "mongodb"),
        ("HAUL_CONN_A_BQ", "bigquery://my-project?location=EU", "bigquery"),
        ("HAUL_CONN_B_HTTP", r#"{"type":"http","url":"https://a.test","auth":{"type":"bearer","token":"t0"}}"#, "http"),
        ("HAUL_CONN_B_PG", r#"{"type":"postgres","user":"u","database":"d","password":{"env":"X"}}"#, "postgres"),
        ("AIRFLOW_CONN_C_PG", "postgresql://u:p@db:5433/app", "postgres"),
        ("AIRFLOW_CONN_C_HTTP", r#"{"conn_type":"http","host":"https://a.test","login":"u","password":"p"}"#, "http"),
    ];
    let environment = || variables.iter().map(|(name, text, _)| (*name, *text));
    let listed = Ran::of(project.haul(&["connections", "list", "--output", "json"]).envs(environment())).well().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(variables.len()));
    for (variable, _, kind) in variables {
        let name = variable.split_once("_CONN_").expect("a connection's variable").1.to_lowercase();
        let line = line(&listed, &name);
        assert_eq!((&line["kind"], &line["fault"]), (&json!(kind), &Value::Null), "{line}");
        assert_eq!(line["origin"], format!("the variable {variable}"));
    }
    let shown = Ran::of(project.haul(&["connections", "show", "a_pg", "--output", "json"]).envs(environment())).json();
    let fields = json!({ "database": "app", "host": "db", "password": "•••", "port": "5433", "tls": "verify-full", "user": "u" });
    assert_eq!(shown["fields"], fields);
}

#[test]
fn a_variable_names_the_connection_however_that_is_spelled() {
    let project = Project::empty();
    project.write("connections.toml", "[app-db]\ntype = \"duckdb\"\npath = \"a.duckdb\"\n");
    let list = |name| Ran::of(project.haul(&["connections", "list", "--output", "json"]).env(name, "duckdb:b.duckdb"));
    let listed = list("HAUL_CONN_APP_DB").well().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(line(&listed, "app-db")["origin"], "the variable HAUL_CONN_APP_DB");
}

#[test]
fn a_faulty_place_is_told_in_its_line_and_hides_no_other() {
    let project = Project::empty();
    project.write("connections.toml", "[good]\ntype = \"duckdb\"\npath = \"a.duckdb\"\n");
    let secret = "hunter2-in-a-wrong-uri";
    let text = format!("htps://ann:{secret}@api.example.com/");
    let list = |arguments: &[&str]| Ran::of(project.haul(arguments).env("HAUL_CONN_BAD", &text));
    let ran = list(&["connections", "list", "--output", "json"]).well();
    let listed = ran.json();
    assert_eq!(line(&listed, "good")["fault"], Value::Null);
    let fault = line(&listed, "bad")["fault"].as_str().expect("a fault").to_owned();
    assert!(fault.contains("`htps://` is no scheme") && !ran.told().contains(secret), "{}", ran.told());
    let ran = list(&["connections", "test", "bad"]).refused(2, &["did you mean `https`?", "HAUL_CONN_BAD"]);
    assert!(!ran.told().contains(secret), "{}", ran.told());
}

#[test]
fn an_unknown_name_gives_the_nearest() {
    let project = Project::empty();
    let file =
        "[warehouse]\ntype = \"duckdb\"\npath = \"a.duckdb\"\n[movielens]\ntype = \"http\"\nurl = \"http://a\"\n";
    project.write("connections.toml", file);
    for command in ["show", "test"] {
        let ran = Ran::of(&mut project.haul(&["connections", command, "movielense"]));
        ran.refused(2, &["there is no connection `movielense`", "did you mean `movielens`?"]);
        let ran = Ran::of(&mut project.haul(&["connections", command, "xyz"]));
        ran.refused(2, &["one of `movielens`, `warehouse`"]);
    }
    Ran::of(&mut project.haul(&["connections", "remove", "movielens"])).refused(2, &["it is told by connections.toml"]);
    let ran = Ran::of(&mut project.haul(&["connections", "show", "movielense", "--output", "json"]));
    let error: Value = serde_json::from_str(&ran.err).expect("the error as JSON");
    assert_eq!(error["error"]["kind"], "connection", "{error}");
    assert_eq!(error["error"]["hints"][0], "did you mean `movielens`?", "{error}");
    let ran = Ran::of(&mut project.haul(&["connections", "test", "movielense", "--output", "json"]));
    assert_eq!(ran.json()[0]["error"]["hints"][0], "did you mean `movielens`?", "{}", ran.told());
}

#[test]
fn references_lead_to_the_secret_in_every_place() {
    const SECRET: &str = "open sesame: 1001";
    let door = guarded("ann", SECRET);
    let project = Project::empty();
    project.write("secret.txt", &format!("{SECRET}\n"));
    let references = [
        "{ env = \"THE_SECRET\" }",
        "{ file = \"secret.txt\" }",
        "{ command = \"cat secret.txt\" }",
        "{ command = \"sh -c 'cat \\\"$0\\\"' secret.txt\" }",
        // What a command leaves running behind it, with the pipe still open, holds nobody up.
        "{ command = \"sh -c 'cat secret.txt; sleep 5 &'\" }",
    ];
    for reference in references {
        let auth = format!("auth = {{ type = \"basic\", user = \"ann\", password = {reference} }}");
        project.write("connections.toml", &format!("[api]\ntype = \"http\"\nurl = \"{}\"\n{auth}\n", door.url));
        let ran = Ran::of(project.haul(&["connections", "test", "api"]).env("THE_SECRET", SECRET));
        assert_eq!(ran.code, Some(0), "{reference}: {}", ran.told());
        assert!(!ran.told().contains(SECRET));
        let shown = Ran::of(&mut project.haul(&["connections", "show", "api"])).well();
        let expected = reference.replace("\\\"", "\"");
        assert!(shown.out.contains(&format!("password = {expected}")), "{}", shown.out);
    }
    assert_eq!(door.asked().len(), references.len());
}

#[test]
fn a_reference_that_leads_nowhere_says_why() {
    let project = Project::empty();
    project.write("empty.txt", "\n");
    project.write("fail.sh", "printf half-a-secret; echo 'half-a-secret is locked' >&2; exit 3\n");
    for (reference, words) in [
        ("{ env = \"NOT_THERE\" }", &["variable `NOT_THERE`", "is not set", "export NOT_THERE="][..]),
        ("{ env = \"EMPTY_ONE\" }", &["variable `EMPTY_ONE`", "is empty"]),
        ("{ file = \"missing.txt\" }", &["missing.txt", "No such file"]),
        ("{ file = \"empty.txt\" }", &["empty.txt", "it is empty"]),
        ("{ command = \"sh fail.sh\" }", &["secret command `sh`", "exit status: 3", "is locked"]),
        ("{ command = \"no-such-program --token abc\" }", &["secret command `no-such-program`", "on the PATH"]),
        ("{ command = \"true\" }", &["it printed nothing"]),
        ("{ command = \"echo 'open\" }", &["a quote in it is not closed"]),
        ("{ command = \"\" }", &["it is empty"]),
    ] {
        let auth = format!("auth = {{ type = \"bearer\", token = {reference} }}");
        project.write("connections.toml", &format!("[api]\ntype = \"http\"\nurl = \"http://127.0.0.1:9\"\n{auth}\n"));
        let ran = Ran::of(project.haul(&["connections", "test", "api"]).env("EMPTY_ONE", ""));
        assert!(!ran.told().contains("half-a-secret") && !ran.told().contains("abc"), "{}", ran.told());
        ran.refused(2, words).refused(2, &["resolving `token`", "connection `api`"]);
    }
}

#[test]
fn the_example_documents_every_field_and_the_projects_pipelines_check_clean_with_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).expect("a file of the repository");
    let example = read("connections.example.toml");
    let fields = read("src/connections/fields.rs");
    // The tables of the fields, without the rest of the file.
    let tables = fields.split("impl System").next().expect("the tables");
    let keys: Vec<&str> = tables.split("field(\"").skip(1).map(|rest| rest.split('"').next().expect("a key")).collect();
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys {
        let is_there = example
            .lines()
            .any(|line| line.split(['{', ',', '#']).any(|piece| piece.trim().split([' ', '=']).next() == Some(key)));
        assert!(is_there, "connections.example.toml does not mention `{key}`");
    }
    for word in ["{ env = ", "{ file = ", "{ command = ", "\"http\"", "\"duckdb\"", "\"postgres\"", "\"mysql\""] {
        assert!(example.contains(word), "{word}");
    }
    let project = Project::empty();
    for folder in ["pipelines", "hooks", "sql"] {
        for file in std::fs::read_dir(root.join(folder)).expect("a folder of the repository") {
            let name = format!("{folder}/{}", file.expect("a file").file_name().to_string_lossy());
            project.write(&name, &read(&name));
        }
    }
    project.write("haul.toml", &read("haul.toml"));
    Ran::of(&mut project.haul(&["check"])).refused(2, &["warehouse", "usgs", "movielens", "launch_library"]);
    project.write("connections.toml", &example);
    let ran = Ran::of(&mut project.haul(&["check", "--output", "json"])).well();
    assert_eq!(ran.json(), json!([]));
    let listed = project.json(&["connections", "list"]);
    for line in listed.as_array().expect("a list") {
        assert_eq!(line["fault"], Value::Null, "{line}");
    }
    for kind in ["http", "duckdb", "postgres", "mysql", "mongodb", "bigquery"] {
        assert!(listed.as_array().expect("a list").iter().any(|line| line["kind"] == kind), "no {kind}");
    }
}
