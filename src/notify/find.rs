//! What is wrong, as the state store tells it: units, steps that write no table, pipelines, deadlines, drift.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{Duration, NaiveDate};

use crate::error::Result;
use crate::model::incident::{Finding, Incident};
use crate::model::ledger::{UnitRecord, UnitState};
use crate::model::name::TableName;
use crate::model::notify::{Deadline, DriftRule, Topic, Wanted};
use crate::model::pipeline::{Action, Pipeline, Project, Step};
use crate::model::run::{RunRecord, RunStatus, TaskEvent, TaskLog, TaskState, fold};
use crate::state::{Facts, FactsAsk, State};
use crate::time::{Calendar, Grain, Instant, UnitKey};

/// Deadlines of so many days are looked at.
const DAYS: i64 = 7;

/// Runs that ended so shortly before the last look are looked at again: one may have been written down late.
const OVERLAP: Duration = Duration::minutes(10);

/// Until when runs have been looked at.
pub(super) const LOOKED: &str = "looked";

/// Since when anybody looks.
pub(super) const BEGAN: &str = "began";

/// How the keys of steps begin that write no table, and of runs: they are well again when a run says so.
const STEP: &str = "failure:step:";
const RUN: &str = "failure:run:";

/// Whether an incident lasts as long as it is found; others end when a run says so.
pub(super) fn stands(key: &str) -> bool {
    !key.starts_with(STEP) && !key.starts_with(RUN)
}

/// What the runs tell that have ended since the last look.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended {
    /// Steps that write no table, and whole runs: what failed, in the order of time.
    pub failed: Vec<Finding>,
    /// The keys of what did not fail, with when that was seen.
    pub fine: Vec<(String, Instant)>,
    /// Old units that changed a lot.
    pub drifted: Vec<Finding>,
    /// Until when runs have been looked at now.
    pub until: Option<Instant>,
}

/// All that is wrong now, and all that is known to be well.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What is wrong as long as it is found, and well as soon as it is not.
    pub standing: Vec<Finding>,
    /// What the runs tell that have ended.
    pub ended: Ended,
}

impl Ended {
    /// Reads the runs that have ended since the last look.
    pub async fn since_last(project: &Project, state: &State, now: Instant) -> Result<Self> {
        let marks = state.marks().await?;
        let last = marks.get(LOOKED).and_then(|text| text.parse::<Instant>().ok());
        // Whoever begins to look tells nothing of what was long ago.
        let since = last.map_or(now - Duration::days(1), |last| last - OVERLAP);
        state.note_vain_jobs(since).await?;
        let mut ended = Self { until: last, ..Self::default() };
        for run in state.runs_ended(since).await? {
            let Some(at) = run.finished_at else { continue };
            ended.until = ended.until.max(Some(at));
            let Some(pipeline) = project.pipeline(&run.pipeline) else { continue };
            let Some((_, logs)) = state.run(&run.id).await? else { continue };
            ended.run(project, pipeline, &run, &logs, at)?;
        }
        Ok(ended)
    }

    fn run(
        &mut self,
        project: &Project,
        pipeline: &Pipeline,
        run: &RunRecord,
        logs: &[TaskLog],
        at: Instant,
    ) -> Result<()> {
        self.refused(pipeline, run, logs, at);
        if let Some(rule) = &project.telling.drift {
            self.drifted.extend(drifted(pipeline, run, logs, *rule));
        }
        let mut waits: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (task, state) in fold(logs)? {
            let Some(step) = pipeline.step(&task.step).filter(|step| matches!(step.action, Action::Wait(_))) else {
                continue;
            };
            let reason = waits.entry(step.name.clone()).or_default();
            if let TaskState::Failed { reason: why, .. } = state {
                reason.get_or_insert(why);
            }
        }
        for (step, reason) in waits {
            let subject = format!("{}.{step}", pipeline.name);
            match reason {
                Some(reason) => self.failed.push(Finding {
                    key: format!("{STEP}{subject}"),
                    topic: Topic::Failure,
                    pipeline: Some(pipeline.name.clone()),
                    subject,
                    units: vec![run.logical_date.clone()],
                    causes: vec![cause(&reason)],
                    reason,
                    evidence: at,
                }),
                None => self.fine.push((format!("{STEP}{subject}"), at)),
            }
        }
        Ok(())
    }

