//! The tables that describe an API: request, pages, retries, authentication; shared by hooks and extract steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::DeValue;

use super::body::{self, GraphQlTable};
use super::diagnostic::{known_names, quoted};
use super::reader::{At, Read, Reader, Required, Span, twin};
use super::scalar::{Count, Entries, Texts, read_word, words};
use super::value::{JsonPathText, TypedDuration, one_key_of, schema};
use crate::model::hook::{
    AuthStyle, BodyTemplate, CursorPlace, Method, PageStyle, Paginate, RequestTemplate, RetryPolicy,
};
use crate::model::name::Text;

/// The HTTP method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MethodWord {
    /// Everything is in the address.
    #[serde(rename = "GET")]
    Get,
    /// With a body.
    #[serde(rename = "POST")]
    Post,
}

/// Where the parameter of a cursor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Into the query.
    Query,
    /// Into the JSON body.
    Body,
}

/// What the next request has that the last one had not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PageWord {
    /// There is one page.
    Single,
    /// The number of rows to leave out.
    Offset,
    /// The number of the page.
    Page,
    /// A text that the last answer gave.
    Cursor,
    /// The address that the last answer's body gave.
    NextUrl,
    /// The address that the last answer's `Link` header gave.
    Link,
    /// The last row's own value.
    Keyset,
}

words!(Place, PageWord);

impl Read for MethodWord {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let writes = ["PUT", "PATCH", "DELETE"];
        if let Some(word) = value.get_ref().as_str().filter(|word| writes.contains(&word.to_uppercase().as_str())) {
            let message = format!("`{word}` changes what is there, and an extract only reads");
            reader.error("unknown-value", value.span(), message).help = Some("`GET` or `POST`".to_owned());
            return None;
        }
        read_word(value, reader)
    }
}

twin! {
    /// A request. Every text in it is a template.
    pub struct RequestTable {
        /// `GET` (the default) or `POST`.
        pub method: Option<At<MethodWord>>,
        /// Appended to the connection's address, or a whole URL.
        pub path: Option<At<String>>,
        /// The query's parameters. A list repeats its parameter. A step's parameters win over its hook's.
        pub params: Option<At<Entries<Texts>>>,
        /// Headers. A step's headers win over its hook's.
        pub headers: Option<At<Entries<Texts>>>,
        /// The JSON body: a table, or JSON in a text. Its strings are templates; one that is a single expression keeps the type of its value.
        pub body: Option<At<serde_json::Value>>,
        /// The body as a form, `application/x-www-form-urlencoded`.
        pub form: Option<At<Entries<Texts>>>,
        /// The body as a query in GraphQL. An answer with `errors` in it is a failure.
        pub graphql: Option<At<GraphQlTable>>,
        /// The body as it stands, `text/plain` where no header tells another type.
        pub text: Option<At<String>>,
        /// The body as it stands, `application/xml` where no header tells another type.
        pub xml: Option<At<String>>,
    }
}

