//! The twins of `haul.toml` and `pipelines/*.toml`: their documentation is the JSON Schema's.

use super::answer::{CompressionWord, FormatWord, RecordsText, ReportTable, XmlTable};
use super::errand::{RunTable, WaitTable};
use super::fanout::{ForEachTable, LimitsTable, MaxFailedValue};
use super::files::{CsvTable, DownloadTable};
use super::layout::PartitionValue;
use super::load_table::LoadTable;
use super::notify::{DailyReportTable, DeadlineTable, DriftTable, NotifyTable, RetentionTable};
use super::reader::{At, Required, twin};
use super::request::{AuthValue, PaginateTable, RequestTable, RetryTable};
use super::rule::Rules;
use super::scalar::{Count, Entries, Names, Texts};
use super::schedule::ScheduleTable;
use super::serve::ServeTable;
use super::sql::SqlValue;
use super::steering::Whole;
use super::value::{ByteSize, ColumnType, Date, Lookback, Percent, ReachValue, TypedDuration, Zone};
use crate::model::pipeline::{Naming, Nested, Outside, Per, Severity, TimeFormat};
use crate::model::schema::Contract;
use crate::model::source::{ProbeRule, ReplicationMethod};
use crate::time::Grain;

use super::scalar::words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

twin! {
    /// `haul.toml`: what all pipelines of a project share. The file may be missing.
    pub struct ProjectFile {
        /// The project's name, for people.
        pub name: Option<At<String>>,
        /// The connection of the warehouse. Default `"warehouse"`. A pipeline may name another.
        pub warehouse: Option<At<String>>,
        /// The zone of days and schedules. Default `"UTC"`. A pipeline may name another.
        pub timezone: Option<At<Zone>>,
        /// Where ledger, journal and stage lie, relative to the project. Default `".haul"`.
        pub state_dir: Option<At<String>>,
        /// Variables that every template sees through `var()`.
        pub vars: Option<At<Entries<serde_json::Value>>>,
        /// How many tasks of one run may be under way at once. Default 8. A pipeline may say otherwise.
        pub max_active: Option<At<Count>>,
        /// The most that one run of a pipeline may be billed for, where a warehouse or a source bills by the bytes that
        /// statements read: a run that would be billed for more is refused before anything is spent. A pipeline may say otherwise.
        pub max_bytes: Option<At<ByteSize>>,
        /// When a run that failed in a way that passes is tried again by `haul serve`. A pipeline may say otherwise.
        pub retry: Option<At<RetryTable>>,
        /// How many slots each pool has: so many tasks that name the pool are under way at once, of all pipelines and in all
        /// processes.
        pub pools: Option<At<Entries<Count>>>,
        /// How `haul serve` works.
        pub serve: Option<At<ServeTable>>,
        /// Who is told what goes wrong.
        pub notify: Option<At<Vec<At<NotifyTable>>>>,
        /// By when days have to be there. Those of one pipeline may stand in its file.
        pub deadline: Option<At<Vec<At<DeadlineTable>>>>,
        /// The report of the day.
        pub report: Option<At<DailyReportTable>>,
        /// Which changes of old units are told.
        pub drift: Option<At<DriftTable>>,
        /// How long the history is kept.
        pub retention: Option<At<RetentionTable>>,
    }
}

