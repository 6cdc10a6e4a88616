//! From a definition's fields to the connection of the model, with every secret resolved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fields::{Definition, Fault, Form, Reference, System, Value, is_harmless_entry, names_a_place};
use super::form::read_rate;
use super::google;
use super::reference::Resolver;
use super::store::Rotated;
use super::style::{self, Style};
use super::uri;
use crate::config::value::ByteSize;
use crate::error::{Context, Kind, Result};
use crate::model::connection::{
    Auth, BigQueryConnection, ClientCertificate, Connection, ConnectionKind, DuckDbConnection, Grant, Hmac,
    HttpConnection, KeyPlace, Login, MailTls, MongoDbConnection, OAuth2, SecretEncoding, ServerConnection, SigV4,
    SmtpConnection, Tls, TokenAt, TokenPlace,
};
use crate::model::cost::Tariff;
use crate::secret::{ExposeSecret, Redactor, SecretString};
use crate::time::parse_duration;

/// How many requests are under way at once when the connection does not say.
const MAX_CONCURRENT: usize = 8;
/// How long one page may take when the connection does not say.
const TIMEOUT: Duration = Duration::from_mins(1);
/// How much memory DuckDB may use when the connection does not say.
const MEMORY_LIMIT: &str = "512MB";

/// Resolves all fields of a connection.
pub(super) fn resolve(
    name: &str,
    definition: &Definition,
    rotated: Option<Rotated>,
    resolver: &Resolver,
    root: &Path,
) -> Result<Connection> {
    let fields = Resolved { definition, resolver };
    let kind = match definition.system {
        System::Http => ConnectionKind::Http(http(&fields, rotated)?),
        System::DuckDb => ConnectionKind::DuckDb(duckdb(&fields, root)?),
        System::Postgres => ConnectionKind::Postgres(server(&fields, 5432, "postgres")?),
        System::MySql => ConnectionKind::MySql(server(&fields, 3306, "mysql")?),
        System::MongoDb => ConnectionKind::MongoDb(mongodb(&fields)?),
        System::Process => ConnectionKind::Process,
        System::Files => ConnectionKind::Files(super::files::resolve(&fields, root)?),
        System::BigQuery => ConnectionKind::BigQuery(bigquery(&fields)?),
        System::Smtp => ConnectionKind::Smtp(smtp(&fields)?),
    };
    Ok(Connection { name: name.to_owned(), kind })
}

/// All fields of a connection as a JSON object, for a program: under their own names, with every secret resolved.
///
/// # Errors
/// A secret that cannot be resolved.
pub(super) fn object(definition: &Definition, resolver: &Resolver) -> Result<serde_json::Value> {
    let fields = Resolved { definition, resolver };
    let mut object = serde_json::Map::new();
    for (key, value) in &definition.fields {
        let member = match value {
            Value::Tree(tree) => branch(&tree.0, key, resolver)?,
            Value::Map(_) => {
                fields.map(key)?.into_iter().map(|(key, text)| (key, serde_json::Value::from(text))).collect()
            }
            Value::Plain(_) | Value::From(_) => {
                let text = fields.text(key)?.unwrap_or_default();
                let number =
                    definition.system.field(key).filter(|field| matches!(field.form, Form::Count | Form::Port));
                let number = number.and_then(|_| text.parse::<u64>().ok());
                number.map_or_else(|| text.into(), serde_json::Value::from)
            }
        };
        object.insert(key.clone(), member);
    }
    Ok(object.into())
}

/// A part of a program's field, with its secrets resolved; `key` is the nearest name above it.
fn branch(json: &serde_json::Value, key: &str, resolver: &Resolver) -> Result<serde_json::Value> {
    use serde_json::Value as Json;
    let secret = !is_harmless_entry("extra", key);
    Ok(match json {
        Json::Object(members) => {
            if let Some(reference) = place(members) {
                let text =
                    resolver.resolve(&reference).map_err(|error| error.while_doing(format!("resolving `{key}`")))?;
                if secret || !names_a_place(key) {
                    learn(&resolver.redactor, key, &text);
                }
                return Ok(text.into());
            }
            let member = |(name, json): (&String, &Json)| Ok((name.clone(), branch(json, name, resolver)?));
            Json::Object(members.iter().map(member).collect::<Result<_>>()?)
        }
        Json::Array(items) => Json::Array(items.iter().map(|item| branch(item, key, resolver)).collect::<Result<_>>()?),
        Json::String(text) if secret => {
            learn(&resolver.redactor, key, text);
            json.clone()
        }
        _ => json.clone(),
    })
}

