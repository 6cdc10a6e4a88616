//! What every source has to keep: its days arrive whole, once, and again when they change.

use std::os::unix::process::ExitStatusExt;

use super::{Bench, Event, Origin, expected, words};
use crate::support::mornings::counted;
use crate::support::project::told;

const FIRST: &str = "2024-05-01";
const SECOND: &str = "2024-05-02";
const THIRD: &str = "2024-05-03";
const DAYS: [&str; 3] = [FIRST, SECOND, THIRD];
/// The morning after the three days.
const MORNING: &str = "2024-05-04";

fn whole() -> Vec<(&'static str, Vec<Event>)> {
    DAYS.map(|day| (day, Event::day(day))).to_vec()
}

/// A day has the events from its midnight up to the next, with all digits, letters and nulls.
pub fn each_day_has_its_own_rows_to_the_last_digit(origin: &dyn Origin) {
    let bench = Bench::new(origin, "");
    bench.fill(&DAYS);
    bench.mornings.run(MORNING, 0);
    assert_eq!(bench.rows(), expected(&whole()));
}

/// A day that is the same is not written again; of one that changed, what changed is counted.
pub fn a_later_morning_writes_only_what_changed(origin: &dyn Origin) {
    let bench = Bench::new(origin, "");
    bench.fill(&DAYS);
    bench.mornings.run(MORNING, 0);
    let mut events = Event::day(SECOND);
    events.remove(3);
    "another".clone_into(&mut events[5].name);
    let mut added = Event::new(SECOND, 17);
    added.id += 500;
    events.push(added);
    bench.put(SECOND, &events);
    bench.mornings.run(MORNING, 0);
    assert_eq!(bench.rows(), expected(&[(FIRST, Event::day(FIRST)), (SECOND, events), (THIRD, Event::day(THIRD))]));
    assert_eq!(bench.mornings.commits("raw.events"), counted(&[(FIRST, 1), (SECOND, 2), (THIRD, 1)]));
    assert_eq!(bench.mornings.that_are("unchanged"), [format!("events {FIRST}"), format!("events {THIRD}")]);
    let drift = bench.mornings.json(MORNING, &["drift", "raw.events"]);
    let told = drift.to_string();
    for part in ["\"added\":1", "\"removed\":1", "\"changed\":1"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

/// Rows that are gone are held, or gone here too.
pub fn a_day_that_empties_is_held_unless_that_is_allowed(origin: &dyn Origin) {
    for (more, code) in [("", 3), ("guard = { allow_empty = true, max_shrink = \"100%\" }", 0)] {
        let bench = Bench::new(origin, more);
        bench.fill(&DAYS);
        bench.mornings.run(MORNING, 0);
        bench.put(THIRD, &[]);
        bench.mornings.run(MORNING, code);
        let kept = if code == 3 { 3 } else { 2 };
        assert_eq!(bench.rows(), expected(&whole()[..kept]));
    }
}

/// The binary dies by SIGKILL at each boundary of a task's life, is run again, and has every row once.
pub fn killed_at_any_boundary_a_run_ends_as_if_nothing_had_happened(origin: &dyn Origin) {
    for point in ["leased:2", "page:1", "page:3", "sealed:2", "judged:2", "committed:2", "recorded:1"] {
        let bench = Bench::new(origin, "");
        bench.fill(&DAYS);
        let now = format!("{MORNING}T06:00:00Z");
        let killed = bench.project().output(&["run", "days", "--date", MORNING, "--now", &now, "--kill-at", point]);
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", told(&killed));
        bench.mornings.run(MORNING, 0);
        assert_eq!(bench.rows(), expected(&whole()), "{point}");
        assert_eq!(bench.mornings.commits("raw.events"), counted(&[(FIRST, 1), (SECOND, 1), (THIRD, 1)]), "{point}");
    }
}

/// A failure names step and day and keeps the old rows; the next run repairs it.
pub fn a_system_that_is_gone_fails_the_day_and_is_caught_up_with(origin: &dyn Origin) {
    let Some(gone) = origin.gone() else { return };
    let bench = Bench::new(origin, "retry = { max_attempts = 1 }");
    bench.fill(&DAYS);
    bench.mornings.run(MORNING, 0);
    bench.connect(&gone);
    let mut events = Event::day(SECOND);
    events.truncate(30);
    bench.put(SECOND, &events);
    let told = bench.mornings.run(MORNING, 1);
    assert!(told.contains(&format!("events {SECOND}")), "{told}");
    assert_eq!(bench.rows(), expected(&whole()), "{told}");
    bench.connect(&origin.connection());
    bench.mornings.run(MORNING, 0);
    assert_eq!(bench.rows(), expected(&[(FIRST, Event::day(FIRST)), (SECOND, events), (THIRD, Event::day(THIRD))]));
}

/// `render` and `preview` show what is asked and what comes; the secret is nowhere.
pub fn what_is_asked_can_be_looked_at_and_no_secret_is_told_or_kept(origin: &dyn Origin) {
    let bench = Bench::new(origin, "");
    bench.fill(&DAYS);
    let mut told = words(&bench, MORNING, &["render", "days", "events", "--date", MORNING]);
    assert!(told.contains(SECOND) || told.contains(&SECOND.replace('-', "")), "no day in {told}");
    let preview = words(&bench, MORNING, &["preview", "days", "events", "--date", MORNING]);
    assert!(preview.contains("9007199254743993"), "{preview}");
    told += &preview;
    told += &bench.mornings.run(MORNING, 0);
    if let Some(secret) = origin.secret() {
        bench.connect(&origin.gone().unwrap_or_else(|| origin.connection()));
        told += &words(&bench, MORNING, &["run", "days", "--date", MORNING, "--force"]);
        assert!(!told.contains(secret), "{told}");
        bench.never_kept(secret);
    }
}
