//! References between steps: who reads what, who writes where, and whether that goes in a circle.

mod load;

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::diagnostic::{Diagnostic, Severity, Source, Sources, known_names, nearest};
use super::inspect::mention;
use super::pipeline::PipelineDraft;
use super::step::StepDraft;
use crate::model::errand::Condition;
use crate::model::name::{Origin, TableName};
use crate::model::pipeline::{Action, Pipeline, Read, Step};
use crate::time::Reach;

/// A step by the numbers of its pipeline and of its place there.
type StepId = (usize, usize);

/// All steps of a project by their names, and all tables by who writes them.
struct Index {
    pipelines: HashMap<String, usize>,
    /// The names of each pipeline's steps, in their order.
    steps: Vec<Vec<String>>,
    tables: HashMap<(String, String), StepId>,
    /// The names of all tables and of all that lands elsewhere: the ledger tells them apart by their names alone.
    names: HashMap<String, (bool, StepId)>,
}

/// One reference of a step, with the place where it is written.
struct Edge {
    to: StepId,
    at: Origin,
    name: String,
}

/// Resolves all references, and reports those that lead nowhere, to two writers, or round in a circle.
pub fn link(mut drafts: Vec<PipelineDraft>, sources: &Sources, faults: &mut Vec<Diagnostic>) -> Vec<Arc<Pipeline>> {
    let index = Index::new(&drafts, faults);
    let mut edges: Vec<Vec<Vec<Edge>>> = Vec::with_capacity(drafts.len());
    for pipeline in 0..drafts.len() {
        let mut of_pipeline = Vec::with_capacity(drafts[pipeline].steps.len());
        for step in 0..drafts[pipeline].steps.len() {
            let linker = Linker { drafts: &drafts, index: &index, sources, pipeline };
            let (mut reads, read_tables, mut step_edges) = linker.resolve(&drafts[pipeline].steps[step], faults);
            let loaded = linker.loaded(&drafts[pipeline].steps[step], &mut reads, &mut step_edges, faults);
            let behind = linker.behind(&drafts[pipeline].steps[step], &mut step_edges, faults);
            linker.known_pipeline(&drafts[pipeline].steps[step], faults);
            of_pipeline.push(step_edges);
            if let Some(step) = &mut drafts[pipeline].steps[step].step {
                step.after = behind.iter().map(|read| read.step.clone()).collect();
            }
            let draft = drafts[pipeline].steps[step].step.as_mut();
            match draft.map(|step| (&mut step.action, &mut step.guard)) {
                Some((Action::Transform(transform), _)) => {
                    transform.reads = reads;
                    transform.sources = read_tables;
                }
                Some((Action::Extract(extract), _)) => {
                    if let Some(for_each) = extract.source.for_each_mut() {
                        for_each.reads = reads;
                    }
                }
                // It is not done again for what has not changed.
                Some((Action::Run(command), _)) => {
                    command.reads = behind.into_iter().filter(|read| !read.table.schema.starts_with("wait:")).collect();
                }
                Some((Action::Wait(_), _)) => {}
                Some((Action::Load(load), guard)) => loaded.unwrap_or_default().put(load, guard, reads),
                None => {}
            }
        }
        edges.push(of_pipeline);
    }
    cycles(&drafts, &edges, sources, faults);
    let finish = |draft: PipelineDraft| {
        let steps = draft.steps.into_iter().filter_map(|step| step.step).map(Arc::new).collect();
        Arc::new(Pipeline { steps, ..draft.pipeline })
    };
    drafts.into_par_iter().map(finish).collect()
}

impl Index {
    fn new(drafts: &[PipelineDraft], faults: &mut Vec<Diagnostic>) -> Self {
        let (pipelines, steps) = (drafts.len(), drafts.iter().map(|draft| draft.steps.len()).sum());
        let mut index = Self {
            pipelines: HashMap::with_capacity(pipelines),
            steps: Vec::with_capacity(pipelines),
            tables: HashMap::with_capacity(steps),
            names: HashMap::with_capacity(steps),
        };
        for (number, draft) in drafts.iter().enumerate() {
            for (place, step) in draft.steps.iter().enumerate() {
                index.written(drafts, (number, place), step, faults);
            }
            index.pipelines.insert(draft.pipeline.name.clone(), number);
            index.steps.push(draft.steps.iter().map(|step| step.name.value.clone()).collect());
        }
        index
    }

