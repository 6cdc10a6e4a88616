//! Values of staged rows as literals of MySQL: what a column's type does not hold is refused, and never rounded or cut.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

/// How the values of a column are written, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Encode {
    Boolean,
    Whole {
        least: i128,
        most: i128,
    },
    Decimal {
        whole: usize,
        behind: usize,
        signed: bool,
    },
    Double,
    Float,
    Date,
    /// A time with so many digits behind the second; `timestamp` ends in 2038.
    Time {
        digits: u32,
        dated: bool,
        short: bool,
    },
    /// Text of so many characters, or of so many bytes.
    Text {
        chars: Option<usize>,
        bytes: Option<usize>,
    },
    Blob {
        bytes: usize,
    },
    Json,
    /// A type that only the server can read.
    Other,
}

impl Encode {
    /// By the type as the server tells it: `decimal(10,2) unsigned`.
    pub fn of(column_type: &str) -> Self {
        let low = column_type.to_lowercase();
        let signed = !low.contains("unsigned");
        let word = low.split(['(', ' ']).next().unwrap_or_default();
        let inside = low.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inside, _)| inside);
        let numbers: Vec<usize> =
            inside.map(|inside| inside.split(',').filter_map(|n| n.trim().parse().ok()).collect()).unwrap_or_default();
        let number = |place: usize, default: usize| numbers.get(place).copied().unwrap_or(default);
        let whole = |bits: u32| {
            let half = 1_i128 << (bits - 1);
            let (least, most) = if signed { (-half, half - 1) } else { (0, 2 * half - 1) };
            Self::Whole { least, most }
        };
        match word {
            "tinyint" if low.starts_with("tinyint(1)") && signed => Self::Boolean,
            "boolean" | "bool" => Self::Boolean,
            "tinyint" => whole(8),
            "smallint" => whole(16),
            "mediumint" => whole(24),
            "int" | "integer" => whole(32),
            "bigint" => whole(64),
            "decimal" | "numeric" => {
                let behind = number(1, 0);
                Self::Decimal { whole: number(0, 10).saturating_sub(behind), behind, signed }
            }
            "double" => Self::Double,
            "float" => Self::Float,
            "date" => Self::Date,
            "datetime" => Self::Time { digits: digits(number(0, 0)), dated: true, short: false },
            "timestamp" => Self::Time { digits: digits(number(0, 0)), dated: true, short: true },
            "time" => Self::Time { digits: digits(number(0, 0)), dated: false, short: false },
            "char" | "varchar" => Self::Text { chars: Some(number(0, 1)), bytes: None },
            "tinytext" => Self::Text { chars: None, bytes: Some(255) },
            "text" => Self::Text { chars: None, bytes: Some(65_535) },
            "mediumtext" => Self::Text { chars: None, bytes: Some((1 << 24) - 1) },
            "longtext" => Self::Text { chars: None, bytes: None },
            "binary" | "varbinary" => Self::Blob { bytes: number(0, 1) },
            "tinyblob" => Self::Blob { bytes: 255 },
            "blob" => Self::Blob { bytes: 65_535 },
            "mediumblob" => Self::Blob { bytes: (1 << 24) - 1 },
            "longblob" => Self::Blob { bytes: usize::MAX },
            "json" => Self::Json,
            _ => Self::Other,
        }
    }

    /// Writes the literal of a value of JSON.
    ///
    /// # Errors
    /// Why the type does not hold it, to stand behind the column's name.
    pub fn write(&self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if raw == b"null" {
            out.extend_from_slice(b"NULL");
            return Ok(());
        }
        let text = plain(raw);
        let written = match self {
            Self::Boolean => match &*text {
                "true" | "1" => Some("TRUE".to_owned()),
                "false" | "0" => Some("FALSE".to_owned()),
                _ => None,
            },
            Self::Whole { least, most } => {
                whole(&text).filter(|number| least <= number && number <= most).map(|number| number.to_string())
            }
            Self::Decimal { whole, behind, signed } => decimal(&text, *whole, *behind, *signed),
            Self::Double => {
                text.parse::<f64>().ok().filter(|float| float.is_finite()).map(|float| format!("{float:e}"))
            }
            Self::Float => {
                #[expect(clippy::cast_possible_truncation, reason = "whether anything is lost is what is looked at")]
                let same = |float: &f64| f64::from(*float as f32).to_bits() == float.to_bits();
                text.parse::<f64>()
                    .ok()
                    .filter(|float| float.is_finite() && same(float))
                    .map(|float| format!("{float:e}"))
            }
            Self::Date => date(&text).map(|date| format!("'{date}'")),
            Self::Time { digits, dated, short } => time(&text, *digits, *dated, *short),
            Self::Text { chars, bytes } => {
                let fits = chars.is_none_or(|most| text.chars().count() <= most)
                    && bytes.is_none_or(|most| text.len() <= most);
                return if fits { Ok(quoted(&text, out)) } else { Err(refused(&text)) };
            }
            Self::Other => return Ok(quoted(&text, out)),
            Self::Json => return Ok(quoted(&String::from_utf8_lossy(raw), out)),
            Self::Blob { bytes } => unescaped(text.as_bytes()).filter(|blob| blob.len() <= *bytes).map(|blob| {
                use std::fmt::Write;
                let hex = blob.iter().fold(String::with_capacity(blob.len() * 2), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                });
                format!("x'{hex}'")
            }),
        };
        match written {
            Some(literal) => Ok(out.extend_from_slice(literal.as_bytes())),
            None => Err(refused(&text)),
        }
    }
}

