//! Tables: where they are, which columns they have, and when they last changed.

use std::fmt;

use serde::{Deserialize, Deserializer};

use super::{BigQuery, Caller, Refused};
use crate::error::{Error, Result};
use crate::model::schema::{Column, LogicalType};

/// A table of a dataset of a project.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableId {
    /// The project.
    pub project: String,
    /// The dataset.
    pub dataset: String,
    /// The table; of date shards with the date.
    pub table: String,
}

impl TableId {
    /// Reads `dataset.table` or `project.dataset.table`; backticks around it mean nothing.
    ///
    /// # Errors
    /// Fewer parts than two, or an empty one.
    pub fn parse(text: &str, project: &str) -> Result<Self> {
        let plain = text.trim().trim_matches('`');
        // A project may have a domain before it: `example.com:project.dataset.table`.
        let mut parts = plain.rsplitn(3, '.');
        match (parts.next(), parts.next(), parts.next().unwrap_or(project)) {
            (Some(table), Some(dataset), project) if ![table, dataset, project].iter().any(|part| part.is_empty()) => {
                Ok(Self { project: project.to_owned(), dataset: dataset.to_owned(), table: table.to_owned() })
            }
            _ => Err(Error::config(format!("`{text}` names no table")).hint("dataset.table, or project.dataset.table")),
        }
    }

    /// Another table of the same dataset.
    #[must_use]
    pub fn sibling(&self, table: impl Into<String>) -> Self {
        Self { table: table.into(), ..self.clone() }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.project, self.dataset, self.table)
    }
}

/// Whether a field has one value, must have one, or has a list of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// One, or null.
    #[default]
    Nullable,
    /// One.
    Required,
    /// A list; never null.
    Repeated,
}

/// The types by which a value has to be read in different ways; all others are texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    Number,
    Boolean,
    Timestamp,
    Json,
    Record,
    Text,
}

/// A column, or a field of a record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire")]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type as BigQuery names it: `INTEGER`, `RECORD`; also those that came later.
    pub type_name: String,
    /// How many values it has.
    pub mode: Mode,
    /// The fields of a record.
    pub fields: Vec<Self>,
    digits: Option<(u8, u8)>,
    pub(super) form: Form,
    /// The name as a member of JSON, with its quotes and the colon.
    pub(super) key: String,
}

#[derive(Deserialize)]
struct Wire {
    name: String,
    r#type: String,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    fields: Vec<Field>,
    #[serde(default, deserialize_with = "whole")]
    precision: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    scale: Option<u64>,
}

impl From<Wire> for Field {
    fn from(wire: Wire) -> Self {
        let form = match wire.r#type.as_str() {
            "INTEGER" | "INT64" => Form::Whole,
            "FLOAT" | "FLOAT64" | "NUMERIC" | "BIGNUMERIC" => Form::Number,
            "BOOLEAN" | "BOOL" => Form::Boolean,
            "TIMESTAMP" => Form::Timestamp,
            "JSON" => Form::Json,
            "RECORD" | "STRUCT" => Form::Record,
            _ => Form::Text,
        };
        let small = |number: u64| u8::try_from(number).ok();
        let digits = wire.precision.and_then(|all| Some((small(all)?, small(wire.scale.unwrap_or(0))?)));
        let key = format!("{}:", serde_json::Value::from(wire.name.as_str()));
        Self { name: wire.name, type_name: wire.r#type, mode: wire.mode, fields: wire.fields, digits, form, key }
    }
}

impl Field {
    /// Its type in the terms that all warehouses share; records and lists become what they are.
    ///
    /// What no warehouse has in common, such as GEOGRAPHY, RANGE, INTERVAL, bytes in base64 and decimals of 76 digits, is text.
    pub fn logical_type(&self) -> LogicalType {
        let one = if self.form == Form::Record {
            let column = |field: &Self| Column { name: field.name.clone(), data_type: field.logical_type() };
            LogicalType::Struct(self.fields.iter().map(column).collect())
        } else {
            self.plain_type()
        };
        if self.mode == Mode::Repeated { LogicalType::List(Box::new(one)) } else { one }
    }

    fn plain_type(&self) -> LogicalType {
        match self.type_name.as_str() {
            "INTEGER" | "INT64" => LogicalType::BigInt,
            "FLOAT" | "FLOAT64" => LogicalType::Double,
            "BOOLEAN" | "BOOL" => LogicalType::Boolean,
            "NUMERIC" | "BIGNUMERIC" => match (self.digits, self.type_name.as_str()) {
                (Some((precision @ 1..=38, scale)), _) => LogicalType::Decimal { precision, scale },
                (None, "NUMERIC") => LogicalType::Decimal { precision: 38, scale: 9 },
                _ => LogicalType::Text,
            },
            "TIMESTAMP" | "DATETIME" => LogicalType::Timestamp,
            "DATE" => LogicalType::Date,
            "TIME" => LogicalType::Time,
            "JSON" => LogicalType::Json,
            _ => LogicalType::Text,
        }
    }
}

/// The columns of a table or of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Schema {
    /// The columns in their order.
    #[serde(default)]
    pub fields: Vec<Field>,
}