    fn step(&self, pipeline: &str, step: &str) -> Option<StepId> {
        let number = *self.pipelines.get(pipeline)?;
        let place = self.steps.get(number)?.iter().position(|name| name == step)?;
        Some((number, place))
    }

    /// Remembers who writes a table, and reports a second writer.
    fn written(&mut self, drafts: &[PipelineDraft], id: StepId, draft: &StepDraft, faults: &mut Vec<Diagnostic>) {
        let Some(step) = &draft.step else { return };
        let key = match (step.landing(), step.target()) {
            (Some(landing), _) => (landing.connection.clone(), landing.collection.to_lowercase()),
            (None, Some(target)) => (target.connection.clone(), target.into.text.to_lowercase()),
            (None, None) => (drafts[id.0].pipeline.warehouse.clone(), step.into.to_string().to_lowercase()),
        };
        let lands = step.landing().is_some() || step.target().is_some();
        let (other, holder) = *self.names.entry(step.into.to_string().to_lowercase()).or_insert((lands, id));
        let mixed = (other != lands).then_some(holder);
        let Some(first) = mixed.or_else(|| self.tables.get(&key).copied()) else {
            self.tables.insert(key, id);
            return;
        };
        let (own, other) = (&drafts[id.0], &drafts[first.0]);
        let earlier = &other.steps[first.1];
        let message = format!(
            "`{}` is written by two steps: {}.{} and {}.{}",
            step.into, other.pipeline.name, earlier.name.value, own.pipeline.name, draft.name.value
        );
        faults.push(
            Diagnostic::error("two-writers", message)
                .at(&own.source, draft.into.clone(), "the second writer")
                .at(&other.source, earlier.into.clone(), "the first writer")
                .help("every table is written by one step; give this one another `into`"),
        );
    }
}

struct Linker<'a> {
    drafts: &'a [PipelineDraft],
    index: &'a Index,
    sources: &'a Sources,
    pipeline: usize,
}

