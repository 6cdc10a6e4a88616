//! Trying a connection alone: really connects, and says what was tried.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::dataset::ListOptions;
use gcp_bigquery_client::error::BQError;
use serde::Serialize;
use sqlx::Connection as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};

use super::gear::Keeper;
use crate::connections::Connections;
use crate::error::{Context, Error, Kind, Result};
use crate::extract::HttpClient;
use crate::model::connection::{
    Auth, BigQueryConnection, Connection, ConnectionKind, Grant, HttpConnection, MongoDbConnection, ServerConnection,
    Tls,
};
use crate::secret::{ExposeSecret, Redactor, SecretString};
use crate::time::Clock;
use crate::warehouse::Warehouse;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a service account's key has to be.
const KEY_HINT: &str = "it is the JSON that Google's console downloads: service_account = { file = \"key.json\" }";

/// What trying a connection showed.
#[derive(Debug, Clone, Serialize)]
pub struct Probed {
    /// The connection's name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// What was done, one sentence each.
    pub tried: Vec<String>,
    /// What the other side answered.
    pub answer: String,
    /// What the answer does not prove, and how to prove it.
    pub note: Option<String>,
}

/// Connects to a system, proves who we are, and asks for something small.
///
/// # Errors
/// The connection cannot be resolved, the other side cannot be reached or refuses us; the hints say what to look at.
pub async fn probe(connections: &Connections, name: &str, redactor: &Redactor, clock: Clock) -> Result<Probed> {
    let connection = connections.get(name)?;
    let mut probed = Probed {
        name: name.to_owned(),
        kind: connection.kind.type_name().to_owned(),
        tried: Vec::new(),
        answer: String::new(),
        note: None,
    };
    let answer = match &connection.kind {
        ConnectionKind::Http(settings) => http(connections, name, settings, redactor, clock, &mut probed).await,
        ConnectionKind::DuckDb(_) => duckdb(&connection, &mut probed).await,
        ConnectionKind::Postgres(server) => within(postgres(server, &mut probed)).await,
        ConnectionKind::MySql(server) => within(mysql(server, &mut probed)).await,
        ConnectionKind::MongoDb(settings) => within(mongodb(settings, &mut probed)).await,
        ConnectionKind::Process => program(connections, name, &mut probed),
        ConnectionKind::BigQuery(settings) => within(bigquery(settings, &mut probed)).await,
    };
    probed.answer =
        redactor.redact(&answer.map_err(|error| error.while_doing(format!("testing the connection `{name}`")))?);
    Ok(probed)
}

/// A program is tried by what it brings: only its fields can be looked at here.
fn program(connections: &Connections, name: &str, probed: &mut Probed) -> Result<String> {
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(connections.fields(name)?.expose_secret())
            .map_err(|_| Error::internal("the fields of a connection are no JSON object"))?;
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    probed.tried.push(format!("resolved its fields: {}", names.join(", ")));
    probed.note = Some("what the program does with them is seen by `haul preview` of a step that runs it".to_owned());
    Ok("all of its fields are there".to_owned())
}

async fn within(answer: impl Future<Output = Result<String>>) -> Result<String> {
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| {
        Err(Error::new(Kind::Unavailable, format!("no answer within {} s", PATIENCE.as_secs()))
            .hint("is the address right, and does a firewall let us through?"))
    })
}

async fn http(
    connections: &Connections,
    name: &str,
    settings: &HttpConnection,
    redactor: &Redactor,
    clock: Clock,
    probed: &mut Probed,
) -> Result<String> {
    let keeper = Arc::new(Keeper::new(connections.clone()));
    let client = HttpClient::open(name, settings, keeper, redactor.clone(), clock)?;
    let path = settings.test_path.as_deref();
    let way = match &settings.auth {
        Auth::None => "without credentials",
        Auth::Basic { .. } => "with user and password",
        Auth::Bearer { .. } => "with a bearer token",
        Auth::ApiKey { .. } => "with an API key",
        Auth::OAuth2(client) => {
            let grant = match client.grant {
                Grant::ClientCredentials => "client credentials",
                Grant::RefreshToken(_) => "a refresh token",
            };
            probed.tried.push(format!("asked {} for a token by {grant}", client.token_url));
            "with that token"
        }
    };
    probed.tried.push(format!("asked GET {}{} {way}", client.url(), path.unwrap_or_default()));
    if path.is_none() {
        probed.note =
            Some("set `test_path` to a small page that needs credentials: then this proves them too".to_owned());
    }
    client.probe(path).await.map_err(|error| match error.kind() {
        Kind::Auth => error.hint("the server refuses who we are: compare `haul connections show` with what it expects"),
        Kind::Unavailable => error.hint("is the address right, is the server up, and does a proxy stand between?"),
        _ => error,
    })
}

