//! Steps that write no table: waits for something outside, and commands.

mod commands;
mod faults;
mod waits;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Stdio};

use serde_json::Value;

use crate::support::project::{Project, told};
use crate::support::scripted::Scripted;

const DATE: &str = "2024-05-04";
const WINDOW: &str = "[window]\nlookback = 2\n";

/// An extract of the days of the window, under a name.
fn extract(name: &str, more: &str) -> String {
    format!(
        "[[extract]]\nname = \"{name}\"\nconnection = \"api\"\nrequest = {{ path = \"/rows\", params = {{ key = \"{{{{ ds }}}}\" }} }}\n\
         paginate = {{ by = \"offset\", limit = 4, total = \"$.total\" }}\nrecords = \"$.rows[*]\"\n{more}\n"
    )
}

/// An API with two days, and a project with this pipeline.
fn project(steps: &str) -> (Scripted, Project) {
    let api = Scripted::start();
    api.put_day("2024-05-02", 3);
    api.put_day("2024-05-03", 2);
    let project = Project::with_api(&api.url, "");
    project.write("pipelines/p.toml", &format!("{WINDOW}{steps}"));
    (api, project)
}

/// Runs the pipeline for the date, with the exit code that is expected; returns what it said.
fn run(project: &Project, code: i32) -> String {
    let output = project.output(&["run", "p", "--date", DATE, "-v"]);
    assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    told(&output)
}

/// The rows of a table, none where it is not there.
fn count(project: &Project, table: &str) -> Value {
    project.query(&format!("select count(*) as rows from {table}"))[0]["rows"].clone()
}

/// A run under way, whose stderr is read line by line.
struct Running {
    child: Child,
    lines: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    fn start(project: &Project) -> Self {
        let mut command = project.haul(&["run", "p", "--date", DATE, "-v"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("haul starts");
        let lines = BufReader::new(child.stderr.take().expect("stderr"));
        Self { child, lines, said: String::new() }
    }

    /// Reads on until a line has this text.
    fn says(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("a line");
            self.said.push_str(&line);
            if line.contains(text) {
                return;
            }
            assert!(read > 0, "`{text}` was never said:\n{}", self.said);
        }
    }

    /// Ctrl-C.
    fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &id]).status().expect("kill").success());
    }

    /// The exit code, and all that was said.
    fn end(mut self) -> (Option<i32>, String) {
        std::io::Read::read_to_string(&mut self.lines, &mut self.said).expect("stderr");
        (self.child.wait().expect("it ends").code(), self.said)
    }
}
