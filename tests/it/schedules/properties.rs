//! What holds in every zone and year: no occurrence is lost, none is doubled, and how they are asked for changes nothing.

use std::collections::BTreeMap;

use chrono::{Duration, NaiveDate};
use haul::model::schedule::{Fold, Gap, Schedule, When};
use haul::schedule::{Occurrence, Odd};
use haul::time::{Calendar, Grain, Instant, Tz};
use proptest::prelude::*;

use super::{cron, instant, local, table};

/// Zones whose clocks are moved in unusual ways: by half an hour, at midnight, across the date line, in Ramadan.
const ODD: [Tz; 14] = [
    Tz::Australia__Lord_Howe,
    Tz::America__Sao_Paulo,
    Tz::Pacific__Apia,
    Tz::Pacific__Kwajalein,
    Tz::Africa__Casablanca,
    Tz::America__Caracas,
    Tz::Asia__Pyongyang,
    Tz::Asia__Tehran,
    Tz::Asia__Gaza,
    Tz::America__Havana,
    Tz::Antarctica__Troll,
    Tz::Europe__Dublin,
    Tz::Asia__Kathmandu,
    Tz::America__Nuuk,
];

fn between(schedule: &Schedule, after: Instant, until: Instant) -> Vec<Occurrence> {
    table(schedule).occurrences(after, until).collect()
}

/// The dates that exist in a zone.
fn dates(zone: Tz, from: Instant, to: Instant) -> Vec<NaiveDate> {
    Calendar::new(Grain::Day, zone).between(from, to).iter().map(haul::time::Unit::date).collect()
}

/// Each date that exists has exactly one run of a daily schedule, and instants only grow.
fn one_run_a_date(text: &str, zone: Tz, from: &str, to: &str) {
    let calendar = Calendar::new(Grain::Day, zone);
    let (from, to) = (calendar.containing(instant(from)).start, calendar.containing(instant(to)).start);
    let all = between(&cron(text, zone), from - Duration::seconds(1), to - Duration::seconds(1));
    assert!(all.windows(2).all(|pair| pair[0].at < pair[1].at), "{text} {zone}: instants grow");
    let runs: Vec<NaiveDate> = all.iter().filter(|one| one.runs).map(|one| one.logical_date).collect();
    assert_eq!(runs, dates(zone, from, to), "{text} {zone}");
}

#[test]
fn every_date_of_every_zone_has_one_run_of_a_daily_schedule() {
    for zone in chrono_tz::TZ_VARIANTS {
        one_run_a_date("30 2 * * *", zone, "2026-01-03T12:00:00Z", "2027-01-03T12:00:00Z");
    }
}

#[test]
fn every_date_has_one_run_also_where_clocks_are_moved_in_unusual_ways() {
    for zone in ODD {
        for text in ["0 0 * * *", "15 2 * * *", "30 23 * * *", "59 1 * * *"] {
            for year in [1993, 2006, 2011, 2015, 2018, 2024] {
                one_run_a_date(
                    text,
                    zone,
                    &format!("{year}-01-03T12:00:00Z"),
                    &format!("{}-01-03T12:00:00Z", year + 1),
                );
            }
        }
    }
}

#[test]
fn hours_that_pass_are_counted_through_every_change_of_the_clocks() {
    for zone in ODD {
        let all =
            between(&cron("*/30 * * * *", zone), instant("2011-06-01T00:00:00Z"), instant("2012-06-01T00:00:00Z"));
        let gaps = all.windows(2).filter(|pair| pair[1].at - pair[0].at != Duration::minutes(30));
        // Only a move by a part of half an hour may make another distance; none of these zones has one in that year.
        assert_eq!(gaps.count(), 0, "{zone}");
        assert_eq!(all.len(), 366 * 48, "{zone}");
    }
}

#[test]
fn the_day_that_samoa_left_out_has_no_run_and_is_on_record() {
    let schedule = cron("0 6 * * *", Tz::Pacific__Apia);
    let all = between(&schedule, instant("2011-12-28T17:00:00Z"), instant("2012-01-01T12:00:00Z"));
    let told: Vec<(String, bool)> = all.iter().map(|one| (one.wall.format("%d").to_string(), one.runs)).collect();
    let expected = [("29", true), ("30", false), ("31", true), ("01", true)];
    assert_eq!(told, expected.map(|(day, runs)| (day.to_owned(), runs)));
    let why = all[1].odd.as_ref().expect("a reason").words(false);
    assert_eq!(why, "2011-12-30 06:00 does not exist (clocks 2011-12-30 00:00 → 2011-12-31 00:00): not run");
}

