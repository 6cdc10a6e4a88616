//! Faults with their places: what is said, where, how it looks on a terminal and in an editor.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use crate::model::name::Origin;

/// Whether a fault stops the project from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The project cannot be used before this is mended.
    Error,
    /// The project can be used; the data may not be what its author expects.
    Warning,
}

/// One fault of a project's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// A short, stable name of this kind of fault: `unknown-key`.
    pub code: &'static str,
    /// Whether it stops the project from being used.
    pub severity: Severity,
    /// What is wrong, in one lowercase sentence.
    pub message: String,
    /// Where; the first one is the place itself, further ones belong to it.
    pub labels: Vec<Label>,
    /// What would be right.
    pub help: Option<String>,
}

/// A place in a file that a fault is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Label {
    /// The file, relative to the project's root.
    pub file: PathBuf,
    /// The bytes of the file that are underlined.
    pub span: Range<usize>,
    /// The line of the first character, from 1.
    pub line: usize,
    /// The column of the first character, in characters, from 1.
    pub column: usize,
    /// What is said of this place; may be empty.
    pub text: String,
}

impl Diagnostic {
    /// A fault that stops the project from being used.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), labels: Vec::new(), help: None }
    }

    /// A fault that is only told.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Adds a place, with what is said of it.
    #[must_use]
    pub fn at(mut self, source: &Source, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push(source.label(span, text));
        self
    }

    /// Adds what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what would be right, where that is known.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}

/// A file of the project, with its lines found when they are first needed.
#[derive(Debug)]
pub struct Source {
    /// The file, relative to the project's root.
    pub path: Arc<PathBuf>,
    /// Its text.
    pub text: Arc<str>,
    /// Whether it may hold secrets; excerpts of it are never shown.
    pub secret: bool,
    lines: OnceLock<Vec<usize>>,
}

/// The files that diagnostics point into, by their path relative to the project's root.
pub type Sources = HashMap<PathBuf, Arc<Source>>;

impl Source {
    /// A file that was read.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> Self {
        Self { path: Arc::new(path.into()), text: text.into(), secret: false, lines: OnceLock::new() }
    }

    /// The same file, of which no excerpt is ever shown.
    #[must_use]
    pub fn with_secrets(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Where a byte stands.
    pub fn origin(&self, offset: usize) -> Origin {
        let (line, column) = self.line_column(offset);
        Origin { file: self.path.clone(), line, column }
    }

    /// The byte that a line and a column, both from one, stand for; the nearest one where there is none.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let lines = self.lines();
        let Some(&start) = lines.get(line.saturating_sub(1)) else { return self.text.len() };
        let end = lines.get(line).copied().unwrap_or(self.text.len());
        let text = self.text[start..end].trim_end_matches(['\n', '\r']);
        start + text.char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(at, _)| at)
    }

    /// The end of the line that a byte stands in.
    pub fn line_end(&self, offset: usize) -> usize {
        self.text[offset..].find(['\n', '\r']).map_or(self.text.len(), |length| offset + length)
    }

    fn label(&self, span: Range<usize>, text: impl Into<String>) -> Label {
        let start = self.boundary(span.start);
        let end = self.boundary(span.end.max(span.start));
        let (line, column) = self.line_column(start);
        Label { file: self.path.to_path_buf(), span: start..end, line, column, text: text.into() }
    }

    fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.boundary(offset);
        let lines = self.lines();
        let line = lines.partition_point(|&start| start <= offset).max(1);
        (line, self.text[lines[line - 1]..offset].chars().count() + 1)
    }

    /// The nearest place at or before `offset` where a character begins.
    fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let breaks = self.text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(breaks).collect()
        })
    }
}

/// The nearest of `candidates` to what was written, if one is near enough to have been meant.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (written.chars().count() / 3).max(1);
    let lower = written.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(written.len()) <= allowed + 2)
        .filter_map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            (distance <= allowed).then_some((distance, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// How many names a hint lists.
const SHOWN: usize = 12;

/// The hint that belongs to a name that is not known: the nearest one, or all there are.
pub fn known_names<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(near) = nearest(written, candidates.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let mut names: Vec<&str> = candidates.into_iter().take(SHOWN + 1).collect();
    if names.is_empty() {
        return None;
    }
    let more = if names.len() > SHOWN { ", …" } else { "" };
    names.truncate(SHOWN);
    Some(format!("there {}: {}{more}", if names.len() == 1 { "is" } else { "are" }, quoted(&names)))
}

/// The names in backticks, with commas between.
pub fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Draws diagnostics the way a compiler does: message, excerpt with the text underlined, hint.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&render_one(diagnostic, sources, &renderer));
        out.push_str("\n\n");
    }
    out
}

fn render_one(diagnostic: &Diagnostic, sources: &Sources, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(&diagnostic.message).id(diagnostic.code));
    let mut files: Vec<&Path> = Vec::new();
    for label in &diagnostic.labels {
        if !files.contains(&label.file.as_path()) {
            files.push(&label.file);
        }
    }
    for file in files {
        if sources.get(file).is_none_or(|source| source.secret) {
            for label in diagnostic.labels.iter().filter(|label| label.file == file) {
                let origin = annotate_snippets::Origin::path(file.to_string_lossy());
                group = group.element(origin.line(label.line).char_column(label.column));
            }
            continue;
        }
        let text = sources.get(file).map_or("", |source| &*source.text);
        let mut snippet = Snippet::source(text).path(file.to_string_lossy());
        for (index, label) in diagnostic.labels.iter().enumerate().filter(|(_, label)| label.file == file) {
            let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let span = label.span.start.min(text.len())..label.span.end.min(text.len());
            let annotation = kind.span(span);
            let annotation = if label.text.is_empty() { annotation } else { annotation.label(&label.text) };
            snippet = snippet.annotation(annotation);
        }
        group = group.element(snippet);
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    renderer.render(&[group])
}

/// The same as a list for editors and scripts.
pub fn to_json(diagnostics: &[Diagnostic]) -> serde_json::Value {
    serde_json::json!(diagnostics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_and_bytes_find_their_way_back() {
        let source = Source::new("a.toml", "één = 1\ntwee = \"2\"\n");
        let at = source.text.find("twee").expect("a key");
        assert_eq!((source.origin(at).line, source.origin(at).column), (2, 1));
        assert_eq!(source.offset(2, 1), at);
        let equals = source.text.find('=').expect("an equals sign");
        assert_eq!(source.origin(equals).column, 5);
        assert_eq!(source.offset(1, 5), equals);
        assert_eq!(source.offset(99, 1), source.text.len());
    }

    #[test]
    fn a_name_is_only_suggested_when_it_is_near() {
        assert_eq!(nearest("recrods", ["records", "request"]), Some("records"));
        assert_eq!(nearest("shoe", ["records", "request"]), None);
        assert_eq!(nearest("Conection", ["connection"]), Some("connection"));
    }
}
