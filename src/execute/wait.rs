//! A wait's task: look, pause, look again, until it is so, or until the wait gives up. It takes no place of another task.

use std::sync::Arc;
use std::time::Duration;

use chrono::{NaiveTime, TimeZone};
use serde_json::Value;
use serde_json_path::JsonPath;
use tokio::time::Instant as Moment;

use super::command::Listener;
use super::gear::Gear;
use super::request::{Whole, request};
use super::scope;
use super::source::Terms;
use super::table;
use super::transform;
use super::worker::Shared;
use crate::error::{Context, Error, Kind, Result};
use crate::extract::cassette::Tape;
use crate::extract::{Pattern, Probe, Sink};
use crate::model::connection::ConnectionKind;
use crate::model::errand::{AnswerCondition, Condition, OnTimeout, Until, Wait};
use crate::model::ledger::UnitState;
use crate::model::pipeline::{Extract, Per, Pipeline, Write};
use crate::model::plan::PlannedTask;
use crate::model::run::TaskEvent;
use crate::model::source::{ProbeRule, Source};
use crate::template::Scope;
use crate::time::{Calendar, Grain, Instant, Tz, Unit, UnitKey, display_duration};
use crate::warehouse::Dialect;

/// A text that was seen is cut behind this many characters.
const SHOWN: usize = 200;

/// What a look showed.
enum Seen {
    /// It is so; the text changes as what was seen does.
    So(String),
    /// It is not so yet, and what is there instead.
    NotYet(String),
}

/// Waits until the condition holds.
///
/// # Errors
/// What no waiting mends: a wrong template, a connection that cannot be resolved, somebody who refuses us; and giving up,
/// where that is a failure.
pub(super) async fn run(shared: &Shared<'_>, task: &PlannedTask, wait: &Wait) -> Result<TaskEvent> {
    if shared.gear.tape.as_ref().is_some_and(Tape::is_replay) {
        return Ok(TaskEvent::Done { note: "nothing is waited for in a test".to_owned() });
    }
    let scope = scope_of(shared, task, wait)?;
    let listener: Arc<dyn Sink> = Arc::new(Listener::of(shared, task));
    let begun = Moment::now();
    let patience = patience(shared, wait.until);
    let mut pause = wait.poll;
    let mut looks = 0_u64;
    let mut last = String::new();
    let mut since = begun;
    loop {
        let seen = tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return Ok(TaskEvent::Cancelled),
            seen = look(shared, task, wait, &scope) => seen,
        };
        looks += 1;
        let (so, text) = match seen {
            Ok(Seen::So(text)) => (true, text),
            Ok(Seen::NotYet(text)) => (false, text),
            // Who cannot be reached now may be later.
            Err(error) if is_passing(&error) => (false, error.chain()),
            Err(error) => return Err(error.while_doing(format!("waiting by `{}`", task.step.name))),
        };
        let text = shortened(&text);
        if text != last {
            since = Moment::now();
            listener.said(&format!("look {looks}: {text}"));
            last = text;
        }
        let still = wait.stable_for.map(|stable| stable.saturating_sub(since.elapsed())).filter(|left| !left.is_zero());
        if so && still.is_none() {
            let count = if looks == 1 { String::new() } else { format!(", seen at look {looks}") };
            return Ok(TaskEvent::Done { note: format!("{last}{count}") });
        }
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return gave_up(shared, task, wait, &last, so);
        }
        // What has to stay as it is, is looked at again when it has stayed so.
        let next = still.filter(|_| so).map_or(pause, |still| still.min(pause)).min(left);
        tokio::select! {
            () = shared.cancel.cancelled() => return Ok(TaskEvent::Cancelled),
            () = tokio::time::sleep(next) => {}
        }
        pause = pause.saturating_mul(2).min(wait.max_poll);
    }
}

/// What becomes of a wait that has gone on for too long.
fn gave_up(shared: &Shared<'_>, task: &PlannedTask, wait: &Wait, last: &str, so: bool) -> Result<TaskEvent> {
    let limit = match wait.until {
        Until::Timeout(timeout) => format!("after {}", display_duration(timeout)),
        Until::Deadline(time) => format!("by {}", time.format("%H:%M")),
    };
    let what = if so { "still changing" } else { "not so" };
    let reason = format!("{what} {limit}: {last}");
    match wait.on_timeout {
        OnTimeout::Fail => Err(Error::new(Kind::Unavailable, reason).hint(
            "on_timeout = \"skip\" leaves what comes after it to the next run, \"go_on\" begins it all the same",
        )),
        OnTimeout::Skip => Ok(TaskEvent::Late { reason: shared.gear.redactor.redact(&reason) }),
        OnTimeout::GoOn => {
            shared.warn(task, &format!("{reason}; what comes after it begins all the same"));
            Ok(TaskEvent::Done { note: shared.gear.redactor.redact(&reason) })
        }
    }
}

/// Whether an error may be another one later, or none.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::RateLimited | Kind::Storage)
}