twin! {
    /// How an API divides its answer into pages, and how the last one is recognized.
    pub struct PaginateTable {
        /// What the next request has that the last one had not.
        pub by: Required<PageWord>,
        /// How many rows a page has (`offset`, `keyset`). Default 1000.
        pub limit: Option<At<Count>>,
        /// The parameter that asks for `limit` rows. Default `limit`; none for `keyset`.
        pub limit_param: Option<At<String>>,
        /// The parameter that says how many rows to leave out. Default `offset`.
        pub offset_param: Option<At<String>>,
        /// The first offset or page number. Default 0 for `offset`, 1 for `page`.
        pub first: Option<At<u64>>,
        /// How many rows a page has, where `page` can ask for it.
        pub size: Option<At<Count>>,
        /// The parameter that asks for `size` rows. Default `page_size` where `size` is given.
        pub size_param: Option<At<String>>,
        /// The parameter that names the page. Default `page`.
        pub page_param: Option<At<String>>,
        /// The parameter that takes the cursor, or the last row's value; in the body, dots lead into objects.
        pub param: Option<At<String>>,
        /// Whether the cursor goes into the query (the default) or into the JSON body.
        pub r#in: Option<At<Place>>,
        /// Where the answer has the cursor or the next address: a JSONPath, or `{ header = "X" }`.
        pub at: Option<At<CursorAt>>,
        /// JSONPath of the value in a row (`keyset`).
        pub value: Option<At<JsonPathText>>,
        /// JSONPath of the number of all rows. It ends the pull and lets pages run side by side.
        pub total: Option<At<JsonPathText>>,
        /// JSONPath of the number of all pages.
        pub total_pages: Option<At<JsonPathText>>,
        /// JSONPath of a boolean that is false on the last page.
        pub has_more: Option<At<JsonPathText>>,
        /// A page with fewer rows than asked for is the last one. Default true for `offset`, `page` with a size, and `keyset` with a limit.
        pub short_page_ends: Option<At<bool>>,
        /// More pages than this are taken for a loop. Default 100000.
        pub max_pages: Option<At<Count>>,
        /// Whether pages may have the same rows. Default false: they are taken for the same page twice.
        pub may_repeat: Option<At<bool>>,
    }
}

twin! {
    /// How often and how patiently a request is tried again.
    pub struct RetryTable {
        /// How often a request is sent at the most. Default 6.
        pub max_attempts: Option<At<Count>>,
        /// The first pause; each further one may be twice as long. Default `"250ms"`.
        pub min_backoff: Option<At<TypedDuration>>,
        /// No pause is longer, but for one that the server asks for by `Retry-After`. Default `"60s"`.
        pub max_backoff: Option<At<TypedDuration>>,
        /// So often the pause doubles; after that it grows by the same step each time, up to `max_backoff`. Default 16.
        pub max_doublings: Option<At<u64>>,
    }
}

/// Where an answer has its cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CursorAt {
    /// At this JSONPath of the body.
    Body(String),
    /// In this header.
    Header(String),
}

impl Read for CursorAt {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        if let Some(table) = value.get_ref().as_table() {
            reader.check_keys(table, &["header"]);
            let header = table.get("header")?;
            return reader.within("header", |reader| String::read(header, reader)).map(Self::Header);
        }
        if value.get_ref().is_str() {
            return JsonPathText::read(value, reader).map(|path| Self::Body(path.0));
        }
        reader.wrong_type(value, "a JSONPath or a table like { header = \"X-Next\" }");
        None
    }
}

schema!(CursorAt, { "anyOf": [
    { "type": "string", "pattern": "^\\$" },
    { "type": "object", "properties": { "header": { "type": "string" } }, "required": ["header"], "additionalProperties": false },
] });

/// How a hook sends who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthValue(pub AuthStyle);

/// The ways of authentication that are one word.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum AuthWord {
    None,
    Basic,
    Bearer,
}

/// The keys of a table that says where an API key goes.
const KEY_PLACES: &[&str] = &["header", "query"];

impl Read for AuthValue {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            return read_word(value, reader).map(|word| {
                Self(match word {
                    AuthWord::None => AuthStyle::None,
                    AuthWord::Basic => AuthStyle::Basic,
                    AuthWord::Bearer => AuthStyle::Bearer,
                })
            });
        };
        let entry = table.iter().next().filter(|_| table.len() == 1);
        let Some((key, inner)) = entry.filter(|(key, _)| KEY_PLACES.contains(&key.get_ref().as_ref())) else {
            let message = format!("`{}` names either a header or a parameter of the query", reader.path());
            let help = one_key_of(table, KEY_PLACES).unwrap_or_else(|| "{ header = \"X-Api-Key\" }".to_owned());
            reader.error("bad-auth", value.span(), message).help = Some(help);
            return None;
        };
        let name = reader.within(key.get_ref(), |reader| String::read(inner, reader))?;
        Some(Self(if key.get_ref() == "header" { AuthStyle::KeyHeader(name) } else { AuthStyle::KeyQuery(name) }))
    }
}