    /// A run that would have cost too much did nothing: neither unit nor step tells of it.
    fn refused(&mut self, pipeline: &Pipeline, run: &RunRecord, logs: &[TaskLog], at: Instant) {
        let key = format!("{RUN}{}", pipeline.name);
        match run.status {
            RunStatus::Refused => {
                let why = logs.iter().find_map(|log| match &log.event {
                    TaskEvent::Skipped { reason } => Some(reason.clone()),
                    _ => None,
                });
                let reason = why.unwrap_or_else(|| "it would be billed for more than max_bytes allows".to_owned());
                self.failed.push(Finding {
                    key,
                    topic: Topic::Failure,
                    pipeline: Some(pipeline.name.clone()),
                    subject: pipeline.name.clone(),
                    units: vec![run.logical_date.clone()],
                    causes: vec![cause(&reason)],
                    reason,
                    evidence: at,
                });
            }
            RunStatus::Running | RunStatus::Cancelled => {}
            RunStatus::Succeeded | RunStatus::Failed | RunStatus::Held | RunStatus::Late => self.fine.push((key, at)),
        }
    }
}

/// Units that had ended long before, and of which a pull changed more than the rule allows.
fn drifted(pipeline: &Pipeline, run: &RunRecord, logs: &[TaskLog], rule: DriftRule) -> Vec<Finding> {
    let mut by_step: BTreeMap<&str, (Vec<String>, Vec<String>)> = BTreeMap::new();
    let Some(calendar) = pipeline.calendar() else { return Vec::new() };
    for log in logs {
        let TaskEvent::Loaded { rows, changes: Some(changes), .. } = &log.event else { continue };
        let extract = pipeline.step(&log.task.step).is_some_and(|step| matches!(step.action, Action::Extract(_)));
        let Ok(unit) = calendar.parse(log.task.unit.as_str()) else { continue };
        // As many units as fit between: the one that began then is `age` units old.
        let old = calendar.shift(&unit, i64::from(rule.age)).end <= log.at;
        if !extract || !old || !changes.any() {
            continue;
        }
        let changed = changes.added + changes.removed + changes.changed;
        let before = (rows + changes.removed).saturating_sub(changes.added).max(1);
        #[expect(clippy::cast_precision_loss, reason = "a share of rows needs no more than 52 bits")]
        let share = changed as f64 / before as f64;
        if share > rule.changed {
            let (units, words) = by_step.entry(&log.task.step).or_default();
            units.push(unit.to_string());
            words.push(format!("{unit}: {changed} of {before} rows ({:.0} %)", share * 100.0));
        }
    }
    let finding = |(step, (mut units, words)): (&str, (Vec<String>, Vec<String>))| {
        // They are told in their order, not in that in which they were done.
        units.sort();
        let table = pipeline.step(step)?.into.to_string();
        Some(Finding {
            key: format!("drift:{table}:{}", run.id),
            topic: Topic::Drift,
            pipeline: Some(pipeline.name.clone()),
            subject: table,
            units,
            causes: Vec::new(),
            reason: format!("a pull changed {}", words.join(", ")),
            evidence: run.finished_at.unwrap_or(run.started_at),
        })
    };
    by_step.into_iter().filter_map(finding).collect()
}

/// What has to be known to tell what is wrong.
pub(super) fn ask(project: &Project, ended: &Ended, open: &[Incident], now: Instant) -> FactsAsk {
    let mut units = BTreeSet::new();
    let mut whole = BTreeSet::new();
    for deadline in &project.telling.deadlines {
        if deadline.calendar.is_none() {
            whole.extend(deadline.tables.iter().map(|table| (table.clone(), deadline.pipeline.clone())));
        }
        for (_, unit) in wanted(deadline, open, now) {
            units.extend(deadline.tables.iter().map(|table| (table.clone(), unit.key())));
        }
    }
    let told = ended.failed.iter().chain(&ended.drifted).map(|finding| finding.key.clone());
    let fine = ended.fine.iter().map(|(key, _)| key.clone());
    let keys: BTreeSet<String> = told.chain(fine).collect();
    FactsAsk {
        units: units.into_iter().collect(),
        keys: keys.into_iter().collect(),
        whole: whole.into_iter().collect(),
    }
}

/// Everything that is wrong.
pub(super) fn find(project: &Project, ended: &Ended, facts: &Facts, now: Instant) -> Found {
    let mut standing = units(project, facts);
    standing.extend(obstacles(project, facts));
    for deadline in &project.telling.deadlines {
        standing.extend(missed(deadline, facts, now));
    }
    Found { standing, ended: ended.clone() }
}

