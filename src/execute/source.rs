//! From a step's templates to what is asked of its source: rendered for one unit or one window, and ready.

use std::sync::Arc;

use serde_json::Value;

use super::gear::Gear;
use crate::error::{Context, Error, Kind, Result};
use crate::extract::{HttpPull, Pull};
use crate::model::hook::{Request, RequestTemplate};
use crate::model::name::Text;
use crate::model::pipeline::Extract;
use crate::model::source::Source;
use crate::template::Scope;

/// What a step asks its source for, with what it downloads for the rows; nothing is sent yet.
pub(super) async fn pull_of(gear: &Gear, step: &Extract, scope: &Scope) -> Result<Arc<dyn Pull>> {
    let rows = rows_of(gear, step, scope).await?;
    match &step.download {
        Some(download) => super::files::with_download(gear, step, download, rows).await,
        None => Ok(rows),
    }
}

async fn rows_of(gear: &Gear, step: &Extract, scope: &Scope) -> Result<Arc<dyn Pull>> {
    match &step.source {
        Source::Http(http) => {
            let client = gear.client(&step.connection).await?;
            let request = request(gear, &http.request, client.url(), scope)?;
            stay_at_home(step, &request.url, client.url())?;
            Ok(Arc::new(HttpPull {
                request,
                client,
                auth: http.auth.clone(),
                paginate: http.paginate.clone(),
                records: http.records.clone(),
                retry: http.retry,
            }))
        }
        Source::Landed(landing) => Err(Error::internal(format!(
            "the rows in `{}` are read by their load step, unit by unit",
            landing.collection
        ))),
        Source::Collection(source) => Ok(Arc::new(super::collection::pull_of(gear, step, source, scope).await?)),
        Source::Files(files) => super::files::pull_of(gear, step, files, scope).await,
        Source::Table(table) => super::table::pull_of(gear, step, table, scope).await,
    }
}

/// What a step sends, for people; a source that is a file is not opened for that.
pub(super) async fn lines_of(gear: &Gear, step: &Extract, scope: &Scope) -> Result<Vec<String>> {
    match &step.source {
        Source::Table(table) => super::table::lines_of(gear, step, table, scope).await,
        _ => Ok(pull_of(gear, step, scope).await?.lines()),
    }
}

fn request(gear: &Gear, template: &RequestTemplate, base: &str, scope: &Scope) -> Result<Request> {
    let render = |text: &Text| gear.templates.render(text, scope);
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
    Ok(Request {
        method: template.method,
        url,
        params: pairs(&template.params)?,
        headers: pairs(&template.headers)?,
        body: template.body.as_ref().map(|body| json_body(gear, body, scope)).transpose()?,
    })
}

/// Refuses a hook of others that would carry the connection's credentials to another host.
fn stay_at_home(step: &Extract, url: &str, base: &str) -> Result<()> {
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
fn json_body(gear: &Gear, body: &Text, scope: &Scope) -> Result<String> {
    let doing = || format!("reading the request's body at {}", body.origin);
    let mut value = serde_json::from_str(&body.text).context(Kind::Config, doing)?;
    fill(&mut value, &|text| gear.templates.render_json(&Text::new(text, body.origin.clone()), scope))?;
    Ok(value.to_string())
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
