//! The keys of an extract that reads files, and of one that downloads files for its rows.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::answer::{EncodingWord, FormatWord};
use super::file::ExtractTable;
use super::pipeline::Surroundings;
use super::reader::{At, Read, Reader, Required, Span, twin};
use super::request::{RetryTable, retry};
use super::scalar::{Count, words};
use crate::model::files::{Address, CsvFormat, CsvHeader, Download, FileFormat, FilesSource, OnError};

/// A file that is downloaded for a row may be this large, where nothing else is said.
const MAX_BYTES: u64 = 32 << 20;

/// So many files are downloaded at once, where nothing else is said.
const MAX_CONCURRENT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

words!(OnError);

twin! {
    /// How CSV is written.
    pub struct CsvTable {
        /// The character between two cells. Default `","`, and a tab for files that end with `.tsv`.
        pub delimiter: Option<At<Sign>>,
        /// The character around cells that have a delimiter or a line break in them; `""` where quotes mean nothing. Default `"\""`.
        pub quote: Option<At<Sign>>,
        /// The character in front of a quote that belongs to its cell. Default: such a quote is written twice.
        pub escape: Option<At<Sign>>,
        /// The character at the start of a line that is no row.
        pub comment: Option<At<Sign>>,
        /// Whether the first line has the names of the columns (the default), or the names themselves.
        pub header: Option<At<HeaderValue>>,
        /// Cells without quotes that stand for null. Default `[""]`.
        pub null: Option<At<Cells>>,
        /// Whether cells that look like numbers, `true` and `false` are such. Default false: text, until `columns` say otherwise.
        pub infer: Option<At<bool>>,
        /// How many lines are left out at the start. Default 0.
        pub skip: Option<At<u64>>,
        /// How characters of an answer are written: `"utf-8"` (the default), `"windows-1252"` or `"latin1"`.
        pub encoding: Option<At<EncodingWord>>,
    }
}

twin! {
    /// A file that every row points to: it is stored once, under a name by its content.
    pub struct DownloadTable {
        /// Where a row has the address: a JSONPath such as `"$.image.url"`, or a template that sees the row as `row`.
        pub url: Required<String>,
        /// Where the files go: a connection of type `files`, or a folder below the project.
        pub to: Required<String>,
        /// The column that gets the name of the stored file; null where a row has no address, or nothing is there.
        pub column: Required<String>,
        /// What happens to a row whose file cannot be had now. Default `"null"`.
        pub on_error: Option<At<OnError>>,
        /// A larger file is an error. Default 33554432, which is 32 MiB.
        pub max_bytes: Option<At<u64>>,
        /// How many are fetched at once. Default 4.
        pub max_concurrent: Option<At<Count>>,
        /// Whether a file that was fetched before is asked for again, if its server can tell whether it has changed. Default true.
        pub revalidate: Option<At<bool>>,
        /// How often and how patiently a request is tried again.
        pub retry: Option<At<RetryTable>>,
    }
}

/// One ASCII character, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sign(pub Option<u8>);

impl Read for Sign {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            reader.wrong_type(value, "a character in quotes");
            return None;
        };
        match text.as_bytes() {
            [] => Some(Self(None)),
            [sign] if sign.is_ascii() && !matches!(sign, b'\n' | b'\r') => Some(Self(Some(*sign))),
            _ => {
                let message = format!("`{}` has to be one ASCII character", reader.path());
                reader.error("bad-sign", value.span(), message).help = Some("a tab is written \"\\t\"".to_owned());
                None
            }
        }
    }
}

impl JsonSchema for Sign {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Sign".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 1 })
    }
}

/// Texts of cells, which may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cells(pub Vec<String>);

impl Read for Cells {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let items = value.get_ref().as_array().map(|items| items.iter().map(|item| item.get_ref().as_str()).collect());
        let one = value.get_ref().as_str().map(|text| vec![Some(text)]);
        let texts: Option<Vec<&str>> = items.or(one).and_then(|texts: Vec<Option<&str>>| texts.into_iter().collect());
        if texts.is_none() {
            reader.wrong_type(value, "a list of texts").help = Some("null = [\"\", \"NULL\"]".to_owned());
        }
        texts.map(|texts| Self(texts.into_iter().map(str::to_owned).collect()))
    }
}

impl JsonSchema for Cells {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Cells".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

/// Where the names of the columns are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderValue(pub CsvHeader);

impl Read for HeaderValue {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        if let Some(first) = value.get_ref().as_bool() {
            return Some(Self(if first { CsvHeader::First } else { CsvHeader::None }));
        }
        if !value.get_ref().is_array() {
            reader.wrong_type(value, "true, false or the names of the columns").help =
                Some("header = [\"id\", \"name\"]".to_owned());
            return None;
        }
        let names = Vec::<String>::read(value, reader)?;
        if let Some(twice) = (1..names.len()).find(|&index| names[..index].contains(&names[index])) {
            let message = format!("`{}` has `{}` twice", reader.path(), names[twice]);
            reader.error("twice", value.span(), message);
            return None;
        }
        if names.is_empty() {
            let message = format!("`{}` names nothing", reader.path());
            reader.error("empty", value.span(), message);
            return None;
        }
        Some(Self(CsvHeader::Names(names)))
    }
}

