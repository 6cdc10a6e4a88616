//! Rows in files and answers: CSV, JSON and JSON Lines become pages of JSON rows, in memory that does not grow with them.

mod arrow;
mod csv;
mod json;

use std::io::{self, BufRead};
use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use self::arrow::{logical_type, push_rows};
pub use self::csv::{CsvRows, read_header};
pub use self::json::JsonRows;

use crate::error::{Error, Kind, Result};
use crate::model::literal::plain_length;

/// A row larger than this is none: a quote or a bracket that is never closed would take the whole file for one row.
const LONGEST_ROW: usize = 64 << 20;

/// Rows as JSON objects, one behind the other.
#[derive(Debug, Default)]
pub struct RowPage {
    /// The text of all rows.
    pub body: Vec<u8>,
    /// Where each row lies in it.
    pub rows: Vec<Range<usize>>,
    /// Nothing follows: the end of the input was seen.
    pub ended: bool,
}

/// A place between two rows of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Bytes before it, after decompression.
    pub offset: u64,
    /// Line breaks before it.
    pub line: u64,
}

/// Reads rows page by page.
pub trait RowReader {
    /// The rows of about `most` bytes, fewer at the end of the input.
    ///
    /// # Errors
    /// Kind [`Kind::Data`]: what stands there is no row; the message names the line and what was found.
    fn page(&mut self, most: usize) -> Result<RowPage>;

    /// The place behind the last row that was read.
    fn mark(&self) -> Mark;
}

/// A fault at a line, counted from 1.
pub(super) fn at_line(line: u64, found: impl std::fmt::Display) -> Error {
    Error::new(Kind::Data, format!("line {line} {found}"))
}

/// What a reader says when its bytes end or break off: a truncated archive above all.
fn broken(line: u64, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => at_line(line, "is the last that is whole: the compressed data end behind it")
            .hint("the file seems to be cut off; was it still being written?"),
        _ => at_line(line, format!("is the last that could be read: {error}")),
    }
}

/// The next bytes; empty at the end.
fn more(input: &mut dyn BufRead, line: u64) -> Result<&[u8]> {
    // A loop over `Interrupted` would have to borrow twice: who reads files here is not interrupted by signals.
    input.fill_buf().map_err(|error| broken(line, &error))
}

fn too_long(line: u64) -> Error {
    at_line(line, format!("begins a row of more than {} MiB", LONGEST_ROW >> 20))
        .hint("a quote or a bracket that is never closed takes all that follows for one row")
}

/// Writes a text as JSON.
pub fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some((&byte, behind)) = special.split_first() else { break };
        rest = behind;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.push(b'"');
}

/// A member of a row, as it is written in front of a value: `"name":`.
pub fn member_key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 3);
    push_text(&mut key, name);
    key.push(b':');
    key
}

/// Adds a member to the object that a text ends with.
pub fn push_member(body: &mut Vec<u8>, member: &[u8]) {
    while body.last().is_some_and(u8::is_ascii_whitespace) {
        body.pop();
    }
    body.pop();
    while body.last().is_some_and(u8::is_ascii_whitespace) {
        body.pop();
    }
    if body.last() != Some(&b'{') {
        body.push(b',');
    }
    body.extend_from_slice(member);
    body.push(b'}');
}

/// The beginning of a text on one line, for messages.
fn excerpt(text: &[u8]) -> String {
    const LONGEST: usize = 60;
    let text = String::from_utf8_lossy(&text[..text.len().min(LONGEST * 4)]).replace(['\n', '\r'], " ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
