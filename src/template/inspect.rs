//! Reading templates without rendering them: references, variables and misspelled names, by the syntax tree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Macro, Stmt};
use minijinja::machinery::{Span, parse};

use super::fault::{
    self, JINJA_FILTERS, JINJA_FUNCTIONS, did_you_mean, located, near_file, suggestion, undefined_hints,
};
use super::filters::FILTERS;
use super::library::{Library, OF_WINDOW};
use super::scope::{FUNCTIONS, NAMES, PARAMETERS, WINDOW_NAMES};
use super::{file_text, resolve};
use crate::error::{Error, Result};
use crate::model::name::{Origin, TableName, Text};

/// Names that Jinja itself brings in some places.
const JINJA_NAMES: &[&str] = &["loop", "self", "super", "caller", "varargs", "kwargs", "true", "false", "none"];

/// What a template refers to, together with the files that it includes and imports.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// The names inside `ref()` with their places.
    pub refs: Vec<(String, Origin)>,
    /// The tables inside `source()`, as `schema.table`, with their places.
    pub sources: Vec<(String, Origin)>,
    /// The names inside `var()`.
    pub vars: Vec<String>,
    /// The variables that are used: `ds`, `unit.start`, `window.end`.
    pub names: BTreeSet<String>,
    /// The files that are included or imported, as paths in the project, with their places.
    pub includes: Vec<(String, Origin)>,
    /// The names behind `param.`, with their places; whether there are such ones is for the asker to say.
    pub params: Vec<(String, Origin)>,
    /// Whether a variable of the environment is asked for.
    pub env: bool,
}

impl Inspection {
    /// Whether anything depends on the window or the unit.
    pub fn uses_window(&self) -> bool {
        self.names.iter().any(|name| WINDOW_NAMES.contains(&name.split('.').next().unwrap_or(name)))
    }
}

/// Inspects a template and all files that it reaches.
pub(super) fn inspect(
    files: &BTreeMap<String, Arc<str>>,
    library: &Library,
    text: &Text,
    own: &[&str],
) -> Result<Inspection> {
    let mut found = Found::default();
    let mut waiting: Vec<(Text, Option<String>)> = vec![(text.clone(), None)];
    let mut seen = BTreeSet::new();
    while let Some((text, only)) = waiting.pop() {
        let name = text.origin.file.to_string_lossy().into_owned();
        let tree = parse(&text.text, &name, minijinja::syntax::SyntaxConfig::default())
            .map_err(|error| syntax_error(&text, &error))?;
        let mut walk = Walk { files, library, text: &text, found: &mut found, reached: Vec::new() };
        match &only {
            Some(name) => walk.only(&tree, name)?,
            None => walk.stmt(&tree)?,
        }
        for (path, only) in walk.reached {
            if let Some(source) = files.get(&path).filter(|_| seen.insert((path.clone(), only.clone()))) {
                waiting.push((file_text(&path, source), only));
            }
        }
    }
    found.finish(library, own)
}

fn syntax_error(text: &Text, error: &minijinja::Error) -> Error {
    let what = error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("syntax error: {detail}"));
    let range = error.range().filter(|range| text.text.get(range.clone()).is_some()).unwrap_or_else(|| {
        let lines = text.text.split_inclusive('\n').take(error.line().unwrap_or(1).saturating_sub(1));
        let start = lines.map(str::len).sum::<usize>().min(text.text.len());
        start..start
    });
    located(&text.text, &text.origin, range, &what, Vec::new())
}

/// What was found in all files so far.
#[derive(Default)]
struct Found {
    inspection: Inspection,
    /// Names that some template gives a value itself.
    bound: BTreeSet<String>,
    /// Variables and functions that were used and must be known in the end.
    used: Vec<Used>,
}

struct Used {
    name: String,
    function: bool,
    at: Origin,
    /// Where it is used, to word the fault where it is one.
    text: Text,
    range: Range<usize>,
}

