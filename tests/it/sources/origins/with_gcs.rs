//! JSON in a bucket of a Google Cloud Storage server.

use super::super::{Event, Origin, passes};
use crate::support::buckets::Gcs;
use crate::support::project::Project;

struct Bucket(Gcs);

impl Origin for Bucket {
    fn connection(&self) -> String {
        self.0.connection("origin", "exports")
    }

    fn step(&self) -> String {
        "connection = \"origin\"\nfiles = \"day={{ ds }}/*.json\"".to_owned()
    }

    fn put(&self, _project: &Project, day: &str, events: &[Event]) {
        let rows: Vec<String> = events.iter().map(Event::json).collect();
        self.0.put(&format!("exports/day={day}/events.json"), format!("[{}]", rows.join(",\n")).into_bytes());
    }

    fn gone(&self) -> Option<String> {
        None
    }
}

#[test]
fn json_in_a_bucket_passes() {
    passes(&Bucket(Gcs::start()));
}
