//! `haul connections test`: it really connects, proves who we are, and says what to do when it cannot.

use std::time::{Duration, Instant};

use serde_json::json;

use super::guarded;
use crate::support::doors::{Door, Ran, Reply, nobody};
use crate::support::postgres::Postgres;
use crate::support::project::Project;

const SECRET: &str = "the-right-password";
const WRONG: &str = "a-wrong-password";

/// Tests a connection that a variable tells; both secrets never show.
fn test(text: &str) -> Ran {
    let project = Project::empty();
    let run = |output| {
        let ran = Ran::of(project.haul(&["connections", "test", "it", "--output", output]).env("HAUL_CONN_IT", text));
        assert!(!ran.told().contains(SECRET) && !ran.told().contains(WRONG), "{}", ran.told());
        ran
    };
    let (told, json) = (run("table"), run("json"));
    assert_eq!(told.code, json.code);
    assert_eq!(json.json()[0]["works"], told.code == Some(0), "{}", json.told());
    told
}

#[test]
fn an_http_api_is_asked_with_credentials() {
    let door = guarded("ann", SECRET);
    let host = door.url.trim_start_matches("http://");
    let ran = test(&format!("http://ann:{SECRET}@{host}?test_path=/me")).well();
    assert!(ran.out.contains("it answered 15 bytes") && ran.out.contains("/me with user and password"), "{}", ran.out);
    assert_eq!(door.asked()[0].path, "/me");
    test(&format!("http://ann:{WRONG}@{host}?test_path=/me")).refused(1, &["401", "haul connections show"]);
    test(&format!("http://ann:{WRONG}@{host}")).refused(1, &["401"]);
    let port = nobody();
    let words = ["cannot be reached", "is the address right", &port.to_string()];
    test(&format!("http://ann:{SECRET}@127.0.0.1:{port}")).refused(1, &words);
}

#[test]
fn an_api_that_fails_is_told_with_what_it_says() {
    let door = Door::start(|asked| match asked.path.as_str() {
        "/broken" => Reply::new(500, format!("upset about {}", asked.header("authorization"))),
        "/missing" => Reply::new(404, "nothing here"),
        _ => Reply::new(404, "no root"),
    });
    let host = door.url.trim_start_matches("http://");
    let ran = test(&format!("http://ann:{SECRET}@{host}?test_path=/broken"));
    let ran = ran.refused(1, &["500", "upset about", "is the server up"]);
    assert!(!ran.told().contains("YW5u"), "the header in base64: {}", ran.told());
    test(&format!("http://ann:{SECRET}@{host}?test_path=/missing")).refused(1, &["404", "nothing here"]);
    // An API need not have a root: an answer is enough, and the note says what that does not prove.
    let ran = test(&format!("http://ann:{SECRET}@{host}")).well();
    assert!(ran.out.contains("404") && ran.out.contains("set `test_path`"), "{}", ran.out);
}

