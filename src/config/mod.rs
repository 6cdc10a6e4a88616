//! From the files of a project to the model: reading, checking, and telling every fault with its place.
//!
//! [`load()`] reads `haul.toml`, `pipelines/*.toml`, `hooks/*.toml` and `sql/*.sql` and never stops at the first fault.
//! Each kind of file has a twin, a struct whose fields are its keys: one declaration gives the reader
//! ([`reader`]), the list of known keys and, by the documentation, the JSON Schema ([`schemas`]).
//! The twins are then validated into the model; references between steps are resolved last.
//!
//! Secrets are not resolved here, and connections only matter by their names.

pub mod answer;
pub mod body;
mod check;
mod clock_words;
mod collection;
pub mod connection_file;
mod deadline;
mod diagnostic;
mod door;
pub mod errand;
mod expect;
pub mod fanout;
pub mod file;
mod files;
mod folder;
mod given;
mod hook;
pub mod hook_file;
mod inspect;
mod layout;
mod link;
mod load;
mod load_table;
pub mod lock;
mod manual;
pub mod notify;
mod outline;
mod parameter;
mod pipeline;
mod print;
mod process;
pub mod reader;
pub mod request;
pub mod rule;
pub mod scalar;
mod schedule;
mod schema;
mod serve;
mod server;
mod service;
mod source;
mod sql;
mod steering;
mod step;
mod table;
mod traces;
mod trial;
pub mod value;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use diagnostic::{Diagnostic, Label, Severity, Source, Sources, render, to_json};
pub use folder::find_root;
pub use manual::test_address;
pub use outline::{Look, Outline};
pub use pipeline::is_plain_name;
pub use print::Print;
pub use scalar::{Count, Entries};
pub use schema::schemas;
pub use service::{Service, service};
pub use trial::{Trials, trials};
pub use value::TypedDuration;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::model::notify::{Retention, Telling};
use crate::model::pipeline::{Pipeline, Project};
use crate::model::serve::ServeSettings;
use deadline::DeadlineDraft;
use file::ProjectFile;
use folder::Folder;
use inspect::Inspector;
use pipeline::{Surroundings, read_pipeline, read_project, vars};
use reader::{At, Reader};

/// The state folder, where the project says no other.
const STATE_DIR: &str = ".haul";

/// What a project is checked against.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// The names of the connections; a reference to another one is a fault. `None`: they are not looked at.
    pub known_connections: Option<&'a [String]>,
    /// Whether the keys and forms of `connections.toml` are checked too; no secret is resolved or shown.
    pub check_connections: bool,
    /// Another state folder than the project says.
    pub state_dir: Option<&'a Path>,
    /// What counts instead of files as they are, by their paths relative to the root: another text, or as if there were none.
    pub instead: Option<&'a BTreeMap<PathBuf, Option<Arc<str>>>>,
    /// Only these files of `pipelines/` are read; who is told of what is left out then, since it may name others.
    pub only: Option<&'a BTreeSet<String>>,
}

/// What became of reading a project.
#[derive(Debug)]
pub struct Loaded {
    /// The project; there when no diagnostic is an error.
    pub project: Option<Project>,
    /// All faults, in the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that the diagnostics point into.
    pub sources: Sources,
}

impl Loaded {
    /// The project, or one error whose detail shows all faults.
    ///
    /// # Errors
    /// Any diagnostic is an error.
    pub fn into_project(self) -> Result<Project> {
        let errors: Vec<Diagnostic> =
            self.diagnostics.into_iter().filter(|fault| fault.severity == Severity::Error).collect();
        self.project.ok_or_else(|| {
            let count = errors.len();
            let what = if count == 1 { "one fault".to_owned() } else { format!("{count} faults") };
            Error::config(format!("the project's files have {what}"))
                .detail(render(&errors, &self.sources, false))
                .hint("`haul check` shows them all")
        })
    }
}

