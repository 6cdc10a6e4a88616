//! What a project's files look like from outside: enough to tell that one of them has changed, without reading any.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rayon::prelude::*;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::lock;
use crate::error::{Error, Kind, Result};

/// The files of a project from outside.
pub struct Print {
    /// Their names, lengths, times and numbers; equal means that none has changed.
    pub digest: u128,
    /// When the newest of them was written.
    pub newest: SystemTime,
}

impl Print {
    /// Looks at all that a project is made of; what is not there counts too, as that.
    ///
    /// # Errors
    /// A folder or a file that cannot be looked at.
    pub fn of(root: &Path) -> Result<Self> {
        let mut paths: Vec<PathBuf> =
            ["haul.toml", "connections.toml", lock::FILE, ".haul/connections.enc"].map(PathBuf::from).to_vec();
        for folder in ["pipelines", "hooks", "sql"] {
            descend(root, Path::new(folder), &mut paths)?;
        }
        // A project may have thousands of them.
        let files: Vec<Result<Option<Metadata>>> = paths.par_iter().map(|path| look_at(&root.join(path))).collect();
        let (mut digest, mut newest) = (Xxh3::new(), SystemTime::UNIX_EPOCH);
        for (path, file) in paths.iter().zip(files) {
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update(&[0]);
            let Some(file) = file? else { continue };
            digest.update(&numbers(&file));
            newest = newest.max(file.modified().unwrap_or(SystemTime::UNIX_EPOCH));
        }
        Ok(Self { digest: digest.digest128(), newest })
    }
}

/// What tells one state of a single file from another; zero where it cannot be looked at.
pub fn of_file(path: &Path) -> u128 {
    look_at(path).ok().flatten().map_or(0, |file| xxh3_128(&numbers(&file)))
}

/// All files below a folder, in the order of their names; hidden ones are no part of a project.
fn descend(root: &Path, folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let failed =
        |error| Error::new(Kind::Storage, format!("looking into {}", root.join(folder).display())).because(error);
    let entries = match std::fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            found.push((name, entry.file_type().map_err(failed)?));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    paths.reserve(found.len());
    for (name, kind) in found {
        let path = folder.join(name);
        if kind.is_dir() || kind.is_symlink() && root.join(&path).is_dir() {
            descend(root, &path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

fn look_at(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(Kind::Storage, format!("looking at {}", path.display())).because(error)),
    }
}

/// Length, number, and the times of the last change of the content and of the file itself.
fn numbers(file: &Metadata) -> Vec<u8> {
    let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
    let numbers = [file.size().to_le_bytes(), file.ino().to_le_bytes()].into_iter();
    numbers.chain(times.map(i64::to_le_bytes)).flatten().collect()
}
