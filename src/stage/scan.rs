//! One pass over a row: minified, its types observed, its time found, its digits kept.

use crate::error::{Error, Kind, Result};
use crate::model::shape::{Field, Number, Place, Seen, Shape, Words};

/// Rows nested deeper than this are refused.
const DEEPEST: usize = 128;

/// Reads one row after the other, and learns their shape.
pub(super) struct Scanner<'a> {
    input: &'a [u8],
    at: usize,
    place: Place,
    /// The path of the row's time, where one is wanted.
    time_path: &'a [String],
    /// The raw JSON of the row's time.
    pub time: Option<&'a [u8]>,
}

impl<'a> Scanner<'a> {
    /// A scanner of one row.
    pub fn new(input: &'a [u8], place: Place, time_path: &'a [String]) -> Self {
        Self { input, at: 0, place, time_path, time: None }
    }

    /// Writes the row to `out` on one line and merges its members into `shape`.
    pub fn row(&mut self, shape: &mut Shape, out: &mut Vec<u8>) -> Result<()> {
        self.space();
        if self.peek() == Some(b'{') {
            self.object(shape, out, 0, true)?;
        } else {
            out.extend_from_slice(b"{\"value\":");
            let seen = seen_at(shape, 0, "value");
            self.value(seen, out, 1, None)?;
            out.push(b'}');
        }
        self.space();
        if self.at == self.input.len() { Ok(()) } else { Err(self.broken()) }
    }

    fn object(&mut self, shape: &mut Shape, out: &mut Vec<u8>, depth: usize, on_path: bool) -> Result<()> {
        if depth > DEEPEST {
            return Err(self.fault("is nested deeper than 128 levels"));
        }
        self.at += 1;
        out.push(b'{');
        let mut index = 0;
        loop {
            self.space();
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    out.push(b'}');
                    return Ok(());
                }
                Some(b',') if index > 0 => {
                    self.at += 1;
                    out.push(b',');
                    self.space();
                }
                _ => {}
            }
            let raw = self.string()?;
            out.extend_from_slice(raw);
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.broken());
            }
            self.at += 1;
            out.push(b':');
            self.space();
            let name = &raw[1..raw.len() - 1];
            let here = on_path && self.time_path.get(depth).is_some_and(|part| part.as_bytes() == name);
            let seen = member(shape, index, name).ok_or_else(|| self.broken())?;
            self.value(seen, out, depth + 1, here.then_some(depth + 1))?;
            index += 1;
        }
    }

    fn value(&mut self, seen: &mut Seen, out: &mut Vec<u8>, depth: usize, path: Option<usize>) -> Result<()> {
        let from = self.at;
        match self.peek() {
            Some(b'{') => {
                let (place, shape) = seen.object.get_or_insert_with(|| (self.place, Shape::default()));
                *place = (*place).min(self.place);
                self.object(shape, out, depth, path.is_some())?;
            }
            Some(b'[') => {
                let (place, element) = seen.list.get_or_insert_with(|| (self.place, Box::default()));
                *place = (*place).min(self.place);
                self.list(element, out, depth)?;
            }
            Some(b'"') => {
                let raw = self.string()?;
                out.extend_from_slice(raw);
                let words = words(&raw[1..raw.len() - 1]);
                match &mut seen.text {
                    Some((place, known)) => {
                        *known = known.merge(words);
                        *place = (*place).min(self.place);
                    }
                    none => *none = Some((self.place, words)),
                }
            }
            Some(b't' | b'f') => {
                self.word(out)?;
                seen.boolean = Some(seen.boolean.map_or(self.place, |place| place.min(self.place)));
            }
            Some(b'n') => self.word(out)?,
            Some(b'-' | b'0'..=b'9') => self.number(seen, out)?,
            _ => return Err(self.broken()),
        }
        if path == Some(self.time_path.len()) {
            self.time = Some(&self.input[from..self.at]);
        }
        Ok(())
    }

    fn list(&mut self, element: &mut Seen, out: &mut Vec<u8>, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(self.fault("is nested deeper than 128 levels"));
        }
        self.at += 1;
        out.push(b'[');
        let mut first = true;
        loop {
            self.space();
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    out.push(b']');
                    return Ok(());
                }
                Some(b',') if !first => {
                    self.at += 1;
                    out.push(b',');
                    self.space();
                }
                _ => {}
            }
            first = false;
            self.value(element, out, depth + 1, None)?;
        }
    }

    fn number(&mut self, seen: &mut Seen, out: &mut Vec<u8>) -> Result<()> {
        let from = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let literal = std::str::from_utf8(&self.input[from..self.at]).map_err(|_| self.broken())?;
        let number = number(literal);
        // The warehouse's JSON reader goes through a 64-bit float; what that would change travels as text.
        let quoted = number.inexact;
        if quoted {
            out.push(b'"');
        }
        out.extend_from_slice(literal.as_bytes());
        if quoted {
            out.push(b'"');
        }
        match &mut seen.number {
            Some((place, known)) => {
                *known = known.merge(number);
                *place = (*place).min(self.place);
            }
            none => *none = Some((self.place, number)),
        }
        Ok(())
    }

    /// The raw string that begins here, quotes included.
    fn string(&mut self) -> Result<&'a [u8]> {
        if self.peek() != Some(b'"') {
            return Err(self.broken());
        }
        let from = self.at;
        let mut at = from + 1;
        while let Some(&byte) = self.input.get(at) {
            match byte {
                b'"' => {
                    self.at = at + 1;
                    return Ok(&self.input[from..=at]);
                }
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        Err(self.broken())
    }

    fn word(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let rest = &self.input[self.at..];
        let word: &[u8] = match rest.first() {
            Some(b't') => b"true",
            Some(b'f') => b"false",
            _ => b"null",
        };
        if !rest.starts_with(word) {
            return Err(self.broken());
        }
        self.at += word.len();
        out.extend_from_slice(word);
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn broken(&self) -> Error {
        self.fault(&format!("is not valid JSON at byte {}", self.at))
    }

    fn fault(&self, what: &str) -> Error {
        Error::new(Kind::Source, format!("row {} of page {} {what}", self.place.row, self.place.page))
    }
}

/// The member of this name; rows repeat the order of their members, so the place tells it nearly always.
fn member<'s>(shape: &'s mut Shape, index: usize, raw: &[u8]) -> Option<&'s mut Seen> {
    if shape.fields.get(index).is_some_and(|field| field.name.as_bytes() == raw) {
        return shape.fields.get_mut(index).map(|field| &mut field.seen);
    }
    if raw.contains(&b'\\') {
        let quoted = [b"\"", raw, b"\""].concat();
        let name: String = serde_json::from_slice(&quoted).ok()?;
        return Some(seen_at(shape, index, &name));
    }
    std::str::from_utf8(raw).ok().map(|name| seen_at(shape, index, name))
}

