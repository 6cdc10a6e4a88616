//! The templates of a request, filled for a unit, a window or one item of a fan-out.

use serde_json::Value;

use crate::error::{Context, Error, Kind, Result};
use crate::model::hook::{Body, BodyTemplate, Request, RequestTemplate};
use crate::model::name::Text;
use crate::model::pipeline::Extract;
use crate::template::{Item, Prepared, Scope, Templates};

/// How the templates of a request are rendered.
pub(super) trait Fill {
    fn text(&self, text: &Text) -> Result<String>;
    fn json(&self, text: &Text) -> Result<Value>;
}

/// For a unit or a window as a whole.
pub(super) struct Whole<'a> {
    pub templates: &'a Templates,
    pub scope: &'a Scope,
}

impl Fill for Whole<'_> {
    fn text(&self, text: &Text) -> Result<String> {
        self.templates.render(text, self.scope)
    }

    fn json(&self, text: &Text) -> Result<Value> {
        self.templates.render_json(text, self.scope)
    }
}

/// For one item of it.
pub(super) struct OfItem<'a> {
    pub prepared: &'a Prepared,
    pub item: &'a Item,
}

impl Fill for OfItem<'_> {
    fn text(&self, text: &Text) -> Result<String> {
        self.prepared.render(text, self.item)
    }

    fn json(&self, text: &Text) -> Result<Value> {
        self.prepared.render_json(text, self.item)
    }
}

/// A request with its templates filled, below the connection's address.
pub(super) fn request(by: &impl Fill, template: &RequestTemplate, base: &str) -> Result<Request> {
    let render = |text: &Text| by.text(text);
    let pairs = |pairs: &[(String, Text)]| {
        pairs.iter().map(|(name, text)| Ok((name.clone(), render(text)?))).collect::<Result<Vec<_>>>()
    };
    let path = render(&template.path)?;
    let url = if path.starts_with("http://") || path.starts_with("https://") {
        path
    } else if path.is_empty() {
        base.to_owned()
    } else {
        format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'))
    };
    let body = match &template.body {
        None => None,
        Some(BodyTemplate::Json(json)) => Some(Body::Json(json_body(by, json)?.to_string())),
        Some(BodyTemplate::Form(fields)) => Some(Body::Form(pairs(fields)?)),
        Some(BodyTemplate::Text { text, content_type }) => Some(Body::Text { text: render(text)?, content_type }),
        Some(BodyTemplate::GraphQl { query, variables, operation }) => {
            let mut members = serde_json::Map::new();
            members.insert("query".to_owned(), Value::from(render(query)?));
            if let Some(variables) = variables {
                members.insert("variables".to_owned(), json_body(by, variables)?);
            }
            if let Some(operation) = operation {
                members.insert("operationName".to_owned(), Value::from(operation.as_str()));
            }
            Some(Body::GraphQl(Value::Object(members).to_string()))
        }
    };
    Ok(Request {
        method: template.method,
        url,
        params: pairs(&template.params)?,
        headers: pairs(&template.headers)?,
        body,
    })
}

/// Refuses a hook of others that would carry the connection's credentials to another host.
pub(super) fn stay_at_home(step: &Extract, url: &str, base: &str) -> Result<()> {
    let origin = |text: &str| url::Url::parse(text).map(|url| url.origin());
    if !step.foreign || matches!((origin(url), origin(base)), (Ok(one), Ok(other)) if one == other) {
        return Ok(());
    }
    let hook = step.hook.as_deref().unwrap_or_default();
    Err(Error::config(format!(
        "the hook `{hook}` asks {url}, which is not the host of the connection `{}`",
        step.connection
    ))
    .hint("a hook of others talks to its connection's own host only; let the step name a connection to the other one"))
}

/// Renders a body string by string, so that it is JSON whatever the values are.
fn json_body(by: &impl Fill, body: &Text) -> Result<Value> {
    let doing = || format!("reading the request's body at {}", body.origin);
    let mut value = serde_json::from_str(&body.text).context(Kind::Config, doing)?;
    fill(&mut value, &|text| by.json(&Text::new(text, body.origin.clone())))?;
    Ok(value)
}

/// Replaces every string of a value.
pub(super) fn fill(value: &mut Value, render: &impl Fn(&str) -> Result<Value>) -> Result<()> {
    match value {
        Value::String(text) => *value = render(text)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, render))?,
        Value::Object(members) => members.values_mut().try_for_each(|member| fill(member, render))?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}
