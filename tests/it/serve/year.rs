//! A year of fifty pipelines by the daemon's steps, with everything that goes wrong in a year.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;
use haul::model::job::{JobFilter, JobState};
use haul::model::schedule::{Missed, Overlap, When};
use haul::schedule::{Timetable, window};
use haul::time::Instant;

use super::world::{Ledger, Outcome, SETTLED, Simulation};

const BEGIN: &str = "2026-01-01T12:00:00Z";
const CALM: &str = "2026-12-15T12:00:00Z";
const END: &str = "2026-12-31T12:00:00Z";

fn instant(text: &str) -> Instant {
    text.parse().expect("an instant")
}

/// Numbers that look random and are the same in every run of the test.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn minutes(&mut self, most: u64) -> Duration {
        Duration::minutes(i64::try_from(self.roll(most)).expect("minutes"))
    }

    /// Most runs take minutes, some longer than the time to the next.
    fn run(&mut self) -> Duration {
        if self.roll(40) == 0 {
            Duration::hours(20) + self.minutes(20 * 60)
        } else {
            Duration::minutes(1) + self.minutes(40)
        }
    }
}

/// Fifty pipelines in many zones, in all words of schedules.
fn pipelines() -> Vec<(String, String)> {
    let zones = [
        "Europe/Berlin",
        "America/New_York",
        "Asia/Seoul",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "America/Sao_Paulo",
        "UTC",
    ];
    let crons = ["0 6 * * *", "0 9 1 * *", "30 2 * * *", "0 0 1,15 * *", "30 1 * * 0", "15 4 * * 4", "30 0 1-3 * *"];
    let pipeline = |number: usize| {
        let name = format!("p{number:02}");
        let (missed, overlap) = match number {
            40 => ("last", "queue"),
            41 => ("skip", "queue"),
            42 => ("widen", "skip"),
            43 => ("each", "cancel_other"),
            _ if number % 5 == 4 => ("each", "queue"),
            _ => ("widen", "queue"),
        };
        let when = match number {
            44 => "after = \"p00\"".to_owned(),
            45 => "after = \"p44\"".to_owned(),
            46 => "every = \"17h\"".to_owned(),
            47 => "cron = \"0 */12 * * *\"\nfold = \"both\"".to_owned(),
            40..44 => "cron = \"0 6 * * *\"".to_owned(),
            _ => format!("cron = \"{}\"", crons[number % crons.len()]),
        };
        let zone = zones[number / 2 % zones.len()];
        let text = format!(
            "timezone = \"{zone}\"\n[schedule]\n{when}\nmissed = \"{missed}\"\noverlap = \"{overlap}\"\n\
             [window]\nlookback = 3\n[[transform]]\nname = \"t\"\nsql = \"select 1 as x\"\ninto = \"mart.{name}\"\n"
        );
        (name, text)
    };
    (0..50).map(pipeline).collect()
}

/// What goes wrong next.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Kill(usize),
    Freeze(usize, Duration),
    Jump(Duration),
    Start(usize),
}

/// The troubles of the year, each with its time.
fn troubles(dice: &mut Dice) -> BTreeMap<Instant, Trouble> {
    let mut found = BTreeMap::new();
    let mut at = instant(BEGIN) + Duration::days(2);
    while at < instant(CALM) {
        let slot = usize::try_from(dice.roll(2)).expect("a slot");
        match dice.roll(6) {
            0 => drop(found.insert(at, Trouble::Freeze(slot, Duration::minutes(30) + dice.minutes(10 * 60)))),
            1 => {
                // Back as much as forward; the other way round in half of the cases.
                let jump = if dice.roll(2) == 0 { Duration::minutes(40) } else { Duration::hours(30) };
                let jump = if dice.roll(2) == 0 { jump } else { -jump };
                found.insert(at, Trouble::Jump(jump));
                found.insert(at + Duration::minutes(1) + dice.minutes(300), Trouble::Jump(-jump));
            }
            2 => {
                // Both are away, for days.
                let long = Duration::hours(5) + dice.minutes(6 * 24 * 60);
                found.insert(at, Trouble::Kill(0));
                found.insert(at + Duration::seconds(1), Trouble::Kill(1));
                found.insert(at + long, Trouble::Start(slot));
            }
            _ => {
                found.insert(at, Trouble::Kill(slot));
                found.insert(at + Duration::minutes(1) + dice.minutes(12 * 60), Trouble::Start(slot));
            }
        }
        at += Duration::hours(12) + dice.minutes(9 * 24 * 60);
    }
    found.insert(instant(CALM), Trouble::Start(0));
    found
}