/// Units that failed, are held or late, by their tables.
fn units(project: &Project, facts: &Facts) -> Vec<Finding> {
    let mut owners: HashMap<&TableName, (&Pipeline, &Step)> = HashMap::new();
    for pipeline in &project.pipelines {
        for step in &pipeline.steps {
            owners.entry(&step.into).or_insert((pipeline, step));
        }
    }
    let topic = |record: &UnitRecord| match record.state {
        UnitState::Failed => Some(Topic::Failure),
        UnitState::Held => Some(Topic::Held),
        UnitState::Late => Some(Topic::Late),
        // The next plan mends what somebody dropped.
        UnitState::Missing | UnitState::Loaded => None,
    };
    let mut findings: BTreeMap<String, Finding> = BTreeMap::new();
    for record in &facts.troubles {
        let (Some(topic), Some((pipeline, step))) = (topic(record), owners.get(&record.table)) else { continue };
        let reason = record.reason.clone().unwrap_or_else(|| format!("it is {}", record.state.name()));
        let key = format!("{}:{}", topic.name(), record.table);
        // What is going to be tried again soon is nobody's news yet.
        let known = facts.open.iter().any(|incident| incident.key == key);
        if topic == Topic::Failure && !known && facts.retried.contains(&pipeline.name) {
            continue;
        }
        let subject = match &step.action {
            Action::Run(_) | Action::Wait(_) => format!("{}.{}", pipeline.name, step.name),
            Action::Extract(_) | Action::Transform(_) | Action::Load(_) => record.table.to_string(),
        };
        let finding = findings.entry(key.clone()).or_insert_with(|| Finding {
            key,
            topic,
            pipeline: Some(pipeline.name.clone()),
            subject,
            units: Vec::new(),
            causes: Vec::new(),
            reason: reason.clone(),
            evidence: record.pulled_at,
        });
        // Of failures the reason is the cause; what is held or late is told by its unit, each of which wants a decision.
        let cause = if topic == Topic::Failure { cause(&reason) } else { record.unit.to_string() };
        if !finding.causes.contains(&cause) {
            finding.causes.push(cause);
        }
        finding.units.push(record.unit.to_string());
        finding.evidence = finding.evidence.max(record.pulled_at);
    }
    findings.into_values().collect()
}

/// Pipelines that could not begin.
fn obstacles(project: &Project, facts: &Facts) -> Vec<Finding> {
    let known = facts.obstacles.iter().filter(|(pipeline, ..)| project.pipeline(pipeline).is_some());
    let finding = |(pipeline, reason, at): &(String, String, Instant)| Finding {
        key: format!("failure:begin:{pipeline}"),
        topic: Topic::Failure,
        pipeline: Some(pipeline.clone()),
        subject: pipeline.clone(),
        units: Vec::new(),
        causes: vec![cause(reason)],
        reason: format!("it could not begin: {reason}"),
        evidence: *at,
    };
    known.map(finding).collect()
}

/// What a deadline wants of one of its dates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Want {
    /// This unit.
    Unit(UnitKey),
    /// The whole table, up to date since then; the date is that of the deadline.
    Whole(NaiveDate, Instant),
}

impl Want {
    fn key(&self) -> UnitKey {
        match self {
            Self::Unit(key) => key.clone(),
            Self::Whole(..) => UnitKey::whole(),
        }
    }

    fn word(&self) -> String {
        match self {
            Self::Unit(key) => key.to_string(),
            Self::Whole(date, _) => date.to_string(),
        }
    }

    /// Whether a table has it.
    fn is_met(&self, table: &TableName, pipeline: &str, facts: &Facts) -> bool {
        match self {
            // A pull that failed later has not taken the rows away.
            Self::Unit(key) => facts
                .units
                .get(&(table.clone(), key.clone()))
                .is_some_and(|record| record.loaded.is_some() && record.state != UnitState::Missing),
            // A table that nothing has changed for is not pulled: its pipeline succeeded all the same.
            Self::Whole(_, since) => {
                let pulled = facts.pulled.get(table).is_some_and(|at| at >= since);
                pulled || facts.succeeded.get(pipeline).is_some_and(|at| at >= since)
            }
        }
    }
}

/// The key of a deadline's incident.
pub(super) fn deadline_key(deadline: &Deadline) -> String {
    format!("deadline:{}:{}", deadline.subject, deadline.by.format("%H:%M"))
}

