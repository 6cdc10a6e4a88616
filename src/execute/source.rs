//! From a step's templates to what is asked of its source: rendered for one unit or one window, and ready.

use std::sync::Arc;

use serde_json::Value;

use super::gear::Gear;
use crate::error::{Context, Error, Kind, Result};
use crate::extract::{Cache, HttpPull, Manner, Pull, Render, Report, Values};
use crate::model::answer::ReportTemplate;
use crate::model::hook::{Body, BodyTemplate, CursorPlace, PageStyle, Request, RequestTemplate};
use crate::model::name::Text;
use crate::model::pipeline::Extract;
use crate::model::source::{HttpSource, Source};
use crate::template::{Scope, Templates};

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
            let base = client.url().to_owned();
            let request = request(&gear.templates, &http.request, &base, scope)?;
            stay_at_home(step, &request.url, &base)?;
            Ok(Arc::new(HttpPull {
                request,
                manner: Arc::new(manner(gear, http, &step.connection)),
                report: http.report.as_ref().map(|template| report(gear, template, &base, scope)),
                client,
                auth: http.auth.clone(),
                paginate: http.paginate.clone(),
                retry: http.retry,
            }))
        }
        Source::Files(files) => super::files::pull_of(gear, step, files, scope).await,
        Source::Table(table) => super::table::pull_of(gear, step, table, scope).await,
    }
}

/// What a step says of answers, with the folders that they may need.
fn manner(gear: &Gear, http: &HttpSource, connection: &str) -> Manner {
    let state = &gear.project.state_dir;
    let cursor = match &http.paginate.by {
        PageStyle::Cursor { at: CursorPlace::Header(name), .. } => Some(name.clone()),
        _ => None,
    };
    let cache = || Cache { dir: state.join("cache").join(connection), headers: cursor.into_iter().collect() };
    Manner {
        form: http.form.clone(),
        records: http.records.clone(),
        rules: http.rules.clone(),
        scratch: Some(state.join("scratch")),
        cache: http.conditional.then(cache),
    }
}

/// A report whose later requests are rendered when it is known.
fn report(gear: &Gear, template: &ReportTemplate, base: &str, scope: &Scope) -> Report {
    let render = |request_template: &RequestTemplate| -> Render {
        let (templates, scope) = (Arc::clone(&gear.templates), scope.clone());
        let (request_template, base) = (request_template.clone(), base.to_owned());
        Arc::new(move |values: &Values| {
            let scope = Scope { report: Some(values.clone()), ..scope.clone() };
            request(&templates, &request_template, &base, &scope)
        })
    };
    Report {
        identity: format!("{template:?}"),
        values: template.values.clone(),
        poll: render(&template.poll),
        rule: template.rule.clone(),
        found: template.found.clone(),
        download: render(template.download.as_ref().unwrap_or(&template.poll)),
    }
}

fn request(templates: &Templates, template: &RequestTemplate, base: &str, scope: &Scope) -> Result<Request> {
    let render = |text: &Text| templates.render(text, scope);
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
        Some(BodyTemplate::Json(json)) => Some(Body::Json(json_body(templates, json, scope)?.to_string())),
        Some(BodyTemplate::Form(fields)) => Some(Body::Form(pairs(fields)?)),
        Some(BodyTemplate::Text { text, content_type }) => Some(Body::Text { text: render(text)?, content_type }),
        Some(BodyTemplate::GraphQl { query, variables, operation }) => {
            let mut members = serde_json::Map::new();
            members.insert("query".to_owned(), Value::from(render(query)?));
            if let Some(variables) = variables {
                members.insert("variables".to_owned(), json_body(templates, variables, scope)?);
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
fn json_body(templates: &Templates, body: &Text, scope: &Scope) -> Result<Value> {
    let doing = || format!("reading the request's body at {}", body.origin);
    let mut value = serde_json::from_str(&body.text).context(Kind::Config, doing)?;
    fill(&mut value, &|text| templates.render_json(&Text::new(text, body.origin.clone()), scope))?;
    Ok(value)
}

/// Replaces every string of a value.
fn fill(value: &mut Value, render: &impl Fn(&str) -> Result<Value>) -> Result<()> {
    match value {
        Value::String(text) => *value = render(text)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, render))?,
        Value::Object(members) => members.values_mut().try_for_each(|member| fill(member, render))?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}
