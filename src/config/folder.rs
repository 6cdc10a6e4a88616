//! The files of a project: which there are, read once, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;
use std::sync::Arc;

use rayon::prelude::*;

use super::Options;
use super::connection_file::read_connections;
use super::diagnostic::{Diagnostic, Source, Sources, nearest};
use super::pipeline::{is_plain_name, stem};
use crate::error::{Context, Error, Kind, Result};

/// The files of a project by what they are.
#[derive(Default)]
pub struct Folder {
    /// `haul.toml`, if there is one.
    pub project: Option<Arc<Source>>,
    /// The files of `pipelines/` by name.
    pub pipelines: Vec<(String, Arc<Source>)>,
    /// The files of `hooks/` by name.
    pub hooks: Vec<(String, Arc<Source>)>,
    /// The files of `sql/` by their path relative to the root, with `/` between folders.
    pub sql: BTreeMap<String, Arc<str>>,
    /// All of them, for diagnostics.
    pub sources: Sources,
    /// What counts instead of files as they are; none of them as if it were not there.
    instead: BTreeMap<PathBuf, Option<Arc<str>>>,
}

/// The nearest folder at or above `start` that has `haul.toml` or `pipelines/`.
///
/// # Errors
/// There is none.
pub fn find_root(start: &Path) -> Result<PathBuf> {
    let start = std::path::absolute(start).context(Kind::Storage, || format!("finding `{}`", start.display()))?;
    let is_root = |folder: &&Path| folder.join("haul.toml").is_file() || folder.join("pipelines").is_dir();
    start.ancestors().find(is_root).map(Path::to_path_buf).ok_or_else(|| {
        Error::usage(format!("no project in `{}` or above it", start.display()))
            .hint("a project has a file `haul.toml` or a folder `pipelines`; `haul init` makes one")
    })
}

impl Folder {
    /// Reads all files; what cannot be read is reported.
    pub fn read(root: &Path, options: &Options<'_>, faults: &mut Vec<Diagnostic>) -> Self {
        let mut folder = Self { instead: options.instead.cloned().unwrap_or_default(), ..Self::default() };
        let project = Path::new("haul.toml");
        if root.join(project).exists() {
            folder.project = folder.file(root, project, faults);
        }
        folder.pipelines = folder.tables(root, "pipelines", options.only, faults);
        folder.hooks = folder.tables(root, "hooks", None, faults);
        folder.sql_files(root, Path::new("sql"), faults);
        if folder.pipelines.is_empty() && faults.is_empty() {
            let source = Source::new("pipelines", "");
            faults.push(
                Diagnostic::warning("no-pipelines", "the project has no pipelines")
                    .at(&source, 0..0, "")
                    .help("a pipeline is a file: pipelines/<name>.toml"),
            );
        }
        folder
    }

    /// Checks the keys and forms of `connections.toml`, of which no excerpt is ever shown.
    pub fn check_connections(&mut self, root: &Path) -> Vec<Diagnostic> {
        let path = Path::new("connections.toml");
        match std::fs::read_to_string(root.join(path)) {
            Ok(text) => {
                let source = Arc::new(Source::new(path, text).with_secrets());
                self.sources.insert(path.to_path_buf(), source.clone());
                read_connections(&source).1
            }
            Err(error) => vec![unreadable(path, &error)],
        }
    }

