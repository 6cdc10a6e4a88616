//! The keys that say how runs go beside others: `priority`, `retry`, `timeout`, `pool`, and the project's `[pools]`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::known_names;
use super::file::{PipelineFile, ProjectFile};
use super::reader::{At, Read, Reader, Required};
use super::request::{RetryTable, retry_over};
use super::scalar::{Count, Entries, Names};
use super::value::TypedDuration;
use crate::model::steering::{Steering, StepSteering};

/// A whole number, which may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole(pub i64);

impl Read for Whole {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let Some(integer) = value.get_ref().as_integer() else {
            reader.wrong_type(value, "a whole number");
            return None;
        };
        // More digits than a number has here are out of every range that anybody asks for.
        Some(Self(i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i64::MAX)))
    }
}

impl JsonSchema for Whole {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Whole".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": -1000, "maximum": 1000 })
    }
}

/// The sizes of the project's pools.
pub fn pools(entries: Option<&At<Entries<Count>>>) -> BTreeMap<String, u32> {
    let entries = entries.map_or(&[][..], |entries| &entries.value.0);
    entries.iter().map(|(name, size)| (name.value.clone(), size.value.0.get())).collect()
}

/// Reads how the runs of a pipeline go beside others.
pub fn steering(file: &PipelineFile, project: &ProjectFile, reader: &mut Reader) -> Steering {
    let known = pools(project.pools.as_ref());
    let default = Steering::default();
    // What is wrong in haul.toml is told once, where it stands.
    let shared = retry_of(project, &mut Reader::new(reader.source.clone()));
    let mut steering = Steering {
        priority: priority(file.priority.as_ref(), reader),
        max_runs: file.max_runs.as_ref().map_or(default.max_runs, |at| at.value.0),
        retry: file.retry.as_ref().map_or(shared.retry, |at| retry_over(at, shared.retry, reader)),
        timeout: timeout(file.timeout.as_ref(), reader),
        pools: pool(file.pool.as_ref(), &known, reader).unwrap_or_default(),
        ..default
    };
    for at in file.extract.iter().flat_map(|at| &at.value) {
        step(&at.value.name, (at.value.pool.as_ref(), at.value.timeout.as_ref()), &known, &mut steering, reader);
    }
    for at in file.transform.iter().flat_map(|at| &at.value) {
        step(&at.value.name, (at.value.pool.as_ref(), at.value.timeout.as_ref()), &known, &mut steering, reader);
    }
    for at in file.load.iter().flat_map(|at| &at.value) {
        step(&at.value.name, (at.value.pool.as_ref(), at.value.timeout.as_ref()), &known, &mut steering, reader);
    }
    for at in file.run.iter().flat_map(|at| &at.value) {
        // Its `timeout` is its program's, which is killed by it.
        step(&at.value.name, (at.value.pool.as_ref(), None), &known, &mut steering, reader);
    }
    steering
}

/// What the project says of the runs of all its pipelines.
pub fn retry_of(project: &ProjectFile, reader: &mut Reader) -> Steering {
    let default = Steering::default();
    let retry =
        project.retry.as_ref().map_or(default.retry, |at: &At<RetryTable>| retry_over(at, default.retry, reader));
    Steering { retry, ..default }
}

fn step(
    name: &Required<String>,
    (own, limit): (Option<&At<Names>>, Option<&At<TypedDuration>>),
    known: &BTreeMap<String, u32>,
    steering: &mut Steering,
    reader: &mut Reader,
) {
    let said = StepSteering { pools: pool(own, known, reader), timeout: timeout(limit, reader) };
    if let Some(name) = name.0.as_ref().filter(|_| said != StepSteering::default()) {
        steering.steps.insert(name.value.clone(), said);
    }
}

/// The pools that are named; one that the project does not have is reported.
fn pool(names: Option<&At<Names>>, known: &BTreeMap<String, u32>, reader: &mut Reader) -> Option<Vec<String>> {
    let names = names?;
    let mut pools: Vec<String> = Vec::new();
    for name in &names.value.0 {
        if pools.contains(name) {
            let message = format!("the pool `{name}` is named twice");
            reader.error("duplicate-pool", names.span.clone(), message).help =
                Some("a task takes one slot of a pool".to_owned());
        } else if known.contains_key(name) {
            pools.push(name.clone());
        } else {
            let help = known_names(name, known.keys().map(String::as_str))
                .unwrap_or_else(|| format!("haul.toml says how many slots a pool has: `[pools]`, `{name} = 4`"));
            reader.error("unknown-pool", names.span.clone(), format!("there is no pool `{name}`")).help = Some(help);
        }
    }
    Some(pools)
}

fn priority(at: Option<&At<Whole>>, reader: &mut Reader) -> i32 {
    let Some(at) = at else { return 0 };
    i32::try_from(at.value.0).ok().filter(|priority| priority.abs() <= 1000).unwrap_or_else(|| {
        let message = format!("the priority {} lies outside of -1000 to 1000", at.value.0);
        reader.error("bad-priority", at.span.clone(), message).help =
            Some("0 is what a pipeline has without one; the higher number comes first".to_owned());
        0
    })
}

fn timeout(at: Option<&At<TypedDuration>>, reader: &mut Reader) -> Option<Duration> {
    let at = at?;
    if at.value.0.is_zero() {
        reader.error("bad-timeout", at.span.clone(), "nothing ends within no time").help =
            Some("without a `timeout` there is no limit".to_owned());
        return None;
    }
    Some(at.value.0)
}
