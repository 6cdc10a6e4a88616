//! Page styles: which request asks for a page, and which page follows an answer.

use reqwest::header::{HeaderMap, LINK};
use serde_json::Value;
use url::Url;

use super::records::value_at;
use crate::error::{Error, Kind, Result};
use crate::model::hook::{CursorPlace, PageStyle, Paginate, Request};
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
            let mut body: Value = serde_json::from_str(request.body.as_deref().unwrap_or("{}"))
                .map_err(|error| Error::config("reading `request.body`").because(error))?;
            body[param.as_str()] = Value::String(cursor.clone());
            request.body = Some(body.to_string());
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

/// What an answer tells about its pages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub total: Option<u64>,
    pub total_pages: Option<u64>,
    pub has_more: Option<bool>,
}

/// Reads what an answer tells.
pub(super) fn told(paginate: &Paginate, body: &[u8]) -> Result<Told> {
    let number = |path: &Option<String>| -> Result<Option<u64>> {
        let Some(path) = path else { return Ok(None) };
        Ok(value_at(body, path)?.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok())))
    };
    let has_more = match &paginate.has_more {
        Some(path) => Some(value_at(body, path)?.is_some_and(|value| value.as_bool().unwrap_or(!value.is_null()))),
        None => None,
    };
    Ok(Told { total: number(&paginate.total)?, total_pages: number(&paginate.total_pages)?, has_more })
}

/// An answer as far as the next page depends on it.
pub(super) struct Seen<'a> {
    pub base: &'a Request,
    pub at: &'a Position,
    pub number: u64,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    pub rows: u64,
    pub last_row: Option<&'a [u8]>,
    /// Rows of this and all earlier pages.
    pub rows_so_far: u64,
    pub told: &'a Told,
    pub secret_param: Option<&'a str>,
}

/// Where the next page begins; none after the last one.
pub(super) fn next(paginate: &Paginate, seen: &Seen<'_>) -> Result<Option<Position>> {
    let style = &paginate.by;
    let ended = *style == PageStyle::Single
        || seen.told.has_more == Some(false)
        || seen.told.total.is_some_and(|total| seen.rows_so_far >= total)
        || seen.told.total_pages.is_some_and(|pages| seen.number + 1 >= pages);
    if ended {
        return Ok(None);
    }
    let by_link = matches!(style, PageStyle::NextUrl { .. } | PageStyle::Link | PageStyle::Cursor { .. });
    let short = paginate.short_page_ends && page_size(style).is_some_and(|size| seen.rows < size);
    if !by_link && (seen.rows == 0 || short && seen.told.total.is_none() && seen.told.has_more.is_none()) {
        return Ok(None);
    }
    let text = |value: Option<Value>| match value {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    Ok(match style {
        PageStyle::Single => None,
        PageStyle::Offset { limit, .. } => match seen.at {
            Position::Offset(offset) => Some(Position::Offset(offset + limit)),
            _ => None,
        },
        PageStyle::Page { .. } => match seen.at {
            Position::Page(page) => Some(Position::Page(page + 1)),
            _ => None,
        },
        PageStyle::Cursor { at: CursorPlace::Body(path), .. } => text(value_at(seen.body, path)?).map(Position::Cursor),
        PageStyle::Cursor { at: CursorPlace::Header(name), .. } => {
            let header = seen.headers.get(name.as_str()).and_then(|value| value.to_str().ok());
            header.filter(|text| !text.is_empty()).map(|text| Position::Cursor(text.to_owned()))
        }
        PageStyle::NextUrl { at } => {
            text(value_at(seen.body, at)?).map(|url| address(seen, &url)).transpose()?.map(Position::Url)
        }
        PageStyle::Link => {
            let header = seen.headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(next_link);
            header.map(|url| address(seen, &url)).transpose()?.map(Position::Url)
        }
        PageStyle::Keyset { value, .. } => match seen.last_row {
            Some(row) => Some(Position::Key(text(value_at(row, value)?).ok_or_else(|| {
                Error::new(Kind::Source, format!("the last row of page {} has no `{value}`", seen.number + 1))
                    .hint("`paginate.value` must lead to the key that every row has")
            })?)),
            None => None,
        },
    })
}

/// The whole address behind a next link: on the same host, and without our key in it.
fn address(seen: &Seen<'_>, link: &str) -> Result<String> {
    let wrong = |what: String| Error::new(Kind::Source, format!("the next page of page {} is {what}", seen.number + 1));
    let base =
        Url::parse(&seen.base.url).map_err(|error| wrong(format!("relative to {}", seen.base.url)).because(error))?;
    let mut url = base.join(link).map_err(|error| wrong(format!("`{link}`")).because(error))?;
    if (url.host_str(), url.port_or_known_default()) != (base.host_str(), base.port_or_known_default()) {
        return Err(wrong(format!("on another host, {}", url.host_str().unwrap_or("none")))
            .hint("credentials are sent to the connection's own host only"));
    }
    if let Some(secret) = seen.secret_param {
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| name != secret)
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        url.query_pairs_mut().clear().extend_pairs(kept);
    }
    Ok(url.into())
}

/// The target of `rel="next"` in a `Link` header (RFC 8288).
fn next_link(header: &str) -> Option<String> {
    header.split(",").find_map(|link| {
        let (target, parameters) = link.split_once(';')?;
        let is_next = parameters.split(';').any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').split(' ').any(|rel| rel == "next")
        });
        is_next.then(|| target.trim().trim_start_matches('<').trim_end_matches('>').to_owned())
    })
}
