//! Secrets are planted in every place of an exchange, and none of them is in the cassette; the cassette replays all the same.

use std::io::Write as _;

use base64::Engine as _;

use super::*;

const KEY: &str = "KQ plant/key+in&query=é%";
const TOKEN: &str = "BT.eyJhbGciOi/J+plant~bearer==";
const HEADER: &str = "HV-plant header; value=\"3\"";
const GIVEN: &str = "AT-plant.access/token+given~out";
const CLIENT: &str = "CS-plant client/secret+\"2";
const UNUSED: &str = "UN-plant-of-another-connection";

/// Repeats everything of a request in every place of its answer: in a header, in the next address, in rows.
fn careless(asked: &Asked) -> Reply {
    if asked.path == "/token" {
        return Reply::json(&json!({ "access_token": GIVEN, "expires_in": 3600 }));
    }
    let headers: Vec<String> = asked
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let seen = headers.join(" | ");
    let page = if asked.query.contains("page=2") { 2 } else { 1 };
    let next = (page == 1).then(|| format!("http://{}{}?{}&page=2", asked.header("host"), asked.path, asked.query));
    let row = json!({
        "id": page, "seen": seen, "query": asked.query, "other": UNUSED, "key": KEY, "token": TOKEN,
        "access_token": "one-that-nobody-told-haul-of", "encoded": base64::engine::general_purpose::STANDARD.encode(format!("ann:{TOKEN}")),
    });
    Reply::json(&json!({ "rows": [row], "next": next }))
        .header(
            "link",
            format!(
                "</x?key={}>; rel=\"prev\"",
                url::form_urlencoded::byte_serialize(KEY.as_bytes()).collect::<String>()
            ),
        )
        .header("set-cookie", format!("session={GIVEN}"))
        .header("x-next-session-token", "plant-of-a-header-by-its-name")
        .header("x-request-id", "plant-of-a-header-nobody-needs")
}

fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).expect("JSON");
    vec![
        secret.to_owned(),
        json[1..json.len() - 1].to_owned(),
        url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        base64::engine::general_purpose::STANDARD.encode(secret).trim_end_matches('=').to_owned(),
    ]
}

#[test]
fn no_secret_of_any_connection_is_in_a_cassette_and_it_replays_without_them() {
    for auth in [
        format!("auth = {{ type = \"api_key\", key = {KEY:?}, query = \"key\" }}"),
        format!("auth = {{ type = \"bearer\", token = {TOKEN:?} }}\nheaders = {{ X-Tenant = {HEADER:?} }}"),
        format!(
            "auth = {{ type = \"client_credentials\", token_url = \"URL/token\", client_id = \"haul\", client_secret = {CLIENT:?} }}"
        ),
    ] {
        let api = Door::start(careless);
        let project = Project::with_api(&api.url, &auth.replace("URL", &api.url));
        let connections = std::fs::read_to_string(project.path().join("connections.toml")).expect("connections");
        let others = [KEY, TOKEN, HEADER, UNUSED]
            .iter()
            .enumerate()
            .map(|(index, secret)| format!("\n[other{index}]\ntype = \"http\"\nurl = \"{}\"\nauth = {{ type = \"bearer\", token = {secret:?} }}\n", api.url))
            .collect::<Vec<_>>()
            .concat();
        project.write("connections.toml", &(connections + &others));
        project.write(
            "pipelines/p.toml",
            "[window]\nlookback = 1\n\n[[extract]]\nname = \"rows\"\nconnection = \"api\"\nrequest = { path = \"/rows\", params = { day = \"{{ ds }}\" } }\n\
             paginate = { by = \"next_url\", at = \"$.next\" }\nrecords = \"$.rows[*]\"\n",
        );
        ran(&project, &["record", "p", "--date", "2024-05-04"]).refused(0, &["2 exchanges"]);
        let cassette = std::fs::read_to_string(project.path().join("cassettes/p.jsonl")).expect("a cassette");
        for secret in [KEY, TOKEN, HEADER, GIVEN, CLIENT, UNUSED] {
            for form in forms(secret) {
                assert!(!cassette.contains(&form), "{form} is in:\n{cassette}");
            }
        }
        for word in ["\"authorization\"", "set-cookie", "nobody-told", "by-its-name", "nobody-needs", "/token\""] {
            assert!(!cassette.contains(word), "{word} is in:\n{cassette}");
        }
        assert!(cassette.contains("\"day\",\"2024-05-03\"") && cassette.contains("•••"), "{cassette}");

        // Other credentials, or none, make no difference: a replay says nobody who we are.
        std::fs::remove_file(project.path().join("connections.toml")).expect("it was there");
        project.write(
            "tests/t.toml",
            "pipeline = \"p\"\ndate = 2024-05-04\ncassette = \"cassettes/p.jsonl\"\n[[expect]]\ntable = \"raw.rows\"\nrows = [{ id = 1 }, { id = 2 }]\n",
        );
        ran(&project, &["test"]).refused(0, &["1 passed, 0 failed"]);
    }
}

#[test]
fn missing_secrets_of_the_environment_do_not_fail_a_replay() {
    let project = recorded();
    project.write(
        "connections.toml",
        "[api]\ntype = \"http\"\nurl = \"http://127.0.0.1:9\"\nauth = { type = \"bearer\", token = { env = \"NOT_SET_ANYWHERE\" } }\n",
    );
    project.write(
        "tests/t.toml",
        "pipeline = \"shop\"\ndate = 2024-05-03\ncassette = \"cassettes/one.jsonl\"\n[[expect]]\ntable = \"raw.orders\"\ncount = 4\n",
    );
    ran(&project, &["test"]).refused(0, &["1 passed, 0 failed"]);
}

#[test]
fn an_answer_whose_secret_cannot_be_taken_out_is_not_recorded() {
    let number = "1234567890";
    let api = Door::start(move |_| Reply::new(200, format!("[{{\"id\": {number}}}]")));
    let project = Project::with_api(&api.url, &format!("auth = {{ type = \"bearer\", token = \"{number}\" }}"));
    project.write("pipelines/shop.toml", PIPELINE);
    ran(&project, &["record", "shop", "--date", "2024-05-03"])
        .refused(1, &["a secret of a connection stands in its JSON as a number"]);
    assert!(!project.path().join("cassettes").exists());

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(format!("[\"{TOKEN}\"]").as_bytes()).expect("a gzip");
    // The loopback server speaks texts; what matters is known to the library, too.
    let bytes = packed.finish().expect("a gzip");
    let redactor = haul::secret::Redactor::default();
    redactor.learn(TOKEN);
    let recorder = haul::extract::cassette::Recorder::new(redactor, []);
    let tape = haul::extract::cassette::Tape::Record(std::sync::Arc::new(recorder));
    let headers = reqwest::header::HeaderMap::new();
    let refused = tape.keep("api", haul::model::exchange::Asked::default(), reqwest::StatusCode::OK, &headers, &bytes);
    assert!(refused.expect_err("it has the token").chain().contains("stands in its bytes"));
}
