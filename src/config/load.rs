//! Load steps, and where the rows of an extract land: what is read, where it goes, and how.

mod from;
mod target;

use super::check::checks;
use super::file::{ExtractTable, LandingTable};
use super::hook::columns;
use super::layout::{LayoutKeys, foreign, layout};
use super::load_table::LoadTable;
use super::pipeline::{Surroundings, guard};
use super::reader::{At, Reader, Span};
use super::step::{Reaches, StepDraft, WriteKeys, into_table, names_of, reaches, step_name, write_mode};
use crate::model::load::{Load, Target};
use crate::model::name::TableName;
use crate::model::parameter::ParameterValues;
use crate::model::pipeline::{Action, Extract, Guard, Landing, Per, Pipeline, Step, Write};

pub use from::LoadFrom;

/// Reads a load step; `None` when not even its name is known.
pub fn load(
    at: &At<LoadTable>,
    pipeline: &Pipeline,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<StepDraft> {
    let table = &at.value;
    let name = step_name(table.name.0.as_ref(), &at.span, reader);
    let write = WriteKeys {
        write: table.write.as_ref(),
        keys: table.keys.as_ref(),
        newest_by: table.newest_by.as_ref(),
        merges: false,
        tells_keys: false,
        append_repeats: table.append_repeats.as_ref(),
    };
    let write = write_mode(&write, &name, pipeline, reader);
    let by_unit = pipeline.window.is_some() && write != Write::Full;
    let target = target::target(table, &name, pipeline, by_unit, &write, around, reader);
    let into = match (&target, target::is_elsewhere(table, pipeline)) {
        (Some(target), _) => Some(Target::ledger_name(&target.connection, &target.into.text)),
        (None, true) => None,
        (None, false) => into_table(table.into.as_ref(), "raw", &name, reader),
    };
    let layout_keys = LayoutKeys {
        partition_by: table.partition_by.as_ref(),
        cluster_by: table.cluster_by.as_ref(),
        write: table.write.as_ref(),
        require_partition_filter: table.require_partition_filter.as_ref(),
        partition_expires: table.partition_expires.as_ref(),
    };
    let layout = layout(&layout_keys, pipeline, &write, reader);
    let checks = checks(table.checks.as_ref(), around, reader);
    let asked = from::asked(table, &name, pipeline, by_unit, around, reader);
    let reach = match &table.sql {
        Some(_) => reaches(table.reach.as_ref(), asked.inspection.as_ref(), pipeline, reader),
        None => Reaches::default(),
    };
    let rows = Extract {
        connection: asked.connection,
        hook: None,
        foreign: false,
        params: ParameterValues::new(),
        download: None,
        source: asked.source,
        per: Per::Unit,
        time: asked.time,
        time_zone: table.time_zone.as_ref().map(|zone| zone.value.0),
        columns: columns(table.columns.as_ref()),
        contract: table.contract.as_ref().map(|at| at.value).unwrap_or_default(),
        nested: table.nested.as_ref().map(|at| at.value).unwrap_or_default(),
        naming: table.naming.as_ref().map(|at| at.value).unwrap_or_default(),
        landing: None,
    };
    let origin = reader.origin(&at.span);
    let into_span = table.into.as_ref().map_or(name.span.clone(), |into| into.span.clone());
    let step = into.map(|into| Step {
        keys: names_of(table.keys.as_ref()),
        name: name.value.clone(),
        origin,
        into,
        write,
        layout,
        checks,
        // What a step has written has passed a guard already: the same rows are not asked about twice, unless the step
        // says so.
        guard: guard(table.guard.as_ref(), Guard::OPEN),
        after: Vec::new(),
        action: Action::Load(Box::new(Load { reads: Vec::new(), by_unit: false, rows, target })),
    });
    let sql = table.sql.as_ref().or(table.from.as_ref()).map_or(name.span.clone(), |at| at.span.clone());
    table.name.0.is_some().then_some(StepDraft {
        name,
        into: into_span,
        step,
        inspection: asked.inspection,
        sql,
        reach,
        from: Some(asked.from),
        after: table.after.clone(),
    })
}

/// Where the rows of an extract land, and under which name the ledger knows them.
pub fn landing(
    at: &At<LandingTable>,
    step: &ExtractTable,
    layout: &LayoutKeys<'_>,
    write: &Write,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Option<(Landing, TableName)> {
    if let Some(connection) = &at.value.connection.0 {
        around.check_connection(connection, reader);
    }
    foreign_keys(step, layout, reader);
    if matches!(write, Write::Append | Write::Merge { .. }) {
        let span = step.write.as_ref().map_or(at.span.clone(), |write| write.span.clone());
        let message =
            format!("rows land unit by unit, each in place of what the unit had; `{}` is for tables", write.word());
        reader.error("foreign-key", span, message).help =
            Some(format!("write = \"{}\" belongs to the load step that reads from there", write.word()));
    }
    let (connection, collection) = (at.value.connection.0.as_ref()?, at.value.collection.0.as_ref()?);
    let plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    for part in [connection, collection] {
        if !plain(&part.value) || part.value.starts_with("_haul") {
            let message = format!("rows cannot land in `{}`", part.value);
            reader.error("bad-name", part.span.clone(), message).help = Some(
                "the ledger calls them `connection.collection`: both have letters, digits, underscores and hyphens, and do not begin with _haul"
                    .to_owned(),
            );
            return None;
        }
    }
    let table = TableName { schema: connection.value.clone(), name: collection.value.clone() };
    Some((Landing { connection: connection.value.clone(), collection: collection.value.clone() }, table))
}

/// Reports the keys of a table, which rows that land elsewhere do not have yet.
fn foreign_keys(step: &ExtractTable, layout: &LayoutKeys<'_>, reader: &mut Reader) {
    let given: [(&str, Option<&Span>); 9] = [
        ("into", step.into.as_ref().map(|at| &at.span)),
        ("keys", step.keys.as_ref().map(|at| &at.span)),
        ("newest_by", step.newest_by.as_ref().map(|at| &at.span)),
        ("checks", step.checks.as_ref().map(|at| &at.span)),
        ("columns", step.columns.as_ref().map(|at| &at.span)),
        ("contract", step.contract.as_ref().map(|at| &at.span)),
        ("nested", step.nested.as_ref().map(|at| &at.span)),
        ("naming", step.naming.as_ref().map(|at| &at.span)),
        ("append_repeats", step.append_repeats.as_ref().map(|at| &at.span)),
    ];
    for (key, span) in given.into_iter().chain(foreign(layout)) {
        let Some(span) = span else { continue };
        let message = format!("`{key}` is of a table, and this step's rows land in a collection first");
        reader.error("foreign-key", span.clone(), message).help =
            Some("it belongs to the `[[load]]` step that brings them into a table".to_owned());
    }
}
