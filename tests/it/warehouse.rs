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
