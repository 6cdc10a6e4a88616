//! JSON that is larger than memory: the elements of a list, or one object behind the other, as they were written.

use std::io::BufRead;

use serde::de::IgnoredAny;

use super::{LONGEST_ROW, Mark, RowPage, RowReader, at_line, excerpt, more, too_long};
use crate::error::Result;

/// Reads the objects of a list, or of a sequence such as JSON Lines.
pub struct JsonRows<R> {
    input: R,
    mark: Mark,
    state: State,
    /// Whether a list is taken as well as a sequence.
    lists: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was read yet.
    Start,
    /// Going on at a mark: the next byte tells whether it lies in a list.
    Resumed,
    /// Between two objects of a sequence.
    Sequence,
    /// Behind the opening bracket.
    ListStart,
    /// Behind an element.
    List,
    /// Behind the closing bracket.
    Closed,
}

impl<R: BufRead> JsonRows<R> {
    /// A reader that begins at a mark; `lists` says whether the text may be a list.
    pub fn new(input: R, mark: Mark, lists: bool) -> Self {
        let state = if mark.offset == 0 { State::Start } else { State::Resumed };
        Self { input, mark, state, lists }
    }

    /// The next byte that is no space, without taking it.
    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            let bytes = more(&mut self.input, self.mark.line)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let spaces = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let found = bytes.get(spaces).copied();
            self.mark.line += bytes[..spaces].iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
            self.take(spaces);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn take(&mut self, bytes: usize) {
        self.input.consume(bytes);
        self.mark.offset += bytes as u64;
    }

    /// Whether a row begins at the next byte.
    fn at_row(&mut self) -> Result<bool> {
        if self.state == State::Start && more(&mut self.input, 0)?.starts_with(b"\xEF\xBB\xBF") {
            self.take(3);
        }
        loop {
            let next = self.peek()?;
            let line = self.mark.line + 1;
            self.state = match (self.state, next) {
                (State::Start, Some(b'[')) if self.lists => {
                    self.take(1);
                    State::ListStart
                }
                (State::Resumed, Some(b',' | b']')) => State::List,
                (State::Start | State::Resumed, _) => State::Sequence,
                (State::Sequence | State::Closed, None) => return Ok(false),
                (State::Sequence, Some(b'{')) => return Ok(true),
                (State::ListStart | State::List, Some(b']')) => {
                    self.take(1);
                    State::Closed
                }
                (State::ListStart, Some(b'{')) => {
                    self.state = State::List;
                    return Ok(true);
                }
                (State::List, Some(b',')) => {
                    self.take(1);
                    if self.peek()? == Some(b'{') {
                        return Ok(true);
                    }
                    return Err(self.no_row());
                }
                (State::ListStart | State::List, None) => {
                    return Err(at_line(line, "ends the file, but its list is not closed")
                        .hint("the file seems to be cut off; was it still being written?"));
                }
                (State::List, Some(_)) => return Err(at_line(line, "has no comma between two rows")),
                (State::Closed, Some(_)) => return Err(at_line(line, "goes on behind the end of the list")),
                (State::Sequence | State::ListStart, Some(_)) => return Err(self.no_row()),
            };
        }
    }

    /// What stands where a row should begin.
    fn no_row(&mut self) -> crate::error::Error {
        let line = self.mark.line + 1;
        let found = more(&mut self.input, line).map(excerpt).unwrap_or_default();
        let found = found.trim_end();
        let error = at_line(line, format!("has no row: a row is an object, found `{found}`"));
        if found.starts_with('[') {
            return error.hint("a file that is a list of rows has format = \"json\"");
        }
        error
    }

