//! A tap's catalog: discovered once in a process, and one stream of it selected.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use crate::error::{Error, Kind, Result};
use crate::model::source::ReplicationMethod;

/// The catalogs that were discovered in this process; a cheap clone.
#[derive(Clone, Default)]
pub struct Catalogs {
    found: Arc<Mutex<HashMap<String, Arc<OnceCell<Option<Value>>>>>>,
}

impl Catalogs {
    /// The catalog of a tap, which is asked for only once.
    pub(super) async fn of<F>(&self, tap: &str, discover: impl FnOnce() -> F) -> Result<Option<Value>>
    where
        F: Future<Output = Result<Option<Value>>>,
    {
        let cell = {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(found.entry(tap.to_owned()).or_default())
        };
        cell.get_or_try_init(discover).await.cloned()
    }
}

/// How a stream is replicated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replication {
    /// The method; the tap's own when not given.
    pub method: Option<ReplicationMethod>,
    /// The member by which the tap sees what is new.
    pub key: Option<String>,
}

/// How a tap's messages call the streams of its catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    ours: Vec<String>,
    others: HashSet<String>,
}

impl Names {
    /// The names where no catalog tells any.
    pub fn of(stream: &str) -> Self {
        Self { ours: vec![stream.to_owned()], others: HashSet::new() }
    }

    /// Whether a message is about the stream that was selected.
    ///
    /// Some taps call it by a third name; with a catalog, all that is no other stream is ours.
    pub fn is_ours(&self, name: &str) -> bool {
        self.ours.iter().any(|own| own == name) || (!self.others.is_empty() && !self.others.contains(name))
    }
}

/// Selects one stream of a catalog, with all its columns, and no other; returns what messages call them.
///
/// # Errors
/// The catalog has no such stream, or several of that name.
pub(super) fn select(catalog: &mut Value, stream: &str, replication: &Replication) -> Result<Names> {
    let Some(streams) = catalog.get_mut("streams").and_then(Value::as_array_mut) else {
        return Err(Error::new(Kind::Source, "the catalog has no `streams`"));
    };
    let names: Vec<Vec<String>> = streams.iter().map(names_of).collect();
    // The identifier is unique, the other name need not be.
    let by_id = names.iter().position(|names| names.first().is_some_and(|id| id == stream));
    let by_name: Vec<usize> = (0..names.len()).filter(|at| names[*at].iter().any(|name| name == stream)).collect();
    let chosen = match (by_id, by_name.as_slice()) {
        (Some(chosen), _) => chosen,
        (None, [chosen]) => *chosen,
        (None, several) => return Err(not_one(stream, &names, several)),
    };
    for (at, entry) in streams.iter_mut().enumerate() {
        let Some(entry) = entry.as_object_mut() else { continue };
        choose(entry, at == chosen);
        if at == chosen {
            replicate(entry, replication);
        }
    }
    let others = names.iter().enumerate().filter(|(at, _)| *at != chosen).flat_map(|(_, names)| names.iter().cloned());
    // No message has the empty name: with it, a catalog of one stream has others too.
    let others = others.chain([String::new()]).collect();
    let mut ours = names[chosen].clone();
    ours.push(stream.to_owned());
    Ok(Names { ours, others })
}

/// The identifier of a catalog's stream, and its other name.
fn names_of(entry: &Value) -> Vec<String> {
    ["tap_stream_id", "stream"].iter().filter_map(|key| entry.get(key)?.as_str().map(str::to_owned)).collect()
}

fn not_one(stream: &str, names: &[Vec<String>], several: &[usize]) -> Error {
    if !several.is_empty() {
        let ids: Vec<&str> = several.iter().filter_map(|at| Some(names[*at].first()?.as_str())).collect();
        return Error::config(format!("the tap has several streams `{stream}`"))
            .hint(format!("say which by its identifier: {}", ids.join(", ")));
    }
    let mut ids: Vec<&str> = names.iter().filter_map(|names| names.first().map(String::as_str)).collect();
    ids.sort_unstable();
    let error = Error::config(format!("the tap has no stream `{stream}`"));
    match ids.as_slice() {
        [] => error.hint("its catalog has no stream at all: are its settings right?"),
        ids => error.hint(format!("stream = \"…\" is one of {}", ids[..ids.len().min(30)].join(", "))),
    }
}

