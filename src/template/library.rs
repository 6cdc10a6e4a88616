//! The macros that every template can call: haul's own, with a body for each dialect, and those of `sql/macros/`.
//!
//! A macro `x` of `sql/macros/` may have variants `x__bigquery`, `x__postgres`, `x__duckdb`: a call of `x` takes the one of
//! the warehouse. A macro of the project goes before haul's own of the same name.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use minijinja::machinery::ast::{Expr, Macro, Stmt};
use minijinja::machinery::{Span, parse};
use minijinja::value::{Kwargs, Object, Value};
use minijinja::{Environment, Error, ErrorKind, State};

use super::fault::{located, suggestion};
use super::moment::invalid;
use super::scope::{FUNCTIONS, frame};
use super::{Quoting, file_text, nearest};
use crate::error::{Error as HaulError, Result};
use crate::model::name::Text;

/// Haul's own macros, by the dialect that they are written in.
const OWN: [(&str, &str); 3] = [
    ("duckdb", include_str!("macros/duckdb.jinja")),
    ("bigquery", include_str!("macros/bigquery.jinja")),
    ("postgres", include_str!("macros/postgres.jinja")),
];

/// The folder whose macros need no import.
const FOLDER: &str = "sql/macros/";

/// Own macros that say something of the window.
pub(super) const OF_WINDOW: &[&str] = &["in_window", "shards"];

/// Macros that call each other through the warehouse's variants go no deeper than this.
const DEPTH: usize = 16;

/// Where the macros of one name are.
#[derive(Debug, Clone, Default)]
struct Entry {
    /// How haul's own is called, where there is one: `safe_divide(dividend, divisor)`.
    own: Option<Signature>,
    /// The file of `sql/macros/` that has it.
    plain: Option<String>,
    /// The files that have its variants, by their dialects.
    variants: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Signature {
    text: String,
    needed: Vec<String>,
}

/// All macros that can be called without an import.
#[derive(Debug, Clone, Default)]
pub(super) struct Library {
    entries: BTreeMap<String, Arc<Entry>>,
}

impl Library {
    /// The library of a project's files.
    ///
    /// # Errors
    /// A macro that is there twice, one whose name is taken, and a variant for what is no dialect.
    pub fn of(files: &BTreeMap<String, Arc<str>>) -> Result<Self> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let [(_, own), ..] = OWN;
        for (name, signature) in signatures(own) {
            entries.insert(name, Entry { own: Some(signature), ..Entry::default() });
        }
        let mut found = Vec::new();
        for (path, source) in files.iter().filter(|(path, _)| path.starts_with(FOLDER)) {
            let text = file_text(path, source);
            found.extend(macros_of(source).into_iter().map(|(name, span)| (path, text.clone(), name, span)));
        }
        for (path, text, name, span) in &found {
            let fault = |what: &str, hints| at(text, *span, what, hints);
            if FUNCTIONS.contains(&name.as_str()) {
                return Err(fault(
                    &format!("`{name}` is a function of every template, and no name for a macro"),
                    vec![],
                ));
            }
            let named = |name: &str| entries.contains_key(name) || found.iter().any(|(.., other, _)| other == name);
            let place = match name.rsplit_once("__").filter(|(base, _)| named(base)) {
                Some((base, dialect)) if Quoting::DIALECTS.contains(&dialect) => {
                    entries.entry(base.to_owned()).or_default().variants.insert(dialect.to_owned(), (*path).clone())
                }
                Some((_, dialect)) => {
                    let near = suggestion(nearest(dialect, Quoting::DIALECTS.iter().copied()));
                    let known = format!("the variants of a macro are for {}", Quoting::DIALECTS.join(", "));
                    let hints = near.into_iter().chain([known]).collect();
                    return Err(fault(&format!("`{dialect}` is no dialect of SQL"), hints));
                }
                None => entries.entry(name.clone()).or_default().plain.replace((*path).clone()),
            };
            if let Some(first) = place {
                let hint = format!("the first one is in {first}");
                return Err(fault(&format!("the macro `{name}` is there a second time"), vec![hint]));
            }
        }
        Ok(Self { entries: entries.into_iter().map(|(name, entry)| (name, Arc::new(entry))).collect() })
    }

    /// Whether a macro of this name can be called without an import.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The names of all macros.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The files of the project that have a macro, or a variant of it.
    pub fn files(&self, name: &str) -> Vec<String> {
        let Some(entry) = self.entries.get(name) else { return Vec::new() };
        let mut files: Vec<String> = entry.plain.iter().chain(entry.variants.values()).cloned().collect();
        files.dedup();
        files
    }

