//! From the JSON Schema of a stream to the types of its columns.

use serde_json::Value;

use crate::model::schema::{LogicalType, SourceColumn};

/// The columns of a stream in the order of its schema; a type only where the schema leaves no choice.
pub(super) fn columns(schema: &Value) -> Vec<SourceColumn> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let column = |(name, schema): (&String, &Value)| SourceColumn { name: name.clone(), data_type: data_type(schema) };
    properties.into_iter().flatten().map(column).collect()
}

/// The one type of a value; none for several, for nested ones, and for numbers that may have any digits.
fn data_type(schema: &Value) -> Option<LogicalType> {
    if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        let mut choices = choices.iter().filter(|choice| words(choice) != ["null"]);
        let first = data_type(choices.next()?);
        return if choices.next().is_none() { first } else { None };
    }
    let words: Vec<&str> = words(schema).into_iter().filter(|word| *word != "null").collect();
    let [word] = words.as_slice() else { return None };
    Some(match *word {
        "boolean" => LogicalType::Boolean,
        "integer" if fits(schema) => LogicalType::BigInt,
        "integer" => LogicalType::HugeInt,
        "number" => decimal(schema)?,
        "string" => match schema.get("format").and_then(Value::as_str) {
            Some("date-time") => LogicalType::Timestamp,
            Some("date") => LogicalType::Date,
            Some("time") => LogicalType::Time,
            Some("singer.decimal") => return None,
            _ => LogicalType::Text,
        },
        _ => return None,
    })
}

fn words(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Whether whole numbers of this schema have 64 bits.
fn fits(schema: &Value) -> bool {
    let within = |key: &str| schema.get(key).is_none_or(Value::is_i64);
    within("minimum") && within("maximum")
}

/// `multipleOf` tells the digits behind the point: 0.01 has two.
fn decimal(schema: &Value) -> Option<LogicalType> {
    let step = schema.get("multipleOf")?.as_f64()?;
    let scale = (0..=12_u8).find(|scale| (step * 10_f64.powi(i32::from(*scale)) - 1.0).abs() < 1e-6)?;
    Some(LogicalType::Decimal { precision: 38, scale })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_is_told_where_the_schema_leaves_no_choice() {
        let read = |schema: Value| data_type(&schema).map(|read| read.to_string());
        assert_eq!(read(json!({ "type": ["null", "integer"] })).as_deref(), Some("BIGINT"));
        assert_eq!(read(json!({ "type": "integer", "maximum": 1e30 })).as_deref(), Some("HUGEINT"));
        assert_eq!(read(json!({ "type": "number", "multipleOf": 0.01 })).as_deref(), Some("DECIMAL(38,2)"));
        assert_eq!(read(json!({ "type": "number", "multipleOf": 1e-38 })), None);
        assert_eq!(read(json!({ "type": "number" })), None);
        assert_eq!(read(json!({ "type": ["string", "null"], "format": "date-time" })).as_deref(), Some("TIMESTAMP"));
        let either = json!({ "anyOf": [{ "type": "string", "format": "date" }, { "type": "null" }] });
        assert_eq!(read(either).as_deref(), Some("DATE"));
        assert_eq!(read(json!({ "anyOf": [{ "type": "string", "format": "date-time" }, { "type": "string" }] })), None);
        assert_eq!(read(json!({ "type": ["string", "integer"] })), None);
        assert_eq!(read(json!({ "type": "object" })), None);
        assert_eq!(read(json!({})), None);
    }
}
