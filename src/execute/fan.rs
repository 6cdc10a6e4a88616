//! The pull of a fan-out: a snapshot of its items, a request for each, and what is told of those that failed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::extract::{blocking, open_stage, spec_of};
use super::gear::Gear;
use super::worker::Shared;
use super::{items, source};
use crate::error::{Context, Error, Kind, Result};
use crate::extract::{Batch, Breaker, Failure, HttpPull, Page, Pull, Pulled, Sink};
use crate::model::fanout::{BatchEntry, FailedRequest, ForEach, Over, Tally};
use crate::model::ledger::Lease;
use crate::model::pipeline::{Extract, Pipeline};
use crate::model::plan::{Due, PlannedTask};
use crate::model::run::TaskId;
use crate::model::source::{HttpSource, Source};
use crate::monitor::{Event, Monitor};
use crate::secret::Redactor;
use crate::stage::{self, Items, Manifest, Missing, Part, Stage};
use crate::template::Scope;
use crate::time::Unit;

/// What the tasks of each step share in a run: whether asking on is of any use.
#[derive(Default)]
pub(super) struct Breakers {
    steps: Mutex<BTreeMap<String, Arc<Breaker>>>,
}

impl Breakers {
    fn of(&self, step: &str) -> Arc<Breaker> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(steps.entry(step.to_owned()).or_default())
    }
}

/// One fan-out of a task.
pub(super) struct Fan<'a> {
    pub step: &'a Extract,
    pub http: &'a HttpSource,
    pub each: &'a ForEach,
    pub scope: &'a Scope,
}

/// Sends a request for each item that has no durable answer, and seals the stage if no more failed than may.
pub(super) async fn bring(
    shared: &Shared<'_>,
    task: &PlannedTask,
    fan: &Fan<'_>,
    dir: &Path,
    lease: &Lease,
) -> Result<(Manifest, Pulled), Failure> {
    let (folder, retry) = (dir.to_owned(), task.due == Due::Retry);
    let found = blocking(move || {
        if retry {
            stage::unseal(&folder)?;
        }
        Items::find(&folder)
    })
    .await?;
    let breaker = shared.breakers.of(&task.step.name);
    let pull = source::fan_of(shared.gear, fan.step, fan.http, fan.each, fan.scope, breaker).await?;
    let identity = source::fan_identity(&pull, fan.http, fan.each, fan.scope);
    let stage = open_stage(dir, &spec_of(shared, task, fan.step, &identity, lease, None), true).await?;
    if let Some(manifest) = stage.sealed() {
        let of = manifest.missing.as_ref().map_or(manifest.pages, |missing| missing.of);
        tell_resumed(shared, task, manifest.pages, of, manifest.rows);
        return Ok((manifest, Pulled::default()));
    }
    let items = match found.filter(Items::exists) {
        Some(items) => items,
        None if retry => return Err(gone(task).into()),
        None => items::snapshot(shared, task, fan.each, fan.scope, dir).await?,
    };
    let progress = stage.progress();
    if !progress.fan.finished.is_empty() {
        tell_resumed(shared, task, progress.fan.finished.len(), items.count, progress.rows);
    }
    let sink = FanSink {
        stage: stage.clone(),
        monitor: Arc::clone(&shared.monitor),
        task: task.id.clone(),
        redactor: shared.gear.redactor.clone(),
    };
    let lines = Box::new(items.lines()?);
    let pulled = pull.run(lines, items.count, progress.fan, Arc::new(sink), shared.cancel_of(task)).await?;
    let missing = missing(shared, task, fan, &stage, items.count, dir).await?;
    let manifest = blocking(move || stage.seal_without(missing)).await?;
    Ok((manifest, pulled))
}

fn gone(task: &PlannedTask) -> Error {
    Error::new(Kind::Storage, format!("the answers of {} are gone", task.id))
        .hint("ask for all of it again: `haul run`")
}

