//! Connections with their secrets resolved: what the gear needs to reach one system.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::cost::Tariff;
use crate::secret::SecretString;

/// A named system and how to reach it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The name that pipelines use.
    pub name: String,
    /// The system, with its settings.
    pub kind: ConnectionKind,
}

/// The systems that a connection can lead to.
#[derive(Debug, Clone)]
pub enum ConnectionKind {
    /// An HTTP API.
    Http(HttpConnection),
    /// A DuckDB file, the embedded warehouse.
    DuckDb(DuckDbConnection),
    /// A PostgreSQL server.
    Postgres(ServerConnection),
    /// A MySQL or MariaDB server.
    MySql(ServerConnection),
    /// A MongoDB deployment.
    MongoDb(MongoDbConnection),
    /// A BigQuery project.
    BigQuery(BigQueryConnection),
    /// A folder, a bucket or a web server with files.
    Files(FilesConnection),
    /// A server that sends mail.
    Smtp(SmtpConnection),
    /// What a program wants to know: any fields.
    Process,
}

impl ConnectionKind {
    /// The word that stands behind `type =`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::DuckDb(_) => "duckdb",
            Self::Postgres(_) => "postgres",
            Self::MySql(_) => "mysql",
            Self::MongoDb(_) => "mongodb",
            Self::BigQuery(_) => "bigquery",
            Self::Files(_) => "files",
            Self::Smtp(_) => "smtp",
            Self::Process => "process",
        }
    }
}

/// An HTTP API: its address, who we are there, and how hard it may be pressed.
#[derive(Debug, Clone)]
pub struct HttpConnection {
    /// The address that request paths are appended to, without a trailing slash.
    pub url: String,
    /// Who we are.
    pub auth: Auth,
    /// Headers sent with every request; values may be secrets.
    pub headers: BTreeMap<String, SecretString>,
    /// At most this many requests in a period, over all pipelines of the process.
    pub rate: Option<Rate>,
    /// At most this many requests under way at once, over all pipelines of the process.
    pub max_concurrent: usize,
    /// The time for one page, from the first byte sent to the last byte read.
    pub timeout: Duration,
    /// The path that `haul connections test` asks for.
    pub test_path: Option<String>,
    /// The certificate that says who we are below HTTP.
    pub certificate: Option<ClientCertificate>,
    /// Certificates in PEM of authorities that are believed besides those of the system.
    pub authorities: Option<String>,
}

/// A client's certificate, for mutual TLS.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The certificate in PEM, with those that vouch for it.
    pub certificate: String,
    /// Its private key in PEM.
    pub key: SecretString,
}

/// A number of requests in a period: `"10/s"`, `"600/m"`, `"1000/h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many requests.
    pub requests: std::num::NonZeroU32,
    /// In how long a time.
    pub per: Duration,
}

/// How a request says who we are.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// User and password (RFC 7617).
    Basic {
        /// The user's name.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A token in the `Authorization` header (RFC 6750).
    Bearer {
        /// The token.
        token: SecretString,
    },
    /// A key in a header or in the query.
    ApiKey {
        /// Where the key goes.
        place: KeyPlace,
        /// The key.
        key: SecretString,
    },
    /// A token fetched from a token endpoint (RFC 6749) and renewed before it ends.
    OAuth2(OAuth2),
    /// A signature of the request in the way of AWS, version 4.
    SigV4(SigV4),
    /// A signature of what the API wants to have signed.
    Hmac(Hmac),
    /// A token that a login call returns.
    Login(Login),
}

/// How requests are signed for AWS (Signature Version 4).
#[derive(Debug, Clone)]
pub struct SigV4 {
    /// The service, such as `execute-api`.
    pub service: String,
    /// The region, such as `eu-west-1`.
    pub region: String,
    /// The access key's identifier.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: SecretString,
    /// The token of temporary credentials.
    pub session_token: Option<SecretString>,
}

/// How requests are signed by a keyed digest (RFC 2104).
#[derive(Debug, Clone)]
pub struct Hmac {
    /// The identifier of the key, where the API wants to know it.
    pub key_id: Option<String>,
    /// The key, as bytes in the form that `secret_encoding` says.
    pub secret: SecretString,
    /// How the key is written.
    pub secret_encoding: SecretEncoding,
    /// The digest: 512 bits instead of 256.
    pub sha512: bool,
    /// Whether the signature is written in base64 instead of hexadecimal digits.
    pub base64: bool,
    /// What is signed, with placeholders such as `{timestamp}` and `{body}`.
    pub sign: String,
    /// Headers with placeholders, of which one has `{signature}`.
    pub send: BTreeMap<String, String>,
    /// Parameters of the query with placeholders.
    pub send_query: BTreeMap<String, String>,
}

