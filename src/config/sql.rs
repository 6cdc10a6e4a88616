//! The SQL of a transform: one text for every warehouse, or one for each dialect, which read the same steps.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::DeValue;

use super::clock_words::clock_words;
use super::diagnostic::{Diagnostic, known_names};
use super::pipeline::Surroundings;
use super::reader::{At, Read, Reader, Span};
use super::scalar::Entries;
use super::value::schema;
use crate::model::name::Text;
use crate::model::pipeline::Sql;
use crate::template::Inspection;

/// The keys of a table of variants: the dialects of warehouses, and what the others get.
const DIALECTS: [&str; 4] = ["bigquery", "duckdb", "postgres", Sql::DEFAULT];

/// A SELECT, a file that has it, or one of these for each dialect.
#[derive(Debug, Clone)]
pub enum SqlValue {
    /// The same for every warehouse.
    One(At<String>),
    /// By the dialect.
    Each(Entries<String>),
}

impl Read for SqlValue {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(_) => Entries::read(value, reader).map(Self::Each),
            DeValue::String(_) => At::read(value, reader).map(Self::One),
            _ => {
                let fault = reader.wrong_type(value, "a text");
                fault.help = Some("sql = \"sql/orders.sql\", or { bigquery = \"…\", duckdb = \"…\" }".to_owned());
                None
            }
        }
    }
}

schema!(SqlValue, { "anyOf": [
    { "type": "string", "examples": ["sql/orders.sql"] },
    {
        "type": "object",
        "properties": {
            "bigquery": { "type": "string", "description": "What BigQuery gets." },
            "duckdb": { "type": "string", "description": "What DuckDB gets." },
            "postgres": { "type": "string", "description": "What PostgreSQL gets." },
            "default": { "type": "string", "description": "What every other warehouse gets." },
        },
        "additionalProperties": false,
        "minProperties": 1,
    },
] });

/// Reads the SQL of a step, and looks into every variant; with `windowed`, whether it speaks of the window.
pub(super) fn step_sql(
    value: &At<SqlValue>,
    windowed: bool,
    name: &At<String>,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> (Option<Sql>, Option<Inspection>) {
    let looked = |written: &At<String>, reader: &mut Reader| {
        let text = around.sql_text(written, reader)?;
        let inspection = around.inspector.inspect(&text, &mut reader.diagnostics);
        if let (true, Some(inspection)) = (windowed, &inspection) {
            window_lints(&text, inspection, name, &written.span, around, reader);
        }
        Some((text, inspection))
    };
    match &value.value {
        SqlValue::One(written) => match looked(written, reader) {
            Some((text, inspection)) => (Some(Sql::One(text)), inspection),
            None => (None, None),
        },
        SqlValue::Each(entries) => {
            let mut variants = BTreeMap::new();
            let mut inspections: Vec<(&At<String>, Inspection)> = Vec::new();
            for (dialect, written) in &entries.0 {
                if !DIALECTS.contains(&dialect.value.as_str()) {
                    let message = format!("`{}` is no warehouse that SQL is written for", dialect.value);
                    let help = known_names(&dialect.value, DIALECTS);
                    reader.error("unknown-dialect", dialect.span.clone(), message).help = help;
                    continue;
                }
                let Some((text, inspection)) = looked(written, reader) else { continue };
                variants.insert(dialect.value.clone(), text);
                inspections.extend(inspection.map(|inspection| (dialect, inspection)));
            }
            if entries.0.is_empty() {
                reader.error("empty", value.span.clone(), format!("`{}` has no SQL", name.value)).help =
                    Some("sql = { bigquery = \"sql/a.bigquery.sql\", default = \"sql/a.sql\" }".to_owned());
            }
            let inspection = agreed(&inspections, name, reader);
            ((!variants.is_empty()).then_some(Sql::Each(variants)), inspection)
        }
    }
}

/// What all variants say together; variants that read other steps than the first one are refused.
fn agreed(all: &[(&At<String>, Inspection)], name: &At<String>, reader: &mut Reader) -> Option<Inspection> {
    let ((first, whole), others) = all.split_first()?;
    let reads = |inspection: &Inspection| -> BTreeSet<String> {
        inspection.refs.iter().map(|(name, _)| name.clone()).collect()
    };
    let mut together = whole.clone();
    for (dialect, inspection) in others {
        let (one, other) = (reads(whole), reads(inspection));
        let missing = one.difference(&other).map(|read| (read, &first.value, &dialect.value));
        let added = other.difference(&one).map(|read| (read, &dialect.value, &first.value));
        for (read, with, without) in missing.chain(added) {
            let message = format!("`{}` reads `{read}` for {with}, but not for {without}", name.value);
            reader.error("variants-differ", dialect.span.clone(), message).help = Some(
                "what a step waits for is the same in every warehouse: the variants have the same ref()s".to_owned(),
            );
        }
        together.sources.extend(inspection.sources.iter().cloned());
        together.vars.extend(inspection.vars.iter().cloned());
        together.names.extend(inspection.names.iter().cloned());
        together.env |= inspection.env;
    }
    Some(together)
}

fn window_lints(
    text: &Text,
    inspection: &Inspection,
    name: &At<String>,
    sql: &Span,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) {
    if !inspection.uses_window() {
        let message = format!("the SQL of `{}` never uses the window: every unit would get the same rows", name.value);
        reader.warning("unused-window", sql.clone(), message).help =
            Some("WHERE day = {{ ds | sql }}; or write = \"full\" for a table without units".to_owned());
    }
    around.inspector.each_text(text, inspection, |source, start, sql| {
        // A text with escapes has no bytes of its own in the file: its whole first line is shown then.
        let as_written = source.text[start..].starts_with(sql);
        for word in clock_words(sql) {
            let place = if as_written { start + word.start..start + word.end } else { start..source.line_end(start) };
            let message =
                format!("`{}` in a windowed transform: an old unit would not give the same rows again", &sql[word]);
            let fault = Diagnostic::warning("clock-in-window", message)
                .at(source, place, "")
                .help("use the unit's own time: {{ ds | sql }}, {{ unit.start | sql }} or {{ run_date | sql }}");
            if !reader.diagnostics.contains(&fault) {
                reader.diagnostics.push(fault);
            }
        }
    });
}
