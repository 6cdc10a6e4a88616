//! Sources: what an extract step asks a system for, as its author wrote it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{AnswerForm, ReportTemplate, Rule};
use super::fanout::{ForEach, MaxFailed, StepLimits};
use super::files::FilesSource;
use super::hook::{AuthStyle, Paginate, RequestTemplate, RetryPolicy};
use super::name::Text;
use super::pipeline::Landing;

/// What an extract step asks its connection for.
#[derive(Debug, Clone)]
pub enum Source {
    /// Requests to an API.
    Http(Box<HttpSource>),
    /// Files of a folder, a bucket or a web server.
    Files(Box<FilesSource>),
    /// Rows of a database.
    Table(Box<TableSource>),
    /// What a program prints.
    Process(Box<ProcessSource>),
    /// Documents of a collection.
    Collection(Box<CollectionSource>),
    /// Rows that another step has landed in a collection.
    Landed(Landing),
}

impl Source {
    /// Over what it sends a request each, if it does.
    pub fn for_each(&self) -> Option<&ForEach> {
        if let Self::Http(http) = self { http.for_each.as_ref() } else { None }
    }

    /// The same, to be completed.
    pub fn for_each_mut(&mut self) -> Option<&mut ForEach> {
        if let Self::Http(http) = self { http.for_each.as_mut() } else { None }
    }

    /// Whether more rows are asked for than the unit has, on purpose: their own times tell which belong to it.
    pub fn asks_widely(&self) -> bool {
        match self {
            Self::Http(_) | Self::Table(_) | Self::Files(_) | Self::Process(_) | Self::Landed(_) => false,
            Self::Collection(source) => source.time.as_ref().is_some_and(|time| time.stored == StoredTime::Iso),
        }
    }
}

/// Requests to an API, of hook and step together.
#[derive(Debug, Clone)]
pub struct HttpSource {
    /// How a key is sent where the connection does not say: `auth` of the hook.
    pub auth: Option<AuthStyle>,
    /// The request.
    pub request: RequestTemplate,
    /// How the answer is divided into pages.
    pub paginate: Paginate,
    /// Where a page has its rows: a JSONPath, or the path of an XML element such as `/feed/entry`; templates are not
    /// rendered in it. Without one it depends on how the answer is written.
    pub records: Option<String>,
    /// How an answer is written.
    pub form: AnswerForm,
    /// What is done with answers that are no rows.
    pub rules: Vec<Rule>,
    /// Whether answers are kept, and sent again only where they have changed.
    pub conditional: bool,
    /// The report that the request creates, where its answer has no rows.
    pub report: Option<ReportTemplate>,
    /// How often a request is tried again.
    pub retry: RetryPolicy,
    /// How hard this step may press; one for all clones of the step.
    pub limits: Arc<StepLimits>,
    /// Over what it sends a request each; without it there is one sequence of requests.
    pub for_each: Option<ForEach>,
    /// How many of those requests may fail.
    pub max_failed: MaxFailed,
}

/// What a program prints, of hook and step together.
#[derive(Debug, Clone)]
pub struct ProcessSource {
    /// The program and its arguments, all of them templates. No shell is between.
    pub command: Vec<Text>,
    /// Variables that it gets besides haul's own.
    pub env: Vec<(String, Text)>,
    /// Variables of haul's environment that it gets as they are.
    pub pass_env: Vec<String>,
    /// The folder that it works in, relative to the project; the project's own when not given.
    pub dir: Option<String>,
    /// How long it may run.
    pub timeout: Duration,
    /// What it speaks.
    pub speaks: Speaks,
}

/// What a program speaks.
#[derive(Debug, Clone)]
pub enum Speaks {
    /// Each line is a row.
    JsonLines,
    /// Singer's messages.
    Singer(TapSource),
}

/// What a Singer tap is asked for.
#[derive(Debug, Clone)]
pub struct TapSource {
    /// Its settings by name, as JSON whose strings are templates; laid over the connection's fields.
    pub config: BTreeMap<String, Text>,
    /// The stream whose records are the rows.
    pub stream: String,
    /// How the stream is replicated; the tap's own way when not given.
    pub replication_method: Option<ReplicationMethod>,
    /// The member by which the tap sees what is new.
    pub replication_key: Option<String>,
    /// A file of the project that is used in place of the catalog that the tap discovers.
    pub catalog: Option<String>,
    /// Whether the tap is asked for its catalog.
    pub discovers: bool,
    /// The argument before the catalog's file.
    pub catalog_argument: String,
    /// Whether the tap gets the state back that it told when its last rows were loaded.
    pub keeps_state: bool,
}

