//! The wire: a request is built and sent, and its answer is read, in bounded memory.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{RequestBuilder, Response};

use super::answer::{Answer, Fate, Manner, Refused};
use super::client::Inner;
use super::decode::Plan;
use crate::error::{Context, Error, Kind, Result};
use crate::model::hook::{Body, Method, Request};

/// A document that is larger than this is no page.
const LARGEST_BODY: usize = 256 << 20;

/// An answer that is read piece by piece is held in memory up to this length, and in a file beyond.
const LARGEST_IN_MEMORY: usize = 16 << 20;

/// No answer is larger.
const LARGEST_FILE: u64 = 1 << 40;

/// A request as it goes out, but for who we are.
pub(super) fn build(http: &reqwest::Client, inner: &Inner, request: &Request) -> RequestBuilder {
    let mut builder = match request.method {
        Method::Get => http.get(&request.url),
        Method::Post => http.post(&request.url),
    };
    if !request.params.is_empty() {
        builder = builder.query(&request.params);
    }
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let Some(body) = &request.body else { return builder };
    let is_type = |name: &str| name.eq_ignore_ascii_case("content-type");
    let told = request.headers.iter().any(|(name, _)| is_type(name))
        || inner.settings.headers.keys().any(|name| is_type(name));
    let (content_type, text) = match body {
        Body::Json(text) | Body::GraphQl(text) => ("application/json", text.clone()),
        Body::Form(pairs) => {
            let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            ("application/x-www-form-urlencoded", form)
        }
        Body::Text { text, content_type } => (*content_type, text.clone()),
    };
    if !told {
        builder = builder.header(CONTENT_TYPE, content_type);
    }
    builder.body(text)
}

/// Sends a request and reads all of its answer, whatever its status.
///
/// The one place where a request for data leaves the process.
pub(super) async fn send(
    http: &reqwest::Client,
    inner: &Inner,
    manner: &Manner,
    request: reqwest::Request,
) -> Result<Answer, Refused> {
    let url = request.url().path().to_owned();
    let answer = http.execute(request).await.map_err(|error| unreachable(inner, &error))?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let (body, file) = receive(inner, manner, &url, &headers, answer).await?;
    Ok(Answer { status, headers, body, file, fate: Fate::Rows, unchanged: false })
}

/// Reads a body: into memory, or on into a file where it is one that is read piece by piece.
async fn receive(
    inner: &Inner,
    manner: &Manner,
    url: &str,
    headers: &HeaderMap,
    mut answer: Response,
) -> Result<(Bytes, Option<File>), Refused> {
    let mut body = BytesMut::new();
    let mut file: Option<(File, u64)> = None;
    // How a body is read is looked at once, when it turns out to be large.
    let mut piecewise = None;
    while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable(inner, &error))? {
        if let Some((file, length)) = &mut file {
            *length += chunk.len() as u64;
            if *length > LARGEST_FILE {
                return Err(Error::new(Kind::Source, "the answer is larger than 1 TiB").into());
            }
            // A write of some kilobytes, which the system takes into its own memory.
            file.write_all(&chunk).context(Kind::Storage, || "keeping a large answer on disk".to_owned())?;
            continue;
        }
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST_IN_MEMORY
            && let Some(scratch) = manner.scratch.as_ref().filter(|_| inner.tape.get().is_none())
            && *piecewise.get_or_insert_with(|| {
                let plan = Plan::of(&manner.form, manner.records.as_deref(), url, headers, &body);
                answer.status().is_success() && plan.is_ok_and(|plan| !plan.is_json())
            })
        {
            file = Some((spill(scratch, &body)?, body.len() as u64));
            body.truncate(LARGEST_IN_MEMORY);
        }
        if body.len() > LARGEST_BODY {
            return Err(Error::new(Kind::Source, "the answer is larger than 256 MiB")
                .hint("ask for smaller pages")
                .into());
        }
    }
    Ok((body.freeze(), file.map(|(file, _)| file)))
}

/// A file without a name, which goes away with the process, and with what there is so far.
fn spill(scratch: &Path, body: &[u8]) -> Result<File> {
    let doing = || format!("keeping a large answer in {}", scratch.display());
    std::fs::create_dir_all(scratch).context(Kind::Storage, doing)?;
    let mut file = tempfile::tempfile_in(scratch).context(Kind::Storage, doing)?;
    file.write_all(body).context(Kind::Storage, doing)?;
    Ok(file)
}

/// Why there is no whole answer.
pub(super) fn unreachable(inner: &Inner, error: &reqwest::Error) -> Refused {
    let what = if error.is_timeout() {
        format!("no whole answer within {:?}", inner.settings.timeout)
    } else if error.is_connect() {
        "the server cannot be reached".to_owned()
    } else {
        "the connection was cut".to_owned()
    };
    let mut cause = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(deeper) = source {
        cause = format!(": {deeper}");
        source = deeper.source();
    }
    if error.is_redirect() {
        let cause = inner.redactor.redact(cause.trim_start_matches(": "));
        return Error::new(Kind::Source, cause)
            .hint("credentials are sent to the connection's own host only; if the other is right, change its `url`")
            .into();
    }
    Error::new(Kind::Unavailable, inner.redactor.redact(&format!("{what}{cause}")))
        .hint(format!("`haul connections test {}` tries it alone", inner.name))
        .into()
}
