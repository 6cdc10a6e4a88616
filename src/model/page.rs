//! Pages of a pull: where each begins, and how far a pull has come.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::fanout::{BatchEntry, FanProgress};

/// Where a page begins, in the terms of its API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The first page, of an API that has no number for it.
    Start,
    /// The page after this many rows.
    Offset(u64),
    /// The page of this number.
    Page(u64),
    /// The page behind this cursor.
    Cursor(String),
    /// The page at this address; never with a secret in it.
    Url(String),
    /// The page of rows after this key, as JSON.
    Key(String),
    /// A later part of an answer that is too large for one page.
    Part {
        /// Where the answer begins.
        of: Box<Position>,
        /// The number of the part, from 0.
        part: u64,
        /// A digest of the whole answer: the parts of another answer do not fit.
        digest: u64,
    },
    /// A place in a report that the server has made for this pull.
    Report {
        /// What was kept of the answer that created it, as JSON.
        values: String,
        /// The place; none before anything was downloaded.
        at: Option<Box<Position>>,
    },
    /// The rows behind a place in a file.
    File {
        /// A digest of all files that were there, with their versions.
        listing: String,
        /// The file's place among them, from 0.
        file: u64,
        /// The bytes before the rows, after decompression; in Parquet the rows before them.
        offset: u64,
        /// The lines before them.
        line: u64,
    },
}

/// What the journal knows of one durable page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageEntry {
    /// The page's place in the pull, from 0.
    pub number: u64,
    /// Where it began.
    pub at: Position,
    /// Where the page after it begins, where the answer told; `None` on the last page.
    pub next: Option<Position>,
    /// The number of all rows, as this page told it.
    pub total: Option<u64>,
    /// The rows that the page held, before any were dropped.
    pub rows: u64,
    /// A digest of the page's rows in their order, to recognize a page that comes again.
    pub digest: u64,
}

/// How far a pull has come: what a resumed extract needs to know, in memory that does not grow with the pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many pages are durable without a gap, counted from the first: pages `0..done`.
    pub done: u64,
    /// The last of those, where pages came one after the other.
    pub last: Option<PageEntry>,
    /// The numbers of durable pages behind a gap; only pages that ran side by side leave gaps.
    pub beyond: BTreeSet<u64>,
    /// The number of all rows, as the first page that knew it told it.
    pub total: Option<u64>,
    /// Rows in all durable pages.
    pub rows: u64,
    /// The requests of a fan-out, which has no pages of its own.
    pub fan: FanProgress,
}

impl Progress {
    /// Whether the page of this number is durable.
    pub fn has(&self, number: u64) -> bool {
        number < self.done || self.beyond.contains(&number)
    }

    /// How many pages are durable.
    pub fn pages(&self) -> u64 {
        self.done + self.beyond.len() as u64
    }

    /// Adds what became durable of a fan-out.
    pub fn add_batch(&mut self, batch: &BatchEntry) {
        self.rows += batch.rows;
        self.fan.add(batch);
    }

    /// Adds a durable page.
    pub fn add(&mut self, page: &PageEntry) {
        self.total = self.total.or(page.total);
        self.rows += page.rows;
        if page.number != self.done {
            self.beyond.insert(page.number);
            return;
        }
        self.done += 1;
        self.last = Some(page.clone());
        while self.beyond.remove(&self.done) {
            self.done += 1;
            self.last = None;
        }
    }
}
