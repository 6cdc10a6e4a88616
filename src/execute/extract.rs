//! An extract task: lease, pull, stage, compare, guard, commit, record.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::bookmark;
use super::change::{self, Looked};
use super::fan::{self, Fan};
use super::gear::Gear;
use super::outcome::{Cost, UnitOutcome};
use super::place::Place;
use super::scope::{self, Occasion};
use super::source::{self, Terms};
use super::stages::Stages;
use super::worker::{Shared, is_forced};
use tokio_util::sync::CancellationToken;

use crate::error::{Context, Error, Kind, Result};
use crate::extract::{Failure, Page, Pull, Pulled, Sink};
use crate::model::cost::{Billing, Prices};
use crate::model::ledger::{Fingerprint, Lease, PullOutcome};
use crate::model::pipeline::{Extract, Per, Pipeline, Step, Verdict, Write};
use crate::model::plan::{Due, PlannedTask};
use crate::model::run::TaskId;
use crate::model::schema::SourceColumn;
use crate::model::shape::Shape;
use crate::model::source::Source;
use crate::monitor::{Boundary, Event, Monitor};
use crate::stage::{self, Manifest, Stage};
use crate::template::Scope;
use crate::time::{Unit, UnitKey, Window};
use crate::warehouse::{Commit, CommitOutcome, Dialect, Labels, NewRows, Permit, UnitCommit};

/// How often a pull is begun anew because the source's total moved while its pages were read.
const STEADY_ATTEMPTS: u32 = 3;

/// Segments rotate at this size, before compression, so that the warehouse can read several at once.
const SEGMENT_BYTES: u64 = 1 << 20;

/// A pull that is not rendered from the step's own source, of rows that are known already.
pub(super) struct Given {
    /// None for a fan-out.
    pub pull: Option<Arc<dyn Pull>>,
    /// What the rows are taken from.
    pub inputs: Option<String>,
    /// How many rows have to come, and their digest.
    pub expected: Option<(u64, Fingerprint)>,
}

/// Pulls the task's units and brings what changed into the warehouse, or where else the step's rows land.
pub(super) async fn run(
    shared: &Shared<'_>,
    task: &PlannedTask,
    step: &Extract,
    given: Option<Given>,
) -> Result<Vec<UnitOutcome>> {
    let gear = shared.gear;
    let started_at = gear.clock.now();
    let keys = task.keys();
    let leases = gear.state.lease(&task.step.into, &keys, &shared.occasion.run, started_at).await?;
    shared.crossed(task, Boundary::Leased);
    let place = Place::of(gear, shared.pipeline, &task.step).await?;
    let stages = Stages::of(&gear.project.state_dir, shared.pipeline, &task.step, &keys[0], keys.len());
    let occasion = occasion(&shared.occasion, task, step);
    let scope = scope::scope(
        gear,
        shared.pipeline,
        &task.step,
        &occasion,
        unit_of(task, step),
        &place.dialect(gear, shared.pipeline)?,
    );
    let Given { pull, inputs, expected } = match given {
        Some(given) => given,
        None => rendered(shared, task, step, &scope).await?,
    };
    admit(shared, task, step, pull.as_deref()).await?;
    // Before the rows: what changes in between is seen by the next pull.
    let state = match &pull {
        None => None,
        Some(pull) => match change::look(shared, task, step, &**pull, &leases, started_at).await? {
            Looked::Read(state) => state,
            Looked::Ended(outcomes) => return Ok(outcomes),
        },
    };
    let dir = if task.due == Due::Retry {
        stages.incomplete(leases[0].pull)?
    } else {
        stages.current(leases[0].pull, started_at)?
    };
    let brought = match (&pull, fan::fan_out(step)) {
        (None, Some((http, each))) => {
            fan::bring(shared, task, &Fan { step, http, each, scope: &scope }, &dir, &leases[0]).await
        }
        (Some(pull), _) => {
            let spec = spec_of(shared, task, step, &pull.identity(), &leases[0], state.as_deref());
            bring(shared, task, &**pull, &dir, spec).await
        }
        (None, None) => return Err(Error::internal("a step that asks for nothing")),
    };
    let (manifest, pulled) = match brought {
        Ok(brought) => brought,
        Err(failure) => {
            if failure.in_doubt || at_fault(&failure.error) {
                stages.done(&dir)?;
            }
            return Err(failure.error);
        }
    };
    shared.crossed(task, Boundary::Sealed);
    tell_outside(shared, task, step, &manifest);
    let mut outcomes = judge(shared, task, &manifest, &leases, state.as_deref());
    if let Err(error) = assert_expected(pull.as_deref(), &outcomes, expected) {
        stages.done(&dir)?;
        return Err(error);
    }
    for outcome in &mut outcomes {
        outcome.inputs.clone_from(&inputs);
    }
    shared.spare_rejected(task, &mut outcomes).await?;
    shared.crossed(task, Boundary::Judged);
    if let Err(error) = commit(shared, task, step, &place, &manifest, &mut outcomes).await {
        if at_fault(&error) {
            stages.done(&dir)?;
        }
        return Err(error);
    }
    shared.crossed(task, Boundary::Committed);
    let held = outcomes.iter().any(|outcome| outcome.outcome == PullOutcome::Held);
    let place = match (held, &manifest.missing) {
        (true, _) => Some(stages.hold(&dir, leases[0].pull)?),
        (false, Some(_)) => Some(stages.set_aside(&dir, leases[0].pull)?),
        (false, None) => None,
    };
    for outcome in outcomes.iter_mut().filter(|outcome| outcome.outcome == PullOutcome::Held || !held) {
        outcome.held_stage.clone_from(&place);
        if let Some(missing) = manifest.missing.as_ref().filter(|_| outcome.reason.is_none()) {
            outcome.reason = Some(missing.why.clone());
        }
    }
    let cost = Cost { requests: pulled.requests, bytes: pulled.bytes, started_at, finished_at: gear.clock.now() };
    shared.keep(task, &outcomes, cost).await?;
    if place.is_none() {
        bookmark::keep(gear, &task.step, step, &manifest).await?;
        stages.done(&dir)?;
    }
    stages.sweep(place.as_deref())?;
    Ok(outcomes)
}