schema!(AuthValue, { "anyOf": [
    { "enum": ["none", "basic", "bearer"] },
    { "type": "object", "properties": { "header": { "type": "string" } }, "required": ["header"], "additionalProperties": false },
    { "type": "object", "properties": { "query": { "type": "string" } }, "required": ["query"], "additionalProperties": false },
] });

/// What one file says of a request; a step's and its hook's are laid over each other.
#[derive(Debug, Clone, Default)]
pub struct RequestParts {
    /// The method, where given.
    pub method: Option<Method>,
    /// The path, where given.
    pub path: Option<Text>,
    /// The parameters in the order of the file.
    pub params: Vec<(String, Text)>,
    /// The headers in the order of the file.
    pub headers: Vec<(String, Text)>,
    /// The body, where given.
    pub body: Option<BodyTemplate>,
}

impl RequestParts {
    /// Reads a request table.
    pub fn new(table: &RequestTable, reader: &mut Reader) -> Self {
        let method = table.method.as_ref().map(|method| match method.value {
            MethodWord::Get => Method::Get,
            MethodWord::Post => Method::Post,
        });
        let body = body::body(table, method, reader);
        Self {
            method: method.or(body.is_some().then_some(Method::Post)),
            path: table.path.as_ref().map(|path| reader.text(path)),
            params: pairs(table.params.as_ref(), reader),
            headers: pairs(table.headers.as_ref(), reader),
            body,
        }
    }

    /// Lays these parts over those of a hook.
    #[must_use]
    pub fn over(mut self, hook: &Self) -> Self {
        let lay = |own: &mut Vec<(String, Text)>, under: &[(String, Text)], same: fn(&str, &str) -> bool| {
            let mut merged: Vec<_> =
                under.iter().filter(|(name, _)| !own.iter().any(|(mine, _)| same(mine, name))).cloned().collect();
            merged.append(own);
            *own = merged;
        };
        lay(&mut self.params, &hook.params, |left, right| left == right);
        lay(&mut self.headers, &hook.headers, str::eq_ignore_ascii_case);
        self.method = self.method.or(hook.method);
        self.path = self.path.or_else(|| hook.path.clone());
        self.body = self.body.or_else(|| hook.body.clone());
        self
    }

    /// All templates of the request; of a body its strings.
    pub fn texts(&self) -> Vec<Text> {
        let named = self.params.iter().chain(&self.headers).map(|(_, text)| text);
        let mut texts: Vec<Text> = self.path.iter().chain(named).cloned().collect();
        texts.extend(self.body.iter().flat_map(body::texts));
        texts
    }

    /// The parts of a request that is whole.
    pub fn of_template(request: &RequestTemplate) -> Self {
        Self {
            method: Some(request.method),
            path: Some(request.path.clone()),
            params: request.params.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
        }
    }
}

/// Names with texts, each text with its name.
pub fn pairs(entries: Option<&At<Entries<Texts>>>, reader: &Reader) -> Vec<(String, Text)> {
    let entries = entries.map_or(&[][..], |entries| &entries.value.0);
    let each = |(name, texts): &(At<String>, At<Texts>)| {
        let name = name.value.clone();
        texts.value.0.iter().map(|text| (name.clone(), reader.text(text))).collect::<Vec<_>>()
    };
    entries.iter().flat_map(each).collect()
}

/// Reads a retry table.
pub fn retry(table: &At<RetryTable>, reader: &mut Reader) -> RetryPolicy {
    retry_over(table, RetryPolicy::default(), reader)
}

