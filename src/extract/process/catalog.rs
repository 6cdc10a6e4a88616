//! A tap's catalog: discovered once in a process, and one stream of it selected.

use std::collections::HashMap;
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

/// Selects one stream of a catalog, with all its columns, and no other.
///
/// # Errors
/// The catalog has no such stream.
pub(super) fn select(catalog: &mut Value, stream: &str, replication: &Replication) -> Result<()> {
    let Some(streams) = catalog.get_mut("streams").and_then(Value::as_array_mut) else {
        return Err(Error::new(Kind::Source, "the catalog has no `streams`"));
    };
    let mut names = Vec::new();
    let mut found = false;
    for entry in streams.iter_mut().filter_map(Value::as_object_mut) {
        let is = |key: &str| entry.get(key).and_then(Value::as_str) == Some(stream);
        let chosen = is("tap_stream_id") || is("stream");
        found |= chosen;
        let name = entry.get("tap_stream_id").or_else(|| entry.get("stream")).and_then(Value::as_str);
        names.extend(name.map(str::to_owned));
        choose(entry, chosen);
        if chosen {
            replicate(entry, replication);
        }
    }
    if found {
        return Ok(());
    }
    names.sort();
    let shown: Vec<&str> = names.iter().take(30).map(String::as_str).collect();
    let error = Error::config(format!("the tap has no stream `{stream}`"));
    Err(if names.is_empty() {
        error.hint("its catalog has no stream at all: are its settings right?")
    } else {
        error.hint(format!("its streams are {}", shown.join(", ")))
    })
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
        select(&mut all, "orders", &Replication::default()).expect("a stream");
        assert_eq!(all["streams"][0]["replication_method"], "FULL_TABLE");
        let error = select(&mut all, "order", &Replication::default()).expect_err("no stream");
        assert!(error.hints()[0].contains("people, public-orders"), "{error:?}");
    }
}