/// Prices a pull again right before its statements are sent, where that could not be told before and there is a limit.
async fn admit(shared: &Shared<'_>, task: &PlannedTask, step: &Extract, pull: Option<&dyn Pull>) -> Result<()> {
    let Some(pull) = pull.filter(|_| shared.purse.asks(task)) else { return Ok(()) };
    let Some(quote) = pull.price(&Prices::default()).await? else { return Ok(()) };
    let state = quote.state.as_ref().map(|state| change::fingerprint(pull, step, state));
    let ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    // What is as it was is not read, whatever that would cost.
    if state.is_some_and(|state| change::is_as_loaded(&ledger, task, &state)) {
        return Ok(());
    }
    drop(ledger);
    shared.purse.admit(task, &quote)
}

/// The pull of the step's own source; a fan-out makes its own.
async fn rendered(shared: &Shared<'_>, task: &PlannedTask, step: &Extract, scope: &Scope) -> Result<Given> {
    let pull = match fan::fan_out(step) {
        Some(_) => None,
        None => {
            let bookmark = bookmark::of(shared, task, step).await?;
            let terms = Terms { bookmark, billing: shared.purse.billing(task), ..Terms::default() };
            Some(source::pull_of(shared.gear, (shared.pipeline, &task.step, step), scope, terms).await?)
        }
    };
    Ok(Given { pull, inputs: None, expected: None })
}

/// Refuses rows that are not those that landed: somebody has changed them since.
fn assert_expected(
    pull: Option<&dyn Pull>,
    outcomes: &[UnitOutcome],
    expected: Option<(u64, Fingerprint)>,
) -> Result<()> {
    let Some((rows, fingerprint)) = expected else { return Ok(()) };
    let Some(outcome) = outcomes.first().filter(|one| one.rows != rows || one.fingerprint != Some(fingerprint)) else {
        return Ok(());
    };
    let found = match outcome.rows {
        same if same == rows => "some of its rows are others".to_owned(),
        other => format!("it has {other} rows, {rows} landed"),
    };
    Err(Error::new(Kind::Data, format!("reading {} from {}", outcome.key, pull.map(Pull::place).unwrap_or_default()))
        .because(format!("{found}: somebody has changed documents since"))
        .hint("land the unit again: `haul run … --force`"))
}

