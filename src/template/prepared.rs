//! Templates that are rendered for one item after the other: looked at once, and rendered only where they speak of the item.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use minijinja::{Environment, Value};
use serde_json::Value as Json;

use super::{Scope, Templates, fault, file_name, scope, template_error};
use crate::error::Result;
use crate::model::name::Text;

/// The templates of one task of a fan-out.
pub struct Prepared {
    templates: Arc<Templates>,
    scope: Scope,
    name: String,
    known: RwLock<HashMap<Arc<str>, Arc<Ready>>>,
}

/// An item as templates see it.
#[derive(Debug, Clone)]
pub struct Item {
    value: Value,
}

impl Item {
    /// An item that is written as JSON.
    ///
    /// # Errors
    /// A text that is no JSON.
    pub fn parse(json: &str) -> Result<Self> {
        let value = serde_json::from_str(&with_all_digits(json));
        value.map(|value| Self { value }).map_err(|error| template_error(format!("an item is no JSON: {error}")))
    }
}

/// Whole numbers that 64 bits do not hold, and fractions with many digits, as texts: templates print them as they are then.
fn with_all_digits(json: &str) -> Cow<'_, str> {
    const SAFE: usize = 16;
    let bytes = json.as_bytes();
    let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    if !bytes.chunk_by(|one, next| is_number(one) && is_number(next)).any(|run| run.len() > SAFE) {
        return Cow::Borrowed(json);
    }
    let (mut out, mut at) = (String::with_capacity(json.len() + 8), 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            b'"' => {
                let mut end = at + 1;
                while end < bytes.len() && bytes[end] != b'"' {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                (end + 1).min(bytes.len())
            }
            b'-' | b'0'..=b'9' => at + bytes[at..].iter().take_while(|byte| is_number(byte)).count(),
            _ => at + bytes[at..].iter().take_while(|byte| !matches!(byte, b'"' | b'-' | b'0'..=b'9')).count(),
        };
        let part = &json[at..end];
        let exact = !matches!(bytes[at], b'-' | b'0'..=b'9')
            || part.len() <= SAFE
            || part.parse::<i64>().is_ok()
            || part.parse::<u64>().is_ok();
        if exact {
            out.push_str(part);
        } else {
            out.extend(["\"", part, "\""]);
        }
        at = end;
    }
    Cow::Owned(out)
}

/// What is known of a template.
enum Ready {
    /// It does not speak of the item: its text, and its value.
    Fixed(String, Json),
    /// Literal text, and paths into the item.
    Paths(Vec<Segment>),
    /// Anything else.
    Any(Box<Environment<'static>>),
}

enum Segment {
    Literal(String),
    Path(Vec<String>),
}

impl Prepared {
    /// Templates that call the item by this name.
    pub fn new(templates: Arc<Templates>, scope: &Scope, name: &str) -> Self {
        Self { templates, scope: scope.clone(), name: name.to_owned(), known: RwLock::default() }
    }

    /// Renders a template for an item.
    ///
    /// # Errors
    /// As for [`Templates::render`].
    pub fn render(&self, text: &Text, item: &Item) -> Result<String> {
        if !text.is_template() {
            return Ok(text.text.to_string());
        }
        let ready = self.ready(text)?;
        match &*ready {
            Ready::Fixed(fixed, _) => Ok(fixed.clone()),
            Ready::Paths(segments) => match joined(segments, item) {
                Joined::Text(text) => Ok(text),
                Joined::Null(path) => {
                    let path = [std::slice::from_ref(&self.name), &*path].concat().join(".");
                    Err(template_error(format!("{}: `{path}` is null", text.origin))
                        .hint(format!("leave such items out, or say what to write: {{{{ {path} or '…' }}}}")))
                }
                Joined::Missing => self.any(&self.environment(text)?, text, item),
            },
            Ready::Any(environment) => self.any(environment, text, item),
        }
    }

    /// Renders a template that stands in a string of JSON: what is one expression and nothing else keeps the type of its
    /// value.
    ///
    /// # Errors
    /// As for [`Templates::render`].
    pub fn render_json(&self, text: &Text, item: &Item) -> Result<Json> {
        if !text.is_template() {
            return Ok(Json::String(text.text.to_string()));
        }
        match &*self.ready(text)? {
            Ready::Fixed(_, value) => return Ok(value.clone()),
            Ready::Paths(segments) => {
                if let [Segment::Path(path)] = &segments[..]
                    && let Some(value) = found(path, item)
                    && let Ok(json) = serde_json::to_value(&value)
                {
                    return Ok(json);
                }
            }
            Ready::Any(environment) => {
                let value = super::single_expression(&text.text).and_then(|expression| {
                    environment.compile_expression(expression).and_then(|e| e.eval(self.context(item))).ok()
                });
                if let Some(json) = value.as_ref().and_then(super::plain_json) {
                    return Ok(json);
                }
            }
        }
        self.render(text, item).map(Json::String)
    }

    fn context(&self, item: &Item) -> Value {
        Value::from_pairs([(self.name.as_str(), item.value.clone())])
    }

