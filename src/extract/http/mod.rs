//! Extraction over HTTP: requests that follow each other, politely and without losing any.
//!
//! Limits, pauses and tokens belong to the [`HttpClient`], of which a connection has one.

mod answer;
mod auth;
mod cache;
mod client;
mod decode;
mod fan;
mod limits;
mod login;
mod look;
mod paginate;
mod pull;
mod read;
mod records;
mod report;
mod sign;
mod visit;
mod wire;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use answer::Manner;
pub use cache::Cache;
pub use client::HttpClient;
pub(in crate::extract) use client::same_host;
pub use fan::{Breaker, FanPull, ItemLines, ItemRequest, RenderItem};
pub use limits::Limits;
pub use report::{Render, Report, Values};

use super::{Failure, Pull, Pulled, Sink};
use crate::error::{Error, Kind, Result};
use crate::model::answer::Format;
use crate::model::hook::{AuthStyle, Body, Paginate, Request, RetryPolicy};
use crate::model::page::Progress;
use crate::secret::SecretString;

/// The rows that a JSONPath leads to in a document, as ranges of it.
pub(in crate::extract) fn rows_at(path: &str, document: &[u8]) -> Result<Vec<Range<usize>>> {
    // Of a file, what is no JSON is a fault of the rows, and not of the network.
    let wrong = |error: Error| Error::new(Kind::Data, "its rows are not where `records` says").because(error);
    let document = records::Document::read(document).map_err(wrong)?;
    records::RecordPath::compile(path)?.rows(&document).map_err(wrong)
}

/// The text or number that a JSONPath leads to in a row; none where there is nothing, null, or something else.
pub(in crate::extract) fn text_at(path: &str, row: &[u8]) -> Result<Option<String>> {
    Ok(match records::Document::read(row)?.value(path)? {
        records::Found::Text(text) => Some(text),
        records::Found::Number(number) => Some(number.to_owned()),
        records::Found::Nothing | records::Found::Bool(_) | records::Found::Nested(_) => None,
    })
}

/// Keeps the refresh tokens that a token endpoint hands out in place of old ones.
pub trait TokenKeeper: Send + Sync {
    /// Stores a token durably, before the access token that came with it is used.
    fn keep(&self, connection: &str, refresh_token: &SecretString) -> Result<()>;
}

/// A finished request to an API, and how its answer is divided.
#[derive(Clone)]
pub struct HttpPull {
    /// The client of its connection.
    pub client: HttpClient,
    /// The request of the first page.
    pub request: Request,
    /// How who we are is sent, where the hook says so.
    pub auth: Option<AuthStyle>,
    /// How the answer is divided.
    pub paginate: Paginate,
    /// How its answers are written, and what is done with odd ones.
    pub manner: Arc<Manner>,
    /// The report that the request creates, where its answer has no rows.
    pub report: Option<Report>,
    /// How often a request is tried.
    pub retry: RetryPolicy,
    /// The limits of the step, under those of the connection.
    pub gate: Option<Arc<Limits>>,
}

#[async_trait]
impl Pull for HttpPull {
    fn identity(&self) -> String {
        let report = self.report.as_ref().map(|report| &report.identity);
        let Manner { form, records, rules, .. } = &*self.manner;
        format!("{:?} {:?} {records:?} {form:?} {rules:?} {report:?}", self.request, self.paginate)
    }

    fn place(&self) -> String {
        self.request.url.clone()
    }

    fn lines(&self) -> Vec<String> {
        let request = &self.request;
        let mut lines = vec![format!("{} {}", format!("{:?}", request.method).to_uppercase(), request.url)];
        lines.extend(request.params.iter().map(|(name, value)| format!("  {name} = {value}")));
        lines.extend(request.headers.iter().map(|(name, value)| format!("  {name}: {value}")));
        match &request.body {
            None => {}
            Some(Body::Json(text) | Body::GraphQl(text) | Body::Text { text, .. }) => lines.push(text.clone()),
            Some(Body::Form(pairs)) => lines.extend(pairs.iter().map(|(name, value)| format!("  {name}={value}"))),
        }
        let connection = self.client.name();
        lines.push(match (&self.report, &self.manner.records) {
            (Some(_), _) => format!("  it creates a report that is waited for, connection {connection}"),
            (None, Some(records)) => format!("  rows at {records}, connection {connection}"),
            (None, None) if matches!(self.manner.form.format, Some(Format::Csv | Format::Jsonl)) => {
                format!("  rows are its lines, connection {connection}")
            }
            (None, None) => format!("  rows at $[*], connection {connection}"),
        });
        lines
    }

    async fn pages(&self, resume: Progress, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Result<Pulled, Failure> {
        pull::pull(self, resume, sink, cancel).await
    }
}