fn tell_resumed(shared: &Shared<'_>, task: &PlannedTask, finished: u64, of: u64, rows: u64) {
    shared.monitor.event(&Event::ResumedFan { task: &task.id, finished, of, rows });
}

/// What the stage lacks, if that is allowed.
async fn missing(
    shared: &Shared<'_>,
    task: &PlannedTask,
    fan: &Fan<'_>,
    stage: &Stage,
    of: u64,
    dir: &Path,
) -> Result<Option<Missing>> {
    if stage.progress().fan.failed.is_empty() {
        return Ok(None);
    }
    let folder = dir.to_owned();
    let failed = blocking(move || stage::failed(&folder)).await?;
    let count = failed.len() as u64;
    let why = reasons(&failed);
    let told = told(count, of);
    let (pipeline, step) = (&shared.pipeline.name, &task.step.name);
    let again = format!("`haul retry {pipeline} {step}` sends just those, `--list` shows them");
    if !fan.http.max_failed.allows(count, of) {
        return Err(Error::new(FailedRequest::kind_of(&failed), told).because(why).hint(again));
    }
    if failed.iter().any(|failed| failed.pages > 0) {
        return Err(Error::new(FailedRequest::kind_of(&failed), told)
            .because(why)
            .hint("one of them failed behind its first page: the unit cannot be loaded without the rest of it")
            .hint(again));
    }
    shared.warn(task, &format!("{told} and are left out: {why}; {again}"));
    Ok(Some(Missing { failed: count, of, why: format!("{told}: {why}") }))
}

fn told(failed: u64, of: u64) -> String {
    let requests = if of == 1 { "request" } else { "requests" };
    format!("{failed} of {of} {requests} failed")
}

/// Why requests failed: each reason with its count and the first request that has it.
pub(super) fn reasons(failed: &[FailedRequest]) -> String {
    let mut reasons: Vec<(String, u64, &FailedRequest)> = Vec::new();
    for request in failed {
        let reason = request.status.map_or_else(|| request.kind.clone(), |status| status.to_string());
        match reasons.iter_mut().find(|(known, ..)| *known == reason) {
            Some((_, count, _)) => *count += 1,
            None => reasons.push((reason, 1, request)),
        }
    }
    reasons.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
    let told: Vec<String> = reasons
        .iter()
        .take(3)
        .map(|(reason, count, first)| match first.status {
            Some(_) => format!("{count} × {reason}, first {}", first.request),
            // A status says what happened; of all else the kind alone would not.
            None => format!("{count} × {reason}, first {}: {}", first.request, first.reason),
        })
        .collect();
    told.join("; ")
}

/// What a step asks for over many items, if it does.
pub(super) fn fan_out(step: &Extract) -> Option<(&HttpSource, &ForEach)> {
    let Source::Http(http) = &step.source else { return None };
    http.for_each.as_ref().map(|each| (&**http, each))
}

/// What is sent for the first item; for items of a table, which are not read for this, the templates as they are written.
pub(super) async fn rendered(
    gear: &Gear,
    step: &Extract,
    http: &HttpSource,
    each: &ForEach,
    scope: &Scope,
) -> Result<String> {
    let (count, first) = items::first_own(&each.over, &gear.project.root)?;
    let Some(first) = first else {
        let what = match &each.over {
            Over::Step(name) => format!("for each row of `{name}`, as `{}`:", each.name),
            Over::Sql { text, .. } => {
                format!("for each row of this, as `{}`:\n{}", each.name, gear.templates.render(text, scope)?.trim_end())
            }
            Over::Values(_) | Over::File(_) => "for each of no items".to_owned(),
        };
        let params = http.request.params.iter().map(|(name, text)| format!("  {name} = {}", text.text));
        let lines = std::iter::once(what).chain([http.request.path.text.to_string()]).chain(params);
        return Ok(lines.collect::<Vec<_>>().join("\n"));
    };
    let pull = of_item(gear, step, http, each, scope, &first).await?;
    let head = format!("for each of {count} items, of which the first is {first}:");
    Ok(std::iter::once(head).chain(pull.lines()).collect::<Vec<_>>().join("\n"))
}

