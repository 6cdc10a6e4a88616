//! The sources that pass the suite, each over the real system.

mod files;
mod http;
mod process;
mod with_gcs;
mod with_s3;
