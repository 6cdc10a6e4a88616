//! What a project was when all its files were last found sound, so that of thousands of pipelines one can be read alone.
//!
//! Reading and checking every file takes the longer the more there are. Where no file has an error, the state folder keeps
//! an outline: a print of all files by their sizes and times, and of each pipeline its tables and the pipelines that it
//! stands on. While the print is the same, one pipeline is read with those alone; whatever casts doubt on the outline
//! makes haul read everything, as if there were none.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{Loaded, Options, load, lock, state_dir};
use crate::model::errand::Condition;
use crate::model::name::TableName;
use crate::model::pipeline::{Action, Pipeline};
use crate::model::schedule::When;

/// Where it lies in the state folder.
const FILE: &str = "outline.json";

/// Fewer pipelines are read in no time.
const WORTH_IT: usize = 200;

/// A file that was changed so shortly before the outline was written may have been changed again within the same tick of
/// the file system's clock.
const TOO_FRESH: Duration = Duration::from_secs(2);

/// What is in a project's files, in short.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outline {
    /// Of the files that it tells of.
    print: String,
    /// By their names.
    pipelines: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    tables: Vec<String>,
    /// The pipelines that its file names: without them it cannot be checked.
    stands_on: BTreeSet<String>,
}

impl Outline {
    /// How many pipelines there are.
    pub fn pipelines(&self) -> usize {
        self.pipelines.len()
    }

    /// All tables that steps write, each with the name of its pipeline, in the order of pipelines and steps.
    pub fn tables(&self) -> impl Iterator<Item = (TableName, String)> {
        let named = |name: &String, table: &String| (TableName::stored(table), name.clone());
        self.pipelines.iter().flat_map(move |(name, entry)| entry.tables.iter().map(move |table| named(name, table)))
    }

    /// This pipeline and all that it stands on, those that they stand on included; `None` where one of them is not known.
    fn reach(&self, pipeline: &str) -> Option<BTreeSet<String>> {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![pipeline];
        while let Some(name) = waiting.pop() {
            let entry = self.pipelines.get(name)?;
            if reached.insert(name.to_owned()) {
                waiting.extend(entry.stands_on.iter().map(String::as_str));
            }
        }
        Some(reached)
    }
}

/// A project's files as they are now, before any of them is read.
pub struct Look<'a> {
    root: &'a Path,
    options: &'a Options<'a>,
    /// `None` where some file cannot be looked at: then it has to be told why.
    print: Option<String>,
    /// The outline, if it is of these files.
    outline: Option<Outline>,
}

impl<'a> Look<'a> {
    /// Looks at the sizes and times of all files.
    pub fn at(root: &'a Path, options: &'a Options<'a>) -> Self {
        let mut look = Self { root, options, print: None, outline: None };
        if let Some((print, newest)) = print(root, options) {
            look.outline = look.recall(&print, newest);
            look.print = Some(print);
        }
        look
    }

    /// What was found when the same files were read as a whole.
    pub fn outline(&self) -> Option<&Outline> {
        self.outline.as_ref()
    }

    /// Reads a pipeline with all that it stands on where the outline allows that, else the whole project.
    ///
    /// A project that was read in part tells nobody anything: its channels and deadlines are left out. So are the warnings
    /// of files that were not read.
    pub fn load(&self, pipeline: Option<&str>) -> Loaded {
        let reach = self.outline.as_ref().zip(pipeline).and_then(|(outline, pipeline)| outline.reach(pipeline));
        if let Some(only) = &reach {
            let part = load(self.root, &Options { only: Some(only), ..*self.options });
            if part.project.is_some() {
                return part;
            }
        }
        let whole = load(self.root, self.options);
        self.remember(&whole);
        whole
    }

    fn path(&self) -> PathBuf {
        let own = self.options.state_dir.map(|folder| self.root.join(folder));
        own.unwrap_or_else(|| state_dir(self.root)).join(FILE)
    }

    fn recall(&self, print: &str, newest: SystemTime) -> Option<Outline> {
        let path = self.path();
        let written = std::fs::metadata(&path).and_then(|file| file.modified()).ok()?;
        if written.duration_since(newest).ok()? < TOO_FRESH {
            return None;
        }
        let outline: Outline = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        (outline.print == print).then_some(outline)
    }

