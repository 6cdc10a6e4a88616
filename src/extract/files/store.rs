//! A place with files: a folder, a bucket or a web server, behind one handle.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutOptions, PutPayload, RetryConfig, StaticCredentialProvider,
};

use super::folder;
use super::pattern::Pattern;
use super::web::Web;
use crate::error::{Context, Error, Kind, Result};
use crate::model::connection::{FilesConnection, FilesPlace, GcsBucket, S3Bucket};
use crate::secret::{ExposeSecret, Redactor};

/// A place with files; clones are the same place.
#[derive(Clone)]
pub struct FileStore {
    inner: Arc<Inner>,
}

struct Inner {
    /// The connection, for messages.
    name: String,
    url: String,
    redactor: Redactor,
    place: Place,
}

pub(super) enum Place {
    Folder(PathBuf),
    Bucket { store: Arc<dyn ObjectStore>, prefix: String },
    Web(Web),
}

/// A file, and what tells whether it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// Its path, relative to the connection.
    pub path: String,
    /// Its bytes; not every web server tells.
    pub size: Option<u64>,
    /// What changes when the file changes; empty where nothing tells.
    pub version: String,
}

/// A file that is open for reading.
pub enum Opened {
    /// A file of this machine.
    Local(PathBuf),
    /// Bytes that come from elsewhere.
    Remote(BoxStream<'static, Result<Bytes>>),
}

impl FileStore {
    /// Opens a place; nothing is asked yet.
    pub fn open(name: &str, connection: &FilesConnection, redactor: Redactor) -> Result<Self> {
        let doing = || format!("opening the connection `{name}`");
        let place = match &connection.place {
            FilesPlace::Folder(path) => Place::Folder(path.clone()),
            FilesPlace::S3(bucket) => Place::Bucket { store: s3(bucket, doing)?, prefix: bucket.prefix.clone() },
            FilesPlace::Gcs(bucket) => Place::Bucket { store: gcs(bucket, doing)?, prefix: bucket.prefix.clone() },
            FilesPlace::Web(folder) => Place::Web(Web::open(name, folder, redactor.clone())?),
        };
        Ok(Self { inner: Arc::new(Inner { name: name.to_owned(), url: connection.url.clone(), redactor, place }) })
    }

    /// A folder of this machine.
    pub fn folder(path: PathBuf, redactor: Redactor) -> Self {
        let url = path.display().to_string();
        Self { inner: Arc::new(Inner { name: String::new(), url, redactor, place: Place::Folder(path) }) }
    }

