//! `[[deadline]]` of `haul.toml` and of pipelines: by when a day has to be there.

use std::sync::Arc;

use chrono::NaiveDate;

use super::diagnostic::{Diagnostic, Source, known_names};
use super::notify::DeadlineTable;
use super::reader::{At, Reader};
use crate::model::notify::{Deadline, Wanted};
use crate::model::pipeline::{Pipeline, Step};
use crate::time::Grain;

/// The deadlines of one file, before the pipelines that they are about are known.
pub struct DeadlineDraft {
    /// The pipeline whose file it is; none of `haul.toml`.
    pub pipeline: Option<String>,
    /// The file.
    pub source: Arc<Source>,
    /// What is written there.
    pub tables: Vec<At<DeadlineTable>>,
}

impl DeadlineDraft {
    /// What it has, which is left without any.
    pub fn taken(&mut self) -> Self {
        Self { pipeline: self.pipeline.clone(), source: self.source.clone(), tables: std::mem::take(&mut self.tables) }
    }
}

/// Resolves the deadlines of all files.
pub fn deadlines(drafts: &[DeadlineDraft], pipelines: &[Arc<Pipeline>], faults: &mut Vec<Diagnostic>) -> Vec<Deadline> {
    let mut deadlines = Vec::new();
    for draft in drafts {
        let mut reader = Reader::new(draft.source.clone());
        for at in &draft.tables {
            deadlines.extend(deadline(at, draft, pipelines, &mut reader));
        }
        faults.extend(reader.diagnostics);
    }
    deadlines
}

fn deadline(
    at: &At<DeadlineTable>,
    draft: &DeadlineDraft,
    pipelines: &[Arc<Pipeline>],
    reader: &mut Reader,
) -> Option<Deadline> {
    let table = &at.value;
    if let Some(other) = table.pipeline.as_ref().filter(|_| draft.pipeline.is_some()) {
        reader.error("foreign-key", other.span.clone(), "`pipeline` says nothing here").help =
            Some("a deadline in a pipeline's file is that pipeline's; those of others stand in haul.toml".to_owned());
        return None;
    }
    if let Some((_, step)) = table.table.as_ref().zip(table.step.as_ref()) {
        reader.error("two-subjects", step.span.clone(), "a deadline is about a `table` or about a `step`").help =
            Some("a step's table is the one that it writes".to_owned());
        return None;
    }
    let (pipeline, steps) = subject(at, draft, pipelines, reader)?;
    let by = table.by.0.as_ref()?;
    let deadline = Deadline {
        pipeline: pipeline.name.clone(),
        subject: match (&table.table, &table.step) {
            (Some(table), _) => table.value.clone(),
            (None, Some(step)) => format!("{}.{}", pipeline.name, step.value),
            (None, None) => pipeline.name.clone(),
        },
        tables: steps.iter().map(|step| step.into.clone()).collect(),
        by: by.value.0,
        tz: table.timezone.as_ref().map_or(pipeline.timezone, |zone| zone.value.0),
        days_back: table.days_back.as_ref().map_or(1, |days| u32::try_from(days.value).unwrap_or(u32::MAX)),
        calendar: pipeline.calendar(),
        begin: pipeline.window.as_ref().and_then(|window| window.begin),
    };
    if is_before_the_end(&deadline) {
        let message = format!("the day has not ended by {} then", by.value.0.format("%H:%M"));
        reader.error("bad-deadline", at.span.clone(), message).help =
            Some(format!("days_back = {} is the first day that can be there", deadline.days_back + 1));
        return None;
    }
    Some(deadline)
}

/// The pipeline and the steps that a deadline is about.
fn subject<'a>(
    at: &At<DeadlineTable>,
    draft: &DeadlineDraft,
    pipelines: &'a [Arc<Pipeline>],
    reader: &mut Reader,
) -> Option<(&'a Arc<Pipeline>, Vec<&'a Arc<Step>>)> {
    let table = &at.value;
    let named = draft.pipeline.as_deref().or(table.pipeline.as_ref().map(|at| at.value.as_str()));
    let pipeline = pipelines.iter().find(|pipeline| Some(pipeline.name.as_str()) == named);
    if let (None, Some(name)) = (pipeline, &table.pipeline) {
        let help = known_names(&name.value, pipelines.iter().map(|pipeline| pipeline.name.as_str()));
        let message = format!("there is no pipeline `{}`", name.value);
        reader.error("unknown-pipeline", name.span.clone(), message).help = help;
        return None;
    }
    let written = |pipeline: &'a Arc<Pipeline>| pipeline.steps.iter().filter(|step| step.writes());
    if let Some(name) = &table.table {
        let among = || pipelines.iter().filter(|one| pipeline.is_none_or(|pipeline| pipeline.name == one.name));
        for pipeline in among() {
            let steps: Vec<_> = written(pipeline).filter(|step| step.into.to_string() == name.value).collect();
            if !steps.is_empty() {
                return Some((pipeline, steps));
            }
        }
        let tables: Vec<String> = among().flat_map(written).map(|step| step.into.to_string()).collect();
        let help = known_names(&name.value, tables.iter().map(String::as_str));
        let message = format!("no step writes the table `{}`", name.value);
        reader.error("unknown-table", name.span.clone(), message).help = help;
        return None;
    }
    let Some(pipeline) = pipeline else {
        let message = "this deadline does not say what has to be there";
        reader.error("missing-key", at.span.clone(), message).help =
            Some("table = \"mart.ranking\", or pipeline = \"…\", and its step = \"…\"".to_owned());
        return None;
    };
    let Some(name) = &table.step else { return Some((pipeline, written(pipeline).collect())) };
    let step = written(pipeline).find(|step| step.name == name.value);
    if step.is_none() {
        let help = known_names(&name.value, written(pipeline).map(|step| step.name.as_str()).collect::<Vec<_>>());
        let message = format!("no step `{}` of `{}` writes a table", name.value, pipeline.name);
        reader.error("unknown-step", name.span.clone(), message).help = help;
    }
    Some((pipeline, vec![step?]))
}

/// Whether days are wanted before they have ended, in winter or in summer.
fn is_before_the_end(deadline: &Deadline) -> bool {
    let of_days = deadline.calendar.is_some_and(|calendar| calendar.grain == Grain::Day);
    let whole = Deadline { begin: None, ..deadline.clone() };
    let dates = [NaiveDate::from_ymd_opt(2024, 1, 16), NaiveDate::from_ymd_opt(2024, 7, 16)];
    of_days && dates.into_iter().flatten().any(|date| whole.wants(date) == Wanted::Units(Vec::new()))
}
