//! The keys of a fan-out: over what a step sends a request each, how hard it may press, and what may fail.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, quoted};
use super::file::ExtractTable;
use super::hook::ApiParts;
use super::pipeline::Surroundings;
use super::reader::{At, Read, Reader, Span, twin};
use super::scalar::Count;
use super::value::{Percent, schema};
use crate::model::fanout::{ForEach, MaxFailed, Over, StepLimits};
use crate::model::name::Text;
use crate::model::parameter::ParameterValues;
use crate::template::Inspection;

twin! {
    /// Over what a step sends a request each; one of `step`, `sql`, `values` and `file`.
    pub struct ForEachTable {
        /// The rows of this step's table: of the same unit where it has units, else all.
        pub step: Option<At<String>>,
        /// The rows of a SELECT, or of a file that has it. A template.
        pub sql: Option<At<String>>,
        /// The connection where `sql` runs. Default: the pipeline's warehouse.
        pub connection: Option<At<String>>,
        /// A list of texts, numbers or tables.
        pub values: Option<At<Vec<serde_json::Value>>>,
        /// A file, relative to the project: CSV with a head, JSON Lines (`.jsonl`, `.ndjson`), or lines of text (`.txt`).
        pub file: Option<At<String>>,
        /// The variable by which templates call the item. Default `item`; `parent` over a step.
        pub r#as: Option<At<String>>,
    }
}

twin! {
    /// How hard a step may press, under the limits of its connection; named as Google Cloud Tasks names them.
    pub struct LimitsTable {
        /// At most so many requests a second.
        pub max_dispatches_per_second: Option<At<PerSecond>>,
        /// At most so many requests under way at once.
        pub max_concurrent_dispatches: Option<At<Count>>,
    }
}

/// A number of requests a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerSecond(pub f64);

impl Read for PerSecond {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let raw = reader.source.text[value.span()].replace('_', "");
        let number = raw.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0 && *rate <= 1e6);
        if number.is_none() {
            let message = format!("`{}` is not a number of requests a second", reader.path());
            reader.error("bad-rate", value.span(), message).help =
                Some("a number above 0, such as 500 or 0.5".to_owned());
        }
        number.map(Self)
    }
}

schema!(PerSecond, { "type": "number", "exclusiveMinimum": 0, "examples": [500, 0.5] });

/// How many requests may fail: a count, or a share of all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaxFailedValue(pub MaxFailed);

impl Read for MaxFailedValue {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        if value.get_ref().is_str() {
            return Percent::read(value, reader).map(|share| Self(MaxFailed::Share(share.0)));
        }
        u64::read(value, reader).map(|count| Self(MaxFailed::Count(count)))
    }
}

schema!(MaxFailedValue, { "anyOf": [
    { "type": "integer", "minimum": 0 },
    { "type": "string", "pattern": "^\\s*[0-9]+(\\.[0-9]+)?\\s*%$", "examples": ["1%"] },
] });

/// What a step says of its fan-out.
#[derive(Debug, Default)]
pub struct Fan {
    /// Over what it goes, where it does.
    pub for_each: Option<ForEach>,
    /// The steps that it reads, to be resolved.
    pub inspection: Option<Inspection>,
    /// Where the template of its items, or the name of their step, stands.
    pub at: Option<Span>,
    /// How hard it may press.
    pub limits: StepLimits,
    /// What may fail.
    pub max_failed: MaxFailed,
}

