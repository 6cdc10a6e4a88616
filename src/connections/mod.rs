//! The connection store: where credentials come from, in which order, and how they stay secret.
//!
//! A connection is looked for in three places, and the first that has it wins:
//!
//! 1. the environment: `HAUL_CONN_<NAME>` (a URI, or JSON with `type`), then Airflow's `AIRFLOW_CONN_<NAME>`;
//! 2. the encrypted store `.haul/connections.enc` ([`Connections::set`], [`Connections::import`]);
//! 3. `connections.toml`.
//!
//! Whatever the place, it becomes the same definition of fields (`fields.rs`); secrets are resolved only when a
//! connection is used, and the [`Redactor`] is told of each of them first.

mod airflow;
mod fields;
mod files;
mod form;
mod google;
mod import;
mod json;
mod key;
mod reference;
mod resolve;
mod store;
mod style;
mod traces;
mod uri;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value as Json};
use zeroize::Zeroizing;

use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::Connection;
use crate::model::serve::SecretPlace;
use crate::secret::{ExposeSecret, MASK, Redactor, SecretString};
use fields::{Definition, Fault, Reference, Value, is_harmless_entry, nearest_or_all};
use key::Keys;
use reference::Resolver;
use store::{Fields, Rotated, Store};

pub use import::Imported;

/// The connections of one project. Cheap to clone.
#[derive(Clone)]
pub struct Connections {
    inner: Arc<Inner>,
    /// Connections that stand before those of the project: a throwaway warehouse, an API that is replayed.
    instead: Arc<BTreeMap<String, Connection>>,
}

struct Inner {
    root: PathBuf,
    environment: Arc<BTreeMap<String, String>>,
    file: Map<String, Json>,
    store: Store,
    resolver: Resolver,
    redactor: Redactor,
}

/// Where a connection is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Origin {
    /// In this variable of the environment.
    Environment(String),
    /// In the encrypted store.
    Store,
    /// In `connections.toml`.
    File,
}

/// One line of `haul connections list`.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// The connection's name.
    pub name: String,
    /// Its type; `None` when it cannot be read, and then `fault` says why.
    pub kind: Option<String>,
    /// The place that won.
    pub origin: Origin,
    /// Further places that tell of it and lost.
    pub hidden: Vec<Origin>,
    /// Why it cannot be used.
    pub fault: Option<String>,
}

/// A connection with its secrets masked.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The connection's name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Where it is told.
    pub origin: Origin,
    /// The fields as they are written: references stay references, secrets are masked.
    pub fields: BTreeMap<String, String>,
}

