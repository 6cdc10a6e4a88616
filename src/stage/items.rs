//! The items of a fan-out: a snapshot beside the journal, so that a resumed pull asks for the same things in the same order.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::journal::forget;
use crate::error::{Context, Kind, Result};

/// The file beside the journal.
const NAME: &str = "items.jsonl";

/// What stands before the count and the digest, on the last line.
const SEAL: &str = "#";

/// Writes items, one JSON text a line.
pub struct ItemsWriter {
    file: BufWriter<File>,
    path: PathBuf,
    digest: Xxh3,
    count: u64,
}

impl ItemsWriter {
    /// Begins a snapshot in the folder of a stage; nothing is there until it is sealed.
    pub fn create(stage: &Path) -> Result<Self> {
        let path = stage.join(NAME);
        let file = File::create(path.with_extension("new")).context(Kind::Storage, || doing("creating", &path))?;
        Ok(Self { file: BufWriter::new(file), path, digest: Xxh3::new(), count: 0 })
    }

    /// Adds an item: JSON on one line.
    pub fn put(&mut self, item: &str) -> Result<()> {
        self.count += 1;
        self.digest.update(item.as_bytes());
        let written = self.file.write_all(item.as_bytes()).and_then(|()| self.file.write_all(b"\n"));
        written.context(Kind::Storage, || doing("writing", &self.path))
    }

    /// Ends the snapshot; after a kill it is there as a whole or not at all.
    pub fn seal(mut self) -> Result<Items> {
        let end = format!("{SEAL}{} {:016x}\n", self.count, self.digest.digest());
        let path = self.path;
        let written = self.file.write_all(end.as_bytes()).and_then(|()| self.file.flush());
        written
            .and_then(|()| std::fs::rename(path.with_extension("new"), &path))
            .context(Kind::Storage, || doing("writing", &path))?;
        Ok(Items { path, count: self.count })
    }
}

/// A snapshot of items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Items {
    path: PathBuf,
    /// How many there are.
    pub count: u64,
}

impl Items {
    /// The snapshot of a stage that is not open; none where there is none, or where a loss of power has damaged it: what
    /// the journal knows of such items is forgotten then.
    pub fn find(stage: &Path) -> Result<Option<Self>> {
        let path = stage.join(NAME);
        if !path.exists() {
            forget(stage)?;
            return Ok(None);
        }
        let (mut count, mut digest, mut sealed) = (0, Xxh3::new(), None);
        for line in open(&path)?.lines() {
            let Ok(line) = line else { break };
            match line.strip_prefix(SEAL) {
                Some(seal) => sealed = Some(seal.to_owned()),
                None => {
                    digest.update(line.as_bytes());
                    count += 1;
                }
            }
        }
        if sealed.as_deref() == Some(&format!("{count} {:016x}", digest.digest())) {
            return Ok(Some(Self { path, count }));
        }
        forget(stage)?;
        Ok(None)
    }

    /// Whether the snapshot is still there: a stage of another pull is thrown away with all that it had.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// The items in their order; read as they are asked for.
    pub fn lines(&self) -> Result<impl Iterator<Item = Result<String>> + Send + use<>> {
        let path = self.path.clone();
        let lines = open(&path)?.lines().take(usize::try_from(self.count).unwrap_or(usize::MAX));
        Ok(lines.map(move |line| line.context(Kind::Storage, || doing("reading", &path))))
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    File::open(path).map(BufReader::new).context(Kind::Storage, || doing("opening", path))
}

fn doing(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}
