//! Who we are: put into a request as the connection and the hook say, with tokens renewed once for all.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde::Deserialize;

use super::client::{Inner, excerpt};
use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::{Auth, Grant, KeyPlace, OAuth2};
use crate::model::pipeline::AuthStyle;
use crate::secret::{ExposeSecret, SecretString};
use crate::time::Instant;

/// An access token, and when it has to be renewed.
#[derive(Clone)]
pub(super) struct Token {
    value: SecretString,
    renew_at: Option<Instant>,
    /// Which renewal it came from: a 401 on an older one is no reason for another.
    pub serial: u64,
}

#[derive(Deserialize)]
struct Answer {
    access_token: SecretString,
    expires_in: Option<i64>,
    refresh_token: Option<SecretString>,
}

/// The parameter of the query that carries a key, if one does.
pub(super) fn query_key(auth: &Auth, style: Option<&AuthStyle>) -> Option<String> {
    match (style, auth) {
        (Some(AuthStyle::KeyQuery(name)), Auth::ApiKey { .. }) => Some(name.clone()),
        (None, Auth::ApiKey { place: KeyPlace::Query(name), .. }) => Some(name.clone()),
        _ => None,
    }
}

/// Puts who we are into a request; returns the serial of the token that was used.
pub(super) async fn authorize(
    inner: &Inner,
    style: Option<&AuthStyle>,
    request: RequestBuilder,
) -> Result<(RequestBuilder, Option<u64>)> {
    if style == Some(&AuthStyle::None) {
        return Ok((request, None));
    }
    Ok(match &inner.settings.auth {
        Auth::None => (request, None),
        Auth::Basic { user, password } => (request.basic_auth(user, Some(password.expose_secret())), None),
        Auth::Bearer { token } => (request.bearer_auth(token.expose_secret()), None),
        Auth::ApiKey { place, key } => {
            let place = match style {
                Some(AuthStyle::KeyHeader(name)) => &KeyPlace::Header(name.clone()),
                Some(AuthStyle::KeyQuery(name)) => &KeyPlace::Query(name.clone()),
                _ => place,
            };
            let request = match place {
                KeyPlace::Header(name) => request.header(name, key.expose_secret()),
                KeyPlace::Query(name) => request.query(&[(name, key.expose_secret())]),
            };
            (request, None)
        }
        Auth::OAuth2(client) => {
            let token = current(inner, client, None).await?;
            (request.bearer_auth(token.value.expose_secret()), Some(token.serial))
        }
    })
}

/// Renews the token after a 401 on the one of this serial; whether that was of any use.
pub(super) async fn renew(inner: &Inner, refused: Option<u64>) -> Result<bool> {
    let (Auth::OAuth2(client), Some(serial)) = (&inner.settings.auth, refused) else { return Ok(false) };
    current(inner, client, Some(serial)).await?;
    Ok(true)
}

/// The token of now; a single request fetches it for all who wait.
async fn current(inner: &Inner, client: &OAuth2, refused: Option<u64>) -> Result<Token> {
    let mut held = inner.token.lock().await;
    if let Some(token) = &*held {
        let fresh = token.renew_at.is_none_or(|at| inner.clock.now() < at);
        if fresh && refused != Some(token.serial) {
            return Ok(token.clone());
        }
    }
    let serial = held.as_ref().map_or(1, |token| token.serial + 1);
    let token = fetch(inner, client, serial).await?;
    *held = Some(token.clone());
    Ok(token)
}

async fn fetch(inner: &Inner, client: &OAuth2, serial: u64) -> Result<Token> {
    let doing = || format!("asking {} for a token for the connection `{}`", client.token_url, inner.name);
    let mut form: Vec<(&str, String)> = vec![("client_id", client.client_id.clone())];
    let mut refresh = inner.refresh_token.lock().await;
    match &client.grant {
        Grant::ClientCredentials => form.push(("grant_type", "client_credentials".to_owned())),
        Grant::RefreshToken(first) => {
            let token = refresh.get_or_insert_with(|| first.clone());
            form.push(("grant_type", "refresh_token".to_owned()));
            form.push(("refresh_token", token.expose_secret().to_owned()));
        }
    }
    if let Some(secret) = &client.client_secret {
        form.push(("client_secret", secret.expose_secret().to_owned()));
    }
    if let Some(scope) = &client.scope {
        form.push(("scope", scope.clone()));
    }
    form.extend(client.extra.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let sent = inner.http.post(&client.token_url).form(&form).timeout(Duration::from_secs(30)).send().await;
    let answer = sent.context(Kind::Unavailable, doing)?;
    let status = answer.status();
    let body = answer.bytes().await.context(Kind::Unavailable, doing)?;
    if !status.is_success() {
        let kind = if status.is_server_error() { Kind::Unavailable } else { Kind::Auth };
        let excerpt = excerpt(&body, &inner.redactor);
        return Err(Error::new(kind, doing())
            .because(format!("{status}: {excerpt}"))
            .hint(format!("`haul connections test {}` tries it alone", inner.name)));
    }
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|_| Error::new(Kind::Auth, doing()).because("the answer has no `access_token`"))?;
    inner.redactor.learn(answer.access_token.expose_secret());
    if let Some(rotated) = answer.refresh_token {
        inner.redactor.learn(rotated.expose_secret());
        // Kept before the first use of the new token: the endpoint will not take the old one again.
        inner.tokens.keep(&inner.name, &rotated)?;
        *refresh = Some(rotated);
    }
    let renew_at = answer.expires_in.map(|seconds| {
        let early = (seconds / 10).min(60);
        inner.clock.now() + chrono::Duration::seconds(seconds - early)
    });
    Ok(Token { value: answer.access_token, renew_at, serial })
}
