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
}

/// The fields that only one way uses, with the ways' words.
const FAMILIES: [(&str, &[&str]); 4] = [
    ("basic", &["user", "password"]),
    ("bearer", &["token"]),
    ("api_key", &["key", "header", "query"]),
    ("oauth2", &["client_id", "client_secret", "token_url", "refresh_token", "grant", "scope", "extra"]),
];

/// The way that the fields mean.
pub(super) fn of(fields: &BTreeMap<String, Value>) -> Result<Style, Fault> {
    let has = |key: &str| fields.contains_key(key);
    let said = fields.get("auth").and_then(Value::as_plain);
    let present: Vec<&str> =
        FAMILIES.iter().filter(|(_, keys)| keys.iter().any(|key| has(key))).map(|(word, _)| *word).collect();
    let word = match (said, present.as_slice()) {
        (Some(word), _) => word,
        (None, []) => "none",
        (None, [only]) => only,
        (None, several) => {
            let message = format!("the fields belong to several ways to authenticate: {}", several.join(" and "));
            return Err(Fault::of("", message).help("say which by `auth = \"...\"`, and leave out the other's fields"));
        }
    };
    for (family, keys) in FAMILIES.iter().filter(|(family, _)| *family != word) {
        if let Some(key) = keys.iter().find(|key| has(key)) {
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
        _ => Ok(Style::None),
    }
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
    }
}
