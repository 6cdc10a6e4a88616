//! The twin of `connections.toml`: every type of connection with its keys, and where a secret may come from.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Source, quoted};
use super::reader::{At, Read, Reader, Required, Span, Twin, describe, twin};
use super::scalar::{Count, Entries, read_word, words};
use super::server::{PostgresTable, ServerTable, SmtpTable};
use super::value::{ByteSize, TypedDuration, one_key_of};

/// A value that may be a secret: the text itself, or where it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretValue {
    /// The text itself.
    Plain(String),
    /// In this variable of the environment.
    Env(String),
    /// In this file.
    File(String),
    /// What this command prints.
    Command(String),
}

const SECRET_KEYS: &[&str] = &["env", "file", "command"];

impl Read for SecretValue {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            let Some(text) = value.get_ref().as_str() else {
                // What was written may be a secret: its type is told, the value is not.
                let found = describe(value.get_ref());
                let message =
                    format!("`{}` has to be a text or a table that says where it is, not {found}", reader.path());
                reader.error("wrong-type", value.span(), message);
                return None;
            };
            return Some(Self::Plain(text.to_owned()));
        };
        let entry = table.iter().next().filter(|_| table.len() == 1);
        let Some((key, inner)) = entry.filter(|(key, _)| SECRET_KEYS.contains(&key.get_ref().as_ref())) else {
            let message = format!("`{}` has to say one place of the secret", reader.path());
            let help = one_key_of(table, SECRET_KEYS).unwrap_or_else(|| format!("one of {}", quoted(SECRET_KEYS)));
            reader.error("bad-secret", value.span(), message).help = Some(help);
            return None;
        };
        let place = reader.within(key.get_ref(), |reader| String::read(inner, reader))?;
        Some(match key.get_ref().as_ref() {
            "env" => Self::Env(place),
            "file" => Self::File(place),
            _ => Self::Command(place),
        })
    }
}

impl JsonSchema for SecretValue {
    fn schema_name() -> Cow<'static, str> {
        "SecretValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let place = |key: &str, what: &str| {
            serde_json::json!({
                "type": "object",
                "properties": { key: { "type": "string", "description": what } },
                "required": [key],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "The text itself, or where it is found.",
            "anyOf": [
                { "type": "string" },
                place("env", "A variable of the environment."),
                place("file", "A file."),
                place("command", "A command that prints it."),
            ],
        })
    }
}

/// The types of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum TypeWord {
    Http,
    DuckDb,
    Postgres,
    MySql,
    MongoDb,
    BigQuery,
    Process,
    Files,
    Smtp,
}

/// The ways to say who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthType {
    /// Not at all.
    None,
    /// User and password.
    Basic,
    /// A token.
    Bearer,
    /// A key in a header or in the query.
    ApiKey,
    /// OAuth 2 with the client's own credentials.
    ClientCredentials,
    /// OAuth 2 with a refresh token.
    RefreshToken,
    /// A signature in the way of AWS, version 4.
    #[serde(rename = "sigv4")]
    SigV4,
    /// A signature of what the API wants to have signed.
    Hmac,
    /// A token that a login call returns.
    Login,
}

/// Whether and how a connection to a server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsWord {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Always, whoever the server is.
    Require,
    /// Always, and the server's name is verified.
    VerifyFull,
}

/// The ways to say who we are, when the keys for it stand beside `url`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthWord {
    /// Not at all.
    None,
    /// User and password.
    Basic,
    /// A token.
    Bearer,
    /// A key in a header or in the query.
    ApiKey,
    /// OAuth 2, as `grant` says.
    Oauth2,
    /// A signature in the way of AWS, version 4.
    #[serde(rename = "sigv4")]
    SigV4,
    /// A signature of what the API wants to have signed.
    Hmac,
    /// A token that a login call returns.
    Login,
}

/// How an OAuth 2 token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantWord {
    /// With the client's own credentials.
    ClientCredentials,
    /// With a refresh token.
    RefreshToken,
}

words!(AuthType, AuthWord, GrantWord, TlsWord);

/// `auth` of an HTTP API.
#[derive(Debug, Clone, JsonSchema)]
#[serde(untagged)]
pub enum AuthValue {
    /// The way and its keys.
    Table(Box<AuthTable>),
    /// Only the way.
    Word(AuthWord),
}

impl Read for AuthValue {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        if value.get_ref().is_table() {
            return AuthTable::read(value, reader).map(|table| Self::Table(Box::new(table)));
        }
        AuthWord::read(value, reader).map(Self::Word)
    }
}

