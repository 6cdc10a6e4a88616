//! Taking over Airflow's connections: its JSON export, its `.env` export, and `AIRFLOW_CONN_*` variables.

use serde::Serialize;
use serde_json::Value as Json;

use super::airflow::{Airflow, Taken};
use super::fields::Fault;
use super::{Connections, check_name};
use crate::error::{Error, Kind, Result};

/// What became of one connection of an import.
#[derive(Debug, Clone, Serialize)]
pub struct Imported {
    /// The connection's name.
    pub name: String,
    /// Its type here; `None` when it was left out.
    pub kind: Option<String>,
    /// What was changed or left out on the way, or why the whole connection was.
    pub notes: Vec<String>,
}

impl Connections {
    /// Puts the connections of an Airflow export into the encrypted store.
    ///
    /// `text` is what `airflow connections export` writes as JSON (objects or URIs by name) or as `.env` (lines
    /// `name=uri`). A connection that has no counterpart is left out and says why; the others are taken over.
    pub fn import(&self, text: &str) -> Result<Vec<Imported>> {
        let doing = "reading the export of Airflow";
        let entries: Vec<(String, Json)> = if text.trim_start().starts_with('{') {
            let json: Json = serde_json::from_str(text).map_err(|error| {
                Error::new(Kind::Connection, doing).because(format!(
                    "the JSON is wrong at line {} column {}",
                    error.line(),
                    error.column()
                ))
            })?;
            json.as_object().map(|members| members.clone().into_iter().collect()).unwrap_or_default()
        } else {
            lines(text)?
        };
        if entries.is_empty() {
            return Err(Error::new(Kind::Connection, doing)
                .because("there is no connection in it")
                .hint("make one by: airflow connections export connections.json"));
        }
        Ok(entries.into_iter().map(|(name, json)| self.import_one(&name, &json)).collect())
    }

    /// Puts the connections of all `AIRFLOW_CONN_*` variables into the encrypted store.
    pub fn import_environment(&self) -> Result<Vec<Imported>> {
        let named = |(variable, text): (&String, &String)| {
            Some((variable.strip_prefix("AIRFLOW_CONN_")?.to_lowercase(), Json::from(text.as_str())))
        };
        let entries: Vec<(String, Json)> = self.inner.environment.iter().filter_map(named).collect();
        if entries.is_empty() {
            return Err(Error::new(Kind::Connection, "importing Airflow's variables")
                .because("there is no variable AIRFLOW_CONN_<NAME>"));
        }
        Ok(entries.into_iter().map(|(name, json)| self.import_one(&name, &json)).collect())
    }

    fn import_one(&self, name: &str, json: &Json) -> Imported {
        let name = name.replace([' ', '/'], "_");
        let taken = match json {
            Json::String(text) if text.trim_start().starts_with('{') => match serde_json::from_str::<Json>(text) {
                Ok(Json::Object(members)) => Airflow::from_json(&members).and_then(Airflow::into_definition),
                _ => Err(vec![Fault::of("", "its JSON is wrong")]),
            },
            Json::String(uri) => Airflow::from_uri(uri).and_then(Airflow::into_definition),
            Json::Object(members) => Airflow::from_json(members).and_then(Airflow::into_definition),
            _ => Err(vec![Fault::of("", "it is neither an object nor a URI")]),
        };
        let left_out = |notes: Vec<String>| Imported { name: name.clone(), kind: None, notes };
        match taken {
            Err(faults) => left_out(faults.into_iter().map(|fault| fault.message).collect()),
            Ok(Taken { definition, mut notes }) => {
                let stored = check_name(&name).and_then(|()| self.store(&name, &definition));
                match stored {
                    Err(error) => left_out(vec![error.chain()]),
                    Ok(winners) => {
                        notes.extend(winners.iter().map(|winner| format!("{winner} wins over the store")));
                        Imported { name: name.clone(), kind: Some(definition.system.name().to_owned()), notes }
                    }
                }
            }
        }
    }
}

/// The lines `name=uri` of a `.env` export.
fn lines(text: &str) -> Result<Vec<(String, Json)>> {
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    lines
        .map(|(number, line)| {
            let (name, uri) = line.split_once('=').ok_or_else(|| {
                Error::new(Kind::Connection, format!("reading line {} of the export of Airflow", number + 1))
                    .because("it is not `name=uri`")
                    .hint("an export is JSON, or lines `name=uri`: airflow connections export connections.json")
            })?;
            let name = name.trim().trim_start_matches("export ").trim_start_matches("AIRFLOW_CONN_");
            let name = if name.chars().any(char::is_lowercase) { name.to_owned() } else { name.to_lowercase() };
            Ok((name, Json::from(uri.trim().trim_matches(['\'', '"']))))
        })
        .collect()
}