/// The pull of the first item alone.
pub(super) async fn first_pull(
    gear: &Gear,
    pipeline: &Pipeline,
    step: &Extract,
    http: &HttpSource,
    each: &ForEach,
    units: &[Unit],
    scope: &Scope,
) -> Result<HttpPull> {
    let folder = tempfile::tempdir().context(Kind::Storage, || "making a folder for the items".to_owned())?;
    let from = items::origin(gear, pipeline, each, units, scope).await?;
    let first = items::write(gear, each, from, folder.path()).await?.lines()?.next().transpose()?;
    let first = first.ok_or_else(|| Error::new(Kind::Source, "there is no item, and nothing would be asked for"))?;
    of_item(gear, step, http, each, scope, &first).await
}

async fn of_item(
    gear: &Gear,
    step: &Extract,
    http: &HttpSource,
    each: &ForEach,
    scope: &Scope,
    item: &str,
) -> Result<HttpPull> {
    let fan = source::fan_of(gear, step, http, each, scope, Arc::default()).await?;
    let request = (fan.render)(item)?.request;
    Ok(HttpPull { request, ..fan.pull })
}

/// Puts answers into the stage as they come.
struct FanSink {
    stage: Stage,
    monitor: Arc<dyn Monitor>,
    task: TaskId,
    redactor: Redactor,
}

impl Sink for FanSink {
    fn put(&self, _page: Page) -> Result<()> {
        Err(Error::internal("a fan-out has no pages of its own"))
    }

    fn put_batch(&self, batch: Batch) -> Result<Vec<FailedRequest>> {
        let Batch { mut pages, failed } = batch;
        let mut refused: Vec<FailedRequest> = Vec::new();
        loop {
            let mut entry = BatchEntry { pages: pages.len() as u64, ..BatchEntry::default() };
            entry.failed.extend(failed.iter().chain(&refused).cloned());
            for page in &pages {
                entry.rows += page.page.entry.rows;
                match page.page.entry.next {
                    None => entry.finish(page.asked.number),
                    Some(_) => entry.advance(page.asked.number, page.page.entry.clone()),
                }
            }
            let parts: Vec<Part<'_>> = pages
                .iter()
                .map(|page| Part {
                    request: page.asked.number,
                    body: &page.page.body,
                    rows: &page.page.rows,
                    add: page.asked.add.as_ref(),
                })
                .collect();
            let (index, error) = match self.stage.append_batch(&entry, &parts) {
                Ok(()) => break,
                Err(refusal) => refusal,
            };
            let rows_at_fault = matches!(error.kind(), Kind::Data | Kind::Source);
            let Some(page) = pages.get(index).filter(|_| rows_at_fault) else { return Err(error) };
            // The rows of one answer are no reason to lose those of the others.
            let number = page.asked.number;
            refused.push(page.asked.failed(&error, page.page.entry.number, &self.redactor));
            pages.retain(|page| page.asked.number != number);
        }
        for page in &pages {
            self.monitor.event(&Event::Page {
                task: &self.task,
                rows: page.page.entry.rows,
                bytes: page.page.wire_bytes,
                total: None,
            });
        }
        Ok(refused)
    }

    fn tally(&self, tally: Tally) {
        self.monitor.event(&Event::Fan { task: &self.task, tally });
    }

    fn retrying(&self, reason: &str, pause: Duration) {
        let reason = self.redactor.redact(reason);
        self.monitor.event(&Event::Retry { task: &self.task, reason, pause });
    }

    fn paced(&self, sentence: &str) {
        self.monitor.event(&Event::Pace { sentence: self.redactor.redact(sentence) });
    }
}
