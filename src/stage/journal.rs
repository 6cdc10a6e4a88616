//! The journal of a stage: which pages are durable, written line by line, believed only as far as the bytes agree.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::manifest::{Header, Line, Manifest, Of};
use super::rows::StagedPage;
use super::{Spec, discard};
use crate::error::{Context, Error, Kind, Result};
use crate::model::fanout::FailedRequest;
use crate::model::ledger::Fingerprint;
use crate::model::page::Progress;
use crate::model::schema::SourceColumn;
use crate::model::shape::Shape;
use crate::time::UnitKey;

/// The open journal with what its lines add up to.
pub(super) struct Journal {
    dir: PathBuf,
    file: File,
    segment: Option<OpenSegment>,
    target_bytes: u64,
    segments: u32,
    totals: Totals,
    /// A write failed: what it left behind is mended when the stage is opened again, and not written over.
    broken: bool,
    pub progress: Progress,
    /// The columns that the source declares; told anew by every pull, so that they need not be durable before the seal.
    pub columns: Vec<SourceColumn>,
    /// The members that identify a row, as the source told them.
    pub keys: Vec<String>,
    /// Where the source wants to go on.
    pub bookmark: Option<String>,
    /// The shape that the rows had when they were staged before; it knows more than they still show.
    pub known: Option<Shape>,
}

struct OpenSegment {
    number: u32,
    file: File,
    offset: u64,
    raw_bytes: u64,
}

#[derive(Default)]
struct Totals {
    pages: u64,
    bytes: u64,
    longest_row: u64,
    outside: u64,
    shape: Shape,
    units: BTreeMap<UnitKey, (u64, u128)>,
    /// Segments with rows, and how long their durable part is.
    lengths: BTreeMap<u32, u64>,
}

impl Totals {
    fn add(&mut self, line: &Line) {
        self.pages += line.of.pages();
        self.bytes += line.bytes;
        self.longest_row = self.longest_row.max(line.longest_row);
        self.outside += line.outside;
        if let Some(shape) = &line.shape {
            self.shape.merge(shape.clone());
        }
        for (unit, rows, fingerprint) in &line.units {
            let sum = self.units.entry(unit.clone()).or_default();
            sum.0 += rows;
            sum.1 = sum.1.wrapping_add(fingerprint.0);
        }
        if line.length > 0 {
            let length = self.lengths.entry(line.segment).or_default();
            *length = (*length).max(line.offset + line.length);
        }
    }
}

impl Journal {
    /// Opens the journal of a folder; another pull's pages are thrown away.
    pub fn open(dir: &Path, spec: &Spec) -> Result<Self> {
        let identity = identity(spec);
        let path = dir.join("journal.jsonl");
        let (totals, progress, length) = if let Some(found) = recover(dir, &path, &identity)? {
            found
        } else {
            discard(dir)?;
            (Totals::default(), Progress::default(), 0)
        };
        fs::create_dir_all(dir.join("segments")).context(Kind::Storage, || format!("creating {}", dir.display()))?;
        let doing = || format!("opening {}", path.display());
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(false).open(&path).context(Kind::Storage, doing)?;
        file.set_len(length).context(Kind::Storage, doing)?;
        file.seek(SeekFrom::End(0)).context(Kind::Storage, doing)?;
        if length == 0 {
            write_line(&mut file, &Header { identity })?;
        }
        let segments = totals.lengths.keys().last().copied().unwrap_or(0);
        Ok(Self {
            dir: dir.to_owned(),
            file,
            segment: None,
            target_bytes: spec.target_bytes,
            segments,
            totals,
            broken: false,
            progress,
            columns: Vec::new(),
            keys: Vec::new(),
            bookmark: None,
            known: None,
        })
    }

    /// Whether a manifest is of exactly the pages that are durable here.
    pub fn agrees(&self, manifest: &Manifest) -> bool {
        manifest.pages == self.totals.pages && manifest.bytes == self.totals.bytes
    }

