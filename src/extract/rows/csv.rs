//! CSV as it is found: RFC 4180 with another delimiter, quote or header where the step says so.
//!
//! A cell stays the text that it is, with its zeros and digits. A cell that was quoted is never null.

use std::io::BufRead;

use super::{LONGEST_ROW, Mark, RowPage, RowReader, at_line, excerpt, member_key, more, push_text, too_long};
use crate::error::Result;
use crate::model::files::{CsvFormat, CsvHeader};

/// Reads the rows of a CSV text.
pub struct CsvRows<'a, R> {
    input: R,
    format: &'a CsvFormat,
    /// The names of the columns as JSON, each with the colon behind it; empty until they are known.
    keys: Vec<Key>,
    mark: Mark,
    /// The record's cells without their quotes, one behind the other.
    cells: Vec<u8>,
    /// Where each cell ends, and whether it was quoted.
    ends: Vec<(usize, bool)>,
}

/// A column: its name as JSON with the colon behind it, and whether its cells are numbers, or may be.
struct Key {
    name: String,
    member: Vec<u8>,
    number: bool,
    infer: bool,
}

/// Where the parser is within a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    /// Before the first byte of a cell.
    Start,
    /// In a cell without quotes.
    Plain,
    /// Between the quotes of a cell.
    Quoted,
    /// Behind a quote that may be the last or the first of two.
    Closing,
    /// Behind a carriage return outside of quotes.
    Return,
    /// Behind the escape character.
    Escape,
}

impl<'a, R: BufRead> CsvRows<'a, R> {
    /// A reader that begins at a mark; one that does not begin at the start is given the names of its columns.
    pub fn new(input: R, format: &'a CsvFormat, mark: Mark, names: Option<&[String]>) -> Self {
        let given = names.or(match &format.header {
            CsvHeader::Names(names) => Some(names.as_slice()),
            CsvHeader::First | CsvHeader::None => None,
        });
        let keys = given.map(|names| keys(names, format)).unwrap_or_default();
        Self { input, format, keys, mark, cells: Vec::new(), ends: Vec::new() }
    }

    /// Reads one record into `cells` and `ends`; false at the end of the input.
    fn record(&mut self) -> Result<bool> {
        loop {
            let first = self.mark.line + 1;
            if !self.any_record()? {
                return Ok(false);
            }
            // A line with nothing on it is no row.
            let blank = self.ends.len() == 1 && self.cells.is_empty() && !self.ends[0].1;
            let comment = self.format.comment.is_some_and(|sign| self.cells.first() == Some(&sign) && !self.ends[0].1);
            if !blank && !comment {
                if std::str::from_utf8(&self.cells).is_err() {
                    return Err(at_line(first, format!("is not UTF-8: {}", excerpt(&self.cells)))
                        .hint("save the file as UTF-8, or have it converted on its way: iconv -f latin1 -t utf-8"));
                }
                return Ok(true);
            }
        }
    }

