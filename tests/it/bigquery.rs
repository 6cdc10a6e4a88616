//! Event tables on BigQuery: against an emulator, and against a strict server for what no emulator vouches for.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod keys;
mod service;
mod with_bigquery;
