//! What a template sees: the dates of the run, its window and unit, and the functions that reach the project.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use chrono::{Days, NaiveDate};
use minijinja::value::{Enumerator, Kwargs, Object, Serde, Value};
use minijinja::{Environment, Error, State};
use serde_json::Value as Json;

use super::filters::Macros;
use super::moment::{Day, Moment, When, invalid};
use super::{Quoting, nearest};
use crate::error::Error as HaulError;
use crate::model::name::TableName;
use crate::model::parameter::{ParameterValue, ParameterValues};
use crate::time::{Calendar, Grain, Instant, Tz, Unit, Window};

/// Where the scope stands among the globals.
const FRAME: &str = "_haul_scope";

/// The variables that say which part of time a template is rendered for.
pub(super) const WINDOW_NAMES: &[&str] = &[
    "ds",
    "ds_nodash",
    "next_ds",
    "prev_ds",
    "ts",
    "logical_date",
    "data_interval_start",
    "data_interval_end",
    "window",
    "unit",
];

/// All variables, with those of `window`, `unit` and `run` by their dotted names.
pub(super) const NAMES: &[&str] = &[
    "ds",
    "ds_nodash",
    "next_ds",
    "prev_ds",
    "ts",
    "logical_date",
    "data_interval_start",
    "data_interval_end",
    "run_date",
    "window",
    "window.start",
    "window.end",
    "window.first",
    "window.last",
    "window.days",
    "window.units",
    "unit",
    "unit.start",
    "unit.end",
    "unit.date",
    "unit.key",
    "run",
    "run.id",
    "run.started_at",
    "this",
    "macros",
    "timezone",
    "report",
];

/// The parameters of a hook, in its own templates.
pub(super) const PARAMETERS: &str = "param";

/// The functions that templates have besides those of Jinja.
pub(super) const FUNCTIONS: &[&str] = &["ref", "source", "var", "is_incremental", "env_var", "raise"];

/// Names of environment variables that may hold credentials; templates print, so they do not get them.
const SECRET_NAMES: &[&str] = &["HAUL_CONN_", "AIRFLOW_CONN_", "HAUL_KEY", "HAUL_PASS", "HAUL_SECRET"];

/// Looks up a variable of the environment.
pub type EnvLookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Everything that a template can see.
#[derive(Clone)]
pub struct Scope {
    /// The pipeline's zone: its dates are calendar dates there.
    pub timezone: Tz,
    /// The date that the run is for.
    pub logical_date: Option<NaiveDate>,
    /// The units of the run, or of the task when it covers several.
    pub window: Option<Window>,
    /// The unit that is rendered for; none when the whole window is.
    pub unit: Option<Unit>,
    /// The run's name.
    pub run_id: String,
    /// Today in the pipeline's zone.
    pub run_date: NaiveDate,
    /// When the run began.
    pub now: Instant,
    /// The variables behind `var()`.
    pub vars: BTreeMap<String, Json>,
    /// What was kept of a report that is waited for, where one is.
    pub report: Option<BTreeMap<String, String>>,
    /// The parameters of the hook whose templates these are.
    pub params: ParameterValues,
    /// The quoted relation behind each name that `ref()` knows.
    pub relations: BTreeMap<String, String>,
    /// The quoted relation of the step's own table.
    pub this: Option<String>,
    /// Whether the table exists and only a part of it is computed.
    pub is_incremental: bool,
    /// Looks up a variable of the environment.
    pub env: Arc<EnvLookup>,
    /// How literals and identifiers are written.
    pub quoting: Quoting,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("run_id", &self.run_id).field("unit", &self.unit).finish_non_exhaustive()
    }
}

/// The scope as filters and functions find it.
#[derive(Debug)]
pub(super) struct Frame {
    pub scope: Scope,
    /// How many macros that were called through their names are under way.
    pub depth: AtomicUsize,
}

impl Object for Frame {}

/// The scope of the template that is being rendered.
pub(super) fn frame(state: &State) -> Result<Arc<Frame>, Error> {
    state
        .lookup(FRAME)
        .and_then(|value| value.downcast_object::<Frame>())
        .ok_or_else(|| invalid(format!("a template must not set `{FRAME}`")))
}

