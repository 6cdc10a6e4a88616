//! Finds rows and small values in an answer: rows as byte ranges, so that no digit is lost.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;
use serde_json_path::{JsonPath, PathElement};

use crate::error::{Error, Kind, Result};

/// An answer that is JSON as a whole.
pub(super) struct Document<'a> {
    text: &'a str,
    root: Root<'a>,
}

/// What an answer is. The members of an object are found by the pass that proves it to be JSON: pages are large.
enum Root<'a> {
    Object(Members<'a>),
    Other(&'a RawValue),
}

/// The members of an object in their order.
struct Members<'a>(Vec<(Key<'a>, &'a RawValue)>);

/// A small value of an answer, with its digits as they were written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// No such value, or null.
    Nothing,
    /// A text.
    Text(String),
    /// The literal of a number.
    Number(&'a str),
    /// True or false.
    Bool(bool),
    /// The JSON of a list or an object.
    Nested(&'a str),
}

impl<'a> Document<'a> {
    /// Reads an answer, all of it: one that was cut on its way is no document.
    pub fn read(body: &'a [u8]) -> Result<Self> {
        let text = std::str::from_utf8(body).map_err(|error| not_json(body, &error))?;
        let root = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map(Root::Object)
        } else {
            serde_json::from_str(text).map(Root::Other)
        };
        Ok(Self { text, root: root.map_err(|error| not_json(body, &error))? })
    }

    /// The whole answer as one value.
    fn root(&self) -> Result<&'a RawValue> {
        match &self.root {
            Root::Other(value) => Ok(value),
            Root::Object(_) => serde_json::from_str(self.text).map_err(|error| not_json(self.text.as_bytes(), &error)),
        }
    }

    /// The value that a path's first step leads to, with the steps behind it.
    fn first<'l>(&self, legs: &'l [Leg]) -> Result<(&'a RawValue, &'l [Leg])> {
        match (&self.root, legs) {
            (Root::Object(members), [Leg::Member(name), rest @ ..]) => Ok((members.get(name, self.text)?, rest)),
            _ => Ok((self.root()?, legs)),
        }
    }

    /// The first value that a path leads to, as it was written.
    fn at(&self, path: &str) -> Result<Option<&'a RawValue>> {
        Ok(match legs(path).filter(|legs| !legs.contains(&Leg::All)) {
            Some(legs) => self.first(&legs).ok().and_then(|(first, rest)| {
                rest.iter().try_fold(first, |value, leg| match leg {
                    Leg::Member(name) => member_of(value, name).ok(),
                    Leg::Element(index) => list_of(value)?.get(*index).copied(),
                    Leg::All => None,
                })
            }),
            None => self.located(&query(path)?)?.first().copied(),
        })
    }

    /// Whether a path leads to something, be it null.
    pub fn has(&self, path: &str) -> Result<bool> {
        Ok(self.at(path)?.is_some())
    }

    /// The first value that a path leads to.
    pub fn value(&self, path: &str) -> Result<Found<'a>> {
        let Some(raw) = self.at(path)? else { return Ok(Found::Nothing) };
        let json = raw.get();
        Ok(match json.as_bytes().first() {
            Some(b'"') => Found::Text(serde_json::from_str(json).map_err(|error| not_json(json.as_bytes(), &error))?),
            Some(b'{' | b'[') => Found::Nested(json),
            Some(b't' | b'f') => Found::Bool(json == "true"),
            Some(b'-' | b'0'..=b'9') => Found::Number(json),
            _ => Found::Nothing,
        })
    }

    /// Refuses an answer to a GraphQL query that tells of errors, whatever else it has.
    ///
    /// # Errors
    /// `errors` is a list with something in it: their messages are told.
    pub fn refuse_errors(&self) -> Result<()> {
        let Found::Nested(text) = self.value("$.errors")? else { return Ok(()) };
        let errors: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
        if errors.is_empty() {
            return Ok(());
        }
        let told = |error: &Value| {
            let message = error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned);
            match error["extensions"]["code"].as_str() {
                Some(code) => format!("{message} ({code})"),
                None => message,
            }
        };
        let more = errors.len().saturating_sub(3);
        let mut messages: Vec<String> = errors.iter().take(3).map(told).collect();
        messages.extend((more > 0).then(|| format!("and {more} more")));
        Err(Error::new(Kind::Source, "the query failed")
            .because(excerpt(&messages.join("; "), 500))
            .hint("where an error passes, a rule can say so: on = { \"200 containing THROTTLED\" = \"wait 5s\" }"))
    }

    /// The values that a query selects, in its order.
    fn located(&self, path: &JsonPath) -> Result<Vec<&'a RawValue>> {
        let body = self.text.as_bytes();
        let dom: Value = serde_json::from_str(self.text).map_err(|error| not_json(body, &error))?;
        let gone = || Error::internal("a located value is gone");
        // By the place where a value begins: rows share all of their way but its end.
        let mut lists: HashMap<usize, Vec<&'a RawValue>> = HashMap::new();
        let mut members: HashMap<(usize, &str), &'a RawValue> = HashMap::new();
        let mut found = Vec::new();
        let root = self.root()?;
        let located = path.query_located(&dom);
        for location in located.locations() {
            let mut value = root;
            for element in location.iter() {
                let place = value.get().as_ptr() as usize;
                value = match element {
                    PathElement::Name(name) => match members.entry((place, *name)) {
                        Entry::Occupied(known) => known.get(),
                        Entry::Vacant(new) => new.insert(member_of(value, name)?),
                    },
                    PathElement::Index(index) => {
                        let list = match lists.entry(place) {
                            Entry::Occupied(known) => known.into_mut(),
                            Entry::Vacant(new) => new.insert(list_of(value).ok_or_else(gone)?),
                        };
                        list.get(*index).copied().ok_or_else(gone)?
                    }
                };
            }
            found.push(value);
        }
        Ok(found)
    }
}

