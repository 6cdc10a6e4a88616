//! Trying a connection alone: really connects, and says what was tried.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Serialize;
use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;

use super::gear::Keeper;
use crate::bigquery::{BigQuery, Caller};
use crate::connections::Connections;
use crate::error::{Context, Error, Kind, Result};
use crate::extract::table::connect_postgres;
use crate::extract::{FileStore, HttpClient};
use crate::mail::Mailer;
use crate::model::connection::{
    Auth, BigQueryConnection, Connection, ConnectionKind, FilesConnection, FilesPlace, Grant, HttpConnection,
    MongoDbConnection, ServerConnection, SmtpConnection,
};
use crate::model::cost::Receipts;
use crate::model::hook::RetryPolicy;
use crate::secret::{ExposeSecret, Redactor};
use crate::server::connect_mysql;
use crate::server::refused;
use crate::time::Clock;
use crate::warehouse::Warehouse;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

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
        ConnectionKind::BigQuery(settings) => within(bigquery(name, settings, redactor, &mut probed)).await,
        ConnectionKind::Smtp(settings) => within(mail(name, settings, &mut probed)).await,
        ConnectionKind::Files(settings) => within(files(name, settings, redactor, &mut probed)).await,
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
        Auth::SigV4(_) => "with a signature for AWS",
        Auth::Hmac(_) => "with a signature",
        Auth::Login(login) => {
            let path = &login.path;
            let at = if path.contains("://") { path.clone() } else { format!("{}{path}", client.url()) };
            probed.tried.push(format!("logged in at {at}"));
            "with the session's token"
        }
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

async fn files(name: &str, settings: &FilesConnection, redactor: &Redactor, probed: &mut Probed) -> Result<String> {
    let store = FileStore::open(name, settings, redactor.clone())?;
    probed.tried.push(match &settings.place {
        FilesPlace::Web(_) => format!("asked HEAD {}", settings.url),
        FilesPlace::Folder(_) | FilesPlace::S3(_) | FilesPlace::Gcs(_) => format!("listed {}", settings.url),
    });
    if matches!(settings.place, FilesPlace::Web(_)) {
        probed.note = Some("a web server lists nothing: only reading a file proves more".to_owned());
    }
    store.probe().await.map_err(|error| match error.kind() {
        Kind::Auth => error.hint("the keys are refused: compare `haul connections show` with what the bucket expects"),
        Kind::Unavailable if !matches!(settings.place, FilesPlace::Web(_) | FilesPlace::Folder(_)) => {
            error.hint("are bucket, region and endpoint right?")
        }
        _ => error,
    })
}

async fn mail(name: &str, settings: &SmtpConnection, probed: &mut Probed) -> Result<String> {
    let mailer = Mailer::open(name, settings)?;
    probed.tried.push(format!("greeted the mail server {}", mailer.place()));
    if let Some((user, _)) = &settings.login {
        probed.tried.push(format!("logged in as {user}"));
    }
    mailer.greet().await?;
    probed.note = Some("`haul notify test NAME` sends a mail to a channel that uses it".to_owned());
    Ok("it takes mail".to_owned())
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
    probed.tried.push(login("PostgreSQL", server));
    let mut connection = connect_postgres(server).await?;
    probed.tried.push("asked for its version".to_owned());
    let version: String = sqlx::query_scalar("SELECT version()")
        .fetch_one(&mut connection)
        .await
        .map_err(|error| refused(&error, server))?;
    let _ = connection.close().await;
    Ok(version)
}

async fn mysql(server: &ServerConnection, probed: &mut Probed) -> Result<String> {
    probed.tried.push(login("MySQL", server));
    let mut connection = connect_mysql(server).await?;
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
        Error::new(kind, doing()).because(crate::mongo::words(&error.kind)).hint(hint)
    })?;
    probed.tried.push("sent a ping".to_owned());
    Ok("MongoDB answered the ping".to_owned())
}

async fn bigquery(
    name: &str,
    settings: &BigQueryConnection,
    redactor: &Redactor,
    probed: &mut Probed,
) -> Result<String> {
    let client = BigQuery::open(name, settings, redactor.clone()).await?;
    let place = settings.endpoint.as_deref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
    probed.tried.push(format!("listed the datasets of the project {}{place}, {}", settings.project, client.identity()));
    let (cancel, sent) = (CancellationToken::new(), AtomicU64::new(0));
    let retry = RetryPolicy { max_attempts: 1, ..RetryPolicy::default() };
    let caller =
        Caller { retry: &retry, cancel: &cancel, retrying: &|_, _| {}, sent: &sent, receipts: &Receipts::default() };
    let datasets = client.datasets(&caller).await.map_err(|refused| refused.error)?;
    Ok(match datasets.len() {
        1 => format!("BigQuery has 1 dataset in {}", settings.project),
        some => format!("BigQuery has {some} datasets in {}", settings.project),
    })
}
