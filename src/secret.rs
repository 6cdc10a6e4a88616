//! Secrets in memory, and the redactor that takes them out of every text that leaves the process.

use std::sync::{Arc, RwLock};

use aho_corasick::AhoCorasick;
pub use secrecy::{ExposeSecret, SecretString};

/// What stands where a secret stood.
pub const MASK: &str = "•••";

/// Secrets shorter than this are not searched for: they would blank out ordinary words.
const SHORTEST: usize = 4;

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
    /// Remembers a secret, also in its URL-encoded, base64 and JSON-escaped forms.
    pub fn learn(&self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner);
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
    use base64::Engine as _;
    let mut forms = vec![secret.to_owned()];
    forms.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    forms.push(base64::engine::general_purpose::STANDARD.encode(secret));
    if let Ok(json) = serde_json::to_string(secret) {
        forms.push(json.trim_matches('"').to_owned());
    }
    forms.dedup();
    forms
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
    }
}
