//! From a file's bytes to pages: what its ending says of compression and format, and the loop that fills the stage.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::Xxh3;

use super::super::http::rows_at;
use super::super::rows::{self, CsvRows, JsonRows, Mark, RowPage, RowReader};
use super::super::{Page, Sink};
use crate::error::{Context, Error, Kind, Result};
use crate::model::files::{CsvFormat, CsvHeader, FileFormat, FilesSource};
use crate::model::page::{PageEntry, Position};

/// The bytes of rows in a page.
pub(super) const PAGE_BYTES: usize = 2 << 20;

/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// A document with a path to its rows has to fit into memory; a larger one has to be a list.
const LARGEST_DOCUMENT: u64 = 256 << 20;

/// How a file is packed and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coding {
    packing: Packing,
    format: FileFormat,
    /// Whether its ending says that tabs divide its cells.
    tabs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
    Zip,
}

impl Coding {
    /// What the ending of a file says, where the step does not.
    pub fn of(path: &str, source: &FilesSource) -> Result<Self> {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        let packings = [
            (".gz", Packing::Gzip),
            (".gzip", Packing::Gzip),
            (".zst", Packing::Zstd),
            (".zstd", Packing::Zstd),
            (".zip", Packing::Zip),
        ];
        let packed = packings.iter().find_map(|(ending, packing)| Some((name.strip_suffix(ending)?, *packing)));
        let (stem, packing) = packed.unwrap_or((&name, Packing::Plain));
        let format = match (source.format, stem.rsplit_once('.').map(|(_, ending)| ending)) {
            (Some(format), _) => format,
            (None, Some("csv" | "tsv")) => FileFormat::Csv,
            (None, Some("json")) => FileFormat::Json,
            (None, Some("jsonl" | "ndjson")) => FileFormat::Jsonl,
            (None, Some("parquet" | "pq")) => FileFormat::Parquet,
            // The name within the archive tells, once it is open.
            (None, _) if packing == Packing::Zip => FileFormat::Jsonl,
            (None, _) => {
                return Err(Error::new(Kind::Config, format!("the ending of `{path}` tells no format")).hint(
                    "format = \"csv\", \"json\", \"jsonl\" or \"parquet\"; .gz, .zst and .zip may stand behind it",
                ));
            }
        };
        if format == FileFormat::Parquet && packing != Packing::Plain {
            return Err(Error::new(Kind::Config, format!("`{path}` is Parquet, which is compressed within"))
                .hint("read it without .gz, .zst or .zip around it"));
        }
        Ok(Self { packing, format, tabs: stem.ends_with(".tsv") })
    }

    /// Whether a place in the rows is a place in the file.
    pub fn seekable(self) -> bool {
        self.packing == Packing::Plain && self.format != FileFormat::Parquet
    }

    /// Whether the first rows have to be read to understand the others.
    pub fn has_header(self, source: &FilesSource) -> bool {
        self.format == FileFormat::Csv && !matches!(source.csv.header, CsvHeader::Names(_))
    }

    /// The names of a CSV file's columns.
    pub fn names(self, input: Input, source: &FilesSource, address: &str) -> Result<Option<Vec<String>>> {
        let csv = self.csv(source);
        rows::read_header(BufReader::new(input.open(address)?), &csv)
    }

    fn csv(self, source: &FilesSource) -> CsvFormat {
        let mut csv = source.csv.clone();
        if self.tabs {
            csv.delimiter = csv.delimiter.or(Some(b'\t'));
        }
        csv
    }
}

/// A file that is open, from its first byte or from a place within.
pub(super) enum Input {
    /// A file of this machine.
    Local { path: PathBuf, from: u64, received: Arc<AtomicU64> },
    /// Bytes that come from elsewhere.
    Remote(Box<dyn Read + Send>),
}

impl Input {
    fn open(self, address: &str) -> Result<Box<dyn Read + Send>> {
        match self {
            Self::Remote(bytes) => Ok(bytes),
            Self::Local { path, from, received } => {
                let doing = || format!("opening {address}");
                let mut file = File::open(path).context(Kind::Source, doing)?;
                file.seek(SeekFrom::Start(from)).context(Kind::Source, doing)?;
                Ok(Box::new(Counted { file, received }))
            }
        }
    }