    fn any_record(&mut self) -> Result<bool> {
        let CsvFormat { quote, escape, .. } = *self.format;
        let delimiter = self.delimiter();
        self.cells.clear();
        self.ends.clear();
        let (first, mut state, mut quoted) = (self.mark.line + 1, In::Start, false);
        if self.mark.offset == 0 {
            self.skip_bom()?;
        }
        let mut nothing = true;
        loop {
            let bytes = more(&mut self.input, self.mark.line)?;
            if bytes.is_empty() {
                if state == In::Quoted || state == In::Escape {
                    return Err(at_line(first, "opens a quote that is never closed")
                        .hint("the file seems to be cut off; or `csv = { quote = \"\" }` where quotes mean nothing"));
                }
                if nothing {
                    return Ok(false);
                }
                self.ends.push((self.cells.len(), quoted));
                return Ok(true);
            }
            nothing = false;
            let mut used = 0;
            let mut ended = false;
            for &byte in bytes {
                if state == In::Return && byte != b'\n' {
                    // An old line end without a line feed.
                    self.mark.line += 1;
                    ended = true;
                    break;
                }
                used += 1;
                state = match (state, byte) {
                    (In::Escape, _) => {
                        self.cells.push(byte);
                        In::Quoted
                    }
                    (In::Quoted, _) if Some(byte) == escape => In::Escape,
                    (In::Quoted, _) if Some(byte) == quote => In::Closing,
                    (In::Quoted, _) => {
                        self.mark.line += u64::from(byte == b'\n');
                        self.cells.push(byte);
                        In::Quoted
                    }
                    (In::Closing, _) if Some(byte) == quote && escape.is_none() => {
                        self.cells.push(byte);
                        In::Quoted
                    }
                    (_, b'\n') => {
                        self.mark.line += 1;
                        ended = true;
                        break;
                    }
                    (_, b'\r') => In::Return,
                    (_, _) if byte == delimiter => {
                        self.ends.push((self.cells.len(), quoted));
                        quoted = false;
                        In::Start
                    }
                    (In::Start, _) if Some(byte) == quote => {
                        quoted = true;
                        In::Quoted
                    }
                    (In::Closing, _) => {
                        return Err(at_line(
                            self.mark.line + 1,
                            format!("has `{}` behind the closing quote of a cell", char::from(byte)),
                        )
                        .hint("a quote within a cell is written twice; or set `csv = { escape = \"\\\\\" }`"));
                    }
                    (_, _) => {
                        self.cells.push(byte);
                        In::Plain
                    }
                };
            }
            self.input.consume(used);
            self.mark.offset += used as u64;
            if ended {
                self.ends.push((self.cells.len(), quoted));
                return Ok(true);
            }
            if self.cells.len() > LONGEST_ROW {
                return Err(too_long(first));
            }
        }
    }

    fn delimiter(&self) -> u8 {
        self.format.delimiter.unwrap_or(b',')
    }

    fn skip_bom(&mut self) -> Result<()> {
        let has = more(&mut self.input, 0)?.starts_with(b"\xEF\xBB\xBF");
        if has {
            self.input.consume(3);
            self.mark.offset += 3;
        }
        Ok(())
    }

    fn cell_texts(&self) -> Vec<String> {
        let mut begin = 0;
        let cell = |&(end, _): &(usize, bool)| {
            let cell = String::from_utf8_lossy(&self.cells[begin..end]).into_owned();
            begin = end;
            cell
        };
        self.ends.iter().map(cell).collect()
    }

    /// The names of the columns: of the first record, or counted.
    fn names(&mut self) -> Result<Option<Vec<String>>> {
        let line = self.mark.line + 1;
        if !self.record()? {
            return Ok(None);
        }
        let cells = self.cell_texts();
        let numbered = |index: usize| format!("column_{}", index + 1);
        if self.format.header != CsvHeader::First {
            return Ok(Some((0..cells.len()).map(numbered).collect()));
        }
        let names: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(index, name)| if name.trim().is_empty() { numbered(index) } else { name.trim().to_owned() })
            .collect();
        if let Some(twice) = (1..names.len()).find(|&index| names[..index].contains(&names[index])) {
            return Err(at_line(line, format!("has the column `{}` twice", names[twice]))
                .hint("name the columns yourself: `csv = { header = [\"id\", …], skip = 1 }`"));
        }
        Ok(Some(names))
    }

    /// Writes the record as a row.
    fn push_row(&self, page: &mut RowPage, line: u64) -> Result<()> {
        let (found, named) = (self.ends.len(), self.keys.len());
        if found != named {
            let cells = |count: usize| if count == 1 { "1 cell".to_owned() } else { format!("{count} cells") };
            return Err(at_line(line, format!("has {}, the header has {}", cells(found), cells(named)))
                .because(format!("found `{}`", self.cell_texts().join(&char::from(self.delimiter()).to_string())))
                .hint("is the delimiter right? `csv = { delimiter = \";\" }`")
                .hint("the file may be cut off in this line"));
        }
        let body = &mut page.body;
        let start = body.len();
        let mut begin = 0;
        for (key, &(end, quoted)) in self.keys.iter().zip(&self.ends) {
            body.push(if begin == 0 && body.len() == start { b'{' } else { b',' });
            body.extend_from_slice(&key.member);
            // The record is UTF-8 as a whole, and is cut at ASCII characters only.
            let cell = std::str::from_utf8(&self.cells[begin..end]).unwrap_or_default();
            begin = end;
            if !quoted && self.format.null.iter().any(|null| null == cell) {
                body.extend_from_slice(b"null");
            } else if key.number {
                match number_of(cell) {
                    Some(number) => body.extend_from_slice(number.as_bytes()),
                    // What JSON has no number for, floats have: they are read from their text.
                    None if cell.trim().parse::<f64>().is_ok_and(|float| !float.is_finite()) => {
                        push_text(body, cell.trim());
                    }
                    None => {
                        let found = excerpt(cell.as_bytes());
                        return Err(at_line(
                            line,
                            format!("has `{found}` for `{}`, which is declared a number", key.name),
                        )
                        .hint("cells that stand for null are told by `csv = { null = [\"\", \"n/a\"] }`")
                        .hint("or keep the text: `columns = { … = \"VARCHAR\" }`"));
                    }
                }
            } else if key.infer && !quoted && is_json_scalar(cell) {
                body.extend_from_slice(cell.as_bytes());
            } else {
                push_text(body, cell);
            }
        }
        body.push(b'}');
        page.rows.push(start..body.len());
        Ok(())
    }
}

