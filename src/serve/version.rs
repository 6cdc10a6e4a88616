//! The project as it is now: read again when its files change, with the last good text of a file that is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, Diagnostic, Loaded, Options, Print, Severity, Sources};
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

/// The file of the connections; its text is kept nowhere.
const CONNECTIONS: &str = "connections.toml";

/// The fault of a name that is no connection.
const UNKNOWN_CONNECTION: &str = "unknown-connection";

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
    /// Whether connections.toml was wrong at the start, so that there are no connections of it to stay with.
    unconnected: bool,
    /// What the connections were read from.
    credentials: u128,
    next: tokio::time::Instant,
}

/// What stands in the place of connections whose file is wrong.
enum Instead {
    /// None: pipelines that need one are left out.
    Nothing,
    /// Any: who only steers needs none.
    Unchecked,
    /// Those that there were.
    Old(Connections),
}

/// What became of reading the files.
struct Reading {
    project: Option<Project>,
    texts: BTreeMap<PathBuf, Arc<str>>,
    broken: Vec<PathBuf>,
    faults: String,
    /// Whether connections.toml is one of those that are wrong.
    unconnected: bool,
}

impl Reading {
    /// Adds faults to those that are told, and the files that they are in.
    fn tell(&mut self, faults: &[Diagnostic], sources: &Sources) {
        if faults.is_empty() {
            return;
        }
        let drawn = config::render(faults, sources, false);
        let gap = if self.faults.is_empty() { "" } else { "\n\n" };
        self.faults = format!("{}{gap}{}", self.faults, drawn.trim_end());
        let files: BTreeSet<PathBuf> = faults.iter().filter_map(|fault| blamed(fault).map(Path::to_path_buf)).collect();
        self.broken.extend(files);
    }
}

impl Watched {
    /// Reads the project; a pipeline that is wrong is left out, and told.
    ///
    /// # Errors
    /// A `haul.toml` that is wrong; a state store that cannot be opened.
    pub async fn open(root: &Path, clock: Clock, redactor: Redactor) -> Result<(Self, Vec<Change>)> {
        let (read, credentials) = (Print::of(root)?.digest, credentials(root));
        let connections = Connections::open(root, redactor.clone())?;
        let reading = read_files(root.to_path_buf(), connections.clone(), Instead::Nothing, BTreeMap::new()).await?;
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
            unconnected: reading.unconnected,
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
        let old = self.version.gear.connections.clone();
        let connections = anew.clone().unwrap_or_else(|| old.clone());
        let old = if self.unconnected { Instead::Nothing } else { Instead::Old(old) };
        let reading = read_files(self.root.clone(), connections, old, self.good.clone()).await?;
        // Connections that cannot be read are no reason to lose those that there are.
        let anew = anew.filter(|_| !reading.unconnected || self.unconnected);
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
                if !reading.unconnected {
                    (self.credentials, self.unconnected) = (credentials, false);
                }
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
        // The text of a file with secrets is not kept, but its connections are.
        let known = |file: &Path| good.contains_key(file) || file == Path::new(CONNECTIONS) && !self.unconnected;
        let files = files.into_iter().map(|file| (known(&file), file)).map(|(known, file)| (file, known));
        Some(Change::Broken { files: files.collect(), faults })
    }
}

/// The project without what is wrong in it, for those who steer.
///
/// # Errors
/// A `haul.toml` that is wrong.
pub async fn tolerant(root: &Path, redactor: Redactor) -> Result<Arc<Project>> {
    let connections = Connections::open(root, redactor)?;
    let reading = read_files(root.to_path_buf(), connections, Instead::Unchecked, BTreeMap::new()).await?;
    let faults = reading.faults;
    reading.project.map(Arc::new).ok_or_else(|| unusable(&faults))
}

fn unusable(faults: &str) -> Error {
    Error::config("the project's files are wrong")
        .detail(faults.trim_end().to_owned())
        .hint("`haul check` shows all faults")
}

/// Reads all files; those that are wrong count with their last good text, or not at all.
async fn read_files(
    root: PathBuf,
    connections: Connections,
    instead: Instead,
    good: BTreeMap<PathBuf, Arc<str>>,
) -> Result<Reading> {
    let read = tokio::task::spawn_blocking(move || sound(&root, &connections, &instead, &good)).await;
    read.context(Kind::Internal, || "reading the project's files".to_owned())?
}

fn sound(
    root: &Path,
    connections: &Connections,
    without: &Instead,
    good: &BTreeMap<PathBuf, Arc<str>>,
) -> Result<Reading> {
    let mut names = Some(connections.names()?);
    let mut instead: BTreeMap<PathBuf, Option<Arc<str>>> = BTreeMap::new();
    let mut reading = Reading {
        project: None,
        texts: BTreeMap::new(),
        broken: Vec::new(),
        faults: String::new(),
        unconnected: false,
    };
    let mut told = false;
    loop {
        let options = Options {
            known_connections: names.as_deref(),
            check_connections: !reading.unconnected,
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
        let (own, errors): (Vec<Diagnostic>, Vec<Diagnostic>) =
            errors.into_iter().partition(|fault| blamed(fault) == Some(Path::new(CONNECTIONS)));
        if !own.is_empty() && !reading.unconnected {
            reading.unconnected = true;
            reading.tell(&own, &sources);
            // What names its connections is looked at again with those that there were.
            match without {
                Instead::Old(old) => names = Some(old.names()?),
                Instead::Unchecked => names = None,
                Instead::Nothing => {}
            }
            continue;
        }
        if !std::mem::replace(&mut told, true) {
            // Without any connections, what names one says no more than that.
            let none = reading.unconnected && matches!(without, Instead::Nothing);
            let follows = |fault: &Diagnostic| none && fault.code == UNKNOWN_CONNECTION;
            let errors: Vec<Diagnostic> = errors.iter().filter(|fault| !follows(fault)).cloned().collect();
            reading.tell(&errors, &sources);
        }
        if !put_back(&errors, &sources, good, &mut instead) {
            return Ok(reading);
        }
    }
}

/// Puts the last good texts of files in the place of those that have faults; whether there was any to be put there.
fn put_back(
    errors: &[Diagnostic],
    sources: &Sources,
    good: &BTreeMap<PathBuf, Arc<str>>,
    instead: &mut BTreeMap<PathBuf, Option<Arc<str>>>,
) -> bool {
    let mut changed = false;
    let files: BTreeSet<&Path> = errors.iter().filter_map(blamed).collect();
    for file in files {
        let before = good.get(file);
        let same = before.is_some() && sources.get(file).map(|source| &source.text) == before;
        // One that was right before is wrong through another, or it has no better text.
        if same || instead.contains_key(file) || before.is_none() && file == Path::new("haul.toml") {
            continue;
        }
        instead.insert(file.to_path_buf(), before.cloned());
        changed = true;
    }
    changed
}

/// The file that a fault is in.
fn blamed(fault: &Diagnostic) -> Option<&Path> {
    Some(fault.labels.first()?.file.as_path())
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
