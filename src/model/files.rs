//! Files: what an extract step reads from a folder, a bucket or a web server, and what it downloads for its rows.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use super::hook::RetryPolicy;
use super::name::Text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Files that have the rows of a unit.
#[derive(Debug, Clone)]
pub struct FilesSource {
    /// Which files, relative to the connection: a template first, then a pattern of `*`, `**`, `?` and `{a,b}`.
    pub files: Text,
    /// How they are written; none when the ending tells.
    pub format: Option<FileFormat>,
    /// How CSV is written.
    pub csv: CsvFormat,
    /// JSONPath of the rows in a JSON file; none when the file is a list, or one object behind the other.
    pub records: Option<String>,
    /// The column that gets the file's name.
    pub file_column: Option<String>,
    /// Whether a unit without any file is empty; otherwise its files are late.
    pub allow_none: bool,
}

impl FilesSource {
    /// The folders at the beginning of the pattern that are the same for every unit, without a slash behind them.
    pub fn fixed_folder(&self) -> &str {
        let text = &*self.files.text;
        let fixed = &text[..text.find(['{', '*', '?']).unwrap_or(text.len())];
        fixed.rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Text with delimiters.
    Csv,
    /// A list of objects, or one object behind the other.
    Json,
    /// An object on each line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

impl FileFormat {
    /// The word that stands behind `format =`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

/// How a CSV text is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvFormat {
    /// Between two cells; none where the file's ending tells: a tab for `.tsv`, else a comma.
    pub delimiter: Option<u8>,
    /// Around a cell that has a delimiter or a line break in it; none where quotes mean nothing.
    pub quote: Option<u8>,
    /// In front of a quote that belongs to the cell; none where such a quote is written twice.
    pub escape: Option<u8>,
    /// At the start of a line that is no row.
    pub comment: Option<u8>,
    /// Where the names of the columns are.
    pub header: CsvHeader,
    /// Cells without quotes that stand for null.
    pub null: Vec<String>,
    /// Whether cells that look like numbers and booleans are such.
    pub infer: bool,
    /// How many lines are left out at the start.
    pub skip: u32,
    /// The columns whose type is declared, and whether it is one of numbers: the cells of those become numbers, so that
    /// none is rounded unseen, and nothing is inferred of the others.
    pub declared: BTreeMap<String, bool>,
}

impl Default for CsvFormat {
    fn default() -> Self {
        Self {
            delimiter: None,
            quote: Some(b'"'),
            escape: None,
            comment: None,
            header: CsvHeader::First,
            null: vec![String::new()],
            infer: false,
            skip: 0,
            declared: BTreeMap::new(),
        }
    }
}

/// Where the names of a CSV text's columns are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CsvHeader {
    /// In the first record.
    First,
    /// Nowhere: they are `column_1`, `column_2`, ….
    None,
    /// Here; every record is a row.
    Names(Vec<String>),
}

/// What an extract step downloads for each of its rows.
#[derive(Debug, Clone)]
pub struct Download {
    /// Where a row has the address.
    pub url: Address,
    /// Where the files go: a connection of type `files`, or a folder below the project.
    pub to: String,
    /// The column that gets the name of the stored file.
    pub column: String,
    /// What happens to a row whose file cannot be had now.
    pub on_error: OnError,
    /// A larger file is an error.
    pub max_bytes: u64,
    /// How many are fetched at once.
    pub max_concurrent: NonZeroUsize,
    /// Whether a file that was fetched before is asked for again, if its server can tell whether it has changed.
    pub revalidate: bool,
    /// How often a request is tried again.
    pub retry: RetryPolicy,
}

/// Where a row has an address.
#[derive(Debug, Clone, PartialEq)]
pub enum Address {
    /// At this JSONPath.
    Path(String),
    /// What this template gives, which sees the row as `row`.
    Template(Text),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Template(text) => f.write_str(&text.text),
        }
    }
}

/// What happens to a row whose file cannot be had now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Its column is null, a warning is told, and the next pull tries again.
    #[default]
    Null,
    /// The pull fails; what was stored stays, and the next attempt goes on.
    Fail,
}
