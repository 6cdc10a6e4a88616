//! The macros that every template can call: the same value from every warehouse, by execution; and those of a project.

mod cases;
mod own;
mod variants;

use serde_json::{Value, json};

use crate::support::databases::{Database, SECRET};
use crate::support::ga4;
use crate::support::project::{Project, told};

/// Something that SQL is run on, whose dialect chooses the bodies of macros.
pub trait Place {
    /// Its connection `origin`.
    fn connection(&self) -> String;

    /// Makes the daily GA4 tables of these days, below this name.
    fn put_events(&self, days: &[&str]);

    /// The schema or dataset of these tables.
    fn schema(&self) -> String;

    /// The type of texts.
    fn text(&self) -> &'static str;
}

/// The rows that a template's SQL has in a place, for the day before 2024-05-04.
fn rows(place: &impl Place, sql: &str) -> Vec<Value> {
    let project = Project::empty();
    project.write("haul.toml", "warehouse = \"warehouse\"\n");
    let warehouse = "[warehouse]\ntype = \"duckdb\"\npath = \"warehouse.duckdb\"\n";
    project.write("connections.toml", &format!("{warehouse}\n{}", place.connection()));
    project.write(
        "pipelines/p.toml",
        "[window]\nlookback = 2\n[[extract]]\nname = \"a\"\nconnection = \"origin\"\nsql = \"sql/a.sql\"\nwrite = \"full\"\nper = \"window\"\n",
    );
    project.write("sql/a.sql", sql);
    let output = project.output(&["preview", "p", "a", "--date", "2024-05-04", "--rows", "99", "--output", "json"]);
    assert!(output.status.success(), "{}\n{sql}", told(&output));
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    printed.as_array().expect("rows").clone()
}

/// Instants without what says that they are in UTC, which not every type tells.
fn plain(value: &Value) -> Value {
    match value.as_str().filter(|text| text.len() > 18 && text.starts_with("2024-")) {
        Some(text) => json!(text.trim_end_matches('Z').replace(' ', "T")),
        None => value.clone(),
    }
}

/// Every macro over constants and over a few rows.
fn every_macro_says_what_it_should(place: &impl Place) {
    for (cases, from) in [(cases::SCALAR, String::new()), (cases::AGGREGATE, cases::rows(place.text()))] {
        let parts: Vec<String> =
            cases.iter().enumerate().map(|(number, (call, _))| format!("{{{{ {call} }}}} AS c{number}")).collect();
        let found = rows(place, &format!("SELECT {}{from}", parts.join(",\n")));
        for (number, (call, expected)) in cases.iter().enumerate() {
            let expected: Value = serde_json::from_str(expected).expect("JSON");
            assert_eq!(plain(&found[0][format!("c{number}")]), expected, "{call}");
        }
    }
}

