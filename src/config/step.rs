//! One step as a draft: extract and transform, with the lints that need no other step.

use super::check::{checks, table_name};
use super::collection::{self, Asked};
use super::diagnostic::known_names;
use super::fanout::{Looked, fan, inspect_request};
use super::file::{ExtractTable, GuardTable, TransformTable, WriteWord};
use super::files::{self, is_files};
use super::hook::ApiParts;
use super::layout::{LayoutKeys, layout};
use super::load;
use super::parameter;
use super::pipeline::{Surroundings, guard, is_plain_name};
use super::reader::{At, Reader, Span};
use super::scalar::Names;
use super::source::source;
use super::sql::step_sql;
use super::table::{check_window, is_table};
use super::value::ReachValue;
use crate::model::layout::Layout;
use crate::model::name::TableName;
use crate::model::parameter::ParameterValues;
use crate::model::pipeline::{Action, Extract, Guard, Outside, Per, Pipeline, Step, TimeColumn, Transform, Write};
use crate::model::schema::LogicalType;
use crate::model::source::{Source, Speaks};
use crate::template::Inspection;
use crate::time::Reach;

/// A step before its references are resolved.
pub struct StepDraft {
    /// The steps that it begins after.
    pub after: Option<At<Names>>,
    /// Its name and where it stands.
    pub name: At<String>,
    /// Where its table is named, or the step where it is not.
    pub into: Span,
    /// The step, whose reads are still empty; none when too much of it is missing.
    pub step: Option<Step>,
    /// What its template refers to.
    pub inspection: Option<Inspection>,
    /// Where its template is named.
    pub sql: Span,
    /// Which upstream units it reads, by the name inside `ref()`; without one, those of its own time.
    pub reach: Reaches,
    /// What it loads.
    pub from: Option<load::LoadFrom>,
}

/// Which upstream units a step reads.
#[derive(Default)]
pub struct Reaches {
    /// Of every reference that is not named.
    pub all: Option<Reach>,
    /// Of those that are named.
    pub each: Vec<(At<String>, Option<Reach>)>,
}

/// The keys by which extracts and transforms say how rows get into their table.
pub(super) struct WriteKeys<'a> {
    pub write: Option<&'a At<WriteWord>>,
    pub keys: Option<&'a At<Names>>,
    pub newest_by: Option<&'a At<String>>,
    pub append_repeats: Option<&'a At<bool>>,
    /// Whether a step that does not say how it writes merges.
    pub merges: bool,
    /// Whether the source tells the columns that identify a row.
    pub tells_keys: bool,
}

/// Stands in faults for the name of a step that has none.
const UNNAMED: &str = "(unnamed)";

