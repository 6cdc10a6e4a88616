//! Types, columns and tables as a warehouse has them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::shape::Seen;

/// The type of a column, in the terms that all warehouses share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogicalType {
    /// True or false.
    Boolean,
    /// A whole number of 64 bits.
    BigInt,
    /// A whole number of 128 bits.
    HugeInt,
    /// A decimal number that keeps all its digits.
    Decimal {
        /// All digits, at most 38.
        precision: u8,
        /// The digits behind the point.
        scale: u8,
    },
    /// A binary floating-point number of 64 bits.
    Double,
    /// A calendar date.
    Date,
    /// An instant, stored in UTC, or a wall-clock time without a zone.
    Timestamp,
    /// A time of day.
    Time,
    /// Text.
    Text,
    /// Bytes.
    Blob,
    /// A JSON value as it came.
    Json,
    /// A record of named fields.
    Struct(Vec<Column>),
    /// A list of values of one type.
    List(Box<LogicalType>),
    /// A type of the warehouse's own that haul only passes on.
    Other(String),
}

/// A column of a table, or a field of a struct.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// The column's name in the warehouse.
    pub name: String,
    /// Its type.
    pub data_type: LogicalType,
}

/// The columns of a table in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// The columns in their order.
    pub columns: Vec<Column>,
}

impl TableSchema {
    /// The column of this name; names differ by more than case.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }
}

/// A column as its source declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceColumn {
    /// The member of the rows.
    pub name: String,
    /// Its type; none where the values have to tell.
    pub data_type: Option<LogicalType>,
}

/// One change that a table needs before new rows fit it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaChange {
    /// The table does not exist yet.
    Create,
    /// A column that the table does not have.
    Add(Column),
    /// A column, with its new type, which holds every value of its old one.
    Widen(Column),
}

/// A column of staged rows: the member of the source, the column that it becomes, and how it must be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedColumn {
    /// The member of the JSON rows.
    pub source: String,
    /// The column.
    pub column: Column,
    /// How the warehouse must read the member.
    pub reading: Reading,
    /// What its values were; nothing where they were computed and not staged.
    pub seen: Seen,
}

/// How a warehouse must read a member of JSON rows so that nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As the column's type.
    Direct,
    /// As text, cast afterwards.
    Text,
    /// As text with an offset, brought to UTC: a direct cast would drop the offset silently.
    OffsetTimestamp,
}

/// What becomes of new rows' columns in a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// What the table needs first.
    pub changes: Vec<SchemaChange>,
    /// The columns that are loaded, with the types that the table has then.
    pub kept: Vec<StagedColumn>,
    /// The columns that the contract leaves out.
    pub left_out: Vec<String>,
}

/// What happens when rows bring columns or types that the table does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contract {
    /// The table follows: new columns are added, types are widened.
    #[default]
    Evolve,
    /// The load is refused.
    Freeze,
    /// New columns are left out, and said so.
    Discard,
}

impl fmt::Display for LogicalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::HugeInt => f.write_str("HUGEINT"),
            Self::Decimal { precision, scale } => write!(f, "DECIMAL({precision},{scale})"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Date => f.write_str("DATE"),
            Self::Timestamp => f.write_str("TIMESTAMP"),
            Self::Time => f.write_str("TIME"),
            Self::Text => f.write_str("VARCHAR"),
            Self::Blob => f.write_str("BLOB"),
            Self::Json => f.write_str("JSON"),
            Self::Struct(fields) => {
                f.write_str("STRUCT(")?;
                for (index, field) in fields.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "\"{}\" {}", field.name.replace('"', "\"\""), field.data_type)?;
                }
                f.write_str(")")
            }
            Self::List(element) => write!(f, "{element}[]"),
            Self::Other(name) => f.write_str(name),
        }
    }
}
