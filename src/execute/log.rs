//! What a task's program said: a file of bounded length below the state folder, begun anew by every attempt.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::model::pipeline::{Pipeline, Step};
use crate::time::UnitKey;

/// When the file is this long, it becomes the older half of the log, in the place of the one before.
const HALF: u64 = 1 << 20;

/// The log of one task; there is no file until something is said.
pub(super) struct TaskLog {
    path: PathBuf,
    open: Mutex<Option<(File, u64)>>,
}

impl TaskLog {
    /// The log of a step's task, which begins with this unit.
    pub fn new(state_dir: &Path, pipeline: &Pipeline, step: &Step, first: &UnitKey) -> Self {
        let unit: String = first.as_str().chars().map(|c| if c == ':' { '-' } else { c }).collect();
        let folder = state_dir.join("logs").join(format!("{}.{}", pipeline.name, step.name));
        Self { path: folder.join(format!("{unit}.log")), open: Mutex::default() }
    }

    /// Adds a line, which was redacted. A log that cannot be written stops nobody.
    pub fn add(&self, line: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_none() {
            let _ = fs::remove_file(self.older());
            *open = self.path.parent().and_then(|folder| fs::create_dir_all(folder).ok()).and_then(|()| self.begin());
        }
        if open.as_ref().is_some_and(|(_, length)| *length >= HALF) && fs::rename(&self.path, self.older()).is_ok() {
            *open = self.begin();
        }
        if let Some((file, length)) = open.as_mut() {
            let _ = file.write_all(format!("{line}\n").as_bytes());
            *length += line.len() as u64 + 1;
        }
    }

    fn begin(&self) -> Option<(File, u64)> {
        File::create(&self.path).ok().map(|file| (file, 0))
    }

    fn older(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }
}
