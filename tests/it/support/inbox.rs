//! A project whose people are told by a webhook, and an API of days that fails as a test says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::mornings::Mornings;
use super::project::told;
use super::station::{Reply, Station};

/// Three days back, from the API.
pub const DAYS: &str = r#"
[window]
lookback = 3

[[extract]]
name = "items"
connection = "api"
request = { path = "/items/{{ ds }}" }
retry = { max_attempts = 1 }
into = "raw.items"
"#;

/// What the API says of a day: a status, with the number of rows of a good answer or what stands in the body of a bad one.
#[derive(Clone)]
pub enum Day {
    Rows(u64),
    Refused(u16, String),
}

/// The project, its API, and the webhook.
pub struct Inbox {
    pub days: Mornings,
    pub hook: Station,
    api: Arc<Mutex<BTreeMap<String, Day>>>,
    status: Arc<Mutex<u16>>,
}

impl Inbox {
    /// A project with this `haul.toml` behind `warehouse`, where `hook` is a connection to the webhook.
    pub fn new(settings: &str, pipeline: &str) -> Self {
        let api: Arc<Mutex<BTreeMap<String, Day>>> = Arc::default();
        let status = Arc::new(Mutex::new(200));
        let (known, answers) = (Arc::clone(&api), Arc::clone(&status));
        let source = Station::start(move |asked| {
            let day = asked.path.trim_start_matches("/items/").to_owned();
            match known.lock().expect("no test panicked here").get(&day).cloned().unwrap_or(Day::Rows(4)) {
                Day::Rows(rows) => Reply::json(rows_of(&day, rows)),
                Day::Refused(status, body) => Reply::new(status, body),
            }
        });
        let hook = Station::start(move |_| Reply::new(*answers.lock().expect("no test panicked here"), ""));
        let days = Mornings::new(&source.url, pipeline);
        days.project.write("haul.toml", &format!("name = \"shop\"\nwarehouse = \"warehouse\"\n{settings}"));
        let connections = std::fs::read_to_string(days.project.path().join("connections.toml")).expect("connections");
        let hook_connection = format!("\n[hook]\ntype = \"http\"\nurl = \"{}/in/T0KEN-of-the-hook\"\n", hook.url);
        days.project.write("connections.toml", &(connections + &hook_connection));
        Self { days, hook, api, status }
    }

    /// From now on the API says this of these days.
    pub fn says(&self, days: &[&str], what: &Day) {
        let mut api = self.api.lock().expect("no test panicked here");
        days.iter().for_each(|day| drop(api.insert((*day).to_owned(), what.clone())));
    }

    /// From now on the webhook answers with this status.
    pub fn hook_answers(&self, status: u16) {
        *self.status.lock().expect("no test panicked here") = status;
    }

    /// The messages that came in, as JSON.
    pub fn messages(&self) -> Vec<Value> {
        self.hook.asked().iter().map(|asked| serde_json::from_str(&asked.body).expect("JSON")).collect()
    }

    /// The titles of the messages that came in.
    pub fn titles(&self) -> Vec<String> {
        self.messages().iter().map(|message| message["title"].as_str().expect("a title").to_owned()).collect()
    }

    /// The notices of the last message.
    pub fn notices(&self) -> Vec<Value> {
        let last = self.messages().pop().expect("a message");
        last["content"]["notices"].as_array().expect("notices").clone()
    }

    /// Looks at how things stand at an instant.
    pub fn look(&self, now: &str, code: i32) {
        let ran = self.days.project.output(&["notify", "look", "--now", now]);
        assert_eq!(ran.status.code(), Some(code), "{}", told(&ran));
    }

    /// The incidents that are open, as `haul incidents` prints them.
    pub fn open(&self) -> Vec<Value> {
        self.days.project.json(&["incidents"]).as_array().expect("incidents").clone()
    }
}

fn rows_of(day: &str, rows: u64) -> Value {
    (0..rows).map(|id| json!({ "id": id, "day": day })).collect()
}

/// The table of `haul.toml` that tells the webhook of everything, `late` too.
pub const TEAM: &str = r#"
[[notify]]
name = "team"
to = "webhook"
connection = "hook"
on = ["failure", "held", "late", "deadline", "recovery", "drift", "report"]
"#;
