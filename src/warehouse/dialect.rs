//! How a warehouse writes names, values and types: what differs between vendors, as data.

use crate::error::{Error, Kind, Result};
use crate::model::connection::{Connection, ConnectionKind};
use crate::model::name::TableName;

/// How a warehouse writes names and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// The name that screens use.
    pub name: &'static str,
    /// What stands around a name.
    pub quote: char,
}

/// DuckDB's way.
pub(super) const DUCKDB: Dialect = Dialect { name: "duckdb", quote: '"' };

impl Dialect {
    /// The dialect behind a connection, without opening it.
    pub fn of(connection: &Connection) -> Result<Self> {
        match &connection.kind {
            ConnectionKind::DuckDb(_) => Ok(DUCKDB),
            kind => Err(no_warehouse(&connection.name, kind)),
        }
    }

    /// A quoted name.
    pub fn ident(&self, name: &str) -> String {
        let quote = self.quote;
        format!("{quote}{}{quote}", name.replace(quote, &format!("{quote}{quote}")))
    }

    /// A quoted table.
    pub fn relation(&self, table: &TableName) -> String {
        format!("{}.{}", self.ident(&table.schema), self.ident(&table.name))
    }

    /// A quoted text.
    pub fn literal(&self, text: &str) -> String {
        format!("'{}'", text.replace('\'', "''"))
    }
}

pub(super) fn no_warehouse(name: &str, kind: &ConnectionKind) -> Error {
    Error::new(Kind::Config, format!("the connection `{name}` has type {kind}, which is no warehouse in this release"))
        .hint("a warehouse has type \"duckdb\"; BigQuery and PostgreSQL follow")
}
