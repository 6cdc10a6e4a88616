//! Replay: the tests of a project and of its hooks, run offline on recorded answers, and the recording of such answers.
//!
//! Nothing of the project is touched: state, stage and warehouse lie in a temporary folder, the clock stands still, and a
//! request that no cassette answers is an error. Connections are those that the cassettes tell of, without any secret.

mod bench;
mod compare;
mod expected;
mod given;
mod hooks;
mod infer;
mod record;
mod trial;
mod verify;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

pub use hooks::{record_hook, test_hook};
pub use record::{Recorded, record};
pub use trial::test;
pub use verify::{Proof, verify};

use crate::model::connection::{
    Auth, Connection, ConnectionKind, DuckDbConnection, FilesConnection, FilesPlace, HttpConnection,
};
use crate::model::pipeline::{Action, Pipeline, Project};
use crate::model::source::Source;

/// How one test ended.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The test's name.
    pub name: String,
    /// Whether all is as expected.
    pub passed: bool,
    /// What is not.
    pub faults: Vec<Fault>,
    /// What is worth a look and no fault.
    pub notes: Vec<String>,
    /// The files that were written with what came.
    pub written: Vec<String>,
}

/// One thing that is not as expected.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Fault {
    /// What, in one sentence.
    pub what: String,
    /// The rows that differ, where rows do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Rows that differ, laid out as a table: `-` is missing, `+` is unexpected, `~` has other values.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The names of the columns that are shown; the first one is the sign's.
    pub columns: Vec<String>,
    /// The cells; where a value differs, `expected → found`.
    pub rows: Vec<Vec<String>>,
    /// How many rows differ besides those that are shown.
    pub more: usize,
}

impl Report {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), passed: true, faults: Vec::new(), notes: Vec::new(), written: Vec::new() }
    }

    fn fault(&mut self, fault: Fault) {
        self.passed = false;
        self.faults.push(fault);
    }

    fn error(&mut self, error: &crate::error::Error) {
        let what = match error.details() {
            Some(detail) => format!("{}\n{}", error.chain(), detail.trim_end()),
            None => error.chain(),
        };
        let hint = error.hints().first().map(|hint| (*hint).to_owned());
        self.fault(Fault { what, difference: None, hint });
    }
}

/// A throwaway warehouse in a folder.
fn warehouse(name: &str, folder: &Path) -> Connection {
    let path = folder.join(format!("{name}.duckdb"));
    let settings = DuckDbConnection { path, memory_limit: "512MB".to_owned(), threads: Some(2) };
    Connection { name: name.to_owned(), kind: ConnectionKind::DuckDb(settings) }
}

/// Throwaway places for what is loaded out of the warehouse: a DuckDB file each, a folder for files.
fn elsewhere(project: &Project, folder: &Path) -> Vec<Connection> {
    let mut places: Vec<Connection> = Vec::new();
    for target in project.pipelines.iter().flat_map(|pipeline| &pipeline.steps).filter_map(|step| step.target()) {
        let name = &target.connection;
        let own = project.pipelines.iter().any(|pipeline| pipeline.warehouse == *name);
        if own || places.iter().any(|place| place.name == *name) {
            continue;
        }
        places.push(if target.files.is_some() {
            let path = folder.join(format!("{name}.files"));
            let settings = FilesConnection { url: path.display().to_string(), place: FilesPlace::Folder(path) };
            Connection { name: name.clone(), kind: ConnectionKind::Files(settings) }
        } else {
            warehouse(name, folder)
        });
    }
    places
}

/// An API that is replayed: its address, and nothing else of it.
fn api(name: &str, url: &str) -> Connection {
    let settings = HttpConnection {
        url: url.trim_end_matches('/').to_owned(),
        auth: Auth::None,
        headers: BTreeMap::new(),
        rate: None,
        max_concurrent: 4,
        timeout: std::time::Duration::from_mins(1),
        test_path: None,
        certificate: None,
        authorities: None,
    };
    Connection { name: name.to_owned(), kind: ConnectionKind::Http(settings) }
}

/// The connections of the steps that ask APIs.
fn asked_by(pipeline: &Pipeline) -> impl Iterator<Item = &str> {
    pipeline.steps.iter().filter_map(|step| match &step.action {
        Action::Extract(extract) if matches!(extract.source, Source::Http(_)) => Some(extract.connection.as_str()),
        _ => None,
    })
}
