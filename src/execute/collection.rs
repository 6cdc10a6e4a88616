//! From a step that reads a collection to what is asked of it: names and queries rendered, and the range of time.

use serde_json::Value;

use super::gear::Gear;
use super::request::fill;
use crate::error::{Context, Error, Kind, Result};
use crate::extract::{MongoPull, MongoQuery, MongoRange};
use crate::model::name::Text;
use crate::model::pipeline::{Extract, Per};
use crate::model::source::{CollectionQuery, CollectionSource};
use crate::mongo::extended_document;
use crate::template::Scope;

/// What a step asks its collection for; nothing is sent yet.
pub(super) async fn pull_of(
    gear: &Gear,
    step: &Extract,
    source: &CollectionSource,
    scope: &Scope,
) -> Result<MongoPull> {
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
