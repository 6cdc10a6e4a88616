//! Errors of templates: where in which file, the line itself with a mark below, and what would be right.

use std::error::Error as _;
use std::fmt::Write as _;
use std::ops::Range;

use minijinja::{Error as EngineError, ErrorKind};

use super::filters::FILTERS;
use super::scope::{FUNCTIONS, NAMES};
use super::{FUEL, Templates, nearest, template_error};
use crate::error::Error;
use crate::model::name::{Origin, Text};

/// Filters of Jinja that are worth suggesting.
pub(super) const JINJA_FILTERS: &[&str] = &[
    "safe",
    "escape",
    "e",
    "lower",
    "upper",
    "title",
    "capitalize",
    "replace",
    "length",
    "count",
    "dictsort",
    "items",
    "reverse",
    "trim",
    "join",
    "split",
    "lines",
    "default",
    "d",
    "round",
    "abs",
    "int",
    "float",
    "attr",
    "first",
    "last",
    "min",
    "max",
    "sort",
    "list",
    "string",
    "bool",
    "batch",
    "slice",
    "sum",
    "indent",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "map",
    "groupby",
    "unique",
    "chain",
    "zip",
    "pprint",
    "format",
    "tojson",
];

/// Functions of Jinja.
pub(super) const JINJA_FUNCTIONS: &[&str] = &["range", "dict", "debug", "namespace"];

/// Turns the engine's error into one that names the file's line and what would be right.
pub(super) fn explain(templates: &Templates, text: &Text, error: &EngineError) -> Error {
    let mut deepest = error;
    while let Some(inner) = deepest.source().and_then(|source| source.downcast_ref::<EngineError>()) {
        deepest = inner;
    }
    let name = undefined_name(deepest);
    let (what, mut hints) = words(templates, deepest, name.as_deref());
    let mut source = deepest.source();
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<Error>() {
            hints.extend(cause.hints().into_iter().map(str::to_owned));
        }
        source = cause.source();
    }
    let file = deepest.name().or_else(|| error.name()).unwrap_or_default();
    let (source, origin) = templates.source(file, text).unwrap_or((&text.text, text.origin.clone()));
    let range = place(source, deepest, name.as_deref());
    located(source, &origin, range, &what, hints)
}

/// An error at a place of a template's source.
pub(super) fn located(source: &str, origin: &Origin, range: Range<usize>, what: &str, hints: Vec<String>) -> Error {
    let at = origin_of(source, origin, range.start);
    let mut error = template_error(format!("{}:{}:{}: {what}", at.file.display(), at.line, at.column))
        .detail(excerpt(source, &at, range));
    for hint in hints {
        error = error.hint(hint);
    }
    error
}

/// The place in the file of a byte of the template.
pub(super) fn origin_of(source: &str, origin: &Origin, offset: usize) -> Origin {
    let before = source.get(..offset).unwrap_or(source);
    let lines = before.matches('\n').count();
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    Origin {
        file: origin.file.clone(),
        line: origin.line + lines,
        column: if lines == 0 { origin.column + column - 1 } else { column },
    }
}

/// The line of the template with a mark below the range.
fn excerpt(source: &str, at: &Origin, range: Range<usize>) -> String {
    let start = source.get(..range.start).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let line = source.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    let lead: String = source.get(start..range.start).unwrap_or_default().chars().map(blank).collect();
    let marked = source.get(range).unwrap_or_default().lines().next().unwrap_or_default().chars().count().max(1);
    let number = at.line.to_string();
    let margin = " ".repeat(number.len());
    format!(
        "{margin}--> {}:{}:{}\n{margin} |\n{number} | {line}\n{margin} | {lead}{}",
        at.file.display(),
        at.line,
        at.column,
        "^".repeat(marked)
    )
}

fn blank(c: char) -> char {
    if c == '\t' { '\t' } else { ' ' }
}

/// The bytes that the error speaks of: the unknown name itself where it can be found.
fn place(source: &str, error: &EngineError, name: Option<&str>) -> Range<usize> {
    let whole_line = || {
        let number = error.line().unwrap_or(1);
        let start = source.split_inclusive('\n').take(number - 1).map(str::len).sum::<usize>().min(source.len());
        let line = source[start..].lines().next().unwrap_or_default();
        let indent = line.len() - line.trim_start().len();
        start + indent..start + line.trim_end().len().max(indent)
    };
    let range = error.range().filter(|range| !range.is_empty() && source.get(range.clone()).is_some());
    let range = range.unwrap_or_else(whole_line);
    let Some(wanted) = name.or_else(|| unknown_word(error)) else { return range };
    let inside = source.get(range.clone()).and_then(|text| text.find(wanted)).map(|at| range.start + at);
    let line = source.get(..range.start).and_then(|text| text.rfind('\n')).map_or(0, |newline| newline + 1);
    let before = || source.get(line..range.start).and_then(|text| text.rfind(wanted)).map(|at| line + at);
    inside.or_else(before).map_or(range, |start| start..start + wanted.len())
}

