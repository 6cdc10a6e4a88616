//! How a warehouse lays a table out: partitions, clusters, and for how long rows are kept.

use std::time::Duration;

use crate::time::Grain;

/// How a step wants its table to be laid out when it is created.
///
/// A driver that has no such thing leaves it out: DuckDB has neither partitions nor clusters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// What divides the table into partitions.
    pub partition: Partition,
    /// The columns by which rows lie close to each other, the most important first.
    pub cluster: Vec<String>,
    /// Whether a statement that reads every partition is refused.
    pub require_filter: bool,
    /// How long a partition is kept after its end.
    pub expires: Option<Duration>,
    /// How the rows of a unit take the place of the old ones.
    pub replace: Replacing,
}

/// How the rows of a unit take the place of the old ones, where a warehouse has several ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Replacing {
    /// In one transaction, whatever else the table has.
    #[default]
    Transaction,
    /// As a whole partition, which BigQuery replaces free of charge; all others do it in a transaction.
    Partition,
}

/// What divides a table into partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Partition {
    /// What the warehouse does by itself: BigQuery partitions by the unit, PostgreSQL and DuckDB not at all.
    #[default]
    OfWarehouse,
    /// Nothing.
    None,
    /// The unit, one partition for each span of this grain; of the window's own grain without one.
    Unit(Option<Grain>),
    /// A column of dates or times.
    Column {
        /// The column.
        name: String,
        /// The length of a partition: hour, day or month.
        grain: Grain,
    },
}

impl Layout {
    /// What it asks for that only some warehouses have, by the keys of a step.
    pub fn wishes(&self) -> Vec<&'static str> {
        let partitioned = matches!(self.partition, Partition::Unit(_) | Partition::Column { .. });
        [
            (partitioned, "partition_by"),
            (!self.cluster.is_empty(), "cluster_by"),
            (self.require_filter, "require_partition_filter"),
            (self.expires.is_some(), "partition_expires"),
        ]
        .into_iter()
        .filter_map(|(wished, key)| wished.then_some(key))
        .collect()
    }
}
