//! Mail by SMTP, through a server that wants TLS and a login.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::counterparts::program;
use crate::support::doors::nobody;
use crate::support::inbox::{DAYS, Day, Inbox};
use crate::support::project::told;

const SETTINGS: &str = r#"
[[notify]]
name = "people"
to = "email"
connection = "post"
recipients = ["data@example.com", "Ann <ann@example.com>"]
"#;

/// The server; it ends with the test, since its standard input does.
struct Server {
    _process: Child,
    port: u16,
    letters: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        Self::that("starttls")
    }

    /// One whose TLS begins so: `starttls` or `tls`.
    fn that(begins: &str) -> Self {
        let letters = tempfile::tempdir().expect("a folder");
        let (port, root) = (nobody(), Path::new(env!("CARGO_MANIFEST_DIR")));
        let process = Command::new(program("mail", "python"))
            .arg(root.join("tests/it/notify/mail_server.py"))
            .arg(port.to_string())
            .args([letters.path(), &root.join("tests/fixtures/tls")])
            .arg(begins)
            .stdin(Stdio::piped())
            .spawn()
            .expect("python starts");
        let server = Self { _process: process, port, letters };
        server.wait_for("ready");
        server
    }

    fn wait_for(&self, name: &str) -> String {
        let path = self.letters.path().join(name);
        for _ in 0..6000 {
            if let Ok(text) = std::fs::read_to_string(&path) {
                return text;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{name} did not come");
    }

    fn letter(&self, number: u32) -> Value {
        serde_json::from_str(&self.wait_for(&format!("{number}.json"))).expect("JSON")
    }

    fn project(&self, password: &str) -> Inbox {
        let inbox = Inbox::new(SETTINGS, DAYS);
        let ca = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls/ca.pem");
        let connections =
            std::fs::read_to_string(inbox.days.project.path().join("connections.toml")).expect("connections");
        let post = format!(
            "\n[post]\ntype = \"smtp\"\nhost = \"127.0.0.1\"\nport = {}\nuser = \"haul\"\npassword = \"{password}\"\n\
             from = \"haul <haul@example.com>\"\nca = {{ file = \"{}\" }}\n",
            self.port,
            ca.display()
        );
        inbox.days.project.write("connections.toml", &(connections + &post));
        inbox
    }
}

#[test]
fn a_failure_goes_by_mail_as_text_and_as_html_to_all_recipients() {
    let server = Server::start();
    let inbox = server.project("open-the-post-office");
    inbox.says(&["2024-05-02"], &Day::Refused(500, "<script>".to_owned()));
    inbox.days.run("2024-05-04", 1);
    let letter = server.letter(1);
    assert_eq!((&letter["from"], &letter["user"]), (&json!("haul@example.com"), &json!("haul")));
    assert_eq!(letter["to"], json!(["data@example.com", "ann@example.com"]));
    let text = letter["text"].as_str().expect("a text");
    for part in ["Subject: shop: raw.items failed", "Message-ID: <haul-1@example.com>", "text/plain", "text/html"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("do        haul run days") && text.contains("&lt;script&gt;"), "{text}");
}

#[test]
fn a_connection_to_a_mail_server_is_tried_and_a_wrong_password_is_told_as_such() {
    let server = Server::start();
    let inbox = server.project("open-the-post-office");
    let tried = inbox.days.project.stdout(&["connections", "test", "post"]);
    assert!(tried.contains("it takes mail") && tried.contains("logged in as haul"), "{tried}");
    let inbox = server.project("wrong-password-here");
    let ran = inbox.days.project.output(&["notify", "test", "people"]);
    let said = told(&ran);
    assert!(said.contains("error[auth]") && said.contains("are `user` and `password`"), "{said}");
    assert!(!said.contains("wrong-password-here"), "{said}");
}

#[test]
fn mail_goes_by_tls_from_the_start_and_only_to_whom_the_certificate_names() {
    let server = Server::that("tls");
    let inbox = server.project("open-the-post-office");
    let project = &inbox.days.project;
    let ca = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls/ca.pem");
    let address = format!("smtps://haul:open-the-post-office@127.0.0.1:{}?from=haul%40example.com", server.port);
    let with = |more: &str| {
        let mut command = project.haul(&["notify", "test", "people"]);
        command.env("HAUL_CONN_POST", format!("{address}{more}")).output().expect("haul starts")
    };
    let stranger = with("");
    let said = told(&stranger);
    assert!(!stranger.status.success() && said.contains("certificate"), "{said}");

    let sent = with(&format!("&ca={}", std::fs::read_to_string(&ca).map(|pem| escaped(&pem)).expect("a certificate")));
    assert!(sent.status.success(), "{}", told(&sent));
    let letter = server.letter(1);
    assert_eq!((&letter["user"], &letter["to"][0]), (&json!("haul"), &json!("data@example.com")));

    // A server that speaks TLS from the start is none that is asked for it later.
    project.write(
        "connections.toml",
        &(std::fs::read_to_string(project.path().join("connections.toml")).expect("the file")
            + "tls = \"starttls\"\ntimeout = \"2s\"\n"),
    );
    let wrong = project.output(&["notify", "test", "people"]);
    assert!(!wrong.status.success(), "{}", told(&wrong));
}

/// A text as it stands in an address.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
