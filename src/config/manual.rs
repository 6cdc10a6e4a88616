//! What a hook tells of itself, and its tests: read when all that a test may refer to is known.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::diagnostic::Diagnostic;
use super::file::{ExtractTable, WriteWord};
use super::hook::Hook;
use super::hook_file::{AnswerTable, HookFile, HookTestTable};
use super::pipeline::Surroundings;
use super::reader::{At, Reader, Required, Span};
use super::request::MethodWord;
use super::scalar::Entries;
use super::step;
use crate::model::exchange::{Answered, Asked, Content, Exchange};
use crate::model::hook::AuthStyle;
use crate::model::manual::{HookTest, Manual, Pin, Resource};
use crate::model::pipeline::{Guard, Pipeline, Tier, WindowRule};
use crate::model::steering::Steering;
use crate::time::{Grain, Tz};

/// The host of a connection in a hook's test, where nobody has recorded a real one.
pub fn test_address(connection: &str) -> String {
    format!("http://{connection}.test")
}

/// The manual of a hook; what is wrong with its tests is reported.
pub fn manual(name: &str, hook: &Hook, pin: Option<&Pin>, around: &Surroundings<'_>) -> (Manual, Vec<Diagnostic>) {
    let file = &hook.file;
    let mut reader = Reader::new(hook.source.clone());
    unused_parameters(hook, around, &mut reader);
    let text = |at: &Option<At<String>>| at.as_ref().map(|at| at.value.clone());
    let resources = file.resources.as_ref().map_or(&[][..], |resources| &resources.value.0);
    let resource = |(name, table): &(At<String>, At<super::hook_file::ResourceTable>)| Resource {
        name: name.value.clone(),
        description: text(&table.value.description),
    };
    let tests = file.test.as_ref().map_or(&[][..], |tests| &tests.value);
    let tests = tests.iter().filter_map(|test| hook_test(name, hook, test, around, &mut reader)).collect();
    let manual = Manual {
        name: name.to_owned(),
        file: hook.source.path.to_path_buf(),
        description: text(&file.description),
        docs: text(&file.docs),
        homepage: text(&file.homepage),
        license: text(&file.license),
        version: text(&file.version),
        connection: text(&file.connection),
        needs: needs(hook),
        parameters: hook.parameters.clone(),
        resources: resources.iter().map(resource).collect(),
        columns: columns(file),
        source: pin.cloned(),
        tests,
    };
    (manual, reader.diagnostics)
}

/// What the connection of a hook has to say.
fn needs(hook: &Hook) -> Vec<String> {
    let mut needs = vec!["type = \"http\"".to_owned(), "url".to_owned()];
    let styles = hook.said.resources.values().chain([&hook.said.parts]).filter_map(|parts| parts.auth.as_ref());
    for style in styles {
        let words = match style {
            AuthStyle::None => continue,
            AuthStyle::Basic => "auth with user and password",
            AuthStyle::Bearer => "auth with a token",
            AuthStyle::KeyHeader(_) | AuthStyle::KeyQuery(_) => "auth with a key",
        };
        if !needs.iter().any(|known| known == words) {
            needs.push(words.to_owned());
        }
    }
    needs
}

fn columns(file: &HookFile) -> BTreeMap<String, String> {
    let types = file.columns.as_ref().map_or(&[][..], |columns| &columns.value.0);
    let docs = file.column_docs.as_ref().map_or(&[][..], |columns| &columns.value.0);
    let mut columns: BTreeMap<String, String> =
        types.iter().map(|(name, kind)| (name.value.clone(), kind.value.0.to_string())).collect();
    for (name, doc) in docs {
        columns
            .entry(name.value.clone())
            .and_modify(|kind| *kind = format!("{kind}: {}", doc.value))
            .or_insert_with(|| doc.value.clone());
    }
    columns
}

/// Tells of parameters that nothing in the hook looks at.
fn unused_parameters(hook: &Hook, around: &Surroundings<'_>, reader: &mut Reader) {
    let mut used: BTreeSet<String> = hook.said.used.clone();
    let names = hook.names();
    let names = Some(&*names).filter(|names| !names.is_empty());
    let mut quiet = Vec::new();
    for parts in hook.said.resources.values().chain([&hook.said.parts]) {
        for text in parts.texts().iter().filter(|text| text.is_template()) {
            let Some(inspection) = around.inspector.inspect_with(text, &["item", "parent"], names, &mut quiet) else {
                return;
            };
            used.extend(inspection.params.into_iter().map(|(name, _)| name));
        }
    }
    reader.diagnostics.extend(quiet);
    let entries = hook.file.parameters.as_ref().map_or(&[][..], |entries| &entries.value.0);
    for (name, _) in entries.iter().filter(|(name, _)| !used.contains(&name.value)) {
        let message = format!("nothing in this hook uses the parameter `{}`", name.value);
        reader.warning("unused-parameter", name.span.clone(), message).help =
            Some(format!("as in request = {{ params = {{ {0} = \"{{{{ param.{0} }}}}\" }} }}", name.value));
    }
}

