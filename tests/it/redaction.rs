//! Redaction: secrets are planted wherever one can be, everything is done with them, and none comes out anywhere.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod hunt;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use super::support::doors::{Asked, Door, Ran, Reply, nobody};
use super::support::project::Project;
use hunt::Hunt;

const DATE: &str = "2024-05-04";

/// Secrets with all that could break a form of them.
struct Plants {
    password: String,
    token: String,
    key: String,
    query_key: String,
    client_secret: String,
    refresh_token: String,
    access_token: String,
    rotated: String,
    header: String,
    audience: String,
    aws_key: String,
    aws_session: String,
    signing_key: String,
    login_password: String,
    session: String,
}

impl Plants {
    fn new(hunt: &mut Hunt) -> Self {
        let password = hunt.plant("the basic password", "PW 4%/+\"quoted'é&=plant-basic");
        hunt.plant("the login in base64", &format!("ann:{password}"));
        Self {
            password,
            token: hunt.plant("the bearer token", "BT.eyJhbGciOi/J+plant~bearer=="),
            key: hunt.plant("the key in a header", "KH plant-key/in+header&1"),
            query_key: hunt.plant("the key in the query", "KQ plant/key+in&query=é%"),
            client_secret: hunt.plant("the client's secret", "CS-plant client/secret+\"2"),
            refresh_token: hunt.plant("the refresh token", "RT-plant/refresh+token&first"),
            access_token: hunt.plant("the access token", "AT-plant.access/token+given~out"),
            rotated: hunt.plant("the rotated refresh token", "RT-plant/refresh+token&second"),
            header: hunt.plant("the header's value", "HV-plant header; value=\"3\""),
            audience: hunt.plant("an extra secret parameter", "XP-plant/assertion+parameter"),
            aws_key: hunt.plant("the secret access key", "AK-plant/secret+access=key"),
            aws_session: hunt.plant("the token of a session at AWS", "AS-plant//session+token=="),
            signing_key: hunt.plant("the key of a signature", "SK-plant signing/key+\"4"),
            login_password: hunt.plant("the password of a login", "LP-plant pass/word+of&login"),
            session: hunt.plant("the token of a session", "ST-plant.session/token+given"),
        }
    }

    /// `connections.toml` with every secret written out.
    fn connections(&self, url: &str) -> String {
        let text = |secret: &str| serde_json::to_string(secret).expect("a TOML string");
        let table = |name: &str, auth: &str| format!("[{name}]\ntype = \"http\"\nurl = \"{url}\"\n{auth}\n\n");
        let oauth =
            format!("token_url = \"{url}/token\", client_id = \"haul\", client_secret = {}", text(&self.client_secret));
        let mut toml = String::from("[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n");
        toml += &table(
            "basic",
            &format!("auth = {{ type = \"basic\", user = \"ann\", password = {} }}", text(&self.password)),
        );
        toml += &table("bearer", &format!("auth = {{ type = \"bearer\", token = {} }}", text(&self.token)));
        toml += &table(
            "key_header",
            &format!("auth = {{ type = \"api_key\", key = {}, header = \"X-Key\" }}", text(&self.key)),
        );
        toml += &table(
            "key_query",
            &format!("auth = {{ type = \"api_key\", key = {}, query = \"api_key\" }}", text(&self.query_key)),
        );
        let extra = format!("extra = {{ assertion = {} }}", text(&self.audience));
        toml += &table("client", &format!("auth = {{ type = \"client_credentials\", {oauth}, {extra} }}"));
        let refresh = text(&self.refresh_token);
        toml +=
            &table("refresh", &format!("auth = {{ type = \"refresh_token\", {oauth}, refresh_token = {refresh} }}"));
        toml += &table(
            "aws",
            &format!(
                "auth = {{ type = \"sigv4\", service = \"s3\", region = \"eu-west-1\", access_key = \"AKID\", secret_key = {}, session_token = {} }}",
                text(&self.aws_key),
                text(&self.aws_session)
            ),
        );
        let signed = "sign = \"{method}{path}{timestamp}\", send_query = { signature = \"{signature}\" }";
        toml +=
            &table("signed", &format!("auth = {{ type = \"hmac\", secret = {}, {signed} }}", text(&self.signing_key)));
        let login = "type = \"login\", path = \"/login\", token_at = \"$.token\", query = \"session\"";
        let body = format!("body = {{ user = \"ann\", password = {} }}", text(&self.login_password));
        toml += &table("session", &format!("auth = {{ {login}, {body} }}"));
        toml += &table("header", &format!("headers = {{ X-Session = {} }}", text(&self.header)));
        toml
    }
}

