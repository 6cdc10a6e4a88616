//! A table for each day: what is missing is late, never an empty day.

use super::{WINDOW, mornings, offset};
use crate::support::databases::Database;
use crate::support::mornings::counted;
use crate::support::project::told;

fn shard(database: &dyn Database, name: &str, day: &str, rows: u32) {
    let (instant, _) = database.stamps();
    let values: Vec<String> = (1..=rows).map(|id| format!("({id}, '{day} 10:00:00{}')", offset(database))).collect();
    database.execute(&[
        &format!("CREATE TABLE {name} (id bigint, happened_at {instant})"),
        &format!("INSERT INTO {name} VALUES {}", values.join(", ")),
    ]);
}

pub fn a_missing_shard_is_late_and_caught_up_with(database: &dyn Database) {
    shard(database, "events_20240501", "2024-05-01", 5);
    shard(database, "events_20240502", "2024-05-02", 6);
    let step = "table = \"events_{{ ds_nodash }}\"\nintraday = \"events_intraday_{{ ds_nodash }}\"\nprobe = \"count\"\n[[transform]]\nname = \"daily\"\nsql = \"select count(*) as n from {{ ref('events') }} where _haul_unit = {{ ds | sql }}\"";
    let days = mornings(database, WINDOW, step);
    let told_of = days.run("2024-05-04", 4);
    assert!(told_of.contains("late      events 2024-05-03"), "{told_of}");
    assert!(told_of.contains("neither a table events_20240503 nor events_intraday_20240503"), "{told_of}");
    assert!(
        told_of.contains("1 late, 0 failed, 1 skipped") && told_of.contains("the next run asks again"),
        "{told_of}"
    );
    assert_eq!(days.rows("raw.events"), counted(&[("2024-05-01", 5), ("2024-05-02", 6)]));
    assert_eq!(days.that_are("late"), ["events 2024-05-03"]);
    assert_eq!(days.outcome()["daily 2024-05-03"], "skipped: events 2024-05-03 is late");
    assert_eq!(days.rows("mart.daily"), counted(&[("2024-05-01", 1), ("2024-05-02", 1)]));
    let status = told(&days.at("2024-05-04", &["status"]));
    assert!(status.contains("raw.events 2024-05-03 is late") && status.contains("~ late"), "{status}");
    let runs = days.json("2024-05-04", &["runs", "--limit", "1"]);
    assert_eq!((&runs[0]["status"], &runs[0]["counts"]["late"]), (&"late".into(), &1.into()), "{runs}");
    assert_eq!(days.plan("2024-05-04", &[])["events 2024-05-03"], "late");

    // What has come of the day so far is taken; the day itself replaces it, whatever the counts say.
    shard(database, "events_intraday_20240503", "2024-05-03", 2);
    days.run("2024-05-04", 0);
    assert_eq!(days.rows("raw.events")["2024-05-03"], 2);
    assert_eq!(days.outcome()["daily 2024-05-03"], "loaded");
    shard(database, "events_20240503", "2024-05-03", 2);
    database.execute(&["UPDATE events_20240503 SET id = id + 10"]);
    days.run("2024-05-04", 0);
    assert_eq!(
        days.counts("select 'sum' as unit, sum(id)::bigint as n from raw.events where _haul_unit = date '2024-05-03'"),
        counted(&[("sum", 23)])
    );

    // A shard that was there and is gone leaves its rows; long afterwards it is still asked for.
    database.execute(&["DROP TABLE events_20240503", "DROP TABLE events_intraday_20240503"]);
    for day in 4..=8 {
        shard(database, &format!("events_2024050{day}"), &format!("2024-05-0{day}"), 1);
    }
    days.run("2024-05-04", 4);
    assert_eq!(days.rows("raw.events")["2024-05-03"], 2);
    days.run("2024-05-09", 4);
    shard(database, "events_20240503", "2024-05-03", 9);
    days.run("2024-05-09", 0);
    assert_eq!(days.rows("raw.events")["2024-05-03"], 9);
}