/// How the key of a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretEncoding {
    /// Its characters are the key.
    Text,
    /// In base64.
    Base64,
    /// In hexadecimal digits.
    Hex,
}

/// A call that returns a session's token.
#[derive(Debug, Clone)]
pub struct Login {
    /// Appended to the connection's address, or a whole URL.
    pub path: String,
    /// The members of a JSON body.
    pub body: BTreeMap<String, SecretString>,
    /// The fields of a form, in the place of a JSON body.
    pub form: BTreeMap<String, SecretString>,
    /// Where the answer has the token.
    pub token_at: TokenAt,
    /// Where the token goes; into the `Authorization` header where nothing is said.
    pub place: Option<TokenPlace>,
    /// How long a token is good for, where that is known.
    pub ttl: Option<Duration>,
}

/// Where the answer to a login has the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenAt {
    /// At this JSONPath.
    Body(String),
    /// In this header.
    Header(String),
    /// In this cookie.
    Cookie(String),
}

/// Where a session's token goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenPlace {
    /// Into this header.
    Header(String),
    /// Into this parameter of the query.
    Query(String),
    /// Into this cookie.
    Cookie(String),
}

/// Where an API key goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// In this header.
    Header(String),
    /// In this parameter of the query.
    Query(String),
}

/// A client of an OAuth 2 token endpoint.
#[derive(Debug, Clone)]
pub struct OAuth2 {
    /// How a token is asked for.
    pub grant: Grant,
    /// The token endpoint.
    pub token_url: String,
    /// The client.
    pub client_id: String,
    /// The client's secret; public clients have none.
    pub client_secret: Option<SecretString>,
    /// The scopes asked for, separated by spaces.
    pub scope: Option<String>,
    /// Further parameters of the token request, such as `audience`.
    pub extra: BTreeMap<String, String>,
}

/// How an OAuth 2 token is asked for.
#[derive(Debug, Clone)]
pub enum Grant {
    /// With the client's own credentials (RFC 6749, section 4.4).
    ClientCredentials,
    /// With a refresh token, which the endpoint may replace at every use (RFC 6749, section 6).
    RefreshToken(SecretString),
}

/// A DuckDB database in a file.
#[derive(Debug, Clone)]
pub struct DuckDbConnection {
    /// The file, already resolved against the project's root; `:memory:` for none.
    pub path: PathBuf,
    /// How much memory DuckDB may use, as DuckDB writes it: `256MB`.
    pub memory_limit: String,
    /// How many threads DuckDB may use; all cores when not given.
    pub threads: Option<usize>,
}

/// A database server reached by host, port, user and database.
#[derive(Debug, Clone)]
pub struct ServerConnection {
    /// The host's name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The password, where one is needed.
    pub password: Option<SecretString>,
    /// The database.
    pub database: String,
    /// Whether and how TLS is used: `disable`, `prefer`, `require`, `verify-full`.
    pub tls: Tls,
    /// How long one statement may run, on PostgreSQL; as the server says when not given.
    pub statement_timeout: Option<Duration>,
    /// How long a statement may wait for a lock, on PostgreSQL; as the server says when not given.
    pub lock_timeout: Option<Duration>,
}

/// Whether and how a connection to a database server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Always, whoever the server is.
    Require,
    /// Always, and the server's name is verified.
    VerifyFull,
}

/// A MongoDB deployment.
#[derive(Debug, Clone)]
pub struct MongoDbConnection {
    /// The connection string, credentials and all.
    pub uri: SecretString,
    /// The database.
    pub database: String,
}

