//! `haul serve`: a project's pipelines on their schedules, for months, by one process or by several on one state store.
//!
//! ```text
//!  files ─▶ Watched ─▶ Version ─┐
//!                               ▼            what is due        claim           run
//!  clock ─────────▶ Life ─▶ Daemon::step ─▶ book ─▶ queue ─▶ shift ─▶ Runner ─▶ settle
//!                               ▲                     ▲
//!                               └──── signs ──────────┼──── beat, reap
//!                                                  Steward: trigger, pause, resume, cancel
//! ```
//!
//! The daemon holds nothing that the store does not have: it may be killed at any instant, and whoever comes next goes on.
//! A [`Steward`] steers the queue by the store alone, whether a daemon is at work or not.

mod book;
mod daemon;
mod desk;
mod life;
mod note;
mod runner;
mod settle;
mod shift;
mod steward;
mod supervisor;
mod version;

use std::time::Duration;

pub use book::WAITING;
pub use daemon::Daemon;
pub use desk::SET_BACK;
pub use life::{Life, Order as LifeOrder, told_broken};
pub use note::{Level, Note, Tell};
pub use runner::{Ended, GearRunner, Listen, Order, Runner, Signs};
pub use steward::{Outlook, Standing, Steward, Triggered};
pub use supervisor::Supervisor;
pub use version::{Change, Version, Watched, tolerant};

use crate::error::Kind;
use crate::time::Instant;

/// How often a job is begun at the most, where its failures may pass.
const MOST_ATTEMPTS: u32 = 5;

/// The pause before the second attempt; each further one is four times as long.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// When a job that failed by errors of these kinds is tried again; none where that would give the same.
fn again(kinds: &[Kind], attempts: u32, now: Instant) -> Option<Instant> {
    let passes = |kind: &Kind| matches!(kind, Kind::Unavailable | Kind::RateLimited | Kind::Storage);
    if kinds.is_empty() || !kinds.iter().all(passes) || attempts >= MOST_ATTEMPTS {
        return None;
    }
    let pause = FIRST_PAUSE * 4_u32.saturating_pow(attempts.saturating_sub(1));
    Some(now + chrono::Duration::from_std(pause).unwrap_or_default())
}
