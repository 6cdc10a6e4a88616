//! The one Jinja environment: windows, units and references in SQL and requests, strictly.
//!
//! An undefined name is an error that shows the template's line. Dates and instants stay what they are until they are
//! printed (ISO 8601, instants in UTC) or pass a filter: `{{ unit.start | sql }}`, `{{ ds | strftime("%Y%m%d") }}`.
//! [`Templates::inspect`] reads a template without rendering it: what it refers to, and what it misspells.

mod fault;
mod filters;
mod inspect;
mod library;
mod moment;
mod prepared;
mod quoting;
mod scope;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use minijinja::{AutoEscape, Environment, UndefinedBehavior};

pub use fault::render_beside_error;
pub use inspect::Inspection;
pub use prepared::{Item, Prepared};
pub use quoting::Quoting;
pub use scope::{EnvLookup, Scope};

use crate::error::{Error, Result};
use crate::model::name::{Origin, Text};
use library::Library;

/// The steps of the template engine after which a template counts as endless.
const FUEL: u64 = 5_000_000;

/// How deep includes and macros may call each other; each level costs several of these.
const DEPTH: usize = 200;

/// All templates of a project and the environment that they are rendered in.
pub struct Templates {
    /// Knows the functions and filters, but no files: cheap to clone for one rendering.
    bare: Environment<'static>,
    /// Knows the files of `sql/` too.
    full: Environment<'static>,
    files: Arc<BTreeMap<String, Arc<str>>>,
    /// The macros that need no import.
    library: Library,
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Templates").field("files", &self.files.keys()).finish_non_exhaustive()
    }
}

impl Templates {
    /// Compiles the files of `sql/`, whose keys are their paths in the project.
    ///
    /// # Errors
    /// A syntax error, with its file and line; a macro of `sql/macros/` that cannot be called.
    pub fn new(sql: &BTreeMap<String, Arc<str>>) -> Result<Self> {
        let files = Arc::new(sql.clone());
        let bare = environment(&files);
        let mut full = bare.clone();
        let library = Library::of(sql);
        let known = library.as_ref().ok().cloned().unwrap_or_default();
        known.add(&mut full);
        let mut templates = Self { full, bare, files: files.clone(), library: known };
        for (path, source) in files.iter() {
            let text = templates.library.source(path, source);
            if let Err(error) = templates.full.add_template_owned(path.clone(), text) {
                return Err(fault::explain(&templates, &file_text(path, source), &error));
            }
        }
        library.map(|_| templates)
    }

    /// Renders a template.
    ///
    /// # Errors
    /// Whatever is wrong with it, with the file and line, the line itself, and the nearest name for an unknown one.
    pub fn render(&self, text: &Text, scope: &Scope) -> Result<String> {
        if !text.is_template() {
            return Ok(text.text.to_string());
        }
        let needs_files =
            text.text.contains("{%") && ["include", "import", "extends"].iter().any(|word| text.text.contains(word));
        let needs_files = needs_files || self.library.is_called_in(&text.text);
        let mut env = if needs_files { self.full.clone() } else { self.bare.clone() };
        scope::bind(&mut env, scope);
        env.render_named_str(&file_name(&text.origin), &text.text, ())
            .map_err(|error| fault::explain(self, text, &error))
    }

    /// Renders a template that stands in a string of JSON. What is one expression and nothing else keeps the type of its
    /// value: `"{{ unit.start | epoch }}"` becomes a number.
    ///
    /// # Errors
    /// As for [`Templates::render`].
    pub fn render_json(&self, text: &Text, scope: &Scope) -> Result<serde_json::Value> {
        let rendered = self.render(text, scope)?;
        if let Some(expression) = single_expression(&text.text) {
            let mut env = self.bare.clone();
            scope::bind(&mut env, scope);
            let value = env.compile_expression(expression).and_then(|expression| expression.eval(()));
            if let Some(json) = value.ok().as_ref().and_then(plain_json) {
                return Ok(json);
            }
        }
        Ok(serde_json::Value::String(rendered))
    }

    /// Reads a template without rendering it, together with the files that it includes and imports.
    ///
    /// # Errors
    /// A syntax error, a `ref()` whose name is computed, a file or a name that does not exist.
    pub fn inspect(&self, text: &Text) -> Result<Inspection> {
        self.inspect_with(text, &[])
    }

    /// The same for a template that has these variables besides those of all; they count among the names that it uses.
    pub fn inspect_with(&self, text: &Text, own: &[&str]) -> Result<Inspection> {
        if !text.is_template() {
            return Ok(Inspection::default());
        }
        inspect::inspect(&self.files, &self.library, text, own)
    }

    /// The source and the place of a template by the name that the engine knows it by.
    fn source<'a>(&'a self, name: &str, text: &'a Text) -> Option<(&'a str, Origin)> {
        if name == file_name(&text.origin) {
            return Some((&text.text, text.origin.clone()));
        }
        let (path, source) = self.files.get_key_value(name)?;
        Some((source, file_text(path, source).origin))
    }
}

/// The expression of a template that is one expression and nothing else.
fn single_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"))?;
    let alone = !["{{", "}}", "{%", "{#"].iter().any(|mark| inner.contains(mark));
    alone.then(|| inner.trim_matches('-').trim())
}

/// A value that JSON has a type for besides texts.
fn plain_json(value: &minijinja::Value) -> Option<serde_json::Value> {
    use minijinja::value::ValueKind::{Bool, Map, None as Nothing, Number, Seq};
    let plain = matches!(value.kind(), Bool | Map | Nothing | Number | Seq);
    plain.then(|| serde_json::to_value(value).ok()).flatten()
}

/// Whether templates have a variable or a function of this name.
pub fn is_known(name: &str) -> bool {
    scope::NAMES.iter().chain(scope::FUNCTIONS).any(|known| *known == name) || name == scope::PARAMETERS
}

/// The environment with everything but the scope of a rendering.
fn environment(files: &Arc<BTreeMap<String, Arc<str>>>) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_debug(true);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(DEPTH);
    let known = files.clone();
    env.set_path_join_callback(move |name, _| resolve(&known, name).unwrap_or_else(|| name.to_owned()).into());
    filters::add(&mut env);
    scope::add_functions(&mut env);
    env
}

/// The path of an included file: `ranking.sql` means `sql/ranking.sql`.
fn resolve(files: &BTreeMap<String, Arc<str>>, name: &str) -> Option<String> {
    [name.to_owned(), format!("sql/{name}")].into_iter().find(|path| files.contains_key(path))
}

fn file_name(origin: &Origin) -> String {
    origin.file.to_string_lossy().into_owned()
}

fn file_text(path: &str, source: &Arc<str>) -> Text {
    Text::new(source.clone(), Origin { file: Arc::new(PathBuf::from(path)), line: 1, column: 1 })
}

/// The known name that is most like a wrong one, if any is.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|known| (strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= 1 + name.len().min(known.len()) / 4)
        .min()
        .map(|(_, known)| known.to_owned())
}

/// A template's error of haul's own.
fn template_error(what: String) -> Error {
    Error::new(crate::error::Kind::Template, what)
}
