//! What a load step reads of other steps: the rows that one lands, or the table that one writes, wherever it lies.

use super::{Edge, Linker, StepId, names};
use crate::config::diagnostic::{Diagnostic, known_names};
use crate::config::load::LoadFrom;
use crate::config::step::StepDraft;
use crate::model::load::Load;
use crate::model::name::{Origin, TableName, Text};
use crate::model::pipeline::{Guard, Read, Step, Write};
use crate::model::source::{Source, TableRows};
use crate::time::Reach;

/// What the references of a load step come to.
#[derive(Default)]
pub struct Loaded {
    /// The connection that the rows lie in, where a step tells it.
    connection: Option<String>,
    /// Where they lie, where a step tells it.
    source: Option<FromStep>,
    /// The guard of rows from outside of the project.
    guard: Option<Guard>,
}

enum FromStep {
    /// In a collection, where another step lands them.
    Landed(crate::model::pipeline::Landing),
    /// In a table of this name; and whether a unit's rows are those that the step has written for it.
    Table(String, bool),
}

impl Loaded {
    /// Completes a step.
    pub fn put(self, load: &mut Load, guard: &mut Guard, reads: Vec<Read>) {
        if let Some(connection) = self.connection {
            load.rows.connection = connection;
        }
        if let Some(outside) = self.guard {
            *guard = outside;
        }
        match (self.source, &mut load.rows.source) {
            (Some(FromStep::Landed(landing)), source) => {
                load.by_unit = true;
                *source = Source::Landed(landing);
            }
            (Some(FromStep::Table(name, by_unit)), Source::Table(source)) => {
                load.by_unit = by_unit && load.rows.time.is_none();
                if let TableRows::Table { name: text, sharded, .. } = &mut source.rows {
                    *text = Text::new(name, text.origin.clone());
                    *sharded = false;
                }
            }
            _ => {}
        }
        load.reads = reads;
    }
}

