//! Staged rows as BigQuery loads them: JSON lines, each member as its column's type wants it, compressed.
//!
//! JSON rather than Parquet, whatever the types: numbers keep their digits as texts, records and lists stay what they are,
//! and nothing is parsed that only has to be passed on. Rows go from file to file; none is kept.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tempfile::NamedTempFile;

use crate::error::{Context, Error, Kind, Result};
use crate::model::schema::{LogicalType, StagedColumn};

/// A compressed file may have 4 GB ("Load jobs" of the quotas); a new one begins well before that.
const LARGEST_FILE: u64 = 3_500_000_000;

/// What becomes of staged rows.
pub(super) struct Encoding {
    /// The segments of the stage.
    pub files: Vec<PathBuf>,
    /// The columns that are kept, by the members that they are in the rows.
    pub columns: Vec<StagedColumn>,
    /// The units whose rows are taken, as each row says them; none where all rows are taken.
    pub units: Option<HashSet<String>>,
    /// Members that every row gets: the unit where rows do not say it, the pull where it is stored with them.
    pub constants: String,
    /// Whether the lines are compressed.
    pub compress: bool,
}

/// The rows of a unit on their way.
pub(super) struct Encoded {
    pub files: Vec<NamedTempFile>,
    pub rows: u64,
}

impl Encoding {
    /// Writes the rows beside their stage.
    pub fn run(&self) -> Result<Encoded> {
        let folder = self.files.first().and_then(|file| file.parent()).and_then(Path::parent);
        let mut out = Out::new(folder.map(Path::to_owned), self.compress);
        let mut rows = 0;
        for path in &self.files {
            let doing = || format!("reading {}", path.display());
            let file = File::open(path).context(Kind::Storage, doing)?;
            let mut reader = BufReader::with_capacity(1 << 20, zstd::Decoder::new(file).context(Kind::Storage, doing)?);
            let (mut line, mut row) = (Vec::new(), Vec::new());
            loop {
                line.clear();
                if reader.read_until(b'\n', &mut line).context(Kind::Storage, doing)? == 0 {
                    break;
                }
                let text = line.trim_ascii();
                if text.is_empty() {
                    continue;
                }
                row.clear();
                if self.row(text, &mut row).map_err(|error| refused(path, rows, &error))? {
                    rows += 1;
                    out.put(&row)?;
                }
            }
        }
        Ok(Encoded { files: out.end()?, rows })
    }

    /// Writes one row; says whether it is one of the units.
    fn row(&self, text: &[u8], out: &mut Vec<u8>) -> Result<bool, serde_json::Error> {
        out.push(b'{');
        out.extend_from_slice(self.constants.as_bytes());
        let mut reader = serde_json::Deserializer::from_slice(text);
        let taken = serde::Deserializer::deserialize_map(&mut reader, Row { encoding: self, out })?;
        out.extend_from_slice(b"}\n");
        Ok(taken)
    }
}

fn refused(path: &Path, row: u64, error: &serde_json::Error) -> Error {
    Error::new(Kind::Data, format!("writing row {} of {} as BigQuery reads it", row + 1, path.display()))
        .because(error.to_string())
        .hint("declare the column as JSON: `columns = { name = \"JSON\" }`, or `nested = \"json\"` for all")
}

/// Files, one after the other.
struct Out {
    folder: Option<PathBuf>,
    compress: bool,
    done: Vec<NamedTempFile>,
    open: Option<Stream>,
}

/// A file that is written to.
enum Stream {
    Plain(BufWriter<NamedTempFile>),
    Gzip(GzEncoder<Counted>),
}

