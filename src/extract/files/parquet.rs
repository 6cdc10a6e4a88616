//! Parquet, read by a DuckDB of its own in memory that is bounded.

use std::fs;
use std::path::Path;

use duckdb::{Config, Connection};

use super::super::rows::{Mark, RowPage, logical_type, push_rows};
use super::decode::{Job, PAGE_BYTES};
use crate::error::{Context, Error, Kind, Result};
use crate::model::schema::SourceColumn;

/// What DuckDB may use for one file.
const MEMORY: &str = "256MB";

/// Reads a file of this machine, and hands its pages to the job's sink; how many there were.
pub(super) fn read(job: &mut Job, path: &Path) -> Result<u64> {
    let first = job.number;
    let size = fs::metadata(path).context(Kind::Source, || "reading it".to_owned())?.len();
    if size == 0 {
        job.put(RowPage { ended: true, ..RowPage::default() }, job.mark, job.mark)?;
        return Ok(1);
    }
    let told = |error: duckdb::Error| Error::new(Kind::Data, "it is no whole Parquet file").because(plain(&error));
    let internal = |error: duckdb::Error| Error::new(Kind::Internal, "opening DuckDB").because(error);
    let config = Config::default().max_memory(MEMORY).and_then(|config| config.threads(2)).map_err(internal)?;
    let connection = Connection::open_in_memory_with_flags(config).map_err(internal)?;
    let (path, _copy) = without_wildcards(path)?;
    let mut mark = job.mark;
    let sql = format!(
        "SELECT * FROM read_parquet('{}', hive_partitioning = false) OFFSET {}",
        path.replace('\'', "''"),
        mark.offset
    );
    let mut statement = connection.prepare(&sql).map_err(told)?;
    let stream = statement.stream_arrow([]).map_err(told)?;
    let columns = stream.get_schema();
    let columns = columns
        .fields()
        .iter()
        .map(|field| SourceColumn { name: field.name().clone(), data_type: logical_type(field.data_type()) });
    job.sink.columns(columns.collect())?;
    let (mut page, mut begin) = (RowPage::default(), mark);
    for batch in stream {
        if job.cancel.is_cancelled() {
            return Err(Error::new(Kind::Cancelled, "stopped between two pages"));
        }
        let batch = batch.map_err(told)?;
        mark.offset += batch.num_rows() as u64;
        push_rows(&batch, &mut page)?;
        if page.body.len() >= PAGE_BYTES {
            job.put(std::mem::take(&mut page), begin, mark)?;
            begin = mark;
        }
    }
    page.ended = true;
    job.put(page, begin, Mark { line: 0, ..mark })?;
    Ok(job.number - first)
}

/// The path as DuckDB takes it for one file: a name with a wildcard in it is copied to one without.
fn without_wildcards(path: &Path) -> Result<(String, Option<tempfile::NamedTempFile>)> {
    let doing = || "copying it".to_owned();
    match path.to_str().filter(|path| !path.contains(['*', '?', '['])) {
        Some(plain) => Ok((plain.to_owned(), None)),
        None => {
            let copy = tempfile::NamedTempFile::new().context(Kind::Storage, doing)?;
            fs::copy(path, copy.path()).context(Kind::Storage, doing)?;
            Ok((copy.path().to_string_lossy().into_owned(), Some(copy)))
        }
    }
}

/// The first line of what DuckDB says.
fn plain(error: &duckdb::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
