//! Answers that are kept with what tells them apart, so that an unchanged one costs a `304 Not Modified`.
//!
//! A file below `.haul/cache/` holds one answer: a line of JSON, then the body in zstd. Its name is a digest of the request
//! and of who asked; nothing of a secret can be read off it.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, LINK};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Context, Kind, Result};
use crate::model::hook::Request;
use crate::time::Instant;

/// A connection keeps no more than this.
const LARGEST_CACHE: u64 = 512 << 20;

/// An answer that is larger is not kept.
const LARGEST_KEPT: usize = 64 << 20;

/// The answers that are kept of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The folder.
    pub dir: PathBuf,
    /// Further headers of an answer that are needed to read it.
    pub headers: Vec<String>,
}

/// What is written before the body.
#[derive(Serialize, Deserialize)]
struct Line {
    checksum: u64,
    length: u64,
    headers: Vec<(String, String)>,
}

/// An answer that was kept.
pub(super) struct Kept {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Cache {
    /// The name of the answer to a request; `owner` is a digest of who asks.
    pub(super) fn name(request: &Request, owner: &str) -> String {
        let mut digest = Sha256::new();
        digest.update(format!("1 {owner} {request:?}"));
        hex::encode(&digest.finalize()[..16])
    }

    /// The kept answer of this name; none where it is damaged or gone.
    pub(super) fn load(&self, name: &str) -> Option<Kept> {
        let path = self.dir.join(name);
        let kept = read(&path);
        if kept.is_none() {
            let _ = fs::remove_file(&path);
        }
        kept
    }

    /// Marks an answer as used: those that are not go first.
    pub(super) fn touch(&self, name: &str, now: Instant) {
        let now = fs::FileTimes::new().set_modified(now.into());
        let _ = fs::File::options().append(true).open(self.dir.join(name)).and_then(|file| file.set_times(now));
    }

    /// Keeps an answer, if it has what tells it apart from a later one.
    pub(super) fn keep(&self, name: &str, headers: &HeaderMap, body: &Bytes) -> Result<()> {
        if !(headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED)) || body.len() > LARGEST_KEPT {
            return Ok(());
        }
        let doing = || format!("keeping an answer in {}", self.dir.display());
        let wanted = [ETAG, LAST_MODIFIED, CONTENT_TYPE, LINK];
        let wanted = wanted.iter().map(HeaderName::as_str).chain(self.headers.iter().map(String::as_str));
        let told = wanted.flat_map(|name| {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.map(|value| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
        });
        let line = Line { checksum: xxh3_64(body), length: body.len() as u64, headers: told.collect() };
        let mut text = serde_json::to_vec(&line).context(Kind::Internal, doing)?;
        text.push(b'\n');
        text.extend(zstd::bulk::compress(body, 1).context(Kind::Storage, doing)?);
        fs::create_dir_all(&self.dir).context(Kind::Storage, doing)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).context(Kind::Storage, doing)?;
        file.write_all(&text).context(Kind::Storage, doing)?;
        // Whole or not at all, whoever else reads it now.
        file.persist(self.dir.join(name)).context(Kind::Storage, doing)?;
        Ok(())
    }

    /// Takes the answers away that were not used for the longest time, until the others fit.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(super) fn evict(&self) -> Result<()> {
        let doing = || format!("looking through {}", self.dir.display());
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.dir).context(Kind::Storage, doing)?.flatten() {
            if let Ok(metadata) = entry.metadata() {
                files.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), entry.path()));
            }
        }
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        if total <= LARGEST_CACHE {
            return Ok(());
        }
        files.sort();
        for (_, length, path) in files {
            if total <= LARGEST_CACHE / 10 * 9 {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= length;
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Option<Kept> {
    let text = fs::read(path).ok()?;
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let line: Line = serde_json::from_slice(&text[..end]).ok()?;
    let length = usize::try_from(line.length).ok().filter(|length| *length <= LARGEST_KEPT)?;
    let mut body = Vec::with_capacity(length);
    zstd::stream::Decoder::new(&text[end + 1..]).ok()?.take(line.length + 1).read_to_end(&mut body).ok()?;
    if xxh3_64(&body) != line.checksum {
        return None;
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &line.headers {
        headers.append(name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?);
    }
    Some(Kept { headers, body: body.into() })
}