/// A file and how much went into it.
struct Counted {
    file: BufWriter<NamedTempFile>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Out {
    fn new(folder: Option<PathBuf>, compress: bool) -> Self {
        Self { folder, compress, done: Vec::new(), open: None }
    }

    fn put(&mut self, row: &[u8]) -> Result<()> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => self.begin()?,
        };
        let written = match &mut stream {
            Stream::Plain(file) => file.write_all(row).map(|()| 0),
            Stream::Gzip(file) => file.write_all(row).map(|()| file.get_ref().bytes),
        };
        let bytes = written.context(Kind::Storage, || "writing rows for BigQuery".to_owned())?;
        if bytes >= LARGEST_FILE {
            self.done.push(closed(stream)?);
        } else {
            self.open = Some(stream);
        }
        Ok(())
    }

    fn begin(&self) -> Result<Stream> {
        let made = match &self.folder {
            Some(folder) => tempfile::Builder::new().prefix("upload-").tempfile_in(folder),
            None => NamedTempFile::new(),
        };
        let file =
            BufWriter::with_capacity(1 << 20, made.context(Kind::Storage, || "making room for an upload".to_owned())?);
        Ok(if self.compress {
            // The fastest: what the network saves beyond that is less than what the processor takes.
            Stream::Gzip(GzEncoder::new(Counted { file, bytes: 0 }, Compression::fast()))
        } else {
            Stream::Plain(file)
        })
    }

    /// All files; one at least, which may be empty.
    fn end(mut self) -> Result<Vec<NamedTempFile>> {
        if self.open.is_none() && self.done.is_empty() {
            self.open = Some(self.begin()?);
        }
        if let Some(stream) = self.open.take() {
            self.done.push(closed(stream)?);
        }
        Ok(self.done)
    }
}

fn closed(stream: Stream) -> Result<NamedTempFile> {
    let ended = match stream {
        Stream::Plain(file) => Ok(file),
        Stream::Gzip(file) => file.finish().map(|counted| counted.file),
    };
    ended
        .and_then(|file| file.into_inner().map_err(std::io::IntoInnerError::into_error))
        .context(Kind::Storage, || "writing rows for BigQuery".to_owned())
}

/// The members of a row.
struct Row<'a> {
    encoding: &'a Encoding,
    out: &'a mut Vec<u8>,
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let Self { encoding, out } = self;
        let mut taken = encoding.units.is_none();
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            if key == "_haul_unit"
                && let Some(units) = &encoding.units
            {
                let unit = map.next_value::<std::borrow::Cow<'_, str>>()?;
                taken = units.contains(&*unit);
                member("_haul_unit", out);
                let _ = serde_json::to_writer(&mut *out, &*unit);
                continue;
            }
            let Some(staged) = encoding.columns.iter().find(|staged| staged.source == key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<&RawValue>()?.get();
            if value == "null" {
                continue;
            }
            member(&staged.column.name, out);
            put(&staged.column.data_type, value, out)
                .map_err(|why| A::Error::custom(format!("`{}`: {why}", staged.column.name)))?;
        }
        Ok(taken)
    }
}

/// Begins a member.
fn member(name: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    let _ = serde_json::to_writer(&mut *out, name);
    out.push(b':');
}

/// Writes a value, which is not null, as its type wants it.
fn put(data_type: &LogicalType, value: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let is_text = value.starts_with('"');
    match data_type {
        LogicalType::Struct(fields) if value.starts_with('{') => {
            let mut reader = serde_json::Deserializer::from_str(value);
            out.push(b'{');
            serde::Deserializer::deserialize_map(&mut reader, Record { fields, out })
                .map_err(|error| error.to_string())?;
            out.push(b'}');
        }
        LogicalType::List(element) if value.starts_with('[') => {
            let mut reader = serde_json::Deserializer::from_str(value);
            out.push(b'[');
            serde::Deserializer::deserialize_seq(&mut reader, List { element, out })
                .map_err(|error| error.to_string())?;
            out.push(b']');
        }
        LogicalType::Struct(_) | LogicalType::List(_) => return Err(format!("{value} is no {data_type}")),
        LogicalType::Json | LogicalType::Boolean | LogicalType::BigInt | LogicalType::Double => {
            out.extend_from_slice(value.as_bytes());
        }
        LogicalType::Timestamp if is_text => micros(value, out),
        // As texts numbers keep all their digits, and a text of a number or a record is what it was.
        _ if is_text => out.extend_from_slice(value.as_bytes()),
        _ => {
            let _ = serde_json::to_writer(&mut *out, value);
        }
    }
    Ok(())
}

