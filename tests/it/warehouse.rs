//! The conformance suite of warehouses: every driver runs the same functions, each in a warehouse of its own.
//!
//! A driver joins by a variant of `Driver` in `warehouse/bench.rs` and a module in `suite!`; what its rows and queries look
//! like is the same for all, but where `warehouse/dialects.rs` says otherwise. What only one of them has is tested beside.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

/// Tests of these functions on every driver; a driver that needs a server has its name in the module's.
///
/// A function is left out on a driver only where it says so, and why: `a_function but not on BigQuery: "it has no …"`.
macro_rules! suite {
    ($($name:ident $(but not on $driver:ident: $why:literal)?),+ $(,)?) => {
        mod duckdb {
            $(suite!(@ DuckDb $name $($driver $why)?);)+
        }

        mod with_postgres {
            $(suite!(@ Postgres $name $($driver $why)?);)+
        }

        mod with_bigquery {
            $(suite!(@ BigQuery $name $($driver $why)?);)+
        }
    };
    (@ DuckDb $name:ident DuckDb $why:literal) => {};
    (@ Postgres $name:ident Postgres $why:literal) => {};
    (@ BigQuery $name:ident BigQuery $why:literal) => {};
    (@ $driver:ident $name:ident $($other:ident $why:literal)?) => {
        #[test]
        fn $name() {
            super::$name(crate::warehouse::bench::Driver::$driver);
        }
    };
}

mod bench;
mod changes;
mod checks;
mod dialects;
mod evolve;
mod merging;
mod nested;
mod once;
mod query;
mod units;
mod values;
mod with_postgres;
