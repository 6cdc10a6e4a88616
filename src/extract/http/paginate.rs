//! Page styles: which request asks for a page, and which page follows an answer.

use reqwest::header::{HeaderMap, LINK};
use serde_json::Value;
use url::Url;

use super::records::{Document, Found};
use crate::error::{Error, Kind, Result};
use crate::model::hook::{Body, CursorPlace, PageStyle, Paginate, Request};
use crate::model::page::Position;

/// Where the first page begins.
pub(super) fn first(style: &PageStyle) -> Position {
    match style {
        PageStyle::Offset { first, .. } => Position::Offset(*first),
        PageStyle::Page { first, .. } => Position::Page(*first),
        _ => Position::Start,
    }
}

/// Where the page of this number begins, of a style whose pages are numbered.
pub(super) fn numbered(style: &PageStyle, number: u64) -> Option<Position> {
    match style {
        PageStyle::Offset { first, limit, .. } => Some(Position::Offset(first + number * limit)),
        PageStyle::Page { first, .. } => Some(Position::Page(first + number)),
        _ => None,
    }
}

/// How many rows a full page has, where that is known.
pub(super) fn page_size(style: &PageStyle) -> Option<u64> {
    match style {
        PageStyle::Offset { limit, .. } | PageStyle::Keyset { limit, .. } => Some(*limit),
        PageStyle::Page { size, .. } => *size,
        _ => None,
    }
}

/// The request of the page at a position.
pub(super) fn request_at(base: &Request, style: &PageStyle, at: &Position) -> Result<Request> {
    let mut request = base.clone();
    let mut set = |name: &str, value: String| {
        request.params.retain(|(own, _)| own != name);
        request.params.push((name.to_owned(), value));
    };
    match (style, at) {
        (PageStyle::Offset { limit, limit_param, offset_param, .. }, Position::Offset(offset)) => {
            set(limit_param, limit.to_string());
            set(offset_param, offset.to_string());
        }
        (PageStyle::Page { size, size_param, page_param, .. }, Position::Page(page)) => {
            if let (Some(size), Some(param)) = (size, size_param) {
                set(param, size.to_string());
            }
            set(page_param, page.to_string());
        }
        (PageStyle::Cursor { param, in_body: false, .. }, Position::Cursor(cursor)) => set(param, cursor.clone()),
        (PageStyle::Cursor { param, in_body: true, .. }, Position::Cursor(cursor)) => {
            request.body = Some(match request.body.take() {
                None => Body::Json(with_cursor("{}", param, cursor)?),
                Some(Body::Json(body)) => Body::Json(with_cursor(&body, param, cursor)?),
                Some(Body::GraphQl(body)) => Body::GraphQl(with_cursor(&body, param, cursor)?),
                Some(Body::Form(mut pairs)) => {
                    pairs.retain(|(name, _)| name != param);
                    pairs.push((param.clone(), serde_json::from_str(cursor).unwrap_or_else(|_| cursor.clone())));
                    Body::Form(pairs)
                }
                Some(Body::Text { .. }) => {
                    return Err(Error::config("the cursor has to go into the body, which is a text")
                        .hint("only `body`, `form` and `graphql` have members; or write in = \"query\""));
                }
            });
        }
        (PageStyle::Keyset { param, limit, limit_param, .. }, at) => {
            if let Some(limit_param) = limit_param {
                set(limit_param, limit.to_string());
            }
            if let Position::Key(key) = at {
                set(param, key.clone());
            }
        }
        (_, Position::Url(url)) => {
            // A next address is whole: it carries the parameters of the first request itself.
            request.url.clone_from(url);
            request.params.clear();
        }
        _ => {}
    }
    Ok(request)
}

/// The body with the cursor, which is JSON, in the member that `param` leads to; dots lead into objects.
fn with_cursor(body: &str, param: &str, cursor: &str) -> Result<String> {
    let wrong = |what: String| Error::config(format!("putting the cursor into `request.body` at `{param}`: {what}"));
    let mut whole: Value = serde_json::from_str(body).map_err(|error| wrong(error.to_string()))?;
    let mut place = &mut whole;
    for name in param.split('.') {
        if place.is_null() {
            *place = Value::Object(serde_json::Map::new());
        }
        let members =
            place.as_object_mut().ok_or_else(|| wrong(format!("`{name}` has to be a member of an object")))?;
        place = members.entry(name).or_insert(Value::Null);
    }
    *place = serde_json::from_str(cursor).map_err(|error| wrong(error.to_string()))?;
    Ok(whole.to_string())
}