/// How long is waited at the most, from now on.
fn patience(shared: &Shared<'_>, until: Until) -> Duration {
    match until {
        Until::Timeout(timeout) => timeout,
        Until::Deadline(time) => {
            let at = at_local(shared.occasion.logical_date.and_time(time), shared.pipeline.timezone);
            (at - shared.gear.clock.now()).to_std().unwrap_or_default()
        }
    }
}

/// The first instant at which the clocks of a zone say this, or where they leave it out, go on.
fn at_local(local: chrono::NaiveDateTime, zone: Tz) -> Instant {
    let day = Calendar::new(Grain::Day, zone).of_date(local.date());
    let since_midnight = local.time() - NaiveTime::MIN;
    zone.from_local_datetime(&local).earliest().map_or(day.start + since_midnight, |at| at.to_utc())
}

fn scope_of(shared: &Shared<'_>, task: &PlannedTask, wait: &Wait) -> Result<Scope> {
    let dialect = Dialect::of(&shared.gear.connections.get(&shared.pipeline.warehouse)?)?;
    let occasion = transform::occasion(&shared.occasion, task);
    let unit = task.units.first().filter(|_| wait.per == Per::Unit);
    Ok(scope::scope(shared.gear, shared.pipeline, &task.step, &occasion, unit, &dialect))
}

async fn look(shared: &Shared<'_>, task: &PlannedTask, wait: &Wait, scope: &Scope) -> Result<Seen> {
    let gear = shared.gear;
    match &wait.condition {
        Condition::Answer(condition) => answer(shared, condition, scope).await,
        Condition::Query { connection, sql } => {
            let name = connection.as_deref().unwrap_or(&shared.pipeline.warehouse);
            query(gear, name, &gear.templates.render(sql, scope)?).await
        }
        Condition::Files { connection, pattern } => {
            let store = gear.files(connection.as_deref().unwrap_or_default()).await?;
            let text = gear.templates.render(pattern, scope)?;
            let files = store.list(&Pattern::parse(&text)?).await?;
            let Some(first) = files.first() else {
                return Ok(Seen::NotYet(format!("no file matches {}", store.address(&text))));
            };
            let bytes: u64 = files.iter().filter_map(|file| file.size).sum();
            let more = if files.len() > 1 { format!(" and {} more", files.len() - 1) } else { String::new() };
            // Versions tell of a file that was written anew with the same length.
            let versions = files.iter().map(|file| file.version.as_str()).collect::<Vec<_>>().join(" ");
            let digest = xxhash_rust::xxh3::xxh3_64(versions.as_bytes());
            let version = if wait.stable_for.is_some() { format!(", version {digest:016x}") } else { String::new() };
            Ok(Seen::So(format!("{}{more} is there, {bytes} bytes{version}", first.path)))
        }
        Condition::Table(extract) => of_table(gear, extract, scope).await,
        Condition::Pipeline(name) => days_of(shared, task, name).await,
    }
}

async fn answer(shared: &Shared<'_>, condition: &AnswerCondition, scope: &Scope) -> Result<Seen> {
    let gear = shared.gear;
    let client = gear.client(&condition.connection).await?;
    let base = client.url().to_owned();
    let request = request(&Whole { templates: &gear.templates, scope }, &condition.request, &base)?;
    let (status, body) = client.look(&request, &shared.cancel).await?;
    let meant = match condition.status.as_slice() {
        [] => (200..300).contains(&status),
        list => list.contains(&status),
    };
    let Some(path) = condition.path.as_ref().filter(|_| meant) else {
        let text = format!("it answers {status}");
        return Ok(if meant { Seen::So(text) } else { Seen::NotYet(text) });
    };
    let Ok(json) = serde_json::from_slice::<Value>(&body) else {
        return Ok(Seen::NotYet(format!("it answers {status}, and what it says is no JSON")));
    };
    let found = JsonPath::parse(path).context(Kind::Config, || format!("reading the path {path}"))?.query(&json).all();
    let is_meant = |value: &&Value| match condition.is.as_slice() {
        [] => !matches!(value, Value::Null | Value::Bool(false)),
        list => list.iter().any(|wanted| same(wanted, value)),
    };
    if let Some(value) = found.iter().find(|value| is_meant(value)) {
        return Ok(Seen::So(format!("{path} is {value}")));
    }
    Ok(Seen::NotYet(match found.as_slice() {
        [] => format!("{path} is not there"),
        [value, ..] => format!("{path} is {value}"),
    }))
}

/// Whether two values are the same, however a number is written.
fn same(one: &Value, other: &Value) -> bool {
    one == other || one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| (one - other).abs() < f64::EPSILON)
}

async fn query(gear: &Gear, connection: &str, sql: &str) -> Result<Seen> {
    let rows = gear.warehouse(connection).await?.query(sql, 1).await?;
    let Some(value) = rows.rows.first().and_then(|row| row.first()) else {
        return Ok(Seen::NotYet("the query has no row".to_owned()));
    };
    let so = match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(text.trim(), "" | "0" | "false"),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => true,
    };
    let text = format!("the query says {value}");
    Ok(if so { Seen::So(text) } else { Seen::NotYet(text) })
}

