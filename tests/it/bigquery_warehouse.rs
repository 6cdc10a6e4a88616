//! BigQuery as a warehouse: against an emulator, and against a strict server for what no emulator vouches for.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod credentials;
mod digits;
mod labels;
mod machine;
mod partitions;
mod periods;
mod uploads;
mod with_bigquery;
