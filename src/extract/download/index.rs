//! What was fetched from where: a line for each address, kept in the state folder, so that no run fetches it again.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Context, Kind, Result};

/// What is known of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The name of the stored file.
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
    /// The `ETag` that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The `Last-Modified` that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// The digest of the address, which may have a signature or a key in it.
    url: String,
    #[serde(flatten)]
    known: Known,
}

/// The addresses whose files are stored in one place.
pub(super) struct Index {
    entries: Mutex<(HashMap<String, Known>, File)>,
}

impl Index {
    /// Reads the index; a line that a dying process left half written is no line.
    pub fn open(path: &Path) -> Result<Self> {
        let doing = || format!("reading {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).context(Kind::Storage, doing)?;
        }
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).context(Kind::Storage, doing),
        };
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let entries = lines.map(|line| (line.url, line.known)).collect();
        let mut file = OpenOptions::new().create(true).append(true).open(path).context(Kind::Storage, doing)?;
        if text.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n").context(Kind::Storage, doing)?;
        }
        Ok(Self { entries: Mutex::new((entries, file)) })
    }

    /// What is known of an address.
    pub fn get(&self, url: &str) -> Option<Known> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).0.get(&digest(url)).cloned()
    }

    /// Remembers an address; its file is stored already.
    pub fn add(&self, url: &str, known: Known) -> Result<()> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let url = digest(url);
        if entries.0.get(&url) == Some(&known) {
            return Ok(());
        }
        let doing = || "writing the index of fetched files".to_owned();
        let mut line =
            serde_json::to_vec(&Line { url: url.clone(), known: known.clone() }).context(Kind::Internal, doing)?;
        line.push(b'\n');
        // One write, so that lines of several processes do not mix.
        entries.1.write_all(&line).context(Kind::Storage, doing)?;
        entries.0.insert(url, known);
        Ok(())
    }
}

fn digest(url: &str) -> String {
    hex::encode(Sha256::digest(url.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_outlives_its_process_and_a_torn_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/pictures.jsonl");
        let known = |file: &str| Known { file: file.to_owned(), bytes: 3, etag: None, modified: None };
        let index = Index::open(&path).expect("an index");
        index.add("http://h/a?key=secret", known("a.png")).expect("a line");
        index.add("http://h/b", known("b.png")).expect("a line");
        index.add("http://h/b", known("c.png")).expect("a line");
        let mut text = fs::read_to_string(&path).expect("the index");
        assert!(!text.contains("secret") && text.lines().count() == 3, "{text}");
        text.push_str("{\"url\":\"torn");
        fs::write(&path, &text).expect("a torn line");
        let again = Index::open(&path).expect("an index");
        assert_eq!(again.get("http://h/a?key=secret"), Some(known("a.png")));
        assert_eq!(again.get("http://h/b"), Some(known("c.png")));
        again.add("http://h/d", known("d.png")).expect("a line");
        assert_eq!(Index::open(&path).expect("an index").get("http://h/d"), Some(known("d.png")));
    }
}
