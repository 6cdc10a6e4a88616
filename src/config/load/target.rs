//! Where a load step's rows go: a table or a collection of another connection, or files.

use super::super::load_table::LoadTable;
use super::super::pipeline::Surroundings;
use super::super::reader::{At, Reader, Span};
use crate::model::load::{Compression, FileForm, Target, WrittenFormat};
use crate::model::name::Text;
use crate::model::pipeline::{Pipeline, Write};

/// What a path that has the unit in it looks like.
const EXAMPLE: &str = "into = \"exports/dt={{ ds }}/part.parquet\"";

/// The endings that tell how a file is written, the longer ones first.
const ENDINGS: [(&str, WrittenFormat, Option<Compression>); 9] = [
    (".csv.gz", WrittenFormat::Csv, Some(Compression::Gzip)),
    (".csv.zst", WrittenFormat::Csv, Some(Compression::Zstd)),
    (".jsonl.gz", WrittenFormat::Jsonl, Some(Compression::Gzip)),
    (".jsonl.zst", WrittenFormat::Jsonl, Some(Compression::Zstd)),
    (".ndjson.gz", WrittenFormat::Jsonl, Some(Compression::Gzip)),
    (".parquet", WrittenFormat::Parquet, None),
    (".csv", WrittenFormat::Csv, Some(Compression::None)),
    (".jsonl", WrittenFormat::Jsonl, Some(Compression::None)),
    (".ndjson", WrittenFormat::Jsonl, Some(Compression::None)),
];

/// Whether a step says that its rows go elsewhere than into the pipeline's warehouse.
pub fn is_elsewhere(table: &LoadTable, pipeline: &Pipeline) -> bool {
    table.connection.as_ref().is_some_and(|connection| connection.value != pipeline.warehouse) || is_files(table)
}

/// Whether `into` is the path of files: no name of a table has a slash in it or such an ending.
fn is_files(table: &LoadTable) -> bool {
    table.format.is_some()
        || table.into.as_ref().is_some_and(|into| into.value.contains('/') || of_ending(&into.value).is_some())
}

fn of_ending(path: &str) -> Option<(WrittenFormat, Option<Compression>)> {
    let low = path.to_lowercase();
    ENDINGS.iter().find(|(ending, ..)| low.ends_with(ending)).map(|(_, format, compression)| (*format, *compression))
}

/// The place that a step's rows go to; none where that is the pipeline's warehouse, or a fault.
pub fn target(
    table: &LoadTable,
    name: &At<String>,
    pipeline: &Pipeline,
    by_unit: bool,
    write: &Write,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<Target> {
    if let Some(connection) = &table.connection {
        around.check_connection(connection, reader);
    }
    if !is_files(table) {
        keys_of_files(table, reader);
    }
    if !is_elsewhere(table, pipeline) {
        return None;
    }
    let Some(connection) = &table.connection else {
        let span = table.into.as_ref().map_or(name.span.clone(), |into| into.span.clone());
        let message = format!("`{}` writes files, but does not say where", name.value);
        reader.error("missing-key", span, message).help =
            Some("connection = \"…\", of type files: a folder, s3://… or gs://…".to_owned());
        return None;
    };
    let Some(into) = &table.into else {
        let message = format!("`{}` loads into `{}`, but does not say what there", name.value, connection.value);
        reader.error("missing-key", connection.span.clone(), message).help =
            Some(format!("into = \"public.{}\", a table; a collection; or {EXAMPLE}", name.value));
        return None;
    };
    let text = reader.text(into);
    let files = if is_files(table) {
        Some(files(table, into, &text, by_unit, write, around, reader)?)
    } else {
        check_name(into, reader)?;
        None
    };
    Some(Target { connection: connection.value.clone(), into: text, files })
}

/// Reports the keys of files where a table or a collection is written.
fn keys_of_files(table: &LoadTable, reader: &mut Reader) {
    let given = [
        ("compression", table.compression.as_ref().map(|at| &at.span)),
        ("max_file_size", table.max_file_size.as_ref().map(|at| &at.span)),
    ];
    for (key, span) in given.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        let message = format!("`{key}` is of files, and `into` is the name of a table or a collection");
        reader.error("foreign-key", span.clone(), message).help = Some(EXAMPLE.to_owned());
    }
}

