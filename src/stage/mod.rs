//! The stage: pages on disk between the source and the warehouse, and the journal that makes a pull resumable.
//!
//! A stage is a folder: `journal.jsonl` (a line for each durable page), `segments/*.ndjson.zst` (a zstd frame for each
//! page, concatenated) and, once sealed, `manifest.json`. A page is durable against SIGKILL when its line is written.
//! Nothing waits for the disk: what a power loss takes is found by the checksums when the stage is opened again, and
//! asked for again. Only a stage that is [`keep`]-ed for a decision goes onto the disk as a whole.

mod items;
mod journal;
mod manifest;
mod rows;
mod scan;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use items::{Items, ItemsWriter};
pub use manifest::{Manifest, Missing};
pub use rows::Part;

use crate::error::{Context, Error, Kind, Result};
use crate::model::fanout::{BatchEntry, FailedRequest};
use crate::model::name::TableName;
use crate::model::page::{PageEntry, Progress};
use crate::model::pipeline::TimeColumn;
use crate::model::schema::SourceColumn;
use crate::model::shape::Shape;
use crate::time::{Tz, Unit};

/// What decides the content of a stage.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The table that the rows are for.
    pub table: TableName,
    /// The units; none for a table without a window.
    pub units: Vec<Unit>,
    /// Whether rows are divided into the units by their own time.
    pub split: bool,
    /// Where a row has its time.
    pub time: Option<TimeColumn>,
    /// The zone of times without an offset.
    pub tz: Tz,
    /// The number of the pull.
    pub pull: u64,
    /// All that decides which rows come; another text makes another stage.
    pub request: String,
    /// A segment is closed at this many bytes before compression.
    pub target_bytes: u64,
}

/// A stage that pages are put into; clones are the same stage.
#[derive(Clone)]
pub struct Stage {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    spec: Spec,
    rule: rows::Rule,
    state: Mutex<journal::Journal>,
    /// Those that nobody uses at the moment: each has tables of its own to fill, and is worth being used again.
    presses: Mutex<Vec<rows::Press>>,
}

impl Shared {
    /// Lends a press.
    fn pressed<T>(&self, work: impl FnOnce(&mut rows::Press) -> T) -> Result<T> {
        let presses = || self.presses.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = presses().pop();
        let mut press = match idle {
            Some(press) => press,
            None => rows::Press::new()?,
        };
        let done = work(&mut press);
        presses().push(press);
        Ok(done)
    }
}

