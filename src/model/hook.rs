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
    /// The body.
    pub body: Option<BodyTemplate>,
}

/// A body as its author wrote it.
#[derive(Debug, Clone, PartialEq)]
pub enum BodyTemplate {
    /// JSON, whose strings are templates.
    Json(Text),
    /// A form, whose values are templates.
    Form(Vec<(String, Text)>),
    /// A query in GraphQL.
    GraphQl {
        /// The query, a template.
        query: Text,
        /// The variables: a JSON object whose strings are templates.
        variables: Option<Text>,
        /// Which of the query's operations is meant.
        operation: Option<String>,
    },
    /// Any other text.
    Text {
        /// The text, a template.
        text: Text,
        /// Its type, where no header tells another.
        content_type: &'static str,
    },
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
    /// The body.
    pub body: Option<Body>,
}

/// A body that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// JSON.
    Json(String),
    /// A form.
    Form(Vec<(String, String)>),
    /// JSON that carries a GraphQL query: an answer with `errors` in it is a failure.
    GraphQl(String),
    /// Any other text.
    Text {
        /// The text.
        text: String,
        /// Its type, where no header tells another.
        content_type: &'static str,
    },
}

impl std::fmt::Display for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Json(text) | Self::GraphQl(text) | Self::Text { text, .. } => f.write_str(text),
            Self::Form(fields) => {
                for (index, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name}={value}", if index == 0 { "" } else { "&" })?;
                }
                Ok(())
            }
        }
    }
}

impl Request {
    /// Method, address and parameters on one line.
    pub fn line(&self) -> String {
        let method = match self.method {
            Method::Get => "GET",
            Method::Post => "POST",
        };
        let mut line = format!("{method} {}", self.url);
        for (index, (name, value)) in self.params.iter().enumerate() {
            line.extend([if index == 0 { "?" } else { "&" }, name, "=", value]);
        }
        if let Some(body) = &self.body {
            line.push(' ');
            line.push_str(&body.to_string());
        }
        line
    }
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
    /// So often the pause doubles; after that it grows by the same step each time, up to `max_backoff`.
    pub max_doublings: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 6,
            min_backoff: Duration::from_millis(250),
            max_backoff: Duration::from_mins(1),
            max_doublings: 16,
        }
    }
}

impl RetryPolicy {
    /// The longest pause after an attempt, counted from one: doubled, then longer by the same step, then constant, as
    /// Google Cloud Tasks documents its `maxDoublings`.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let doublings = self.max_doublings.min(31);
        let (doubled, steps) = (doublings.min(attempt.saturating_sub(1)), attempt.saturating_sub(doublings).max(1));
        self.min_backoff.saturating_mul(1 << doubled).saturating_mul(steps).min(self.max_backoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_then_grow_by_the_same_step_then_stay() {
        // The example of Google's documentation: 10s, 20s, 40s, 80s, 160s, 240s, 300s, 300s.
        let seconds = Duration::from_secs;
        let retry =
            RetryPolicy { max_attempts: 9, min_backoff: seconds(10), max_backoff: seconds(300), max_doublings: 3 };
        let pauses: Vec<u64> = (1..=8).map(|attempt| retry.ceiling(attempt).as_secs()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 240, 300, 300]);
        let straight = RetryPolicy { max_doublings: 0, ..retry };
        assert_eq!((1..=4).map(|attempt| straight.ceiling(attempt).as_secs()).collect::<Vec<_>>(), [10, 20, 30, 40]);
    }
}