impl<R: BufRead> RowReader for CsvRows<'_, R> {
    fn page(&mut self, most: usize) -> Result<RowPage> {
        let mut page = RowPage::default();
        if self.mark.offset == 0 {
            for _ in 0..self.format.skip {
                if !self.any_record()? {
                    break;
                }
            }
        }
        if self.keys.is_empty() {
            let line = self.mark.line + 1;
            let Some(names) = self.names()? else { return Ok(RowPage { ended: true, ..page }) };
            self.keys = keys(&names, self.format);
            if self.format.header != CsvHeader::First {
                self.push_row(&mut page, line)?;
            }
        }
        while page.body.len() < most {
            let line = self.mark.line + 1;
            if !self.record()? {
                page.ended = true;
                break;
            }
            self.push_row(&mut page, line)?;
        }
        Ok(page)
    }

    fn mark(&self) -> Mark {
        self.mark
    }
}

/// The names of the columns at the start of a text; none where the text is empty or the step names them.
pub fn read_header(input: impl BufRead, format: &CsvFormat) -> Result<Option<Vec<String>>> {
    if let CsvHeader::Names(names) = &format.header {
        return Ok(Some(names.clone()));
    }
    let mut rows = CsvRows::new(input, format, Mark::default(), None);
    for _ in 0..format.skip {
        rows.any_record()?;
    }
    rows.names()
}

fn keys(names: &[String], format: &CsvFormat) -> Vec<Key> {
    let key = |name: &String| Key {
        name: name.clone(),
        member: member_key(name),
        number: format.declared.get(name) == Some(&true),
        infer: format.infer && !format.declared.contains_key(name),
    };
    names.iter().map(key).collect()
}

/// A cell as JSON writes its number, without the zeros and the sign in front of it; none where it is no number.
fn number_of(cell: &str) -> Option<String> {
    let cell = cell.trim();
    let (sign, digits) = match cell.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", cell.strip_prefix('+').unwrap_or(cell)),
    };
    let digits = digits.trim_start_matches('0');
    let zero = if digits.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "0" };
    let digits = digits.strip_suffix('.').unwrap_or(digits);
    let number = format!("{sign}{zero}{digits}");
    (cell.contains(|c: char| c.is_ascii_digit()) && is_json_scalar(&number)).then_some(number)
}

