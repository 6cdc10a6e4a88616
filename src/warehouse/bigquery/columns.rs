//! Columns as BigQuery has them: from the types that all warehouses share, and back.

use serde_json::{Value, json};

use crate::bigquery::{Field, Mode, Schema};
use crate::error::{Error, Kind, Result};
use crate::model::infer::OWN;
use crate::model::schema::{Column, LogicalType, StagedColumn, TableSchema};
use crate::time::Grain;

/// What no name of a column may have in it ("Column names" of the schema documentation).
const FORBIDDEN: &str = "!\"$()*,./;?@[\\]^`{}~";

/// A name may not be longer.
const LONGEST_NAME: usize = 300;

/// The type that a column gets: a list of lists and a record without fields, which BigQuery does not have, are JSON.
pub(super) fn storable(data_type: &LogicalType) -> LogicalType {
    match data_type {
        LogicalType::List(element) => match storable(element) {
            LogicalType::List(_) => LogicalType::Json,
            element => LogicalType::List(Box::new(element)),
        },
        LogicalType::Struct(fields) if fields.is_empty() => LogicalType::Json,
        LogicalType::Struct(fields) => LogicalType::Struct(
            fields
                .iter()
                .map(|field| Column { name: field.name.clone(), data_type: storable(&field.data_type) })
                .collect(),
        ),
        other => other.clone(),
    }
}

/// The columns of staged rows with types that BigQuery has.
pub(super) fn storables(columns: &[StagedColumn]) -> Vec<StagedColumn> {
    let fitted = |staged: &StagedColumn| StagedColumn {
        column: Column { name: staged.column.name.clone(), data_type: storable(&staged.column.data_type) },
        ..staged.clone()
    };
    columns.iter().map(fitted).collect()
}

/// A column as tables.insert takes it (REST reference, "TableFieldSchema").
///
/// # Errors
/// A name that BigQuery does not take.
pub(super) fn field(column: &Column) -> Result<Value> {
    let name = &column.name;
    if name.is_empty() || name.len() > LONGEST_NAME || name.contains(|c| FORBIDDEN.contains(c)) {
        return Err(Error::new(Kind::Data, format!("BigQuery takes no column of the name `{name}`"))
            .hint("naming = \"snake\" makes names of letters, digits and underscores"));
    }
    let (data_type, mode) = match &column.data_type {
        LogicalType::List(element) => (&**element, "REPEATED"),
        other => (other, "NULLABLE"),
    };
    let mut field = json!({ "name": name, "type": word(data_type), "mode": mode });
    match data_type {
        LogicalType::HugeInt => field["precision"] = json!("38"),
        LogicalType::Decimal { precision, scale } => {
            field["precision"] = json!(precision.to_string());
            field["scale"] = json!(scale.to_string());
        }
        LogicalType::Struct(fields) => {
            field["fields"] = fields.iter().map(self::field).collect::<Result<Value>>()?;
        }
        _ => {}
    }
    Ok(field)
}

fn word(data_type: &LogicalType) -> &str {
    match data_type {
        LogicalType::Boolean => "BOOLEAN",
        LogicalType::BigInt => "INTEGER",
        LogicalType::HugeInt => "BIGNUMERIC",
        // NUMERIC has 29 digits before the point and 9 behind it.
        LogicalType::Decimal { precision, scale } if *scale <= 9 && precision - scale <= 29 => "NUMERIC",
        LogicalType::Decimal { .. } => "BIGNUMERIC",
        LogicalType::Double => "FLOAT",
        LogicalType::Date => "DATE",
        LogicalType::Timestamp => "TIMESTAMP",
        LogicalType::Time => "TIME",
        LogicalType::Text => "STRING",
        LogicalType::Blob => "BYTES",
        LogicalType::Json | LogicalType::List(_) => "JSON",
        LogicalType::Struct(_) => "RECORD",
        LogicalType::Other(name) => name,
    }
}

/// The column that tells a row's unit.
pub(super) fn unit_field(grain: Grain) -> Value {
    let data_type = if grain == Grain::Hour { "TIMESTAMP" } else { "DATE" };
    json!({ "name": "_haul_unit", "type": data_type, "mode": "NULLABLE" })
}

/// The column that tells which pull a row is of.
pub(super) fn pull_field() -> Value {
    json!({ "name": "_haul_pull", "type": "INTEGER", "mode": "NULLABLE" })
}

/// The type of a field in the terms that all warehouses share; what they do not have is passed on by its name.
pub(super) fn logical(field: &Field) -> LogicalType {
    let one = match field.type_name.as_str() {
        "RECORD" | "STRUCT" => LogicalType::Struct(
            field.fields.iter().map(|field| Column { name: field.name.clone(), data_type: logical(field) }).collect(),
        ),
        "BYTES" => LogicalType::Blob,
        "STRING" => LogicalType::Text,
        // A clock's time without a zone is not an instant.
        "DATETIME" => LogicalType::Other("DATETIME".to_owned()),
        name => match (name, scalar(field)) {
            ("BIGNUMERIC", LogicalType::Decimal { precision: 38, scale: 0 }) => LogicalType::HugeInt,
            (_, LogicalType::Text) => LogicalType::Other(name.to_owned()),
            (_, known) => known,
        },
    };
    if field.mode == Mode::Repeated { LogicalType::List(Box::new(one)) } else { one }
}

/// The type of one value of a field.
fn scalar(field: &Field) -> LogicalType {
    match field.logical_type() {
        LogicalType::List(element) => *element,
        one => one,
    }
}

/// The columns of a table without haul's own.
pub(super) fn described(schema: &Schema) -> TableSchema {
    let own = |field: &&Field| !field.name.to_ascii_lowercase().starts_with(OWN);
    let column = |field: &Field| Column { name: field.name.clone(), data_type: logical(field) };
    TableSchema { columns: schema.fields.iter().filter(own).map(column).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(text: &str) -> LogicalType {
        let data_type = storable(&LogicalType::parse(text).expect(text));
        let field: Field =
            serde_json::from_value(field(&Column { name: "c".to_owned(), data_type }).expect(text)).expect(text);
        logical(&field)
    }

    #[test]
    fn a_type_is_known_again_in_the_table_that_was_made_of_it() {
        for text in [
            "BOOLEAN",
            "BIGINT",
            "HUGEINT",
            "DOUBLE",
            "DATE",
            "TIMESTAMP",
            "TIME",
            "VARCHAR",
            "BLOB",
            "JSON",
            "DECIMAL(18,4)",
            "DECIMAL(38,9)",
            "DECIMAL(37,19)",
            "DECIMAL(38,38)",
            "BIGINT[]",
            "STRUCT(\"a\" BIGINT, \"b\" VARCHAR[])[]",
        ] {
            assert_eq!(there_and_back(text).to_string(), text);
        }
        assert_eq!(there_and_back("BIGINT[][]"), LogicalType::Json);
    }

    #[test]
    fn a_name_that_bigquery_does_not_take_is_refused() {
        let column = |name: &str| Column { name: name.to_owned(), data_type: LogicalType::Text };
        assert!(field(&column("größe in m")).is_ok());
        for name in ["", "a.b", "a`b", "a\"b"] {
            assert!(field(&column(name)).is_err(), "{name}");
        }
    }
}