twin! {
    /// One file of `pipelines/`: schedule, window and steps.
    pub struct PipelineFile {
        /// What it is for.
        pub description: Option<At<String>>,
        /// The zone of its days and of its schedule.
        pub timezone: Option<At<Zone>>,
        /// The connection of the warehouse that its tables lie in.
        pub warehouse: Option<At<String>>,
        /// How many tasks of one run may be under way at once.
        pub max_active: Option<At<Count>>,
        /// How many of its runs `haul serve` has under way at once, over all processes. Default 1.
        pub max_runs: Option<At<Count>>,
        /// The most that one run may be billed for, all its statements together: a run that would be billed for more is
        /// refused before anything is spent. Over the project's.
        pub max_bytes: Option<At<ByteSize>>,
        /// Within its class of the queue (fresh days, re-pulls, backfills), the pipeline with the higher number comes first.
        /// Default 0.
        pub priority: Option<At<Whole>>,
        /// The pool, or the pools, that every task takes a slot of, where its step names none.
        pub pool: Option<At<Names>>,
        /// When a run that failed in a way that passes is tried again by `haul serve`; over the project's. Default: 4
        /// attempts, after a minute, then two, then four.
        pub retry: Option<At<RetryTable>>,
        /// How long a run may take, its waits included; then what is under way is stopped, and fails. Default: no limit.
        pub timeout: Option<At<TypedDuration>>,
        /// Variables of this pipeline, over those of the project.
        pub vars: Option<At<Entries<serde_json::Value>>>,
        /// When it runs by itself.
        pub schedule: Option<At<ScheduleTable>>,
        /// Which units a run covers. Without a window every run covers all there is.
        pub window: Option<At<WindowTable>>,
        /// Steps that pull rows from outside.
        pub extract: Option<At<Vec<At<ExtractTable>>>>,
        /// Steps that compute rows in the warehouse.
        pub transform: Option<At<Vec<At<TransformTable>>>>,
        /// Steps that bring rows of one connection into another.
        pub load: Option<At<Vec<At<LoadTable>>>>,
        /// Steps that wait for something outside.
        pub wait: Option<At<Vec<At<WaitTable>>>>,
        /// Steps that run a program for its effect.
        pub run: Option<At<Vec<At<RunTable>>>>,
        /// By when its days have to be there.
        pub deadline: Option<At<Vec<At<DeadlineTable>>>>,
    }
}

twin! {
    /// Which units a run covers: the `lookback` units before its logical date.
    pub struct WindowTable {
        /// The length of a unit. Default `"day"`.
        pub grain: Option<At<Grain>>,
        /// How many units back: a count, or tiers that pull older units less often. Default 1.
        pub lookback: Option<At<Lookback>>,
        /// The first date that exists at the source, as a date without quotes.
        pub begin: Option<At<Date>>,
        /// A unit that ended longer ago than this no longer moves.
        pub settle_after: Option<At<TypedDuration>>,
        /// A unit whose last pulls, this many, changed nothing no longer moves.
        pub settle_pulls: Option<At<Count>>,
        /// What a re-pull may take away before it is held.
        pub guard: Option<At<GuardTable>>,
    }
}

twin! {
    /// What a re-pull may take away before it is held.
    pub struct GuardTable {
        /// The share of a unit's rows that may be lost, in percent. Default `"50%"`.
        pub max_shrink: Option<At<Percent>>,
        /// Whether a unit that had rows may become empty. Default false.
        pub allow_empty: Option<At<bool>>,
    }
}

/// How a step's rows get into its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteWord {
    /// The rows of a unit replace the rows of that unit. The default with a window.
    Replace,
    /// The same, said of how: in one transaction.
    Transaction,
    /// The same as whole partitions, which costs nothing on BigQuery; elsewhere as in a transaction.
    Partition,
    /// The rows come on top of what is there.
    Append,
    /// A row replaces the row of the same `keys`.
    Merge,
    /// The rows replace the whole table. The default without a window.
    Full,
}

/// The kinds of sources that keys alone do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceWord {
    /// Requests to an API.
    Http,
    /// What a program prints.
    Process,
}

/// What a program prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProtocolWord {
    /// Every line is a row, a JSON object.
    Jsonl,
    /// Singer's messages.
    Singer,
}

words!(WriteWord, SourceWord, ProtocolWord, ReplicationMethod);

