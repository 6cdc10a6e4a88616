//! `haul check` and `haul schema`: the project's files, without a network.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::screen::{GOOD, counted};
use super::{Common, Screen, session};
use crate::config::{self, Diagnostic, Options, Severity, Sources};
use crate::connections::{Connections, Origin};
use crate::error::{Context, Kind, Result};
use crate::model::pipeline::{Action, Project};

pub(super) fn check(common: &Common, screen: &Screen) -> Result<u8> {
    let root = session::root(common)?;
    let connections = Connections::open(&root, screen.redactor.clone())?;
    let names = connections.names()?;
    let options = Options { known_connections: Some(&names), check_connections: true, ..Options::default() };
    let mut loaded = config::load(&root, &options);
    if let Some(project) = &loaded.project {
        loaded.diagnostics.extend(faulty_connections(&connections, project, &loaded.sources)?);
        loaded.diagnostics.extend(missing_variants(&connections, project, &loaded.sources));
        let trials = config::trials(project);
        loaded.diagnostics.extend(trials.diagnostics);
        loaded.sources.extend(trials.sources);
    }
    if screen.is_json() {
        screen.json(&config::to_json(&loaded.diagnostics));
    } else if !loaded.diagnostics.is_empty() {
        screen.tell(config::render(&loaded.diagnostics, &loaded.sources, screen.colors()).trim_end());
    }
    let sound = loaded.diagnostics.iter().all(|fault| fault.severity != Severity::Error);
    let Some(project) = loaded.project.filter(|_| sound) else { return Ok(2) };
    if !screen.is_json() {
        screen.data(&format!(
            "{GOOD}checked{GOOD:#} {}, {}: no faults, {}",
            counted(project.pipelines.len() as u64, "pipeline"),
            counted(project.sql.len() as u64, "SQL file"),
            counted(loaded.diagnostics.len() as u64, "warning")
        ));
    }
    Ok(0)
}

/// The faults that the forms of connections.toml do not show: keys that contradict each other, a wrong URI in a variable.
///
/// Other programs' variables are no concern of the project: only what it uses is looked at, and its own file.
fn faulty_connections(connections: &Connections, project: &Project, sources: &Sources) -> Result<Vec<Diagnostic>> {
    let used: BTreeSet<&str> = project
        .pipelines
        .iter()
        .flat_map(|pipeline| {
            let extracts = pipeline.steps.iter().flat_map(|step| {
                let own = match &step.action {
                    // A program may need no connection.
                    Action::Extract(extract) => Some(extract.connection.as_str()).filter(|name| !name.is_empty()),
                    Action::Load(load) => Some(load.rows.connection.as_str()),
                    Action::Run(command) => Some(command.connection.as_str()).filter(|name| !name.is_empty()),
                    Action::Transform(_) | Action::Wait(_) => None,
                };
                let own = own.into_iter().chain(step.target().map(|target| target.connection.as_str()));
                own.chain(step.landing().map(|landing| landing.connection.as_str()))
            });
            extracts.chain([pipeline.warehouse.as_str()])
        })
        .collect();
    let mut faults = Vec::new();
    for line in connections.list()? {
        let Some(fault) = connections.show(&line.name).err() else { continue };
        if line.origin != Origin::File && !used.contains(line.name.as_str()) {
            continue;
        }
        let mut diagnostic = Diagnostic::error("bad-connection", fault.chain());
        if line.origin == Origin::File
            && let Some(source) = sources.get(Path::new("connections.toml"))
        {
            let header = format!("[{}]", line.name);
            let start = source.text.find(&header).unwrap_or(0);
            diagnostic = diagnostic.at(source, start..start + header.len(), "");
        }
        let hints = fault.hints();
        faults.push(diagnostic.maybe_help((!hints.is_empty()).then(|| hints.join("; "))));
    }
    Ok(faults)
}

/// The steps that have SQL for other warehouses only than the one that they run in.
fn missing_variants(connections: &Connections, project: &Project, sources: &Sources) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for pipeline in &project.pipelines {
        // A warehouse that cannot be resolved is told elsewhere.
        let Ok(warehouse) = connections.show(&pipeline.warehouse) else { continue };
        let dialect = &warehouse.kind;
        for step in &pipeline.steps {
            let Action::Transform(transform) = &step.action else { continue };
            if transform.sql.of(dialect).is_some() {
                continue;
            }
            let message = format!("the step `{}` has no SQL for {}, which its warehouse is", step.name, dialect);
            let mut fault = Diagnostic::error("no-variant", message).help(format!(
                "it has {}; add sql.{} or sql.default",
                transform.sql.dialects().join(", "),
                dialect
            ));
            if let Some(source) = sources.get(step.origin.file.as_path()) {
                let start = source.offset(step.origin.line, step.origin.column);
                fault = fault.at(source, start..source.line_end(start), "");
            }
            faults.push(fault);
        }
    }
    faults
}

pub(super) fn schema(dir: Option<&Path>, openapi: bool, screen: &Screen) -> Result<u8> {
    let schemas = if openapi {
        let document = serde_json::to_value(crate::api::document());
        let document = document.context(Kind::Internal, || "writing the OpenAPI document".to_owned())?;
        if dir.is_none() {
            screen.json(&document);
            return Ok(0);
        }
        BTreeMap::from([("openapi.json", document)])
    } else {
        config::schemas()
    };
    let Some(dir) = dir else {
        screen.json(&schemas);
        return Ok(0);
    };
    std::fs::create_dir_all(dir).context(Kind::Storage, || format!("creating {}", dir.display()))?;
    for (name, schema) in schemas {
        let path = dir.join(name);
        let text = serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n";
        std::fs::write(&path, text).context(Kind::Storage, || format!("writing {}", path.display()))?;
        screen.data(&path.display().to_string());
    }
    Ok(0)
}
