//! Event tables: rows of a database by their own time, probed before they are read, and late where they are missing.
//!
//! The promises are the same for every database; each hands itself to all of them.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod faults;
mod keys;
mod probes;
mod shards;
mod types;
mod units;

use crate::support::databases::{Database, SECRET};
use crate::support::mornings::Mornings;
use crate::support::project::Project;

/// A pipeline over three days of a table, morning after morning.
fn mornings(database: &dyn Database, window: &str, step: &str) -> Mornings {
    let project = Project::empty();
    project.write("haul.toml", "warehouse = \"warehouse\"\n");
    let mornings = Mornings { project };
    connect(&mornings, &database.connection(SECRET));
    write(&mornings, window, step);
    mornings
}

/// Gives the pipeline this window and this step.
fn write(mornings: &Mornings, window: &str, step: &str) {
    let extract = format!("[[extract]]\nname = \"events\"\nconnection = \"origin\"\n{step}\n");
    mornings.project.write("pipelines/days.toml", &format!("{window}\n{extract}"));
}

/// Gives the project these connections besides its warehouse.
fn connect(mornings: &Mornings, connections: &str) {
    let warehouse = "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n";
    mornings.project.write("connections.toml", &format!("{warehouse}\n{connections}\n"));
}

const WINDOW: &str = "[window]\ngrain = \"day\"\nlookback = 3\n";

/// A table of `events` with one row for each hour of the first three days of May, UTC.
fn events(database: &dyn Database) {
    let (instant, _) = database.stamps();
    let mut rows = Vec::new();
    for day in 1..=3 {
        for hour in 0..24 {
            let at = format!("2024-05-0{day} {hour:02}:00:00{}", offset(database));
            rows.push(format!("({}, '{at}', '{at}', 'event {hour}')", day * 100 + hour));
        }
    }
    database.execute(&[
        &format!("CREATE TABLE events (id bigint, happened_at {instant}, updated_at {instant}, name varchar(40))"),
        &format!("INSERT INTO events VALUES {}", rows.join(", ")),
    ]);
}

/// What stands behind a timestamp in UTC: the sessions of MariaDB are in UTC, and its timestamps take no offset.
fn offset(database: &dyn Database) -> &'static str {
    if database.stamps().0.starts_with("timestamptz") { "+00" } else { "" }
}

/// Tests of every promise for a database.
macro_rules! promises {
    ($database:ty) => {
        use crate::tables::{faults, probes, shards, units};

        #[test]
        fn a_day_is_that_of_its_zone_even_where_it_has_23_hours() {
            units::a_day_is_that_of_its_zone_even_where_it_has_23_hours(&<$database>::new());
        }

        #[test]
        fn a_day_without_rows_has_its_table_all_the_same() {
            units::a_day_without_rows_has_its_table_all_the_same(&<$database>::new());
        }

        #[test]
        fn a_window_is_divided_and_a_whole_table_is_replaced() {
            units::a_window_is_divided_and_a_whole_table_is_replaced(&<$database>::new());
        }

        #[test]
        fn sql_of_the_source_is_restricted_to_the_unit() {
            units::sql_of_the_source_is_restricted_to_the_unit(&<$database>::new());
        }

        #[test]
        fn numbers_can_be_times() {
            units::numbers_can_be_times(&<$database>::new());
        }

        #[test]
        fn a_day_whose_probe_is_the_same_is_not_read_again() {
            probes::a_day_whose_probe_is_the_same_is_not_read_again(&<$database>::new());
        }

        #[test]
        fn what_the_probe_does_not_vouch_for_is_read() {
            probes::what_the_probe_does_not_vouch_for_is_read(&<$database>::new());
        }

        #[test]
        fn a_missing_shard_is_late_and_caught_up_with() {
            shards::a_missing_shard_is_late_and_caught_up_with(&<$database>::new());
        }

        #[test]
        fn wrong_names_are_told_with_those_that_look_like_them() {
            faults::wrong_names_are_told_with_those_that_look_like_them(&<$database>::new());
        }

        #[test]
        fn killed_in_the_middle_of_a_day_it_is_read_again_as_a_whole() {
            faults::killed_in_the_middle_of_a_day_it_is_read_again_as_a_whole(&<$database>::new());
        }
    };
}

mod duckdb {
    use crate::support::databases::DuckDbDatabase;

    promises!(DuckDbDatabase);

    #[test]
    fn every_type_arrives() {
        crate::tables::types::duckdb(&DuckDbDatabase::new());
    }

    #[test]
    fn the_file_of_the_warehouse_is_read_while_it_is_written() {
        units::the_file_of_the_warehouse_is_read_while_it_is_written();
    }
}

mod with_postgres {
    use crate::support::databases::PostgresDatabase;

    promises!(PostgresDatabase);

    #[test]
    fn every_type_arrives() {
        crate::tables::types::postgres(&PostgresDatabase::new());
    }

    #[test]
    fn a_server_that_ends_the_connection_fails_the_day_and_the_next_run_reads_it() {
        faults::a_server_that_ends_the_connection_fails_the_day_and_the_next_run_reads_it(&PostgresDatabase::new());
    }

    #[test]
    fn a_wrong_password_is_told_and_never_shown() {
        faults::a_wrong_password_is_told_and_never_shown(&PostgresDatabase::new());
    }
}

mod with_mariadb {
    use crate::support::databases::MariaDatabase;

    promises!(MariaDatabase);

    #[test]
    fn every_type_arrives() {
        crate::tables::types::mariadb(&MariaDatabase::new());
    }

    #[test]
    fn a_server_that_ends_the_connection_fails_the_day_and_the_next_run_reads_it() {
        faults::a_server_that_ends_the_connection_fails_the_day_and_the_next_run_reads_it(&MariaDatabase::new());
    }

    #[test]
    fn a_wrong_password_is_told_and_never_shown() {
        faults::a_wrong_password_is_told_and_never_shown(&MariaDatabase::new());
    }
}
