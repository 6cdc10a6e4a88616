//! The keys of an extract from a collection of MongoDB: which documents, of which time.

use super::body::strings_of;
use super::diagnostic::quoted;
use super::file::ExtractTable;
use super::hook::ApiParts;
use super::pipeline::Surroundings;
use super::reader::{At, Reader, Span};
use crate::model::name::Text;
use crate::model::pipeline::{Outside, Per, TimeColumn, TimeFormat};
use crate::model::source::{
    CollectionProbe, CollectionQuery, CollectionSource, ProbeRule, Source, StoredMember, StoredTime,
};

/// How many documents the server sends at once, where nothing else is said.
const BATCH: u32 = 2000;

/// The name of the member that every document has.
const ID: &str = "_id";

/// What a step asks a collection for.
pub struct Asked {
    /// It.
    pub source: Source,
    /// Where a row has its time, where the rows' own times decide after all.
    pub time: Option<TimeColumn>,
    /// Whether another unit asks for other documents.
    pub uses_window: bool,
}

/// Reports keys that only mean something with a `collection`.
pub fn without_collection(table: &ExtractTable, reader: &mut Reader) {
    let span = |at: &Option<At<serde_json::Value>>| at.as_ref().map(|at| at.span.clone());
    let keys = [
        ("filter", span(&table.filter)),
        ("projection", span(&table.projection)),
        ("pipeline", span(&table.pipeline)),
        ("batch_size", table.batch_size.as_ref().map(|at| at.span.clone())),
    ];
    for (key, span) in keys {
        let Some(span) = span else { continue };
        reader.error("missing-key", span, format!("`{key}` means nothing without a `collection`")).help =
            Some("collection = \"users\", over a connection of type mongodb".to_owned());
    }
}

/// What the keys of a step ask its `collection` for.
pub fn asked(
    name: &At<String>,
    table: &ExtractTable,
    parts: &ApiParts,
    (per, by_unit): (Per, bool),
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Asked {
    foreign_keys(table, reader);
    let stored = stored_member(table, per, by_unit, reader);
    let text = |at: &Option<At<serde_json::Value>>, list, reader: &mut Reader| {
        at.as_ref().and_then(|at| json_text(at, list, reader))
    };
    let query = if let Some(at) = &table.pipeline {
        if let Some((key, span)) = [("filter", &table.filter), ("projection", &table.projection)]
            .into_iter()
            .find_map(|(key, at)| Some((key, at.as_ref()?.span.clone())))
            .or_else(|| table.changed_column.as_ref().map(|at| ("changed_column", at.span.clone())))
            .or_else(|| table.probe.as_ref().map(|at| ("probe", at.span.clone())))
        {
            let help = match key {
                "filter" | "projection" => "write it as a stage: { \"$match\" = { … } } or { \"$project\" = { … } }",
                _ => "what an aggregation makes is known only once it has run: leave it out",
            };
            reader.error("foreign-key", span, format!("`{key}` does not go together with `pipeline`")).help =
                Some(help.to_owned());
        }
        let stages = json_text(at, true, reader).unwrap_or_else(|| Text::new("[]", reader.origin(&at.span)));
        CollectionQuery::Pipeline(stages)
    } else {
        let (filter, projection) = (text(&table.filter, false, reader), text(&table.projection, false, reader));
        CollectionQuery::Find { filter, projection }
    };
    let collection = reader.text(name);
    let uses_window = stored.is_some() || templates_use_window(&collection, &query, around, reader);
    let time = stored.as_ref().and_then(|stored| row_time(stored, per));
    let source = CollectionSource {
        collection,
        query,
        time: stored,
        batch_size: table.batch_size.as_ref().map_or(BATCH, |at| at.value.0.get()),
        probe: probe(table, reader),
        retry: parts.retry.unwrap_or_default(),
    };
    Asked { source: Source::Collection(Box::new(source)), time, uses_window }
}

/// How a unit that is as it was is recognized.
fn probe(table: &ExtractTable, reader: &mut Reader) -> CollectionProbe {
    let changed = table.changed_column.as_ref().map(|at| at.value.clone());
    match (changed, &table.probe) {
        (Some(changed), None | Some(At { value: ProbeRule::Auto, .. })) => CollectionProbe::Newest(changed),
        (None, None | Some(At { value: ProbeRule::Auto | ProbeRule::Off, .. })) => CollectionProbe::Off,
        (None, Some(At { value: ProbeRule::Count, .. })) => CollectionProbe::Count,
        (Some(_), Some(at)) => {
            let message = "`changed_column` makes the probe; with this `probe` it would not be looked at";
            reader.error("two-probes", at.span.clone(), message).help = Some("leave one of the two out".to_owned());
            CollectionProbe::Off
        }
    }
}

/// The time of a row where the query does not say all: texts may have any offset, and a window's rows are of several units.
fn row_time(stored: &StoredMember, per: Per) -> Option<TimeColumn> {
    let format = match stored.stored {
        StoredTime::Date | StoredTime::Iso => TimeFormat::Iso,
        StoredTime::Epoch => TimeFormat::Epoch,
        StoredTime::EpochMs => TimeFormat::EpochMs,
        StoredTime::ObjectId => return None,
    };
    let outside = if stored.stored == StoredTime::Iso { Outside::Drop } else { Outside::Refuse };
    let needed = per == Per::Window || stored.stored == StoredTime::Iso;
    needed.then(|| TimeColumn { path: stored.path.clone(), format, outside })
}

fn stored_member(table: &ExtractTable, per: Per, by_unit: bool, reader: &mut Reader) -> Option<StoredMember> {
    let Some(path) = &table.time_column else {
        if let Some(at) = &table.time_format {
            reader.error("missing-key", at.span.clone(), "`time_format` means nothing without a `time_column`").help =
                Some("time_column = \"updated_at\"".to_owned());
        }
        if by_unit && per == Per::Window {
            let span = table.per.as_ref().map_or(0..0, |per| per.span.clone());
            let message = "a window is asked for at once, but nothing says which unit a document belongs to";
            reader.error("window-without-time-column", span, message).help =
                Some("time_column = \"updated_at\"".to_owned());
        }
        return None;
    };
    if !by_unit {
        let message = "`time_column` finds the documents of a unit, but this table has no units";
        reader.error("time-without-window", path.span.clone(), message).help =
            Some("give the pipeline a `[window]`, or leave it out: the whole collection is read".to_owned());
        return None;
    }
    let stored = match (path.value.as_str(), &table.time_format) {
        (ID, None) => StoredTime::ObjectId,
        (ID, Some(at)) => {
            let message = "an ObjectId has its time in its first bytes, `time_format` cannot be anything else";
            reader.error("foreign-key", at.span.clone(), message).help = Some("leave `time_format` out".to_owned());
            StoredTime::ObjectId
        }
        (_, None) => StoredTime::Date,
        (_, Some(at)) => match at.value {
            TimeFormat::Iso => StoredTime::Iso,
            TimeFormat::Epoch => StoredTime::Epoch,
            TimeFormat::EpochMs => StoredTime::EpochMs,
        },
    };
    if let (StoredTime::ObjectId, Per::Window, Some(at)) = (stored, per, &table.per) {
        let message = "the time in an `_id` does not divide the documents of a window among its units";
        reader.error("foreign-key", at.span.clone(), message).help =
            Some("leave `per` out: each unit asks for its own documents".to_owned());
    }
    Some(StoredMember { path: path.value.clone(), stored })
}

/// Reports keys that belong to APIs.
fn foreign_keys(table: &ExtractTable, reader: &mut Reader) {
    let given: [(&str, Option<Span>); 10] = [
        ("files", table.files.as_ref().map(|at| at.span.clone())),
        ("table", table.table.as_ref().map(|at| at.span.clone())),
        ("sql", table.sql.as_ref().map(|at| at.span.clone())),
        ("intraday", table.intraday.as_ref().map(|at| at.span.clone())),
        ("hook", table.hook.as_ref().map(|at| at.span.clone())),
        ("request", table.request.as_ref().map(|at| at.span.clone())),
        ("paginate", table.paginate.as_ref().map(|at| at.span.clone())),
        ("records", table.records.as_ref().map(|at| at.span.clone())),
        ("auth", table.auth.as_ref().map(|at| at.span.clone())),
        ("outside", table.outside.as_ref().map(|at| at.span.clone())),
    ];
    for (key, span) in given.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        let (message, help) = if key == "outside" {
            let message = "a collection is asked for the documents of the unit, and gives no others";
            (message.to_owned(), "leave `outside` out".to_owned())
        } else {
            let own = [
                "collection",
                "filter",
                "projection",
                "pipeline",
                "batch_size",
                "time_column",
                "changed_column",
                "probe",
                "retry",
            ];
            (
                format!("`{key}` belongs to an API, `collection` to a database"),
                format!("a collection has {}", quoted(&own)),
            )
        };
        reader.error("foreign-key", span, message).help = Some(help);
    }
}