    /// Whether a template calls any of them.
    pub fn is_called_in(&self, text: &str) -> bool {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        text.match_indices('(').any(|(at, _)| {
            let before = text[..at].trim_end();
            let start = before
                .rfind(|c| !is_name(c))
                .map_or(0, |other| other + before[other..].chars().next().map_or(1, char::len_utf8));
            self.has(&before[start..])
        })
    }

    /// A file as the engine gets it: where a macro has variants, its name stands for all of them.
    pub fn source(&self, path: &str, source: &str) -> String {
        let mut patched = source.to_owned();
        for (name, entry) in &self.entries {
            if entry.plain.as_deref() == Some(path) && !entry.variants.is_empty() {
                // Behind the file's last byte: no place in it moves. Writing into a String cannot fail.
                let _ =
                    write!(patched, "{{%- set {name}__default = {name} -%}}{{%- set {name} = {} -%}}", hidden(name));
            }
        }
        patched
    }

    /// Makes the macros known; the project's files are added by who has them.
    pub fn add(&self, env: &mut Environment<'static>) {
        for (dialect, source) in OWN {
            // Own sources are sound, which a test says; without them a call would name what is missing.
            let _ = env.add_template(own_name(dialect), source);
        }
        for (name, entry) in &self.entries {
            let value = Value::from_object(Call { name: name.clone(), entry: Arc::clone(entry) });
            if !entry.variants.is_empty() && entry.plain.is_some() {
                env.add_global(hidden(name), value.clone());
            }
            env.add_global(name.clone(), value);
        }
        env.add_function("choice", choice);
    }
}

fn own_name(dialect: &str) -> &'static str {
    match dialect {
        "bigquery" => "haul's macros for bigquery",
        "postgres" => "haul's macros for postgres",
        _ => "haul's macros for duckdb",
    }
}

/// The name by which a file finds all variants of a macro that it has itself.
fn hidden(name: &str) -> String {
    format!("_haul_macro_{name}")
}

/// The macros of a file that others may call, with their places; none of a file that is no template.
fn macros_of(source: &str) -> Vec<(String, Span)> {
    let Ok(Stmt::Template(tree)) = parse(source, "", minijinja::syntax::SyntaxConfig::default()) else {
        return Vec::new();
    };
    let found = tree.children.iter().filter_map(|child| match child {
        Stmt::Macro(node) if !node.name.starts_with('_') => Some((node.name.to_owned(), node.span())),
        _ => None,
    });
    found.collect()
}

fn signatures(source: &str) -> Vec<(String, Signature)> {
    let Ok(Stmt::Template(tree)) = parse(source, "", minijinja::syntax::SyntaxConfig::default()) else {
        return Vec::new();
    };
    let found = tree.children.iter().filter_map(|child| match child {
        Stmt::Macro(node) if !node.name.starts_with('_') => Some((node.name.to_owned(), signature(node))),
        _ => None,
    });
    found.collect()
}

fn signature(node: &Macro<'_>) -> Signature {
    let names: Vec<&str> =
        node.args.iter().filter_map(|arg| if let Expr::Var(var) = arg { Some(var.id) } else { None }).collect();
    let needed = names.len().saturating_sub(node.defaults.len());
    let mut parts: Vec<String> = names[..needed].iter().map(|name| (*name).to_owned()).collect();
    for (name, default) in names[needed..].iter().zip(&node.defaults) {
        let value = default.as_const().map(|value| match value.as_str() {
            Some(text) => format!("'{text}'"),
            None => value.to_string(),
        });
        parts.push(format!("{name}={}", value.unwrap_or_default()));
    }
    let needed = names[..needed].iter().map(|name| (*name).to_owned()).collect();
    Signature { text: format!("{}({})", node.name, parts.join(", ")), needed }
}

fn at(text: &Text, span: Span, what: &str, hints: Vec<String>) -> HaulError {
    let range = span.start_offset as usize..span.end_offset as usize;
    located(&text.text, &text.origin, range, what, hints)
}

/// What templates call: it takes the body for the warehouse.
#[derive(Debug)]
struct Call {
    name: String,
    entry: Arc<Entry>,
}