impl Connections {
    /// Reads where connections are told; no secret is resolved yet.
    ///
    /// `root` is the project's folder. A `connections.toml` that cannot be read is no error here: `haul check` tells
    /// its faults with their places, and a connection that is missing for it says so.
    pub fn open(root: &Path, redactor: Redactor) -> Result<Self> {
        let variables = std::env::vars_os();
        let environment: BTreeMap<String, String> =
            variables.filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?))).collect();
        let environment = Arc::new(environment);
        let folder = root.join(".haul");
        let store = Store::new(&folder, Keys::new(&folder, &environment, redactor.clone()));
        let file = read_file(&root.join("connections.toml"))?;
        let resolver = Resolver::new(root, environment.clone(), redactor.clone());
        let inner = Inner { root: root.to_path_buf(), environment, file, store, resolver, redactor };
        inner.learn_what_is_written();
        Ok(Self { inner: Arc::new(inner), instead: Arc::default() })
    }

    /// No connections but those that are put in their place, and no environment but this: for what is replayed offline.
    pub fn offline(root: &Path, environment: BTreeMap<String, String>, redactor: Redactor) -> Self {
        let environment = Arc::new(environment);
        let folder = root.join(".haul");
        let store = Store::new(&folder, Keys::new(&folder, &environment, redactor.clone()));
        let resolver = Resolver::new(root, environment.clone(), redactor.clone());
        let inner = Inner { root: root.to_path_buf(), environment, file: Map::new(), store, resolver, redactor };
        Self { inner: Arc::new(inner), instead: Arc::default() }
    }

    /// The same connections, but for these.
    #[must_use]
    pub fn with(&self, instead: impl IntoIterator<Item = Connection>) -> Self {
        let instead = instead.into_iter().map(|connection| (connection.name.clone(), connection)).collect();
        Self { inner: Arc::clone(&self.inner), instead: Arc::new(instead) }
    }

    /// The names of all connections.
    ///
    /// # Errors
    /// The encrypted store cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        let inner = &self.inner;
        let mut names: BTreeSet<String> = inner.file.keys().cloned().collect();
        names.extend(inner.store.names()?);
        // A variable's name tells the connection's in capitals: `HAUL_CONN_APP_DB` may be `app_db` as well as `app-db`.
        let told = |name: &String| !inner.variables_of(name).is_empty();
        let spelled: Vec<String> = names.iter().filter(|name| told(name)).map(|name| variable_word(name)).collect();
        for (variable, _) in inner.environment.iter().filter(|(_, text)| !text.trim().is_empty()) {
            let word = variable.strip_prefix("HAUL_CONN_").or_else(|| variable.strip_prefix("AIRFLOW_CONN_"));
            if let Some(word) = word.filter(|word| !word.is_empty() && !spelled.iter().any(|known| known == word)) {
                names.insert(word.to_lowercase());
            }
        }
        Ok(names.into_iter().collect())
    }

    /// The connection of this name with its secrets resolved, each of which the redactor now knows.
    ///
    /// # Errors
    /// The name is unknown, a field is wrong, or a secret cannot be resolved.
    pub fn get(&self, name: &str) -> Result<Connection> {
        if let Some(connection) = self.instead.get(name) {
            return Ok(connection.clone());
        }
        let (_, definition) = self.definition(name)?;
        let inner = &self.inner;
        let rotated = inner.store.rotated(name)?;
        resolve::resolve(name, &definition, rotated, &inner.resolver, &inner.root)
            .map_err(|error| error.while_doing(format!("opening the connection `{name}`")))
    }

    /// The fields of a connection of any type as a JSON object, for a program, each secret resolved and known to the redactor.
    ///
    /// # Errors
    /// As for [`Connections::get`].
    pub fn fields(&self, name: &str) -> Result<SecretString> {
        let (_, definition) = self.definition(name)?;
        let object = resolve::object(&definition, &self.inner.resolver)
            .map_err(|error| error.while_doing(format!("opening the connection `{name}`")))?;
        Ok(SecretString::from(object.to_string()))
    }

    /// The secret that lies at a place of the settings; the redactor knows it from now on.
    ///
    /// # Errors
    /// A variable that is not set, a file that cannot be read, a command that fails.
    pub fn secret(&self, place: &SecretPlace) -> Result<SecretString> {
        let reference = match place {
            SecretPlace::Env(name) => Reference::Env(name.clone()),
            SecretPlace::File(path) => Reference::File(path.clone()),
            SecretPlace::Command(command) => Reference::Command(command.clone()),
        };
        let text = self.inner.resolver.resolve(&reference)?;
        self.inner.redactor.learn(&text);
        Ok(SecretString::from(text))
    }

    /// A variable of the environment, for `env_var()` in templates.
    ///
    /// The redactor learns it when its name says that it is a secret.
    pub fn variable(&self, name: &str) -> Option<String> {
        let text = self.inner.environment.get(name).cloned();
        let word = name.to_uppercase();
        if ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "KEY", "CREDENTIAL"].iter().any(|secret| word.contains(secret)) {
            self.inner.redactor.learn(text.as_deref().unwrap_or_default());
        }
        text
    }

    /// All connections, with the place that each is taken from.
    ///
    /// # Errors
    /// The encrypted store cannot be read. What is wrong with one connection stands in its line.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let line = |name: String| {
            let mut origins = self.inner.origins(&name)?.into_iter();
            let origin = origins.next().unwrap_or(Origin::File);
            let read = self.definition(&name);
            let kind = read.as_ref().ok().map(|(_, definition)| definition.system.name().to_owned());
            let fault = read.err().map(|error| error.chain());
            Ok(Listed { name, kind, origin, hidden: origins.collect(), fault })
        };
        self.names()?.into_iter().map(line).collect()
    }

    /// A connection as it is written, with its secrets masked.
    pub fn show(&self, name: &str) -> Result<Shown> {
        let (origin, definition) = self.definition(name)?;
        let fields = definition.fields.iter().map(|(key, value)| (key.clone(), masked(&definition, key, value)));
        Ok(Shown { name: name.to_owned(), kind: definition.system.name().to_owned(), origin, fields: fields.collect() })
    }

    /// Puts a connection into the encrypted store. `text` is a URI, or JSON with `type`.
    ///
    /// Returns the places that win over the store.
    pub fn set(&self, name: &str, text: &str) -> Result<Vec<Origin>> {
        check_name(name)?;
        let doing = format!("setting the connection `{name}`");
        // What was copied from where secrets are masked must not take the place of the secret.
        if text.contains(MASK) || text.contains(MASK_IN_URI) {
            return Err(Error::usage(doing)
                .because(format!("a secret of it is masked: {MASK} is how it is shown, and not what it is"))
                .hint("write the secret itself, or where it is found: password=env:NAME; what was kept before stays"));
        }
        let definition = uri::definition(text).map_err(|faults| Fault::into_error(&faults, doing))?;
        self.store(name, &definition)
    }

    /// Takes a connection out of the encrypted store; whether it was there.
    pub fn remove(&self, name: &str) -> Result<bool> {
        self.inner.store.remove(name)
    }

    /// Where a connection is told, the winning place first.
    pub fn origins(&self, name: &str) -> Result<Vec<Origin>> {
        self.inner.origins(name)
    }

    /// Keeps a refresh token that an endpoint gave in the place of the one that it took.
    pub fn keep_refresh_token(&self, connection: &str, token: &SecretString) -> Result<()> {
        let (_, definition) = self.definition(connection)?;
        let configured = match definition.fields.get("refresh_token") {
            Some(value) => {
                resolve::text(value, &self.inner.resolver).inspect(|text| self.inner.redactor.learn(text))?
            }
            None => String::new(),
        };
        let rotated = Rotated { token: token.expose_secret().to_owned(), configured };
        self.inner.store.keep_rotated(connection, &rotated)
    }

    fn store(&self, name: &str, definition: &Definition) -> Result<Vec<Origin>> {
        self.inner.learn(definition);
        let mut fields: Fields = definition
            .fields
            .iter()
            .map(|(key, value)| (key.clone(), Zeroizing::new(value.to_json().to_string())))
            .collect();
        fields.insert("type".to_owned(), Zeroizing::new(Json::from(definition.system.name()).to_string()));
        self.inner.store.put(name, &fields)?;
        let origins = self.inner.origins(name)?;
        Ok(origins.into_iter().take_while(|origin| *origin != Origin::Store).collect())
    }

    fn definition(&self, name: &str) -> Result<(Origin, Definition)> {
        let inner = &self.inner;
        let doing = |origin: &Origin| format!("reading the connection `{name}` of {origin}");
        let Some(origin) = inner.origins(name)?.into_iter().next() else {
            let names = self.names()?;
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(Error::new(Kind::Connection, format!("there is no connection `{name}`"))
                .hint(nearest_or_all(name, &names))
                .hint("connections are told by connections.toml, by `haul connections set`, or by HAUL_CONN_<NAME>"));
        };
        let read = match &origin {
            Origin::Environment(variable) => {
                uri::definition(inner.environment.get(variable).map_or("", String::as_str))
            }
            Origin::Store => json::definition(&inner.stored(name)?),
            Origin::File => match inner.file.get(name) {
                Some(Json::Object(members)) => json::definition(members),
                _ => Err(vec![Fault::of("", "it has to be a table with a `type`")]),
            },
        };
        let definition = read.map_err(|faults| Fault::into_error(&faults, doing(&origin)))?;
        inner.learn(&definition);
        Ok((origin, definition))
    }
}

