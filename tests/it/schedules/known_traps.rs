//! Mornings on which other schedulers went wrong; each test names the report that it is taken from.

use chrono::Duration;
use haul::schedule::window;
use haul::time::{Grain, Tz};

use super::{cron, instant, local, pipeline, runs, table, utc};
use crate::support::project::{Project, told};

/// airflow#70089: a manual run on the morning without 02:00 had an interval of no length, and a run was lost after it.
#[test]
fn the_morning_without_two_o_clock_has_its_run_and_a_whole_window() {
    let schedule = cron("0 2 * * *", Tz::America__New_York);
    assert_eq!(
        utc(&schedule, "2024-03-08T00:00:00Z", "2024-03-12T07:00:00Z"),
        ["08 07:00", "09 07:00", "10 07:00", "11 06:00", "12 06:00"]
    );
    let at = instant("2024-03-10T07:30:00Z");
    let last = table(&schedule).previous(at).expect("a run before");
    assert_eq!((last.at, last.logical_date.to_string().as_str()), (instant("2024-03-10T07:00:00Z"), "2024-03-10"));
    let covered = window(&pipeline(&schedule, Grain::Day, 1), &last).expect("a window");
    assert_eq!(covered, instant("2024-03-09T05:00:00Z")..instant("2024-03-10T05:00:00Z"));
    let next = table(&schedule).next(at).expect("a run after");
    assert_eq!(next.at, instant("2024-03-11T06:00:00Z"));
    let covered = window(&pipeline(&schedule, Grain::Day, 1), &next).expect("a window");
    assert_eq!(covered.end - covered.start, Duration::hours(23));
}

/// airflow#70089: within the hour that comes twice, the run before lay in the future.
#[test]
fn within_the_hour_that_comes_twice_the_run_before_lies_before() {
    for (text, zone, now, previous, next) in [
        ("0 1 * * *", Tz::America__New_York, "2024-11-03T05:30:00Z", "2024-11-03T05:00:00Z", "2024-11-04T06:00:00Z"),
        ("0 1 * * *", Tz::America__New_York, "2024-11-03T06:30:00Z", "2024-11-03T05:00:00Z", "2024-11-04T06:00:00Z"),
        ("0 2 * * *", Tz::Europe__Zurich, "2024-10-27T00:30:00Z", "2024-10-27T00:00:00Z", "2024-10-28T01:00:00Z"),
        ("0 2 * * *", Tz::Australia__Sydney, "2024-04-06T15:30:00Z", "2024-04-06T15:00:00Z", "2024-04-07T16:00:00Z"),
        ("0 1 * * *", Tz::Europe__Zurich, "2024-10-27T00:30:00Z", "2024-10-26T23:00:00Z", "2024-10-28T00:00:00Z"),
        ("0 1 * * *", Tz::Australia__Sydney, "2024-04-06T16:30:00Z", "2024-04-06T14:00:00Z", "2024-04-07T15:00:00Z"),
        ("0 1 * * *", Tz::Australia__Lord_Howe, "2024-04-06T15:05:00Z", "2024-04-06T14:00:00Z", "2024-04-07T14:30:00Z"),
        // Half an hour comes twice: 01:45 at 14:45Z, and again at 15:15Z.
        (
            "45 1 * * *",
            Tz::Australia__Lord_Howe,
            "2024-04-06T15:05:00Z",
            "2024-04-06T14:45:00Z",
            "2024-04-07T15:15:00Z",
        ),
        // Half an hour is left out: 02:15 is where the clocks go on, at 15:30Z.
        (
            "15 2 * * *",
            Tz::Australia__Lord_Howe,
            "2024-10-05T15:31:00Z",
            "2024-10-05T15:30:00Z",
            "2024-10-06T15:15:00Z",
        ),
    ] {
        let table = table(&cron(text, zone));
        let now = instant(now);
        assert_eq!(table.previous(now).map(|one| one.at), Some(instant(previous)), "{text} {zone} {now}");
        assert_eq!(table.next(now).map(|one| one.at), Some(instant(next)), "{text} {zone} {now}");
    }
}

/// airflow#30088 and airflow#35272: schedulers that crashed or stood still where the clocks are moved.
#[test]
fn steps_and_lists_go_on_across_both_mornings() {
    let steps = cron("20 */4 * * *", Tz::US__Pacific);
    let across = local(&steps, "2023-03-12T07:59:00Z", "2023-03-13T07:00:00Z");
    assert_eq!(across, ["12 00:20", "12 04:20", "12 08:20", "12 12:20", "12 16:20", "12 20:20"]);
    let quarters = cron("0,15,30,45 6-22 * * *", Tz::Europe__Brussels);
    for (from, to) in [
        ("2023-10-27T22:00:00Z", "2023-10-28T22:00:00Z"),
        ("2023-10-28T22:00:00Z", "2023-10-29T23:00:00Z"),
        ("2023-10-29T23:00:00Z", "2023-10-30T23:00:00Z"),
    ] {
        let of_day = local(&quarters, from, to);
        assert_eq!(of_day.len(), 17 * 4, "{from}");
        assert!(of_day[0].ends_with("06:00") && of_day[67].ends_with("22:45"), "{from}");
    }
}

