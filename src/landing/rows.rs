//! Staged rows on their way into a collection: read, made into documents, written in batches.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

use mongodb::bson::RawDocumentBuf;
use tokio::sync::mpsc;

use super::{Landing, Lot, is_duplicate};
use crate::error::{Context, Error, Kind, Result};
use crate::mongo::landed;

/// Documents of one insert.
const BATCH: usize = 1000;

/// Bytes of one insert, about.
const BATCH_BYTES: usize = 8 << 20;

/// No document of MongoDB is larger.
const LARGEST: usize = 16 << 20;

/// Writes all rows of a lot.
pub(super) async fn write(landing: &Landing, lot: &Lot) -> Result<()> {
    let (batches, mut waiting) = mpsc::channel::<Vec<RawDocumentBuf>>(2);
    let reading = {
        let (lot, place) = (lot.clone(), landing.mongo.place(&landing.collection));
        tokio::task::spawn_blocking(move || read(&lot, &place, &batches))
    };
    while let Some(batch) = waiting.recv().await {
        let rows = landing.rows_collection();
        let insert = async move {
            match rows.insert_many(batch).ordered(false).await {
                // The driver sends what it got no answer to once more; what is there by then is the same.
                Err(error) if !is_duplicate(&error) => Err(error),
                _ => Ok(()),
            }
        };
        landing.talk("writing rows into", insert).await?;
    }
    reading.await.context(Kind::Internal, || "reading the stage".to_owned())?
}

/// Reads the segments row by row; ends early when nobody takes the documents any more.
fn read(lot: &Lot, place: &str, batches: &mpsc::Sender<Vec<RawDocumentBuf>>) -> Result<()> {
    let mut written: BTreeMap<usize, u64> = BTreeMap::new();
    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH), 0);
    for file in &lot.files {
        let doing = || format!("reading {}", file.display());
        let decoder =
            zstd::Decoder::new(File::open(file).context(Kind::Storage, doing)?).context(Kind::Storage, doing)?;
        let mut reader = BufReader::new(decoder);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).context(Kind::Storage, doing)? > 0 {
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if let Some(index) = unit_of(lot, &mut line) {
                let unit = &lot.units[index];
                let number = written.entry(index).or_default();
                let id = landed::id(&unit.key, unit.generation, *number);
                let pull = i64::try_from(unit.pull).unwrap_or(i64::MAX);
                let document = landed::document(&line, id, &unit.key, pull).context(Kind::Internal, doing)?;
                *number += 1;
                let length = document.as_bytes().len();
                if length > LARGEST {
                    return Err(too_large(*number, length, place));
                }
                bytes += length;
                batch.push(document);
                if batch.len() >= BATCH || bytes >= BATCH_BYTES {
                    bytes = 0;
                    if batches.blocking_send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_err() {
                        return Ok(());
                    }
                }
            }
            line.clear();
        }
    }
    if !batch.is_empty() && batches.blocking_send(batch).is_err() {
        return Ok(());
    }
    assert_complete(lot, &written)
}

/// The place of the unit that a row is of, and the row without the name of its unit; none for a unit that does not land.
fn unit_of(lot: &Lot, line: &mut Vec<u8>) -> Option<usize> {
    if !lot.unit_in_rows {
        return (!lot.units.is_empty()).then_some(0);
    }
    let index = lot.units.iter().position(|unit| line.starts_with(unit.prefix.as_bytes()))?;
    // Behind the prefix stands a comma, or the end of an empty row.
    let rest = lot.units[index].prefix.len() + usize::from(line.get(lot.units[index].prefix.len()) == Some(&b','));
    line.splice(..rest, [b'{']);
    Some(index)
}

fn too_large(row: u64, bytes: usize, place: &str) -> Error {
    Error::new(Kind::Data, format!("writing row {row} into {place}"))
        .because(format!("as a document it has {bytes} bytes, MongoDB takes {LARGEST}"))
        .hint("load such rows directly: an extract without `stage`")
}

/// Refuses a stage whose files have other rows than its manifest: they were changed since.
fn assert_complete(lot: &Lot, written: &BTreeMap<usize, u64>) -> Result<()> {
    for (index, unit) in lot.units.iter().enumerate() {
        let found = written.get(&index).copied().unwrap_or_default();
        if found != unit.rows {
            let what = format!("the stage has {found} rows of {}, its manifest says {}", unit.key, unit.rows);
            return Err(Error::new(Kind::Storage, what)
                .hint("its files were changed since it was sealed: pull again with --force"));
        }
    }
    Ok(())
}
