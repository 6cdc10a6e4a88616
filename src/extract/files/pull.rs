//! A pull of files: one behind the other, each in pages, and nothing of a listing that changed meanwhile.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use super::super::rows::Mark;
use super::super::{Failure, Probe, Pull, Pulled, Sink};
use super::decode::{Coding, Input, Job};
use super::pattern::Pattern;
use super::store::{FileMeta, FileStore, Opened};
use crate::error::{Context, Error, Kind, Result};
use crate::model::files::FilesSource;
use crate::model::page::{Position, Progress};

/// So many pieces of a body may wait to be read.
const WAITING: usize = 16;

/// The files of a unit or a window, ready to be read.
pub struct FilesPull {
    /// Where they lie.
    pub store: FileStore,
    /// Which they are.
    pub pattern: Pattern,
    /// How they are written.
    pub source: FilesSource,
}

/// The files that were found, and a digest of them.
struct Listing {
    files: Vec<FileMeta>,
    digest: String,
}

#[async_trait]
impl Pull for FilesPull {
    fn identity(&self) -> String {
        let FilesSource { files: _, format, csv, records, file_column, allow_none: _ } = &self.source;
        format!("{} {format:?} {csv:?} {records:?} {file_column:?}", self.place())
    }

    fn place(&self) -> String {
        self.store.address(&self.pattern.to_string())
    }

    fn lines(&self) -> Vec<String> {
        let format = self.source.format.map_or("as their endings tell", |format| format.word());
        let place = match self.store.name() {
            "" => "the project's folder".to_owned(),
            name => format!("connection {name}"),
        };
        vec![format!("FILES {}", self.place()), format!("  format {format}, {place}")]
    }

    async fn probe(&self) -> Result<Probe> {
        let listing = self.listing().await?;
        Ok(match listing.files.as_slice() {
            [] if self.source.allow_none => Probe::Is("no files".to_owned()),
            [] => Probe::Late(format!("no file matches {}", self.place())),
            // Files of which nothing tells whether they have changed have to be read.
            files if files.iter().any(|file| file.version.is_empty()) => Probe::Unknown,
            files => Probe::Is(format!("{} files {}", files.len(), listing.digest)),
        })
    }

    async fn pages(&self, resume: Progress, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Result<Pulled, Failure> {
        let listing = self.listing().await?;
        let mut pulled = Pulled { requests: 1, ..Pulled::default() };
        if listing.files.is_empty() {
            if self.source.allow_none {
                return Ok(pulled);
            }
            return Err(self.none().into());
        }
        let mut number = resume.done;
        let (mut first, mut mark) = (0, Mark::default());
        if let Some(last) = resume.last {
            let Some(next) = last.next else { return Ok(pulled) };
            match next {
                Position::File { listing: known, file, offset, line } if known == listing.digest => {
                    (first, mark) = (usize::try_from(file).unwrap_or(usize::MAX), Mark { offset, line });
                }
                // Other files than those that the durable pages are from.
                _ => return Ok(Pulled { total_moved: true, ..pulled }),
            }
        }
        for (index, file) in listing.files.iter().enumerate().skip(first) {
            let job = Job {
                address: self.store.address(&file.path),
                path: file.path.clone(),
                source: self.source.clone(),
                coding: Coding::of(&file.path, &self.source)?,
                mark: std::mem::take(&mut mark),
                names: None,
                number,
                listing: listing.digest.clone(),
                file: index as u64,
                is_last: index + 1 == listing.files.len(),
                sink: Arc::clone(&sink),
                cancel: cancel.clone(),
                received: Arc::new(AtomicU64::new(0)),
            };
            let received = Arc::clone(&job.received);
            pulled.requests += 1;
            let done = self.read(file, job).await?;
            pulled.bytes += received.load(Ordering::Relaxed);
            let Some(pages) = done else { return Ok(Pulled { total_moved: true, ..pulled }) };
            pulled.pages += pages;
            number += pages;
        }
        Ok(pulled)
    }
}

impl FilesPull {
    async fn listing(&self) -> Result<Listing> {
        let files = self.store.list(&self.pattern).await?;
        if files.is_empty() {
            self.store.assert_folder(self.source.fixed_folder())?;
        }
        let mut digest = Xxh3::new();
        for FileMeta { path, size, version } in &files {
            digest.update(format!("{path}\0{size:?}\0{version}\0").as_bytes());
        }
        Ok(Listing { digest: format!("{:032x}", digest.digest128()), files })
    }