/// airflow#7999: on the spring day, 7 o'clock became 8 where an expression had more than one hour.
#[test]
fn seven_o_clock_stays_seven_o_clock_in_spring() {
    for (text, expected) in [
        ("0 7-8 * * *", ["11 07:00", "11 08:00", "12 07:00", "12 08:00", "13 07:00", "13 08:00"]),
        ("0 7,9 * * *", ["11 07:00", "11 09:00", "12 07:00", "12 09:00", "13 07:00", "13 09:00"]),
    ] {
        let schedule = cron(text, Tz::America__New_York);
        assert_eq!(local(&schedule, "2023-03-11T05:00:00Z", "2023-03-14T04:00:00Z"), expected, "{text}");
    }
}

/// celery#10107: an hourly schedule left out the second 1 o'clock.
#[test]
fn an_hourly_schedule_runs_at_both_one_o_clocks() {
    let schedule = cron("0 * * * *", Tz::US__Pacific);
    let of_day = utc(&schedule, "2026-11-01T06:59:00Z", "2026-11-02T07:00:00Z");
    assert_eq!(of_day.len(), 25);
    assert_eq!(of_day[1..3], ["01 08:00", "01 09:00"], "1 o'clock PDT and 1 o'clock PST");
    let spring = utc(&schedule, "2026-03-08T07:59:00Z", "2026-03-09T06:59:00Z");
    assert_eq!(spring.len(), 23, "and in spring nothing is added");
}

/// prefect#7381: on the last Sunday of October a daily schedule ran twice, when its runs were made in advance.
#[test]
fn a_daily_schedule_runs_once_on_the_last_sunday_of_october() {
    for text in ["30 1 * * *", "0 1 * * *", "0 6 * * *", "0 0 * * *"] {
        let schedule = cron(text, Tz::Europe__London);
        let made_long_before: Vec<_> = runs(&schedule, "2026-10-01T12:00:00Z", "2026-11-05T12:00:00Z");
        let on_the_day = made_long_before.iter().filter(|one| one.logical_date.to_string() == "2026-10-25");
        assert_eq!(on_the_day.count(), 1, "{text}");
        let made_on_the_way: Vec<_> = ["2026-10-01T12:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:15:00Z"]
            .windows(2)
            .flat_map(|pair| runs(&schedule, pair[0], pair[1]))
            .chain(runs(&schedule, "2026-10-25T01:15:00Z", "2026-11-05T12:00:00Z"))
            .collect();
        assert_eq!(made_on_the_way, made_long_before, "{text}");
    }
}

/// prefect#10472: from a few seconds after the run on the spring morning, the next runs came an hour late.
#[test]
fn the_runs_after_the_spring_morning_keep_their_time() {
    let schedule = cron("10 0 * * *", Tz::America__Montreal);
    assert_eq!(local(&schedule, "2023-03-12T05:10:02Z", "2023-03-15T12:00:00Z"), ["13 00:10", "14 00:10", "15 00:10"]);
}

/// dagster#33448: in a zone half an hour off, ticks and the borders of days did not agree.
#[test]
fn in_a_zone_half_an_hour_off_ticks_and_units_agree() {
    let schedule = cron("0 * * * *", Tz::Asia__Kolkata);
    let by_hour = pipeline(&schedule, Grain::Hour, 1);
    let all = runs(&schedule, "2026-06-30T18:00:00Z", "2026-07-01T18:30:00Z");
    assert_eq!(all.len(), 25);
    for one in &all {
        assert_eq!(one.at.format("%M").to_string(), "30");
        assert_eq!(window(&by_hour, one), Some(one.at - Duration::hours(1)..one.at));
    }
    let midnight = &all[0];
    assert_eq!(midnight.logical_date.to_string(), "2026-07-01");
    let day = window(&pipeline(&schedule, Grain::Day, 1), midnight).expect("a window");
    assert_eq!(day.end, midnight.at);
}

/// kestra#7982 and kestra#7227: the last day of a backfill was lost, and a backfill of nothing was a success.
#[test]
fn a_backfill_has_its_last_month_and_one_of_nothing_is_refused() {
    let project = Project::with_api("http://127.0.0.1:9", "");
    project.write(
        "pipelines/p.toml",
        r#"
[schedule]
cron = "0 6 1 * *"

[window]
grain = "month"
begin = 2020-01-01

[[extract]]
name = "a"
connection = "api"
request = { path = "/a", params = { day = "{{ ds }}" } }
"#,
    );
    let now = ["--now", "2022-01-10T00:00:00Z"];
    for last in ["2021-12-31", "2022-01-01"] {
        let arguments = ["backfill", "p", "--from", "2021-01-01", "--to", last, "--plan", now[0], now[1]];
        let plan = project.json(&arguments);
        let units: Vec<&str> =
            plan[0]["tasks"].as_array().expect("tasks").iter().filter_map(|task| task["units"][0].as_str()).collect();
        assert_eq!((units.len(), units[0], units[11]), (12, "2021-01-01", "2021-12-01"), "{last}");
    }
    let early = project.output(&["backfill", "p", "--from", "2019-01-01", "--to", "2020-01-01", now[0], now[1]]);
    assert_eq!(early.status.code(), Some(2), "{}", told(&early));
    let yearly = cron("0 0 31 12 *", Tz::UTC);
    assert_eq!(utc(&yearly, "2020-12-31T00:00:00Z", "2021-12-31T00:00:00Z"), ["31 00:00"], "the end belongs to it");
}
