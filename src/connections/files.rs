//! Connections to files: what their address may be, which fields belong to which, and what the environment adds.

use std::collections::BTreeMap;
use std::path::Path;

use super::fields::{Fault, Field, Form, Reference, Value, field};
use super::resolve::Resolved;
use super::uri;
use crate::error::Result;
use crate::model::connection::{FilesConnection, FilesPlace, GcsBucket, S3Bucket, WebFolder};
use crate::secret::SecretString;

/// The fields of a connection of type `files`.
pub(super) const FIELDS: &[Field] = &[
    field("url", Form::Place).required(),
    field("region", Form::Text),
    field("access_key", Form::Text),
    field("secret_key", Form::Text).secret(),
    field("session_token", Form::Text).secret(),
    field("service_account", Form::Text).secret(),
    field("endpoint", Form::Text),
    field("anonymous", Form::Word(&["true", "false"])),
    field("user", Form::Text),
    field("password", Form::Text).secret(),
    field("token", Form::Text).secret(),
    field("headers", Form::Map),
];

/// The fields that only some addresses use.
const FAMILIES: &[(&str, &[&str])] = &[
    ("s3", &["region", "access_key", "secret_key", "session_token", "endpoint", "anonymous"]),
    ("gs", &["service_account", "endpoint", "anonymous"]),
    ("https", &["user", "password", "token", "headers"]),
    ("file", &[]),
];

/// The scheme of an address: `file` for a folder, however it is written.
fn scheme(url: &str) -> &str {
    match url.split_once("://") {
        Some(("http", _)) => "https",
        Some((scheme, _)) => scheme,
        None => "file",
    }
}

/// Checks an address.
pub(super) fn check_place(url: &str) -> Result<(), Fault> {
    let help = "a folder such as \"landing\" or \"file:///data/landing\", \"s3://bucket/prefix\", \"gs://bucket/prefix\" or \"https://host/path\"";
    let wrong = |message: &str| Err(Fault::of("url", message).help(help));
    if url.trim().is_empty() {
        return wrong("`url` is empty");
    }
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    match scheme(url) {
        "file" if url.contains("://") && !rest.starts_with('/') => wrong("`url` names a folder of another machine"),
        "s3" | "gs" if rest.split('/').next().is_none_or(str::is_empty) => wrong("`url` has no bucket"),
        "s3" | "gs" if rest.contains('@') => {
            wrong("`url` has credentials in it: they are `access_key` and `secret_key`, or `service_account`")
        }
        "file" | "s3" | "gs" => Ok(()),
        "https" => match url::Url::parse(url) {
            Ok(url) if url.password().is_some() => wrong("`url` has a password in it: that is `user` and `password`"),
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::of("url", format!("`url` is no address: {error}")).help(help)),
        },
        _ => wrong("`url` leads to no place with files"),
    }
}

/// Fields that do not belong to the address, or that do not fit each other.
pub(super) fn disagreement(fields: &BTreeMap<String, Value>) -> Result<(), Fault> {
    let has = |key: &str| fields.contains_key(key);
    // Of an address that is kept elsewhere nothing is known yet.
    if let Some(url) = fields.get("url").and_then(Value::as_plain) {
        let scheme = scheme(url);
        let own = FAMILIES.iter().find(|(name, _)| *name == scheme).map_or(&[][..], |(_, keys)| *keys);
        let others = FAMILIES.iter().flat_map(|(_, keys)| *keys).filter(|key| !own.contains(key));
        if let Some(key) = others.into_iter().find(|key| has(key)) {
            let place = if scheme == "file" { "a folder".to_owned() } else { format!("{scheme}://") };
            let owners: Vec<String> =
                FAMILIES.iter().filter(|(_, keys)| keys.contains(key)).map(|(name, _)| format!("{name}://")).collect();
            return Err(Fault::of(key, format!("`{key}` is not used by {place}"))
                .help(format!("it belongs to {}", owners.join(" and "))));
        }
    }
    let pairs = [
        ("access_key", "secret_key"),
        ("secret_key", "access_key"),
        ("session_token", "secret_key"),
        ("password", "user"),
    ];
    if let Some((key, lacks)) = pairs.into_iter().find(|(key, lacks)| has(key) && !has(lacks)) {
        return Err(Fault::of(key, format!("`{key}` needs `{lacks}`")));
    }
    if has("token") && has("user") {
        return Err(
            Fault::of("token", "`user` and `token` are two ways to say who we are").help("leave one of them out")
        );
    }
    let anonymous = fields.get("anonymous").and_then(Value::as_plain) == Some("true");
    if let Some(key) = ["access_key", "service_account"].into_iter().find(|key| anonymous && has(key)) {
        return Err(Fault::of("anonymous", format!("`anonymous` and `{key}` contradict each other")));
    }
    Ok(())
}

