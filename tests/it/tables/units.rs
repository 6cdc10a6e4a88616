//! Which rows a unit has: by instants, by wall-clock times, by numbers; of tables, of SQL, of whole windows.

use serde_json::json;

use super::{WINDOW, events, mornings, offset, write};
use crate::support::databases::Database;
use crate::support::mornings::{Mornings, counted};
use crate::support::project::Project;

/// On 2024-03-31 clocks in Berlin go from 02:00 to 03:00.
pub fn a_day_is_that_of_its_zone_even_where_it_has_23_hours(database: &dyn Database) {
    let (instant, local) = database.stamps();
    let zone = offset(database);
    // Every hour, as an instant in UTC and as Berlin's clocks had it.
    let mut rows = Vec::new();
    for hour in 0..72 {
        let utc = chrono::NaiveDate::from_ymd_opt(2024, 3, 29).expect("a date").and_hms_opt(23, 0, 0).expect("a time")
            + chrono::Duration::hours(hour);
        let berlin = utc.and_utc().with_timezone(&chrono_tz::Europe::Berlin).naive_local();
        rows.push(format!("({hour}, '{utc}{zone}', '{berlin}')"));
    }
    database.execute(&[
        &format!("CREATE TABLE hours (id bigint, happened {instant}, berlin {local})"),
        &format!("INSERT INTO hours VALUES {}", rows.join(", ")),
    ]);
    let window = "timezone = \"Europe/Berlin\"\n[window]\nlookback = 2\n";
    for step in [
        "table = \"hours\"\ntime_column = \"happened\"",
        "table = \"hours\"\ntime_column = \"berlin\"",
        "sql = \"SELECT id, happened FROM hours\"\ntime_column = \"happened\"",
    ] {
        let days = mornings(database, window, step);
        days.run("2024-04-01", 0);
        assert_eq!(days.rows("raw.events"), counted(&[("2024-03-30", 24), ("2024-03-31", 23)]), "{step}");
    }
    // The same wall-clock times, if they were told to be in UTC, have 24 hours a day but for one that never was.
    let days = mornings(
        database,
        "[window]\nlookback = 2\n",
        "table = \"hours\"\ntime_column = \"berlin\"\ntime_zone = \"UTC\"",
    );
    days.run("2024-04-01", 0);
    assert_eq!(days.rows("raw.events"), counted(&[("2024-03-30", 24), ("2024-03-31", 23)]));
}

/// The table is there, with the types of the source, before any row is.
pub fn a_day_without_rows_has_its_table_all_the_same(database: &dyn Database) {
    let (instant, _) = database.stamps();
    database
        .execute(&[&format!("CREATE TABLE events (id bigint, happened {instant}, amount decimal(18,4), day date)")]);
    let days = mornings(database, WINDOW, "table = \"events\"\ntime_column = \"happened\"");
    days.run("2024-05-04", 0);
    let columns = days.project.query(
        "select column_name, data_type from duckdb_columns() where table_name = 'events' and column_name not like '\\_haul%' escape '\\' order by column_index",
    );
    let types = [("id", "BIGINT"), ("happened", "TIMESTAMP"), ("amount", "DECIMAL(18,4)"), ("day", "DATE")];
    let expected: Vec<_> = types.iter().map(|(name, kind)| json!({ "column_name": name, "data_type": kind })).collect();
    assert_eq!(columns, json!(expected));
    // The first row fits.
    database.execute(&[&format!(
        "INSERT INTO events VALUES (1, '2024-05-02 10:00:00{}', 1.5, '2024-05-02')",
        offset(database)
    )]);
    days.run("2024-05-04", 0);
    assert_eq!(days.rows("raw.events"), counted(&[("2024-05-02", 1)]));
}

/// One statement for the whole window, whose rows find their days; a table without a window; a preview of both.
pub fn a_window_is_divided_and_a_whole_table_is_replaced(database: &dyn Database) {
    events(database);
    let days = mornings(database, WINDOW, "table = \"events\"\ntime_column = \"happened_at\"\nper = \"window\"");
    days.run("2024-05-04", 0);
    let whole = counted(&[("2024-05-01", 24), ("2024-05-02", 24), ("2024-05-03", 24)]);
    assert_eq!(days.rows("raw.events"), whole);
    database.execute(&["DELETE FROM events WHERE id = 205"]);
    days.run("2024-05-04", 0);
    assert_eq!(days.rows("raw.events")["2024-05-02"], 23);
    assert_eq!(days.commits("raw.events"), counted(&[("2024-05-01", 1), ("2024-05-02", 2), ("2024-05-03", 1)]));

    let all = mornings(database, "", "table = \"events\"");
    all.run("2024-05-04", 0);
    assert_eq!(all.counts("select 'all' as unit, count(*) as n from raw.events"), counted(&[("all", 71)]));
    let preview = all.text("2024-05-04", &["preview", "days", "events", "--rows", "2"]);
    assert!(preview.contains("updated_at") && preview.contains("event 0"), "{preview}");
}

