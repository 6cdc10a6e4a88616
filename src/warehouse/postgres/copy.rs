//! Staged rows on their way into PostgreSQL: read, encoded and sent in bounded memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::encode::{self, Encode, HEADER, TRAILER};
use super::fault::{failed, failed_rows};
use super::members::Members;
use super::nested::{has_quoted, restore};
use super::session::Session;
use crate::error::{Context, Error, Kind, Result};
use crate::model::schema::StagedColumn;
use crate::model::shape::Seen;
use crate::time::Grain;
use crate::warehouse::dialect::POSTGRES;
use crate::warehouse::{Commit, NewRows, UnitCommit};

/// So many bytes are sent at once, and so many of these wait at most.
const CHUNK: usize = 512 << 10;
const CHUNKS: usize = 4;

/// A column of the COPY.
struct Cell {
    name: String,
    encode: Encode,
    /// What its values were, where some of their numbers stand in quotes.
    quoted: Option<Seen>,
}

/// What is written behind the columns of a row: its unit and its pull.
enum Tail {
    /// The same of every row.
    Same(Vec<u8>),
    /// By what the row says in `_haul_unit`; rows of other units are left out.
    ByUnit(HashMap<Vec<u8>, Vec<u8>>),
}

/// Rows that are about to be sent.
struct Rows {
    files: Vec<PathBuf>,
    cells: Vec<Cell>,
    members: Members,
    tail: Tail,
}

/// Sends the staged rows of these units into a relation, whose columns have these types; says how many there were.
///
/// # Errors
/// A value that the column's type does not hold: it is told with its row and column.
pub(super) async fn run(
    session: &mut Session,
    commit: &Commit,
    written: &[&UnitCommit],
    (kept, types): (&[StagedColumn], &[String]),
    (relation, unit_type): (&str, Option<&str>),
) -> Result<u64> {
    let NewRows::Staged { files, unit_in_rows, .. } = &commit.rows else { return Ok(0) };
    if files.is_empty() {
        return Ok(0);
    }
    let cells = kept.iter().zip(types).map(|(staged, data_type)| {
        let encode = Encode::of(data_type);
        let nested = encode == Encode::Jsonb && has_quoted(&staged.seen);
        Cell { name: staged.column.name.clone(), encode, quoted: nested.then(|| staged.seen.clone()) }
    });
    let mut names: Vec<&str> = kept.iter().map(|staged| staged.source.as_str()).collect();
    if *unit_in_rows {
        names.push("_haul_unit");
    }
    let tail = tail(written, *unit_in_rows, unit_type.filter(|_| commit.grain.is_some()))?;
    let rows = Rows { files: files.clone(), cells: cells.collect(), members: Members::new(names), tail };
    let mut columns: Vec<String> = kept.iter().map(|staged| POSTGRES.ident(&staged.column.name)).collect();
    columns.extend(unit_type.filter(|_| commit.grain.is_some()).map(|_| "_haul_unit".to_owned()));
    columns.push("_haul_pull".to_owned());
    let sql = format!("COPY {relation} ({}) FROM STDIN (FORMAT binary)", columns.join(", "));
    send(session, &sql, rows, &commit.cancel).await
}

/// The last columns of every row.
fn tail(written: &[&UnitCommit], unit_in_rows: bool, unit_type: Option<&str>) -> Result<Tail> {
    let of = |unit: &UnitCommit| -> Result<(Vec<u8>, Vec<u8>)> {
        let mut bytes = Vec::new();
        let mut text = String::new();
        if let (Some(unit_type), Some(span)) = (unit_type, &unit.unit) {
            // As the stage writes it in front of a row.
            text = match span.calendar.grain {
                Grain::Hour => format!("\"{}\"", span.start.format("%Y-%m-%d %H:%M:%S")),
                _ => format!("\"{}\"", span.key()),
            };
            Encode::of(unit_type)
                .write(text.as_bytes(), &mut bytes)
                .map_err(|wrong| Error::new(Kind::Data, format!("the column `_haul_unit` {wrong} as {unit_type}")))?;
        }
        bytes.extend_from_slice(&8_i32.to_be_bytes());
        bytes.extend_from_slice(&unit.pull.to_be_bytes());
        Ok((text.into_bytes(), bytes))
    };
    match written {
        [only] if !unit_in_rows => Ok(Tail::Same(of(only)?.1)),
        units => units.iter().map(|unit| of(unit)).collect::<Result<_>>().map(Tail::ByUnit),
    }
}

