//! Sources: what an extract step asks a system for, as its author wrote it.

use std::sync::Arc;

use super::fanout::{ForEach, MaxFailed, StepLimits};
use super::hook::{AuthStyle, Paginate, RequestTemplate, RetryPolicy};

/// What an extract step asks its connection for.
#[derive(Debug, Clone)]
pub enum Source {
    /// Requests to an API.
    Http(Box<HttpSource>),
}

impl Source {
    /// Over what it sends a request each, if it does.
    pub fn for_each(&self) -> Option<&ForEach> {
        match self {
            Self::Http(http) => http.for_each.as_ref(),
        }
    }

    /// The same, to be completed.
    pub fn for_each_mut(&mut self) -> Option<&mut ForEach> {
        match self {
            Self::Http(http) => http.for_each.as_mut(),
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
    /// How hard this step may press; one for all clones of the step.
    pub limits: Arc<StepLimits>,
    /// Over what it sends a request each; without it there is one sequence of requests.
    pub for_each: Option<ForEach>,
    /// How many of those requests may fail.
    pub max_failed: MaxFailed,
}
