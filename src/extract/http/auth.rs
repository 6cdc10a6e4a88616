//! Who we are: put into a request as the connection and the hook say, with tokens renewed once for all.

use std::sync::Arc;
use std::time::Duration;

use reqwest::RequestBuilder;
use reqwest::header::COOKIE;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::answer::excerpt;
use super::client::Inner;
use super::{login, sign};
use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::{Auth, Grant, KeyPlace, OAuth2, TokenPlace};
use crate::model::hook::AuthStyle;
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
    /// Seconds; some endpoints write them as a text.
    expires_in: Option<serde_json::Value>,
    refresh_token: Option<SecretString>,
}

/// No token is kept longer, whatever its endpoint says.
const LONGEST_LIFE: f64 = 86_400.0 * 365.0;

impl Token {
    /// A token that has to be renewed at an instant, if it is known.
    pub fn new(value: SecretString, renew_at: Option<Instant>, serial: u64) -> Self {
        Self { value, renew_at, serial }
    }
}

/// Where a secret goes in a request.
enum Place<'a> {
    Bearer,
    Header(&'a str),
    Query(&'a str),
    Cookie(&'a str),
}

/// Where the connection's key or token goes: the hook's word wins over the connection's own.
fn place<'a>(auth: &'a Auth, style: Option<&'a AuthStyle>) -> Option<Place<'a>> {
    Some(match (style, auth) {
        (Some(AuthStyle::None), _) | (_, Auth::None | Auth::Basic { .. } | Auth::SigV4(_) | Auth::Hmac(_)) => {
            return None;
        }
        (Some(AuthStyle::KeyHeader(name)), _) => Place::Header(name),
        (Some(AuthStyle::KeyQuery(name)), _) => Place::Query(name),
        (Some(AuthStyle::Bearer), _) | (_, Auth::Bearer { .. } | Auth::OAuth2(_)) => Place::Bearer,
        (_, Auth::Login(login)) => match &login.place {
            None => Place::Bearer,
            Some(TokenPlace::Header(name)) => Place::Header(name),
            Some(TokenPlace::Query(name)) => Place::Query(name),
            Some(TokenPlace::Cookie(name)) => Place::Cookie(name),
        },
        (_, Auth::ApiKey { place: KeyPlace::Header(name), .. }) => Place::Header(name),
        (_, Auth::ApiKey { place: KeyPlace::Query(name), .. }) => Place::Query(name),
    })
}

/// The parameter of the query that carries a key, if one does.
pub(super) fn query_key(auth: &Auth, style: Option<&AuthStyle>) -> Option<String> {
    match place(auth, style) {
        Some(Place::Query(name)) => Some(name.to_owned()),
        _ => None,
    }
}

/// Puts who we are into a request; returns the serial of the token that was used.
pub(super) async fn authorize(
    inner: &Arc<Inner>,
    style: Option<&AuthStyle>,
    request: RequestBuilder,
) -> Result<(RequestBuilder, Option<u64>)> {
    let auth = &inner.settings.auth;
    let disagree = |wants: &str, has: &str| {
        Err(Error::new(Kind::Connection, format!("the hook wants {wants}, the connection `{}` has {has}", inner.name))
            .hint("`auth` of the hook and of the connection have to fit each other"))
    };
    let (secret, serial) = match (style, auth) {
        (Some(AuthStyle::None), _) | (_, Auth::None) => return Ok((request, None)),
        // What is signed is the whole request: that comes when it is built.
        (None, Auth::SigV4(_) | Auth::Hmac(_)) => return Ok((request, None)),
        (Some(_), Auth::SigV4(_) | Auth::Hmac(_)) => return disagree("a key or a token", "a signature"),
        (None | Some(AuthStyle::Basic), Auth::Basic { user, password }) => {
            return Ok((request.basic_auth(user, Some(password.expose_secret())), None));
        }
        (Some(_), Auth::Basic { .. }) => return disagree("a key or a token", "a user and a password"),
        (Some(AuthStyle::Basic), _) => return disagree("a user and a password", "a key or a token"),
        (_, Auth::Bearer { token }) => (token.clone(), None),
        (_, Auth::ApiKey { key, .. }) => (key.clone(), None),
        (_, Auth::OAuth2(_) | Auth::Login(_)) => {
            let token = current(inner, None).await?;
            (token.value, Some(token.serial))
        }
    };
    let secret = secret.expose_secret();
    let request = match place(auth, style) {
        Some(Place::Header(name)) => request.header(name, secret),
        Some(Place::Query(name)) => request.query(&[(name, secret)]),
        Some(Place::Cookie(name)) => request.header(COOKIE, format!("{name}={secret}")),
        Some(Place::Bearer) | None => request.bearer_auth(secret),
    };
    Ok((request, serial))
}

/// Signs a whole request, where the connection says who we are by that.
pub(super) fn sign(inner: &Inner, style: Option<&AuthStyle>, request: &mut reqwest::Request) -> Result<()> {
    match (&inner.settings.auth, style) {
        (Auth::SigV4(keys), None) => sign::aws(keys, request, inner.clock.now()),
        (Auth::Hmac(keys), None) => sign::keyed(keys, request, inner.clock.now()),
        _ => Ok(()),
    }
}

/// A digest of who we are at the other side: what another one is told may be something else.
pub(super) fn owner(inner: &Inner) -> String {
    let mut digest = Sha256::new();
    let mut add = |text: &str| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    };
    match &inner.settings.auth {
        Auth::None => {}
        Auth::Basic { user, .. } => add(user),
        Auth::Bearer { token } => add(token.expose_secret()),
        Auth::ApiKey { key, .. } => add(key.expose_secret()),
        Auth::OAuth2(client) => {
            add(&client.client_id);
            add(client.scope.as_deref().unwrap_or_default());
            // A rotated token belongs to the same owner: it does not say who that is.
            client.extra.values().for_each(|value| add(value));
        }
        Auth::SigV4(keys) => add(&keys.access_key),
        Auth::Hmac(keys) => add(keys.key_id.as_deref().unwrap_or_else(|| keys.secret.expose_secret())),
        Auth::Login(login) => {
            login.body.iter().chain(&login.form).for_each(|(name, text)| {
                add(name);
                add(text.expose_secret());
            });
        }
    }
    for (name, value) in &inner.settings.headers {
        add(name);
        add(value.expose_secret());
    }
    hex::encode(digest.finalize())
}

/// Renews the token after a 401 on the one of this serial; whether that was of any use.
pub(super) async fn renew(inner: &Arc<Inner>, refused: Option<u64>) -> Result<bool> {
    if refused.is_none() || !matches!(inner.settings.auth, Auth::OAuth2(_) | Auth::Login(_)) {
        return Ok(false);
    }
    current(inner, refused).await.map(|_| true)
}

/// The token of now; a single request fetches it for all who wait.
async fn current(inner: &Arc<Inner>, refused: Option<u64>) -> Result<Token> {
    if let Some(token) = usable(inner, inner.token.lock().await.as_ref(), refused) {
        return Ok(token);
    }
    // In a task of its own: who waits may be stopped, but a refresh token that was handed out must be kept.
    let inner = Arc::clone(inner);
    let renewal = tokio::spawn(async move {
        let mut held = inner.token.lock().await;
        if let Some(token) = usable(&inner, held.as_ref(), refused) {
            return Ok(token);
        }
        let serial = held.as_ref().map_or(1, |token| token.serial + 1);
        let token = match &inner.settings.auth {
            Auth::Login(login) => login::fetch(&inner, login, serial).await?,
            _ => fetch(&inner, serial).await?,
        };
        *held = Some(token.clone());
        Ok(token)
    });
    renewal.await.context(Kind::Internal, || "renewing a token".to_owned())?
}

/// The held token, unless it is about to end or is the one that was refused.
fn usable(inner: &Inner, held: Option<&Token>, refused: Option<u64>) -> Option<Token> {
    let fresh = |token: &&Token| token.renew_at.is_none_or(|at| inner.clock.now() < at);
    held.filter(fresh).filter(|token| refused != Some(token.serial)).cloned()
}

/// The form by which a token is asked for.
async fn form<'a>(inner: &'a Inner, client: &'a OAuth2) -> Vec<(&'a str, String)> {
    let mut form: Vec<(&str, String)> = vec![("client_id", client.client_id.clone())];
    match &client.grant {
        Grant::ClientCredentials => form.push(("grant_type", "client_credentials".to_owned())),
        Grant::RefreshToken(first) => {
            let mut refresh = inner.refresh_token.lock().await;
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
    form
}

async fn fetch(inner: &Inner, serial: u64) -> Result<Token> {
    let Auth::OAuth2(client) = &inner.settings.auth else {
        return Err(Error::internal("a token is asked for without a token endpoint"));
    };
    let doing = || format!("asking {} for a token for the connection `{}`", client.token_url, inner.name);
    let form = form(inner, client).await;
    let sent = inner.http.post(&client.token_url).form(&form).timeout(Duration::from_secs(30)).send().await;
    let answer = sent.context(Kind::Unavailable, doing)?;
    let status = answer.status();
    let body = answer.bytes().await.context(Kind::Unavailable, doing)?;
    if !status.is_success() {
        let kind = match status.as_u16() {
            408 | 429 | 500..=599 => Kind::Unavailable,
            _ => Kind::Auth,
        };
        let excerpt = excerpt(&body, &inner.redactor);
        return Err(Error::new(kind, doing())
            .because(format!("{status}: {excerpt}"))
            .hint(format!("`haul connections test {}` tries it alone", inner.name)));
    }
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|_| Error::new(Kind::Auth, doing()).because("the answer has no `access_token`"))?;
    inner.redactor.learn(answer.access_token.expose_secret());
    if let (Some(rotated), Grant::RefreshToken(_)) = (answer.refresh_token, &client.grant) {
        inner.redactor.learn(rotated.expose_secret());
        let mut held = inner.refresh_token.lock().await;
        if held.as_ref().is_none_or(|old| old.expose_secret() != rotated.expose_secret()) {
            // Kept before the first use of the new token: the endpoint will not take the old one again.
            inner.tokens.keep(&inner.name, &rotated)?;
            *held = Some(rotated);
        }
    }
    let renew_at = answer.expires_in.as_ref().and_then(seconds).map(|seconds| {
        let early = (seconds / 10.0).min(60.0);
        inner.clock.now() + Duration::from_secs_f64(seconds - early)
    });
    Ok(Token { value: answer.access_token, renew_at, serial })
}

/// How long a token lives.
fn seconds(told: &serde_json::Value) -> Option<f64> {
    let seconds = told.as_f64().or_else(|| told.as_str()?.trim().parse().ok())?;
    seconds.is_finite().then(|| seconds.clamp(0.0, LONGEST_LIFE))
}
