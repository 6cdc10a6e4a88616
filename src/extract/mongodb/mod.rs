//! Extraction from a collection: batches as the server sends them, in the order of `_id`, so that a pull can be gone on with.
//!
//! A page of the journal is a batch, and what follows it is asked for by the last `_id`: a pull that was stopped needs no
//! cursor of the server to go on. What an aggregation brings has no such order: it is read anew by another process.

mod after;
mod pull;
mod range;

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use tokio_util::sync::CancellationToken;

pub use range::Range;

use super::{Failure, Pull, Pulled, Sink};
use crate::error::Result;
use crate::model::hook::RetryPolicy;
use crate::model::page::Progress;
use crate::mongo::Mongo;

/// What is asked of a collection, rendered.
#[derive(Debug, Clone)]
pub struct MongoPull {
    /// The database.
    pub mongo: Mongo,
    /// The collection.
    pub collection: String,
    /// Which documents, and what of them.
    pub query: Query,
    /// The time that the documents are of, where only those of a unit or a window are asked for.
    pub range: Option<Range>,
    /// How many documents a batch has at the most.
    pub batch_size: u32,
    /// How often a server that does not answer is asked again.
    pub retry: RetryPolicy,
}

/// Which documents, and what of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// Documents as they are.
    Find {
        /// The condition; empty for all.
        filter: Document,
        /// The members that are wanted.
        projection: Option<Document>,
    },
    /// What an aggregation makes of them.
    Pipeline(Vec<Document>),
}

impl MongoPull {
    /// The condition of a find, with the range, without a place to go on from.
    fn condition(&self, filter: &Document) -> Document {
        both(filter.clone(), self.range.as_ref().map(Range::condition).unwrap_or_default())
    }

    /// The stages of an aggregation, with the range in front.
    fn stages(&self, stages: &[Document]) -> Vec<Document> {
        let range = self.range.as_ref().map(|range| doc! { "$match": range.condition() });
        range.into_iter().chain(stages.iter().cloned()).collect()
    }
}

/// Both of two conditions.
fn both(one: Document, other: Document) -> Document {
    match (one.is_empty(), other.is_empty()) {
        (_, true) => one,
        (true, _) => other,
        _ => doc! { "$and": [one, other] },
    }
}

/// Says that two pulls are of the same process: the pages of an aggregation are of no use to another one.
fn process() -> u64 {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    *PROCESS.get_or_init(rand::random)
}

#[async_trait]
impl Pull for MongoPull {
    fn identity(&self) -> String {
        let mut identity = self.lines().join("\n");
        if matches!(self.query, Query::Pipeline(_)) {
            // Infallible: the target is memory.
            let _ = write!(identity, "\n{}", process());
        }
        identity
    }

    fn place(&self) -> String {
        self.mongo.place(&self.collection)
    }

    fn lines(&self) -> Vec<String> {
        let json = |document: &Document| serde_json::to_string(document).unwrap_or_else(|_| document.to_string());
        let at = format!("connection {}, database {}", self.mongo.name(), self.mongo.database().name());
        match &self.query {
            Query::Find { filter, projection } => {
                let mut lines = vec![format!("find {}, {at}", self.collection)];
                lines.push(format!("  filter {}", json(&self.condition(filter))));
                lines.extend(projection.iter().map(|projection| format!("  projection {}", json(projection))));
                lines.push("  sort {\"_id\":1}".to_owned());
                lines
            }
            Query::Pipeline(stages) => {
                let mut lines = vec![format!("aggregate {}, {at}", self.collection)];
                lines.extend(self.stages(stages).iter().map(|stage| format!("  {}", json(stage))));
                lines
            }
        }
    }

    async fn pages(&self, resume: Progress, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Result<Pulled, Failure> {
        pull::pull(self, resume, sink, cancel).await
    }
}