impl Inner {
    /// The variables that tell of a connection, the winning one first.
    fn variables_of(&self, name: &str) -> Vec<String> {
        let word = variable_word(name);
        let mut variables = vec![format!("HAUL_CONN_{word}"), format!("AIRFLOW_CONN_{word}")];
        variables.retain(|variable| self.environment.get(variable).is_some_and(|text| !text.trim().is_empty()));
        variables
    }

    fn origins(&self, name: &str) -> Result<Vec<Origin>> {
        let mut origins: Vec<Origin> = self.variables_of(name).into_iter().map(Origin::Environment).collect();
        if self.store.names()?.iter().any(|known| known == name) {
            origins.push(Origin::Store);
        }
        if self.file.contains_key(name) {
            origins.push(Origin::File);
        }
        Ok(origins)
    }

    fn stored(&self, name: &str) -> Result<Map<String, Json>> {
        let damaged = || Error::new(Kind::Connection, format!("reading `{name}` of the encrypted store"));
        let fields = self.store.get(name)?.ok_or_else(damaged)?;
        let read = |(key, text): (String, Zeroizing<String>)| {
            Ok((key, serde_json::from_str(&text).context(Kind::Connection, || damaged().chain())?))
        };
        fields.into_iter().map(read).collect()
    }

    /// Tells the redactor of the secrets that stand written out, before anything else can go wrong.
    fn learn_what_is_written(&self) {
        for members in self.file.values().filter_map(Json::as_object) {
            learn_texts(&self.redactor, members, false);
        }
        for (variable, text) in self.environment.iter() {
            if variable.starts_with("HAUL_CONN_") || variable.starts_with("AIRFLOW_CONN_") {
                match uri::definition(text) {
                    Ok(definition) => self.learn(&definition),
                    // It is wrong, and its secrets are in it all the same.
                    Err(_) => resolve::learn(&self.redactor, "uri", text),
                }
            }
        }
    }

