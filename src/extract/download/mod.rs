//! What records point to: every row of a source gets a column with the name of a file that is stored once, by its content.

mod content;
mod fetch;
mod index;
mod library;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use fetch::Fetcher;
pub use library::Library;

use self::fetch::Got;
use super::rows::{member_key, push_member, push_text};
use super::{Failure, Page, Probe, Pull, Pulled, Sink};
use crate::error::{Context, Error, Kind, Result};
use crate::model::cost::{Prices, Quote};
use crate::model::files::{Download, OnError};
use crate::model::page::Progress;
use crate::model::schema::SourceColumn;

/// Finds the address in a row, which is given as JSON; none where the row has none.
pub type Locate = Arc<dyn Fn(&str) -> Result<Option<String>> + Send + Sync>;

/// The address at a JSONPath.
pub fn at_path(path: &str) -> Locate {
    let path = path.to_owned();
    Arc::new(move |row| super::http::text_at(&path, row.as_bytes()))
}

/// A pull whose rows get a column with the name of the file that they point to.
pub struct DownloadPull {
    /// Where the rows come from.
    pub rows: Arc<dyn Pull>,
    /// What is downloaded.
    pub download: Download,
    /// Where a row has the address.
    pub locate: Locate,
    /// Fetches and stores.
    pub fetcher: Fetcher,
}

#[async_trait]
impl Pull for DownloadPull {
    fn identity(&self) -> String {
        let Download { url, to, column, .. } = &self.download;
        format!("{} {url:?} {to:?} {column:?}", self.rows.identity())
    }

    fn place(&self) -> String {
        self.rows.place()
    }

    fn lines(&self) -> Vec<String> {
        let Download { url, column, .. } = &self.download;
        let mut lines = self.rows.lines();
        lines.push(format!("  `{column}` is the file at {url}, stored in {}", self.fetcher.place()));
        lines
    }

    async fn probe(&self) -> Result<Probe> {
        Ok(match self.rows.probe().await? {
            Probe::Late(reason) => Probe::Late(reason),
            // Rows that are as they were may point to files that could not be had the last time.
            Probe::Is(_) | Probe::Unknown => Probe::Unknown,
        })
    }

    async fn price(&self, known: &Prices) -> Result<Option<Quote>> {
        // Rows that are as they were are read all the same, for the files that could not be had.
        Ok(self.rows.price(known).await?.map(|quote| Quote { state: None, ..quote }))
    }

    fn resumes(&self) -> bool {
        self.rows.resumes()
    }

    async fn pages(&self, resume: Progress, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Result<Pulled, Failure> {
        let filling = Arc::new(Filling {
            sink,
            download: self.download.clone(),
            locate: Arc::clone(&self.locate),
            fetcher: self.fetcher.clone(),
            cancel: cancel.clone(),
            runtime: Handle::current(),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: Mutex::default(),
        });
        let pulled = self.rows.pages(resume, Arc::clone(&filling) as Arc<dyn Sink>, cancel).await;
        filling.tell();
        let mut pulled = pulled?;
        pulled.requests += filling.requests.load(Ordering::Relaxed);
        pulled.bytes += filling.bytes.load(Ordering::Relaxed);
        Ok(pulled)
    }
}

/// Fills the column of every page before it goes on to the stage: a page that is durable has all of its files.
struct Filling {
    sink: Arc<dyn Sink>,
    download: Download,
    locate: Locate,
    fetcher: Fetcher,
    cancel: CancellationToken,
    runtime: Handle,
    requests: AtomicU64,
    bytes: AtomicU64,
    /// How many files could not be had, and why the first could not.
    failed: Mutex<(u64, String)>,
}

impl Sink for Filling {
    fn put(&self, page: Page) -> Result<()> {
        let page = self.runtime.block_on(self.filled(page))?;
        self.sink.put(page)
    }

    fn columns(&self, columns: Vec<SourceColumn>) -> Result<()> {
        self.sink.columns(columns)
    }

