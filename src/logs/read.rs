//! Reads a run's log: at once, or as it grows, also while another process writes it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::line::{Level, Line};
use super::{main_file, spill_folder};
use crate::error::{Context as _, Kind, Result};

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this step.
    pub step: Option<String>,
    /// Only of this unit of it.
    pub unit: Option<String>,
    /// Only what matters at least so much.
    pub least: Option<Level>,
}

impl Filter {
    /// The task that is written as `step` or `step/unit`.
    pub fn of_task(task: &str) -> Self {
        match task.split_once('/') {
            Some((step, unit)) => Self { step: Some(step.to_owned()), unit: Some(unit.to_owned()), least: None },
            None => Self { step: Some(task.to_owned()), ..Self::default() },
        }
    }

    /// Whether a line is wanted.
    pub fn wants(&self, line: &Line) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|it| found == Some(it));
        is(&self.step, line.step.as_deref())
            && is(&self.unit, line.unit.as_ref().map(crate::time::UnitKey::as_str))
            && self.least.is_none_or(|least| line.level >= least)
    }
}

/// The lines of a run that are there now, in their order; none where nothing was written, or it was cleaned away.
///
/// # Errors
/// A file that is there and cannot be read.
pub fn read(state_dir: &Path, run: &str, filter: &Filter) -> Result<Vec<Line>> {
    let mut follow = Follow::new(state_dir, run);
    let mut lines = follow.rest()?;
    lines.retain(|line| filter.wants(line));
    Ok(lines)
}

/// A run's log as it grows.
pub struct Follow {
    main: PathBuf,
    spills: PathBuf,
    read: BTreeMap<PathBuf, u64>,
    /// Lines that were read and not given out, by their numbers.
    waiting: BTreeMap<u64, Line>,
    /// The largest number that was seen when the files were read before: what comes before it is all there now.
    certain: u64,
    seen: u64,
}

impl Follow {
    /// From the first line of the run on.
    pub fn new(state_dir: &Path, run: &str) -> Self {
        Self {
            main: main_file(state_dir, run),
            spills: spill_folder(state_dir, run),
            read: BTreeMap::new(),
            waiting: BTreeMap::new(),
            certain: 0,
            seen: 0,
        }
    }

    /// What has been added, in its order, as far as nothing can come in between any more: a look or two behind.
    pub fn more(&mut self) -> Result<Vec<Line>> {
        self.certain = self.seen;
        self.look()?;
        let later = self.waiting.split_off(&(self.certain + 1));
        let ready = std::mem::replace(&mut self.waiting, later);
        Ok(ready.into_values().collect())
    }

    /// All that is there, for when nobody writes any more.
    pub fn rest(&mut self) -> Result<Vec<Line>> {
        self.look()?;
        Ok(std::mem::take(&mut self.waiting).into_values().collect())
    }

    /// Whether all that was read has been given out.
    pub fn is_drained(&self) -> bool {
        self.waiting.is_empty()
    }

    fn look(&mut self) -> Result<()> {
        let mut files = vec![self.main.clone()];
        if let Ok(entries) = fs::read_dir(&self.spills) {
            files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
        for file in files {
            self.grown(&file).context(Kind::Storage, || format!("reading the log {}", file.display()))?;
        }
        Ok(())
    }

    /// Reads the whole lines that a file has got since.
    fn grown(&mut self, path: &Path) -> std::io::Result<()> {
        let from = self.read.get(path).copied().unwrap_or_default();
        let mut file = match File::open(path) {
            Ok(file) => file,
            // Its run has not written yet, or it has just made room for what was said later.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() <= from {
            return Ok(());
        }
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read.insert(path.to_path_buf(), from + whole as u64);
        for text in bytes[..whole].split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
            // A line that a full disk, or the end of a process, has cut is none.
            let Ok(line) = serde_json::from_slice::<Line>(text) else { continue };
            self.seen = self.seen.max(line.n);
            self.waiting.insert(line.n, line);
        }
        Ok(())
    }
}
