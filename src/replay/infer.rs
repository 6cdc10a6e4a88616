//! The types of given values, where nobody declares them.

use serde_json::{Number, Value};

use crate::model::schema::{Column, LogicalType};

/// The type that holds all of these values; text where there are none.
pub(super) fn infer<'v>(values: impl Iterator<Item = &'v Value>) -> LogicalType {
    let mut found: Option<LogicalType> = None;
    for value in values.filter(|value| !value.is_null()) {
        let own = of(value);
        found = Some(match found {
            None => own,
            Some(known) => together(known, own),
        });
    }
    found.unwrap_or(LogicalType::Text)
}

fn of(value: &Value) -> LogicalType {
    match value {
        Value::Null => LogicalType::Text,
        Value::Bool(_) => LogicalType::Boolean,
        Value::Number(number) if number.is_f64() => LogicalType::Double,
        Value::Number(_) => LogicalType::BigInt,
        Value::String(text) => of_text(text),
        Value::Array(items) if items.iter().all(Value::is_null) => LogicalType::Json,
        Value::Array(items) => LogicalType::List(Box::new(infer(items.iter()))),
        Value::Object(members) if members.is_empty() => LogicalType::Json,
        Value::Object(members) => {
            let field = |(name, value): (&String, &Value)| Column { name: name.clone(), data_type: of(value) };
            LogicalType::Struct(members.iter().map(field).collect())
        }
    }
}

fn of_text(text: &str) -> LogicalType {
    if text.len() == 10 && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() {
        return LogicalType::Date;
    }
    let joined = text.replacen(' ', "T", 1);
    let instant = text.len() > 15
        && (chrono::DateTime::parse_from_rfc3339(&joined).is_ok()
            || joined.parse::<chrono::NaiveDateTime>().is_ok()
            || chrono::NaiveDateTime::parse_from_str(&joined, "%Y-%m-%dT%H:%M").is_ok());
    if instant { LogicalType::Timestamp } else { LogicalType::Text }
}

/// The type that holds the values of both.
fn together(one: LogicalType, other: LogicalType) -> LogicalType {
    use LogicalType::{BigInt, Date, Double, Json, List, Struct, Text, Timestamp};
    match (one, other) {
        (one, other) if one == other => one,
        (BigInt | Double, BigInt | Double) => Double,
        (Date | Timestamp, Date | Timestamp) => Timestamp,
        (List(one), List(other)) => List(Box::new(together(*one, *other))),
        (Struct(mut fields), Struct(others)) => {
            for field in others {
                match fields.iter_mut().find(|known| known.name == field.name) {
                    Some(known) => known.data_type = together(known.data_type.clone(), field.data_type),
                    None => fields.push(field),
                }
            }
            Struct(fields)
        }
        (Json | List(_) | Struct(_), _) | (_, Json | List(_) | Struct(_)) => Json,
        _ => Text,
    }
}

/// A cell of CSV as the value that it looks like.
pub(super) fn of_csv(text: &str) -> Value {
    let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text).map(Number::from);
    let float = || {
        let plain = text.contains('.') && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
        text.parse::<f64>().ok().filter(|_| plain && !text.starts_with("00")).and_then(Number::from_f64)
    };
    match text {
        "" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => number.or_else(float).map_or_else(|| Value::from(text), Value::Number),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_have_the_narrowest_type_that_holds_them_all() {
        for (values, expected) in [
            (json!([1, null, 2]), "BIGINT"),
            (json!([1, 2.5]), "DOUBLE"),
            (json!(["2024-05-01", "2024-05-02"]), "DATE"),
            (json!(["2024-05-01", "2024-05-02T10:00:00Z"]), "TIMESTAMP"),
            (json!(["2024-05-01", "x"]), "VARCHAR"),
            (json!([1, "x"]), "VARCHAR"),
            (json!([true]), "BOOLEAN"),
            (json!([null]), "VARCHAR"),
            (json!([{ "a": 1 }, { "b": [1.5] }]), "STRUCT(\"a\" BIGINT, \"b\" DOUBLE[])"),
            (json!([{ "a": 1 }, 2]), "JSON"),
        ] {
            let list = values.as_array().cloned().unwrap_or_default();
            assert_eq!(infer(list.iter()).to_string(), expected, "{values}");
        }
        let cells = ["", "12", "007", "1.50", "1.2.3", "true", "x"].map(of_csv);
        assert_eq!(json!(cells), json!([null, 12, "007", 1.5, "1.2.3", true, "x"]));
    }
}
