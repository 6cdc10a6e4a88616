//! What a load step reads: a step, a table, a collection, files, or a SELECT, before references are resolved.

use super::super::load_table::LoadTable;
use super::super::pipeline::{Surroundings, guard};
use super::super::reader::{At, Reader, Span};
use crate::model::hook::RetryPolicy;
use crate::model::name::Text;
use crate::model::pipeline::{Guard, Outside, Pipeline, TimeColumn};
use crate::model::source::{Source, TableRows, TableSource};
use crate::template::Inspection;

/// What a load step reads, as far as its own keys tell.
pub struct LoadFrom {
    /// The name behind `from`; none where `sql` says which rows.
    pub name: Option<At<String>>,
    /// The connection behind `from_connection`.
    pub connection: Option<At<String>>,
    /// Whether something tells which rows are those of a unit, if no step does.
    pub dated: bool,
    /// Keys that mean something only for rows that no step of the project writes.
    pub outside_keys: Vec<(&'static str, Span)>,
    /// The guard of such rows.
    pub guard: Guard,
    /// Whether rows are loaded unit by unit.
    pub by_unit: bool,
}

/// What the keys of a load step describe.
pub struct Asked {
    pub from: LoadFrom,
    pub connection: String,
    pub source: Source,
    pub time: Option<TimeColumn>,
    pub inspection: Option<Inspection>,
}

/// Reads what a load step asks for.
pub fn asked(
    table: &LoadTable,
    name: &At<String>,
    pipeline: &Pipeline,
    by_unit: bool,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Asked {
    if let Some(connection) = &table.from_connection {
        around.check_connection(connection, reader);
    }
    orphans(table, reader);
    let (rows, inspection) = rows(table, name, around, reader);
    let uses_window = match &rows {
        TableRows::Table { sharded, .. } => *sharded,
        TableRows::Query(_) => inspection.as_ref().is_none_or(Inspection::uses_window),
    };
    let source = TableSource {
        rows,
        changed_column: table.changed_column.as_ref().map(|at| at.value.clone()),
        probe: table.probe.as_ref().map(|at| at.value).unwrap_or_default(),
        retry: RetryPolicy::default(),
        max_bytes: table.max_bytes.as_ref().map(|at| at.value.0),
    };
    let time = table.time_column.as_ref().map(|path| TimeColumn {
        path: path.value.clone(),
        format: table.time_format.as_ref().map(|at| at.value).unwrap_or_default(),
        outside: Outside::Refuse,
    });
    if let (Some(at), false) = (&table.time_column, by_unit) {
        let message = "`time_column` tells the unit of a row, but these rows are loaded as a whole";
        reader.error("time-without-window", at.span.clone(), message).help = Some("leave it out".to_owned());
    }
    let outside = [
        ("time_column", table.time_column.as_ref().map(|at| &at.span)),
        ("changed_column", table.changed_column.as_ref().map(|at| &at.span)),
        ("probe", table.probe.as_ref().map(|at| &at.span)),
        ("max_bytes", table.max_bytes.as_ref().map(|at| &at.span)),
    ];
    let window = pipeline.window.as_ref().map(|window| window.guard).unwrap_or_default();
    let from = LoadFrom {
        name: table.from.clone().filter(|_| table.sql.is_none()),
        connection: table.from_connection.clone(),
        dated: !by_unit || uses_window || time.is_some(),
        outside_keys: outside.into_iter().filter_map(|(key, span)| Some((key, span?.clone()))).collect(),
        guard: guard(table.guard.as_ref(), window),
        by_unit,
    };
    let connection = table.from_connection.as_ref().map_or_else(|| pipeline.warehouse.clone(), |at| at.value.clone());
    Asked { from, connection, source: Source::Table(Box::new(source)), time, inspection }
}

/// Which rows; of a step that says nothing, those of no table.
fn rows(
    table: &LoadTable,
    name: &At<String>,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> (TableRows, Option<Inspection>) {
    let nothing = |reader: &Reader| TableRows::Query(Text::new("", reader.origin(&name.span)));
    match (&table.from, &table.sql) {
        (Some(_), Some(sql)) => {
            let message = format!("`{}` loads `from` somewhere or the rows of `sql`, not both", name.value);
            reader.error("two-sources", sql.span.clone(), message).help = Some(
                "leave one of them out; `sql` can read the table, as {{ ref('…') }} where a step writes it".to_owned(),
            );
            (nothing(reader), None)
        }
        (None, None) => {
            let message = format!("`{}` does not say what it loads", name.value);
            reader.error("missing-key", name.span.clone(), message).help = Some(
                "from = \"mart.ranking\", a step, a table, a collection or files; or sql = \"SELECT …\"".to_owned(),
            );
            (nothing(reader), None)
        }
        (None, Some(sql)) => match around.sql_text(sql, reader) {
            Some(text) => {
                let inspection = around.inspector.inspect(&text, &mut reader.diagnostics);
                (TableRows::Query(text), inspection)
            }
            None => (nothing(reader), None),
        },
        (Some(from), None) => {
            let text = reader.text(from);
            let dated = text.is_template()
                && around
                    .inspector
                    .inspect(&text, &mut reader.diagnostics)
                    .is_none_or(|inspection| inspection.uses_window());
            (TableRows::Table { name: text, sharded: dated, intraday: None }, None)
        }
    }
}

/// Reports keys that say more of a key which is not there.
fn orphans(table: &LoadTable, reader: &mut Reader) {
    let no_time = table.time_column.is_none();
    let of_time = [
        ("time_format", table.time_format.as_ref().map(|at| &at.span)),
        ("time_zone", table.time_zone.as_ref().map(|at| &at.span)),
    ];
    for (key, span) in of_time.into_iter().filter_map(|(key, span)| Some((key, span?))).filter(|_| no_time) {
        let message = format!("`{key}` means nothing without a `time_column`");
        reader.error("missing-key", span.clone(), message).help = Some("time_column = \"created_at\"".to_owned());
    }
    if let (Some(reach), None) = (&table.reach, &table.sql) {
        let message = "`reach` tells which units `sql` reads; a table is read unit by unit";
        reader.error("missing-key", reach.span.clone(), message).help =
            Some("sql = \"SELECT … FROM {{ ref('…') }}\"".to_owned());
    }
}