/// Reads and checks all files of the project in `root`.
pub fn load(root: &Path, options: &Options<'_>) -> Loaded {
    let mut faults = Vec::new();
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    let mut folder = Folder::read(&root, options, &mut faults);
    if options.check_connections && root.join("connections.toml").is_file() {
        faults.extend(folder.check_connections(&root));
    }
    let mut settings = ServeSettings::default();
    let project = folder.project.as_ref().map_or_else(ProjectFile::default, |source| {
        let (file, found) = read_project(source);
        faults.extend(found);
        if let Some(warehouse) = &file.warehouse {
            faults.extend(dangling(warehouse, source, options));
        }
        let mut reader = Reader::new(source.clone());
        settings = serve::serve(file.serve.as_ref(), &mut reader);
        steering::retry_of(&file, &mut reader);
        faults.extend(reader.diagnostics);
        file
    });
    let pins = match lock::read(&root) {
        Ok(pins) => pins,
        Err(error) => {
            let fault = Diagnostic::error("bad-lock", error.chain()).at(&Source::new(lock::FILE, ""), 0..0, "");
            faults.push(fault.maybe_help(error.hints().first().map(|hint| (*hint).to_owned())));
            BTreeMap::new()
        }
    };
    lock::verify(&root, &pins, &mut faults);
    let mut hooks = BTreeMap::new();
    for (name, source) in &folder.hooks {
        let (mut hook, found) = hook::read_hook(source);
        faults.extend(found);
        hook.foreign = pins.contains_key(name);
        // The connection of a hook of others is a proposal: a step that follows it is told where there is none.
        if let Some(connection) = hook.file.connection.as_ref().filter(|_| !hook.foreign) {
            faults.extend(dangling(connection, source, options));
        }
        hooks.insert(name.clone(), hook);
    }
    let inspector = Inspector::new(&folder.sql, &folder.sources, &mut faults);
    let around = Surroundings {
        project: &project,
        hooks: &hooks,
        sql: &folder.sql,
        inspector: &inspector,
        connections: options.known_connections,
        connection_set: options.known_connections.unwrap_or_default().iter().map(String::as_str).collect(),
    };
    let mut manuals = Vec::with_capacity(hooks.len());
    for (name, hook) in &hooks {
        let (manual, found) = manual::manual(name, hook, pins.get(name), &around);
        faults.extend(found);
        manuals.push(manual);
    }
    let read = |(name, source): &(String, Arc<Source>)| read_pipeline(name, source, &around);
    // A pipeline is read for itself: a project may have thousands, and all cores read.
    let (mut drafts, mut found) = (Vec::new(), Vec::new());
    folder.pipelines.par_iter().map(read).unzip_into_vecs(&mut drafts, &mut found);
    faults.extend(found.into_iter().flatten());
    schedule::check_after(&drafts, &mut faults);
    let mut deadlines: Vec<DeadlineDraft> = Vec::new();
    for draft in &mut drafts {
        deadlines.push(draft.deadlines.taken());
    }
    let pipelines = link::link(drafts, &folder.sources, &mut faults);
    let (mut telling, retention) = match options.only {
        Some(_) => <(Telling, Retention)>::default(),
        None => people(&project, &folder, deadlines, &pipelines, options, &mut faults),
    };
    telling.url.clone_from(&settings.url);
    let state_dir = project.state_dir.as_ref().map_or(Path::new(STATE_DIR), |at| Path::new(&at.value));
    if telling.project.is_empty() {
        telling.project =
            root.file_name().map_or_else(|| "haul".to_owned(), |name| name.to_string_lossy().into_owned());
    }
    let loaded = Project {
        state_dir: root.join(options.state_dir.unwrap_or(state_dir)),
        root,
        vars: vars(project.vars.as_ref()),
        pools: steering::pools(project.pools.as_ref()),
        serve: settings,
        pipelines,
        sql: folder.sql,
        hooks: manuals,
        telling,
        retention,
    };
    let diagnostics = in_order(faults);
    let sound = diagnostics.iter().all(|fault| fault.severity != Severity::Error);
    Loaded { project: sound.then_some(loaded), diagnostics, sources: folder.sources }
}

/// The state folder of the project in `root`, also where other files of it are wrong.
pub fn state_dir(root: &Path) -> PathBuf {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    let text = std::fs::read_to_string(root.join("haul.toml")).unwrap_or_default();
    let (file, _) = read_project(&Arc::new(Source::new("haul.toml", text)));
    root.join(file.state_dir.map_or_else(|| STATE_DIR.to_owned(), |at| at.value))
}

/// Who is told of what, and how long the history is kept.
fn people(
    project: &ProjectFile,
    folder: &Folder,
    mut deadlines: Vec<DeadlineDraft>,
    pipelines: &[Arc<Pipeline>],
    options: &Options<'_>,
    faults: &mut Vec<Diagnostic>,
) -> (Telling, Retention) {
    let source = folder.project.clone().unwrap_or_else(|| Arc::new(Source::new("haul.toml", "")));
    let (mut telling, found) = notify::telling(project, &source, pipelines, options.known_connections);
    faults.extend(found);
    let own = project.deadline.as_ref().map(|at| at.value.clone()).unwrap_or_default();
    deadlines.insert(0, DeadlineDraft { pipeline: None, source: source.clone(), tables: own });
    // Of steps that could not be read nothing is known.
    if faults.iter().all(|fault| fault.severity != Severity::Error) {
        telling.deadlines = deadline::deadlines(&deadlines, pipelines, faults);
    }
    let (retention, found) = notify::retention(project, &source);
    faults.extend(found);
    (telling, retention)
}

/// Looks at the text of a hook alone, before it becomes a file of the project.
///
/// # Errors
/// All its faults, drawn.
pub fn check_hook(path: &Path, text: &str) -> Result<()> {
    let source = Arc::new(Source::new(path, text));
    let (_, faults) = hook::read_hook(&source);
    if faults.iter().all(|fault| fault.severity != Severity::Error) {
        return Ok(());
    }
    let sources = Sources::from([(path.to_path_buf(), source)]);
    Err(Error::config(format!("{} is no hook that this haul understands", path.display())).detail(render(
        &in_order(faults),
        &sources,
        false,
    )))
}

/// The fault of a name that is no connection.
fn dangling(name: &At<String>, source: &Arc<Source>, options: &Options<'_>) -> Vec<Diagnostic> {
    let Some(known) = options.known_connections.filter(|known| !known.contains(&name.value)) else { return Vec::new() };
    let help = diagnostic::known_names(&name.value, known.iter().map(String::as_str)).or_else(|| {
        Some(
            "connections are told by connections.toml, of which connections.example.toml has one of each type"
                .to_owned(),
        )
    });
    let fault = Diagnostic::error("unknown-connection", format!("there is no connection `{}`", name.value));
    vec![fault.at(source, name.span.clone(), "").maybe_help(help)]
}

/// Sorts faults by place, and leaves out those that were found twice.
fn in_order(faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let place = |fault: &Diagnostic| {
        let first = fault.labels.first();
        first.map_or_else(|| (PathBuf::new(), 0), |label| (label.file.clone(), label.span.start))
    };
    let mut faults = faults;
    faults.sort_by_cached_key(place);
    let mut seen = HashSet::new();
    faults.retain(|fault| seen.insert((fault.code, fault.message.clone(), place(fault))));
    faults
}
