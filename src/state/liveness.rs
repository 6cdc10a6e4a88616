//! Whether the process of a run still lives: each run holds a lock on a file of its own, which ends with the process.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Context, Kind, Result};

/// The locks of this process's runs.
pub(super) struct Liveness {
    folder: PathBuf,
    held: Mutex<HashMap<String, File>>,
}

impl Liveness {
    /// Locks lie in `running/` of the state folder.
    pub fn new(dir: &Path) -> Self {
        Self { folder: dir.join("running"), held: Mutex::default() }
    }

    /// Holds the run's lock until it is released or the process ends, however it ends.
    pub fn hold(&self, run: &str) -> Result<()> {
        let path = self.folder.join(run);
        let file = fs::create_dir_all(&self.folder)
            .and_then(|()| OpenOptions::new().create(true).write(true).truncate(false).open(&path))
            .context(Kind::Storage, || format!("making {}", path.display()))?;
        file.try_lock().context(Kind::Storage, || format!("locking {}", path.display()))?;
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(run.to_owned(), file);
        Ok(())
    }

    /// Lets the run's lock go.
    pub fn release(&self, run: &str) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
        if held.is_some() {
            self.forget(run);
        }
    }

    /// Whether a process, this one or another, holds the run's lock.
    pub fn lives(&self, run: &str) -> bool {
        if self.held.lock().unwrap_or_else(PoisonError::into_inner).contains_key(run) {
            return true;
        }
        let Ok(file) = File::open(self.folder.join(run)) else { return false };
        // A lock that cannot be asked for (some network file systems) counts as held: a living run is never ended.
        file.try_lock_shared().is_err_and(|error| matches!(error, TryLockError::WouldBlock | TryLockError::Error(_)))
    }

    /// Removes the file of a run that has ended.
    pub fn forget(&self, run: &str) {
        // A file that stays behind locks nothing; the next look at it finds it free.
        drop(fs::remove_file(self.folder.join(run)));
    }
}
