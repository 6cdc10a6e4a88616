//! The conformance suite of sources: whatever the days come from, the same promises hold.
//!
//! A source joins by an [`Origin`] of its own and a test that hands it to [`passes`]; the promises are the same for all.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod origins;
mod promises;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::mornings::Mornings;
use crate::support::project::{Project, told};

/// A system that days of events can be pulled from: how a project reaches it, and how a test changes what it has.
pub trait Origin {
    /// Its tables in `connections.toml`; the step's connection is called `origin`.
    fn connection(&self) -> String;

    /// The step's keys that say what is asked of it.
    fn step(&self) -> String;

    /// What the project needs in its folder, for sources that are files or programs there.
    fn furnish(&self, _project: &Project) {}

    /// Makes these events all that a day has.
    fn put(&self, project: &Project, day: &str, events: &[Event]);

    /// A text that must never be seen or kept, where it asks for one.
    fn secret(&self) -> Option<&str> {
        None
    }

    /// Connections that lead to a system that is not there; none for a source that is always there.
    fn gone(&self) -> Option<String>;
}

/// A row as every source can hold it, with what is easily lost on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Beyond what a float holds.
    pub id: i64,
    /// RFC 3339 with milliseconds, UTC.
    pub at: String,
    /// A decimal with four places.
    pub amount: String,
    /// With quotes, line ends, and letters of several alphabets.
    pub name: String,
    /// Null on every third row.
    pub note: Option<String>,
}

/// How many events an ordinary day has.
pub const EVENTS: i64 = 40;

impl Event {
    /// The event of this number on a day; the first and the last lie at the day's borders.
    pub fn new(day: &str, number: i64) -> Self {
        let time = match number {
            0 => "00:00:00.000".to_owned(),
            _ if number == EVENTS - 1 => "23:59:59.999".to_owned(),
            _ => format!("{:02}:{:02}:07.250", number % 24, number % 60),
        };
        let days: i64 = day[8..].parse().expect("a day of the month");
        Self {
            id: 9_007_199_254_740_993 + days * 1000 + number,
            at: format!("{day}T{time}Z"),
            amount: format!("{}.{:04}", 10_000_000_000 + number, number * 7 % 10_000),
            name: format!("\"event\", {number}\n\u{e9}\u{d55c}'\\"),
            note: (number % 3 != 0).then(|| format!("note {number}")),
        }
    }

    /// The events of an ordinary day.
    pub fn day(day: &str) -> Vec<Self> {
        (0..EVENTS).map(|number| Self::new(day, number)).collect()
    }

    /// As JSON, for sources that speak it; the amount as a number.
    pub fn json(&self) -> String {
        let text = |text: &str| json!(text).to_string();
        let note = self.note.as_deref().map_or("null".to_owned(), text);
        let (at, name) = (text(&self.at), text(&self.name));
        format!(r#"{{"id":{},"happened_at":{at},"amount":{},"name":{name},"note":{note}}}"#, self.id, self.amount)
    }
}

/// A pipeline over three days of a source, morning after morning.
pub struct Bench<'a> {
    pub origin: &'a dyn Origin,
    pub mornings: Mornings,
}

impl<'a> Bench<'a> {
    /// A project of its own; `more` are further keys of the step.
    pub fn new(origin: &'a dyn Origin, more: &str) -> Self {
        let project = Project::empty();
        project.write("haul.toml", "warehouse = \"warehouse\"\n");
        let bench = Self { origin, mornings: Mornings { project } };
        bench.connect(&origin.connection());
        let pipeline = format!(
            r#"
[window]
grain = "day"
lookback = 3

[[extract]]
name = "events"
into = "raw.events"
keys = ["id"]
columns = {{ id = "BIGINT", happened_at = "TIMESTAMP", amount = "DECIMAL(18,4)", name = "VARCHAR", note = "VARCHAR" }}
{}
{more}
"#,
            origin.step()
        );
        bench.project().write("pipelines/days.toml", &pipeline);
        origin.furnish(bench.project());
        bench
    }

    pub fn project(&self) -> &Project {
        &self.mornings.project
    }

    /// Gives the project these connections besides its warehouse.
    pub fn connect(&self, connections: &str) {
        let warehouse = "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n";
        self.project().write("connections.toml", &format!("{warehouse}\n{connections}\n"));
    }

    /// Fills days with ordinary events.
    pub fn fill(&self, days: &[&str]) {
        for day in days {
            self.put(day, &Event::day(day));
        }
    }

    pub fn put(&self, day: &str, events: &[Event]) {
        self.origin.put(self.project(), day, events);
    }

    /// The rows of the table in the order of their ids, each with its unit.
    pub fn rows(&self) -> Value {
        self.project().query(
            "select cast(_haul_unit as varchar) as unit, cast(id as varchar) as id, strftime(happened_at, '%Y-%m-%dT%H:%M:%S.%gZ') as happened_at, cast(amount as varchar) as amount, name, note from raw.events order by raw.events.id",
        )
    }

    /// What becomes of every file of the project that could hold a secret.
    pub fn never_kept(&self, secret: &str) {
        for path in files(self.project().path()) {
            if path.ends_with("connections.toml") {
                continue;
            }
            let bytes = fs::read(&path).expect("a file");
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} has the secret", path.display());
        }
    }
}

/// The rows that these days ought to have become.
pub fn expected(days: &[(&str, Vec<Event>)]) -> Value {
    let mut rows: Vec<(i64, Value)> = Vec::new();
    for (day, events) in days {
        for event in events {
            let row = json!({ "unit": day, "id": event.id.to_string(), "happened_at": event.at, "amount": event.amount, "name": event.name, "note": event.note });
            rows.push((event.id, row));
        }
    }
    rows.sort_by_key(|(id, _)| *id);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Every promise, one after the other, each with a project of its own.
pub fn passes(origin: &dyn Origin) {
    promises::each_day_has_its_own_rows_to_the_last_digit(origin);
    promises::a_later_morning_writes_only_what_changed(origin);
    promises::a_day_that_empties_is_held_unless_that_is_allowed(origin);
    promises::killed_at_any_boundary_a_run_ends_as_if_nothing_had_happened(origin);
    promises::a_system_that_is_gone_fails_the_day_and_is_caught_up_with(origin);
    promises::what_is_asked_can_be_looked_at_and_no_secret_is_told_or_kept(origin);
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Both streams of a command of a morning, whatever its end.
pub fn words(bench: &Bench<'_>, date: &str, arguments: &[&str]) -> String {
    told(&bench.mornings.at(date, arguments))
}