/// What a deadline that has passed wants, with when that was: of the last days, and of those that are known to be missing.
fn wanted(deadline: &Deadline, open: &[Incident], now: Instant) -> BTreeSet<(Instant, Want)> {
    let mut found = BTreeSet::new();
    let mut add = |date: NaiveDate| {
        let at = deadline.at(date);
        if at > now {
            return;
        }
        match deadline.wants(date) {
            Wanted::Units(units) => found.extend(units.into_iter().map(|unit| (at, Want::Unit(unit)))),
            Wanted::Since(since) => drop(found.insert((at, Want::Whole(date, since)))),
        }
    };
    let today = now.with_timezone(&deadline.tz).date_naive();
    for back in 0..DAYS {
        today.checked_sub_signed(Duration::days(back)).into_iter().for_each(&mut add);
    }
    let key = deadline_key(deadline);
    let missing: Vec<&String> =
        open.iter().filter(|incident| incident.key == key).flat_map(|incident| &incident.units).collect();
    for unit in missing {
        // A unit's name begins with its date; of a whole table it is the deadline's own.
        let date = unit.get(..10).and_then(|date| date.parse::<NaiveDate>().ok());
        let back = if deadline.calendar.is_some() { i64::from(deadline.days_back) } else { 0 };
        date.and_then(|date| date.checked_add_signed(Duration::days(back))).into_iter().for_each(&mut add);
    }
    found
}

/// A deadline that has passed while something that it wants is not there.
fn missed(deadline: &Deadline, facts: &Facts, now: Instant) -> Option<Finding> {
    // What had passed before the day on which somebody began to look is not told.
    let began = facts.marks.get(BEGAN).and_then(|text| text.parse::<Instant>().ok()).unwrap_or(now);
    let day = Calendar::new(Grain::Day, deadline.tz).containing(began);
    let known: Vec<&str> = facts
        .open
        .iter()
        .filter(|incident| incident.key == deadline_key(deadline))
        .flat_map(|incident| incident.units.iter().map(String::as_str))
        .collect();
    let mut units = Vec::new();
    let mut lacking: Vec<&TableName> = Vec::new();
    let mut first = None;
    for (at, want) in wanted(deadline, &facts.open, now) {
        let told = known.contains(&want.word().as_str());
        if at < day.start && !told {
            continue;
        }
        let lacks: Vec<&TableName> =
            deadline.tables.iter().filter(|table| !want.is_met(table, &deadline.pipeline, facts)).collect();
        if !lacks.is_empty() {
            first.get_or_insert(at);
            units.push(want.word());
            lacking.extend(lacks);
        }
    }
    lacking.sort();
    lacking.dedup();
    let tables: Vec<String> = lacking.iter().map(ToString::to_string).collect();
    let zone = deadline.tz.name();
    let was = match deadline.days_back {
        0 => "its day",
        1 => "the day before",
        _ => "an earlier day",
    };
    Some(Finding {
        key: deadline_key(deadline),
        topic: Topic::Deadline,
        pipeline: Some(deadline.pipeline.clone()),
        subject: deadline.subject.clone(),
        causes: units.clone(),
        reason: format!(
            "{was} was to be in {} by {} {zone}, and is not there",
            tables.join(", "),
            deadline.by.format("%H:%M")
        ),
        units,
        evidence: first?,
    })
}

/// What a reason says without what differs from one unit, request or attempt to another: numbers, dates, digests.
pub(super) fn cause(reason: &str) -> String {
    let mut cause = String::new();
    for line in reason.lines().take(1) {
        let mut in_number = false;
        for c in line.chars() {
            if c.is_ascii_digit() {
                if !in_number {
                    cause.push('#');
                }
                in_number = true;
            } else if !(in_number && matches!(c, '-' | ':' | '.' | 'T' | 'Z')) {
                cause.push(c);
                in_number = false;
            }
        }
    }
    cause.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::cause;

    #[test]
    fn a_cause_is_the_same_for_all_units_and_attempts() {
        let of = |day: &str, code: u32| cause(&format!("GET /ratings?day={day}: {code} Service Unavailable\nmore"));
        assert_eq!(of("2024-05-01", 503), of("2024-05-12", 503));
        assert_eq!(of("2024-05-01", 503), "GET /ratings?day=# # Service Unavailable");
        assert_ne!(cause("no answer within 15 s"), cause("the connection was refused"));
    }
}
