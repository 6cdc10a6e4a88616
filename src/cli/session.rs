//! What the commands open: the project, its connections, its state, its gear.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Common, Screen};
use crate::config::{self, Loaded, Options};
use crate::connections::Connections;
use crate::error::{Error, Kind, Result};
use crate::execute::Gear;
use crate::model::pipeline::{Pipeline, Project};
use crate::serve;

/// The project's folder.
pub(super) fn root(common: &Common) -> Result<PathBuf> {
    let start = match &common.project {
        Some(folder) if folder.is_dir() => folder.clone(),
        Some(folder) => {
            return Err(Error::usage(format!("the project's folder {} is not there", folder.display()))
                .hint("--project and HAUL_PROJECT name a folder that has haul.toml or pipelines/"));
        }
        None => std::env::current_dir().map_err(|error| Error::usage("looking for the project").because(error))?,
    };
    config::find_root(&start)
}

/// Where a project lies, and the connections that its files may name.
pub(super) struct Site {
    pub root: PathBuf,
    pub connections: Connections,
    names: Vec<String>,
}

impl Site {
    pub fn open(common: &Common, screen: &Screen) -> Result<Self> {
        let root = root(common)?;
        let connections = Connections::open(&root, screen.redactor.clone())?;
        let names = connections.names()?;
        Ok(Self { root, connections, names })
    }

    /// What its files are checked against.
    pub fn options(&self) -> Options<'_> {
        Options { known_connections: Some(&self.names), check_connections: true, ..Options::default() }
    }
}

/// The project as far as it is right, and its connections, for those who only look.
pub(super) async fn seen(common: &Common, screen: &Screen) -> Result<(Arc<Project>, Connections)> {
    let site = Site::open(common, screen)?;
    let read = sound(config::load(&site.root, &site.options()), screen);
    Ok((or_without_faults(read, &site.root, screen).await?, site.connections))
}

/// The project, if all its files are right; warnings are printed.
pub(super) fn project(common: &Common, screen: &Screen) -> Result<(Arc<Project>, Connections)> {
    let site = Site::open(common, screen)?;
    let project = sound(config::load(&site.root, &site.options()), screen)?;
    Ok((project, site.connections))
}

/// The project, if all its files are right, for those who use none of its steps: warnings of these are not theirs.
pub(super) fn surroundings(common: &Common, screen: &Screen) -> Result<(Arc<Project>, Connections)> {
    let site = Site::open(common, screen)?;
    let project = right(config::load(&site.root, &site.options()))?;
    Ok((project, site.connections))
}

/// What was read, if it is right; warnings are printed.
pub(super) fn sound(loaded: Loaded, screen: &Screen) -> Result<Arc<Project>> {
    if loaded.project.is_some() && !loaded.diagnostics.is_empty() {
        screen.note(config::render(&loaded.diagnostics, &loaded.sources, screen.colors()).trim_end());
    }
    right(loaded)
}

fn right(loaded: Loaded) -> Result<Arc<Project>> {
    let project = Arc::new(loaded.into_project()?);
    // The process ends with its command: thousands of pipelines need not be taken apart first.
    std::mem::forget(Arc::clone(&project));
    Ok(project)
}

/// The project for those who only look: what is wrong in its files is told, and left out.
pub(super) async fn or_without_faults(
    read: Result<Arc<Project>>,
    root: &Path,
    screen: &Screen,
) -> Result<Arc<Project>> {
    match read {
        Err(error) if error.kind() == Kind::Config => {
            let Ok(project) = serve::tolerant(root, screen.redactor.clone()).await else { return Err(error) };
            screen.error(&error);
            screen.note("what is wrong is left out here");
            Ok(project)
        }
        read => read,
    }
}

/// The project for what needs no connection; warnings are printed.
pub(super) fn offline(common: &Common, screen: &Screen) -> Result<Project> {
    let loaded = config::load(&root(common)?, &Options::default());
    if loaded.project.is_some() && !loaded.diagnostics.is_empty() {
        screen.note(config::render(&loaded.diagnostics, &loaded.sources, screen.colors()).trim_end());
    }
    loaded.into_project()
}

/// The state folder, as far as the project's files tell where it is: others of them may be wrong.
pub(super) fn state_dir(common: &Common) -> Result<PathBuf> {
    let root = root(common)?;
    Ok(config::state_dir(&root))
}

/// Everything that a run needs.
pub(super) async fn gear(common: &Common, screen: &Screen) -> Result<Gear> {
    let (project, connections) = project(common, screen)?;
    Gear::open(project, connections, common.clock(), screen.redactor.clone()).await
}

/// The pipeline of this name.
pub(super) fn pipeline(project: &Project, name: &str) -> Result<Arc<Pipeline>> {
    project.pipeline(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = project.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
        let alike = |other: &&&str| strsim::jaro_winkler(other, name) > 0.8;
        let nearest = names.iter().filter(alike).max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
        let error = Error::usage(format!("there is no pipeline `{name}`"));
        match (nearest, names.as_slice()) {
            (Some(nearest), _) => error.hint(format!("did you mean `{nearest}`?")),
            (None, []) => error.hint("pipelines are files in pipelines/"),
            (None, _) => error.hint(format!("the project has {}", names.join(", "))),
        }
    })
}
