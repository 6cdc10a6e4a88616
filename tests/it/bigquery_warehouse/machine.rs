//! Application default credentials of a machine: tokens from its metadata server, and what is said where that gives none.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::doors::{Door, Ran, Reply, nobody};
use crate::support::project::Project;

const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// A metadata server as Google documents it: it answers nobody who does not ask for it by name.
fn metadata(status: u16, body: String) -> Door {
    Door::start(move |asked| {
        if asked.header("metadata-flavor") != "Google" {
            return Reply::new(403, "Missing Metadata-Flavor:Google header.");
        }
        if asked.path != TOKEN {
            return Reply::new(404, "not found").header("metadata-flavor", "Google");
        }
        Reply::new(status, body.clone()).header("metadata-flavor", "Google")
    })
}

/// A proxy that writes down where somebody wants to go, and lets nobody through.
struct Proxy {
    url: String,
    wanted: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let wanted: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&wanted);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { break };
                let mut text = [0; 4096];
                let read = stream.read(&mut text).unwrap_or(0);
                let line = String::from_utf8_lossy(&text[..read]).lines().next().unwrap_or_default().to_owned();
                kept.lock().expect("no test panicked here").push(line);
                let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        Self { url, wanted }
    }

    fn wanted(&self) -> Vec<String> {
        self.wanted.lock().expect("no test panicked here").clone()
    }
}

/// `haul connections test` on a machine whose metadata server is here, and whose way to Google is this proxy.
fn machine(project: &Project, host: &str, proxy: &Proxy) -> Command {
    project.write("connections.toml", "[bq]\ntype = \"bigquery\"\nproject = \"p\"\n");
    let mut command = project.haul(&["connections", "test", "bq"]);
    for name in ["NO_PROXY", "no_proxy", "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG"] {
        command.env_remove(name);
    }
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, &proxy.url);
    }
    // Nobody has logged in here.
    command.env("HOME", project.path()).env("GCE_METADATA_HOST", host);
    command
}

#[test]
fn a_machine_is_who_its_metadata_server_says() {
    let token = json!({ "access_token": "machine-token-7291", "expires_in": 3599, "token_type": "Bearer" });
    let server = metadata(200, token.to_string());
    let (project, proxy) = (Project::empty(), Proxy::start());
    let host = server.url.trim_start_matches("http://").to_owned();
    // With its token it goes to Google, where nobody lets it through here.
    let ran = Ran::of(&mut machine(&project, &host, &proxy)).refused(1, &["the service cannot be reached"]);
    assert!(!ran.told().contains("machine-token-7291"), "{}", ran.told());
    let asked: Vec<String> = server.asked().iter().map(|asked| format!("{} {}", asked.path, asked.query)).collect();
    assert_eq!(asked, [format!("{TOKEN} scopes=https://www.googleapis.com/auth/bigquery")], "one token for all calls");
    let wanted = proxy.wanted();
    assert!(!wanted.is_empty(), "{}", ran.told());
    for one in &wanted {
        assert!(one.starts_with("CONNECT bigquery.googleapis.com:443 "), "{wanted:?}");
    }
    // An empty variable names no file: the machine's own account is meant.
    let mut command = machine(&project, &host, &proxy);
    command.env("GOOGLE_APPLICATION_CREDENTIALS", "");
    Ran::of(&mut command).refused(1, &["the service cannot be reached"]);
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn a_metadata_server_that_gives_no_token_is_told_with_what_would_be_right() {
    let (project, proxy) = (Project::empty(), Proxy::start());
    let mends = ["GOOGLE_APPLICATION_CREDENTIALS", "gcloud auth application-default login", "service account"];
    let says = |host: &str, words: &[&str]| {
        let ran = Ran::of(&mut machine(&project, host, &proxy));
        ran.refused(1, words).refused(1, &mends);
    };
    let none = metadata(404, "Service account \"default\" not defined.\nmore".to_owned());
    let host = none.url.trim_start_matches("http://").to_owned();
    says(&host, &[&host, "gives out no token, but 404", "Service account \"default\" not defined."]);
    assert_eq!(none.asked().len(), 1, "asking again would not help");
    let odd = metadata(200, "{\"token\":\"machine-token-7291\"}".to_owned());
    let host = odd.url.trim_start_matches("http://").to_owned();
    says(&host, &[&format!("the answer of the metadata server {host} has no token in it")]);
    // What answers without the name of the server is something else, whatever it says.
    let token = json!({ "access_token": "t", "expires_in": 3599, "token_type": "Bearer" });
    let other = Door::start(move |_| Reply::json(&token));
    let host = other.url.trim_start_matches("http://").to_owned();
    says(&host, &[&host, "is no metadata server"]);
    let host = format!("127.0.0.1:{}", nobody());
    says(&host, &[&format!("no credentials are given, and the metadata server {host} cannot be reached")]);
    assert_eq!(
        proxy.wanted(),
        Vec::<String>::new(),
        "without a token nothing goes to Google, and no token goes by a proxy"
    );
}
