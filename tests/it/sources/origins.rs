//! The sources that pass the suite, each over the real system.

mod files;
mod http;
mod mongodb;
mod process;
mod tables;
mod with_bigquery;
mod with_gcs;
mod with_s3;
