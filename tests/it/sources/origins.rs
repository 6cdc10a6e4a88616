//! The sources that pass the suite, each over the real system.

mod files;
mod http;
mod mongodb;
mod with_gcs;
mod with_s3;