    fn none(&self) -> Error {
        Error::new(Kind::Source, format!("reading {}", self.place()))
            .because("no file matches")
            .hint("where a unit without files is an empty one: allow_none = true")
    }

    /// Reads one file from the job's mark on; the number of its pages, or none where it changed meanwhile.
    async fn read(&self, file: &FileMeta, mut job: Job) -> Result<Option<u64>, Failure> {
        let resumed = job.mark.offset > 0;
        let from = if job.coding.seekable() { job.mark.offset } else { 0 };
        if resumed && from > 0 && job.coding.has_header(&job.source) {
            let Some(opened) = self.store.read(file, 0).await? else { return Ok(None) };
            let (address, coding, source) = (job.address.clone(), job.coding, job.source.clone());
            let doing = address.clone();
            let names = with_input(opened, 0, &job.received, move |input| coding.names(input, &source, &address)).await;
            job.names = names.map_err(|error| error.while_doing(format!("reading {doing}")))?;
        }
        let Some(opened) = self.store.read(file, from).await? else { return Ok(None) };
        let is_local = matches!(opened, Opened::Local(_));
        let doing = format!("reading {}", job.address);
        let received = Arc::clone(&job.received);
        let pages = with_input(opened, from, &received, move |input| job.run(input)).await;
        let pages = pages.map_err(|error| error.while_doing(doing))?;
        // Whoever writes into a file of this machine while it is read is noticed only now.
        if is_local && self.store.head(&file.path).await?.as_ref() != Some(file) {
            return Ok(None);
        }
        Ok(Some(pages))
    }
}

/// Hands a file's bytes to blocking work, while they come.
async fn with_input<T: Send + 'static>(
    opened: Opened,
    from: u64,
    received: &Arc<AtomicU64>,
    work: impl FnOnce(Input) -> Result<T> + Send + 'static,
) -> Result<T> {
    let broken: Arc<Mutex<Option<Error>>> = Arc::default();
    let received = Arc::clone(received);
    let (input, pump): (Input, Option<(BoxStream<'static, Result<Bytes>>, mpsc::Sender<Result<Bytes>>)>) = match opened
    {
        Opened::Local(path) => (Input::Local { path, from, received }, None),
        Opened::Remote(stream) => {
            let (put, taken) = mpsc::channel(WAITING);
            let pieces = Pieces { receiver: taken, piece: Bytes::new(), received, broken: Arc::clone(&broken) };
            (Input::Remote(Box::new(pieces)), Some((stream, put)))
        }
    };
    let working = tokio::task::spawn_blocking(move || work(input));
    if let Some((mut stream, sender)) = pump {
        while let Some(piece) = stream.next().await {
            let ends = piece.is_err();
            // Nobody reads any more: the work has ended, by an error or because it had enough.
            if sender.send(piece).await.is_err() || ends {
                break;
            }
        }
    }
    let worked = working.await.context(Kind::Internal, || "reading a file".to_owned())?;
    // What broke the stream says more than what the reader made of its end.
    let broken = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (worked, broken) {
        (Err(_), Some(broken)) => Err(broken),
        (worked, _) => worked,
    }
}

/// Bytes as they come from elsewhere.
struct Pieces {
    receiver: mpsc::Receiver<Result<Bytes>>,
    piece: Bytes,
    received: Arc<AtomicU64>,
    broken: Arc<Mutex<Option<Error>>>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => {
                    self.received.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    self.piece = piece;
                }
                Some(Err(error)) => {
                    *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return Err(io::Error::other("the bytes broke off"));
                }
            }
        }
        let taken = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}
