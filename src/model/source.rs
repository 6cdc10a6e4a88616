//! Sources: what an extract step asks a system for, as its author wrote it.

use super::files::FilesSource;
use super::hook::{AuthStyle, Paginate, RequestTemplate, RetryPolicy};

/// What an extract step asks its connection for.
#[derive(Debug, Clone)]
pub enum Source {
    /// Requests to an API.
    Http(Box<HttpSource>),
    /// Files of a folder, a bucket or a web server.
    Files(Box<FilesSource>),
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
