//! JSON values as PostgreSQL's binary COPY takes them.
//!
//! The format is that of "COPY, Binary Format" in PostgreSQL's documentation; how each type lies in it is told by the
//! `*_recv` functions of the server's sources, and has not changed since version 8.4.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use super::digits;

/// The first bytes of every binary COPY: the signature, no flags, no extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The last bytes of every binary COPY: a row of minus one column.
pub(super) const TRAILER: &[u8] = &[0xff, 0xff];

/// The length of a null.
const NULL: i32 = -1;

/// Midnight of 2000-01-01, from which PostgreSQL counts.
const EPOCH: NaiveDate = match NaiveDate::from_ymd_opt(2000, 1, 1) {
    Some(date) => date,
    None => NaiveDate::MIN,
};

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encode {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// With at most so many digits behind the point, where the type says.
    Numeric {
        scale: Option<u8>,
    },
    Text,
    Json,
    Jsonb,
    Date,
    /// In UTC; what has an offset is brought there.
    Timestamp,
    Time,
    Bytea,
    Uuid,
    /// As text, which the server casts afterwards.
    Cast,
}

impl Encode {
    /// How values of a type are written, as PostgreSQL writes the type.
    pub fn of(data_type: &str) -> Self {
        let (word, inside) = match data_type.split_once('(') {
            Some((word, rest)) => {
                let (inside, behind) = rest.split_once(')').unwrap_or((rest, ""));
                (format!("{word}{behind}"), inside)
            }
            None => (data_type.to_owned(), ""),
        };
        match word.as_str() {
            "boolean" => Self::Bool,
            "smallint" => Self::Int2,
            "integer" => Self::Int4,
            "bigint" => Self::Int8,
            "real" => Self::Float4,
            "double precision" => Self::Float8,
            "numeric" => Self::Numeric { scale: inside.split_once(',').and_then(|(_, scale)| scale.parse().ok()) },
            "text" | "character varying" | "character" => Self::Text,
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            "date" => Self::Date,
            "timestamp" | "timestamptz" | "timestamp without time zone" | "timestamp with time zone" => Self::Timestamp,
            "time" | "time without time zone" => Self::Time,
            "bytea" => Self::Bytea,
            "uuid" => Self::Uuid,
            _ => Self::Cast,
        }
    }

    /// Writes a value with its length in front; the error says what is wrong with it.
    pub fn write(self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if raw == b"null" {
            out.extend_from_slice(&NULL.to_be_bytes());
            return Ok(());
        }
        let begin = out.len();
        out.extend_from_slice(&[0; 4]);
        self.value(raw, out)?;
        let length = i32::try_from(out.len() - begin - 4).map_err(|_| "is longer than a gigabyte".to_owned())?;
        out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn value(self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let wrong = || format!("cannot take {}", shown(raw));
        match self {
            Self::Text | Self::Cast => text(raw, out),
            Self::Jsonb | Self::Json => {
                if self == Self::Jsonb {
                    assert_no_nul(raw)?;
                    // The version of the format.
                    out.push(1);
                }
                out.extend_from_slice(raw);
                Ok(())
            }
            Self::Bytea => bytes(plain(raw).as_bytes(), out).ok_or_else(wrong),
            _ => {
                let plain = plain(raw);
                self.scalar(plain.trim(), out).ok_or_else(wrong)
            }
        }
    }

    /// Writes a value that is told by a short text; none where it is no value of the type.
    fn scalar(self, text: &str, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Bool => match text {
                "true" | "t" | "1" | "True" | "TRUE" => out.push(1),
                "false" | "f" | "0" | "False" | "FALSE" => out.push(0),
                _ => return None,
            },
            Self::Int2 => out.extend_from_slice(&i16::try_from(whole(text)?).ok()?.to_be_bytes()),
            Self::Int4 => out.extend_from_slice(&i32::try_from(whole(text)?).ok()?.to_be_bytes()),
            Self::Int8 => out.extend_from_slice(&whole(text)?.to_be_bytes()),
            Self::Float4 => {
                let float = text.parse::<f32>().ok().filter(|float| float.is_finite() || has_word(text))?;
                out.extend_from_slice(&float.to_be_bytes());
            }
            Self::Float8 => {
                let float = text.parse::<f64>().ok().filter(|float| float.is_finite() || has_word(text))?;
                out.extend_from_slice(&float.to_be_bytes());
            }
            Self::Numeric { scale } => digits::write(text, scale, out)?,
            Self::Date => {
                let days = date(text)?.signed_duration_since(EPOCH).num_days();
                out.extend_from_slice(&i32::try_from(days).ok()?.to_be_bytes());
            }
            Self::Timestamp => {
                let since = time(text)?.signed_duration_since(EPOCH.and_time(NaiveTime::MIN));
                out.extend_from_slice(&since.num_microseconds()?.to_be_bytes());
            }
            Self::Time => {
                let time =
                    ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok())?;
                let micros =
                    i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(time.nanosecond() / 1_000);
                out.extend_from_slice(&micros.to_be_bytes());
            }
            Self::Uuid => {
                let plain: String = text.chars().filter(|c| *c != '-').collect();
                out.extend_from_slice(
                    &u128::from_str_radix(&plain, 16).ok().filter(|_| plain.len() == 32)?.to_be_bytes(),
                );
            }
            Self::Text | Self::Cast | Self::Json | Self::Jsonb | Self::Bytea => return None,
        }
        Some(())
    }
}

