//! The twins of `haul.toml`, `pipelines/*.toml` and `hooks/*.toml`: their documentation is the JSON Schema's.

use super::fanout::{ForEachTable, LimitsTable, MaxFailedValue};
use super::files::{CsvTable, DownloadTable};
use super::reader::{At, Required, twin};
use super::request::{AuthValue, MethodWord, PaginateTable, RequestTable, RetryTable};
use super::scalar::{Count, Entries, Names, Texts};
use super::value::{
    ByteSize, ColumnType, CronText, Date, JsonPathText, Lookback, Moment, Percent, ReachValue, TypedDuration, Zone,
};
use crate::model::files::FileFormat;
use crate::model::parameter::ParameterType;
use crate::model::pipeline::{Missed, Naming, Nested, Outside, Per, Severity, TimeFormat};
use crate::model::schema::Contract;
use crate::model::source::ProbeRule;
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
    }
}

twin! {
    /// When a pipeline runs by itself.
    pub struct ScheduleTable {
        /// Five fields: minute, hour, day of month, month, day of week.
        pub cron: Required<CronText>,
        /// The zone of the cron expression. Default: the pipeline's.
        pub timezone: Option<At<Zone>>,
        /// What happens to occurrences that passed while nothing ran. Default `"widen"`.
        pub missed: Option<At<Missed>>,
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
    /// The rows come on top of what is there.
    Append,
    /// A row replaces the row of the same `keys`.
    Merge,
    /// The rows replace the whole table. The default without a window.
    Full,
}

words!(WriteWord);

twin! {
    /// A step that pulls rows from outside. Its keys win over those of its hook.
    pub struct ExtractTable {
        /// The step's name, unique in the pipeline.
        pub name: Required<String>,
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
        /// JSONPath of the rows in a page. Default `"$[*]"`: the answer is a list of rows.
        pub records: Option<At<JsonPathText>>,
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
        /// The files that have the rows of the unit, relative to the connection (without one: to the project). A template
        /// first, then a pattern: `*` and `?` within a name, `**` over folders, `{a,b}` for either.
        pub files: Option<At<String>>,
        /// How the files are written. Default: as their endings tell, also with `.gz`, `.zst` or `.zip` behind them.
        pub format: Option<At<FileFormat>>,
        /// How CSV is written.
        pub csv: Option<At<CsvTable>>,
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
        /// The column of a database's table that grows whenever a row changes: a unit whose number of rows and largest
        /// value here are as they were is not read again.
        pub changed_column: Option<At<String>>,
        /// How a unit that is as it was is recognized without reading it. Default `"auto"`.
        pub probe: Option<At<ProbeRule>>,
        /// A query on BigQuery fails without being run, and without being paid, where it would read more than this.
        pub max_bytes: Option<At<ByteSize>>,
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
        /// What a re-pull of this table may take away, over the window's guard.
        pub guard: Option<At<GuardTable>>,
        /// What new rows must satisfy before they replace the old ones.
        pub checks: Option<At<Vec<At<CheckTable>>>>,
    }
}

twin! {
    /// A step that computes rows in the warehouse by a SELECT.
    pub struct TransformTable {
        /// The step's name, unique in the pipeline.
        pub name: Required<String>,
        /// A file that ends in `.sql`, relative to the project, or the SELECT itself. A template either way.
        pub sql: Required<String>,
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
        /// Which upstream units a unit reads, as `"-6d..0d"`; or a table of these by the names inside `ref()`. Default: its own.
        pub reach: Option<At<ReachValue>>,
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

twin! {
    /// One file of `hooks/`: how to talk to one API.
    pub struct HookFile {
        /// Which API this is, in one line.
        pub description: Option<At<String>>,
        /// More about it, in Markdown.
        pub docs: Option<At<String>>,
        /// Where the API or this hook is at home.
        pub homepage: Option<At<String>>,
        /// The license of this file, as SPDX writes it.
        pub license: Option<At<String>>,
        /// The version of this file.
        pub version: Option<At<String>>,
        /// What a step may set by `with`, by name; templates here see it as `{{ param.name }}`.
        pub parameters: Option<At<Entries<ParameterTable>>>,
        /// The connection that says where, and who we are; a step may name another.
        pub connection: Option<At<String>>,
        /// What every request has; a step's own parameters are laid over these.
        pub request: Option<At<RequestTable>>,
        /// How the answer is divided into pages.
        pub paginate: Option<At<PaginateTable>>,
        /// JSONPath of the rows in a page.
        pub records: Option<At<JsonPathText>>,
        /// How we say who we are: `"none"`, `"basic"`, `"bearer"`, `{ header = "X-Api-Key" }` or `{ query = "key" }`.
        pub auth: Option<At<AuthValue>>,
        /// How often and how patiently a request is tried again.
        pub retry: Option<At<RetryTable>>,
        /// Declared types by the source's names.
        pub columns: Option<At<Entries<ColumnType>>>,
        /// What columns mean, by the source's names.
        pub column_docs: Option<At<Entries<String>>>,
        /// How nested values land.
        pub nested: Option<At<Nested>>,
        /// How the source's names become column names.
        pub naming: Option<At<Naming>>,
        /// The member of a row that has its own time, with dots between levels.
        pub time_column: Option<At<String>>,
        /// How that time is written.
        pub time_format: Option<At<TimeFormat>>,
        /// The parts of an API, by name; each is laid over what stands above. A step says which: `resource = "ratings"`.
        pub resources: Option<At<Entries<ResourceTable>>>,
        /// What the hook does with recorded answers; `haul hooks test` tries it without a network.
        pub test: Option<At<Vec<At<HookTestTable>>>>,
    }
}

twin! {
    /// One part of an API: what it has besides what the whole hook says.
    pub struct ResourceTable {
        /// What it has, in one line.
        pub description: Option<At<String>>,
        /// The connection, where it is another one.
        pub connection: Option<At<String>>,
        /// What every request of it has.
        pub request: Option<At<RequestTable>>,
        /// How the answer is divided into pages.
        pub paginate: Option<At<PaginateTable>>,
        /// JSONPath of the rows in a page.
        pub records: Option<At<JsonPathText>>,
        /// How we say who we are.
        pub auth: Option<At<AuthValue>>,
        /// How often and how patiently a request is tried again.
        pub retry: Option<At<RetryTable>>,
        /// Declared types by the source's names.
        pub columns: Option<At<Entries<ColumnType>>>,
        /// How nested values land.
        pub nested: Option<At<Nested>>,
        /// How the source's names become column names.
        pub naming: Option<At<Naming>>,
        /// The member of a row that has its own time, with dots between levels.
        pub time_column: Option<At<String>>,
        /// How that time is written.
        pub time_format: Option<At<TimeFormat>>,
    }
}

twin! {
    /// A parameter of a hook.
    pub struct ParameterTable {
        /// What its values are.
        pub r#type: Required<ParameterType>,
        /// The value where a step says nothing. Without one every step has to say something.
        pub default: Option<At<serde_json::Value>>,
        /// Whether every step has to give a value. Default: where there is no `default`.
        pub required: Option<At<bool>>,
        /// The values that are allowed, where they are few.
        pub choices: Option<At<Vec<At<serde_json::Value>>>>,
        /// What it is for.
        pub doc: Option<At<String>>,
    }
}

twin! {
    /// One test of a hook: what a step would say, and what then has to come.
    pub struct HookTestTable {
        /// The test's name.
        pub name: Required<String>,
        /// Which part of the API.
        pub resource: Option<At<String>>,
        /// Values for the hook's parameters.
        pub with: Option<At<Entries<serde_json::Value>>>,
        /// What a step would say of the request.
        pub request: Option<At<RequestTable>>,
        /// The logical date: the unit is the day before it. Default 2000-01-02.
        pub date: Option<At<Date>>,
        /// The instant at which the clock stands still. Default: the logical date's midnight, UTC.
        pub now: Option<At<Moment>>,
        /// The answers, where they are few and short; by default those of `hooks/<name>.cassette.jsonl`.
        pub answers: Option<At<Vec<At<AnswerTable>>>>,
        /// What has to come.
        pub expect: Required<HookExpectTable>,
    }
}

twin! {
    /// An answer that an API gave.
    pub struct AnswerTable {
        /// The method of the request. Default `GET`.
        pub method: Option<At<MethodWord>>,
        /// The path of the request, behind the connection's address.
        pub path: Option<At<String>>,
        /// The parameters of the request's query, all of them.
        pub params: Option<At<Entries<Texts>>>,
        /// The status of the answer. Default 200.
        pub status: Option<At<u64>>,
        /// Headers of the answer.
        pub headers: Option<At<Entries<String>>>,
        /// The answer's body as a table, or as a text.
        pub body: Option<At<serde_json::Value>>,
    }
}

twin! {
    /// What a hook's test expects.
    pub struct HookExpectTable {
        /// How many rows come.
        pub rows: Option<At<u64>>,
        /// In how many pages.
        pub pages: Option<At<u64>>,
        /// The first rows, in their order; members that are not named may have any value.
        pub first: Option<At<Vec<At<Entries<serde_json::Value>>>>>,
        /// A text of the error that has to come instead.
        pub fails: Option<At<String>>,
    }
}
