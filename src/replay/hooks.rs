//! The tests of hooks: a hook's own request, its recorded answers, and the rows that it makes of them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::NaiveTime;
use serde_json::{Map, Value};

use super::record::{pagination_headers, secrets_of_all};
use super::{Fault, Report, api, asked_by, compare, warehouse};
use crate::config;
use crate::connections::Connections;
use crate::error::{Context, Error, Kind, Result};
use crate::execute::{self, Gear};
use crate::extract::cassette::{self, Player, Recorder, Tape};
use crate::extract::{Page, Sink};
use crate::model::connection::ConnectionKind;
use crate::model::exchange::{CASSETTE_VERSION, CassetteHead};
use crate::model::manual::{HookTest, Manual};
use crate::model::pipeline::Project;
use crate::secret::Redactor;
use crate::time::{Clock, Instant};

/// The cassette of a hook, relative to the project's root.
fn cassette_of(hook: &str) -> PathBuf {
    Path::new("hooks").join(format!("{hook}.cassette.jsonl"))
}

/// Runs one test of a hook on its recorded answers.
pub async fn test_hook(project: &Project, hook: &Manual, test: &HookTest) -> Report {
    let mut report = Report::new(&format!("{}: {}", hook.name, test.name));
    match replayed(project, hook, test).await {
        Ok(came) => judge(test, &came, &mut report),
        Err(error) => report.error(&error),
    }
    report
}

/// Records the answers to all tests of a hook that have none of their own, through the project's own connections.
///
/// Returns the cassette's path, relative to the project's root, and the number of exchanges; nothing where no test needs it.
///
/// # Errors
/// The API gives no answer, or one that cannot be kept without a secret.
pub async fn record_hook(
    project: &Project,
    connections: &Connections,
    hook: &Manual,
    redactor: &Redactor,
) -> Result<Option<(PathBuf, usize)>> {
    let tests: Vec<&HookTest> = hook.tests.iter().filter(|test| test.answers.is_empty()).collect();
    if tests.is_empty() {
        return Ok(None);
    }
    secrets_of_all(connections)?;
    let wanted: Vec<String> = tests.iter().flat_map(|test| pagination_headers(&test.pipeline)).collect();
    let recorder = Arc::new(Recorder::new(redactor.clone(), wanted));
    let mut addresses = std::collections::BTreeMap::new();
    for test in tests {
        for name in asked_by(&test.pipeline) {
            if let ConnectionKind::Http(http) = connections.get(name)?.kind {
                addresses.insert(name.to_owned(), http.url);
            }
        }
        let folder = tempfile::tempdir().context(Kind::Storage, || "making a folder for a test".to_owned())?;
        let own = connections.with([warehouse("warehouse", folder.path())]);
        let came =
            bring(project, own, test, Tape::Record(Arc::clone(&recorder)), folder.path(), redactor.clone()).await?;
        if let (Some(error), None) = (came.failed, &test.fails) {
            return Err(error.while_doing(format!("recording the test `{}` of the hook `{}`", test.name, hook.name)));
        }
    }
    let head =
        CassetteHead { haul_cassette: CASSETTE_VERSION, of: hook.name.clone(), date: None, connections: addresses };
    let text = recorder.cassette(&head)?;
    let path = cassette_of(&hook.name);
    std::fs::write(project.root.join(&path), text).context(Kind::Storage, || format!("writing {}", path.display()))?;
    Ok(Some((path, recorder.len())))
}

async fn replayed(project: &Project, hook: &Manual, test: &HookTest) -> Result<Came> {
    let again = format!("`haul hooks test {} --record` records the answers anew", hook.name);
    let path = cassette_of(&hook.name);
    let (name, addresses, exchanges) = if test.answers.is_empty() {
        let name = path.display().to_string();
        let written = std::fs::read_to_string(project.root.join(&path)).map_err(|error| {
            Error::new(Kind::Storage, format!("reading the cassette {name}")).because(error).hint(again.clone())
        })?;
        let (head, exchanges) = cassette::read(&name, &written)?;
        (name, head.connections, exchanges)
    } else {
        (format!("the test `{}`", test.name), std::collections::BTreeMap::new(), test.answers.clone())
    };
    let folder = tempfile::tempdir().context(Kind::Storage, || "making a folder for a test".to_owned())?;
    let address = |name: &str| addresses.get(name).cloned().unwrap_or_else(|| config::test_address(name));
    let apis = asked_by(&test.pipeline).map(|name| api(name, &address(name)));
    let connections = Connections::offline(&project.root, std::collections::BTreeMap::new(), Redactor::default())
        .with(apis.chain([warehouse("warehouse", folder.path())]));
    let tape = Tape::Replay(Arc::new(Player::new(name, again, exchanges)));
    bring(project, connections, test, tape, folder.path(), Redactor::default()).await
}

