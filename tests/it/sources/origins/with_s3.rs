//! CSV in a bucket of an S3 server that verifies signatures.

use std::sync::Arc;

use super::super::{Event, Origin, passes};
use crate::support::buckets::S3;
use crate::support::files::{event_csv, gzip};
use crate::support::project::Project;

struct Bucket(Arc<S3>);

impl Origin for Bucket {
    fn connection(&self) -> String {
        self.0.connection("origin", "exports", &self.0.secret)
    }

    fn step(&self) -> String {
        "connection = \"origin\"\nfiles = \"{{ ds_nodash }}/**/*.csv.gz\"".to_owned()
    }

    fn put(&self, _project: &Project, day: &str, events: &[Event]) {
        self.0.put(&format!("exports/{}/deep/events.csv.gz", day.replace('-', "")), gzip(event_csv(events).as_bytes()));
    }

    fn secret(&self) -> Option<&str> {
        Some(&self.0.secret)
    }

    fn gone(&self) -> Option<String> {
        None
    }
}

#[test]
fn csv_in_a_bucket_passes() {
    passes(&Bucket(S3::shared()));
}
