//! From a program's output to pages: lines of any length up to a limit, gathered until a page is full.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Context, Error, Kind, Result};
use crate::extract::{Page, Pulled, Sink};
use crate::model::page::{PageEntry, Position};

/// A page is handed on at this many bytes.
const PAGE: usize = 1 << 20;

/// A line that is longer is not read: it would have to be in memory as a whole.
const LONGEST: usize = 64 << 20;

/// How much of a wrong line an error shows, in characters.
const SHOWN: usize = 120;

/// Cuts what a program prints into its lines.
#[derive(Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    /// How many lines were cut off so far.
    pub number: u64,
}

impl Lines {
    /// Adds bytes and hands every line that is complete to `take`.
    pub async fn add(&mut self, bytes: &[u8], take: &mut impl Take) -> Result<()> {
        let mut bytes = bytes;
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, after) = bytes.split_at(end);
            bytes = &after[1..];
            self.number += 1;
            if self.rest.is_empty() {
                take.line(self.number, line).await?;
            } else {
                self.rest.extend_from_slice(line);
                let whole = std::mem::take(&mut self.rest);
                take.line(self.number, &whole).await?;
            }
        }
        self.rest.extend_from_slice(bytes);
        if self.rest.len() > LONGEST {
            let doing = format!("line {} of its output is longer than {} MiB", self.number + 1, LONGEST >> 20);
            return Err(
                Error::new(Kind::Source, doing).hint("each row is printed as one line, with a line break behind it")
            );
        }
        Ok(())
    }

    /// The last line, where it has no line break behind it.
    pub async fn end<T: Take>(&mut self, take: &mut T) -> Result<()> {
        if self.rest.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        self.number += 1;
        let whole = std::mem::take(&mut self.rest);
        if T::IS_JSON && serde_json::from_slice::<&serde_json::value::RawValue>(&whole).is_err() {
            let doing = format!("the last line of its output, line {}, is cut off: `{}`", self.number, shown(&whole));
            return Err(Error::new(Kind::Source, doing));
        }
        take.line(self.number, &whole).await
    }
}

/// Takes lines as they come.
pub(super) trait Take {
    /// Whether every line is JSON of its own, so that one that is none was cut off.
    const IS_JSON: bool = true;

    /// Takes one line, counted from 1, without its line break.
    async fn line(&mut self, number: u64, line: &[u8]) -> Result<()>;
}

/// Gathers rows into pages.
pub(super) struct Pages {
    sink: Arc<dyn Sink>,
    body: Vec<u8>,
    rows: Vec<Range<usize>>,
    pub pulled: Pulled,
}

impl Pages {
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink, body: Vec::with_capacity(PAGE + (64 << 10)), rows: Vec::new(), pulled: Pulled::default() }
    }

    /// Adds the JSON of a row; waits while a full page is made durable, so that the program waits too.
    pub async fn row(&mut self, json: &[u8]) -> Result<()> {
        let start = self.body.len();
        self.body.extend_from_slice(json);
        self.rows.push(start..self.body.len());
        self.body.push(b'\n');
        if self.body.len() >= PAGE { self.flush(false).await } else { Ok(()) }
    }

    /// Hands the rows that are left on.
    pub async fn end(&mut self) -> Result<()> {
        if self.rows.is_empty() { Ok(()) } else { self.flush(true).await }
    }

    async fn flush(&mut self, last: bool) -> Result<()> {
        let body = Bytes::from(std::mem::replace(&mut self.body, Vec::with_capacity(PAGE + (64 << 10))));
        let rows = std::mem::take(&mut self.rows);
        let number = self.pulled.pages;
        let entry = PageEntry {
            number,
            at: Position::Page(number),
            next: (!last).then_some(Position::Page(number + 1)),
            total: None,
            rows: rows.len() as u64,
            digest: xxhash_rust::xxh3::xxh3_64(&body),
        };
        let wire_bytes = body.len() as u64;
        self.pulled.pages += 1;
        self.pulled.bytes += wire_bytes;
        let sink = Arc::clone(&self.sink);
        tokio::task::spawn_blocking(move || sink.put(Page { entry, body, rows, wire_bytes }))
            .await
            .context(Kind::Internal, || "putting a page into the stage".to_owned())?
    }
}

/// Each line is a row.
pub(super) struct JsonLines<'a>(pub &'a mut Pages);

impl Take for JsonLines<'_> {
    async fn line(&mut self, number: u64, line: &[u8]) -> Result<()> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        if line[0] != b'{' || serde_json::from_slice::<&serde_json::value::RawValue>(line).is_err() {
            return Err(no_row(
                number,
                line,
                "each line of its stdout is one row, a JSON object; whatever else it says belongs on stderr",
            ));
        }
        self.0.row(line).await
    }
}

/// A line that is not what it ought to be.
pub(super) fn no_row(number: u64, line: &[u8], hint: &str) -> Error {
    let doing = format!("line {number} of its output is no JSON object: `{}`", shown(line));
    Error::new(Kind::Source, doing).hint(hint)
}

/// The beginning of a line, for an error.
pub(super) fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(8 * SHOWN)]);
    let text = text.trim();
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() || line.len() > 8 * SHOWN {
        shown.push('…');
    }
    shown
}
