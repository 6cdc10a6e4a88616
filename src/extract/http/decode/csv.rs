//! CSV in an answer: its rows are those of any CSV, behind characters that may be those of an older program.

use std::io::{self, BufReader, Read};

use super::{Batch, PART_BYTES};
use crate::error::Result;
use crate::extract::rows::{CsvRows, Mark, RowReader};
use crate::model::answer::{AnswerForm, Encoding};

/// What Windows-1252 has in the place of the control characters from 0x80 on; the others are those of Latin-1.
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Reads the rows of a file; `tab` where the answer says that tabs stand between its values.
pub(super) fn rows(form: &AnswerForm, tab: bool, reader: &mut dyn Read, batch: &mut Batch<'_>) -> Result<()> {
    let mut csv = form.csv.clone();
    if tab {
        csv.delimiter = csv.delimiter.or(Some(b'\t'));
    }
    let mut windows;
    let reader: &mut dyn Read = match form.encoding {
        Encoding::Utf8 => reader,
        Encoding::Windows1252 => {
            windows = Windows { inner: reader, ready: Vec::new(), given: 0 };
            &mut windows
        }
    };
    let mut rows = CsvRows::new(BufReader::with_capacity(64 << 10, reader), &csv, Mark::default(), None);
    loop {
        let page = rows.page(PART_BYTES)?;
        for row in &page.rows {
            batch.row(|body| {
                body.extend_from_slice(&page.body[row.clone()]);
                Ok(())
            })?;
        }
        if page.ended {
            return Ok(());
        }
    }
}

/// Windows-1252 as UTF-8.
struct Windows<'a> {
    inner: &'a mut dyn Read,
    ready: Vec<u8>,
    given: usize,
}

impl Read for Windows<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() {
            let mut raw = [0; 8192];
            let read = self.inner.read(&mut raw)?;
            (self.ready, self.given) = (Vec::with_capacity(2 * read), 0);
            for &byte in &raw[..read] {
                let character = match byte {
                    0x80..=0x9f => WINDOWS[usize::from(byte - 0x80)],
                    _ => char::from(byte),
                };
                self.ready.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        let length = into.len().min(self.ready.len() - self.given);
        into[..length].copy_from_slice(&self.ready[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_older_programs_become_those_of_today() {
        let mut found = Vec::new();
        let mut keep = |part: super::super::Part| {
            found.extend(part.rows.iter().map(|row| String::from_utf8_lossy(&part.body[row.clone()]).into_owned()));
            Ok(())
        };
        let mut batch = Batch { body: Vec::new(), rows: Vec::new(), about: None, send: &mut keep };
        let form = AnswerForm { encoding: Encoding::Windows1252, ..AnswerForm::default() };
        rows(&form, true, &mut &b"name\tprice\nf\xfcr\t00\x80\n"[..], &mut batch).expect("rows");
        batch.end().expect("a part");
        assert_eq!(found, ["{\"name\":\"für\",\"price\":\"00€\"}"]);
    }
}
