//! A year of fifty pipelines, with outages and runs that take too long: every occurrence has exactly one end.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;
use haul::model::pipeline::Pipeline;
use haul::model::schedule::{Fold, Missed, Overlap, Schedule, When};
use haul::schedule::{Circumstances, End, Occurrence, Pending, Timetable, decide, window};
use haul::time::{Grain, Instant, Tz};

use super::{cron, instant, pipeline};

const BEGIN: &str = "2025-12-31T12:00:00Z";
const END: &str = "2026-12-31T12:00:00Z";

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
}

/// Fifty schedules in all their words.
fn schedules() -> Vec<Schedule> {
    let zones =
        [Tz::Europe__Berlin, Tz::America__New_York, Tz::Asia__Seoul, Tz::Australia__Lord_Howe, Tz::Africa__Casablanca];
    let texts = ["0 6 * * *", "30 2 * * *", "15 * * * *", "0 */6 * * *", "30 1 * * 0", "0 0 1 * *", "0 9,17 * * 1-5"];
    let missed = [Missed::Widen, Missed::Each, Missed::Last, Missed::Skip];
    let overlap = [Overlap::Queue, Overlap::Skip, Overlap::CancelOther];
    (0..50)
        .map(|number: usize| {
            let simple = cron(texts[number % texts.len()], zones[number % zones.len()]);
            let when = if number % 9 == 8 {
                When::Every { every: std::time::Duration::from_hours(7), anchor: Instant::UNIX_EPOCH }
            } else {
                simple.when.clone()
            };
            let fold = (number % 4 == 3).then_some(Fold::Both);
            let (missed, overlap) = (missed[number / 3 % missed.len()], overlap[number / 2 % overlap.len()]);
            Schedule { when, fold, missed, overlap, ..simple }
        })
        .collect()
}

/// When the scheduler is awake: from, and until.
fn awake(dice: &mut Dice) -> Vec<(Instant, Instant)> {
    let mut at = instant(BEGIN);
    let mut spans = Vec::new();
    while at < instant(END) {
        let until = at + Duration::hours(3) + dice.minutes(20 * 24 * 60);
        spans.push((at, until));
        // Most outages are short, some take days.
        at = until + if dice.roll(4) == 0 { dice.minutes(6 * 24 * 60) } else { dice.minutes(90) };
    }
    spans
}

/// One pipeline's year.
struct Year {
    pipeline: Pipeline,
    schedule: Schedule,
    timetable: Timetable,
    ends: BTreeMap<Instant, Vec<End>>,
    covered: BTreeSet<Instant>,
    /// The instants of the occurrences that were run, alone or together.
    stood_for: BTreeSet<Instant>,
    waiting: Vec<Occurrence>,
    recorded: Instant,
    /// The end of the run that is under way, and of those that stand behind it.
    busy: Option<Instant>,
}

impl Year {
    fn new(schedule: Schedule) -> Self {
        let pipeline = pipeline(&schedule, Grain::Day, 3);
        let timetable = Timetable::of(&schedule, pipeline.timezone).expect("a timetable");
        Self {
            pipeline,
            schedule,
            timetable,
            ends: BTreeMap::new(),
            covered: BTreeSet::new(),
            stood_for: BTreeSet::new(),
            waiting: Vec::new(),
            recorded: instant(BEGIN),
            busy: None,
        }
    }

    /// A look at the clock.
    fn tick(&mut self, now: Instant, dice: &mut Dice) {
        self.busy = self.busy.filter(|end| now < *end);
        let queued =
            std::mem::take(&mut self.waiting).into_iter().map(|occurrence| Pending { occurrence, queued: true });
        let due = self.timetable.occurrences(self.recorded, now);
        let pending = queued.chain(due.map(|occurrence| Pending { occurrence, queued: false })).collect();
        let under = Circumstances { now, paused: false, running: self.busy.map(|_| "a run".to_owned()) };
        let decided = decide(&self.pipeline, &self.schedule, pending, &under);
        self.recorded = now;
        for (occurrence, end) in decided.ends {
            self.ends.entry(occurrence.at).or_default().push(end);
        }
        self.waiting = decided.waiting;
        for run in decided.runs {
            let range = run.window.clone().expect("a window");
            self.covered.extend(
                self.pipeline
                    .calendar()
                    .expect("a calendar")
                    .between(range.start, range.end)
                    .iter()
                    .map(|unit| unit.start),
            );
            self.stood_for.extend(run.stands_for);
            self.stood_for.insert(run.occurrence.at);
            // Some runs take longer than the time to the next.
            let took = if dice.roll(5) == 0 { dice.minutes(30 * 60) } else { dice.minutes(40) };
            self.busy = Some(self.busy.filter(|_| !decided.cancel_running).unwrap_or(now).max(now) + took);
        }
    }

    /// The instants at which a scheduler that sleeps in between would look.
    fn walk(&mut self, spans: &[(Instant, Instant)], dice: &mut Dice) {
        for (from, until) in spans {
            let mut now = *from;
            while now < *until {
                self.tick(now, dice);
                let next = self.timetable.occurrences(now, *until).next().map(|one| one.at);
                let next = next.into_iter().chain(self.busy.filter(|end| *end > now)).min();
                let Some(next) = next else { break };
                now = next;
            }
        }
    }
}

#[test]
fn in_a_year_with_outages_every_occurrence_has_exactly_one_end() {
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, schedule) in schedules().into_iter().enumerate() {
        let mut dice = Dice(7 + number as u64);
        let mut spans = awake(&mut dice);
        // At last it is awake long enough to end all that waits.
        spans.push((instant(END) + Duration::days(40), instant(END) + Duration::days(45)));
        let mut year = Year::new(schedule.clone());
        year.walk(&spans, &mut dice);

        let all: Vec<Occurrence> = year.timetable.occurrences(instant(BEGIN), instant(END)).collect();
        assert!(all.len() >= 12, "{number}");
        for occurrence in &all {
            let ends =
                year.ends.get(&occurrence.at).unwrap_or_else(|| panic!("{number}: {} has no end", occurrence.at));
            assert_eq!(ends.len(), 1, "{number}: {} has {ends:?}", occurrence.at);
            let word = match &ends[0] {
                End::Ran => {
                    assert!(occurrence.runs && year.stood_for.contains(&occurrence.at));
                    "ran"
                }
                End::Coalesced { into } => {
                    assert!(year.stood_for.contains(&occurrence.at), "{number}");
                    assert_eq!(year.ends[into], [End::Ran], "{number}: what it went into has run");
                    "coalesced"
                }
                End::Skipped { reason } | End::Missed { reason } => {
                    assert!(!reason.is_empty() && !year.stood_for.contains(&occurrence.at), "{number}");
                    if matches!(ends[0], End::Missed { .. }) { "missed" } else { "skipped" }
                }
            };
            *words.entry(word).or_default() += 1;
            if year.stood_for.contains(&occurrence.at) {
                let range = window(&year.pipeline, occurrence).expect("a window");
                let units = year.pipeline.calendar().expect("a calendar").between(range.start, range.end);
                assert!(units.iter().all(|unit| year.covered.contains(&unit.start)), "{number}: its days were covered");
            }
        }
        if schedule.missed == Missed::Widen && schedule.overlap != Overlap::Skip {
            let lost = all.iter().filter(|one| one.runs && !year.stood_for.contains(&one.at)).count();
            assert_eq!(lost, 0, "{number}: nothing is lost by widening");
        }
    }
    assert_eq!(words.len(), 4, "the year had something of everything: {words:?}");
    assert!(words.values().all(|count| *count > 20), "{words:?}");
}
