//! Sources: what an extract step asks a system for, as its author wrote it.

use super::answer::{AnswerForm, ReportTemplate, Rule};
use super::hook::{AuthStyle, Paginate, RequestTemplate, RetryPolicy};

/// What an extract step asks its connection for.
#[derive(Debug, Clone)]
pub enum Source {
    /// Requests to an API.
    Http(Box<HttpSource>),
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
    /// Where a page has its rows: a JSONPath, or the path of an XML element such as `/feed/entry`; templates are not
    /// rendered in it. Without one it depends on how the answer is written.
    pub records: Option<String>,
    /// How an answer is written.
    pub form: AnswerForm,
    /// What is done with answers that are no rows.
    pub rules: Vec<Rule>,
    /// Whether answers are kept, and sent again only where they have changed.
    pub conditional: bool,
    /// The report that the request creates, where its answer has no rows.
    pub report: Option<ReportTemplate>,
    /// How often a request is tried again.
    pub retry: RetryPolicy,
}
