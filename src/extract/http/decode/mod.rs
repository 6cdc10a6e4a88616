//! From an answer's bytes to rows: JSON Lines, CSV, XML and compressed files, part by part, so that none is held whole.

mod csv;
mod unpack;
mod xml;

use std::io::{BufRead, BufReader, Read};
use std::ops::Range;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::value::RawValue;

use super::records::{Document, RecordPath};
use crate::error::{Error, Kind, Result};
use crate::model::answer::{AnswerForm, Format};
use unpack::Packing;
pub(super) use unpack::Source;

/// A part ends with the row that makes it longer than this.
const PART_BYTES: usize = 4 << 20;

/// A part has no more rows than this.
const PART_ROWS: usize = 50_000;

/// A row that is longer is none.
const LONGEST_ROW: u64 = 64 << 20;

/// JSON is looked at as a whole: longer documents do not fit.
const LARGEST_DOCUMENT: u64 = 256 << 20;

/// How an answer is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    format: Format,
    /// Whether the names of members of a zip file may say another format.
    named: bool,
    packing: Packing,
    tab: bool,
}

/// A part of an answer: rows that go into one page.
pub(super) struct Part {
    /// JSON, with the rows in it.
    pub body: Bytes,
    pub rows: Vec<Range<usize>>,
    /// The last part says what the answer tells besides its rows, as JSON; `None` where that is `body` itself.
    pub last: Option<Option<Bytes>>,
}

impl Plan {
    /// Sees from what was declared, and else from the answer itself, how it is to be read.
    ///
    /// # Errors
    /// The server says that the answer is something else than was declared: an HTML page in the place of CSV would be no rows.
    pub fn of(form: &AnswerForm, records: Option<&str>, url: &str, headers: &HeaderMap, head: &[u8]) -> Result<Self> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let opaque = matches!(content_type.as_str(), "" | "binary/octet-stream")
            || ["octet-stream", "gzip", "zip", "x-zip-compressed", "x-compressed"]
                .iter()
                .any(|kind| content_type == format!("application/{kind}"));
        let told = match content_type.as_str() {
            "text/csv" | "application/csv" | "text/tab-separated-values" => Some(Format::Csv),
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines"
            | "application/x-jsonl"
            | "application/json-seq" => Some(Format::Jsonl),
            "application/xml" | "text/xml" => Some(Format::Xml),
            kind if kind.ends_with("+xml") && kind != "application/xhtml+xml" => Some(Format::Xml),
            kind if kind == "application/json" || kind.ends_with("+json") => Some(Format::Json),
            _ => None,
        };
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let by_path = records.filter(|records| records.starts_with('/')).map(|_| Format::Xml);
        let declared = form.format.or(by_path);
        let packing = Packing::of(form.compression, head)?;
        let html = matches!(content_type.as_str(), "text/html" | "application/xhtml+xml");
        let other = html || told == Some(Format::Json) && !matches!(declared, Some(Format::Jsonl | Format::Json));
        if let Some(format) = declared.filter(|format| *format != Format::Json && other && packing == Packing::Plain) {
            return Err(Error::new(Kind::Source, format!("the answer is {content_type}, and {} was expected", format.word()))
                .because(super::records::excerpt(&String::from_utf8_lossy(head), 200))
                .hint("many APIs answer 200 with an error inside; a rule can say what is meant: on = { \"200 containing …\" = \"retry\" }"));
        }
        let by_name = if opaque { of_name(path.strip_suffix(".gz").unwrap_or(path)) } else { None };
        let seen = declared.or(told.filter(|_| packing == Packing::Plain)).or(by_name.map(|(format, _)| format));
        Ok(Self {
            format: seen.unwrap_or(Format::Json),
            named: declared.is_none(),
            packing,
            tab: content_type == "text/tab-separated-values" || by_name.is_some_and(|(_, tab)| tab),
        })
    }

    /// Whether the answer is one JSON document, which is read as it stands.
    pub fn is_json(self) -> bool {
        self.format == Format::Json && self.packing == Packing::Plain
    }

    /// Reads the answer and hands its parts over, in their order.
    ///
    /// # Errors
    /// What is read is not what was expected, or is larger than anything should be.
    pub fn read(
        self,
        form: &AnswerForm,
        records: Option<&str>,
        source: Source,
        send: &mut dyn FnMut(Part) -> Result<()>,
    ) -> Result<()> {
        let mut batch = Batch { body: Vec::new(), rows: Vec::new(), about: None, send };
        unpack::each(self.packing, form, source, &mut |name, reader| {
            let by_name = name.filter(|_| self.named).and_then(of_name);
            let format = by_name.map_or(self.format, |(format, _)| format);
            let tab = self.tab || by_name.is_some_and(|(_, tab)| tab);
            match format {
                Format::Json => document(records, reader, &mut batch),
                Format::Jsonl => lines(records, reader, &mut batch),
                Format::Csv => csv::rows(form, tab, reader, &mut batch),
                Format::Xml => xml::rows(records, &form.lists, reader, &mut batch),
            }
            .map_err(|error| match name {
                Some(name) => error.while_doing(format!("reading the member `{name}`")),
                None => error,
            })
        })?;
        batch.end()
    }
}

