//! The project as it is now: read again when its files change, with the last good text of a file that is broken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, Diagnostic, Loaded, Options, Print, Severity};
use crate::connections::Connections;
use crate::error::{Context, Error, Kind, Result};
use crate::execute::Gear;
use crate::model::pipeline::Project;
use crate::secret::Redactor;
use crate::time::Clock;

/// Looking at the files takes at most this share of the time.
const SHARE: u32 = 400;

/// A version of the project: what a run works with from its beginning to its end, whatever becomes of the files meanwhile.
pub struct Version {
    /// The project.
    pub project: Arc<Project>,
    /// Everything that its runs need.
    pub gear: Arc<Gear>,
}

/// What a look at the files has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The project has been read again.
    Read {
        /// The pipelines that are new, or not what they were.
        changed: Vec<String>,
        /// The pipelines that are gone.
        gone: Vec<String>,
    },
    /// Some files are wrong: what they were before stays in force.
    Broken {
        /// The files, relative to the root, and whether there was a text of them before that was right.
        files: Vec<(PathBuf, bool)>,
        /// Their faults, drawn.
        faults: String,
    },
    /// All files are right again.
    Mended,
}

/// The files of a project, looked at again and again.
pub struct Watched {
    root: PathBuf,
    redactor: Redactor,
    version: Arc<Version>,
    /// The text of each file when it was last read without a fault.
    good: BTreeMap<PathBuf, Arc<str>>,
    /// What the files looked like from outside when they were last read, and at the last look.
    read: u128,
    seen: u128,
    /// The faults that were told.
    told: Option<String>,
    /// What the connections were read from.
    credentials: u128,
    next: tokio::time::Instant,
}

/// What became of reading the files.
struct Reading {
    project: Option<Project>,
    texts: BTreeMap<PathBuf, Arc<str>>,
    broken: Vec<PathBuf>,
    faults: String,
}

impl Watched {
    /// Reads the project; a pipeline that is wrong is left out, and told.
    ///
    /// # Errors
    /// A `haul.toml` that is wrong; a state store that cannot be opened.
    pub async fn open(root: &Path, clock: Clock, redactor: Redactor) -> Result<(Self, Vec<Change>)> {
        let (read, credentials) = (Print::of(root)?.digest, credentials(root));
        let connections = Connections::open(root, redactor.clone())?;
        let reading = read_files(root.to_path_buf(), connections.clone(), BTreeMap::new()).await?;
        let Some(project) = reading.project else {
            return Err(unusable(&reading.faults));
        };
        let project = Arc::new(project);
        let gear = Arc::new(Gear::open(Arc::clone(&project), connections, clock, redactor.clone()).await?);
        let mut watched = Self {
            root: root.to_path_buf(),
            redactor,
            version: Arc::new(Version { project, gear }),
            good: reading.texts,
            read,
            seen: read,
            told: None,
            credentials,
            next: tokio::time::Instant::now(),
        };
        let told = watched.tell(reading.broken, reading.faults, &BTreeMap::new());
        Ok((watched, told.into_iter().collect()))
    }

    /// The faults of files that are wrong now, drawn.
    pub fn faults(&self) -> Option<&str> {
        self.told.as_deref()
    }

    /// The version in force.
    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// Looks at the files, and reads them again if they have changed and are no longer being written.
    ///
    /// # Errors
    /// Files that cannot be looked at, SQL that cannot be compiled; the version in force stays what it was.
    pub async fn look(&mut self) -> Result<Vec<Change>> {
        let begun = tokio::time::Instant::now();
        if begun < self.next {
            return Ok(Vec::new());
        }
        let root = self.root.clone();
        let now = tokio::task::spawn_blocking(move || Print::of(&root)).await;
        let now = now.context(Kind::Internal, || "looking at the project's files".to_owned())??.digest;
        // A project of many files is looked at less often.
        self.next = begun + begun.elapsed() * SHARE;
        let settled = now == self.seen;
        self.seen = now;
        if now == self.read || !settled {
            return Ok(Vec::new());
        }
        self.read = now;
        self.read_again().await
    }

    async fn read_again(&mut self) -> Result<Vec<Change>> {
        let credentials = credentials(&self.root);
        let anew = (credentials != self.credentials)
            .then(|| Connections::open(&self.root, self.redactor.clone()))
            .transpose()?;
        let connections = anew.clone().unwrap_or_else(|| self.version.gear.connections.clone());
        let reading = read_files(self.root.clone(), connections, self.good.clone()).await?;
        let mut changes = Vec::new();
        let before = self.good.clone();
        if let Some(mut project) = reading.project {
            // The state store is open where it was.
            project.state_dir.clone_from(&self.version.project.state_dir);
            let (changed, gone) = self.compare(&project, &reading.texts);
            if reading.texts != self.good || anew.is_some() {
                let project = Arc::new(project);
                let gear = Arc::new(self.version.gear.successor(Arc::clone(&project), anew)?);
                self.version = Arc::new(Version { project, gear });
                self.good = reading.texts;
                self.credentials = credentials;
                changes.push(Change::Read { changed, gone });
            }
        }
        changes.extend(self.tell(reading.broken, reading.faults, &before));
        Ok(changes)
    }

