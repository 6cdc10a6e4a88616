//! A run of the binary that a test listens to, stops, and waits for.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::project::Project;

/// A run under way, whose stderr is read line by line.
pub struct Running {
    child: Child,
    lines: BufReader<ChildStderr>,
    /// What it has said so far, as far as it was read.
    pub said: String,
}

impl Running {
    /// Begins it.
    pub fn start(project: &Project, arguments: &[&str]) -> Self {
        let mut command = project.haul(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("haul starts");
        let lines = BufReader::new(child.stderr.take().expect("stderr"));
        Self { child, lines, said: String::new() }
    }

    /// Reads on until a line has this text.
    pub fn says(&mut self, text: &str) {
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
    pub fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().expect("kill runs").success());
    }

    /// How it ended, and all that it said; a run that does not end fails the test.
    pub fn end(mut self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            while self.lines.read_line(&mut self.said).expect("a line") > 0 {}
            let status = self.child.wait().expect("an end");
            drop(tell.send((status.code(), self.said)));
        });
        told.recv_timeout(Duration::from_mins(1)).unwrap_or_else(|_| {
            drop(Command::new("kill").args(["-KILL", &id]).status());
            panic!("the run did not end")
        })
    }
}