async fn send(session: &mut Session, sql: &str, rows: Rows, cancel: &CancellationToken) -> Result<u64> {
    let doing = "sending the rows";
    let (put, mut chunks) = mpsc::channel(CHUNKS);
    let mut copy = session.connection.copy_in_raw(sql).await.map_err(|error| failed(doing, &error))?;
    let reader = tokio::task::spawn_blocking(move || rows.write(&put));
    while let Some(chunk) = chunks.recv().await {
        if cancel.is_cancelled() {
            break;
        }
        let chunk: Vec<u8> = chunk;
        copy.send(chunk).await.map_err(|error| failed(doing, &error))?;
    }
    // Whoever stops to take the chunks ends the reader too.
    drop(chunks);
    let read = reader.await.context(Kind::Internal, || "reading the staged rows".to_owned())?;
    let stopped = cancel.is_cancelled().then(|| Error::new(Kind::Cancelled, "stopped while rows were sent"));
    match stopped.map_or(read, Err) {
        Ok(count) => {
            copy.send(TRAILER).await.map_err(|error| failed(doing, &error))?;
            let inserted = copy.finish().await.map_err(|error| failed_rows("inserting the new rows", &error))?;
            debug_assert_eq!(inserted, count, "the server counts what was sent");
            Ok(inserted)
        }
        Err(error) => {
            let _ = copy.abort("the rows were refused").await;
            Err(error)
        }
    }
}

impl Rows {
    /// Encodes all rows; ends early where nobody takes them.
    fn write(mut self, put: &mpsc::Sender<Vec<u8>>) -> Result<u64> {
        let mut out = Vec::with_capacity(CHUNK + (CHUNK >> 3));
        out.extend_from_slice(HEADER);
        let (mut line, mut number, mut count) = (Vec::new(), 0_u64, 0_u64);
        for path in std::mem::take(&mut self.files) {
            let doing = || format!("reading {}", path.display());
            let file = File::open(&path).context(Kind::Storage, doing)?;
            let frames = zstd::stream::read::Decoder::new(file).context(Kind::Storage, doing)?;
            let mut lines = BufReader::with_capacity(CHUNK / 2, frames);
            loop {
                line.clear();
                if lines.read_until(b'\n', &mut line).context(Kind::Storage, doing)? == 0 {
                    break;
                }
                number += 1;
                count += u64::from(self.row(line.strip_suffix(b"\n").unwrap_or(&line), number, &mut out)?);
                if out.len() >= CHUNK {
                    let full = std::mem::replace(&mut out, Vec::with_capacity(CHUNK + (CHUNK >> 3)));
                    if put.blocking_send(full).is_err() {
                        return Ok(count);
                    }
                }
            }
        }
        let _ = put.blocking_send(out);
        Ok(count)
    }

    /// Encodes one row; false where it is of a unit that is not asked for.
    fn row(&mut self, row: &[u8], number: u64, out: &mut Vec<u8>) -> Result<bool> {
        if !self.members.read(row) {
            return Err(Error::new(Kind::Storage, format!("row {number} of the stage is broken"))
                .hint("its files were changed since it was sealed; remove the stage and pull again"));
        }
        let found = &self.members.found;
        let tail = match &self.tail {
            Tail::Same(tail) => tail,
            Tail::ByUnit(units) => {
                let unit = found.last().and_then(Clone::clone).map(|range| &row[range]);
                match units.get(unit.unwrap_or_default()) {
                    Some(tail) => tail,
                    None => return Ok(false),
                }
            }
        };
        let fields = self.cells.len() + tail_fields(tail);
        out.extend_from_slice(&i16::try_from(fields).unwrap_or(i16::MAX).to_be_bytes());
        for (cell, range) in self.cells.iter().zip(found) {
            let Some(range) = range.clone() else {
                encode::null(out);
                continue;
            };
            let raw = &row[range];
            let wrote = match &cell.quoted {
                None => cell.encode.write(raw, out),
                Some(seen) => {
                    let mut plain = Vec::with_capacity(raw.len());
                    restore(raw, Some(seen), &mut plain);
                    cell.encode.write(&plain, out)
                }
            };
            wrote.map_err(|wrong| {
                Error::new(Kind::Data, format!("row {number} of the pull: the column `{}` {wrong}", cell.name))
                    .hint("declare another type for it: `columns = { … = \"VARCHAR\" }`")
            })?;
        }
        out.extend_from_slice(tail);
        Ok(true)
    }
}

/// How many columns a tail has: the pull alone has twelve bytes.
fn tail_fields(tail: &[u8]) -> usize {
    if tail.len() > 12 { 2 } else { 1 }
}