twin! {
    /// A step that pulls rows from outside. Its keys win over those of its hook.
    pub struct ExtractTable {
        /// The step's name, unique in the pipeline.
        pub name: Required<String>,
        /// Steps of this pipeline that it begins after, besides those that it reads.
        pub after: Option<At<Names>>,
        /// The pool, or the pools, that every task takes a slot of, in the place of the pipeline's.
        pub pool: Option<At<Names>>,
        /// The file of `hooks/` that describes the API, without its ending.
        pub hook: Option<At<String>>,
        /// Which part of the API, where the hook has `[resources]`.
        pub resource: Option<At<String>>,
        /// Values for the hook's parameters.
        pub with: Option<At<Entries<serde_json::Value>>>,
        /// The connection that says where, and who we are.
        pub connection: Option<At<String>>,
        /// The request; its parameters are laid over those of the hook.
        pub request: Option<At<RequestTable>>,
        /// How the answer is divided into pages. Default: there is one page.
        pub paginate: Option<At<PaginateTable>>,
        /// Where the rows of a page are: a JSONPath, or the path of an XML element as `"/feed/entry"`. Default `"$[*]"`: the answer is a list of rows.
        pub records: Option<At<RecordsText>>,
        /// How the rows of an answer or of files are written. Default: of an answer as `records` and its type tell, else
        /// `"json"`; of files as their endings tell, also with `.gz`, `.zst` or `.zip` behind them.
        pub format: Option<At<FormatWord>>,
        /// Whether the answer is a compressed file. Default: seen from its first bytes.
        pub compression: Option<At<CompressionWord>>,
        /// The members of a zip file that have rows: a name with `*` and `?`. Default: the only one there is.
        pub members: Option<At<String>>,
        /// How CSV is written.
        pub csv: Option<At<CsvTable>>,
        /// The form of XML.
        pub xml: Option<At<XmlTable>>,
        /// What is done with odd answers: `404 = "empty"`, `"403 containing quota" = "wait until midnight America/Los_Angeles"`.
        pub on: Option<At<Rules>>,
        /// Whether answers are kept, and sent again only where they have changed. Default false.
        pub conditional: Option<At<bool>>,
        /// The report that `request` creates, where its answer has no rows: how it is waited for and downloaded.
        pub report: Option<At<ReportTable>>,
        /// How we say who we are: `"none"`, `"basic"`, `"bearer"`, `{ header = "X-Api-Key" }` or `{ query = "key" }`.
        pub auth: Option<At<AuthValue>>,
        /// How often and how patiently a request is tried again.
        pub retry: Option<At<RetryTable>>,
        /// How hard this step may press, under the limits of its connection.
        pub limits: Option<At<LimitsTable>>,
        /// A request for each row of a step, of a SELECT, of a list or of a file, in each unit.
        pub for_each: Option<At<ForEachTable>>,
        /// Members that every row of a `for_each` gets besides its own. Each is a template.
        pub add: Option<At<Entries<String>>>,
        /// How many requests of a `for_each` may fail without the unit failing: a count, or a share such as `"1%"`. Default 0.
        pub max_failed: Option<At<MaxFailedValue>>,
        /// The collection of a MongoDB connection whose documents are the rows. A template.
        pub collection: Option<At<String>>,
        /// Which documents of the collection: a table, or JSON in a text. Its strings are templates, extended JSON tells types.
        pub filter: Option<At<serde_json::Value>>,
        /// Which members of the documents: a table, or JSON in a text, as MongoDB has it.
        pub projection: Option<At<serde_json::Value>>,
        /// The stages of an aggregation over the collection, instead of `filter` and `projection`: a list, or JSON in a text.
        pub pipeline: Option<At<serde_json::Value>>,
        /// How many documents the server sends at once. Default 2000.
        pub batch_size: Option<At<Count>>,
        /// The files that have the rows of the unit, relative to the connection (without one: to the project). A template
        /// first, then a pattern: `*` and `?` within a name, `**` over folders, `{a,b}` for either.
        pub files: Option<At<String>>,
        /// The column that gets the name of a row's file.
        pub file_column: Option<At<String>>,
        /// Whether a unit without any file is an empty one. Default false: its files are late.
        pub allow_none: Option<At<bool>>,
        /// A file that every row points to, such as a picture: it is stored once, under a name by its content.
        pub download: Option<At<DownloadTable>>,
        /// A table of a database, whose rows of the unit are read. A template: a name with the unit's date in it is a
        /// table for each unit, and one that is missing is late.
        pub table: Option<At<String>>,
        /// The table that has a unit's rows until the table of that unit is there.
        pub intraday: Option<At<String>>,
        /// A SELECT that runs in the source database, or a file of `sql/` that has it. A template.
        pub sql: Option<At<String>>,
        /// The column of a database's table, or the member of a collection's documents, that grows whenever a row changes:
        /// a unit whose number of rows and largest value here are as they were is not read again.
        pub changed_column: Option<At<String>>,
        /// How a unit that is as it was is recognized without reading it. Default `"auto"`.
        pub probe: Option<At<ProbeRule>>,
        /// Where the rows land instead of a table; a `[[load]]` step brings them into one.
        pub stage: Option<At<LandingTable>>,
        /// The most that one statement of this step, one unit's, may be billed for, where the source bills by the bytes that
        /// are read, as BigQuery does: a run in which one would be billed for more is refused before anything is spent.
        pub max_bytes: Option<At<ByteSize>>,
        /// What kind of source this is, where the keys do not tell: `"http"` or `"process"`.
        pub r#type: Option<At<SourceWord>>,
        /// The program and its arguments (`process`): a list, every text a template, no shell between. It is looked for on the
        /// PATH, or from the project's folder where it has a slash.
        pub command: Option<At<Vec<At<String>>>>,
        /// Further arguments (`process`). A step's take the place of its hook's.
        pub args: Option<At<Vec<At<String>>>>,
        /// Variables that the program gets (`process`). Templates; a step's win over its hook's.
        pub env: Option<At<Entries<Texts>>>,
        /// Variables of haul's own environment that the program gets as they are (`process`).
        pub pass_env: Option<At<Names>>,
        /// The folder that the program works in (`process`), relative to the project. Default: the project's.
        pub dir: Option<At<String>>,
        /// How long one task may take; the program is killed then (`process`, where the default is `"6h"`), else what it does
        /// is stopped and fails. Default: no limit.
        pub timeout: Option<At<TypedDuration>>,
        /// What the program prints (`process`). Default `"jsonl"`: every line is a row.
        pub protocol: Option<At<ProtocolWord>>,
        /// The settings of a Singer tap; strings are templates. Laid over the connection's fields; a step's win over its hook's.
        pub config: Option<At<Entries<serde_json::Value>>>,
        /// The stream of a Singer tap whose records are the rows. Default: the step's name.
        pub stream: Option<At<String>>,
        /// How a Singer tap replicates the stream. Default: its own way.
        pub replication_method: Option<At<ReplicationMethod>>,
        /// The member by which a Singer tap sees what is new.
        pub replication_key: Option<At<String>>,
        /// A file with the catalog of a Singer tap, relative to the project, in place of the one that it discovers.
        pub catalog: Option<At<String>>,
        /// Whether a Singer tap is asked for its catalog by `--discover`. Default true.
        pub discover: Option<At<bool>>,
        /// The argument before the catalog's file. Default `"--catalog"`; old taps want `"--properties"`.
        pub catalog_argument: Option<At<String>>,
        /// The table, as `schema.table`. Default `raw.<name>`.
        pub into: Option<At<String>>,
        /// How the rows get into the table.
        pub write: Option<At<WriteWord>>,
        /// The columns that identify a row: needed to merge; elsewhere they let drift tell a changed row from a new one.
        pub keys: Option<At<Names>>,
        /// Of several new rows of one key, the one with the largest value in this column stays.
        pub newest_by: Option<At<String>>,
        /// Appending with a lookback loads a unit's rows again at every pull; true says that this is meant.
        pub append_repeats: Option<At<bool>>,
        /// One request sequence for each unit (the default), or one for the whole window.
        pub per: Option<At<Per>>,
        /// The member of a row that has its own time, with dots between levels.
        pub time_column: Option<At<String>>,
        /// How that time is written. Default `"iso"`.
        pub time_format: Option<At<TimeFormat>>,
        /// The zone of times without an offset. Default: the pipeline's.
        pub time_zone: Option<At<Zone>>,
        /// What happens with rows whose own time lies outside of the unit or window. Default `"refuse"`.
        pub outside: Option<At<Outside>>,
        /// Declared types by the source's names; they win over what the rows look like.
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
        /// What a re-pull of this table may take away, over the window's guard.
        pub guard: Option<At<GuardTable>>,
        /// What new rows must satisfy before they replace the old ones.
        pub checks: Option<At<Vec<At<CheckTable>>>>,
    }
}