twin! {
    /// An HTTP API.
    pub struct HttpTable {
        /// Always `"http"`.
        pub r#type: Required<String>,
        /// The address that request paths are appended to.
        pub url: Required<SecretValue>,
        /// Who we are: a table, or the word for the keys of that table when they stand beside `url`. Default: seen from those.
        pub auth: Option<At<AuthValue>>,
        /// Headers sent with every request.
        pub headers: Option<At<Entries<SecretValue>>>,
        /// At most so many requests in a period: `"10/s"`, `"600/m"`, `"1000/h"`.
        pub rate: Option<At<String>>,
        /// At most so many requests under way at once. Default 8.
        pub max_concurrent: Option<At<Count>>,
        /// The time for one page. Default `"60s"`.
        pub timeout: Option<At<TypedDuration>>,
        /// The path that `haul connections test` asks for.
        pub test_path: Option<At<SecretValue>>,
        /// Our certificate in PEM, for mutual TLS, with those that vouch for it.
        pub client_cert: Option<At<SecretValue>>,
        /// The certificate's private key in PEM.
        pub client_key: Option<At<SecretValue>>,
        /// Certificates in PEM of authorities that are believed besides those of the system.
        pub ca: Option<At<SecretValue>>,
        /// The user (`basic`).
        pub user: Option<At<SecretValue>>,
        /// The password (`basic`).
        pub password: Option<At<SecretValue>>,
        /// The token (`bearer`).
        pub token: Option<At<SecretValue>>,
        /// The key (`api_key`).
        pub key: Option<At<SecretValue>>,
        /// The header that the key goes into (`api_key`), or the token (`login`).
        pub header: Option<At<SecretValue>>,
        /// The parameter of the query that the key goes into (`api_key`), or the token (`login`).
        pub query: Option<At<SecretValue>>,
        /// The token endpoint (OAuth 2).
        pub token_url: Option<At<SecretValue>>,
        /// The client (OAuth 2).
        pub client_id: Option<At<SecretValue>>,
        /// The client's secret (OAuth 2).
        pub client_secret: Option<At<SecretValue>>,
        /// The refresh token (`refresh_token`).
        pub refresh_token: Option<At<SecretValue>>,
        /// The scopes asked for, separated by spaces (OAuth 2).
        pub scope: Option<At<SecretValue>>,
        /// Further parameters of the token request, such as `audience` (OAuth 2).
        pub extra: Option<At<Entries<SecretValue>>>,
        /// The service whose requests are signed, such as `"execute-api"` (`sigv4`).
        pub service: Option<At<SecretValue>>,
        /// The region, such as `"eu-west-1"` (`sigv4`).
        pub region: Option<At<SecretValue>>,
        /// The access key's identifier (`sigv4`).
        pub access_key: Option<At<SecretValue>>,
        /// The secret access key (`sigv4`).
        pub secret_key: Option<At<SecretValue>>,
        /// The token of temporary credentials (`sigv4`).
        pub session_token: Option<At<SecretValue>>,
        /// The identifier of the key (`hmac`).
        pub key_id: Option<At<SecretValue>>,
        /// The key of the signature (`hmac`).
        pub secret: Option<At<SecretValue>>,
        /// How the key is written: `"text"` (the default), `"base64"` or `"hex"` (`hmac`).
        pub secret_encoding: Option<At<String>>,
        /// The digest: `"sha256"` (the default) or `"sha512"` (`hmac`).
        pub algorithm: Option<At<String>>,
        /// How the signature is written: `"hex"` (the default) or `"base64"` (`hmac`).
        pub encoding: Option<At<String>>,
        /// What is signed, with placeholders such as `{timestamp}`, `{method}`, `{path}`, `{query}` and `{body}` (`hmac`).
        pub sign: Option<At<SecretValue>>,
        /// Headers with placeholders, of which one is `{signature}` (`hmac`).
        pub send: Option<At<Entries<SecretValue>>>,
        /// Parameters of the query with placeholders (`hmac`).
        pub send_query: Option<At<Entries<SecretValue>>>,
        /// The path of the login (`login`).
        pub path: Option<At<SecretValue>>,
        /// The members of the login's JSON body (`login`).
        pub body: Option<At<Entries<SecretValue>>>,
        /// The fields of the login's form (`login`).
        pub form: Option<At<Entries<SecretValue>>>,
        /// Where the login's answer has the token: `"$.token"`, `"header X-Session"` or `"cookie sid"` (`login`).
        pub token_at: Option<At<SecretValue>>,
        /// The cookie that the token goes into (`login`).
        pub cookie: Option<At<SecretValue>>,
        /// How long a token is good for (`login`).
        pub ttl: Option<At<TypedDuration>>,
        /// How a token is asked for (OAuth 2). Default: by the refresh token if there is one.
        pub grant: Option<At<GrantWord>>,
    }
}

