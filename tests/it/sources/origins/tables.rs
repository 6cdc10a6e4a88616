//! Event tables of databases.

use super::super::{Event, Origin, passes};
use crate::support::databases::{Database, SECRET};
use crate::support::project::Project;

struct Events<D>(D);

impl<D: Database> Events<D> {
    fn of(database: D) -> Self {
        let (instant, _) = database.stamps();
        database.execute(&[&format!(
            "CREATE TABLE events (id bigint, happened_at {instant}, amount decimal(18,4), name varchar(200), note varchar(200))"
        )]);
        Self(database)
    }
}

/// A text as standard SQL has it; MariaDB is told to read it so.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl<D: Database> Origin for Events<D> {
    fn connection(&self) -> String {
        self.0.connection(SECRET)
    }

    fn step(&self) -> String {
        "connection = \"origin\"\ntable = \"events\"\ntime_column = \"happened_at\"".to_owned()
    }

    fn put(&self, _project: &Project, day: &str, events: &[Event]) {
        let zone = if self.0.stamps().0.starts_with("timestamptz") { "+00" } else { "" };
        let delete = format!(
            "DELETE FROM events WHERE happened_at >= '{day} 00:00:00{zone}' AND happened_at <= '{day} 23:59:59.999999{zone}'"
        );
        let mut statements = Vec::new();
        if zone.is_empty() {
            statements.push("SET sql_mode = 'NO_BACKSLASH_ESCAPES'".to_owned());
        }
        statements.push(delete);
        let rows: Vec<String> = events
            .iter()
            .map(|event| {
                let at = event.at.replace('T', " ").replace('Z', zone);
                let note = event.note.as_deref().map_or("NULL".to_owned(), text);
                format!("({}, '{at}', {}, {}, {note})", event.id, event.amount, text(&event.name))
            })
            .collect();
        if !rows.is_empty() {
            statements.push(format!("INSERT INTO events VALUES {}", rows.join(", ")));
        }
        self.0.execute(&statements.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn secret(&self) -> Option<&str> {
        self.0.connection("").contains("password").then_some(SECRET)
    }

    fn gone(&self) -> Option<String> {
        self.0.gone()
    }
}

#[test]
fn a_table_of_a_duckdb_file_passes() {
    passes(&Events::of(crate::support::databases::DuckDbDatabase::new()));
}

mod with_postgres {
    use super::{Events, passes};
    use crate::support::databases::PostgresDatabase;

    #[test]
    fn a_table_of_postgresql_passes() {
        passes(&Events::of(PostgresDatabase::new()));
    }
}

mod with_mariadb {
    use super::{Events, passes};
    use crate::support::databases::MariaDatabase;

    #[test]
    fn a_table_of_mariadb_passes() {
        passes(&Events::of(MariaDatabase::new()));
    }
}
