//! From a step's templates to what is asked of its source: rendered for one unit or one window, and ready.

use std::sync::Arc;

use serde_json::Value;

use super::gear::Gear;
use crate::error::{Context, Error, Kind, Result};
use crate::extract::{HttpPull, MongoPull, MongoQuery, MongoRange, Pull};
use crate::model::hook::{Request, RequestTemplate};
use crate::model::name::Text;
use crate::model::pipeline::{Extract, Per};
use crate::model::source::{CollectionQuery, CollectionSource, Source};
use crate::mongo::extended_document;
use crate::template::Scope;

/// What a step asks its source for; nothing is sent yet.
pub(super) async fn pull_of(gear: &Gear, step: &Extract, scope: &Scope) -> Result<Arc<dyn Pull>> {
    match &step.source {
        Source::Http(http) => {
            let client = gear.client(&step.connection).await?;
            Ok(Arc::new(HttpPull {
                request: request(gear, &http.request, client.url(), scope)?,
                client,
                auth: http.auth.clone(),
                paginate: http.paginate.clone(),
                records: http.records.clone(),
                retry: http.retry,
            }))
        }
        Source::Landed(landing) => Err(Error::internal(format!(
            "the rows in `{}` are read by their load step, unit by unit",
            landing.collection
        ))),
        Source::Collection(source) => Ok(Arc::new(collection(gear, step, source, scope).await?)),
        Source::Table(table) => super::table::pull_of(gear, step, table, scope).await,
    }
}

async fn collection(gear: &Gear, step: &Extract, source: &CollectionSource, scope: &Scope) -> Result<MongoPull> {
    let query = match &source.query {
        CollectionQuery::Find { filter, projection } => {
            let read = |text: &Option<Text>| text.as_ref().map(|text| documents(gear, text, scope)).transpose();
            let first = |documents: Option<Vec<_>>| documents.and_then(|documents| documents.into_iter().next());
            MongoQuery::Find { filter: first(read(filter)?).unwrap_or_default(), projection: first(read(projection)?) }
        }
        CollectionQuery::Pipeline(stages) => MongoQuery::Pipeline(documents(gear, stages, scope)?),
    };
    let covered = match step.per {
        Per::Unit => scope.unit.map(|unit| (unit.start, unit.end)),
        Per::Window => scope.window.as_ref().map(|window| (window.start(), window.end())),
    };
    let range = source.time.as_ref().zip(covered).map(|(time, (start, end))| MongoRange {
        path: time.path.clone(),
        stored: time.stored,
        start,
        end,
    });
    Ok(MongoPull {
        mongo: gear.mongo(&step.connection).await?,
        collection: gear.templates.render(&source.collection, scope)?,
        query,
        range,
        batch_size: source.batch_size,
        probe: source.probe.clone(),
        retry: source.retry,
    })
}

/// Renders a text of JSON string by string, and reads the document or the documents that it is.
fn documents(gear: &Gear, text: &Text, scope: &Scope) -> Result<Vec<mongodb::bson::Document>> {
    let doing = || format!("reading the query at {}", text.origin);
    let mut value: Value = serde_json::from_str(&text.text).context(Kind::Config, doing)?;
    fill(&mut value, &|string| gear.templates.render_json(&Text::new(string, text.origin.clone()), scope))?;
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    let read = |value| {
        extended_document(value).map_err(|fault| {
            Error::new(Kind::Config, doing())
                .because(fault)
                .hint("types are told as MongoDB's extended JSON does: { \"$oid\" = \"…\" }, { \"$date\" = \"{{ unit.start }}\" }")
        })
    };
    values.into_iter().map(read).collect()
}

fn request(gear: &Gear, template: &RequestTemplate, base: &str, scope: &Scope) -> Result<Request> {
    let render = |text: &Text| gear.templates.render(text, scope);
    let pairs = |pairs: &[(String, Text)]| {
        pairs.iter().map(|(name, text)| Ok((name.clone(), render(text)?))).collect::<Result<Vec<_>>>()
    };
    let path = render(&template.path)?;
    let url = if path.starts_with("http://") || path.starts_with("https://") {
        path
    } else if path.is_empty() {
        base.to_owned()
    } else {
        format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'))
    };
    Ok(Request {
        method: template.method,
        url,
        params: pairs(&template.params)?,
        headers: pairs(&template.headers)?,
        body: template.body.as_ref().map(|body| json_body(gear, body, scope)).transpose()?,
    })
}

/// Renders a body string by string, so that it is JSON whatever the values are.
fn json_body(gear: &Gear, body: &Text, scope: &Scope) -> Result<String> {
    let doing = || format!("reading the request's body at {}", body.origin);
    let mut value = serde_json::from_str(&body.text).context(Kind::Config, doing)?;
    fill(&mut value, &|text| gear.templates.render_json(&Text::new(text, body.origin.clone()), scope))?;
    Ok(value.to_string())
}

/// Replaces every string of a value.
fn fill(value: &mut Value, render: &impl Fn(&str) -> Result<Value>) -> Result<()> {
    match value {
        Value::String(text) => *value = render(text)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, render))?,
        Value::Object(members) => members.values_mut().try_for_each(|member| fill(member, render))?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}
