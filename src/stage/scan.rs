//! One pass over a row: minified, its types observed, its time found, its digits kept.

use crate::error::{Error, Kind, Result};
use crate::model::shape::{Field, Literal, Place, Seen, Shape, Wording};

/// Rows nested deeper than this are refused.
const DEEPEST: usize = 128;

/// Reads one row after the other, and learns their shape.
pub(super) struct Scanner<'a> {
    input: &'a [u8],
    at: usize,
    place: Place,
    /// The path of the row's time, where one is wanted.
    time_path: &'a [String],
    /// The names of the first members, which no later one may have.
    taken: &'a [Vec<u8>],
    /// The raw JSON of the row's time.
    pub time: Option<&'a [u8]>,
}

impl<'a> Scanner<'a> {
    /// A scanner of one row.
    pub fn new(input: &'a [u8], place: Place, time_path: &'a [String]) -> Self {
        Self { input, at: 0, place, time_path, taken: &[], time: None }
    }

    /// A row whose first members were added to it: the row's own must have other names.
    pub fn beside(self, taken: &'a [Vec<u8>]) -> Self {
        Self { taken, ..self }
    }

    /// Writes the row to `out` on one line and merges its members into `shape`.
    pub fn row(&mut self, shape: &mut Shape, out: &mut Vec<u8>) -> Result<()> {
        self.space();
        if self.peek() == Some(b'{') {
            self.object(shape, out, 0, true)?;
        } else {
            out.extend_from_slice(b"{\"value\":");
            let seen = seen_at(shape, 0, "value", self.place);
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
                _ if index > 0 => return Err(self.broken()),
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
            if depth == 0 && index >= self.taken.len() && self.taken.iter().any(|taken| taken == name) {
                let name = String::from_utf8_lossy(name);
                return Err(self.fault(&format!("has a member `{name}` of its own, which `add` gives it too")));
            }
            let here = on_path && self.time_path.get(depth).is_some_and(|part| part.as_bytes() == name);
            let seen = member(shape, index, name, self.place).ok_or_else(|| self.broken())?;
            self.value(seen, out, depth + 1, here.then_some(depth + 1))?;
            index += 1;
        }
    }

    fn value(&mut self, seen: &mut Seen, out: &mut Vec<u8>, depth: usize, path: Option<usize>) -> Result<()> {
        let from = self.at;
        match self.peek() {
            Some(b'{') => {
                let (_, shape) = seen.object.get_or_insert_with(|| (self.place, Shape::default()));
                self.object(shape, out, depth, path.is_some())?;
            }
            Some(b'[') => {
                let (_, element) = seen.list.get_or_insert_with(|| (self.place, Box::default()));
                self.list(element, out, depth)?;
            }
            Some(b'"') => {
                let raw = self.string()?;
                out.extend_from_slice(raw);
                seen.text.get_or_insert_default().note(wording(&raw[1..raw.len() - 1]), self.place);
            }
            Some(b't' | b'f') => {
                self.word(out)?;
                seen.boolean.get_or_insert(self.place);
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
                _ if !first => return Err(self.broken()),
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
        let number = number(literal).ok_or_else(|| self.broken())?;
        // The warehouse's JSON reader goes through a 64-bit float; what that would change travels as text.
        let quoted = number.inexact && (number.fraction || number.vast);
        if quoted {
            out.push(b'"');
        }
        out.extend_from_slice(literal.as_bytes());
        if quoted {
            out.push(b'"');
        }
        seen.number.get_or_insert_default().note(number, self.place);
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
                // A bare line break would make two rows of one.
                0..=0x1f => break,
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
fn member<'s>(shape: &'s mut Shape, index: usize, raw: &[u8], place: Place) -> Option<&'s mut Seen> {
    if shape.fields.get(index).is_some_and(|field| field.name.as_bytes() == raw) {
        return shape.fields.get_mut(index).map(|field| &mut field.seen);
    }
    if raw.contains(&b'\\') {
        let quoted = [b"\"", raw, b"\""].concat();
        let name: String = serde_json::from_slice(&quoted).ok()?;
        return Some(seen_at(shape, index, &name, place));
    }
    std::str::from_utf8(raw).ok().map(|name| seen_at(shape, index, name, place))
}

fn seen_at<'s>(shape: &'s mut Shape, index: usize, name: &str, place: Place) -> &'s mut Seen {
    let found = match shape.fields.get(index) {
        Some(field) if field.name == name => index,
        _ => shape.fields.iter().position(|field| field.name == name).unwrap_or_else(|| {
            shape.fields.push(Field { name: name.to_owned(), first: place, seen: Seen::default() });
            shape.fields.len() - 1
        }),
    };
    &mut shape.fields[found].seen
}

/// What a number's literal tells; none where it is no number.
fn number(literal: &str) -> Option<Literal> {
    let unsigned = literal.strip_prefix('-').unwrap_or(literal);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.parse::<i32>().ok()?)),
        None => (unsigned, None),
    };
    let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(behind) {
        return None;
    }
    let significant = whole.trim_start_matches('0');
    let count = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
    if exponent.is_none() && mantissa.len() == whole.len() {
        let (mut huge, mut vast, mut inexact) = (false, false, false);
        if significant.len() > 15 {
            huge = literal.parse::<i64>().is_err();
            vast = huge && literal.parse::<i128>().is_err();
            inexact = !survives(literal);
        }
        return Some(Literal { fraction: false, huge, vast, inexact, digits: count(significant.len()), scale: 0 });
    }
    let inexact = (exponent.is_some() || significant.len() + behind.len() > 15) && !survives(literal);
    let (digits, scale) = match exponent {
        None => (count(significant.len()), count(behind.trim_end_matches('0').len())),
        Some(_) if is_zero(whole) && is_zero(behind) => (0, 0),
        Some(exponent) => {
            // The exponent moves the point; zeros at either end need no digit.
            let point = significant_point(whole, behind) + i64::from(exponent);
            let all = format!("{whole}{behind}");
            let length = i64::try_from(all.trim_matches('0').len()).unwrap_or(i64::MAX);
            let bound = |value: i64| u16::try_from(value.max(0)).unwrap_or(u16::MAX);
            (bound(point), bound(length - point))
        }
    };
    Some(Literal { fraction: true, huge: false, vast: false, inexact, digits, scale })
}

fn is_zero(digits: &str) -> bool {
    digits.bytes().all(|byte| byte == b'0')
}

/// How many digits from the first that is not zero to the point; negative for zeros behind the point.
fn significant_point(whole: &str, behind: &str) -> i64 {
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let significant = whole.trim_start_matches('0');
    if significant.is_empty() { length(behind.trim_start_matches('0')) - length(behind) } else { length(significant) }
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
fn wording(raw: &[u8]) -> Wording {
    let digit = |at: usize| raw.get(at).is_some_and(u8::is_ascii_digit);
    let date = raw.len() >= 10
        && raw.len() <= 40
        && raw[4] == b'-'
        && raw[7] == b'-'
        && [0, 1, 2, 3, 5, 6, 8, 9].into_iter().all(digit);
    let Some(text) = date.then(|| std::str::from_utf8(raw).ok()).flatten() else { return Wording::Plain };
    if chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() {
        return Wording::Date;
    }
    // No warehouse has a second 60.
    if text.get(16..19) == Some(":60") {
        return Wording::Plain;
    }
    if chrono::DateTime::parse_from_rfc3339(text).is_ok() {
        return Wording::Offset;
    }
    if naive(text).is_some() { Wording::Naive } else { Wording::Plain }
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