/// A compiled JSONPath of rows.
pub(super) enum RecordPath {
    /// Members and all elements of lists, at any depth.
    Walk(Vec<Leg>),
    /// Anything else.
    Query(Box<JsonPath>),
}

/// One step of a plain path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leg {
    /// Into a member of an object.
    Member(String),
    /// To one element of a list.
    Element(usize),
    /// To all elements of a list.
    All,
}

impl RecordPath {
    /// Compiles a path such as `$.result[*]`.
    pub fn compile(path: &str) -> Result<Self> {
        match legs(path) {
            Some(legs) => Ok(Self::Walk(legs)),
            None => query(path).map(|path| Self::Query(Box::new(path))),
        }
    }

    /// The rows of an answer, as ranges of its bytes.
    pub fn rows(&self, document: &Document<'_>) -> Result<Vec<Range<usize>>> {
        if matches!(document.root, Root::Other(value) if value.get() == "null") {
            return Ok(Vec::new());
        }
        let rows = match self {
            Self::Query(path) => document.located(path)?,
            Self::Walk(legs) => {
                let mut walk = Walk { rows: Vec::new(), missing: None, arrived: false };
                let (first, rest) = document.first(legs)?;
                walk.go(first, rest, false)?;
                match walk.missing {
                    // Some of the rows' owners may have none; a path that nothing has is a wrong one.
                    Some(error) if !walk.arrived => return Err(error),
                    _ => walk.rows,
                }
            }
        };
        Ok(rows.into_iter().map(|row| range(document.text, row)).collect())
    }
}

/// A walk along a plain path, into all elements of its lists.
struct Walk<'a> {
    rows: Vec<&'a RawValue>,
    /// Why the first element that the path does not fit was left out.
    missing: Option<Error>,
    /// Whether the path's end was reached anywhere, be it at an empty list.
    arrived: bool,
}