    fn learn(&self, definition: &Definition) {
        for (key, value) in &definition.fields {
            match value {
                Value::Plain(text) if definition.is_secret(key) => {
                    resolve::learn(&self.redactor, key, text.expose_secret());
                }
                Value::Plain(text) if is_address(key) => resolve::learn_login(&self.redactor, text.expose_secret()),
                Value::Map(entries) => {
                    for (entry, value) in entries.iter().filter(|(entry, _)| !is_harmless_entry(key, entry)) {
                        if let Some(text) = value.as_plain() {
                            resolve::learn(&self.redactor, entry, text);
                        }
                    }
                }
                Value::Tree(tree) => learn_tree(&self.redactor, key, &tree.0),
                Value::Plain(_) | Value::From(_) => {}
            }
        }
    }
}

/// Tells the redactor of the secrets that stand written out in a program's field; `key` is the nearest name above.
fn learn_tree(redactor: &Redactor, key: &str, json: &Json) {
    match json {
        Json::String(text) if !is_harmless_entry("extra", key) => resolve::learn(redactor, key, text),
        Json::String(text) => resolve::learn_login(redactor, text),
        Json::Array(items) => items.iter().for_each(|item| learn_tree(redactor, key, item)),
        Json::Object(members) if resolve::place(members).is_none() => {
            members.iter().for_each(|(name, json)| learn_tree(redactor, name, json));
        }
        _ => {}
    }
}