/// Reads the keys of a fan-out.
pub fn fan(table: &ExtractTable, around: &Surroundings<'_>, reader: &mut Reader) -> Fan {
    let limits = table.limits.as_ref().map_or_else(StepLimits::default, |limits| StepLimits {
        max_dispatches_per_second: limits.value.max_dispatches_per_second.as_ref().map(|rate| rate.value.0),
        max_concurrent_dispatches: limits
            .value
            .max_concurrent_dispatches
            .as_ref()
            .and_then(|count| usize::try_from(count.value.0.get()).ok()),
    });
    let max_failed = table.max_failed.as_ref().map(|at| at.value.0).unwrap_or_default();
    let Some(at) = &table.for_each else {
        let orphans = [
            ("add", table.add.as_ref().map(|at| at.span.clone())),
            ("max_failed", table.max_failed.as_ref().map(|at| at.span.clone())),
        ];
        for (key, span) in orphans.into_iter().filter_map(|(key, span)| Some((key, span?))) {
            let message = format!("`{key}` means nothing without `for_each`");
            reader.error("missing-key", span, message).help =
                Some("for_each = { step = \"…\" }: a request for each row of another step".to_owned());
        }
        return Fan { limits, max_failed, ..Fan::default() };
    };
    let others = [
        ("table", table.table.as_ref().map(|at| at.span.clone())),
        ("sql", table.sql.as_ref().map(|at| at.span.clone())),
        ("files", table.files.as_ref().map(|at| at.span.clone())),
        ("download", table.download.as_ref().map(|at| at.span.clone())),
        ("collection", table.collection.as_ref().map(|at| at.span.clone())),
    ];
    for (key, span) in others.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        let message = format!("`for_each` sends requests to an API, and does not go together with `{key}`");
        reader.error("foreign-key", span, message).help = Some(format!("a step of its own for `{key}`"));
    }
    let Some((over, inspection, span)) = over(at, around, reader) else {
        return Fan { limits, max_failed, ..Fan::default() };
    };
    let usual = if matches!(over, Over::Step(_)) { "parent" } else { "item" };
    let name = at.value.r#as.as_ref().map_or(usual, |name| item_name(name, usual, reader)).to_owned();
    let add = table.add.as_ref().map_or(&[][..], |add| &add.value.0);
    let add = add.iter().map(|(name, text)| (name.value.clone(), reader.text(text))).collect();
    let for_each = ForEach { over, name, add, reads: Vec::new() };
    Fan { for_each: Some(for_each), inspection, at: Some(span), limits, max_failed }
}

/// The variable's name that `as` gives, unless templates have one of that name already.
fn item_name<'a>(name: &'a At<String>, usual: &'a str, reader: &mut Reader) -> &'a str {
    let first = name.value.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let plain = first && name.value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let (code, message) = if !plain {
        ("bad-name", format!("`{}` cannot be the name of a variable", name.value))
    } else if crate::template::is_known(&name.value) {
        ("bad-name", format!("`{}` is a variable that templates have already", name.value))
    } else {
        return &name.value;
    };
    reader.error(code, name.span.clone(), message).help = Some("as = \"video\"".to_owned());
    usual
}

const PLACES: [&str; 4] = ["step", "sql", "values", "file"];

