//! From batches of a database's rows to pages: written and made durable on threads for blocking work, several at once.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

use super::super::{Page, Pulled, Sink};
use crate::error::{Context, Kind, Result};
use crate::model::page::{PageEntry, Position};

/// A page's rows as JSON, while it is written.
#[derive(Default)]
pub(super) struct Body {
    bytes: Vec<u8>,
    rows: Vec<Range<usize>>,
}

impl Body {
    /// Writes one row: everything between its braces.
    pub fn row(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let begin = self.bytes.len();
        self.bytes.push(b'{');
        write(&mut self.bytes)?;
        self.bytes.push(b'}');
        self.rows.push(begin..self.bytes.len());
        self.bytes.push(b'\n');
        Ok(())
    }

    /// How many rows there are so far.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }
}

/// The pages of one read, in bounded memory: so many batches are on their way to the disk, and no more.
pub(super) struct Pages {
    sink: Arc<dyn Sink>,
    running: JoinSet<Result<()>>,
    most: usize,
    pulled: Pulled,
}

impl Pages {
    /// The pages that go into this sink.
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, Into::into);
        Self { sink, running: JoinSet::new(), most: cores + 1, pulled: Pulled { requests: 1, ..Pulled::default() } }
    }

    /// Makes one page of a batch: `write` turns it into JSON, on another thread.
    ///
    /// # Errors
    /// Those of this page, or of one before it.
    pub async fn put(
        &mut self,
        wire_bytes: u64,
        write: impl FnOnce(&mut Body) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        while self.running.len() >= self.most {
            self.next().await?;
        }
        let (sink, number) = (Arc::clone(&self.sink), self.pulled.pages);
        self.pulled.pages += 1;
        self.pulled.bytes += wire_bytes;
        self.running.spawn_blocking(move || {
            let mut body = Body::default();
            write(&mut body).map_err(|error| {
                error.while_doing(format!("reading row {} of page {}", body.rows() + 1, number + 1))
            })?;
            if body.rows.is_empty() {
                return Ok(());
            }
            let entry = PageEntry {
                number,
                at: Position::Page(number),
                next: Some(Position::Page(number + 1)),
                total: None,
                rows: body.rows.len() as u64,
                digest: xxh3_64(&body.bytes),
            };
            sink.put(Page { entry, body: Bytes::from(body.bytes), rows: body.rows, wire_bytes })
        });
        Ok(())
    }

    /// Waits until all pages are durable; of a read that failed too, so that none is still written afterwards.
    pub async fn finish(mut self, read: Result<()>) -> Result<Pulled> {
        let mut ended = read;
        while !self.running.is_empty() {
            let next = self.next().await;
            ended = ended.and(next);
        }
        ended.map(|()| self.pulled)
    }

    async fn next(&mut self) -> Result<()> {
        match self.running.join_next().await {
            None => Ok(()),
            Some(ended) => ended.context(Kind::Internal, || "writing a page".to_owned())?,
        }
    }
}
