//! Connections as URIs: haul's own forms, and the parts that Airflow's forms are read from.

use std::collections::BTreeMap;

use super::airflow::Airflow;
use super::fields::{Definition, Fault, Reference, System, Value, nearest_or_all};
use super::json;

/// The parts of a URI, decoded. Its text may hold a password and is never repeated in an error.
pub(super) struct Parts {
    pub scheme: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub host: String,
    pub port: Option<String>,
    /// Without the slash before it.
    pub path: String,
    pub query: Vec<(String, String)>,
}

/// Reads `scheme://user:password@host:port/path?query`.
pub(super) fn parts(text: &str) -> Result<Parts, Fault> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| {
        Fault::of("", "it is neither JSON nor a URI")
            .help("a URI looks like https://user:password@host/path?timeout=30s")
    })?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, authority) = authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
    let (user, password) = match login {
        Some(login) => {
            let (user, password) =
                login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
            (Some(decode(user)).filter(|user| !user.is_empty()), password.map(decode))
        }
        None => (None, None),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (authority, None),
    };
    Ok(Parts {
        scheme: scheme.to_ascii_lowercase(),
        user,
        password,
        host: decode(host),
        port: port.map(str::to_owned),
        path: decode(path),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
    })
}

/// Undoes percent encoding; what is not UTF-8 afterwards is replaced.
pub(super) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        // A sign before a digit would be read as a number as well.
        let hex = hex.filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Percent-encodes what may not stand in the user part of a URI.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Reads the value of `HAUL_CONN_<NAME>`: JSON with `type`, one of haul's URIs, or one of Airflow's two forms.
pub(super) fn definition(text: &str) -> Result<Definition, Vec<Fault>> {
    let text = text.trim();
    if text.starts_with('{') {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
            vec![Fault::of("", format!("the JSON is wrong at line {} column {}", error.line(), error.column()))]
        })?;
        let members = value.as_object().ok_or_else(|| vec![Fault::of("", "the JSON has to be an object")])?;
        if !members.contains_key("type") && members.contains_key("conn_type") {
            return Airflow::from_json(members).and_then(Airflow::into_definition).map(|read| read.definition);
        }
        return json::definition(members);
    }
    let definition = own(text).map_err(|fault| vec![fault])?;
    let Some(definition) = definition else {
        return Airflow::from_uri(text).and_then(Airflow::into_definition).map(|read| read.definition);
    };
    let faults = definition.faults();
    if faults.is_empty() { Ok(definition) } else { Err(faults) }
}

/// Reads one of haul's own URIs; `None` when its scheme is one that only Airflow has.
fn own(text: &str) -> Result<Option<Definition>, Fault> {
    if let Some(path) = text.strip_prefix("duckdb:") {
        return Ok(Some(duckdb(path)));
    }
    let parts = parts(text)?;
    Ok(Some(match parts.scheme.as_str() {
        "http" | "https" => http(parts),
        "postgres" | "postgresql" => server(System::Postgres, parts),
        "mysql" | "mariadb" => server(System::MySql, parts),
        "mongodb" | "mongodb+srv" => mongodb(text, &parts),
        "bigquery" => bigquery(parts),
        "file" | "s3" | "gs" => files(parts),
        "smtp" | "smtps" => smtp(parts),
        scheme if super::airflow::knows(scheme) => return Ok(None),
        scheme => {
            let known = [
                "https",
                "http",
                "duckdb",
                "postgres",
                "mysql",
                "mongodb",
                "mongodb+srv",
                "bigquery",
                "file",
                "s3",
                "gs",
                "smtp",
                "smtps",
            ];
            let message = format!("`{scheme}://` is no scheme of a connection");
            return Err(Fault::of("", message).help(nearest_or_all(scheme, &known)));
        }
    }))
}

fn duckdb(path: &str) -> Definition {
    let path = path.strip_prefix("//").unwrap_or(path);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut fields = BTreeMap::from([("path".to_owned(), Value::plain(decode(path)))]);
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned();
    fields.extend(query.map(|(key, text)| (key, Value::plain(text))));
    Definition { system: System::DuckDb, fields }
}

fn http(parts: Parts) -> Definition {
    let mut url = format!("{}://{}", parts.scheme, parts.host);
    if let Some(port) = parts.port {
        url.push(':');
        url.push_str(&port);
    }
    if !parts.path.is_empty() {
        url.push('/');
        url.push_str(&parts.path);
    }
    let mut fields = BTreeMap::from([("url".to_owned(), Value::plain(url))]);
    insert(&mut fields, "user", parts.user);
    insert(&mut fields, "password", parts.password);
    fields.extend(parts.query.into_iter().map(|(key, text)| (key, Value::plain(text))));
    Definition { system: System::Http, fields }
}

/// `smtp://user:password@host:587?from=haul@example.com`; `smtps` is encrypted from the first byte on.
fn smtp(parts: Parts) -> Definition {
    let mut fields = BTreeMap::new();
    insert(&mut fields, "host", Some(parts.host).filter(|host| !host.is_empty()));
    insert(&mut fields, "port", parts.port);
    insert(&mut fields, "user", parts.user);
    insert(&mut fields, "password", parts.password);
    if parts.scheme == "smtps" {
        fields.insert("tls".to_owned(), Value::plain("tls"));
    }
    fields.extend(parts.query.into_iter().map(|(key, text)| (key, Value::plain(text))));
    Definition { system: System::Smtp, fields }
}

