//! Load steps: rows of one connection brought into another, unit by unit, once, and again when they changed.

mod faults;
mod files;
mod google;
mod memory;
mod targets;
mod warehouses;
mod with_buckets;
mod with_mariadb;
mod with_mongodb;
mod with_postgres;

use std::process::Output;

use serde_json::Value;

use crate::support::mornings::Mornings;
use crate::support::project::Project;

/// The morning on which the three days are there.
pub const MORNING: &str = "2024-05-04";

/// The days.
pub const DAYS: [&str; 3] = ["2024-05-01", "2024-05-02", "2024-05-03"];

/// A pipeline with a window of three days, whose rows lie in files that a test writes.
pub const ITEMS: &str = r#"
[window]
lookback = 3
guard = { allow_empty = true, max_shrink = "100%" }

[[extract]]
name = "items"
files = "days/{{ ds }}.jsonl"
"#;

/// A project of a warehouse and of places that rows are loaded into.
pub struct Bench {
    pub mornings: Mornings,
}

impl Bench {
    /// A project with these steps behind the one that reads the days' files, and with these connections.
    pub fn new(steps: &str, connections: &str) -> Self {
        let project = Project::empty();
        project.write("haul.toml", "warehouse = \"warehouse\"\n");
        let bench = Self { mornings: Mornings { project } };
        bench.connect(connections);
        bench.steps(steps);
        for day in DAYS {
            bench.day(day, 4);
        }
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

    /// Makes these the steps behind the first.
    pub fn steps(&self, steps: &str) {
        self.project().write("pipelines/days.toml", &format!("{ITEMS}\n{steps}\n"));
    }

    /// Gives a day so many rows.
    pub fn day(&self, day: &str, rows: u32) {
        let row = |n: u32| {
            format!(
                "{{\"id\":\"{day}/{n}\",\"day\":\"{day}\",\"amount\":{n}.25,\"big\":{},\"text\":\"line {n}\\n\\\"quoted\\\", é\",\"none\":null}}\n",
                9_007_199_254_740_993_u64 + u64::from(n)
            )
        };
        self.project().write(&format!("days/{day}.jsonl"), &(0..rows).map(row).collect::<String>());
    }

    /// The run of the morning, which must end well.
    pub fn run(&self) -> String {
        self.mornings.run(MORNING, 0)
    }

    /// The run of the morning, however it ends.
    pub fn try_run(&self) -> Output {
        self.mornings.at(MORNING, &["run", "days", "--date", MORNING])
    }

    /// Rows of another connection.
    pub fn query(&self, connection: &str, sql: &str) -> Value {
        self.project().json(&["query", "--connection", connection, sql])
    }

    /// How the tasks of a step ended in the newest run, by their units.
    pub fn ended(&self, step: &str) -> Vec<String> {
        let of_step = |task: &str| task == step || task.strip_prefix(step).is_some_and(|rest| rest.starts_with(' '));
        let outcome = self.mornings.outcome().into_iter().filter(|(task, _)| of_step(task));
        outcome.map(|(task, ended)| format!("{} {ended}", task[step.len()..].trim())).collect()
    }
}
