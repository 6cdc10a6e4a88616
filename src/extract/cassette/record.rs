//! Recording: what of an exchange is kept, and how every secret is taken out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::value::RawValue;

use super::content;
use crate::error::{Context, Error, Kind, Result};
use crate::model::exchange::{Answered, Asked, CassetteHead, Content, Exchange};
use crate::secret::{MASK, Redactor};

/// Headers of requests that may decide what is answered.
const ASKED: [&str; 8] =
    ["accept", "accept-language", "content-type", "if-match", "if-modified-since", "if-none-match", "prefer", "range"];

/// Headers of answers that may decide what happens next.
const ANSWERED: [&str; 9] = [
    "content-disposition",
    "content-language",
    "content-type",
    "etag",
    "last-modified",
    "link",
    "location",
    "retry-after",
    "vary",
];

/// Parts of the names of headers that speak of pages.
const OF_PAGES: [&str; 7] = ["page", "next", "total", "count", "cursor", "offset", "limit"];

/// Parts of the names of headers that never are kept, whatever else they say.
const NEVER: [&str; 7] = ["auth", "cookie", "token", "secret", "key", "session", "signature"];

/// Members of JSON whose texts are credentials by their name.
const CREDENTIALS: [&str; 9] = [
    "access_token",
    "refresh_token",
    "id_token",
    "session_token",
    "client_secret",
    "client_assertion",
    "password",
    "api_key",
    "apikey",
];

/// So much of a compressed body is searched for secrets.
const SEARCHED: u64 = 256 << 20;

/// Keeps exchanges.
pub struct Recorder {
    redactor: Redactor,
    /// Headers that a hook reads its cursor from.
    wanted: BTreeSet<String>,
    kept: Mutex<Vec<Exchange>>,
}

impl Recorder {
    /// Keeps nothing yet; `wanted` names headers of answers that are kept besides those that all have.
    pub fn new(redactor: Redactor, wanted: impl IntoIterator<Item = String>) -> Self {
        let wanted = wanted.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { redactor, wanted, kept: Mutex::default() }
    }

    /// How many exchanges were kept so far.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing was kept so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn keep(
        &self,
        connection: &str,
        asked: Asked,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<()> {
        let place = format!("{} {}", asked.method, self.redactor.redact(&asked.url));
        let response = Answered {
            status: status.as_u16(),
            headers: self.headers(headers),
            body: (!body.is_empty()).then(|| self.body(content(body), &place)).transpose()?,
        };
        let param = |(name, value): (String, String)| (self.redactor.redact(&name), self.redactor.redact(&value));
        let kept = |name: &String| ASKED.contains(&name.as_str());
        let request = Asked {
            method: asked.method,
            url: self.redactor.redact(&asked.url),
            params: asked.params.into_iter().map(param).collect(),
            headers: asked
                .headers
                .into_iter()
                .filter(|(name, _)| kept(name))
                .map(|(name, value)| (name, self.redactor.redact(&value)))
                .collect(),
            body: asked.body.map(|body| self.body(body, &place)).transpose()?,
        };
        self.lock().push(Exchange { connection: connection.to_owned(), request, response });
        Ok(())
    }

    fn headers(&self, headers: &HeaderMap) -> BTreeMap<String, String> {
        let kept = |name: &str| {
            let any = |words: &[&str]| words.iter().any(|word| name.contains(word));
            self.wanted.contains(name) || (ANSWERED.contains(&name) || any(&OF_PAGES)) && !any(&NEVER)
        };
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in headers.iter().filter(|(name, _)| kept(name.as_str())) {
            let text = self.redactor.redact(&String::from_utf8_lossy(value.as_bytes()));
            found.entry(name.as_str().to_owned()).and_modify(|all| *all = format!("{all}, {text}")).or_insert(text);
        }
        found
    }