const HTTP: [&str; 10] =
    ["basic", "bearer", "key_header", "key_query", "client", "refresh", "aws", "signed", "session", "header"];

fn pipeline(connection: &str) -> String {
    format!(
        "[window]\ngrain = \"day\"\nlookback = 1\n\n[[extract]]\nname = \"{connection}_rows\"\nconnection = \"{connection}\"\n\
         request = {{ path = \"/rows\", params = {{ day = \"{{{{ ds }}}}\" }} }}\n\
         paginate = {{ by = \"next_url\", at = \"$.next\" }}\nrecords = \"$.rows[*]\"\ninto = \"raw.{connection}_rows\"\n\
         retry = {{ max_attempts = 2, min_backoff = \"1ms\", max_backoff = \"2ms\" }}\n"
    )
}

/// Everything of a request, as careless servers repeat it: long enough to be cut somewhere.
fn echo(asked: &Asked, padding: usize) -> String {
    let headers: Vec<String> = asked
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    format!("{}refused: {} {} {} {}", "x".repeat(padding), asked.body, asked.query, headers.join(" | "), asked.path)
}

/// An API that gives two pages, or that is in some way broken; which one is said by a number.
fn api(mood: Arc<AtomicU16>, plants: &Plants) -> Door {
    let (access_token, rotated) = (plants.access_token.clone(), plants.rotated.clone());
    let session = plants.session.clone();
    Door::start(move |asked| {
        let mood = mood.load(Ordering::SeqCst);
        if asked.path == "/login" {
            return if mood == 400 {
                Reply::new(400, echo(asked, 0))
            } else {
                Reply::json(&json!({ "token": session }))
            };
        }
        if asked.path == "/token" {
            return match mood {
                400 => Reply::new(400, echo(asked, 0)),
                _ => {
                    Reply::json(&json!({ "access_token": access_token, "expires_in": 3600, "refresh_token": rotated }))
                }
            };
        }
        let host = asked.header("host");
        match mood {
            200 if asked.query.contains("page=2") => {
                Reply::json(&json!({ "rows": [{ "id": 2, "name": "b" }], "next": null }))
            }
            // As many APIs do, the address of the next page repeats the whole query, the key with it.
            200 => {
                let next = format!("http://{host}{}?{}&page=2", asked.path, asked.query);
                Reply::json(&json!({ "rows": [{ "id": 1, "name": "a" }], "next": next }))
            }
            201 => Reply::new(200, format!("{{ \"rows\": [ {}", echo(asked, 0))),
            202 => Reply::json(&json!({ "error": echo(asked, 0) })),
            203 => Reply::json(&json!({ "rows": echo(asked, 0), "next": 5 })),
            302 => Reply::new(302, "elsewhere").header("location", format!("http://other.test/?{}", asked.query)),
            // 250 characters before it: the excerpt ends within a secret.
            status => {
                let status = if status < 400 { 500 } else { status };
                let reply = Reply::new(status, echo(asked, usize::from(mood % 7) * 40));
                let shown: String = echo(asked, 0).chars().filter(char::is_ascii_graphic).collect();
                reply.header("x-echo", shown.clone()).header("www-authenticate", shown)
            }
        }
    })
}

