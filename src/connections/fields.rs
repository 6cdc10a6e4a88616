//! What a connection is made of: the systems, their fields, and the rules that hold whatever source a field is from.

use std::collections::BTreeMap;

use super::form::check_form;
use crate::error::{Error, Result};
use crate::secret::{ExposeSecret, SecretString};

/// The systems that a connection can lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    Http,
    DuckDb,
    Postgres,
    MySql,
    MongoDb,
    BigQuery,
    Files,
    Smtp,
    Process,
}

/// What the text of a field has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Word(&'static [&'static str]),
    Count,
    Port,
    Duration,
    /// Bytes with their unit.
    Size,
    Rate,
    /// An amount of money with its currency.
    Price,
    /// Names with values.
    Map,
    /// Where files lie.
    Place,
}

/// One field of a system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub key: &'static str,
    pub form: Form,
    pub secret: bool,
    pub required: bool,
}

pub(super) const fn field(key: &'static str, form: Form) -> Field {
    Field { key, form, secret: false, required: false }
}

impl Field {
    pub const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

const AUTH: &[&str] = &["none", "basic", "bearer", "api_key", "oauth2", "sigv4", "hmac", "login"];
const ALGORITHM: &[&str] = &["sha256", "sha512"];
const ENCODING: &[&str] = &["hex", "base64"];
const SECRET_ENCODING: &[&str] = &["text", "base64", "hex"];
const GRANT: &[&str] = &["client_credentials", "refresh_token"];
const TLS: &[&str] = &["disable", "prefer", "require", "verify-full"];
const MAIL_TLS: &[&str] = &["starttls", "tls", "none"];

const HTTP: &[Field] = &[
    field("url", Form::Text).required(),
    field("auth", Form::Word(AUTH)),
    field("user", Form::Text),
    field("password", Form::Text).secret(),
    field("token", Form::Text).secret(),
    field("key", Form::Text).secret(),
    field("header", Form::Text),
    field("query", Form::Text),
    field("grant", Form::Word(GRANT)),
    field("client_id", Form::Text),
    field("client_secret", Form::Text).secret(),
    field("token_url", Form::Text),
    field("refresh_token", Form::Text).secret(),
    field("scope", Form::Text),
    field("extra", Form::Map),
    field("service", Form::Text),
    field("region", Form::Text),
    field("access_key", Form::Text),
    field("secret_key", Form::Text).secret(),
    field("session_token", Form::Text).secret(),
    field("key_id", Form::Text),
    field("secret", Form::Text).secret(),
    field("secret_encoding", Form::Word(SECRET_ENCODING)),
    field("algorithm", Form::Word(ALGORITHM)),
    field("encoding", Form::Word(ENCODING)),
    field("sign", Form::Text),
    field("send", Form::Map),
    field("send_query", Form::Map),
    field("path", Form::Text),
    field("body", Form::Map),
    field("form", Form::Map),
    field("token_at", Form::Text),
    field("cookie", Form::Text),
    field("ttl", Form::Duration),
    field("client_cert", Form::Text),
    field("client_key", Form::Text).secret(),
    field("ca", Form::Text),
    field("headers", Form::Map),
    field("rate", Form::Rate),
    field("max_concurrent", Form::Count),
    field("timeout", Form::Duration),
    field("test_path", Form::Text),
];

const DUCKDB: &[Field] =
    &[field("path", Form::Text).required(), field("memory_limit", Form::Text), field("threads", Form::Count)];

const SERVER: &[Field] = &[
    field("host", Form::Text),
    field("port", Form::Port),
    field("user", Form::Text).required(),
    field("password", Form::Text).secret(),
    field("database", Form::Text).required(),
    field("tls", Form::Word(TLS)),
];

const POSTGRES: &[Field] = &[
    field("host", Form::Text),
    field("port", Form::Port),
    field("user", Form::Text).required(),
    field("password", Form::Text).secret(),
    field("database", Form::Text).required(),
    field("tls", Form::Word(TLS)),
    field("statement_timeout", Form::Duration),
    field("lock_timeout", Form::Duration),
];

const MONGODB: &[Field] = &[field("uri", Form::Text).secret().required(), field("database", Form::Text).required()];

const SMTP: &[Field] = &[
    field("host", Form::Text).required(),
    field("port", Form::Port),
    field("user", Form::Text),
    field("password", Form::Text).secret(),
    field("from", Form::Text).required(),
    field("tls", Form::Word(MAIL_TLS)),
    field("ca", Form::Text),
    field("timeout", Form::Duration),
];

const BIGQUERY: &[Field] = &[
    field("project", Form::Text).required(),
    field("location", Form::Text),
    field("service_account", Form::Text).secret(),
    field("impersonate", Form::Text),
    field("stage_bucket", Form::Text),
    field("stage_above", Form::Size),
    field("compress", Form::Word(&["true", "false"])),
    field("job_timeout", Form::Duration),
    field("endpoint", Form::Text),
    field("price_per_tib", Form::Price),
    field("storage_endpoint", Form::Text),
];

impl System {
    pub const ALL: [Self; 9] = [
        Self::Http,
        Self::DuckDb,
        Self::Postgres,
        Self::MySql,
        Self::MongoDb,
        Self::BigQuery,
        Self::Files,
        Self::Smtp,
        Self::Process,
    ];