/// Whether a cell is a number or a boolean as JSON writes them: `007` and `+1` are not.
fn is_json_scalar(cell: &str) -> bool {
    if matches!(cell, "true" | "false") {
        return true;
    }
    let starts = cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    starts && cell.len() < 64 && serde_json::from_str::<serde::de::IgnoredAny>(cell).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn read(text: &str, format: &CsvFormat) -> Result<Vec<String>> {
        // A buffer of seven bytes: every state has to survive the end of a chunk.
        let mut rows = CsvRows::new(BufReader::with_capacity(7, text.as_bytes()), format, Mark::default(), None);
        let page = rows.page(1 << 20)?;
        assert!(page.ended);
        Ok(page.rows.iter().map(|row| String::from_utf8_lossy(&page.body[row.clone()]).into_owned()).collect())
    }

    #[test]
    fn cells_keep_their_text_and_only_bare_empty_ones_are_null() {
        let rows = read("\u{feff}id,\"na me\",x\r\n007,\"a \"\"b\"\",\nc\",\r\n\r\n1.10,\"\",é", &CsvFormat::default());
        assert_eq!(
            rows.expect("rows"),
            [r#"{"id":"007","na me":"a \"b\",\nc","x":null}"#, r#"{"id":"1.10","na me":"","x":"é"}"#]
        );
    }

    #[test]
    fn a_step_says_how_its_file_is_written() {
        let format = CsvFormat {
            delimiter: Some(b';'),
            quote: Some(b'\''),
            escape: Some(b'\\'),
            comment: Some(b'#'),
            header: CsvHeader::Names(vec!["a".to_owned(), "b".to_owned()]),
            null: vec!["NULL".to_owned()],
            infer: true,
            skip: 1,
            declared: [("a".to_owned(), true)].into(),
        };
        let rows = read("any title\n# no row\n1;'it\\'s'\n007;NULL\n7;\n", &format).expect("rows");
        assert_eq!(rows, [r#"{"a":1,"b":"it's"}"#, r#"{"a":7,"b":null}"#, r#"{"a":7,"b":""}"#]);
        let counted = CsvFormat { header: CsvHeader::None, ..CsvFormat::default() };
        assert_eq!(read("1,2\n3,4", &counted).expect("rows")[1], r#"{"column_1":"3","column_2":"4"}"#);
        assert!(
            read("", &counted).expect("rows").is_empty()
                && read("a,b\n", &CsvFormat::default()).expect("rows").is_empty()
        );
    }

    #[test]
    fn a_declared_number_is_one_however_it_is_written() {
        for (cell, number) in
            [("007", "7"), ("+1.50", "1.50"), ("-0", "-0"), (".5", "0.5"), ("5.", "5"), ("1e3", "1e3")]
        {
            assert_eq!(number_of(cell).as_deref(), Some(number), "{cell}");
        }
        for cell in ["", "-", ".", "1,5", "0x10", "true", "NaN", "1 2"] {
            assert_eq!(number_of(cell), None, "{cell}");
        }
    }

    #[test]
    fn a_fault_names_its_line() {
        let told = |text: &str| read(text, &CsvFormat::default()).expect_err(text).chain();
        assert_eq!(told("a,b\n1,2\n\"x\ny\",2\n3\n"), "line 5 has 1 cell, the header has 2 cells: found `3`");
        assert_eq!(told("a,b\n1,2\n1,\"2\n3,4\n"), "line 3 opens a quote that is never closed");
        assert_eq!(told("a,b\n1,\"2\"x\n"), "line 2 has `x` behind the closing quote of a cell");
        assert_eq!(told("a,b,a\n"), "line 1 has the column `a` twice");
    }

    #[test]
    fn a_reader_goes_on_at_a_mark() {
        let text = "a,b\n1,\"x\ny\"\n2,z\n3,\n";
        let format = CsvFormat::default();
        let mut rows = CsvRows::new(text.as_bytes(), &format, Mark::default(), None);
        let page = rows.page(1).expect("a page");
        assert_eq!((page.rows.len(), page.ended, rows.mark().line), (1, false, 3));
        let mark = rows.mark();
        let offset = usize::try_from(mark.offset).expect("an offset");
        let names = read_header(text.as_bytes(), &format).expect("a header");
        let mut rest = CsvRows::new(&text.as_bytes()[offset..], &format, mark, names.as_deref());
        let page = rest.page(1 << 20).expect("the rest");
        assert_eq!(String::from_utf8_lossy(&page.body), r#"{"a":"2","b":"z"}{"a":"3","b":null}"#);
        assert_eq!(rest.mark().line, 5);
    }
}