impl<'a> Walk<'a> {
    fn go(&mut self, value: &'a RawValue, legs: &[Leg], in_list: bool) -> Result<()> {
        let next = match legs {
            [] => {
                self.arrived = true;
                match list_of(value).filter(|_| !in_list) {
                    // `$.data` means the rows of the list that is there.
                    Some(list) => self.rows.extend(list),
                    None if value.get() == "null" => {}
                    None => self.rows.push(value),
                }
                return Ok(());
            }
            [Leg::All, rest @ ..] => {
                let list = list_of(value).ok_or_else(|| not_a_list(value));
                if rest.is_empty() && value.get() == "null" {
                    self.arrived = true;
                    return Ok(());
                }
                match list {
                    Ok(list) if rest.is_empty() => {
                        self.arrived = true;
                        self.rows.extend(list);
                    }
                    Ok(list) => {
                        self.arrived |= list.is_empty();
                        for element in list {
                            self.go(element, rest, true)?;
                        }
                    }
                    Err(error) => return self.left_out(error, in_list),
                }
                return Ok(());
            }
            [Leg::Member(name), ..] => member_of(value, name),
            [Leg::Element(index), ..] => {
                list_of(value).and_then(|list| list.get(*index).copied()).ok_or_else(|| not_a_list(value))
            }
        };
        match next {
            Ok(next) => self.go(next, &legs[1..], in_list && legs.len() > 1),
            Err(error) => self.left_out(error, in_list),
        }
    }

    /// An element of a list may lack what the path leads to; the answer as a whole may not.
    fn left_out(&mut self, error: Error, in_list: bool) -> Result<()> {
        if !in_list {
            return Err(error);
        }
        self.missing.get_or_insert(error);
        Ok(())
    }
}

/// The steps of a path of members, elements and whole lists; none for any other path.
fn legs(path: &str) -> Option<Vec<Leg>> {
    let mut legs = Vec::new();
    let mut rest = path.trim().strip_prefix('$')?;
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix("[*]") {
            legs.push(Leg::All);
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix('.') {
            let end = behind.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(behind.len());
            let name = &behind[..end];
            if name.is_empty() {
                return None;
            }
            legs.push(Leg::Member(name.to_owned()));
            rest = &behind[end..];
        } else {
            let (inner, behind) = rest.strip_prefix('[')?.split_once(']')?;
            let quoted = ['\'', '"'].into_iter().find_map(|quote| inner.strip_prefix(quote)?.strip_suffix(quote));
            legs.push(match quoted {
                Some(name) if !name.contains(['\'', '"', '\\', '[']) => Leg::Member(name.to_owned()),
                _ => Leg::Element(inner.parse().ok()?),
            });
            rest = behind;
        }
    }
    Some(legs)
}

fn query(path: &str) -> Result<JsonPath> {
    JsonPath::parse(path)
        .map_err(|error| Error::new(Kind::Config, format!("`{path}` is no JSONPath")).because(error.to_string()))
}

fn not_json(body: &[u8], error: &dyn std::fmt::Display) -> Error {
    let found = match excerpt(&String::from_utf8_lossy(body), 120) {
        text if text.is_empty() => "nothing".to_owned(),
        text => text,
    };
    Error::new(Kind::Unavailable, format!("the answer is not JSON ({error}): {found}"))
}

fn not_a_list(value: &RawValue) -> Error {
    Error::new(Kind::Source, "the rows are not a list")
        .because(format!("found {}", excerpt(value.get(), 80)))
        .hint("`records` must lead to a list")
}

/// The beginning of a text, on one line.
pub(super) fn excerpt(text: &str, longest: usize) -> String {
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(longest) {
        line.truncate(end);
        line.push('…');
    }
    line
}

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> serde::de::Visitor<'de> for Collect {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl<'a> Members<'a> {
    /// The member of this name: of several the last, as every parser has it. `owner` is the object's text.
    fn get(&self, name: &str, owner: &str) -> Result<&'a RawValue> {
        if let Some((_, value)) = self.0.iter().rev().find(|(key, _)| key.0 == name) {
            return Ok(value);
        }
        let names: Vec<&str> = self.0.iter().map(|(key, _)| &*key.0).collect();
        let has =
            if names.is_empty() { String::new() } else { format!("it has {}: ", excerpt(&names.join(", "), 200)) };
        Err(no_member(name, &format!("{has}{}", excerpt(owner, 80))))
    }
}

