//! The key of the encrypted store: from the environment, from a file, from a passphrase, or made at first use.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Context, Error, Kind, Result};
use crate::secret::Redactor;

const LENGTH: usize = 32;
pub(super) const NONCE: usize = 24;

/// A key with its name, so that a value sealed with another one is told apart from a damaged one.
#[derive(Clone)]
pub(super) struct Key {
    cipher: XChaCha20Poly1305,
    pub id: String,
    /// Where it came from, for people.
    pub origin: String,
    /// How it was made, when it was made from a passphrase.
    pub derivation: Option<Derivation>,
}

/// How a passphrase becomes a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Derivation {
    pub salt: String,
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Derivation {
    fn new() -> Self {
        let salt: [u8; 16] = rand::random();
        // The second of the recommendations of RFC 9106: 64 MiB, three passes.
        Self { salt: URL_SAFE_NO_PAD.encode(salt), memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }

    fn derive(&self, passphrase: &str) -> Result<Zeroizing<[u8; LENGTH]>> {
        let doing = || "making the store's key from HAUL_PASSPHRASE".to_owned();
        // The numbers stand unsealed in the file: whoever can change them must not be able to exhaust the memory.
        if self.memory_kib > 1024 * 1024 || self.passes > 64 || self.lanes > 64 {
            return Err(Error::new(Kind::Connection, doing()).because("the store asks for an absurd amount of work"));
        }
        let salt = URL_SAFE_NO_PAD.decode(&self.salt).context(Kind::Connection, doing)?;
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(LENGTH))
            .map_err(|error| Error::new(Kind::Connection, doing()).because(error.to_string()))?;
        let mut key = Zeroizing::new([0; LENGTH]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &salt, key.as_mut())
            .map_err(|error| Error::new(Kind::Connection, doing()).because(error.to_string()))?;
        Ok(key)
    }
}

impl Key {
    fn new(bytes: &[u8; LENGTH], origin: String, derivation: Option<Derivation>) -> Result<Self> {
        let cipher = XChaCha20Poly1305::new(bytes.into());
        // The name is the beginning of the tag of an empty message under a nonce that no value ever gets by chance.
        let nonce = XNonce::from([0; NONCE]);
        let tag = cipher
            .encrypt(&nonce, Payload { msg: b"", aad: b"haul key id" })
            .map_err(|_| Error::internal("an empty message could not be sealed"))?;
        let id = tag.iter().take(6).fold(String::new(), |id, byte| id + &format!("{byte:02x}"));
        Ok(Self { cipher, id, origin, derivation })
    }

    /// Seals a text for one place of the store.
    pub fn seal(&self, text: &str, place: &[u8]) -> Result<Vec<u8>> {
        let nonce: [u8; NONCE] = rand::random();
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: text.as_bytes(), aad: place })
            .map_err(|_| Error::internal("a value could not be sealed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what was sealed for this place; `None` when it was not, or was changed.
    pub fn open(&self, sealed: &[u8], place: &[u8]) -> Option<Zeroizing<String>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        let text = self.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: place }).ok()?;
        String::from_utf8(text).ok().map(Zeroizing::new)
    }
}

/// Where keys are looked for.
pub(super) struct Keys {
    folder: PathBuf,
    environment: BTreeMap<String, String>,
    redactor: Redactor,
}

impl Keys {
    pub fn new(folder: &Path, environment: &BTreeMap<String, String>, redactor: Redactor) -> Self {
        let ours = ["HAUL_KEY", "HAUL_KEY_FILE", "HAUL_PASSPHRASE"];
        let environment: BTreeMap<String, String> = ours
            .iter()
            .filter_map(|name| {
                Some(((*name).to_owned(), environment.get(*name).filter(|text| !text.is_empty())?.clone()))
            })
            .collect();
        for name in ["HAUL_KEY", "HAUL_PASSPHRASE"] {
            if let Some(secret) = environment.get(name) {
                redactor.learn(secret.trim());
            }
        }
        Self { folder: folder.to_path_buf(), environment, redactor }
    }

