//! Writing into a place only where it is still as it was seen: what two processes need that write the same names.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use object_store::{
    GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, PutResult,
    UpdateVersion,
};
use tokio::io::AsyncReadExt;

use super::store::{FileStore, Place, joined, key};
use crate::error::{Context, Error, Kind, Result};

/// Up to this size an object is stored by one request, which can ask what is there.
const AT_ONCE: u64 = 80 << 20;

/// The parts of a larger one.
const PART: usize = 8 << 20;

/// What was seen at a name: nothing, or one version of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark(Option<UpdateVersion>);

impl Mark {
    /// Whether a file was there.
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    fn of(meta: &ObjectMeta) -> Self {
        Self(Some(UpdateVersion { e_tag: meta.e_tag.clone(), version: meta.version.clone() }))
    }

    fn put(result: PutResult) -> Self {
        Self(Some(UpdateVersion { e_tag: result.e_tag, version: result.version }))
    }

    fn mode(&self) -> PutMode {
        match &self.0 {
            None => PutMode::Create,
            Some(version) => PutMode::Update(version.clone()),
        }
    }
}

impl FileStore {
    /// A small file with the mark of what was read.
    pub async fn read_marked(&self, path: &str) -> Result<(Option<Bytes>, Mark)> {
        match self.place() {
            Place::Folder(root) => {
                let file = root.join(path);
                // What is read belongs to the mark that was seen before and after.
                loop {
                    let mark = local_mark(&file)?;
                    let bytes = match fs::read(&file) {
                        Ok(bytes) => Some(Bytes::from(bytes)),
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                        Err(error) => {
                            return Err(error).context(Kind::Storage, || format!("reading {}", file.display()));
                        }
                    };
                    if mark.is_there() == bytes.is_some() && local_mark(&file)? == mark {
                        return Ok((bytes, mark));
                    }
                }
            }
            Place::Bucket { store, prefix } => {
                let doing = || format!("reading {}", self.address(path));
                match store.get_opts(&key(&joined(prefix, path))?, GetOptions::default()).await {
                    Ok(got) => {
                        let mark = Mark::of(&got.meta);
                        let bytes = got.bytes().await.map_err(|error| self.told(error, doing()))?;
                        Ok((Some(bytes), mark))
                    }
                    Err(object_store::Error::NotFound { .. }) => Ok((None, Mark::default())),
                    Err(error) => Err(self.told(error, doing())),
                }
            }
            Place::Web(_) => Err(takes_none(self, path)),
        }
    }

    /// What is at a name now.
    pub async fn mark(&self, path: &str) -> Result<Mark> {
        match self.place() {
            Place::Folder(root) => local_mark(&root.join(path)),
            Place::Bucket { store, prefix } => match store.head(&key(&joined(prefix, path))?).await {
                Ok(meta) => Ok(Mark::of(&meta)),
                Err(object_store::Error::NotFound { .. }) => Ok(Mark::default()),
                Err(error) => Err(self.told(error, format!("looking for {}", self.address(path)))),
            },
            Place::Web(_) => Err(takes_none(self, path)),
        }
    }

    /// Stores a small file, if what is at its name is still what was seen there; none where it is not.
    ///
    /// In a folder, `lock` is the file by which those who write take turns.
    pub async fn write_if(&self, path: &str, bytes: Bytes, seen: &Mark, lock: &str) -> Result<Option<Mark>> {
        match self.place() {
            Place::Folder(root) => {
                let (file, lock, seen) = (root.join(path), root.join(lock), seen.clone());
                blocking(move || {
                    in_turn(&lock, || {
                        if local_mark(&file)? != seen {
                            return Ok(None);
                        }
                        put_local(&file, |part| part.write_all(&bytes))?;
                        local_mark(&file).map(Some)
                    })
                })
                .await
            }
            Place::Bucket { .. } => self.put_if(path, PutPayload::from(bytes), seen).await,
            Place::Web(_) => Err(takes_none(self, path)),
        }
    }

    /// Stores a file of this machine, if what is at its name is still what was seen there; none where it is not.
    ///
    /// A file that is too large for one request replaces whatever is there: no bucket takes a condition for such.
    pub async fn store_if(&self, path: &str, local: &Path, seen: &Mark, lock: &str) -> Result<Option<Mark>> {
        let doing = || format!("storing {}", self.address(path));
        match self.place() {
            Place::Folder(root) => {
                let (file, lock, seen, local) = (root.join(path), root.join(lock), seen.clone(), local.to_owned());
                blocking(move || {
                    let folder = file.parent().map(Path::to_owned).unwrap_or_default();
                    fs::create_dir_all(&folder).context(Kind::Storage, || format!("creating {}", folder.display()))?;
                    // Copied beside its name first: a rename is all that happens in turn.
                    let part = copied(&local, &folder)?;
                    in_turn(&lock, || {
                        if local_mark(&file)? != seen {
                            return Ok(None);
                        }
                        let kept = part.persist(&file).map_err(|error| error.error);
                        kept.context(Kind::Storage, || format!("storing {}", file.display()))?;
                        local_mark(&file).map(Some)
                    })
                })
                .await
            }
            Place::Bucket { store, prefix } => {
                let size = fs::metadata(local).context(Kind::Storage, doing)?.len();
                if size <= AT_ONCE {
                    let bytes = tokio::fs::read(local).await.context(Kind::Storage, doing)?;
                    return self.put_if(path, PutPayload::from(bytes), seen).await;
                }
                let upload = store.put_multipart(&key(&joined(prefix, path))?).await;
                let upload = upload.map_err(|error| self.told(error, doing()))?;
                self.parts(upload, local, doing).await?;
                self.mark(path).await.map(Some)
            }
            Place::Web(_) => Err(takes_none(self, path)),
        }
    }