    /// A path as people find it: with the place in front of it.
    pub fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.inner.url.trim_end_matches('/'))
    }

    /// The connection's name, and nothing for the project's own folder.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What it is.
    pub(super) fn place(&self) -> &Place {
        &self.inner.place
    }

    /// The files that a pattern means, in a place that may itself not be there yet.
    pub async fn list_if_there(&self, pattern: &Pattern) -> Result<Vec<FileMeta>> {
        match &self.inner.place {
            Place::Folder(root) if !root.exists() => Ok(Vec::new()),
            _ => self.list(pattern).await,
        }
    }

    /// The files that a pattern means, by their paths.
    pub async fn list(&self, pattern: &Pattern) -> Result<Vec<FileMeta>> {
        let mut found = Vec::new();
        if let Some(names) = pattern.exact() {
            for name in names {
                found.extend(self.head(name).await?);
            }
        } else {
            match &self.inner.place {
                Place::Folder(root) => {
                    let (root, pattern) = (root.clone(), pattern.clone());
                    let listed = tokio::task::spawn_blocking(move || folder::list(&root, &pattern)).await;
                    found = listed.context(Kind::Internal, || "listing a folder".to_owned())??;
                }
                Place::Bucket { store, prefix } => {
                    for folder in pattern.folders() {
                        found.extend(self.list_bucket(store, prefix, &folder, pattern).await?);
                    }
                }
                Place::Web(_) => {
                    return Err(Error::new(Kind::Config, format!("`files` is `{pattern}`"))
                        .because("a web server does not list its files")
                        .hint("name them: files = \"exports/{{ ds }}.csv\", or `{a,b}` for several"));
                }
            }
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found.dedup_by(|one, other| one.path == other.path);
        Ok(found)
    }

    /// Refuses a folder of this machine that is not there: its name may be misspelled, and no day's file would ever come.
    pub fn assert_folder(&self, folder: &str) -> Result<()> {
        let Place::Folder(root) = &self.inner.place else { return Ok(()) };
        let whole = root.join(folder);
        if whole.is_dir() {
            return Ok(());
        }
        Err(Error::new(Kind::Source, format!("listing {}", whole.display()))
            .because("there is no such folder")
            .hint("is its name right, and is it mounted? A day's own folder may come with its first file"))
    }

    async fn list_bucket(
        &self,
        store: &Arc<dyn ObjectStore>,
        prefix: &str,
        folder: &str,
        pattern: &Pattern,
    ) -> Result<Vec<FileMeta>> {
        let below = joined(prefix, folder);
        let doing = || format!("listing {}", self.address(folder));
        let key = (!below.is_empty()).then(|| key(&below)).transpose()?;
        let mut listed = store.list(key.as_ref());
        let mut found = Vec::new();
        while let Some(meta) = listed.try_next().await.map_err(|error| self.told(error, doing()))? {
            let path = meta.location.as_ref();
            let path = if prefix.is_empty() {
                Some(path)
            } else {
                path.strip_prefix(prefix).and_then(|path| path.strip_prefix('/'))
            };
            // A name that ends with a slash stands for a folder in some consoles.
            if let Some(path) = path.filter(|path| pattern.matches(path)) {
                found.push(meta_of(path, &meta));
            }
        }
        Ok(found)
    }

    /// One file; none where it is not there.
    pub async fn head(&self, path: &str) -> Result<Option<FileMeta>> {
        match &self.inner.place {
            Place::Folder(root) => folder::head(root, path),
            Place::Web(web) => web.head(path).await,
            Place::Bucket { store, prefix } => match store.head(&key(&joined(prefix, path))?).await {
                Ok(meta) => Ok(Some(meta_of(path, &meta))),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(self.told(error, format!("looking for {}", self.address(path)))),
            },
        }
    }

    /// One file of a place that may itself not be there yet.
    pub async fn find(&self, path: &str) -> Result<Option<FileMeta>> {
        match &self.inner.place {
            Place::Folder(root) if !root.exists() => Ok(None),
            _ => self.head(path).await,
        }
    }

    /// Opens a file behind its first `from` bytes, if it is still the one that was listed; none where it has changed.
    pub async fn read(&self, file: &FileMeta, from: u64) -> Result<Option<Opened>> {
        match &self.inner.place {
            Place::Folder(root) => {
                let now = folder::head(root, &file.path)?;
                Ok((now.as_ref() == Some(file)).then(|| Opened::Local(root.join(&file.path))))
            }
            Place::Web(web) => web.read(file, from).await,
            Place::Bucket { store, prefix } => {
                let doing = format!("reading {}", self.address(&file.path));
                if from > 0 && file.size.is_some_and(|size| from >= size) {
                    return Ok(Some(Opened::Remote(futures::stream::empty().boxed())));
                }
                let options =
                    GetOptions { range: (from > 0).then_some(GetRange::Offset(from)), ..GetOptions::default() };
                let got = match store.get_opts(&key(&joined(prefix, &file.path))?, options).await {
                    Ok(got) => got,
                    Err(object_store::Error::NotFound { .. }) => return Ok(None),
                    Err(error) => return Err(self.told(error, doing)),
                };
                if meta_of(&file.path, &got.meta) != *file {
                    return Ok(None);
                }
                let store = self.clone();
                let bytes = got.into_stream().map_err(move |error| store.told(error, doing.clone()));
                Ok(Some(Opened::Remote(bytes.boxed())))
            }
        }
    }

    /// Stores a file as a whole: who looks sees all of it or nothing.
    pub async fn put(&self, path: &str, bytes: Bytes, content_type: Option<&str>) -> Result<()> {
        let doing = || format!("storing {}", self.address(path));
        match &self.inner.place {
            Place::Folder(root) => {
                let (root, path) = (root.clone(), path.to_owned());
                let stored = tokio::task::spawn_blocking(move || folder::put(&root, &path, &bytes)).await;
                stored.context(Kind::Internal, doing)?
            }
            Place::Web(_) => Err(Error::new(Kind::Config, doing()).because("a web server takes no files").hint(
                "store into a folder or a bucket: `url` of the connection is \"pictures\", \"s3://…\" or \"gs://…\"",
            )),
            Place::Bucket { store, prefix } => {
                let mut attributes = Attributes::new();
                if let Some(told) = content_type {
                    attributes.insert(Attribute::ContentType, told.to_owned().into());
                }
                let options = PutOptions { attributes, ..PutOptions::default() };
                let put = store.put_opts(&key(&joined(prefix, path))?, PutPayload::from(bytes), options).await;
                put.map(drop).map_err(|error| self.told(error, doing()))
            }
        }
    }

    /// Looks whether the place is there, and lets us in; one sentence on what was found.
    pub async fn probe(&self) -> Result<String> {
        match &self.inner.place {
            Place::Folder(root) => folder::probe(root),
            Place::Web(web) => web.probe().await,
            Place::Bucket { store, prefix } => {
                let below = (!prefix.is_empty()).then(|| key(prefix)).transpose()?;
                let first = store.list(below.as_ref()).try_next().await;
                Ok(match first.map_err(|error| self.told(error, format!("listing {}", self.inner.url)))? {
                    Some(meta) => format!("it lists files, the first is {}", meta.location),
                    None => "it lists no files there yet".to_owned(),
                })
            }
        }
    }

    /// What a bucket's error means.
    pub(super) fn told(&self, error: object_store::Error, doing: String) -> Error {
        use object_store::Error as Told;
        let kind = match &error {
            Told::PermissionDenied { .. } | Told::Unauthenticated { .. } => Kind::Auth,
            Told::NotFound { .. } => Kind::Source,
            Told::InvalidPath { .. } => Kind::Config,
            _ => Kind::Unavailable,
        };
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            let told = inner.to_string();
            if !text.contains(&told) {
                text = format!("{text}: {told}");
            }
            source = inner.source();
        }
        let text: String = self.inner.redactor.redact(&text).chars().take(600).collect();
        Error::new(kind, doing)
            .because(text)
            .hint(format!("`haul connections test {}` tries it alone", self.inner.name))
    }
}