    /// Takes one object into the body; it begins at the next byte.
    fn take_row(&mut self, body: &mut Vec<u8>) -> Result<()> {
        let (start, first) = (body.len(), self.mark.line + 1);
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        loop {
            let bytes = more(&mut self.input, self.mark.line)?;
            if bytes.is_empty() {
                return Err(at_line(first, format!("begins a row that never ends: `{}`", excerpt(&body[start..])))
                    .hint("the file seems to be cut off; was it still being written?"));
            }
            let mut used = bytes.len();
            for (at, &byte) in bytes.iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => quoted = !quoted,
                    b'{' | b'[' if !quoted => depth += 1,
                    b'}' | b']' if !quoted => {
                        depth = depth.saturating_sub(1);
                        if depth == 0 {
                            used = at + 1;
                            break;
                        }
                    }
                    b'\n' => self.mark.line += 1,
                    _ => {}
                }
            }
            body.extend_from_slice(&bytes[..used]);
            self.take(used);
            if depth == 0 {
                break;
            }
            if body.len() - start > LONGEST_ROW {
                return Err(too_long(first));
            }
        }
        serde_json::from_slice::<IgnoredAny>(&body[start..]).map(drop).map_err(|error| {
            let line = first + (error.line() as u64).saturating_sub(1);
            at_line(line, format!("is not JSON ({error}): `{}`", excerpt(&body[start..])))
        })
    }
}

impl<R: BufRead> RowReader for JsonRows<R> {
    fn page(&mut self, most: usize) -> Result<RowPage> {
        let mut page = RowPage::default();
        while page.body.len() < most {
            if !self.at_row()? {
                page.ended = true;
                break;
            }
            let start = page.body.len();
            self.take_row(&mut page.body)?;
            page.rows.push(start..page.body.len());
        }
        Ok(page)
    }

    fn mark(&self) -> Mark {
        self.mark
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn read(text: &str, lists: bool) -> Result<Vec<String>> {
        let mut rows = JsonRows::new(BufReader::with_capacity(3, text.as_bytes()), Mark::default(), lists);
        let page = rows.page(1 << 20)?;
        Ok(page.rows.iter().map(|row| String::from_utf8_lossy(&page.body[row.clone()]).into_owned()).collect())
    }

    #[test]
    fn lists_and_sequences_give_their_rows_as_they_were_written() {
        let rows = [r#"{"a": [1.10, "}\""]}"#, "{}", "{\"b\":\n{}}"];
        let list = format!("\u{feff} [{}]\n", rows.join(" ,\n"));
        assert_eq!(read(&list, true).expect("a list"), rows);
        assert_eq!(read(&rows.join("\n"), true).expect("a sequence"), rows);
        assert_eq!(read(&rows.join(""), false).expect("a sequence"), rows);
        assert!(read("[]", true).expect("a list").is_empty() && read(" \n", false).expect("nothing").is_empty());
    }

    #[test]
    fn a_fault_names_its_line() {
        let told = |text: &str| read(text, true).expect_err(text).chain();
        assert_eq!(told("[{\"a\":1},\n{\"a\":2}\n"), "line 3 ends the file, but its list is not closed");
        assert_eq!(told("{\"a\":1}\n{\"a\":\n"), "line 2 begins a row that never ends: `{\"a\": `");
        assert!(told("{\"a\":1}\n{\"a\" 2}").starts_with("line 2 is not JSON"));
        assert_eq!(told("{\"a\":1}\n3"), "line 2 has no row: a row is an object, found `3`");
        assert_eq!(told("[{}{}]"), "line 1 has no comma between two rows");
        assert!(read("[{}]", false).expect_err("a list").hints()[0].contains("json"));
    }

    #[test]
    fn a_reader_goes_on_at_a_mark() {
        for text in ["[{\"a\":1},\n {\"a\":2}, {\"a\":3}]", "{\"a\":1}\n {\"a\":2}\n{\"a\":3}"] {
            let mut rows = JsonRows::new(text.as_bytes(), Mark::default(), true);
            assert_eq!(rows.page(1).expect("a page").rows.len(), 1);
            let mark = rows.mark();
            let offset = usize::try_from(mark.offset).expect("an offset");
            let page = JsonRows::new(&text.as_bytes()[offset..], mark, true).page(1 << 20).expect("the rest");
            assert_eq!((page.rows.len(), page.ended), (2, true), "{text}");
        }
    }
}