impl Used {
    /// The fault of a name that nobody gives a value.
    fn unknown(&self, library: &Library) -> Error {
        let name = &self.name;
        let (what, hints) = if self.function {
            let names = library.names().chain(FUNCTIONS.iter().chain(JINJA_FUNCTIONS).copied());
            (format!("there is no function `{name}`"), suggestion(super::nearest(name, names)))
        } else {
            (format!("`{name}` is undefined"), undefined_hints(name))
        };
        located(&self.text.text, &self.text.origin, self.range.clone(), &what, hints)
    }
}

impl Found {
    /// The inspection, unless a name is used that nobody gives a value.
    fn finish(mut self, library: &Library, own: &[&str]) -> Result<Inspection> {
        for used in self.used {
            let root = used.name.split('.').next().unwrap_or(&used.name);
            if self.bound.contains(root) || JINJA_NAMES.contains(&root) {
                continue;
            }
            if own.contains(&root) {
                self.inspection.names.insert(used.name);
                continue;
            }
            if root == PARAMETERS && !used.function {
                let name = used.name.split_once('.').map_or("", |(_, name)| name).to_owned();
                self.inspection.params.push((name, used.at));
                continue;
            }
            self.inspection.env |= root == "env_var";
            let known = if used.function {
                FUNCTIONS.contains(&root) || JINJA_FUNCTIONS.contains(&root)
            } else {
                let fields = ["window", "unit", "run"].contains(&root);
                NAMES.contains(&if fields { used.name.as_str() } else { root })
                    || FUNCTIONS.contains(&root)
                    || JINJA_FUNCTIONS.contains(&root)
            };
            if used.function && library.has(root) {
                if OF_WINDOW.contains(&root) {
                    self.inspection.names.insert("data_interval_start".to_owned());
                }
                continue;
            }
            if !known {
                let error = used.unknown(library);
                return Err(match super::nearest(root, own.iter().copied()) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None if ["item", "parent"].contains(&root) => {
                        error.hint("it is what `for_each` goes over: for_each = { step = \"…\" }")
                    }
                    None => error,
                });
            }
            if !used.function {
                self.inspection.names.insert(used.name);
            }
        }
        Ok(self.inspection)
    }
}

/// A walk through one file.
struct Walk<'a> {
    files: &'a BTreeMap<String, Arc<str>>,
    library: &'a Library,
    text: &'a Text,
    found: &'a mut Found,
    /// Files to look at: whole, or one macro of them with its variants.
    reached: Vec<(String, Option<String>)>,
}

