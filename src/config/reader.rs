//! The typed reader: from a TOML tree with places to the twins, collecting every fault instead of stopping at one.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Source, known_names};
use crate::model::name::{Origin, Text};
use crate::model::parameter::ParameterValues;

/// A place in a file, in bytes.
pub type Span = Range<usize>;

/// A value with the place where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place, quotes and brackets included.
    pub span: Span,
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A key that has to be there; empty when it was missing or wrong, which was reported then.
#[derive(Debug, Clone)]
pub struct Required<T>(pub Option<At<T>>);

impl<T> Default for Required<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: JsonSchema> JsonSchema for Required<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Reads one file and remembers its faults.
pub struct Reader {
    /// The file.
    pub source: Arc<Source>,
    /// What was found so far.
    pub diagnostics: Vec<Diagnostic>,
    /// The values of a hook's parameters, which may stand in the place of its numbers.
    pub parameters: Option<ParameterValues>,
    /// The parameters that were found in such places.
    pub used: BTreeSet<String>,
    path: Vec<String>,
}

/// A value that can be read from TOML.
pub trait Read: Sized {
    /// Reads the value; `None` when it is wrong, which is reported.
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self>;
}

/// A struct that stands for a TOML table, declared with the macro `twin!`.
pub trait Twin: Sized {
    /// The keys of the table.
    const KEYS: &'static [&'static str];

    /// Reads all keys and reports those that are unknown.
    fn read_table(table: &DeTable<'_>, span: Span, reader: &mut Reader) -> Self;
}

/// A field of a twin.
pub trait Field: Sized {
    /// Reads the key of this field.
    fn field(table: &DeTable<'_>, span: &Span, key: &str, reader: &mut Reader) -> Self;
}

impl<T: Read> Field for Option<At<T>> {
    fn field(table: &DeTable<'_>, _span: &Span, key: &str, reader: &mut Reader) -> Self {
        let value = table.get(key)?;
        reader.within(key, |reader| At::read(value, reader))
    }
}

impl<T: Read> Field for Required<T> {
    fn field(table: &DeTable<'_>, span: &Span, key: &str, reader: &mut Reader) -> Self {
        if table.get(key).is_none() {
            let owner = reader.path();
            let owner = if owner.is_empty() { "the file".to_owned() } else { format!("`{owner}`") };
            reader.error("missing-key", span.clone(), format!("{owner} has no `{key}`"));
            return Self(None);
        }
        Self(Option::field(table, span, key, reader))
    }
}

impl Reader {
    /// A reader of one file.
    pub fn new(source: Arc<Source>) -> Self {
        Self { source, diagnostics: Vec::new(), parameters: None, used: BTreeSet::new(), path: Vec::new() }
    }

    /// Reads a whole file. Where its syntax is wrong, what could be understood is read all the same.
    ///
    /// The second value tells whether the syntax was right.
    pub fn read_file<T: Twin>(&mut self) -> (T, bool) {
        let source = self.source.clone();
        if let Ok(tree) = DeTable::parse(&source.text) {
            return (T::read_table(tree.get_ref(), 0..0, self), true);
        }
        let mut text = source.text.to_string();
        let slips = self.without_slips(&mut text);
        let (tree, _) = DeTable::parse_recoverable(&text);
        let before = self.diagnostics.len();
        let twin = T::read_table(tree.get_ref(), 0..0, self);
        // What stands beside a slip, or seems to be missing because of it, is not the author's fault.
        let mut index = 0;
        self.diagnostics.retain(|fault| {
            index += 1;
            let near = |line: usize| slips.iter().any(|slip| slip.abs_diff(line) <= 1);
            let beside = || fault.labels.first().is_some_and(|label| near(label.line));
            index <= before || fault.code != "missing-key" && !beside()
        });
        (twin, false)
    }

    /// Reports every error of syntax and blanks the lines that have one, so that the lines behind them can be read.
    fn without_slips(&mut self, text: &mut String) -> Vec<usize> {
        const MOST: usize = 50;
        let mut slips: Vec<usize> = Vec::new();
        for _ in 0..MOST {
            let Some(error) = DeTable::parse_recoverable(text).1.into_iter().next() else { break };
            let span = error.span().unwrap_or(0..0);
            let line = self.source.origin(span.start).line;
            // A line beside one that was blanked is likely to be wrong only because of that.
            if !slips.iter().any(|slip| slip.abs_diff(line) <= 1) {
                self.error("syntax", span, error.message().to_owned());
            }
            let first = self.source.offset(line, 1);
            let last = last_line_of(text, first);
            if text[first..last].trim().is_empty() {
                slips.push(line);
                break;
            }
            slips.extend(line..=self.source.origin(last.saturating_sub(1).max(first)).line);
            let blank: String = text[first..last].chars().map(blank).collect();
            text.replace_range(first..last, &blank);
        }
        slips
    }