/// Refuses what no table and no collection is called.
fn check_name(into: &At<String>, reader: &mut Reader) -> Option<()> {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with("_haul")
            && part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
    };
    let parts: Vec<&str> = into.value.split('.').collect();
    if parts.len() <= 3 && parts.iter().all(|part| plain(part)) {
        return Some(());
    }
    reader.error("bad-table-name", into.span.clone(), format!("`{}` is no name of a table or a collection", into.value))
        .help = Some(
        "a table is named `schema.table`, with letters, digits, hyphens and underscores, and none begins with _haul; files have a path that ends with .parquet, .csv or .jsonl"
            .to_owned(),
    );
    None
}

fn files(
    table: &LoadTable,
    into: &At<String>,
    text: &Text,
    by_unit: bool,
    write: &Write,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<FileForm> {
    check_path(into, reader)?;
    if let Write::Merge { .. } = write {
        let span = table.write.as_ref().map_or(into.span.clone(), |write| write.span.clone());
        reader
            .error("merge-into-files", span, "rows in files cannot be merged: no file tells which row has which key")
            .help = Some("write = \"replace\", a file for each unit; or \"full\"".to_owned());
    }
    let inspection = around.inspector.inspect(text, &mut reader.diagnostics);
    if by_unit && inspection.is_some_and(|inspection| !inspection.uses_window()) {
        let message = "every unit has files of its own, and this path is the same for all of them";
        reader.error("unused-window", into.span.clone(), message).help =
            Some(format!("{EXAMPLE}; or write = \"full\" for one file of all rows"));
    }
    let told = of_ending(&into.value);
    let Some(format) = table.format.as_ref().map(|at| at.value).or(told.map(|(format, _)| format)) else {
        let message = format!("nothing tells how `{}` is to be written", into.value);
        reader.error("unknown-format", into.span.clone(), message).help = Some(
            "let it end with .parquet, .csv, .csv.gz, .jsonl or .jsonl.gz; or say format = \"parquet\"".to_owned(),
        );
        return None;
    };
    let given = table.compression.as_ref();
    if let Some(at) = given {
        check_compression(format, told.and_then(|(_, compression)| compression), at, reader);
    }
    let compression =
        given.map(|at| at.value).or(told.and_then(|(_, compression)| compression)).unwrap_or(match format {
            WrittenFormat::Parquet => Compression::Zstd,
            WrittenFormat::Csv | WrittenFormat::Jsonl => Compression::None,
        });
    let max_bytes = table.max_file_size.as_ref().map_or(FileForm::MAX_BYTES, |at| at.value.0);
    Some(FileForm { format, compression, max_bytes })
}

/// Refuses a compression that the format has not, or that the file's name denies.
fn check_compression(format: WrittenFormat, told: Option<Compression>, at: &At<Compression>, reader: &mut Reader) {
    let word = at.value.word();
    if (at.value == Compression::Snappy) && format != WrittenFormat::Parquet {
        reader.error("foreign-key", at.span.clone(), "snappy is of Parquet alone").help =
            Some("compression = \"gzip\" or \"zstd\"".to_owned());
    } else if let Some(told) = told.filter(|told| *told != at.value && format != WrittenFormat::Parquet) {
        let message = format!("the file's name tells {}, this key {word}", told.word());
        reader.error("other-compression", at.span.clone(), message).help =
            Some("leave one of the two out: .csv, .csv.gz, .csv.zst".to_owned());
    }
}

/// Refuses a path that leads out of its connection, or that looks like a pattern.
fn check_path(into: &At<String>, reader: &mut Reader) -> Option<()> {
    let mut plain = String::new();
    let mut rest = into.value.as_str();
    while let Some((before, inside)) = rest.split_once("{{") {
        plain.push_str(before);
        plain.push('x');
        rest = inside.split_once("}}").map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    let fault = if plain.starts_with('/') || plain.contains("://") {
        Some("a path is relative to its connection, which says where")
    } else if plain.split('/').any(|part| matches!(part, "" | "." | "..")) {
        Some("a path has names between its slashes, and a name at its end")
    } else if plain.contains(['*', '?', '\\', '{', '}']) {
        Some("a path is the name of one file, and no pattern")
    } else if plain.split('/').any(|part| part.starts_with("_haul")) {
        Some("names that begin with _haul are haul's own")
    } else {
        None
    };
    let Some(fault) = fault else { return Some(()) };
    let span: Span = into.span.clone();
    reader.error("bad-path", span, format!("rows cannot be written to `{}`: {fault}", into.value)).help =
        Some(EXAMPLE.to_owned());
    None
}
