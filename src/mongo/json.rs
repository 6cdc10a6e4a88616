//! From BSON to JSON text: straight from the server's bytes, without a value in between, and without losing one.
//!
//! The forms are those of the table in `docs/mongodb.md`; of all there is in BSON only a binary's subtype is not in them.

use std::collections::HashSet;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::raw::{RawArray, RawBinaryRef, RawBsonRef, RawDocument};
use mongodb::bson::spec::BinarySubtype;

/// Documents nested deeper than this are refused; servers take no more than 100 levels.
const DEEPEST: usize = 250;

/// Members of one document are compared with each other up to this many, looked up beyond.
const FEW: usize = 24;

/// What keeps a document from being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable(pub String);

type Written = Result<(), Unreadable>;

/// Writes a document.
pub fn document(out: &mut Vec<u8>, document: &RawDocument) -> Written {
    members(out, document, 0, |_| Some(None))
}

/// Writes the members of a document that `name` wants: with another name, or with their own.
///
/// Of members with the same name, which BSON allows, the later ones get `_2`, `_3` and so on behind it.
pub fn members<'n>(
    out: &mut Vec<u8>,
    document: &RawDocument,
    depth: usize,
    name: impl Fn(&str) -> Option<Option<&'n str>>,
) -> Written {
    if depth > DEEPEST {
        return Err(Unreadable(format!("it is nested deeper than {DEEPEST} levels")));
    }
    let mut seen = Names::default();
    let mut first = true;
    out.push(b'{');
    for member in document {
        let (key, value) = member.map_err(|error| Unreadable(error.to_string()))?;
        let key = key.as_str();
        let Some(other) = name(key) else { continue };
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        match seen.another(key) {
            None => text(out, other.unwrap_or(key)),
            Some(new) => text(out, &new),
        }
        out.push(b':');
        self::value(out, value, depth)?;
    }
    out.push(b'}');
    Ok(())
}

/// The names that a document has shown so far.
#[derive(Default)]
struct Names<'d> {
    few: Vec<&'d str>,
    many: HashSet<&'d str>,
    renamed: Vec<String>,
}

impl<'d> Names<'d> {
    /// Takes a name; returns another one where it was there before.
    fn another(&mut self, name: &'d str) -> Option<String> {
        let known = |names: &Self, name: &str| {
            let there = if names.many.is_empty() { names.few.contains(&name) } else { names.many.contains(name) };
            there || names.renamed.iter().any(|other| other == name)
        };
        if known(self, name) {
            let new = (2..=u32::MAX).map(|count| format!("{name}_{count}")).find(|new| !known(self, new))?;
            self.renamed.push(new.clone());
            return Some(new);
        }
        if self.many.is_empty() {
            self.few.push(name);
            if self.few.len() > FEW {
                self.many = self.few.iter().copied().collect();
            }
        } else {
            self.many.insert(name);
        }
        None
    }
}

fn list(out: &mut Vec<u8>, array: &RawArray, depth: usize) -> Written {
    if depth > DEEPEST {
        return Err(Unreadable(format!("it is nested deeper than {DEEPEST} levels")));
    }
    out.push(b'[');
    let mut first = true;
    for element in array {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        value(out, element.map_err(|error| Unreadable(error.to_string()))?, depth)?;
    }
    out.push(b']');
    Ok(())
}

/// Writes one value.
pub fn value(out: &mut Vec<u8>, value: RawBsonRef<'_>, depth: usize) -> Written {
    match value {
        RawBsonRef::String(words) | RawBsonRef::Symbol(words) | RawBsonRef::JavaScriptCode(words) => text(out, words),
        RawBsonRef::Int32(number) => digits(out, i64::from(number)),
        RawBsonRef::Int64(number) => digits(out, number),
        RawBsonRef::Double(number) => double(out, number),
        RawBsonRef::DateTime(date) => moment(out, date.timestamp_millis()),
        RawBsonRef::ObjectId(id) => quoted(out, id.to_hex().as_bytes()),
        RawBsonRef::Document(inner) => members(out, inner, depth + 1, |_| Some(None))?,
        RawBsonRef::Array(inner) => list(out, inner, depth + 1)?,
        RawBsonRef::Boolean(true) => out.extend_from_slice(b"true"),
        RawBsonRef::Boolean(false) => out.extend_from_slice(b"false"),
        RawBsonRef::Null | RawBsonRef::Undefined => out.extend_from_slice(b"null"),
        RawBsonRef::Decimal128(number) => {
            let number = number.to_string();
            // "NaN" and "Infinity" are no numbers of JSON.
            if number.ends_with(['N', 'y']) { text(out, &number) } else { out.extend_from_slice(number.as_bytes()) }
        }
        RawBsonRef::Binary(bytes) => binary(out, bytes),
        RawBsonRef::Timestamp(stamp) => {
            // Infallible: the target is memory.
            let _ = write!(out, "{{\"t\":{},\"i\":{}}}", stamp.time, stamp.increment);
        }
        RawBsonRef::RegularExpression(regex) => {
            text(out, &format!("/{}/{}", regex.pattern.as_str(), regex.options.as_str()));
        }
        RawBsonRef::JavaScriptCodeWithScope(code) => {
            out.extend_from_slice(b"{\"code\":");
            text(out, code.code);
            out.extend_from_slice(b",\"scope\":");
            members(out, code.scope, depth + 1, |_| Some(None))?;
            out.push(b'}');
        }
        RawBsonRef::DbPointer(_) => {
            let pointer = mongodb::bson::Bson::try_from(value).map_err(|error| Unreadable(error.to_string()))?;
            let pointer = serde_json::to_vec(&pointer).map_err(|error| Unreadable(error.to_string()))?;
            out.extend_from_slice(&pointer);
        }
        RawBsonRef::MinKey => text(out, "MinKey"),
        RawBsonRef::MaxKey => text(out, "MaxKey"),
    }
    Ok(())
}

