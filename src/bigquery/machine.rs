//! As the service account of the machine that we run on: tokens from its metadata server.
//!
//! The call is `instance/service-accounts/default/token` of Google's metadata server ("Access tokens" in the documentation of
//! Compute Engine), which also Cloud Run, Cloud Functions and GKE have.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::time::Duration;

use gcp_bigquery_client::yup_oauth2::Error as TokenError;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{Context, Kind, Result};

/// Where a machine of Google's finds it.
const HOST: &str = "metadata.google.internal";

/// The token of the account that the machine stands for.
const PATH: &str = "computeMetadata/v1/instance/service-accounts/default/token";

/// Whoever asks has to say this, and so does the answer: neither a stray request nor a stray server does.
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");

/// The server is on the machine itself, or nowhere.
const NEAR: Duration = Duration::from_secs(5);

/// How long an answer may take; a pod's first one takes some seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A token is renewed so long before it ends; the server itself has a new one five minutes before.
const EARLY: Duration = Duration::from_mins(4);

/// The machine's account, with its tokens, each kept until shortly before it ends.
pub(super) struct Machine {
    host: String,
    http: reqwest::Client,
    kept: Mutex<HashMap<String, (String, Instant)>>,
}

/// Why the metadata server gave no token.
#[derive(Debug)]
pub(super) struct NoToken {
    /// Where it was looked for, and what came of that.
    told: String,
    /// Whether it may give one later.
    pub passes: bool,
}

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told)
    }
}

impl std::error::Error for NoToken {}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// In seconds.
    expires_in: u64,
}

impl Machine {
    /// The machine whose metadata server is at this host, or at this host and port; nothing is asked for yet.
    ///
    /// # Errors
    /// A client that cannot be made.
    pub fn of(host: Option<&str>) -> Result<Self> {
        // The server is beside us: no proxy leads there, and none may see the token.
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(NEAR)
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context(Kind::Connection, || "looking for this machine's service account".to_owned())?;
        Ok(Self { host: host.unwrap_or(HOST).to_owned(), http, kept: Mutex::default() })
    }

    /// A token for these scopes; a new one where `renew` says that the last was not taken.
    pub async fn token(&self, scopes: &[&str], renew: bool) -> Result<String, TokenError> {
        let scopes = scopes.join(",");
        let mut kept = self.kept.lock().await;
        if let Some((token, _)) = kept.get(&scopes).filter(|(_, end)| !renew && *end > Instant::now()) {
            return Ok(token.clone());
        }
        let asked = Instant::now();
        let answer = self.ask(&scopes).await.map_err(|fault| TokenError::LowLevelError(io::Error::other(fault)))?;
        let end = asked + Duration::from_secs(answer.expires_in).saturating_sub(EARLY);
        kept.insert(scopes, (answer.access_token.clone(), end));
        Ok(answer.access_token)
    }

    async fn ask(&self, scopes: &str) -> Result<Answer, NoToken> {
        let (host, (name, flavor)) = (&self.host, FLAVOR);
        let no = |told: String, passes: bool| NoToken { told, passes };
        let url = format!("http://{host}/{PATH}?scopes={scopes}");
        let sent = self.http.get(url).header(name, flavor).send().await;
        let answer = sent.map_err(|error| {
            let error = deepest(&error.without_url());
            no(format!("no credentials are given, and the metadata server {host} cannot be reached: {error}"), true)
        })?;
        let status = answer.status();
        if answer.headers().get(name).is_none_or(|value| value != flavor) {
            return Err(no(format!("what answers at {host} with {status} is no metadata server"), false));
        }
        let passes = status.is_server_error() || status.as_u16() == 429;
        let body = answer.bytes().await.map_err(|error| {
            no(format!("the metadata server {host} was cut off: {}", deepest(&error.without_url())), true)
        })?;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            let line: String = text.trim().lines().next().unwrap_or_default().chars().take(200).collect();
            return Err(no(format!("the metadata server {host} gives out no token, but {status}: {line}"), passes));
        }
        // The parser's message could quote the token.
        serde_json::from_slice(&body)
            .map_err(|_| no(format!("the answer of the metadata server {host} has no token in it"), false))
    }
}

/// What is at the bottom of an error.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