fn no_member(name: &str, found: &str) -> Error {
    Error::new(Kind::Source, format!("the answer has no member `{name}`"))
        .because(found.to_owned())
        .hint("`records` must lead to the rows; an API may answer 200 with an error inside")
}

/// One member of an object.
fn member_of<'a>(value: &'a RawValue, name: &str) -> Result<&'a RawValue> {
    match serde_json::from_str::<Members<'a>>(value.get()) {
        Ok(members) => members.get(name, value.get()),
        Err(_) => Err(no_member(name, &format!("found {}", excerpt(value.get(), 80)))),
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

/// The elements of a list; none where the value is none.
fn list_of(value: &RawValue) -> Option<Vec<&RawValue>> {
    if !value.get().starts_with('[') {
        return None;
    }
    serde_json::from_str(value.get()).ok()
}

/// Where a raw value lies in the text that it was read from.
fn range(text: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr() as usize - text.as_ptr() as usize;
    start..start + value.get().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(path: &str, body: &str) -> Result<Vec<String>> {
        let document = Document::read(body.as_bytes())?;
        let rows = RecordPath::compile(path)?.rows(&document)?;
        Ok(rows.into_iter().map(|row| body[row].to_owned()).collect())
    }

    #[test]
    fn rows_are_found_at_any_depth_as_they_were_written() {
        let deep =
            r#"{ "a": [ { "b": [ {"n": 1.10}, {"n": 2} ] }, { "c": 0 }, { "b": null }, { "b": [ {"n":3} ] } ] }"#;
        let all = [r#"{"n": 1.10}"#, r#"{"n": 2}"#, r#"{"n":3}"#];
        assert_eq!(rows("$.a[*].b[*]", deep).expect("rows"), all);
        assert_eq!(rows("$.a[*]['b'][*]", deep).expect("rows"), all);
        assert_eq!(rows("$..b[*]", deep).expect("rows"), all);
        assert_eq!(rows("$.a[?@.b[0].n == 3].b[*]", deep).expect("rows"), all[2..]);
        assert_eq!(rows("$[*]", "[1, 2]").expect("rows"), ["1", "2"]);
        assert_eq!(rows("$.data", r#"{"data": [{"x":1}]}"#).expect("rows"), [r#"{"x":1}"#]);
        assert_eq!(rows("$", r#"{"x":1}"#).expect("rows"), [r#"{"x":1}"#]);
        assert!(rows("$.a[*].b[*]", r#"{"a": []}"#).expect("rows").is_empty());
        assert!(rows("$.a[*]", r#"{"a": null}"#).expect("rows").is_empty());
    }

    #[test]
    fn a_path_that_fits_nowhere_is_an_error_and_not_an_empty_page() {
        for (path, body) in [
            ("$.items[*]", r#"{"error": "no"}"#),
            ("$.data.items[*]", r#"{"errors": [], "data": null}"#),
            ("$.a[*].b[*]", r#"{"a": [{"c": 1}, {"c": 2}]}"#),
            ("$.items[*]", r#"{"items": {"x": 1}}"#),
            ("$[*]", r#"{"error": "no"}"#),
        ] {
            let error = rows(path, body).expect_err(path);
            assert_eq!(error.kind(), Kind::Source, "{path}: {}", error.chain());
        }
    }

    #[test]
    fn values_keep_their_digits() {
        let body =
            br#"{"page": {"total": 12345678901234567890123, "next": "a\"b", "more": false, "@odata": {"n": [7.10]}}}"#;
        let document = Document::read(body).expect("JSON");
        let value = |path: &str| document.value(path).expect("a value");
        assert_eq!(value("$.page.total"), Found::Number("12345678901234567890123"));
        assert_eq!(value("$.page.next"), Found::Text("a\"b".to_owned()));
        assert_eq!(value("$.page.more"), Found::Bool(false));
        assert_eq!(value("$['page']['@odata'].n[0]"), Found::Number("7.10"));
        assert_eq!(value("$..n[0]"), Found::Number("7.10"));
        assert_eq!(value("$.page.none"), Found::Nothing);
    }
}
