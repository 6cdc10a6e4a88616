//! Load steps: where rows lie, where they go, and how they become a table there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::{TableName, Text};
use super::pipeline::{Extract, Read};

/// A load step: rows of one connection that are brought into another.
#[derive(Debug, Clone)]
pub struct Load {
    /// The steps whose rows it reads; found by their names, or by the tables that they write, once all steps are known.
    pub reads: Vec<Read>,
    /// Whether the rows of a unit are those that the one step it reads has written for this unit.
    pub by_unit: bool,
    /// Which rows, and how they become a table, as an extract says it.
    ///
    /// What its source calls a table may turn out to be a collection, or files: the connection's type tells.
    pub rows: Extract,
    /// Where the rows go, if not into the pipeline's warehouse.
    pub target: Option<Target>,
}

/// A place outside of the pipeline's warehouse that rows are brought to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The connection.
    pub connection: String,
    /// The table or the collection there; of files the path, a template.
    pub into: Text,
    /// How files are written; none of tables and collections.
    pub files: Option<FileForm>,
}

impl Target {
    /// The name by which the ledger tells it from all others: the connection's name stands in front.
    ///
    /// Of a template, what is rendered stands as `{ds}`.
    pub fn ledger_name(connection: &str, into: &str) -> TableName {
        let mut name = String::with_capacity(into.len());
        let mut rest = into;
        while let Some((before, inside)) = rest.split_once("{{") {
            let (expression, after) = inside.split_once("}}").unwrap_or((inside, ""));
            name.push_str(before);
            name.push('{');
            name.push_str(expression.trim());
            name.push('}');
            rest = after;
        }
        name.push_str(rest);
        TableName { schema: connection.to_owned(), name }
    }
}

/// How files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileForm {
    /// The format.
    pub format: WrittenFormat,
    /// How they are compressed.
    pub compression: Compression,
    /// A unit's rows go on in another file once one has about so many bytes.
    pub max_bytes: u64,
}

impl FileForm {
    /// The largest file where nothing else is said.
    pub const MAX_BYTES: u64 = 64 << 20;
}

/// The formats that files are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WrittenFormat {
    /// Apache Parquet.
    Parquet,
    /// Text with commas, its first line the names of the columns.
    Csv,
    /// An object of JSON on each line.
    Jsonl,
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
    /// By zstd.
    Zstd,
    /// By snappy; of Parquet alone.
    Snappy,
}

impl Compression {
    /// The word that stands behind `compression =`.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_tells_places_apart_by_their_connections() {
        let name = |into: &str| Target::ledger_name("lake", into).to_string();
        assert_eq!(name("public.ranking"), "lake.public.ranking");
        assert_eq!(
            name("exports/dt={{ ds }}/{{unit.start | strftime('%H')}}.csv"),
            "lake.exports/dt={ds}/{unit.start | strftime('%H')}.csv"
        );
        let stored = TableName::stored(&name("exports/dt={{ ds }}.csv"));
        assert_eq!(stored, Target::ledger_name("lake", "exports/dt={{ ds }}.csv"));
    }
}
