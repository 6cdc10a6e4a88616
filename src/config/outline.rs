//! What a project was when all its files were last found sound, so that of thousands of pipelines one can be read alone.
//!
//! Reading and checking every file takes the longer the more there are. Where no file has an error, the state folder keeps
//! an outline: a print of all files by their sizes and times, and of each pipeline its tables and the pipelines that it
//! stands on. While the print is the same, one pipeline is read with those alone; whatever casts doubt on the outline
//! makes haul read everything, as if there were none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3;

use super::print::{self, Print};
use super::{Loaded, Options, load, state_dir};
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
#[derive(Debug)]
pub struct Outline {
    /// As it was written: most of it is about pipelines that nobody asks for.
    text: String,
}

/// An outline as it is written.
#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "E: Deserialize<'de>"))]
struct Written<'a, E> {
    /// Of the files that it tells of.
    print: &'a str,
    /// By their names, which have no character that JSON would write in another way.
    #[serde(borrow)]
    pipelines: BTreeMap<&'a str, E>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    tables: Vec<String>,
    /// The pipelines that its file names: without them it cannot be checked.
    stands_on: BTreeSet<String>,
}

impl Outline {
    /// How many pipelines there are.
    pub fn pipelines(&self) -> usize {
        self.read::<IgnoredAny>().map_or(0, |written| written.pipelines.len())
    }

    /// All tables that steps write, each with the name of its pipeline, in the order of pipelines and steps.
    pub fn tables(&self) -> impl Iterator<Item = (TableName, String)> {
        let pipelines = self.read::<Entry>().map(|written| written.pipelines).unwrap_or_default();
        pipelines.into_iter().flat_map(|(name, entry)| {
            entry.tables.into_iter().map(move |table| (TableName::stored(&table), name.to_owned()))
        })
    }

    /// This pipeline and all that it stands on, those that they stand on included; `None` where one of them is not known.
    fn reach(&self, pipeline: &str) -> Option<BTreeSet<String>> {
        let pipelines = self.read::<&RawValue>()?.pipelines;
        let mut reached = BTreeSet::new();
        let mut waiting = vec![pipeline.to_owned()];
        while let Some(name) = waiting.pop() {
            let entry: Entry = serde_json::from_str(pipelines.get(name.as_str())?.get()).ok()?;
            if reached.insert(name) {
                waiting.extend(entry.stands_on);
            }
        }
        Some(reached)
    }

    fn read<'a, E: Deserialize<'a>>(&'a self) -> Option<Written<'a, E>> {
        serde_json::from_str(&self.text).ok()
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
        if options.instead.is_none()
            && options.only.is_none()
            && let Ok(files) = Print::of(root)
        {
            let print = of_options(&files, options);
            look.outline = look.recall(&print, files.newest);
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
        let outline = Outline { text: std::fs::read_to_string(&path).ok()? };
        let is_of_these = outline.read::<IgnoredAny>()?.print == print;
        is_of_these.then_some(outline)
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
        let pipelines = project.pipelines.iter().map(|one| (one.name.as_str(), entry(one))).collect();
        let outline = Written { print, pipelines };
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

/// What the outline of these files is good for: another build of haul, or other connections, may find other faults.
fn of_options(files: &Print, options: &Options<'_>) -> String {
    let mut digest = Xxh3::new();
    digest.update(&files.digest.to_le_bytes());
    digest.update(&std::env::current_exe().map(|program| print::of_file(&program)).unwrap_or_default().to_le_bytes());
    for name in options.known_connections.into_iter().flatten() {
        digest.update(format!("{name}\0").as_bytes());
    }
    digest.update(&[u8::from(options.known_connections.is_some()), u8::from(options.check_connections)]);
    format!("{:032x}", digest.digest128())
}