/// How a Singer tap replicates a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationMethod {
    /// All rows every time.
    FullTable,
    /// The rows that are newer than the state.
    Incremental,
    /// What the database's log has behind the state.
    LogBased,
}

impl ReplicationMethod {
    /// The word that stands in a catalog.
    pub fn word(self) -> &'static str {
        match self {
            Self::FullTable => "FULL_TABLE",
            Self::Incremental => "INCREMENTAL",
            Self::LogBased => "LOG_BASED",
        }
    }
}

/// Documents of a collection of a MongoDB database.
#[derive(Debug, Clone)]
pub struct CollectionSource {
    /// The collection's name.
    pub collection: Text,
    /// What is asked of it.
    pub query: CollectionQuery,
    /// The member by which the documents of a unit are found; without one, the same are asked for in every unit.
    pub time: Option<StoredMember>,
    /// How many documents a batch has at the most.
    pub batch_size: u32,
    /// How a unit that is as it was is recognized without reading it.
    pub probe: CollectionProbe,
    /// How often a server that does not answer is asked again.
    pub retry: RetryPolicy,
}

/// How a unit of a collection that is as it was is recognized without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectionProbe {
    /// Not at all: every unit is read.
    Off,
    /// By the count of its documents.
    Count,
    /// By their count and the largest value of this member.
    Newest(String),
}

/// What is asked of a collection, as JSON text whose strings are templates, and whose types extended JSON may tell.
#[derive(Debug, Clone)]
pub enum CollectionQuery {
    /// Documents as they are.
    Find {
        /// The condition.
        filter: Option<Text>,
        /// The members that are wanted.
        projection: Option<Text>,
    },
    /// What an aggregation makes of them: a list of its stages.
    Pipeline(Text),
}

/// A member of documents that has a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMember {
    /// The member, with dots between levels.
    pub path: String,
    /// How it is stored.
    pub stored: StoredTime,
}

/// How a time is stored in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredTime {
    /// In the first four bytes of an ObjectId: when it was made.
    ObjectId,
    /// As a date of BSON.
    Date,
    /// As ISO 8601 text; without an offset it is read in the pipeline's zone.
    Iso,
    /// As a number of seconds since 1970-01-01T00:00:00Z.
    Epoch,
    /// As a number of milliseconds since 1970-01-01T00:00:00Z.
    EpochMs,
}

/// Rows of a database: of one table, of one table for each unit, or of a query.
///
/// Where the step has a `time_column`, the rows are those whose time lies in the unit, or in the window.
#[derive(Debug, Clone)]
pub struct TableSource {
    /// Which rows, before their time is looked at.
    pub rows: TableRows,
    /// The column that grows whenever a row changes, by which the change probe recognizes a unit that is as it was.
    pub changed_column: Option<String>,
    /// How a unit that is as it was is recognized without reading it.
    pub probe: ProbeRule,
    /// How often a connection to the database is tried again.
    pub retry: RetryPolicy,
    /// The most bytes that one statement may be billed for, where the database bills by them, as BigQuery does.
    pub max_bytes: Option<u64>,
}

/// Which rows a table source has.
#[derive(Debug, Clone)]
pub enum TableRows {
    /// All rows of a table.
    Table {
        /// The table's name, as the database writes it with dots between its parts.
        name: Text,
        /// Whether the name has the unit's date in it: each unit has a table of its own, and one that is missing is late.
        sharded: bool,
        /// The table that has a unit's rows until its shard comes.
        intraday: Option<Text>,
    },
    /// The rows of a SELECT that runs at the source.
    Query(Text),
}

impl TableRows {
    /// The templates that are rendered for a unit or a window.
    pub fn texts(&self) -> Vec<&Text> {
        match self {
            Self::Table { name, intraday, .. } => std::iter::once(name).chain(intraday).collect(),
            Self::Query(sql) => vec![sql],
        }
    }
}

/// How a unit that is as it was is recognized without reading it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeRule {
    /// By the count of the rows and the largest value of `changed_column`, or by what the database itself knows of changes;
    /// where there is neither, every unit is read.
    #[default]
    Auto,
    /// By the count of the rows alone: rows that change in their place are not noticed.
    Count,
    /// Not at all: every unit is read.
    Off,
}