/// Reads an extract step; `None` when not even its name is known.
pub fn extract(
    at: &At<ExtractTable>,
    pipeline: &Pipeline,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<StepDraft> {
    let table = &at.value;
    let name = step_name(table.name.0.as_ref(), &at.span, reader);
    let Api { parts, hook: hook_known, params } = api(table, &name, around, reader);
    let write = WriteKeys {
        write: table.write.as_ref(),
        keys: table.keys.as_ref(),
        newest_by: table.newest_by.as_ref(),
        append_repeats: table.append_repeats.as_ref(),
        merges: parts.process.merges(pipeline),
        tells_keys: parts.process.tells_keys(),
    };
    let write = write_mode(&write, &name, pipeline, reader);
    let layout_keys = LayoutKeys {
        partition_by: table.partition_by.as_ref(),
        cluster_by: table.cluster_by.as_ref(),
        write: table.write.as_ref(),
        require_partition_filter: table.require_partition_filter.as_ref(),
        partition_expires: table.partition_expires.as_ref(),
    };
    let layout = if table.stage.is_some() { Layout::default() } else { layout(&layout_keys, pipeline, &write, reader) };
    let (landing, into) = match &table.stage {
        Some(stage) => load::landing(stage, table, &layout_keys, &write, around, reader).unzip(),
        None => (None, into_table(table.into.as_ref(), "raw", &name, reader)),
    };
    let checks = checks(table.checks.as_ref(), around, reader);
    let keeps_state = parts.process.keeps_state(&write, pipeline);
    let guard = match &table.guard {
        // What is new since the last state has nothing to do with how many rows were new before.
        None if keeps_state => Guard::OPEN,
        guard => step_guard(guard.as_ref(), pipeline),
    };
    let per = per(table.per.as_ref(), pipeline, reader);
    let foreign = table.hook.as_ref().and_then(|hook| around.hooks.get(&hook.value)).is_some_and(|hook| hook.foreign);
    let by_unit = pipeline.window.is_some() && write != Write::Full;
    let fan = fan(table, around, reader);
    let Asked { source, time, uses_window } = if let Some(collection) = &table.collection {
        collection::asked(collection, table, &parts, (per, by_unit), around, reader)
    } else {
        collection::without_collection(table, reader);
        // What an unknown hook says of rows and their times is unknown too.
        let time = hook_known.then(|| time_column(table, &parts, per, &write, &name, pipeline, reader)).flatten();
        let source = source(table, &parts, &fan, &name, &write, pipeline, around, reader);
        if let Source::Table(source) = &source {
            check_window(table, source, &write, &name, pipeline, around, reader);
        }
        // A program gets its unit by variables, whatever its templates say.
        let by_itself = match &source {
            Source::Process(process) => matches!(process.speaks, Speaks::JsonLines),
            _ => is_table(table) || is_files(table),
        };
        let looked = Looked { table, fan: &fan, parts: &parts, params: &params, foreign };
        let uses_window = inspect_request(&looked, &name, around, reader) || by_itself;
        Asked { source, time, uses_window }
    };
    // Rows that are divided, or thrown out, by their own time land in the right unit whatever was asked for.
    let divided = per == Per::Window || time.as_ref().is_some_and(|time| time.outside != Outside::Keep);
    if by_unit && hook_known && !divided && !uses_window {
        unused_window(table, &source, &name, reader);
    }
    if let Source::Files(source) = &source {
        files::check_window(source, by_unit && !divided, &name, table, around, reader);
    }
    let download = files::download(table, around, reader);
    let mut columns = parts.columns;
    if let Some(download) = &download {
        // Rows of which none points to a file have the column all the same.
        columns.entry(download.column.clone()).or_insert(LogicalType::Text);
    }
    let action = Extract {
        connection: parts.connection.unwrap_or_default(),
        hook: table.hook.as_ref().map(|hook| hook.value.clone()),
        foreign,
        params,
        source,
        download,
        per,
        time,
        time_zone: table.time_zone.as_ref().map(|zone| zone.value.0),
        columns,
        contract: table.contract.as_ref().map(|at| at.value).unwrap_or_default(),
        nested: parts.nested.unwrap_or_default(),
        naming: parts.naming.unwrap_or_default(),
        landing,
    };
    let origin = reader.origin(&at.span);
    let into_span = table.into.as_ref().map(|into| into.span.clone());
    let into_span = into_span.or_else(|| table.stage.as_ref().map(|at| at.span.clone())).unwrap_or(name.span.clone());
    let step = into.map(|into| Step {
        keys: names_of(table.keys.as_ref()),
        name: name.value.clone(),
        origin,
        into,
        write,
        layout,
        checks,
        guard,
        after: Vec::new(),
        action: Action::Extract(Box::new(action)),
    });
    let named = table.name.0.is_some();
    let sql = fan.at.unwrap_or_else(|| name.span.clone());
    let inspection = fan.inspection;
    let (after, reach) = (table.after.clone(), Reaches::default());
    named.then_some(StepDraft { name, into: into_span, step, inspection, sql, reach, from: None, after })
}

/// Reads a transform step; `None` when not even its name is known.
pub fn transform(
    at: &At<TransformTable>,
    pipeline: &Pipeline,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<StepDraft> {
    let table = &at.value;
    let name = step_name(table.name.0.as_ref(), &at.span, reader);
    let write = WriteKeys {
        write: table.write.as_ref(),
        keys: table.keys.as_ref(),
        newest_by: table.newest_by.as_ref(),
        append_repeats: table.append_repeats.as_ref(),
        merges: false,
        tells_keys: false,
    };
    let write = write_mode(&write, &name, pipeline, reader);
    let into = into_table(table.into.as_ref(), "mart", &name, reader);
    let layout_keys = LayoutKeys {
        partition_by: table.partition_by.as_ref(),
        cluster_by: table.cluster_by.as_ref(),
        write: table.write.as_ref(),
        require_partition_filter: table.require_partition_filter.as_ref(),
        partition_expires: table.partition_expires.as_ref(),
    };
    let layout = layout(&layout_keys, pipeline, &write, reader);
    let checks = checks(table.checks.as_ref(), around, reader);
    let per = per(table.per.as_ref(), pipeline, reader);
    let by_unit = pipeline.window.is_some() && write != Write::Full;
    if by_unit && per == Per::Window && table.time_column.is_none() {
        needs_time_column(&name, table.per.as_ref(), reader);
    }
    let sql = table.sql.0.as_ref();
    let (text, inspection) = sql.map(|sql| step_sql(sql, by_unit, &name, around, reader)).unwrap_or_default();
    let reach = reaches(table.reach.as_ref(), inspection.as_ref(), pipeline, reader);
    let origin = reader.origin(&at.span);
    let guard = step_guard(table.guard.as_ref(), pipeline);
    let time_column = table.time_column.as_ref().map(|at| at.value.clone());
    let max_bytes = table.max_bytes.as_ref().map(|at| at.value.0);
    let step = into.zip(text).map(|(into, sql)| Step {
        keys: names_of(table.keys.as_ref()),
        name: name.value.clone(),
        origin,
        into,
        write,
        layout,
        checks,
        guard,
        after: Vec::new(),
        action: Action::Transform(Transform {
            sql,
            reads: Vec::new(),
            sources: Vec::new(),
            per,
            time_column,
            max_bytes,
        }),
    });
    let into_span = table.into.as_ref().map_or(name.span.clone(), |into| into.span.clone());
    let sql = sql.map_or(name.span.clone(), |sql| sql.span.clone());
    let (named, after) = (table.name.0.is_some(), table.after.clone());
    named.then_some(StepDraft { name, into: into_span, step, inspection, sql, reach, from: None, after })
}

/// A step's name; without one, the rest of the step is checked all the same.
pub(super) fn step_name(name: Option<&At<String>>, step: &Span, reader: &mut Reader) -> At<String> {
    let Some(name) = name else { return At { value: UNNAMED.to_owned(), span: step.clone() } };
    if !is_plain_name(&name.value) {
        let message = format!("`{}` cannot be the name of a step", name.value);
        reader.error("bad-name", name.span.clone(), message).help =
            Some("a name has letters, digits, underscores and hyphens".to_owned());
    }
    name.clone()
}

pub(super) fn into_table(
    into: Option<&At<String>>,
    schema: &str,
    name: &At<String>,
    reader: &mut Reader,
) -> Option<TableName> {
    match into {
        Some(into) => table_name(into, reader),
        None => TableName::parse(&format!("{schema}.{}", name.value)).ok(),
    }
}

fn step_guard(table: Option<&At<GuardTable>>, pipeline: &Pipeline) -> Guard {
    guard(table, pipeline.window.as_ref().map(|window| window.guard).unwrap_or_default())
}

pub(super) fn names_of(names: Option<&At<Names>>) -> Vec<String> {
    names.map(|names| names.value.0.clone()).unwrap_or_default()
}

pub(super) fn write_mode(given: &WriteKeys<'_>, name: &At<String>, pipeline: &Pipeline, reader: &mut Reader) -> Write {
    let windowed = pipeline.window.is_some();
    let default = match (windowed, given.merges) {
        (true, _) => WriteWord::Replace,
        (false, true) => WriteWord::Merge,
        (false, false) => WriteWord::Full,
    };
    let word = given.write.map_or(default, |write| write.value);
    let span = given.write.map_or(name.span.clone(), |write| write.span.clone());
    if let (Some(newest_by), false) = (given.newest_by, word == WriteWord::Merge) {
        let message = "`newest_by` chooses among rows of one key, which only a merge does";
        reader.error("newest-without-merge", newest_by.span.clone(), message).help =
            Some("write = \"merge\"".to_owned());
    }
    match word {
        WriteWord::Replace | WriteWord::Transaction | WriteWord::Partition if !windowed => {
            let message = format!("`{}` replaces units, but its pipeline has no window", name.value);
            reader.error("replace-without-window", span, message).help =
                Some("write = \"full\" replaces the whole table; or give the pipeline a `[window]`".to_owned());
            Write::Replace
        }
        WriteWord::Replace | WriteWord::Transaction | WriteWord::Partition => Write::Replace,
        WriteWord::Full => Write::Full,
        WriteWord::Append => {
            append_lint(given, name, span, pipeline, reader);
            Write::Append
        }
        WriteWord::Merge => {
            if given.keys.is_none() && !given.tells_keys {
                let message = format!("`{}` merges, but does not say which columns identify a row", name.value);
                reader.error("merge-without-keys", span, message).help = Some("keys = [\"id\"]".to_owned());
            }
            Write::Merge {
                keys: names_of(given.keys),
                newest_by: given.newest_by.map(|newest_by| newest_by.value.clone()),
            }
        }
    }
}

fn append_lint(given: &WriteKeys<'_>, name: &At<String>, span: Span, pipeline: &Pipeline, reader: &mut Reader) {
    let Some(window) = &pipeline.window else { return };
    let pulls = window.tiers.iter().map(|tier| tier.units.get()).max().unwrap_or(1);
    if pulls > 1 && !given.append_repeats.is_some_and(|repeats| repeats.value) {
        let message = format!(
            "`{}` appends, and a lookback of {pulls} pulls every {} again: its rows would be there several times",
            name.value,
            window.grain.plural().trim_end_matches('s'),
        );
        reader.error("append-with-lookback", span, message).help = Some(
            "write = \"replace\" or \"merge\", or lookback = 1; `append_repeats = true` if the copies are meant"
                .to_owned(),
        );
    }
}

/// What step and hook say together.
struct Api {
    parts: ApiParts,
    /// Whether the hook, where one is named, is known.
    hook: bool,
    params: ParameterValues,
}

fn api(table: &ExtractTable, name: &At<String>, around: &Surroundings<'_>, reader: &mut Reader) -> Api {
    if let Some(connection) = &table.connection {
        around.check_connection(connection, reader);
    }
    let mut parts = ApiParts::of_step(table, reader);
    let mut hook_known = true;
    let mut params = ParameterValues::new();
    if let Some(hook) = &table.hook {
        if let Some(known) = around.hooks.get(&hook.value) {
            params = parameter::values(&known.parameters, table.with.as_ref(), hook, reader);
            let said = known.with(&params, &mut reader.diagnostics);
            match said.resource(table.resource.as_ref(), hook, reader) {
                Some(resource) => {
                    if known.foreign {
                        resource.process.check_consent(hook, reader);
                    }
                    parts = parts.over(resource);
                }
                None => hook_known = false,
            }
        } else {
            hook_known = false;
            let help = known_names(&hook.value, around.hooks.keys().map(String::as_str))
                .unwrap_or_else(|| format!("a hook is a file: hooks/{}.toml", hook.value));
            let message = format!("there is no hook `{}`", hook.value);
            reader.error("unknown-hook", hook.span.clone(), message).help = Some(help);
        }
    } else {
        let orphan = table.with.as_ref().map(|at| ("with", at.span.clone()));
        let orphan = orphan.or_else(|| table.resource.as_ref().map(|at| ("resource", at.span.clone())));
        if let Some((key, span)) = orphan {
            reader.error("missing-key", span, format!("`{key}` means nothing without a `hook`")).help =
                Some("hook = \"…\", the name of a file in hooks/".to_owned());
        }
    }
    // A key that is there but wrong was reported when it was read; only what nobody wrote is missing.
    let wrong = reader.diagnostics.iter().any(|fault| fault.message.contains("connection` "));
    if parts.connection.is_none() && hook_known && !wrong && !is_files(table) && !parts.process.is_process() {
        let message = format!("`{}` has no connection", name.value);
        reader.error("missing-key", name.span.clone(), message).help =
            Some("connection = \"…\" in the step or in its hook".to_owned());
    }
    Api { parts, hook: hook_known, params }
}

fn per(per: Option<&At<Per>>, pipeline: &Pipeline, reader: &mut Reader) -> Per {
    if let (Some(at), None) = (per, &pipeline.window) {
        let message = "`per` divides a window, but this pipeline has none";
        reader.error("per-without-window", at.span.clone(), message).help =
            Some("give the pipeline a `[window]`, or leave `per` out".to_owned());
    }
    per.map(|at| at.value).unwrap_or_default()
}

fn needs_time_column(name: &At<String>, per: Option<&At<Per>>, reader: &mut Reader) {
    let span = per.map_or(name.span.clone(), |per| per.span.clone());
    let message =
        format!("`{}` covers the whole window at once, but does not say which unit a row belongs to", name.value);
    reader.error("window-without-time-column", span, message).help =
        Some("time_column = \"…\", the column that has a row's own time".to_owned());
}

fn time_column(
    table: &ExtractTable,
    parts: &ApiParts,
    per: Per,
    write: &Write,
    name: &At<String>,
    pipeline: &Pipeline,
    reader: &mut Reader,
) -> Option<TimeColumn> {
    let outside = table.outside.as_ref();
    if pipeline.window.is_some() && per == Per::Window {
        if parts.time_column.is_none() && *write != Write::Full {
            needs_time_column(name, table.per.as_ref(), reader);
        }
        if let Some(at) = outside.filter(|at| at.value == Outside::Keep) {
            let message = "rows outside of a whole window belong to no unit of it, and cannot be kept";
            reader.error("keep-over-window", at.span.clone(), message).help =
                Some("outside = \"drop\" or \"refuse\"".to_owned());
        }
    }
    let Some(path) = &parts.time_column else {
        let orphan = outside.map(|at| ("outside", at.span.clone()));
        let orphan = orphan.or_else(|| table.time_format.as_ref().map(|at| ("time_format", at.span.clone())));
        let orphan = orphan.or_else(|| table.time_zone.as_ref().map(|at| ("time_zone", at.span.clone())));
        if let Some((key, span)) = orphan {
            let message = format!("`{key}` means nothing without a `time_column`");
            reader.error("missing-key", span, message).help = Some("time_column = \"created_at\"".to_owned());
        }
        return None;
    };
    Some(TimeColumn {
        path: path.clone(),
        format: parts.time_format.unwrap_or_default(),
        outside: outside.map(|at| at.value).unwrap_or_default(),
    })
}

fn unused_window(table: &ExtractTable, source: &Source, name: &At<String>, reader: &mut Reader) {
    if matches!(source, Source::Process(_)) {
        let span = table.config.as_ref().map_or(name.span.clone(), |config| config.span.clone());
        let message =
            format!("the settings of `{}` never use the window: every unit would get the same rows", name.value);
        reader.error("unused-window", span, message).help = Some(
            "config = { start_date = \"{{ ds }}\", end_date = \"{{ next_ds }}\" }; or a pipeline without a window, where \
             the tap gets its state back"
                .to_owned(),
        );
        return;
    }
    let (what, example) = match &table.collection {
        Some(_) => ("query", "time_column = \"updated_at\""),
        None => ("request", "params = { start = \"{{ ds }}\", end = \"{{ next_ds }}\" }"),
    };
    let span = table.request.as_ref().map(|request| request.span.clone());
    let span = span.or_else(|| table.collection.as_ref().map(|at| at.span.clone())).unwrap_or(name.span.clone());
    let message = format!("the {what} of `{}` never uses the window: every unit would get the same rows", name.value);
    reader.error("unused-window", span, message).help =
        Some(format!("{example}; or write = \"full\" for a table without units"));
}

pub(super) fn reaches(
    reach: Option<&At<ReachValue>>,
    inspection: Option<&Inspection>,
    pipeline: &Pipeline,
    reader: &mut Reader,
) -> Reaches {
    let Some(at) = reach else { return Reaches::default() };
    let Some(window) = &pipeline.window else {
        let message = "`reach` counts units, but this pipeline has no window";
        reader.error("reach-without-window", at.span.clone(), message).help =
            Some("give the pipeline a `[window]`, or leave `reach` out".to_owned());
        return Reaches::default();
    };
    let parse = |text: &At<String>, reader: &mut Reader| match Reach::parse(&text.value, window.grain) {
        Ok(reach) => Some(reach),
        Err(error) => {
            let help = error.hints().first().map(|hint| (*hint).to_owned());
            reader.error("bad-reach", text.span.clone(), error.to_string()).help = help;
            None
        }
    };
    match &at.value {
        ReachValue::All(text) => Reaches { all: parse(text, reader), each: Vec::new() },
        ReachValue::Each(entries) => {
            for (name, _) in &entries.0 {
                let Some(inspection) = inspection else { break };
                if !inspection.refs.iter().any(|(read, _)| *read == name.value) {
                    let message = format!("the SQL has no ref('{}')", name.value);
                    let help = known_names(&name.value, inspection.refs.iter().map(|(read, _)| read.as_str()));
                    reader.error("unknown-ref", name.span.clone(), message).help = help;
                }
            }
            let each = entries.0.iter().map(|(name, text)| (name.clone(), parse(text, reader))).collect();
            Reaches { all: None, each }
        }
    }
}
