//! The keys of an extract that reads a database: a table, a table for each unit, or a SELECT.

use super::file::ExtractTable;
use super::hook::ApiParts;
use super::pipeline::Surroundings;
use super::reader::{At, Reader, Span};
use crate::model::name::Text;
use crate::model::pipeline::{Per, Pipeline, Write};
use crate::model::source::{ProbeRule, TableRows, TableSource};
use crate::time::Grain;

/// Whether a step reads a database.
pub fn is_table(step: &ExtractTable) -> bool {
    step.table.is_some() || step.sql.is_some()
}

/// Reports the keys that mean something only to a step that reads a database.
pub fn refuse_orphans(step: &ExtractTable, reader: &mut Reader) {
    let orphans = [
        ("intraday", step.intraday.as_ref().map(|at| &at.span)),
        ("changed_column", step.changed_column.as_ref().map(|at| &at.span)),
        ("probe", step.probe.as_ref().map(|at| &at.span)),
        ("max_bytes", step.max_bytes.as_ref().map(|at| &at.span)),
    ];
    for (key, span) in orphans {
        let Some(span) = span else { continue };
        let message = format!("`{key}` means nothing without a `table` or `sql` that is read from a database");
        reader.error("missing-key", span.clone(), message).help = Some("table = \"public.events\"".to_owned());
    }
}