/// Whether the rows themselves were refused: the next run asks for them anew, since they are mended at the source.
fn at_fault(error: &Error) -> bool {
    matches!(error.kind(), Kind::Data | Kind::Check)
}

/// The occasion of a task: a query over several units asks for just these, wherever the run's window lies.
pub(super) fn occasion(run: &Occasion, task: &PlannedTask, step: &Extract) -> Occasion {
    let mut occasion = run.clone();
    if let (Source::Collection(_), Some(first), Some(last)) = (&step.source, task.units.first(), task.units.last())
        && let Ok(window) = Window::spanning(first.calendar, first.start, last.end)
    {
        occasion.window = Some(window);
    }
    occasion
}

/// The unit that the request is rendered for; a request over the whole window has none.
pub(super) fn unit_of<'a>(task: &'a PlannedTask, step: &Extract) -> Option<&'a Unit> {
    match step.per {
        Per::Unit => task.units.first(),
        Per::Window => None,
    }
}

/// Brings all pages into the stage and seals it; begins anew while the source moves under the pull.
async fn bring(
    shared: &Shared<'_>,
    task: &PlannedTask,
    pull: &dyn Pull,
    dir: &Path,
    spec: stage::Spec,
) -> Result<(Manifest, Pulled), Failure> {
    let mut cost = Pulled::default();
    for attempt in 1..=STEADY_ATTEMPTS {
        let stage = open_stage(dir, &spec, pull.resumes()).await?;
        if let Some(manifest) = stage.sealed() {
            tell_resumed(shared, task, manifest.pages, manifest.rows);
            return Ok((manifest, cost));
        }
        let progress = stage.progress();
        let durable = progress.pages();
        if progress.rows > 0 {
            tell_resumed(shared, task, durable, progress.rows);
        }
        let sink = StageSink {
            stage: stage.clone(),
            monitor: Arc::clone(&shared.monitor),
            task: task.id.clone(),
            redactor: shared.gear.redactor.clone(),
        };
        let pulled = pull.pages(progress, Arc::new(sink), shared.cancel_of(task)).await;
        let pulled = pulled.map_err(|mut failure| {
            failure.in_doubt |= match failure.error.kind() {
                // A source that does not let the pull go on from its durable pages is asked from the beginning.
                Kind::Source => stage.progress().pages() == durable,
                Kind::Data => true,
                _ => false,
            };
            failure
        })?;
        cost.requests += pulled.requests;
        cost.bytes += pulled.bytes;
        if !pulled.total_moved {
            let manifest = blocking(move || stage.seal()).await?;
            return Ok((manifest, cost));
        }
        drop(stage);
        stage::discard(dir)?;
        if attempt < STEADY_ATTEMPTS {
            shared.warn(task, "the source's total moved while its pages were read; the pull begins anew");
        }
    }
    Err(Error::new(Kind::Source, format!("reading {}", pull.place()))
        .because(format!("the total moved during each of {STEADY_ATTEMPTS} pulls"))
        .hint("pull a unit that has ended, or leave `paginate.total` out and let an empty page end the pull")
        .into())
}

pub(super) fn spec_of(
    shared: &Shared<'_>,
    task: &PlannedTask,
    step: &Extract,
    identity: &str,
    lease: &Lease,
    state: Option<&str>,
) -> stage::Spec {
    stage::Spec {
        table: task.step.into.clone(),
        units: task.units.clone(),
        split: step.per == Per::Window && !task.units.is_empty(),
        time: step.time.clone(),
        tz: step.time_zone.unwrap_or(shared.pipeline.timezone),
        pull: lease.pull,
        // Pages of another state of the source are pages of another pull.
        request: format!("{identity} {:?}{}", step.nested, state.unwrap_or_default()),
        target_bytes: SEGMENT_BYTES,
    }
}

pub(super) async fn open_stage(dir: &Path, spec: &stage::Spec, resumes: bool) -> Result<Stage> {
    let (dir, spec) = (dir.to_owned(), spec.clone());
    blocking(move || {
        let stage = Stage::open(&dir, spec.clone())?;
        if resumes || stage.sealed().is_some() || stage.progress().pages() == 0 {
            return Ok(stage);
        }
        drop(stage);
        stage::discard(&dir)?;
        Stage::open(&dir, spec)
    })
    .await
}