/// What an answer tells about its pages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub total: Option<u64>,
    pub total_pages: Option<u64>,
    pub has_more: Option<bool>,
    /// The cursor, the next address, or the last row's key.
    pub pointer: Option<String>,
    /// Whether it has nothing at all, not even null, where the cursor or the next address should be.
    pub is_silent: bool,
}

impl Told {
    /// Whether it says how much there is.
    fn counts(&self) -> bool {
        self.total.is_some() || self.total_pages.is_some()
    }
}

/// Reads what an answer tells.
pub(super) fn told(
    paginate: &Paginate,
    document: &Document<'_>,
    headers: &HeaderMap,
    last_row: Option<&[u8]>,
) -> Result<Told> {
    let number = |path: &Option<String>| -> Result<Option<u64>> {
        let Some(path) = path else { return Ok(None) };
        Ok(match document.value(path)? {
            Found::Number(literal) => literal.parse().ok(),
            Found::Text(text) => text.trim().parse().ok(),
            _ => None,
        })
    };
    let has_more = match paginate.has_more.as_ref().map(|path| document.value(path)).transpose()? {
        // An answer that does not say is no last page: other rules, or an empty page, end the pull.
        None | Some(Found::Nothing) => None,
        Some(Found::Bool(more)) => Some(more),
        Some(Found::Number(literal)) => Some(literal != "0"),
        Some(Found::Text(text)) => Some(!["", "0", "false", "no"].contains(&text.to_lowercase().as_str())),
        Some(Found::Nested(_)) => Some(true),
    };
    let pointer = match &paginate.by {
        PageStyle::Cursor { at: CursorPlace::Body(path), in_body, .. } => {
            pointer(document.value(path)?, path, *in_body)?
        }
        PageStyle::Cursor { at: CursorPlace::Header(name), in_body, .. } => {
            let header = headers.get(name.as_str()).and_then(|value| value.to_str().ok());
            let header = header.filter(|text| !text.is_empty());
            header.map(|text| if *in_body { Value::from(text).to_string() } else { text.to_owned() })
        }
        PageStyle::NextUrl { at: CursorPlace::Body(at) } => pointer(document.value(at)?, at, false)?,
        PageStyle::NextUrl { at: CursorPlace::Header(name) } => {
            let header = headers.get(name.as_str()).and_then(|value| value.to_str().ok());
            header.filter(|text| !text.is_empty()).map(str::to_owned)
        }
        PageStyle::Link => headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(next_link),
        PageStyle::Keyset { value, .. } => match last_row {
            Some(row) => pointer(Document::read(row)?.value(value)?, value, false)?,
            None => None,
        },
        PageStyle::Single | PageStyle::Offset { .. } | PageStyle::Page { .. } => None,
    };
    let is_silent = match way(&paginate.by) {
        Some(path) => !document.has(path)?,
        None => false,
    };
    let (total, total_pages) = (number(&paginate.total)?, number(&paginate.total_pages)?);
    Ok(Told { total, total_pages, has_more, pointer, is_silent })
}

/// Where an answer has the way to the next page in its body.
fn way(style: &PageStyle) -> Option<&str> {
    match style {
        PageStyle::Cursor { at: CursorPlace::Body(path), .. } | PageStyle::NextUrl { at: CursorPlace::Body(path) } => {
            Some(path)
        }
        _ => None,
    }
}

/// A value that leads to the next page, as a text for the query or as JSON for the body.
fn pointer(found: Found<'_>, path: &str, json: bool) -> Result<Option<String>> {
    Ok(match found {
        Found::Nothing | Found::Bool(false) => None,
        Found::Text(text) if text.is_empty() => None,
        Found::Text(text) => Some(if json { Value::from(text).to_string() } else { text }),
        Found::Number(literal) => Some(literal.to_owned()),
        Found::Nested(text) if json => Some(text.to_owned()),
        Found::Bool(true) | Found::Nested(_) => {
            return Err(Error::new(Kind::Source, format!("what `{path}` leads to is neither a text nor a number"))
                .hint("it has to be the cursor, the address or the key of the next page"));
        }
    })
}

/// An answer as far as the next page depends on it.
pub(super) struct Seen<'a> {
    pub base: &'a Request,
    pub at: &'a Position,
    pub number: u64,
    pub rows: u64,
    /// Rows of this and all earlier pages.
    pub rows_so_far: u64,
    pub told: &'a Told,
    pub secret_param: Option<&'a str>,
}

