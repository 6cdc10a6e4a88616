//! A pipeline that is run morning after morning at six o'clock, and what it left behind.

use std::collections::BTreeMap;
use std::process::Output;

use serde_json::Value;

use super::project::{Project, told};

/// Three days back: an extract, its sums by day, and sums over the seven days that end with a day.
pub const DAYS: &str = r#"
[window]
grain = "day"
lookback = 3

[[extract]]
name = "items"
connection = "api"
request = { path = "/rows", params = { key = "{{ ds }}" } }
paginate = { by = "offset", limit = 4, total = "$.total" }
records = "$.rows[*]"

[[transform]]
name = "daily"
sql = "select day, count(*) as items, sum(amount) as amount from {{ ref('items') }} where _haul_unit = {{ ds | sql }} group by day"

[[transform]]
name = "weekly"
sql = "select {{ ds | sql }} as day, sum(items) as items, sum(amount) as amount from {{ ref('daily') }} where _haul_unit between {{ ds | date_add(-6) | sql }} and {{ ds | sql }}"
reach = "-6d..0d"
"#;

/// A project with one pipeline `days`, and the days that it is run on.
pub struct Mornings {
    pub project: Project,
}

impl Mornings {
    /// The pipeline over the API at `url`.
    pub fn new(url: &str, pipeline: &str) -> Self {
        let project = Project::with_api(url, "");
        project.write("pipelines/days.toml", pipeline);
        Self { project }
    }

    /// A command on the morning of a date, at six o'clock UTC.
    pub fn at(&self, date: &str, arguments: &[&str]) -> Output {
        let now = format!("{date}T06:00:00Z");
        let clock = ["--now", &now];
        self.project.output(&arguments.iter().copied().chain(clock).collect::<Vec<_>>())
    }

    /// The run of a morning, which must end with this exit code; returns both streams.
    pub fn run(&self, date: &str, code: i32) -> String {
        let output = self.at(date, &["run", "days", "--date", date]);
        assert_eq!(output.status.code(), Some(code), "{date}: {}", told(&output));
        told(&output)
    }

    /// A command's stdout on the morning of a date, after it ended well.
    pub fn text(&self, date: &str, arguments: &[&str]) -> String {
        let output = self.at(date, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A command's JSON on the morning of a date, after it ended well.
    pub fn json(&self, date: &str, arguments: &[&str]) -> Value {
        let all: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&self.text(date, &all)).expect("JSON")
    }

    /// The plan of a morning: each task with the reason for it.
    pub fn plan(&self, date: &str, more: &[&str]) -> BTreeMap<String, String> {
        let all: Vec<&str> = ["plan", "days", "--date", date].iter().chain(more).copied().collect();
        due(&self.json(date, &all)[0])
    }

    /// How the tasks of the newest run ended: `loaded`, or `skipped: and why`.
    pub fn outcome(&self) -> BTreeMap<String, String> {
        let runs = self.project.json(&["runs", "--limit", "1"]);
        let shown = self.project.json(&["show", runs[0]["id"].as_str().expect("a run")]);
        outcome(&shown)
    }

    /// The tasks of the newest run that ended like this.
    pub fn that_are(&self, state: &str) -> Vec<String> {
        let outcome = self.outcome();
        outcome.into_iter().filter(|(_, ended)| ended.split(':').next() == Some(state)).map(|(task, _)| task).collect()
    }

    /// How many commits each unit of a table has had.
    pub fn commits(&self, table: &str) -> BTreeMap<String, u64> {
        self.counts(&format!("select unit, count(*) as n from _haul_loads where table_name = '{table}' group by all"))
    }

    /// How many rows each unit of a table has.
    pub fn rows(&self, table: &str) -> BTreeMap<String, u64> {
        self.counts(&format!("select cast(_haul_unit as varchar) as unit, count(*) as n from {table} group by all"))
    }

    /// Texts and counts of a query with the columns `unit` and `n`.
    pub fn counts(&self, sql: &str) -> BTreeMap<String, u64> {
        let rows = self.project.query(sql);
        let rows = rows.as_array().expect("rows").iter();
        rows.map(|row| {
            (row["unit"].as_str().expect("a unit").to_owned(), row["n"].to_string().parse().expect("a count"))
        })
        .collect()
    }
}

/// The tasks of a plan with the reason for each.
pub fn due(plan: &Value) -> BTreeMap<String, String> {
    let tasks = plan["tasks"].as_array().expect("tasks").iter();
    tasks.map(|task| (text(&task["task"]), text(&task["due"]))).collect()
}

/// How the tasks of a shown run ended.
pub fn outcome(shown: &Value) -> BTreeMap<String, String> {
    let mut ended = BTreeMap::new();
    for event in shown["events"].as_array().expect("events") {
        let task = match event["task"]["unit"].as_str() {
            Some("all") => text(&event["task"]["step"]),
            _ => format!("{} {}", text(&event["task"]["step"]), text(&event["task"]["unit"])),
        };
        let what = &event["event"];
        let word = match what["reason"].as_str() {
            Some(reason) => format!("{}: {reason}", text(&what["event"])),
            None => text(&what["event"]),
        };
        ended.insert(task, word);
    }
    ended
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Names of units of a table with a count for each.
pub fn counted(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(unit, count)| ((*unit).to_owned(), *count)).collect()
}