async fn happens(simulation: &mut Simulation, trouble: Trouble) {
    match trouble {
        Trouble::Kill(slot) => simulation.kill(slot),
        Trouble::Start(slot) if simulation.machines[slot].daemon.is_none() => simulation.start(slot).await,
        Trouble::Start(_) => {}
        Trouble::Freeze(slot, long) => {
            simulation.machines[slot].frozen =
                simulation.machines[slot].daemon.is_some().then_some(simulation.now + long);
        }
        Trouble::Jump(by) => {
            simulation.ahead += by;
            // A daemon looks at the clock on the wall every second.
            for machine in &mut simulation.machines {
                machine.wake = Some(simulation.now + simulation.ahead);
            }
        }
    }
}

/// Lives through the year.
async fn live(simulation: &mut Simulation, mut troubles: BTreeMap<Instant, Trouble>, dice: &mut Dice) {
    simulation.followed = vec!["p00".to_owned(), "p44".to_owned()];
    simulation.start(0).await;
    let calm = instant(CALM);
    let mut steps = 0_u32;
    let mut looked = simulation.now;
    while simulation.now < instant(END) {
        steps += 1;
        assert!(steps < 400_000, "time stands still at {}", simulation.now);
        let mut stirred = false;
        while let Some(entry) = troubles.first_entry().filter(|entry| *entry.key() <= simulation.now) {
            let trouble = entry.remove();
            happens(simulation, trouble).await;
            stirred = true;
        }
        let now = simulation.now;
        for machine in simulation.machines.iter_mut().filter(|machine| machine.frozen.is_some_and(|at| at <= now)) {
            machine.frozen = None;
            machine.wake = Some(now + simulation.ahead);
        }
        let trouble = now < calm && troubles.len() > 1;
        stirred |=
            simulation.end_runs(|_| if trouble && dice.roll(25) == 0 { Outcome::Failed } else { Outcome::Good }).await;
        simulation.step(false).await;
        let trouble = simulation.now < calm;
        stirred |= simulation.take_up(|| if trouble { dice.run() } else { Duration::minutes(5) }).await;
        let several = simulation.machines.iter().filter(|machine| machine.daemon.is_some()).count() > 1;
        let look = simulation.now - looked >= Duration::hours(3);
        if stirred && several && look {
            looked = simulation.now;
            // What one has written the others find when they look; how often they do so is no matter of being right.
            simulation.step(true).await;
            simulation.take_up(|| Duration::minutes(10)).await;
        }
        let next = simulation.next().into_iter().chain(troubles.first_key_value().map(|(at, _)| *at)).min();
        simulation.now = next.unwrap_or(instant(END)).max(simulation.now);
    }
}

/// What an undisturbed year would have brought: every occurrence its window, every unit seen until it had settled.
fn undisturbed(simulation: &Simulation) -> Ledger {
    let mut ledger = Ledger::new();
    for pipeline in &simulation.project.pipelines {
        let mut leader = pipeline;
        while let Some(When::After(other)) = leader.schedule.as_ref().map(|schedule| &schedule.when) {
            leader = simulation.project.pipeline(other).expect("the pipeline that it follows");
        }
        let schedule = leader.schedule.as_ref().expect("a schedule");
        let timetable = Timetable::of(schedule, leader.timezone).expect("a timetable");
        for occurrence in timetable.occurrences(instant(BEGIN), instant(CALM)).filter(|one| one.runs) {
            let range = window(pipeline, &occurrence).expect("a window");
            for unit in pipeline.calendar().expect("a calendar").between(range.start, range.end) {
                ledger.insert((pipeline.name.clone(), unit.key()), SETTLED);
            }
        }
    }
    ledger
}

