//! How an HTTP connection says who it is: said by `auth`, or seen from the fields that are there.

use std::collections::BTreeMap;

use super::fields::{Fault, Value};

/// The ways to authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    None,
    Basic,
    Bearer,
    ApiKey,
    ClientCredentials,
    RefreshToken,
    SigV4,
    Hmac,
    Login,
}

/// The fields of the ways, with their words. Several ways may have a field of the same name.
const FAMILIES: [(&str, &[&str]); 7] = [
    ("basic", &["user", "password"]),
    ("bearer", &["token"]),
    ("api_key", &["key", "header", "query"]),
    ("oauth2", &["client_id", "client_secret", "token_url", "refresh_token", "grant", "scope", "extra"]),
    ("sigv4", &["service", "region", "access_key", "secret_key", "session_token"]),
    ("hmac", &["key_id", "secret", "secret_encoding", "algorithm", "encoding", "sign", "send", "send_query"]),
    ("login", &["path", "body", "form", "token_at", "cookie", "header", "query", "ttl"]),
];

/// What may stand in the texts of a signature.
pub(super) const PLACEHOLDERS: &[&str] = &[
    "method",
    "path",
    "query",
    "url",
    "host",
    "body",
    "body_sha256",
    "timestamp",
    "timestamp_ms",
    "iso",
    "date",
    "nonce",
    "key_id",
    "signature",
];

/// The way that the fields mean.
pub(super) fn of(fields: &BTreeMap<String, Value>) -> Result<Style, Fault> {
    let has = |key: &str| fields.contains_key(key);
    let said = fields.get("auth").and_then(Value::as_plain);
    // A field that several ways have tells none of them.
    let own = |key: &str| FAMILIES.iter().filter(|(_, keys)| keys.contains(&key)).count() == 1;
    let with = |fits: &dyn Fn(&str) -> bool| -> Vec<&str> {
        let families = FAMILIES.iter().filter(|(_, keys)| keys.iter().any(|key| has(key) && fits(key)));
        families.map(|(word, _)| *word).collect()
    };
    let mut present = with(&own);
    if present.is_empty() {
        present = with(&|_| true).into_iter().take(1).collect();
    }
    let word = match (said, present.as_slice()) {
        (Some(word), _) => word,
        (None, []) => "none",
        (None, [only]) => only,
        (None, several) => {
            let message = format!("the fields belong to several ways to authenticate: {}", several.join(" and "));
            return Err(Fault::of("", message).help("say which by `auth = \"...\"`, and leave out the other's fields"));
        }
    };
    let used = FAMILIES.iter().find(|(family, _)| *family == word).map_or(&[][..], |(_, keys)| *keys);
    for (family, keys) in FAMILIES.iter().filter(|(family, _)| *family != word) {
        if let Some(key) = keys.iter().find(|key| has(key) && !used.contains(key)) {
            let message = format!("`{key}` is not used by auth = \"{word}\"");
            return Err(Fault::of(key, message).help(format!("it belongs to auth = \"{family}\"")));
        }
    }
    let need = |keys: &[&str]| match keys.iter().find(|key| !has(key)) {
        Some(key) => Err(Fault::of("", format!("auth = \"{word}\" needs `{key}`"))),
        None => Ok(()),
    };
    match word {
        "basic" => need(&["user"]).map(|()| Style::Basic),
        "bearer" => need(&["token"]).map(|()| Style::Bearer),
        "api_key" => {
            if has("header") && has("query") {
                return Err(Fault::of("query", "the key goes into a header or into the query, not into both"));
            }
            need(&["key"]).map(|()| Style::ApiKey)
        }
        "oauth2" => {
            let grant = fields.get("grant").and_then(Value::as_plain);
            need(&["token_url", "client_id"])?;
            match grant {
                Some("refresh_token") => need(&["refresh_token"]).map(|()| Style::RefreshToken),
                Some(_) if has("refresh_token") => {
                    Err(Fault::of("refresh_token", "`refresh_token` is not used by grant = \"client_credentials\""))
                }
                None if has("refresh_token") => Ok(Style::RefreshToken),
                Some(_) | None => Ok(Style::ClientCredentials),
            }
        }
        "sigv4" => need(&["service", "region", "access_key", "secret_key"]).map(|()| Style::SigV4),
        "hmac" => {
            need(&["secret", "sign"])?;
            hmac(fields).map(|()| Style::Hmac)
        }
        "login" => {
            need(&["path", "token_at"])?;
            login(fields).map(|()| Style::Login)
        }
        _ => Ok(Style::None),
    }
}

