//! Private folders: files with secrets that nobody else may read, gone with the task, or with the next start after a kill.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Context, Kind, Result};

/// The file within a private folder that its owner holds a lock on.
const LOCK: &str = ".owner";

/// Where private folders lie, below the state folder.
fn home(state_dir: &Path) -> PathBuf {
    state_dir.join("private")
}

/// A folder of one running program; it is removed with the value.
pub(super) struct PrivateFolder {
    path: PathBuf,
    _owner: File,
}

impl PrivateFolder {
    /// Makes a folder that only this user can look into.
    pub fn make(state_dir: &Path) -> Result<Self> {
        let home = home(state_dir);
        let doing = || format!("making a private folder in {}", home.display());
        fs::create_dir_all(state_dir).context(Kind::Storage, doing)?;
        make_dir(&home).context(Kind::Storage, doing)?;
        // Whoever sweeps waits here: a folder that is not locked yet must not look like one that was left behind.
        let gate = gate(&home).context(Kind::Storage, doing)?;
        let mut number = 0_u32;
        let path = loop {
            let path = home.join(format!("{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => break path,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error).context(Kind::Storage, doing),
            }
        };
        let owner = private_file(&path.join(LOCK)).context(Kind::Storage, doing)?;
        owner.lock().context(Kind::Storage, doing)?;
        drop(gate);
        Ok(Self { path, _owner: owner })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only this user can read.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path.join(name);
        let doing = || format!("writing the private file {}", path.display());
        private_file(&path).and_then(|mut file| file.write_all(bytes)).context(Kind::Storage, doing)?;
        Ok(path)
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next sweep.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the private folders whose processes are gone.
///
/// # Errors
/// A folder that cannot be looked into, or removed.
pub fn sweep(state_dir: &Path) -> Result<()> {
    let home = home(state_dir);
    let doing = || format!("removing private files that a killed process left in {}", home.display());
    if !home.exists() {
        return Ok(());
    }
    let _gate = gate(&home).context(Kind::Storage, doing)?;
    for entry in fs::read_dir(&home).context(Kind::Storage, doing)?.filter_map(std::result::Result::ok) {
        let path = entry.path();
        if path.is_dir() && !is_owned(&path) {
            fs::remove_dir_all(&path).context(Kind::Storage, doing)?;
        }
    }
    Ok(())
}

/// Whether a living process holds the folder.
fn is_owned(folder: &Path) -> bool {
    let Ok(owner) = File::open(folder.join(LOCK)) else { return false };
    // A lock that cannot be asked for counts as held: nothing is taken away from a program at work.
    owner.try_lock_shared().is_err_and(|error| matches!(error, TryLockError::WouldBlock | TryLockError::Error(_)))
}

fn make_dir(path: &Path) -> std::io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn gate(home: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(home.join(".gate"))?;
    file.lock()?;
    Ok(file)
}

fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_folders_that_nobody_owns_are_swept() {
        let state = tempfile::tempdir().expect("a folder");
        let owned = PrivateFolder::make(state.path()).expect("a private folder");
        let file = owned.write("config.json", b"{}").expect("a private file");
        for (path, mode) in [(owned.path(), 0o700), (&*file, 0o600)] {
            assert_eq!(fs::metadata(path).expect("it is there").permissions().mode() & 0o777, mode);
        }
        let left = home(state.path()).join("4000000-0");
        fs::create_dir(&left).expect("a folder");
        fs::write(left.join("config.json"), "{}").expect("a file");
        sweep(state.path()).expect("a sweep");
        assert!(file.exists() && !left.exists());
        drop(owned);
        assert!(!file.exists());
    }
}
