//! The encrypted store: `.haul/connections.enc`, in which every field is sealed for its own place.
//!
//! A value is an envelope `v1.<key id>.<nonce and ciphertext>`; what it is sealed for is the connection's name, the
//! field's and the key's. The list of a connection's fields is sealed too, so that none can be taken away unseen.
//! The names of connections and fields are readable.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::key::{Derivation, Key, Keys};
use crate::error::{Context, Error, Kind, Result};

const VERSION: u32 = 1;
const ENVELOPE: &str = "v1";
/// The place of the sealed list of fields; no field begins with an at sign.
const LIST: &str = "@fields";
/// The place of a rotated refresh token.
const ROTATED: &str = "@refresh_token";

/// The store of one project. Every operation reads the file: other processes write to it.
pub(super) struct Store {
    folder: PathBuf,
    keys: Keys,
    key: Mutex<Option<Key>>,
}

/// The file as it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passphrase: Option<Derivation>,
    connections: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    refresh_tokens: BTreeMap<String, String>,
}

/// The fields of a connection by their names, as JSON.
pub(super) type Fields = BTreeMap<String, Zeroizing<String>>;

/// A refresh token that an endpoint gave in the place of another one.
#[derive(Serialize, Deserialize)]
pub(super) struct Rotated {
    pub token: String,
    /// The one that the connection's source tells; once that is another one, this record is out of date.
    pub configured: String,
}

impl Drop for Rotated {
    fn drop(&mut self) {
        self.token.zeroize();
        self.configured.zeroize();
    }
}

impl Store {
    pub fn new(folder: &Path, keys: Keys) -> Self {
        Self { folder: folder.to_path_buf(), keys, key: Mutex::new(None) }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join("connections.enc")
    }

