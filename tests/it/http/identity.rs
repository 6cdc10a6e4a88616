//! Who we are: signatures for AWS and for others, sessions that begin with a login, certificates below HTTP.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{project, run, run_badly};
use crate::support::project::{Project, told};
use crate::support::station::{Asked, Reply, Station};

const STEP: &str = "request = { path = \"/items\", params = { day = \"{{ ds }}\", b = \"x y\", a = \"é\" } }";

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key fits");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn lets_in(fits: impl Fn(&Asked) -> bool + Send + Sync + 'static) -> Station {
    Station::start(move |asked| {
        if fits(asked) { Reply::json(json!([{ "id": 1 }])) } else { Reply::new(403, "SignatureDoesNotMatch") }
    })
}

const AWS: &str = "auth = { type = \"sigv4\", service = \"execute-api\", region = \"eu-west-1\", access_key = \"AKIDEXAMPLE\", secret_key = \"aws/secret+key\", session_token = \"aws//session==token\" }";

/// Checks a signature as a server does: with what it was sent, and nothing else.
fn signed_for_aws(asked: &Asked) -> bool {
    let parts = asked.header("authorization").strip_prefix("AWS4-HMAC-SHA256 ").unwrap_or_default().to_owned();
    let part = |name: &str| {
        let found = parts.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_default().to_owned()
    };
    let (stamp, names) = (asked.header("x-amz-date"), part("SignedHeaders"));
    let scope = format!("{}/eu-west-1/execute-api/aws4_request", &stamp[..8.min(stamp.len())]);
    let mut pairs: Vec<&str> = asked.query.split('&').collect();
    pairs.sort_unstable();
    // A form writes a blank as a plus, a signature does not.
    let query = pairs.join("&").replace('+', "%20");
    let mut canonical = format!("{}\n{}\n{query}\n", asked.method, asked.path);
    for name in names.split(';') {
        let _ = writeln!(canonical, "{name}:{}", asked.header(name));
    }
    let payload = hex::encode(Sha256::digest(&asked.body));
    let _ = write!(canonical, "\n{names}\n{payload}");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let mut key = b"AWS4aws/secret+key".to_vec();
    for part in scope.split('/') {
        key = mac(&key, part);
    }
    part("Credential") == format!("AKIDEXAMPLE/{scope}")
        && names.split(';').collect::<BTreeSet<_>>().is_superset(&BTreeSet::from([
            "host",
            "x-amz-date",
            "x-amz-security-token",
        ]))
        && asked.header("x-amz-security-token") == "aws//session==token"
        && part("Signature") == hex::encode(mac(&key, &text))
}

#[test]
fn requests_are_signed_for_aws_with_and_without_a_body() {
    let station = lets_in(signed_for_aws);
    run(&project(&station, AWS, STEP), "2024-05-02");
    run(&project(&station, AWS, "request = { path = \"/q\", body = { day = \"{{ ds }}\" } }"), "2024-05-02");
    let wrong = AWS.replace("aws/secret+key", "another+secret/key");
    let project = project(&station, &wrong, STEP);
    let told = run_badly(&project, "2024-05-02");
    assert!(told.contains("403 Forbidden SignatureDoesNotMatch") && !told.contains("another+secret"), "{told}");
    let shown = project.stdout(&["connections", "show", "api"]);
    assert!(
        shown.contains("AKIDEXAMPLE") && !shown.contains("another+secret") && !shown.contains("aws//session"),
        "{shown}"
    );
    assert!(
        !crate::support::project::told(&project.output(&["connections", "test", "api"])).contains("another+secret")
    );
}

#[test]
fn requests_are_signed_by_a_key_as_the_connection_says() {
    let station = lets_in(|asked| {
        let text =
            format!("{}\n{}\n{}\n{}{}", asked.header("x-time"), asked.method, asked.path, asked.query, asked.body);
        asked.header("x-key") == "me" && asked.header("x-signature") == hex::encode(mac(b"plain secret key", &text))
    });
    let auth = "auth = { type = \"hmac\", key_id = \"me\", secret = \"plain secret key\", sign = \"{timestamp}\\n{method}\\n{path}\\n{query}{body}\", send = { X-Key = \"{key_id}\", X-Time = \"{timestamp}\", X-Signature = \"{signature}\" } }";
    run(&project(&station, auth, STEP), "2024-05-02");
    run(&project(&station, auth, "request = { path = \"/q\", form = { day = \"{{ ds }}\" } }"), "2024-05-02");
    // In the query, as some exchanges want it: all that stands before it is signed.
    let station = lets_in(|asked| {
        let (signed, signature) = asked.query.rsplit_once("&signature=").unwrap_or_default();
        signed.contains("nonce=") && signature == hex::encode(mac(b"key in base64", signed))
    });
    let auth = "auth = { type = \"hmac\", secret = \"a2V5IGluIGJhc2U2NA==\", secret_encoding = \"base64\", sign = \"{query}\", send_query = { nonce = \"{nonce}\", signature = \"{signature}\" } }";
    run(&project(&station, auth, STEP), "2024-05-02");
}

