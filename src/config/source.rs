//! What an extract step asks for: which kind of source its keys describe.

use std::sync::Arc;

use super::answer;
use super::fanout::Fan;
use super::file::ExtractTable;
use super::files;
use super::hook::ApiParts;
use super::pipeline::Surroundings;
use super::reader::{At, Reader};
use super::request::single_page;
use super::table;
use crate::model::answer::Format;
use crate::model::hook::{Method, RequestTemplate};
use crate::model::name::Text;
use crate::model::pipeline::{Pipeline, Write};
use crate::model::source::{HttpSource, Source};

/// The source that step and hook describe together.
#[expect(clippy::too_many_arguments, reason = "the parts of one step; a struct would only rename them")]
pub fn source(
    step: &ExtractTable,
    parts: &ApiParts,
    fan: &Fan,
    name: &At<String>,
    write: &Write,
    pipeline: &Pipeline,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Source {
    // What follows a fault that was reported is never run.
    if let Some(process) = parts.process.source(name, write, pipeline, reader) {
        files::refuse_orphans(step, reader);
        table::refuse_orphans(step, reader);
        if files::is_files(step) || table::is_table(step) {
            let message = format!("`{}` runs a program, and reads files or a table as well", name.value);
            reader.error("two-sources", name.span.clone(), message).help = Some("leave one of them out".to_owned());
        }
        return Source::Process(Box::new(process));
    }
    if files::is_files(step) {
        table::refuse_orphans(step, reader);
        answer::refuse(step, false, "files are read", reader);
        if let Some(source) = files::files_source(step, parts.records.as_ref(), reader) {
            return Source::Files(Box::new(source));
        }
    } else if table::is_table(step) {
        files::refuse_orphans(step, reader);
        answer::refuse(step, true, "a table is read", reader);
        if let Some(source) = table::table_source(step, parts, name, around, reader) {
            return Source::Table(Box::new(source));
        }
    } else {
        files::refuse_orphans(step, reader);
        table::refuse_orphans(step, reader);
        fitting(parts, fan, name, reader);
        if let Some(format) = step.format.as_ref().filter(|at| at.value == answer::FormatWord::Parquet) {
            reader
                .error("foreign-key", format.span.clone(), "Parquet is read from `files`, not from an API's answers")
                .help = Some("files = \"exports/{{ ds }}/*.parquet\"".to_owned());
        }
    }
    Source::Http(Box::new(http(parts, fan, name, reader)))
}

fn http(parts: &ApiParts, fan: &Fan, name: &At<String>, reader: &Reader) -> HttpSource {
    HttpSource {
        auth: parts.auth.clone(),
        request: request(parts, name, reader),
        paginate: parts.paginate.clone().unwrap_or_else(single_page),
        records: parts.records.clone(),
        form: parts.answers.form(),
        rules: parts.answers.rules(),
        conditional: parts.answers.conditional.unwrap_or_default(),
        report: parts.answers.report.clone(),
        retry: parts.retry.unwrap_or_default(),
        limits: Arc::new(fan.limits),
        for_each: fan.for_each.clone(),
        max_failed: fan.max_failed,
    }
}

/// Reports what step and hook say of answers and what does not fit together.
fn fitting(parts: &ApiParts, fan: &Fan, name: &At<String>, reader: &mut Reader) {
    // A step's own report was refused where its keys were read.
    if let (Some(at), Some(_)) = (fan.at.as_ref().filter(|_| fan.for_each.is_some()), &parts.answers.report) {
        let message = "`for_each` sends requests to an API, and does not go together with a `report`";
        reader.error("foreign-key", at.clone(), message).help =
            Some("a step of its own, without `for_each`, for a report".to_owned());
    }
    let is_xml = parts.answers.format == Some(Format::Xml);
    let xml_path = parts.records.as_ref().map(|records| records.starts_with('/'));
    match (parts.answers.format, xml_path) {
        (Some(Format::Xml), None | Some(false)) => {
            let message = format!("`{}` reads XML, but does not say which elements are its rows", name.value);
            reader.error("records-of-xml", name.span.clone(), message).help =
                Some("records = \"/feed/entry\", the names of elements from the root on".to_owned());
        }
        (Some(Format::Csv), Some(_)) => {
            let message = format!("every line of CSV is a row of `{}`: `records` means nothing", name.value);
            reader.error("records-of-csv", name.span.clone(), message).help = Some("leave `records` out".to_owned());
        }
        (Some(_), Some(true)) if !is_xml => {
            let message =
                format!("`records` of `{}` is the path of an XML element, and its format is another", name.value);
            reader.error("records-of-xml", name.span.clone(), message).help =
                Some("a JSONPath as \"$.items[*]\", or format = \"xml\"".to_owned());
        }
        _ => {}
    }
    if parts.answers.conditional == Some(true) && request(parts, name, reader).method == Method::Post {
        let message = format!("`{}` asks by POST, whose answers no server tells apart by their validators", name.value);
        reader.error("conditional-post", name.span.clone(), message).help = Some("leave `conditional` out".to_owned());
    }
}

fn request(parts: &ApiParts, name: &At<String>, reader: &Reader) -> RequestTemplate {
    RequestTemplate {
        method: parts.request.method.unwrap_or(if parts.answers.report.is_some() { Method::Post } else { Method::Get }),
        path: parts.request.path.clone().unwrap_or_else(|| Text::new("", reader.origin(&name.span))),
        params: parts.request.params.clone(),
        headers: parts.request.headers.clone(),
        body: parts.request.body.clone(),
    }
}
