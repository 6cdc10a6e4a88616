//! Who we are at Google: one source of tokens for service accounts, people, federated identities and machines.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::yup_oauth2::authenticator::{
    AuthorizedUserAuthenticator, DefaultAuthenticator, ExternalAccountAuthenticator,
};
use gcp_bigquery_client::yup_oauth2::{Error as TokenError, ServiceAccountAuthenticator, ServiceAccountKey};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::impersonate::{Impersonation, OWN_SCOPES, Target};
use super::machine::Machine;
use crate::error::{Error, Kind, Result};
use crate::model::connection::BigQueryConnection;
use crate::secret::{ExposeSecret, Redactor};

/// What a token is good for: BigQuery, and nothing else.
pub(super) const SCOPES: &[&str] = &["https://www.googleapis.com/auth/bigquery"];

/// What a token for objects of Google Cloud Storage is good for.
pub(super) const STORAGE_SCOPES: &[&str] = &["https://www.googleapis.com/auth/devstorage.read_write"];

/// How long a token may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What credentials have to be.
const HINT: &str =
    "it is the JSON that Google's console downloads, or that gcloud writes: service_account = { file = \"key.json\" }";

/// Where tokens come from.
enum Source {
    /// Credentials that somebody gave us.
    Given(DefaultAuthenticator),
    /// The machine that we run on.
    Machine(Machine),
    /// An emulator takes any token.
    Emulator,
}

/// Tokens for one connection, fetched when first needed and renewed before they end. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    /// Who stands between us and the service.
    impersonation: Option<Impersonation>,
    identity: String,
    redactor: Redactor,
}

impl Tokens {
    /// Reads credentials; nothing is asked for yet.
    ///
    /// The connection's own come first; an endpoint without any is an emulator; then those of the environment, as Google's
    /// libraries look for them (AIP-4110), and in the end the machine's, from its metadata server.
    pub async fn open(settings: &BigQueryConnection, http: reqwest::Client, redactor: Redactor) -> Result<Self> {
        let found = match (&settings.service_account, &settings.default_credentials) {
            (Some(key), _) => {
                of_json(key.expose_secret()).await.map_err(|error| error.while_doing("reading `service_account`"))?
            }
            (None, Some(found)) => of_json(found.expose_secret())
                .await
                .map_err(|error| error.while_doing("reading the application default credentials"))?,
            (None, None) if settings.is_google() => Found {
                source: Source::Machine(Machine::of(settings.metadata_host.as_deref())?),
                identity: "as this machine's service account".to_owned(),
                target: None,
            },
            (None, None) => {
                Found { source: Source::Emulator, identity: "without credentials".to_owned(), target: None }
            }
        };
        let endpoint = settings.endpoint.as_deref().filter(|_| !settings.is_google());
        let own = settings.impersonate.as_deref().map(|account| Target::of(account, endpoint));
        // Credentials that impersonate somebody by themselves do so on the way to whom the connection names.
        let target = match (own, found.target) {
            (Some(own), Some(between)) => {
                let delegates = between.delegates.into_iter().chain([delegate(between.url.as_str())]).collect();
                Some(Target { delegates, ..own })
            }
            (own, between) => own.or(between),
        };
        let identity = match &target {
            Some(target) => format!("as {} ({})", target.account(), found.identity),
            None => found.identity,
        };
        let impersonation = target.map(|target| Impersonation::new(target, http));
        Ok(Self { inner: Arc::new(Inner { source: found.source, impersonation, identity, redactor }) })
    }

    /// Who we are, for people.
    pub fn identity(&self) -> &str {
        &self.inner.identity
    }

    /// A token for these scopes; a new one where `renew` says that the last was not taken.
    pub async fn token(&self, scopes: &[&str], renew: bool) -> Result<String, TokenError> {
        let token = match &self.inner.impersonation {
            None => self.own(scopes, renew).await?,
            Some(impersonation) => match impersonation.kept(scopes).await.filter(|_| !renew) {
                Some(token) => token,
                None => impersonation.renewed(&self.own(OWN_SCOPES, renew).await?, scopes).await?,
            },
        };
        self.inner.redactor.learn(&token);
        Ok(token)
    }