/// What a table tells of itself (tables.get).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Its columns.
    #[serde(default)]
    pub schema: Schema,
    /// `TABLE`, `VIEW`, `EXTERNAL`, `MATERIALIZED_VIEW` or `SNAPSHOT`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// When it last changed, in milliseconds since 1970 in UTC.
    #[serde(default, deserialize_with = "whole")]
    pub last_modified_time: Option<u64>,
    /// When it was made, in milliseconds since 1970 in UTC.
    #[serde(default, deserialize_with = "whole")]
    pub creation_time: Option<u64>,
    /// How it is divided by time, where it is.
    #[serde(default)]
    pub time_partitioning: Option<TimePartitioning>,
    /// Whether a statement has to say which partitions it reads.
    #[serde(default)]
    pub require_partition_filter: Option<bool>,
    /// Its rows, without those in the streaming buffer.
    #[serde(default, deserialize_with = "whole")]
    pub num_rows: Option<u64>,
    /// Its bytes, without those in the streaming buffer.
    #[serde(default, deserialize_with = "whole")]
    pub num_bytes: Option<u64>,
    /// Rows that were streamed in and are not part of the table yet.
    #[serde(default)]
    pub streaming_buffer: Option<StreamingBuffer>,
}

/// How a table is divided by time.
#[derive(Debug, Clone, Deserialize)]
pub struct TimePartitioning {
    /// `HOUR`, `DAY`, `MONTH` or `YEAR`.
    #[serde(default, rename = "type")]
    pub every: String,
    /// The column that tells a row's partition; none for the time of its arrival.
    #[serde(default)]
    pub field: Option<String>,
}

/// Rows that were streamed in and are not part of the table yet.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamingBuffer {
    /// At least so many.
    #[serde(default, deserialize_with = "whole")]
    pub estimated_rows: Option<u64>,
}

impl Table {
    /// Whether its rows can be listed without a query.
    pub fn is_stored(&self) -> bool {
        matches!(self.kind.as_str(), "" | "TABLE" | "SNAPSHOT")
    }

    /// What changes whenever its rows do: time of the last change, rows and bytes.
    ///
    /// None where it cannot tell: a view's rows change without it, and rows in the streaming buffer are counted late.
    pub fn version(&self) -> Option<String> {
        if !self.is_stored() || self.streaming_buffer.is_some() {
            return None;
        }
        let (time, rows, bytes) = (self.last_modified_time?, self.num_rows?, self.num_bytes?);
        Some(format!("modified {time}, {rows} rows, {bytes} bytes"))
    }
}

/// Whole numbers are texts on the wire, and an emulator may write them as numbers.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok())))
}

impl BigQuery {
    /// What a table tells of itself; free of charge (tables.get).
    ///
    /// # Errors
    /// [`super::Why::NotFound`] where there is none.
    pub async fn table(&self, table: &TableId, caller: &Caller<'_>) -> Result<Table, Refused> {
        let path = [&table.project, "datasets", &table.dataset, "tables", &table.table];
        let body = self.get(caller, &path, &[]).await?;
        serde_json::from_slice(&body).map_err(|error| Refused::strange(format!("what {table} tells of itself"), error))
    }

    /// The names of the tables beside one (tables.list), as many as are listed in reasonable time.
    ///
    /// # Errors
    /// [`super::Why::NotFound`] where there is no such dataset.
    pub async fn siblings(&self, table: &TableId, caller: &Caller<'_>) -> Result<Siblings, Refused> {
        let mut siblings = Siblings { names: Vec::new(), all: false };
        let mut token: Option<String> = None;
        for _ in 0..MOST_LISTS {
            let mut query = vec![("maxResults", "1000".to_owned())];
            query.extend(token.take().map(|token| ("pageToken", token)));
            let body = self.get(caller, &[&table.project, "datasets", &table.dataset, "tables"], &query).await?;
            let listed: Tables =
                serde_json::from_slice(&body).map_err(|error| Refused::strange("the list of tables", error))?;
            siblings.names.extend(listed.tables.into_iter().map(|one| one.table_reference.table_id));
            token = listed.next_page_token.filter(|token| !token.is_empty());
            if token.is_none() {
                siblings.all = true;
                break;
            }
        }
        Ok(siblings)
    }
}

/// So many lists of a thousand names are asked for.
const MOST_LISTS: usize = 10;

/// What is wanted of datasets.list.
#[derive(Deserialize)]
pub(super) struct Datasets {
    #[serde(default)]
    datasets: Vec<ListedDataset>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedDataset {
    dataset_reference: DatasetReference,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DatasetReference {
    dataset_id: String,
}

impl Datasets {
    pub(super) fn names(self) -> Vec<String> {
        self.datasets.into_iter().map(|one| one.dataset_reference.dataset_id).collect()
    }
}

/// What is wanted of tables.list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tables {
    #[serde(default)]
    tables: Vec<ListedTable>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedTable {
    table_reference: TableReference,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TableReference {
    table_id: String,
}

/// The tables of a dataset.
#[derive(Debug, Clone)]
pub struct Siblings {
    /// Their names.
    pub names: Vec<String>,
    /// Whether these are all.
    pub all: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_by_two_or_three_parts() {
        let shown =
            |text: &str| TableId::parse(text, "mine").map(|id| id.to_string()).map_err(|error| error.to_string());
        assert_eq!(shown("a.b").as_deref(), Ok("mine.a.b"));
        assert_eq!(shown("`their-project.a.b`").as_deref(), Ok("their-project.a.b"));
        assert_eq!(shown("example.com:p.a.b").as_deref(), Ok("example.com:p.a.b"));
        assert!(shown("b").is_err() && shown("a.").is_err() && shown(".a.b").is_err());
    }
}
