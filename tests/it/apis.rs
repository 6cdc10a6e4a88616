//! Programs that others wrote serve as APIs: each is filled by its own means, pulled over two mornings with changes in
//! between, and compared with what it has itself.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod with_apis;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

use crate::support::doors::nobody;
use crate::support::project::{Project, told};

/// A server of others, in a folder of its own; it ends with the value.
struct Server {
    url: String,
    port: u16,
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server and waits until this path answers; `prepare` gets the folder and the port.
    fn start(ready: &str, prepare: impl FnOnce(&Path, u16) -> Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = nobody();
        let mut command = prepare(folder.path(), port);
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().expect("the server starts");
        let mut server = Self { url: format!("http://127.0.0.1:{port}"), port, child, folder };
        let end = Instant::now() + Duration::from_mins(2);
        while server.try_call("GET", ready, "", None).is_none() {
            let ended = server.child.try_wait().expect("a child");
            let log = || fs::read_to_string(server.folder.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < end, "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// A request of its own API; the answer has to say that all went well.
    fn call(&self, method: &str, path: &str, identity: &str, body: Option<&Value>) -> Value {
        let (status, body) = self.try_call(method, path, identity, body).expect("an answer");
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        serde_json::from_str(&body).unwrap_or_default()
    }

    fn try_call(&self, method: &str, path: &str, identity: &str, body: Option<&Value>) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_mins(1))).ok()?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let identity = if identity.is_empty() { String::new() } else { format!("Authorization: {identity}\r\n") };
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n{identity}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}", self.port).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split_whitespace().nth(1)?.parse().ok()?, body.to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// A project with one pipeline over the server; `identity` are the connection's keys for who we are.
fn project(server: &Server, base: &str, identity: &str, pipeline: &str) -> Project {
    let project = Project::with_api(&format!("{}{base}", server.url), identity);
    project.write("pipelines/days.toml", pipeline);
    project
}

/// The run of a morning, which ends well; returns both streams.
fn morning(project: &Project, date: &str) -> String {
    let output = project.output(&["run", "days", "--date", date]);
    assert!(output.status.success(), "{}", told(&output));
    told(&output)
}

/// Who we are is wrong: the run fails at once, says so and shows no secret; the rows stay.
fn refused(server: &Server, project: &Project, base: &str, identity: &str, secret: &str) {
    let warehouse = "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n";
    let url = format!("{}{base}", server.url);
    project.write("connections.toml", &format!("{warehouse}\n[api]\ntype = \"http\"\nurl = \"{url}\"\n{identity}\n"));
    let output = project.output(&["run", "days", "--date", "2024-05-04"]);
    let told = told(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("auth:") && told.contains("hint") && !told.contains(secret), "{told}");
}
