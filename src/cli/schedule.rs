//! `haul schedule`: when pipelines run by themselves, and the odd days of a year.

use std::sync::Arc;

use chrono::{DateTime, Timelike};
use serde_json::{Value, json};

use super::screen::{DIM, GOOD, WARN};
use super::{Common, Screen, session};
use crate::error::{Error, Result};
use crate::model::pipeline::Pipeline;
use crate::model::schedule::{Schedule, When};
use crate::schedule::{Occurrence, OddDay, Timetable, odd_days, window};
use crate::time::{Calendar, Instant, Tz, Unit, display_duration};

/// Of which pipeline, and how much of the time to come.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The pipeline; all of them by default
    pipeline: Option<String>,
    /// How many occurrences
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    next: usize,
    /// Show the days of this year on which the clocks are moved, and what becomes of the runs then
    #[arg(long)]
    year: Option<i32>,
}

/// A pipeline with its schedule.
struct Scheduled<'a> {
    pipeline: &'a Pipeline,
    schedule: Option<&'a Schedule>,
    timetable: Option<Timetable>,
    next: Vec<Occurrence>,
    odd_days: Vec<OddDay>,
}

pub(super) async fn schedule(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    if args.year.is_some_and(|year| !(1900..=9000).contains(&year)) {
        return Err(Error::usage("the year lies outside of 1900 to 9000"));
    }
    let root = session::root(common)?;
    let read = session::offline(common, screen).map(Arc::new);
    let project = session::or_without_faults(read, &root, screen).await?;
    let pipelines = match &args.pipeline {
        Some(name) => vec![session::pipeline(&project, name)?],
        None => project.pipelines.clone(),
    };
    let now = common.clock().now();
    let mut all = Vec::with_capacity(pipelines.len());
    for pipeline in &pipelines {
        all.push(look(pipeline, args, now)?);
    }
    if screen.is_json() {
        screen.json(&json!({ "now": now, "pipelines": all.iter().map(as_json).collect::<Vec<_>>() }));
    } else if let Some(year) = args.year {
        all.iter().for_each(|one| print_year(one, year, screen));
    } else {
        print_next(&all, args.next, screen);
    }
    Ok(0)
}

fn look<'a>(pipeline: &'a Pipeline, args: &Args, now: Instant) -> Result<Scheduled<'a>> {
    let schedule = pipeline.schedule.as_ref();
    let timetable = schedule.map(|schedule| Timetable::of(schedule, pipeline.timezone)).transpose()?;
    let mut next = Vec::new();
    let mut odd = Vec::new();
    if let Some(timetable) = &timetable {
        let mut at = now;
        while next.len() < args.next {
            let Some(occurrence) = timetable.next(at) else { break };
            at = occurrence.at;
            next.push(occurrence);
        }
        odd = args.year.map(|year| odd_days(timetable, year)).unwrap_or_default();
    }
    Ok(Scheduled { pipeline, schedule, timetable, next, odd_days: odd })
}

/// What makes the times, in words.
fn words(schedule: Option<&Schedule>) -> String {
    match schedule.map(|schedule| &schedule.when) {
        None => "on demand".to_owned(),
        Some(When::Cron(texts)) => texts.join(" | "),
        Some(When::Every { every, .. }) => format!("every {}", display_duration(*every)),
        Some(When::After(other)) => format!("after {other}"),
    }
}