    /// The pipelines whose own file changed, and those that are gone.
    fn compare(&self, project: &Project, texts: &BTreeMap<PathBuf, Arc<str>>) -> (Vec<String>, Vec<String>) {
        let before = &self.version.project;
        let changed = project.pipelines.iter().filter(|pipeline| {
            before.pipeline(&pipeline.name).is_none() || texts.get(&pipeline.file) != self.good.get(&pipeline.file)
        });
        let gone = before.pipelines.iter().filter(|pipeline| project.pipeline(&pipeline.name).is_none());
        let names = |pipelines: Vec<&Arc<crate::model::pipeline::Pipeline>>| {
            pipelines.into_iter().map(|pipeline| pipeline.name.clone()).collect()
        };
        (names(changed.collect()), names(gone.collect()))
    }

    /// Tells faults once.
    fn tell(&mut self, files: Vec<PathBuf>, faults: String, good: &BTreeMap<PathBuf, Arc<str>>) -> Option<Change> {
        if faults.is_empty() {
            return self.told.take().map(|_| Change::Mended);
        }
        if self.told.as_ref() == Some(&faults) {
            return None;
        }
        self.told = Some(faults.clone());
        let files = files.into_iter().map(|file| (good.contains_key(&file), file)).map(|(known, file)| (file, known));
        Some(Change::Broken { files: files.collect(), faults })
    }
}

/// The project without what is wrong in it, for those who steer.
///
/// # Errors
/// A `haul.toml` that is wrong.
pub async fn tolerant(root: &Path, redactor: Redactor) -> Result<Arc<Project>> {
    let connections = Connections::open(root, redactor)?;
    let reading = read_files(root.to_path_buf(), connections, BTreeMap::new()).await?;
    let faults = reading.faults;
    reading.project.map(Arc::new).ok_or_else(|| unusable(&faults))
}

fn unusable(faults: &str) -> Error {
    Error::config("the project's files are wrong")
        .detail(faults.trim_end().to_owned())
        .hint("`haul check` shows all faults")
}

/// Reads all files; those that are wrong count with their last good text, or not at all.
async fn read_files(root: PathBuf, connections: Connections, good: BTreeMap<PathBuf, Arc<str>>) -> Result<Reading> {
    let read = tokio::task::spawn_blocking(move || sound(&root, &connections, &good)).await;
    read.context(Kind::Internal, || "reading the project's files".to_owned())?
}

fn sound(root: &Path, connections: &Connections, good: &BTreeMap<PathBuf, Arc<str>>) -> Result<Reading> {
    let names = connections.names()?;
    let mut instead: BTreeMap<PathBuf, Option<Arc<str>>> = BTreeMap::new();
    let mut reading = Reading { project: None, texts: BTreeMap::new(), broken: Vec::new(), faults: String::new() };
    let mut check_connections = true;
    loop {
        let options = Options {
            known_connections: Some(&names),
            check_connections,
            instead: Some(&instead),
            ..Options::default()
        };
        let Loaded { project, diagnostics, sources } = config::load(root, &options);
        if let Some(project) = project {
            let kept = sources.into_iter().filter(|(_, source)| !source.secret);
            reading.texts = kept.map(|(path, source)| (path, source.text.clone())).collect();
            reading.project = Some(project);
            return Ok(reading);
        }
        let errors: Vec<Diagnostic> =
            diagnostics.into_iter().filter(|fault| fault.severity == Severity::Error).collect();
        let mut blamed: Vec<PathBuf> =
            errors.iter().filter_map(|fault| Some(fault.labels.first()?.file.clone())).collect();
        blamed.sort();
        blamed.dedup();
        if reading.faults.is_empty() {
            config::render(&errors, &sources, false).trim_end().clone_into(&mut reading.faults);
            reading.broken.clone_from(&blamed);
        }
        let mut changed = false;
        for file in blamed {
            if file == Path::new("connections.toml") {
                changed |= std::mem::take(&mut check_connections);
                continue;
            }
            let before = good.get(&file);
            let same = before.is_some() && sources.get(&file).map(|source| &source.text) == before;
            // One that was right before is wrong through another, or it has no better text.
            if same || instead.contains_key(&file) || before.is_none() && file == Path::new("haul.toml") {
                continue;
            }
            instead.insert(file, before.cloned());
            changed = true;
        }
        if !changed {
            return Ok(reading);
        }
    }
}

/// The content of what connections are told by, without its meaning.
fn credentials(root: &Path) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for file in ["connections.toml", ".haul/connections.enc"] {
        hasher.update(&std::fs::read(root.join(file)).unwrap_or_default());
        hasher.update(&[0]);
    }
    hasher.digest128()
}
