//! What goes wrong: names, passwords, connections that end, and processes that die.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use super::{WINDOW, connect, events, mornings, write};
use crate::support::databases::{Database, SECRET};
use crate::support::mornings::counted;
use crate::support::project::told;

const BIG: &str = "table = \"big\"\ntime_column = \"happened_at\"";

pub fn wrong_names_are_told_with_those_that_look_like_them(database: &dyn Database) {
    events(database);
    let cases = [
        ("table = \"event\"\ntime_column = \"happened_at\"", ["there is no table `event`", "did you mean `events`?"]),
        (
            "table = \"events\"\ntime_column = \"hapened_at\"",
            ["there is no column `hapened_at`", "did you mean `happened_at`?"],
        ),
        ("table = \"events\"\ntime_column = \"name\"", ["`name` has the type", "tells no time"]),
        (
            "table = \"events\"\ntime_column = \"happened_at\"\nchanged_column = \"updated\"",
            ["there is no column `updated`", "did you mean `updated_at`?"],
        ),
        (
            "sql = \"SELECT id, id, happened_at FROM events\"\ntime_column = \"happened_at\"",
            ["id", "a name of its own"],
        ),
        ("sql = \"SELEC 1 AS x\"\ntime_column = \"x\"", ["yntax", "reading"]),
    ];
    let days = mornings(database, WINDOW, BIG);
    for (step, words) in cases {
        // DuckDB gives the second of two columns of one name another name itself.
        if step.contains("id, id") && database.gone().is_some_and(|gone| gone.contains("duckdb")) {
            continue;
        }
        write(&days, WINDOW, step);
        let told = days.run("2024-05-04", 1);
        for word in words {
            assert!(told.contains(word), "{word} is not in {told}");
        }
    }
}

pub fn a_wrong_password_is_told_and_never_shown(database: &dyn Database) {
    events(database);
    let days = mornings(database, WINDOW, "table = \"events\"\ntime_column = \"happened_at\"");
    connect(&days, &database.connection("wrong-password-5"));
    let told = days.run("2024-05-04", 1);
    assert!(told.contains("auth") && told.contains("is the password of"), "{told}");
    assert!(!told.contains("wrong-password-5"), "{told}");
}

/// Several pages into a day the process dies; the next one begins the day anew and ends as if nothing had happened.
pub fn killed_in_the_middle_of_a_day_it_is_read_again_as_a_whole(database: &dyn Database) {
    let rows = 30_000;
    database.execute(&[&database.big(rows)]);
    let days = mornings(database, WINDOW, BIG);
    let now = "2024-05-04T06:00:00Z";
    let killed = days.project.output(&["run", "days", "--date", "2024-05-04", "--now", now, "--kill-at", "page:3"]);
    assert_eq!(killed.status.signal(), Some(9), "{}", told(&killed));
    // What the dead process had read is of another state of the table.
    database.execute(&["UPDATE big SET name = 'changed' WHERE id <= 1000"]);
    days.run("2024-05-04", 0);
    assert_eq!(days.rows("raw.events"), counted(&[("2024-05-03", u64::from(rows))]));
    let changed = "select 'changed' as unit, count(*) as n from raw.events where name = 'changed'";
    assert_eq!(days.counts(changed), counted(&[("changed", 1000)]));
    let distinct = "select 'ids' as unit, count(distinct id) as n from raw.events";
    assert_eq!(days.counts(distinct), counted(&[("ids", u64::from(rows))]));
}

pub fn a_server_that_ends_the_connection_fails_the_day_and_the_next_run_reads_it(database: &dyn Database) {
    let rows = 200_000;
    database.execute(&[&database.big(rows)]);
    let days = mornings(database, WINDOW, BIG);
    let now = "2024-05-04T06:00:00Z";
    let running = days
        .project
        .haul(&["run", "days", "--date", "2024-05-04", "--now", now])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("haul starts");
    while !database.cut() {
        std::thread::yield_now();
    }
    let output = running.wait_with_output().expect("it ends");
    let words = told(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("failed    events 2024-05-0") && words.contains("unavailable"), "{words}");
    assert!(words.contains("the next run reads the unit from its beginning"), "{words}");
    days.run("2024-05-04", 0);
    assert_eq!(days.rows("raw.events"), counted(&[("2024-05-03", u64::from(rows))]));
    assert!(!words.contains(SECRET));
}