/// What is wrong in words, and what would be right.
fn words(templates: &Templates, error: &EngineError, undefined: Option<&str>) -> (String, Vec<String>) {
    if let Some(name) = undefined {
        return (format!("`{name}` is undefined"), undefined_hints(name));
    }
    let word = unknown_word(error).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownFilter => {
            (format!("there is no filter `{word}`"), did_you_mean(word, FILTERS.iter().chain(JINJA_FILTERS)))
        }
        ErrorKind::UnknownFunction => {
            (format!("there is no function `{word}`"), suggestion(nearest(word, function_names(templates).into_iter())))
        }
        ErrorKind::OutOfFuel => (
            format!("the template had not ended after {FUEL} steps"),
            vec!["a loop over so much belongs into the SQL that it renders".to_owned()],
        ),
        ErrorKind::TemplateNotFound => {
            let detail = error.detail().unwrap_or_default();
            let name = detail.split(['"', '\'']).nth(1).unwrap_or_default();
            (format!("there is no file `{name}` in sql/"), near_file(name, templates.files.keys().map(String::as_str)))
        }
        ErrorKind::SyntaxError => {
            (format!("syntax error: {}", error.detail().unwrap_or("it ends too early")), Vec::new())
        }
        kind => (error.detail().map_or_else(|| kind.to_string(), str::to_owned), Vec::new()),
    }
}

fn function_names(templates: &Templates) -> Vec<&str> {
    FUNCTIONS.iter().chain(JINJA_FUNCTIONS).copied().chain(templates.library.names()).collect()
}

/// The suggestion for the name of a file.
pub(super) fn near_file<'a>(name: &str, files: impl Iterator<Item = &'a str>) -> Vec<String> {
    let files: Vec<&str> = files.map(|file| file.strip_prefix("sql/").unwrap_or(file)).collect();
    suggestion(nearest(name.strip_prefix("sql/").unwrap_or(name), files.into_iter()))
}

/// The suggestion for a name out of a fixed list.
pub(super) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a &'a str>) -> Vec<String> {
    suggestion(nearest(name, known.copied()))
}

pub(super) fn suggestion(name: Option<String>) -> Vec<String> {
    name.map(|name| format!("did you mean `{name}`?")).into_iter().collect()
}

/// What helps with an undefined variable.
pub(super) fn undefined_hints(name: &str) -> Vec<String> {
    let root = name.split('.').next().unwrap_or(name);
    let hint = match (name, root) {
        ("this", _) => "only a step that writes a table has `this`",
        (_, "window" | "unit") if !NAMES.contains(&name) && name != root => {
            return did_you_mean(name, NAMES.iter());
        }
        (_, "unit") => {
            "a step that runs once for the whole window, or has none, has no `unit`: use window.start, window.end"
        }
        (_, "window") => "the pipeline has no [window]",
        (_, "report") => {
            "`report` has the names under `values` of [extract.report] and of its poll, in the templates behind them"
        }
        _ if NAMES.contains(&name) => "it needs a [window] or a logical date",
        _ => {
            let near = did_you_mean(name, NAMES.iter());
            if !near.is_empty() {
                return near;
            }
            return vec![format!("a variable of the project is written var('{name}')")];
        }
    };
    vec![hint.to_owned()]
}

/// The name that is undefined, where that is the error.
fn undefined_name(error: &EngineError) -> Option<String> {
    let detail = error.detail().unwrap_or_default();
    if let Some(end) = detail.find("` is undefined") {
        let start = detail[..end].rfind('`').map_or(0, |tick| tick + 1);
        return Some(detail[start..end].to_owned());
    }
    if error.kind() != ErrorKind::UndefinedError {
        return None;
    }
    let (source, range) = (error.template_source()?, error.range()?);
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    // A filter's error covers the filter; what it was given stands before the bar.
    let name = if let Some(before) = source.get(..range.start)?.trim_end().strip_suffix('|') {
        before.trim_end().rsplit(|c| !is_name(c)).next().unwrap_or_default()
    } else {
        let inner = source.get(range)?.trim_start_matches(|c| !is_name(c));
        inner.split(|c| !is_name(c)).next().unwrap_or_default()
    };
    (!name.is_empty()).then(|| name.to_owned())
}

/// The word that the engine does not know: `filter x is unknown`, `x is unknown`.
fn unknown_word(error: &EngineError) -> Option<&str> {
    let words = error.detail()?.strip_suffix(" is unknown")?;
    words.rsplit(' ').next()
}

/// The lines of rendered SQL around one that the warehouse complains of, which is marked.
pub fn render_beside_error(rendered: &str, line: usize) -> String {
    const AROUND: usize = 2;
    let lines: Vec<&str> = rendered.lines().collect();
    let line = line.clamp(1, lines.len().max(1));
    let first = line.saturating_sub(AROUND + 1);
    let last = (line + AROUND).min(lines.len());
    let width = last.to_string().len();
    let mut text = String::new();
    for (index, content) in lines.iter().enumerate().take(last).skip(first) {
        let sign = if index + 1 == line { '>' } else { ' ' };
        let separator = if text.is_empty() { "" } else { "\n" };
        // Writing into a String cannot fail.
        let _ = write!(text, "{separator}{sign} {:>width$} | {content}", index + 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_the_warehouse_names_is_marked_among_its_neighbours() {
        let text = render_beside_error("a\nb\nc\nd\ne\nf", 4);
        assert_eq!(text, "  2 | b\n  3 | c\n> 4 | d\n  5 | e\n  6 | f");
        assert_eq!(render_beside_error("only", 9), "> 1 | only");
        assert_eq!(render_beside_error("", 1), "");
    }
}
