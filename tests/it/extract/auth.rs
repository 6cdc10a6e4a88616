//! Who we are: every way of saying it, and tokens that are renewed once for all who wait.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use super::{all, ids, project, run, run_badly};
use crate::support::pages::{Asked, PagesApi, ROWS, Terms};

const CURSOR: &str = "paginate = { by = \"cursor\", param = \"cursor\", at = \"$.meta.next\" }";
const SIDE_BY_SIDE: &str = "paginate = { by = \"offset\", limit = 5, total = \"$.meta.total\" }";

/// A connection whose tokens come from the API's own endpoint.
fn oauth(api: &PagesApi, grant: &str) -> String {
    format!(
        "auth = {{ type = \"{grant}\", token_url = \"{}/token\", client_id = \"haul\", client_secret = \"client-secret-1\", scope = \"read all\", extra = {{ audience = \"rows\" }}{} }}",
        api.url,
        if grant == "refresh_token" { ", refresh_token = \"refresh-0\"" } else { "" }
    )
}

/// Runs a day whose API lets only such requests in, and looks at its rows.
fn arrives(connection: &str, step: &str, proof: fn(&Asked) -> bool) -> PagesApi {
    let api = PagesApi::start();
    api.let_in(proof);
    let project = project(&api, connection, 1, &[("items", step)]);
    run(&project, "2024-05-02");
    assert_eq!(ids(&project, "raw.items"), all(&["2024-05-01"], ROWS), "{connection} {step}");
    api
}

#[test]
fn a_request_says_who_we_are_in_the_way_of_the_connection() {
    arrives("", CURSOR, |asked| asked.header("authorization").is_empty());
    arrives("auth = { type = \"basic\", user = \"me\", password = \"pass:word\" }", CURSOR, |asked| {
        asked.header("authorization") == "Basic bWU6cGFzczp3b3Jk"
    });
    arrives("auth = { type = \"bearer\", token = \"a-token\" }", CURSOR, |asked| {
        asked.header("authorization") == "Bearer a-token"
    });
    arrives("auth = { type = \"api_key\", key = \"a-key\", header = \"X-Key\" }", CURSOR, |asked| {
        asked.header("x-key") == "a-key"
    });
    arrives("headers = { X-Tenant = \"nine\" }", CURSOR, |asked| asked.header("x-tenant") == "nine");
}