twin! {
    /// Who we are at an HTTP API.
    pub struct AuthTable {
        /// How we say it.
        pub r#type: Required<AuthType>,
        /// The user (`basic`).
        pub user: Option<At<SecretValue>>,
        /// The password (`basic`).
        pub password: Option<At<SecretValue>>,
        /// The token (`bearer`).
        pub token: Option<At<SecretValue>>,
        /// The key (`api_key`).
        pub key: Option<At<SecretValue>>,
        /// The header that the key goes into (`api_key`), or the token (`login`).
        pub header: Option<At<SecretValue>>,
        /// The parameter of the query that the key goes into (`api_key`), or the token (`login`).
        pub query: Option<At<SecretValue>>,
        /// The token endpoint (OAuth 2).
        pub token_url: Option<At<SecretValue>>,
        /// The client (OAuth 2).
        pub client_id: Option<At<SecretValue>>,
        /// The client's secret (OAuth 2).
        pub client_secret: Option<At<SecretValue>>,
        /// The refresh token (`refresh_token`).
        pub refresh_token: Option<At<SecretValue>>,
        /// The scopes asked for, separated by spaces (OAuth 2).
        pub scope: Option<At<SecretValue>>,
        /// Further parameters of the token request, such as `audience` (OAuth 2).
        pub extra: Option<At<Entries<SecretValue>>>,
        /// The service whose requests are signed, such as `"execute-api"` (`sigv4`).
        pub service: Option<At<SecretValue>>,
        /// The region, such as `"eu-west-1"` (`sigv4`).
        pub region: Option<At<SecretValue>>,
        /// The access key's identifier (`sigv4`).
        pub access_key: Option<At<SecretValue>>,
        /// The secret access key (`sigv4`).
        pub secret_key: Option<At<SecretValue>>,
        /// The token of temporary credentials (`sigv4`).
        pub session_token: Option<At<SecretValue>>,
        /// The identifier of the key (`hmac`).
        pub key_id: Option<At<SecretValue>>,
        /// The key of the signature (`hmac`).
        pub secret: Option<At<SecretValue>>,
        /// How the key is written: `"text"` (the default), `"base64"` or `"hex"` (`hmac`).
        pub secret_encoding: Option<At<String>>,
        /// The digest: `"sha256"` (the default) or `"sha512"` (`hmac`).
        pub algorithm: Option<At<String>>,
        /// How the signature is written: `"hex"` (the default) or `"base64"` (`hmac`).
        pub encoding: Option<At<String>>,
        /// What is signed, with placeholders such as `{timestamp}`, `{method}`, `{path}`, `{query}` and `{body}` (`hmac`).
        pub sign: Option<At<SecretValue>>,
        /// Headers with placeholders, of which one is `{signature}` (`hmac`).
        pub send: Option<At<Entries<SecretValue>>>,
        /// Parameters of the query with placeholders (`hmac`).
        pub send_query: Option<At<Entries<SecretValue>>>,
        /// The path of the login (`login`).
        pub path: Option<At<SecretValue>>,
        /// The members of the login's JSON body (`login`).
        pub body: Option<At<Entries<SecretValue>>>,
        /// The fields of the login's form (`login`).
        pub form: Option<At<Entries<SecretValue>>>,
        /// Where the login's answer has the token: `"$.token"`, `"header X-Session"` or `"cookie sid"` (`login`).
        pub token_at: Option<At<SecretValue>>,
        /// The cookie that the token goes into (`login`).
        pub cookie: Option<At<SecretValue>>,
        /// How long a token is good for (`login`).
        pub ttl: Option<At<TypedDuration>>,
    }
}

twin! {
    /// A DuckDB file, the embedded warehouse.
    pub struct DuckDbTable {
        /// Always `"duckdb"`.
        pub r#type: Required<String>,
        /// The file, relative to the project; `":memory:"` for none.
        pub path: Required<SecretValue>,
        /// How much memory DuckDB may use: `"256MB"`.
        pub memory_limit: Option<At<SecretValue>>,
        /// How many threads DuckDB may use. Default: one for each core.
        pub threads: Option<At<Count>>,
    }
}

twin! {
    /// A MongoDB deployment.
    pub struct MongoDbTable {
        /// Always `"mongodb"`.
        pub r#type: Required<String>,
        /// The connection string.
        pub uri: Required<SecretValue>,
        /// The database.
        pub database: Required<SecretValue>,
    }
}

