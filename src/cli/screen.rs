//! The screen: the one place that prints, always through the redactor.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::{Color, Common, Output};
use crate::error::Error;
pub(super) use crate::model::count::counted;
use crate::secret::Redactor;

/// Prints data to stdout and the rest to stderr, without any secret.
#[derive(Clone)]
pub struct Screen {
    /// What is printed passes through it.
    pub redactor: Redactor,
    output: Output,
    color: anstream::ColorChoice,
    quiet: bool,
    verbose: bool,
}

/// Good news.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Bad news.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something to look at.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
/// Longer cells of a table are cut.
const WIDEST_CELL: usize = 80;

/// Less important.
pub(super) const DIM: Style = Style::new().dimmed();

/// A text of several lines, all but the first of which begin below `width` columns.
pub(super) fn indented(text: &str, width: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:width$}", ""))
}

impl Screen {
    pub(super) fn new(common: &Common) -> Self {
        let color = match common.color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        };
        Self {
            redactor: Redactor::default(),
            output: common.output,
            color,
            quiet: common.quiet,
            verbose: common.verbose,
        }
    }

    /// Whether programs read along.
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Whether a spreadsheet reads along.
    pub fn is_csv(&self) -> bool {
        self.output == Output::Csv
    }

    /// Whether more is to be told.
    pub fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether bars may be drawn.
    pub fn has_bars(&self) -> bool {
        !self.quiet && !self.is_json() && !self.is_csv() && std::io::stderr().is_terminal()
    }

    /// Whether stderr takes colors.
    pub fn colors(&self) -> bool {
        match self.color {
            anstream::ColorChoice::Always => true,
            anstream::ColorChoice::Never => false,
            _ => anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never,
        }
    }

    /// Data, to stdout. A reader that has seen enough ends nothing.
    pub fn data(&self, text: &str) {
        let mut stream = anstream::AutoStream::new(std::io::stdout(), self.color);
        let text = self.redactor.redact(text);
        let _ = if text.ends_with('\n') { write!(stream, "{text}") } else { writeln!(stream, "{text}") };
    }

    /// A value as JSON, to stdout.
    pub fn json(&self, value: &impl Serialize) {
        self.data(&serde_json::to_string_pretty(value).unwrap_or_default());
    }

    /// A line beside the data, to stderr.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.tell(text);
        }
    }

    /// A line that even a quiet screen has.
    pub fn tell(&self, text: &str) {
        let mut stream = anstream::AutoStream::new(std::io::stderr(), self.color);
        let _ = writeln!(stream, "{}", self.redactor.redact(text));
    }

    /// The newest of a list, of which one more was looked up than are shown; that there are older ones is told.
    pub fn newest<T>(&self, mut items: Vec<T>, limit: u32) -> Vec<T> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if items.len() > limit {
            items.truncate(limit);
            self.note(&format!("{DIM}older ones are left out: --limit shows more{DIM:#}"));
        }
        items
    }

    /// An error with its detail and its hints.
    pub fn error(&self, error: &Error) {
        if self.is_json() {
            let value = serde_json::json!({
                "error": { "kind": error.kind().name(), "message": error.chain(), "detail": error.details(), "hints": error.hints() }
            });
            return self.tell(&value.to_string());
        }
        self.tell(&format!("{BAD}error[{}]{BAD:#}: {}", error.kind().name(), error.chain()));
        if let Some(detail) = error.details() {
            self.tell(detail.trim_end());
        }
        for hint in error.hints() {
            self.tell(&format!("{GOOD}hint{GOOD:#}: {hint}"));
        }
    }

    /// A table of texts: one line a row, a rule below the header, cells that are too long cut.
    pub fn table(&self, header: &[&str], rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header.to_vec());
        for row in rows {
            table.add_row(row.iter().map(|cell| shortened(cell)));
        }
        let text = table.to_string();
        let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
        if !lines.is_empty() {
            lines.insert(1, format!("{DIM}{}{DIM:#}", "─".repeat(width)));
        }
        self.data(&lines.join("\n"));
    }
}

/// A cell on one line that fits beside others; JSON output has it whole.
fn shortened(cell: &str) -> String {
    let line = cell.replace(['\n', '\r', '\t'], " ");
    if line.chars().count() <= WIDEST_CELL {
        return line;
    }
    let kept: String = line.chars().take(WIDEST_CELL - 1).collect();
    kept + "…"
}
