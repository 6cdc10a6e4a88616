//! The conformance suite of warehouses: every driver runs the same functions, each in a warehouse of its own.
//!
//! A driver joins by a variant of `Driver` in `warehouse/bench.rs` and a module in `suite!`; what its rows and queries look
//! like is the same for all, but where [`Driver::pick`] says otherwise. What only one of them has is tested beside.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

/// Tests of these functions on every driver; a driver that needs a server has its name in the module's.
macro_rules! suite {
    ($($name:ident),+ $(,)?) => {
        mod duckdb {
            $(#[test] fn $name() { super::$name(crate::warehouse::bench::Driver::DuckDb); })+
        }

        mod with_postgres {
            $(#[test] fn $name() { super::$name(crate::warehouse::bench::Driver::Postgres); })+
        }
    };
}

/// Those of them that an emulator of BigQuery is asked for, too: what they do is the same for every driver, and all of them
/// would take it minutes. What only BigQuery has is tested in `bigquery_warehouse`.
macro_rules! on_bigquery {
    ($($name:ident),+ $(,)?) => {
        mod with_bigquery {
            $(#[test] fn $name() { super::$name(crate::warehouse::bench::Driver::BigQuery); })+
        }
    };
}

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
mod with_postgres;