/// Whether the texts of a signature can be filled in, and the signature goes anywhere.
fn hmac(fields: &BTreeMap<String, Value>) -> Result<(), Fault> {
    let mut signature = false;
    for key in ["sign", "send", "send_query"] {
        let texts: Vec<&str> = match fields.get(key) {
            Some(Value::Map(entries)) => entries.values().filter_map(Value::as_plain).collect(),
            Some(value) => value.as_plain().into_iter().collect(),
            None => Vec::new(),
        };
        for name in texts.iter().flat_map(|text| placeholders(text)) {
            if !PLACEHOLDERS.contains(&name) || name == "signature" && key == "sign" {
                let known: Vec<&str> = PLACEHOLDERS.iter().copied().filter(|known| *known != "signature").collect();
                let message = format!("`{key}` has `{{{name}}}`, which nothing fills in there");
                return Err(Fault::of(key, message).help(super::fields::nearest_or_all(name, &known)));
            }
            if name == "key_id" && !fields.contains_key("key_id") {
                return Err(Fault::of(key, format!("`{key}` has `{{key_id}}`, and there is no `key_id`")));
            }
            signature |= name == "signature";
        }
    }
    if signature {
        return Ok(());
    }
    Err(Fault::of("send", "the signature goes nowhere").help("send = { X-Signature = \"{signature}\" }"))
}

/// The names in braces.
fn placeholders(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for part in text.split('{').skip(1) {
        if let Some((name, _)) = part.split_once('}')
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
            && !name.is_empty()
        {
            names.push(name);
        }
    }
    names
}

/// Whether a login says one body, and one place for its token.
fn login(fields: &BTreeMap<String, Value>) -> Result<(), Fault> {
    let has = |key: &str| fields.contains_key(key);
    if has("body") && has("form") {
        return Err(Fault::of("form", "a login has a JSON `body` or a `form`, not both"));
    }
    if [has("header"), has("query"), has("cookie")].into_iter().filter(|has| *has).count() > 1 {
        return Err(Fault::of(
            "header",
            "the token goes into a header, into the query or into a cookie, not into several",
        ));
    }
    let text = fields.get("token_at").and_then(Value::as_plain).unwrap_or_default();
    let fits = text.starts_with('$')
        || text
            .split_once(' ')
            .is_some_and(|(kind, name)| matches!(kind, "header" | "cookie") && !name.trim().is_empty());
    if fits {
        return Ok(());
    }
    Err(Fault::of("token_at", "`token_at` does not say where the answer has the token")
        .help("\"$.token\", \"header X-Session\" or \"cookie sid\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(fields: &[(&str, &str)]) -> Result<Style, String> {
        let fields = fields.iter().map(|(key, text)| ((*key).to_owned(), Value::plain(*text))).collect();
        of(&fields).map_err(|fault| fault.message)
    }

    #[test]
    fn the_way_to_authenticate_is_seen_from_the_fields() {
        assert_eq!(style(&[]), Ok(Style::None));
        assert_eq!(style(&[("user", "a"), ("password", "b")]), Ok(Style::Basic));
        assert_eq!(style(&[("token", "a")]), Ok(Style::Bearer));
        assert_eq!(style(&[("key", "a"), ("query", "api_key")]), Ok(Style::ApiKey));
        let aws = [("service", "s3"), ("region", "eu"), ("access_key", "a"), ("secret_key", "b")];
        assert_eq!(style(&aws), Ok(Style::SigV4));
        assert_eq!(style(&[("path", "/login"), ("token_at", "$.t"), ("header", "X-Session")]), Ok(Style::Login));
        let client = [("client_id", "a"), ("token_url", "https://a/t")];
        assert_eq!(style(&client), Ok(Style::ClientCredentials));
        assert_eq!(style(&[client[0], client[1], ("refresh_token", "r")]), Ok(Style::RefreshToken));
    }

    #[test]
    fn fields_that_contradict_each_other_are_faults() {
        assert!(style(&[("user", "a"), ("token", "b")]).is_err_and(|text| text.contains("basic and bearer")));
        assert!(style(&[("auth", "basic"), ("user", "a"), ("token", "b")]).is_err_and(|text| text.contains("`token`")));
        assert!(style(&[("auth", "bearer")]).is_err_and(|text| text.contains("needs `token`")));
        assert!(style(&[("key", "k"), ("header", "a"), ("query", "b")]).is_err());
        assert!(style(&[("secret", "k"), ("sign", "{body}")]).is_err_and(|text| text.contains("goes nowhere")));
        assert!(style(&[("secret", "k"), ("sign", "{bdy}")]).is_err_and(|text| text.contains("`{bdy}`")));
        assert!(style(&[("path", "/l"), ("token_at", "token")]).is_err_and(|text| text.contains("token_at")));
    }
}
