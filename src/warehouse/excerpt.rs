//! A warehouse's error beside the line of the statement that its author wrote.

use crate::error::{Error, Kind};

/// An error of a statement that a user wrote, with an excerpt around its `line`, counted from zero.
pub(super) fn failed_at(doing: &str, sql: &str, line: Option<usize>, message: String) -> Error {
    let mut excerpt = Vec::new();
    if let Some(line) = line.filter(|line| *line < sql.lines().count()) {
        for (number, source) in sql.lines().enumerate().skip(line.saturating_sub(2)).take(5) {
            let mark = if number == line { '>' } else { ' ' };
            excerpt.push(format!("{mark} {:>4} | {source}", number + 1));
        }
    }
    let text = excerpt.join("\n");
    let error = Error::new(Kind::Warehouse, doing).because(message);
    if text.is_empty() { error } else { error.detail(text) }
}

/// The line, counted from zero, of the character at `position`, counted from one, once `shift` lines of ours are gone.
pub(super) fn line_of(statement: &str, position: usize, shift: usize) -> Option<usize> {
    let before = statement.chars().take(position.saturating_sub(1));
    before.filter(|c| *c == '\n').count().checked_sub(shift)
}