/// Resolves the fields of a connection.
pub(super) fn resolve(fields: &Resolved<'_>, root: &Path) -> Result<FilesConnection> {
    let url = fields.need("url")?;
    if let Err(fault) = check_place(&url) {
        return Err(Fault::into_error(&[fault], "reading its fields".to_owned()));
    }
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let (bucket, prefix) = (bucket.to_owned(), prefix.trim_matches('/').to_owned());
    let anonymous = fields.text("anonymous")?.as_deref() == Some("true");
    let place = match scheme(&url) {
        "s3" => FilesPlace::S3(s3(fields, bucket, prefix, anonymous)?),
        "gs" => FilesPlace::Gcs(GcsBucket {
            bucket,
            prefix,
            service_account: match fields.secret("service_account")? {
                None if !anonymous => google_default(fields)?,
                told => told,
            },
            endpoint: fields.text("endpoint")?,
            anonymous,
        }),
        "https" => FilesPlace::Web(WebFolder {
            url: url.trim_end_matches('/').to_owned(),
            login: match fields.text("user")? {
                Some(user) => Some((user, fields.secret("password")?.unwrap_or_default())),
                None => None,
            },
            token: fields.secret("token")?,
            headers: fields.map("headers")?.into_iter().map(|(name, text)| (name, SecretString::from(text))).collect(),
        }),
        _ => FilesPlace::Folder(root.join(uri::decode(rest))),
    };
    Ok(FilesConnection { url, place })
}

fn s3(fields: &Resolved<'_>, bucket: String, prefix: String, anonymous: bool) -> Result<S3Bucket> {
    let variable = |name: &str| fields.resolver.environment.get(name).filter(|text| !text.is_empty()).cloned();
    let mut keys = fields.text("access_key")?.zip(fields.secret("secret_key")?);
    let mut session_token = fields.secret("session_token")?;
    if keys.is_none() && !anonymous {
        let told = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY"));
        keys = told.map(|(key, secret)| {
            fields.resolver.redactor.learn(&secret);
            (key, SecretString::from(secret))
        });
        session_token = variable("AWS_SESSION_TOKEN").filter(|_| keys.is_some()).map(|token| {
            fields.resolver.redactor.learn(&token);
            SecretString::from(token)
        });
    }
    let region = fields.text("region")?;
    Ok(S3Bucket {
        bucket,
        prefix,
        region: region.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION")),
        keys,
        session_token,
        endpoint: fields.text("endpoint")?,
        anonymous,
    })
}

/// The key that `GOOGLE_APPLICATION_CREDENTIALS` leads to.
fn google_default(fields: &Resolved<'_>) -> Result<Option<SecretString>> {
    let path = fields.resolver.environment.get("GOOGLE_APPLICATION_CREDENTIALS").filter(|path| !path.is_empty());
    let Some(path) = path else { return Ok(None) };
    let text = fields.resolver.resolve(&Reference::File(path.clone()))?;
    super::resolve::learn(&fields.resolver.redactor, "service_account", &text);
    Ok(Some(SecretString::from(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_its_fields_have_to_fit() {
        let fault = |pairs: &[(&str, &str)]| {
            let fields = pairs.iter().map(|(key, text)| ((*key).to_owned(), Value::plain(*text))).collect();
            disagreement(&fields).err().map(|fault| fault.message)
        };
        assert_eq!(fault(&[("url", "landing")]), None);
        assert_eq!(fault(&[("url", "s3://b"), ("access_key", "a"), ("secret_key", "s")]), None);
        let told = |pairs: &[(&str, &str)]| fault(pairs).unwrap_or_default();
        assert_eq!(told(&[("url", "landing"), ("region", "x")]), "`region` is not used by a folder");
        assert_eq!(told(&[("url", "gs://b"), ("secret_key", "s")]), "`secret_key` is not used by gs://");
        assert_eq!(told(&[("url", "s3://b"), ("access_key", "a")]), "`access_key` needs `secret_key`");
        for wrong in ["", "s3://", "s3:///x", "s3://k:s@b", "ftp://h/x", "file://host/x", "https://u:p@h/", "https://"]
        {
            assert!(check_place(wrong).is_err(), "{wrong}");
        }
        for right in ["landing", "/data", "file:///data", "s3://b", "gs://b/p", "https://h/p"] {
            assert!(check_place(right).is_ok(), "{right}");
        }
    }
}
