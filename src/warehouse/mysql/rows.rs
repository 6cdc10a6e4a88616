//! Staged rows on their way into MySQL: read, written as literals, and sent in statements that the server takes.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use tokio::sync::mpsc;

use super::encode::Encode;
use super::session::{Session, ident};
use crate::error::{Context, Error, Kind, Result};
use crate::model::schema::StagedColumn;
use crate::model::shape::Seen;
use crate::warehouse::dialect::MYSQL;
use crate::warehouse::postgres::members::Members;
use crate::warehouse::postgres::nested::{has_quoted, restore};
use crate::warehouse::{NewRows, UnitCommit};

/// A statement is sent once it has so many bytes, unless the server takes less.
const CHUNK: usize = 1 << 20;

/// A column of the rows.
struct Cell {
    name: String,
    encode: Encode,
    /// What its values were, where some of their numbers stand in quotes.
    quoted: Option<Seen>,
}

/// Rows that are about to be sent.
struct Rows {
    files: Vec<PathBuf>,
    cells: Vec<Cell>,
    members: Members,
    /// What stands behind the columns of every row of a unit, by what the row says of its unit.
    tails: Vec<(Vec<u8>, Vec<u8>)>,
    by_unit: bool,
    /// What stands before the rows of a statement.
    head: Vec<u8>,
    packet: usize,
}