/// The format that the ending of a file's name tells, and whether its values stand between tabs.
fn of_name(name: &str) -> Option<(Format, bool)> {
    Some(match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
        "csv" => (Format::Csv, false),
        "tsv" => (Format::Csv, true),
        "jsonl" | "ndjson" => (Format::Jsonl, false),
        "json" => (Format::Json, false),
        "xml" => (Format::Xml, false),
        _ => return None,
    })
}

/// Collects rows into parts.
struct Batch<'a> {
    body: Vec<u8>,
    rows: Vec<Range<usize>>,
    about: Option<Bytes>,
    send: &'a mut dyn FnMut(Part) -> Result<()>,
}

impl Batch<'_> {
    /// Takes a row: `write` puts its JSON at the end.
    fn row(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        if self.body.len() >= PART_BYTES || self.rows.len() >= PART_ROWS {
            let (body, rows) = (std::mem::take(&mut self.body), std::mem::take(&mut self.rows));
            (self.send)(Part { body: body.into(), rows, last: None })?;
        }
        let start = self.body.len();
        write(&mut self.body)?;
        self.rows.push(start..self.body.len());
        Ok(())
    }

    fn end(self) -> Result<()> {
        (self.send)(Part { body: self.body.into(), rows: self.rows, last: Some(self.about) })
    }
}

/// A whole JSON document out of a file.
fn document(records: Option<&str>, reader: &mut dyn Read, batch: &mut Batch<'_>) -> Result<()> {
    let mut text = Vec::new();
    reader.take(LARGEST_DOCUMENT + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LARGEST_DOCUMENT {
        return Err(Error::new(Kind::Source, "the document is larger than 256 MiB")
            .hint("JSON Lines and CSV are read piece by piece, however large they are"));
    }
    let text = Bytes::from(text.strip_prefix(BOM).map(<[u8]>::to_vec).unwrap_or(text));
    let document =
        Document::read(&text).map_err(|error| Error::new(Kind::Source, "reading the document").because(error))?;
    for row in RecordPath::compile(records.unwrap_or("$[*]"))?.rows(&document)? {
        batch.row(|body| {
            body.extend_from_slice(&text[row]);
            Ok(())
        })?;
    }
    batch.about = Some(text);
    Ok(())
}

/// What some programs put before UTF-8.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// JSON Lines.
fn lines(records: Option<&str>, reader: &mut dyn Read, batch: &mut Batch<'_>) -> Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let path = records.map(RecordPath::compile).transpose()?;
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        let read = (&mut reader).take(LONGEST_ROW + 1).read_until(b'\n', &mut line).map_err(unreadable)?;
        if read == 0 {
            return Ok(());
        }
        number += 1;
        if read as u64 > LONGEST_ROW {
            return Err(too_long(number));
        }
        let text = if number == 1 { line.strip_prefix(BOM).unwrap_or(&line) } else { &line };
        // RFC 7464 puts a record separator before each.
        let text = text.strip_prefix(b"\x1E").unwrap_or(text).trim_ascii();
        if text.is_empty() {
            continue;
        }
        let doing = || format!("reading line {number}");
        let Some(path) = &path else {
            let json: &RawValue = serde_json::from_slice(text).map_err(|error| {
                Error::new(Kind::Source, doing())
                    .because(format!("it is not JSON ({error}): {}", shown(text)))
                    .hint("each line of JSON Lines is one JSON value; `format` says how the answer is written")
            })?;
            batch.row(|body| {
                body.extend_from_slice(json.get().as_bytes());
                Ok(())
            })?;
            continue;
        };
        let document = Document::read(text).map_err(|error| Error::new(Kind::Source, doing()).because(error))?;
        for row in path.rows(&document).map_err(|error| error.while_doing(doing()))? {
            batch.row(|body| {
                body.extend_from_slice(&text[row]);
                Ok(())
            })?;
        }
    }
}

fn shown(text: &[u8]) -> String {
    super::records::excerpt(&String::from_utf8_lossy(&text[..text.len().min(1000)]), 120)
}

fn too_long(line: u64) -> Error {
    Error::new(Kind::Source, format!("the row at line {line} is longer than {} MiB", LONGEST_ROW >> 20))
        .hint("is this the format that `format` says, and is a quote left open?")
}

/// Why a file cannot be read; a bomb says so itself.
fn unreadable(error: std::io::Error) -> Error {
    let kind = if error.kind() == std::io::ErrorKind::Other { Kind::Storage } else { Kind::Source };
    Error::new(kind, "reading the answer's file").because(error)
}