    /// Reports a fault at a place.
    pub fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Diagnostic::error(code, message).at(&self.source.clone(), span, ""))
    }

    /// Reports a fault that is only told.
    pub fn warning(&mut self, code: &'static str, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Diagnostic::warning(code, message).at(&self.source.clone(), span, ""))
    }

    /// Reports that a value is of a wrong type.
    pub fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) -> &mut Diagnostic {
        let message = format!("`{}` has to be {expected}, not {}", self.path(), describe(value.get_ref()));
        self.error("wrong-type", value.span(), message)
    }

    /// The keys that lead to what is being read, with dots between.
    pub fn path(&self) -> String {
        self.path.join(".")
    }

    /// The last of the keys that lead to what is being read.
    pub fn key(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// Reads something that stands behind `key`.
    pub fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.to_owned());
        let result = read(self);
        self.path.pop();
        result
    }

    /// Where a place is, for people.
    pub fn origin(&self, span: &Span) -> Origin {
        self.source.origin(span.start)
    }

    /// A template with the place of its first character, behind its quotes.
    pub fn text(&self, text: &At<String>) -> Text {
        let raw = &self.source.text[text.span.clone()];
        let mut inside = 0;
        if raw.starts_with("\"\"\"") || raw.starts_with("'''") {
            inside = 3;
            // TOML leaves out a line break that directly follows the opening quotes.
            inside += raw[3..].len() - raw[3..].trim_start_matches('\r').len();
            inside += usize::from(raw[inside..].starts_with('\n'));
        } else if raw.starts_with(['"', '\'']) {
            inside = 1;
        }
        Text::new(text.value.as_str(), self.source.origin(text.span.start + inside))
    }

    /// Reports the keys of a table that its twin does not have.
    pub fn check_keys(&mut self, table: &DeTable<'_>, known: &[&'static str]) {
        for key in table.keys() {
            let written: &str = key.get_ref();
            if !known.contains(&written) {
                let owner = self.path();
                let owner = if owner.is_empty() { String::new() } else { format!(" in `{owner}`") };
                let ours = FROM_ELSEWHERE.iter().find(|(theirs, ours)| *theirs == written && known.contains(ours));
                let help = match ours {
                    Some((_, ours)) => Some(format!("here it is called `{ours}`")),
                    None => known_names(written, known.iter().copied()),
                };
                // What does not look like a key may be a secret that lost its key.
                let is_plain =
                    written.len() <= 24 && written.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                let name = if self.source.secret && !is_plain { String::new() } else { format!(" `{written}`") };
                let fault = self.error("unknown-key", key.span(), format!("unknown key{name}{owner}"));
                fault.help = help;
            }
        }
    }

    fn add(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        self.diagnostics.push(diagnostic);
        let last = self.diagnostics.len() - 1;
        &mut self.diagnostics[last]
    }
}

/// Keys that other tools have, and what they are called here.
const FROM_ELSEWHERE: [(&str, &str); 6] = [
    ("mode", "write"),
    ("write_disposition", "write"),
    ("primary_key", "keys"),
    ("unique_key", "keys"),
    ("to_connection", "connection"),
    ("to", "into"),
];

/// The end of what a wrong line spoils: of itself, and behind a header of the keys that belong to it.
fn last_line_of(text: &str, first: usize) -> usize {
    let mut end = first;
    for line in text[first..].split_inclusive('\n') {
        let header = line.trim_start().starts_with('[');
        if end > first && (header || !text[first..].trim_start().starts_with('[')) {
            break;
        }
        end += line.len();
    }
    end
}

/// A character of a line that is not to be read: bytes keep their places, lines their ends.
fn blank(c: char) -> String {
    if c == '\n' { "\n".to_owned() } else { " ".repeat(c.len_utf8()) }
}

/// The type of a TOML value, in words.
pub fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A key as it stands in a file: `in` for the field `r#in`.
pub const fn key_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', rest @ ..] => match std::str::from_utf8(rest) {
            Ok(name) => name,
            Err(_) => field,
        },
        _ => field,
    }
}

/// Declares a TOML table once: the struct, its JSON Schema by the documentation of its fields, and its reader.
macro_rules! twin {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $( $(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty ),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        $vis struct $name {
            $( $(#[$field_meta])* $field_vis $field: $type, )*
        }

        impl $crate::config::reader::Twin for $name {
            const KEYS: &'static [&'static str] =
                &[$( $crate::config::reader::key_name(stringify!($field)) ),*];

            fn read_table(
                table: &toml::de::DeTable<'_>,
                span: $crate::config::reader::Span,
                reader: &mut $crate::config::reader::Reader,
            ) -> Self {
                use $crate::config::reader::{Field, key_name};
                reader.check_keys(table, <Self as $crate::config::reader::Twin>::KEYS);
                Self { $( $field: Field::field(table, &span, key_name(stringify!($field)), reader), )* }
            }
        }

        impl $crate::config::reader::Read for $name {
            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::config::reader::Reader,
            ) -> Option<Self> {
                let Some(table) = value.get_ref().as_table() else {
                    reader.wrong_type(value, "a table");
                    return None;
                };
                Some(<Self as $crate::config::reader::Twin>::read_table(table, value.span(), reader))
            }
        }
    };
}
pub(crate) use twin;
