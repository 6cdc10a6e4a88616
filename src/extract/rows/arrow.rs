//! Arrow batches as JSON rows: every digit, every nested value, and times as ISO 8601 writes them.

use std::fmt::Write as _;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, TimeDelta, Utc};
use duckdb::arrow::array::{Array, AsArray, RecordBatch};
use duckdb::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};

use super::{RowPage, member_key, push_text};
use crate::error::{Error, Kind, Result};
use crate::model::schema::{Column, LogicalType};

/// The type that a column of this Arrow type is declared as; none where the values have to tell.
pub fn logical_type(data_type: &DataType) -> Option<LogicalType> {
    Some(match data_type {
        DataType::Boolean => LogicalType::Boolean,
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => LogicalType::BigInt,
        DataType::UInt64 => LogicalType::HugeInt,
        DataType::Decimal128(precision, scale) => {
            LogicalType::Decimal { precision: *precision, scale: u8::try_from(*scale).ok()? }
        }
        DataType::Float32 | DataType::Float64 => LogicalType::Double,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Interval(_) => LogicalType::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => LogicalType::Blob,
        DataType::Date32 => LogicalType::Date,
        DataType::Time64(_) => LogicalType::Time,
        DataType::Timestamp(..) => LogicalType::Timestamp,
        DataType::Dictionary(_, values) => return logical_type(values),
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            LogicalType::List(Box::new(logical_type(element.data_type())?))
        }
        DataType::Struct(fields) => LogicalType::Struct(
            fields
                .iter()
                .map(|field| Some(Column { name: field.name().clone(), data_type: logical_type(field.data_type())? }))
                .collect::<Option<_>>()?,
        ),
        DataType::Map(..) => LogicalType::Json,
        _ => return None,
    })
}

/// Adds the rows of a batch to a page.
///
/// # Errors
/// A column of a type that has no form in JSON.
pub fn push_rows(batch: &RecordBatch, page: &mut RowPage) -> Result<()> {
    let schema = batch.schema();
    let columns: Vec<(&Field, Vec<u8>, &dyn Array)> = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| (field.as_ref(), member_key(field.name()), column.as_ref()))
        .collect();
    for row in 0..batch.num_rows() {
        let start = page.body.len();
        page.body.push(b'{');
        for (index, (field, key, column)) in columns.iter().enumerate() {
            if index > 0 {
                page.body.push(b',');
            }
            page.body.extend_from_slice(key);
            push_value(&mut page.body, *column, row)
                .map_err(|error| error.while_doing(format!("reading the column `{}`", field.name())))?;
        }
        page.body.push(b'}');
        page.rows.push(start..page.body.len());
    }
    Ok(())
}

/// Writes one value.
fn push_value(out: &mut Vec<u8>, column: &dyn Array, row: usize) -> Result<()> {
    if column.is_null(row) || *column.data_type() == DataType::Null {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    macro_rules! number {
        ($type:ty) => {
            out.extend_from_slice(column.as_primitive::<$type>().value(row).to_string().as_bytes())
        };
    }
    match column.data_type() {
        DataType::Boolean => out.extend_from_slice(column.as_boolean().value(row).to_string().as_bytes()),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => push_float(out, f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => push_float(out, column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => {
            out.extend_from_slice(column.as_primitive::<Decimal128Type>().value_as_string(row).as_bytes());
        }
        DataType::Utf8 => push_text(out, column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => push_text(out, column.as_string::<i64>().value(row)),
        DataType::Utf8View => push_text(out, column.as_string_view().value(row)),
        DataType::Binary => push_bytes(out, column.as_binary::<i32>().value(row)),
        DataType::LargeBinary => push_bytes(out, column.as_binary::<i64>().value(row)),
        DataType::BinaryView => push_bytes(out, column.as_binary_view().value(row)),
        DataType::List(_) => return push_list(out, &*column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => return push_list(out, &*column.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => return push_list(out, &*column.as_fixed_size_list().value(row)),
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            out.push(b'{');
            for (index, (field, column)) in fields.iter().zip(columns).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&member_key(field.name()));
                push_value(out, &**column, row)?;
            }
            out.push(b'}');
        }
        DataType::Map(..) => return push_map(out, &column.as_map().value(row)),
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let key = dictionary.normalized_keys()[row];
            return push_value(out, &**dictionary.values(), key);
        }
        _ => return push_time(out, column, row),
    }
    Ok(())
}

fn push_time(out: &mut Vec<u8>, column: &dyn Array, row: usize) -> Result<()> {
    let beyond = || Error::new(Kind::Data, "a time lies beyond the calendar");
    let text = match column.data_type() {
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().value(row);
            let date = NaiveDate::default().checked_add_signed(TimeDelta::days(i64::from(days)));
            date.ok_or_else(beyond)?.to_string()
        }
        DataType::Time64(unit) => {
            let nanos = match unit {
                TimeUnit::Nanosecond => column.as_primitive::<Time64NanosecondType>().value(row),
                _ => column.as_primitive::<Time64MicrosecondType>().value(row).saturating_mul(1000),
            };
            let whole = u32::try_from(nanos.div_euclid(1_000_000_000)).ok();
            let rest = u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default();
            let time = whole.and_then(|whole| NaiveTime::from_num_seconds_from_midnight_opt(whole, rest));
            time.ok_or_else(beyond)?.to_string()
        }
        DataType::Timestamp(unit, zone) => {
            let instant: Option<DateTime<Utc>> = match unit {
                TimeUnit::Second => {
                    DateTime::from_timestamp(column.as_primitive::<TimestampSecondType>().value(row), 0)
                }
                TimeUnit::Millisecond => {
                    DateTime::from_timestamp_millis(column.as_primitive::<TimestampMillisecondType>().value(row))
                }
                TimeUnit::Microsecond => {
                    DateTime::from_timestamp_micros(column.as_primitive::<TimestampMicrosecondType>().value(row))
                }
                TimeUnit::Nanosecond => {
                    Some(DateTime::from_timestamp_nanos(column.as_primitive::<TimestampNanosecondType>().value(row)))
                }
            };
            let text = instant.ok_or_else(beyond)?.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            if zone.is_some() { text } else { text.trim_end_matches('Z').to_owned() }
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = column.as_primitive::<IntervalMonthDayNanoType>().value(row);
            let micros = value.nanoseconds / 1000;
            let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
            // ISO 8601, section 4.4.3.
            let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
            format!("P{}M{}DT{seconds}{fraction}S", value.months, value.days)
        }
        other => {
            return Err(Error::new(Kind::Data, format!("a value of type {other} has no form in JSON"))
                .hint("leave the column out of the file"));
        }
    };
    push_text(out, &text);
    Ok(())
}

/// Infinity and what is no number have no word in JSON; as texts they keep what they are.
fn push_float(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(format!("{value:?}").as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    }
}

/// Bytes as a text in which every byte is `\xAB`: DuckDB reads it as these bytes.
fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut text = String::with_capacity(bytes.len() * 4);
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02X}");
    }
    push_text(out, &text);
}