#[test]
fn a_token_is_fetched_for_the_test() {
    let door = Door::start(|asked| match asked.path.as_str() {
        "/token" if asked.body.contains(SECRET) => {
            Reply::json(&json!({ "access_token": "fresh-token", "expires_in": 60 }))
        }
        "/token" => Reply::new(400, r#"{"error":"invalid_client"}"#),
        _ if asked.header("authorization") == "Bearer fresh-token" => Reply::json(&json!({})),
        _ => Reply::new(401, "no"),
    });
    let connection = |secret: &str| {
        let (url, token_url) = (&door.url, format!("{}/token", door.url));
        json!({ "type": "http", "url": url, "client_id": "haul", "client_secret": secret, "token_url": token_url })
            .to_string()
    };
    let ran = test(&connection(SECRET)).well();
    assert!(
        ran.out.contains("for a token by client credentials") && !ran.told().contains("fresh-token"),
        "{}",
        ran.out
    );
    test(&connection(WRONG)).refused(1, &["/token", "400", "invalid_client"]);
}

#[test]
fn duckdb_is_opened() {
    let project = Project::empty();
    project.write("connections.toml", "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n");
    let told = project.stdout(&["connections", "test"]);
    assert!(told.contains("DuckDB v") && told.contains("with 0 tables"), "{told}");
    let answer = project.json(&["connections", "test", "warehouse"]);
    assert_eq!((&answer[0]["works"], &answer[0]["probe"]["kind"]), (&json!(true), &json!("duckdb")), "{answer}");
    project.write("broken.duckdb", "this is no database, and it is long enough to be looked at as one");
    project.write("connections.toml", "[warehouse]\ntype = \"duckdb\"\npath = \"broken.duckdb\"\n");
    let ran = Ran::of(&mut project.haul(&["connections", "test", "warehouse"]));
    ran.refused(1, &["broken.duckdb", "testing the connection `warehouse`"]);
    project.write("connections.toml", "[warehouse]\ntype = \"duckdb\"\npath = \"no/such/folder/w.duckdb\"\n");
    let ran = Ran::of(&mut project.haul(&["connections", "test", "warehouse"]));
    assert_eq!(ran.code, Some(1), "{}", ran.told());
}

#[expect(clippy::print_stderr, reason = "a suite that was left out says so")]
fn skipped(reason: &str) {
    eprintln!("left out: {reason}");
}

#[test]
fn postgres_is_logged_in_to() {
    let server = match Postgres::start(SECRET) {
        Ok(server) => server,
        Err(reason) => return skipped(&reason),
    };
    let at = |password: &str, database: &str| {
        format!("postgres://{}:{password}@127.0.0.1:{}/{database}", Postgres::USER, server.port)
    };
    let ran = test(&at(SECRET, "postgres")).well();
    assert!(
        ran.out.contains("PostgreSQL 1") && ran.out.contains("as postgres in the database postgres"),
        "{}",
        ran.out
    );
    test(&at(WRONG, "postgres")).refused(1, &["password authentication failed", "is the password of postgres right?"]);
    test(&at(SECRET, "nothing")).refused(2, &["there is no database `nothing` on that server"]);
    let required = format!("{}?sslmode=require", at(SECRET, "postgres"));
    test(&required).refused(1, &["`tls` do not agree"]);
}

#[test]
fn where_nobody_listens_the_answer_comes_soon_and_says_what_to_look_at() {
    let port = nobody();
    let key = json!({
        "type": "service_account", "project_id": "p", "private_key_id": "k", "private_key": SECRET,
        "client_email": "haul@p.iam.gserviceaccount.com", "client_id": "1", "auth_uri": "http://127.0.0.1:9",
        "token_uri": format!("http://127.0.0.1:{port}/token"),
    });
    let bigquery = |more: serde_json::Value| {
        let mut text = json!({ "type": "bigquery", "project": "p" });
        text.as_object_mut().expect("members").extend(more.as_object().expect("members").clone());
        text.to_string()
    };
    let endpoint = format!("http://127.0.0.1:{port}");
    let connections = [
        (format!("postgres://u:{SECRET}@127.0.0.1:{port}/d"), "is a server listening on 127.0.0.1"),
        (format!("mysql://u:{SECRET}@127.0.0.1:{port}/d"), "is a server listening on 127.0.0.1"),
        (format!("mongodb://u:{SECRET}@127.0.0.1:{port}/d"), "is a server listening there?"),
        (bigquery(json!({ "endpoint": endpoint })), "reachable"),
        (bigquery(json!({ "service_account": key, "endpoint": endpoint })), "the JSON that Google's console downloads"),
        (
            bigquery(json!({ "service_account": "no JSON", "endpoint": endpoint })),
            "the JSON that Google's console downloads",
        ),
    ];
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (text, hint) in &connections {
            scope.spawn(move || {
                let ran = test(text);
                assert!(matches!(ran.code, Some(1 | 2)), "{text}: {}", ran.told());
                assert!(ran.told().contains(hint) && ran.told().contains("hint"), "{text}: {}", ran.told());
            });
        }
    });
    assert!(begun.elapsed() < Duration::from_mins(1), "nobody waits for what is not there");
}

#[test]
fn what_listens_there_but_is_something_else_is_told() {
    let door = Door::start(|_| Reply::new(200, "an HTTP server"));
    let host = door.url.trim_start_matches("http://");
    for scheme in ["postgres", "mongodb"] {
        let ran = test(&format!("{scheme}://u:{SECRET}@{host}/d"));
        assert!(matches!(ran.code, Some(1 | 2)) && ran.told().contains("hint"), "{scheme}: {}", ran.told());
    }
}