    fn any(&self, environment: &Environment<'static>, text: &Text, item: &Item) -> Result<String> {
        let rendered =
            environment.get_template(&file_name(&text.origin)).and_then(|template| template.render(self.context(item)));
        rendered.map_err(|error| fault::explain(&self.templates, text, &error))
    }

    /// What is known of a template; it is looked at when it is rendered for the first time.
    fn ready(&self, text: &Text) -> Result<Arc<Ready>> {
        if let Some(ready) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&text.text) {
            return Ok(Arc::clone(ready));
        }
        let inspection = self.templates.inspect_with(text, &[&self.name])?;
        let mine = |name: &String| name.split('.').next() == Some(&self.name);
        let ready = if !inspection.names.iter().any(mine) {
            let value = self.templates.render_json(text, &self.scope)?;
            Ready::Fixed(self.templates.render(text, &self.scope)?, value)
        } else if let Some(segments) = segments(&text.text, &self.name) {
            Ready::Paths(segments)
        } else {
            Ready::Any(Box::new(self.environment(text)?))
        };
        let ready = Arc::new(ready);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(Arc::clone(&text.text), Arc::clone(&ready));
        Ok(ready)
    }

    /// The environment with the scope and this one template.
    fn environment(&self, text: &Text) -> Result<Environment<'static>> {
        let mut environment = self.templates.full.clone();
        scope::bind(&mut environment, &self.scope);
        environment
            .add_template_owned(file_name(&text.origin), text.text.to_string())
            .map_err(|error| fault::explain(&self.templates, text, &error))?;
        Ok(environment)
    }
}

/// A template of literal text and of paths into the item, taken apart; none for any other.
fn segments(text: &str, name: &str) -> Option<Vec<Segment>> {
    if text.contains("{%") || text.contains("{#") {
        return None;
    }
    let is_plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let (mut segments, mut rest) = (Vec::new(), text);
    while let Some((literal, behind)) = rest.split_once("{{") {
        let (expression, after) = behind.split_once("}}")?;
        let mut path = expression.trim().split('.');
        if path.next() != Some(name) {
            return None;
        }
        let path: Vec<String> = path.map(|part| is_plain(part).then(|| part.to_owned())).collect::<Option<_>>()?;
        if !literal.is_empty() {
            segments.push(Segment::Literal(literal.to_owned()));
        }
        segments.push(Segment::Path(path));
        rest = after;
    }
    // The engine leaves out one line break at the end of a template.
    if !rest.is_empty() {
        segments.push(Segment::Literal(rest.strip_suffix('\n').unwrap_or(rest).to_owned()));
    }
    Some(segments)
}

fn found(path: &[String], item: &Item) -> Option<Value> {
    let mut value = item.value.clone();
    for part in path {
        value = value.get_attr(part).ok()?;
    }
    (!value.is_undefined()).then_some(value)
}

/// What became of a template of plain paths.
#[derive(Debug, PartialEq, Eq)]
enum Joined {
    Text(String),
    /// The item has a null here, which nobody wants to ask for.
    Null(Vec<String>),
    /// The item lacks something: the engine tells it well.
    Missing,
}

fn joined(segments: &[Segment], item: &Item) -> Joined {
    use std::fmt::Write as _;
    let mut text = String::new();
    for segment in segments {
        match segment {
            Segment::Literal(literal) => text.push_str(literal),
            Segment::Path(path) => {
                let Some(value) = found(path, item) else { return Joined::Missing };
                if value.is_none() {
                    return Joined::Null(path.clone());
                }
                match value.as_str() {
                    Some(plain) => text.push_str(plain),
                    // Writing into memory does not fail.
                    None => drop(write!(text, "{value}")),
                }
            }
        }
    }
    Joined::Text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        for (json, exact) in [
            (r#"{"id":12345678901234567890123}"#, r#"{"id":"12345678901234567890123"}"#),
            (r#"{"id":-9007199254740993,"a":[1]}"#, r#"{"id":-9007199254740993,"a":[1]}"#),
            (
                r#"{"a":"1234567890123456789012345\"1","b":0.12345678901234567}"#,
                r#"{"a":"1234567890123456789012345\"1","b":"0.12345678901234567"}"#,
            ),
        ] {
            assert_eq!(with_all_digits(json), exact);
        }
    }

    #[test]
    fn plain_paths_are_taken_apart_and_nothing_else_is() {
        let item = Item::parse(r#"{"id":"v1","owner":{"n":7},"none":null}"#).expect("an item");
        let text = |template| joined(&segments(template, "item").expect("plain"), &item);
        let whole = text("/videos/{{ item.id }}/of/{{item.owner.n}}.json\n");
        assert_eq!(whole, Joined::Text("/videos/v1/of/7.json".to_owned()));
        assert_eq!(text("{{ item.none }}"), Joined::Null(vec!["none".to_owned()]));
        assert_eq!(text("{{ item.missing }}"), Joined::Missing);
        for other in
            ["{{ item.id | upper }}", "{{ ds }}", "{% if item %}x{% endif %}", "{{ item['id'] }}", "{{ item.a-b }}"]
        {
            assert!(segments(other, "item").is_none(), "{other}");
        }
    }
}
