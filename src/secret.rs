//! Secrets in memory, and the redactor that takes them out of every text that leaves the process.

use std::sync::{Arc, RwLock};

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
pub use secrecy::{ExposeSecret, SecretString};

/// What stands where a secret stood.
pub const MASK: &str = "•••";

/// Secrets shorter than this are not searched for: they would blank out ordinary words.
const SHORTEST: usize = 4;

/// Parts of a secret are searched for from this length on.
const LONG: usize = 10;

/// Takes every secret that it was told of out of a text.
///
/// One redactor is shared by all that print, log or store; whoever resolves a secret tells it first.
/// Cloning is cheap and all clones know the same secrets.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    secrets: Vec<String>,
    matcher: Option<AhoCorasick>,
}

impl Redactor {
    /// Remembers a secret, also as it looks in an address, in base64, in JSON and line by line.
    pub fn learn(&self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.secrets.iter().any(|form| form == secret) {
            return;
        }
        for form in forms(secret) {
            if !known.secrets.contains(&form) {
                known.secrets.push(form);
            }
        }
        known.matcher =
            AhoCorasick::builder().match_kind(aho_corasick::MatchKind::LeftmostLongest).build(&known.secrets).ok();
    }

    /// Replaces every known secret in `text`.
    pub fn redact(&self, text: &str) -> String {
        let known = self.known.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &known.matcher {
            Some(matcher) => matcher.replace_all(text, &vec![MASK; known.secrets.len()]),
            None => text.to_owned(),
        }
    }
}

/// The forms in which a secret may turn up in a text.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    // A key of several lines may be quoted by one of them; those of a JSON document are mostly names.
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= LONG && !line.starts_with("-----"));
    if !secret.trim_start().starts_with('{') {
        forms.extend(lines.map(str::to_owned));
    }
    for form in forms.clone() {
        forms.push(url::form_urlencoded::byte_serialize(form.as_bytes()).collect());
        for (unreserved, lower) in [("-._~", false), ("-._~", true), ("-_.!~*'()", false)] {
            forms.push(percent_encoded(&form, unreserved, lower));
        }
        forms.extend(in_base64(form.as_bytes()));
        if let Ok(json) = serde_json::to_string(&form) {
            forms.push(json[1..json.len() - 1].to_owned());
        }
        forms.push(form.escape_debug().to_string());
        // A literal of SQL.
        forms.push(form.replace('\'', "''"));
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

fn percent_encoded(text: &str, unreserved: &str, lower: bool) -> String {
    let one = |byte: u8| match byte {
        _ if byte.is_ascii_alphanumeric() || unreserved.as_bytes().contains(&byte) => char::from(byte).to_string(),
        _ if lower => format!("%{byte:02x}"),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// A secret in both alphabets of base64: alone, and the characters that it alone decides when other bytes stand around it,
/// as in `user:password`.
fn in_base64(secret: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for alphabet in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
        found.push(alphabet.encode(secret));
    }
    for alphabet in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let encoded = alphabet.encode([&[0, 0][..before], secret].concat());
            let bits = 8 * (before + secret.len());
            let own = &encoded[(8 * before).div_ceil(6)..bits / 6];
            if own.len() >= LONG {
                found.push(own.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_in_all_its_forms() {
        let redactor = Redactor::default();
        redactor.learn("p@ss word/1");
        let text = redactor.redact("p@ss word/1 p%40ss+word%2F1 cEBzcyB3b3JkLzE=");
        assert_eq!(text, format!("{MASK} {MASK} {MASK}"));
        for form in ["p%40ss%20word%2F1", "p%40ss%20word%2f1", "cEBzcyB3b3JkLzE"] {
            assert_eq!(redactor.redact(form), MASK);
        }
    }

    #[test]
    fn a_secret_within_base64_leaves_no_more_than_its_ends() {
        let secret = "corr\"ect-horse?battery~staple";
        let redactor = Redactor::default();
        redactor.learn(secret);
        for around in ["", "a:", "an:", "ann:"] {
            for alphabet in [STANDARD, URL_SAFE] {
                let text = redactor.redact(&alphabet.encode(format!("{around}{secret}!")));
                assert!(text.contains(MASK) && text.chars().count() < 12, "{text}");
            }
        }
        assert_eq!(redactor.redact(&format!("{secret:?}")), format!("\"{MASK}\""));
        assert_eq!(redactor.redact(&serde_json::json!([secret]).to_string()), format!("[\"{MASK}\"]"));
    }

    #[test]
    fn each_long_line_of_a_key_is_a_secret() {
        let redactor = Redactor::default();
        redactor.learn("-----BEGIN-----\nMIIEvQIBADANBgkqh\nab\n");
        assert_eq!(
            redactor.redact("line 2 is MIIEvQIBADANBgkqh, line 3 is ab"),
            format!("line 2 is {MASK}, line 3 is ab")
        );
    }
}
