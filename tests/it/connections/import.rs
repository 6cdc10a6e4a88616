//! Taking over Airflow's connections: its export as JSON and as .env, and its variables.

use serde_json::{Value, json};

use crate::support::doors::Ran;
use crate::support::project::Project;

/// What `airflow connections export connections.json` writes.
const EXPORT: &str = r#"{
  "movies_api": {
    "conn_type": "http", "description": "", "login": "airflow", "password": "p@ss/w: rd",
    "host": "movies.example.com", "port": 8443, "schema": "https",
    "extra": "{\"X-Tenant\": \"seven\", \"timeout\": 30, \"verify\": false}"
  },
  "warehouse_pg": {
    "conn_type": "postgres", "description": null, "login": "loader", "password": "pg-secret-1",
    "host": "db.example.com", "port": 5433, "schema": "app",
    "extra": "{\"sslmode\": \"verify-ca\", \"cursor\": \"dictcursor\"}"
  },
  "shop": {
    "conn_type": "mysql", "description": "the shop", "login": "reader", "password": "my-secret-2",
    "host": "mysql.example.com", "port": null, "schema": "shop", "extra": ""
  },
  "events": {
    "conn_type": "mongo", "description": "", "login": "m", "password": "mongo:secret/3",
    "host": "cluster.example.com", "port": null, "schema": "events", "extra": "{\"srv\": true, \"authSource\": \"admin\"}"
  },
  "google_cloud_default": {
    "conn_type": "google_cloud_platform", "description": "", "login": null, "password": null,
    "host": null, "port": null, "schema": null,
    "extra": "{\"extra__google_cloud_platform__project\": \"my-project\", \"keyfile_dict\": \"{\\\"type\\\": \\\"service_account\\\", \\\"project_id\\\": \\\"my-project\\\", \\\"private_key\\\": \\\"-----BEGIN PRIVATE KEY-----\\\\nMIIEvgIBADANBg\\\\n\\\"}\"}"
  },
  "slack_hook": { "conn_type": "slackwebhook", "description": "", "login": null, "password": "T000/B000/slack-secret",
    "host": "https://hooks.slack.com/services", "port": null, "schema": "", "extra": "{}" },
  "token only": { "conn_type": "http", "host": "https://api.example.com", "login": null, "password": "bearer-secret-4", "extra": null }
}"#;

const SECRETS: &[&str] = &[
    "p@ss/w: rd",
    "pg-secret-1",
    "my-secret-2",
    "mongo:secret/3",
    "mongo%3Asecret",
    "MIIEvgIBADANBg",
    "slack-secret",
    "bearer-secret-4",
];

fn one<'a>(imported: &'a Value, name: &str) -> &'a Value {
    let all = imported.as_array().expect("a list");
    all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {imported}"))
}

fn assert_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in:\n{text}");
    }
}

#[test]
fn an_export_is_taken_over_and_what_has_no_counterpart_is_told() {
    let project = Project::empty();
    project.write("export.json", EXPORT);
    let ran = Ran::of(&mut project.haul(&["connections", "import", "export.json", "--output", "json"])).well();
    assert_no_secret(&ran.told());
    let imported = ran.json();
    assert_eq!(imported.as_array().map(Vec::len), Some(7));
    for (name, kind, note) in [
        ("movies_api", json!("http"), "`verify` has no counterpart"),
        ("warehouse_pg", json!("postgres"), "`cursor` has no counterpart"),
        ("shop", json!("mysql"), ""),
        ("events", json!("mongodb"), ""),
        ("google_cloud_default", json!("bigquery"), ""),
        ("slack_hook", Value::Null, "no type of connection for Airflow's `slackwebhook`"),
        ("token_only", json!("http"), "became a bearer token"),
    ] {
        let one = one(&imported, name);
        assert_eq!(one["kind"], kind, "{one}");
        let notes = one["notes"].to_string();
        assert!(if note.is_empty() { notes == "[]" } else { notes.contains(note) }, "{one}");
    }
    let fields = |name: &str| {
        let ran = Ran::of(&mut project.haul(&["connections", "show", name, "--output", "json"])).well();
        assert_no_secret(&ran.told());
        ran.json()["fields"].clone()
    };
    let movies = json!({ "headers": "X-Tenant = •••", "password": "•••", "timeout": "30s", "url": "https://movies.example.com:8443", "user": "airflow" });
    assert_eq!(fields("movies_api"), movies);
    let pg = json!({ "database": "app", "host": "db.example.com", "password": "•••", "port": "5433", "tls": "verify-full", "user": "loader" });
    assert_eq!(fields("warehouse_pg"), pg);
    let shop = json!({ "database": "shop", "host": "mysql.example.com", "password": "•••", "user": "reader" });
    assert_eq!(fields("shop"), shop);
    assert_eq!(fields("events"), json!({ "database": "events", "uri": "•••" }));
    assert_eq!(fields("google_cloud_default"), json!({ "project": "my-project", "service_account": "•••" }));
    assert_no_secret(&std::fs::read_to_string(project.path().join(".haul/connections.enc")).expect("the store"));
    let told = Ran::of(&mut project.haul(&["connections", "import", "export.json"])).well();
    assert!(told.out.contains("left out slack_hook"), "{}", told.out);
    assert_no_secret(&told.told());
}