/// Adds the functions, which find the scope when they are called.
pub(super) fn add_functions(env: &mut Environment<'static>) {
    env.add_function("ref", reference);
    env.add_function("source", source);
    env.add_function("var", var);
    env.add_function("env_var", env_var);
    env.add_function("raise", |what: &str| Err::<Value, Error>(invalid(what.to_owned())));
    env.add_function("is_incremental", |state: &State| Ok::<_, Error>(frame(state)?.scope.is_incremental));
    env.add_global("macros", Value::from_object(Macros));
}

fn day(date: NaiveDate, zone: Tz) -> Value {
    When::Day(Day { date, zone }).value()
}

fn moment(at: Instant, zone: Tz) -> Value {
    When::Moment(Moment { at, zone, shown: None }).value()
}

fn unit_value(unit: &Unit, zone: Tz) -> Value {
    Value::from_pairs([
        ("start", moment(unit.start, zone)),
        ("end", moment(unit.end, zone)),
        ("date", day(unit.date(), zone)),
        ("key", Value::from(unit.key().as_str())),
    ])
}

/// The window as templates see it. A backfill's has a thousand units, of which most templates want none.
#[derive(Debug)]
struct Range {
    window: Window,
    zone: Tz,
}

impl Object for Range {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let (window, zone) = (&self.window, self.zone);
        Some(match key.as_str()? {
            "start" => moment(window.start(), zone),
            "end" => moment(window.end(), zone),
            "first" => day(window.first().date(), zone),
            "last" => day(window.last().date(), zone),
            "days" => {
                let mut days: Vec<NaiveDate> = window.units().iter().map(Unit::date).collect();
                days.dedup();
                days.into_iter().map(|date| day(date, zone)).collect()
            }
            "units" => window.units().iter().map(|unit| unit_value(unit, zone)).collect(),
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["start", "end", "first", "last", "days", "units"])
    }
}

/// Makes the scope visible, also to macros of imported files.
pub(super) fn bind(env: &mut Environment<'static>, scope: &Scope) {
    let day = |date| day(date, scope.timezone);
    let moment = |at| moment(at, scope.timezone);
    if let Some(span) = Span::of(scope) {
        env.add_global("ds", day(span.first));
        env.add_global("ds_nodash", span.first.format("%Y%m%d").to_string());
        env.add_global("next_ds", day(span.next));
        env.add_global("prev_ds", day(span.previous));
        env.add_global("ts", moment(span.start));
        env.add_global("data_interval_start", moment(span.start));
        env.add_global("data_interval_end", moment(span.end));
    }
    if let Some(date) = scope.logical_date {
        env.add_global("logical_date", day(date));
    }
    if let Some(window) = &scope.window {
        env.add_global("window", Value::from_object(Range { window: window.clone(), zone: scope.timezone }));
    }
    if let Some(unit) = &scope.unit {
        env.add_global("unit", unit_value(unit, scope.timezone));
    }
    let run = [("id", Value::from(scope.run_id.as_str())), ("started_at", moment(scope.now))];
    env.add_global("run", Value::from_pairs(run));
    env.add_global("run_date", day(scope.run_date));
    env.add_global("timezone", scope.timezone.name());
    if let Some(this) = &scope.this {
        env.add_global("this", this.clone());
    }
    if let Some(report) = &scope.report {
        env.add_global("report", Value::from(Serde(report)));
    }
    if !scope.params.is_empty() {
        let values = scope.params.iter().map(|(name, value)| (name.as_str(), parameter(value, scope.timezone)));
        env.add_global(PARAMETERS, Value::from_pairs(values));
    }
    env.add_global(FRAME, Value::from_object(Frame { scope: scope.clone(), depth: AtomicUsize::new(0) }));
}

/// The value of a parameter; a duration is its text, as it was written.
fn parameter(value: &ParameterValue, zone: Tz) -> Value {
    match value {
        ParameterValue::Integer(number) => Value::from(*number),
        ParameterValue::Text(text) | ParameterValue::Duration(text) => Value::from(text.as_str()),
        ParameterValue::Boolean(flag) => Value::from(*flag),
        ParameterValue::Date(date) => day(*date, zone),
        ParameterValue::List(items) => items.iter().map(|item| Value::from(Serde(item))).collect(),
    }
}