twin! {
    /// A BigQuery project.
    pub struct BigQueryTable {
        /// Always `"bigquery"`.
        pub r#type: Required<String>,
        /// The project that pays for jobs.
        pub project: Required<SecretValue>,
        /// Where datasets are created and jobs run: `"EU"`.
        pub location: Option<At<SecretValue>>,
        /// Credentials as JSON: a service account's key, what gcloud writes, or workload identity federation. Default:
        /// application default credentials.
        pub service_account: Option<At<SecretValue>>,
        /// The service account in whose name everything is done: `"loader@my-project.iam.gserviceaccount.com"`. The credentials'
        /// own account needs the role Service Account Token Creator on it.
        pub impersonate: Option<At<SecretValue>>,
        /// Where large uploads go first: `"gs://my-bucket/haul"`. Default: nothing goes through a bucket.
        pub stage_bucket: Option<At<SecretValue>>,
        /// Uploads of more bytes go through `stage_bucket`. Default `"256 MB"`.
        pub stage_above: Option<At<ByteSize>>,
        /// Whether rows are compressed on their way. Default true; an emulator may not read them then.
        pub compress: Option<At<bool>>,
        /// The longest that a job may take. Default `"6h"`.
        pub job_timeout: Option<At<TypedDuration>>,
        /// Another address of the REST service, for an emulator.
        pub endpoint: Option<At<SecretValue>>,
        /// What queries cost, by which plans and `haul costs` tell money. Default `"6.25 USD"`, Google's list price on
        /// demand in the US and EU multi-regions; `"0 USD"` where slots are reserved.
        pub price_per_tib: Option<At<SecretValue>>,
        /// Another address of Google Cloud Storage, for an emulator.
        pub storage_endpoint: Option<At<SecretValue>>,
    }
}

twin! {
    /// A folder, a bucket or a web server with files.
    pub struct FilesTable {
        /// Always `"files"`.
        pub r#type: Required<String>,
        /// Where: a folder (`"file:///data/landing"`, or relative to the project), `"s3://bucket/prefix"`,
        /// `"gs://bucket/prefix"` or `"https://host/path"`.
        pub url: Required<SecretValue>,
        /// The region (`s3://`). Default: `AWS_REGION`, else `us-east-1`.
        pub region: Option<At<SecretValue>>,
        /// The access key (`s3://`). Default: `AWS_ACCESS_KEY_ID` with its secret, else the machine's own role.
        pub access_key: Option<At<SecretValue>>,
        /// The secret of the access key (`s3://`).
        pub secret_key: Option<At<SecretValue>>,
        /// The token of a temporary key (`s3://`).
        pub session_token: Option<At<SecretValue>>,
        /// The service account's key as JSON (`gs://`). Default: application default credentials.
        pub service_account: Option<At<SecretValue>>,
        /// Another address of the service (`s3://`, `gs://`): MinIO and its like, or an emulator.
        pub endpoint: Option<At<SecretValue>>,
        /// Whether requests say nothing of who we are (`s3://`, `gs://`): for public buckets. Default false.
        pub anonymous: Option<At<bool>>,
        /// The user (`https://`).
        pub user: Option<At<SecretValue>>,
        /// The password (`https://`).
        pub password: Option<At<SecretValue>>,
        /// A token for the `Authorization` header (`https://`).
        pub token: Option<At<SecretValue>>,
        /// Headers sent with every request (`https://`).
        pub headers: Option<At<Entries<SecretValue>>>,
    }
}

/// One connection of `connections.toml`, as it is written.
#[derive(Debug, Clone)]
pub enum ConnectionTable {
    /// An HTTP API.
    Http(Box<HttpTable>),
    /// A DuckDB file.
    DuckDb(DuckDbTable),
    /// A PostgreSQL server.
    Postgres(PostgresTable),
    /// A MySQL or MariaDB server.
    MySql(ServerTable),
    /// A MongoDB deployment.
    MongoDb(MongoDbTable),
    /// A BigQuery project.
    BigQuery(BigQueryTable),
    /// What a program wants to know.
    Process,
    /// Files.
    Files(Box<FilesTable>),
    /// A mail server.
    Smtp(SmtpTable),
}