impl JsonSchema for HeaderValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Header".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "boolean" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] })
    }
}

/// Whether a step reads files.
pub fn is_files(step: &ExtractTable) -> bool {
    step.files.is_some()
}

/// Reports the keys that mean something only to a step that reads files.
pub fn refuse_orphans(step: &ExtractTable, reader: &mut Reader) {
    let orphans = [
        ("file_column", step.file_column.as_ref().map(|at| &at.span)),
        ("allow_none", step.allow_none.as_ref().map(|at| &at.span)),
    ];
    for (key, span) in orphans {
        let Some(span) = span else { continue };
        let message = format!("`{key}` means nothing without `files`");
        reader.error("missing-key", span.clone(), message).help = Some("files = \"exports/{{ ds }}/*.csv\"".to_owned());
    }
}

/// The files that a step reads; none where it does not say.
pub fn files_source(step: &ExtractTable, records: Option<&String>, reader: &mut Reader) -> Option<FilesSource> {
    for (key, span) in [("table", step.table.as_ref()), ("sql", step.sql.as_ref())] {
        let Some(at) = span else { continue };
        let message = format!("`{key}` is read from a database, and `files` are not");
        reader.error("two-sources", at.span.clone(), message).help = Some("leave one of them out".to_owned());
    }
    let foreign: [(&str, Option<&Span>); 5] = [
        ("hook", step.hook.as_ref().map(|at| &at.span)),
        ("request", step.request.as_ref().map(|at| &at.span)),
        ("paginate", step.paginate.as_ref().map(|at| &at.span)),
        ("auth", step.auth.as_ref().map(|at| &at.span)),
        ("retry", step.retry.as_ref().map(|at| &at.span)),
    ];
    for (key, span) in foreign {
        let Some(span) = span else { continue };
        let message = format!("`{key}` is how an API is asked, and `files` are read");
        reader.error("two-sources", span.clone(), message).help = Some("leave one of them out".to_owned());
    }
    let format = step.format.as_ref().and_then(|at| match at.value {
        FormatWord::Json => Some(FileFormat::Json),
        FormatWord::Jsonl => Some(FileFormat::Jsonl),
        FormatWord::Csv => Some(FileFormat::Csv),
        FormatWord::Parquet => Some(FileFormat::Parquet),
        FormatWord::Xml => {
            reader.error("foreign-key", at.span.clone(), "XML is read from answers of an API, not from `files`").help =
                Some("format = \"csv\", \"json\", \"jsonl\" or \"parquet\"".to_owned());
            None
        }
    });
    if let Some(encoding) = step.csv.as_ref().and_then(|csv| csv.value.encoding.as_ref()) {
        reader
            .error("foreign-key", encoding.span.clone(), "`encoding` is for answers of an API, not for `files`")
            .help = Some("convert the files: iconv -f latin1 -t utf-8".to_owned());
    }
    if let (Some(records), Some(format)) = (&step.records, format.filter(|format| *format != FileFormat::Json)) {
        let message = format!("`records` leads to the rows of a JSON document, and these files are {}", format.word());
        reader.error("records-of-rows", records.span.clone(), message).help = Some("leave it out".to_owned());
    }
    if let (Some(csv), Some(format)) = (&step.csv, format.filter(|format| *format != FileFormat::Csv)) {
        let message = format!("`csv` says how CSV is written, and these files are {}", format.word());
        reader.error("csv-of-rows", csv.span.clone(), message).help = Some("leave one of them out".to_owned());
    }
    let files = step.files.as_ref()?;
    if let Some(wrong) = wrong_pattern(&files.value) {
        let message = format!("`files` {wrong}");
        reader.error("bad-pattern", files.span.clone(), message).help =
            Some("a path relative to the connection's url: \"exports/{{ ds }}/*.csv\"".to_owned());
    }
    Some(FilesSource {
        files: reader.text(files),
        format,
        csv: step.csv.as_ref().map(|at| csv_format(&at.value, reader)).unwrap_or_default(),
        records: records.filter(|path| *path != "$[*]").cloned(),
        file_column: step.file_column.as_ref().map(|at| at.value.clone()),
        allow_none: step.allow_none.as_ref().is_some_and(|at| at.value),
    })
}

/// What is wrong with a pattern whatever its templates give.
fn wrong_pattern(text: &str) -> Option<&'static str> {
    if text.contains("://") {
        return Some("has an address in it, which belongs into the connection's `url`");
    }
    if text.starts_with('/') {
        return Some("is an absolute path; the folder belongs into the connection's `url`");
    }
    text.split('/').any(|part| part == "..").then_some("leads out of the connection's folder")
}

