//! From a step's templates to what is asked of its source: rendered for one unit or one window, and ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::gear::Gear;
use super::process;
use super::request::{OfItem, Whole, request, stay_at_home};
use crate::error::{Error, Result};
use crate::extract::cassette::Tape;
use crate::extract::{Breaker, Cache, FanPull, HttpPull, ItemRequest, Manner, Pull, Render, Report, Values};
use crate::model::answer::ReportTemplate;
use crate::model::cost::Billing;
use crate::model::fanout::{Added, ForEach, Over};
use crate::model::hook::{BodyTemplate, CursorPlace, PageStyle, Request, RequestTemplate};
use crate::model::name::Text;
use crate::model::pipeline::{Extract, Pipeline, Step};
use crate::model::source::{HttpSource, Source};
use crate::template::{Item, Prepared, Scope};

/// Under which terms a source is asked.
#[derive(Default)]
pub(super) struct Terms {
    /// Where the source wanted to go on when the step's last rows were loaded.
    pub bookmark: Option<String>,
    /// Under which terms its statements are sent, where they are billed.
    pub billing: Billing,
    /// Whose statements they are, for bills: pipeline and step.
    pub labels: BTreeMap<String, String>,
}

/// What a step asks its source for, with what it downloads for the rows; nothing is sent yet.
pub(super) async fn pull_of(
    gear: &Gear,
    (pipeline, step, extract): (&Pipeline, &Step, &Extract),
    scope: &Scope,
    terms: Terms,
) -> Result<Arc<dyn Pull>> {
    let labels = [("pipeline", &pipeline.name), ("step", &step.name)];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.clone())).into();
    let terms = Terms { labels, ..terms };
    let rows: Arc<dyn Pull> = match &extract.source {
        Source::Process(_) if gear.tape.as_ref().is_some_and(Tape::is_replay) => {
            return Err(Error::config(format!("`{}` runs a program, of which nothing is recorded", step.name))
                .hint("leave the step out of the test: steps = [...]"));
        }
        Source::Process(source) => {
            Arc::new(process::pull(gear, (pipeline, step, extract), source, scope, terms.bookmark)?)
        }
        _ => rows_of(gear, extract, scope, terms).await?,
    };
    match &extract.download {
        Some(download) => super::files::with_download(gear, extract, download, scope, rows).await,
        None => Ok(rows),
    }
}

async fn rows_of(gear: &Gear, step: &Extract, scope: &Scope, terms: Terms) -> Result<Arc<dyn Pull>> {
    match &step.source {
        Source::Http(http) => {
            let client = gear.client(&step.connection).await?;
            let base = client.url().to_owned();
            let request = request(&Whole { templates: &gear.templates, scope }, &http.request, &base)?;
            stay_at_home(step, &request.url, &base)?;
            Ok(Arc::new(HttpPull {
                gate: gear.gate(step),
                request,
                manner: Arc::new(manner(gear, http, &step.connection)),
                report: http.report.as_ref().map(|template| report(gear, step, template, &base, scope)),
                client,
                auth: http.auth.clone(),
                paginate: http.paginate.clone(),
                retry: http.retry,
            }))
        }
        Source::Landed(landing) => Err(Error::internal(format!(
            "the rows in `{}` are read by their load step, unit by unit",
            landing.collection
        ))),
        Source::Collection(source) => Ok(Arc::new(super::collection::pull_of(gear, step, source, scope).await?)),
        Source::Files(files) => super::files::pull_of(gear, step, files, scope).await,
        Source::Table(table) => super::table::pull_of(gear, step, table, scope, terms).await,
        Source::Process(_) => Err(Error::internal("a program is asked elsewhere")),
    }
}

/// What a step sends, for people; a source that is a file is not opened for that.
pub(super) async fn lines_of(
    gear: &Gear,
    (pipeline, step, extract): (&Pipeline, &Step, &Extract),
    scope: &Scope,
) -> Result<Vec<String>> {
    match &extract.source {
        Source::Table(table) => super::table::lines_of(gear, extract, table, scope),
        _ => Ok(pull_of(gear, (pipeline, step, extract), scope, Terms::default()).await?.lines()),
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
        manner: Arc::new(manner(gear, http, &step.connection)),
        report: None,
        retry: http.retry,
    };
    Ok(FanPull { pull, render: Arc::new(render), breaker })
}

/// All that decides which rows a fan-out brings, but its items: those are a snapshot beside its pages.
pub(super) fn fan_identity(fan: &FanPull, http: &HttpSource, each: &ForEach, scope: &Scope) -> String {
    let add: Vec<_> = each.add.iter().map(|(name, text)| (name, &text.text)).collect();
    let texts = |pairs: &[(String, Text)]| -> Vec<(String, Arc<str>)> {
        pairs.iter().map(|(name, text)| (name.clone(), Arc::clone(&text.text))).collect()
    };
    let body = |body: &BodyTemplate| match body {
        BodyTemplate::Json(text) | BodyTemplate::Text { text, .. } => vec![Arc::clone(&text.text)],
        BodyTemplate::Form(fields) => {
            texts(fields).into_iter().map(|(name, text)| format!("{name}={text}").into()).collect()
        }
        BodyTemplate::GraphQl { query, variables, .. } => {
            [Some(query), variables.as_ref()].into_iter().flatten().map(|text| Arc::clone(&text.text)).collect()
        }
    };
    let request = &http.request;
    let over = match &each.over {
        Over::Step(step) => format!("step {step}"),
        Over::Sql { text, connection } => format!("sql {} {connection:?}", text.text),
        Over::Values(values) => Value::from(values.to_vec()).to_string(),
        Over::File(path) => format!("file {}", path.display()),
    };
    format!(
        "fan {} {} {:?} {:?} {:?} {over} {} {add:?} {:?}",
        fan.pull.identity(),
        request.path.text,
        texts(&request.params),
        texts(&request.headers),
        request.body.as_ref().map(body),
        each.name,
        scope.vars,
    )
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
fn report(gear: &Gear, step: &Extract, template: &ReportTemplate, base: &str, scope: &Scope) -> Report {
    let render = |request_template: &RequestTemplate| -> Render {
        let (templates, scope) = (Arc::clone(&gear.templates), scope.clone());
        let (request_template, base, owner) = (request_template.clone(), base.to_owned(), step.clone());
        Arc::new(move |values: &Values| {
            let scope = Scope { report: Some(values.clone()), ..scope.clone() };
            let request = request(&Whole { templates: &templates, scope: &scope }, &request_template, &base)?;
            stay_at_home(&owner, &request.url, &base)?;
            Ok(request)
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
