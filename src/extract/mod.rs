//! Extraction: from an API to durable pages, politely and without losing any.
//!
//! A [`Pull`] is a finished request with its page style; [`pull()`] asks for its pages and hands each to a [`Sink`] as byte
//! ranges of the answer. Limits, pauses and tokens belong to the [`HttpClient`], of which a connection has one.

mod auth;
mod client;
mod paginate;
mod pull;
mod records;

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

pub use client::HttpClient;
pub use pull::pull;

use crate::error::{Error, Result};
use crate::model::hook::{Paginate, Request, RetryPolicy};
use crate::model::page::PageEntry;
use crate::model::pipeline::AuthStyle;
use crate::secret::SecretString;

/// Keeps the refresh tokens that a token endpoint hands out in place of old ones.
pub trait TokenKeeper: Send + Sync {
    /// Stores a token durably, before the access token that came with it is used.
    fn keep(&self, connection: &str, refresh_token: &SecretString) -> Result<()>;
}

/// All that decides which pages come.
#[derive(Debug, Clone)]
pub struct Pull {
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
}

/// One page.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its place, and what it told.
    pub entry: PageEntry,
    /// The answer.
    pub body: Bytes,
    /// The rows as ranges of the answer.
    pub rows: Vec<Range<usize>>,
    /// The bytes of the answer.
    pub wire_bytes: u64,
}

/// Takes pages.
pub trait Sink: Send + Sync {
    /// Makes a page durable; called on a thread for blocking work, and from several at once where pages run side by side.
    fn put(&self, page: Page) -> Result<()>;

    /// A request is going to be sent again after a pause.
    fn retrying(&self, reason: &str, pause: Duration);
}

/// What a pull cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Requests sent, repeated ones included.
    pub requests: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Pages.
    pub pages: u64,
    /// The total changed while pages were read: they may not fit each other.
    pub total_moved: bool,
}

/// Why a pull ended before its last page.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// The pages that came do not fit each other: none of them is worth keeping.
    pub in_doubt: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, in_doubt: false }
    }
}
