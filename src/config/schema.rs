//! JSON Schemas of all file kinds, from the documentation of the twins, for editors that complete and check.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::connection_file::ConnectionsFile;
use super::file::{PipelineFile, ProjectFile};
use super::hook_file::HookFile;
use super::trial::TestFile;

/// The schemas by the name of their file.
pub fn schemas() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("haul.schema.json", schema::<ProjectFile>("haul.toml")),
        ("pipeline.schema.json", schema::<PipelineFile>("pipelines/*.toml")),
        ("hook.schema.json", with_parameters(schema::<HookFile>("hooks/*.toml"))),
        ("test.schema.json", schema::<TestFile>("tests/*.toml")),
        ("connections.schema.json", schema::<ConnectionsFile>("connections.toml")),
    ])
}

fn schema<T: JsonSchema>(title: &str) -> Value {
    // Draft 7 is what editors of TOML understand.
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    without_null(&mut value);
    value["title"] = Value::from(title);
    value
}

/// Lets a hook's parameter stand where pages and retries have numbers and flags.
fn with_parameters(mut schema: Value) -> Value {
    let parameter = || serde_json::json!({ "type": "string", "pattern": "^\\{\\{ *param\\.[A-Za-z0-9_]+ *\\}\\}$" });
    for name in ["PaginateTable", "RetryTable"] {
        let keys = schema["definitions"][name]["properties"].as_object_mut();
        for key in keys.into_iter().flat_map(serde_json::Map::values_mut) {
            let Some(members) = key.as_object_mut() else { continue };
            if !matches!(members.get("type").and_then(Value::as_str), Some("integer" | "boolean")) {
                continue;
            }
            let description = members.remove("description");
            let plain = std::mem::take(members);
            members.extend(description.map(|text| ("description".to_owned(), text)));
            members.insert("anyOf".to_owned(), Value::Array(vec![Value::Object(plain), parameter()]));
        }
    }
    schema
}

/// Takes `null` out of a schema: TOML has none, a key is there or it is not.
fn without_null(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(members) => {
            members.values_mut().for_each(without_null);
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|word| word != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    members.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = members.get_mut("enum") {
                choices.retain(|choice| !choice.is_null());
            }
            let Some(Value::Array(choices)) = members.get_mut("anyOf") else { return };
            choices.retain(|choice| choice.get("type").is_none_or(|word| word != "null"));
            if let [Value::Object(only)] = choices.as_mut_slice() {
                let only = std::mem::take(only);
                members.remove("anyOf");
                for (key, value) in only {
                    members.entry(key).or_insert(value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