/// The place of a secret that an object stands for.
pub(super) fn place(members: &serde_json::Map<String, serde_json::Value>) -> Option<Reference> {
    let (kind, place) = members.iter().next().filter(|_| members.len() == 1)?;
    Reference::from_key(kind, place.as_str()?.to_owned())
}

/// Uploads of more bytes go through a bucket, where the connection has one.
const STAGE_ABOVE: u64 = 256_000_000;

/// The longest that a job may take; BigQuery itself ends them after six hours.
const JOB_TIMEOUT: Duration = Duration::from_hours(6);

fn bigquery(fields: &Resolved<'_>) -> Result<BigQueryConnection> {
    let mut connection = BigQueryConnection {
        project: fields.need("project")?,
        location: fields.text("location")?,
        service_account: fields.secret("service_account")?,
        default_credentials: None,
        metadata_host: google::metadata_host(fields.resolver),
        impersonate: fields.text("impersonate")?,
        stage_bucket: fields.text("stage_bucket")?.map(|text| {
            let place = text.trim_start_matches("gs://").trim_end_matches('/');
            let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
            (bucket.to_owned(), prefix.to_owned())
        }),
        stage_above: fields
            .text("stage_above")?
            .and_then(|text| ByteSize::parse(&text))
            .map_or(STAGE_ABOVE, |ByteSize(bytes)| bytes),
        compress: fields.text("compress")?.as_deref() != Some("false"),
        job_timeout: match fields.text("job_timeout")? {
            Some(text) => parse_duration(&text)?,
            None => JOB_TIMEOUT,
        },
        endpoint: fields.text("endpoint")?,
        tariff: fields.text("price_per_tib")?.map(|text| Tariff::parse(&text)).transpose()?.unwrap_or_default(),
        storage_endpoint: fields.text("storage_endpoint")?,
    };
    // Credentials of the environment are never sent to an address of somebody else's.
    if connection.service_account.is_none() && connection.is_google() {
        connection.default_credentials = google::default_credentials(fields.resolver)?;
    }
    Ok(connection)
}

/// The text of one value.
pub(super) fn text(value: &Value, resolver: &Resolver) -> Result<String> {
    match value {
        Value::Plain(text) => Ok(text.expose_secret().to_owned()),
        Value::From(reference) => resolver.resolve(reference),
        Value::Map(_) | Value::Tree(_) => Ok(String::new()),
    }
}

/// Tells the redactor of a secret and of the secrets within it.
pub(super) fn learn(redactor: &Redactor, key: &str, text: &str) {
    redactor.learn(text);
    if key == "uri" {
        learn_login(redactor, text);
        // A password with a slash that nobody encoded is a password all the same.
        let login = text.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(login, _)| login);
        login.and_then(|login| login.split_once(':')).inspect(|(_, password)| redactor.learn(password));
    }
    if let Ok(serde_json::Value::Object(members)) = serde_json::from_str(text) {
        for secret in ["private_key", "private_key_id", "client_secret", "refresh_token"] {
            if let Some(text) = members.get(secret).and_then(serde_json::Value::as_str) {
                redactor.learn(text);
            }
        }
    }
    // A header's value is a word for the scheme and the secret: `Bearer abc`.
    if let Some((_, secret)) = text
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("basic"))
    {
        redactor.learn(secret);
    }
}

/// Tells the redactor of the password in an address.
pub(super) fn learn_login(redactor: &Redactor, address: &str) {
    let Some(authority) = address.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or(rest))
    else {
        return;
    };
    if let Some((_, password)) = authority.rsplit_once('@').and_then(|(login, _)| login.split_once(':')) {
        redactor.learn(password);
        redactor.learn(&uri::decode(password));
    }
}

/// The fields of a definition as texts.
pub(super) struct Resolved<'a> {
    pub definition: &'a Definition,
    pub resolver: &'a Resolver,
}

impl Resolved<'_> {
    pub fn text(&self, key: &str) -> Result<Option<String>> {
        let Some(value) = self.definition.fields.get(key) else { return Ok(None) };
        let text = text(value, self.resolver).map_err(|error| error.while_doing(format!("resolving `{key}`")))?;
        if self.definition.is_secret(key) || matches!(value, Value::From(_)) && !names_a_place(key) {
            learn(&self.resolver.redactor, key, &text);
        }
        Ok(Some(text))
    }

    /// A field that the definition is known to have.
    pub fn need(&self, key: &str) -> Result<String> {
        Ok(self.text(key)?.unwrap_or_default())
    }

    pub fn secret(&self, key: &str) -> Result<Option<SecretString>> {
        Ok(self.text(key)?.map(SecretString::from))
    }

    fn need_secret(&self, key: &str) -> Result<SecretString> {
        Ok(SecretString::from(self.need(key)?))
    }

    pub fn map(&self, key: &str) -> Result<BTreeMap<String, String>> {
        let Some(Value::Map(entries)) = self.definition.fields.get(key) else { return Ok(BTreeMap::new()) };
        let read = |(entry, value): (&String, &Value)| {
            let text =
                text(value, self.resolver).map_err(|error| error.while_doing(format!("resolving `{key}.{entry}`")))?;
            if !is_harmless_entry(key, entry) {
                learn(&self.resolver.redactor, entry, &text);
            }
            Ok((entry.clone(), text))
        };
        entries.iter().map(read).collect()
    }
}