fn hook_test(
    name: &str,
    hook: &Hook,
    at: &At<HookTestTable>,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<HookTest> {
    let table = &at.value;
    let expect = &table.expect.0.as_ref()?.value;
    let label = table.name.0.as_ref()?;
    let pipeline = pipeline_of(name, hook, at, around, reader)?;
    let connection = match &pipeline.steps.first()?.action {
        crate::model::pipeline::Action::Extract(extract) => extract.connection.clone(),
        _ => return None,
    };
    let answers = table.answers.as_ref().map_or(&[][..], |answers| &answers.value);
    let answers = answers.iter().filter_map(|answer| exchange(&connection, &answer.value)).collect();
    let row = |row: &At<Entries<Value>>| -> Map<String, Value> {
        row.value.0.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect()
    };
    let test = HookTest {
        name: label.value.clone(),
        origin: reader.origin(&at.span),
        pipeline: Arc::new(pipeline),
        date: table.date.as_ref().map(|at| at.value.0).or_else(|| NaiveDate::from_ymd_opt(2000, 1, 2))?,
        now: table.now.as_ref().map(|at| at.value.0),
        answers,
        rows: expect.rows.as_ref().map(|at| at.value),
        pages: expect.pages.as_ref().map(|at| at.value),
        first: expect.first.as_ref().map_or_else(Vec::new, |rows| rows.value.iter().map(row).collect()),
        fails: expect.fails.as_ref().map(|at| at.value.clone()),
    };
    if test.rows.is_none() && test.pages.is_none() && test.first.is_empty() && test.fails.is_none() {
        let span = table.expect.0.as_ref().map_or(at.span.clone(), |expect| expect.span.clone());
        reader.error("empty", span, format!("the test `{}` expects nothing", test.name)).help =
            Some("expect = { rows = 3, pages = 2, first = [{ id = 1 }] }".to_owned());
    }
    Some(test)
}

/// A pipeline with one extract that uses the hook as the test says.
fn pipeline_of(
    name: &str,
    hook: &Hook,
    at: &At<HookTestTable>,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<Pipeline> {
    let here = at.value.name.0.as_ref().map_or(at.span.clone(), |name| name.span.clone());
    let value = |text: &str| At { value: text.to_owned(), span: here.clone() };
    let rule = WindowRule {
        grain: Grain::Day,
        tiers: vec![Tier { every: Duration::from_hours(24), units: NonZeroU32::MIN }],
        begin: None,
        settle_after: None,
        settle_pulls: None,
        guard: Guard::OPEN,
    };
    let mut pipeline = Pipeline {
        name: name.to_owned(),
        description: None,
        file: hook.source.path.to_path_buf(),
        timezone: Tz::UTC,
        warehouse: "warehouse".to_owned(),
        schedule: None,
        window: Some(rule),
        vars: BTreeMap::new(),
        steering: Steering::default(),
        max_active: 1,
        max_bytes: None,
        steps: Vec::new(),
    };
    let connected = hook.said.resources.values().chain([&hook.said.parts]).any(|parts| parts.connection.is_some());
    let table = ExtractTable {
        name: Required(Some(value("test"))),
        hook: Some(value(name)),
        resource: at.value.resource.clone(),
        with: at.value.with.clone(),
        connection: (!connected).then(|| value("api")),
        request: at.value.request.clone(),
        // All that comes is compared, whatever units the rows belong to.
        write: Some(At { value: WriteWord::Full, span: here.clone() }),
        ..ExtractTable::default()
    };
    let own = Surroundings { connections: None, ..around.clone() };
    let draft = step::extract(&At { value: table, span: span_of(at) }, &pipeline, &own, reader)?;
    pipeline.steps = vec![Arc::new(draft.step?)];
    Some(pipeline)
}

fn span_of<T>(at: &At<T>) -> Span {
    at.span.clone()
}

fn exchange(connection: &str, table: &AnswerTable) -> Option<Exchange> {
    let method = match table.method.as_ref().map_or(MethodWord::Get, |at| at.value) {
        MethodWord::Get => "GET",
        MethodWord::Post => "POST",
    };
    let params = table.params.as_ref().map_or(&[][..], |params| &params.value.0);
    let params = params
        .iter()
        .flat_map(|(name, texts)| texts.value.0.iter().map(|text| (name.value.clone(), text.value.clone())));
    let path = table.path.as_ref().map_or("", |at| at.value.as_str());
    let headers = table.headers.as_ref().map_or(&[][..], |headers| &headers.value.0);
    let body = match table.body.as_ref().map(|at| &at.value) {
        None => None,
        Some(Value::String(text)) => Some(Content::Text(text.clone())),
        Some(value) => Some(Content::Json(RawValue::from_string(value.to_string()).ok()?)),
    };
    Some(Exchange {
        connection: connection.to_owned(),
        request: Asked {
            method: method.to_owned(),
            url: format!("{}{path}", test_address(connection)),
            params: params.collect(),
            ..Asked::default()
        },
        response: Answered {
            status: table.status.as_ref().and_then(|at| u16::try_from(at.value).ok()).unwrap_or(200),
            headers: headers.iter().map(|(name, text)| (name.value.to_lowercase(), text.value.clone())).collect(),
            body,
        },
    })
}