twin! {
    /// A collection of MongoDB that rows land in, unit by unit.
    pub struct LandingTable {
        /// The connection, of type mongodb.
        pub connection: Required<String>,
        /// The collection.
        pub collection: Required<String>,
    }
}

twin! {
    /// A step that computes rows in the warehouse by a SELECT.
    pub struct TransformTable {
        /// The step's name, unique in the pipeline.
        pub name: Required<String>,
        /// Steps of this pipeline that it begins after, besides those that it reads.
        pub after: Option<At<Names>>,
        /// The pool, or the pools, that every task takes a slot of, in the place of the pipeline's.
        pub pool: Option<At<Names>>,
        /// How long one task may take; then it is stopped, and fails. Default: no limit.
        pub timeout: Option<At<TypedDuration>>,
        /// A file that ends in `.sql`, relative to the project, or the SELECT itself. A template either way. Where warehouses
        /// need different texts, a table of them: `{ bigquery = "…", duckdb = "…", default = "…" }`.
        pub sql: Required<SqlValue>,
        /// The table, as `schema.table`. Default `mart.<name>`.
        pub into: Option<At<String>>,
        /// How the rows get into the table.
        pub write: Option<At<WriteWord>>,
        /// The columns that identify a row: needed to merge; elsewhere they let drift tell a changed row from a new one.
        pub keys: Option<At<Names>>,
        /// Of several new rows of one key, the one with the largest value in this column stays.
        pub newest_by: Option<At<String>>,
        /// Appending with a lookback loads a unit's rows again at every pull; true says that this is meant.
        pub append_repeats: Option<At<bool>>,
        /// Once for each unit (the default), or once for the whole window.
        pub per: Option<At<Per>>,
        /// The column that tells a row's unit where the step runs once for the window.
        pub time_column: Option<At<String>>,
        /// The most that one statement of this step, one unit's, may be billed for, where the warehouse bills by the bytes
        /// that are read: a run in which one would be billed for more is refused before anything is spent.
        pub max_bytes: Option<At<ByteSize>>,
        /// Which upstream units a unit reads, as `"-6d..0d"`; or a table of these by the names inside `ref()`. Default: its own.
        pub reach: Option<At<ReachValue>>,
        /// What divides the table into partitions: `"unit"`, `"none"`, a column (by days), or `{ column = "created_at", grain = "month" }`.
        /// Default: BigQuery divides by the unit, PostgreSQL not at all. DuckDB has no partitions.
        pub partition_by: Option<At<PartitionValue>>,
        /// The columns by which rows lie close to each other: clusters on BigQuery, an index on PostgreSQL, nothing on DuckDB.
        pub cluster_by: Option<At<Names>>,
        /// Whether a statement that reads every partition is refused. Default false. Only BigQuery has it.
        pub require_partition_filter: Option<At<bool>>,
        /// How long a partition is kept after its end, as `"400d"`. Only BigQuery has it.
        pub partition_expires: Option<At<TypedDuration>>,
        /// What a new computation of this table may take away, over the window's guard.
        pub guard: Option<At<GuardTable>>,
        /// What new rows must satisfy before they replace the old ones.
        pub checks: Option<At<Vec<At<CheckTable>>>>,
    }
}