    /// The word that stands behind `type =`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::DuckDb => "duckdb",
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
            Self::MongoDb => "mongodb",
            Self::BigQuery => "bigquery",
            Self::Files => "files",
            Self::Smtp => "smtp",
            Self::Process => "process",
        }
    }

    pub fn from_name(name: &str) -> Result<Self, Fault> {
        Self::ALL.into_iter().find(|system| system.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|system| system.name()).collect();
            // What stands in a wrong place may be a secret: it is not repeated.
            Fault::of("type", "`type` has a word that is no type of connection").help(nearest_or_all(name, &names))
        })
    }

    pub fn fields(self) -> &'static [Field] {
        match self {
            Self::Http => HTTP,
            Self::DuckDb => DUCKDB,
            Self::Postgres => POSTGRES,
            Self::MySql => SERVER,
            Self::MongoDb => MONGODB,
            Self::BigQuery => BIGQUERY,
            Self::Files => super::files::FIELDS,
            Self::Smtp => SMTP,
            // A program has any fields.
            Self::Process => &[],
        }
    }

    pub fn field(self, key: &str) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.key == key)
    }
}

/// Where the text of a field is found, when it is not the text itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    Env(String),
    File(String),
    Command(String),
}

impl Reference {
    pub const KEYS: &'static [&'static str] = &["env", "file", "command"];

    pub fn from_key(key: &str, place: String) -> Option<Self> {
        Some(match key {
            "env" => Self::Env(place),
            "file" => Self::File(place),
            "command" => Self::Command(place),
            _ => return None,
        })
    }

    pub fn key_and_place(&self) -> (&'static str, &str) {
        match self {
            Self::Env(place) => ("env", place),
            Self::File(place) => ("file", place),
            Self::Command(place) => ("command", place),
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (key, place) = self.key_and_place();
        write!(f, "{{ {key} = \"{place}\" }}")
    }
}

/// JSON that may have secrets in it, so that it is never shown by itself.
#[derive(Clone)]
pub(super) struct Json(pub serde_json::Value);

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Json")
    }
}

/// What stands behind a field. Every text is kept as a secret: which of them is one depends on the field.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Plain(SecretString),
    From(Reference),
    Map(BTreeMap<String, Value>),
    /// A field of a program: any JSON, in which every table with one place of a secret stands for that secret.
    Tree(Json),
}

impl Value {
    pub fn plain(text: impl Into<String>) -> Self {
        Self::Plain(SecretString::from(text.into()))
    }

    pub fn as_plain(&self) -> Option<&str> {
        match self {
            Self::Plain(text) => Some(text.expose_secret()),
            Self::From(_) | Self::Map(_) | Self::Tree(_) => None,
        }
    }

    /// The form in which the encrypted store keeps it.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Plain(text) => text.expose_secret().into(),
            Self::From(reference) => {
                let (key, place) = reference.key_and_place();
                serde_json::json!({ key: place })
            }
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
            Self::Tree(tree) => tree.0.clone(),
        }
    }
}

/// A connection as a source tells it, before any secret is resolved.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    pub system: System,
    pub fields: BTreeMap<String, Value>,
}

/// What is wrong with a definition, and at which of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub key: String,
    pub message: String,
    pub help: Option<String>,
}

impl Fault {
    pub fn of(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), message: message.into(), help: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// All faults as one error of the connection.
    pub fn into_error(faults: &[Self], doing: String) -> Error {
        let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
        let error = Error::new(crate::error::Kind::Connection, doing).because(messages.join("; "));
        faults.iter().filter_map(|fault| fault.help.clone()).fold(error, Error::hint)
    }
}

