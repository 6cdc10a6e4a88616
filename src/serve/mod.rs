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

pub use book::WAITING;
pub use daemon::Daemon;
pub use desk::SET_BACK;
pub use life::{Life, Order as LifeOrder, Vitals, told_broken};
pub use note::{Level, Note, Tell};
pub use runner::{Ended, GearRunner, Listen, Order, Runner, Signs};
pub use steward::{Outlook, Standing, Steward, Triggered};
pub use supervisor::Supervisor;
pub use version::{Change, Version, Watched, tolerant};

use crate::error::Kind;
use crate::model::hook::RetryPolicy;
use crate::plan;
use crate::time::Instant;

/// When a job that failed by errors of these kinds is tried again; none where that would give the same.
///
/// Where in its pause an attempt falls is drawn by the job's number, so that many that failed together do not come back together,
/// and each of them when it was said to.
fn again(policy: &RetryPolicy, (job, attempts): (i64, u32), kinds: &[Kind], now: Instant) -> Option<Instant> {
    let drawn = xxhash_rust::xxh3::xxh3_64(format!("{job}/{attempts}").as_bytes());
    let draw = f64::from(u32::try_from(drawn >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    let pause = plan::next_attempt(policy, attempts, kinds, draw)?;
    Some(now + chrono::Duration::from_std(pause).unwrap_or_default())
}
