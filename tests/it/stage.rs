//! The stage: what is durable stays, what is torn is asked for again, and a unit's fingerprint depends on its rows alone.

mod fingerprint;
mod journal;
mod rows;
mod shapes;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use haul::error::Error;
use haul::model::name::TableName;
use haul::model::page::{PageEntry, Position};
use haul::model::pipeline::TimeColumn;
use haul::stage::{Manifest, Spec, Stage};
use haul::time::{Calendar, Grain, Tz, Unit};

/// A folder without a disk below it, where the system has one: these tests sync thousands of small stages.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn day(date: &str) -> Unit {
    Calendar::new(Grain::Day, Tz::UTC).of_date(date.parse().expect("a date"))
}

/// The stage of one day.
fn spec() -> Spec {
    Spec {
        table: TableName::parse("raw.items").expect("a name"),
        units: vec![day("2024-03-01")],
        split: false,
        time: None,
        tz: Tz::UTC,
        pull: 1,
        request: "GET /items".to_owned(),
        target_bytes: 25,
    }
}

/// The stage of a window whose rows tell their day by `time`.
fn window(dates: &[&str], time: TimeColumn) -> Spec {
    Spec { units: dates.iter().map(|date| day(date)).collect(), split: true, time: Some(time), ..spec() }
}

fn entry(number: u64, rows: u64) -> PageEntry {
    PageEntry {
        number,
        at: Position::Page(number),
        next: Some(Position::Page(number + 1)),
        total: Some(9),
        rows,
        digest: 1,
    }
}

/// Puts a page into a stage; each line of `body` is a row.
fn append(stage: &Stage, number: u64, body: &str) -> Result<(), Error> {
    let mut ranges = Vec::new();
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        ranges.push(at..at + line.trim_end_matches('\n').len());
        at += line.len();
    }
    stage.append(&entry(number, ranges.len() as u64), body.as_bytes(), &ranges)
}

/// A sealed stage of these pages.
fn sealed(dir: &Path, spec: Spec, pages: &[&str]) -> Manifest {
    let stage = Stage::open(dir, spec).expect("a stage");
    for (number, body) in pages.iter().enumerate() {
        append(&stage, number as u64, body).expect("a page");
    }
    stage.seal().expect("a manifest")
}

/// All rows of a sealed stage, sorted.
fn rows(manifest: &Manifest) -> Vec<String> {
    let mut rows = Vec::new();
    for segment in &manifest.segments {
        let mut text = String::new();
        let file = File::open(segment).expect("a segment");
        zstd::Decoder::new(file).and_then(|mut frames| frames.read_to_string(&mut text)).expect("whole frames");
        rows.extend(text.lines().map(str::to_owned));
    }
    rows.sort();
    rows
}
