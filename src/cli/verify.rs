//! `haul verify-window`: the promises of windowed transforms, proved on the rows that tests give.

use futures::stream::{self, StreamExt};
use serde_json::json;

use super::screen::{BAD, GOOD, counted};
use super::test::{tell_faults, tell_others};
use super::{Common, Screen, session};
use crate::config::{self, Severity};
use crate::error::{Error, Result};
use crate::model::trial::Trial;
use crate::replay;

/// Which transforms.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The pipeline; all that tests give rows to, by default
    pipeline: Option<String>,
    /// The transform; all of the pipeline, by default
    step: Option<String>,
}

pub(super) async fn verify(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    let project = session::offline(common, screen)?;
    if let Some(name) = &args.pipeline {
        let pipeline = session::pipeline(&project, name)?;
        if let Some(step) = args.step.as_ref().filter(|step| pipeline.step(step).is_none()) {
            return Err(Error::usage(format!("the pipeline `{name}` has no step `{step}`")));
        }
    }
    let all = config::trials(&project);
    let wanted = |_: &str, pipeline: Option<&str>| args.pipeline.is_none() || args.pipeline.as_deref() == pipeline;
    let (faults, others) = all.faults_of(wanted);
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        screen.tell(config::render(&faults, &all.sources, screen.colors()).trim_end());
        return Ok(2);
    }
    tell_others(&others, screen);
    let fixtures = fixtures(&all.trials, args.pipeline.as_deref());
    let windowed =
        |trial: &&&Trial| project.pipeline(&trial.pipeline).is_some_and(|pipeline| pipeline.window.is_some());
    let fixtures: Vec<&Trial> = fixtures.iter().filter(windowed).copied().collect();
    if fixtures.is_empty() {
        return Err(Error::usage("there are no rows to prove anything on").hint(
            "a test with [[given]] rows of a pipeline with a [window] is such a fixture; see docs/sql-tests.md",
        ));
    }
    let at_once = std::thread::available_parallelism().map_or(2, usize::from);
    let (project, step) = (&project, args.step.as_deref());
    let work = |trial| async move { (trial, replay::verify(project, trial, step).await) };
    let mut ended = stream::iter(fixtures.into_iter().map(work)).buffered(at_once);
    let mut proofs = Vec::new();
    while let Some((trial, found)) = ended.next().await {
        let found = found.map_err(|error| error.while_doing(format!("proving on {}", trial.name)))?;
        for proof in found {
            tell(&proof, screen);
            proofs.push(proof);
        }
    }
    let broken = proofs.iter().filter(|proof| !proof.broken.is_empty()).count();
    if proofs.is_empty() {
        return Err(Error::usage("none of the transforms is computed from the rows of a test"));
    }
    if screen.is_json() {
        screen.json(&json!({ "proved": proofs.len() - broken, "broken": broken, "steps": proofs }));
    } else {
        screen.data(&format!("{} proved, {broken} broken", proofs.len() - broken));
    }
    Ok(u8::from(broken > 0))
}

/// The tests that give rows, each ground once.
fn fixtures<'t>(trials: &'t [Trial], pipeline: Option<&str>) -> Vec<&'t Trial> {
    let mut found: Vec<(String, &Trial)> = Vec::new();
    for trial in trials.iter().filter(|trial| pipeline.is_none_or(|name| name == trial.pipeline)) {
        let given = trial.runs.first().map(|run| (&trial.given, &run.given, run.date, &trial.vars));
        let ground = format!("{} {given:?}", trial.pipeline);
        if !trial.given.is_empty() && !found.iter().any(|(known, _)| *known == ground) {
            found.push((ground, trial));
        }
    }
    found.into_iter().map(|(_, trial)| trial).collect()
}

fn tell(proof: &replay::Proof, screen: &Screen) {
    if screen.is_json() {
        return;
    }
    let units = counted(proof.units as u64, "unit");
    if proof.broken.is_empty() {
        let (kept, on) = (proof.kept.len(), &proof.fixture);
        screen.data(&format!("{GOOD}proved{GOOD:#}  {} on {on}: {kept} promises over {units}", proof.step));
    } else {
        screen.data(&format!("{BAD}broken{BAD:#}  {} on {}", proof.step, proof.fixture));
        tell_faults(&proof.broken, screen);
    }
}
