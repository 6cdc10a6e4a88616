//! MySQL's binary protocol, value by value, as JSON; MariaDB speaks the same.
//!
//! The forms are those of "Binary Protocol Resultset" in MySQL's internals manual: numbers are little-endian, decimals are
//! text, dates and times are a length and as many parts as differ from zero.

use sqlx::Row;
use sqlx::mysql::MySqlRow;

use super::super::json;
use super::super::pages::Body;
use crate::error::{Error, Kind, Result};

/// How the bytes of a value become JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decode {
    /// A whole number with a sign.
    Signed,
    /// A whole number without one.
    Unsigned,
    /// A float of 32 bits.
    Float,
    /// A float of 64 bits.
    Double,
    /// A decimal, which comes as its text.
    Decimal,
    /// Up to 64 bits, as a whole number.
    Bits,
    /// Text.
    Text,
    /// JSON as it stands.
    Json,
    /// Bytes, in base64.
    Bytes,
    /// A date; one with only zeros is null.
    Date,
    /// A timestamp without a zone; one with only zeros is null.
    Datetime,
    /// An instant, in the session's zone, which is UTC.
    Timestamp,
    /// A duration of hours, minutes and seconds, which may be negative or longer than a day.
    Time,
}

/// A column of the rows.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The member's name as JSON, with its colon.
    pub member: Vec<u8>,
    /// The column's name, for messages.
    pub name: String,
    /// How its values are read.
    pub decode: Decode,
}

/// The bytes of a value; none where it is null.
pub fn bytes(row: &MySqlRow, index: usize) -> Result<Option<&[u8]>> {
    row.try_get_unchecked(index).map_err(|error| Error::new(Kind::Source, "reading a value").because(error))
}

/// Writes one row.
pub fn row(row: &MySqlRow, cells: &[Cell], body: &mut Body) -> Result<()> {
    body.row(|out| {
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&cell.member);
            match bytes(row, index)? {
                None => out.extend_from_slice(b"null"),
                Some(bytes) => value(out, cell.decode, bytes)
                    .map_err(|error| error.while_doing(format!("reading the column `{}`", cell.name)))?,
            }
        }
        Ok(())
    })
}

fn value(out: &mut Vec<u8>, decode: Decode, bytes: &[u8]) -> Result<()> {
    match decode {
        Decode::Signed => json::signed(out, signed(bytes)?),
        Decode::Unsigned => json::unsigned(out, unsigned(bytes.iter().rev())?),
        Decode::Float => json::small_float(out, f32::from_le_bytes(fixed(bytes)?)),
        Decode::Double => json::float(out, f64::from_le_bytes(fixed(bytes)?)),
        Decode::Decimal => decimal(out, utf8(bytes)?),
        Decode::Bits => json::unsigned(out, unsigned(bytes.iter())?),
        Decode::Text => json::text(out, utf8(bytes)?),
        Decode::Json => out.extend_from_slice(utf8(bytes)?.trim().as_bytes()),
        Decode::Bytes => json::base64(out, bytes),
        Decode::Date | Decode::Datetime | Decode::Timestamp => moment(out, decode, bytes)?,
        Decode::Time => time(out, bytes)?,
    }
    Ok(())
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| broken())
}

/// A number of 1, 2, 4 or 8 bytes.
fn signed(bytes: &[u8]) -> Result<i64> {
    Ok(match bytes.len() {
        1 => i8::from_le_bytes(fixed(bytes)?).into(),
        2 => i16::from_le_bytes(fixed(bytes)?).into(),
        4 => i32::from_le_bytes(fixed(bytes)?).into(),
        _ => i64::from_le_bytes(fixed(bytes)?),
    })
}

/// A number by its bytes, the most significant one first.
fn unsigned<'b>(bytes: impl ExactSizeIterator<Item = &'b u8>) -> Result<u64> {
    if bytes.len() > 8 {
        return Err(broken());
    }
    Ok(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        Error::new(Kind::Data, "reading a text").because(error).hint("convert it in `sql`: CONVERT(… USING utf8mb4)")
    })
}

