//! In the name of a service account: tokens that IAM gives out to whoever may impersonate it.
//!
//! The call is `generateAccessToken` of the IAM Service Account Credentials API, version 1.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use gcp_bigquery_client::yup_oauth2::Error as TokenError;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Where IAM gives out tokens.
const IAM: &str = "https://iamcredentials.googleapis.com";

/// What the own token must be good for.
pub(super) const OWN_SCOPES: &[&str] = &["https://www.googleapis.com/auth/cloud-platform"];

/// How long a token is asked for.
const LIFETIME: Duration = Duration::from_hours(1);

/// A token is renewed so long before it ends.
const EARLY: Duration = Duration::from_mins(5);

/// Who is impersonated, and where that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The address of `generateAccessToken`.
    pub url: String,
    /// The accounts in between, each of which may impersonate the next.
    pub delegates: Vec<String>,
}

impl Target {
    /// The account of this address; IAM is Google's, or below another `endpoint`.
    pub fn of(account: &str, endpoint: Option<&str>) -> Self {
        let iam = endpoint.unwrap_or(IAM).trim_end_matches('/');
        Self {
            url: format!("{iam}/v1/projects/-/serviceAccounts/{account}:generateAccessToken"),
            delegates: Vec::new(),
        }
    }

    /// The account's name, for people.
    pub fn account(&self) -> &str {
        let name = self.url.rsplit('/').next().unwrap_or_default();
        name.strip_suffix(":generateAccessToken").unwrap_or(name)
    }
}

/// Tokens of the account, each kept until shortly before it ends.
pub(super) struct Impersonation {
    pub target: Target,
    http: reqwest::Client,
    kept: Mutex<HashMap<String, (String, Instant)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    access_token: String,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: Fault,
}

#[derive(Default, Deserialize)]
struct Fault {
    #[serde(default)]
    message: String,
}

impl Impersonation {
    pub fn new(target: Target, http: reqwest::Client) -> Self {
        Self { target, http, kept: Mutex::default() }
    }

    /// A token that was given out before, if it is still good.
    pub async fn kept(&self, scopes: &[&str]) -> Option<String> {
        let kept = self.kept.lock().await;
        kept.get(&scopes.join(" ")).filter(|(_, end)| *end > Instant::now()).map(|(token, _)| token.clone())
    }

    /// A new token for these scopes, asked for with a token of our own.
    pub async fn renewed(&self, own: &str, scopes: &[&str]) -> Result<String, TokenError> {
        let body = json!({
            "delegates": self.target.delegates, "scope": scopes, "lifetime": format!("{}s", LIFETIME.as_secs()),
        });
        let broken = |error: reqwest::Error| TokenError::LowLevelError(io::Error::other(error.without_url()));
        let sent = self.http.post(&self.target.url).bearer_auth(own).json(&body).send().await;
        let answer = sent.map_err(broken)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(broken)?;
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(TokenError::LowLevelError(io::Error::other(format!("IAM answered {status}"))));
        }
        let account = self.target.account();
        if !status.is_success() {
            let told: Refusal = serde_json::from_slice(&body).unwrap_or_default();
            return Err(TokenError::UserError(format!("IAM gives out no token for {account}: {}", told.error.message)));
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| TokenError::UserError(format!("IAM's answer for {account} has no token: {error}")))?;
        let end = Instant::now() + LIFETIME.saturating_sub(EARLY);
        self.kept.lock().await.insert(scopes.join(" "), (answer.access_token.clone(), end));
        Ok(answer.access_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_again_in_its_address() {
        let target = Target::of("a@p.iam.gserviceaccount.com", None);
        assert_eq!(
            target.url,
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p.iam.gserviceaccount.com:generateAccessToken"
        );
        assert_eq!(target.account(), "a@p.iam.gserviceaccount.com");
        assert!(Target::of("a", Some("http://localhost:1/")).url.starts_with("http://localhost:1/v1/"));
    }
}