/// Sends the staged rows of these units into a relation, whose columns have these types; says how many there were.
///
/// # Errors
/// A value that the column's type does not hold: it is told with its row and column.
pub(super) async fn send(
    session: &mut Session,
    rows: &NewRows,
    written: &[&UnitCommit],
    (kept, types): (&[StagedColumn], &[String]),
    (relation, own): (&str, &[&str]),
) -> Result<u64> {
    let NewRows::Staged { files, unit_in_rows, .. } = rows else {
        return Err(Error::internal("nothing is computed in a place that is only loaded into"));
    };
    let cells = kept.iter().zip(types).map(|(staged, data_type)| {
        let encode = Encode::of(data_type);
        let nested = matches!(encode, Encode::Json | Encode::Text { .. }) && has_quoted(&staged.seen);
        Cell { name: staged.column.name.clone(), encode, quoted: nested.then(|| staged.seen.clone()) }
    });
    let mut names: Vec<&str> = kept.iter().map(|staged| staged.source.as_str()).collect();
    if *unit_in_rows {
        names.push("_haul_unit");
    }
    let mut columns: Vec<String> = kept.iter().map(|staged| ident(&staged.column.name)).collect();
    columns.extend(own.iter().map(|name| ident(name)));
    let rows = Rows {
        files: files.clone(),
        cells: cells.collect(),
        members: Members::new(names),
        tails: written.iter().map(|unit| tail(unit, own)).collect(),
        by_unit: *unit_in_rows,
        head: format!("INSERT INTO {relation} ({}) VALUES ", columns.join(", ")).into_bytes(),
        packet: session.packet.saturating_sub(1 << 10),
    };
    let (put, mut statements) = mpsc::channel::<String>(2);
    let reader = tokio::task::spawn_blocking(move || rows.write(&put));
    let mut inserted = 0;
    let mut failed = None;
    while let Some(statement) = statements.recv().await {
        match session.run("inserting the new rows", &statement).await {
            Ok(rows) => inserted += rows,
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    // Whoever stops to take the statements ends the reader too.
    drop(statements);
    let read = reader.await.context(Kind::Internal, || "reading the staged rows".to_owned())?;
    match failed {
        Some(error) => Err(error),
        None => read.map(|_| inserted),
    }
}

/// What the rows of a unit say of it, as the stage writes that, and the last literals of each.
fn tail(unit: &UnitCommit, own: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let says = unit.unit.as_ref().map(|span| match span.calendar.grain {
        crate::time::Grain::Hour => format!("\"{}\"", span.start.format("%Y-%m-%d %H:%M:%S")),
        _ => format!("\"{}\"", span.key()),
    });
    let literals = own.iter().map(|name| match (*name, &unit.unit) {
        ("_haul_unit", Some(span)) => MYSQL.unit_literal(span),
        ("_haul_unit", None) => "NULL".to_owned(),
        _ => unit.pull.to_string(),
    });
    (says.unwrap_or_default().into_bytes(), literals.collect::<Vec<_>>().join(",").into_bytes())
}

impl Rows {
    /// Writes all rows; ends early where nobody takes them.
    fn write(mut self, put: &mpsc::Sender<String>) -> Result<u64> {
        let mut out = self.head.clone();
        let (mut line, mut number, mut count) = (Vec::new(), 0_u64, 0_u64);
        let limit = CHUNK.min(self.packet);
        for path in std::mem::take(&mut self.files) {
            let doing = || format!("reading {}", path.display());
            let frames = zstd::stream::read::Decoder::new(File::open(&path).context(Kind::Storage, doing)?);
            let mut lines = BufReader::with_capacity(1 << 17, frames.context(Kind::Storage, doing)?);
            loop {
                line.clear();
                if lines.read_until(b'\n', &mut line).context(Kind::Storage, doing)? == 0 {
                    break;
                }
                number += 1;
                let Some(row) = self.row(line.strip_suffix(b"\n").unwrap_or(&line), number)? else { continue };
                count += 1;
                let empty = out.len() == self.head.len();
                if !empty && out.len() + row.len() + 1 > limit {
                    let full = std::mem::replace(&mut out, self.head.clone());
                    if put.blocking_send(statement(full)).is_err() {
                        return Ok(count);
                    }
                }
                if self.head.len() + row.len() > self.packet {
                    return Err(Error::new(Kind::Data, format!("row {number} of the pull has {} bytes", row.len()))
                        .because(format!("the server takes {} at once", self.packet))
                        .hint("SET GLOBAL max_allowed_packet = … on the server"));
                }
                if out.len() > self.head.len() {
                    out.push(b',');
                }
                out.extend_from_slice(&row);
            }
        }
        if out.len() > self.head.len() {
            let _ = put.blocking_send(statement(out));
        }
        Ok(count)
    }

    /// One row between its brackets; none where it is of a unit that is not asked for.
    fn row(&mut self, row: &[u8], number: u64) -> Result<Option<Vec<u8>>> {
        if !self.members.read(row) {
            return Err(Error::new(Kind::Storage, format!("row {number} of the stage is broken"))
                .hint("its files were changed since it was sealed; run again with --force"));
        }
        let found = &self.members.found;
        let tail = if self.by_unit {
            let says = found.last().and_then(Clone::clone).map(|range| &row[range]).unwrap_or_default();
            self.tails.iter().find(|(unit, _)| unit == says)
        } else {
            self.tails.first()
        };
        let Some((_, tail)) = tail else { return Ok(None) };
        let mut out = Vec::with_capacity(row.len() + 32);
        out.push(b'(');
        for (place, (cell, range)) in self.cells.iter().zip(found).enumerate() {
            if place > 0 {
                out.push(b',');
            }
            let Some(range) = range.clone() else {
                out.extend_from_slice(b"NULL");
                continue;
            };
            let raw = &row[range];
            let written = match &cell.quoted {
                None => cell.encode.write(raw, &mut out),
                Some(seen) => {
                    let mut plain = Vec::with_capacity(raw.len());
                    restore(raw, Some(seen), &mut plain);
                    cell.encode.write(&plain, &mut out)
                }
            };
            written.map_err(|wrong| {
                Error::new(Kind::Data, format!("row {number} of the pull: the column `{}` {wrong}", cell.name))
                    .hint("declare another type for it: `columns = { … = \"VARCHAR\" }`; or widen the table's column")
            })?;
        }
        if !self.cells.is_empty() && !tail.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(tail);
        out.push(b')');
        Ok(Some(out))
    }
}

/// A statement as text: what is not UTF-8 was none in the stage either.
fn statement(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