fn digits(out: &mut Vec<u8>, number: i64) {
    // Infallible: the target is memory.
    let _ = write!(out, "{number}");
}

/// A float keeps its point or exponent, so that 1.0 stays a float; what is no number is a text.
fn double(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        let _ = write!(out, "{number:?}");
    } else if number.is_nan() {
        text(out, "NaN");
    } else {
        text(out, if number > 0.0 { "Infinity" } else { "-Infinity" });
    }
}

fn binary(out: &mut Vec<u8>, binary: RawBinaryRef<'_>) {
    match (binary.subtype, <[u8; 16]>::try_from(binary.bytes)) {
        // The bytes of the older subtype stand in the order of the driver that wrote them, and are not turned here.
        (BinarySubtype::Uuid | BinarySubtype::UuidOld, Ok(bytes)) => {
            text(out, &mongodb::bson::Uuid::from_bytes(bytes).to_string());
        }
        _ => text(out, &STANDARD.encode(binary.bytes)),
    }
}

/// RFC 3339 in UTC with milliseconds; years that it does not know have a sign and six digits or more, as in ISO 8601.
fn moment(out: &mut Vec<u8>, millis: i64) {
    const DAY: i64 = 86_400_000;
    let (days, rest) = (millis.div_euclid(DAY), millis.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (seconds, millis) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = match year {
        0..=9999 => write!(out, "\"{year:04}"),
        _ => write!(out, "\"{year:+07}"),
    };
    let mut two = |before: u8, number: i64| {
        let tens = u8::try_from(number / 10 % 10).unwrap_or_default();
        let ones = u8::try_from(number % 10).unwrap_or_default();
        out.extend_from_slice(&[before, b'0' + tens, b'0' + ones]);
    };
    two(b'-', month);
    two(b'-', day);
    two(b'T', hour);
    two(b':', minute);
    two(b':', second);
    two(b'.', millis / 10);
    out.push(b'0' + u8::try_from(millis % 10).unwrap_or_default());
    out.extend_from_slice(b"Z\"");
}

/// Year, month and day of a count of days since 1970-01-01, by the proleptic Gregorian calendar.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"; calendars of libraries end before BSON's dates do.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn quoted(out: &mut Vec<u8>, plain: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(plain);
    out.push(b'"');
}

/// A text between quotes, with as few escapes as JSON allows.
pub(super) fn text(out: &mut Vec<u8>, words: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = words.as_bytes();
    out.push(b'"');
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, DateTime, RawDocumentBuf, cstr, doc};

    use super::*;

    fn written(document: &RawDocument) -> String {
        let mut out = Vec::new();
        super::document(&mut out, document).expect("a document");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn dates_of_every_year_that_bson_has_are_written() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "+010000-01-01T00:00:00.000Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
            (-62_167_219_200_001, "-000001-12-31T23:59:59.999Z"),
            (i64::MAX, "+292278994-08-17T07:12:55.807Z"),
            (i64::MIN, "-292275055-05-16T16:47:04.192Z"),
        ] {
            let raw = RawDocumentBuf::try_from(doc! { "d": DateTime::from_millis(millis) }).expect("BSON");
            assert_eq!(written(&raw), format!("{{\"d\":\"{text}\"}}"));
        }
    }

    #[test]
    fn a_name_that_comes_again_gets_a_number() {
        let mut raw = RawDocumentBuf::new();
        for number in 1..4 {
            raw.append(cstr!("a"), number);
        }
        raw.append(cstr!("a_2"), 4);
        assert_eq!(written(&raw), r#"{"a":1,"a_2":2,"a_3":3,"a_2_2":4}"#);
        let many: RawDocumentBuf = (0..60).map(|n| (format!("f{}", n % 50), Bson::Int32(n))).fold(
            RawDocumentBuf::new(),
            |mut all, (name, value)| {
                let name = mongodb::bson::raw::CString::try_from(name).expect("a name");
                all.append(&*name, mongodb::bson::RawBson::try_from(value).expect("a value"));
                all
            },
        );
        assert!(written(&many).contains(r#""f9":9,"f10":10"#) && written(&many).ends_with(r#""f9_2":59}"#));
    }

    proptest::proptest! {
        #[test]
        fn texts_are_what_they_were(words in proptest::string::string_regex("(?s).*").expect("a pattern")) {
            let mut out = Vec::new();
            text(&mut out, &words);
            proptest::prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("JSON"), words);
        }

        #[test]
        fn dates_are_those_of_the_calendar(millis in -62_167_219_200_000_i64..253_402_300_800_000) {
            let mut out = Vec::new();
            moment(&mut out, millis);
            let expected = chrono::DateTime::from_timestamp_millis(millis).expect("a date");
            let expected = format!("\"{}\"", expected.format("%Y-%m-%dT%H:%M:%S%.3fZ"));
            proptest::prop_assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }
}