fn print_next(all: &[Scheduled<'_>], count: usize, screen: &Screen) {
    let mut rows: Vec<(&Scheduled<'_>, &Timetable, &Occurrence)> = all
        .iter()
        .filter(|one| one.schedule.is_some_and(|schedule| !schedule.paused))
        .filter_map(|one| Some((one, one.timetable.as_ref()?)))
        .flat_map(|(one, timetable)| one.next.iter().map(move |occurrence| (one, timetable, occurrence)))
        .collect();
    rows.sort_by_key(|(one, _, occurrence)| (occurrence.at, &one.pipeline.name));
    rows.truncate(count);
    if !rows.is_empty() {
        let cells = rows.iter().map(|(one, timetable, occurrence)| {
            vec![
                one.pipeline.name.clone(),
                local(occurrence.at, timetable.zone()),
                timetable.zone().name().to_owned(),
                utc(occurrence.at),
                occurrence.logical_date.to_string(),
                covers(one.pipeline, occurrence),
                occurrence.odd.as_ref().map(|odd| odd.words(true)).unwrap_or_default(),
            ]
        });
        screen.table(&["pipeline", "local time", "zone", "UTC", "for", "covers", ""], cells.collect());
    }
    for one in all {
        let name = &one.pipeline.name;
        match one.schedule {
            None => screen.data(&format!("{name}: on demand")),
            Some(schedule) if schedule.paused => {
                screen.data(&format!("{name}: {WARN}paused{WARN:#} ({})", words(one.schedule)));
            }
            Some(Schedule { when: When::After(other), .. }) => {
                screen.data(&format!("{name}: after each day that {other} has done"));
            }
            Some(_) if one.next.is_empty() && count > 0 => screen.data(&format!("{name}: never again")),
            Some(_) => {}
        }
    }
}

fn print_year(one: &Scheduled<'_>, year: i32, screen: &Screen) {
    let name = &one.pipeline.name;
    let (Some(timetable), Some(schedule)) = (&one.timetable, one.schedule) else {
        return screen.data(&format!("{GOOD}{name}{GOOD:#}: on demand"));
    };
    let zone = timetable.zone().name();
    let title = format!("{GOOD}{name}{GOOD:#}: {} {DIM}({zone}){DIM:#}", words(Some(schedule)));
    match schedule.when {
        When::After(_) => screen.data(&format!("{title}: has no times of its own")),
        When::Cron(_) | When::Every { .. } if one.odd_days.is_empty() => {
            screen.data(&format!("{title}: no odd days in {year}, the clocks are not moved"));
        }
        When::Cron(_) | When::Every { .. } => {
            screen.data(&title);
            let rows = one.odd_days.iter().flat_map(|day| odd_rows(day, timetable.zone())).collect();
            screen.table(&["date", "clocks", "run", "UTC", "why"], rows);
        }
    }
}

/// The rows of one odd day: one for each run that it concerns, or one that says what becomes of the others.
fn odd_rows(day: &OddDay, zone: Tz) -> Vec<Vec<String>> {
    let form = if day.moved().abs() < chrono::Duration::days(1) { "%H:%M" } else { "%m-%d %H:%M" };
    let clocks = format!("{} → {}", day.from.format(form), day.to.format(form));
    let row = |run: &str, at: String, why: String| vec![day.date.to_string(), clocks.clone(), run.to_owned(), at, why];
    if !day.occurrences.is_empty() {
        let of = |one: &Occurrence| {
            let run = if one.runs { local(one.at, zone) } else { "none".to_owned() };
            let at = if one.runs { utc(one.at) } else { String::new() };
            row(&run, at, one.odd.as_ref().map(|odd| odd.words(one.runs)).unwrap_or_default())
        };
        return day.occurrences.iter().map(of).collect();
    }
    let times = [&day.before, &day.after].map(|one| one.as_ref().map(|one| one.at));
    let short = |at: Instant| at.with_timezone(&zone).format("%a %m-%d %H:%M %:z");
    let why = match times {
        [Some(before), Some(after)] => format!("none is concerned: {}, then {}", short(before), short(after)),
        _ => "none is concerned".to_owned(),
    };
    vec![row("as ever", String::new(), why)]
}

/// The units that the run of an occurrence covers.
fn covers(pipeline: &Pipeline, occurrence: &Occurrence) -> String {
    let units = window(pipeline, occurrence).zip(pipeline.calendar()).map(|(window, calendar)| ends(calendar, window));
    match units {
        None => "all".to_owned(),
        Some((first, last)) if first == last => first.key().to_string(),
        Some((first, last)) => format!("{} .. {}", first.key(), last.key()),
    }
}

/// The first and the last unit of a window.
fn ends(calendar: Calendar, window: std::ops::Range<Instant>) -> (Unit, Unit) {
    let end = calendar.containing(window.end);
    (calendar.containing(window.start), calendar.previous(&end))
}

fn local(at: Instant, zone: Tz) -> String {
    written(at.with_timezone(&zone), "%a %Y-%m-%d %H:%M %:z", "%a %Y-%m-%d %H:%M:%S %:z")
}

fn utc(at: Instant) -> String {
    written(at, "%Y-%m-%d %H:%MZ", "%Y-%m-%d %H:%M:%SZ")
}

fn written<Z: chrono::TimeZone>(at: DateTime<Z>, minutes: &str, seconds: &str) -> String
where
    Z::Offset: std::fmt::Display,
{
    at.format(if at.second() == 0 { minutes } else { seconds }).to_string()
}

fn as_json(one: &Scheduled<'_>) -> Value {
    let zone = one.timetable.as_ref().map(Timetable::zone);
    let occurrence = |occurrence: &Occurrence| {
        let mut value = serde_json::to_value(occurrence).unwrap_or_default();
        if let (Some(object), Some(zone)) = (value.as_object_mut(), zone) {
            object.insert("local".to_owned(), json!(occurrence.at.with_timezone(&zone).to_rfc3339()));
            let units = window(one.pipeline, occurrence).zip(one.pipeline.calendar());
            if let Some((first, last)) = units.map(|(window, calendar)| ends(calendar, window)) {
                object.insert("covers".to_owned(), json!({ "first": first.key(), "last": last.key() }));
            }
        }
        value
    };
    json!({
        "pipeline": one.pipeline.name,
        "schedule": words(one.schedule),
        "timezone": zone.map(Tz::name),
        "paused": one.schedule.is_some_and(|schedule| schedule.paused),
        "next": one.next.iter().map(occurrence).collect::<Vec<_>>(),
        "odd_days": one.odd_days,
    })
}