/// A null.
pub(super) fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(&NULL.to_be_bytes());
}

/// Whether a float that is not finite was written so, and is no number that is too large.
fn has_word(text: &str) -> bool {
    text.bytes().any(|byte| byte.eq_ignore_ascii_case(&b'n'))
}

/// A whole number, also one that is written with a point or an exponent.
fn whole(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| digits::whole(text))
}

fn date(text: &str) -> Option<NaiveDate> {
    // Of a time, a column of dates takes the day.
    text.parse().ok().or_else(|| time(text).map(|at| at.date()))
}

/// A time in UTC; without an offset it is taken as it stands.
fn time(text: &str) -> Option<NaiveDateTime> {
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let naive = naive.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    naive
        .or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|at| at.naive_utc()))
        .or_else(|| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").ok().map(|at| at.naive_utc()))
        .or_else(|| text.parse::<NaiveDate>().ok().map(|date| date.and_time(NaiveTime::MIN)))
}

/// The text of a value: what a string says, and anything else as it is written.
fn plain(raw: &[u8]) -> std::borrow::Cow<'_, str> {
    if raw.first() == Some(&b'"') && raw.len() >= 2 {
        let inner = &raw[1..raw.len() - 1];
        if !inner.contains(&b'\\') {
            return String::from_utf8_lossy(inner);
        }
        if let Ok(text) = serde_json::from_slice::<String>(raw) {
            return text.into();
        }
    }
    String::from_utf8_lossy(raw)
}

fn text(raw: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    if raw.first() != Some(&b'"') {
        out.extend_from_slice(raw);
        return Ok(());
    }
    let inner = &raw[1..raw.len() - 1];
    if !inner.contains(&b'\\') {
        out.extend_from_slice(inner);
        return Ok(());
    }
    let text: String = serde_json::from_slice(raw).map_err(|_| format!("cannot take {}", shown(raw)))?;
    if text.contains('\0') {
        return Err(format!("cannot take {}: PostgreSQL has no room for the character NUL", shown(raw)));
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Bytes as the stage writes them: `\xAA` for each that is no plain character.
fn bytes(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte == b'\\' && matches!(text.get(at + 1), Some(b'x' | b'X')) {
            let pair = std::str::from_utf8(text.get(at + 2..at + 4)?).ok()?;
            out.push(u8::from_str_radix(pair, 16).ok()?);
            at += 4;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    Some(())
}

/// Refuses a NUL anywhere inside of a value: what PostgreSQL says of it names neither row nor column.
fn assert_no_nul(raw: &[u8]) -> Result<(), String> {
    let mut at = 0;
    while let Some(found) = raw[at..].iter().position(|byte| *byte == b'\\') {
        at += found;
        if raw[at..].starts_with(b"\\u0000") {
            return Err(format!("cannot take {}: PostgreSQL has no room for the character NUL", shown(raw)));
        }
        at += 2;
    }
    Ok(())
}

/// A value for a message, shortened.
fn shown(raw: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(raw);
    if text.chars().count() <= MOST {
        text.into_owned()
    } else {
        format!("{}…", text.chars().take(MOST).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(data_type: &str, raw: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        Encode::of(data_type).write(raw.as_bytes(), &mut out).ok()?;
        Some(out[4..].to_vec())
    }

    #[test]
    fn a_value_is_what_the_type_holds_or_refused() {
        assert_eq!(written("bigint", "1.5e1"), Some(15_i64.to_be_bytes().to_vec()));
        assert_eq!(written("bigint", "1.5"), None);
        assert_eq!(written("smallint", "40000"), None);
        assert_eq!(written("text", "7"), Some(b"7".to_vec()));
        assert_eq!(written("text", "\"a\\u0000\""), None);
        assert_eq!(written("jsonb", "{\"a\":\"\\\\u0000\"}"), Some(b"\x01{\"a\":\"\\\\u0000\"}".to_vec()));
        assert_eq!(written("jsonb", "{\"a\":\"\\u0000\"}"), None);
        assert_eq!(written("date", "\"2000-01-02\""), Some(1_i32.to_be_bytes().to_vec()));
        assert_eq!(written("timestamptz", "\"2000-01-01T01:00:00+01:00\""), Some(0_i64.to_be_bytes().to_vec()));
        assert_eq!(written("timestamp(3) without time zone", "5"), None);
        assert_eq!(written("bytea", "\"a\\\\xFF\""), Some(vec![b'a', 0xff]));
    }
}
