//! From a page's rows to a compressed frame: each row's unit, digest and place among its kind.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use chrono::TimeZone;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};
use zstd::bulk::Compressor;

use super::Spec;
use super::scan::Scanner;
use crate::error::{Context, Error, Kind, Result};
use crate::model::fanout::Added;
use crate::model::ledger::Fingerprint;
use crate::model::page::PageEntry;
use crate::model::pipeline::{Outside, TimeColumn, TimeFormat};
use crate::model::shape::{Place, Shape};
use crate::time::{Calendar, Grain, Instant, Iso, Tz, Unit, UnitKey, read_iso};

/// A page that is ready to be written.
pub(super) struct StagedPage {
    pub frame: Vec<u8>,
    pub checksum: u64,
    pub bytes: u64,
    pub longest_row: u64,
    pub outside: u64,
    pub units: BTreeMap<UnitKey, (u64, Fingerprint)>,
    pub shape: Shape,
}

/// The answer to one request of a fan-out.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The number of the request, from 0.
    pub request: u64,
    /// The answer.
    pub body: &'a [u8],
    /// Its rows as ranges.
    pub rows: &'a [Range<usize>],
    /// What every row gets besides its own members.
    pub add: Option<&'a Added>,
}

/// How hard frames are compressed: rows are read once more and thrown away, so that speed counts for more than size.
const LEVEL: i32 = -1;

/// The most room that is kept for the next page.
const ROOM: usize = 4 << 20;

/// What turns rows into frames, with the room that they need on the way; worth being used again.
pub(super) struct Press {
    compressor: Compressor<'static>,
    room: Vec<u8>,
}

impl Press {
    pub fn new() -> Result<Self> {
        let compressor = Compressor::new(LEVEL).context(Kind::Storage, || "preparing the stage".to_owned())?;
        Ok(Self { compressor, room: Vec::new() })
    }

    /// An empty draft in the room that there is.
    fn draft(&mut self) -> Draft {
        self.room.clear();
        Draft { lines: std::mem::take(&mut self.room), ..Draft::default() }
    }
}

/// Rows on their way into a frame.
#[derive(Default)]
struct Draft {
    lines: Vec<u8>,
    row: Vec<u8>,
    joined: Vec<u8>,
    shape: Shape,
    units: BTreeMap<usize, (u64, u128)>,
    longest: usize,
    outside: u64,
}

/// How rows of this stage find their unit.
pub(super) struct Rule {
    units: Vec<Unit>,
    keys: Vec<UnitKey>,
    /// What is written in front of a row of each unit.
    prefixes: Vec<String>,
    split: bool,
    time: Option<TimeColumn>,
    path: Vec<String>,
    tz: Tz,
}

/// What stands in front of a row of a unit, before its comma.
pub(super) fn prefix(unit: &Unit) -> String {
    let start = match unit.calendar.grain {
        Grain::Hour => unit.start.format("%Y-%m-%d %H:%M:%S").to_string(),
        _ => unit.key().to_string(),
    };
    format!("{{\"_haul_unit\":\"{start}\"")
}

impl Rule {
    pub fn new(spec: &Spec) -> Self {
        let keys =
            if spec.units.is_empty() { vec![UnitKey::whole()] } else { spec.units.iter().map(Unit::key).collect() };
        Self {
            prefixes: spec.units.iter().map(prefix).collect(),
            units: spec.units.clone(),
            keys,
            split: spec.split,
            path: spec.time.as_ref().map(|time| time.path.split('.').map(str::to_owned).collect()).unwrap_or_default(),
            time: spec.time.clone(),
            tz: spec.tz,
        }
    }

    /// Minifies, observes and compresses a page's rows.
    pub fn page(&self, page: &PageEntry, body: &[u8], rows: &[Range<usize>], press: &mut Press) -> Result<StagedPage> {
        let mut draft = press.draft();
        draft.lines.reserve(body.len() + rows.len());
        self.rows(&mut draft, page.number, body, rows, None)?;
        let frame = press.compressor.compress(&draft.lines);
        let frame = frame.context(Kind::Storage, || "compressing a page".to_owned())?;
        Ok(self.staged(draft, frame, press))
    }

