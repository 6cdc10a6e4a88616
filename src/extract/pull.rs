//! A pull: page after page, or side by side where the API tells how many there are, until the last one is durable.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::header::HeaderMap;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::client::HttpClient;
use super::paginate::{self, Seen, Told};
use super::records::RecordPath;
use super::{Page, Pull, Pulled, Sink, auth};
use crate::error::{Context, Error, Kind, Result};
use crate::model::page::{PageEntry, Position, Progress};

/// Asks for the pages of a pull that are not durable yet, and hands each to the sink.
///
/// # Errors
/// An answer that the hook does not describe, a page that comes again, credentials that are refused, or a server that
/// stays out of reach; what was put into the sink before stays there.
pub async fn pull(
    client: &HttpClient,
    pull: &Pull,
    resume: Progress,
    sink: Arc<dyn Sink>,
    cancel: CancellationToken,
) -> Result<Pulled> {
    let puller = Puller {
        client,
        pull,
        path: Arc::new(RecordPath::compile(&pull.records)?),
        secret_param: auth::query_key(&client.inner.settings.auth, pull.auth.as_ref()),
        sink,
        cancel,
    };
    let before = client.sent();
    let mut pulled = puller.run(resume).await?;
    pulled.requests = client.sent() - before;
    Ok(pulled)
}

struct Puller<'a> {
    client: &'a HttpClient,
    pull: &'a Pull,
    path: Arc<RecordPath>,
    secret_param: Option<String>,
    sink: Arc<dyn Sink>,
    cancel: CancellationToken,
}

/// A page with what it tells about the others.
struct Read {
    page: Page,
    told: Told,
    last_row: Option<Bytes>,
    headers: HeaderMap,
}

