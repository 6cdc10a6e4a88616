//! Where stages lie: one folder for each unit, found again after a crash or a failure, kept for a held unit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Context, Kind, Result};
use crate::model::pipeline::{Pipeline, Step};
use crate::stage;
use crate::time::{Instant, UnitKey};

/// Pages older than this are not mixed with fresh ones: the source may have moved in between.
const RESUME_WITHIN: Duration = Duration::from_hours(12);

/// The folders of one task's stages.
pub(super) struct Stages {
    state_dir: PathBuf,
    folder: PathBuf,
}

impl Stages {
    /// The folders of a step's task, which begins with this unit.
    pub fn of(state_dir: &Path, pipeline: &Pipeline, step: &Step, first: &UnitKey, units: usize) -> Self {
        let plain: String = first.as_str().chars().map(|c| if c == ':' { '-' } else { c }).collect();
        let name = if units > 1 { format!("{plain}+{units}") } else { plain };
        let folder = Path::new("stage").join(format!("{}.{}", pipeline.name, step.name)).join(name);
        Self { state_dir: state_dir.to_owned(), folder }
    }

    /// The folder for the pages of this pull: that of an unfinished earlier one while its pages are fresh, else a new one.
    pub fn current(&self, pull: u64, now: Instant) -> Result<PathBuf> {
        let folder = self.state_dir.join(&self.folder);
        let mut kept = None;
        if let Ok(entries) = std::fs::read_dir(&folder) {
            for entry in entries.filter_map(Result::ok) {
                let path = entry.path();
                if !entry.file_name().to_string_lossy().starts_with("pull-") {
                    continue;
                }
                if kept.is_none() && is_fresh(&path, now) {
                    kept = Some(path);
                } else {
                    stage::discard(&path)?;
                }
            }
        }
        let path = kept.unwrap_or_else(|| folder.join(format!("pull-{pull}")));
        std::fs::create_dir_all(&path).context(Kind::Storage, || format!("creating {}", path.display()))?;
        Ok(path)
    }

    /// The folder of a pull of which some requests failed, however long ago.
    pub fn incomplete(&self, pull: u64) -> Result<PathBuf> {
        let folder = self.state_dir.join(&self.folder);
        let named = |prefix: &str| {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
            entries
                .map(|entry| entry.path())
                .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        };
        if let Some(path) = named("pull-") {
            return Ok(path);
        }
        let path = folder.join(format!("pull-{pull}"));
        match named("retry-") {
            Some(aside) => {
                std::fs::rename(&aside, &path).context(Kind::Storage, || format!("opening {}", aside.display()))?;
            }
            None => {
                std::fs::create_dir_all(&path).context(Kind::Storage, || format!("creating {}", path.display()))?;
            }
        }
        Ok(path)
    }

    /// Sets a stage aside for somebody's decision; returns its place relative to the state folder.
    pub fn hold(&self, stage: &Path, pull: u64) -> Result<String> {
        self.aside(stage, &format!("held-{pull}"))
    }

    /// Sets a stage aside whose rows are loaded and of which some requests failed.
    pub fn set_aside(&self, stage: &Path, pull: u64) -> Result<String> {
        self.aside(stage, &format!("retry-{pull}"))
    }

    fn aside(&self, stage: &Path, name: &str) -> Result<String> {
        let relative = self.folder.join(name);
        let target = self.state_dir.join(&relative);
        stage::discard(&target)?;
        stage::keep(stage)?;
        std::fs::rename(stage, &target).context(Kind::Storage, || format!("keeping {}", target.display()))?;
        Ok(relative.to_string_lossy().into_owned())
    }

    /// Removes a stage whose rows are in the warehouse, and its empty folder.
    pub fn done(&self, stage: &Path) -> Result<()> {
        stage::discard(stage)?;
        self.leave();
        Ok(())
    }

    /// Removes the stages that earlier pulls set aside: a later pull has been judged, and nobody decides on them any more.
    pub fn sweep(&self, kept: Option<&str>) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(self.state_dir.join(&self.folder)) else { return Ok(()) };
        let kept = kept.map(|place| self.state_dir.join(place));
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let aside = ["held-", "retry-"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
            if aside && kept.as_ref() != Some(&entry.path()) {
                stage::discard(&entry.path())?;
            }
        }
        self.leave();
        Ok(())
    }

    /// Removes the unit's folder once it is empty.
    fn leave(&self) {
        // Fails, as it should, while another stage of the unit is there.
        let _ = std::fs::remove_dir(self.state_dir.join(&self.folder));
    }
}

/// Whether a stage was written to recently enough to be gone on with.
fn is_fresh(stage: &Path, now: Instant) -> bool {
    let Ok(modified) = stage.join("journal.jsonl").metadata().and_then(|metadata| metadata.modified()) else {
        return false;
    };
    let modified = Instant::from(modified);
    // A clock that was set back, or stands still, makes no page old.
    now.signed_duration_since(modified).to_std().map_or(true, |age| age < RESUME_WITHIN)
}