    /// A body without secrets.
    fn body(&self, body: Content, place: &str) -> Result<Content> {
        let refuse = |what: &str| {
            Err(Error::new(Kind::Source, format!("recording {place}"))
                .because(what.to_owned())
                .hint("this exchange cannot be kept: record another step, or write the answer by hand"))
        };
        Ok(match body {
            Content::Text(text) => Content::Text(self.redactor.redact(&text)),
            Content::Json(raw) => match RawValue::from_string(without_credentials(&self.redactor.redact(raw.get()))) {
                Ok(raw) => Content::Json(raw),
                Err(_) => return refuse("a secret of a connection stands in its JSON as a number"),
            },
            Content::Base64(encoded) => {
                if self.is_known_inside(&encoded) {
                    return refuse("a secret of a connection stands in its bytes, which are no text");
                }
                Content::Base64(encoded)
            }
        })
    }

    /// Whether bytes, or what is compressed in them, have a secret.
    fn is_known_inside(&self, encoded: &str) -> bool {
        use base64::Engine as _;
        let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(encoded) else { return true };
        let has = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            self.redactor.redact(&text) != text
        };
        let mut inner = Vec::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut reader = flate2::read::MultiGzDecoder::new(bytes.as_slice()).take(SEARCHED);
            // What cannot be read to its end is searched as far as it goes.
            let _ = reader.read_to_end(&mut inner);
        }
        has(&bytes) || has(&inner) || self.is_known_in_zip(&bytes)
    }

    fn is_known_in_zip(&self, bytes: &[u8]) -> bool {
        let Ok(mut archive) = zip::ZipArchive::new(std::io::Cursor::new(bytes)) else { return false };
        (0..archive.len()).any(|index| {
            let Ok(file) = archive.by_index(index) else { return false };
            let mut inner = Vec::new();
            let _ = file.take(SEARCHED).read_to_end(&mut inner);
            let text = String::from_utf8_lossy(&inner);
            self.redactor.redact(&text) != text
        })
    }

    /// The whole cassette, in an order that the same exchanges always have.
    ///
    /// # Errors
    /// A secret is still in it: then nothing may be written.
    pub fn cassette(&self, head: &CassetteHead) -> Result<String> {
        let doing = || "writing a cassette".to_owned();
        let mut kept = self.lock().clone();
        kept.sort_by_cached_key(|one| {
            let asked = &one.request;
            let body = serde_json::to_string(&asked.body).unwrap_or_default();
            (one.connection.clone(), asked.method.clone(), asked.url.clone(), asked.params.clone(), body)
        });
        let mut text = serde_json::to_string(head).context(Kind::Internal, doing)?;
        text.push('\n');
        for exchange in &kept {
            text.push_str(&serde_json::to_string(exchange).context(Kind::Internal, doing)?);
            text.push('\n');
        }
        if self.redactor.redact(&text) != text {
            return Err(Error::new(Kind::Source, doing())
                .because("a secret of a connection is still in it; nothing was written")
                .hint("is it a very short one, or a part of an ordinary word?"));
        }
        Ok(text)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Exchange>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// JSON without blanks whose members with the names of credentials are masked.
fn without_credentials(json: &str) -> String {
    let mut out = json.to_owned();
    for name in CREDENTIALS {
        let key = format!("\"{name}\":\"");
        let mut from = 0;
        while let Some(at) = out[from..].find(&key) {
            let start = from + at + key.len();
            let mut escaped = false;
            let end = out[start..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let Some(length) = end else { break };
            out.replace_range(start..start + length, MASK);
            from = start + MASK.len();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_names() {
        let json = "{\"access_token\":\"a\\\"b\",\"next_page_token\":\"c\",\"x\":[{\"password\":\"\"}],\"password\":5}";
        let expected =
            "{\"access_token\":\"•••\",\"next_page_token\":\"c\",\"x\":[{\"password\":\"•••\"}],\"password\":5}";
        assert_eq!(without_credentials(json), expected);
    }
}