    /// Removes a file; one that is not there is no error.
    pub async fn remove(&self, path: &str) -> Result<()> {
        match self.place() {
            Place::Folder(root) => match fs::remove_file(root.join(path)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).context(Kind::Storage, || format!("removing {}", self.address(path)))
                }
                _ => {
                    leave_empty(root, path);
                    Ok(())
                }
            },
            Place::Bucket { store, prefix } => match store.delete(&key(&joined(prefix, path))?).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.told(error, format!("removing {}", self.address(path)))),
            },
            Place::Web(_) => Err(takes_none(self, path)),
        }
    }

    async fn put_if(&self, path: &str, payload: PutPayload, seen: &Mark) -> Result<Option<Mark>> {
        let Place::Bucket { store, prefix } = self.place() else { return Err(takes_none(self, path)) };
        let options = PutOptions { mode: seen.mode(), ..PutOptions::default() };
        match store.put_opts(&key(&joined(prefix, path))?, payload, options).await {
            Ok(result) => Ok(Some(Mark::put(result))),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(None),
            // What was seen has been removed since.
            Err(object_store::Error::NotFound { .. }) if seen.is_there() => Ok(None),
            Err(error) => Err(self.told(error, format!("storing {}", self.address(path)))),
        }
    }

    async fn parts(
        &self,
        mut upload: Box<dyn MultipartUpload>,
        local: &Path,
        doing: impl Fn() -> String + Copy,
    ) -> Result<()> {
        let mut file = tokio::fs::File::open(local).await.context(Kind::Storage, doing)?;
        loop {
            let mut part = Vec::with_capacity(PART);
            let read = (&mut file).take(PART as u64).read_to_end(&mut part).await.context(Kind::Storage, doing)?;
            if read == 0 {
                break;
            }
            if let Err(error) = upload.put_part(PutPayload::from(part)).await {
                let _ = upload.abort().await;
                return Err(self.told(error, doing()));
            }
        }
        upload.complete().await.map(drop).map_err(|error| self.told(error, doing()))
    }
}

fn takes_none(store: &FileStore, path: &str) -> Error {
    Error::new(Kind::Config, format!("storing {}", store.address(path)))
        .because("a web server takes no files")
        .hint("a folder or a bucket does: `url` of the connection is \"exports\", \"s3://…\" or \"gs://…\"")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(Kind::Internal, || "storing a file".to_owned())?
}

/// What is at a local name: each file that is put there has an inode, or at least a time, of its own.
fn local_mark(file: &Path) -> Result<Mark> {
    let meta = match fs::metadata(file) {
        Ok(meta) => meta,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Mark::default());
        }
        Err(error) => return Err(error).context(Kind::Storage, || format!("looking for {}", file.display())),
    };
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&meta);
    #[cfg(not(unix))]
    let inode = 0;
    let modified = meta.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let version = format!("{inode} {} {:?}", meta.len(), modified.unwrap_or_default());
    Ok(Mark(Some(UpdateVersion { e_tag: None, version: Some(version) })))
}

/// Does something while nobody else does the like; a process that dies gives its turn back.
fn in_turn<T>(lock: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let doing = || format!("waiting for {}", lock.display());
    if let Some(folder) = lock.parent() {
        fs::create_dir_all(folder).context(Kind::Storage, doing)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(lock).context(Kind::Storage, doing)?;
    file.lock().context(Kind::Storage, doing)?;
    let done = work();
    let _ = file.unlock();
    done
}

fn put_local(file: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let doing = || format!("storing {}", file.display());
    let folder = file.parent().map(Path::to_owned).unwrap_or_default();
    fs::create_dir_all(&folder).context(Kind::Storage, doing)?;
    let mut part = tempfile::Builder::new().prefix(".part-").tempfile_in(folder).context(Kind::Storage, doing)?;
    write(part.as_file_mut()).context(Kind::Storage, doing)?;
    open_to_all(part.as_file()).context(Kind::Storage, doing)?;
    part.as_file().sync_all().context(Kind::Storage, doing)?;
    part.persist(file).map(drop).map_err(|error| error.error).context(Kind::Storage, doing)
}

fn copied(local: &Path, folder: &Path) -> Result<tempfile::NamedTempFile> {
    let doing = || format!("copying into {}", folder.display());
    let mut part = tempfile::Builder::new().prefix(".part-").tempfile_in(folder).context(Kind::Storage, doing)?;
    let mut from = File::open(local).context(Kind::Storage, doing)?;
    std::io::copy(&mut from, part.as_file_mut()).context(Kind::Storage, doing)?;
    open_to_all(part.as_file()).context(Kind::Storage, doing)?;
    part.as_file().sync_all().context(Kind::Storage, doing)?;
    Ok(part)
}

/// A temporary file is for its owner alone; this one is for all who may look into the folder.
fn open_to_all(file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    let _ = file;
    Ok(())
}

/// Removes the folders that a removed file leaves empty, but for the connection's own.
fn leave_empty(root: &Path, path: &str) {
    let mut folder: Option<PathBuf> = root.join(path).parent().map(Path::to_owned);
    while let Some(empty) = folder.filter(|folder| folder != root && folder.starts_with(root)) {
        // Fails, as it should, where something is left.
        if fs::remove_dir(&empty).is_err() {
            return;
        }
        folder = empty.parent().map(Path::to_owned);
    }
}