/// A value, or JSON in a text, as JSON text: a document, or a list of documents.
fn json_text(at: &At<serde_json::Value>, list: bool, reader: &mut Reader) -> Option<Text> {
    let what = if list { "a list of stages" } else { "a table" };
    let (value, text) = match at.value.as_str() {
        None => (at.value.clone(), Text::new(at.value.to_string(), reader.origin(&at.span))),
        Some(text) => match serde_json::from_str(text) {
            Ok(value) => (value, reader.text(&At { value: text.to_owned(), span: at.span.clone() })),
            Err(error) => {
                let fault = reader.error("bad-query", at.span.clone(), format!("this is not JSON: {error}"));
                fault.help = Some(format!("templates stand inside of JSON strings; or write it as {what} of TOML"));
                return None;
            }
        },
    };
    let fits = match &value {
        serde_json::Value::Array(items) => list && items.iter().all(serde_json::Value::is_object),
        other => !list && other.is_object(),
    };
    if !fits {
        let example = if list { "[{ \"$match\" = { active = true } }]" } else { "{ active = true }" };
        reader.error("bad-query", at.span.clone(), format!("this has to be {what}")).help = Some(example.to_owned());
        return None;
    }
    Some(text)
}

/// Whether any template uses the window; one that cannot be read may.
fn templates_use_window(
    collection: &Text,
    query: &CollectionQuery,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> bool {
    let mut texts = vec![collection.clone()];
    let parts = match query {
        CollectionQuery::Find { filter, projection } => vec![filter.as_ref(), projection.as_ref()],
        CollectionQuery::Pipeline(stages) => vec![Some(stages)],
    };
    for part in parts.into_iter().flatten() {
        if let Ok(value) = serde_json::from_str(&part.text) {
            strings_of(&value, &mut |string| texts.push(Text::new(string, part.origin.clone())));
        }
    }
    let mut used = false;
    for text in texts.iter().filter(|text| text.is_template()) {
        let inspection = around.inspector.inspect(text, &mut reader.diagnostics);
        used |= inspection.is_none_or(|inspection| inspection.uses_window());
    }
    used
}
