//! The report of a day: what ran, what is wrong, rows, drift, costs, and what took the longest.

use std::collections::BTreeMap;

use chrono::Duration;

use crate::error::Result;
use crate::model::cost::{Bytes, CostLine, CostsAsk, CostsBy};
use crate::model::incident::{PipelineReport, Report, SlowRun};
use crate::model::notify::{ReportRule, Topic};
use crate::model::pipeline::Project;
use crate::model::run::{RunRecord, RunStatus, TaskEvent, TaskLog};
use crate::state::State;
use crate::time::{Calendar, Grain, Instant, Tz};

/// The date of the last report that was told.
pub(super) const REPORTED: &str = "reported";

/// How many of the slowest runs are told.
const SLOWEST: usize = 5;

/// A report that is to be told now.
pub(super) struct Due {
    /// The date that it is for: it is told once.
    pub date: String,
    /// It.
    pub report: Box<Report>,
}

/// The report of today, once its time has come, until it was told.
pub(super) async fn due(project: &Project, state: &State, now: Instant) -> Result<Option<Due>> {
    let Some(rule) = project.telling.report else { return Ok(None) };
    if !project.telling.channels.iter().any(|channel| channel.on.contains(&Topic::Report)) {
        return Ok(None);
    }
    let today = now.with_timezone(&rule.tz).date_naive();
    if now < at(rule, today) || state.marks().await?.get(REPORTED) == Some(&today.to_string()) {
        return Ok(None);
    }
    let report = Box::new(build(project, state, now).await?);
    Ok(Some(Due { date: today.to_string(), report }))
}

fn at(rule: ReportRule, date: chrono::NaiveDate) -> Instant {
    Calendar::new(Grain::Day, rule.tz).at_clock(date.and_time(rule.at))
}

/// The report of the time since the report before was due; of the last 24 hours where none is told.
pub(super) async fn build(project: &Project, state: &State, now: Instant) -> Result<Report> {
    let yesterday = now - Duration::days(1);
    let (since, tz) = match project.telling.report {
        Some(rule) => {
            let today = now.with_timezone(&rule.tz).date_naive();
            // Before today's time the day began yesterday, and so it did shortly after it.
            (today.pred_opt().map_or(yesterday, |date| at(rule, date)), rule.tz)
        }
        None => (yesterday, zone(project)),
    };
    let runs = state.runs_ended(since).await?;
    let mut pipelines: BTreeMap<String, PipelineReport> = BTreeMap::new();
    for run in &runs {
        let events = state.run(&run.id).await?.map(|(_, events)| events).unwrap_or_default();
        let line = pipelines.entry(run.pipeline.clone()).or_default();
        line.pipeline.clone_from(&run.pipeline);
        add(line, run, &events);
    }
    let mut slowest: Vec<SlowRun> = runs
        .iter()
        .filter_map(|run| {
            let took = (run.finished_at? - run.started_at).num_milliseconds();
            Some(SlowRun { run: run.id.clone(), took_ms: u64::try_from(took).unwrap_or(0) })
        })
        .collect();
    slowest.sort_by(|a, b| b.took_ms.cmp(&a.took_ms).then_with(|| a.run.cmp(&b.run)));
    slowest.truncate(SLOWEST);
    let mut costs = CostLine::default();
    let ask = CostsAsk { pipeline: None, since, by: CostsBy::Pipeline };
    state.costs(&ask).await?.iter().for_each(|line| costs.add(line));
    let told = |bytes: u64, money: String| format!("{} ({money})", Bytes(bytes));
    Ok(Report {
        since,
        until: now,
        timezone: tz.name().to_owned(),
        pipelines: pipelines.into_values().collect(),
        open: state.open_incidents().await?,
        slowest,
        cost: if costs.jobs > 0 { told(costs.billed_bytes, costs.money.to_string()) } else { String::new() },
        saved: if costs.spared_units > 0 {
            told(costs.saved_bytes, costs.saved_money.to_string())
        } else {
            String::new()
        },
    })
}

/// The zone that most of the project's days have.
fn zone(project: &Project) -> Tz {
    let mut counts: BTreeMap<&str, (usize, Tz)> = BTreeMap::new();
    for pipeline in &project.pipelines {
        counts.entry(pipeline.timezone.name()).or_insert((0, pipeline.timezone)).0 += 1;
    }
    counts.into_values().max_by_key(|(count, _)| *count).map_or(Tz::UTC, |(_, tz)| tz)
}

fn add(line: &mut PipelineReport, run: &RunRecord, events: &[TaskLog]) {
    line.runs += 1;
    line.succeeded += u64::from(run.status == RunStatus::Succeeded);
    line.loaded += run.counts.loaded;
    line.unchanged += run.counts.unchanged;
    line.held += run.counts.held;
    line.late += run.counts.late;
    line.failed += run.counts.failed;
    for event in events {
        if let TaskEvent::Loaded { rows, changes, .. } = &event.event {
            line.rows += rows;
            line.drift += changes.map_or(0, |changes| changes.added + changes.removed + changes.changed);
        }
    }
}