impl Linker<'_> {
    /// Finds what a load step reads, and adds it to what its SQL refers to.
    pub(super) fn loaded(
        &self,
        draft: &StepDraft,
        reads: &mut Vec<Read>,
        edges: &mut Vec<Edge>,
        faults: &mut Vec<Diagnostic>,
    ) -> Option<Loaded> {
        let from = draft.from.as_ref()?;
        let Some(name) = &from.name else {
            if reads.is_empty() {
                return Some(self.outside_of_steps(draft, from, faults));
            }
            self.assert_dated(draft, from, faults);
            return Some(Loaded::default());
        };
        let Some(id) = self.step_of(from) else {
            if self.is_table(from) {
                return Some(self.outside_of_steps(draft, from, faults));
            }
            self.unknown_from(from, faults);
            return None;
        };
        let source = &self.drafts[self.pipeline].source;
        edges.push(Edge { to: id, at: source.origin(name.span.start), name: name.value.clone() });
        let step = self.drafts[id.0].steps[id.1].step.as_ref()?;
        let loaded = self.of_step(draft, from, id, step, faults)?;
        reads.push(Read {
            name: name.value.clone(),
            pipeline: self.drafts[id.0].pipeline.name.clone(),
            step: step.name.clone(),
            table: step.into.clone(),
            relation: self.place_of(id)?.1,
            reach: Reach::SAME,
        });
        Some(loaded)
    }

    /// Where a step's rows lie: the connection, and the table there.
    pub(super) fn place_of(&self, id: StepId) -> Option<(String, TableName)> {
        let draft = &self.drafts[id.0];
        let step = draft.steps[id.1].step.as_ref()?;
        Some(match step.target() {
            Some(target) => (target.connection.clone(), TableName::stored(&target.into.text)),
            None => (draft.pipeline.warehouse.clone(), step.into.clone()),
        })
    }

    /// The step that `from` means by its name, or by the table that it writes.
    fn step_of(&self, from: &LoadFrom) -> Option<StepId> {
        let name = &from.name.as_ref()?.value;
        let own = &self.drafts[self.pipeline].pipeline.warehouse;
        let connection = from.connection.as_ref().map_or(own, |at| &at.value);
        let writer = self.index.tables.get(&(connection.clone(), name.to_lowercase())).copied();
        let named = self.find(name).filter(|id| {
            from.connection.is_none() || self.place_of(*id).is_some_and(|(place, _)| place == *connection)
        });
        named.or(writer)
    }

    /// Whether `from` can only be something outside of the project.
    fn is_table(&self, from: &LoadFrom) -> bool {
        let Some(name) = &from.name else { return false };
        let of_pipeline =
            name.value.split_once('.').is_some_and(|(pipeline, _)| self.index.pipelines.contains_key(pipeline));
        from.connection.is_some() || (name.value.contains(['.', '/', '{']) && !of_pipeline)
    }

    fn outside_of_steps(&self, draft: &StepDraft, from: &LoadFrom, faults: &mut Vec<Diagnostic>) -> Loaded {
        self.assert_dated(draft, from, faults);
        self.assert_elsewhere(draft, from, None, faults);
        Loaded { guard: Some(from.guard), ..Loaded::default() }
    }

    /// Refuses to read the same rows for every unit.
    fn assert_dated(&self, draft: &StepDraft, from: &LoadFrom, faults: &mut Vec<Diagnostic>) {
        if from.dated {
            return;
        }
        let message = format!("nothing tells which rows of `{}` belong to which unit", draft.name.value);
        let help = "time_column = \"created_at\", the column that has a row's own time; {{ ds }} in its SQL or path; or write = \"full\" for all rows at once";
        faults.push(self.on(draft, from, "unused-window", message).help(help));
    }

    /// Refuses to bring rows from the pipeline's warehouse into itself, which a transform does.
    fn assert_elsewhere(
        &self,
        draft: &StepDraft,
        from: &LoadFrom,
        lies_in: Option<&str>,
        faults: &mut Vec<Diagnostic>,
    ) {
        let own = &self.drafts[self.pipeline].pipeline.warehouse;
        let given = from.connection.as_ref().map(|at| &*at.value);
        let elsewhere = draft.step.as_ref().is_none_or(|step| step.target().is_some());
        if elsewhere || lies_in.or(given).unwrap_or(own) != own {
            return;
        }
        let message =
            format!("the rows of `{}` lie in the pipeline's own warehouse, and would stay there", draft.name.value);
        let help =
            "connection = \"…\", where they are to go; a `[[transform]]` makes another table of them in the warehouse";
        faults.push(self.on(draft, from, "same-place", message).help(help));
    }

    fn of_step(
        &self,
        draft: &StepDraft,
        from: &LoadFrom,
        id: StepId,
        step: &Step,
        faults: &mut Vec<Diagnostic>,
    ) -> Option<Loaded> {
        let name = &from.name.as_ref()?.value;
        if let Some((key, span)) = from.outside_keys.iter().find(|(key, _)| *key != "time_column") {
            let message = format!("`{key}` is for rows from outside: what `{name}` has changed is known");
            let source = &self.drafts[self.pipeline].source;
            faults.push(Diagnostic::error("foreign-key", message).at(source, span.clone(), "").help("leave it out"));
        }
        self.assert_units(draft, from, id, step, faults);
        if let Some(landing) = step.landing() {
            let (connection, landing) = (Some(landing.connection.clone()), landing.clone());
            return Some(Loaded { connection, source: Some(FromStep::Landed(landing)), guard: None });
        }
        if step.target().is_some_and(|target| target.files.is_some()) {
            let message = format!("`{name}` writes files, which are for others to read");
            faults.push(self.on(draft, from, "files-of-step", message).help("load what that step loads"));
            return None;
        }
        let (connection, table) = self.place_of(id)?;
        self.assert_elsewhere(draft, from, Some(&connection), faults);
        let written = step.target().map_or_else(|| table.to_string(), |target| target.into.text.to_string());
        Some(Loaded { connection: Some(connection), source: Some(FromStep::Table(written, from.by_unit)), guard: None })
    }

    /// Refuses a step whose units are not those of this one.
    fn assert_units(&self, draft: &StepDraft, from: &LoadFrom, id: StepId, step: &Step, faults: &mut Vec<Diagnostic>) {
        let (own, other) = (&self.drafts[self.pipeline].pipeline, &self.drafts[id.0].pipeline);
        let name = from.name.as_ref().map(|name| &*name.value).unwrap_or_default();
        let whole = step.write == Write::Full || other.window.is_none();
        let dated = from.outside_keys.iter().any(|(key, _)| *key == "time_column");
        let lands = step.landing().is_some();
        let merges = |write: &Write| matches!(write, Write::Merge { .. });
        let fault = match (from.by_unit, whole) {
            (true, true) if lands || !dated => Some((
                format!(
                    "`{name}` {} as a whole, this step loads unit by unit",
                    if lands { "lands" } else { "is written" }
                ),
                if lands {
                    "write = \"full\""
                } else {
                    "write = \"full\"; or time_column = \"…\", which tells the unit of a row"
                },
            )),
            (false, false) if lands => {
                Some((format!("`{name}` lands unit by unit, this step loads a whole table"), "leave `write` out"))
            }
            (true, false) if dated => {
                Some((format!("`{name}` tells itself which rows are those of a unit"), "leave `time_column` out"))
            }
            (true, false)
                if own.window.as_ref().map(|window| window.grain)
                    != other.window.as_ref().map(|window| window.grain)
                    || own.timezone != other.timezone =>
            {
                Some((
                    format!("the units of `{name}` are others than those of this pipeline"),
                    "load it in a pipeline of the same grain and time zone; or write = \"full\"",
                ))
            }
            (true, false)
                if !lands && merges(&step.write) && !draft.step.as_ref().is_some_and(|own| merges(&own.write)) =>
            {
                Some((
                    format!("`{name}` merges, so that rows move from one of its units to another"),
                    "write = \"merge\" with the same keys; or write = \"full\"",
                ))
            }
            _ => None,
        };
        if let Some((message, help)) = fault {
            faults.push(self.on(draft, from, "other-units", message).help(help));
        }
    }

    fn unknown_from(&self, from: &LoadFrom, faults: &mut Vec<Diagnostic>) {
        let (Some(name), own) = (&from.name, &self.drafts[self.pipeline]) else { return };
        let other = name.value.split_once('.').and_then(|(pipeline, _)| self.index.pipelines.get(pipeline));
        if !own.sound || other.is_some_and(|other| !self.drafts[*other].sound) {
            return;
        }
        let message = format!("there is no step `{}` to load from", name.value);
        let help = known_names(&name.value, names(own));
        let help = help.map(|help| {
            format!("{help}; a table outside of the project has its schema in front, or its `from_connection` said")
        });
        faults.push(Diagnostic::error("unknown-ref", message).at(&own.source, name.span.clone(), "").maybe_help(help));
    }

    fn on(&self, draft: &StepDraft, from: &LoadFrom, code: &'static str, message: String) -> Diagnostic {
        let span = from.name.as_ref().map_or(draft.sql.clone(), |name| name.span.clone());
        Diagnostic::error(code, message).at(&self.drafts[self.pipeline].source, span, "")
    }

    /// Reports a reference to a table that lies elsewhere than where the statement runs.
    pub(super) fn check_place(
        &self,
        name: &str,
        at: &Origin,
        id: StepId,
        draft: &StepDraft,
        faults: &mut Vec<Diagnostic>,
    ) {
        let own = &self.drafts[self.pipeline].pipeline.warehouse;
        let runs_in = draft.from.as_ref().and_then(|from| from.connection.as_ref()).map_or(own, |at| &at.value);
        let Some((lies_in, _)) = self.place_of(id) else { return };
        if *runs_in != lies_in {
            let (message, help) = match &draft.from {
                Some(_) => (
                    format!("`{name}` lies in `{lies_in}`, this SQL runs in `{runs_in}`"),
                    "from_connection = \"…\" says where the SQL runs",
                ),
                None => (
                    format!("`{name}` lies in the warehouse `{lies_in}`, this pipeline's is `{own}`"),
                    "a transform reads the tables of its own warehouse",
                ),
            };
            faults.push(self.at("other-warehouse", message, name, at, draft).help(help));
        }
    }
}
