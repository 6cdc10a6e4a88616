//! Extraction: from an API to durable pages, politely and without losing any.
//!
//! A [`Pull`] is what a step asks one source for, rendered and ready: it brings pages and hands each to a [`Sink`], with
//! rows as byte ranges of the page. Every kind of source is a room of its own behind that trait.

pub mod bigquery;
pub mod cassette;
mod download;
mod files;
mod http;
mod mongodb;
mod process;
pub mod rows;
pub mod table;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub use self::mongodb::{LandedRows, MongoPull, Query as MongoQuery, Range as MongoRange};
pub use download::{DownloadPull, Fetcher, Library, Locate, at_path};
pub use files::{FileStore, FilesPull, Mark, Pattern};
pub use http::{
    Breaker, Cache, FanPull, HttpClient, HttpPull, ItemLines, ItemRequest, Limits, Manner, Render, RenderItem, Report,
    TokenKeeper, Values,
};
pub use process::{
    Catalogs, Errand, GRACE, ProcessPull, Program, Replication, Speaks, Tap, Watch, sweep_private_files,
};

use crate::error::{Error, Result};
use crate::model::cost::{Prices, Quote};
use crate::model::fanout::{Added, FailedRequest, Tally};
use crate::model::hook::Request;
use crate::model::page::{PageEntry, Progress};
use crate::model::schema::SourceColumn;
use crate::model::shape::Shape;
use crate::secret::Redactor;

/// What a step asks one source for, rendered for a unit or a window.
#[async_trait]
pub trait Pull: Send + Sync {
    /// All that decides which rows come, without any secret; another text makes another stage.
    fn identity(&self) -> String;

    /// Where the rows come from, for messages: an address, a table.
    fn place(&self) -> String;

    /// What is sent, line by line, for `haul render`.
    fn lines(&self) -> Vec<String>;

    /// Looks, without reading any row, whether the source has the unit, and in which state.
    ///
    /// It is called before the rows are read, so that what changes in between is seen by the next pull.
    async fn probe(&self) -> Result<Probe> {
        Ok(Probe::Unknown)
    }

    /// What reading would be billed for, where the source bills by the bytes that are read; told without reading any row.
    ///
    /// None where it costs nothing. What `known` has is not asked for again.
    async fn price(&self, _known: &Prices) -> Result<Option<Quote>> {
        Ok(None)
    }

    /// Whether a pull can go on behind its durable pages; one that cannot is begun anew, and gets no progress.
    fn resumes(&self) -> bool {
        true
    }

    /// Asks for the pages that are not durable yet, and hands each to the sink.
    ///
    /// # Errors
    /// A source that is out of reach, refuses who we are, or says what the step does not describe; what was put into the
    /// sink before stays there.
    async fn pages(&self, resume: Progress, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Result<Pulled, Failure>;
}

/// In which state a source has what a pull asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Nothing tells: the rows have to be read.
    Unknown,
    /// In this one: the same text at another time means the same rows.
    Is(String),
    /// It does not have it yet, and why that is believed.
    Late(String),
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

/// What ended, of the requests of a fan-out, since the last batch.
#[derive(Debug, Default)]
pub struct Batch {
    /// Pages, in the order in which they came.
    pub pages: Vec<BatchPage>,
    /// Requests that failed for good.
    pub failed: Vec<FailedRequest>,
}

/// One page of one request of a fan-out.
#[derive(Debug)]
pub struct BatchPage {
    /// The page; its number is its place in its request.
    pub page: Page,
    /// The request that it answers.
    pub asked: Arc<Asked>,
}

/// One request of a fan-out.
#[derive(Debug)]
pub struct Asked {
    /// The place of its item, from 0.
    pub number: u64,
    /// The item as JSON.
    pub item: String,
    /// The request of its first page.
    pub request: Request,
    /// Members that its rows get besides their own.
    pub add: Option<Added>,
}

impl Asked {
    /// The record of its failure, with so many of its pages in the stage.
    pub fn failed(&self, error: &Error, pages: u64, redactor: &Redactor) -> FailedRequest {
        FailedRequest {
            number: self.number,
            request: redactor.redact(&self.request.line()),
            item: redactor.redact(&self.item),
            kind: error.kind().name().to_owned(),
            status: error.status(),
            reason: redactor.redact(&error.chain()),
            pages,
        }
    }
}

/// Takes pages.
pub trait Sink: Send + Sync {
    /// Makes a page durable; called on a thread for blocking work, and from several at once where pages run side by side.
    fn put(&self, page: Page) -> Result<()>;

    /// Makes the answers to requests of a fan-out durable by one write; called on a thread for blocking work.
    fn put_batch(&self, _batch: Batch) -> Result<Vec<FailedRequest>> {
        Err(Error::internal("this sink takes no batches"))
    }

    /// A fan-out tells how it stands, a few times a second.
    fn tally(&self, _tally: Tally) {}

    /// Tells the columns that the source declares, in their order, before the first page.
    ///
    /// Their types win over what the values look like, and yield to what the step declares; a pull without rows has them too.
    fn columns(&self, _columns: Vec<SourceColumn>) -> Result<()> {
        Ok(())
    }

    /// Tells the members that identify a row, where the source knows them; before the first page.
    fn keys(&self, _keys: Vec<String>) -> Result<()> {
        Ok(())
    }

    /// Tells where the source wants to go on at the next pull, as JSON; kept once these rows are loaded.
    fn bookmark(&self, _json: &str) -> Result<()> {
        Ok(())
    }

    /// The source said something that is no row: a line of its log.
    fn said(&self, _line: &str) {}

    /// Tells the shape that the rows had when they were staged before, instead of what they still show.
    fn shape(&self, _shape: Shape) -> Result<()> {
        Ok(())
    }

    /// A request is going to be sent again after a pause.
    fn retrying(&self, reason: &str, pause: Duration);

    /// Something that the user should know and that stops nothing.
    fn warn(&self, _sentence: &str) {}

    /// The source is asked less, or more again, than before; the sentence says so.
    fn paced(&self, _sentence: &str) {}
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
