//! Signatures: of a request as AWS wants it (Signature Version 4), and of whatever another API wants to have signed.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use sha2::{Digest, Sha256, Sha512};
use url::Url;

use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::{self, SecretEncoding, SigV4};
use crate::secret::ExposeSecret;
use crate::time::Instant;

fn hmac_sha256(key: &[u8], text: &[u8]) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).context(Kind::Internal, || "taking a key".to_owned())?;
    mac.update(text);
    Ok(mac.finalize().into_bytes().to_vec())
}

fn hmac_sha512(key: &[u8], text: &[u8]) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).context(Kind::Internal, || "taking a key".to_owned())?;
    mac.update(text);
    Ok(mac.finalize().into_bytes().to_vec())
}

fn sha256(text: &[u8]) -> String {
    hex::encode(Sha256::digest(text))
}

fn body_of(request: &reqwest::Request) -> &[u8] {
    request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default()
}

fn put(request: &mut reqwest::Request, name: &str, value: &str) -> Result<()> {
    let doing = || format!("writing the header `{name}`");
    let header: HeaderName = name.parse().context(Kind::Connection, doing)?;
    let mut value = HeaderValue::from_str(value).context(Kind::Connection, doing)?;
    value.set_sensitive(true);
    request.headers_mut().insert(header, value);
    Ok(())
}

/// Host and port as they stand in the `Host` header.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Signs a request for AWS.
///
/// The protocol is the one of "Create a signed AWS API request" in the IAM User Guide; its public test suite holds it.
pub(super) fn aws(keys: &SigV4, request: &mut reqwest::Request, now: Instant) -> Result<()> {
    let stamp = now.format("%Y%m%dT%H%M%SZ").to_string();
    let date = &stamp[..8];
    put(request, "x-amz-date", &stamp)?;
    if let Some(token) = &keys.session_token {
        put(request, "x-amz-security-token", token.expose_secret())?;
    }
    let payload = sha256(body_of(request));
    if keys.service == "s3" {
        put(request, "x-amz-content-sha256", &payload)?;
    }
    let host = host_of(request.url());
    put(request, HOST.as_str(), &host)?;
    let signed = |name: &HeaderName| name == HOST || name == CONTENT_TYPE || name.as_str().starts_with("x-amz-");
    let mut headers: Vec<(&str, String)> = request
        .headers()
        .iter()
        .filter(|(name, _)| signed(name))
        .map(|(name, value)| {
            let words = value.to_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>();
            (name.as_str(), words.join(" "))
        })
        .collect();
    headers.sort();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut canonical =
        format!("{}\n{}\n{}\n", request.method(), path_of(request.url(), &keys.service), query_of(request.url()));
    for (name, value) in &headers {
        let _ = writeln!(canonical, "{name}:{value}");
    }
    let _ = write!(canonical, "\n{names}\n{payload}");
    let scope = format!("{date}/{}/{}/aws4_request", keys.region, keys.service);
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let mut key = format!("AWS4{}", keys.secret_key.expose_secret()).into_bytes();
    for part in [date, &keys.region, &keys.service, "aws4_request"] {
        key = hmac_sha256(&key, part.as_bytes())?;
    }
    let signature = hex::encode(hmac_sha256(&key, text.as_bytes())?);
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        keys.access_key
    );
    put(request, AUTHORIZATION.as_str(), &authorization)
}

/// The path, each of whose segments is encoded once more, but for S3.
fn path_of(url: &Url, service: &str) -> String {
    match (service, url.path()) {
        (_, "") => "/".to_owned(),
        ("s3", path) => path.to_owned(),
        (_, path) => path.split('/').map(encoded).collect::<Vec<_>>().join("/"),
    }
}

/// The parameters in the order of their encoded names and values.
fn query_of(url: &Url) -> String {
    let mut pairs: Vec<String> =
        url.query_pairs().map(|(name, value)| format!("{}={}", encoded(&name), encoded(&value))).collect();
    pairs.sort_by(|left, right| left.split_once('=').cmp(&right.split_once('=')));
    pairs.join("&")
}

fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// Signs what the connection says, and puts the signature where it says.
pub(super) fn keyed(keys: &connection::Hmac, request: &mut reqwest::Request, now: Instant) -> Result<()> {
    let nonce = hex::encode(rand::random::<[u8; 16]>());
    let mut signature = None;
    // Parameters without the signature come first: they may be signed themselves.
    for (name, text) in keys.send_query.iter().filter(|(_, text)| !text.contains("{signature}")) {
        let value = filled(text, keys, request, now, &nonce, None);
        request.url_mut().query_pairs_mut().append_pair(name, &value);
    }
    let mut sign = |request: &reqwest::Request| -> Result<String> {
        if let Some(signature) = &signature {
            return Ok(String::clone(signature));
        }
        let text = filled(&keys.sign, keys, request, now, &nonce, None);
        let key = key_of(keys)?;
        let digest =
            if keys.sha512 { hmac_sha512(&key, text.as_bytes())? } else { hmac_sha256(&key, text.as_bytes())? };
        let written = if keys.base64 { STANDARD.encode(digest) } else { hex::encode(digest) };
        Ok(signature.insert(written).clone())
    };
    let signed = sign(request)?;
    for (name, text) in &keys.send {
        let value = filled(text, keys, request, now, &nonce, Some(&signed));
        put(request, name, &value)?;
    }
    for (name, text) in keys.send_query.iter().filter(|(_, text)| text.contains("{signature}")) {
        let value = filled(text, keys, request, now, &nonce, Some(&signed));
        request.url_mut().query_pairs_mut().append_pair(name, &value);
    }
    Ok(())
}