fn digits(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(6)
}

fn refused(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        format!("cannot take {text}")
    } else {
        format!("cannot take {}…", text.chars().take(MOST).collect::<String>())
    }
}

/// The text of a value: what a string says, and anything else as it is written.
fn plain(raw: &[u8]) -> std::borrow::Cow<'_, str> {
    if raw.first() == Some(&b'"')
        && let Ok(text) = serde_json::from_slice::<String>(raw)
    {
        return text.into();
    }
    String::from_utf8_lossy(raw)
}

/// A text between quotes, as the server reads it with backslashes that escape.
pub(super) fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'\'');
    for byte in text.bytes() {
        match byte {
            b'\'' | b'\\' => out.extend([b'\\', byte]),
            0 => out.extend_from_slice(b"\\0"),
            _ => out.push(byte),
        }
    }
    out.push(b'\'');
}

/// The digits of a number before and behind its point, without zeros that say nothing.
fn parts(text: &str) -> Option<(bool, String, String)> {
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (before.is_empty() && behind.is_empty()) || !is_digits(before) || !is_digits(behind) || exponent.abs() > 400 {
        return None;
    }
    let mut all = format!("{before}{behind}");
    let mut point = i32::try_from(before.len()).ok()? + exponent;
    while point < 0 {
        all.insert(0, '0');
        point += 1;
    }
    while point > i32::try_from(all.len()).ok()? {
        all.push('0');
    }
    let (before, behind) = all.split_at(usize::try_from(point).ok()?);
    Some((negative, before.trim_start_matches('0').to_owned(), behind.trim_end_matches('0').to_owned()))
}

fn whole(text: &str) -> Option<i128> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let (negative, before, behind) = parts(text)?;
    let digits = if before.is_empty() { "0" } else { &before };
    let number: i128 = digits.parse().ok().filter(|_| behind.is_empty())?;
    Some(if negative { -number } else { number })
}

fn decimal(text: &str, most_whole: usize, most_behind: usize, signed: bool) -> Option<String> {
    let (negative, before, behind) = parts(text)?;
    let fits = before.len() <= most_whole && behind.len() <= most_behind;
    let is_zero = before.is_empty() && behind.is_empty();
    if !fits || (negative && !signed && !is_zero) {
        return None;
    }
    let sign = if negative && !is_zero { "-" } else { "" };
    let before = if before.is_empty() { "0" } else { &before };
    Some(if behind.is_empty() { format!("{sign}{before}") } else { format!("{sign}{before}.{behind}") })
}