fn over(
    at: &At<ForEachTable>,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<(Over, Option<Inspection>, Span)> {
    let table = &at.value;
    let given = [table.step.is_some(), table.sql.is_some(), table.values.is_some(), table.file.is_some()];
    if let (Some(connection), false) = (&table.connection, table.sql.is_some()) {
        let message = "`connection` says where `sql` runs, and there is none";
        reader.error("foreign-key", connection.span.clone(), message).help =
            Some("for_each = { sql = \"SELECT …\", connection = \"…\" }".to_owned());
    }
    let count = given.iter().filter(|given| **given).count();
    if count != 1 {
        // One that is there but wrong was reported when it was read.
        let reported = reader.diagnostics.iter().any(|fault| {
            fault.labels.first().is_some_and(|label| at.span.start <= label.span.start && label.span.end <= at.span.end)
        });
        if count > 1 || !reported {
            let what = if count == 0 { "has no items" } else { "has items of several kinds" };
            reader.error("bad-for-each", at.span.clone(), format!("this `for_each` {what}")).help =
                Some(format!("it has one of {}", quoted(&PLACES)));
        }
        return None;
    }
    if let Some(step) = &table.step {
        let origin = reader.origin(&step.span);
        let inspection = Inspection { refs: vec![(step.value.clone(), origin)], ..Inspection::default() };
        return Some((Over::Step(step.value.clone()), Some(inspection), step.span.clone()));
    }
    if let Some(sql) = &table.sql {
        return over_sql(table, sql, around, reader);
    }
    if let Some(values) = &table.values {
        if values.value.is_empty() {
            reader.error("empty", values.span.clone(), "a list without an item: nothing would be asked for");
            return None;
        }
        return Some((Over::Values(Arc::new(values.value.clone())), None, values.span.clone()));
    }
    let file = table.file.as_ref()?;
    let path = PathBuf::from(&file.value);
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !["csv", "jsonl", "ndjson", "txt"].contains(&ending.as_str()) {
        let message = format!("how the items of `{}` are written is not known", file.value);
        reader.error("unknown-format", file.span.clone(), message).help =
            Some("a file of items ends in .csv, .jsonl, .ndjson or .txt".to_owned());
        return None;
    }
    Some((Over::File(path), None, file.span.clone()))
}

fn over_sql(
    table: &ForEachTable,
    sql: &At<String>,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<(Over, Option<Inspection>, Span)> {
    let text = around.sql_text(sql, reader)?;
    let inspection = around.inspector.inspect(&text, &mut reader.diagnostics);
    if let Some(connection) = &table.connection {
        around.check_connection(connection, reader);
        if inspection.as_ref().is_some_and(|inspection| !inspection.refs.is_empty()) {
            let message = "ref() names a table of the pipeline's own warehouse, not of another connection";
            reader.error("ref-elsewhere", connection.span.clone(), message).help =
                Some("leave `connection` out, or write the table's name as it is there".to_owned());
        }
    }
    let connection = table.connection.as_ref().map(|connection| connection.value.clone());
    Some((Over::Sql { text, connection }, inspection, sql.span.clone()))
}

/// What is looked at in search of the item and the window.
pub struct Looked<'a> {
    /// The step's own keys.
    pub table: &'a ExtractTable,
    /// Its fan-out.
    pub fan: &'a Fan,
    /// What step and hook say of the API.
    pub parts: &'a ApiParts,
    /// The hook's parameters.
    pub params: &'a ParameterValues,
    /// Whether the hook is somebody else's.
    pub foreign: bool,
}

/// Looks for the item in the templates of the request and of `add`, and reports what is wrong with it.
///
/// Returns whether the request uses the window; one that cannot be read may.
pub fn inspect_request(looked: &Looked<'_>, step: &At<String>, around: &Surroundings<'_>, reader: &mut Reader) -> bool {
    let Looked { table, fan, parts, params, foreign } = looked;
    let params: Vec<&str> = params.keys().map(String::as_str).collect();
    let params = Some(&*params).filter(|params| !params.is_empty());
    let name = fan.for_each.as_ref().map(|for_each| for_each.name.as_str());
    // What a wrong `for_each` would call its item is not known.
    let lost = table.for_each.is_some() && name.is_none();
    let own: &[&str] = if lost { &["item", "parent"] } else { name.as_slice() };
    // The items of a unit may be its own.
    let of_unit = fan.for_each.as_ref().is_some_and(|for_each| matches!(for_each.over, Over::Step(_)))
        || fan.inspection.as_ref().is_some_and(Inspection::uses_window);
    let (mut window, mut item, mut unread) = (of_unit, false, lost);
    let look = |text: &Text, reader: &mut Reader| {
        let inspection = around.inspector.inspect_with(text, own, params, &mut reader.diagnostics)?;
        if *foreign && inspection.env && *text.origin.file != *reader.source.path {
            around.inspector.no_environment(text, &mut reader.diagnostics);
        }
        let names = &inspection.names;
        let mine = names.iter().filter(|used| own.contains(&used.split('.').next().unwrap_or(used)));
        let mine: BTreeSet<String> = mine.cloned().collect();
        if let Some(for_each) = &fan.for_each {
            mine.iter().for_each(|used| unknown_member(used, text, for_each, around, reader));
        }
        Some((inspection.uses_window(), !mine.is_empty()))
    };
    for text in parts.texts().iter().chain(&parts.process.texts()).filter(|text| text.is_template()) {
        match look(text, reader) {
            Some((uses_window, uses_item)) => (window, item) = (window | uses_window, item | uses_item),
            None => (window, unread) = (true, true),
        }
    }
    for (_, text) in fan.for_each.iter().flat_map(|for_each| &for_each.add) {
        if text.is_template() {
            look(text, reader);
        }
    }
    if let (Some(at), Some(name), false, false) = (&table.for_each, name, item, unread) {
        let message =
            format!("the request of `{}` never uses `{name}`: every item would get the same rows", step.value);
        reader.error("unused-item", at.span.clone(), message).help =
            Some(format!("request = {{ path = \"/videos/{{{{ {name}.id }}}}\" }}"));
    }
    window
}

/// Reports a member that no item of a list has.
fn unknown_member(used: &str, text: &Text, for_each: &ForEach, around: &Surroundings<'_>, reader: &mut Reader) {
    let (Over::Values(values), Some((_, member))) = (&for_each.over, used.split_once('.')) else { return };
    let members: BTreeSet<&str> =
        values.iter().filter_map(serde_json::Value::as_object).flatten().map(|(name, _)| name.as_str()).collect();
    if members.contains(member) {
        return;
    }
    let help = if members.is_empty() {
        format!("the items are no tables: write {{{{ {} }}}}", for_each.name)
    } else {
        format!("they have {}", quoted(&members.into_iter().collect::<Vec<_>>()))
    };
    let fault = Diagnostic::error("unknown-member", format!("no item has a member `{member}`")).help(help);
    let fault = around.inspector.placed(fault, text, used);
    if !reader.diagnostics.contains(&fault) {
        reader.diagnostics.push(fault);
    }
}