impl Call {
    /// The template and the macro in it that a dialect gets, and whether it is haul's own.
    fn body(&self, dialect: &str) -> std::result::Result<(&str, String, bool), Error> {
        if let Some(file) = self.entry.variants.get(dialect) {
            return Ok((file, format!("{}__{dialect}", self.name), false));
        }
        if let Some(file) = &self.entry.plain {
            let suffix = if self.entry.variants.is_empty() { "" } else { "__default" };
            return Ok((file, format!("{}{suffix}", self.name), false));
        }
        if self.entry.own.is_some() && OWN.iter().any(|(known, _)| *known == dialect) {
            return Ok((own_name(dialect), self.name.clone(), true));
        }
        let hint = format!("define one: {{% macro {}__{dialect}(…) %}} in a file of {FOLDER}", self.name);
        Err(invalid(format!("the macro `{}` has no body for {dialect}", self.name))
            .with_source(HaulError::usage("").hint(hint)))
    }

    /// Refuses a call of one of haul's own macros that leaves out what it needs.
    fn assert_complete(&self, args: &[Value]) -> std::result::Result<(), Error> {
        let Some(signature) = &self.entry.own else { return Ok(()) };
        let named = args.last().filter(|last| last.is_kwargs()).and_then(|last| Kwargs::try_from(last.clone()).ok());
        let given = args.len() - usize::from(named.is_some());
        let is_named = |name: &str| named.as_ref().is_some_and(|named| named.has(name));
        match signature.needed.iter().skip(given).find(|name| !is_named(name)) {
            None => Ok(()),
            Some(missing) => Err(Error::new(ErrorKind::MissingArgument, format!("{}() needs `{missing}`", self.name))
                .with_source(HaulError::usage("").hint(format!("it is called as {}", signature.text)))),
        }
    }
}

impl Object for Call {
    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> std::result::Result<Value, Error> {
        let frame = frame(state)?;
        let (template, function, own) = self.body(frame.scope.quoting.dialect)?;
        if own {
            self.assert_complete(args)?;
        }
        if frame.depth.fetch_add(1, Ordering::Relaxed) >= DEPTH {
            return Err(invalid(format!("the macro `{}` calls itself without an end", self.name)));
        }
        let called = state.env().get_template(template).and_then(|template| {
            let mut module = template.render_captured(())?;
            module.with_state_mut(|inner| inner.call_macro(&function, args))
        });
        frame.depth.fetch_sub(1, Ordering::Relaxed);
        match called {
            Ok(text) if own => Ok(Value::from(text.trim())),
            Ok(text) => Ok(Value::from(text)),
            Err(error) if own => Err(self.explained(&error)),
            Err(error) => Err(error),
        }
    }
}

impl Call {
    /// What went wrong in one of haul's own macros, as a fault of its call.
    fn explained(&self, error: &Error) -> Error {
        let mut deepest = error;
        let mut hints = Vec::new();
        while let Some(source) = deepest.source() {
            if let Some(advice) = source.downcast_ref::<HaulError>() {
                hints.extend(advice.hints().into_iter().map(str::to_owned));
            }
            let Some(inner) = source.downcast_ref::<Error>() else { break };
            deepest = inner;
        }
        let name = &self.name;
        let what = match (deepest.kind(), deepest.detail()) {
            (ErrorKind::UndefinedError, _) => format!("{name}() needs a [window] or a logical date"),
            (_, Some(detail)) => format!("{name}(): {detail}"),
            (kind, None) => format!("{name}(): {kind}"),
        };
        if let (Some(signature), ErrorKind::TooManyArguments) = (&self.entry.own, deepest.kind()) {
            hints.push(format!("it is called as {}", signature.text));
        }
        let advice = hints.into_iter().fold(HaulError::usage(""), HaulError::hint);
        Error::new(ErrorKind::InvalidOperation, what).with_source(advice)
    }
}

/// The value of a key out of a few; another key is told with those there are.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands arguments over by value")]
fn choice(values: Value, key: Value, what: &str) -> std::result::Result<Value, Error> {
    let known: Vec<String> = values.try_iter()?.map(|key| key.to_string()).collect();
    let key = key.to_string();
    if known.contains(&key) {
        return values.get_item(&Value::from(key));
    }
    let near = nearest(&key, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
    let all = format!("`{what}` is one of {}", known.join(", "));
    let advice = HaulError::usage("").hint(near.unwrap_or_else(|| all.clone()));
    Err(invalid(format!("`{key}` is no {what}; {all}")).with_source(advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_macro_of_its_own_has_a_body_in_every_dialect_and_is_called_the_same_way() {
        let texts = |source| signatures(source).into_iter().map(|(_, signature)| signature.text).collect::<Vec<_>>();
        let [(_, first), others @ ..] = OWN;
        assert!(texts(first).len() > 30);
        for (dialect, source) in others {
            assert_eq!(texts(first), texts(source), "{dialect}");
        }
    }
}