/// Where the next page begins; none after the last one.
pub(super) fn next(paginate: &Paginate, seen: &Seen<'_>) -> Result<Option<Position>> {
    let (style, told) = (&paginate.by, seen.told);
    let ended = *style == PageStyle::Single
        || told.has_more == Some(false)
        || told.total.is_some_and(|total| seen.rows_so_far >= total)
        || told.total_pages.is_some_and(|pages| seen.number + 1 >= pages);
    if ended {
        return Ok(None);
    }
    let pointed = || told.pointer.clone();
    match style {
        PageStyle::Single => return Ok(None),
        PageStyle::Cursor { .. } => return Ok(pointed().map(Position::Cursor)),
        PageStyle::NextUrl { .. } | PageStyle::Link => {
            return pointed().map(|link| address(seen, &link)).transpose().map(|url| url.map(Position::Url));
        }
        PageStyle::Offset { .. } | PageStyle::Page { .. } | PageStyle::Keyset { .. } => {}
    }
    let short = is_short(paginate, seen.rows);
    if told.has_more == Some(true) {
        contradicted(style, seen, short)?;
    } else if seen.rows == 0 {
        return Ok(None);
    } else if short && !told.counts() {
        return Ok(if seen.number == 0 && is_round(seen.rows) { doubted(style, seen) } else { None });
    }
    Ok(match (style, seen.at) {
        (PageStyle::Keyset { value, .. }, _) => Some(Position::Key(pointed().ok_or_else(|| {
            Error::new(Kind::Source, format!("the last row of page {} has no `{value}`", seen.number + 1))
                .hint("`paginate.value` must lead to the key that every row has")
        })?)),
        _ => behind(style, seen.at),
    })
}

/// Tells of a first page that may not be the only one: it has as many rows as a full page may have, and nothing in the place
/// of the way to the next one, where most APIs write null on the last page.
pub(super) fn unsaid(paginate: &Paginate, seen: &Seen<'_>) -> Option<String> {
    let path = way(&paginate.by).filter(|_| seen.told.is_silent && seen.told.has_more.is_none())?;
    let is_full = seen.number == 0 && seen.rows > 0 && is_round(seen.rows) && !seen.told.counts();
    is_full.then(|| {
        format!("page 1 has {} rows and nothing at `{path}`: if there are more pages, `paginate` is wrong", seen.rows)
    })
}

/// Whether a page has fewer rows than were asked for, which makes it the last one.
fn is_short(paginate: &Paginate, rows: u64) -> bool {
    paginate.short_page_ends && page_size(&paginate.by).is_some_and(|size| rows < size)
}

/// Whether the largest page of an API may have so many rows.
fn is_round(rows: u64) -> bool {
    rows.is_multiple_of(10) || rows.is_multiple_of(25)
}

/// Where the page behind a short first one begins: if it has rows, the first was as large as this API's pages get.
fn doubted(style: &PageStyle, seen: &Seen<'_>) -> Option<Position> {
    match (style, seen.at) {
        (PageStyle::Offset { .. }, Position::Offset(offset)) => Some(Position::Offset(offset + seen.rows)),
        (PageStyle::Keyset { .. }, _) => seen.told.pointer.clone().map(Position::Key),
        (_, at) => behind(style, at),
    }
}

/// Whether a page was asked for only since the first one, of so many rows, was short.
pub(super) fn is_doubt(paginate: &Paginate, number: u64, first: u64, told: &Told) -> bool {
    number == 1 && first > 0 && is_short(paginate, first) && !told.counts() && told.has_more.is_none()
}

/// Refuses pages that are smaller than what was asked for: the rows between them would be left out.
pub(super) fn smaller(style: &PageStyle, first: u64) -> Error {
    let size = page_size(style).unwrap_or_default();
    let key = if matches!(style, PageStyle::Page { .. }) { "size" } else { "limit" };
    Error::new(Kind::Source, format!("page 1 has {first} rows, {size} were asked for, and there are more behind it"))
        .hint(format!(
            "the API's largest page may be smaller, or its parameter has another name: try `{key} = {first}`"
        ))
        .hint("where the API leaves rows out of its pages, write `short_page_ends = false`")
}

/// Where the page behind one begins that nothing is known of, in a style whose pages are numbered.
pub(super) fn behind(style: &PageStyle, at: &Position) -> Option<Position> {
    match (style, at) {
        (PageStyle::Offset { limit, .. }, Position::Offset(offset)) => Some(Position::Offset(offset + limit)),
        (PageStyle::Page { .. }, Position::Page(page)) => Some(Position::Page(page + 1)),
        _ => None,
    }
}

/// Refuses a page that does not go with the API's word that there are more.
fn contradicted(style: &PageStyle, seen: &Seen<'_>, short: bool) -> Result<()> {
    let page = seen.number + 1;
    if seen.rows == 0 {
        return Err(Error::new(Kind::Source, format!("page {page} is empty, and the API tells that there are more"))
            .hint("`paginate.has_more` must lead to what is false on the last page"));
    }
    match style {
        // The next offset would leave out the rows that this page did not give.
        PageStyle::Offset { limit, .. } if short => Err(Error::new(
            Kind::Source,
            format!(
                "page {page} has {} rows, {limit} were asked for, and the API tells that there are more",
                seen.rows
            ),
        )
        .hint(format!("the API's largest page may be smaller: try `limit = {}`", seen.rows))
        .hint("where the API leaves rows out of its pages, write `short_page_ends = false`")),
        _ => Ok(()),
    }
}