    /// The files of a folder of TOML files; they are read at once on all cores, since a project may have thousands.
    fn tables(
        &mut self,
        root: &Path,
        name: &str,
        only: Option<&BTreeSet<String>>,
        faults: &mut Vec<Diagnostic>,
    ) -> Vec<(String, Arc<Source>)> {
        let (paths, others): (Vec<PathBuf>, Vec<PathBuf>) = match only {
            // Whoever knows their names need not look for them among thousands.
            Some(only) => (only.iter().map(|stem| Path::new(name).join(format!("{stem}.toml"))).collect(), Vec::new()),
            None => entries(root, Path::new(name), faults).into_iter().partition(|path| ending(path) == "toml"),
        };
        for path in others {
            let ending = ending(&path);
            if nearest(&ending, ["toml"]).is_some() || ending == "yaml" || ending == "yml" {
                let place = Source::new(path.clone(), "");
                faults.push(
                    Diagnostic::warning("other-ending", "this file is not read")
                        .at(&place, 0..0, "")
                        .help(format!("the files of `{name}` end in `.toml`")),
                );
            }
        }
        let texts: Vec<Text> = paths.par_iter().map(|path| self.text(root, path)).collect();
        let mut found = Vec::with_capacity(texts.len());
        self.sources.reserve(texts.len());
        for (path, text) in paths.into_iter().zip(texts) {
            let Some(source) = self.keep(&path, text, faults) else { continue };
            let stem = stem(&path);
            if !is_plain_name(&stem) {
                faults.push(
                    Diagnostic::error("bad-name", format!("`{stem}` cannot be a name"))
                        .at(&source, 0..0, "")
                        .help("the file's name has letters, digits, underscores and hyphens before its ending"),
                );
            }
            found.push((stem, source));
        }
        found
    }

    fn sql_files(&mut self, root: &Path, folder: &Path, faults: &mut Vec<Diagnostic>) {
        for path in entries(root, folder, faults) {
            if root.join(&path).is_dir() {
                self.sql_files(root, &path, faults);
            } else if path.extension().is_some_and(|ending| ending == "sql")
                && let Some(source) = self.file(root, &path, faults)
            {
                let name =
                    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
                self.sql.insert(name, source.text.clone());
            }
        }
    }

    fn file(&mut self, root: &Path, path: &Path, faults: &mut Vec<Diagnostic>) -> Option<Arc<Source>> {
        let text = self.text(root, path);
        self.keep(path, text, faults)
    }

    /// The text that counts for a file.
    fn text(&self, root: &Path, path: &Path) -> Text {
        if let Some(instead) = self.instead.get(path) {
            return instead.clone().map_or(Text::Absent, |text| Text::Read(Arc::new(Source::new(path, text))));
        }
        match std::fs::read(root.join(path)).map(String::from_utf8) {
            Ok(Ok(text)) => Text::Read(Arc::new(Source::new(path, text))),
            Ok(Err(error)) => Text::NotUtf8(error),
            Err(error) => Text::Unreadable(error),
        }
    }

    /// Keeps a text for diagnostics; what is wrong with it is reported.
    fn keep(&mut self, path: &Path, text: Text, faults: &mut Vec<Diagnostic>) -> Option<Arc<Source>> {
        match text {
            Text::Absent => None,
            Text::Unreadable(error) => {
                faults.push(unreadable(path, &error));
                None
            }
            Text::Read(source) => {
                self.sources.insert(path.to_path_buf(), source.clone());
                Some(source)
            }
            Text::NotUtf8(error) => {
                let valid = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let source = Arc::new(Source::new(path, text));
                self.sources.insert(path.to_path_buf(), source.clone());
                faults.push(
                    Diagnostic::error("not-utf8", "this file is not UTF-8 text")
                        .at(&source, valid..valid + 1, "from here on")
                        .help("save the file with the encoding UTF-8"),
                );
                None
            }
        }
    }
}

/// What reading a file gave.
enum Text {
    Read(Arc<Source>),
    NotUtf8(FromUtf8Error),
    Unreadable(std::io::Error),
    /// It counts as if it were not there.
    Absent,
}

fn ending(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().into_owned()
}

/// The entries of a folder in the order of their names, without hidden ones; none when there is no such folder.
fn entries(root: &Path, folder: &Path, faults: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    let read = match std::fs::read_dir(root.join(folder)) {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            faults.push(unreadable(folder, &error));
            return Vec::new();
        }
    };
    let mut names: Vec<_> = read.filter_map(|entry| entry.ok().map(|entry| entry.file_name())).collect();
    names.retain(|name| !name.to_string_lossy().starts_with('.'));
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Diagnostic {
    let place = Source::new(path, "");
    Diagnostic::error("unreadable", format!("`{}` cannot be read: {error}", path.display())).at(&place, 0..0, "")
}