#[test]
fn an_export_of_lines_and_the_variables_are_taken_over_alike() {
    let project = Project::empty();
    project.write(
        "export.env",
        "# airflow connections export --file-format env\n\
         shop=mysql://reader:my-secret-2@mysql.example.com/shop\n\
         AIRFLOW_CONN_MOVIES=http://airflow:p%40ss%2Fw%3A+rd@movies.example.com/https\n\
         export AIRFLOW_CONN_EVENTS='mongo://m:mongo%3Asecret%2F3@h:27017/events?authSource=admin'\n\n\
         old=oracle://u:oracle-secret@h\n",
    );
    let ran = Ran::of(&mut project.haul(&["connections", "import", "export.env", "--output", "json"])).well();
    assert_no_secret(&ran.told());
    let kinds: Vec<Value> =
        ["shop", "movies", "events", "old"].map(|name| one(&ran.json(), name)["kind"].clone()).into();
    assert_eq!(json!(kinds), json!(["mysql", "http", "mongodb", null]));
    let variables = [
        ("AIRFLOW_CONN_FROM_URI", "postgres://loader:pg-secret-1@db.example.com:5433/app"),
        (
            "AIRFLOW_CONN_FROM_JSON",
            r#"{"conn_type": "mysql", "login": "r", "password": "my-secret-2", "host": "h", "schema": "shop"}"#,
        ),
    ];
    let ran =
        Ran::of(project.haul(&["connections", "import", "--environment", "--output", "json"]).envs(variables)).well();
    assert_no_secret(&ran.told());
    let imported = ran.json();
    assert_eq!(one(&imported, "from_json")["kind"], "mysql");
    assert_eq!(one(&imported, "from_uri")["notes"][0], "the variable AIRFLOW_CONN_FROM_URI wins over the store");
    // Without the variables, the store has them.
    let listed = project.json(&["connections", "list"]);
    assert_eq!(super::line(&listed, "from_uri")["origin"], "the encrypted store");
}

#[test]
fn an_export_that_cannot_be_read_says_where() {
    let project = Project::empty();
    for (text, words) in [
        ("{\n  \"a\": {\"password\": \"pg-secret-1\",}\n}", &["the JSON is wrong at line 2"][..]),
        ("{}", &["there is no connection in it", "airflow connections export"]),
        ("shop=mysql://u:p@h/d\nmy-secret-2\n", &["line 2", "not `name=uri`"]),
        ("", &["there is no connection in it"]),
    ] {
        project.write("export", text);
        let ran = Ran::of(&mut project.haul(&["connections", "import", "export"])).refused(2, words);
        assert_no_secret(&ran.told());
    }
    Ran::of(&mut project.haul(&["connections", "import", "missing.json"]))
        .refused(2, &["missing.json", "No such file"]);
    Ran::of(&mut project.haul(&["connections", "import", "--environment"])).refused(2, &["no variable AIRFLOW_CONN_"]);
    Ran::of(&mut project.haul(&["connections", "import"])).refused(2, &["<FILE>"]);
    project.write("export.json", r#"{"a": {"conn_type": "slack"}}"#);
    Ran::of(&mut project.haul(&["connections", "import", "export.json"])).refused(1, &["left out"]);
}