/// Runs file work away from the async threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(Kind::Internal, || "working on the stage".to_owned())?
}

fn tell_resumed(shared: &Shared<'_>, task: &PlannedTask, pages: u64, rows: u64) {
    shared.monitor.event(&Event::Resumed { task: &task.id, pages, rows });
}

fn tell_outside(shared: &Shared<'_>, task: &PlannedTask, step: &Extract, manifest: &Manifest) {
    if manifest.outside > 0 && !step.source.asks_widely() {
        let fate = match step.time.as_ref().map(|time| time.outside) {
            Some(crate::model::pipeline::Outside::Drop) => "were left out",
            _ => "were kept",
        };
        shared.warn(
            task,
            &match manifest.outside {
                1 => format!("1 row lies outside of the unit and {}", fate.replace("were", "was")),
                rows => format!("{rows} rows lie outside of the unit and {fate}"),
            },
        );
    }
}

/// Puts pages into the stage as they come.
struct StageSink {
    stage: Stage,
    monitor: Arc<dyn Monitor>,
    task: TaskId,
    redactor: crate::secret::Redactor,
}

impl Sink for StageSink {
    fn put(&self, page: Page) -> Result<()> {
        self.stage.append(&page.entry, &page.body, &page.rows)?;
        self.monitor.event(&Event::Page {
            task: &self.task,
            rows: page.entry.rows,
            bytes: page.wire_bytes,
            total: page.entry.total,
        });
        Ok(())
    }

    fn columns(&self, columns: Vec<SourceColumn>) -> Result<()> {
        self.stage.declare(columns);
        Ok(())
    }

    fn keys(&self, keys: Vec<String>) -> Result<()> {
        self.stage.identify(keys);
        Ok(())
    }

    fn bookmark(&self, json: &str) -> Result<()> {
        self.stage.bookmark(json);
        Ok(())
    }

    fn said(&self, line: &str) {
        self.monitor.event(&Event::Said { task: &self.task, line: self.redactor.redact(line) });
    }

    fn shape(&self, shape: Shape) -> Result<()> {
        self.stage.adopt(shape);
        Ok(())
    }

    fn retrying(&self, reason: &str, pause: Duration) {
        let reason = self.redactor.redact(reason);
        self.monitor.event(&Event::Retry { task: &self.task, reason, pause });
    }

    fn warn(&self, sentence: &str) {
        let message = self.redactor.redact(sentence);
        self.monitor.event(&Event::Warning { task: Some(&self.task), message });
    }

    fn paced(&self, sentence: &str) {
        self.monitor.event(&Event::Pace { sentence: self.redactor.redact(sentence) });
    }
}

/// Compares every unit's new rows with what the warehouse has: unchanged, held, or to be written.
fn judge(
    shared: &Shared<'_>,
    task: &PlannedTask,
    manifest: &Manifest,
    leases: &[Lease],
    state: Option<&str>,
) -> Vec<UnitOutcome> {
    task.keys()
        .into_iter()
        .zip(leases)
        .enumerate()
        .map(|(index, (key, lease))| {
            let (rows, fingerprint) = manifest.units.get(&key).copied().unwrap_or_default();
            let before = shared.record(&task.step, &key).and_then(|record| record.loaded);
            let (outcome, reason) = match &before {
                Some(loaded) if loaded.rows == rows && loaded.fingerprint == fingerprint && !is_forced(task) => {
                    (PullOutcome::Unchanged, None)
                }
                Some(loaded) if task.step.write != Write::Append => match task.step.guard.judge(loaded.rows, rows) {
                    Verdict::Pass => (PullOutcome::Loaded, None),
                    Verdict::Hold(reason) => (PullOutcome::Held, Some(reason)),
                },
                _ => (PullOutcome::Loaded, None),
            };
            UnitOutcome {
                key,
                unit: task.units.get(index).copied(),
                lease: *lease,
                outcome,
                rows,
                fingerprint: Some(fingerprint),
                changes: None,
                inputs: None,
                reason,
                probe: state.map(str::to_owned),
                held_stage: None,
            }
        })
        .collect()
}