/// The part of time that `ds` and its like speak of: the unit, else the window, else the logical date.
struct Span {
    start: Instant,
    end: Instant,
    first: NaiveDate,
    next: NaiveDate,
    previous: NaiveDate,
}

impl Span {
    fn of(scope: &Scope) -> Option<Self> {
        let (first, last) = match (&scope.unit, &scope.window, scope.logical_date) {
            (Some(unit), _, _) => (*unit, *unit),
            (None, Some(window), _) => (*window.first(), *window.last()),
            (None, None, Some(date)) => {
                let day = Calendar::new(Grain::Day, scope.timezone).of_date(date);
                (day, day)
            }
            (None, None, None) => return None,
        };
        let date = |at: Instant| at.with_timezone(&first.calendar.tz).date_naive();
        Some(Self {
            start: first.start,
            end: last.end,
            first: first.date(),
            next: if first.calendar.grain == Grain::Hour {
                // Hours of one date ask an API for that date: the end is the next one.
                date(last.end - chrono::Duration::nanoseconds(1)) + Days::new(1)
            } else {
                date(last.end)
            },
            previous: match first.calendar.grain {
                Grain::Hour => first.date() - Days::new(1),
                _ => first.calendar.previous(&first).date(),
            },
        })
    }
}

fn reference(state: &State, name: &str) -> Result<String, Error> {
    let frame = frame(state)?;
    let relations = &frame.scope.relations;
    relations.get(name).cloned().ok_or_else(|| {
        unknown(format!("ref(): there is no step or table `{name}`"), name, relations.keys().map(String::as_str), None)
    })
}

fn source(state: &State, schema: &str, table: Option<&str>) -> Result<String, Error> {
    let frame = frame(state)?;
    let text = table.map_or_else(|| schema.to_owned(), |table| format!("{schema}.{table}"));
    let name = TableName::parse(&text).map_err(|error| invalid(format!("source(): {error}")).with_source(error))?;
    let quoting = &frame.scope.quoting;
    Ok(format!("{}.{}", quoting.ident(&name.schema), quoting.ident(&name.name)))
}

#[expect(clippy::needless_pass_by_value, reason = "the engine hands named arguments over by value")]
fn var(state: &State, name: &str, default: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let default = default_of(default, &named)?;
    let frame = frame(state)?;
    match (frame.scope.vars.get(name), default) {
        (Some(value), _) => Ok(Value::from(Serde(value))),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(unknown(
            format!("var(): `{name}` has no value"),
            name,
            frame.scope.vars.keys().map(String::as_str),
            Some(format!("set it under [vars], or give a default: var('{name}', 0)")),
        )),
    }
}

/// A default may be named: `var('x', default=4)`.
fn default_of(default: Option<Value>, named: &Kwargs) -> Result<Option<Value>, Error> {
    let named_default = named.get::<Option<Value>>("default")?;
    named.assert_all_used()?;
    Ok(default.or(named_default))
}

#[expect(clippy::needless_pass_by_value, reason = "the engine hands named arguments over by value")]
fn env_var(state: &State, name: &str, default: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let default = default_of(default, &named)?;
    let upper = name.to_uppercase();
    if SECRET_NAMES.iter().any(|prefix| upper.starts_with(prefix)) {
        return Err(invalid(format!("env_var(): `{name}` may hold credentials, which no template may print"))
            .with_source(
                HaulError::usage("").hint("credentials belong to connections; requests get them from there"),
            ));
    }
    match ((frame(state)?.scope.env)(name), default) {
        (Some(value), _) => Ok(Value::from(value)),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(invalid(format!("env_var(): `{name}` is not set"))
            .with_source(HaulError::usage("").hint(format!("set it, or give a default: env_var('{name}', '')")))),
    }
}

fn unknown<'a>(what: String, name: &str, known: impl Iterator<Item = &'a str>, hint: Option<String>) -> Error {
    let near = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
    let mut advice = HaulError::usage("");
    for hint in near.into_iter().chain(hint) {
        advice = advice.hint(hint);
    }
    invalid(what).with_source(advice)
}
