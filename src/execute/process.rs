//! From a step that runs a program to the program itself: its command, its environment, its settings.

use std::path::Path;

use chrono::SecondsFormat;
use serde_json::{Map, Value};

use super::gear::Gear;
use super::request::fill;
use crate::error::{Context, Error, Kind, Result};
use crate::extract::{self, ProcessPull, Program, Replication, Tap};
use crate::model::name::{Origin, Text};
use crate::model::pipeline::{Extract, Pipeline, Step};
use crate::model::source::{ProcessSource, Speaks, TapSource};
use crate::secret::SecretString;
use crate::template::Scope;
use crate::time::Instant;

/// The variables of haul's environment that every program gets: where programs and certificates are, and how to speak.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// The variable with the run's name, which differs from run to run and decides no row.
const RUN: &str = "HAUL_RUN";

/// The program that a step runs for a unit or a window; nothing is started yet.
///
/// `bookmark` is the state that a tap told when its last rows were loaded.
pub(super) fn pull(
    gear: &Gear,
    (pipeline, step, extract): (&Pipeline, &Step, &Extract),
    source: &ProcessSource,
    scope: &Scope,
    bookmark: Option<String>,
) -> Result<ProcessPull> {
    let (program, connection) = program(gear, (pipeline, step, &extract.connection), source, scope)?;
    let speaks = match &source.speaks {
        Speaks::JsonLines => extract::Speaks::JsonLines,
        Speaks::Singer(tap) => extract::Speaks::Singer(Box::new(self::tap(gear, tap, scope, bookmark)?)),
    };
    Ok(ProcessPull {
        program,
        speaks,
        connection,
        state_dir: gear.project.state_dir.clone(),
        passing: vec![RUN.to_owned()],
    })
}

/// A program with its command, its environment and its folder, and the fields of its connection; nothing is started yet.
pub(super) fn program(
    gear: &Gear,
    (pipeline, step, connection): (&Pipeline, &Step, &str),
    source: &ProcessSource,
    scope: &Scope,
) -> Result<(Program, Option<(String, SecretString)>)> {
    let render = |text: &Text| gear.templates.render(text, scope);
    let connection = match connection {
        "" => None,
        name => Some((name.to_owned(), gear.connections.fields(name)?)),
    };
    let mut command = source.command.iter().map(render).collect::<Result<Vec<_>>>()?;
    let name = command.first().cloned().unwrap_or_default();
    if let Some(program) = command.first_mut().filter(|program| program.contains('/')) {
        *program = gear.project.root.join(program.trim_start_matches("./")).to_string_lossy().into_owned();
    }
    let mut env = own_variables(gear, pipeline, step, scope)?;
    let passed = PASSED.iter().copied().chain(source.pass_env.iter().map(String::as_str));
    env.extend(passed.filter_map(|name| Some((name.to_owned(), gear.connections.variable(name)?))));
    for (name, text) in &source.env {
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), render(text)?));
    }
    let dir = source.dir.as_ref().map_or_else(|| gear.project.root.clone(), |dir| gear.project.root.join(dir));
    Ok((Program { name, command, env, dir, timeout: source.timeout }, connection))
}

/// The variables by which a program learns what is asked of it.
fn own_variables(gear: &Gear, pipeline: &Pipeline, step: &Step, scope: &Scope) -> Result<Vec<(String, String)>> {
    let utc = |at: Instant| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut env = vec![
        ("HAUL_PIPELINE", pipeline.name.clone()),
        ("HAUL_STEP", step.name.clone()),
        (RUN, scope.run_id.clone()),
        ("HAUL_TIMEZONE", scope.timezone.name().to_owned()),
    ];
    for (name, template) in [("HAUL_DS", "{{ ds }}"), ("HAUL_NEXT_DS", "{{ next_ds }}")] {
        env.push((name, gear.templates.render(&Text::new(template, Origin::clone(&step.origin)), scope)?));
    }
    if let Some(unit) = &scope.unit {
        env.push(("HAUL_UNIT_START", utc(unit.start)));
        env.push(("HAUL_UNIT_END", utc(unit.end)));
    }
    if let Some(window) = &scope.window {
        env.push(("HAUL_WINDOW_START", utc(window.start())));
        env.push(("HAUL_WINDOW_END", utc(window.end())));
    }
    Ok(env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn tap(gear: &Gear, source: &TapSource, scope: &Scope, bookmark: Option<String>) -> Result<Tap> {
    let mut config = Map::new();
    for (name, text) in &source.config {
        let doing = || format!("reading the setting `{name}` at {}", text.origin);
        let mut value: Value = serde_json::from_str(&text.text).context(Kind::Config, doing)?;
        fill(&mut value, &|part| gear.templates.render_json(&Text::new(part, text.origin.clone()), scope))?;
        config.insert(name.clone(), value);
    }
    Ok(Tap {
        config,
        stream: source.stream.clone(),
        replication: Replication { method: source.replication_method, key: source.replication_key.clone() },
        catalog: source.catalog.as_ref().map(|file| catalog(&gear.project.root, file)).transpose()?,
        discovers: source.discovers,
        catalog_argument: source.catalog_argument.clone(),
        state: bookmark.filter(|_| source.keeps_state),
        catalogs: gear.catalogs.clone(),
    })
}

fn catalog(root: &Path, file: &str) -> Result<Value> {
    let doing = || format!("reading the catalog {file}");
    let text = std::fs::read_to_string(root.join(file)).context(Kind::Config, doing)?;
    serde_json::from_str(&text).map_err(|error| {
        Error::config(doing())
            .because(error)
            .hint("it is what the tap prints by --discover: tap-x --config c.json --discover")
    })
}