impl Puller<'_> {
    async fn run(&self, resume: Progress) -> Result<Pulled> {
        let style = &self.pull.paginate.by;
        let mut pulled = Pulled::default();
        let (mut at, mut number, mut rows) = match &resume.last {
            Some(last) => match &last.next {
                Some(next) => (next.clone(), resume.done, resume.rows),
                // The last page is durable; only the seal was missing.
                None if resume.total.is_none_or(|total| resume.rows >= total) => return Ok(pulled),
                None => (paginate::first(style), 0, 0),
            },
            None => (paginate::first(style), 0, 0),
        };
        if resume.done > 0 && paginate::numbered(style, 0).is_some() {
            if let Some(total) = resume.total {
                return self.side_by_side(total, &resume, pulled).await;
            }
        }
        let mut previous = resume.last.as_ref().map(|last| last.digest);
        let mut visited: HashSet<u64> = HashSet::from([fold(&at)]);
        loop {
            if number >= self.pull.paginate.max_pages {
                return Err(Error::new(Kind::Source, format!("page {} is the last that is allowed", number))
                    .hint("`paginate.max_pages` is the guard against endless pages; raise it if there are so many"));
            }
            let mut read = self.read(number, at.clone()).await?;
            let count = read.page.entry.rows;
            rows += count;
            if count > 0 && previous == Some(read.page.entry.digest) {
                return Err(Error::new(
                    Kind::Source,
                    format!("page {} has the same rows as the page before", number + 1),
                )
                .hint("the API seems to ignore the page: look at the parameter names in `paginate`"));
            }
            previous = Some(read.page.entry.digest);
            let next = paginate::next(&self.pull.paginate, &self.seen(&read, rows))?;
            if let Some(next) = next.as_ref().filter(|next| !visited.insert(fold(next))) {
                return Err(Error::new(
                    Kind::Source,
                    format!("page {} leads back to a page that was read", number + 1),
                )
                .because(self.client.inner.redactor.redact(&format!("{next:?}")))
                .hint("the API's next page runs in a circle"));
            }
            read.page.entry.next.clone_from(&next);
            pulled.pages += 1;
            pulled.bytes += read.page.wire_bytes;
            let known = resume.total.or(read.told.total);
            if known.is_some() && read.told.total.is_some() && known != read.told.total {
                pulled.total_moved = true;
            }
            let total = read.told.total.filter(|total| number == 0 && *total > rows);
            let entry = read.page.entry.clone();
            self.put(read.page).await?;
            let (Some(next), false) = (next, self.cancel.is_cancelled()) else {
                return if self.cancel.is_cancelled() && entry.next.is_some() { Err(stopped()) } else { Ok(pulled) };
            };
            if let (Some(total), Some(_), Some(size)) =
                (total, paginate::numbered(style, 0), paginate::page_size(style))
            {
                // An API that gives fewer rows than asked for would leave holes between offsets.
                if count == size {
                    let mut progress = Progress::default();
                    progress.add(&entry);
                    return self.side_by_side(total, &progress, pulled).await;
                }
                return Err(Error::new(
                    Kind::Source,
                    format!("page 1 has {count} rows, {size} were asked for, {total} there are"),
                )
                .hint(format!("the API's largest page may be smaller: try `limit = {count}`")));
            }
            (at, number) = (next, number + 1);
        }
    }

    /// The other pages of a numbered style, several at once.
    async fn side_by_side(&self, total: u64, progress: &Progress, mut pulled: Pulled) -> Result<Pulled> {
        let style = &self.pull.paginate.by;
        let size = paginate::page_size(style).unwrap_or(1).max(1);
        let pages = total.div_ceil(size);
        if pages > self.pull.paginate.max_pages {
            return Err(Error::new(Kind::Source, format!("{total} rows are {pages} pages, more than are allowed"))
                .hint("`paginate.max_pages` is the guard against endless pages; raise it if there are so many"));
        }
        let missing = (0..pages).filter(|number| !progress.has(*number));
        let mut reading = stream::iter(missing)
            .map(|number| async move {
                let at = paginate::numbered(style, number).unwrap_or(Position::Start);
                let mut read = self.read(number, at).await?;
                read.page.entry.next = paginate::numbered(style, number + 1).filter(|_| number + 1 < pages);
                let entry = read.page.entry.clone();
                let bytes = read.page.wire_bytes;
                self.put(read.page).await?;
                Result::Ok((entry, read.told, bytes))
            })
            .buffer_unordered(self.client.width() * 2);
        let mut rows = progress.rows;
        let mut digests = HashSet::new();
        while let Some((entry, told, bytes)) = reading.try_next().await? {
            pulled.pages += 1;
            pulled.bytes += bytes;
            rows += entry.rows;
            pulled.total_moved |= told.total.is_some_and(|now| now != total);
            if entry.rows > 0 && !digests.insert(entry.digest) && !pulled.total_moved {
                return Err(Error::new(
                    Kind::Source,
                    format!("page {} has the same rows as another page", entry.number + 1),
                )
                .hint("the API seems to ignore the page: look at the parameter names in `paginate`"));
            }
        }
        if rows != total && !pulled.total_moved {
            return Err(Error::new(Kind::Source, format!("{rows} rows came, the API tells of {total}"))
                .hint("it may give smaller pages than asked for; look at `paginate.limit`"));
        }
        Ok(pulled)
    }

    fn seen<'r>(&'r self, read: &'r Read, rows_so_far: u64) -> Seen<'r> {
        Seen {
            base: &self.pull.request,
            at: &read.page.entry.at,
            number: read.page.entry.number,
            headers: &read.headers,
            body: &read.page.body,
            rows: read.page.entry.rows,
            last_row: read.last_row.as_deref(),
            rows_so_far,
            told: &read.told,
            secret_param: self.secret_param.as_deref(),
        }
    }

    async fn read(&self, number: u64, at: Position) -> Result<Read> {
        let request = paginate::request_at(&self.pull.request, &self.pull.paginate.by, &at)?;
        let answer = self
            .client
            .fetch(&request, self.pull.auth.as_ref(), &self.pull.retry, &*self.sink, &self.cancel, |answer| {
                // Valid as a whole, or it was cut on its way.
                let rows = self.path.rows(&answer.body)?;
                let told = paginate::told(&self.pull.paginate, &answer.body)?;
                Ok((answer, rows, told))
            })
            .await;
        let (answer, rows, told) = answer.map_err(|error| {
            let place = format!("reading page {} of {}", number + 1, self.client.inner.redactor.redact(&request.url));
            // A body that stays broken is the source's fault, not the network's.
            if error.chain().contains("is not JSON") {
                return Error::new(Kind::Source, place).because(error);
            }
            error.while_doing(place)
        })?;
        let mut digest = Xxh3::new();
        rows.iter().for_each(|row| digest.update(&answer.body[row.clone()]));
        let last_row = rows.last().map(|row| answer.body.slice(row.clone()));
        let entry =
            PageEntry { number, at, next: None, total: told.total, rows: rows.len() as u64, digest: digest.digest() };
        let page = Page { entry, wire_bytes: answer.body.len() as u64, body: answer.body, rows };
        Ok(Read { page, told, last_row, headers: answer.headers })
    }

    async fn put(&self, page: Page) -> Result<()> {
        let sink = Arc::clone(&self.sink);
        let put = tokio::task::spawn_blocking(move || sink.put(page)).await;
        put.context(Kind::Internal, || "putting a page into the stage".to_owned())?
    }
}

fn fold(at: &Position) -> u64 {
    xxh3_64(format!("{at:?}").as_bytes())
}

fn stopped() -> Error {
    Error::new(Kind::Cancelled, "stopped between two pages")
}