fn seen_at<'s>(shape: &'s mut Shape, index: usize, name: &str) -> &'s mut Seen {
    let found = match shape.fields.get(index) {
        Some(field) if field.name == name => index,
        _ => match shape.fields.iter().position(|field| field.name == name) {
            Some(found) => found,
            None => {
                shape.fields.push(Field { name: name.to_owned(), seen: Seen::default() });
                shape.fields.len() - 1
            }
        },
    };
    &mut shape.fields[found].seen
}

/// What a number's literal tells.
fn number(literal: &str) -> Number {
    let unsigned = literal.trim_start_matches('-');
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], true),
        None => (unsigned, false),
    };
    let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = exponent || unsigned.contains('.');
    let count = |text: &str| u16::try_from(text.len()).unwrap_or(u16::MAX);
    let digits = count(whole.trim_start_matches('0'));
    if !fraction {
        let huge = whole.len() > 18 && literal.parse::<i64>().is_err();
        let inexact = huge && literal.parse::<i128>().is_err();
        return Number { digits, scale: 0, fraction, huge, inexact };
    }
    let significant = whole.trim_start_matches('0').len() + behind.len();
    let inexact = significant > 15 && !survives(literal);
    Number { digits, scale: if exponent { 0 } else { count(behind) }, fraction, huge: false, inexact }
}

/// Whether a literal is the same number after a way through a 64-bit float.
fn survives(literal: &str) -> bool {
    let Ok(value) = literal.parse::<f64>() else { return false };
    let plain = |text: &str| {
        let text = text.trim_start_matches('-');
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i32 = exponent.trim_start_matches('+').parse().unwrap_or(0);
        let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{behind}");
        let point = i32::try_from(whole.len()).unwrap_or(0) + exponent;
        let leading = digits.len() - digits.trim_start_matches('0').len();
        (digits.trim_matches('0').to_owned(), point - i32::try_from(leading).unwrap_or(0))
    };
    value.is_finite() && plain(literal) == plain(&format!("{value:e}"))
}

/// What a text looks like.
fn words(raw: &[u8]) -> Words {
    let plain = Words { plain: true, ..Words::default() };
    let digit = |at: usize| raw.get(at).is_some_and(u8::is_ascii_digit);
    let date = raw.len() >= 10
        && raw.len() <= 40
        && raw[4] == b'-'
        && raw[7] == b'-'
        && [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(digit);
    let Some(text) = date.then(|| std::str::from_utf8(raw).ok()).flatten() else { return plain };
    if chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() {
        return Words { date: true, ..Words::default() };
    }
    if chrono::DateTime::parse_from_rfc3339(text).is_ok() {
        return Words { offset: true, ..Words::default() };
    }
    if naive(text).is_some() {
        return Words { naive: true, ..Words::default() };
    }
    plain
}

/// A wall-clock time without an offset.
pub(super) fn naive(text: &str) -> Option<chrono::NaiveDateTime> {
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .into_iter()
        .find_map(|form| chrono::NaiveDateTime::parse_from_str(text, form).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(row: &str) -> (Shape, String) {
        let (mut shape, mut out) = (Shape::default(), Vec::new());
        Scanner::new(row.as_bytes(), Place { page: 1, row: 1 }, &[]).row(&mut shape, &mut out).expect("a row");
        (shape, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn digits_that_a_float_would_lose_travel_as_text() {
        let (_, out) = scan("{ \"a\": 12345678901234567.891,\n \"b\": 0.30000000000000004, \"c\": 9007199254740993 }");
        assert_eq!(out, "{\"a\":\"12345678901234567.891\",\"b\":0.30000000000000004,\"c\":9007199254740993}");
    }

    proptest::proptest! {
        #[test]
        fn a_minified_row_has_the_same_value(text in "\\PC*", number in proptest::num::i64::ANY, flag in proptest::bool::ANY) {
            let row = serde_json::json!({ "t": text, "n": [number, null], "o": { "f": flag, &*text: 1 } });
            let (_, out) = scan(&serde_json::to_string_pretty(&row).expect("JSON"));
            proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&out).expect("JSON"), row);
        }
    }
}
