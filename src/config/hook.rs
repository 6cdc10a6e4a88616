//! What a hook or an extract step says of an API, validated, and how a step's words are laid over its hook's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Source};
use super::file::{ExtractTable, HookFile};
use super::reader::{At, Reader};
use super::request::{RequestParts, paginate, retry};
use super::scalar::Entries;
use super::value::ColumnType;
use crate::model::hook::{AuthStyle, Paginate, RetryPolicy};
use crate::model::pipeline::{Naming, Nested, TimeFormat};
use crate::model::schema::LogicalType;

/// What one file says of an API; everything may be left to the other.
#[derive(Debug, Clone, Default)]
pub struct ApiParts {
    /// The connection.
    pub connection: Option<String>,
    /// The request.
    pub request: RequestParts,
    /// The pages.
    pub paginate: Option<Paginate>,
    /// JSONPath of the rows.
    pub records: Option<String>,
    /// How we say who we are.
    pub auth: Option<AuthStyle>,
    /// How often a request is tried again.
    pub retry: Option<RetryPolicy>,
    /// Declared types.
    pub columns: BTreeMap<String, LogicalType>,
    /// How nested values land.
    pub nested: Option<Nested>,
    /// How names become column names.
    pub naming: Option<Naming>,
    /// The member that has a row's own time.
    pub time_column: Option<String>,
    /// How that time is written.
    pub time_format: Option<TimeFormat>,
}

/// A hook with the place of its connection.
#[derive(Debug)]
pub struct Hook {
    /// What it says.
    pub parts: ApiParts,
    /// The connection that it names.
    pub connection: Option<At<String>>,
}

macro_rules! api_parts {
    ($table:expr, $reader:expr) => {{
        let (table, reader) = ($table, $reader);
        ApiParts {
            connection: table.connection.as_ref().map(|at| at.value.clone()),
            request: table
                .request
                .as_ref()
                .map_or_else(RequestParts::default, |at| RequestParts::new(&at.value, reader)),
            paginate: table.paginate.as_ref().and_then(|at| paginate(at, reader)),
            records: table.records.as_ref().map(|at| at.value.0.clone()),
            auth: table.auth.as_ref().map(|at| at.value.0.clone()),
            retry: table.retry.as_ref().map(|at| retry(at, reader)),
            columns: columns(table.columns.as_ref()),
            nested: table.nested.as_ref().map(|at| at.value),
            naming: table.naming.as_ref().map(|at| at.value),
            time_column: table.time_column.as_ref().map(|at| at.value.clone()),
            time_format: table.time_format.as_ref().map(|at| at.value),
        }
    }};
}

impl ApiParts {
    /// What an extract step says.
    pub fn of_step(table: &ExtractTable, reader: &mut Reader) -> Self {
        api_parts!(table, reader)
    }

    /// Lays these parts over those of a hook.
    #[must_use]
    pub fn over(self, hook: &Self) -> Self {
        let mut columns = hook.columns.clone();
        columns.extend(self.columns);
        Self {
            connection: self.connection.or_else(|| hook.connection.clone()),
            request: self.request.over(&hook.request),
            paginate: self.paginate.or_else(|| hook.paginate.clone()),
            records: self.records.or_else(|| hook.records.clone()),
            auth: self.auth.or_else(|| hook.auth.clone()),
            retry: self.retry.or(hook.retry),
            columns,
            nested: self.nested.or(hook.nested),
            naming: self.naming.or(hook.naming),
            time_column: self.time_column.or_else(|| hook.time_column.clone()),
            time_format: self.time_format.or(hook.time_format),
        }
    }
}

/// Reads a file of `hooks/`.
pub fn read_hook(source: &Arc<Source>) -> (Hook, Vec<Diagnostic>) {
    let mut reader = Reader::new(source.clone());
    let (file, _): (HookFile, bool) = reader.read_file();
    let parts = api_parts!(&file, &mut reader);
    (Hook { parts, connection: file.connection }, reader.diagnostics)
}

/// The declared types of columns.
pub fn columns(entries: Option<&At<Entries<ColumnType>>>) -> BTreeMap<String, LogicalType> {
    let entries = entries.map_or(&[][..], |entries| &entries.value.0);
    entries.iter().map(|(name, data_type)| (name.value.clone(), data_type.value.0.clone())).collect()
}
