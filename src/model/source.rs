//! Sources: what an extract step asks a system for, as its author wrote it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fanout::{ForEach, MaxFailed, StepLimits};
use super::files::FilesSource;
use super::hook::{AuthStyle, Paginate, RequestTemplate, RetryPolicy};
use super::name::Text;

/// What an extract step asks its connection for.
#[derive(Debug, Clone)]
pub enum Source {
    /// Requests to an API.
    Http(Box<HttpSource>),
    /// Files of a folder, a bucket or a web server.
    Files(Box<FilesSource>),
    /// Rows of a database.
    Table(Box<TableSource>),
}

impl Source {
    /// Over what it sends a request each, if it does.
    pub fn for_each(&self) -> Option<&ForEach> {
        match self {
            Self::Http(http) => http.for_each.as_ref(),
            Self::Files(_) | Self::Table(_) => None,
        }
    }

    /// The same, to be completed.
    pub fn for_each_mut(&mut self) -> Option<&mut ForEach> {
        match self {
            Self::Http(http) => http.for_each.as_mut(),
            Self::Files(_) | Self::Table(_) => None,
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
    /// JSONPath of the rows in a page; templates are not rendered in it.
    pub records: String,
    /// How often a request is tried again.
    pub retry: RetryPolicy,
    /// How hard this step may press; one for all clones of the step.
    pub limits: Arc<StepLimits>,
    /// Over what it sends a request each; without it there is one sequence of requests.
    pub for_each: Option<ForEach>,
    /// How many of those requests may fail.
    pub max_failed: MaxFailed,
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
    /// A query fails without being run where it would read more bytes; BigQuery bills by them.
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
