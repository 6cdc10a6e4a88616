//! Extraction from a collection: batches as the server sends them, in the order of `_id`, so that a pull can be gone on with.
//!
//! A page of the journal is a batch, and what follows it is asked for by the last `_id`: a pull that was stopped needs no
//! cursor of the server to go on. What an aggregation brings has no such order: it is read anew.

mod after;
mod probe;
mod pull;
mod range;

use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use tokio_util::sync::CancellationToken;

pub use range::Range;

use super::{Failure, Probe, Pull, Pulled, Sink};
use crate::error::Result;
use crate::model::hook::RetryPolicy;
use crate::model::page::Progress;
use crate::model::schema::SourceColumn;
use crate::model::shape::Shape;
use crate::model::source::CollectionProbe;
use crate::mongo::{Mongo, landed, shown};
use crate::time::UnitKey;

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
    /// How documents that are as they were are recognized without reading them.
    pub probe: CollectionProbe,
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
    /// Rows that landed there.
    Landed(Box<LandedRows>),
}

/// The rows of a unit that landed in a collection, and what a stage of them has to know.
#[derive(Debug, Clone, PartialEq)]
pub struct LandedRows {
    /// The unit.
    pub unit: UnitKey,
    /// The generation under which they landed.
    pub generation: u64,
    /// What was seen in them.
    pub shape: Shape,
    /// What their source declared.
    pub columns: Vec<SourceColumn>,
}

impl MongoPull {
    /// The condition of a find, if it is one; with the range, without a place to go on from.
    fn filter(&self) -> Option<Document> {
        match &self.query {
            Query::Find { filter, .. } => Some(self.condition(filter)),
            Query::Landed(landed) => Some(landed::ids(&landed.unit, landed.generation..landed.generation + 1)),
            Query::Pipeline(_) => None,
        }
    }

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

#[async_trait]
impl Pull for MongoPull {
    fn identity(&self) -> String {
        self.lines().join("\n")
    }

    fn place(&self) -> String {
        self.mongo.place(&self.collection)
    }

    fn lines(&self) -> Vec<String> {
        let at = format!("connection {}, database {}", self.mongo.name(), self.mongo.database().name());
        match &self.query {
            Query::Find { filter, projection } => {
                let mut lines = vec![format!("find {}, {at}", self.collection)];
                lines.push(format!("  filter {}", shown(&self.condition(filter))));
                lines.extend(projection.iter().map(|projection| format!("  projection {}", shown(projection))));
                lines.push("  sort {\"_id\":1}".to_owned());
                lines
            }
            Query::Landed(landed) => vec![
                format!("find {}, {at}", self.collection),
                format!("  the rows of {} that landed under the generation {}", landed.unit, landed.generation),
            ],
            Query::Pipeline(stages) => {
                let mut lines = vec![format!("aggregate {}, {at}", self.collection)];
                lines.extend(self.stages(stages).iter().map(|stage| format!("  {}", shown(stage))));
                lines
            }
        }
    }

    async fn probe(&self) -> Result<Probe> {
        probe::probe(self).await
    }

    fn resumes(&self) -> bool {
        !matches!(self.query, Query::Pipeline(_))
    }

    async fn pages(&self, resume: Progress, sink: Arc<dyn Sink>, cancel: CancellationToken) -> Result<Pulled, Failure> {
        pull::pull(self, resume, sink, cancel).await
    }
}
