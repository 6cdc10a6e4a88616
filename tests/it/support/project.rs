//! A project in a folder of its own, and the binary at work in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A project in a temporary folder, which goes away with it.
pub struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// An empty project: no more than a folder with `pipelines/`.
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("pipelines")).expect("pipelines");
        Self { folder }
    }

    /// A project with a DuckDB warehouse and an HTTP connection `api` that leads to `url`; `more` is TOML that belongs
    /// to the table of `api`.
    pub fn with_api(url: &str, more: &str) -> Self {
        let project = Self::empty();
        let warehouse = "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n";
        project.write("haul.toml", "warehouse = \"warehouse\"\n");
        project.write("connections.toml", &format!("{warehouse}\n[api]\ntype = \"http\"\nurl = \"{url}\"\n{more}\n"));
        project
    }

    /// The project's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the project, and the folders that it is in.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("a file");
    }

    /// The binary in the project's folder, without the environment's settings of haul.
    pub fn haul(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
        let ours = |name: &String| ["HAUL_", "AIRFLOW_", "OTEL_"].iter().any(|prefix| name.starts_with(prefix));
        for name in std::env::vars().map(|(name, _)| name).filter(ours) {
            command.env_remove(name);
        }
        command.current_dir(self.path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// What the binary printed, and how it ended.
    pub fn output(&self, arguments: &[&str]) -> Output {
        self.haul(arguments).output().expect("haul starts")
    }

    /// The binary's stdout after it ended well.
    pub fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What the binary prints as JSON after it ended well.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let with_json: Vec<&str> = arguments.iter().copied().chain(["--output", "json"]).collect();
        serde_json::from_str(&self.stdout(&with_json)).expect("JSON")
    }

    /// The rows of a query, as a list of objects.
    pub fn query(&self, sql: &str) -> Value {
        self.json(&["query", sql])
    }
}

/// Both streams of an ended process, for the message of a failed test.
pub fn told(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{err}", output.status)
}
