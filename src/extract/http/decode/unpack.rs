//! Compressed files: gzip and zip, recognized by their first bytes, with bombs defused.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use bytes::Bytes;

use crate::error::{Context, Error, Kind, Result};
use crate::model::answer::{AnswerForm, Compression};

/// So much may be unpacked of anything.
const HARMLESS: u64 = 256 << 20;

/// Beyond that, nothing honest is so many times as large as its file.
const LARGEST_RATIO: u64 = 250;

/// How an answer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zip,
}

impl Packing {
    /// Sees from the first bytes how a file is packed, unless it was said.
    pub fn of(declared: Option<Compression>, head: &[u8]) -> Result<Self> {
        let (gzip, zip) =
            (head.starts_with(&[0x1f, 0x8b]), head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06"));
        match declared {
            Some(Compression::None) => Ok(Self::Plain),
            // What a server unpacks itself, by `Content-Encoding`, is no file of gzip any more.
            Some(Compression::Gzip) if zip => Err(other("gzip", "zip")),
            Some(Compression::Zip) if gzip => Err(other("zip", "gzip")),
            Some(Compression::Zip) if !zip && !head.is_empty() => {
                Err(Error::new(Kind::Source, "the answer is no zip file").because(super::shown(head)))
            }
            _ if gzip => Ok(Self::Gzip),
            _ if zip => Ok(Self::Zip),
            _ => Ok(Self::Plain),
        }
    }
}

fn other(declared: &str, found: &str) -> Error {
    Error::new(Kind::Source, format!("the answer is a {found} file, and {declared} was expected"))
        .hint("leave `compression` out: it is seen from the first bytes")
}

/// The bytes of an answer, in memory or in a file.
pub(in crate::extract::http) enum Source {
    Memory(Bytes),
    Disk(File),
}

impl Source {
    fn length(&self) -> Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::Disk(file) => {
                Ok(file.metadata().context(Kind::Storage, || "reading the answer's file".to_owned())?.len())
            }
        }
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Memory(bytes) => {
                let length = into.len().min(bytes.len());
                into[..length].copy_from_slice(&bytes.split_to(length));
                Ok(length)
            }
            Self::Disk(file) => file.read(into),
        }
    }
}

/// Something that can be read at any place.
trait Seekable: Read + Seek {}
impl<T: Read + Seek> Seekable for T {}

/// Calls `read` with each file of an answer: itself, or the members of a zip file that are meant, in the order of their names.
pub(super) fn each(
    packing: Packing,
    form: &AnswerForm,
    mut source: Source,
    read: &mut dyn FnMut(Option<&str>, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let length = source.length()?;
    if let Source::Disk(file) = &mut source {
        file.seek(SeekFrom::Start(0)).context(Kind::Storage, || "reading the answer's file".to_owned())?;
    }
    match packing {
        Packing::Plain => read(None, &mut source),
        Packing::Gzip => read(None, &mut Meter::new(flate2::read::MultiGzDecoder::new(source), length)),
        Packing::Zip => {
            let seekable: Box<dyn Seekable> = match source {
                Source::Memory(bytes) => Box::new(Cursor::new(bytes)),
                Source::Disk(file) => Box::new(file),
            };
            members(seekable, form.members.as_deref(), read)
        }
    }
}

fn members(
    file: Box<dyn Seekable>,
    pattern: Option<&str>,
    read: &mut dyn FnMut(Option<&str>, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let doing = || "opening the zip file".to_owned();
    let mut archive = zip::ZipArchive::new(file).context(Kind::Source, doing)?;
    let mut names: Vec<(String, usize)> = Vec::new();
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).context(Kind::Source, doing)?;
        if !member.is_dir() {
            names.push((member.name().context(Kind::Source, doing)?.into_owned(), index));
        }
    }
    names.sort();
    let all = names.iter().map(|(name, _)| format!("`{name}`")).take(20).collect::<Vec<_>>().join(", ");
    match pattern {
        Some(pattern) => names.retain(|(name, _)| fits(pattern, name)),
        None if names.len() > 1 => {
            return Err(Error::new(Kind::Source, format!("the zip file has {} members: {all}", names.len()))
                .hint("say which of them have the rows: members = \"orders_*.csv\""));
        }
        None => {}
    }
    if names.is_empty() {
        let pattern = pattern.map_or("at all".to_owned(), |pattern| format!("like `{pattern}`"));
        let has = if all.is_empty() { "it is empty".to_owned() } else { format!("it has {all}") };
        return Err(Error::new(Kind::Source, format!("the zip file has no member {pattern}")).because(has));
    }
    for (name, index) in names {
        let member = archive.by_index(index).context(Kind::Source, || format!("opening the member `{name}`"))?;
        let packed = member.compressed_size();
        read(Some(&name), &mut Meter::new(member, packed))?;
    }
    Ok(())
}

/// Whether a name fits a pattern of `*` and `?`; a pattern without a folder speaks of the name alone.
fn fits(pattern: &str, name: &str) -> bool {
    fn go(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|skip| go(rest, &name[skip..])),
            ([b'?', rest @ ..], [_, behind @ ..]) => go(rest, behind),
            ([one, rest @ ..], [other, behind @ ..]) => one == other && go(rest, behind),
            _ => false,
        }
    }
    let name = if pattern.contains('/') { name } else { name.rsplit('/').next().unwrap_or(name) };
    go(pattern.as_bytes(), name.as_bytes())
}

/// Counts what comes out of a file, and stops what grows beyond all measure.
struct Meter<R> {
    inner: R,
    packed: u64,
    unpacked: u64,
}

impl<R> Meter<R> {
    fn new(inner: R, packed: u64) -> Self {
        Self { inner, packed, unpacked: 0 }
    }
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.unpacked += read as u64;
        if self.unpacked > HARMLESS && self.unpacked / self.packed.max(1) > LARGEST_RATIO {
            let what = format!("a file of {} bytes unpacks to more than {} of them", self.packed, self.unpacked);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_speaks_of_the_name_or_of_the_whole_path() {
        assert!(fits("*.csv", "a/b/orders.csv") && fits("orders_??.csv", "orders_01.csv"));
        assert!(fits("a/*/o*.csv", "a/b/orders.csv") && fits("*", "x"));
        assert!(!fits("*.csv", "orders.csv.txt") && !fits("b/*.csv", "a/orders.csv"));
    }

    #[test]
    fn a_file_that_unpacks_to_more_than_anything_honest_is_stopped() {
        let mut bomb = Meter::new(io::repeat(b'a'), 1000);
        let error = io::copy(&mut bomb, &mut io::sink()).expect_err("it never ends");
        assert!(error.to_string().contains("1000 bytes"), "{error}");
    }
}