/// A BigQuery project.
#[derive(Debug, Clone)]
pub struct BigQueryConnection {
    /// The project that pays for jobs.
    pub project: String,
    /// Where datasets are created and jobs run, such as `EU`.
    pub location: Option<String>,
    /// Credentials as JSON: a service account's key, or what gcloud writes.
    pub service_account: Option<SecretString>,
    /// The application default credentials of the environment, as JSON, where the connection has none of its own.
    pub default_credentials: Option<SecretString>,
    /// Host, or host and port, of the metadata server that tells a machine of Google's who it is; Google's own if not given.
    pub metadata_host: Option<String>,
    /// The service account in whose name everything is done.
    pub impersonate: Option<String>,
    /// Where large uploads go first: bucket, and what names begin with; without slashes around it.
    pub stage_bucket: Option<(String, String)>,
    /// Uploads of more bytes go there.
    pub stage_above: u64,
    /// Whether rows are compressed on their way.
    pub compress: bool,
    /// The longest that a job may take.
    pub job_timeout: Duration,
    /// Another address of the REST service, for an emulator.
    pub endpoint: Option<String>,
    /// What its queries cost.
    pub tariff: Tariff,
    /// Another address of Google Cloud Storage, for an emulator.
    pub storage_endpoint: Option<String>,
}

/// A server that sends mail, by SMTP (RFC 5321).
#[derive(Debug, Clone)]
pub struct SmtpConnection {
    /// The host's name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// User and password, where the server wants to know them.
    pub login: Option<(String, SecretString)>,
    /// Whom the mail is from: `haul <haul@example.com>`.
    pub from: String,
    /// Whether and how it is encrypted.
    pub tls: MailTls,
    /// Certificates in PEM of authorities that are believed besides those of the system.
    pub authorities: Option<String>,
    /// How long the server may take.
    pub timeout: Duration,
}

/// Whether and how mail is encrypted on its way to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// After a plain greeting (RFC 3207), and never without.
    StartTls,
    /// From the first byte on (RFC 8314).
    Tls,
    /// Not at all.
    None,
}

/// A place with files.
#[derive(Debug, Clone)]
pub struct FilesConnection {
    /// The place as it is written, for messages; never with a secret in it.
    pub url: String,
    /// Where that is, and who we are there.
    pub place: FilesPlace,
}

/// Where files lie.
#[derive(Debug, Clone)]
pub enum FilesPlace {
    /// In a folder, already resolved against the project's root.
    Folder(PathBuf),
    /// In a bucket of Amazon S3, or of a service that speaks like it.
    S3(S3Bucket),
    /// In a bucket of Google Cloud Storage.
    Gcs(GcsBucket),
    /// On a web server, which lists nothing.
    Web(WebFolder),
}

/// A bucket of Amazon S3.
#[derive(Debug, Clone)]
pub struct S3Bucket {
    /// The bucket's name.
    pub bucket: String,
    /// What all names begin with, without slashes around it; may be empty.
    pub prefix: String,
    /// The region; `us-east-1` when not given.
    pub region: Option<String>,
    /// The access key and its secret; the machine's own role when not given.
    pub keys: Option<(String, SecretString)>,
    /// The token of a temporary key.
    pub session_token: Option<SecretString>,
    /// Another service's address.
    pub endpoint: Option<String>,
    /// Whether requests are not signed.
    pub anonymous: bool,
}

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone)]
pub struct GcsBucket {
    /// The bucket's name.
    pub bucket: String,
    /// What all names begin with, without slashes around it; may be empty.
    pub prefix: String,
    /// The service account's key as JSON; application default credentials when not given.
    pub service_account: Option<SecretString>,
    /// Another address of the service, for an emulator.
    pub endpoint: Option<String>,
    /// Whether requests say nothing of who we are.
    pub anonymous: bool,
}

/// A folder of a web server.
#[derive(Debug, Clone)]
pub struct WebFolder {
    /// Its address, without a trailing slash.
    pub url: String,
    /// User and password (RFC 7617).
    pub login: Option<(String, SecretString)>,
    /// A token for the `Authorization` header (RFC 6750).
    pub token: Option<SecretString>,
    /// Headers sent with every request; values may be secrets.
    pub headers: BTreeMap<String, SecretString>,
}

impl BigQueryConnection {
    /// Whether the address is Google's own: an emulator's is not, and gets no credentials but those of the connection.
    pub fn is_google(&self) -> bool {
        let Some(endpoint) = &self.endpoint else { return true };
        let host = endpoint.strip_prefix("https://").map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
        host.is_some_and(|host| host.ends_with(".googleapis.com"))
    }
}

impl fmt::Display for ConnectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}
