//! What becomes of occurrences that passed, wait, or come while the run before is under way.

use std::num::NonZeroU32;

use haul::model::schedule::{Missed, Overlap, Schedule};
use haul::plan;
use haul::schedule::{Circumstances, Decided, End, Pending, decide};
use haul::time::{Grain, Tz};

use super::{cron, instant, pipeline, table};

fn daily(missed: Missed) -> Schedule {
    Schedule { missed, ..cron("0 6 * * *", Tz::Europe__Berlin) }
}

fn under(now: &str) -> Circumstances {
    Circumstances { now: instant(now), paused: false, running: None }
}

/// What becomes of the occurrences since an instant, of a pipeline that looks three days back.
fn decided(schedule: &Schedule, since: &str, under: &Circumstances, queued: bool) -> Decided {
    let timetable = table(schedule);
    let due = timetable.occurrences(instant(since), under.now);
    let pending = due.map(|occurrence| Pending { occurrence, queued }).collect();
    decide(&pipeline(schedule, Grain::Day, 3), schedule, pending, under)
}

/// The ends in short: `24 ran`, the day of the month and the word.
fn ends(decided: &Decided) -> Vec<String> {
    let word = |end: &End| match end {
        End::Ran => "ran".to_owned(),
        End::Coalesced { into } => format!("coalesced into {}", into.format("%d")),
        End::Skipped { .. } => "skipped".to_owned(),
        End::Missed { .. } => "missed".to_owned(),
    };
    decided.ends.iter().map(|(occurrence, end)| format!("{} {}", occurrence.at.format("%d"), word(end))).collect()
}

/// Each run in short: the first and the last day that it covers.
fn covered(decided: &Decided) -> Vec<String> {
    let day = |at: haul::time::Instant| at.with_timezone(&Tz::Europe__Berlin).format("%d").to_string();
    let window = |run: &haul::schedule::ScheduledRun| run.window.clone().expect("a window");
    decided.runs.iter().map(|run| format!("{}..{}", day(window(run).start), day(window(run).end))).collect()
}

const OUTAGE: (&str, &str) = ("2026-06-20T05:00:00Z", "2026-06-24T09:00:00Z");

#[test]
fn a_run_on_time_covers_its_own_window() {
    let decided = decided(&daily(Missed::Widen), "2026-06-23T05:00:00Z", &under("2026-06-24T04:00:01Z"), false);
    assert_eq!(ends(&decided), ["24 ran"]);
    assert_eq!(covered(&decided), ["21..24"]);
}

#[test]
fn after_an_outage_one_run_covers_the_union_of_the_windows() {
    let decided = decided(&daily(Missed::Widen), OUTAGE.0, &under(OUTAGE.1), false);
    let into = |day: u32| format!("{day} coalesced into 24");
    assert_eq!(ends(&decided), [into(21), into(22), into(23), "24 ran".to_owned()]);
    assert_eq!(covered(&decided), ["18..24"], "three days and the three that were missed");
    assert_eq!(decided.runs[0].stands_for.len(), 3);
}

#[test]
fn what_was_missed_runs_one_by_one_or_once_or_not_at_all() {
    for (missed, now, ends_expected, covered_expected) in [
        (
            Missed::Each,
            OUTAGE.1,
            vec!["21 ran", "22 ran", "23 ran", "24 ran"],
            vec!["18..21", "19..22", "20..23", "21..24"],
        ),
        (Missed::Last, OUTAGE.1, vec!["21 missed", "22 missed", "23 missed", "24 ran"], vec!["21..24"]),
        (Missed::Skip, OUTAGE.1, vec!["21 missed", "22 missed", "23 missed", "24 missed"], vec![]),
        (Missed::Skip, "2026-06-24T04:01:00Z", vec!["21 missed", "22 missed", "23 missed", "24 ran"], vec!["21..24"]),
    ] {
        let decided = decided(&daily(missed), OUTAGE.0, &under(now), false);
        assert_eq!(ends(&decided), ends_expected, "{missed:?}");
        assert_eq!(covered(&decided), covered_expected, "{missed:?}");
    }
}

#[test]
fn a_limit_makes_up_the_latest_ones_and_says_what_became_of_the_others() {
    for (missed, ends_expected, covered_expected) in [
        (Missed::Widen, vec!["21 missed", "22 missed", "23 coalesced into 24", "24 ran"], vec!["20..24"]),
        (Missed::Each, vec!["21 missed", "22 missed", "23 ran", "24 ran"], vec!["20..23", "21..24"]),
    ] {
        let schedule = Schedule { missed_limit: NonZeroU32::new(2), ..daily(missed) };
        let decided = decided(&schedule, OUTAGE.0, &under(OUTAGE.1), false);
        assert_eq!(ends(&decided), ends_expected, "{missed:?}");
        assert_eq!(covered(&decided), covered_expected, "{missed:?}");
        let End::Missed { reason } = &decided.ends[0].1 else { panic!("missed") };
        assert_eq!(reason, "only the last 2 are made up");
    }
}

