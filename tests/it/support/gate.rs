//! A loopback API whose answers wait until the test lets them go, and daemons of the binary at work beside it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::loopback::serve;
use super::project::Project;

/// Whatever does not happen within this time does not happen.
const FAR: Duration = Duration::from_secs(90);

/// What the API does with those who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Shut,
    Open,
    Refuses,
}

/// The API: `/rows?key=` has one row.
pub struct Gate {
    pub url: String,
    door: watch::Sender<Door>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Shared {
    door: watch::Receiver<Door>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    /// Starts it on a free port.
    pub fn start(door: Door) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (door, receiver) = watch::channel(door);
        let shared = Shared { door: receiver, asked: Arc::clone(&asked) };
        let router = Router::new().route("/rows", get(rows)).with_state(shared);
        Self { url: serve(router), door, asked }
    }

    /// Opens, shuts, or refuses from now on, also those who wait.
    pub fn is(&self, door: Door) {
        self.door.send_replace(door);
    }

    /// Who has asked so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panicked here").clone()
    }

    /// Waits until so many have asked.
    pub fn wait_for(&self, count: usize) {
        until(&format!("{count} requests"), || (self.asked().len() >= count).then_some(()));
    }
}

async fn rows(State(shared): State<Shared>, Query(query): Query<HashMap<String, String>>) -> (StatusCode, String) {
    let key = query.get("key").cloned().unwrap_or_default();
    shared.asked.lock().expect("no test panicked here").push(key.clone());
    let mut door = shared.door.clone();
    let state = *door.wait_for(|door| *door != Door::Shut).await.expect("the test lives");
    match state {
        Door::Refuses => (StatusCode::NOT_FOUND, "no".to_owned()),
        _ => (StatusCode::OK, json!({ "rows": [{ "day": key, "n": 1 }] }).to_string()),
    }
}

/// Waits until something is so.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < FAR, "{what}: not within {FAR:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lines of a daemon's log, as they come.
type Lines = Arc<(Mutex<Vec<Value>>, Condvar)>;

/// A daemon at work; killed with the test.
pub struct Served {
    child: Child,
    lines: Lines,
}

impl Served {
    /// Starts `haul serve` in a project.
    pub fn start(project: &Project, more: &[&str]) -> Self {
        let arguments: Vec<&str> = ["serve", "--log", "json"].into_iter().chain(more.iter().copied()).collect();
        Self::of(project.haul(&arguments))
    }

    /// Starts this command, which is a `haul serve --log json`.
    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("haul starts");
        let stderr = BufReader::new(child.stderr.take().expect("stderr"));
        let lines: Lines = Arc::default();
        let heard = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { break };
                let value = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "message": line }));
                heard.0.lock().expect("no panic here").push(value);
                heard.1.notify_all();
            }
        });
        let served = Self { child, lines };
        served.says("serves");
        served
    }

    /// Waits for the first line with this text in its message.
    pub fn says(&self, text: &str) -> Value {
        self.says_times(text, 1).remove(0)
    }

    /// Waits until so many lines have this text in their messages.
    pub fn says_times(&self, text: &str, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        let mut lines = self.lines.0.lock().expect("no panic here");
        loop {
            let found: Vec<Value> = lines.iter().filter(|line| has(line, text)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            assert!(begun.elapsed() < FAR, "`{text}` was not said {count} times: {lines:#?}");
            lines = self.lines.1.wait_timeout(lines, Duration::from_millis(200)).expect("no panic here").0;
        }
    }

    /// How many lines have this text so far.
    pub fn said(&self, text: &str) -> usize {
        self.lines.0.lock().expect("no panic here").iter().filter(|line| has(line, text)).count()
    }

    /// The messages of a level so far.
    pub fn told(&self, level: &str) -> Vec<String> {
        let lines = self.lines.0.lock().expect("no panic here");
        let of_it = lines.iter().filter(|line| line["level"] == level);
        of_it.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().expect("kill runs").success());
    }

    /// Waits for the end, and tells the exit code.
    pub fn end(&mut self) -> Option<i32> {
        until("the daemon's end", || self.child.try_wait().expect("a status")).code()
    }

    /// Asks it to end, and waits for that.
    pub fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.end(), Some(0));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn has(line: &Value, text: &str) -> bool {
    line["message"].as_str().is_some_and(|message| message.contains(text))
}
