//! What an extract step asks for: which kind of source its keys describe.

use std::sync::Arc;

use super::fanout::Fan;
use super::file::ExtractTable;
use super::files;
use super::hook::ApiParts;
use super::pipeline::Surroundings;
use super::reader::{At, Reader};
use super::request::single_page;
use super::table;
use crate::model::hook::{Method, RequestTemplate};
use crate::model::name::Text;
use crate::model::source::{HttpSource, Source};

/// The source that step and hook describe together.
pub fn source(
    step: &ExtractTable,
    parts: &ApiParts,
    fan: &Fan,
    name: &At<String>,
    around: &Surroundings<'_>,
    reader: &mut Reader,
) -> Source {
    if files::is_files(step) {
        table::refuse_orphans(step, reader);
        if let Some(source) = files::files_source(step, parts.records.as_ref(), reader) {
            return Source::Files(Box::new(source));
        }
    } else if table::is_table(step) {
        files::refuse_orphans(step, reader);
        if let Some(source) = table::table_source(step, parts, name, around, reader) {
            return Source::Table(Box::new(source));
        }
    } else {
        files::refuse_orphans(step, reader);
        table::refuse_orphans(step, reader);
    }
    // What follows a fault that was reported is never run.
    Source::Http(Box::new(http(parts, fan, name, reader)))
}

fn http(parts: &ApiParts, fan: &Fan, name: &At<String>, reader: &Reader) -> HttpSource {
    HttpSource {
        auth: parts.auth.clone(),
        request: request(parts, name, reader),
        paginate: parts.paginate.clone().unwrap_or_else(single_page),
        records: parts.records.clone().unwrap_or_else(|| "$[*]".to_owned()),
        retry: parts.retry.unwrap_or_default(),
        limits: Arc::new(fan.limits),
        for_each: fan.for_each.clone(),
        max_failed: fan.max_failed,
    }
}

fn request(parts: &ApiParts, name: &At<String>, reader: &Reader) -> RequestTemplate {
    RequestTemplate {
        method: parts.request.method.unwrap_or(Method::Get),
        path: parts.request.path.clone().unwrap_or_else(|| Text::new("", reader.origin(&name.span))),
        params: parts.request.params.clone(),
        headers: parts.request.headers.clone(),
        body: parts.request.body.clone(),
    }
}
