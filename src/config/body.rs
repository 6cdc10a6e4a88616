//! The body of a request: JSON, a form, a query in GraphQL, or a text as it stands.

use super::reader::{At, Reader, Required, twin};
use super::request::{RequestTable, pairs};
use crate::model::hook::{BodyTemplate, Method};
use crate::model::name::Text;

twin! {
    /// A query in GraphQL.
    pub struct GraphQlTable {
        /// The query. A template, though values are better told by `variables`.
        pub query: Required<String>,
        /// The variables. Their strings are templates; one that is a single expression keeps the type of its value.
        pub variables: Option<At<serde_json::Value>>,
        /// Which of the query's operations is meant.
        pub operation: Option<At<String>>,
    }
}

/// The one body that a table has; several, or one where there can be none, are reported.
pub fn body(table: &RequestTable, method: Option<Method>, reader: &mut Reader) -> Option<BodyTemplate> {
    let given = [
        ("body", table.body.as_ref().map(|at| at.span.clone())),
        ("form", table.form.as_ref().map(|at| at.span.clone())),
        ("graphql", table.graphql.as_ref().map(|at| at.span.clone())),
        ("text", table.text.as_ref().map(|at| at.span.clone())),
        ("xml", table.xml.as_ref().map(|at| at.span.clone())),
    ];
    let mut given = given.into_iter().filter_map(|(key, span)| Some((key, span?)));
    let (first, span) = given.next()?;
    if method == Some(Method::Get) {
        reader.error("get-with-body", span, "a GET request has no body").help =
            Some("write method = \"POST\"".to_owned());
    }
    if let Some((second, span)) = given.next() {
        let message = format!("a request has one body, and `{first}` is it: `{second}` is another");
        reader.error("two-bodies", span, message).help = Some(format!("leave out `{first}` or `{second}`"));
    }
    let raw =
        |text: &At<String>, content_type, reader: &Reader| BodyTemplate::Text { text: reader.text(text), content_type };
    if let Some(body) = &table.body {
        return body_text(body, reader).map(BodyTemplate::Json);
    }
    if table.form.is_some() {
        return Some(BodyTemplate::Form(pairs(table.form.as_ref(), reader)));
    }
    if let Some(text) = &table.text {
        return Some(raw(text, "text/plain; charset=utf-8", reader));
    }
    if let Some(xml) = &table.xml {
        return Some(raw(xml, "application/xml", reader));
    }
    let graphql = &table.graphql.as_ref()?.value;
    let variables = graphql.variables.as_ref().and_then(|at| {
        let text = body_text(at, reader)?;
        if !text.text.trim_start().starts_with('{') {
            reader.error("bad-body", at.span.clone(), "the variables of a query are a table").help =
                Some("variables = { from = \"{{ ds }}\" }".to_owned());
            return None;
        }
        Some(text)
    });
    let query = graphql.query.0.as_ref()?;
    let operation = graphql.operation.as_ref().map(|at| at.value.clone());
    Some(BodyTemplate::GraphQl { query: reader.text(query), variables, operation })
}

fn body_text(body: &At<serde_json::Value>, reader: &mut Reader) -> Option<Text> {
    let Some(text) = body.value.as_str() else {
        return Some(Text::new(body.value.to_string(), reader.origin(&body.span)));
    };
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let fault = reader.error("bad-body", body.span.clone(), format!("this body is not JSON: {error}"));
        fault.help = Some("templates stand inside of JSON strings; or write the body as a table".to_owned());
        return None;
    }
    Some(reader.text(&At { value: text.to_owned(), span: body.span.clone() }))
}

/// All templates of a body.
pub fn texts(body: &BodyTemplate) -> Vec<Text> {
    let mut texts = Vec::new();
    let mut strings = |json: &Text| {
        if let Ok(value) = serde_json::from_str(&json.text) {
            strings_of(&value, &mut |string| texts.push(Text::new(string, json.origin.clone())));
        }
    };
    match body {
        BodyTemplate::Json(json) => strings(json),
        BodyTemplate::GraphQl { query, variables, .. } => {
            if let Some(variables) = variables {
                strings(variables);
            }
            texts.push(query.clone());
        }
        BodyTemplate::Form(pairs) => texts.extend(pairs.iter().map(|(_, text)| text.clone())),
        BodyTemplate::Text { text, .. } => texts.push(text.clone()),
    }
    texts
}

pub(super) fn strings_of(value: &serde_json::Value, found: &mut impl FnMut(&str)) {
    match value {
        serde_json::Value::String(text) => found(text),
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings_of(item, found)),
        serde_json::Value::Object(members) => members.values().for_each(|member| strings_of(member, found)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}