    /// Writes the outline of a project without errors. That it cannot be written only costs time later.
    fn remember(&self, whole: &Loaded) {
        let (Some(print), Some(project)) = (&self.print, &whole.project) else { return };
        if project.pipelines.len() < WORTH_IT {
            return;
        }
        let entry = |pipeline: &Pipeline| Entry {
            tables: pipeline.steps.iter().filter(|step| step.writes()).map(|step| step.into.to_string()).collect(),
            stands_on: stands_on(pipeline),
        };
        let pipelines = project.pipelines.iter().map(|one| (one.name.clone(), entry(one))).collect();
        let outline = Outline { print: print.clone(), pipelines };
        let path = self.path();
        let Some(folder) = path.parent().filter(|folder| folder.is_dir()) else { return };
        let _ = tempfile::NamedTempFile::new_in(folder).map(|mut file| {
            let written = serde_json::to_writer(std::io::BufWriter::new(&mut file), &outline);
            written.is_ok().then(|| file.persist(&path))
        });
    }
}

/// The other pipelines that a pipeline's file names.
fn stands_on(pipeline: &Pipeline) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Some(When::After(other)) = pipeline.schedule.as_ref().map(|schedule| &schedule.when) {
        names.insert(other.clone());
    }
    for step in &pipeline.steps {
        names.extend(step.action.reads().iter().map(|read| read.pipeline.clone()));
        if let Action::Wait(wait) = &step.action
            && let Condition::Pipeline(other) = &wait.condition
        {
            names.insert(other.clone());
        }
    }
    names.remove(&pipeline.name);
    names
}

/// A print of all that a project is made of, by sizes and times, and the time of its newest file.
fn print(root: &Path, options: &Options<'_>) -> Option<(String, SystemTime)> {
    if options.instead.is_some() || options.only.is_some() {
        return None;
    }
    let mut paths: Vec<PathBuf> = ["haul.toml", "connections.toml", lock::FILE].map(PathBuf::from).to_vec();
    for folder in ["pipelines", "hooks", "sql"] {
        descend(root, Path::new(folder), &mut paths)?;
    }
    let files: Vec<Option<Stamp>> = paths.into_par_iter().map(|path| Stamp::of(root, path)).collect();
    let mut digest = Xxh3::new();
    // Another build of haul may find faults where this one has none.
    Stamp::of(root, std::env::current_exe().ok()?)?.add_to(&mut digest);
    for name in options.known_connections.into_iter().flatten() {
        digest.update(format!("{name}\0").as_bytes());
    }
    digest.update(&[u8::from(options.known_connections.is_some()), u8::from(options.check_connections)]);
    let mut newest = SystemTime::UNIX_EPOCH;
    for file in files {
        newest = newest.max(file?.add_to(&mut digest));
    }
    Some((format!("{:032x}", digest.digest128()), newest))
}

/// All files below a folder, in the order of their names.
fn descend(root: &Path, folder: &Path, paths: &mut Vec<PathBuf>) -> Option<()> {
    let entries = match std::fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(()),
        Err(_) => return None,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.ok()?;
        found.push((folder.join(entry.file_name()), entry.file_type().ok()?));
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (path, kind) in found {
        if kind.is_dir() || kind.is_symlink() && root.join(&path).is_dir() {
            descend(root, &path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Some(())
}

/// What tells one state of a file from another.
struct Stamp {
    path: PathBuf,
    /// Size, seconds and nanoseconds of its content's and of its own last change, number; `None` where there is no such file.
    numbers: Option<[i64; 6]>,
    modified: SystemTime,
}

impl Stamp {
    fn of(root: &Path, path: PathBuf) -> Option<Self> {
        let file = match std::fs::metadata(root.join(&path)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Some(Self { path, numbers: None, modified: SystemTime::UNIX_EPOCH });
            }
            Err(_) => return None,
        };
        let numbers = [
            file.size().cast_signed(),
            file.mtime(),
            file.mtime_nsec(),
            file.ctime(),
            file.ctime_nsec(),
            file.ino().cast_signed(),
        ];
        Some(Self { path, numbers: Some(numbers), modified: file.modified().ok()? })
    }

    fn add_to(self, digest: &mut Xxh3) -> SystemTime {
        digest.update(self.path.as_os_str().as_encoded_bytes());
        digest.update(&[0, u8::from(self.numbers.is_some())]);
        for number in self.numbers.into_iter().flatten() {
            digest.update(&number.to_le_bytes());
        }
        self.modified
    }
}
