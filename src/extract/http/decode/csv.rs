//! CSV: a row on each line, whose values are texts unless they are asked to be more.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};

use csv::{ByteRecord, ReaderBuilder};

use super::{BOM, Batch, LONGEST_ROW, too_long, unreadable, write_text};
use crate::error::{Error, Kind, Result};
use crate::model::answer::{CsvForm, CsvHeader, Encoding};

/// What Windows-1252 has in the place of the control characters from 0x80 on; the others are those of Latin-1.
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Reads the rows of a file.
pub(super) fn rows(form: &CsvForm, tab: bool, reader: &mut dyn Read, batch: &mut Batch<'_>) -> Result<()> {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    if reader.fill_buf().map_err(unreadable)?.starts_with(BOM) {
        reader.consume(BOM.len());
    }
    for line in 1..=form.skip {
        let skipped = (&mut reader).take(LONGEST_ROW).skip_until(b'\n').map_err(unreadable)?;
        if skipped as u64 == LONGEST_ROW {
            return Err(too_long(line));
        }
    }
    let since = Cell::new(0);
    let measured = Measured { inner: reader, since: &since };
    let mut records = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(form.delimiter.unwrap_or(if tab { b'\t' } else { b',' }))
        .quote(form.quote)
        .from_reader(measured);
    let mut record = ByteRecord::new();
    let mut names: Option<Vec<Vec<u8>>> = match &form.header {
        CsvHeader::Names(names) => Some(columns(names.clone(), 1)?),
        CsvHeader::First | CsvHeader::Numbered => None,
    };
    loop {
        since.set(0);
        let more = records.read_byte_record(&mut record).map_err(|error| broken(error, record.position()))?;
        if !more {
            return Ok(());
        }
        let line = record.position().map_or(0, csv::Position::line) + form.skip;
        let texts = || record.iter().map(|field| text(field, form.encoding, line)).collect::<Result<Vec<_>>>();
        let names = match &names {
            Some(names) => names,
            None if form.header == CsvHeader::First => {
                let header = texts()?.into_iter().map(|name| name.trim().to_owned()).collect();
                names = Some(columns(header, line)?);
                continue;
            }
            None => names.insert(columns((1..=record.len()).map(|number| format!("column_{number}")).collect(), line)?),
        };
        if record.len() != names.len() {
            return Err(Error::new(
                Kind::Source,
                format!("line {line} has {} values, {} columns there are", record.len(), names.len()),
            )
            .because(super::shown(record.as_slice()))
            .hint("csv = { delimiter = \";\" } says what stands between values, skip = 1 leaves out a line before the header"));
        }
        batch.row(|body| {
            for (index, (name, field)) in names.iter().zip(&record).enumerate() {
                body.push(if index == 0 { b'{' } else { b',' });
                body.extend_from_slice(name);
                value(body, &text(field, form.encoding, line)?, form)?;
            }
            body.push(b'}');
            Ok(())
        })?;
    }
}

/// The names of the columns as they stand before each value: `"id":`.
fn columns(names: Vec<String>, line: u64) -> Result<Vec<Vec<u8>>> {
    for (index, name) in names.iter().enumerate() {
        let wrong = match name.as_str() {
            "" => format!("column {} has no name in the header at line {line}", index + 1),
            name if names[..index].iter().any(|other| other.eq_ignore_ascii_case(name)) => {
                format!("two columns have the name `{name}` in the header at line {line}")
            }
            _ => continue,
        };
        return Err(Error::new(Kind::Source, wrong)
            .hint("csv = { header = [\"id\", \"name\"], skip = 1 } names the columns and leaves the header out"));
    }
    let prefix = |name: &String| {
        let mut prefix = Vec::new();
        write_text(&mut prefix, name)?;
        prefix.push(b':');
        Ok(prefix)
    };
    names.iter().map(prefix).collect()
}

fn value(body: &mut Vec<u8>, text: &str, form: &CsvForm) -> Result<()> {
    if form.null.iter().any(|null| null == text) {
        body.extend_from_slice(b"null");
        return Ok(());
    }
    match text {
        "true" | "TRUE" | "True" if form.infer => body.extend_from_slice(b"true"),
        "false" | "FALSE" | "False" if form.infer => body.extend_from_slice(b"false"),
        _ if form.infer && is_number(text) => body.extend_from_slice(text.as_bytes()),
        _ => write_text(body, text)?,
    }
    Ok(())
}