/// Reads a retry table over what holds without it.
pub fn retry_over(table: &At<RetryTable>, default: RetryPolicy, reader: &mut Reader) -> RetryPolicy {
    let min_backoff = table.value.min_backoff.as_ref().map_or(default.min_backoff, |at| at.value.0);
    let max_backoff = table.value.max_backoff.as_ref().map_or(default.max_backoff, |at| at.value.0);
    if min_backoff > max_backoff {
        let message = "the first pause is longer than the longest";
        reader.error("bad-retry", table.span.clone(), message).help =
            Some("`min_backoff` is at most `max_backoff`".to_owned());
    }
    let max_attempts = table.value.max_attempts.as_ref().map_or(default.max_attempts, |at| at.value.0.get());
    let doublings = table.value.max_doublings.as_ref().and_then(|at| u32::try_from(at.value).ok());
    RetryPolicy { max_attempts, min_backoff, max_backoff, max_doublings: doublings.unwrap_or(default.max_doublings) }
}

/// The keys that a style of pages has, besides those that all have.
fn keys_of(word: PageWord) -> (&'static str, &'static [&'static str]) {
    match word {
        PageWord::Single => ("single", &[]),
        PageWord::Offset => ("offset", &["limit", "limit_param", "offset_param", "first"]),
        PageWord::Page => ("page", &["size", "size_param", "page_param", "first"]),
        PageWord::Cursor => ("cursor", &["param", "in", "at"]),
        PageWord::NextUrl => ("next_url", &["at"]),
        PageWord::Link => ("link", &[]),
        PageWord::Keyset => ("keyset", &["param", "value", "limit", "limit_param"]),
    }
}

/// Reads a table of pages; `None` when it is wrong, which is reported.
pub fn paginate(table: &At<PaginateTable>, reader: &mut Reader) -> Option<Paginate> {
    let pages = &table.value;
    let word = pages.by.0.as_ref()?.value;
    foreign_keys(pages, word, reader);
    let by = style(table, word, reader)?;
    let counted = match &by {
        PageStyle::Offset { .. } => true,
        // Where nobody says how long a page is, none is short.
        PageStyle::Keyset { limit_param, .. } => limit_param.is_some() || pages.limit.is_some(),
        PageStyle::Page { size, .. } => size.is_some(),
        PageStyle::Single | PageStyle::Cursor { .. } | PageStyle::NextUrl { .. } | PageStyle::Link => false,
    };
    let path = |at: &Option<At<JsonPathText>>| at.as_ref().map(|at| at.value.0.clone());
    Some(Paginate {
        by,
        total: path(&pages.total),
        total_pages: path(&pages.total_pages),
        has_more: path(&pages.has_more),
        short_page_ends: pages.short_page_ends.as_ref().map_or(counted, |at| at.value),
        may_repeat: pages.may_repeat.as_ref().is_some_and(|at| at.value),
        max_pages: pages.max_pages.as_ref().map_or(MAX_PAGES, |at| u64::from(at.value.0.get())),
    })
}

/// More pages than this are taken for a loop, where nothing else is said.
const MAX_PAGES: u64 = 100_000;

/// The one page of an API that has no others.
pub fn single_page() -> Paginate {
    Paginate {
        by: PageStyle::Single,
        total: None,
        total_pages: None,
        has_more: None,
        short_page_ends: false,
        max_pages: MAX_PAGES,
        may_repeat: false,
    }
}

fn foreign_keys(pages: &PaginateTable, word: PageWord, reader: &mut Reader) {
    fn place<T>(key: &'static str, at: Option<&At<T>>) -> Option<(&'static str, Span)> {
        at.map(|at| (key, at.span.clone()))
    }
    let given = [
        place("limit", pages.limit.as_ref()),
        place("limit_param", pages.limit_param.as_ref()),
        place("offset_param", pages.offset_param.as_ref()),
        place("first", pages.first.as_ref()),
        place("size", pages.size.as_ref()),
        place("size_param", pages.size_param.as_ref()),
        place("page_param", pages.page_param.as_ref()),
        place("param", pages.param.as_ref()),
        place("in", pages.r#in.as_ref()),
        place("at", pages.at.as_ref()),
        place("value", pages.value.as_ref()),
    ];
    let (name, own) = keys_of(word);
    for (key, span) in given.into_iter().flatten().filter(|(key, _)| !own.contains(key)) {
        let message = format!("`{key}` means nothing where pages go by = \"{name}\"");
        reader.error("foreign-key", span, message).help = Some(match (own, known_names(key, own.iter().copied())) {
            ([], _) => format!("pages by \"{name}\" need no keys of their own"),
            (_, Some(near)) if near.starts_with("did you mean") => near,
            _ => format!("pages by \"{name}\" have {}", quoted(own)),
        });
    }
}

fn style(table: &At<PaginateTable>, word: PageWord, reader: &mut Reader) -> Option<PageStyle> {
    const ROWS: u64 = 1000;
    let pages = &table.value;
    let count = |at: &Option<At<Count>>| at.as_ref().map(|at| u64::from(at.value.0.get()));
    let text = |at: &Option<At<String>>, default: &str| at.as_ref().map_or(default.to_owned(), |at| at.value.clone());
    let first = |default| pages.first.as_ref().map_or(default, |at| at.value);
    Some(match word {
        PageWord::Single => PageStyle::Single,
        PageWord::Link => PageStyle::Link,
        PageWord::Offset => PageStyle::Offset {
            limit: count(&pages.limit).unwrap_or(ROWS),
            limit_param: text(&pages.limit_param, "limit"),
            offset_param: text(&pages.offset_param, "offset"),
            first: first(0),
        },
        PageWord::Page => {
            let size = count(&pages.size);
            let asked = size.map(|_| text(&pages.size_param, "page_size"));
            PageStyle::Page { size, size_param: asked, page_param: text(&pages.page_param, "page"), first: first(1) }
        }
        PageWord::Cursor => {
            let param = needed(pages.param.as_ref(), "param", table, reader);
            let at = needed(pages.at.as_ref(), "at", table, reader)?;
            let at = match at {
                CursorAt::Body(path) => CursorPlace::Body(path),
                CursorAt::Header(name) => CursorPlace::Header(name),
            };
            PageStyle::Cursor {
                param: param?,
                in_body: pages.r#in.as_ref().is_some_and(|at| at.value == Place::Body),
                at,
            }
        }
        PageWord::NextUrl => match needed(pages.at.as_ref(), "at", table, reader)? {
            CursorAt::Body(at) => PageStyle::NextUrl { at: CursorPlace::Body(at) },
            CursorAt::Header(name) if !name.eq_ignore_ascii_case("link") => {
                PageStyle::NextUrl { at: CursorPlace::Header(name) }
            }
            CursorAt::Header(_) => {
                let span = pages.at.as_ref().map_or(table.span.clone(), |at| at.span.clone());
                let fault = reader.error("foreign-key", span, "the `Link` header has more in it than an address");
                fault.help = Some("for the address in the `Link` header write by = \"link\"".to_owned());
                return None;
            }
        },
        PageWord::Keyset => {
            let param = needed(pages.param.as_ref(), "param", table, reader);
            let value = needed(pages.value.as_ref(), "value", table, reader)?.0;
            let limit = count(&pages.limit).unwrap_or(ROWS);
            PageStyle::Keyset {
                param: param?,
                value,
                limit,
                limit_param: pages.limit_param.as_ref().map(|at| at.value.clone()),
            }
        }
    })
}

fn needed<T: Clone>(at: Option<&At<T>>, key: &str, table: &At<PaginateTable>, reader: &mut Reader) -> Option<T> {
    if at.is_none() {
        let (name, own) = table.value.by.0.as_ref().map_or(("", &[][..]), |by| keys_of(by.value));
        let fault = reader.error("missing-key", table.span.clone(), format!("pages by \"{name}\" need `{key}`"));
        fault.help = Some(format!("pages by \"{name}\" have {}", quoted(own)));
    }
    at.map(|at| at.value.clone())
}
