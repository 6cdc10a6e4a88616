//! The change probe: a day whose count and newest change are as they were is not read.

use super::{WINDOW, events, mornings, offset, write};
use crate::support::databases::Database;
use crate::support::mornings::{Mornings, counted};

const PROBED: &str =
    "table = \"events\"\ntime_column = \"happened_at\"\nchanged_column = \"updated_at\"\nkeys = [\"id\"]";

/// The bytes that each pull of a day has read, in their order.
fn read(days: &Mornings, day: &str) -> Vec<bool> {
    let state = days.project.path().join(".haul/state.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bytes: Vec<(i64,)> = runtime.block_on(async {
        use sqlx::Connection as _;
        let url = format!("sqlite://{}", state.display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("the state");
        sqlx::query_as("SELECT bytes FROM pull WHERE table_name = 'raw.events' AND unit = $1 ORDER BY pull")
            .bind(day)
            .fetch_all(&mut connection)
            .await
            .expect("pulls")
    });
    bytes.into_iter().map(|(bytes,)| bytes > 0).collect()
}

pub fn a_day_whose_probe_is_the_same_is_not_read_again(database: &dyn Database) {
    events(database);
    let days = mornings(database, WINDOW, PROBED);
    days.run("2024-05-04", 0);
    let before = database.reads("events");
    let at = format!("'2024-05-04 09:00:00{}'", offset(database));
    database.execute(&[&format!("UPDATE events SET name = 'late', updated_at = {at} WHERE id = 203")]);
    let told = days.run("2024-05-04", 0);
    assert!(told.contains("1 loaded, 2 unchanged"), "{told}");
    assert_eq!(days.that_are("unchanged"), ["events 2024-05-01", "events 2024-05-03"]);
    assert_eq!(read(&days, "2024-05-01"), [true, false]);
    assert_eq!(read(&days, "2024-05-02"), [true, true]);
    assert_eq!(days.commits("raw.events"), counted(&[("2024-05-01", 1), ("2024-05-02", 2), ("2024-05-03", 1)]));
    let name = days.project.query("select name from raw.events where id = 203");
    assert_eq!(name[0]["name"], "late");
    // Drift knows of the pulls that read nothing, and of the one change.
    let drift = days.json("2024-05-04", &["drift", "raw.events"]);
    assert_eq!(drift["raw.events"]["repulls"], 3, "{drift}");
    // A deleted row is seen by the count, though nothing is newer.
    database.execute(&["DELETE FROM events WHERE id = 105"]);
    days.run("2024-05-04", 0);
    assert_eq!(days.that_are("loaded"), ["events 2024-05-01"]);
    // Three reads at first and one on each of the mornings after: the server's own log has no others.
    assert!(before.is_none_or(|reads| reads == 3), "{before:?}");
    let after = database.reads("events");
    assert!(after.is_none_or(|reads| reads == 5), "{after:?}");
}

/// Another statement, rows that came in the place of others, a lost state, a wish: all of these read.
pub fn what_the_probe_does_not_vouch_for_is_read(database: &dyn Database) {
    events(database);
    let days = mornings(database, WINDOW, PROBED);
    days.run("2024-05-04", 0);
    days.run("2024-05-04", 0);
    assert_eq!(read(&days, "2024-05-02"), [true, false]);
    write(
        &days,
        WINDOW,
        "sql = \"SELECT id, happened_at, updated_at, 7 AS seven FROM events\"\ntime_column = \"happened_at\"\nchanged_column = \"updated_at\"",
    );
    days.run("2024-05-04", 0);
    assert_eq!(days.that_are("loaded").len(), 3, "another statement may have other rows");
    days.run("2024-05-04", 0);
    assert_eq!(read(&days, "2024-05-02"), [true, false, true, false]);
    let now = ["run", "days", "--date", "2024-05-04", "--force"];
    assert_eq!(days.at("2024-05-04", &now).status.code(), Some(0));
    assert_eq!(read(&days, "2024-05-02"), [true, false, true, false, true]);
    std::fs::remove_dir_all(days.project.path().join(".haul")).expect("the state");
    days.run("2024-05-04", 0);
    assert_eq!(read(&days, "2024-05-02").last(), Some(&true), "after a lost state nobody knows what was read");
    // Without a changed_column nothing is taken for unchanged unless that was asked for.
    write(&days, WINDOW, "table = \"events\"\ntime_column = \"happened_at\"");
    days.run("2024-05-04", 0);
    days.run("2024-05-04", 0);
    assert_eq!(read(&days, "2024-05-02")[2..], [true, true]);
    write(&days, WINDOW, "table = \"events\"\ntime_column = \"happened_at\"\nprobe = \"count\"");
    days.run("2024-05-04", 0);
    days.run("2024-05-04", 0);
    assert_eq!(read(&days, "2024-05-02")[4..], [true, false]);
    database.execute(&["UPDATE events SET name = 'unseen' WHERE id = 203"]);
    days.run("2024-05-04", 0);
    assert_eq!(read(&days, "2024-05-02").last(), Some(&false), "a count does not see a change in its place");
}