/// A time has six digits behind the point at the most; what is finer is cut off.
fn micros(value: &str, out: &mut Vec<u8>) {
    let digits = |rest: &str| rest.bytes().take_while(u8::is_ascii_digit).count();
    match value.split_once('.') {
        Some((before, rest)) if digits(rest) > 6 => {
            let count = digits(rest);
            out.extend_from_slice(before.as_bytes());
            out.push(b'.');
            out.extend_from_slice(&rest.as_bytes()[..6]);
            out.extend_from_slice(&rest.as_bytes()[count..]);
        }
        _ => out.extend_from_slice(value.as_bytes()),
    }
}

/// The fields of a record.
struct Record<'a> {
    fields: &'a [crate::model::schema::Column],
    out: &'a mut Vec<u8>,
}

impl<'de> Visitor<'de> for Record<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let found = self.fields.iter().find(|field| field.name == key);
            let Some(field) = found.or_else(|| self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(&key)))
            else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<&RawValue>()?.get();
            if value == "null" {
                continue;
            }
            member(&field.name, self.out);
            put(&field.data_type, value, self.out).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// The elements of a list.
struct List<'a> {
    element: &'a LogicalType,
    out: &'a mut Vec<u8>,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut first = true;
        while let Some(value) = seq.next_element::<&RawValue>()? {
            if value.get() == "null" && *self.element != LogicalType::Json {
                return Err(A::Error::custom("a list has a null, which no list of BigQuery can have"));
            }
            if !first {
                self.out.push(b',');
            }
            first = false;
            put(self.element, value.get(), self.out).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(data_type: &str, value: &str) -> Result<String, String> {
        let mut out = Vec::new();
        put(&LogicalType::parse(data_type).expect(data_type), value, &mut out)?;
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn values_are_written_as_their_columns_want_them() {
        for (data_type, value, text) in [
            ("BIGINT", "9007199254740993", "9007199254740993"),
            ("HUGEINT", "9223372036854775808", "\"9223372036854775808\""),
            ("DECIMAL(38,19)", "0.1234567890123456789", "\"0.1234567890123456789\""),
            ("DOUBLE", "0.5", "0.5"),
            ("VARCHAR", "\"a\\nb\"", "\"a\\nb\""),
            ("VARCHAR", "{\"a\":\"b\"}", "\"{\\\"a\\\":\\\"b\\\"}\""),
            ("TIMESTAMP", "\"2024-01-01T00:00:00.123456789+01:00\"", "\"2024-01-01T00:00:00.123456+01:00\""),
            ("TIMESTAMP", "\"2024-01-01T00:00:00.5Z\"", "\"2024-01-01T00:00:00.5Z\""),
            ("JSON", "{\"a\":[1,null]}", "{\"a\":[1,null]}"),
            (
                "STRUCT(\"a\" BIGINT, \"b\" DECIMAL(5,2)[])",
                "{\"A\":1,\"x\":2,\"b\":[1.50]}",
                "{\"a\":1,\"b\":[\"1.50\"]}",
            ),
            ("STRUCT(\"a\" BIGINT)[]", "[{\"a\":null},{\"a\":2}]", "[{},{\"a\":2}]"),
        ] {
            assert_eq!(written(data_type, value).as_deref(), Ok(text), "{data_type}");
        }
        assert!(written("BIGINT[]", "[1,null]").is_err_and(|why| why.contains("a list has a null")));
        assert!(written("BIGINT[]", "{}").is_err());
    }
}
