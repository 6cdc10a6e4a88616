//! One pass over a row: minified, its types observed, its time found, its digits kept.

use crate::error::{Error, Kind, Result};
use crate::model::literal::plain_length;
use crate::model::shape::{Field, Literal, Place, Seen, Shape, Wording};

/// Rows nested deeper than this are refused.
const DEEPEST: usize = 128;

/// Reads one row after the other, and learns their shape.
pub(super) struct Scanner<'a> {
    input: &'a [u8],
    at: usize,
    /// What lies before it is written; what lies between it and `at` is written as it stands.
    written: usize,
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
        Self { input, at: 0, written: 0, place, time_path, taken: &[], time: None }
    }

    /// A row whose first members were added to it: the row's own must have other names.
    pub fn beside(self, taken: &'a [Vec<u8>]) -> Self {
        Self { taken, ..self }
    }

    /// Writes the row to `out` on one line and merges its members into `shape`.
    pub fn row(&mut self, shape: &mut Shape, out: &mut Vec<u8>) -> Result<()> {
        self.space(out);
        if self.peek() == Some(b'{') {
            self.object(shape, out, 0, true)?;
            self.flush(out);
        } else {
            out.extend_from_slice(b"{\"value\":");
            let seen = seen_at(shape, 0, "value", self.place);
            self.value(seen, out, 1, None)?;
            self.flush(out);
            out.push(b'}');
        }
        self.space(out);
        if self.at == self.input.len() { Ok(()) } else { Err(self.broken()) }
    }

    fn object(&mut self, shape: &mut Shape, out: &mut Vec<u8>, depth: usize, on_path: bool) -> Result<()> {
        if depth > DEEPEST {
            return Err(self.fault("is nested deeper than 128 levels"));
        }
        self.at += 1;
        let mut index = 0;
        loop {
            self.space(out);
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b',') if index > 0 => {
                    self.at += 1;
                    self.space(out);
                }
                _ if index > 0 => return Err(self.broken()),
                _ => {}
            }
            let raw = self.string()?;
            self.space(out);
            if self.peek() != Some(b':') {
                return Err(self.broken());
            }
            self.at += 1;
            self.space(out);
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
                seen.text.get_or_insert_default().note(Wording::of(&raw[1..raw.len() - 1]), self.place);
            }
            Some(b't' | b'f') => {
                self.word()?;
                seen.boolean.get_or_insert(self.place);
            }
            Some(b'n') => self.word()?,
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
        let mut first = true;
        loop {
            self.space(out);
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b',') if !first => {
                    self.at += 1;
                    self.space(out);
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
        let number = Literal::of(&self.input[from..self.at]).ok_or_else(|| self.broken())?;
        // The warehouse's JSON reader goes through a 64-bit float; what that would change travels as text.
        if number.must_travel_as_text() {
            let end = std::mem::replace(&mut self.at, from);
            self.flush(out);
            out.push(b'"');
            self.at = end;
            self.flush(out);
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
        loop {
            at += plain_length(self.input.get(at..).unwrap_or_default());
            match self.input.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(&self.input[from..=at]);
                }
                Some(b'\\') => at += 2,
                // A bare line break would make two rows of one.
                _ => return Err(self.broken()),
            }
        }
    }

    fn word(&mut self) -> Result<()> {
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
        Ok(())
    }

    /// Skips what means nothing.
    fn space(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            return;
        }
        self.flush(out);
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        self.written = self.at;
    }

    /// Writes what was read.
    fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.input[self.written..self.at]);
        self.written = self.at;
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
        let (_, out) = scan("{ \"a\": 12345678901234567.891,\n \"b\": 0.300000000000001, \"c\": 9007199254740993 }");
        assert_eq!(out, "{\"a\":\"12345678901234567.891\",\"b\":0.300000000000001,\"c\":9007199254740993}");
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
