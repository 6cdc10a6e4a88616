//! When pipelines run by themselves: on days of every length, in every zone, and whatever happened in between.

mod command;
mod decisions;
mod known_traps;
mod properties;
mod whole_year;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use haul::model::pipeline::{Guard, Pipeline, Tier, WindowRule};
use haul::model::schedule::{Missed, Overlap, Schedule, When};
use haul::model::steering::Steering;
use haul::schedule::{Occurrence, Timetable};
use haul::time::{Grain, Instant, Tz};

fn instant(text: &str) -> Instant {
    text.parse().expect("an instant")
}

/// A schedule by cron that says no more than its expression.
fn cron(text: &str, zone: Tz) -> Schedule {
    Schedule {
        when: When::Cron(vec![text.to_owned()]),
        timezone: zone,
        gap: None,
        fold: None,
        missed: Missed::Widen,
        missed_limit: None,
        overlap: Overlap::Queue,
        paused: false,
    }
}

fn table(schedule: &Schedule) -> Timetable {
    Timetable::of(schedule, schedule.timezone).expect("a timetable")
}

/// The runs in `(after, until]`.
fn runs(schedule: &Schedule, after: &str, until: &str) -> Vec<Occurrence> {
    table(schedule).occurrences(instant(after), instant(until)).filter(|occurrence| occurrence.runs).collect()
}

/// The same in UTC: `10 07:00`, the day of the month and the time.
fn utc(schedule: &Schedule, after: &str, until: &str) -> Vec<String> {
    runs(schedule, after, until).iter().map(|one| one.at.format("%d %H:%M").to_string()).collect()
}

/// The same on the clock of the schedule's zone: `10 03:00`.
fn local(schedule: &Schedule, after: &str, until: &str) -> Vec<String> {
    let zone = schedule.timezone;
    runs(schedule, after, until).iter().map(|one| one.at.with_timezone(&zone).format("%d %H:%M").to_string()).collect()
}

/// A pipeline that looks back so many units, without steps.
fn pipeline(schedule: &Schedule, grain: Grain, lookback: u32) -> Pipeline {
    let tier = Tier { every: Duration::from_hours(24), units: NonZeroU32::new(lookback).expect("units") };
    Pipeline {
        max_bytes: None,
        name: "p".to_owned(),
        description: None,
        file: PathBuf::from("pipelines/p.toml"),
        timezone: schedule.timezone,
        warehouse: "warehouse".to_owned(),
        schedule: Some(schedule.clone()),
        window: Some(WindowRule {
            grain,
            tiers: vec![tier],
            begin: None,
            settle_after: None,
            settle_pulls: None,
            guard: Guard::default(),
        }),
        vars: BTreeMap::new(),
        steering: Steering::default(),
        max_active: 4,
        steps: Vec::new(),
    }
}
