//! One place of downloaded files: what is there, by address and by content, for all steps and tasks of the process.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::content;
use super::index::{Index, Known};
use crate::error::{Error, Kind, Result};
use crate::extract::FileStore;

/// One place of downloaded files; clones are the same place.
#[derive(Clone)]
pub struct Library {
    inner: Arc<Inner>,
}

struct Inner {
    store: FileStore,
    index: Index,
    /// Files that were seen in the store since the process began.
    present: Mutex<HashSet<String>>,
    /// Addresses that need not be asked again in this process.
    fresh: Mutex<HashSet<String>>,
    /// Addresses at which nothing was found in this process.
    gone: Mutex<HashSet<String>>,
    /// One at a time asks for an address.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    slots: Mutex<HashMap<usize, Arc<Semaphore>>>,
}

impl Library {
    /// Opens the place with its index, a file of this machine.
    pub fn open(store: FileStore, index: &Path) -> Result<Self> {
        let inner = Inner {
            store,
            index: Index::open(index)?,
            present: Mutex::default(),
            fresh: Mutex::default(),
            gone: Mutex::default(),
            turns: Mutex::default(),
            slots: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where the files are.
    pub(super) fn place(&self) -> String {
        self.inner.store.address("")
    }

    /// The slots of all steps that fetch so many at once.
    pub(super) fn slots(&self, width: usize) -> Arc<Semaphore> {
        let mut slots = self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(width).or_insert_with(|| Arc::new(Semaphore::new(width))))
    }

    /// The turn of whoever asks for an address: others wait, and find what it brought.
    pub(super) fn turn(&self, url: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.inner.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds any more are over.
        if turns.len() > 1024 {
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(turns.entry(url.to_owned()).or_default())
    }

    /// What was fetched from an address and is still there.
    pub(super) async fn known(&self, url: &str) -> Result<Option<Known>> {
        let Some(known) = self.inner.index.get(url) else { return Ok(None) };
        Ok(self.has(&known.file, known.bytes).await?.then_some(known))
    }

    /// Whether an address was asked in this process.
    pub(super) fn is_fresh(&self, url: &str) -> bool {
        self.inner.fresh.lock().unwrap_or_else(PoisonError::into_inner).contains(url)
    }

    /// Remembers that an address was asked.
    pub(super) fn set_fresh(&self, url: &str) {
        self.inner.fresh.lock().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned());
    }

    /// Whether nothing was at an address when it was asked in this process.
    pub(super) fn is_gone(&self, url: &str) -> bool {
        self.inner.gone.lock().unwrap_or_else(PoisonError::into_inner).contains(url)
    }

    /// Remembers that nothing is at an address.
    pub(super) fn set_gone(&self, url: &str) {
        self.inner.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(url.to_owned());
    }

    /// Stores what came from an address, unless the same content is there already, and remembers it.
    pub(super) async fn keep(
        &self,
        url: &str,
        path: &str,
        bytes: Bytes,
        content_type: Option<&str>,
        etag: Option<String>,
        modified: Option<String>,
    ) -> Result<String> {
        let ending = content::ending(&bytes, content_type, path);
        let file = format!("{}.{ending}", hex::encode(Sha256::digest(&bytes)));
        let known = Known { file: file.clone(), bytes: bytes.len() as u64, etag, modified };
        if !self.has(&file, known.bytes).await? {
            self.inner.store.put(&file, bytes, content::content_type(&ending)).await.map_err(ours)?;
            self.inner.present.lock().unwrap_or_else(PoisonError::into_inner).insert(file.clone());
        }
        self.inner.index.add(url, known)?;
        self.set_fresh(url);
        Ok(file)
    }

    async fn has(&self, file: &str, bytes: u64) -> Result<bool> {
        if self.inner.present.lock().unwrap_or_else(PoisonError::into_inner).contains(file) {
            return Ok(true);
        }
        // A place that is not there yet has nothing.
        let found = self.inner.store.find(file).await.map_err(ours)?;
        let there = found.is_some_and(|meta| meta.size == Some(bytes));
        if there {
            self.inner.present.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_owned());
        }
        Ok(there)
    }
}

/// Where files are stored is our affair, and no fault of the row that points to one.
fn ours(error: Error) -> Error {
    let hints: Vec<String> = error.hints().iter().map(|hint| (*hint).to_owned()).collect();
    let ours = Error::new(Kind::Storage, "storing downloaded files").because(error.chain());
    hints.into_iter().fold(ours, Error::hint)
}
