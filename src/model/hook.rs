//! Hooks: how to talk to one HTTP API, independent of any pipeline.

use std::time::Duration;

use super::name::Text;

/// A request as its author wrote it, still to be rendered for a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestTemplate {
    /// `GET` or `POST`.
    pub method: Method,
    /// Appended to the connection's address, or a whole URL.
    pub path: Text,
    /// The query's parameters in their order.
    pub params: Vec<(String, Text)>,
    /// Headers in their order.
    pub headers: Vec<(String, Text)>,
    /// A JSON body, whose strings are templates.
    pub body: Option<Text>,
}

/// The HTTP methods that read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Everything is in the address.
    Get,
    /// With a body.
    Post,
}

/// A request that is ready to be sent; who we are is added later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: Method,
    /// The whole address, without the query.
    pub url: String,
    /// The query's parameters in their order.
    pub params: Vec<(String, String)>,
    /// Headers in their order.
    pub headers: Vec<(String, String)>,
    /// A JSON body.
    pub body: Option<String>,
}

/// How a hook sends who we are; the connection has the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthStyle {
    /// Not at all, whatever the connection has.
    None,
    /// User and password.
    Basic,
    /// The token in the `Authorization` header.
    Bearer,
    /// The key in a header.
    KeyHeader(String),
    /// The key in a parameter of the query.
    KeyQuery(String),
}

/// How an API divides its answer into pages, and how the last one is recognized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paginate {
    /// What the next request has that the last one had not.
    pub by: PageStyle,
    /// JSONPath of the number of all rows; ends the pull and lets pages run side by side.
    pub total: Option<String>,
    /// JSONPath of the number of all pages.
    pub total_pages: Option<String>,
    /// JSONPath of a boolean that is false on the last page.
    pub has_more: Option<String>,
    /// A page with fewer rows than asked for is the last one.
    pub short_page_ends: bool,
    /// More pages than this are taken for a loop.
    pub max_pages: u64,
    /// Whether two pages with the same rows are no sign of a page that came twice.
    pub may_repeat: bool,
}

/// What the next request has that the last one had not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageStyle {
    /// There is one page.
    Single,
    /// The number of rows to leave out.
    Offset {
        /// How many rows a page has.
        limit: u64,
        /// The parameter that asks for `limit` rows.
        limit_param: String,
        /// The parameter that says how many to leave out.
        offset_param: String,
        /// The offset of the first row: 0, or 1 where an API counts from one.
        first: u64,
    },
    /// The number of the page.
    Page {
        /// How many rows a page has, where it can be asked for.
        size: Option<u64>,
        /// The parameter that asks for `size` rows.
        size_param: Option<String>,
        /// The parameter that names the page.
        page_param: String,
        /// The number of the first page.
        first: u64,
    },
    /// An opaque text that the last answer gave.
    Cursor {
        /// The parameter of the query, or the member of the body, that hands it back.
        param: String,
        /// Whether `param` is a member of the JSON body instead of the query.
        in_body: bool,
        /// Where the answer has it.
        at: CursorPlace,
    },
    /// The address of the next page in the answer's body, or in a header of its own.
    NextUrl {
        /// Where the answer has it.
        at: CursorPlace,
    },
    /// The address of the next page in the `Link` header (RFC 8288, `rel="next"`).
    Link,
    /// The last row's own value: rows after it are asked for.
    Keyset {
        /// The parameter that takes the value.
        param: String,
        /// JSONPath of the value in a row.
        value: String,
        /// How many rows a page has.
        limit: u64,
        /// The parameter that asks for `limit` rows, where there is one.
        limit_param: Option<String>,
    },
}

/// Where an answer has the cursor of the next page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CursorPlace {
    /// At this JSONPath of the body.
    Body(String),
    /// In this header.
    Header(String),
}

/// How often and how patiently a request is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a request is sent at the most.
    pub max_attempts: u32,
    /// The first pause; each further one may be twice as long. Full jitter: the pause is drawn from zero to that.
    pub min_backoff: Duration,
    /// No pause is longer, but for one that the server asks for by `Retry-After`.
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 6, min_backoff: Duration::from_millis(250), max_backoff: Duration::from_mins(1) }
    }
}
