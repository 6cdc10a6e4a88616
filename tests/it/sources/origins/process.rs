//! A program that prints the day that its environment names, and asks for a password in its private file.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::{Event, Origin, passes};
use crate::support::project::Project;

const SECRET: &str = "knock-three-times";

/// It tells the secret on stderr, as careless programs do.
const PROGRAM: &str = r#"#!/bin/sh
cat "$HAUL_CONNECTION" >&2
grep -q '"door":"open"' "$HAUL_CONNECTION" || { echo "the door is closed" >&2; exit 4; }
[ ! -e "days/$HAUL_DS.jsonl" ] || cat "days/$HAUL_DS.jsonl"
"#;

struct Program;

impl Origin for Program {
    fn connection(&self) -> String {
        format!("[origin]\ntype = \"process\"\ndoor = \"open\"\nlogin = {{ password = \"{SECRET}\" }}\n")
    }

    fn step(&self) -> String {
        "type = \"process\"\nconnection = \"origin\"\ncommand = [\"./print-day\"]".to_owned()
    }

    fn furnish(&self, project: &Project) {
        project.write("print-day", PROGRAM);
        let path = project.path().join("print-day");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
    }

    fn put(&self, project: &Project, day: &str, events: &[Event]) {
        let lines: String = events.iter().map(|event| event.json() + "\n").collect();
        project.write(&format!("days/{day}.jsonl"), &lines);
    }

    fn secret(&self) -> Option<&str> {
        Some(SECRET)
    }

    fn gone(&self) -> Option<String> {
        None
    }
}

#[test]
fn lines_of_a_program_pass() {
    passes(&Program);
}