/// What a hook made of its answers.
struct Came {
    rows: Vec<Value>,
    pages: u64,
    failed: Option<Error>,
}

async fn bring(
    project: &Project,
    connections: Connections,
    test: &HookTest,
    tape: Tape,
    folder: &Path,
    redactor: Redactor,
) -> Result<Came> {
    let project = Arc::new(Project { state_dir: folder.join("state"), ..project.clone() });
    let now: Instant = test.now.unwrap_or_else(|| test.date.and_time(NaiveTime::MIN).and_utc());
    let gear = Gear::open(project, connections, Clock::Fixed(now), redactor).await?.with_tape(tape);
    let sink = Arc::new(Collected::default());
    let brought = execute::bring(&gear, &test.pipeline, "test", test.date, Arc::clone(&sink) as Arc<dyn Sink>).await;
    gear.state.close().await;
    gear.close().await?;
    let mut pages = std::mem::take(&mut *sink.pages.lock().unwrap_or_else(PoisonError::into_inner));
    pages.sort_by_key(|(number, _)| *number);
    let count = pages.len() as u64;
    let rows = pages.into_iter().flat_map(|(_, rows)| rows).collect();
    Ok(Came { rows, pages: count, failed: brought.err() })
}

/// Keeps all rows, page by page.
#[derive(Default)]
struct Collected {
    pages: Mutex<Vec<(u64, Vec<Value>)>>,
}

impl Sink for Collected {
    fn put(&self, page: Page) -> Result<()> {
        let row = |range: &std::ops::Range<usize>| {
            serde_json::from_slice(&page.body[range.clone()]).context(Kind::Source, || "reading a row".to_owned())
        };
        let rows = page.rows.iter().map(row).collect::<Result<Vec<Value>>>()?;
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).push((page.entry.number, rows));
        Ok(())
    }

    fn retrying(&self, _reason: &str, _pause: Duration) {}
}

fn judge(test: &HookTest, came: &Came, report: &mut Report) {
    match (&came.failed, &test.fails) {
        (Some(error), None) => return report.error(error),
        (Some(error), Some(words)) if !error.chain().contains(words) => {
            let what = format!("it fails otherwise than expected: {}; expected is `{words}`", error.chain());
            return report.fault(Fault { what, ..Fault::default() });
        }
        (None, Some(words)) => {
            let what = format!("it does not fail; expected is `{words}`");
            return report.fault(Fault { what, ..Fault::default() });
        }
        _ => {}
    }
    let mut count = |what: &str, found: u64, expected: Option<u64>| {
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            let came = if found == 1 { what.to_owned() } else { format!("{what}s") };
            let what = format!("{found} {came} came, expected: {expected}");
            report.fault(Fault { what, ..Fault::default() });
        }
    };
    count("row", came.rows.len() as u64, test.rows);
    count("page", came.pages, test.pages);
    for (number, expected) in test.first.iter().enumerate() {
        match came.rows.get(number) {
            None => {
                let what = format!("there is no row {}", number + 1);
                report.fault(Fault { what, ..Fault::default() });
            }
            Some(row) => first(number + 1, expected, row, report),
        }
    }
}

/// Compares the members of a row that the test names.
fn first(number: usize, expected: &Map<String, Value>, row: &Value, report: &mut Report) {
    // As it lands: a row that is no object is one with the member `value`.
    let landed = if row.is_object() { row.clone() } else { serde_json::json!({ "value": row }) };
    let row = &landed;
    for (name, value) in expected {
        let member = |name: &str| name.split('.').try_fold(row, |value, part| value.get(part));
        let found = row.get(name).or_else(|| member(name)).cloned().unwrap_or_default();
        if !compare::same(value, &found, false) {
            let what = format!("row {number} has {name} = {found}, expected is {value}");
            report.fault(Fault { what, ..Fault::default() });
        }
    }
}
