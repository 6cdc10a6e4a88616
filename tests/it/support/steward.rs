//! `haul serve` at work on a project, and its HTTP API as a program asks it.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::project::Project;

/// How long anything may take on a machine that is busy.
pub const FAR: Duration = Duration::from_secs(120);

/// Waits for something that another process is about to do.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < FAR, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A daemon that is ended with the test.
pub struct Serving {
    child: Child,
    /// Where it is asked.
    pub address: String,
    /// What opens its door.
    pub token: String,
    said: Arc<Mutex<String>>,
}

impl Serving {
    /// `haul serve` on a project, which says `listen = "127.0.0.1:0"` in its haul.toml; it answers.
    pub fn start(project: &Project) -> Self {
        Self::start_with(project, &[])
    }

    /// The same with variables of the environment.
    pub fn start_with(project: &Project, env: &[(&str, &str)]) -> Self {
        let mut command = project.haul(&["serve"]);
        command.envs(env.iter().copied()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("haul starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (pipe, heard) = (child.stderr.take().expect("its stderr"), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                heard.lock().expect("a lock").push_str(&format!("{line}\n"));
            }
        });
        let address = until("the door", || {
            let said = said.lock().expect("a lock").clone();
            let gone = child.try_wait().expect("a look");
            assert!(gone.is_none(), "haul serve has ended: {said}");
            let rest = said.split("the API answers at http://").nth(1)?;
            Some(rest.split_whitespace().next()?.to_owned())
        });
        let file = std::fs::read_to_string(project.path().join(".haul/token")).unwrap_or_default();
        Self { child, address, token: file.trim().to_owned(), said }
    }

    /// What it has written to stderr so far.
    pub fn said(&self) -> String {
        self.said.lock().expect("a lock").clone()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in order, and waits until it has.
    pub fn end(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        until("the end", || self.child.try_wait().expect("a look"));
        self.said()
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("an end");
    }

    /// A request with the token.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        let token = format!("Authorization: Bearer {}", self.token);
        self.raw(method, path, &[&token], body)
    }

    /// What a GET answers, which has to be 200.
    pub fn get(&self, path: &str) -> Value {
        let reply = self.ask("GET", path, "");
        assert_eq!(reply.status, 200, "{path}: {}\n{}", reply.body, self.said());
        reply.json()
    }

    /// What a POST answers, which has to be a good answer.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let reply = self.ask("POST", path, &body.to_string());
        assert!((200..300).contains(&reply.status), "{path}: {} {}\n{}", reply.status, reply.body, self.said());
        reply.json()
    }

    /// A request with these lines in its head, besides what every request has.
    pub fn raw(&self, method: &str, path: &str, head: &[&str], body: &str) -> Reply {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_read_timeout(Some(FAR)).expect("a timeout");
        let host = if head.iter().any(|line| line.starts_with("Host:")) {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let head: String = head.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{host}{head}Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        // A server that refuses early may close before it has read everything.
        let _ = stream.write_all(request.as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Reply::parse(&bytes)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its head, in small letters.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        let head = head.to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
        Self { status, head, body }
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }

    /// A line of the head.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_default();
        if size == 0 || rest.len() < size {
            whole.push_str(if size == 0 { "" } else { rest });
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
