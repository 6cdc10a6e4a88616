//! How the library tells what it is doing, without printing: a terminal, a log and a test listen in the same way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::model::fanout::Tally;
use crate::model::run::{RunRecord, TaskEvent, TaskId};

/// Listens to a run; called from many threads, and never blocks for long.
pub trait Monitor: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event<'_>);
}

/// What can happen in a run, in the words of its users.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A run begins with this many tasks.
    RunStarted {
        /// The run.
        run: &'a RunRecord,
        /// How many tasks it has.
        tasks: usize,
    },
    /// Something happened to a task; the same that the state store keeps.
    Task {
        /// The task.
        task: &'a TaskId,
        /// What happened.
        event: &'a TaskEvent,
    },
    /// A page is durable.
    Page {
        /// The task.
        task: &'a TaskId,
        /// The rows of the page.
        rows: u64,
        /// The bytes that came over the wire.
        bytes: u64,
        /// The rows of all pages, where the source told.
        total: Option<u64>,
    },
    /// How the requests of a fan-out stand; told a few times a second.
    Fan {
        /// The task.
        task: &'a TaskId,
        /// How they stand.
        tally: Tally,
    },
    /// Requests that an earlier attempt of a fan-out had finished are not sent again.
    ResumedFan {
        /// The task.
        task: &'a TaskId,
        /// How many are finished.
        finished: u64,
        /// Of how many.
        of: u64,
        /// The rows of their answers.
        rows: u64,
    },
    /// Durable pages of an earlier attempt are used again.
    Resumed {
        /// The task.
        task: &'a TaskId,
        /// How many pages.
        pages: u64,
        /// The rows in them.
        rows: u64,
    },
    /// A task has crossed a boundary of its work; crash tests stop the process here.
    Boundary {
        /// The task.
        task: &'a TaskId,
        /// The boundary.
        boundary: Boundary,
    },
    /// A request is sent again after a pause.
    Retry {
        /// The task.
        task: &'a TaskId,
        /// Why, redacted.
        reason: String,
        /// How long the pause is.
        pause: Duration,
    },
    /// The source said something that is no row: a line of a program's log.
    Said {
        /// The task.
        task: &'a TaskId,
        /// The line, redacted.
        line: String,
    },
    /// A source is asked less, or more again, than before; or tasks wait for a slot of a pool.
    Pace {
        /// One sentence.
        sentence: String,
    },
    /// From now on the run does nothing but wait, or it works again: a run that only waits needs nobody's place.
    Idle {
        /// Whether it only waits.
        idle: bool,
    },
    /// Something that the user should know and that stops nothing.
    Warning {
        /// The task, if it is about one.
        task: Option<&'a TaskId>,
        /// One sentence.
        message: String,
    },
    /// The run has ended.
    RunFinished {
        /// The run, as it is stored.
        run: &'a RunRecord,
    },
}

/// The boundaries of a task's work, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// The lease is taken, nothing is asked for yet.
    Leased,
    /// All pages are in the stage and the manifest is written.
    Sealed,
    /// What has changed is known; the commit comes next.
    Judged,
    /// Rows that land elsewhere are written there; nobody reads them yet.
    Written,
    /// They are what is read; what was there before is still to be removed.
    Flipped,
    /// The warehouse has committed; the state store does not know it yet.
    Committed,
    /// The state store knows it; the stage is still there.
    Recorded,
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Void;

impl Monitor for Void {
    fn event(&self, _event: &Event<'_>) {}
}

/// Collects what it hears as text, for tests.
#[derive(Debug, Clone, Default)]
pub struct Collect {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Collect {
    /// What was heard so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Monitor for Collect {
    fn event(&self, event: &Event<'_>) {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(format!("{event:?}"));
    }
}
