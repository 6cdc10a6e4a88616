//! The filters of templates: quoting for SQL, and the forms that APIs want times in.

use chrono::{NaiveDate, NaiveDateTime};
use minijinja::value::{Object, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};
use std::sync::Arc;

use super::moment::{Day, Moment, When, invalid, shown};
use super::scope::{Frame, frame};
use crate::time::Tz;

/// The filters that templates have besides those of Jinja.
pub(super) const FILTERS: &[&str] =
    &["sql", "ident", "date_add", "strftime", "iso", "epoch", "epoch_ms", "date", "in_tz"];

/// Adds the filters.
pub(super) fn add(env: &mut Environment<'static>) {
    env.add_filter("sql", |state: &State, value: &Value| literal(&*frame(state)?, value));
    env.add_filter("ident", |state: &State, value: &Value| idents(&*frame(state)?, value));
    env.add_filter("date_add", date_add);
    env.add_filter("strftime", |state: &State, value: &Value, format: &str| when(state, value)?.strftime(format));
    env.add_filter("iso", |state: &State, value: &Value| when(state, value).map(When::iso));
    env.add_filter("epoch", |state: &State, value: &Value| when(state, value).map(|when| when.instant().timestamp()));
    env.add_filter("epoch_ms", |state: &State, value: &Value| {
        when(state, value).map(|when| when.instant().timestamp_millis())
    });
    env.add_filter("date", |state: &State, value: &Value| {
        when(state, value).map(|when| When::Day(when.date()).value())
    });
    env.add_filter("in_tz", in_tz);
}

fn when(state: &State, value: &Value) -> Result<When, Error> {
    When::of(value, frame(state)?.scope.timezone)
}

fn date_add(state: &State, value: &Value, count: i64, unit: Option<&str>) -> Result<Value, Error> {
    when(state, value)?.add(count, unit.unwrap_or("days")).map(When::value)
}

fn in_tz(state: &State, value: &Value, zone: &str) -> Result<Value, Error> {
    let tz: Tz = zone.parse().map_err(|_| {
        let names = chrono_tz::TZ_VARIANTS.iter().map(|tz| tz.name());
        let error = invalid(format!("`{zone}` is not a time zone"));
        match super::nearest(zone, names) {
            Some(name) => error.with_source(crate::error::Error::usage("").hint(format!("did you mean `{name}`?"))),
            None => error,
        }
    })?;
    Ok(match when(state, value)? {
        When::Day(_) => return Err(invalid("a date is the same in every zone; only instants have a zone".to_owned())),
        When::Moment(moment) => When::Moment(Moment { shown: Some(tz), ..moment }).value(),
    })
}

/// A value as a literal of SQL.
fn literal(frame: &Frame, value: &Value) -> Result<String, Error> {
    let quoting = &frame.scope.quoting;
    if let Some(day) = value.downcast_object_ref::<Day>() {
        return Ok(quoting.date(day.date));
    }
    if let Some(moment) = value.downcast_object_ref::<Moment>() {
        // The warehouse's timestamps are in UTC; who asked for a zone wants its wall clock.
        let local = moment.shown.map_or_else(|| moment.at.naive_utc(), |_| moment.local());
        return Ok(quoting.timestamp(local));
    }
    match value.kind() {
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::None => Ok("NULL".to_owned()),
        ValueKind::Bool => Ok(if value.is_true() { "TRUE" } else { "FALSE" }.to_owned()),
        ValueKind::Number => number(value),
        ValueKind::String => {
            let text = value.to_string();
            if text.contains('\0') {
                return Err(invalid("a text with a NUL character has no SQL literal".to_owned()));
            }
            Ok(quoting.text(&text))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.map(|item| literal(frame, &item)).collect::<Result<Vec<_>, _>>()?;
            if items.is_empty() {
                return Err(invalid("an empty list has no SQL literal: `IN ()` is no SQL".to_owned()));
            }
            Ok(format!("({})", items.join(", ")))
        }
        _ => Err(invalid(format!("{} has no SQL literal", shown(value)))),
    }
}

fn number(value: &Value) -> Result<String, Error> {
    if !value.is_integer() {
        let float = f64::try_from(value.clone())?;
        if !float.is_finite() {
            return Err(invalid(format!("{} has no SQL literal", shown(value))));
        }
    }
    Ok(value.to_string())
}

fn idents(frame: &Frame, value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::String => {
            let name = value.to_string();
            if name.is_empty() || name.contains('\0') {
                return Err(invalid("an empty text is no identifier".to_owned()));
            }
            Ok(frame.scope.quoting.ident(&name))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let names = value.try_iter()?.map(|item| idents(frame, &item)).collect::<Result<Vec<_>, _>>()?;
            Ok(names.join(", "))
        }
        _ => Err(invalid(format!("{} is not the name of a column", shown(value)))),
    }
}

/// Airflow's `macros`.
#[derive(Debug)]
pub(super) struct Macros;

impl Object for Macros {
    fn call_method(self: &Arc<Self>, state: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        match (name, args) {
            ("ds_add", [ds, days]) => {
                let days =
                    days.as_i64().ok_or_else(|| invalid("the second argument of ds_add() is a number".into()))?;
                Ok(Value::from(When::Day(when(state, ds)?.date()).add(days, "days")?.iso()))
            }
            ("ds_format", [ds, from, to]) => {
                let (Some(from), Some(to)) = (from.as_str(), to.as_str()) else {
                    return Err(invalid("ds_format() takes a date and two formats".to_owned()));
                };
                ds_format(state, &ds.to_string(), from, to).map(Value::from)
            }
            ("ds_add" | "ds_format", _) => Err(Error::new(
                ErrorKind::MissingArgument,
                "they are called as ds_add(ds, days) and ds_format(ds, input_format, output_format)",
            )),
            _ => Err(Error::new(
                ErrorKind::UnknownMethod,
                format!("macros.{name} is unknown; there are ds_add and ds_format"),
            )),
        }
    }
}

fn ds_format(state: &State, ds: &str, from: &str, to: &str) -> Result<String, Error> {
    let zone = frame(state)?.scope.timezone;
    if let Ok(local) = NaiveDateTime::parse_from_str(ds, from) {
        return When::Moment(Moment { at: local.and_utc(), zone, shown: Some(Tz::UTC) }).strftime(to);
    }
    let date =
        NaiveDate::parse_from_str(ds, from).map_err(|_| invalid(format!("`{ds}` is not written as `{from}`")))?;
    When::Day(Day { date, zone }).strftime(to)
}