async fn duckdb(connection: &Connection, probed: &mut Probed) -> Result<String> {
    if let ConnectionKind::DuckDb(settings) = &connection.kind {
        // A test leaves nothing behind, least of all an empty database at a mistyped path.
        if settings.path.as_os_str() != ":memory:" && !settings.path.exists() {
            probed.tried.push(format!("looked for {}", settings.path.display()));
            return Ok("there is no such file yet; the first run makes it".to_owned());
        }
        probed.tried.push(format!("opened {}", settings.path.display()));
    }
    let warehouse = Warehouse::open(connection).await?;
    let rows = warehouse.query("SELECT version(), (SELECT count(*) FROM duckdb_tables())", 1).await?;
    warehouse.close().await?;
    let cell = |at: usize| rows.rows.first().and_then(|row| row.get(at)).map(ToString::to_string).unwrap_or_default();
    Ok(format!("DuckDB {} with {} tables", cell(0).trim_matches('"'), cell(1)))
}

async fn postgres(server: &ServerConnection, probed: &mut Probed) -> Result<String> {
    let tls = match server.tls {
        Tls::Disable => PgSslMode::Disable,
        Tls::Prefer => PgSslMode::Prefer,
        Tls::Require => PgSslMode::Require,
        Tls::VerifyFull => PgSslMode::VerifyFull,
    };
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .database(&server.database)
        .ssl_mode(tls);
    if let Some(password) = &server.password {
        options = options.password(password.expose_secret());
    }
    probed.tried.push(login("PostgreSQL", server));
    let mut connection = PgConnection::connect_with(&options).await.map_err(|error| refused(&error, server))?;
    probed.tried.push("asked for its version".to_owned());
    let version: String = sqlx::query_scalar("SELECT version()")
        .fetch_one(&mut connection)
        .await
        .map_err(|error| refused(&error, server))?;
    let _ = connection.close().await;
    Ok(version)
}

async fn mysql(server: &ServerConnection, probed: &mut Probed) -> Result<String> {
    let tls = match server.tls {
        Tls::Disable => MySqlSslMode::Disabled,
        Tls::Prefer => MySqlSslMode::Preferred,
        Tls::Require => MySqlSslMode::Required,
        Tls::VerifyFull => MySqlSslMode::VerifyIdentity,
    };
    let mut options = MySqlConnectOptions::new()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .database(&server.database)
        .ssl_mode(tls);
    if let Some(password) = &server.password {
        options = options.password(password.expose_secret());
    }
    probed.tried.push(login("MySQL", server));
    let mut connection = MySqlConnection::connect_with(&options).await.map_err(|error| refused(&error, server))?;
    probed.tried.push("asked for its version".to_owned());
    let version: String = sqlx::query_scalar("SELECT version()")
        .fetch_one(&mut connection)
        .await
        .map_err(|error| refused(&error, server))?;
    let _ = connection.close().await;
    Ok(format!("MySQL {version}"))
}

fn login(system: &str, server: &ServerConnection) -> String {
    format!(
        "logged in to {system} at {}:{} as {} in the database {}",
        server.host, server.port, server.user, server.database
    )
}

/// What a database server's refusal means, by its class and not by its words.
fn refused(error: &sqlx::Error, server: &ServerConnection) -> Error {
    let place = format!("connecting to {}:{} as {}", server.host, server.port, server.user);
    let (kind, hint) = match error {
        sqlx::Error::Io(_) => (Kind::Unavailable, format!("is a server listening on {}:{}?", server.host, server.port)),
        sqlx::Error::Tls(_) => (
            Kind::Unavailable,
            "the server and `tls` do not agree; it is one of disable, prefer, require, verify-full".to_owned(),
        ),
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("28P01" | "28000") => (Kind::Auth, format!("is the password of {} right?", server.user)),
            Some("3D000") => (Kind::Connection, format!("there is no database `{}` on that server", server.database)),
            _ if error.message().contains("Access denied") => {
                (Kind::Auth, format!("is the password of {} right?", server.user))
            }
            _ => (Kind::Connection, "the server tells the reason above".to_owned()),
        },
        _ => (Kind::Connection, "does the server at that port speak this protocol?".to_owned()),
    };
    Error::new(kind, place).because(error.to_string()).hint(hint)
}