/// How CSV is written; signs that contradict each other are reported.
pub fn csv_format(table: &CsvTable, reader: &mut Reader) -> CsvFormat {
    let usual = CsvFormat::default();
    let sign = |at: &Option<At<Sign>>| at.as_ref().map(|at| at.value.0);
    let format = CsvFormat {
        delimiter: sign(&table.delimiter).flatten(),
        quote: sign(&table.quote).unwrap_or(usual.quote),
        escape: sign(&table.escape).flatten(),
        comment: sign(&table.comment).flatten(),
        header: table.header.as_ref().map_or(usual.header, |at| at.value.0.clone()),
        null: table.null.as_ref().map_or(usual.null, |at| at.value.0.clone()),
        infer: table.infer.as_ref().is_some_and(|at| at.value),
        skip: table.skip.as_ref().map_or(0, |at| u32::try_from(at.value).unwrap_or(u32::MAX)),
        declared: BTreeMap::new(),
    };
    let at = table.quote.as_ref().or(table.escape.as_ref()).or(table.comment.as_ref()).or(table.delimiter.as_ref());
    let signs = [Some(format.delimiter.unwrap_or(b',')), format.quote, format.escape, format.comment];
    let twice = (1..signs.len()).find(|&index| {
        // A quote that is its own escape is written twice, which is the default.
        signs[index].is_some() && signs[..index].contains(&signs[index]) && !(index == 2 && signs[1] == signs[2])
    });
    if let (Some(_), Some(at)) = (twice, at) {
        let message = "one character cannot be two of delimiter, quote, escape and comment";
        reader.error("bad-sign", at.span.clone(), message);
    }
    CsvFormat { escape: format.escape.filter(|escape| Some(*escape) != format.quote), ..format }
}

/// Reports a step that would read the same files for every unit.
pub fn check_window(
    source: &FilesSource,
    by_unit: bool,
    name: &At<String>,
    step: &ExtractTable,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) {
    let dated = source.files.is_template()
        && around
            .inspector
            .inspect(&source.files, &mut reader.diagnostics)
            .is_none_or(|inspection| inspection.uses_window());
    if !by_unit || dated {
        return;
    }
    let span = step.files.as_ref().map_or(name.span.clone(), |files| files.span.clone());
    let message = format!("the files of `{}` never use the window: every unit would get the same rows", name.value);
    reader.error("unused-window", span, message).help = Some(
        "files = \"exports/{{ ds }}/*.csv\"; or a `time_column`; or write = \"full\" for a table without units"
            .to_owned(),
    );
}

/// What a step downloads for its rows.
pub fn download(step: &ExtractTable, around: &Surroundings<'_>, reader: &mut Reader) -> Option<Download> {
    let table = &step.download.as_ref()?.value;
    let address = table.url.0.as_ref().and_then(|url| address(url, around, reader));
    let to = table.to.0.as_ref().filter(|to| {
        let wrong = wrong_pattern(&to.value).or_else(|| to.value.contains("{{").then_some("is no template"));
        if let Some(wrong) = wrong {
            let message = format!("`to` {}", wrong.replace("connection's folder", "project's folder"));
            reader.error("bad-folder", to.span.clone(), message).help =
                Some("a connection of type `files`, or a folder below the project: to = \"pictures\"".to_owned());
        }
        wrong.is_none()
    });
    if let Some(at) = table.max_bytes.as_ref().filter(|at| at.value == 0) {
        reader.error("out-of-range", at.span.clone(), "`max_bytes` has to be a whole number from 1 on");
    }
    Some(Download {
        url: address?,
        to: to?.value.clone(),
        column: table.column.0.as_ref()?.value.clone(),
        on_error: table.on_error.as_ref().map(|at| at.value).unwrap_or_default(),
        max_bytes: table.max_bytes.as_ref().map_or(MAX_BYTES, |at| at.value),
        max_concurrent: table
            .max_concurrent
            .as_ref()
            .and_then(|at| NonZeroUsize::new(at.value.0.get() as usize))
            .unwrap_or(MAX_CONCURRENT),
        revalidate: table.revalidate.as_ref().is_none_or(|at| at.value),
        retry: table.retry.as_ref().map(|at| retry(at, reader)).unwrap_or_default(),
    })
}

fn address(url: &At<String>, around: &Surroundings<'_>, reader: &mut Reader) -> Option<Address> {
    let text = reader.text(url);
    if text.is_template() {
        around.inspector.inspect_with(&text, &["row"], None, &mut reader.diagnostics)?;
        return Some(Address::Template(text));
    }
    let fault = match serde_json_path::JsonPath::parse(&url.value) {
        Ok(_) => return Some(Address::Path(url.value.clone())),
        Err(error) => format!("`{}` is not a JSONPath: {error}", url.value),
    };
    reader.error("bad-path", url.span.clone(), fault).help =
        Some("a path looks like \"$.image.url\", a template like \"https://host/{{ row.id }}.png\"".to_owned());
    None
}
