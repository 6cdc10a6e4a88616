//! What becomes of a job whose run has ended: it is done, it is tried again, or it is given back.

use super::daemon::{Running, Stop};
use super::note::Note;
use super::runner::Ended;
use crate::model::job::{JobEnd, Settled};
use crate::time::Instant;

/// Why a job was cancelled.
pub(super) const ASKED: &str = "somebody asked for it";

/// What is told of the end of a run, and what is written about its job; nothing where the job is another's.
pub(super) fn settled(running: &Running, ended: Ended, now: Instant) -> (Note, Option<Settled>) {
    if running.stop == Some(Stop::Lost) {
        return (Note::info("the run has stopped, and its job is another process's"), None);
    }
    match ended {
        Ended::Done { end, run, reason } => {
            let words = told(end.name(), reason.as_deref());
            let fine = matches!(end, JobEnd::Succeeded | JobEnd::Cancelled);
            let note = if fine { Note::info(words) } else { Note::warning(words) };
            (note, Some(Settled::Done { end, reason, run }))
        }
        // Who asked for the end gets it, whatever the run came to meanwhile.
        Ended::Failed { run, reason, .. } if running.stop == Some(Stop::Asked) => {
            let reason = Some(format!("{ASKED}; before that: {reason}"));
            (Note::info("cancelled"), Some(Settled::Done { end: JobEnd::Cancelled, reason, run }))
        }
        Ended::Failed { run, kinds, reason } => {
            match super::again(&running.retry, (running.job, running.attempts), &kinds, now) {
                Some(not_before) => {
                    let words = format!("failed, and is tried again at {}: {reason}", not_before.format("%H:%M:%SZ"));
                    (Note::warning(words), Some(Settled::Again { not_before, reason }))
                }
                None => {
                    let note = Note::error(told("failed", Some(&reason)));
                    (note, Some(Settled::Done { end: JobEnd::Failed, reason: Some(reason), run }))
                }
            }
        }
        Ended::Stopped { run } => match running.stop {
            Some(Stop::GiveWay) => {
                let reason = "gave way to a fresh day of the same pipeline".to_owned();
                (Note::info(reason.clone()), Some(Settled::Back { reason }))
            }
            Some(Stop::Asked) => {
                let reason = Some(ASKED.to_owned());
                (Note::info("cancelled"), Some(Settled::Done { end: JobEnd::Cancelled, reason, run }))
            }
            _ => {
                let reason = "the process that had it was asked to end".to_owned();
                (Note::info("stopped, and given back to the queue"), Some(Settled::Back { reason }))
            }
        },
    }
}

fn told(end: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| end.to_owned(), |reason| format!("{end}: {reason}"))
}
