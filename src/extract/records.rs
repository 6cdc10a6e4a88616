//! Finds rows and small values in an answer: rows as byte ranges, so that no digit is lost.

use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;
use serde_json_path::JsonPath;

use crate::error::{Error, Kind, Result};

/// A compiled JSONPath of rows.
pub(super) enum RecordPath {
    /// Members only, and all elements of what they lead to.
    Plain(Vec<String>),
    /// Anything else.
    Query(Box<JsonPath>),
}

/// A step from a value to one inside of it.
enum Step {
    Member(String),
    Element(usize),
}

impl RecordPath {
    /// Compiles a path such as `$.result[*]`.
    pub fn compile(path: &str) -> Result<Self> {
        if let Some(inner) = path.strip_prefix('$').and_then(|rest| rest.strip_suffix("[*]")) {
            let mut members = Vec::new();
            let plain = inner.split('.').skip(1).all(|part| {
                members.push(part.to_owned());
                !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_')
            });
            if plain && (inner.is_empty() || inner.starts_with('.')) {
                return Ok(Self::Plain(members));
            }
        }
        query(path).map(|path| Self::Query(Box::new(path)))
    }

    /// The rows of an answer, as ranges of its bytes.
    pub fn rows(&self, body: &[u8]) -> Result<Vec<Range<usize>>> {
        let text = std::str::from_utf8(body).map_err(|error| not_json(body, &error))?;
        match self {
            Self::Plain(members) => {
                let mut value: &RawValue = serde_json::from_str(text).map_err(|error| not_json(body, &error))?;
                for member in members {
                    value = member_of(value, member)?;
                }
                elements(text, value)
            }
            Self::Query(path) => {
                let root: &RawValue = serde_json::from_str(text).map_err(|error| not_json(body, &error))?;
                let dom: Value = serde_json::from_str(text).map_err(|error| not_json(body, &error))?;
                let mut ranges = Vec::new();
                for location in path.query_located(&dom).locations() {
                    let mut value = root;
                    for step in steps(&location.to_string()) {
                        value = step_into(value, &step)?;
                    }
                    ranges.push(range(text, value));
                }
                Ok(ranges)
            }
        }
    }
}

/// A single value of an answer.
pub(super) fn value_at(body: &[u8], path: &str) -> Result<Option<Value>> {
    let plain = path.strip_prefix("$.").filter(|rest| {
        rest.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_'))
    });
    let text = std::str::from_utf8(body).map_err(|error| not_json(body, &error))?;
    if let Some(rest) = plain {
        let mut value: &RawValue = serde_json::from_str(text).map_err(|error| not_json(body, &error))?;
        for member in rest.split('.') {
            match member_of(value, member) {
                Ok(inner) => value = inner,
                Err(_) => return Ok(None),
            }
        }
        return serde_json::from_str(value.get()).map(Some).map_err(|error| not_json(body, &error));
    }
    let dom: Value = serde_json::from_str(text).map_err(|error| not_json(body, &error))?;
    Ok(query(path)?.query(&dom).first().cloned())
}

fn query(path: &str) -> Result<JsonPath> {
    JsonPath::parse(path)
        .map_err(|error| Error::new(Kind::Config, format!("`{path}` is no JSONPath")).because(error.to_string()))
}

fn not_json(body: &[u8], error: &dyn std::fmt::Display) -> Error {
    let excerpt: String = String::from_utf8_lossy(body).chars().take(120).collect();
    Error::new(Kind::Unavailable, format!("the answer is not JSON ({error}): {excerpt}"))
}

/// One member of an object, found without reading the others.
fn member_of<'a>(value: &'a RawValue, name: &str) -> Result<&'a RawValue> {
    struct Find<'n>(&'n str);
    impl<'de> serde::de::Visitor<'de> for Find<'_> {
        type Value = Result<&'de RawValue, Vec<String>>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut found, mut names) = (None, Vec::new());
            while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                let value = map.next_value::<&'de RawValue>()?;
                if key == self.0 {
                    found = Some(value);
                } else {
                    names.push(key.into_owned());
                }
            }
            Ok(found.ok_or(names))
        }
    }
    use serde::Deserializer as _;
    let missing = |what: String| {
        Error::new(Kind::Source, format!("the answer has no member `{name}`"))
            .because(what)
            .hint("`records` must lead to the rows; an API may answer 200 with an error inside")
    };
    let mut reader = serde_json::Deserializer::from_str(value.get());
    match reader.deserialize_map(Find(name)) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(names)) => Err(missing(format!("it has {}", names.join(", ")))),
        Err(_) => Err(missing(format!("it is {}", value.get().chars().take(80).collect::<String>()))),
    }
}

fn elements(text: &str, value: &RawValue) -> Result<Vec<Range<usize>>> {
    if value.get() == "null" {
        return Ok(Vec::new());
    }
    let list: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| {
        let found: String = value.get().chars().take(80).collect();
        Error::new(Kind::Source, "the rows are not a list")
            .because(format!("found {found}"))
            .hint("`records` must lead to a list")
    })?;
    Ok(list.into_iter().map(|element| range(text, element)).collect())
}

/// Where a raw value lies in the text that it was read from.
fn range(text: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr() as usize - text.as_ptr() as usize;
    start..start + value.get().len()
}

/// The steps of a normalized path: `$['a'][0]`.
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path.trim_start_matches('$');
    while let Some(inner) = rest.strip_prefix('[') {
        if let Some(quoted) = inner.strip_prefix('\'') {
            let (mut name, mut end, mut escaped) = (String::new(), quoted.len(), false);
            for (at, c) in quoted.char_indices() {
                match c {
                    '\\' if !escaped => escaped = true,
                    '\'' if !escaped => {
                        end = at;
                        break;
                    }
                    c => {
                        name.push(c);
                        escaped = false;
                    }
                }
            }
            steps.push(Step::Member(name));
            rest = quoted.get(end + 2..).unwrap_or("");
        } else {
            let (number, after) = inner.split_once(']').unwrap_or((inner, ""));
            steps.push(Step::Element(number.parse().unwrap_or(0)));
            rest = after;
        }
    }
    steps
}

fn step_into<'a>(value: &'a RawValue, step: &Step) -> Result<&'a RawValue> {
    match step {
        Step::Member(name) => member_of(value, name),
        Step::Element(index) => {
            let list: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
            list.get(*index).copied().ok_or_else(|| Error::internal("a located element is gone"))
        }
    }
}
