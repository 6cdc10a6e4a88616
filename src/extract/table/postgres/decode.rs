//! PostgreSQL's binary COPY format, value by value, as JSON.
//!
//! The format is that of "COPY, Binary Format" in PostgreSQL's documentation; how each type lies in it is told by the
//! `*_send` functions of the server's sources, and has not changed since version 8.4.

use super::super::json;
use crate::error::{Error, Kind, Result};

/// The first bytes of every binary COPY.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Days from 1970-01-01 to PostgreSQL's own epoch, 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;

/// The same in microseconds.
const EPOCH_MICROS: i64 = EPOCH_DAYS * 86_400_000_000;

/// How the bytes of a value become JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decode {
    /// True or false.
    Bool,
    /// A whole number of 16 bits.
    Int2,
    /// A whole number of 32 bits.
    Int4,
    /// A whole number of 64 bits.
    Int8,
    /// A whole number of 32 bits that is not negative.
    Oid,
    /// A float of 32 bits.
    Float4,
    /// A float of 64 bits.
    Float8,
    /// A decimal with all its digits; as a text where a reader would take a number for a float.
    Numeric {
        /// Whether it is written as a text.
        quoted: bool,
    },
    /// Text, also what the server has cast to text.
    Text,
    /// Bytes, in base64.
    Bytea,
    /// JSON as it stands.
    Json,
    /// JSON behind the byte that tells its version.
    Jsonb,
    /// A date.
    Date,
    /// A time of day.
    Time,
    /// A timestamp without a zone.
    Timestamp,
    /// An instant.
    Timestamptz,
    /// A UUID.
    Uuid,
    /// An array of these, of any number of dimensions.
    Array(Box<Decode>),
}

/// A column of the COPY.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The member's name as JSON, with its colon.
    pub member: Vec<u8>,
    /// The column's name, for messages.
    pub name: String,
    /// How its values are read.
    pub decode: Decode,
}

/// Takes the COPY's header off the first bytes of it.
pub fn without_header(bytes: &[u8]) -> Result<usize> {
    let extension = bytes.get(15..19).and_then(|length| length.try_into().ok()).map(i32::from_be_bytes);
    match extension.and_then(|length| usize::try_from(length).ok()) {
        Some(length) if bytes.starts_with(SIGNATURE) && bytes.len() >= 19 + length => Ok(19 + length),
        _ => Err(broken("it does not begin with a header")),
    }
}

