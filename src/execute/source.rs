//! From a step's templates to what is asked of its source: rendered for one unit or one window, and ready.

use std::sync::Arc;

use serde_json::Value;

use super::gear::Gear;
use crate::error::{Context, Error, Kind, Result};
use crate::extract::{Breaker, FanPull, HttpPull, ItemRequest, Pull};
use crate::model::fanout::{Added, ForEach, Over};
use crate::model::hook::{Request, RequestTemplate};
use crate::model::name::Text;
use crate::model::pipeline::Extract;
use crate::model::source::{HttpSource, Source};
use crate::template::{Item, Prepared, Scope};

/// What a step asks its source for, with what it downloads for the rows; nothing is sent yet.
pub(super) async fn pull_of(gear: &Gear, step: &Extract, scope: &Scope) -> Result<Arc<dyn Pull>> {
    let rows = rows_of(gear, step, scope).await?;
    match &step.download {
        Some(download) => super::files::with_download(gear, step, download, scope, rows).await,
        None => Ok(rows),
    }
}

async fn rows_of(gear: &Gear, step: &Extract, scope: &Scope) -> Result<Arc<dyn Pull>> {
    match &step.source {
        Source::Http(http) => {
            let client = gear.client(&step.connection).await?;
            let request = request(&Whole { gear, scope }, &http.request, client.url())?;
            stay_at_home(step, &request.url, client.url())?;
            Ok(Arc::new(HttpPull {
                gate: gear.gate(step),
                request,
                client,
                auth: http.auth.clone(),
                paginate: http.paginate.clone(),
                records: http.records.clone(),
                retry: http.retry,
            }))
        }
        Source::Files(files) => super::files::pull_of(gear, step, files, scope).await,
        Source::Table(table) => super::table::pull_of(gear, step, table, scope).await,
    }
}

/// What a step sends, for people; a source that is a file is not opened for that.
pub(super) async fn lines_of(gear: &Gear, step: &Extract, scope: &Scope) -> Result<Vec<String>> {
    match &step.source {
        Source::Table(table) => super::table::lines_of(gear, step, table, scope),
        _ => Ok(pull_of(gear, step, scope).await?.lines()),
    }
}

/// What a step asks for each of its items; nothing is sent yet.
pub(super) async fn fan_of(
    gear: &Gear,
    step: &Extract,
    http: &HttpSource,
    each: &ForEach,
    scope: &Scope,
    breaker: Arc<Breaker>,
) -> Result<FanPull> {
    let client = gear.client(&step.connection).await?;
    let nothing =
        Request { method: http.request.method, url: String::new(), params: vec![], headers: vec![], body: None };
    let (template, base, each) = (http.request.clone(), client.url().to_owned(), each.clone());
    let prepared = Prepared::new(Arc::clone(&gear.templates), scope, &each.name);
    let names = Added::names_of(each.add.iter().map(|(name, _)| name.as_str()));
    let owner = step.clone();
    let render = move |line: &str| {
        let item = Item::parse(line)?;
        let add = each.add.iter().map(|(_, text)| prepared.render_json(text, &item)).collect::<Result<Vec<_>>>()?;
        let request = request(&OfItem { prepared: &prepared, item: &item }, &template, &base)?;
        stay_at_home(&owner, &request.url, &base)?;
        Ok(ItemRequest { request, add: (!add.is_empty()).then(|| Added::new(&names, add.into_iter())) })
    };
    let pull = HttpPull {
        request: nothing,
        gate: gear.gate(step),
        client,
        auth: http.auth.clone(),
        paginate: http.paginate.clone(),
        records: http.records.clone(),
        retry: http.retry,
    };
    Ok(FanPull { pull, render: Arc::new(render), breaker })
}

/// All that decides which rows a fan-out brings, but its items: those are a snapshot beside its pages.
pub(super) fn fan_identity(http: &HttpSource, each: &ForEach, scope: &Scope) -> String {
    let add: Vec<_> = each.add.iter().map(|(name, text)| (name, &text.text)).collect();
    let texts = |pairs: &[(String, Text)]| -> Vec<(String, Arc<str>)> {
        pairs.iter().map(|(name, text)| (name.clone(), Arc::clone(&text.text))).collect()
    };
    let request = &http.request;
    let over = match &each.over {
        Over::Step(step) => format!("step {step}"),
        Over::Sql { text, connection } => format!("sql {} {connection:?}", text.text),
        Over::Values(values) => Value::from(values.to_vec()).to_string(),
        Over::File(path) => format!("file {}", path.display()),
    };
    format!(
        "fan {:?} {} {:?} {:?} {:?} {:?} {} {over} {} {add:?} {:?}",
        request.method,
        request.path.text,
        texts(&request.params),
        texts(&request.headers),
        request.body.as_ref().map(|body| &body.text),
        http.paginate,
        http.records,
        each.name,
        scope.vars,
    )
}

/// How the templates of a request are rendered.
trait Render {
    fn text(&self, text: &Text) -> Result<String>;
    fn json(&self, text: &Text) -> Result<Value>;
}

/// For a unit or a window as a whole.
struct Whole<'a> {
    gear: &'a Gear,
    scope: &'a Scope,
}

impl Render for Whole<'_> {
    fn text(&self, text: &Text) -> Result<String> {
        self.gear.templates.render(text, self.scope)
    }

    fn json(&self, text: &Text) -> Result<Value> {
        self.gear.templates.render_json(text, self.scope)
    }
}

/// For one item of it.
struct OfItem<'a> {
    prepared: &'a Prepared,
    item: &'a Item,
}

impl Render for OfItem<'_> {
    fn text(&self, text: &Text) -> Result<String> {
        self.prepared.render(text, self.item)
    }

    fn json(&self, text: &Text) -> Result<Value> {
        self.prepared.render_json(text, self.item)
    }
}

fn request(by: &impl Render, template: &RequestTemplate, base: &str) -> Result<Request> {
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
    Ok(Request {
        method: template.method,
        url,
        params: pairs(&template.params)?,
        headers: pairs(&template.headers)?,
        body: template.body.as_ref().map(|body| json_body(by, body)).transpose()?,
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
fn json_body(by: &impl Render, body: &Text) -> Result<String> {
    let doing = || format!("reading the request's body at {}", body.origin);
    let mut value = serde_json::from_str(&body.text).context(Kind::Config, doing)?;
    fill(&mut value, &|text| by.json(&Text::new(text, body.origin.clone())))?;
    Ok(value.to_string())
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