impl Stage {
    /// Opens a stage: goes on with the pages that are durable there, if they are of the same pull, else begins anew.
    pub fn open(dir: &Path, spec: Spec) -> Result<Self> {
        let rule = rows::Rule::new(&spec);
        let state = journal::Journal::open(dir, &spec)?;
        // A seal over pages that are no longer all there is none: the missing ones are asked for again.
        if !matches!(read_if_sealed(dir), Ok(Some(manifest)) if state.agrees(&manifest)) {
            unseal(dir)?;
        }
        let (state, presses) = (Mutex::new(state), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { dir: dir.to_owned(), spec, rule, state, presses }) })
    }

    /// The pages that are durable.
    pub fn progress(&self) -> Progress {
        self.lock().progress.clone()
    }

    /// Puts a page's rows, given as ranges of its body, into the stage; durable against SIGKILL when it returns.
    ///
    /// May be called from several threads at once.
    pub fn append(&self, page: &PageEntry, body: &[u8], rows: &[Range<usize>]) -> Result<()> {
        let staged = self.shared.pressed(|press| self.shared.rule.page(page, body, rows, press))??;
        self.lock().write(manifest::Of::Page(page.clone()), staged)
    }

    /// Puts the answers of many requests into the stage by one write, and says of each request how it stands after it.
    ///
    /// # Errors
    /// Rows that cannot be taken, with the place of their answer among `parts`: nothing is written then. A disk that
    /// refuses has the place behind the last.
    pub fn append_batch(&self, entry: &BatchEntry, parts: &[Part<'_>]) -> Result<(), (usize, Error)> {
        let staged = self.shared.pressed(|press| self.shared.rule.batch(parts, press));
        let staged = staged.map_err(|error| (parts.len(), error))??;
        self.lock().write(manifest::Of::Batch(entry.clone()), staged).map_err(|error| (parts.len(), error))
    }

    /// Says which columns the source declares; the manifest tells them.
    pub fn declare(&self, columns: Vec<SourceColumn>) {
        self.lock().columns = columns;
    }

    /// Says which members identify a row; the manifest tells them.
    pub fn identify(&self, keys: Vec<String>) {
        self.lock().keys = keys;
    }

    /// Says where the source wants to go on; the manifest tells it.
    pub fn bookmark(&self, json: &str) {
        self.lock().bookmark = Some(json.to_owned());
    }

    /// Says which shape the rows had when they were staged before; the manifest tells it instead of what they still show.
    ///
    /// A number that a float would change is a text in a staged row: only the shape knows that it is a number.
    pub fn adopt(&self, shape: Shape) {
        self.lock().known = Some(shape);
    }

    /// Ends the stage: everything is on disk, and the manifest says what there is.
    pub fn seal(&self) -> Result<Manifest> {
        self.seal_without(None)
    }

    /// The same for a stage that lacks the rows of some requests, which the manifest says.
    pub fn seal_without(&self, missing: Option<Missing>) -> Result<Manifest> {
        let mut state = self.lock();
        if let Some(manifest) = read_if_sealed(&self.shared.dir)? {
            return Ok(manifest);
        }
        let manifest = Manifest { missing, ..state.seal(&self.shared.spec) };
        journal::write_whole(
            &self.shared.dir,
            "manifest.json",
            &serde_json::to_vec(&manifest).context(Kind::Internal, || "writing the manifest".to_owned())?,
        )?;
        read(&self.shared.dir)
    }

    /// The manifest of a stage that is already sealed.
    pub fn sealed(&self) -> Option<Manifest> {
        let _state = self.lock();
        read_if_sealed(&self.shared.dir).ok().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, journal::Journal> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The requests of a fan-out that failed for good, in the order of their numbers.
pub fn failed(dir: &Path) -> Result<Vec<FailedRequest>> {
    journal::failed(dir)
}

/// What stands in front of the rows of a unit where a stage has rows of several.
pub fn unit_prefix(unit: &Unit) -> String {
    rows::prefix(unit)
}

/// Reads the manifest of a sealed stage.
pub fn read(dir: &Path) -> Result<Manifest> {
    let path = dir.join("manifest.json");
    let bytes = fs::read(&path).context(Kind::Storage, || format!("reading {}", path.display()))?;
    let mut manifest: Manifest =
        serde_json::from_slice(&bytes).context(Kind::Storage, || format!("reading {}", path.display()))?;
    for segment in &mut manifest.segments {
        *segment = dir.join(&*segment);
    }
    Ok(manifest)
}

fn read_if_sealed(dir: &Path) -> Result<Option<Manifest>> {
    if dir.join("manifest.json").exists() { read(dir).map(Some) } else { Ok(None) }
}

/// Opens a sealed stage again, so that what is missing can still come.
pub fn unseal(dir: &Path) -> Result<()> {
    let path = dir.join("manifest.json");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(Kind::Storage, || format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Brings a sealed stage onto the disk: the rows that it has may never be told again.
pub fn keep(dir: &Path) -> Result<()> {
    let doing = || format!("keeping {}", dir.display());
    for segment in read(dir)?.segments {
        fs::File::open(segment).and_then(|file| file.sync_all()).context(Kind::Storage, doing)?;
    }
    for name in ["manifest.json", "journal.jsonl", "segments", "."] {
        fs::File::open(dir.join(name)).and_then(|file| file.sync_all()).context(Kind::Storage, doing)?;
    }
    Ok(())
}

/// Removes a stage; one that is not there is no error.
pub fn discard(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(Kind::Storage, || format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}