#[test]
fn a_schedule_of_many_runs_is_not_made_up_without_end() {
    let schedule = Schedule { missed: Missed::Each, ..cron("* * * * *", Tz::UTC) };
    let decided = decided(&schedule, "2026-06-01T00:00:00Z", &under("2026-06-03T00:00:00Z"), false);
    assert_eq!(
        (decided.ends.len(), decided.runs.len()),
        (2880, 101),
        "a hundred that passed, and the one that is on time"
    );
}

/// windmill#10917: while a run took longer than its interval, occurrences were gone without a word.
#[test]
fn a_run_that_takes_longer_than_its_interval_loses_no_occurrence() {
    let busy = Circumstances { running: Some("p-2026-06-20-1".to_owned()), ..under(OUTAGE.1) };
    let with = |overlap| Schedule { overlap, ..daily(Missed::Widen) };

    let skipped = decided(&with(Overlap::Skip), OUTAGE.0, &busy, false);
    assert_eq!(ends(&skipped), ["21 skipped", "22 skipped", "23 skipped", "24 skipped"]);
    assert!(matches!(&skipped.ends[0].1, End::Skipped { reason } if reason == "p-2026-06-20-1 was still under way"));

    let waiting = decided(&with(Overlap::Queue), OUTAGE.0, &busy, false);
    assert_eq!((waiting.ends.len(), waiting.waiting.len(), waiting.runs.len()), (0, 4, 0));
    let later = decided(&with(Overlap::Queue), OUTAGE.0, &under("2026-06-24T15:00:00Z"), true);
    assert_eq!(covered(&later), ["18..24"], "what waited together becomes one run");

    let instead = decided(&with(Overlap::CancelOther), OUTAGE.0, &busy, false);
    assert!(instead.cancel_running);
    assert_eq!(covered(&instead), ["18..24"]);
}

#[test]
fn what_waited_for_the_run_before_is_not_taken_for_missed() {
    let later = under("2026-06-24T15:00:00Z");
    let waited = decided(&daily(Missed::Skip), OUTAGE.0, &later, true);
    assert_eq!(ends(&waited), ["21 skipped", "22 skipped", "23 skipped", "24 ran"]);
}

#[test]
fn while_a_schedule_is_paused_its_occurrences_are_recorded_as_skipped() {
    let in_the_file = Schedule { paused: true, ..daily(Missed::Widen) };
    let by_somebody = Circumstances { paused: true, ..under(OUTAGE.1) };
    for decided in [
        decided(&in_the_file, OUTAGE.0, &under(OUTAGE.1), false),
        decided(&daily(Missed::Widen), OUTAGE.0, &by_somebody, false),
    ] {
        assert_eq!(ends(&decided), ["21 skipped", "22 skipped", "23 skipped", "24 skipped"]);
        assert!(decided.runs.is_empty());
    }
}

#[test]
fn the_plan_of_a_widened_run_covers_all_that_it_stands_for() {
    let decided = decided(&daily(Missed::Widen), OUTAGE.0, &under(OUTAGE.1), false);
    let ask = decided.runs[0].ask();
    assert_eq!(ask.logical_date.to_string(), "2026-06-24");
    let project = crate::support::project::Project::with_api("http://127.0.0.1:9", "");
    project.write(
        "pipelines/p.toml",
        "timezone = \"Europe/Berlin\"\n[window]\nlookback = 3\n[[extract]]\nname = \"a\"\nconnection = \"api\"\n\
         request = { path = \"/a\", params = { day = \"{{ ds }}\" } }\n",
    );
    let loaded =
        haul::config::load(project.path(), &haul::config::Options::default()).into_project().expect("a project");
    let pipeline = loaded.pipeline("p").expect("the pipeline");
    let plan = plan::build(pipeline, &haul::model::ledger::Snapshot::new(Vec::new()), &ask, instant(OUTAGE.1))
        .expect("a plan");
    let window = plan.window.as_ref().expect("a window");
    assert_eq!((window.first().key().as_str(), window.last().key().as_str()), ("2026-06-18", "2026-06-23"));
    assert_eq!(plan.tasks.len(), 6);
}
