//! Killed at any boundary, a landing is repeated and ends as if nothing had happened; readers never see half of a unit.

use std::os::unix::process::ExitStatusExt;

use mongodb::bson::Document;
use serde_json::Value;

use super::Bench;
use super::landing::{Api, DAYS, MORNING, documents, pipeline, rows, table};
use crate::support::project::told;

/// All that a run leaves behind but for numbers that count attempts.
#[derive(Debug, PartialEq)]
struct Picture {
    tables: [Value; 2],
    landed: Vec<Document>,
    pointers: Vec<(String, i64, String, bool)>,
}

fn picture(bench: &Bench) -> Picture {
    let pointers = bench.database.all("_haul_loads").into_iter().map(|pointer| {
        let text = |name: &str| pointer.get_str(name).expect("a text").to_owned();
        let clean = pointer.get_bool("clean").expect("a flag");
        (text("_id"), pointer.get_i64("rows").expect("a count"), text("fingerprint"), clean)
    });
    let pointers = pointers.collect();
    Picture { tables: table(bench, "raw.users"), landed: documents(bench), pointers }
}

/// A second morning on which the second day has changed.
fn second_morning(api: &Api) {
    let mut changed = rows(DAYS[1], 0..25);
    changed.truncate(23);
    api.put(DAYS[1], changed);
}

fn kill(bench: &Bench, point: &str) {
    let now = format!("{MORNING}T06:00:00Z");
    let killed = bench.project().output(&["run", "days", "--date", MORNING, "--now", &now, "--kill-at", point]);
    assert_eq!(killed.status.signal(), Some(9), "{point}: {}", told(&killed));
}

#[test]
fn killed_at_every_boundary_of_the_first_landing() {
    let api = Api::start();
    api.fill();
    let undisturbed = api.bench(&pipeline(""));
    undisturbed.mornings.run(MORNING, 0);
    let expected = picture(&undisturbed);
    for point in [
        "page:4",
        "sealed:2",
        "written:1",
        "written:3",
        "flipped:1",
        "flipped:3",
        "committed:2",
        "recorded:3",
        "committed:5",
    ] {
        let bench = api.bench(&pipeline(""));
        kill(&bench, point);
        bench.mornings.run(MORNING, 0);
        assert_eq!(picture(&bench), expected, "{point}");
    }
}

#[test]
fn killed_at_every_boundary_of_a_later_landing() {
    let api = Api::start();
    api.fill();
    let undisturbed = api.bench(&pipeline(""));
    undisturbed.mornings.run(MORNING, 0);
    second_morning(&api);
    undisturbed.mornings.run(MORNING, 0);
    let expected = picture(&undisturbed);
    for point in ["judged:3", "written:1", "flipped:1", "committed:1", "recorded:4"] {
        api.fill();
        let bench = api.bench(&pipeline(""));
        bench.mornings.run(MORNING, 0);
        let before = picture(&bench);
        second_morning(&api);
        kill(&bench, point);
        if point == "written:1" {
            // What is written but not pointed at changes nothing for who reads by `_haul_loads`.
            let pointers = picture(&bench).pointers.into_iter().map(|(unit, rows, print, _)| (unit, rows, print));
            let unchanged = before.pointers.into_iter().map(|(unit, rows, print, _)| (unit, rows, print));
            assert_eq!(pointers.collect::<Vec<_>>(), unchanged.collect::<Vec<_>>());
        }
        bench.mornings.run(MORNING, 0);
        assert_eq!(picture(&bench), expected, "{point}");
    }
}

#[test]
fn what_a_killed_landing_wrote_goes_away_even_if_the_day_is_as_it_was_after_all() {
    let api = Api::start();
    api.fill();
    let bench = api.bench(&pipeline(""));
    bench.mornings.run(MORNING, 0);
    let expected = picture(&bench);
    second_morning(&api);
    kill(&bench, "written:1");
    assert_eq!(documents(&bench).len(), 75 + 23);
    api.fill();
    // The pages of the killed pull are taken up again first; the next pull then brings the old rows back.
    bench.mornings.run(MORNING, 0);
    bench.mornings.run(MORNING, 0);
    assert_eq!(picture(&bench), expected);
}
