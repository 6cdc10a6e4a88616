//! A look at everything that may be wrong around a project, before it is: machine, files, connections, state, schedules.
//!
//! Nothing is changed. Each check is a line: fine, to be looked at, or wrong, with what to do.

mod files;
mod machine;
mod state;
mod systems;

use std::path::Path;

use serde::Serialize;

use crate::config::{self, Options};
use crate::connections::Connections;
use crate::model::count::counted;
use crate::model::pipeline::Project;
use crate::schedule::Timetable;
use crate::secret::Redactor;
use crate::time::{Clock, Instant};

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Fine.
    Ok,
    /// It works, and somebody ought to look at it.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it belongs to: `machine`, `project`, `connection`, `state`, `schedule`.
    pub area: &'static str,
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub level: Level,
    /// What was seen, redacted.
    pub seen: String,
    /// What to do, where there is anything to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Check {
    fn new(area: &'static str, name: impl Into<String>, level: Level, seen: impl Into<String>) -> Self {
        Self { area, name: name.into(), level, seen: seen.into(), hint: None }
    }

    fn ok(area: &'static str, name: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::new(area, name, Level::Ok, seen)
    }

    fn warn(area: &'static str, name: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::new(area, name, Level::Warn, seen)
    }

    fn fail(area: &'static str, name: impl Into<String>, seen: impl Into<String>) -> Self {
        Self::new(area, name, Level::Fail, seen)
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Examination<'a> {
    /// The project's folder.
    pub root: &'a Path,
    /// Whether other systems are asked.
    pub online: bool,
    /// The clock.
    pub clock: Clock,
}

/// Looks at everything.
pub async fn examine(examination: Examination<'_>, redactor: &Redactor) -> Vec<Check> {
    let Examination { root, online, clock } = examination;
    let now = clock.now();
    let mut checks = machine::machine(root, now);
    let connections = Connections::open(root, redactor.clone());
    let names = match &connections {
        Ok(connections) => connections.names(),
        Err(error) => {
            checks.push(Check::fail("project", "connections", error.chain()));
            Ok(Vec::new())
        }
    };
    let names = names.unwrap_or_else(|error| {
        checks.push(
            Check::fail("project", "connections", error.chain()).hint("is HAUL_KEY the one that sealed the store?"),
        );
        Vec::new()
    });
    let options = Options { known_connections: Some(&names), check_connections: true, ..Options::default() };
    let loaded = config::load(root, &options);
    checks.extend(project_files(&loaded));
    checks.extend(files::secrets(root));
    checks.extend(files::hooks(root));
    let state_dir = loaded.project.as_ref().map_or_else(|| root.join(".haul"), |project| project.state_dir.clone());
    let holder = state::check(&state_dir, loaded.project.as_ref(), now).await;
    checks.extend(holder);
    if let Some(project) = &loaded.project {
        checks.extend(project.pipelines.iter().filter_map(|pipeline| schedule(project, pipeline, now)));
    }
    if let Ok(connections) = &connections {
        for name in &names {
            checks.extend(systems::connection(connections, name, online, redactor, clock).await);
        }
    }
    for check in &mut checks {
        check.seen = redactor.redact(&check.seen);
    }
    checks
}

fn project_files(loaded: &config::Loaded) -> Vec<Check> {
    let errors = loaded.diagnostics.iter().filter(|fault| fault.severity == config::Severity::Error).count();
    let warnings = loaded.diagnostics.len() - errors;
    let name = "files";
    let told = |fault: &config::Diagnostic| {
        let at = fault.labels.first().map(|label| format!(" ({}:{})", label.file.display(), label.line));
        format!("{}{}", fault.message, at.unwrap_or_default())
    };
    let first = loaded.diagnostics.iter().max_by_key(|fault| fault.severity == config::Severity::Error).map(told);
    let first = first.unwrap_or_default();
    vec![match (errors, warnings) {
        (0, 0) => {
            let pipelines = loaded.project.as_ref().map_or(0, |project| project.pipelines.len());
            Check::ok("project", name, format!("{}, no faults", counted(pipelines as u64, "pipeline")))
        }
        (0, some) => {
            Check::warn("project", name, format!("{}: {first}", counted(some as u64, "warning"))).hint("haul check")
        }
        (some, _) => {
            Check::fail("project", name, format!("{}: {first}", counted(some as u64, "fault"))).hint("haul check")
        }
    }]
}

/// A pipeline whose schedule never comes; nothing where there is nothing to say.
fn schedule(project: &Project, pipeline: &crate::model::pipeline::Pipeline, now: Instant) -> Option<Check> {
    use crate::model::schedule::When;
    let schedule = pipeline.schedule.as_ref()?;
    let name = pipeline.name.clone();
    if schedule.paused {
        return Some(Check::warn("schedule", name, "it is paused in its file").hint("paused = false lets it run"));
    }
    if let When::After(other) = &schedule.when {
        let follows = project.pipeline(other).and_then(|other| other.schedule.as_ref());
        return Some(match follows {
            Some(_) => Check::ok("schedule", name, format!("it follows `{other}`")),
            None => Check::warn("schedule", name, format!("it follows `{other}`, which has no schedule of its own"))
                .hint(format!("it runs when somebody runs `{other}` by hand; [schedule] in that file changes this")),
        });
    }
    Some(match Timetable::of(schedule, pipeline.timezone).map(|table| (table.zone(), table.next(now))) {
        Ok((zone, Some(next))) => {
            let at = next.at.with_timezone(&zone).format("%Y-%m-%d %H:%M");
            Check::ok("schedule", name, format!("next at {at} {zone}"))
        }
        Ok((_, None)) => Check::fail("schedule", name, "it never comes: no date in the next eight years is named")
            .hint("the fields of cron are minute, hour, day of month, month, day of week"),
        Err(error) => Check::fail("schedule", name, error.chain()),
    })
}