impl Linker<'_> {
    fn resolve(&self, draft: &StepDraft, faults: &mut Vec<Diagnostic>) -> (Vec<Read>, Vec<TableName>, Vec<Edge>) {
        let (mut reads, mut tables, mut edges) = (Vec::<Read>::new(), Vec::new(), Vec::new());
        let Some(inspection) = &draft.inspection else { return (reads, tables, edges) };
        for (name, at) in &inspection.refs {
            if reads.iter().any(|read| read.name == *name) {
                continue;
            }
            let Some(id) = self.find(name) else {
                self.unknown(name, at, draft, faults);
                continue;
            };
            edges.push(Edge { to: id, at: at.clone(), name: name.clone() });
            let (pipeline, target) = (&self.drafts[id.0], &self.drafts[id.0].steps[id.1]);
            let Some(step) = &target.step else { continue };
            if !step.writes() {
                let message = format!("`{name}` is a `[[{}]]` step, which writes no table", step.action.word());
                let help = format!("after = [\"{name}\"] lets this step begin after it");
                faults.push(self.at("no-table", message, name, at, draft).help(help));
                continue;
            }
            if step.landing().is_some() {
                let message = format!("`{name}` lands in a collection, which no SQL of the warehouse can read");
                let help = "read the table of the `[[load]]` step that brings it in";
                faults.push(self.at("landed-ref", message, name, at, draft).help(help));
            }
            self.check_place(name, at, id, draft, faults);
            let Some((_, relation)) = self.place_of(id) else { continue };
            reads.push(Read {
                name: name.clone(),
                pipeline: pipeline.pipeline.name.clone(),
                step: step.name.clone(),
                table: step.into.clone(),
                relation,
                reach: reach_of(name, draft),
            });
        }
        for (name, at) in &inspection.sources {
            match TableName::parse(name) {
                Ok(table) if !tables.contains(&table) => {
                    self.check_source(&table, name, at, draft, faults);
                    tables.push(table);
                }
                Ok(_) => {}
                Err(error) => {
                    let help = error.hints().first().map(|hint| (*hint).to_owned());
                    faults.push(self.at("bad-table-name", error.to_string(), name, at, draft).maybe_help(help));
                }
            }
        }
        (reads, tables, edges)
    }

    /// The steps of `after`.
    fn behind(&self, draft: &StepDraft, edges: &mut Vec<Edge>, faults: &mut Vec<Diagnostic>) -> Vec<Read> {
        let own = &self.drafts[self.pipeline];
        let Some(after) = &draft.after else { return Vec::new() };
        let mut reads = Vec::new();
        for name in &after.value.0 {
            let Some(id) = self.index.step(&own.pipeline.name, name) else {
                if own.sound {
                    let fault = Diagnostic::error("unknown-step", format!("there is no step `{name}` to begin after"));
                    let help = known_names(name, names(own).filter(|known| *known != draft.name.value));
                    faults.push(fault.at(&own.source, after.span.clone(), "").maybe_help(help));
                }
                continue;
            };
            edges.push(Edge { to: id, at: own.source.origin(after.span.start), name: name.clone() });
            let Some(step) = &own.steps[id.1].step else { continue };
            reads.push(Read {
                name: name.clone(),
                pipeline: own.pipeline.name.clone(),
                step: step.name.clone(),
                table: step.into.clone(),
                relation: step.into.clone(),
                reach: Reach::SAME,
            });
        }
        reads
    }

    /// Reports a wait for a pipeline that does not exist, or for its own.
    fn known_pipeline(&self, draft: &StepDraft, faults: &mut Vec<Diagnostic>) {
        let Some(Step { action: Action::Wait(wait), .. }) = &draft.step else { return };
        let Condition::Pipeline(name) = &wait.condition else { return };
        let own = &self.drafts[self.pipeline];
        let others =
            || self.drafts.iter().map(|draft| draft.pipeline.name.as_str()).filter(|name| *name != own.pipeline.name);
        if own.pipeline.name == *name || !self.index.pipelines.contains_key(name) {
            let message = if own.pipeline.name == *name {
                "a pipeline that waits for itself waits for ever".to_owned()
            } else {
                format!("there is no pipeline `{name}`")
            };
            let fault = Diagnostic::error("unknown-pipeline", message).at(&own.source, draft.sql.clone(), "");
            faults.push(fault.maybe_help(known_names(name, others().collect::<Vec<_>>())));
        }
    }

    /// The step that a reference means: one of the same pipeline, or `pipeline.step`.
    fn find(&self, name: &str) -> Option<StepId> {
        let own = &self.drafts[self.pipeline].pipeline.name;
        self.index.step(own, name).or_else(|| {
            let (pipeline, step) = name.split_once('.')?;
            self.index.step(pipeline, step)
        })
    }

    fn unknown(&self, name: &str, at: &Origin, draft: &StepDraft, faults: &mut Vec<Diagnostic>) {
        let own = &self.drafts[self.pipeline];
        let other = name.split_once('.').and_then(|(pipeline, _)| self.index.pipelines.get(pipeline));
        // A step that could not be read may be the one that is meant; its file has its own fault.
        if !own.sound || other.is_some_and(|&other| !self.drafts[other].sound) {
            return;
        }
        let help = if let Some((pipeline, step)) = name.split_once('.') {
            match other {
                Some(&other) => known_names(step, names(&self.drafts[other])),
                None => known_names(pipeline, self.drafts.iter().map(|draft| draft.pipeline.name.as_str())),
            }
        } else {
            let near = nearest(name, names(own)).map(|near| format!("did you mean `{near}`?"));
            near.or_else(|| self.elsewhere(name)).or_else(|| known_names(name, names(own)))
        };
        let message = match &draft.step {
            Some(Step { action: Action::Extract(_), .. }) => format!("there is no step `{name}`"),
            _ => format!("ref('{name}') names no step"),
        };
        faults.push(self.at("unknown-ref", message, name, at, draft).maybe_help(help));
    }

    /// The hint for a name that is a step of another pipeline.
    fn elsewhere(&self, name: &str) -> Option<String> {
        let mut owners = self.drafts.iter().filter(|draft| self.index.step(&draft.pipeline.name, name).is_some());
        owners
            .next()
            .map(|owner| format!("a step of another pipeline is named with it: ref('{}.{name}')", owner.pipeline.name))
    }

    fn check_source(
        &self,
        table: &TableName,
        name: &str,
        at: &Origin,
        draft: &StepDraft,
        faults: &mut Vec<Diagnostic>,
    ) {
        let own = &self.drafts[self.pipeline].pipeline;
        let Some(&writer) = self.index.tables.get(&(own.warehouse.clone(), table.to_string().to_lowercase())) else {
            return;
        };
        let (pipeline, step) = (&self.drafts[writer.0], &self.drafts[writer.0].steps[writer.1].name.value);
        let path = if writer.0 == self.pipeline { step.clone() } else { format!("{}.{step}", pipeline.pipeline.name) };
        let message = format!("`{table}` is a table of this project: as a source its changes are not followed");
        let mut fault = self.at("source-of-own-table", message, name, at, draft);
        fault.severity = Severity::Warning;
        faults.push(fault.help(format!("ref('{path}')")));
    }

    fn at(&self, code: &'static str, message: String, name: &str, at: &Origin, draft: &StepDraft) -> Diagnostic {
        let (source, span) = place(name, at, &self.drafts[self.pipeline].source, draft, self.sources);
        Diagnostic::error(code, message).at(source, span, "")
    }
}