/// An API with sessions: a token is good for so many requests, and comes where `told` says.
fn sessions(uses: usize, told: &'static str) -> (Station, Arc<AtomicUsize>) {
    let logins = Arc::new(AtomicUsize::new(0));
    let (count, used) = (Arc::clone(&logins), AtomicUsize::new(0));
    let station = Station::start(move |asked| {
        if asked.path == "/login" {
            let fits = match asked.header("content-type") {
                "application/json" => serde_json::from_str::<Value>(&asked.body)
                    .is_ok_and(|body| body == json!({ "user": "ann", "password": "pass word" })),
                _ => asked.body == "password=pass+word&user=ann",
            };
            if !fits {
                return Reply::new(401, format!("wrong: {}", asked.body));
            }
            used.store(0, Ordering::SeqCst);
            let token = format!("session-token-{}", count.fetch_add(1, Ordering::SeqCst) + 1);
            return match told {
                "cookie" => Reply::new(204, "")
                    .header("Set-Cookie", "theme=dark")
                    .header("Set-Cookie", &format!("sid={token}; HttpOnly; Path=/")),
                "header" => Reply::new(200, "{}").header("X-Session", &token),
                _ => Reply::json(json!({ "data": { "token": token } })),
            };
        }
        let token = format!("session-token-{}", count.load(Ordering::SeqCst));
        let proof = match told {
            "cookie" => asked.header("cookie") == format!("sid={token}"),
            "header" => asked.header("x-session") == token,
            _ => asked.header("authorization") == format!("Bearer {token}"),
        };
        if !proof || used.fetch_add(1, Ordering::SeqCst) >= uses {
            return Reply::new(401, "no session");
        }
        let page: u64 = asked.param("page").parse().unwrap_or(1);
        Reply::json(if page > 4 { json!([]) } else { json!([{ "id": page }]) })
    });
    (station, logins)
}

const PAGED: &str = "request = { path = \"/items\", params = { day = \"{{ ds }}\" } }\npaginate = { by = \"page\" }";

#[test]
fn a_login_brings_a_token_that_is_renewed_when_it_dies() {
    for (told, keys) in [
        ("body", "body = { user = \"ann\", password = \"pass word\" }, token_at = \"$.data.token\", ttl = \"1h\""),
        (
            "header",
            "form = { user = \"ann\", password = \"pass word\" }, token_at = \"header X-Session\", header = \"X-Session\"",
        ),
        ("cookie", "form = { user = \"ann\", password = \"pass word\" }, token_at = \"cookie sid\""),
    ] {
        let (station, logins) = sessions(2, told);
        let auth = format!("auth = {{ type = \"login\", path = \"/login\", {keys} }}");
        let project = project(&station, &auth, PAGED);
        run(&project, "2024-05-02");
        assert_eq!(project.query("select count(*) as rows from raw.items"), json!([{ "rows": 4 }]), "{told}");
        assert_eq!(logins.load(Ordering::SeqCst), 3, "{told}: five pages, two a session");
        let shown = project.stdout(&["connections", "show", "api"]);
        assert!(shown.contains("user = ann") && !shown.contains("pass word"), "{shown}");
        for entry in ["state.db", "stage"] {
            let text = std::fs::read(project.path().join(".haul").join(entry)).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&text).contains("session-token"), "{entry}");
        }
    }
}

#[test]
fn one_login_serves_all_who_wait_for_it() {
    let (station, logins) = sessions(1000, "body");
    let keys = "body = { user = \"ann\", password = \"pass word\" }, token_at = \"$.data.token\"";
    let project = project(&station, &format!("auth = {{ type = \"login\", path = \"/login\", {keys} }}"), PAGED);
    let pipeline = std::fs::read_to_string(project.path().join("pipelines/items.toml")).expect("a file");
    project.write("pipelines/items.toml", &pipeline.replace("lookback = 1", "lookback = 6"));
    run(&project, "2024-05-07");
    assert_eq!(
        (logins.load(Ordering::SeqCst), project.query("select count(*) as rows from raw.items")),
        (1, json!([{ "rows": 24 }]))
    );
    let tested = project.stdout(&["connections", "test", "api"]);
    assert!(tested.contains("logged in at"), "{tested}");
}

