//! The twin of `[[load]]`: its documentation is the JSON Schema's.

use super::file::{CheckTable, GuardTable, WriteWord};
use super::layout::PartitionValue;
use super::reader::{At, Required, twin};
use super::scalar::{Entries, Names, words};
use super::value::{ByteSize, ColumnType, ReachValue, TypedDuration, Zone};
use crate::model::load::{Compression, WrittenFormat};
use crate::model::pipeline::{Naming, Nested, TimeFormat};
use crate::model::schema::Contract;
use crate::model::source::ProbeRule;

words!(WrittenFormat, Compression);

twin! {
    /// A step that brings rows of one connection into another: from any database, collection or files into any other.
    pub struct LoadTable {
        /// The step's name, unique in the pipeline.
        pub name: Required<String>,
        /// Steps of this pipeline that it begins after, besides those that it reads.
        pub after: Option<At<Names>>,
        /// The pool, or the pools, that every task takes a slot of, in the place of the pipeline's.
        pub pool: Option<At<Names>>,
        /// How long one task may take; then it is stopped, and fails. Default: no limit.
        pub timeout: Option<At<TypedDuration>>,
        /// Where the rows are from: a step (`pipeline.step` of another pipeline), a table, a collection, or files of
        /// `from_connection`. A template, where it names something outside of the project.
        pub from: Option<At<String>>,
        /// A SELECT whose rows are loaded, or a file of `sql/` that has it; it runs in `from_connection`. A template.
        pub sql: Option<At<String>>,
        /// The connection that the rows are from. Default: that of the step which `from` names, else the pipeline's warehouse.
        pub from_connection: Option<At<String>>,
        /// The connection that the rows go to. Default: the pipeline's warehouse.
        pub connection: Option<At<String>>,
        /// The table there, as `schema.table`; the collection; or the path of files, a template that has the unit in it, as
        /// `"exports/dt={{ ds }}/part.parquet"`. Default, in the warehouse: `raw.<name>`.
        pub into: Option<At<String>>,
        /// How the rows get there.
        pub write: Option<At<WriteWord>>,
        /// The columns that identify a row: needed to merge; elsewhere they let drift tell a changed row from a new one.
        pub keys: Option<At<Names>>,
        /// Of several new rows of one key, the one with the largest value in this column stays.
        pub newest_by: Option<At<String>>,
        /// Appending with a lookback loads a unit's rows again whenever they changed; true says that this is meant.
        pub append_repeats: Option<At<bool>>,
        /// The column that has a row's own time, where no step of the project tells which unit a row is of.
        pub time_column: Option<At<String>>,
        /// How that time is written. Default `"iso"`.
        pub time_format: Option<At<TimeFormat>>,
        /// The zone of times without an offset. Default: the pipeline's.
        pub time_zone: Option<At<Zone>>,
        /// The column that grows whenever a row changes: a unit whose number of rows and largest value here are as they
        /// were is not read again. For rows that no step of the project writes.
        pub changed_column: Option<At<String>>,
        /// How a unit that is as it was is recognized without reading it, for such rows. Default `"auto"`.
        pub probe: Option<At<ProbeRule>>,
        /// The most that one statement of this step, one unit's, may be billed for, where the source bills by the bytes that
        /// are read: a run in which one would be billed for more is refused before anything is spent.
        pub max_bytes: Option<At<ByteSize>>,
        /// Which upstream units a unit's `sql` reads, as `"-6d..0d"`; or a table of these by the names inside `ref()`.
        /// Default: its own.
        pub reach: Option<At<ReachValue>>,
        /// How files are written. Default: as the ending of `into` tells.
        pub format: Option<At<WrittenFormat>>,
        /// How files are compressed. Default: as the ending tells; Parquet by zstd.
        pub compression: Option<At<Compression>>,
        /// Rows go on in another file once one has about so many bytes. Default `"64 MiB"`.
        pub max_file_size: Option<At<ByteSize>>,
        /// Declared types by the source's names; they win over what the source says and the rows look like.
        pub columns: Option<At<Entries<ColumnType>>>,
        /// What happens with columns and types that the table does not have. Default `"evolve"`.
        pub contract: Option<At<Contract>>,
        /// How nested values land. Default `"struct"`.
        pub nested: Option<At<Nested>>,
        /// How the source's names become column names. Default `"source"`.
        pub naming: Option<At<Naming>>,
        /// What divides the table into partitions: `"unit"`, `"none"`, a column (by days), or `{ column = "created_at", grain = "month" }`.
        /// Default: BigQuery divides by the unit, PostgreSQL not at all. DuckDB has no partitions.
        pub partition_by: Option<At<PartitionValue>>,
        /// The columns by which rows lie close to each other: clusters on BigQuery, an index on PostgreSQL, nothing on DuckDB.
        pub cluster_by: Option<At<Names>>,
        /// Whether a statement that reads every partition is refused. Default false. Only BigQuery has it.
        pub require_partition_filter: Option<At<bool>>,
        /// How long a partition is kept after its end, as `"400d"`. Only BigQuery has it.
        pub partition_expires: Option<At<TypedDuration>>,
        /// What new rows may take away. Default: all, since what a step has written has passed the guard of that step; of
        /// rows from outside, the window's guard.
        pub guard: Option<At<GuardTable>>,
        /// What new rows must satisfy before they replace the old ones.
        pub checks: Option<At<Vec<At<CheckTable>>>>,
    }
}
