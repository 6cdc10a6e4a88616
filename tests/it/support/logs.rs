//! What tasks have told, read as a user reads it.

use serde_json::Value;

use super::project::Project;

/// The lines of a run's log, or of the last run; `task` is `STEP` or `STEP/UNIT`.
pub fn lines(project: &Project, run: Option<&str>, task: Option<&str>) -> Vec<Value> {
    let mut arguments = vec!["logs"];
    arguments.extend(run);
    if let Some(task) = task {
        arguments.extend(["--task", task]);
    }
    arguments.extend(["--output", "json"]);
    parse(&project.stdout(&arguments))
}

/// JSON Lines.
pub fn parse(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// What the programs of a task have said in the last run, line by line.
pub fn said(project: &Project, task: &str) -> String {
    let lines = lines(project, None, Some(task));
    let said = lines.iter().filter(|line| line["what"] == "said");
    said.map(|line| format!("{}\n", line["text"].as_str().expect("a text"))).collect()
}
