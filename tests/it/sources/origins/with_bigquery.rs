//! Date-sharded tables on BigQuery, as the emulator has them.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::super::{Event, Origin, passes};
use crate::support::bigquery::{PROJECT, emulator};
use crate::support::project::Project;

const DATASET: &str = "conformance";

/// What every day's table has, so that filling it with the same again costs nothing.
#[derive(Default)]
struct Shards(Mutex<HashMap<String, Vec<Event>>>);

impl Origin for Shards {
    fn connection(&self) -> String {
        format!("[origin]\ntype = \"bigquery\"\nproject = \"{PROJECT}\"\nendpoint = \"{}\"\n", emulator().url)
    }

    fn step(&self) -> String {
        format!("connection = \"origin\"\ntable = \"{DATASET}.events_{{{{ ds_nodash }}}}\"")
    }

    fn put(&self, _project: &Project, day: &str, events: &[Event]) {
        let before = self.0.lock().expect("no test panicked here").insert(day.to_owned(), events.to_vec());
        if before.is_some_and(|before| before == events) {
            return;
        }
        let schema = json!([
            { "name": "id", "type": "INTEGER", "mode": "REQUIRED" },
            { "name": "happened_at", "type": "TIMESTAMP" },
            { "name": "amount", "type": "NUMERIC" },
            { "name": "name", "type": "STRING" },
            { "name": "note", "type": "STRING" },
        ]);
        let rows: Vec<Value> = events
            .iter()
            .map(|event| json!({ "id": event.id, "happened_at": event.at, "amount": event.amount, "name": event.name, "note": event.note }))
            .collect();
        emulator().put(DATASET, &format!("events_{}", day.replace('-', "")), &schema, &rows);
    }

    fn gone(&self) -> Option<String> {
        // How often a call is tried is BigQuery's own matter, so that a service that is gone has a test of its own.
        None
    }
}

#[test]
fn date_shards_pass() {
    passes(&Shards::default());
}
