//! Airflow's connections: their URI form, their JSON form, and what they are called here.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::fields::{Definition, Fault, Reference, System, Value};
use super::json;
use super::uri::{decode, encode, insert, parts, tls_word};

/// One connection with Airflow's own fields.
#[derive(Default)]
pub(super) struct Airflow {
    conn_type: String,
    login: Option<String>,
    password: Option<String>,
    host: Option<String>,
    port: Option<String>,
    schema: Option<String>,
    extra: Map<String, Json>,
}

/// A connection that could be taken over, with what was left out on the way.
#[derive(Debug)]
pub(super) struct Taken {
    pub definition: Definition,
    pub notes: Vec<String>,
}

/// Settings of Python's `requests` that Airflow keeps beside the headers.
const REQUESTS_OPTIONS: &[&str] = &[
    "verify",
    "proxies",
    "proxy",
    "stream",
    "cert",
    "max_redirects",
    "allow_redirects",
    "check_response",
    "trust_env",
    "auth_type",
    "auth_kwargs",
];

/// Whether a scheme or `conn_type` is one that is known here.
pub(super) fn knows(conn_type: &str) -> bool {
    system(&normalized(conn_type)).is_some()
}

fn normalized(conn_type: &str) -> String {
    conn_type.to_ascii_lowercase().replace('-', "_")
}

fn system(conn_type: &str) -> Option<System> {
    Some(match conn_type {
        "http" | "https" => System::Http,
        "postgres" | "postgresql" => System::Postgres,
        "mysql" | "mariadb" => System::MySql,
        "mongo" | "mongodb" | "mongo+srv" | "mongodb+srv" => System::MongoDb,
        "google_cloud_platform" | "gcpbigquery" | "bigquery" => System::BigQuery,
        "duckdb" => System::DuckDb,
        _ => return None,
    })
}