/// Commits the units that are to be written, in one transaction, and takes over what the warehouse says of them.
async fn commit(
    shared: &Shared<'_>,
    task: &PlannedTask,
    step: &Extract,
    place: &Place,
    manifest: &Manifest,
    outcomes: &mut [UnitOutcome],
) -> Result<()> {
    let units: Vec<UnitCommit> = outcomes
        .iter()
        .filter(|outcome| outcome.outcome == PullOutcome::Loaded)
        .map(|outcome| unit_commit(shared, task, outcome))
        .collect();
    let others = outcomes.iter().filter(|outcome| outcome.outcome != PullOutcome::Loaded);
    place.tidy(shared.gear, others).await?;
    if units.is_empty() {
        return Ok(());
    }
    let committed = place.put(shared, task, step, manifest, units).await?;
    for warning in &committed.warnings {
        shared.warn(task, warning);
    }
    if !committed.left_out.is_empty() {
        shared.warn(task, &format!("left out by the contract: {}", committed.left_out.join(", ")));
    }
    for unit in committed.units {
        let Some(outcome) = outcomes.iter_mut().find(|outcome| outcome.key == unit.key) else { continue };
        outcome.changes = unit.changes;
        if let CommitOutcome::Held(reason) = unit.outcome {
            outcome.outcome = PullOutcome::Held;
            outcome.reason = Some(reason);
        }
    }
    Ok(())
}

fn unit_commit(shared: &Shared<'_>, task: &PlannedTask, outcome: &UnitOutcome) -> UnitCommit {
    UnitCommit {
        unit: outcome.unit,
        key: outcome.key.clone(),
        pull: outcome.lease.pull,
        generation: outcome.lease.generation,
        previous: shared.record(&task.step, &outcome.key).and_then(|record| record.loaded),
        guard: task.step.guard,
        staged: Some((outcome.rows, outcome.fingerprint.unwrap_or_default())),
        inputs: outcome.inputs.clone(),
    }
}

/// The commit of a sealed stage.
#[expect(clippy::too_many_arguments, reason = "the pieces of one statement; a struct would only rename them")]
pub(super) fn staged_commit(
    gear: &Gear,
    pipeline: &Pipeline,
    step: &Arc<Step>,
    extract: &Extract,
    occasion: &Occasion,
    manifest: &Manifest,
    units: Vec<UnitCommit>,
    dialect: &Dialect,
    cancel: &CancellationToken,
) -> Result<Commit> {
    let unit = units.first().and_then(|unit| unit.unit).filter(|_| extract.per == Per::Unit);
    let columns = manifest
        .shape
        .into_schema_of(&manifest.columns, &extract.columns, extract.nested, extract.naming)
        .map_err(|error| error.while_doing(format!("typing the columns of {}", step.into)))?;
    let write = bookmark::write_of(step, manifest, &columns)?;
    Ok(Commit {
        table: step.into.clone(),
        grain: pipeline
            .window
            .as_ref()
            .filter(|_| !units.iter().any(|unit| unit.key.is_whole()))
            .map(|rule| rule.grain),
        rows: NewRows::Staged {
            files: manifest.segments.clone(),
            columns,
            unit_in_rows: manifest.unit_in_rows,
            longest_row: manifest.longest_row,
        },
        write,
        keys: step.keys.clone(),
        contract: extract.contract,
        units,
        checks: super::transform::checks(gear, pipeline, step, occasion, unit.as_ref(), dialect)?,
        layout: step.layout.clone(),
        labels: Labels { pipeline: pipeline.name.clone(), step: step.name.clone() },
        billing: Billing::default(),
        cancel: cancel.clone(),
        permit: Permit::default(),
        run: occasion.run.clone(),
        at: gear.clock.now(),
    })
}

/// The folder of a stage that was set aside.
pub(super) fn held_dir(gear: &Gear, place: &str) -> PathBuf {
    gear.project.state_dir.join(place)
}

/// The keys whose rows a held stage has.
pub(super) fn held_units(manifest: &Manifest) -> Vec<UnitKey> {
    manifest.units.keys().cloned().collect()
}