/// A program's field as `haul connections show` prints it; `key` is the nearest name above.
fn masked_tree(key: &str, json: &Json) -> String {
    match json {
        Json::Object(members) => match resolve::place(members) {
            Some(reference) => reference.to_string(),
            None => {
                let shown: Vec<_> =
                    members.iter().map(|(name, json)| format!("{name} = {}", masked_tree(name, json))).collect();
                format!("{{ {} }}", shown.join(", "))
            }
        },
        Json::Array(items) => {
            format!("[{}]", items.iter().map(|item| masked_tree(key, item)).collect::<Vec<_>>().join(", "))
        }
        Json::String(_) | Json::Number(_) if !is_harmless_entry("extra", key) => MASK.to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether a field is an address, which may have a password in it.
fn is_address(key: &str) -> bool {
    matches!(key, "url" | "token_url" | "endpoint")
}

/// The texts of a table that may be secrets, by their keys alone: the table may be wrong in every other respect.
fn learn_texts(redactor: &Redactor, members: &Map<String, Json>, all: bool) {
    const SECRETS: [&str; 12] = [
        "password",
        "token",
        "key",
        "client_secret",
        "refresh_token",
        "uri",
        "service_account",
        "private_key",
        "secret_key",
        "session_token",
        "secret",
        "client_key",
    ];
    for (key, json) in members {
        // `url` is only a letter away from `uri`, but it is no secret: errors name it.
        let near = !is_address(key) && SECRETS.iter().any(|secret| strsim::damerau_levenshtein(secret, key) <= 1);
        match json {
            Json::String(text) if near || all => resolve::learn(redactor, key, text),
            Json::Number(number) if near => redactor.learn(&number.to_string()),
            Json::String(text) if is_address(key) => resolve::learn_login(redactor, text),
            Json::Object(members) if ["headers", "extra", "body", "form"].contains(&key.as_str()) => {
                let members = members.iter().filter(|(entry, _)| !is_harmless_entry(key, entry));
                learn_texts(redactor, &members.map(|(entry, json)| (entry.clone(), json.clone())).collect(), true);
            }
            Json::Object(members) if key == "auth" => learn_texts(redactor, members, false),
            _ => {}
        }
    }
}

/// The tables of `connections.toml`; none when there is no such file or when its TOML is broken.
fn read_file(path: &Path) -> Result<Map<String, Json>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => {
            let doing = format!("reading `{}`", path.display());
            return Err(Error::new(Kind::Connection, doing).because(error));
        }
    };
    let table: Option<toml::Table> = toml::from_str(&text).ok();
    let tables = table.and_then(|table| serde_json::to_value(table).ok());
    Ok(match tables {
        Some(Json::Object(tables)) => tables,
        _ => Map::new(),
    })
}

/// The mask in a URI.
const MASK_IN_URI: &str = "%E2%80%A2%E2%80%A2%E2%80%A2";

/// A value as `haul connections show` prints it.
fn masked(definition: &Definition, key: &str, value: &Value) -> String {
    match value {
        Value::From(reference) => reference.to_string(),
        Value::Plain(_) if definition.is_secret(key) => MASK.to_owned(),
        Value::Plain(text) => text.expose_secret().to_owned(),
        Value::Tree(tree) => masked_tree(key, &tree.0),
        Value::Map(entries) => {
            let shown = entries.iter().map(|(entry, value)| match value {
                Value::Plain(text) if is_harmless_entry(key, entry) => format!("{entry} = {}", text.expose_secret()),
                Value::From(reference) => format!("{entry} = {reference}"),
                Value::Plain(_) | Value::Map(_) | Value::Tree(_) => format!("{entry} = {MASK}"),
            });
            shown.collect::<Vec<_>>().join(", ")
        }
    }
}

/// The part of a variable's name that stands for a connection's.
fn variable_word(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}

fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.is_empty() && name.chars().all(allowed) {
        return Ok(());
    }
    Err(Error::usage(format!("`{name}` is no name for a connection"))
        .hint("a name has letters, digits, `_`, `-` and `.`, such as `app_db`"))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(variable) => write!(f, "the variable {variable}"),
            Self::Store => f.write_str("the encrypted store"),
            Self::File => f.write_str("connections.toml"),
        }
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}
