//! BigQuery over its REST interface: one client for tables that are read and for the warehouse.
//!
//! It stands on `gcp-bigquery-client`, and has what that lacks: one source of tokens for every kind of credentials, patience
//! on every call, rows that keep their digits, tables and values of types that its models do not know.
//!
//! The protocol is BigQuery's REST reference, version 2; the methods are named in the documentation of each call.

mod auth;
mod call;
mod cost;
mod impersonate;
mod job;
mod machine;
mod price;
mod refused;
mod resumable;
mod rows;
mod run;
mod storage;
mod table;
mod tables;
mod upload;
mod value;

use std::sync::Arc;
use std::time::Duration;

use gcp_bigquery_client::client_builder::ClientBuilder;

pub use call::Caller;
pub use cost::{DryRun, JobCost};
pub use job::{Query, QueryJob};
pub use refused::{Refused, Why};
pub use rows::{RowPage, Rows};
pub use run::{Disposition, JobRequest, JobState, Load, Work};
pub use table::{Field, Mode, Schema, Siblings, Table, TableId, TimePartitioning};

use self::auth::Tokens;
use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::BigQueryConnection;
use crate::secret::Redactor;

/// The address of the service, without `/bigquery/v2`.
const SERVICE: &str = "https://bigquery.googleapis.com";

/// How long one call may take, from the first byte sent to the last byte read; waiting for a job takes many calls.
const PATIENCE: Duration = Duration::from_mins(2);

/// A project at BigQuery. Cloning is cheap, and all clones share their token and their connections.
#[derive(Clone)]
pub struct BigQuery {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    settings: BigQueryConnection,
    base: String,
    google: gcp_bigquery_client::Client,
    http: reqwest::Client,
    tokens: Tokens,
    redactor: Redactor,
}

impl BigQuery {
    /// Opens the client of a connection; nothing is sent yet.
    ///
    /// # Errors
    /// Credentials that are none.
    pub async fn open(name: &str, settings: &BigQueryConnection, redactor: Redactor) -> Result<Self> {
        let doing = || format!("opening the connection `{name}`");
        let base = format!("{}/bigquery/v2", settings.endpoint.as_deref().unwrap_or(SERVICE).trim_end_matches('/'));
        let http = reqwest::Client::builder()
            .user_agent(concat!("haul/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .build()
            .context(Kind::Connection, doing)?;
        let tokens = Tokens::open(settings, http.clone(), redactor.clone()).await;
        let tokens = tokens.map_err(|error| error.while_doing(doing()))?;
        let google = ClientBuilder::new()
            .with_v2_base_url(base.clone())
            .build_from_authenticator(Arc::new(tokens.clone()))
            .await
            .context(Kind::Connection, doing)?;
        let settings = settings.clone();
        Ok(Self { inner: Arc::new(Inner { name: name.to_owned(), settings, base, google, http, tokens, redactor }) })
    }

    /// The project that pays for jobs, and that tables without a project of their own are in.
    pub fn project(&self) -> &str {
        &self.inner.settings.project
    }

    /// Where jobs run, where the connection says it.
    pub fn location(&self) -> Option<&str> {
        self.inner.settings.location.as_deref()
    }

    /// The client that lacks tokens, patience and types, for calls that need none of it.
    fn google(&self) -> &gcp_bigquery_client::Client {
        &self.inner.google
    }

    /// How it says who we are, for people: `as me@project.iam.gserviceaccount.com`.
    pub fn identity(&self) -> &str {
        self.inner.tokens.identity()
    }

    /// Asks for a token, and for the project's datasets: proves credentials, project and service.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn datasets(&self, caller: &Caller<'_>) -> Result<Vec<String>, Refused> {
        let body = self.get(caller, &[self.project(), "datasets"], &[("maxResults", "1000".to_owned())]).await?;
        // The client's model wants members that an empty project's answer does not have.
        let listed: table::Datasets =
            serde_json::from_slice(&body).map_err(|error| Refused::strange("the list of datasets", error))?;
        Ok(listed.names())
    }

    /// What is wrong with a name that BigQuery does not know: the error gets those that are alike as its hint.
    pub async fn missing(&self, table: &TableId, caller: &Caller<'_>, error: Error) -> Error {
        let (what, wanted, names) = match self.siblings(table, caller).await {
            Ok(siblings) => (format!("the dataset `{}` has", table.dataset), table.table.as_str(), siblings.names),
            Err(_) if table.project == self.project() => match self.datasets(caller).await {
                Ok(names) => (format!("the project `{}` has", table.project), table.dataset.as_str(), names),
                Err(_) => return error,
            },
            Err(_) => return error,
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        error.hint(alike(&what, wanted, &names))
    }
}

/// The name that is nearest to one that is not there, or the first of those that are: `what` says whose they are.
pub fn alike(what: &str, wanted: &str, names: &[&str]) -> String {
    let lower = wanted.to_lowercase();
    let near = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (wanted.chars().count() / 3).max(1));
    if let Some((_, near)) = near {
        return format!("did you mean `{near}`?");
    }
    let shown: Vec<String> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
    match (names.len(), shown.len()) {
        (0, _) => format!("{what} none that we may see"),
        (all, some) if all > some => format!("{what} {}, …", shown.join(", ")),
        _ => format!("{what} {}", shown.join(", ")),
    }
}

/// A name in GoogleSQL, whatever is in it.
pub fn quoted_name(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}
