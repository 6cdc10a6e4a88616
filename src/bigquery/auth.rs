//! Who we are at Google: one source of tokens for service accounts, people, federated identities and machines.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::yup_oauth2::authenticator::{
    ApplicationDefaultCredentialsTypes, AuthorizedUserAuthenticator, DefaultAuthenticator, ExternalAccountAuthenticator,
};
use gcp_bigquery_client::yup_oauth2::{
    ApplicationDefaultCredentialsAuthenticator, ApplicationDefaultCredentialsFlowOpts, Error as TokenError,
    ServiceAccountAuthenticator, ServiceAccountKey,
};
use serde::de::DeserializeOwned;

use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::BigQueryConnection;
use crate::secret::{ExposeSecret, Redactor};

/// What a token is good for: BigQuery, and nothing else.
const SCOPES: &[&str] = &["https://www.googleapis.com/auth/bigquery"];

/// How long a token may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What credentials have to be.
const HINT: &str =
    "it is the JSON that Google's console downloads, or that gcloud writes: service_account = { file = \"key.json\" }";

/// Tokens for one connection, fetched when first needed and renewed before they end. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    /// None at an emulator, which takes any token.
    source: Option<DefaultAuthenticator>,
    identity: String,
    redactor: Redactor,
}

impl Tokens {
    /// Reads credentials; nothing is asked for yet.
    ///
    /// The connection's own come first; an endpoint without any is an emulator; then those of the environment, as Google's
    /// libraries look for them (AIP-4110), and in the end the machine's, from its metadata server.
    pub async fn open(settings: &BigQueryConnection, redactor: Redactor) -> Result<Self> {
        let (source, identity) = match (&settings.service_account, &settings.default_credentials) {
            (Some(key), _) => {
                of_json(key.expose_secret()).await.map_err(|error| error.while_doing("reading `service_account`"))?
            }
            (None, Some(found)) => of_json(found.expose_secret())
                .await
                .map_err(|error| error.while_doing("reading the application default credentials"))?,
            (None, None) if settings.is_google() => {
                (Some(of_machine().await?), "as this machine's service account".to_owned())
            }
            (None, None) => (None, "without credentials".to_owned()),
        };
        Ok(Self { inner: Arc::new(Inner { source, identity, redactor }) })
    }

    /// Who we are, for people.
    pub fn identity(&self) -> &str {
        &self.inner.identity
    }

    /// A token; a new one where `renew` says that the last was not taken.
    pub async fn token(&self, renew: bool) -> Result<String, TokenError> {
        let Some(source) = &self.inner.source else { return Ok("emulator".to_owned()) };
        let token = if renew { source.force_refreshed_token(SCOPES).await } else { source.token(SCOPES).await }?;
        let token = token.token().ok_or(TokenError::MissingAccessToken)?.to_owned();
        self.inner.redactor.learn(&token);
        Ok(token)
    }
}

#[async_trait]
impl Authenticator for Tokens {
    async fn access_token(&self) -> Result<String, BQError> {
        Ok(self.token(false).await?)
    }
}

/// Credentials as JSON say by their `type` what they are (AIP-4112, AIP-4113, AIP-4117).
async fn of_json(text: &str) -> Result<(Option<DefaultAuthenticator>, String)> {
    #[derive(serde::Deserialize)]
    struct Typed {
        r#type: Option<String>,
    }
    let typed: Typed = json(text)?;
    let (built, identity) = match typed.r#type.as_deref() {
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
            let built = ExternalAccountAuthenticator::builder(json(text)?).with_timeout(PATIENCE).build().await;
            (built, "by workload identity federation".to_owned())
        }
        Some(other) => {
            return Err(Error::new(Kind::Connection, format!("credentials of type `{other}` are not understood"))
                .hint("service_account, authorized_user and external_account are"));
        }
    };
    // The cause could quote the key.
    let built = built.map_err(|_| {
        Error::new(Kind::Connection, "the private key of the service account cannot be read").hint(HINT)
    })?;
    Ok((Some(built), identity))
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T> {
    // The parser's message could quote the key.
    serde_json::from_str(text).map_err(|error| {
        Error::new(Kind::Connection, format!("no credentials, see line {} column {}", error.line(), error.column()))
            .hint(HINT)
    })
}

async fn of_machine() -> Result<DefaultAuthenticator> {
    let options = ApplicationDefaultCredentialsFlowOpts::default();
    let built = match ApplicationDefaultCredentialsAuthenticator::builder(options).await {
        ApplicationDefaultCredentialsTypes::InstanceMetadata(flow) => flow.with_timeout(PATIENCE).build().await,
        ApplicationDefaultCredentialsTypes::ServiceAccount(flow) => flow.with_timeout(PATIENCE).build().await,
    };
    built.context(Kind::Connection, || "looking for application default credentials".to_owned())
}