async fn mongodb(settings: &MongoDbConnection, probed: &mut Probed) -> Result<String> {
    let doing = || "connecting to MongoDB".to_owned();
    let mut options = mongodb::options::ClientOptions::parse(settings.uri.expose_secret()).await.map_err(|error| {
        Error::new(Kind::Connection, doing())
            .because(error.to_string())
            .hint("`uri` looks like mongodb://user:password@host:27017")
    })?;
    options.server_selection_timeout = Some(Duration::from_secs(5));
    let hosts: Vec<String> = options.hosts.iter().map(ToString::to_string).collect();
    probed.tried.push(format!("logged in to MongoDB at {}, database {}", hosts.join(", "), settings.database));
    let client = mongodb::Client::with_options(options).context(Kind::Connection, doing)?;
    let answer = client.database(&settings.database).run_command(mongodb::bson::doc! { "ping": 1 }).await;
    answer.map_err(|error| {
        let (kind, hint) = match &*error.kind {
            mongodb::error::ErrorKind::Authentication { .. } => {
                (Kind::Auth, "are user, password and `authSource` of `uri` right?")
            }
            _ => (Kind::Unavailable, "is a server listening there?"),
        };
        Error::new(kind, doing()).because(error.to_string()).hint(hint)
    })?;
    probed.tried.push("sent a ping".to_owned());
    Ok("MongoDB answered the ping".to_owned())
}

async fn bigquery(settings: &BigQueryConnection, probed: &mut Probed) -> Result<String> {
    let doing = || format!("connecting to BigQuery, project {}", settings.project);
    let mut builder = ClientBuilder::new();
    if let Some(endpoint) = &settings.endpoint {
        builder.with_v2_base_url(format!("{}/bigquery/v2", endpoint.trim_end_matches('/')));
    }
    let client = match (&settings.service_account, &settings.endpoint) {
        (Some(key), _) => {
            let key = service_account(key).map_err(|error| error.while_doing(doing()))?;
            probed.tried.push(format!("asked Google for a token as {}", key.client_email));
            builder.build_from_service_account_key(key, true).await
        }
        (None, Some(endpoint)) => {
            probed.tried.push(format!("called the emulator at {endpoint}"));
            builder.build_from_authenticator(Arc::new(Anyone)).await
        }
        (None, None) => {
            probed.tried.push("asked Google for a token by application default credentials".to_owned());
            builder.build_from_application_default_credentials().await
        }
    };
    let refused = |error: BQError| {
        let unreachable = matches!(&error, BQError::RequestError(_));
        let (kind, hint) = if unreachable {
            (Kind::Unavailable, "is googleapis.com reachable from here?")
        } else {
            (Kind::Auth, "does the account have the roles BigQuery Job User and BigQuery Data Editor in this project?")
        };
        Error::new(kind, doing()).because(error.to_string()).hint(hint)
    };
    let client = client.map_err(|error| match (&error, &settings.service_account) {
        (BQError::InvalidServiceAccountAuthenticator(_), Some(_)) => Error::new(Kind::Connection, doing())
            .because("the private key of `service_account` cannot be read")
            .hint(KEY_HINT),
        _ => refused(error),
    })?;
    probed.tried.push("listed the project's datasets".to_owned());
    let datasets = client.dataset().list(&settings.project, ListOptions::default()).await.map_err(refused)?;
    Ok(format!("BigQuery has {} datasets in {}", datasets.datasets.len(), settings.project))
}

fn service_account(key: &SecretString) -> Result<gcp_bigquery_client::yup_oauth2::ServiceAccountKey> {
    // The parser's message could quote the key.
    serde_json::from_str(key.expose_secret()).map_err(|error| {
        Error::new(Kind::Connection, "reading `service_account`")
            .because(format!("it is no service account's key, see line {} column {}", error.line(), error.column()))
            .hint(KEY_HINT)
    })
}

/// An emulator takes any token.
#[derive(Clone)]
struct Anyone;

#[async_trait]
impl Authenticator for Anyone {
    async fn access_token(&self) -> Result<String, BQError> {
        Ok("emulator".to_owned())
    }
}