    /// The file on this machine: it may have to be fetched as a whole.
    fn on_disk(self, address: &str) -> Result<(File, Option<tempfile::NamedTempFile>, PathBuf)> {
        let doing = || format!("fetching {address}");
        match self {
            Self::Local { path, received, .. } => {
                let file = File::open(&path).context(Kind::Source, doing)?;
                received.fetch_add(file.metadata().map_or(0, |meta| meta.len()), Ordering::Relaxed);
                Ok((file, None, path))
            }
            Self::Remote(mut bytes) => {
                let mut copy = tempfile::NamedTempFile::new().context(Kind::Storage, doing)?;
                io::copy(&mut bytes, &mut copy).context(Kind::Unavailable, doing)?;
                let file = copy.reopen().context(Kind::Storage, doing)?;
                let path = copy.path().to_owned();
                Ok((file, Some(copy), path))
            }
        }
    }
}

struct Counted {
    file: File,
    received: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.received.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// One file that is to be read into the stage.
pub(super) struct Job {
    /// The file, for messages.
    pub address: String,
    /// Its path, for the column of its name.
    pub path: String,
    pub source: FilesSource,
    pub coding: Coding,
    /// The place to begin at.
    pub mark: Mark,
    /// The names of its columns, where it does not begin at its header.
    pub names: Option<Vec<String>>,
    /// The number of its first page.
    pub number: u64,
    pub listing: String,
    pub file: u64,
    /// Whether no file comes after it.
    pub is_last: bool,
    pub sink: Arc<dyn Sink>,
    pub cancel: CancellationToken,
    /// Counts the bytes that were read.
    pub received: Arc<AtomicU64>,
}

impl Job {
    /// Reads the file, and hands its pages to the sink; how many there were.
    pub fn run(mut self, input: Input) -> Result<u64> {
        match self.coding.packing {
            _ if self.coding.format == FileFormat::Parquet => {
                let (_file, _copy, path) = input.on_disk(&self.address)?;
                super::parquet::read(&mut self, &path)
            }
            Packing::Zip => {
                let (file, _copy, _) = input.on_disk(&self.address)?;
                self.zip(file)
            }
            Packing::Plain => {
                let seekable = self.coding.seekable();
                let input = input.open(&self.address)?;
                self.text(BufReader::with_capacity(BUFFER, input), !seekable)
            }
            Packing::Gzip | Packing::Zstd => {
                let mut packed = BufReader::with_capacity(BUFFER, input.open(&self.address)?);
                // A file without a byte has no rows, packed or not.
                let is_empty = packed.fill_buf().context(Kind::Source, || "reading it".to_owned())?.is_empty();
                let input: Box<dyn Read> = match self.coding.packing {
                    _ if is_empty => Box::new(io::empty()),
                    Packing::Gzip => Box::new(MultiGzDecoder::new(packed)),
                    _ => Box::new(
                        zstd::stream::read::Decoder::with_buffer(packed)
                            .context(Kind::Data, || "unpacking it".to_owned())?,
                    ),
                };
                self.text(BufReader::with_capacity(BUFFER, input), true)
            }
        }
    }

    /// The one file within an archive.
    fn zip(&mut self, file: File) -> Result<u64> {
        let broken = |error: zip::result::ZipError| Error::new(Kind::Data, "unpacking it").because(error);
        let mut archive = zip::ZipArchive::new(file).map_err(broken)?;
        let names: Result<Vec<String>, _> = archive.file_names().map(|name| name.map(String::from)).collect();
        let mut files = names.map_err(broken)?;
        files.retain(|name| !name.ends_with('/') && !name.starts_with("__MACOSX/"));
        let [only] = files.as_slice() else {
            return Err(Error::new(Kind::Data, format!("the archive has {} files", files.len()))
                .because(files.iter().take(5).cloned().collect::<Vec<_>>().join(", "))
                .hint("an archive has to have just one"));
        };
        if self.source.format.is_none() {
            let inner = Coding::of(only, &self.source)?;
            self.coding = Coding { packing: Packing::Zip, ..inner };
        }
        let entry = archive.by_name(only).map_err(broken)?;
        self.text(BufReader::with_capacity(BUFFER, entry), true)
    }

    /// Reads a text; `skip` says that it begins at its first byte, whatever the mark is.
    fn text(&mut self, mut input: impl BufRead, skip: bool) -> Result<u64> {
        let (source, mark) = (self.source.clone(), self.mark);
        let csv = self.coding.csv(&source);
        if self.coding.format == FileFormat::Csv && skip && mark.offset > 0 && self.coding.has_header(&source) {
            // The header is at the start, which has to be read again anyway.
            let mut counted = Tee { input: &mut input, taken: 0 };
            self.names = rows::read_header(&mut counted, &csv)?;
            let rest = mark.offset.saturating_sub(counted.taken);
            discard(&mut input, rest)?;
        } else if skip {
            discard(&mut input, mark.offset)?;
        }
        match (self.coding.format, &source.records) {
            (FileFormat::Csv, _) => {
                let names = self.names.take();
                self.pages(&mut CsvRows::new(input, &csv, mark, names.as_deref()))
            }
            (FileFormat::Json, Some(path)) => self.document(input, path),
            (format, _) => self.pages(&mut JsonRows::new(input, mark, format == FileFormat::Json)),
        }
    }

