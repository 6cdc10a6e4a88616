//! What templates say before they are rendered: references, sources, and whether they use the window.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Source, Sources, known_names};
use crate::error::{Error, Result};
use crate::model::name::{Origin, Text};
use crate::template::{Inspection, Templates};

/// The one place where config asks the template room.
fn look(templates: &Templates, text: &Text, own: &[&str]) -> Result<Inspection> {
    templates.inspect_with(text, own)
}

/// The project's templates, as far as their files are sound.
pub struct Inspector<'a> {
    templates: Option<Templates>,
    sources: &'a Sources,
}

impl<'a> Inspector<'a> {
    /// Compiles the files of `sql/`, and reports each of those that is wrong.
    pub fn new(sql: &BTreeMap<String, Arc<str>>, sources: &'a Sources, faults: &mut Vec<Diagnostic>) -> Self {
        let mut sound = sql.clone();
        loop {
            let error = match Templates::new(&sound) {
                Ok(templates) => return Self { templates: Some(templates), sources },
                Err(error) => error,
            };
            let text = error.chain();
            let culprit = sound.keys().find(|path| text.contains(path.as_str())).cloned();
            faults.push(template_fault(&error, culprit.as_deref(), None, sources));
            // Without the file that is wrong, the others can still be looked at.
            if culprit.is_none_or(|path| sound.remove(&path).is_none()) {
                return Self { templates: None, sources };
            }
        }
    }

    /// Puts a fault at the place where a template mentions a name.
    pub fn placed(&self, fault: Diagnostic, text: &Text, name: &str) -> Diagnostic {
        let Some(source) = self.sources.get(text.origin.file.as_path()) else { return fault };
        fault.at(source, mention(source, text.origin.line, text.origin.column, name), "")
    }

    /// Calls `visit` with every text that a template consists of: its file, the byte where it begins there, and the text.
    pub fn each_text(&self, text: &Text, inspection: &Inspection, mut visit: impl FnMut(&Source, usize, &str)) {
        if let Some(source) = self.sources.get(text.origin.file.as_path()) {
            visit(source, source.offset(text.origin.line, text.origin.column), &text.text);
        }
        let mut seen: Vec<&str> = Vec::new();
        for (path, _) in &inspection.includes {
            let full = Path::new("sql").join(path);
            let source = self.sources.get(Path::new(path)).or_else(|| self.sources.get(&full));
            if let Some(source) = source.filter(|_| !seen.contains(&path.as_str())) {
                seen.push(path);
                visit(source, 0, &source.text);
            }
        }
    }

    /// Looks at a template that no hook has parameters for; a fault of its syntax is reported.
    pub fn inspect(&self, text: &Text, faults: &mut Vec<Diagnostic>) -> Option<Inspection> {
        self.inspect_with(text, &[], None, faults)
    }

    /// Looks at a template that has variables of its own besides those of all, and in which a hook's parameters, these, can
    /// be used; a fault of its syntax is reported.
    pub fn inspect_with(
        &self,
        text: &Text,
        own: &[&str],
        params: Option<&[&str]>,
        faults: &mut Vec<Diagnostic>,
    ) -> Option<Inspection> {
        let error = match look(self.templates.as_ref()?, text, own) {
            Ok(inspection) => {
                for (name, at) in
                    inspection.params.iter().filter(|(name, _)| !params.unwrap_or_default().contains(&name.as_str()))
                {
                    self.unknown_parameter(name, at, params, faults);
                }
                return Some(inspection);
            }
            Err(error) => error,
        };
        let fault = template_fault(&error, None, Some(text), self.sources);
        // Several steps may use the same file.
        if !faults.contains(&fault) {
            faults.push(fault);
        }
        None
    }