/// The macros that read GA4 events, over daily tables where they are.
fn events_are_read_where_they_are(place: &impl Place) {
    place.put_events(&["2024-05-01", "2024-05-02", "2024-05-03"]);
    let schema = place.schema();
    let sql = format!(
        "SELECT event_date, event_name,
           {{{{ event_param('ga_session_id', 'int') }}}} AS session_id,
           {{{{ event_param('percent_scrolled', 'float') }}}} AS scrolled,
           {{{{ event_param('page_location') }}}} AS page,
           {{{{ event_param('ga_session_id', 'any') }}}} AS session_text,
           {{{{ event_param('nothing') }}}} AS nothing,
           {{{{ user_property('plan') }}}} AS plan,
           {{{{ field('device', 'category') }}}} AS device,
           {{{{ field('device', 'web_info.browser') }}}} AS browser,
           {{{{ field('ecommerce', 'purchase_revenue', 'float') }}}} AS revenue
         FROM {{{{ shards('{schema}.events_*') }}}} AS e
         WHERE {{{{ in_window('event_timestamp', 'micros') }}}} AND {{{{ in_window('event_date', 'yyyymmdd') }}}}
           AND {{{{ in_window(timestamp_micros('event_timestamp')) }}}} AND {{{{ in_window(parse_date('event_date'), 'date') }}}}
         ORDER BY event_timestamp"
    );
    let found = rows(place, &sql);
    // Two days of the window; the shard of the first day is not among them.
    assert_eq!(found.len(), 12, "{found:?}");
    assert_eq!(
        found[0],
        json!({ "event_date": "20240502", "event_name": "page_view", "session_id": 9_007_199_254_740_993_i64,
            "scrolled": null, "page": "https://shop.example/?q=\"Größe\"&n=0", "session_text": "9007199254740993",
            "nothing": null, "plan": "free", "device": "mobile", "browser": "Chrome", "revenue": null })
    );
    assert_eq!((&found[1]["scrolled"], &found[2]["revenue"]), (&json!(0.1), &json!(21.5)));
    let earlier =
        rows(place, &format!("SELECT COUNT(*) AS n FROM {{{{ shards('{schema}.events_*', before=1) }}}} AS e"));
    assert_eq!(earlier, [json!({ "n": 18 })]);
    let items = rows(
        place,
        &format!(
            "SELECT {{{{ field('item', 'item_id') }}}} AS item, SUM({{{{ field('item', 'quantity', 'int') }}}}) AS pieces
             FROM {{{{ shards('{schema}.events_') }}}} AS e CROSS JOIN {{{{ unnest('e.items', 'item') }}}}
             GROUP BY 1 ORDER BY 1"
        ),
    );
    let pieces: Vec<_> =
        items.iter().map(|row| (row["item"].clone(), row["pieces"].to_string().replace('"', ""))).collect();
    assert_eq!(pieces, [(json!("SKU-0"), "4".to_owned()), (json!("SKU-1"), "4".to_owned())]);
    let days = rows(place, "SELECT day FROM {{ date_spine(ds | sql, next_ds | sql) }} AS d ORDER BY day");
    assert_eq!(
        days.iter().map(|row| row["day"].clone()).collect::<Vec<_>>(),
        ["2024-05-02", "2024-05-03", "2024-05-04"]
    );
}

/// The columns of the daily tables that are read, as this database writes their types.
fn events(day: &str) -> Vec<Value> {
    ga4::day(day, 6)
}

impl<D: Database> Place for (D, &'static str) {
    fn connection(&self) -> String {
        self.0.connection(SECRET)
    }

    fn put_events(&self, days: &[&str]) {
        let duckdb = self.1 == "VARCHAR";
        for day in days {
            let (name, rows) = (format!("ga4.events_{}", day.replace('-', "")), Value::from(events(day)).to_string());
            let rows = rows.replace('\'', "''");
            let made = if duckdb { cases::duckdb_events(&name, &rows) } else { cases::postgres_events(&name, &rows) };
            self.0.execute(&["CREATE SCHEMA IF NOT EXISTS ga4", &made]);
        }
    }

    fn schema(&self) -> String {
        "ga4".to_owned()
    }

    fn text(&self) -> &'static str {
        self.1
    }
}

macro_rules! promises {
    ($place:expr) => {
        #[test]
        fn every_macro_says_what_it_should() {
            super::every_macro_says_what_it_should(&$place);
        }

        #[test]
        fn events_are_read_where_they_are() {
            super::events_are_read_where_they_are(&$place);
        }
    };
}

mod duckdb {
    use crate::support::databases::DuckDbDatabase;

    promises!((DuckDbDatabase::new(), "VARCHAR"));
}

mod with_postgres {
    use crate::support::databases::PostgresDatabase;

    promises!((PostgresDatabase::new(), "TEXT"));
}

mod with_bigquery {
    use super::{Place, events};
    use crate::support::bigquery::{PROJECT, emulator};
    use crate::support::ga4;

    struct Emulated(&'static str);

    impl Place for Emulated {
        fn connection(&self) -> String {
            let url = &emulator().url;
            format!("[origin]\ntype = \"bigquery\"\nproject = \"{PROJECT}\"\nendpoint = \"{url}\"\n")
        }

        fn put_events(&self, days: &[&str]) {
            for day in days {
                emulator().put(self.0, &format!("events_{}", day.replace('-', "")), &ga4::schema(), &events(day));
            }
        }

        fn schema(&self) -> String {
            self.0.to_owned()
        }

        fn text(&self) -> &'static str {
            "STRING"
        }
    }

    promises!(Emulated("macros"));
}
