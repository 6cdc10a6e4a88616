//! The conformance suite of warehouses: every driver runs the same functions, each in a warehouse of its own.
//!
//! A driver joins by a variant of `Driver` in `warehouse/bench.rs`; what its rows and queries look like is the same for all.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

mod bench;
mod changes;
mod checks;
mod evolve;
mod merging;
mod nested;
mod once;
mod query;
mod units;
mod values;
