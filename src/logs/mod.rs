//! What a run has told, line by line, kept below the state folder and read by whoever asks later, or at once.
//!
//! ```text
//! logs/<run>.jsonl                       all lines of a run; of a task that says too much, what it said first
//! logs/<run>/<step>@<unit>.<n>.jsonl     what such a task said last: two files in turn
//! ```
//!
//! A line is a JSON object ([`Line`]); the lines of a run are numbered from 1, over all of its files. The lines were redacted
//! before they were written. A log that cannot be written stops nobody.

mod line;
mod read;
mod words;
mod write;

use std::path::{Path, PathBuf};

pub use line::{Level, Line, What};
pub use read::{Filter, Follow, read};
pub use write::RunLog;

/// The folder of all logs.
fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("logs")
}

/// The file that has all lines of a run but the last words of those that say too much.
fn main_file(state_dir: &Path, run: &str) -> PathBuf {
    folder(state_dir).join(format!("{}.jsonl", plain(run)))
}

/// The folder of the files with those words.
fn spill_folder(state_dir: &Path, run: &str) -> PathBuf {
    folder(state_dir).join(plain(run))
}

/// A name that leads to no other folder.
fn plain(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '/' | '\\' | ':' | '\0') { '-' } else { c }).collect()
}