fn text(json: Option<&Json>) -> Option<String> {
    match json? {
        Json::String(text) if text.is_empty() => None,
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(flag) => Some(flag.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

impl Airflow {
    /// Reads `conn-type://login:password@host:port/schema?extra=...`, also with the protocol of the host before it.
    pub fn from_uri(uri: &str) -> Result<Self, Vec<Fault>> {
        let (scheme, rest) =
            uri.split_once("://").ok_or_else(|| vec![Fault::of("", "it is neither JSON nor a URI")])?;
        let nested = rest.split_once("://").filter(|(protocol, _)| !protocol.contains(['@', ':', '/', '?']));
        let read = parts(if nested.is_some() { rest } else { uri }).map_err(|fault| vec![fault])?;
        let host = nested.map_or_else(|| read.host.clone(), |(protocol, _)| format!("{protocol}://{}", read.host));
        let extra = match read.query.iter().find(|(key, _)| key == "__extra__") {
            Some((_, extra)) => extra_object(&Json::from(extra.as_str()))?,
            None => read.query.into_iter().map(|(key, text)| (key, Json::from(text))).collect(),
        };
        Ok(Self {
            conn_type: normalized(scheme),
            login: read.user,
            password: read.password,
            host: Some(host).filter(|host| !host.is_empty()),
            port: read.port,
            schema: Some(read.path).filter(|path| !path.is_empty()),
            extra,
        })
    }

    /// Reads `{"conn_type": ..., "login": ..., "extra": {...} or "{...}"}`.
    pub fn from_json(members: &Map<String, Json>) -> Result<Self, Vec<Fault>> {
        let conn_type = text(members.get("conn_type")).ok_or_else(|| vec![Fault::of("", "it has no `conn_type`")])?;
        Ok(Self {
            conn_type: normalized(&conn_type),
            login: text(members.get("login")),
            password: text(members.get("password")),
            host: text(members.get("host")),
            port: text(members.get("port")),
            schema: text(members.get("schema")),
            extra: members.get("extra").map_or_else(|| Ok(Map::new()), extra_object)?,
        })
    }

    /// Turns it into one of haul's connections.
    pub fn into_definition(self) -> Result<Taken, Vec<Fault>> {
        let Some(system) = system(&self.conn_type) else {
            let message = match self.conn_type.as_str() {
                "sqlite" => "haul does not connect to SQLite files".to_owned(),
                other => format!("haul has no type of connection for Airflow's `{other}`"),
            };
            return Err(vec![Fault::of("", message)]);
        };
        let mut taken = Taken { definition: Definition { system, fields: BTreeMap::new() }, notes: Vec::new() };
        match system {
            System::Http => self.http(&mut taken),
            System::Postgres | System::MySql => self.server(&mut taken),
            System::MongoDb => self.mongodb(&mut taken),
            System::BigQuery => self.bigquery(&mut taken),
            System::Files => {}
            System::DuckDb => self.duckdb(&mut taken),
            // Airflow has no such connections: `system` never names it.
            System::Smtp | System::Process => {}
        }
        let faults = taken.definition.faults();
        if faults.is_empty() { Ok(taken) } else { Err(faults) }
    }

    /// Airflow keeps the protocol of an HTTP connection in `schema`, and sends its extras as headers.
    fn http(mut self, taken: &mut Taken) {
        let host = self.host.unwrap_or_default();
        let schema = self.schema.take();
        let is_protocol = matches!(schema.as_deref(), Some("http" | "https"));
        let mut url = if host.contains("://") {
            host
        } else {
            let fallback = if self.conn_type == "https" { "https" } else { "http" };
            format!("{}://{host}", schema.as_deref().filter(|_| is_protocol).unwrap_or(fallback))
        };
        if let Some(port) = self.port {
            let end = url.find("://").map_or(0, |at| at + 3);
            let slash = url[end..].find('/').map_or(url.len(), |at| end + at);
            url.insert_str(slash, &format!(":{port}"));
        }
        if let Some(path) = schema.filter(|_| !is_protocol) {
            url = format!("{}/{}", url.trim_end_matches('/'), path.trim_start_matches('/'));
        }
        let fields = &mut taken.definition.fields;
        fields.insert("url".to_owned(), Value::plain(url));
        match (self.login, self.password) {
            (None, Some(password)) => {
                fields.insert("token".to_owned(), Value::plain(password));
                taken.notes.push("its password without a login became a bearer token".to_owned());
            }
            (login, password) => {
                insert(fields, "user", login);
                insert(fields, "password", password);
            }
        }
        let mut headers = BTreeMap::new();
        for (key, json) in self.extra {
            if REQUESTS_OPTIONS.contains(&key.as_str()) {
                taken.notes.push(format!("the extra `{key}` has no counterpart and was left out"));
            } else if System::Http.field(&key).is_some() && !fields.contains_key(&key) {
                // A bare number is Airflow's way to give a timeout in seconds.
                let json = match (&*key, &json) {
                    ("timeout", Json::Number(seconds)) => Json::from(format!("{seconds}s")),
                    ("timeout", Json::String(seconds)) if seconds.parse::<f64>().is_ok() => {
                        Json::from(format!("{seconds}s"))
                    }
                    _ => json,
                };
                if let Ok(Some(value)) = json::value(System::Http, &key, &json) {
                    fields.insert(key, value);
                }
            } else if let Some(text) = text(Some(&json)) {
                headers.insert(key, Value::plain(text));
            }
        }
        if !headers.is_empty() {
            match fields.entry("headers".to_owned()).or_insert_with(|| Value::Map(BTreeMap::new())) {
                Value::Map(entries) => entries.extend(headers),
                other => *other = Value::Map(headers),
            }
        }
    }

    fn server(self, taken: &mut Taken) {
        let fields = &mut taken.definition.fields;
        insert(fields, "host", self.host);
        insert(fields, "port", self.port);
        insert(fields, "user", self.login);
        insert(fields, "password", self.password);
        insert(fields, "database", self.schema);
        for (key, json) in self.extra {
            match (key.as_str(), text(Some(&json))) {
                ("sslmode" | "ssl_mode" | "tls", Some(mode)) => insert(fields, "tls", Some(tls_word(&mode))),
                ("database" | "dbname", Some(database)) => insert(fields, "database", Some(database)),
                _ => taken.notes.push(format!("the extra `{key}` has no counterpart and was left out")),
            }
        }
    }

    fn mongodb(mut self, taken: &mut Taken) {
        let is_set = |json: Option<Json>| text(json.as_ref()).is_some_and(|word| word.eq_ignore_ascii_case("true"));
        let srv = is_set(self.extra.shift_remove("srv")) || self.conn_type.ends_with("+srv");
        let mut options = Vec::new();
        for (key, json) in self.extra {
            match (key.as_str(), text(Some(&json))) {
                ("ssl", Some(word)) => options.push(format!("tls={}", word.to_ascii_lowercase())),
                (_, Some(word)) => options.push(format!("{}={}", encode(&key), encode(&word))),
                (_, None) => taken.notes.push(format!("the extra `{key}` has no counterpart and was left out")),
            }
        }
        let mut uri = String::from(if srv { "mongodb+srv://" } else { "mongodb://" });
        if let Some(login) = &self.login {
            uri.push_str(&encode(login));
            if let Some(password) = &self.password {
                uri.push(':');
                uri.push_str(&encode(password));
            }
            uri.push('@');
        }
        uri.push_str(self.host.as_deref().unwrap_or("localhost"));
        // The name of a seed list has no port.
        if let Some(port) = self.port.filter(|_| !srv) {
            uri.push(':');
            uri.push_str(&port);
        }
        uri.push('/');
        if !options.is_empty() {
            uri.push('?');
            uri.push_str(&options.join("&"));
        }
        let fields = &mut taken.definition.fields;
        fields.insert("uri".to_owned(), Value::plain(uri));
        insert(fields, "database", self.schema);
    }

    fn bigquery(self, taken: &mut Taken) {
        let fields = &mut taken.definition.fields;
        for (key, json) in self.extra {
            let short = key.strip_prefix("extra__google_cloud_platform__").unwrap_or(&key);
            match (short, &json) {
                ("project" | "project_id", _) => insert(fields, "project", text(Some(&json))),
                ("location", _) => insert(fields, "location", text(Some(&json))),
                ("keyfile_dict", Json::Object(_)) => {
                    fields.insert("service_account".to_owned(), Value::plain(json.to_string()));
                }
                ("keyfile_dict", _) => insert(fields, "service_account", text(Some(&json))),
                ("key_path" | "keyfile_path", _) => {
                    if let Some(path) = text(Some(&json)) {
                        fields.insert("service_account".to_owned(), Value::From(Reference::File(path)));
                    }
                }
                ("scope" | "num_retries", _) => {}
                _ if text(Some(&json)).is_none() => {}
                _ => taken.notes.push(format!("the extra `{key}` has no counterpart and was left out")),
            }
        }
        if !fields.contains_key("project") {
            let key = fields.get("service_account").and_then(Value::as_plain);
            let key = key.and_then(|text| serde_json::from_str::<Json>(text).ok());
            insert(fields, "project", key.and_then(|key| text(key.get("project_id"))));
        }
    }

    fn duckdb(self, taken: &mut Taken) {
        let fields = &mut taken.definition.fields;
        let file = self.extra.get("path").or_else(|| self.extra.get("file"));
        // `duckdb:///data/w.duckdb` has no host: its path, which is absolute, is what Airflow calls schema.
        let path = text(file).or(match (self.host, self.schema) {
            (Some(host), Some(schema)) => Some(format!("{host}/{schema}")),
            (None, Some(schema)) => Some(format!("/{schema}")),
            (host, None) => host,
        });
        insert(fields, "path", path.map(|path| decode(&path)));
    }
}

fn extra_object(extra: &Json) -> Result<Map<String, Json>, Vec<Fault>> {
    let wrong = || vec![Fault::of("", "its `extra` is no JSON object")];
    match extra {
        Json::Null => Ok(Map::new()),
        Json::Object(members) => Ok(members.clone()),
        Json::String(text) if text.trim().is_empty() => Ok(Map::new()),
        Json::String(text) => match serde_json::from_str(text) {
            Ok(Json::Object(members)) => Ok(members),
            Ok(_) | Err(_) => Err(wrong()),
        },
        Json::Bool(_) | Json::Number(_) | Json::Array(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> (Vec<String>, Vec<String>) {
        let taken = Airflow::from_uri(uri).and_then(Airflow::into_definition).expect(uri);
        let fields = taken.definition.fields.iter().map(|(key, value)| format!("{key}={}", value.to_json()));
        (fields.collect(), taken.notes)
    }

    #[test]
    fn http_has_its_protocol_in_the_schema_and_its_headers_in_the_extras() {
        let (fields, notes) =
            read("http://ann:p%40ss%2Fw@api.example.com:8443/https?X-Tenant=7&timeout=30&verify=false");
        let expected = [
            r#"headers={"X-Tenant":"7"}"#,
            r#"password="p@ss/w""#,
            r#"timeout="30s""#,
            r#"url="https://api.example.com:8443""#,
            r#"user="ann""#,
        ];
        assert_eq!(fields, expected);
        assert_eq!(notes, ["the extra `verify` has no counterpart and was left out"]);
        assert_eq!(read("http://https%3A%2F%2Fapi.example.com").0, [r#"url="https://api.example.com""#]);
        assert_eq!(read("http://https://api.example.com:80/").0, [r#"url="https://api.example.com:80""#]);
    }

    #[test]
    fn the_other_systems_find_their_fields() {
        assert_eq!(
            read("mongo://u:p%40@h:27017/app?srv=true&authSource=admin").0,
            [r#"database="app""#, r#"uri="mongodb+srv://u:p%40@h/?authSource=admin""#]
        );
        let extra = encode(r#"{"keyfile_dict": "{\"project_id\": \"p1\", \"private_key\": \"k\"}"}"#);
        let (fields, _) = read(&format!("google-cloud-platform://?__extra__={extra}"));
        assert_eq!(fields[0], r#"project="p1""#);
        let key_path = read("google-cloud-platform://?extra__google_cloud_platform__project=p&key_path=%2Fk.json").0;
        assert_eq!(key_path, [r#"project="p""#, r#"service_account={"file":"/k.json"}"#]);
        assert_eq!(read("duckdb:///data/w.duckdb").0, [r#"path="/data/w.duckdb""#]);
    }

    #[test]
    fn what_has_no_counterpart_says_so() {
        let faults = Airflow::from_uri("slack://:token@").and_then(Airflow::into_definition).expect_err("unknown");
        assert!(faults[0].message.contains("`slack`"));
        assert!(!knows("sqlite") && knows("google-cloud-platform"));
    }
}