    /// A JSON document with its rows at a path.
    fn document(&mut self, input: impl BufRead, path: &str) -> Result<u64> {
        let mut text = Vec::new();
        let read = input.take(LARGEST_DOCUMENT + 1).read_to_end(&mut text);
        read.context(Kind::Data, || "unpacking it".to_owned())?;
        if text.len() as u64 > LARGEST_DOCUMENT {
            return Err(Error::new(Kind::Data, format!("it has more than {} MiB", LARGEST_DOCUMENT >> 20))
                .hint("a file of any size may be a list of rows, or an object on each line, without `records`"));
        }
        let text = text.strip_prefix(b"\xEF\xBB\xBF").map(<[u8]>::to_vec).unwrap_or(text);
        let rows = if text.iter().all(u8::is_ascii_whitespace) { Vec::new() } else { rows_at(path, &text)? };
        let end = Mark { offset: text.len() as u64, line: 0 };
        let mut page = RowPage { ended: true, ..RowPage::default() };
        for row in rows {
            let start = page.body.len();
            page.body.extend_from_slice(&text[row]);
            page.rows.push(start..page.body.len());
        }
        self.put(page, Mark::default(), end)?;
        Ok(1)
    }

    fn pages(&mut self, rows: &mut dyn RowReader) -> Result<u64> {
        let first = self.number;
        loop {
            if self.cancel.is_cancelled() {
                return Err(Error::new(Kind::Cancelled, "stopped between two pages"));
            }
            let begin = rows.mark();
            let page = rows.page(PAGE_BYTES)?;
            let ended = page.ended;
            self.put(page, begin, rows.mark())?;
            if ended {
                return Ok(self.number - first);
            }
        }
    }

    /// Hands one page to the sink; `end` is the place behind it.
    pub fn put(&mut self, page: RowPage, begin: Mark, end: Mark) -> Result<()> {
        let at = |file: u64, mark: Mark| Position::File {
            listing: self.listing.clone(),
            file,
            offset: mark.offset,
            line: mark.line,
        };
        let next = match (page.ended, self.is_last) {
            (true, true) => None,
            (true, false) => Some(at(self.file + 1, Mark::default())),
            (false, _) => Some(at(self.file, end)),
        };
        let at = at(self.file, begin);
        let page = match &self.source.file_column {
            Some(column) => with_member(page, column, &self.path),
            None => page,
        };
        let mut digest = Xxh3::new();
        page.rows.iter().for_each(|row| digest.update(&page.body[row.clone()]));
        let entry = PageEntry {
            number: self.number,
            at,
            next,
            total: None,
            rows: page.rows.len() as u64,
            digest: digest.digest(),
        };
        let bytes = end.offset.saturating_sub(begin.offset);
        self.sink.put(Page { entry, body: Bytes::from(page.body), rows: page.rows, wire_bytes: bytes })?;
        self.number += 1;
        Ok(())
    }
}

/// Every row with one member more.
fn with_member(page: RowPage, column: &str, text: &str) -> RowPage {
    let mut member = rows::member_key(column);
    rows::push_text(&mut member, text);
    let mut wider = RowPage { ended: page.ended, ..RowPage::default() };
    wider.body.reserve(page.body.len() + page.rows.len() * (member.len() + 1));
    for row in page.rows {
        let start = wider.body.len();
        wider.body.extend_from_slice(&page.body[row]);
        rows::push_member(&mut wider.body, &member);
        wider.rows.push(start..wider.body.len());
    }
    wider
}

/// Reads over so many bytes.
fn discard(input: &mut impl BufRead, bytes: u64) -> Result<()> {
    let skipped =
        io::copy(&mut input.take(bytes), &mut io::sink()).context(Kind::Data, || "unpacking it".to_owned())?;
    if skipped == bytes {
        return Ok(());
    }
    Err(Error::new(Kind::Data, format!("it ends after {skipped} bytes, {bytes} were read before")))
}

/// Counts what is taken from a reader.
struct Tee<'r, R> {
    input: &'r mut R,
    taken: u64,
}

impl<R: BufRead> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.taken += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Tee<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.taken += bytes as u64;
        self.input.consume(bytes);
    }
}