#[tokio::test]
async fn a_year_of_fifty_pipelines_with_outages_crashes_and_clock_jumps_ends_like_an_undisturbed_one() {
    let mut dice = Dice(20_260_101);
    let mut simulation = Simulation::new(&pipelines(), 2, instant(BEGIN)).await;
    let troubles = troubles(&mut dice);
    assert!(troubles.len() > 60, "{}", troubles.len());
    live(&mut simulation, troubles, &mut dice).await;

    // The ledger: whatever the undisturbed year would have brought is there, as it settled.
    let world = simulation.world.lock().expect("the world");
    let lossless = |name: &str| {
        let schedule = simulation.project.pipeline(name).and_then(|pipeline| pipeline.schedule.as_ref());
        let schedule = schedule.expect("a schedule");
        matches!(schedule.missed, Missed::Widen | Missed::Each) && schedule.overlap == Overlap::Queue
    };
    let daily = |name: &str| {
        let schedule = simulation.project.pipeline(name).and_then(|pipeline| pipeline.schedule.as_ref());
        match &schedule.expect("a schedule").when {
            When::Cron(texts) => texts.iter().all(|text| text.ends_with("* * *") && !text.contains("1-3")),
            When::Every { .. } | When::After(_) => true,
        }
    };
    let wanted = undisturbed(&simulation);
    let mut compared = 0;
    for ((name, unit), value) in wanted.iter().filter(|((name, _), _)| lossless(name)) {
        let found = world.ledger.get(&(name.clone(), unit.clone()));
        assert!(found.is_some(), "{name} {unit} is missing");
        // Where a unit is seen by one run only, it is as it was then.
        if daily(name) {
            assert_eq!(found, Some(value), "{name} {unit}");
        }
        compared += 1;
    }
    assert!(compared > 5_000, "{compared}");
    assert!(world.refused > 0, "some run came back after its lease had ended, and wrote nothing");
    println!("{} commits, {} refused, {compared} units compared", world.commits, world.refused);
    drop(world);
    every_occurrence_has_its_end(&simulation).await;
    let open = [JobState::Queued, JobState::Leased].into();
    let open = simulation.state.jobs(&JobFilter { states: open, ..JobFilter::default() }).await.expect("jobs");
    assert!(open.len() < 5, "the queue is empty in the end but for what has just begun: {open:?}");
}

async fn every_occurrence_has_its_end(simulation: &Simulation) {
    let mut words: BTreeMap<String, usize> = BTreeMap::new();
    for pipeline in &simulation.project.pipelines {
        let (name, schedule) = (&pipeline.name, pipeline.schedule.as_ref().expect("a schedule"));
        let rows = simulation.state.occurrences(Some(name), instant(BEGIN), 100_000).await.expect("occurrences");
        let recorded: BTreeSet<Instant> = rows.iter().map(|row| row.at).collect();
        assert_eq!(recorded.len(), rows.len(), "{name}: each once");
        for row in rows.iter().filter(|row| row.at < instant(END) - Duration::days(1)) {
            assert!(["ran", "coalesced", "skipped", "missed"].contains(&row.end.as_str()), "{name}: {row:?}");
            assert!(row.end == "ran" || row.reason.is_some(), "{name}: {row:?}");
            *words.entry(row.end.clone()).or_default() += 1;
        }
        if matches!(schedule.when, When::After(_)) {
            continue;
        }
        let timetable = Timetable::of(schedule, pipeline.timezone).expect("a timetable");
        let meant: BTreeSet<Instant> = timetable
            .occurrences(instant(BEGIN), instant(END) - Duration::days(1))
            .map(|occurrence| occurrence.at)
            .collect();
        let lost: Vec<_> = meant.difference(&recorded).collect();
        assert!(lost.is_empty(), "{name}: nothing became of {lost:?}");
        let more = recorded.difference(&meant).filter(|at| **at < instant(END) - Duration::days(1)).count();
        assert_eq!(more, 0, "{name}: no occurrence that the schedule does not have");
    }
    assert_eq!(words.len(), 4, "the year had something of everything: {words:?}");
    println!("{words:?}");
}
