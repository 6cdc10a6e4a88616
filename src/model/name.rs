//! Names of tables, and pieces of text that remember where they were written.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Error, Result};

/// A table of a warehouse: `schema.name`; the schema is a dataset on BigQuery.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct TableName {
    /// The schema, or dataset.
    pub schema: String,
    /// The table in it.
    pub name: String,
}

impl TableName {
    /// Reads `schema.name`; without a schema the table lies in `main`.
    ///
    /// # Errors
    /// An empty part, or more than two parts.
    pub fn parse(text: &str) -> Result<Self> {
        let (schema, name) = text.split_once('.').unwrap_or(("main", text));
        let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        if !plain(schema) || !plain(name) {
            return Err(Error::config(format!("`{text}` is not a table name"))
                .hint("a table is named `schema.table`, with letters, digits and underscores"));
        }
        Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
    }
}

impl TableName {
    /// Reads a name as the ledger has stored it, where what stands behind the first dot may be more than a table's name:
    /// that of a table, a collection or of files elsewhere.
    pub fn stored(text: &str) -> Self {
        let (schema, name) = text.split_once('.').unwrap_or(("main", text));
        Self { schema: schema.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.schema, self.name))
    }
}

/// Where a piece of text begins: file, and its first line and column, counted from one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file, relative to the project's root.
    pub file: Arc<PathBuf>,
    /// The line of the first character, from 1.
    pub line: usize,
    /// The column of the first character, in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A template as its author wrote it, with the place where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Text {
    /// The template's source.
    pub text: Arc<str>,
    /// Where it was written.
    pub origin: Origin,
}

impl Text {
    /// A text that begins at `origin`.
    pub fn new(text: impl Into<Arc<str>>, origin: Origin) -> Self {
        Self { text: text.into(), origin }
    }

    /// Whether anything in it has to be rendered.
    pub fn is_template(&self) -> bool {
        self.text.contains("{{") || self.text.contains("{%") || self.text.contains("{#")
    }
}