#[test]
fn gap_and_fold_say_what_becomes_of_times_that_do_not_exist_or_come_twice() {
    let spring = ("2026-03-29T00:00:00Z", "2026-03-29T10:00:00Z");
    let autumn = ("2026-10-24T22:00:00Z", "2026-10-25T10:00:00Z");
    for (text, gap, fold, in_spring, in_autumn) in [
        ("30 2 * * *", None, None, vec!["29 03:00"], vec!["25 02:30"]),
        ("30 2 * * *", Some(Gap::Skip), Some(Fold::Both), vec![], vec!["25 02:30", "25 02:30"]),
        ("*/20 2 * * *", None, None, vec!["29 03:00"], vec!["25 02:00", "25 02:20", "25 02:40"]),
        ("0 2,3 * * *", None, None, vec!["29 03:00"], vec!["25 02:00", "25 03:00"]),
        (
            "30 * * * *",
            Some(Gap::RunAfter),
            Some(Fold::First),
            vec!["29 01:30", "29 03:00", "29 03:30", "29 04:30"],
            vec!["25 00:30", "25 01:30", "25 02:30", "25 03:30", "25 04:30"],
        ),
    ] {
        let schedule = Schedule { gap, fold, ..cron(text, Tz::Europe__Berlin) };
        let limit = |mut runs: Vec<String>| {
            runs.retain(|run| run.as_str() < "29 05" && !run.starts_with("25 05") && run.as_str() > "25 00:00");
            runs.retain(|run| run.starts_with("29") || run.as_str() < "25 05");
            runs
        };
        assert_eq!(limit(local(&schedule, spring.0, spring.1)), in_spring, "{text} {gap:?}");
        assert_eq!(limit(local(&schedule, autumn.0, autumn.1)), in_autumn, "{text} {fold:?}");
    }
    let skipped = Schedule { gap: Some(Gap::Skip), ..cron("30 2 * * *", Tz::Europe__Berlin) };
    let all = between(&skipped, instant(spring.0), instant(spring.1));
    assert!(
        matches!(&all[..], [Occurrence { runs: false, odd: Some(Odd::Gap { times, .. }), .. }] if times.len() == 1)
    );
}

#[test]
fn several_expressions_are_one_schedule_and_a_time_that_two_of_them_name_is_one_run() {
    let both = ["0 6 * * 1-5", "0 9 * * 6,0", "0 6 1 * *"].map(str::to_owned);
    let schedule = Schedule { when: When::Cron(both.to_vec()), ..cron("0 0 * * *", Tz::Europe__Berlin) };
    assert_eq!(
        local(&schedule, "2026-07-30T22:00:00Z", "2026-08-03T22:00:00Z"),
        ["31 06:00", "01 06:00", "01 09:00", "02 09:00", "03 06:00"]
    );
    let schedule = Schedule { when: When::Cron(both.to_vec()), ..cron("0 0 * * *", Tz::Europe__Berlin) };
    assert_eq!(local(&schedule, "2026-09-30T22:00:00Z", "2026-10-01T22:00:00Z"), ["01 06:00"], "a Thursday");
}

#[test]
fn an_interval_counts_elapsed_time_from_its_anchor() {
    let every = |anchor: &str| Schedule {
        when: When::Every { every: std::time::Duration::from_hours(6), anchor: instant(anchor) },
        ..cron("0 0 * * *", Tz::Europe__Berlin)
    };
    let schedule = every("2026-03-28T23:30:00Z");
    assert_eq!(
        local(&schedule, "2026-03-28T23:30:00Z", "2026-03-29T23:30:00Z"),
        ["29 07:30", "29 13:30", "29 19:30", "30 01:30"],
        "the anchor itself lies before; the clocks were put forward at 01:00Z"
    );
    let back = every("2030-01-01T05:30:00Z");
    assert_eq!(local(&back, "2026-03-28T23:30:00Z", "2026-03-29T23:30:00Z").len(), 4, "an anchor to come counts back");
}

/// A cron expression of fields that are often written.
fn expression() -> impl Strategy<Value = String> {
    let minute = prop_oneof![Just("0"), Just("30"), Just("*/15"), Just("5,35"), Just("59")];
    let hour = prop_oneof![Just("*"), Just("0"), Just("1"), Just("2"), Just("3"), Just("1-4"), Just("*/6"), Just("23")];
    let day = prop_oneof![4 => Just("*"), 1 => Just("1"), 1 => Just("L")];
    let weekday = prop_oneof![4 => Just("*"), 1 => Just("0"), 1 => Just("1-5")];
    (minute, hour, day, weekday).prop_map(|(minute, hour, day, weekday)| format!("{minute} {hour} {day} * {weekday}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn how_a_range_is_cut_changes_nothing(
        text in expression(),
        zone in 0..chrono_tz::TZ_VARIANTS.len(),
        start in 1_000_000_000_i64..1_800_000_000,
        cuts in proptest::collection::vec(0_i64..400 * 86_400, 1..6),
        gap in proptest::option::of(prop_oneof![Just(Gap::RunAfter), Just(Gap::Skip)]),
        fold in proptest::option::of(prop_oneof![Just(Fold::First), Just(Fold::Both)]),
    ) {
        let schedule = Schedule { gap, fold, ..cron(&text, chrono_tz::TZ_VARIANTS[zone]) };
        let start = chrono::DateTime::from_timestamp(start, 0).expect("an instant");
        let end = start + Duration::days(400);
        let whole = between(&schedule, start, end);
        prop_assert!(whole.windows(2).all(|pair| pair[0].at < pair[1].at));
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| start + Duration::seconds(cut)).collect();
        cuts.extend([start, end]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).flat_map(|pair| between(&schedule, pair[0], pair[1])).collect();
        prop_assert_eq!(&pieces, &whole);
        // Without `both`, no time on the clock has two runs.
        if fold == Some(Fold::First) {
            let mut of_wall: BTreeMap<_, u32> = BTreeMap::new();
            whole.iter().filter(|one| one.runs).for_each(|one| *of_wall.entry(one.wall).or_default() += 1);
            prop_assert!(of_wall.values().all(|count| *count == 1));
        }
    }
}