fn key_of(keys: &connection::Hmac) -> Result<Vec<u8>> {
    let secret = keys.secret.expose_secret();
    // The decoder's own message could quote the key.
    let wrong = |form: &str| {
        Error::new(Kind::Connection, format!("`secret` is not written in {form}"))
            .hint("`secret_encoding` says how it is written: \"text\", \"base64\" or \"hex\"")
    };
    match keys.secret_encoding {
        SecretEncoding::Text => Ok(secret.as_bytes().to_vec()),
        SecretEncoding::Base64 => STANDARD.decode(secret.trim()).map_err(|_| wrong("base64")),
        SecretEncoding::Hex => hex::decode(secret.trim()).map_err(|_| wrong("hexadecimal digits")),
    }
}

/// A text with its placeholders filled in; a brace that is none stays.
fn filled(
    text: &str,
    keys: &connection::Hmac,
    request: &reqwest::Request,
    now: Instant,
    nonce: &str,
    signature: Option<&str>,
) -> String {
    let url = request.url();
    let value = |name: &str| -> Option<String> {
        Some(match name {
            "method" => request.method().to_string(),
            "path" => url.path().to_owned(),
            "query" => url.query().unwrap_or_default().to_owned(),
            "url" => url.to_string(),
            "host" => host_of(url),
            "body" => String::from_utf8_lossy(body_of(request)).into_owned(),
            "body_sha256" => sha256(body_of(request)),
            "timestamp" => now.timestamp().to_string(),
            "timestamp_ms" => now.timestamp_millis().to_string(),
            "iso" => now.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "date" => httpdate::fmt_http_date(now.into()),
            "nonce" => nonce.to_owned(),
            "key_id" => keys.key_id.clone().unwrap_or_default(),
            "signature" => signature?.to_owned(),
            _ => return None,
        })
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        match rest[1..].split_once('}').and_then(|(name, behind)| Some((value(name)?, behind))) {
            Some((value, behind)) => {
                out.push_str(&value);
                rest = behind;
            }
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(method: &str, url: &str, headers: &[(&str, &str)], body: &str, token: Option<&str>) -> String {
        let keys = SigV4 {
            service: if url.contains("iam") { "iam" } else { "service" }.to_owned(),
            region: "us-east-1".to_owned(),
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned().into(),
            session_token: token.map(|token| token.to_owned().into()),
        };
        let mut request = reqwest::Request::new(method.parse().expect("a method"), url.parse().expect("an address"));
        for (name, value) in headers {
            request.headers_mut().insert(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
        }
        *request.body_mut() = (!body.is_empty()).then(|| body.to_owned().into());
        aws(&keys, &mut request, "2015-08-30T12:36:00Z".parse().expect("an instant")).expect("a signature");
        let text = request.headers()[AUTHORIZATION].to_str().expect("a text").to_owned();
        text.split_once("Signature=").expect("a signature").1.to_owned()
    }

    /// The names are those of the cases in AWS's public test suite `aws-sig-v4-test-suite`.
    #[test]
    fn requests_are_signed_as_the_test_suite_of_aws_wants_it() {
        let host = "https://example.amazonaws.com";
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let cases = [
            (
                "get-vanilla",
                "GET",
                "/",
                &[][..],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-vanilla-query-order-key-case",
                "GET",
                "/?Param2=value2&Param1=value1",
                &[],
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            ("post-vanilla", "POST", "/", &[], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "post-x-www-form-urlencoded",
                "POST",
                "/",
                &form,
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ];
        for (name, method, path, headers, body, expected) in cases {
            assert_eq!(signed(method, &format!("{host}{path}"), headers, body, None), expected, "{name}");
        }
        // The worked example of the IAM User Guide.
        let utf8 = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let url = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08";
        let expected = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert_eq!(signed("GET", url, &utf8, "", None), expected);
    }

    #[test]
    fn a_text_is_filled_in_and_other_braces_stay() {
        let keys = connection::Hmac {
            key_id: Some("me".to_owned()),
            secret: "key".to_owned().into(),
            secret_encoding: SecretEncoding::Text,
            sha512: false,
            base64: false,
            sign: "The quick brown fox jumps over the lazy dog".to_owned(),
            send: [("x-signature".to_owned(), "{key_id}:{signature}".to_owned())].into(),
            send_query: [("at".to_owned(), "{timestamp}".to_owned())].into(),
        };
        let now: Instant = "2015-08-30T12:36:00Z".parse().expect("an instant");
        let mut request =
            reqwest::Request::new(reqwest::Method::GET, "https://a.test:81/p?x=1".parse().expect("a URL"));
        let text = "{method} {host}{path} {query} {iso} {{\"a\": {none}}";
        assert_eq!(
            filled(text, &keys, &request, now, "n", None),
            "GET a.test:81/p x=1 2015-08-30T12:36:00Z {{\"a\": {none}}"
        );
        keyed(&keys, &mut request, now).expect("a signature");
        // The digest of that sentence with that key, as Wikipedia's article on HMAC has it.
        let expected = "me:f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8";
        assert_eq!(request.headers()["x-signature"].to_str().expect("a text"), expected);
        assert_eq!(request.url().query(), Some("x=1&at=1440938160"));
    }
}