twin! {
    /// A condition on new rows; exactly one of its rules is given.
    pub struct CheckTable {
        /// This column, or these columns, are never null.
        pub not_null: Option<At<Names>>,
        /// This column, or these columns together, are different in every new row.
        pub unique: Option<At<Names>>,
        /// The column has none but these values; null passes.
        pub accepted: Option<At<AcceptedTable>>,
        /// The number of new rows in a unit lies in this range.
        pub row_count: Option<At<RowCountTable>>,
        /// Every value of a column stands in a column of another table; null passes.
        pub relation: Option<At<RelationTable>>,
        /// A SELECT of the rows that are wrong, or a file that has it; `{{ this }}` are the new rows.
        pub sql: Option<At<String>>,
        /// A name for screens.
        pub name: Option<At<String>>,
        /// Whether a failure stops the load (`"error"`, the default) or is only told (`"warn"`).
        pub severity: Option<At<Severity>>,
    }
}

twin! {
    /// The values that a column may have.
    pub struct AcceptedTable {
        /// The column.
        pub column: Required<String>,
        /// The values.
        pub values: Required<Vec<serde_json::Value>>,
    }
}

twin! {
    /// A range of row counts, both ends included.
    pub struct RowCountTable {
        /// At least so many.
        pub min: Option<At<u64>>,
        /// At most so many.
        pub max: Option<At<u64>>,
    }
}

twin! {
    /// A column whose values stand in another table.
    pub struct RelationTable {
        /// The column.
        pub column: Required<String>,
        /// The other table.
        pub to: Required<String>,
        /// The other table's column.
        pub field: Required<String>,
    }
}