    async fn own(&self, scopes: &[&str], renew: bool) -> Result<String, TokenError> {
        let source = match &self.inner.source {
            Source::Emulator => return Ok("emulator".to_owned()),
            Source::Machine(machine) => {
                let token = machine.token(scopes, renew).await?;
                self.inner.redactor.learn(&token);
                return Ok(token);
            }
            Source::Given(source) => source,
        };
        let token = if renew { source.force_refreshed_token(scopes).await } else { source.token(scopes).await }?;
        let token = token.token().ok_or(TokenError::MissingAccessToken)?.to_owned();
        self.inner.redactor.learn(&token);
        Ok(token)
    }
}

/// How a chain of impersonation names an account.
fn delegate(url: &str) -> String {
    let target = Target { url: url.to_owned(), delegates: Vec::new() };
    format!("projects/-/serviceAccounts/{}", target.account())
}

#[async_trait]
impl Authenticator for Tokens {
    async fn access_token(&self) -> Result<String, BQError> {
        Ok(self.token(SCOPES, false).await?)
    }
}

/// Credentials that were read.
struct Found {
    source: Source,
    identity: String,
    target: Option<Target>,
}

#[derive(serde::Deserialize)]
struct Typed {
    r#type: Option<String>,
    #[serde(default)]
    service_account_impersonation_url: Option<String>,
    #[serde(default)]
    source_credentials: Option<Value>,
    #[serde(default)]
    delegates: Vec<String>,
}

/// Credentials as JSON say by their `type` what they are (AIP-4112, AIP-4113, AIP-4117).
async fn of_json(text: &str) -> Result<Found> {
    let typed: Typed = json(text)?;
    if typed.r#type.as_deref() != Some("impersonated_service_account") {
        return plain(typed.r#type.as_deref(), text).await;
    }
    let (Some(url), Some(source)) = (typed.service_account_impersonation_url, typed.source_credentials) else {
        let text = "credentials of type `impersonated_service_account` need `service_account_impersonation_url` and `source_credentials`";
        return Err(Error::new(Kind::Connection, text).hint(HINT));
    };
    let of = source.get("type").and_then(Value::as_str).map(str::to_owned);
    let found = plain(of.as_deref(), &source.to_string()).await?;
    Ok(Found { target: Some(Target { url, delegates: typed.delegates }), ..found })
}

/// Credentials that stand for themselves.
async fn plain(of: Option<&str>, text: &str) -> Result<Found> {
    let (built, identity) = match of {
        None | Some("service_account") => {
            let key: ServiceAccountKey = json(text)?;
            let identity = format!("as {}", key.client_email);
            (ServiceAccountAuthenticator::builder(key).with_timeout(PATIENCE).build().await, identity)
        }
        Some("authorized_user") => {
            let built = AuthorizedUserAuthenticator::builder(json(text)?).with_timeout(PATIENCE).build().await;
            (built, "as the person of gcloud's login".to_owned())
        }
        Some("external_account") => {
            let secret = json(&external(json(text)?)?.to_string())?;
            let built = ExternalAccountAuthenticator::builder(secret).with_timeout(PATIENCE).build().await;
            (built, "by workload identity federation".to_owned())
        }
        Some(other) => {
            return Err(Error::new(Kind::Connection, format!("credentials of type `{other}` are not understood"))
                .hint("service_account, authorized_user, external_account and impersonated_service_account are"));
        }
    };
    // The cause could quote the key.
    let built = built.map_err(|_| {
        Error::new(Kind::Connection, "the private key of the service account cannot be read").hint(HINT)
    })?;
    Ok(Found { source: Source::Given(built), identity, target: None })
}

/// Workload identity federation, with what AIP-4117 lets out filled in.
///
/// # Errors
/// A source of subject tokens other than a file or an address.
fn external(mut secret: Value) -> Result<Value> {
    let refused = |what: &str| {
        Err(Error::new(Kind::Connection, format!("the `credential_source` of the external account {what}"))
            .hint("a `file` with the token as text, or a `url` whose answer is the token as text or JSON"))
    };
    let source = &mut secret["credential_source"];
    let form = source["format"]["type"].as_str().unwrap_or("text").to_owned();
    if source["file"].is_string() {
        if form != "text" {
            return refused("is a file with JSON");
        }
    } else if source["url"].is_string() && source["environment_id"].is_null() {
        if source["format"].is_null() {
            source["format"] = json!({ "type": "text" });
        }
    } else {
        return refused("is neither a file nor an address");
    }
    Ok(secret)
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T> {
    // The parser's message could quote the key.
    serde_json::from_str(text).map_err(|error| {
        Error::new(Kind::Connection, format!("no credentials, see line {} column {}", error.line(), error.column()))
            .hint(HINT)
    })
}
