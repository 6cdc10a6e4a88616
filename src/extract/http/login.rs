//! A login call that returns a session's token.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::SET_COOKIE;
use serde_json::{Map, Value};

use super::answer::excerpt;
use super::auth::Token;
use super::client::Inner;
use super::records::{Document, Found};
use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::{Login, TokenAt};
use crate::secret::{ExposeSecret, SecretString};

/// Where the login is, for people and for the request.
pub(super) fn address(inner: &Inner, login: &Login) -> String {
    if login.path.starts_with("http://") || login.path.starts_with("https://") {
        return login.path.clone();
    }
    format!("{}/{}", inner.settings.url.trim_end_matches('/'), login.path.trim_start_matches('/'))
}

/// Logs in.
pub(super) async fn fetch(inner: &Inner, login: &Login, serial: u64) -> Result<Token> {
    let url = address(inner, login);
    let doing = || format!("logging in at {url} for the connection `{}`", inner.name);
    let request = inner.http.post(&url).timeout(Duration::from_secs(30));
    let request = if login.form.is_empty() {
        let members = login.body.iter().map(|(name, text)| (name.clone(), Value::from(text.expose_secret())));
        request.json(&Value::Object(members.collect::<Map<_, _>>()))
    } else {
        let pairs: Vec<(&String, &str)> = login.form.iter().map(|(name, text)| (name, text.expose_secret())).collect();
        request.form(&pairs)
    };
    let answer = request.send().await.context(Kind::Unavailable, doing)?;
    let status = answer.status();
    let told = token_in_headers(&answer, &login.token_at);
    let body = answer.bytes().await.context(Kind::Unavailable, doing)?;
    if !status.is_success() && !status.is_redirection() {
        let kind = match status.as_u16() {
            408 | 429 | 500..=599 => Kind::Unavailable,
            _ => Kind::Auth,
        };
        return Err(Error::new(kind, doing())
            .because(format!("{status}: {}", excerpt(&body, &inner.redactor)))
            .hint(format!("`haul connections test {}` tries it alone", inner.name)));
    }
    let told = match &login.token_at {
        TokenAt::Body(path) => Document::read(&body).ok().and_then(|document| match document.value(path).ok()? {
            Found::Text(text) => Some(text),
            Found::Number(digits) => Some(digits.to_owned()),
            _ => None,
        }),
        TokenAt::Header(_) | TokenAt::Cookie(_) => told,
    };
    let token = told.filter(|token| !token.is_empty()).ok_or_else(|| {
        let place = match &login.token_at {
            TokenAt::Body(path) => format!("at `{path}`"),
            TokenAt::Header(name) => format!("in the header `{name}`"),
            TokenAt::Cookie(name) => format!("in the cookie `{name}`"),
        };
        // The answer may well be a token in another place: it is not repeated.
        Error::new(Kind::Auth, doing())
            .because(format!("the answer, {status}, has no token {place}"))
            .hint("`token_at` says where it is: \"$.token\", \"header X-Session\" or \"cookie sid\"")
    })?;
    inner.redactor.learn(&token);
    let renew_at = login.ttl.map(|ttl| inner.clock.now() + ttl.mul_f64(0.9));
    Ok(Token::new(SecretString::from(token), renew_at, serial))
}

fn token_in_headers(answer: &Response, at: &TokenAt) -> Option<String> {
    match at {
        TokenAt::Body(_) => None,
        TokenAt::Header(name) => answer.headers().get(name.as_str())?.to_str().ok().map(str::to_owned),
        TokenAt::Cookie(name) => {
            let cookies = answer.headers().get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
            let pairs = cookies.filter_map(|cookie| cookie.split(';').next()?.split_once('='));
            pairs.filter(|(own, _)| own.trim() == name).map(|(_, value)| value.trim().to_owned()).next_back()
        }
    }
}
