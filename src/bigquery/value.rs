//! Values as BigQuery's REST interface writes them, `{"f":[{"v":"1"}]}`, become plain JSON without losing a digit.

use std::fmt;
use std::io::Write;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::table::{Field, Form, Mode};

/// A row, or a record inside of one: `{"f":[cell, …]}` becomes an object.
pub(super) struct Record<'a> {
    pub fields: &'a [Field],
    pub out: &'a mut Vec<u8>,
}

/// A cell, `{"v":value}`.
struct Cell<'a> {
    field: &'a Field,
    /// Whether the value is the list of a repeated field, and not one of its elements.
    list: bool,
    out: &'a mut Vec<u8>,
}

/// What a cell holds.
struct Held<'a>(Cell<'a>);

/// The cells of a record, in the order of its fields.
struct Cells<'a>(Record<'a>);

impl<'de> DeserializeSeed<'de> for Record<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Record<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row, {\"f\": …}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<&str>()? {
            if key == "f" && !found {
                found = true;
                map.next_value_seed(Cells(Record { fields: self.fields, out: self.out }))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(A::Error::missing_field("f")) }
    }
}

impl<'de> DeserializeSeed<'de> for Cells<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Cells<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {} cells", self.0.fields.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Record { fields, out } = self.0;
        out.push(b'{');
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(field.key.as_bytes());
            let list = field.mode == Mode::Repeated;
            if seq.next_element_seed(Cell { field, list, out })?.is_none() {
                return Err(A::Error::invalid_length(index, &format!("{} cells", fields.len()).as_str()));
            }
        }
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom(format!("more cells than the {} of the schema", fields.len())));
        }
        out.push(b'}');
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Cell<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cell, {\"v\": …}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { field, list, out } = self;
        let mut found = false;
        while let Some(key) = map.next_key::<&str>()? {
            if key == "v" && !found {
                found = true;
                map.next_value_seed(Held(Cell { field, list, out }))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if !found {
            out.extend_from_slice(nothing(list));
        }
        Ok(())
    }
}

/// A list without elements is one all the same: BigQuery does not tell it from null.
fn nothing(list: bool) -> &'static [u8] {
    if list { b"[]" } else { b"null" }
}

impl<'de> DeserializeSeed<'de> for Held<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Held<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of `{}`, which is {}", self.0.field.name, self.0.field.type_name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.out.extend_from_slice(nothing(self.0.list));
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        write(self.0.field.form, text, self.0.out);
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.visit_str(if value { "true" } else { "false" })
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.visit_str(&value.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Cell { field, list, out } = self.0;
        if !list {
            return Err(A::Error::custom(format!("`{}` is no list by its schema", field.name)));
        }
        out.push(b'[');
        let mut first = true;
        loop {
            let before = out.len();
            if !first {
                out.push(b',');
            }
            if seq.next_element_seed(Cell { field, list: false, out })?.is_none() {
                out.truncate(before);
                break;
            }
            first = false;
        }
        out.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Cell { field, out, .. } = self.0;
        if field.form != Form::Record {
            return Err(A::Error::custom(format!("`{}` is no record by its schema", field.name)));
        }
        Record { fields: &field.fields, out }.visit_map(map)
    }
}

/// Writes one plain value, which is a text on the wire whatever its type is.
fn write(form: Form, text: &str, out: &mut Vec<u8>) {
    match form {
        Form::Whole if is_whole(text) => out.extend_from_slice(text.as_bytes()),
        // NaN and the infinities are no numbers of JSON; a warehouse reads them from their texts.
        Form::Number if is_number(text) => out.extend_from_slice(text.as_bytes()),
        Form::Boolean if matches!(text, "true" | "false") => out.extend_from_slice(text.as_bytes()),
        Form::Json if serde_json::from_str::<&RawValue>(text).is_ok() => out.extend_from_slice(text.as_bytes()),
        Form::Timestamp => quoted(&timestamp(text).unwrap_or_else(|| text.to_owned()), out),
        _ => quoted(text, out),
    }
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    // Writing to memory cannot fail, and a text has no keys that could be wrong.
    let _ = serde_json::to_writer(&mut *out, text);
}

/// Whether a text is a whole number of JSON.
fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'))
}

/// Whether a text is a number of JSON (RFC 8259, section 6).
fn is_number(text: &str) -> bool {
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    is_whole(whole)
        && fraction.is_none_or(all_digits)
        && exponent.is_none_or(|exponent| all_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

/// An instant in RFC 3339, from microseconds since 1970 as asked for, or from decimal seconds as an emulator may answer.
fn timestamp(text: &str) -> Option<String> {
    let micros = match text.parse::<i64>() {
        Ok(micros) => micros,
        Err(_) => micros_of_seconds(text)?,
    };
    let at = chrono::DateTime::from_timestamp_micros(micros)?;
    Some(at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

/// `1.704067200123456E9` in whole microseconds, by its digits: a binary fraction would not have them all.
fn micros_of_seconds(text: &str) -> Option<i64> {
    if !is_number(text) {
        return None;
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let shift = exponent.parse::<i32>().ok()? + 6 - i32::try_from(fraction.len()).ok()?;
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let power = 10i128.checked_pow(shift.unsigned_abs())?;
    let micros = if shift >= 0 { digits.checked_mul(power)? } else { digits.div_euclid(power) };
    i64::try_from(micros).ok()
}

/// Appends a line break, so that rows can be told apart by people, too.
pub(super) fn end_of_row(out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = out.write_all(b"\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(form: Form, text: &str) -> String {
        let mut out = Vec::new();
        write(form, text, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    #[test]
    fn numbers_keep_their_digits_and_what_is_no_number_is_a_text() {
        for text in ["0", "-9223372036854775808", "9007199254740993"] {
            assert_eq!(written(Form::Whole, text), text);
        }
        for text in ["0.1", "-1.5E-10", "1E+22", "12345678901234567890123456789.123456789"] {
            assert_eq!(written(Form::Number, text), text);
        }
        for text in ["NaN", "Infinity", "-Infinity", "+1", ".5", "01", "1e", ""] {
            assert_eq!(written(Form::Number, text), format!("\"{text}\""));
        }
    }

    #[test]
    fn timestamps_are_instants_in_utc_to_the_microsecond() {
        for (wire, text) in [
            ("1704067200123456", "2024-01-01T00:00:00.123456Z"),
            ("1.704067200123456E9", "2024-01-01T00:00:00.123456Z"),
            ("1704067200.0", "2024-01-01T00:00:00Z"),
            ("-62135596800000000", "0001-01-01T00:00:00Z"),
            ("253402300799999999", "9999-12-31T23:59:59.999999Z"),
            ("-0.000001E0", "1969-12-31T23:59:59.999999Z"),
            ("2024-01-01T00:00:00.123456789012Z", "2024-01-01T00:00:00.123456789012Z"),
        ] {
            assert_eq!(written(Form::Timestamp, wire), format!("\"{text}\""), "{wire}");
        }
    }

    #[test]
    fn json_arrives_as_the_value_that_it_is() {
        assert_eq!(written(Form::Json, "{\"a\":[1,2.50]}"), "{\"a\":[1,2.50]}");
        assert_eq!(written(Form::Json, "{broken"), "\"{broken\"");
    }
}