fn choose(entry: &mut Map<String, Value>, chosen: bool) {
    // The form before metadata: beside the stream's name, and within its schema.
    entry.insert("selected".to_owned(), chosen.into());
    if let Some(schema) = entry.get_mut("schema").and_then(Value::as_object_mut) {
        schema.insert("selected".to_owned(), chosen.into());
    }
    root(entry).insert("selected".to_owned(), chosen.into());
    if !chosen {
        return;
    }
    for item in entry.get_mut("metadata").and_then(Value::as_array_mut).into_iter().flatten() {
        let is_column = item.get("breadcrumb").and_then(Value::as_array).is_some_and(|path| !path.is_empty());
        if let Some(metadata) = item.get_mut("metadata").and_then(Value::as_object_mut)
            && is_column
            && metadata.get("inclusion").and_then(Value::as_str) != Some("unsupported")
        {
            metadata.insert("selected".to_owned(), true.into());
        }
    }
}

fn replicate(entry: &mut Map<String, Value>, replication: &Replication) {
    let told = |entry: &mut Map<String, Value>| {
        let own = entry.get("replication_method").is_some_and(|method| !method.is_null());
        own || ["replication-method", "forced-replication-method"].iter().any(|key| root(entry).contains_key(*key))
    };
    let method = match (replication.method, &replication.key) {
        (Some(method), _) => Some(method),
        (None, Some(_)) => Some(ReplicationMethod::Incremental),
        // Some taps refuse a stream of which nobody says how it is replicated.
        (None, None) if !told(entry) => Some(ReplicationMethod::FullTable),
        (None, None) => None,
    };
    if let Some(method) = method {
        entry.insert("replication_method".to_owned(), method.word().into());
        root(entry).insert("replication-method".to_owned(), method.word().into());
    }
    if let Some(key) = &replication.key {
        entry.insert("replication_key".to_owned(), key.as_str().into());
        root(entry).insert("replication-key".to_owned(), key.as_str().into());
    }
}

/// The metadata of the stream itself; made where there is none.
fn root(entry: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let metadata = entry.entry("metadata").or_insert_with(|| json!([]));
    if !metadata.is_array() {
        *metadata = json!([]);
    }
    let is_root = |item: &Value| item.get("breadcrumb").and_then(Value::as_array).is_some_and(Vec::is_empty);
    let place = metadata.as_array().and_then(|items| items.iter().position(is_root));
    let place = place.unwrap_or_else(|| {
        if let Some(items) = metadata.as_array_mut() {
            items.insert(0, json!({ "breadcrumb": [], "metadata": {} }));
        }
        0
    });
    let item = &mut metadata[place]["metadata"];
    if !item.is_object() {
        *item = json!({});
    }
    match item {
        Value::Object(members) => members,
        _ => unreachable!("it was made an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Value {
        json!({ "streams": [
            { "tap_stream_id": "public-orders", "stream": "orders", "schema": { "type": "object" }, "metadata": [
                { "breadcrumb": [], "metadata": { "selected": false } },
                { "breadcrumb": ["properties", "id"], "metadata": { "inclusion": "automatic" } },
                { "breadcrumb": ["properties", "raw"], "metadata": { "inclusion": "unsupported" } },
            ] },
            { "stream": "people", "selected": true },
        ] })
    }

    #[test]
    fn one_stream_is_selected_with_its_columns_and_no_other() {
        let mut all = catalog();
        let replication = Replication { method: None, key: Some("changed".to_owned()) };
        select(&mut all, "public-orders", &replication).expect("a stream");
        let (orders, people) = (&all["streams"][0], &all["streams"][1]);
        assert_eq!(
            orders["metadata"][0]["metadata"],
            json!({ "selected": true, "replication-method": "INCREMENTAL", "replication-key": "changed" })
        );
        assert_eq!(orders["metadata"][1]["metadata"]["selected"], true);
        assert_eq!(orders["metadata"][2]["metadata"].get("selected"), None);
        assert_eq!((&orders["selected"], &orders["schema"]["selected"]), (&json!(true), &json!(true)));
        assert_eq!(
            (&people["selected"], &people["metadata"][0]["metadata"]["selected"]),
            (&json!(false), &json!(false))
        );
    }

    #[test]
    fn a_stream_may_be_called_by_either_name_and_an_unknown_one_is_told_the_others() {
        let mut all = catalog();
        let names = select(&mut all, "orders", &Replication::default()).expect("a stream");
        assert!(names.is_ours("orders") && names.is_ours("shop.orders") && !names.is_ours("people"));
        assert_eq!(all["streams"][0]["replication_method"], "FULL_TABLE");
        let error = select(&mut all, "order", &Replication::default()).expect_err("no stream");
        assert!(error.hints()[0].contains("people, public-orders"), "{error:?}");
    }
}
