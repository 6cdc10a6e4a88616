//! Recording a pipeline: its extracts run for real, on a throwaway warehouse, and what they exchange becomes a cassette.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::NaiveDate;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{asked_by, elsewhere, warehouse};
use crate::connections::Connections;
use crate::error::{Context, Error, Kind, Result};
use crate::execute::{self, Gear};
use crate::extract::cassette::{Recorder, Tape};
use crate::model::connection::ConnectionKind;
use crate::model::exchange::{CASSETTE_VERSION, CassetteHead};
use crate::model::hook::{CursorPlace, PageStyle};
use crate::model::pipeline::{Action, Pipeline, Project};
use crate::model::run::{RunStatus, TaskState, Trigger, fold};
use crate::model::source::Source;
use crate::monitor::Monitor;
use crate::plan::Ask;
use crate::secret::Redactor;
use crate::time::Clock;

/// What was recorded.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    /// The cassette, relative to the project's root.
    pub cassette: PathBuf,
    /// How many exchanges it has.
    pub exchanges: usize,
    /// Extracts that ask no API over HTTP, and so are not in it.
    pub left_out: Vec<String>,
}

/// Runs the extracts of a pipeline for a date and keeps what they exchange, without any secret.
///
/// # Errors
/// An extract that fails, an answer that cannot be kept without a secret; nothing is written then.
#[expect(clippy::too_many_arguments, reason = "the pieces of one command; a struct would only rename them")]
pub async fn record(
    project: &Project,
    connections: &Connections,
    pipeline: &Arc<Pipeline>,
    steps: &[String],
    date: NaiveDate,
    name: &str,
    clock: Clock,
    redactor: &Redactor,
    monitor: Arc<dyn Monitor>,
) -> Result<Recorded> {
    let folder = tempfile::tempdir().context(Kind::Storage, || "making a folder for a recording".to_owned())?;
    secrets_of_all(connections)?;
    let recorder = Arc::new(Recorder::new(redactor.clone(), pagination_headers(pipeline)));
    let throwaway = Arc::new(Project { state_dir: folder.path().join("state"), ..project.clone() });
    let own = {
        let places = elsewhere(project, folder.path());
        connections.with(places.into_iter().chain([warehouse(&pipeline.warehouse, folder.path())]))
    };
    let gear = Gear::open(throwaway, own, clock, redactor.clone()).await?;
    let gear = gear.with_tape(Tape::Record(Arc::clone(&recorder)));
    let select = if steps.is_empty() { extracts(pipeline)? } else { steps.to_vec() };
    let ran = run(&gear, pipeline, select, date, monitor).await;
    gear.state.close().await;
    gear.close().await?;
    ran?;
    let mut addresses = BTreeMap::new();
    for connection in asked_by(pipeline).collect::<BTreeSet<_>>() {
        if let ConnectionKind::Http(http) = connections.get(connection)?.kind {
            addresses.insert(connection.to_owned(), redactor.redact(&http.url));
        }
    }
    if recorder.is_empty() {
        return Err(Error::usage(format!("recording `{}`: no request was sent over HTTP", pipeline.name))
            .hint("a cassette has exchanges with APIs; other sources are not recorded"));
    }
    let head = CassetteHead {
        haul_cassette: CASSETTE_VERSION,
        of: pipeline.name.clone(),
        date: Some(date.to_string()),
        connections: addresses,
    };
    let text = recorder.cassette(&head)?;
    let cassette = Path::new("cassettes").join(format!("{name}.jsonl"));
    let place = project.root.join(&cassette);
    let doing = || format!("writing {}", cassette.display());
    std::fs::create_dir_all(project.root.join("cassettes")).context(Kind::Storage, doing)?;
    std::fs::write(place, text).context(Kind::Storage, doing)?;
    Ok(Recorded { cassette, exchanges: recorder.len(), left_out: left_out(pipeline) })
}

async fn run(
    gear: &Gear,
    pipeline: &Arc<Pipeline>,
    select: Vec<String>,
    date: NaiveDate,
    monitor: Arc<dyn Monitor>,
) -> Result<()> {
    let ask = Ask {
        trigger: Trigger::Manual,
        logical_date: date,
        select,
        range: None,
        window: None,
        force: false,
        retry: false,
    };
    let (plan, _) = execute::plan(gear, pipeline, &ask).await?;
    let record = execute::run(gear, &plan, monitor, CancellationToken::new()).await?;
    if record.status == RunStatus::Succeeded {
        return Ok(());
    }
    let logs = gear.state.run(&record.id).await?.map(|(_, logs)| logs).unwrap_or_default();
    let told = fold(&logs)?.into_iter().find_map(|(task, state)| match state {
        TaskState::Failed { kind, reason } => Some(format!("{task} failed: {kind}: {reason}")),
        TaskState::Held { reason } => Some(format!("{task} is held: {reason}")),
        _ => None,
    });
    Err(Error::new(Kind::Source, format!("recording `{}`", pipeline.name))
        .because(told.unwrap_or_else(|| "the run did not end".to_owned()))
        .hint("nothing was written: a cassette has whole runs only"))
}

fn extracts(pipeline: &Pipeline) -> Result<Vec<String>> {
    let extracts: Vec<String> = pipeline
        .steps
        .iter()
        .filter(|step| matches!(step.action, Action::Extract(_)))
        .map(|step| step.name.clone())
        .collect();
    if extracts.is_empty() {
        return Err(Error::usage(format!("recording `{}`: it has no extract steps", pipeline.name)));
    }
    Ok(extracts)
}

fn left_out(pipeline: &Pipeline) -> Vec<String> {
    let others = pipeline.steps.iter().filter(|step| match &step.action {
        Action::Extract(extract) => !matches!(extract.source, Source::Http(_)),
        Action::Transform(_) | Action::Load(_) | Action::Wait(_) | Action::Run(_) => false,
    });
    others.map(|step| step.name.clone()).collect()
}

/// Lets the redactor know the secrets of all connections, also of those that are not used: none may be in a cassette.
pub(super) fn secrets_of_all(connections: &Connections) -> Result<()> {
    for name in connections.names()? {
        // One that cannot be resolved now cannot be in an answer that is asked for now.
        let _ = connections.get(&name);
    }
    Ok(())
}

/// The headers that steps of a pipeline read their cursors from.
pub(super) fn pagination_headers(pipeline: &Pipeline) -> Vec<String> {
    let header = |action: &Action| {
        let Action::Extract(extract) = action else { return None };
        let Source::Http(http) = &extract.source else { return None };
        match &http.paginate.by {
            PageStyle::Cursor { at: CursorPlace::Header(name), .. } => Some(name.clone()),
            _ => None,
        }
    };
    pipeline.steps.iter().filter_map(|step| header(&step.action)).collect()
}
