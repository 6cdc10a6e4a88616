//! The graph of a pipeline's steps: which reads which, in which order they run, and which are selected.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::model::pipeline::Pipeline;
use crate::time::Reach;

/// The steps of a pipeline by their places, and what they read of each other.
#[derive(Debug)]
pub(super) struct Graph {
    /// For each step, the steps that it reads and the units of them that a unit reads.
    pub upstream: Vec<Vec<(usize, Reach)>>,
    /// For each step, the steps that it begins after without reading them.
    pub behind: Vec<Vec<usize>>,
    /// The steps in an order in which each stands behind what it reads; otherwise as in the file.
    pub order: Vec<usize>,
}

impl Graph {
    /// The graph of a pipeline.
    pub fn of(pipeline: &Pipeline) -> Result<Self> {
        let place = |name: &str| pipeline.steps.iter().position(|step| step.name == name);
        let upstream: Vec<Vec<(usize, Reach)>> = pipeline
            .steps
            .iter()
            .map(|step| {
                let own = step.action.reads().iter().filter(|read| read.pipeline == pipeline.name);
                own.filter_map(|read| Some((place(&read.step)?, read.reach))).collect()
            })
            .collect();
        let behind: Vec<Vec<usize>> =
            pipeline.steps.iter().map(|step| step.after.iter().filter_map(|name| place(name)).collect()).collect();
        let mut order: Vec<usize> = Vec::with_capacity(upstream.len());
        let mut placed = vec![false; upstream.len()];
        while order.len() < upstream.len() {
            let ready = (0..upstream.len()).find(|step| {
                let reads = upstream[*step].iter().all(|(upstream, _)| placed[*upstream]);
                !placed[*step] && reads && behind[*step].iter().all(|before| placed[*before])
            });
            let Some(step) = ready else { return Err(cycle(pipeline, &upstream, &placed)) };
            placed[step] = true;
            order.push(step);
        }
        Ok(Self { upstream, behind, order })
    }

    /// The steps that one reads, or begins after.
    fn before(&self, step: usize) -> impl Iterator<Item = usize> + '_ {
        self.upstream[step].iter().map(|(step, _)| *step).chain(self.behind[step].iter().copied())
    }

    /// Which steps are meant by `name`, `+name`, `name+` and `+name+`; all of them when nothing is selected.
    pub fn select(&self, pipeline: &Pipeline, select: &[String]) -> Result<Vec<bool>> {
        let count = self.upstream.len();
        let mut selected = vec![select.is_empty(); count];
        for word in select.iter().flat_map(|words| words.split(',')).map(str::trim) {
            let name = word.trim_start_matches('+').trim_end_matches('+');
            let Some(step) = pipeline.steps.iter().position(|step| step.name == name) else {
                return Err(unknown(pipeline, name));
            };
            selected[step] = true;
            if word.starts_with('+') {
                spread(step, &mut selected, |from| self.before(from).collect());
            }
            if word.ends_with('+') {
                spread(step, &mut selected, |from| {
                    (0..count).filter(|step| self.before(*step).any(|before| before == from)).collect()
                });
            }
        }
        Ok(selected)
    }
}

/// Selects all that can be reached from a step.
fn spread(step: usize, selected: &mut [bool], neighbours: impl Fn(usize) -> Vec<usize>) {
    let mut seen = vec![false; selected.len()];
    let mut waiting = VecDeque::from([step]);
    while let Some(from) = waiting.pop_front() {
        for next in neighbours(from) {
            if !std::mem::replace(&mut seen[next], true) {
                selected[next] = true;
                waiting.push_back(next);
            }
        }
    }
}

/// The error of steps that read each other in a circle, which it names.
fn cycle(pipeline: &Pipeline, upstream: &[Vec<(usize, Reach)>], placed: &[bool]) -> Error {
    let mut path: Vec<usize> = Vec::new();
    let mut step = placed.iter().position(|placed| !placed).unwrap_or_default();
    // Every step that could not be placed reads another such step: the walk comes back to where it was.
    while !path.contains(&step) {
        path.push(step);
        step = upstream[step].iter().map(|(read, _)| *read).find(|read| !placed[*read]).unwrap_or(step);
    }
    let start = path.iter().position(|seen| *seen == step).unwrap_or_default();
    let name = |step: &usize| format!("`{}`", pipeline.steps[*step].name);
    let mut names: Vec<String> = path[start..].iter().map(name).collect();
    names.push(name(&step));
    let at = &pipeline.steps[step].origin;
    Error::config(format!("{at}: the steps read each other in a circle: {}", names.join(" reads ")))
        .hint("a step reads its own table as `this`, and other steps without a way back")
}

fn unknown(pipeline: &Pipeline, name: &str) -> Error {
    let error = Error::usage(format!("`{}` has no step `{name}`", pipeline.name));
    let near = pipeline
        .steps
        .iter()
        .map(|step| (strsim::damerau_levenshtein(name, &step.name), step.name.as_str()))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 3)
        .min();
    if let Some((_, near)) = near {
        return error.hint(format!("did you mean `{near}`?"));
    }
    let names: Vec<&str> = pipeline.steps.iter().map(|step| step.name.as_str()).collect();
    error.hint(format!("its steps are {}", names.join(", ")))
}