impl Read for ConnectionTable {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            reader.wrong_type(value, "a table with a `type`");
            return None;
        };
        let Some(kind) = table.get("type") else {
            let message = format!("the connection `{}` has no `type`", reader.path());
            reader.error("missing-key", value.span(), message).help = Some(
                "one of `http`, `duckdb`, `postgres`, `mysql`, `mongodb`, `bigquery`, `files`, `smtp`, `process`"
                    .to_owned(),
            );
            return None;
        };
        let span = value.span();
        Some(match reader.within("type", |reader| read_word(kind, reader))? {
            TypeWord::Http => Self::Http(Box::new(HttpTable::read_table(table, span, reader))),
            TypeWord::DuckDb => Self::DuckDb(DuckDbTable::read_table(table, span, reader)),
            TypeWord::Postgres => Self::Postgres(PostgresTable::read_table(table, span, reader)),
            TypeWord::MySql => Self::MySql(ServerTable::read_table(table, span, reader)),
            TypeWord::MongoDb => Self::MongoDb(MongoDbTable::read_table(table, span, reader)),
            TypeWord::Process => {
                for (key, value) in table.iter().filter(|(key, _)| key.get_ref() != "type") {
                    reader.within(key.get_ref(), |reader| check_places(value, reader));
                }
                Self::Process
            }
            TypeWord::BigQuery => Self::BigQuery(BigQueryTable::read_table(table, span, reader)),
            TypeWord::Files => Self::Files(Box::new(FilesTable::read_table(table, span, reader))),
            TypeWord::Smtp => Self::Smtp(SmtpTable::read_table(table, span, reader)),
        })
    }
}

/// Reports the tables that look like the place of a secret and are none.
fn check_places(value: &Spanned<DeValue<'_>>, reader: &mut Reader) {
    match value.get_ref() {
        DeValue::Table(table)
            if table.len() == 1 && table.keys().any(|key| SECRET_KEYS.contains(&&**key.get_ref())) =>
        {
            let _ = SecretValue::read(value, reader);
        }
        DeValue::Table(table) => {
            for (key, value) in table {
                reader.within(key.get_ref(), |reader| check_places(value, reader));
            }
        }
        DeValue::Array(items) => items.iter().for_each(|item| check_places(item, reader)),
        _ => {}
    }
}

impl JsonSchema for ConnectionTable {
    fn schema_name() -> Cow<'static, str> {
        "Connection".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let of = |names: &[&str], mut table: Schema| {
            table.insert("properties".to_owned(), with_type(&table, names));
            table
        };
        json_schema!({ "oneOf": [
            of(&["http"], HttpTable::json_schema(generator)),
            of(&["duckdb"], DuckDbTable::json_schema(generator)),
            of(&["postgres"], PostgresTable::json_schema(generator)),
            of(&["mysql"], ServerTable::json_schema(generator)),
            of(&["mongodb"], MongoDbTable::json_schema(generator)),
            of(&["bigquery"], BigQueryTable::json_schema(generator)),
            of(&["files"], FilesTable::json_schema(generator)),
            of(&["smtp"], SmtpTable::json_schema(generator)),
            json_schema!({
                "description": "What a program wants to know: any fields, any of whose values may be the place of a secret.",
                "type": "object",
                "properties": { "type": { "enum": ["process"] } },
                "required": ["type"],
            }),
        ] })
    }
}

/// The properties of a table, of which `type` has one of these values.
fn with_type(table: &Schema, names: &[&str]) -> serde_json::Value {
    let mut properties = table.get("properties").cloned().unwrap_or_default();
    properties["type"] = serde_json::json!({ "enum": names });
    properties
}

/// All of `connections.toml`: tables by the names of the connections.
#[derive(Debug, Clone, Default)]
pub struct ConnectionsFile {
    /// The connections in the order of the file.
    pub connections: Vec<(At<String>, At<ConnectionTable>)>,
}

impl Twin for ConnectionsFile {
    const KEYS: &'static [&'static str] = &[];

    fn read_table(table: &DeTable<'_>, _span: Span, reader: &mut Reader) -> Self {
        let entry = |(key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            let name = At { value: key.get_ref().to_string(), span: key.span() };
            reader.within(key.get_ref(), |reader| At::read(value, reader)).map(|value| (name, value))
        };
        Self { connections: table.iter().filter_map(entry).collect() }
    }
}

impl JsonSchema for ConnectionsFile {
    fn schema_name() -> Cow<'static, str> {
        "ConnectionsFile".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`connections.toml`: one table for each connection, by its name.",
            "type": "object",
            "additionalProperties": generator.subschema_for::<ConnectionTable>(),
        })
    }
}

/// Reads the text of `connections.toml` without resolving any secret.
pub fn read_connections(source: &Arc<Source>) -> (ConnectionsFile, Vec<Diagnostic>) {
    let mut reader = Reader::new(source.clone());
    let (file, _) = reader.read_file();
    (file, reader.diagnostics)
}
