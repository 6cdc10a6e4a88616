//! What an extract step asks for: which kind of source its keys describe.

use super::hook::ApiParts;
use super::reader::{At, Reader};
use super::request::single_page;
use crate::model::hook::{Method, RequestTemplate};
use crate::model::name::Text;
use crate::model::pipeline::{Pipeline, Write};
use crate::model::source::{HttpSource, Source};

/// The source that step and hook describe together.
pub fn source(parts: &ApiParts, name: &At<String>, write: &Write, pipeline: &Pipeline, reader: &mut Reader) -> Source {
    // What follows a fault that was reported is never run.
    match parts.process.source(name, write, pipeline, reader) {
        Some(process) => Source::Process(Box::new(process)),
        None => http(parts, name, reader),
    }
}

fn http(parts: &ApiParts, name: &At<String>, reader: &Reader) -> Source {
    Source::Http(Box::new(HttpSource {
        auth: parts.auth.clone(),
        request: request(parts, name, reader),
        paginate: parts.paginate.clone().unwrap_or_else(single_page),
        records: parts.records.clone().unwrap_or_else(|| "$[*]".to_owned()),
        retry: parts.retry.unwrap_or_default(),
    }))
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