impl Walk<'_> {
    fn origin(&self, span: Span) -> Origin {
        fault::origin_of(&self.text.text, &self.text.origin, span.start_offset as usize)
    }

    fn error(&self, span: Span, what: &str, hints: Vec<String>) -> Error {
        let range = span.start_offset as usize..span.end_offset as usize;
        located(&self.text.text, &self.text.origin, range, what, hints)
    }

    fn stmts(&mut self, stmts: &[Stmt<'_>]) -> Result<()> {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt<'_>) -> Result<()> {
        match stmt {
            Stmt::Template(node) => self.stmts(&node.children),
            Stmt::EmitExpr(node) => self.expr(&node.expr),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => Ok(()),
            Stmt::ForLoop(node) => {
                self.bind(&node.target);
                self.expr(&node.iter)?;
                node.filter_expr.iter().try_for_each(|expr| self.expr(expr))?;
                self.stmts(&node.body)?;
                self.stmts(&node.else_body)
            }
            Stmt::IfCond(node) => {
                self.expr(&node.expr)?;
                self.stmts(&node.true_body)?;
                self.stmts(&node.false_body)
            }
            Stmt::WithBlock(node) => {
                for (target, value) in &node.assignments {
                    self.bind(target);
                    self.expr(value)?;
                }
                self.stmts(&node.body)
            }
            Stmt::Set(node) => {
                self.bind(&node.target);
                self.expr(&node.expr)
            }
            Stmt::SetBlock(node) => {
                self.bind(&node.target);
                node.filter.iter().try_for_each(|filter| self.expr(filter))?;
                self.stmts(&node.body)
            }
            Stmt::AutoEscape(node) => self.stmts(&node.body),
            Stmt::FilterBlock(node) => {
                self.expr(&node.filter)?;
                self.stmts(&node.body)
            }
            Stmt::Block(node) => self.stmts(&node.body),
            Stmt::Macro(node) => self.macro_body(node),
            Stmt::CallBlock(node) => {
                self.call(&node.call, node.call.span())?;
                self.macro_body(&node.macro_decl)
            }
            Stmt::Do(node) => self.call(&node.call, node.call.span()),
            Stmt::Import(node) => {
                self.bind(&node.name);
                self.file(&node.expr, false)
            }
            Stmt::FromImport(node) => {
                for (name, alias) in &node.names {
                    self.bind(alias.as_ref().unwrap_or(name));
                }
                self.file(&node.expr, false)
            }
            Stmt::Extends(node) => self.file(&node.name, false),
            Stmt::Include(node) => self.file(&node.name, node.ignore_missing),
        }
    }

    fn macro_body(&mut self, node: &Macro<'_>) -> Result<()> {
        self.found.bound.insert(node.name.to_owned());
        node.args.iter().for_each(|arg| self.bind(arg));
        node.defaults.iter().try_for_each(|default| self.expr(default))?;
        self.stmts(&node.body)
    }

    /// Remembers the names that a target gives a value.
    fn bind(&mut self, target: &Expr<'_>) {
        match target {
            Expr::Var(var) => {
                self.found.bound.insert(var.id.to_owned());
            }
            Expr::List(list) => list.items.iter().for_each(|item| self.bind(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.bind(item)),
            _ => {}
        }
    }

    /// A file that is included or imported.
    fn file(&mut self, name: &Expr<'_>, may_be_missing: bool) -> Result<()> {
        let Some(value) = name.as_const() else {
            return self.expr(name);
        };
        let names: Vec<String> = match value.as_str() {
            Some(name) => vec![name.to_owned()],
            None => value.try_iter().map(|names| names.map(|name| name.to_string()).collect()).unwrap_or_default(),
        };
        let paths: Vec<String> = names.iter().filter_map(|name| resolve(self.files, name)).collect();
        if paths.is_empty() && !may_be_missing {
            let missing = names.first().map_or("", String::as_str);
            let hints = near_file(missing, self.files.keys().map(String::as_str));
            return Err(self.error(name.span(), &format!("there is no file `{missing}` in sql/"), hints));
        }
        for path in paths {
            self.found.inspection.includes.push((path.clone(), self.origin(name.span())));
            self.reached.push((path, None));
        }
        Ok(())
    }

    fn expr(&mut self, expr: &Expr<'_>) -> Result<()> {
        match expr {
            Expr::Var(var) => {
                self.uses(var.id.to_owned(), var.span(), false);
                Ok(())
            }
            Expr::Const(_) => Ok(()),
            Expr::Slice(node) => {
                self.expr(&node.expr)?;
                [&node.start, &node.stop, &node.step].into_iter().flatten().try_for_each(|part| self.expr(part))
            }
            Expr::UnaryOp(node) => self.expr(&node.expr),
            Expr::BinOp(node) => {
                if matches!(
                    node.op,
                    BinOpKind::Eq | BinOpKind::Ne | BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte
                ) {
                    self.comparable(&[&node.left, &node.right])?;
                }
                self.expr(&node.left)?;
                self.expr(&node.right)
            }
            Expr::Compare(node) => {
                let operands: Vec<&Expr<'_>> =
                    std::iter::once(&node.expr).chain(node.ops.iter().map(|op| &op.expr)).collect();
                self.comparable(&operands)?;
                operands.into_iter().try_for_each(|operand| self.expr(operand))
            }
            Expr::IfExpr(node) => {
                self.expr(&node.test_expr)?;
                self.expr(&node.true_expr)?;
                node.false_expr.iter().try_for_each(|expr| self.expr(expr))
            }
            Expr::Filter(node) => {
                if !FILTERS.contains(&node.name) && !JINJA_FILTERS.contains(&node.name) {
                    let hints = did_you_mean(node.name, FILTERS.iter().chain(JINJA_FILTERS));
                    return Err(self.error(node.span(), &format!("there is no filter `{}`", node.name), hints));
                }
                // A default is for what may be undefined.
                let lenient = ["default", "d"].contains(&node.name);
                node.expr.iter().try_for_each(|expr| self.maybe(expr, lenient))?;
                self.args(&node.args)
            }
            Expr::Test(node) => {
                self.maybe(&node.expr, ["defined", "undefined"].contains(&node.name))?;
                self.args(&node.args)
            }
            Expr::GetAttr(node) => match dotted(expr) {
                Some(name) => {
                    self.uses(name, node.span(), false);
                    Ok(())
                }
                None => self.expr(&node.expr),
            },
            Expr::GetItem(node) => {
                match dotted(expr) {
                    Some(name) => self.uses(name, node.span(), false),
                    None => self.expr(&node.expr)?,
                }
                self.expr(&node.subscript_expr)
            }
            Expr::Call(node) => self.call(node, node.span()),
            Expr::List(node) => node.items.iter().try_for_each(|item| self.expr(item)),
            Expr::Tuple(node) => node.items.iter().try_for_each(|item| self.expr(item)),
            Expr::Map(node) => node.keys.iter().chain(&node.values).try_for_each(|item| self.expr(item)),
        }
    }

    /// An expression that may be undefined where `lenient`.
    fn maybe(&mut self, expr: &Expr<'_>, lenient: bool) -> Result<()> {
        match dotted(expr).filter(|_| lenient) {
            Some(name) => {
                if NAMES.contains(&name.as_str()) || name.split('.').next() == Some(PARAMETERS) {
                    self.uses(name, expr.span(), false);
                }
                Ok(())
            }
            None => self.expr(expr),
        }
    }

    fn args(&mut self, args: &[CallArg<'_>]) -> Result<()> {
        args.iter().try_for_each(|arg| match arg {
            CallArg::Pos(expr) | CallArg::Kwarg(_, expr) | CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => {
                self.expr(expr)
            }
        })
    }

    fn call(&mut self, call: &Call<'_>, span: Span) -> Result<()> {
        match &call.expr {
            Expr::Var(var) => match var.id {
                "ref" => self.reference(call, span)?,
                "source" => self.source(call, span)?,
                "var" => {
                    if let Some(name) = literals(call).first().and_then(Option::as_deref) {
                        self.found.inspection.vars.push(name.to_owned());
                    }
                }
                name => {
                    if name == "shards" {
                        self.shards(call, span)?;
                    }
                    let files = self.library.files(name).into_iter();
                    self.reached.extend(files.map(|file| (file, Some(name.to_owned()))));
                    self.uses(name.to_owned(), var.span(), true);
                }
            },
            // A method: what it is called on is what counts.
            Expr::GetAttr(attr) => self.expr(&attr.expr)?,
            other => self.expr(other)?,
        }
        self.args(&call.args)
    }

    fn reference(&mut self, call: &Call<'_>, span: Span) -> Result<()> {
        match literals(call).as_slice() {
            [Some(name)] => {
                self.found.inspection.refs.push((name.clone(), self.origin(span)));
                Ok(())
            }
            _ => Err(self.error(
                span,
                "the name inside ref() must be a literal",
                vec!["write ref('name'): what a step reads must be known before it is rendered".to_owned()],
            )),
        }
    }

    fn source(&mut self, call: &Call<'_>, span: Span) -> Result<()> {
        let parts: Option<Vec<String>> = literals(call).into_iter().collect();
        let Some(parts) = parts.filter(|parts| (1..=2).contains(&parts.len())) else {
            return Err(self.error(
                span,
                "the name inside source() must be a literal",
                vec!["write source('schema', 'table')".to_owned()],
            ));
        };
        let table = TableName::parse(&parts.join(".")).map_err(|error| {
            self.error(span, &error.to_string(), error.hints().iter().map(ToString::to_string).collect())
        })?;
        self.found.inspection.sources.push((table.to_string(), self.origin(span)));
        Ok(())
    }

    /// The tables behind `shards()`, which nobody follows the changes of.
    fn shards(&mut self, call: &Call<'_>, span: Span) -> Result<()> {
        let Some(Some(written)) = literals(call).into_iter().next() else {
            let hints = vec!["write shards('dataset.events_*')".to_owned()];
            return Err(self.error(span, "the name inside shards() must be a literal", hints));
        };
        let parts: Vec<&str> = written.trim_end_matches('*').split('.').collect();
        let table = TableName::parse(&parts[parts.len().saturating_sub(2)..].join(".")).map_err(|error| {
            self.error(span, &error.to_string(), error.hints().iter().map(ToString::to_string).collect())
        })?;
        self.found.inspection.sources.push((table.to_string(), self.origin(span)));
        Ok(())
    }

    /// Walks through one macro of a file and its variants, and what the file says outside of its macros.
    fn only(&mut self, tree: &Stmt<'_>, name: &str) -> Result<()> {
        let Stmt::Template(tree) = tree else { return Ok(()) };
        for child in &tree.children {
            match child {
                Stmt::Macro(node) => {
                    self.found.bound.insert(node.name.to_owned());
                    let base = node.name.rsplit_once("__").map_or(node.name, |(base, _)| base);
                    if node.name == name || base == name || node.name.starts_with('_') {
                        self.macro_body(node)?;
                    }
                }
                other => self.stmt(other)?,
            }
        }
        Ok(())
    }

    /// Refuses `ds == '2018-02-01'`: a date is never equal to a text, and nobody would notice.
    fn comparable(&self, operands: &[&Expr<'_>]) -> Result<()> {
        let is_time = |name: &String| {
            NAMES.contains(&name.as_str())
                && !["ds_nodash", "this", "timezone", "run.id", "unit.key"].contains(&name.as_str())
                && !self.found.bound.contains(name.split('.').next().unwrap_or(name))
        };
        let time = operands.iter().find_map(|operand| dotted(operand).filter(is_time).map(|name| (name, operand)));
        let text = operands.iter().any(|operand| operand.as_const().is_some_and(|value| value.as_str().is_some()));
        match time {
            Some((name, operand)) if text => Err(self.error(
                operand.span(),
                &format!("`{name}` is a date or an instant, which no text is equal to"),
                vec![format!("compare texts, `{name} | string`, or dates, `'2018-02-01' | date`")],
            )),
            _ => Ok(()),
        }
    }

    fn uses(&mut self, name: String, span: Span, function: bool) {
        let range = span.start_offset as usize..span.end_offset as usize;
        let (at, text) = (self.origin(span), self.text.clone());
        self.found.used.push(Used { name, function, at, text, range });
    }
}

/// The literal texts among a call's arguments, in their order.
fn literals(call: &Call<'_>) -> Vec<Option<String>> {
    call.args
        .iter()
        .map(|arg| match arg {
            CallArg::Pos(expr) => expr.as_const().and_then(|value| value.as_str().map(str::to_owned)),
            _ => None,
        })
        .collect()
}

/// `unit.start` for the variable or the field of a variable, also when it is written `unit['start']`.
fn dotted(expr: &Expr<'_>) -> Option<String> {
    match expr {
        Expr::Var(var) => Some(var.id.to_owned()),
        Expr::GetAttr(attr) => match &attr.expr {
            Expr::Var(var) => Some(format!("{}.{}", var.id, attr.name)),
            _ => None,
        },
        Expr::GetItem(item) => match (&item.expr, item.subscript_expr.as_const()?.as_str()) {
            (Expr::Var(var), Some(field)) => Some(format!("{}.{field}", var.id)),
            _ => None,
        },
        _ => None,
    }
}