/// A decimal as a JSON number: the zeros of ZEROFILL are none of its digits.
fn decimal(out: &mut Vec<u8>, text: &str) {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let plain = digits.trim_start_matches('0');
    out.extend_from_slice(sign.as_bytes());
    if plain.is_empty() || plain.starts_with('.') {
        out.push(b'0');
    }
    out.extend_from_slice(plain.as_bytes());
}

/// A date or a timestamp: length, year, month, day, hour, minute, second, microseconds.
///
/// A month or a day of zero is no date of any calendar; it is written as it stands, for a column of texts.
fn moment(out: &mut Vec<u8>, decode: Decode, bytes: &[u8]) -> Result<()> {
    let part = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let year = u16::from_le_bytes([part(1), part(2)]);
    if year == 0 && part(3) == 0 && part(4) == 0 {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let micros = match bytes.get(8..12) {
        Some(micros) => u32::from_le_bytes(fixed(micros)?),
        None => 0,
    };
    let mut text = format!("{year:04}-{:02}-{:02}", part(3), part(4));
    if decode != Decode::Date {
        text.push_str(&format!("T{:02}:{:02}:{:02}", part(5), part(6), part(7)));
        if micros > 0 {
            text.push_str(&format!(".{micros:06}"));
        }
        if decode == Decode::Timestamp {
            text.push('Z');
        }
    }
    json::text(out, &text);
    Ok(())
}

/// A duration: length, sign, days, hours, minutes, seconds, microseconds.
fn time(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    let part = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let long = |range: std::ops::Range<usize>| match bytes.get(range) {
        Some(bytes) => Ok(u32::from_le_bytes(fixed(bytes)?)),
        None => Ok(0),
    };
    let (days, micros): (Result<u32>, Result<u32>) = (long(2..6), long(9..13));
    let hours = u64::from(days?) * 24 + u64::from(part(6));
    let mut text = format!("{}{hours:02}:{:02}:{:02}", if part(1) == 1 { "-" } else { "" }, part(7), part(8));
    let micros = micros?;
    if micros > 0 {
        text.push_str(&format!(".{micros:06}"));
    }
    json::text(out, &text);
    Ok(())
}

fn broken() -> Error {
    Error::new(Kind::Source, "a value has a length that its type does not have")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(decode: Decode, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        value(&mut out, decode, bytes).expect("a value");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn numbers_keep_sign_and_digits() {
        assert_eq!(written(Decode::Signed, &[0xff]), "-1");
        assert_eq!(written(Decode::Signed, &i64::MIN.to_le_bytes()), i64::MIN.to_string());
        assert_eq!(written(Decode::Unsigned, &[0xff; 8]), u64::MAX.to_string());
        assert_eq!(written(Decode::Unsigned, &[0x34, 0x12]), "4660");
        assert_eq!(written(Decode::Bits, &[0x01, 0x02]), "258");
        for (text, json) in [("0012.30", "12.30"), ("-0.50", "-0.50"), ("0", "0"), ("-000", "-0"), ("0.00", "0.00")] {
            assert_eq!(written(Decode::Decimal, text.as_bytes()), json);
        }
    }

    #[test]
    fn dates_that_are_none_are_null_or_stay_texts() {
        assert_eq!(written(Decode::Date, &[0]), "null");
        assert_eq!(written(Decode::Datetime, &[4, 0xe8, 0x07, 5, 1]), "\"2024-05-01T00:00:00\"");
        assert_eq!(written(Decode::Date, &[4, 0xe8, 0x07, 0, 0]), "\"2024-00-00\"");
        let micros = [11, 0xe8, 0x07, 5, 1, 23, 59, 58, 0x40, 0xe2, 0x01, 0];
        assert_eq!(written(Decode::Timestamp, &micros), "\"2024-05-01T23:59:58.123456Z\"");
        assert_eq!(written(Decode::Time, &[8, 1, 34, 0, 0, 0, 22, 59, 59]), "\"-838:59:59\"");
        assert_eq!(written(Decode::Time, &[0]), "\"00:00:00\"");
    }
}
