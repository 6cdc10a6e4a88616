//! Units over every zone's changes of its clock: gapless, disjoint, and found again by name.

use chrono::{Duration, NaiveDate, Offset, TimeZone, Utc};
use haul::time::{Calendar, Grain, Instant, Reach, Tz, Unit};
use proptest::prelude::*;

const GRAINS: [Grain; 4] = [Grain::Hour, Grain::Day, Grain::Week, Grain::Month];

fn instant(text: &str) -> Instant {
    text.parse().expect("an instant")
}

fn offset(tz: Tz, at: Instant) -> i32 {
    tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()
}

/// The first instants after each change of the zone's offset from 1990 to 2040.
fn transitions(tz: Tz) -> Vec<Instant> {
    let (mut at, end) = (instant("1990-01-01T00:00:00Z"), instant("2040-01-01T00:00:00Z"));
    let mut found = Vec::new();
    while at < end {
        let next = at + Duration::days(5);
        if offset(tz, at) != offset(tz, next) {
            let (mut low, mut high) = (at.timestamp(), next.timestamp());
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                let here = Utc.timestamp_opt(middle, 0).unwrap();
                if offset(tz, here) == offset(tz, at) { low = middle } else { high = middle }
            }
            found.push(Utc.timestamp_opt(high, 0).unwrap());
        }
        at = next;
    }
    found
}

/// What must hold of every unit and the one behind it.
fn check(unit: &Unit) {
    let calendar = unit.calendar;
    let place = format!("{:?} in {} at {}", calendar.grain, calendar.tz, unit.start);
    assert!(unit.start < unit.end, "a unit has a length: {place}");
    for inside in [unit.start, unit.end - Duration::seconds(1), unit.start + unit.length() / 2] {
        assert_eq!(calendar.containing(inside), *unit, "every instant of a unit finds it, {inside}: {place}");
    }
    let next = calendar.next(unit);
    assert_eq!(next.start, unit.end, "units are gapless: {place}");
    assert_eq!(calendar.previous(&next), *unit, "and the way back is the way there: {place}");
    assert!(unit.key() < next.key(), "keys are unique and in order: {} {}: {place}", unit.key(), next.key());
    assert_eq!(calendar.parse(unit.key().as_str()).expect("a key"), *unit, "a key parses back: {place}");
}

#[test]
fn units_are_gapless_and_disjoint_at_every_change_of_every_zone() {
    let mut changes = 0;
    for tz in chrono_tz::TZ_VARIANTS {
        // Neighbouring years have the same rules: one change in seven is looked at, in turn, and all that are rare.
        let all = transitions(tz);
        let rare = all.len() < 20;
        for (_, at) in all.iter().enumerate().filter(|(index, _)| rare || index % 7 == 0) {
            changes += 1;
            for grain in GRAINS {
                let calendar = Calendar::new(grain, tz);
                for seconds in [-3600, -1800, -30, -1, 0, 1, 30, 1800, 3600] {
                    let near = *at + Duration::seconds(seconds);
                    let unit = calendar.containing(near);
                    assert!(unit.contains(near), "{near} is outside of its own {grain:?} {unit} in {tz}");
                }
                let mut unit = calendar.containing(*at - Duration::hours(2));
                let last = calendar.containing(*at + Duration::hours(2));
                while unit.start <= last.start {
                    check(&unit);
                    unit = calendar.next(&unit);
                }
            }
        }
    }
    assert!(changes > 3_000, "the zones change their clocks: {changes}");
}

#[test]
fn a_year_of_days_has_all_its_hours_in_every_zone() {
    for tz in chrono_tz::TZ_VARIANTS {
        let calendar = Calendar::new(Grain::Day, tz);
        let day = |text: &str| calendar.of_date(text.parse::<NaiveDate>().expect("a date"));
        let (from, to) = (day("2009-01-01"), day("2010-01-01"));
        let days = calendar.between(from.start, to.start);
        assert_eq!(days.len(), 365, "{tz}");
        let total = days.iter().fold(Duration::zero(), |sum, day| sum + day.length());
        assert_eq!(total, to.start - from.start, "{tz}");
    }
}

#[test]
fn a_day_that_begins_twice_ends_where_the_next_one_begins() {
    // Newfoundland put its clocks back at one minute past midnight: the first of November began, and began again.
    let tz = Tz::America__St_Johns;
    let calendar = Calendar::new(Grain::Day, tz);
    let change = instant("2009-11-01T02:31:00Z");
    assert_ne!(offset(tz, change), offset(tz, change - Duration::seconds(1)));
    for seconds in [-600, -30, 0, 1800, 3600] {
        let at = change + Duration::seconds(seconds);
        let unit = calendar.containing(at);
        assert!(unit.contains(at), "{at}: {} to {}", unit.start, unit.end);
        check(&unit);
    }
    // The day begins when its midnight comes for the first time.
    assert_eq!(calendar.parse("2009-11-01").expect("a date").start, change - Duration::minutes(1));
}

#[test]
fn months_end_where_the_calendar_says() {
    let calendar = Calendar::new(Grain::Month, Tz::Europe__Berlin);
    let mut unit = calendar.parse("2023-11-30").expect("a date");
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(unit.key().to_string());
        unit = calendar.next(&unit);
    }
    assert_eq!(keys, ["2023-11-01", "2023-12-01", "2024-01-01", "2024-02-01", "2024-03-01"]);
    let february = calendar.parse("2024-02-29").expect("a date");
    assert_eq!(february.length(), Duration::days(29));
}

fn zone() -> impl Strategy<Value = Tz> {
    (0..chrono_tz::TZ_VARIANTS.len()).prop_map(|index| chrono_tz::TZ_VARIANTS[index])
}

fn grain() -> impl Strategy<Value = Grain> {
    (0..GRAINS.len()).prop_map(|index| GRAINS[index])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_instant_belongs_to_one_unit(tz in zone(), grain in grain(), at in 631_152_000_i64..2_208_988_800) {
        let at = Utc.timestamp_opt(at, 0).unwrap();
        let unit = Calendar::new(grain, tz).containing(at);
        prop_assert!(unit.contains(at));
        check(&unit);
    }

    #[test]
    fn what_a_unit_reads_reads_it_back(
        tz in zone(),
        grain in grain(),
        at in 631_152_000_i64..2_208_988_800,
        from in -8_i32..4,
        length in 0_i32..6,
    ) {
        let unit = Calendar::new(grain, tz).containing(Utc.timestamp_opt(at, 0).unwrap());
        let reach = Reach { from, to: from + length };
        let upstream = reach.upstream_of(&unit);
        prop_assert_eq!(upstream.len(), usize::try_from(length).unwrap() + 1);
        for read in &upstream {
            prop_assert!(reach.downstream_of(read).contains(&unit));
        }
        for reader in reach.downstream_of(&unit) {
            prop_assert!(reach.upstream_of(&reader).contains(&unit));
        }
    }

    #[test]
    fn shifting_there_and_back_changes_nothing(tz in zone(), grain in grain(), at in 631_152_000_i64..2_208_988_800, count in -40_i64..40) {
        let calendar = Calendar::new(grain, tz);
        let unit = calendar.containing(Utc.timestamp_opt(at, 0).unwrap());
        prop_assert_eq!(calendar.shift(&calendar.shift(&unit, count), -count), unit);
    }
}