/// Runs a command and searches what it printed.
#[track_caller]
fn look(hunt: &mut Hunt, project: &Project, arguments: &[&str]) -> Ran {
    let mut command = project.haul(arguments);
    let ran = Ran::of(command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1"));
    hunt.printed(&format!("{arguments:?}"), &ran);
    assert!(!ran.err.contains("panicked"), "{arguments:?}: {}", ran.err);
    ran
}

#[test]
fn what_an_api_repeats_of_the_credentials_comes_out_nowhere() {
    let mut hunt = Hunt::default();
    let plants = Plants::new(&mut hunt);
    let mood = Arc::new(AtomicU16::new(200));
    let door = api(Arc::clone(&mood), &plants);
    let project = Project::empty();
    project.write("haul.toml", "warehouse = \"warehouse\"\n");
    project.write("connections.toml", &plants.connections(&door.url));
    for connection in HTTP {
        project.write(&format!("pipelines/{connection}.toml"), &pipeline(connection));
    }
    let own = ["connections.toml"];

    // Killed after a page, the journal is still there.
    for connection in ["key_query", "refresh"] {
        look(&mut hunt, &project, &["run", connection, "--date", DATE, "--kill-at", "page:1"]);
        assert!(project.path().join(".haul/stage").is_dir());
    }
    hunt.files(&project, &own);
    look(&mut hunt, &project, &["check"]).well();
    look(&mut hunt, &project, &["plan", "--date", DATE, "--output", "json"]).well();
    look(&mut hunt, &project, &["run", "--date", DATE, "--verbose"]).well();
    hunt.files(&project, &own);
    for connection in HTTP {
        look(&mut hunt, &project, &["render", connection, &format!("{connection}_rows"), "--date", DATE]).well();
        let rows = project.query(&format!("select id from raw.{connection}_rows order by id"));
        assert_eq!(rows, json!([{ "id": 1 }, { "id": 2 }]), "{connection}");
    }
    // The server saw each secret: the test would be empty without.
    let asked = format!("{:?}", door.asked());
    for secret in [&plants.token, &plants.access_token, &plants.aws_session] {
        assert!(asked.contains(secret.as_str()), "{secret}");
    }
    for (number, status) in [400, 401, 403, 404, 429, 500, 503, 201, 202, 203, 302, 204].into_iter().enumerate() {
        mood.store(status, Ordering::SeqCst);
        let date = format!("2024-06-{:02}", number + 2);
        let output = if number % 2 == 0 { "json" } else { "table" };
        let ran = look(&mut hunt, &project, &["run", "--date", &date, "--verbose", "--output", output]);
        assert_eq!(ran.code, Some(1), "{status}: {}", ran.told());
        assert!(ran.told().contains("•••") || matches!(status, 201..=203 | 302), "{status}: {}", ran.told());
    }
    let ran = look(&mut hunt, &project, &["connections", "test", "--output", "json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.told());
    mood.store(401, Ordering::SeqCst);
    look(&mut hunt, &project, &["connections", "test"]);
    look(&mut hunt, &project, &["preview", "key_query", "key_query_rows", "--date", DATE]);
    let runs = look(&mut hunt, &project, &["runs", "--limit", "200", "--output", "json"]).well().json();
    for run in runs.as_array().expect("a list").iter().take(6) {
        let id = run["id"].as_str().expect("an id");
        look(&mut hunt, &project, &["show", id]).well();
        look(&mut hunt, &project, &["show", id, "--output", "json"]).well();
    }
    look(&mut hunt, &project, &["status", "--output", "json"]).well();
    look(&mut hunt, &project, &["status"]).well();
    hunt.files(&project, &own);
    assert!(hunt.searched() > 500_000, "{} bytes", hunt.searched());
}

#[test]
fn connections_of_every_kind_and_place_show_no_secret() {
    let mut hunt = Hunt::default();
    let plants = Plants::new(&mut hunt);
    let port = nobody();
    let postgres = hunt.plant("the postgres password", "PG plant/pass+word\"7");
    let mysql = hunt.plant("the mysql password", "MY-plant-password'8");
    let mongodb = hunt.plant("the password in the mongodb uri", "MG-plant-mongo/password+9");
    let sloppy = hunt.plant("a password that nobody encoded", "MG-plant-a/slash-in-it");
    let url_login = hunt.plant("a password in an address", "UL-plant-password-in-a-url");
    let private = "-----BEGIN PRIVATE KEY-----\nMIIEvQplantBADANBgkqhkiG9w0\nBAQEFAASCplantBKcwggSjAgEA\n-----END PRIVATE KEY-----\n";
    hunt.plant("the private key", private);
    let from_env = hunt.plant("a variable", "EV-plant from/the+environment");
    let from_file = hunt.plant("a file", "FI-plant from/a+file");
    let from_command = hunt.plant("a command", "CO-plant from/a+command");
    let encoded = |secret: &str| secret.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    let key = json!({ "type": "service_account", "project_id": "p", "private_key_id": "k", "private_key": private,
        "client_email": "a@b", "token_uri": format!("http://127.0.0.1:{port}/t") });
    let mut file = vec![plants.connections(&format!("http://127.0.0.1:{port}"))];
    let server = |name: &str, password: &str| {
        format!(
            "[{name}]\ntype = \"{name}\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"u\"\npassword = {password}\ndatabase = \"d\"\n\n"
        )
    };
    file.push(server("postgres", &serde_json::to_string(&postgres).expect("a string")));
    file.push(server("mysql", &format!("\"{mysql}\"")));
    file.push(format!(
        "[mongodb]\ntype = \"mongodb\"\nuri = \"mongodb://u:{}@127.0.0.1:{port}/\"\ndatabase = \"d\"\n\n",
        encoded(&mongodb)
    ));
    file.push(format!(
        "[sloppy]\ntype = \"mongodb\"\nuri = \"mongodb://u:{sloppy}@127.0.0.1:{port}/\"\ndatabase = \"d\"\n\n"
    ));
    file.push(format!("[login]\ntype = \"http\"\nurl = \"http://u:{url_login}@127.0.0.1:{port}\"\n\n"));
    let endpoint = format!("endpoint = \"http://127.0.0.1:{port}\"");
    let text = serde_json::to_string(&key.to_string()).expect("a string");
    file.push(format!("[bigquery]\ntype = \"bigquery\"\nproject = \"p\"\nservice_account = {text}\n{endpoint}\n\n"));
    for (name, reference) in [
        ("by_env", "{ env = \"PLANTED\" }"),
        ("by_file", "{ file = \"planted.txt\" }"),
        ("by_command", "{ command = \"cat planted2.txt\" }"),
        ("by_failure", "{ command = \"sh fail.sh\" }"),
    ] {
        let auth = format!("auth = {{ type = \"bearer\", token = {reference} }}");
        file.push(format!("[{name}]\ntype = \"http\"\nurl = \"http://127.0.0.1:{port}\"\n{auth}\n\n"));
    }
    // Neither is a certificate: what is wrong with them is told, what they are is not.
    let pem = hunt.plant(
        "the key of a certificate",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQplantAwBQYDK2VwBCIE\n-----END PRIVATE KEY-----\n",
    );
    let pem = serde_json::to_string(&pem).expect("a string");
    file.push(format!(
        "[certificate]\ntype = \"http\"\nurl = \"https://127.0.0.1:{port}\"\nclient_cert = \"none\"\nclient_key = {pem}\n\n"
    ));
    let project = Project::empty();
    project.write("connections.toml", &file.concat());
    project.write("planted.txt", &from_file);
    project.write("planted2.txt", &from_command);
    project.write("fail.sh", "cat planted2.txt; cat planted2.txt >&2; exit 1\n");
    let names = project.json(&["connections", "list"]);
    let names: Vec<&str> = names.as_array().expect("a list").iter().filter_map(|line| line["name"].as_str()).collect();
    assert_eq!(names.len(), 22);
    let mut outputs = Vec::new();
    std::thread::scope(|scope| {
        let (project, from_env) = (&project, &from_env);
        let run = |arguments: Vec<String>| {
            scope.spawn(move || {
                let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let ran = Ran::of(project.haul(&words).env("PLANTED", from_env).env("RUST_LOG", "trace"));
                (arguments, ran)
            })
        };
        let mut waiting = Vec::new();
        for name in &names {
            for (command, output) in [("test", "table"), ("test", "json"), ("show", "table"), ("show", "json")] {
                waiting.push(run(["connections", command, name, "--output", output].map(str::to_owned).into()));
            }
        }
        outputs.extend(waiting.into_iter().map(|one| one.join().expect("a thread")));
    });
    for (arguments, ran) in &outputs {
        hunt.printed(&format!("{arguments:?}"), ran);
        assert!(matches!(ran.code, Some(0..=2)), "{arguments:?}: {}", ran.told());
    }
    look(&mut hunt, &project, &["connections", "list"]).well();
}

#[test]
fn the_encrypted_store_and_the_environment_keep_their_secrets() {
    let mut hunt = Hunt::default();
    let plants = Plants::new(&mut hunt);
    let phrase = hunt.plant("the store's passphrase", "PP-plant the/store's+passphrase");
    let mood = Arc::new(AtomicU16::new(200));
    let door = api(Arc::clone(&mood), &plants);
    let project = Project::with_api(&door.url, "");
    project.write("pipelines/refresh.toml", &pipeline("refresh"));
    project.write("pipelines/basic.toml", &pipeline("basic"));
    let refresh = json!({ "type": "http", "url": door.url, "token_url": format!("{}/token", door.url), "client_id": "haul",
        "client_secret": plants.client_secret, "refresh_token": plants.refresh_token, "headers": { "X-Session": plants.header } });
    let basic = json!({ "type": "http", "url": door.url, "user": "ann", "password": plants.password }).to_string();
    let run = |hunt: &mut Hunt, arguments: &[&str]| {
        let mut command = project.haul(arguments);
        command.env("HAUL_PASSPHRASE", &phrase).env("HAUL_CONN_BASIC", &basic);
        let ran = Ran::of(&mut command);
        hunt.printed(&format!("{:?}", arguments.iter().take(3).collect::<Vec<_>>()), &ran);
        ran
    };
    run(&mut hunt, &["connections", "set", "refresh", &refresh.to_string()]).well();
    run(&mut hunt, &["connections", "set", "basic", &basic]).well();
    run(&mut hunt, &["connections", "show", "refresh", "--output", "json"]).well();
    run(&mut hunt, &["run", "--date", DATE]).well();
    // The rotated token is kept, and the next process asks with it.
    run(&mut hunt, &["connections", "test", "refresh"]).well();
    let forms: Vec<String> = door.asked().into_iter().filter(|one| one.path == "/token").map(|one| one.body).collect();
    assert!(forms[0].contains("%26first") && forms[1].contains("%26second"), "{forms:?}");
    mood.store(400, Ordering::SeqCst);
    let ran = run(&mut hunt, &["run", "--date", "2024-05-09"]).refused(1, &["•••"]);
    assert!(ran.told().contains("400"), "{}", ran.told());
    let wrong = project.haul(&["connections", "show", "refresh"]).env("HAUL_PASSPHRASE", "another one").output();
    hunt.printed("a wrong passphrase", &Ran::from(wrong.expect("haul starts")).refused(2, &["passphrase"]));
    hunt.files(&project, &[]);
}

#[test]
fn a_broken_connections_file_is_told_without_its_secrets() {
    let mut hunt = Hunt::default();
    let secret = hunt.plant("a broken file", "BF-plant-in-a-broken-file");
    let number = hunt.plant("a number", "918273645546372819");
    let project = Project::empty();
    project.write("haul.toml", "warehouse = \"warehouse\"\n");
    project.write("pipelines/api.toml", &pipeline("api"));
    let warehouse = "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n\n[api]\ntype = \"http\"\nurl = \"http://127.0.0.1:9\"\n";
    for wrong in [
        format!("auth = {{ type = \"bearer\", token = {number} }}"),
        format!("auth = {{ type = \"bearer\", token = [\"{secret}\"] }}"),
        format!("auth = {{ type = \"bearer\", token = {{ vault = \"{secret}\" }} }}"),
        format!("auth = {{ type = \"bearer\", tokn = \"{secret}\" }}"),
        format!("auth = {{ type = \"bearer\", token = \"{secret} }}"),
        format!("auth = {{ type = \"bearer\", token = {secret} }}"),
        format!("auth = \"{secret}\""),
        format!("auth = {{ type = \"{secret}\" }}"),
        format!("token = \"{secret}\"\nuser = \"ann\""),
        format!("headers = \"Bearer {secret}\""),
        format!("headers = {{ X-Session = {number} }}"),
        format!("timeout = \"{secret}\""),
        format!("rate = \"{secret}\""),
        format!("max_concurrent = \"{secret}\""),
        format!("\"{secret}\" = 1"),
        format!("[db]\ntype = \"postgres\"\nuser = \"u\"\ndatabase = \"d\"\npassword = {number}"),
        format!("[db]\ntype = \"mongodb\"\ndatabase = \"d\"\nuri = [\"mongodb://u:{secret}@h\"]"),
        format!("[db]\ntype = \"bigquery\"\nproject = \"p\"\nservice_account = {{ private_key = \"{secret}\" }}"),
    ] {
        project.write("connections.toml", &format!("{warehouse}{wrong}\n"));
        let ran = look(&mut hunt, &project, &["check"]).refused(2, &["connections.toml"]);
        assert!(ran.told().contains("error["), "{wrong}: {}", ran.told());
        let faults = look(&mut hunt, &project, &["check", "--output", "json"]);
        assert!(faults.json().as_array().is_some_and(|faults| !faults.is_empty()), "{wrong}");
        look(&mut hunt, &project, &["run", "--date", DATE]);
        look(&mut hunt, &project, &["connections", "list"]);
        look(&mut hunt, &project, &["connections", "test", "--output", "json"]);
        look(&mut hunt, &project, &["connections", "show", "api"]);
    }
}

#[test]
fn a_secret_variable_in_a_template_shows_in_no_rendered_text() {
    let mut hunt = Hunt::default();
    let secret = hunt.plant("a variable in a template", "TV-plant it's/in a+template");
    let project = Project::with_api("http://127.0.0.1:9", "");
    let sql = "sql = \"select {{ env_var('DB_PASSWORD') | sql }} as x, no_such_column\"";
    project.write(
        "pipelines/t.toml",
        &format!("[[transform]]\nname = \"t\"\n{sql}\ninto = \"mart.t\"\nwrite = \"full\"\n"),
    );
    for arguments in [
        &["check"][..],
        &["plan", "--output", "json"],
        &["render", "t", "t"],
        &["run", "t", "--verbose"],
        &["runs", "--output", "json"],
        &["status", "--output", "json"],
    ] {
        let ran = Ran::of(project.haul(arguments).env("DB_PASSWORD", &secret));
        hunt.printed(&format!("{arguments:?}"), &ran);
        assert!(arguments[0] != "render" || ran.out.contains("•••"), "{}", ran.told());
    }
    let value: Value = project.json(&["runs"]);
    assert_eq!(value[0]["status"], "failed", "{value}");
    hunt.files(&project, &[]);
}
