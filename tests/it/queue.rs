//! The queue: what is claimed when, leases and their ends, backfills, slots, and processes that die in the middle of it.

mod backfills;
mod chaos;
mod claims;
mod leases;
mod occurrences;
mod pools;
mod retries;

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use haul::model::job::{ClaimRules, Class, Job, JobEnd, JobFilter, JobState, NewJob, Settled};
use haul::state::State;
use haul::time::Instant;

/// How long a lease lasts in these tests.
const LEASE: Duration = Duration::from_secs(30);

/// A moment in the past, and so many seconds after it.
fn at(seconds: i64) -> Instant {
    DateTime::from_timestamp(1_700_000_000, 0).expect("an instant") + TimeDelta::seconds(seconds)
}

/// A store in a folder of its own.
async fn store() -> (tempfile::TempDir, State) {
    let folder = tempfile::tempdir().expect("a folder");
    let state = State::open(folder.path()).await.expect("a store");
    (folder, state)
}

fn job(pipeline: &str, key: &str, class: Class) -> NewJob {
    NewJob::new(pipeline, key, "{}", class, at(0))
}

/// Rules for these pipelines, each with one run at a time.
fn rules(pipelines: &[&str], workers: u32) -> ClaimRules {
    ClaimRules::of(pipelines.iter().copied(), LEASE, workers)
}

/// What one claim by the owner `me` gets: pipeline and key.
async fn claimed(state: &State, rules: &ClaimRules, now: Instant) -> Option<Job> {
    state.claim("me", rules, now).await.expect("a claim")
}

async fn succeed(state: &State, job: &Job, now: Instant) -> bool {
    let done = Settled::Done { end: JobEnd::Succeeded, reason: None, run: None };
    state.settle(job.id, job.generation, done, now).await.expect("a settlement")
}

async fn unfinished(state: &State) -> Vec<Job> {
    let states = BTreeSet::from([JobState::Queued, JobState::Leased]);
    state.jobs(&JobFilter { states, limit: 10_000, ..JobFilter::default() }).await.expect("jobs")
}

async fn notes(state: &State, id: i64) -> String {
    let notes = state.job_notes(id).await.expect("notes");
    notes.iter().map(|note| format!("{}: {}", note.generation, note.note)).collect::<Vec<_>>().join("\n")
}