fn server(system: System, parts: Parts) -> Definition {
    let mut fields = BTreeMap::new();
    insert(&mut fields, "host", Some(parts.host).filter(|host| !host.is_empty()));
    insert(&mut fields, "port", parts.port);
    insert(&mut fields, "user", parts.user);
    insert(&mut fields, "password", parts.password);
    insert(&mut fields, "database", Some(parts.path).filter(|path| !path.is_empty()));
    for (key, text) in parts.query {
        match key.as_str() {
            "sslmode" | "ssl-mode" | "ssl_mode" => drop(fields.insert("tls".to_owned(), Value::plain(tls_word(&text)))),
            _ => drop(fields.insert(key, Value::plain(text))),
        }
    }
    Definition { system, fields }
}

/// The word for what libpq and MySQL's clients call `sslmode`; never a weaker one.
pub(super) fn tls_word(mode: &str) -> String {
    match mode.to_ascii_lowercase().replace('_', "-").as_str() {
        "allow" | "preferred" => "prefer".to_owned(),
        "disabled" => "disable".to_owned(),
        "required" => "require".to_owned(),
        "verify-ca" | "verify-identity" => "verify-full".to_owned(),
        other => other.to_owned(),
    }
}

fn mongodb(text: &str, parts: &Parts) -> Definition {
    let mut fields = BTreeMap::from([("uri".to_owned(), Value::plain(text))]);
    insert(&mut fields, "database", Some(parts.path.clone()).filter(|path| !path.is_empty()));
    Definition { system: System::MongoDb, fields }
}

fn bigquery(parts: Parts) -> Definition {
    let mut fields = BTreeMap::from([("project".to_owned(), Value::plain(parts.host))]);
    for (key, text) in parts.query {
        if key == "key_path" {
            fields.insert("service_account".to_owned(), Value::From(Reference::File(text)));
        } else {
            fields.insert(key, Value::plain(text));
        }
    }
    Definition { system: System::BigQuery, fields }
}

/// `s3://key:secret@bucket/prefix?region=eu-central-1`, `gs://bucket/prefix?key_path=key.json`, `file:///data/landing`.
fn files(parts: Parts) -> Definition {
    let url = format!("{}://{}/{}", parts.scheme, parts.host, parts.path);
    let mut fields = BTreeMap::from([("url".to_owned(), Value::plain(url))]);
    insert(&mut fields, "access_key", parts.user);
    insert(&mut fields, "secret_key", parts.password);
    for (key, text) in parts.query {
        if key == "key_path" {
            fields.insert("service_account".to_owned(), Value::From(Reference::File(text)));
        } else {
            fields.insert(key, Value::plain(text));
        }
    }
    Definition { system: System::Files, fields }
}

pub(super) fn insert(fields: &mut BTreeMap<String, Value>, key: &str, text: Option<String>) {
    if let Some(text) = text {
        fields.insert(key.to_owned(), Value::plain(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(definition: &Definition) -> Vec<String> {
        definition.fields.iter().map(|(key, value)| format!("{key}={}", value.as_plain().unwrap_or("?"))).collect()
    }

    #[test]
    fn each_system_has_its_uri() {
        let read = |text: &str| plain(&definition(text).expect(text));
        assert_eq!(
            read("https://ann:p%40ss%2Fw@api.example.com:8443/v1?rate=10/s"),
            ["password=p@ss/w", "rate=10/s", "url=https://api.example.com:8443/v1", "user=ann"]
        );
        assert_eq!(read("duckdb:///data/w.duckdb?threads=2"), ["path=/data/w.duckdb", "threads=2"]);
        assert_eq!(read("duckdb:w.duckdb"), ["path=w.duckdb"]);
        assert_eq!(
            read("postgresql://u:p@db/app?sslmode=verify-ca"),
            ["database=app", "host=db", "password=p", "tls=verify-full", "user=u"]
        );
        assert_eq!(read("mongodb://u:p@h/app?tls=true"), ["database=app", "uri=mongodb://u:p@h/app?tls=true"]);
        assert_eq!(read("bigquery://my-project?location=EU"), ["location=EU", "project=my-project"]);
    }

    #[test]
    fn a_wrong_uri_is_explained_without_its_password() {
        let faults = definition("https://ann:hunter2@a/?tmeout=3s").expect_err("an unknown field");
        assert_eq!(faults[0].help.as_deref(), Some("did you mean `timeout`?"));
        let faults = definition("htps://ann:hunter2@a/").expect_err("an unknown scheme");
        assert!(
            !format!("{faults:?}").contains("hunter2") && faults[0].help.as_deref() == Some("did you mean `https`?")
        );
    }

    #[test]
    fn percent_encoding_is_undone_and_done() {
        assert_eq!(decode("a%20b%2fc%zz%+1%C3%A9"), "a b/c%zz%+1é");
        assert_eq!(decode(&encode("p@ss:w/rd é")), "p@ss:w/rd é");
    }
}