/// The whole address behind a next link: on the same host, and without our key in it.
fn address(seen: &Seen<'_>, link: &str) -> Result<String> {
    let wrong = |what: String| Error::new(Kind::Source, format!("the next page of page {} is {what}", seen.number + 1));
    let parse = |url: &str| Url::parse(url).map_err(|error| wrong(format!("relative to {url}")).because(error));
    let own = parse(&seen.base.url)?;
    let current = if let Position::Url(url) = seen.at { parse(url)? } else { own.clone() };
    let mut url = current.join(link).map_err(|error| wrong(format!("`{link}`")).because(error))?;
    if own.scheme() == "https" && url.scheme() == "http" && own.port().is_none() && url.port().is_none() {
        // A server behind a proxy that speaks TLS for it often does not know of that.
        let _ = url.set_scheme("https");
    }
    if url.origin() != own.origin() {
        return Err(wrong(format!("at {}, not at {}", origin(&url), origin(&own)))
            .hint("credentials are sent to the connection's own host only"));
    }
    if let Some(secret) = seen.secret_param {
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| name != secret)
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
    }
    Ok(url.into())
}

/// Scheme, host and port of an address.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// The target of `rel="next"` in a `Link` header (RFC 8288).
fn next_link(header: &str) -> Option<String> {
    let mut rest = header;
    loop {
        // Commas and semicolons may stand inside of the target and inside of quotes.
        let (target, behind) = rest.split_once('<')?.1.split_once('>')?;
        let mut quoted = false;
        let end = behind.find(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        let (parameters, after) = behind.split_at(end.unwrap_or(behind.len()));
        if is_next(parameters) {
            return Some(target.trim().to_owned());
        }
        rest = after;
    }
}

/// Whether one of a link's relations is `next`.
fn is_next(parameters: &str) -> bool {
    let mut quoted = false;
    let mut parts = parameters.split(|c| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    parts.any(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
        name.trim().eq_ignore_ascii_case("rel") && relations.any(|relation| relation.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(base: &str, link: &str, secret: Option<&str>) -> Result<String> {
        let base = Request {
            method: crate::model::hook::Method::Get,
            url: base.to_owned(),
            params: Vec::new(),
            headers: Vec::new(),
            body: None,
        };
        let (at, told) = (Position::Start, Told::default());
        address(
            &Seen { base: &base, at: &at, number: 0, rows: 1, rows_so_far: 1, told: &told, secret_param: secret },
            link,
        )
    }

    #[test]
    fn links_may_hold_commas_and_semicolons() {
        let header = "<https://a/x?f=1,2;3>; title=\"a, b; rel=next\"; rel=prev, </x?f=3,4>; rel=\"last Next\"";
        assert_eq!(next_link(header).as_deref(), Some("/x?f=3,4"));
        assert_eq!(next_link("<https://a/x>; rel=next").as_deref(), Some("https://a/x"));
        assert_eq!(next_link("<https://a/x>; rel=\"prev\""), None);
    }

    #[test]
    fn a_next_address_stays_at_its_host_and_loses_our_key() {
        let go = |link| follow("https://api.example.com/v1/items", link, Some("key"));
        assert_eq!(go("?page=2&key=abc").expect("an address"), "https://api.example.com/v1/items?page=2");
        assert_eq!(go("/v2?key=abc").expect("an address"), "https://api.example.com/v2");
        assert_eq!(go("http://api.example.com/v1?p=2").expect("an address"), "https://api.example.com/v1?p=2");
        for elsewhere in ["https://evil.example.com/", "https://api.example.com:8443/", "//evil.example.com/x"] {
            let error = go(elsewhere).expect_err("another host");
            assert!(error.chain().contains("not at https://api.example.com"), "{}", error.chain());
        }
    }

    #[test]
    fn a_cursor_finds_its_place_in_a_body() {
        let body = with_cursor("{\"query\":\"q\",\"variables\":{\"n\":5}}", "variables.after", "\"c1\"");
        assert_eq!(body.expect("a body"), r#"{"query":"q","variables":{"n":5,"after":"c1"}}"#);
        assert_eq!(with_cursor("{}", "search_after", "[1,\"x\"]").expect("a body"), r#"{"search_after":[1,"x"]}"#);
        assert!(with_cursor("[1]", "after", "1").is_err());
    }
}
