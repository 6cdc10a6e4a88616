//! Fan-out: one request for each item of a list, how hard the step may press, and what is known of requests that ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::Text;
use super::page::PageEntry;
use super::pipeline::Read;
use crate::error::{Disposition, Kind};

/// Over what a step sends a request each: `for_each`.
#[derive(Debug, Clone)]
pub struct ForEach {
    /// Where the items are from.
    pub over: Over,
    /// The variable by which templates call an item: `item`, `parent`, or what `as` says.
    pub name: String,
    /// Members that every row gets besides its own, with the templates of their values.
    pub add: Vec<(String, Text)>,
    /// The steps that it reads, which have to end before it begins.
    pub reads: Vec<Read>,
}

/// Where items are from.
#[derive(Debug, Clone)]
pub enum Over {
    /// The rows of a step's table.
    Step(String),
    /// The rows of a SELECT.
    Sql {
        /// Its template.
        text: Text,
        /// Where it runs; the pipeline's warehouse where nothing is said.
        connection: Option<String>,
    },
    /// A list in the file itself.
    Values(Arc<Vec<serde_json::Value>>),
    /// The lines of a file, relative to the project.
    File(PathBuf),
}

/// How hard a step may press, under the limits of its connection; named as Google Cloud Tasks names them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepLimits {
    /// At most so many requests a second.
    pub max_dispatches_per_second: Option<f64>,
    /// At most so many requests under way at once.
    pub max_concurrent_dispatches: Option<usize>,
}

/// How many requests may fail for good without the unit failing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum MaxFailed {
    /// None.
    #[default]
    None,
    /// So many.
    Count(u64),
    /// This share of all: 0.01 for `"1%"`.
    Share(f64),
}

impl MaxFailed {
    /// Whether so many failures of so many requests are allowed.
    #[expect(clippy::cast_precision_loss, reason = "a share of requests needs no more than 52 bits")]
    pub fn allows(self, failed: u64, of: u64) -> bool {
        match self {
            Self::None => failed == 0,
            Self::Count(most) => failed <= most,
            Self::Share(share) => failed as f64 <= share * of as f64,
        }
    }
}

/// A request that failed for good, with all that is needed to understand it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRequest {
    /// The place of its item, from 0.
    pub number: u64,
    /// Method, address and parameters, redacted.
    pub request: String,
    /// The item as JSON, redacted.
    pub item: String,
    /// The error's kind.
    pub kind: String,
    /// The HTTP status, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why, redacted.
    pub reason: String,
    /// How many of its pages are in the stage all the same.
    #[serde(default)]
    pub pages: u64,
}

impl FailedRequest {
    /// The kind of the error that all of these are together: one that passes only where each of them does.
    pub fn kind_of(failed: &[Self]) -> Kind {
        let mut kinds = failed.iter().map(|one| Kind::named(&one.kind).unwrap_or(Kind::Source));
        match kinds.next() {
            Some(first) if std::iter::once(first).chain(kinds).all(|kind| kind.disposition() == Disposition::Retry) => {
                first
            }
            _ => Kind::Source,
        }
    }
}

/// A request of which some pages are durable, and more come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRequest {
    /// The last of them.
    pub last: PageEntry,
    /// The rows in them.
    pub rows: u64,
}

impl OpenRequest {
    fn behind(&mut self, page: PageEntry) {
        self.rows += page.rows;
        self.last = page;
    }
}

/// What one write makes durable of a fan-out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchEntry {
    /// Finished requests, as runs of their numbers: the first, and how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<(u64, u64)>,
    /// Unfinished requests of several pages, each by the pages of this write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<(u64, OpenRequest)>,
    /// Requests that failed for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRequest>,
    /// How many pages.
    pub pages: u64,
    /// How many rows they held.
    pub rows: u64,
}

impl BatchEntry {
    /// Adds a finished request.
    pub fn finish(&mut self, number: u64) {
        self.open.retain(|(open, _)| *open != number);
        match self.finished.last_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => self.finished.push((number, 1)),
        }
    }

    /// Adds a page that is not its request's last.
    pub fn advance(&mut self, number: u64, page: PageEntry) {
        match self.open.iter_mut().find(|(open, _)| *open == number) {
            Some((_, open)) => open.behind(page),
            None => self.open.push((number, OpenRequest { rows: page.rows, last: page })),
        }
    }
}

/// How far a fan-out has come, in memory that grows with gaps and failures, not with requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FanProgress {
    /// The finished requests.
    pub finished: Runs,
    /// Those of which some pages are durable, by their last one.
    pub open: BTreeMap<u64, OpenRequest>,
    /// Those that failed for good.
    pub failed: BTreeSet<u64>,
}