/// A SELECT in the source's own SQL; the range is put around it, unless its author has chosen the rows.
pub fn sql_of_the_source_is_restricted_to_the_unit(database: &dyn Database) {
    events(database);
    let days = mornings(
        database,
        WINDOW,
        "sql = \"SELECT id, happened_at, id * 2 AS twice FROM events WHERE id <> 105 -- and no more\"\ntime_column = \"happened_at\"",
    );
    days.run("2024-05-04", 0);
    assert_eq!(days.rows("raw.events"), counted(&[("2024-05-01", 23), ("2024-05-02", 24), ("2024-05-03", 24)]));
    let rendered = days.text("2024-05-04", &["render", "days", "events", "--date", "2024-05-04"]);
    assert!(rendered.contains("WHERE id <> 105") && rendered.contains("2024-05-01 00:00:00"), "{rendered}");
    write(
        &days,
        WINDOW,
        "sql = \"SELECT * FROM events WHERE id >= 100 * {{ unit.start.day }} AND id < 100 * {{ unit.start.day }} + 5 AND name <> {{ 'it''s' | sql }};\"",
    );
    days.run("2024-05-04", 3);
    days.text("2024-05-04", &["approve", "raw.events", "2024-05-02"]);
    assert_eq!(days.rows("raw.events")["2024-05-02"], 5);
}

/// Seconds and milliseconds since 1970.
pub fn numbers_can_be_times(database: &dyn Database) {
    // 2024-05-02T00:00:00Z is 1714608000.
    database.execute(&[
        "CREATE TABLE events (id bigint, seconds bigint, millis bigint)",
        "INSERT INTO events VALUES (1, 1714607999, 1714607999999), (2, 1714608000, 1714608000000), (3, 1714694399, 1714694399999), (4, 1714694400, 1714694400000)",
    ]);
    let expected = counted(&[("2024-05-01", 1), ("2024-05-02", 2), ("2024-05-03", 1)]);
    for step in
        ["time_column = \"seconds\"\ntime_format = \"epoch\"", "time_column = \"millis\"\ntime_format = \"epoch_ms\""]
    {
        let days = mornings(database, WINDOW, &format!("table = \"events\"\n{step}"));
        days.run("2024-05-04", 0);
        assert_eq!(days.rows("raw.events"), expected, "{step}");
    }
    let days = mornings(database, WINDOW, "table = \"events\"\ntime_column = \"seconds\"");
    let told = days.run("2024-05-04", 1);
    assert!(told.contains("has numbers") && told.contains("time_format = \"epoch\""), "{told}");
}

/// A table of the warehouse as a source of the same warehouse, under another connection's name and another path.
pub fn the_file_of_the_warehouse_is_read_while_it_is_written() {
    let project = Project::empty();
    let own = project.path().join("own.duckdb");
    let file = ::duckdb::Connection::open(&own).expect("a file");
    file.execute_batch(
        "CREATE TABLE events AS SELECT n AS id, timestamp '2024-05-03 00:00:00' + to_seconds(n) AS happened FROM range(80000) AS t(n)",
    )
    .expect("rows");
    drop(file);
    project.write("haul.toml", "");
    // Through a link that leads back into the folder.
    let folder = project.path().file_name().expect("a name").to_string_lossy().into_owned();
    project.write(
        "connections.toml",
        &format!("[warehouse]\ntype = \"duckdb\"\npath = \"own.duckdb\"\n[origin]\ntype = \"duckdb\"\npath = \"../{folder}/own.duckdb\"\n"),
    );
    let days = Mornings { project };
    write(&days, WINDOW, "table = \"events\"\ntime_column = \"happened\"\ntime_zone = \"UTC\"");
    days.run("2024-05-04", 0);
    assert_eq!(days.rows("raw.events"), counted(&[("2024-05-03", 80000)]));
}
