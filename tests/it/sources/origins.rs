//! The sources that pass the suite, each over the real system.

mod files;
mod http;
mod with_bigquery;
mod with_gcs;
mod with_s3;
mod tables;