fn meta_of(path: &str, meta: &ObjectMeta) -> FileMeta {
    // Some write the same tag in quotes in one answer, and without in another.
    let tag = meta.e_tag.as_deref().map(|tag| tag.trim_start_matches("W/").trim_matches('"').to_owned());
    let version = tag.unwrap_or_else(|| meta.last_modified.to_rfc3339());
    FileMeta { path: path.to_owned(), size: Some(meta.size), version }
}

pub(super) fn joined(prefix: &str, path: &str) -> String {
    [prefix, path].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/")
}

/// A key as it is in the bucket, without any encoding.
pub(super) fn key(path: &str) -> Result<Key> {
    Key::parse(path).context(Kind::Config, || format!("`{path}` can be no name in a bucket"))
}

fn options(endpoint: Option<&str>) -> ClientOptions {
    ClientOptions::new()
        .with_user_agent(object_store::HeaderValue::from_static(concat!("haul/", env!("CARGO_PKG_VERSION"))))
        .with_connect_timeout(Duration::from_secs(10))
        // A large file takes its time; a silence of a minute is none.
        .with_timeout_disabled()
        .with_read_timeout(Duration::from_mins(1))
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
}

fn patience() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(10),
            base: 2.0,
        },
        max_retries: 5,
        retry_timeout: Duration::from_mins(1),
    }
}

fn s3(bucket: &S3Bucket, doing: impl Fn() -> String + Copy) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.bucket)
        .with_client_options(options(bucket.endpoint.as_deref()))
        .with_retry(patience())
        .with_skip_signature(bucket.anonymous);
    if let Some(region) = &bucket.region {
        builder = builder.with_region(region);
    }
    if let Some((key, secret)) = &bucket.keys {
        builder = builder.with_access_key_id(key).with_secret_access_key(secret.expose_secret());
    }
    if let Some(token) = &bucket.session_token {
        builder = builder.with_token(token.expose_secret());
    }
    if let Some(endpoint) = &bucket.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    Ok(Arc::new(builder.build().context(Kind::Connection, doing)?))
}

fn gcs(bucket: &GcsBucket, doing: impl Fn() -> String + Copy) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&bucket.bucket)
        .with_client_options(options(bucket.endpoint.as_deref()))
        .with_retry(patience());
    if bucket.anonymous {
        let nobody = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
        builder = builder.with_skip_signature(true).with_credentials(Arc::new(nobody));
    }
    if let Some(key) = &bucket.service_account {
        builder = builder.with_service_account_key(key.expose_secret());
    }
    if let Some(endpoint) = &bucket.endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    Ok(Arc::new(builder.build().context(Kind::Connection, doing)?))
}