    /// Writes a page's frame, then its line.
    ///
    /// # Errors
    /// A page that is durable already, or a disk that refuses; after that the stage takes no page until it is opened anew.
    pub fn write(&mut self, of: Of, staged: StagedPage) -> Result<()> {
        if self.broken {
            return Err(Error::new(Kind::Storage, "writing the stage").because("an earlier page could not be written"));
        }
        match &of {
            Of::Page(page) if self.progress.has(page.number) => {
                return Err(Error::internal(format!("page {} was put into the stage twice", page.number + 1)));
            }
            Of::Batch(batch) => {
                let again = batch.finished.iter().find(|(first, _)| self.progress.fan.finished.contains(*first));
                if let Some((first, _)) = again {
                    return Err(Error::internal(format!("request {} was put into the stage twice", first + 1)));
                }
            }
            Of::Page(_) => {}
        }
        self.broken = true;
        self.put(of, staged)?;
        self.broken = false;
        Ok(())
    }

    fn put(&mut self, of: Of, staged: StagedPage) -> Result<()> {
        let mut merged = self.totals.shape.clone();
        merged.merge(staged.shape.clone());
        let length = staged.frame.len() as u64;
        let (mut number, mut offset) = (self.segments, 0);
        if length > 0 {
            let segment = self.segment(staged.bytes)?;
            (number, offset) = (segment.number, segment.offset);
            let written = segment.file.write_all(&staged.frame);
            written.context(Kind::Storage, || "writing a segment of the stage".to_owned())?;
            segment.offset += length;
        }
        let line = Line {
            of,
            segment: number,
            offset,
            length,
            checksum: staged.checksum,
            bytes: staged.bytes,
            longest_row: staged.longest_row,
            outside: staged.outside,
            units: staged.units.into_iter().map(|(unit, (rows, print))| (unit, rows, print)).collect(),
            shape: (merged != self.totals.shape).then_some(staged.shape),
        };
        write_line(&mut self.file, &line)?;
        self.totals.add(&line);
        line.of.add_to(&mut self.progress);
        Ok(())
    }

    /// The segment that takes the next frame: a new one when the last is full.
    fn segment(&mut self, bytes: u64) -> Result<&mut OpenSegment> {
        if self.segment.as_ref().is_none_or(|segment| segment.raw_bytes >= self.target_bytes) {
            self.segments += 1;
            let path = segment_path(&self.dir, self.segments);
            let file = File::create(&path).context(Kind::Storage, || format!("creating {}", path.display()))?;
            self.segment = Some(OpenSegment { number: self.segments, file, offset: 0, raw_bytes: 0 });
        }
        let segment = self.segment.as_mut().ok_or_else(|| Error::internal("no segment is open"))?;
        segment.raw_bytes += bytes;
        Ok(segment)
    }

    /// Ends the last segment and says what there is.
    pub fn seal(&mut self, spec: &Spec) -> Manifest {
        self.segment = None;
        let mut units: BTreeMap<UnitKey, (u64, Fingerprint)> =
            self.totals.units.iter().map(|(unit, (rows, sum))| (unit.clone(), (*rows, Fingerprint(*sum)))).collect();
        // A unit without rows is a unit all the same.
        for unit in &spec.units {
            units.entry(unit.key()).or_default();
        }
        if spec.units.is_empty() {
            units.entry(UnitKey::whole()).or_default();
        }
        let mut shape = self.known.clone().unwrap_or_else(|| self.totals.shape.clone());
        shape.settle();
        Manifest {
            segments: self.totals.lengths.keys().map(|number| relative(*number)).collect(),
            rows: units.values().map(|(rows, _)| rows).sum(),
            bytes: self.totals.bytes,
            longest_row: self.totals.longest_row,
            shape,
            columns: self.columns.clone(),
            keys: self.keys.clone(),
            bookmark: self.bookmark.clone(),
            units,
            outside: self.totals.outside,
            unit_in_rows: spec.split,
            pages: self.totals.pages,
            pull: spec.pull,
            missing: None,
        }
    }
}

type Recovered = (Totals, Progress, u64);

