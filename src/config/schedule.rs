//! `[schedule]`: when a pipeline runs by itself.

use std::collections::{HashMap, HashSet};

use super::diagnostic::{Diagnostic, known_names};
use super::pipeline::PipelineDraft;
use super::reader::{At, Reader, Span, twin};
use super::scalar::Count;
use super::value::{Crons, Moment, TypedDuration, Zone};
use crate::model::schedule::{Fold, Gap, Missed, Overlap, Schedule, When};
use crate::time::{Cron, Instant, Tz};

twin! {
    /// When a pipeline runs by itself: by `cron`, `every` so often, or `after` another pipeline.
    pub struct ScheduleTable {
        /// Five fields: minute, hour, day of month, month, day of week. Or a list of such expressions.
        pub cron: Option<At<Crons>>,
        /// The time between two runs, whatever the clocks say: `"6h"`.
        pub every: Option<At<TypedDuration>>,
        /// An instant that `every` is counted from. Default 1970-01-01T00:00:00Z.
        pub anchor: Option<At<Moment>>,
        /// Another pipeline: a run follows each of its days that is done.
        pub after: Option<At<String>>,
        /// The zone of the cron expressions. Default: the pipeline's.
        pub timezone: Option<At<Zone>>,
        /// What happens to times that do not exist, since the clocks are put forward over them. Default `"run_after"`; `"skip"`
        /// for an expression that names all 24 hours.
        pub gap: Option<At<Gap>>,
        /// What happens to times that come twice, since the clocks are put back. Default `"first"`; `"both"` for an
        /// expression that names all 24 hours.
        pub fold: Option<At<Fold>>,
        /// What happens to occurrences that passed while nothing ran. Default `"widen"`.
        pub missed: Option<At<Missed>>,
        /// How many of these are made up at the most, the latest ones. Default: all with `"widen"`, 100 with `"each"`.
        pub missed_limit: Option<At<Count>>,
        /// What happens when the run before is still under way. Default `"queue"`.
        pub overlap: Option<At<Overlap>>,
        /// Whether the schedule stands still. Its occurrences are recorded as skipped. Default false.
        pub paused: Option<At<bool>>,
    }
}

/// Reads when a pipeline runs by itself.
pub fn schedule(at: &At<ScheduleTable>, timezone: Tz, reader: &mut Reader) -> Option<Schedule> {
    let table = &at.value;
    let when = when(at, reader);
    foreign_keys(table, when.as_ref(), reader);
    Some(Schedule {
        when: when?,
        timezone: table.timezone.as_ref().map_or(timezone, |zone| zone.value.0),
        gap: table.gap.as_ref().map(|gap| gap.value),
        fold: table.fold.as_ref().map(|fold| fold.value),
        missed: table.missed.as_ref().map(|missed| missed.value).unwrap_or_default(),
        missed_limit: table.missed_limit.as_ref().map(|limit| limit.value.0),
        overlap: table.overlap.as_ref().map(|overlap| overlap.value).unwrap_or_default(),
        paused: table.paused.as_ref().is_some_and(|paused| paused.value),
    })
}

fn when(at: &At<ScheduleTable>, reader: &mut Reader) -> Option<When> {
    let table = &at.value;
    let given: [(&str, Option<&Span>); 3] = [
        ("cron", table.cron.as_ref().map(|at| &at.span)),
        ("every", table.every.as_ref().map(|at| &at.span)),
        ("after", table.after.as_ref().map(|at| &at.span)),
    ];
    let mut given = given.into_iter().filter_map(|(key, span)| Some((key, span?)));
    let Some((first, _)) = given.next() else {
        // A key that is there and wrong has its own fault.
        let text = reader.source.text.clone();
        let here = |place: usize| {
            place >= at.span.start && text.get(at.span.start..place).is_some_and(|between| !between.contains("\n["))
        };
        let written =
            reader.diagnostics.iter().any(|fault| fault.labels.first().is_some_and(|label| here(label.span.start)));
        if !written {
            reader.error("no-times", at.span.clone(), "this schedule does not say when").help = Some(
                "cron = \"0 6 * * *\", every = \"6h\" or after = \"other_pipeline\"; a pipeline without [schedule] runs on demand"
                    .to_owned(),
            );
        }
        return None;
    };
    for (key, span) in given {
        let message = format!("a schedule goes by one of `cron`, `every` and `after`: `{first}` is given, and `{key}`");
        reader.error("two-schedules", span.clone(), message).help =
            Some("several cron expressions may stand in one list; what else is needed is another pipeline".to_owned());
    }
    if let Some(crons) = &table.cron {
        return Some(When::Cron(crons.value.0.iter().filter_map(|cron| expression(cron, reader)).collect()));
    }
    if let Some(every) = &table.every {
        if every.value.0.subsec_nanos() != 0 || every.value.0.is_zero() {
            reader.error("bad-interval", every.span.clone(), "an interval has whole seconds, at least one").help =
                Some("every = \"15m\"".to_owned());
            return None;
        }
        let anchor = table.anchor.as_ref().map_or(Instant::UNIX_EPOCH, |anchor| anchor.value.0);
        return Some(When::Every { every: every.value.0, anchor });
    }
    table.after.as_ref().map(|after| When::After(after.value.clone()))
}

