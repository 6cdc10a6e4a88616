//! Files as tests write them: compressed, as CSV, and as Parquet.

use std::io::Write;
use std::path::Path;

use crate::sources::Event;

/// Bytes as one gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

/// Bytes as one zstd frame.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::bulk::compress(bytes, 3).expect("memory")
}

/// Bytes as the only file of a zip archive.
pub fn zip(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut archive = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file(name, ::zip::write::SimpleFileOptions::default()).expect("memory");
    archive.write_all(bytes).expect("memory");
    archive.finish().expect("memory").into_inner()
}

/// A cell of CSV in quotes.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Events as CSV with a header; null is an empty cell.
pub fn event_csv(events: &[Event]) -> String {
    let mut text = "id,happened_at,amount,name,note\n".to_owned();
    for event in events {
        let note = event.note.as_deref().unwrap_or_default();
        text += &format!("{},{},{},{},{note}\n", event.id, event.at, event.amount, quoted(&event.name));
    }
    text
}

/// Writes rows, given as JSON, into a Parquet file with these columns, as DuckDB writes them.
pub fn parquet(path: &Path, columns: &str, rows: &[String]) {
    let connection = duckdb::Connection::open_in_memory().expect("a database");
    connection.execute_batch(&format!("CREATE TABLE rows ({columns})")).expect("a table");
    let names: Vec<&str> = columns.split(", ").filter_map(|column| column.split(' ').next()).collect();
    let values = names.iter().map(|name| format!("json_extract_string(?1, '$.{name}')")).collect::<Vec<_>>().join(", ");
    let mut insert = connection.prepare(&format!("INSERT INTO rows SELECT {values}")).expect("a statement");
    for row in rows {
        insert.execute([row]).expect("a row");
    }
    let copy = format!("COPY rows TO '{}' (FORMAT parquet, ROW_GROUP_SIZE 2048)", path.display());
    connection.execute_batch(&copy).expect("a file");
}
