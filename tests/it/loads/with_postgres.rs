//! PostgreSQL as the place that rows are loaded into, and are read from again.

use super::targets;
use crate::support::databases::PostgresDatabase;

macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            targets::$name(&PostgresDatabase::new());
        })*
    };
}

promises!(
    every_type_comes_back_as_it_went,
    only_what_changed_is_written,
    a_whole_table_is_replaced,
    rows_of_one_key_are_merged,
    killed_anywhere_it_ends_the_same,
);