#[test]
fn a_key_in_the_query_is_there_once_on_every_page_and_in_no_file() {
    let api = PagesApi::start();
    api.let_in(|asked| asked.param("key") == "a key/with&signs");
    let connection = "auth = { type = \"api_key\", key = \"a key/with&signs\", query = \"key\" }";
    let steps = [
        ("next_url", "paginate = { by = \"next_url\", at = \"$.meta.next_url\" }"),
        ("link", "paginate = { by = \"link\" }"),
        ("cursor", CURSOR),
    ];
    let project = project(&api, connection, 1, &steps);
    // Killed between two pages, the journal stays with the next addresses in it.
    project.output(&["run", "items", "--date", "2024-05-02", "--kill-at", "page:5"]);
    let mut journals = 0;
    for entry in walk(&project.path().join(".haul")) {
        let text = String::from_utf8_lossy(&fs::read(&entry).expect("a file")).into_owned();
        journals += usize::from(entry.ends_with("journal.jsonl") && text.contains("url"));
        assert!(!text.contains("with&signs") && !text.contains("with%26signs"), "{}", entry.display());
    }
    assert!(journals > 0, "a journal with a next address was looked at");
    run(&project, "2024-05-02");
    for (name, _) in steps {
        assert_eq!(ids(&project, &format!("raw.{name}")), all(&["2024-05-01"], ROWS), "{name}");
    }
    // The API hands the key back in its next addresses, and it is not sent twice for that.
    assert!(api.asked().iter().all(|asked| asked.param("key") == "a key/with&signs"));
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn the_word_of_a_hook_wins_over_the_connections_own() {
    let bearer = "auth = { type = \"bearer\", token = \"a-token\" }";
    let key = "auth = { type = \"api_key\", key = \"a-key\", header = \"X-Key\" }";
    let with = |auth: &str| format!("{CURSOR}\nauth = {auth}");
    arrives(key, &with("{ query = \"k\" }"), |asked| asked.param("k") == "a-key" && asked.header("x-key").is_empty());
    arrives(key, &with("{ header = \"X-Other\" }"), |asked| asked.header("x-other") == "a-key");
    arrives(key, &with("\"bearer\""), |asked| asked.header("authorization") == "Bearer a-key");
    arrives(bearer, &with("{ header = \"X-Token\" }"), |asked| {
        asked.header("x-token") == "a-token" && asked.header("authorization").is_empty()
    });
    arrives(bearer, &with("\"none\""), |asked| asked.header("authorization").is_empty());
}

#[test]
fn a_hook_and_a_connection_that_cannot_fit_say_so_before_anything_is_sent() {
    let api = PagesApi::start();
    let project =
        project(&api, "auth = { type = \"bearer\", token = \"a-token\" }", 1, &[("items", "auth = \"basic\"")]);
    let told = run_badly(&project, "2024-05-02");
    assert!(told.contains("the hook wants a user and a password, the connection `api` has a key or a token"), "{told}");
    assert!(api.asked().is_empty());
}

#[test]
fn one_token_serves_all_requests_and_is_asked_for_once() {
    let api = PagesApi::start();
    api.ask_for_tokens(Terms { expires_in: Some(json!(3600)), ..Terms::default() });
    let project = project(&api, &oauth(&api, "client_credentials"), 4, &[("items", SIDE_BY_SIDE), ("others", CURSOR)]);
    run(&project, "2024-05-05");
    let forms = api.tokens().forms.clone();
    assert_eq!(forms.len(), 1, "eight pulls began at once, one asked for the token");
    let expected = [
        ("audience", "rows"),
        ("client_id", "haul"),
        ("client_secret", "client-secret-1"),
        ("grant_type", "client_credentials"),
        ("scope", "read all"),
    ];
    assert_eq!(forms[0], expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into());
    assert_eq!(api.asked().len(), 4 * 5 + 4 * 3, "none was refused");
}

#[test]
fn a_token_that_is_about_to_end_is_renewed_before_it_is_refused() {
    for life in [json!(0), json!("0")] {
        let api = PagesApi::start();
        api.ask_for_tokens(Terms { expires_in: Some(life), uses: Some(1), ..Terms::default() });
        let project = project(&api, &oauth(&api, "client_credentials"), 1, &[("items", CURSOR)]);
        run(&project, "2024-05-02");
        assert_eq!((api.asked().len(), api.tokens().forms.len()), (3, 3), "each request has a token of its own");
    }
}

#[test]
fn a_token_that_dies_in_the_middle_is_renewed_once_for_all() {
    let api = PagesApi::start();
    api.ask_for_tokens(Terms { expires_in: Some(json!(3600)), uses: Some(12), ..Terms::default() });
    let project = project(&api, &oauth(&api, "client_credentials"), 4, &[("items", SIDE_BY_SIDE)]);
    run(&project, "2024-05-05");
    let days = ["2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04"];
    assert_eq!(ids(&project, "raw.items"), all(&days, ROWS));
    let used: BTreeSet<String> = api.asked().iter().map(|asked| asked.header("authorization").to_owned()).collect();
    // Twenty requests need two tokens; those that a refusal met on the way are sent again with the second one.
    assert_eq!(used.len(), 2, "{used:?}");
    assert_eq!(api.tokens().forms.len(), 2);
}

#[test]
fn a_token_endpoint_that_is_out_of_order_is_tried_again_also_in_the_middle() {
    let api = PagesApi::start();
    // The first token is asked for twice in vain, and so is the second, after a 401.
    api.ask_for_tokens(Terms { uses: Some(2), outages: vec![1, 2, 4, 5], ..Terms::default() });
    let project = project(&api, &oauth(&api, "client_credentials"), 1, &[("items", CURSOR)]);
    run(&project, "2024-05-02");
    assert_eq!(ids(&project, "raw.items"), all(&["2024-05-01"], ROWS));
    assert_eq!(api.tokens().forms.len(), 6);
}

#[test]
fn credentials_that_the_endpoint_refuses_are_told_without_the_secret() {
    let api = PagesApi::start();
    api.ask_for_tokens(Terms::default());
    let connection = oauth(&api, "refresh_token").replace("refresh-0", "refresh-wrong");
    let project = project(&api, &connection, 1, &[("items", CURSOR)]);
    let told = run_badly(&project, "2024-05-02");
    assert!(told.contains("invalid_grant") && told.contains("for the connection `api`"), "{told}");
    assert!(!told.contains("refresh-wrong") && !told.contains("client-secret-1"), "{told}");
    assert_eq!(api.tokens().forms.len(), 1, "a refusal is not tried again");
}

#[test]
fn a_rotated_refresh_token_is_kept_for_the_next_process() {
    let api = PagesApi::start();
    api.ask_for_tokens(Terms { expires_in: Some(json!(3600)), rotates: true, uses: Some(2), ..Terms::default() });
    let project = project(&api, &oauth(&api, "refresh_token"), 1, &[("items", CURSOR)]);
    run(&project, "2024-05-02");
    run(&project, "2024-05-03");
    let sent: Vec<String> = api.tokens().forms.iter().map(|form| form["refresh_token"].clone()).collect();
    let expected: Vec<String> = (0..sent.len()).map(|number| format!("refresh-{number}")).collect();
    assert_eq!(sent, expected, "each was used once, by two processes");
    assert!(sent.len() >= 3, "{sent:?}");
    for entry in walk(&project.path().join(".haul")) {
        let text = String::from_utf8_lossy(&fs::read(&entry).expect("a file")).into_owned();
        assert!(!text.contains("refresh-2"), "{} has the token in plain", entry.display());
    }
}