    /// The names of the connections; no key is needed.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(self.read()?.connections.into_keys().collect())
    }

    /// The fields of a connection.
    pub fn get(&self, name: &str) -> Result<Option<Fields>> {
        let contents = self.read()?;
        let Some(envelopes) = contents.connections.get(name) else { return Ok(None) };
        let key = self.key(&contents)?;
        let list = envelopes.get(LIST).ok_or_else(|| self.tampered(name))?;
        let list = self.open_envelope(&key, list, name, LIST)?;
        let fields: Vec<&str> = envelopes.keys().map(String::as_str).filter(|field| *field != LIST).collect();
        if *list != fields.join("\n") {
            return Err(self.tampered(name));
        }
        fields
            .into_iter()
            .map(|field| Ok((field.to_owned(), self.open_envelope(&key, &envelopes[field], name, field)?)))
            .collect::<Result<_>>()
            .map(Some)
    }

    /// Writes a connection, replacing one of the same name and forgetting its rotated token.
    pub fn put(&self, name: &str, fields: &Fields) -> Result<()> {
        self.change(|contents, key| {
            let list = fields.keys().map(String::as_str).collect::<Vec<_>>().join("\n");
            let mut envelopes = BTreeMap::from([(LIST.to_owned(), envelope(key, &list, name, LIST)?)]);
            for (field, text) in fields {
                envelopes.insert(field.clone(), envelope(key, text, name, field)?);
            }
            contents.connections.insert(name.to_owned(), envelopes);
            contents.refresh_tokens.remove(name);
            Ok(())
        })
    }

    /// Takes a connection and its rotated token away; whether there was one.
    pub fn remove(&self, name: &str) -> Result<bool> {
        if !self.path().exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        let mut contents = self.read()?;
        let token = contents.refresh_tokens.remove(name).is_some();
        let connection = contents.connections.remove(name).is_some();
        if token || connection {
            self.write(&contents)?;
        }
        Ok(connection || token)
    }

    /// The rotated refresh token of a connection, whatever source the connection is from.
    pub fn rotated(&self, name: &str) -> Result<Option<Rotated>> {
        let contents = self.read()?;
        let Some(sealed) = contents.refresh_tokens.get(name) else { return Ok(None) };
        let text = self.open_envelope(&self.key(&contents)?, sealed, name, ROTATED)?;
        serde_json::from_str(&text).map(Some).map_err(|_| self.tampered(name))
    }

    /// Remembers a rotated refresh token.
    pub fn keep_rotated(&self, name: &str, rotated: &Rotated) -> Result<()> {
        let text = Zeroizing::new(
            serde_json::to_string(rotated)
                .map_err(|_| Error::internal("a refresh token could not be written as JSON"))?,
        );
        self.change(|contents, key| {
            contents.refresh_tokens.insert(name.to_owned(), envelope(key, &text, name, ROTATED)?);
            Ok(())
        })
    }

    fn change(&self, change: impl FnOnce(&mut Contents, &Key) -> Result<()>) -> Result<()> {
        self.make_folder()?;
        let _lock = self.lock()?;
        let mut contents = self.read()?;
        let is_new = contents.key.is_empty();
        let key = if is_new {
            let key = self.keys.find(None)?.map_or_else(|| self.keys.make(), Ok)?;
            contents.version = VERSION;
            contents.key.clone_from(&key.id);
            contents.passphrase.clone_from(&key.derivation);
            *self.key.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
            key
        } else {
            self.key(&contents)?
        };
        change(&mut contents, &key)?;
        self.write(&contents)
    }

    /// The key that the store was sealed with. Deriving one takes a moment, so it is kept.
    fn key(&self, contents: &Contents) -> Result<Key> {
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.as_ref().filter(|key| key.id == contents.key) {
            return Ok(key.clone());
        }
        let doing = || format!("opening the encrypted store `{}`", self.path().display());
        let found = self.keys.find(contents.passphrase.as_ref())?.ok_or_else(|| {
            Error::new(Kind::Connection, doing())
                .because("its key is not there: neither HAUL_KEY, HAUL_KEY_FILE, HAUL_PASSPHRASE nor the file .haul/key")
                .hint("without its key the store cannot be read; bring the key back, or delete the store and set its connections again")
        })?;
        if found.id == contents.key {
            *known = Some(found.clone());
            return Ok(found);
        }
        let sealed_with = if contents.passphrase.is_some() { "a passphrase, whose key is" } else { "the key" };
        Err(Error::new(Kind::Connection, doing())
            .because(format!("it was sealed with {sealed_with} {}, and {} gives the key {}", contents.key, found.origin, found.id))
            .hint("give the key that the store was made with: HAUL_KEY, HAUL_KEY_FILE, HAUL_PASSPHRASE and .haul/key are looked at in this order"))
    }

    fn read(&self) -> Result<Contents> {
        let path = self.path();
        let doing = || format!("reading the encrypted store `{}`", path.display());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Contents::default()),
            Err(error) => return Err(Error::new(Kind::Connection, doing()).because(error)),
        };
        let contents: Contents = serde_json::from_str(&text).map_err(|error| {
            Error::new(Kind::Connection, doing())
                .because(error)
                .hint("the file is damaged: bring it back from a backup, or delete it and set its connections again")
        })?;
        if contents.version != VERSION {
            return Err(Error::new(Kind::Connection, doing())
                .because(format!("it has format {}, this haul knows format {VERSION}", contents.version))
                .hint("use the haul that wrote it, or a newer one"));
        }
        Ok(contents)
    }

    /// Writes beside the file, brings it to the disk, and only then puts it in the file's place.
    fn write(&self, contents: &Contents) -> Result<()> {
        let path = self.path();
        let doing = || format!("writing the encrypted store `{}`", path.display());
        let text = serde_json::to_string_pretty(contents).context(Kind::Storage, doing)?;
        // A temporary file is made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).context(Kind::Storage, doing)?;
        writeln!(file, "{text}").and_then(|()| file.as_file().sync_all()).context(Kind::Storage, doing)?;
        file.persist(&path).map_err(|error| error.error).context(Kind::Storage, doing)?;
        #[cfg(unix)]
        File::open(&self.folder).and_then(|folder| folder.sync_all()).context(Kind::Storage, doing)?;
        Ok(())
    }

    /// Two processes that write at the same time do so one after the other.
    fn lock(&self) -> Result<File> {
        let path = self.folder.join("connections.lock");
        let doing = || format!("locking the encrypted store by `{}`", path.display());
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).context(Kind::Storage, doing)?;
        file.lock().context(Kind::Storage, doing)?;
        Ok(file)
    }

    fn make_folder(&self) -> Result<()> {
        if self.folder.is_dir() {
            return Ok(());
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.folder).context(Kind::Storage, || format!("making the folder `{}`", self.folder.display()))
    }

    fn open_envelope(&self, key: &Key, text: &str, name: &str, field: &str) -> Result<Zeroizing<String>> {
        let mut pieces = text.splitn(3, '.');
        let (version, id, sealed) = (pieces.next(), pieces.next(), pieces.next());
        if version != Some(ENVELOPE) || id != Some(key.id.as_str()) {
            return Err(self.tampered(name));
        }
        let sealed = sealed.and_then(|sealed| URL_SAFE_NO_PAD.decode(sealed).ok());
        sealed.and_then(|sealed| key.open(&sealed, &place(name, field, &key.id))).ok_or_else(|| self.tampered(name))
    }

    fn tampered(&self, name: &str) -> Error {
        Error::new(Kind::Connection, format!("opening `{name}` in the encrypted store `{}`", self.path().display()))
            .because("the file was changed after it was sealed, or is damaged")
            .hint(format!(
                "bring the file back from a backup, or set the connection again: haul connections set {name}"
            ))
    }
}

fn envelope(key: &Key, text: &str, name: &str, field: &str) -> Result<String> {
    let sealed = key.seal(text, &place(name, field, &key.id))?;
    Ok(format!("{ENVELOPE}.{}.{}", key.id, URL_SAFE_NO_PAD.encode(sealed)))
}

/// What an envelope is sealed for. A name has no zero byte, so no two places are spelled alike.
fn place(name: &str, field: &str, key: &str) -> Vec<u8> {
    [name, field, key].join("\0").into_bytes()
}
