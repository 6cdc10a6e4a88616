//! Rows that are appended and rows that are merged are there once, whichever answer is lost and wherever the process dies.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::bigquery_gate::Gate;
use crate::support::project::{Project, told};

/// The same rows, appended to one table and merged into another.
const PIPELINE: &str = r#"
[window]
lookback = 1

[[extract]]
name = "log"
connection = "files"
files = "{{ ds }}.jsonl"
into = "raw.log"
write = "append"

[[extract]]
name = "newest"
connection = "files"
files = "{{ ds }}.jsonl"
into = "raw.newest"
write = "merge"
keys = ["id"]
"#;

/// Upload of a load, by its line at the gate: not the question whether it is there already.
const LOAD: &str = "/jobs haul_load_";

/// Transaction of a commit.
const COMMIT: &str = "/jobs haul_commit_";

/// A pipeline that comes to one more day with each run.
struct Days {
    gate: Gate,
    project: Project,
    day: u32,
}

impl Days {
    /// The first day is there already, so that the next ones come on top of something.
    fn begin() -> Self {
        let gate = Gate::open();
        let project = gate.project(PIPELINE);
        let mut days = Self { gate, project, day: 0 };
        days.next();
        days.run();
        days
    }

    /// Another day has rows: one of its own, and a newer one of a key that every day has.
    fn next(&mut self) {
        self.day += 1;
        let (day, own) = (self.day, self.day + 10);
        let rows = format!("{{\"id\":1,\"day\":{day}}}\n{{\"id\":{own},\"day\":{day}}}\n");
        self.project.write(&format!("data/{}.jsonl", unit(day)), &rows);
        self.gate.forget();
    }

    fn arguments(&self) -> [String; 4] {
        ["run", "days", "--date", &unit(self.day + 1)].map(str::to_owned)
    }

    fn run(&self) -> String {
        let arguments = self.arguments();
        let output = self.project.output(&arguments.each_ref().map(String::as_str));
        assert!(output.status.success(), "{}", told(&output));
        told(&output)
    }

    /// Runs until what is told with this text is held back on its way there, or its answer on its way here, and dies.
    fn die_at(&self, text: &str, answered: bool) {
        if answered {
            self.gate.keep(text);
        } else {
            self.gate.hold(text);
        }
        let arguments = self.arguments();
        let mut child = self
            .project
            .haul(&arguments.each_ref().map(String::as_str))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haul starts");
        self.gate.wait_for(text, answered);
        child.kill().expect("SIGKILL");
        assert_eq!(child.wait().expect("an end").signal(), Some(9));
        self.gate.let_go();
    }

    /// No job of this day has a second name: a load that is done again has a further one, a commit the next number.
    fn has_one_job_each(&self, what: &str) {
        let jobs: BTreeSet<String> = self.gate.sent("haul_").into_iter().collect();
        let of = |prefix: &str| -> Vec<&String> { jobs.iter().filter(|id| id.starts_with(prefix)).collect() };
        assert_eq!((of("haul_load_").len(), of("haul_commit_").len()), (2, 2), "{what}: {jobs:#?}");
        for id in of("haul_load_") {
            assert_eq!(id.split('_').count(), 3, "{what}: {jobs:#?}");
        }
        for id in of("haul_commit_") {
            assert!(id.ends_with(&format!("_{}", self.day)), "{what}: {jobs:#?}");
        }
    }

    /// All rows of all days are there once, and each unit was loaded once.
    fn are_there_once(&self) {
        let mut log = Vec::new();
        for day in 1..=self.day {
            log.extend([1, day + 10].map(|id| json!({ "id": id, "day": day, "unit": unit(day) })));
        }
        let sql = "select id, day, _haul_unit as unit from raw.log order by day, id";
        assert_eq!(self.project.query(sql), Value::from(log));
        let mut newest = vec![json!({ "id": 1, "day": self.day })];
        newest.extend((1..=self.day).map(|day| json!({ "id": day + 10, "day": day })));
        assert_eq!(self.project.query("select id, day from raw.newest order by id"), Value::from(newest));
        let sql = "select table_name, unit, count(*) as lines, count(distinct generation) as generations, \
                   sum(`rows`) as n from raw._haul_loads group by 1, 2 order by 1, 2";
        let line = |table: &str, day: u32| json!({ "table_name": format!("raw.{table}"), "unit": unit(day), "lines": 1, "generations": 1, "n": 2 });
        let loads: Vec<Value> =
            ["log", "newest"].iter().flat_map(|table| (1..=self.day).map(|day| line(table, day))).collect();
        assert_eq!(self.project.query(sql), Value::from(loads));
    }
}

fn unit(day: u32) -> String {
    format!("2024-05-{day:02}")
}

#[test]
fn appended_and_merged_rows_are_there_once_whichever_answer_is_lost() {
    let mut days = Days::begin();
    for text in [LOAD, COMMIT] {
        days.next();
        days.gate.lose(text);
        let said = days.run();
        days.gate.let_go();
        assert!(days.gate.lost(text) >= 2, "{said}");
        days.has_one_job_each(&format!("the answers to {text} were lost: {said}"));
    }
    days.are_there_once();
}

#[test]
fn appended_and_merged_rows_are_there_once_wherever_the_process_dies() {
    let mut days = Days::begin();
    for (text, answered) in [(LOAD, false), (LOAD, true), (COMMIT, false), (COMMIT, true)] {
        days.next();
        days.die_at(text, answered);
        let said = days.run();
        let when = if answered { "after" } else { "before" };
        days.has_one_job_each(&format!("killed {when} {text} was done: {said}"));
    }
    days.are_there_once();
    let said = days.run();
    assert!(said.contains("unchanged log") && said.contains("unchanged newest"), "{said}");
    days.are_there_once();
}
