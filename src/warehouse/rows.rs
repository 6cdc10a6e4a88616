//! The rows of a query, and as lines of a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Context, Kind, Result};

/// The rows of a query.
///
/// No digit is lost: whole numbers of up to 64 bits and floats are JSON numbers; longer whole numbers, and decimals of any
/// length, are JSON texts.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rows {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
    /// Whether there were more.
    pub truncated: bool,
}

/// Writes rows as JSON, one object a line.
pub(super) fn write_lines(rows: &Rows, path: &Path) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    let mut file = BufWriter::new(File::create(path).context(Kind::Storage, doing)?);
    for row in &rows.rows {
        let members: serde_json::Map<String, Value> = rows.columns.iter().cloned().zip(row.iter().cloned()).collect();
        serde_json::to_writer(&mut file, &members).context(Kind::Storage, doing)?;
        file.write_all(b"\n").context(Kind::Storage, doing)?;
    }
    file.flush().context(Kind::Storage, doing)
}