/// What the step asks its database for; none when that cannot be told.
pub fn table_source(
    step: &ExtractTable,
    parts: &ApiParts,
    name: &At<String>,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<TableSource> {
    refuse_requests(step, reader);
    let rows = match (&step.table, &step.sql) {
        (Some(_), Some(sql)) => {
            let message = format!("`{}` reads a `table` or the rows of `sql`, not both", name.value);
            reader.error("two-sources", sql.span.clone(), message).help =
                Some("leave one of them out; `sql` can read the table".to_owned());
            return None;
        }
        (Some(table), None) => table_rows(step, table, around, reader)?,
        (None, Some(sql)) => {
            if let Some(intraday) = &step.intraday {
                let message = "`intraday` belongs to a `table` for each unit, not to `sql`";
                reader.error("bad-intraday", intraday.span.clone(), message).help = Some(INTRADAY.to_owned());
            }
            query_rows(sql, around, reader)?
        }
        (None, None) => return None,
    };
    if let Some(outside) = &step.outside {
        let message = "rows outside of the unit are not asked for, so that `outside` has nothing to say of them";
        reader.error("outside-of-table", outside.span.clone(), message).help =
            Some("leave `outside` out; or leave `time_column` out and restrict the rows in `sql`".to_owned());
    }
    let probe = step.probe.as_ref().map(|at| at.value).unwrap_or_default();
    if let (Some(at), true) = (&step.probe, step.changed_column.is_some() && probe != ProbeRule::Auto) {
        let message = "`changed_column` makes the probe; with this `probe` it would not be looked at";
        reader.error("two-probes", at.span.clone(), message).help = Some("leave one of the two out".to_owned());
    }
    let max_bytes = step.max_bytes.as_ref().map(|at| at.value.0);
    Some(TableSource {
        rows,
        changed_column: step.changed_column.as_ref().map(|at| at.value.clone()),
        probe,
        retry: parts.retry.unwrap_or_default(),
        max_bytes,
    })
}

const INTRADAY: &str =
    "table = \"analytics.events_{{ ds_nodash }}\" and intraday = \"analytics.events_intraday_{{ ds_nodash }}\"";

/// Reports the keys by which an API is asked.
fn refuse_requests(step: &ExtractTable, reader: &mut Reader) {
    let key = if step.table.is_some() { "table" } else { "sql" };
    let foreign: [(&str, Option<&Span>); 5] = [
        ("hook", step.hook.as_ref().map(|at| &at.span)),
        ("request", step.request.as_ref().map(|at| &at.span)),
        ("paginate", step.paginate.as_ref().map(|at| &at.span)),
        ("records", step.records.as_ref().map(|at| &at.span)),
        ("auth", step.auth.as_ref().map(|at| &at.span)),
    ];
    for (other, span) in foreign {
        let Some(span) = span else { continue };
        let message = format!("`{other}` is how an API is asked, and `{key}` reads a database");
        reader.error("two-sources", span.clone(), message).help = Some("leave one of them out".to_owned());
    }
}

fn table_rows(
    step: &ExtractTable,
    table: &At<String>,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<TableRows> {
    if table.value.contains(char::is_whitespace) && !table.value.contains("{{") {
        let message = "`table` is the name of a table; this looks like a statement";
        reader.error("bad-table-name", table.span.clone(), message).help = Some("sql = \"SELECT …\"".to_owned());
        return None;
    }
    if let Some(prefix) = table.value.strip_suffix('*') {
        let message = "`*` stands for many tables, and every unit has one of its own";
        reader.error("bad-table-name", table.span.clone(), message).help =
            Some(format!("table = \"{prefix}{{{{ ds_nodash }}}}\""));
        return None;
    }
    let name = reader.text(table);
    let sharded = uses_window(&name, around, reader);
    let intraday = step.intraday.as_ref().map(|at| (reader.text(at), at.span.clone()));
    if let Some((text, span)) = &intraday
        && !(sharded && uses_window(text, around, reader))
    {
        let message = "`intraday` stands in for the table of one unit, so both names have the unit's date in them";
        reader.error("bad-intraday", span.clone(), message).help = Some(INTRADAY.to_owned());
    }
    if let (true, Some(per)) = (sharded, step.per.as_ref().filter(|per| per.value == Per::Window)) {
        let message = "a table for each unit is read unit by unit, not for the whole window at once";
        reader.error("shards-per-window", per.span.clone(), message).help = Some("leave `per` out".to_owned());
    }
    Some(TableRows::Table { name, sharded, intraday: intraday.map(|(text, _)| text) })
}

fn query_rows(sql: &At<String>, around: &Surroundings<'_>, reader: &mut Reader) -> Option<TableRows> {
    let text = around.sql_text(sql, reader)?;
    if let Some(inspection) = around.inspector.inspect(&text, &mut reader.diagnostics)
        && let Some((reference, _)) = inspection.refs.first()
    {
        let message =
            format!("`ref('{reference}')` names a table of the warehouse, and this SQL runs in the source's database");
        reader.error("ref-at-source", sql.span.clone(), message).help =
            Some("name the source's own tables, or make it a `[[transform]]`".to_owned());
    }
    Some(TableRows::Query(text))
}

/// Whether a template uses the window; one that cannot be read may.
fn uses_window(text: &Text, around: &Surroundings<'_>, reader: &mut Reader) -> bool {
    text.is_template()
        && around.inspector.inspect(text, &mut reader.diagnostics).is_none_or(|inspection| inspection.uses_window())
}

/// Reports a step that would read the same rows for every unit.
pub fn check_window(
    step: &ExtractTable,
    source: &TableSource,
    write: &Write,
    name: &At<String>,
    pipeline: &Pipeline,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) {
    check_shards(step, source, pipeline, around, reader);
    let by_unit = pipeline.window.is_some() && *write != Write::Full;
    let dated =
        step.time_column.is_some() || source.rows.texts().into_iter().any(|text| uses_window(text, around, reader));
    if !by_unit || dated {
        return;
    }
    let at = step.table.as_ref().or(step.sql.as_ref()).unwrap_or(name);
    let message = format!("nothing tells which rows of `{}` belong to which unit", name.value);
    reader.error("unused-window", at.span.clone(), message).help = Some(
        "time_column = \"created_at\", the column that has a row's own time; or write = \"full\" for a table without units"
            .to_owned(),
    );
}

/// Reports tables of days under units of another length: but for its first day, a week would be left out in silence.
fn check_shards(
    step: &ExtractTable,
    source: &TableSource,
    pipeline: &Pipeline,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) {
    let (TableRows::Table { name, sharded: true, .. }, Some(window)) = (&source.rows, &pipeline.window) else { return };
    let inspection = around.inspector.inspect(name, &mut reader.diagnostics);
    let by_day =
        inspection.is_some_and(|found| found.names.iter().any(|name| matches!(name.as_str(), "ds" | "ds_nodash")));
    if let (true, Some(table)) = (by_day && window.grain != Grain::Day, &step.table) {
        let message = format!("the name has a day in it, and the pipeline's units are {}", window.grain.plural());
        reader.error("shards-of-days", table.span.clone(), message).help = Some(
            "grain = \"day\"; or write the unit into the name: {{ unit.start | strftime('%Y%m%d%H') }}".to_owned(),
        );
    }
}