/// Where a name is mentioned; where its file is not known, the step's `sql` key.
fn place<'a>(
    name: &str,
    at: &Origin,
    file: &'a Source,
    draft: &StepDraft,
    sources: &'a Sources,
) -> (&'a Source, std::ops::Range<usize>) {
    match sources.get(at.file.as_path()) {
        Some(source) => (source, mention(source, at.line, at.column, name)),
        None => (file, draft.sql.clone()),
    }
}

fn names(draft: &PipelineDraft) -> impl Iterator<Item = &str> + Clone {
    draft.steps.iter().map(|step| step.name.value.as_str())
}

fn reach_of(name: &str, draft: &StepDraft) -> Reach {
    let named = draft.reach.each.iter().find(|(read, _)| read.value == name).and_then(|(_, reach)| *reach);
    named.or(draft.reach.all).unwrap_or(Reach::SAME)
}

/// Finds circles of references by a walk in depth without recursion; each step is entered once.
fn cycles(drafts: &[PipelineDraft], edges: &[Vec<Vec<Edge>>], sources: &Sources, faults: &mut Vec<Diagnostic>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks: Vec<Vec<Mark>> = edges.iter().map(|steps| vec![Mark::New; steps.len()]).collect();
    for pipeline in 0..edges.len() {
        for step in 0..edges[pipeline].len() {
            if marks[pipeline][step] != Mark::New {
                continue;
            }
            let mut walk: Vec<(StepId, usize)> = vec![((pipeline, step), 0)];
            marks[pipeline][step] = Mark::Open;
            while let Some((id, next)) = walk.last_mut() {
                let at = *id;
                let Some(edge) = edges[at.0][at.1].get(*next) else {
                    marks[at.0][at.1] = Mark::Done;
                    walk.pop();
                    continue;
                };
                *next += 1;
                match marks[edge.to.0][edge.to.1] {
                    Mark::New => {
                        marks[edge.to.0][edge.to.1] = Mark::Open;
                        walk.push((edge.to, 0));
                    }
                    Mark::Open => {
                        let start = walk.iter().position(|(id, _)| *id == edge.to).unwrap_or(0);
                        let circle: Vec<StepId> = walk[start..].iter().map(|(id, _)| *id).collect();
                        faults.push(cycle_fault(&circle, edge, drafts, sources));
                    }
                    Mark::Done => {}
                }
            }
        }
    }
}

fn cycle_fault(circle: &[StepId], closing: &Edge, drafts: &[PipelineDraft], sources: &Sources) -> Diagnostic {
    let within_one = circle.iter().all(|id| id.0 == circle[0].0);
    let name = |id: &StepId| {
        let step = &drafts[id.0].steps[id.1].name.value;
        if within_one { step.clone() } else { format!("{}.{step}", drafts[id.0].pipeline.name) }
    };
    let last = circle[circle.len() - 1];
    let draft = &drafts[last.0].steps[last.1];
    let (source, span) = place(&closing.name, &closing.at, &drafts[last.0].source, draft, sources);
    if circle.len() == 1 {
        return Diagnostic::error("cycle", format!("`{}` reads itself", name(&last)))
            .at(source, span, "")
            .help("the rows that are already in the step's own table are {{ this }}");
    }
    // Written in the order in which data would have to flow.
    let path: Vec<String> = circle.iter().rev().chain(circle.last()).map(name).collect();
    Diagnostic::error("cycle", format!("these steps wait for each other: {}", path.join(" -> ")))
        .at(source, span, "this reference closes the circle")
        .help("no step can read what is computed from its own rows; use source() for rows of an earlier run")
}