fn push_list(out: &mut Vec<u8>, list: &dyn Array) -> Result<()> {
    out.push(b'[');
    for row in 0..list.len() {
        if row > 0 {
            out.push(b',');
        }
        push_value(out, list, row)?;
    }
    out.push(b']');
    Ok(())
}

/// A map as an object; its keys become texts.
fn push_map(out: &mut Vec<u8>, entries: &duckdb::arrow::array::StructArray) -> Result<()> {
    let (keys, values) = (entries.column(0), entries.column(1));
    out.push(b'{');
    for row in 0..entries.len() {
        if row > 0 {
            out.push(b',');
        }
        let mut key = Vec::new();
        push_value(&mut key, &**keys, row)?;
        if key.first() == Some(&b'"') {
            out.extend_from_slice(&key);
        } else {
            push_text(out, &String::from_utf8_lossy(&key));
        }
        out.push(b':');
        push_value(out, &**values, row)?;
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use duckdb::Connection;

    use super::*;

    #[test]
    fn values_keep_their_digits_and_their_shape() {
        let sql = "SELECT 1.10::DECIMAL(38,10) a, 9007199254740993 b, 0.5::FLOAT c, 'nan'::DOUBLE d, 'é\"' e,
                   TIMESTAMP '2024-01-05 10:00:00.123456' f, TIMESTAMPTZ '2024-01-05 10:00:00+02' g,
                   DATE '1969-12-31' h, TIME '23:59:59.5' i, NULL j, [1.50::DECIMAL(4,2), NULL] k,
                   {'x': 1, 'y': [true]} l, MAP {'k': 1} m, '\\xAB'::BLOB n, INTERVAL 3 DAY o, 'v'::ENUM('u', 'v') p,
                   18446744073709551615::UBIGINT q";
        let connection = Connection::open_in_memory().expect("a database");
        let mut statement = connection.prepare(sql).expect("a statement");
        let mut page = RowPage::default();
        for batch in statement.stream_arrow([]).expect("batches") {
            push_rows(&batch.expect("a batch"), &mut page).expect("rows");
        }
        let expected = r#"{"a":1.1000000000,"b":9007199254740993,"c":0.5,"d":"NaN","e":"é\"","f":"2024-01-05T10:00:00.123456","g":"2024-01-05T08:00:00Z","h":"1969-12-31","i":"23:59:59.500","j":null,"k":[1.50,null],"l":{"x":1,"y":[true]},"m":{"k":1},"n":"\\xAB","o":"P0M3DT0S","p":"v","q":18446744073709551615}"#;
        assert_eq!(String::from_utf8_lossy(&page.body), expected);
        assert_eq!((page.rows.len(), page.rows[0].clone()), (1, 0..expected.len()));
    }
}