/// A cron expression, if there is any date that it names.
fn expression(cron: &At<super::value::CronText>, reader: &mut Reader) -> Option<String> {
    let text = &cron.value.0;
    // Only an expression that names days of months can name none.
    let dated = text.split_whitespace().nth(2).is_some_and(|days| days != "*");
    if dated && Cron::parse(text).is_ok_and(|cron| !cron.ever()) {
        let message = format!("no date is named by `{text}`: it would never run");
        reader.error("never-runs", cron.span.clone(), message).help =
            Some("the fields are minute, hour, day of month, month, day of week".to_owned());
        return None;
    }
    Some(text.clone())
}

/// Reports keys that say nothing about schedules of this kind.
fn foreign_keys(table: &ScheduleTable, when: Option<&When>, reader: &mut Reader) {
    let is_cron = matches!(when, Some(When::Cron(_)) | None);
    let is_every = matches!(when, Some(When::Every { .. }) | None);
    let limits = !matches!(table.missed.as_ref().map(|at| at.value), Some(Missed::Last | Missed::Skip));
    let keys: [(&str, Option<&Span>, bool, &str); 5] = [
        ("anchor", table.anchor.as_ref().map(|at| &at.span), is_every, "it belongs to `every`"),
        ("timezone", table.timezone.as_ref().map(|at| &at.span), is_cron, "it is the zone of `cron`"),
        ("gap", table.gap.as_ref().map(|at| &at.span), is_cron, "only times of the day, of `cron`, can lie in a gap"),
        ("fold", table.fold.as_ref().map(|at| &at.span), is_cron, "only times of the day, of `cron`, can come twice"),
        (
            "missed_limit",
            table.missed_limit.as_ref().map(|at| &at.span),
            limits,
            "it belongs to missed = \"widen\" and missed = \"each\"",
        ),
    ];
    for (key, span, belongs, help) in keys {
        if let Some(span) = span.filter(|_| !belongs) {
            reader.error("foreign-key", span.clone(), format!("`{key}` says nothing here")).help =
                Some(help.to_owned());
        }
    }
}

/// Reports schedules that follow a pipeline that does not exist, or that follow each other in a circle.
pub fn check_after(drafts: &[PipelineDraft], faults: &mut Vec<Diagnostic>) {
    let follows: HashMap<&str, &str> = drafts
        .iter()
        .filter_map(|draft| Some((draft.pipeline.name.as_str(), draft.follows.as_ref()?.value.as_str())))
        .collect();
    let known: HashSet<&str> = drafts.iter().map(|draft| draft.pipeline.name.as_str()).collect();
    for draft in drafts {
        let Some(after) = &draft.follows else { continue };
        let mut fault = |code, message: String, help: Option<String>| {
            faults.push(Diagnostic::error(code, message).at(&draft.source, after.span.clone(), "").maybe_help(help));
        };
        if !known.contains(after.value.as_str()) {
            let names = drafts.iter().map(|other| other.pipeline.name.as_str());
            let help = known_names(&after.value, names.filter(|name| *name != draft.pipeline.name));
            fault("unknown-pipeline", format!("there is no pipeline `{}`", after.value), help);
            continue;
        }
        let mut path = vec![draft.pipeline.name.as_str()];
        let mut next = Some(after.value.as_str());
        while let Some(name) = next.filter(|name| !path.contains(name)) {
            path.push(name);
            next = follows.get(name).copied();
        }
        // Each pipeline of a circle tells it; one that only leads into a circle does not.
        if next == Some(draft.pipeline.name.as_str()) {
            path.extend(next);
            let message = format!("these pipelines wait for each other: {}", path.join(" after "));
            fault("cycle", message, Some("one of them needs times of its own: cron = \"0 6 * * *\"".to_owned()));
        }
    }
}