impl FanProgress {
    /// Adds what became durable.
    pub fn add(&mut self, batch: &BatchEntry) {
        for &(first, count) in &batch.finished {
            self.finished.insert(first, count);
            for number in first..first + count {
                self.open.remove(&number);
                self.failed.remove(&number);
            }
        }
        for (number, added) in &batch.open {
            self.failed.remove(number);
            let before = self.open.get(number).map_or(0, |open| open.rows);
            self.open.insert(*number, OpenRequest { rows: before + added.rows, last: added.last.clone() });
        }
        self.failed.extend(batch.failed.iter().map(|failed| failed.number));
    }
}

/// A set of numbers that mostly follow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs {
    /// The first number of each run, and the first behind it.
    runs: BTreeMap<u64, u64>,
    len: u64,
}

impl Runs {
    /// Adds `count` numbers from `first` on, none of which is in the set.
    pub fn insert(&mut self, first: u64, count: u64) {
        self.len += count;
        let (mut from, mut end) = (first, first + count);
        if let Some((&before, &ends)) = self.runs.range(..=first).next_back()
            && ends == first
        {
            from = before;
        }
        if let Some(after) = self.runs.remove(&end) {
            end = after;
        }
        self.runs.insert(from, end);
    }

    /// Whether a number is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.runs.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Members that the rows of one request get besides their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The members as JSON, without braces.
    json: Vec<u8>,
    /// Their names as JSON has them, without quotes.
    names: Arc<[Vec<u8>]>,
}

impl Added {
    /// Names as [`Added::new`] wants them: as JSON has them, without quotes.
    pub fn names_of<'n>(names: impl Iterator<Item = &'n str>) -> Arc<[Vec<u8>]> {
        let quoted = names.map(|name| serde_json::Value::from(name).to_string());
        quoted.map(|name| name.as_bytes()[1..name.len() - 1].to_vec()).collect()
    }

    /// Members with these names, of which each has its value.
    pub fn new(names: &Arc<[Vec<u8>]>, values: impl Iterator<Item = serde_json::Value>) -> Self {
        let mut json = Vec::with_capacity(32 * names.len());
        for (name, value) in names.iter().zip(values) {
            json.extend_from_slice(if json.is_empty() { b"\"" } else { b",\"" });
            json.extend_from_slice(name);
            json.extend_from_slice(b"\":");
            // Writing into memory does not fail.
            let _ = serde_json::to_writer(&mut json, &value);
        }
        Self { json, names: Arc::clone(names) }
    }

    /// The members' names as JSON has them, without quotes.
    pub fn names(&self) -> &[Vec<u8>] {
        &self.names
    }

    /// Writes a row with these members before its own; what is no object becomes the member `value` of one.
    pub fn join(&self, row: &[u8], out: &mut Vec<u8>) {
        out.push(b'{');
        out.extend_from_slice(&self.json);
        if let Some(own) = row.trim_ascii_start().strip_prefix(b"{").map(<[u8]>::trim_ascii_start) {
            if !own.starts_with(b"}") {
                out.push(b',');
            }
            out.extend_from_slice(own);
            return;
        }
        out.extend_from_slice(b",\"value\":");
        out.extend_from_slice(row);
        out.push(b'}');
    }
}

/// How a fan-out stands, for screens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// All requests.
    pub total: u64,
    /// Finished ones, those of an earlier attempt included.
    pub done: u64,
    /// Of these, the ones that an earlier attempt had finished.
    pub resumed: u64,
    /// Under way.
    pub in_flight: u64,
    /// Failed for good.
    pub failed: u64,
    /// How often one was sent again.
    pub retried: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_any_order_become_one_run() {
        let mut runs = Runs::default();
        for number in [3, 1, 2, 7, 0, 5, 6, 4] {
            assert!(!runs.contains(number));
            runs.insert(number, 1);
            assert!(runs.contains(number));
        }
        assert_eq!((runs.len(), runs.runs.len()), (8, 1));
        runs.insert(10, 5);
        assert!(runs.contains(14) && !runs.contains(15) && !runs.contains(9) && !runs.contains(8));
    }

    #[test]
    fn a_failed_request_that_is_finished_later_has_not_failed() {
        let failed = FailedRequest {
            number: 4,
            request: String::new(),
            item: String::new(),
            kind: String::new(),
            status: None,
            reason: String::new(),
            pages: 0,
        };
        let mut progress = FanProgress::default();
        progress.add(&BatchEntry { failed: vec![failed], ..BatchEntry::default() });
        assert!(progress.failed.contains(&4));
        let mut batch = BatchEntry::default();
        [3, 4, 5].into_iter().for_each(|number| batch.finish(number));
        assert_eq!(batch.finished, [(3, 3)]);
        progress.add(&batch);
        assert!(progress.failed.is_empty() && progress.finished.len() == 3);
    }

    #[test]
    fn a_share_of_failures_is_measured_by_all_requests() {
        assert!(MaxFailed::Share(0.01).allows(2, 200) && !MaxFailed::Share(0.01).allows(3, 200));
        assert!(MaxFailed::Count(10).allows(10, 11) && !MaxFailed::None.allows(1, 1_000_000));
    }
}