async fn of_table(gear: &Gear, extract: &Extract, scope: &Scope) -> Result<Seen> {
    let mut extract = extract.clone();
    let Source::Table(source) = &mut extract.source else { return Err(Error::internal("a wait for another source")) };
    // BigQuery tells of a table without being paid for counting it.
    if matches!(gear.connections.get(&extract.connection)?.kind, ConnectionKind::BigQuery(_)) {
        source.probe = ProbeRule::Auto;
    }
    let source = source.clone();
    let pull = table::pull_of(gear, &extract, &source, scope, Terms::default()).await?;
    let probe = match pull.probe().await {
        // A schema without a single table may get its first one.
        Err(error) if error.kind() == Kind::Source => return Ok(Seen::NotYet(error.chain())),
        probe => probe?,
    };
    Ok(match probe {
        Probe::Late(why) => Seen::NotYet(why),
        Probe::Is(state) if state.ends_with(": 0 rows") => Seen::NotYet(state),
        Probe::Is(state) => Seen::So(state),
        Probe::Unknown => Seen::So("the table is there".to_owned()),
    })
}

/// Whether another pipeline has the days that this task is about.
async fn days_of(shared: &Shared<'_>, task: &PlannedTask, name: &str) -> Result<Seen> {
    let gear = shared.gear;
    let other = gear.project.pipeline(name).ok_or_else(|| Error::config(format!("there is no pipeline `{name}`")))?;
    let units: Vec<Unit> = match (task.units.as_slice(), &shared.occasion.window) {
        ([], Some(window)) => window.units().to_vec(),
        (units, _) => units.to_vec(),
    };
    let tables: Vec<_> = other.steps.iter().filter(|step| step.writes()).map(|step| step.into.clone()).collect();
    let ledger = gear.state.snapshot(&tables).await?;
    for step in other.steps.iter().filter(|step| step.writes()) {
        for key in keys(other, step.write == Write::Full, &units) {
            let state = ledger.unit(&step.into, &key).map(|record| record.state);
            if state != Some(UnitState::Loaded) {
                let of = if key.is_whole() { String::new() } else { format!(" of {key}") };
                let is = state.map_or("not loaded yet", UnitState::name);
                return Ok(Seen::NotYet(format!("`{}`{of} is {is}", step.into)));
            }
        }
    }
    Ok(Seen::So(match (units.first(), units.last()) {
        (Some(first), Some(last)) if first != last => format!("`{name}` has {first} to {last}"),
        (Some(unit), _) => format!("`{name}` has {unit}"),
        _ => format!("`{name}` is loaded"),
    }))
}

/// The units of another pipeline's table that lie in these.
fn keys(other: &Pipeline, whole: bool, units: &[Unit]) -> Vec<UnitKey> {
    let Some(calendar) = other.calendar().filter(|_| !whole && !units.is_empty()) else {
        return vec![UnitKey::whole()];
    };
    let of = |unit: &Unit| match calendar.grain {
        // By their dates: the days of two zones that have the same name belong together.
        Grain::Day | Grain::Week | Grain::Month => vec![calendar.of_date(unit.date()).key()],
        Grain::Hour => calendar.between(unit.start, unit.end).iter().map(Unit::key).collect(),
    };
    let mut keys: Vec<UnitKey> = units.iter().flat_map(of).collect();
    keys.dedup();
    keys
}

fn shortened(text: &str) -> String {
    let line = text.replace(['\n', '\r', '\t'], " ");
    if line.chars().count() <= SHOWN { line } else { line.chars().take(SHOWN - 1).collect::<String>() + "…" }
}

/// What is looked at, for people; nothing is asked.
pub(super) fn lines(gear: &Gear, wait: &Wait, scope: &Scope) -> Result<Vec<String>> {
    let render = |text| gear.templates.render(text, scope).map(|text| text.trim().to_owned());
    let what = match &wait.condition {
        Condition::Answer(condition) => {
            let base = gear.connections.get(&condition.connection)?.name;
            let request = request(&Whole { templates: &gear.templates, scope }, &condition.request, &base)?;
            format!("asks {}", request.line())
        }
        Condition::Query { sql, .. } => render(sql)?,
        Condition::Files { pattern, .. } => format!("looks for {}", render(pattern)?),
        Condition::Table(extract) => match &extract.source {
            Source::Table(source) => {
                let names = source.rows.texts().into_iter().map(render).collect::<Result<Vec<_>>>()?;
                format!("looks for the table {}", names.join(" or "))
            }
            _ => "looks for a table".to_owned(),
        },
        Condition::Pipeline(name) => format!("looks into the ledger of {name}"),
    };
    let until = match wait.until {
        Until::Timeout(timeout) => format!("for {} at the most", display_duration(timeout)),
        Until::Deadline(time) => format!("until {}", time.format("%H:%M")),
    };
    Ok(vec![what, format!("  every {}, {until}", display_duration(wait.poll))])
}