/// Reads what is durable; none where there is nothing, or where it is of another pull.
fn recover(dir: &Path, path: &Path, identity: &str) -> Result<Option<Recovered>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(Kind::Storage, || format!("opening {}", path.display())),
    };
    let mut reader = BufReader::new(file);
    let mut text = Vec::new();
    let mut next = |text: &mut Vec<u8>| {
        text.clear();
        let read = reader.read_until(b'\n', text).context(Kind::Storage, || format!("reading {}", path.display()))?;
        // A line without an end was torn: it and what follows is not durable.
        Result::Ok(read > 0 && text.last() == Some(&b'\n'))
    };
    if !next(&mut text)?
        || serde_json::from_slice::<Header>(&text).ok().is_none_or(|header| header.identity != identity)
    {
        return Ok(None);
    }
    let (mut totals, mut progress, mut length) = (Totals::default(), Progress::default(), text.len() as u64);
    let mut segment: Option<(u32, File)> = None;
    while next(&mut text)? {
        let Ok(line) = serde_json::from_slice::<Line>(&text) else { break };
        if !frame_is_whole(dir, &mut segment, &line) {
            break;
        }
        length += text.len() as u64;
        totals.add(&line);
        line.of.add_to(&mut progress);
    }
    for (number, length) in &totals.lengths {
        let path = segment_path(dir, *number);
        let cut = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(*length));
        cut.context(Kind::Storage, || format!("mending {}", path.display()))?;
    }
    Ok(Some((totals, progress, length)))
}

fn frame_is_whole(dir: &Path, segment: &mut Option<(u32, File)>, line: &Line) -> bool {
    if line.length == 0 {
        return true;
    }
    if segment.as_ref().is_none_or(|(number, _)| *number != line.segment) {
        *segment = File::open(segment_path(dir, line.segment)).ok().map(|file| (line.segment, file));
    }
    let Some((_, file)) = segment else { return false };
    let mut frame = vec![0; usize::try_from(line.length).unwrap_or(0)];
    file.seek(SeekFrom::Start(line.offset)).is_ok()
        && file.read_exact(&mut frame).is_ok()
        && xxh3_64(&frame) == line.checksum
}

/// Throws away what the journal of a folder knows.
pub(super) fn forget(dir: &Path) -> Result<()> {
    let path = dir.join("journal.jsonl");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(Kind::Storage, || format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The requests of a fan-out that failed for good and did not come later, in the order of their numbers.
pub(super) fn failed(dir: &Path) -> Result<Vec<FailedRequest>> {
    let path = dir.join("journal.jsonl");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(Kind::Storage, || format!("opening {}", path.display())),
    };
    let mut failed = BTreeMap::new();
    for text in BufReader::new(file).lines().skip(1) {
        let text = text.context(Kind::Storage, || format!("reading {}", path.display()))?;
        let Ok(Line { of: Of::Batch(batch), .. }) = serde_json::from_str(&text) else { continue };
        for (first, count) in &batch.finished {
            let done: Vec<u64> = failed.range(*first..first + count).map(|(number, _)| *number).collect();
            done.iter().for_each(|number| drop(failed.remove(number)));
        }
        failed.extend(batch.failed.into_iter().map(|request| (request.number, request)));
    }
    Ok(failed.into_values().collect())
}

fn identity(spec: &Spec) -> String {
    let units: Vec<_> = spec.units.iter().map(|unit| (unit.start, unit.end)).collect();
    let text = format!("2 {} {units:?} {} {:?} {} {}", spec.table, spec.split, spec.time, spec.tz, spec.request);
    format!("{:032x}", xxh3_128(text.as_bytes()))
}

fn relative(number: u32) -> PathBuf {
    PathBuf::from(format!("segments/{number:06}.ndjson.zst"))
}

fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(relative(number))
}

/// One line, by one write, so that a kill leaves all of it or a torn end.
fn write_line(file: &mut File, line: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_vec(line).context(Kind::Internal, || "writing the journal".to_owned())?;
    text.push(b'\n');
    file.write_all(&text).context(Kind::Storage, || "writing the journal".to_owned())
}

/// Writes a file so that after a kill it is there as a whole or not at all.
pub(super) fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let doing = || format!("writing {}", dir.join(name).display());
    let temporary = dir.join(format!("{name}.new"));
    let mut file = File::create(&temporary).context(Kind::Storage, doing)?;
    file.write_all(bytes).context(Kind::Storage, doing)?;
    fs::rename(&temporary, dir.join(name)).context(Kind::Storage, doing)
}