fn http(fields: &Resolved<'_>, rotated: Option<Rotated>) -> Result<HttpConnection> {
    let of_fault = |fault: Fault| Fault::into_error(&[fault], "reading its fields".to_owned());
    let style = style::of(&fields.definition.fields).map_err(of_fault)?;
    let auth = match style {
        Style::None => Auth::None,
        Style::Basic => {
            let password = fields.secret("password")?.unwrap_or_default();
            let user = fields.need("user")?;
            // What the header carries, in base64: an answer may repeat it.
            fields.resolver.redactor.learn(&format!("{user}:{}", password.expose_secret()));
            Auth::Basic { user, password }
        }
        Style::Bearer => Auth::Bearer { token: fields.need_secret("token")? },
        Style::ApiKey => {
            let place = match (fields.text("header")?, fields.text("query")?) {
                (_, Some(parameter)) => KeyPlace::Query(parameter),
                (header, None) => KeyPlace::Header(header.unwrap_or_else(|| "X-API-Key".to_owned())),
            };
            Auth::ApiKey { place, key: fields.need_secret("key")? }
        }
        Style::ClientCredentials => Auth::OAuth2(oauth2(fields, Grant::ClientCredentials)?),
        Style::RefreshToken => {
            let configured = fields.need("refresh_token")?;
            // Once the source tells another token than the one that was rotated, the source is right.
            let token = match rotated.filter(|rotated| rotated.configured == configured) {
                Some(rotated) => {
                    fields.resolver.redactor.learn(&rotated.token);
                    rotated.token.clone()
                }
                None => configured,
            };
            Auth::OAuth2(oauth2(fields, Grant::RefreshToken(SecretString::from(token)))?)
        }
        Style::SigV4 => Auth::SigV4(SigV4 {
            service: fields.need("service")?,
            region: fields.need("region")?,
            access_key: fields.need("access_key")?,
            secret_key: fields.need_secret("secret_key")?,
            session_token: fields.secret("session_token")?,
        }),
        Style::Hmac => Auth::Hmac(hmac(fields)?),
        Style::Login => Auth::Login(login(fields)?),
    };
    let certificate = match (fields.text("client_cert")?, fields.secret("client_key")?) {
        (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
        _ => None,
    };
    let headers = fields.map("headers")?;
    Ok(HttpConnection {
        url: fields.need("url")?.trim_end_matches('/').to_owned(),
        auth,
        headers: headers.into_iter().map(|(name, text)| (name, SecretString::from(text))).collect(),
        rate: fields.text("rate")?.map(|rate| read_rate(&rate).map_err(of_fault)).transpose()?,
        max_concurrent: count(fields, "max_concurrent")?.unwrap_or(MAX_CONCURRENT),
        timeout: fields.text("timeout")?.map_or(Ok(TIMEOUT), |text| parse_duration(&text))?,
        test_path: fields.text("test_path")?,
        certificate,
        authorities: fields.text("ca")?,
    })
}

fn hmac(fields: &Resolved<'_>) -> Result<Hmac> {
    Ok(Hmac {
        key_id: fields.text("key_id")?,
        secret: fields.need_secret("secret")?,
        secret_encoding: match fields.text("secret_encoding")?.as_deref() {
            Some("base64") => SecretEncoding::Base64,
            Some("hex") => SecretEncoding::Hex,
            _ => SecretEncoding::Text,
        },
        sha512: fields.text("algorithm")?.as_deref() == Some("sha512"),
        base64: fields.text("encoding")?.as_deref() == Some("base64"),
        sign: fields.need("sign")?,
        send: fields.map("send")?,
        send_query: fields.map("send_query")?,
    })
}

fn login(fields: &Resolved<'_>) -> Result<Login> {
    let secrets = |key: &str| -> Result<BTreeMap<String, SecretString>> {
        Ok(fields.map(key)?.into_iter().map(|(name, text)| (name, SecretString::from(text))).collect())
    };
    let token_at = fields.need("token_at")?;
    let token_at = match token_at.split_once(' ') {
        Some(("header", name)) => TokenAt::Header(name.trim().to_owned()),
        Some(("cookie", name)) => TokenAt::Cookie(name.trim().to_owned()),
        _ => TokenAt::Body(token_at),
    };
    let place = match (fields.text("header")?, fields.text("query")?, fields.text("cookie")?) {
        (Some(name), _, _) => Some(TokenPlace::Header(name)),
        (_, Some(name), _) => Some(TokenPlace::Query(name)),
        (_, _, Some(name)) => Some(TokenPlace::Cookie(name)),
        // What came as a cookie goes back as one.
        _ => match &token_at {
            TokenAt::Cookie(name) => Some(TokenPlace::Cookie(name.clone())),
            _ => None,
        },
    };
    Ok(Login {
        path: fields.need("path")?,
        body: secrets("body")?,
        form: secrets("form")?,
        token_at,
        place,
        ttl: fields.text("ttl")?.map(|text| parse_duration(&text)).transpose()?,
    })
}

fn oauth2(fields: &Resolved<'_>, grant: Grant) -> Result<OAuth2> {
    Ok(OAuth2 {
        grant,
        token_url: fields.need("token_url")?,
        client_id: fields.need("client_id")?,
        client_secret: fields.secret("client_secret")?,
        scope: fields.text("scope")?,
        extra: fields.map("extra")?,
    })
}

fn duckdb(fields: &Resolved<'_>, root: &Path) -> Result<DuckDbConnection> {
    let path = fields.need("path")?;
    Ok(DuckDbConnection {
        path: if path == ":memory:" { PathBuf::from(path) } else { root.join(path) },
        memory_limit: fields.text("memory_limit")?.unwrap_or_else(|| MEMORY_LIMIT.to_owned()),
        threads: count(fields, "threads")?,
    })
}

fn server(fields: &Resolved<'_>, port: u16, system: &str) -> Result<ServerConnection> {
    let tls = match fields.text("tls")?.as_deref() {
        Some("disable") => Tls::Disable,
        Some("require") => Tls::Require,
        Some("verify-full") => Tls::VerifyFull,
        _ => Tls::Prefer,
    };
    let port = fields.text("port")?.map_or(Ok(port), |text| text.parse());
    Ok(ServerConnection {
        host: fields.text("host")?.unwrap_or_else(|| "localhost".to_owned()),
        port: port.context(Kind::Connection, || format!("reading the port of a {system} connection"))?,
        user: fields.need("user")?,
        password: fields.secret("password")?,
        database: fields.need("database")?,
        tls,
        statement_timeout: duration(fields, "statement_timeout")?,
        lock_timeout: duration(fields, "lock_timeout")?,
    })
}

fn smtp(fields: &Resolved<'_>) -> Result<SmtpConnection> {
    let port = fields.text("port")?.map(|text| text.parse::<u16>()).transpose();
    let port = port.context(Kind::Connection, || "reading the port of an smtp connection".to_owned())?;
    let tls = match (fields.text("tls")?.as_deref(), port) {
        (Some("none"), _) => MailTls::None,
        (Some("tls"), _) | (None, Some(465)) => MailTls::Tls,
        _ => MailTls::StartTls,
    };
    let usual = match tls {
        MailTls::StartTls => 587,
        MailTls::Tls => 465,
        MailTls::None => 25,
    };
    let login = match (fields.text("user")?, fields.secret("password")?) {
        (Some(user), password) => Some((user, password.unwrap_or_default())),
        (None, _) => None,
    };
    Ok(SmtpConnection {
        host: fields.need("host")?,
        port: port.unwrap_or(usual),
        login,
        from: fields.need("from")?,
        tls,
        authorities: fields.text("ca")?,
        timeout: duration(fields, "timeout")?.unwrap_or(Duration::from_secs(30)),
    })
}

fn duration(fields: &Resolved<'_>, key: &str) -> Result<Option<Duration>> {
    fields.text(key)?.map(|text| parse_duration(&text)).transpose()
}

fn mongodb(fields: &Resolved<'_>) -> Result<MongoDbConnection> {
    Ok(MongoDbConnection { uri: fields.need_secret("uri")?, database: fields.need("database")? })
}

fn count(fields: &Resolved<'_>, key: &str) -> Result<Option<usize>> {
    let text = fields.text(key)?;
    text.map(|text| text.parse().context(Kind::Connection, || format!("reading `{key}`"))).transpose()
}
