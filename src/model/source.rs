//! Sources: what an extract step asks a system for, as its author wrote it.

use super::hook::{AuthStyle, Paginate, RequestTemplate, RetryPolicy};
use super::name::Text;

/// What an extract step asks its connection for.
#[derive(Debug, Clone)]
pub enum Source {
    /// Requests to an API.
    Http(Box<HttpSource>),
    /// Documents of a collection.
    Collection(Box<CollectionSource>),
}

impl Source {
    /// Whether more rows are asked for than the unit has, on purpose: their own times tell which belong to it.
    pub fn asks_widely(&self) -> bool {
        match self {
            Self::Http(_) => false,
            Self::Collection(source) => source.time.as_ref().is_some_and(|time| time.stored == StoredTime::Iso),
        }
    }
}

/// Requests to an API, of hook and step together.
#[derive(Debug, Clone)]
pub struct HttpSource {
    /// How a key is sent where the connection does not say: `auth` of the hook.
    pub auth: Option<AuthStyle>,
    /// The request.
    pub request: RequestTemplate,
    /// How the answer is divided into pages.
    pub paginate: Paginate,
    /// JSONPath of the rows in a page; templates are not rendered in it.
    pub records: String,
    /// How often a request is tried again.
    pub retry: RetryPolicy,
}

/// Documents of a collection of a MongoDB database.
#[derive(Debug, Clone)]
pub struct CollectionSource {
    /// The collection's name.
    pub collection: Text,
    /// What is asked of it.
    pub query: CollectionQuery,
    /// The member by which the documents of a unit are found; without one, the same are asked for in every unit.
    pub time: Option<StoredMember>,
    /// How many documents a batch has at the most.
    pub batch_size: u32,
    /// How often a server that does not answer is asked again.
    pub retry: RetryPolicy,
}

/// What is asked of a collection, as JSON text whose strings are templates, and whose types extended JSON may tell.
#[derive(Debug, Clone)]
pub enum CollectionQuery {
    /// Documents as they are.
    Find {
        /// The condition.
        filter: Option<Text>,
        /// The members that are wanted.
        projection: Option<Text>,
    },
    /// What an aggregation makes of them: a list of its stages.
    Pipeline(Text),
}

/// A member of documents that has a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMember {
    /// The member, with dots between levels.
    pub path: String,
    /// How it is stored.
    pub stored: StoredTime,
}

/// How a time is stored in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredTime {
    /// In the first four bytes of an ObjectId: when it was made.
    ObjectId,
    /// As a date of BSON.
    Date,
    /// As ISO 8601 text; without an offset it is read in the pipeline's zone.
    Iso,
    /// As a number of seconds since 1970-01-01T00:00:00Z.
    Epoch,
    /// As a number of milliseconds since 1970-01-01T00:00:00Z.
    EpochMs,
}
