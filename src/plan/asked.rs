//! What a plan was asked, as text: kept with a job until its turn comes, and the same for the same work.

use super::Ask;
use crate::error::{Context, Kind, Result};
use crate::model::job::span;
use crate::model::pipeline::Pipeline;

/// The ask as JSON.
///
/// # Errors
/// None that can happen to an ask.
pub fn written(ask: &Ask) -> Result<String> {
    serde_json::to_string(ask).context(Kind::Internal, || "writing down what a run is asked".to_owned())
}

/// The ask that was written down.
///
/// # Errors
/// Text that is none: of a newer haul, or damaged.
pub fn read(json: &str) -> Result<Ask> {
    serde_json::from_str(json).context(Kind::Storage, || "reading what a job is asked".to_owned())
}

/// What is asked for, the same for the same work, whoever asks: the date and the units, the steps, whether it is forced.
pub fn key(pipeline: &Pipeline, ask: &Ask) -> String {
    let units = match (&ask.window, ask.range, &pipeline.window, pipeline.calendar()) {
        (_, Some(range), ..) => Some(format!("{}..{} {:?}", range.from, range.to, range.reprocess)),
        (Some(window), ..) => Some(span(window)),
        (None, None, Some(rule), Some(calendar)) => {
            let logical = calendar.of_date(ask.logical_date);
            let start = calendar.shift(&logical, -i64::from(rule.lookback())).start;
            Some(span(&(start..logical.start)))
        }
        _ => None,
    };
    let mut key = ask.logical_date.to_string();
    for part in units.into_iter().chain((!ask.select.is_empty()).then(|| ask.select.join(","))) {
        key = format!("{key} {part}");
    }
    match (ask.force, ask.retry) {
        (true, _) => format!("{key} forced"),
        (false, true) => format!("{key} failed requests"),
        (false, false) => key,
    }
}