impl Definition {
    /// Everything that is wrong with the fields: unknown ones, missing ones, wrong forms, and ways to authenticate
    /// that contradict each other.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.system == System::Process {
            return faults;
        }
        let known: Vec<&str> = self.system.fields().iter().map(|field| field.key).collect();
        for (key, value) in &self.fields {
            let Some(field) = self.system.field(key) else {
                // What does not look like a field may be a secret that lost its name.
                let is_plain = key.len() <= 24 && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                let name = if is_plain { format!(" `{key}`") } else { String::new() };
                let message = format!("unknown field{name} of a connection of type {}", self.system.name());
                faults.push(Fault::of(key, message).help(nearest_or_all(key, &known)));
                continue;
            };
            match (value, field.form) {
                (Value::Map(_), Form::Map) | (Value::From(_), Form::Text | Form::Place) => {}
                (Value::Plain(text), form) if form != Form::Map => {
                    faults.extend(check_form(key, field, text.expose_secret()).err());
                }
                (Value::From(_), form) if form != Form::Map => {
                    faults.push(Fault::of(key, format!("`{key}` has to be written out, it cannot be a reference")));
                }
                (_, Form::Map) => {
                    faults.push(Fault::of(key, format!("`{key}` has to be a table of names with values")));
                }
                _ => faults.push(Fault::of(key, format!("`{key}` has to be a text"))),
            }
        }
        for field in self.system.fields().iter().filter(|field| field.required && !self.fields.contains_key(field.key))
        {
            faults.push(Fault::of("", format!("`{}` is missing", field.key)));
        }
        if self.system == System::Http
            && self.fields.contains_key("client_cert") != self.fields.contains_key("client_key")
        {
            faults.push(Fault::of("client_cert", "`client_cert` and `client_key` belong together"));
        }
        if self.system == System::Http && faults.is_empty() {
            faults.extend(super::style::of(&self.fields).err());
        }
        if self.system == System::BigQuery
            && self.fields.contains_key("stage_above")
            && !self.fields.contains_key("stage_bucket")
        {
            faults.push(
                Fault::of("stage_above", "`stage_above` means nothing without a `stage_bucket`")
                    .help("stage_bucket = \"gs://my-bucket/haul\""),
            );
        }
        if self.system == System::Smtp && self.fields.contains_key("password") && !self.fields.contains_key("user") {
            faults.push(Fault::of("password", "`password` needs `user`"));
        }
        if self.system == System::Files && faults.is_empty() {
            faults.extend(super::files::disagreement(&self.fields).err());
        }
        faults
    }

    /// Whether what stands behind a field is a secret: by what the field is for, not by where it came from.
    pub fn is_secret(&self, key: &str) -> bool {
        // A user without a password is how many services pass an API key.
        let lone_user = key == "user" && self.system == System::Http && !self.fields.contains_key("password");
        let of_program = self.system == System::Process && !is_harmless_entry("extra", key);
        lone_user || of_program || self.system.field(key).is_some_and(|field| field.secret)
    }
}

/// Whether a field only says where or as whom, so that it may be shown even when it comes from a reference.
pub(super) fn names_a_place(key: &str) -> bool {
    const PLACES: &[&str] = &[
        "user",
        "host",
        "database",
        "client_id",
        "scope",
        "header",
        "query",
        "path",
        "memory_limit",
        "project",
        "location",
        "impersonate",
        "stage_bucket",
        "region",
        "service",
        "access_key",
        "key_id",
        "sign",
        "token_at",
        "cookie",
        "client_cert",
        "ca",
        "from",
    ];
    PLACES.contains(&key)
}

/// Whether an entry of `headers`, `extra`, `body` or `form` may be shown: everything else there is taken for a secret.
pub(super) fn is_harmless_entry(map: &str, entry: &str) -> bool {
    let entry = entry.to_ascii_lowercase();
    if map == "headers" {
        let known = ["accept", "content-type", "user-agent", "cache-control", "prefer", "from", "origin", "referer"];
        return known.contains(&entry.as_str()) || entry.starts_with("accept-") || entry.ends_with("-version");
    }
    if map == "send" || map == "send_query" {
        return true;
    }
    if map == "body" || map == "form" {
        return ["user", "username", "user_name", "email", "login", "account", "tenant"].contains(&entry.as_str());
    }
    !["secret", "token", "password", "passwd", "key", "assertion", "credential"].iter().any(|word| entry.contains(word))
}

/// The nearest of `candidates`, or all of them.
pub(super) fn nearest_or_all(written: &str, candidates: &[&str]) -> String {
    let allowed = (written.chars().count() / 3).max(1);
    let lower = written.to_lowercase();
    let near = candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), *candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min_by_key(|&(distance, _)| distance);
    match near {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None if candidates.is_empty() => "there are none".to_owned(),
        None => {
            let quoted: Vec<String> = candidates.iter().map(|candidate| format!("`{candidate}`")).collect();
            format!("one of {}", quoted.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(fields: &[(&str, &str)]) -> Definition {
        let fields = fields.iter().map(|(key, text)| ((*key).to_owned(), Value::plain(*text))).collect();
        Definition { system: System::Http, fields }
    }

    #[test]
    fn all_faults_of_a_definition_are_told_at_once() {
        let faults = http(&[("tokn", "x"), ("rate", "fast"), ("timeout", "60"), ("max_concurrent", "0")]).faults();
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["max_concurrent", "rate", "timeout", "tokn", ""]);
        assert_eq!(faults[3].help.as_deref(), Some("did you mean `token`?"));
        assert!(faults[2].help.as_deref().is_some_and(|help| help.contains("60s")), "{faults:?}");
        assert_eq!(faults[4].message, "`url` is missing");
    }

    #[test]
    fn a_definition_never_shows_its_texts() {
        let shown = format!("{:?}", http(&[("password", "hunter2-secret")]));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
