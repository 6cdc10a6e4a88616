//! Connections as JSON: of `HAUL_CONN_<NAME>`, of the encrypted store, and of `haul connections set`.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::fields::{Definition, Fault, Form, Json as Tree, Reference, System, Value};

/// The keys of a nested `auth` table under their names beside `url`.
pub(super) fn flat_auth_word(word: &str) -> (&str, Option<&str>) {
    match word {
        "client_credentials" | "refresh_token" => ("oauth2", Some(word)),
        other => (other, None),
    }
}

/// Reads `{"type": ..., ...}`.
pub(super) fn definition(members: &Map<String, Json>) -> Result<Definition, Vec<Fault>> {
    let Some(kind) = members.get("type").and_then(Json::as_str) else {
        return Err(vec![
            Fault::of("type", "`type` is missing").help(
                "one of `http`, `duckdb`, `postgres`, `mysql`, `mongodb`, `bigquery`, `files`, `smtp`, `process`",
            ),
        ]);
    };
    let system = System::from_name(kind).map_err(|fault| vec![fault])?;
    let mut fields = BTreeMap::new();
    let mut faults = Vec::new();
    for (key, json) in members.iter().filter(|(key, _)| *key != "type") {
        match json {
            Json::Object(auth) if key == "auth" && system == System::Http => {
                nested_auth(auth, &mut fields, &mut faults);
            }
            _ if system == System::Process => drop(fields.insert(key.clone(), Value::Tree(Tree(json.clone())))),
            _ => put(&mut fields, &mut faults, key, value(system, key, json)),
        }
    }
    let definition = Definition { system, fields };
    faults.extend(definition.faults());
    if faults.is_empty() { Ok(definition) } else { Err(faults) }
}

fn nested_auth(auth: &Map<String, Json>, fields: &mut BTreeMap<String, Value>, faults: &mut Vec<Fault>) {
    for (key, json) in auth {
        if key == "type" {
            let (word, grant) = flat_auth_word(json.as_str().unwrap_or_default());
            fields.insert("auth".to_owned(), Value::plain(word));
            if let Some(grant) = grant {
                fields.insert("grant".to_owned(), Value::plain(grant));
            }
        } else {
            put(fields, faults, key, value(System::Http, key, json));
        }
    }
}

fn put(fields: &mut BTreeMap<String, Value>, faults: &mut Vec<Fault>, key: &str, value: Result<Option<Value>, Fault>) {
    match value {
        Ok(Some(value)) => drop(fields.insert(key.to_owned(), value)),
        Ok(None) => {}
        Err(fault) => faults.push(fault),
    }
}

/// Reads what stands behind one key; `null` is the same as no key.
pub(super) fn value(system: System, key: &str, json: &Json) -> Result<Option<Value>, Fault> {
    let is_map = system.field(key).is_some_and(|field| field.form == Form::Map);
    Ok(Some(match json {
        Json::Null => return Ok(None),
        Json::String(text) => Value::plain(text.as_str()),
        Json::Number(number) => Value::plain(number.to_string()),
        Json::Bool(flag) => Value::plain(flag.to_string()),
        Json::Object(members) if is_map => {
            let mut entries = BTreeMap::new();
            for (entry, json) in members {
                let read = match json {
                    Json::Object(place) => Value::From(reference(&format!("{key}.{entry}"), place)?),
                    Json::String(text) => Value::plain(text.as_str()),
                    Json::Number(number) => Value::plain(number.to_string()),
                    Json::Bool(flag) => Value::plain(flag.to_string()),
                    Json::Null => continue,
                    Json::Array(_) => return Err(Fault::of(key, format!("`{key}.{entry}` has to be a text"))),
                };
                entries.insert(entry.clone(), read);
            }
            Value::Map(entries)
        }
        // Google's own form of a key: the object itself, not a text that holds one.
        Json::Object(_) if key == "service_account" && json.get("private_key").is_some() => {
            Value::plain(json.to_string())
        }
        Json::Object(place) => Value::From(reference(key, place)?),
        Json::Array(_) => return Err(Fault::of(key, format!("`{key}` has to be a text, not a list"))),
    }))
}

fn reference(key: &str, place: &Map<String, Json>) -> Result<Reference, Fault> {
    let only = place.iter().next().filter(|_| place.len() == 1);
    only.and_then(|(kind, place)| Reference::from_key(kind, place.as_str()?.to_owned())).ok_or_else(|| {
        Fault::of(key, format!("`{key}` has to be a text, or to say one place of it"))
            .help(format!("one of `{}`", Reference::KEYS.join("`, `")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Definition, Vec<Fault>> {
        definition(serde_json::from_str::<Json>(text).expect("json").as_object().expect("an object"))
    }

    #[test]
    fn a_nested_auth_means_the_same_as_flat_fields() {
        let nested = read(
            r#"{"type":"http","url":"https://a","auth":{"type":"refresh_token","client_id":"c","token_url":"https://a/t","refresh_token":{"env":"R"}}}"#,
        )
        .expect("a connection");
        let keys: Vec<&str> = nested.fields.keys().map(String::as_str).collect();
        assert_eq!(keys, ["auth", "client_id", "grant", "refresh_token", "token_url", "url"]);
        assert_eq!(nested.fields["auth"].as_plain(), Some("oauth2"));
    }

    #[test]
    fn a_place_that_is_not_known_is_a_fault() {
        let faults = read(r#"{"type":"http","url":"https://a","token":{"vault":"x"}}"#).expect_err("no such place");
        assert!(faults[0].help.as_deref().is_some_and(|help| help.contains("command")));
        assert!(
            read(r#"{"type":"htp"}"#).expect_err("no such type")[0].help.as_deref() == Some("did you mean `http`?")
        );
    }

    #[test]
    fn what_is_stored_is_what_was_read() {
        let first = read(
            r#"{"type":"http","url":"https://a","token":{"file":"t"},"headers":{"X-A":{"env":"B"},"Accept":"c"}}"#,
        )
        .expect("a connection");
        let mut json: Map<String, Json> =
            first.fields.iter().map(|(key, value)| (key.clone(), value.to_json())).collect();
        json.insert("type".to_owned(), "http".into());
        let again = definition(&json).expect("the same");
        let members =
            |definition: &Definition| definition.fields.values().map(|v| v.to_json().to_string()).collect::<Vec<_>>();
        assert_eq!(members(&again), members(&first));
    }
}
