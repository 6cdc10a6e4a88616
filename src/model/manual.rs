//! What a hook file tells of itself: its manual, its resources, its tests, and where it was taken from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::exchange::Exchange;
use super::name::Origin;
use super::parameter::Parameter;
use super::pipeline::Pipeline;
use crate::time::Instant;

/// A hook as people look it up.
#[derive(Debug, Clone, Serialize)]
pub struct Manual {
    /// The name of its file without the ending.
    pub name: String,
    /// The file, relative to the project's root.
    pub file: PathBuf,
    /// Which API it describes, in one line.
    pub description: Option<String>,
    /// More about it, in Markdown.
    pub docs: Option<String>,
    /// Where the API or the hook is at home.
    pub homepage: Option<String>,
    /// The license of the hook's text.
    pub license: Option<String>,
    /// The hook's own version.
    pub version: Option<String>,
    /// The connection that it uses where a step names no other.
    pub connection: Option<String>,
    /// What that connection has to say.
    pub needs: Vec<String>,
    /// What a step may set.
    pub parameters: Vec<Parameter>,
    /// The parts of the API, where the hook has several.
    pub resources: Vec<Resource>,
    /// What columns mean, or their declared types.
    pub columns: BTreeMap<String, String>,
    /// Where the hook was taken from, if it is not the project's own.
    pub source: Option<Pin>,
    /// The names of its tests.
    #[serde(serialize_with = "names")]
    pub tests: Vec<HookTest>,
}

fn names<S: serde::Serializer>(tests: &[HookTest], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tests.iter().map(|test| &test.name))
}

/// One part of an API.
#[derive(Debug, Clone, Serialize)]
pub struct Resource {
    /// The name that a step uses.
    pub name: String,
    /// What it has.
    pub description: Option<String>,
}

/// Where a hook of others was taken from, as `hooks.lock` keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The path of a file or the address of a git repository.
    pub source: String,
    /// The file in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The revision that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The commit that it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether somebody has changed it here since, and accepted that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
    /// SHA-256 of each of its files, by the path relative to the project's root.
    pub files: BTreeMap<String, String>,
}

/// One `[[test]]` of a hook.
#[derive(Debug, Clone)]
pub struct HookTest {
    /// Its name.
    pub name: String,
    /// Where it begins in its file.
    pub origin: Origin,
    /// A pipeline with the one step that is tested.
    pub pipeline: Arc<Pipeline>,
    /// The logical date.
    pub date: NaiveDate,
    /// The instant at which the clock stands still; midnight of the date by default.
    pub now: Option<Instant>,
    /// The answers that stand in the hook's file; without any, those of its cassette.
    pub answers: Vec<Exchange>,
    /// How many rows come.
    pub rows: Option<u64>,
    /// In how many pages.
    pub pages: Option<u64>,
    /// The first rows; members that are not named are not compared.
    pub first: Vec<Map<String, Value>>,
    /// A text of the error that is expected instead of rows.
    pub fails: Option<String>,
}
