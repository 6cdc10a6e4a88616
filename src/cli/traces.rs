//! Traces of what is run from here, where the project or the environment wants them.

use super::Common;
use crate::connections::Connections;
use crate::model::pipeline::Project;
use crate::secret::Redactor;
use crate::traces::{Say, Traces};

/// Begins to send traces, if somebody wants them; what keeps them from being sent is told, and keeps nothing else.
pub(super) fn open(
    project: &Project,
    connections: &Connections,
    common: &Common,
    redactor: &Redactor,
    say: Say,
) -> Option<Traces> {
    let open = |target| Traces::open(target, common.clock(), redactor.clone(), say.clone());
    let opened = connections.traces(project.serve.traces.as_ref()).and_then(|target| target.map(open).transpose());
    opened.unwrap_or_else(|error| {
        say(&format!("no traces are sent: {}", redactor.redact(&error.chain())));
        None
    })
}