/// Bytes that are read from their beginning.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| broken("a value is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| broken("a value is cut off"))
    }

    fn int2(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn int4(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn int8(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn length(&mut self) -> Result<Option<usize>> {
        let length = self.int4()?;
        if length == -1 {
            return Ok(None);
        }
        usize::try_from(length).map(Some).map_err(|_| broken("a length is negative"))
    }
}

/// Writes the rows of one message of the COPY; the message ends where a row ends.
pub fn rows(message: &[u8], cells: &[Cell], body: &mut super::super::pages::Body) -> Result<()> {
    let mut cursor = Cursor(message);
    while !cursor.0.is_empty() {
        let fields = cursor.int2()?;
        // The COPY ends with a row of minus one column.
        if fields == -1 {
            return Ok(());
        }
        if usize::try_from(fields) != Ok(cells.len()) {
            return Err(broken(&format!("a row has {fields} columns, and {} were described", cells.len())));
        }
        body.row(|out| {
            for (index, cell) in cells.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&cell.member);
                match cursor.length()? {
                    None => out.extend_from_slice(b"null"),
                    Some(length) => {
                        let bytes = cursor.take(length)?;
                        value(out, &cell.decode, bytes)
                            .map_err(|error| error.while_doing(format!("reading the column `{}`", cell.name)))?;
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn value(out: &mut Vec<u8>, decode: &Decode, bytes: &[u8]) -> Result<()> {
    let mut cursor = Cursor(bytes);
    match decode {
        Decode::Bool => {
            out.extend_from_slice(if bytes == [0] { b"false".as_slice() } else { b"true" });
        }
        Decode::Int2 => json::signed(out, cursor.int2()?.into()),
        Decode::Int4 => json::signed(out, cursor.int4()?.into()),
        Decode::Int8 => json::signed(out, cursor.int8()?),
        Decode::Oid => json::unsigned(out, u32::from_be_bytes(cursor.array()?).into()),
        Decode::Float4 => json::small_float(out, f32::from_be_bytes(cursor.array()?)),
        Decode::Float8 => json::float(out, f64::from_be_bytes(cursor.array()?)),
        Decode::Numeric { quoted } => numeric(out, &mut cursor, *quoted)?,
        Decode::Text => json::text(out, utf8(bytes)?),
        Decode::Bytea => json::base64(out, bytes),
        Decode::Json => out.extend_from_slice(utf8(bytes)?.trim().as_bytes()),
        Decode::Jsonb => out.extend_from_slice(utf8(bytes.get(1..).unwrap_or_default())?.as_bytes()),
        Decode::Date => match cursor.int4()? {
            i32::MAX => out.extend_from_slice(b"\"infinity\""),
            i32::MIN => out.extend_from_slice(b"\"-infinity\""),
            days => {
                out.push(b'"');
                json::date(out, i64::from(days) + EPOCH_DAYS);
                out.push(b'"');
            }
        },
        Decode::Time => {
            out.push(b'"');
            json::time(out, u64::try_from(cursor.int8()?).map_err(|_| broken("a time is negative"))?);
            out.push(b'"');
        }
        Decode::Timestamp => timestamp(out, cursor.int8()?, false)?,
        Decode::Timestamptz => timestamp(out, cursor.int8()?, true)?,
        Decode::Uuid => uuid(out, cursor.array()?),
        Decode::Array(element) => array(out, &mut cursor, element)?,
    }
    Ok(())
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        Error::new(Kind::Data, "reading a text").because(error).hint(
            "the database's encoding is SQL_ASCII, and this text is not UTF-8: convert it in `sql` by convert_from()",
        )
    })
}

fn timestamp(out: &mut Vec<u8>, micros: i64, instant: bool) -> Result<()> {
    match micros {
        i64::MAX => out.extend_from_slice(b"\"infinity\""),
        i64::MIN => out.extend_from_slice(b"\"-infinity\""),
        micros => {
            let micros = micros.checked_add(EPOCH_MICROS).ok_or_else(|| broken("a timestamp lies too far ahead"))?;
            json::timestamp(out, micros, instant);
        }
    }
    Ok(())
}

fn uuid(out: &mut Vec<u8>, bytes: [u8; 16]) {
    let digits = hex::encode(bytes);
    out.push(b'"');
    for (index, part) in [0..8, 8..12, 12..16, 16..20, 20..32].into_iter().enumerate() {
        if index > 0 {
            out.push(b'-');
        }
        out.extend_from_slice(&digits.as_bytes()[part]);
    }
    out.push(b'"');
}

/// A decimal: groups of four digits, the place of the first one, a sign, and the digits behind the point.
fn numeric(out: &mut Vec<u8>, cursor: &mut Cursor<'_>, quoted: bool) -> Result<()> {
    let count = cursor.int2()?;
    let weight = i32::from(cursor.int2()?);
    let sign = cursor.int2()?.cast_unsigned();
    let scale = usize::try_from(cursor.int2()?).map_err(|_| broken("a decimal has a negative scale"))?;
    match sign {
        0xC000 => return Ok(json::not_finite(out, true, false)),
        0xD000 => return Ok(json::not_finite(out, false, true)),
        0xF000 => return Ok(json::not_finite(out, false, false)),
        _ => {}
    }
    let (groups, _) = cursor.take(usize::from(count.cast_unsigned()) * 2)?.as_chunks::<2>();
    let group = |place: i32| -> u64 {
        let index = usize::try_from(weight - place).ok();
        index.and_then(|index| groups.get(index)).map_or(0, |group| u16::from_be_bytes(*group).into())
    };
    if quoted {
        out.push(b'"');
    }
    if sign == 0x4000 {
        out.push(b'-');
    }
    if weight < 0 {
        out.push(b'0');
    } else {
        json::unsigned(out, group(weight));
        for place in (0..weight).rev() {
            json::four_digits(out, group(place));
        }
    }
    if scale > 0 {
        out.push(b'.');
        let end = out.len() + scale;
        let mut place = -1;
        while out.len() < end {
            json::four_digits(out, group(place));
            place -= 1;
        }
        out.truncate(end);
    }
    if quoted {
        out.push(b'"');
    }
    Ok(())
}

/// An array: its dimensions, then its elements in a row.
fn array(out: &mut Vec<u8>, cursor: &mut Cursor<'_>, element: &Decode) -> Result<()> {
    let dimensions = cursor.int4()?;
    let (_has_null, _element_type) = (cursor.int4()?, cursor.int4()?);
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(usize::try_from(cursor.int4()?).map_err(|_| broken("an array has a negative length"))?);
        let _lower_bound = cursor.int4()?;
    }
    if lengths.is_empty() {
        out.extend_from_slice(b"[]");
        return Ok(());
    }
    dimension(out, cursor, element, &lengths)
}

fn dimension(out: &mut Vec<u8>, cursor: &mut Cursor<'_>, element: &Decode, lengths: &[usize]) -> Result<()> {
    let Some((&length, inner)) = lengths.split_first() else {
        return match cursor.length()? {
            None => Ok(out.extend_from_slice(b"null")),
            Some(length) => value(out, element, cursor.take(length)?),
        };
    };
    out.push(b'[');
    for index in 0..length {
        if index > 0 {
            out.push(b',');
        }
        dimension(out, cursor, element, inner)?;
    }
    out.push(b']');
    Ok(())
}

fn broken(what: &str) -> Error {
    Error::new(Kind::Source, format!("the server's COPY cannot be read: {what}"))
        .hint("does a pooler or proxy that changes binary data stand between?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(decode: &Decode, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        value(&mut out, decode, bytes).expect("a value");
        String::from_utf8(out).expect("UTF-8")
    }

    fn decimal(weight: i16, sign: u16, scale: i16, groups: &[i16]) -> String {
        let mut bytes = Vec::new();
        for part in [i16::try_from(groups.len()).expect("few"), weight, sign.cast_signed(), scale].iter().chain(groups)
        {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        written(&Decode::Numeric { quoted: false }, &bytes)
    }

    #[test]
    fn decimals_have_the_digits_that_the_server_has() {
        assert_eq!(decimal(0, 0, 0, &[]), "0");
        assert_eq!(decimal(0, 0, 2, &[]), "0.00");
        assert_eq!(decimal(1, 0, 0, &[1]), "10000");
        assert_eq!(decimal(1, 0x4000, 5, &[12, 3456, 7890, 1000]), "-123456.78901");
        assert_eq!(decimal(-2, 0, 10, &[12]), "0.0000001200");
        assert_eq!(decimal(0, 0xC000, 0, &[]), "\"NaN\"");
        assert_eq!(decimal(0, 0xF000, 0, &[]), "\"-Infinity\"");
    }

    #[test]
    fn a_value_that_is_cut_off_is_an_error() {
        let mut out = Vec::new();
        for decode in
            [Decode::Int8, Decode::Uuid, Decode::Numeric { quoted: true }, Decode::Array(Box::new(Decode::Bool))]
        {
            assert_eq!(value(&mut out, &decode, &[0, 0, 0]).expect_err("too short").kind(), Kind::Source, "{decode:?}");
        }
    }

    #[test]
    fn an_array_of_two_dimensions_is_a_list_of_lists() {
        let mut bytes = Vec::new();
        for part in [2_i32, 1, 23, 2, 1, 2, 1] {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        for part in [4_i32, 1, 4, 2, -1, 4, 4] {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        assert_eq!(written(&Decode::Array(Box::new(Decode::Int4)), &bytes), "[[1,2],[null,4]]");
    }
}