    /// The same for the answers of many requests at once, which become one frame.
    ///
    /// # Errors
    /// The first answer whose rows cannot be taken, by its place among `parts`.
    pub fn batch(&self, parts: &[Part<'_>], press: &mut Press) -> Result<StagedPage, (usize, Error)> {
        let mut draft = press.draft();
        draft.lines.reserve(parts.iter().map(|part| part.body.len()).sum());
        for (index, part) in parts.iter().enumerate() {
            self.rows(&mut draft, part.request, part.body, part.rows, part.add).map_err(|error| (index, error))?;
        }
        let frame = if draft.lines.is_empty() {
            Vec::new()
        } else {
            let frame = press.compressor.compress(&draft.lines);
            let frame = frame.context(Kind::Storage, || "compressing a batch".to_owned());
            frame.map_err(|error| (parts.len(), error))?
        };
        Ok(self.staged(draft, frame, press))
    }

    fn rows(
        &self,
        draft: &mut Draft,
        number: u64,
        body: &[u8],
        rows: &[Range<usize>],
        add: Option<&Added>,
    ) -> Result<()> {
        let Draft { lines, row, joined, shape, units, longest, outside } = draft;
        for (index, range) in rows.iter().enumerate() {
            row.clear();
            let place = Place { page: number + 1, row: index as u64 + 1 };
            let mut input = &body[range.clone()];
            if let Some(add) = add {
                joined.clear();
                add.join(input, joined);
                input = joined;
            }
            let mut scanner = Scanner::new(input, place, &self.path).beside(add.map_or(&[], Added::names));
            let begin = lines.len();
            // What stands in front of a row is known only when its time was found.
            scanner.row(shape, if self.split { &mut *row } else { &mut *lines })?;
            let unit = match &self.time {
                None => Some(0),
                Some(time) => self.unit_of(time, scanner.time, place, outside)?,
            };
            let Some(unit) = unit else {
                lines.truncate(begin);
                continue;
            };
            let sum = units.entry(unit).or_default();
            sum.0 += 1;
            sum.1 = sum.1.wrapping_add(xxh3_128(if self.split { row } else { &lines[begin..] }));
            if self.split {
                lines.extend_from_slice(self.prefixes[unit].as_bytes());
                if row.as_slice() != b"{}" {
                    lines.push(b',');
                }
                lines.extend_from_slice(&row[1..]);
            }
            lines.push(b'\n');
            *longest = (*longest).max(lines.len() - begin);
        }
        Ok(())
    }

    fn staged(&self, draft: Draft, frame: Vec<u8>, press: &mut Press) -> StagedPage {
        let bytes = draft.lines.len() as u64;
        // A page that was much larger than others does not keep its room.
        press.room = if draft.lines.capacity() <= ROOM { draft.lines } else { Vec::new() };
        StagedPage {
            checksum: xxh3_64(&frame),
            frame,
            bytes,
            longest_row: draft.longest as u64,
            outside: draft.outside,
            units: draft
                .units
                .into_iter()
                .map(|(unit, (rows, sum))| (self.keys[unit].clone(), (rows, Fingerprint(sum))))
                .collect(),
            shape: draft.shape,
        }
    }

    /// The place of the unit that a row belongs to; none for a row that is left out.
    fn unit_of(&self, time: &TimeColumn, raw: Option<&[u8]>, place: Place, outside: &mut u64) -> Result<Option<usize>> {
        let instant = self.instant(time, raw).map_err(|found| {
            Error::new(
                Kind::Data,
                format!("row {} of page {} has {found} for its time `{}`", place.row, place.page, time.path),
            )
            .hint("`time_format` says how times are written: \"iso\", \"epoch\" or \"epoch_ms\"")
        })?;
        let after = self.units.partition_point(|unit| unit.start <= instant);
        let found = after.checked_sub(1).filter(|&index| self.units[index].contains(instant));
        if found.is_some() || self.units.is_empty() {
            return Ok(Some(found.unwrap_or(0)));
        }
        *outside += 1;
        match time.outside {
            Outside::Keep if !self.split => Ok(Some(0)),
            Outside::Keep | Outside::Drop => Ok(None),
            Outside::Refuse => {
                let (first, last) = (&self.units[0], &self.units[self.units.len() - 1]);
                Err(Error::new(
                    Kind::Data,
                    format!(
                        "row {} of page {} is of {instant}, outside of {} to {}",
                        place.row, place.page, first.start, last.end
                    ),
                )
                .hint("say what to do with such rows: `outside = \"drop\"` or `\"keep\"`; or ask for the range in the request"))
            }
        }
    }

    fn instant(&self, time: &TimeColumn, raw: Option<&[u8]>) -> Result<Instant, String> {
        let raw = raw.and_then(|raw| std::str::from_utf8(raw).ok()).ok_or_else(|| "nothing".to_owned())?;
        let wrong = || format!("`{raw}`");
        let millis = |scale: f64| -> Result<Instant, String> {
            let number: f64 = raw.trim_matches('"').parse().map_err(|_| wrong())?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a float of microseconds saturates, and is refused next"
            )]
            chrono::Utc.timestamp_micros((number * scale) as i64).single().ok_or_else(wrong)
        };
        match time.format {
            TimeFormat::Epoch => millis(1_000_000.0),
            TimeFormat::EpochMs => millis(1_000.0),
            TimeFormat::Iso => {
                let text: Cow<'_, str> = match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
                    Some(plain) if !plain.contains('\\') => plain.into(),
                    _ => serde_json::from_str::<String>(raw).map_err(|_| wrong())?.into(),
                };
                match read_iso(&text).ok_or_else(wrong)? {
                    Iso::Instant(instant) => Ok(instant),
                    Iso::Date(date) => Ok(Calendar::new(Grain::Day, self.tz).of_date(date).start),
                    Iso::Local(local) => {
                        let first = self.tz.from_local_datetime(&local).earliest();
                        first.map(|instant| instant.to_utc()).ok_or_else(wrong)
                    }
                }
            }
        }
    }
}
