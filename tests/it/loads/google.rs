//! A bucket of Google Cloud Storage as the place that rows go to, where every write says which generation it replaces.

use super::Bench;
use super::with_buckets::{STEPS, both, there_and_back};
use crate::support::gcs_store::GcsStore;

#[test]
fn rows_go_into_a_bucket_of_google_and_come_back() {
    let store = GcsStore::start();
    there_and_back(&Bench::new(STEPS, &both(&|name| store.connection(name, "there-and-back"))));
    let files: Vec<(String, u64)> =
        store.generations().into_iter().filter(|(key, _)| key.ends_with(".parquet")).collect();
    let file = |day: &str, generation: u64| (format!("there-and-back/exports/dt={day}/part.parquet"), generation);
    assert_eq!(files, [file("2024-05-01", 1), file("2024-05-02", 2), file("2024-05-03", 1)]);
}