/// A day; a time that has more than a day to tell is none.
fn date(text: &str) -> Option<NaiveDate> {
    let date = text.parse().ok().or_else(|| instant(text).filter(|at| at.time() == NaiveTime::MIN).map(|at| at.date()));
    date.filter(|date| (0..=9999).contains(&chrono::Datelike::year(date)))
}

/// A time in UTC; without an offset it is taken as it stands.
fn instant(text: &str) -> Option<NaiveDateTime> {
    let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let naive = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    naive
        .or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|at| at.naive_utc()))
        .or_else(|| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").ok().map(|at| at.naive_utc()))
        .or_else(|| text.parse::<NaiveDate>().ok().map(|date| date.and_time(NaiveTime::MIN)))
}

fn time(text: &str, digits: u32, dated: bool, short: bool) -> Option<String> {
    let fits = |nanos: u32| nanos.is_multiple_of(10_u32.pow(9 - digits.min(6)));
    if !dated {
        let at = ["%H:%M:%S%.f", "%H:%M"].iter().find_map(|form| NaiveTime::parse_from_str(text, form).ok())?;
        return fits(at.nanosecond()).then(|| format!("'{}'", at.format("%H:%M:%S%.6f")));
    }
    let at = instant(text)?;
    let seconds = at.and_utc().timestamp();
    let in_range = if short {
        (1..=i64::from(i32::MAX)).contains(&seconds)
    } else {
        (0..=9999).contains(&chrono::Datelike::year(&at))
    };
    (fits(at.nanosecond()) && in_range).then(|| format!("'{}'", at.format("%Y-%m-%d %H:%M:%S%.6f")))
}

/// Bytes as the stage writes them: `\xAA` for each that is no plain character.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
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
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(column_type: &str, raw: &str) -> Option<String> {
        let mut out = Vec::new();
        Encode::of(column_type).write(raw.as_bytes(), &mut out).ok()?;
        Some(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_value_is_what_the_type_holds_or_refused() {
        for (column_type, raw, expected) in [
            ("bigint(20)", "1.5e1", Some("15")),
            ("bigint(20)", "1.5", None),
            ("smallint(6)", "40000", None),
            ("bigint(20) unsigned", "18446744073709551615", Some("18446744073709551615")),
            ("int(10) unsigned", "-1", None),
            ("decimal(6,2)", "\"1234.50\"", Some("1234.5")),
            ("decimal(6,2)", "12345", None),
            ("decimal(6,2)", "0.125", None),
            (
                "decimal(39,0)",
                "\"170141183460469231731687303715884105727\"",
                Some("170141183460469231731687303715884105727"),
            ),
            ("double", "\"Infinity\"", None),
            ("float", "0.1", None),
            ("float", "0.5", Some("5e-1")),
            ("varchar(3)", "\"äöü\"", Some("'äöü'")),
            ("varchar(3)", "\"abcd\"", None),
            ("longtext", "\"O'Reilly\\\\\\n\"", Some("'O\\'Reilly\\\\\n'")),
            ("date", "\"2024-05-01\"", Some("'2024-05-01'")),
            ("date", "\"2024-05-01 12:00:00\"", None),
            ("datetime(6)", "\"2024-05-01T02:00:00.5+02:00\"", Some("'2024-05-01 00:00:00.500000'")),
            ("datetime", "\"2024-05-01 00:00:00.5\"", None),
            ("timestamp", "\"2040-01-01\"", None),
            ("time(3)", "\"12:34:56.789\"", Some("'12:34:56.789000'")),
            ("json", "{\"a\":\"it's\"}", Some("'{\"a\":\"it\\'s\"}'")),
            ("longblob", "\"a\\\\xFF\"", Some("x'61ff'")),
            ("tinyint(1)", "true", Some("TRUE")),
            ("tinyint(1)", "2", None),
            ("int(11)", "null", Some("NULL")),
        ] {
            assert_eq!(written(column_type, raw).as_deref(), expected, "{raw} as {column_type}");
        }
    }
}