    /// Reports a hook of others that wants to know the environment of this process.
    pub fn no_environment(&self, text: &Text, faults: &mut Vec<Diagnostic>) {
        let mut fault =
            Diagnostic::error("hook-reads-environment", "a hook of others reads no variable of the environment")
                .help("let it be a parameter, which the step sets; credentials belong to connections");
        if let Some(source) = self.sources.get(text.origin.file.as_path()) {
            fault = fault.at(source, mention(source, text.origin.line, text.origin.column, "env_var"), "");
        }
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    fn unknown_parameter(&self, name: &str, at: &Origin, params: Option<&[&str]>, faults: &mut Vec<Diagnostic>) {
        let (message, help) = match params {
            Some(known) => (
                format!("there is no parameter `{name}`"),
                known_names(name, known.iter().copied())
                    .unwrap_or_else(|| format!("declare it in the hook: [parameters.{name}]")),
            ),
            None => (
                format!("`param.{name}` is undefined"),
                "parameters are those of a hook; a variable of the project is written var('name')".to_owned(),
            ),
        };
        let mut fault = Diagnostic::error("unknown-parameter", message).help(help);
        if let Some(source) = self.sources.get(at.file.as_path()) {
            fault = fault.at(source, mention(source, at.line, at.column, &format!("param.{name}")), "");
        }
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
}

/// An error of a template as a diagnostic, at the place that it names.
fn template_fault(error: &Error, file: Option<&str>, text: Option<&Text>, sources: &Sources) -> Diagnostic {
    let chain = error.chain();
    let help = error.hints().first().map(|hint| (*hint).to_owned());
    let own = text.map(|text| text.origin.file.as_path());
    let named = file.map(Path::new).or(own).and_then(|file| sources.get(file));
    let Some(source) = named else { return Diagnostic::error("template", chain).maybe_help(help) };
    let Some((line, column, what)) = place_in(&chain, &source.path.to_string_lossy()) else {
        let start = text.map_or(0, |text| source.offset(text.origin.line, text.origin.column));
        let span = start..source.line_end(start);
        return Diagnostic::error("template", chain.as_str()).maybe_help(help).at(source, span, "");
    };
    let start = source.offset(line, column);
    // The excerpt of the error marks as many characters as are wrong.
    let marked = error.details().map_or(1, |excerpt| excerpt.matches('^').count().max(1));
    let width = source.text[start..].chars().take(marked).map(char::len_utf8).sum::<usize>();
    Diagnostic::error("template", what).maybe_help(help).at(source, start..start + width, "")
}

/// What stands behind the file's name in a message: line, column and the fault, as in `sql/ranking.sql:12:4: what`.
fn place_in<'m>(message: &'m str, file: &str) -> Option<(usize, usize, &'m str)> {
    let behind = message[message.find(file)? + file.len()..].strip_prefix(':')?;
    let (line, behind) = behind.split_once(':')?;
    let (column, what) = behind.split_once(": ")?;
    Some((line.parse().ok()?, column.parse().ok()?, what))
}

/// The bytes of a name that a template mentions at a place, as near as they can be found.
pub fn mention(source: &Source, line: usize, column: usize, name: &str) -> std::ops::Range<usize> {
    const NEAR: usize = 200;
    let start = source.offset(line, column);
    let mut end = (start + NEAR + name.len()).min(source.text.len());
    while !source.text.is_char_boundary(end) {
        end -= 1;
    }
    match source.text[start..end].find(name) {
        Some(at) => start + at..start + at + name.len(),
        None => start..source.line_end(start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_what_stands_behind_the_name() {
        assert_eq!(place_in("sql/a.sql:12:4: unexpected `}`", "sql/a.sql"), Some((12, 4, "unexpected `}`")));
        assert_eq!(place_in("cannot compile sql/a.sql", "sql/a.sql"), None);
    }

    #[test]
    fn a_mention_is_the_name_itself() {
        let source = Source::new("a.sql", "SELECT 1\nFROM {{ ref('ratings') }}\n");
        let span = mention(&source, 2, 6, "ratings");
        assert_eq!(&source.text[span], "ratings");
    }
}
