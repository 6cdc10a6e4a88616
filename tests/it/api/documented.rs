//! The OpenAPI document: it is current, and every route answers as it says.

use std::path::Path;

use serde_json::{Value, json};

use super::{date, project, run};
use crate::support::steward::Serving;

fn committed() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    std::fs::read_to_string(path).expect("the document")
}

#[test]
fn the_committed_document_is_what_the_binary_prints() {
    let printed = project().stdout(&["schema", "--openapi"]);
    assert_eq!(printed, committed(), "haul schema --openapi --dir docs");
}

/// Every reference leads somewhere.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(place)) = members.get("$ref") {
                found.push(place.trim_start_matches('#').to_owned());
            }
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// A path with something in the place of its parameters that is there.
fn filled(path: &str, job: &str, run: &str) -> String {
    let mut path = path.to_owned();
    for (name, value) in [
        ("{pipeline}", "p"),
        ("{step}", "days"),
        ("{job}", job),
        ("{run}", run),
        ("{table}", "mart.days"),
        ("{unit}", "2024-05-02"),
        ("{name}", "warehouse"),
        ("{backfill}", "bf-1"),
    ] {
        path = path.replace(name, value);
    }
    assert!(!path.contains('{'), "{path} has a parameter that this test does not know");
    path
}

/// A body that says enough for the request to be understood.
fn body(path: &str) -> Value {
    match path {
        "/api/v1/query" => json!({ "sql": "SELECT 1 AS one" }),
        "/api/v1/backfills" => json!({ "pipeline": "p", "from": "2024-05-01", "to": "2024-05-03", "reprocess": "all" }),
        _ => json!({}),
    }
}

#[test]
fn every_route_answers_as_documented_with_the_token_and_refuses_without() {
    let document: Value = serde_json::from_str(&committed()).expect("JSON");
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for place in found {
        assert!(document.pointer(&place).is_some(), "{place} leads nowhere");
    }
    let project = project();
    let serving = Serving::start(&project);
    let ended = run(&serving, "p", &date());
    assert_eq!(ended["outcome"], "succeeded", "{ended}\n{}", serving.said());
    let (job, name) = (ended["id"].to_string(), ended["run"].as_str().expect("a run").to_owned());
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 25, "{}", paths.len());
    // What is made is made before it is asked for.
    let created = |(path, _): &(&String, &Value)| path.as_str() != "/api/v1/backfills";
    let mut ordered: Vec<(&String, &Value)> = paths.iter().collect();
    ordered.sort_by_key(created);
    for (path, methods) in ordered {
        for (method, operation) in methods.as_object().expect("methods") {
            let method = method.to_uppercase();
            let place = filled(path, &job, &name);
            let documented = operation["responses"].as_object().expect("responses");
            if operation.get("security").is_some() {
                assert_eq!(serving.raw(&method, &place, &[], "{}").status, 401, "{method} {path} without the token");
                assert!(documented.contains_key("401"), "{method} {path} does not say 401");
            }
            let sent = if method == "POST" { body(path).to_string() } else { String::new() };
            let reply = serving.ask(&method, &place, &sent);
            let answer = documented.get(&reply.status.to_string());
            let answer = answer.unwrap_or_else(|| panic!("{method} {place} answers {}: {}", reply.status, reply.body));
            let content = answer["content"].as_object().expect("content");
            let kind = reply.header("content-type").expect("a content type");
            assert!(content.keys().any(|documented| kind == documented), "{method} {path}: {kind}");
            let schema = &content[kind]["schema"];
            if kind == "application/json" {
                conforms(&document, schema, &reply.json(), &format!("{method} {path}"));
            }
        }
    }
}

/// Whether an answer has what a schema says: its type, its required members, and no members that it does not name.
fn conforms(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).expect("a schema");
        return conforms(document, schema, value, place);
    }
    for word in ["oneOf", "anyOf", "allOf"] {
        if schema.get(word).is_some() {
            return;
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(word) => vec![word],
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(
        types.contains(&found) || found == "integer" && types.contains(&"number"),
        "{place} is {found}, not {types:?}"
    );
    if let Some(items) = value.as_array() {
        items
            .iter()
            .enumerate()
            .for_each(|(index, item)| conforms(document, &schema["items"], item, &format!("{place}[{index}]")));
    }
    let (Some(members), Some(known)) = (value.as_object(), schema["properties"].as_object()) else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(members.contains_key(name), "{place} lacks `{name}`");
    }
    for (name, member) in members {
        let schema = known.get(name).unwrap_or_else(|| panic!("{place} has `{name}`, which is not documented"));
        conforms(document, schema, member, &format!("{place}.{name}"));
    }
}