    fn keys(&self, keys: Vec<String>) -> Result<()> {
        self.sink.keys(keys)
    }

    fn bookmark(&self, json: &str) -> Result<()> {
        self.sink.bookmark(json)
    }

    fn said(&self, line: &str) {
        self.sink.said(line);
    }

    fn retrying(&self, reason: &str, pause: Duration) {
        self.sink.retrying(reason, pause);
    }

    fn warn(&self, sentence: &str) {
        self.sink.warn(sentence);
    }

    fn paced(&self, sentence: &str) {
        self.sink.paced(sentence);
    }
}

impl Filling {
    async fn filled(&self, page: Page) -> Result<Page> {
        let body = page.body.clone();
        let names: Vec<Option<String>> = stream::iter(page.rows.clone())
            .map(|row| {
                let body = body.clone();
                async move { self.name(&body[row]).await }
            })
            .buffered(self.download.max_concurrent.get())
            .try_collect()
            .await?;
        let key = member_key(&self.download.column);
        let mut wider = Vec::with_capacity(body.len() + names.len() * (key.len() + 72));
        let mut rows = Vec::with_capacity(names.len());
        for (row, name) in page.rows.iter().zip(names) {
            let start = wider.len();
            wider.extend_from_slice(&body[row.clone()]);
            let mut member = key.clone();
            match name {
                Some(name) => push_text(&mut member, &name),
                None => member.extend_from_slice(b"null"),
            }
            push_member(&mut wider, &member);
            rows.push(start..wider.len());
        }
        Ok(Page { body: Bytes::from(wider), rows, ..page })
    }

    /// Refuses a row that has a member of the column's name already.
    fn is_free(&self, row: &str) -> Result<()> {
        let members: BTreeMap<Cow<'_, str>, &RawValue> =
            serde_json::from_str(row).context(Kind::Data, || "reading a row".to_owned())?;
        let column = &self.download.column;
        match members.keys().find(|name| name.eq_ignore_ascii_case(column)) {
            None => Ok(()),
            Some(name) => {
                let text = format!("rows of the source have `{name}` already, and `download` adds a column `{column}`");
                Err(Error::new(Kind::Source, text).hint("give the column of the files another name: download.column"))
            }
        }
    }

    /// The name of the file that a row points to.
    async fn name(&self, row: &[u8]) -> Result<Option<String>> {
        let row = std::str::from_utf8(row).context(Kind::Data, || "reading a row".to_owned())?;
        self.is_free(row)?;
        let told = |error: Error| error.while_doing(format!("finding the address for `{}`", self.download.column));
        let Some(url) = (self.locate)(row).map_err(told)?.filter(|url| !url.trim().is_empty()) else {
            return Ok(None);
        };
        let got = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Error::new(Kind::Cancelled, "stopped")),
            got = self.fetcher.get(url.trim(), &self.download, &*self.sink) => got,
        };
        match got {
            Ok(Got { name, requests, bytes }) => {
                self.requests.fetch_add(requests, Ordering::Relaxed);
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok(name)
            }
            // Our own disk or bucket is no fault of the row.
            Err(error) if matches!(error.kind(), Kind::Storage | Kind::Internal | Kind::Connection) => Err(error),
            Err(error) if self.download.on_error == OnError::Fail => {
                Err(error.hint("on_error = \"null\" leaves the column empty, and the next pull tries again"))
            }
            Err(error) => {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.0 += 1;
                if failed.0 == 1 {
                    failed.1 = error.chain();
                }
                Ok(None)
            }
        }
    }

    fn tell(&self) {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let (files, first) = &*failed;
        let column = &self.download.column;
        match files {
            0 => {}
            1 => self.sink.warn(&format!("1 file could not be fetched; its `{column}` is null until a pull gets it: {first}")),
            files => self.sink.warn(&format!(
                "{files} files could not be fetched; their `{column}` is null until a pull gets them; the first: {first}"
            )),
        }
    }
}
