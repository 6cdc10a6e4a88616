//! Extraction over HTTP: requests that follow each other, politely and without losing any.
//!
//! Limits, pauses and tokens belong to the [`HttpClient`], of which a connection has one.

mod answer;
mod auth;
mod client;
mod fan;
mod limits;
mod paginate;
mod pull;
mod records;
mod visit;
mod wire;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use client::HttpClient;
pub(in crate::extract) use client::same_host;
pub use fan::{Breaker, FanPull, ItemLines, ItemRequest, RenderItem};
pub use limits::Limits;

use super::{Failure, Pull, Pulled, Sink};
use crate::error::{Error, Kind, Result};
use crate::model::hook::{AuthStyle, Paginate, Request, RetryPolicy};
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
    /// JSONPath of the rows.
    pub records: String,
    /// How often a request is tried.
    pub retry: RetryPolicy,
    /// The limits of the step, under those of the connection.
    pub gate: Option<Arc<Limits>>,
}

#[async_trait]
impl Pull for HttpPull {
    fn identity(&self) -> String {
        format!("{:?} {:?} {:?}", self.request, self.paginate, self.records)
    }

    fn place(&self) -> String {
        self.request.url.clone()
    }

    fn lines(&self) -> Vec<String> {
        let request = &self.request;
        let mut lines = vec![format!("{} {}", format!("{:?}", request.method).to_uppercase(), request.url)];
        lines.extend(request.params.iter().map(|(name, value)| format!("  {name} = {value}")));
        lines.extend(request.headers.iter().map(|(name, value)| format!("  {name}: {value}")));
        lines.extend(request.body.iter().cloned());
        lines.push(format!("  rows at {}, connection {}", self.records, self.client.name()));
        lines
    }

    async fn pages(&self, resume: Progress, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Result<Pulled, Failure> {
        pull::pull(self, resume, sink, cancel).await
    }
}