    /// The key, if there is one. `derivation` is what the store says of the passphrase that it was sealed with.
    pub fn find(&self, derivation: Option<&Derivation>) -> Result<Option<Key>> {
        if let Some(text) = self.environment.get("HAUL_KEY") {
            let bytes = decode(text).ok_or_else(|| malformed("HAUL_KEY"))?;
            return Key::new(&bytes, "HAUL_KEY".to_owned(), None).map(Some);
        }
        if let Some(path) = self.environment.get("HAUL_KEY_FILE") {
            return self.read(Path::new(path), &format!("HAUL_KEY_FILE ({path})")).map(Some);
        }
        if let Some(passphrase) = self.environment.get("HAUL_PASSPHRASE") {
            let derivation = derivation.cloned().unwrap_or_else(Derivation::new);
            let bytes = derivation.derive(passphrase)?;
            return Key::new(&bytes, "HAUL_PASSPHRASE".to_owned(), Some(derivation)).map(Some);
        }
        let path = self.path();
        if path.exists() { self.read(&path, ".haul/key").map(Some) } else { Ok(None) }
    }

    /// Makes `.haul/key`, which only its owner can read.
    pub fn make(&self) -> Result<Key> {
        let bytes: Zeroizing<[u8; LENGTH]> = Zeroizing::new(rand::random());
        let path = self.path();
        let doing = || format!("making the store's key `{}`", path.display());
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let text = Zeroizing::new(STANDARD.encode(*bytes));
        let mut file = options.open(&path).context(Kind::Storage, doing)?;
        writeln!(file, "{}", *text).and_then(|()| file.sync_all()).context(Kind::Storage, doing)?;
        self.redactor.learn(&text);
        Key::new(&bytes, ".haul/key".to_owned(), None)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("key")
    }

    fn read(&self, path: &Path, origin: &str) -> Result<Key> {
        refuse_readable_by_others(path)?;
        let doing = || format!("reading the store's key `{}`", path.display());
        let text = Zeroizing::new(fs::read_to_string(path).context(Kind::Connection, doing)?);
        let bytes = decode(&text).ok_or_else(|| malformed(origin))?;
        self.redactor.learn(text.trim());
        Key::new(&bytes, origin.to_owned(), None)
    }
}

fn decode(text: &str) -> Option<Zeroizing<[u8; LENGTH]>> {
    let text = text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
    <[u8; LENGTH]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

fn malformed(origin: &str) -> Error {
    Error::new(Kind::Connection, format!("reading the store's key from {origin}"))
        .because("it is not 32 bytes in base64")
        .hint("`openssl rand -base64 32` makes one")
}

#[cfg(unix)]
fn refuse_readable_by_others(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let doing = || format!("looking at the store's key `{}`", path.display());
    let mode = fs::metadata(path).context(Kind::Connection, doing)?.permissions().mode() & 0o777;
    let of_others = mode & 0o077;
    if of_others == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::Connection, doing())
        .because(format!("its mode is {mode:03o}: others than its owner can get at it"))
        .hint(format!("run: chmod 600 {}", path.display())))
}

#[cfg(not(unix))]
fn refuse_readable_by_others(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_with_its_key_and_at_its_place() {
        let key = Key::new(&[7; LENGTH], String::new(), None).expect("a key");
        let other = Key::new(&[8; LENGTH], String::new(), None).expect("a key");
        let sealed = key.seal("hunter2", b"here").expect("sealed");
        assert_ne!(key.seal("hunter2", b"here").expect("sealed"), sealed);
        assert_eq!(key.open(&sealed, b"here").as_deref().map(String::as_str), Some("hunter2"));
        assert!(key.open(&sealed, b"there").is_none());
        assert!(other.open(&sealed, b"here").is_none());
        assert!(key.open(&sealed[..NONCE - 1], b"here").is_none());
        assert_ne!(key.id, other.id);
    }

    #[test]
    fn a_key_is_read_in_both_alphabets_of_base64() {
        let bytes = [0xfb; LENGTH];
        assert_eq!(decode(&STANDARD.encode(bytes)).as_deref(), Some(&bytes));
        assert_eq!(decode(&URL_SAFE_NO_PAD.encode(bytes)).as_deref(), Some(&bytes));
        assert!(decode("c2hvcnQ=").is_none());
    }
}
