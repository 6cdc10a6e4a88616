//! The house rules that a machine can check: floors, file sizes, names, first sentences, and paths in documents.
#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// The floors of `src/`; a module may import from its own floor's column on the right, and from itself.
const FLOORS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("secret", &[]),
    ("time", &["error"]),
    ("model", &["error", "secret", "time"]),
    ("config", &["error", "secret", "time", "model", "template"]),
    ("template", &["error", "secret", "time", "model"]),
    ("connections", &["error", "secret", "time", "model", "config"]),
    ("bigquery", &["error", "secret", "time", "model"]),
    ("mail", &["error", "secret", "time", "model"]),
    ("mongo", &["error", "secret", "time", "model"]),
    ("server", &["error", "secret", "time", "model"]),
    ("extract", &["error", "secret", "time", "model", "bigquery", "mongo", "server", "warehouse"]),
    ("delivery", &["error", "secret", "time", "model", "extract"]),
    ("landing", &["error", "secret", "time", "model", "mongo"]),
    ("stage", &["error", "secret", "time", "model"]),
    ("warehouse", &["error", "secret", "time", "model", "bigquery", "server"]),
    ("state", &["error", "secret", "time", "model"]),
    ("monitor", &["error", "secret", "time", "model"]),
    ("logs", &["error", "secret", "time", "model", "monitor"]),
    ("traces", &["error", "secret", "time", "model", "monitor"]),
    ("plan", &["error", "secret", "time", "model"]),
    ("schedule", &["error", "secret", "time", "model", "plan"]),
    (
        "execute",
        &[
            "error",
            "secret",
            "time",
            "model",
            "template",
            "connections",
            "bigquery",
            "mongo",
            "server",
            "extract",
            "delivery",
            "landing",
            "mail",
            "stage",
            "warehouse",
            "state",
            "monitor",
            "logs",
            "plan",
            "schedule",
        ],
    ),
    ("retention", &["error", "secret", "time", "model", "stage", "state"]),
    (
        "doctor",
        &["error", "secret", "time", "model", "config", "connections", "schedule", "state", "execute", "retention"],
    ),
    ("notify", &["error", "secret", "time", "model", "connections", "mail", "extract", "state", "execute"]),
    (
        "serve",
        &[
            "error",
            "secret",
            "time",
            "model",
            "config",
            "connections",
            "state",
            "monitor",
            "plan",
            "schedule",
            "execute",
            "notify",
            "retention",
        ],
    ),
    (
        "api",
        &[
            "error",
            "secret",
            "time",
            "model",
            "connections",
            "warehouse",
            "state",
            "monitor",
            "logs",
            "plan",
            "schedule",
            "execute",
            "traces",
            "serve",
        ],
    ),
    (
        "replay",
        &[
            "error",
            "secret",
            "time",
            "model",
            "config",
            "connections",
            "extract",
            "execute",
            "warehouse",
            "monitor",
            "plan",
        ],
    ),
];

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("a folder of the project").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    assert!(found.len() > 5, "{folder} has sources");
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path).display().to_string()
}

fn assert_none(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

#[test]
fn every_file_opens_with_one_sentence_and_stays_small() {
    let mut faults = Vec::new();
    for folder in ["src", "tests", "benches"] {
        if !Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).exists() {
            continue;
        }
        for (path, text) in sources_of(folder) {
            if !text.starts_with("//! ") {
                faults.push(format!("{} does not open with `//! `", relative(&path)));
            }
            let lines = text.lines().count();
            if folder == "src" && lines > 600 {
                faults.push(format!("{} has {lines} lines; 600 are the most", relative(&path)));
            }
        }
    }
    assert_none("first sentences and sizes", &faults);
}

fn sources_of(folder: &str) -> Vec<(PathBuf, String)> {
    if folder == "benches" {
        return fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
            .expect("benches")
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let text = fs::read_to_string(&path).ok()?;
                path.extension().is_some_and(|ending| ending == "rs").then_some((path, text))
            })
            .collect();
    }
    sources(folder)
}

#[test]
fn no_file_is_named_after_nothing() {
    let faults: Vec<String> = sources("src")
        .iter()
        .filter(|(path, _)| {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            ["utils", "util", "common", "helpers", "helper", "types", "misc", "imp"].contains(&stem.as_str())
        })
        .map(|(path, _)| relative(path))
        .collect();
    assert_none("forbidden names", &faults);
}

#[test]
fn imports_go_downhill_only() {
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let place = relative(&path);
        let room = place.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default().to_owned();
        let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == room) else { continue };
        for (number, line) in text.lines().enumerate() {
            for import in line.split("crate::").skip(1) {
                let target: String = import.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_room = FLOORS.iter().any(|(name, _)| *name == target) || target == "cli" || target == "demo";
                if is_room && target != room && !allowed.contains(&target.as_str()) {
                    faults.push(format!("{place}:{} imports {target}", number + 1));
                }
            }
        }
    }
    assert_none("floors", &faults);
}

#[test]
fn only_the_rooms_for_it_read_the_environment_the_clock_and_print() {
    let mut faults = Vec::new();
    for (path, text) in sources("src") {
        let place = relative(&path);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let mut forbid = |what: &str, rooms: &[&str]| {
            let here = rooms.iter().any(|room| place.starts_with(&format!("src/{room}")));
            if code.contains(what) && !here {
                faults.push(format!("{place} has `{what}`"));
            }
        };
        forbid("std::env::var", &["config", "connections"]);
        forbid("env::vars", &["config", "connections"]);
        forbid("Utc::now()", &["time"]);
        forbid("println!", &["cli"]);
        forbid("print!(", &["cli"]);
    }
    assert_none("environment, clock, printing", &faults);
}

#[test]
fn nothing_is_left_behind() {
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["todo", "!("].concat(), ["#[ign", "ore"].concat()];
    let mut faults = Vec::new();
    for folder in ["src", "tests"] {
        for (path, text) in sources(folder) {
            for word in &words {
                if text.contains(word.as_str()) {
                    faults.push(format!("{} has {word}", relative(&path)));
                }
            }
        }
    }
    assert_none("left behind", &faults);
}

#[test]
fn every_path_that_the_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut faults = Vec::new();
    let mut seen = 0;
    for document in ["ARCHITECTURE.md", "README.md"] {
        let text = fs::read_to_string(root.join(document)).expect("the document");
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_path =
                ["src/", "tests/", "schemas/", "hooks/", "pipelines/", "sql/", "scripts/", "benches/", "migrations/"]
                    .iter()
                    .any(|folder| quoted.starts_with(folder));
            if is_path && !quoted.contains(['*', ' ', '<', '{']) {
                seen += 1;
                if !root.join(quoted).exists() {
                    faults.push(format!("{document} names {quoted}"));
                }
            }
        }
    }
    assert!(seen > 10, "the documents name paths");
    assert_none("paths", &faults);
}