/// Whether a text is a number that JSON writes in just this way: `00123` and `+1` are none.
fn is_number(text: &str) -> bool {
    let likely =
        text.len() < 100 && text.as_bytes().first().is_some_and(|first| first.is_ascii_digit() || *first == b'-');
    likely && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok_and(|raw| raw.get() == text)
}

fn text(field: &[u8], encoding: Encoding, line: u64) -> Result<Cow<'_, str>> {
    match encoding {
        Encoding::Utf8 => std::str::from_utf8(field).map(Cow::Borrowed).map_err(|_| {
            Error::new(Kind::Source, format!("line {line} is not UTF-8"))
                .because(super::shown(field))
                .hint("csv = { encoding = \"windows-1252\" }, or \"latin1\", reads what older programs write")
        }),
        Encoding::Windows1252 => Ok(field
            .iter()
            .map(|&byte| match byte {
                0x80..=0x9f => WINDOWS[usize::from(byte - 0x80)],
                _ => char::from(byte),
            })
            .collect::<String>()
            .into()),
    }
}

fn broken(error: csv::Error, position: Option<&csv::Position>) -> Error {
    let line = position.map_or(0, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => too_long(line),
        csv::ErrorKind::Io(error) => unreadable(error),
        other => Error::new(Kind::Source, format!("reading CSV at line {line}")).because(format!("{other:?}")),
    }
}

/// Stops a row that has no end, such as one behind a quote that nothing closes.
struct Measured<'a, R> {
    inner: R,
    since: &'a Cell<u64>,
}

impl<R: Read> Read for Measured<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.since.set(self.since.get() + read as u64);
        if self.since.get() > LONGEST_ROW {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &CsvForm, text: &[u8]) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut keep = |part: super::super::Part| {
            found.extend(part.rows.iter().map(|row| String::from_utf8_lossy(&part.body[row.clone()]).into_owned()));
            Ok(())
        };
        let mut batch = Batch { body: Vec::new(), rows: Vec::new(), about: None, send: &mut keep };
        rows(form, false, &mut &*text, &mut batch)?;
        batch.end()?;
        Ok(found)
    }

    #[test]
    fn values_keep_their_text_unless_they_are_asked_to_be_more() {
        let text = b"\xEF\xBB\xBFid,zip,n,ok\r\n1,00123,1.50,true\r\n,\"a \"\"b\"\"\nc\",-0,no\r\n";
        let plain = CsvForm::default();
        assert_eq!(
            read(&plain, text).expect("rows"),
            [
                r#"{"id":"1","zip":"00123","n":"1.50","ok":"true"}"#,
                r#"{"id":null,"zip":"a \"b\"\nc","n":"-0","ok":"no"}"#
            ]
        );
        let infer = CsvForm { infer: true, null: vec!["no".to_owned()], ..plain };
        assert_eq!(
            read(&infer, text).expect("rows"),
            [r#"{"id":1,"zip":"00123","n":1.50,"ok":true}"#, r#"{"id":"","zip":"a \"b\"\nc","n":-0,"ok":null}"#]
        );
    }

    #[test]
    fn other_delimiters_headers_and_characters_are_read() {
        let form = CsvForm {
            delimiter: Some(b';'),
            header: CsvHeader::Names(vec!["a".to_owned(), "b".to_owned()]),
            skip: 1,
            encoding: Encoding::Windows1252,
            ..CsvForm::default()
        };
        assert_eq!(read(&form, b"# report\nf\xfcr;5 \x80\n").expect("rows"), ["{\"a\":\"für\",\"b\":\"5 €\"}"]);
        let numbered = CsvForm { header: CsvHeader::Numbered, ..CsvForm::default() };
        assert_eq!(read(&numbered, b"x,y\n").expect("rows"), [r#"{"column_1":"x","column_2":"y"}"#]);
        assert!(read(&CsvForm::default(), b"").expect("rows").is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let told = |text: &[u8]| read(&CsvForm::default(), text).expect_err("a fault").chain();
        assert!(told(b"a,b\n1,2\n3\n").contains("line 3 has 1 values, 2 columns there are"));
        assert!(told(b"a,A\n").contains("two columns have the name `A`"));
        assert!(told(b"a,,c\n").contains("column 2 has no name"));
        assert!(told(b"a\n\xff\n").contains("line 2 is not UTF-8"));
    }
}
