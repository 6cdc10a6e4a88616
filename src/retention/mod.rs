//! Keeping the history small: what is older than `[retention]` says goes away, and its room is given back.
//!
//! What is loaded, what waits for a decision, what a fan-out needs to go on, and what was recorded for tests is never touched.

mod files;

use chrono::Duration;
use serde::Serialize;

use crate::error::Result;
use crate::model::pipeline::Project;
use crate::state::{FileSize, State, SweepRule, SweptRows};
use crate::time::Instant;
pub use files::{SweptFiles, stale_stages};

/// When the history was last swept.
const SWEPT: &str = "swept";

/// What was removed, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Rows of the state file.
    pub rows: SweptRows,
    /// Files beside it.
    pub files: SweptFiles,
    /// How large the state file was.
    pub before: FileSize,
    /// How large it is now.
    pub after: FileSize,
}

/// Removes what is older than the project wants to keep; with `dry_run` it is only counted.
///
/// Rows go a few hundred at a time, so that runs that are under way go on. A file that an older haul made is rewritten
/// only if `whole` says so: nobody can write to it meanwhile.
pub async fn sweep(project: &Project, state: &State, now: Instant, dry_run: bool, whole: bool) -> Result<Swept> {
    let keep = project.retention;
    let ago = |duration| now - Duration::from_std(duration).unwrap_or(Duration::MAX);
    let before = state.file_size().await?;
    let rule = SweepRule { before: ago(keep.runs), pulls: keep.pulls };
    let rows = state.sweep(rule, dry_run).await?;
    let files = files::sweep(project, state, now, dry_run).await?;
    if !dry_run {
        state.vacuum(whole).await?;
        state.mark(SWEPT, &now.to_rfc3339(), now).await?;
    }
    Ok(Swept { rows, files, before, after: state.file_size().await? })
}

/// The same once a day: what a daemon calls as often as it likes. None where the last time was not a day ago.
pub async fn daily(project: &Project, state: &State, now: Instant) -> Result<Option<Swept>> {
    let last = state.marks().await?.get(SWEPT).and_then(|text| text.parse::<Instant>().ok());
    if last.is_some_and(|last| now < last + Duration::days(1)) {
        return Ok(None);
    }
    sweep(project, state, now, false, false).await.map(Some)
}