#[test]
fn a_login_that_is_refused_or_has_no_token_is_told_without_the_password() {
    let (station, _) = sessions(9, "body");
    let auth = |body: &str, at: &str| {
        format!(
            "auth = {{ type = \"login\", path = \"/login\", body = {{ user = \"ann\", password = \"{body}\" }}, token_at = \"{at}\" }}"
        )
    };
    let told = run_badly(&project(&station, &auth("wrong-password", "$.data.token"), PAGED), "2024-05-02");
    assert!(
        told.contains("logging in at")
            && told.contains("401 Unauthorized: wrong: ")
            && !told.contains("wrong-password"),
        "{told}"
    );
    let told = run_badly(&project(&station, &auth("pass word", "$.token"), PAGED), "2024-05-02");
    assert!(told.contains("has no token at `$.token`") && !told.contains("session-token"), "{told}");
}

#[test]
fn a_rule_can_renew_a_token_that_dies_with_another_word() {
    let (station, logins) = sessions(9, "body");
    let relay = station.url.clone();
    let expired = AtomicUsize::new(0);
    let front = Station::start(move |asked| {
        if asked.path == "/items" && expired.fetch_add(1, Ordering::SeqCst) == 0 {
            return Reply::json(json!({ "fault": "Session EXPIRED" }));
        }
        Reply::json(json!([{ "id": 1 }]))
    });
    let keys = "body = { user = \"ann\", password = \"pass word\" }, token_at = \"$.data.token\"";
    let auth = format!("auth = {{ type = \"login\", path = \"{relay}/login\", {keys} }}");
    let project = project(&front, &auth, &format!("{STEP}\non = {{ \"200 containing session expired\" = \"renew\" }}"));
    run(&project, "2024-05-02");
    assert_eq!((logins.load(Ordering::SeqCst), front.count("/items")), (2, 2));
    let told = run_badly(
        &super::project(&Station::start(|_| Reply::new(419, "expired")), "", &format!("{STEP}\non.419 = \"renew\"")),
        "2024-05-02",
    );
    assert!(told.contains("has no token that could be renewed"), "{told}");
}

fn fixture(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name);
    std::fs::read_to_string(path).expect("a fixture")
}

/// A server that talks only to those who have a certificate of its authority.
fn strict_server() -> String {
    let certificates = |name: &str| {
        CertificateDer::pem_slice_iter(fixture(name).as_bytes())
            .map(|one| one.expect("a certificate"))
            .collect::<Vec<_>>()
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificates("ca.pem").remove(0)).expect("an authority");
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_slice(fixture("server.key").as_bytes()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(certificates("server.pem"), key)
        .expect("a certificate");
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut tls = BufReader::new(rustls::StreamOwned::new(connection, stream.expect("a stream")));
            let mut line = String::new();
            // Who has no certificate does not come so far.
            while tls.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let body = "[{\"id\": 1}]";
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let _ = tls.get_mut().write_all(head.as_bytes());
            tls.get_mut().conn.send_close_notify();
            let _ = tls.get_mut().flush();
        }
    });
    url
}

#[test]
fn a_certificate_says_who_we_are_below_http() {
    let url = strict_server();
    let ca = "ca = { file = \"ca.pem\" }";
    let project = |keys: &str| {
        let project = Project::with_api(&url, keys);
        for name in ["ca.pem", "client.pem", "client.key", "server.key"] {
            project.write(name, &fixture(name));
        }
        super::write(&project, STEP);
        project
    };
    let known =
        project(&format!("{ca}\nclient_cert = {{ file = \"client.pem\" }}\nclient_key = {{ file = \"client.key\" }}"));
    run(&known, "2024-05-02");
    assert_eq!(known.query("select id from raw.items"), json!([{ "id": 1 }]));
    known.stdout(&["connections", "test", "api"]);
    let shown = known.stdout(&["connections", "show", "api"]);
    assert!(shown.contains("client.key"), "{shown}");
    for (keys, expected) in [
        (ca.to_owned(), "received fatal alert"),
        ("client_cert = { file = \"client.pem\" }\nclient_key = { file = \"client.key\" }".to_owned(), "certificate"),
        (
            format!("{ca}\nclient_cert = {{ file = \"client.pem\" }}\nclient_key = \"no key at all\""),
            "are not a certificate and its key in PEM",
        ),
        ("ca = \"no certificate\"".to_owned(), "`ca` has no certificate in PEM"),
    ] {
        let project = project(&keys);
        let output = project.output(&["run", "items", "--date", "2024-05-02"]);
        let told = super::words(&told(&output));
        assert!(!output.status.success() && told.contains(expected), "`{expected}` is not in {told}");
        assert!(!told.contains("no key at all"), "{told}");
    }
}
