//! The daemon's two decisions: which occurrences become jobs, and which jobs are begun.

use std::num::NonZeroU32;
use std::sync::Arc;

use chrono::Duration;
use tokio_util::sync::CancellationToken;

use super::book::{self, WAITING};
use super::daemon::{Daemon, Running, Stop};
use super::desk::Desk;
use super::note::Note;
use super::runner::{Order, Signs};
use crate::error::Result;
use crate::model::job::{ClaimRules, Class, Job, JobFilter, JobState, Lane};
use crate::model::pipeline::Pipeline;
use crate::schedule::Circumstances;
use crate::time::Instant;

impl Daemon {
    /// Writes down what becomes of a pipeline's occurrences that are due.
    pub(super) async fn book(&mut self, name: &str, now: Instant) -> Result<()> {
        let Some(desk) = self.desks.get(name) else { return Ok(()) };
        let Some(schedule) = desk.schedule.clone() else { return Ok(()) };
        let other = desk.follows().and_then(|other| self.project.pipeline(other));
        let due = desk.due(&self.state, other.map(|other| &**other), now).await?;
        if due.occurrences.is_empty() {
            self.at_rest(name);
            return Ok(());
        }
        let (running, jobs) = self.under_way_of(name).await?;
        let under = Circumstances { now, paused: self.paused.contains_key(name), running };
        let page = book::turn(&desk.pipeline, &schedule, due, &desk.waiting, &under)?;
        let cursor = page.cursor.unwrap_or(desk.cursor);
        if page.ends.is_empty() && page.jobs.is_empty() {
            self.at_rest(name);
            return Ok(());
        }
        if page.cancel_running {
            for job in jobs {
                self.state.ask_to_cancel(job.id, "the next run of its schedule", now).await?;
                if let Some(running) = self.running.get_mut(&job.id) {
                    running.beat_at = now;
                }
            }
        }
        let made = self.state.note_and_enqueue(name, &page.ends, cursor, &page.jobs, now).await?;
        let Some(desk) = self.desks.get_mut(name) else { return Ok(()) };
        desk.cursor = cursor;
        desk.waiting = page.waiting;
        desk.stirred = false;
        desk.plan();
        self.hungry |= !made.is_empty();
        for end in page.ends.iter().filter(|end| end.end != "ran" && end.end != WAITING) {
            let reason = end.reason.as_deref().unwrap_or_default();
            let message = format!("{} is {}: {reason}", end.at.format("%Y-%m-%dT%H:%M:%SZ"), end.end);
            (self.tell)(Note::info(message).of(name));
        }
        Ok(())
    }

    fn at_rest(&mut self, name: &str) {
        if let Some(desk) = self.desks.get_mut(name) {
            desk.stirred = false;
            desk.plan();
        }
    }

    /// What of a pipeline is still under way where no further run of it may be, in words, and the jobs that would make room for
    /// one; a backfill that waits for its turn is not under way.
    async fn under_way_of(&self, name: &str) -> Result<(Option<String>, Vec<Job>)> {
        // Thousands of pieces of a backfill may have been queued since, and must not hide it.
        let filter = JobFilter {
            pipeline: Some(name.to_owned()),
            states: [JobState::Queued, JobState::Leased].into(),
            classes: Class::ALL.into_iter().filter(|class| *class != Class::Backfill).collect(),
            ..JobFilter::default()
        };
        let mut jobs = self.state.jobs(&filter).await?;
        let Some(too_many) = (jobs.len() + 1).checked_sub(self.max_runs(name)).filter(|many| *many > 0) else {
            return Ok((None, Vec::new()));
        };
        let first = jobs.iter().find(|job| job.state == JobState::Leased).or_else(|| jobs.first());
        let words = first.map(|job| match (&job.run, job.state) {
            (Some(run), JobState::Leased) => run.clone(),
            _ => format!("job {}", job.id),
        });
        // The newest come first; the oldest make room.
        jobs.drain(..jobs.len().saturating_sub(too_many));
        Ok((words, jobs))
    }

    /// How many runs of a pipeline may be under way at once.
    fn max_runs(&self, name: &str) -> usize {
        let max = self.desks.get(name).map_or(NonZeroU32::MIN, |desk| desk.pipeline.steering.max_runs);
        usize::try_from(max.get()).unwrap_or(usize::MAX)
    }

    /// Whether a piece of a backfill has to make room for a fresh day of its pipeline: no other does, and there is no room.
    pub(super) async fn gives_way(&self, name: &str) -> Result<bool> {
        if self.running.values().any(|other| other.pipeline == name && other.stop == Some(Stop::GiveWay)) {
            return Ok(false);
        }
        let filter =
            JobFilter { pipeline: Some(name.to_owned()), states: [JobState::Leased].into(), ..JobFilter::default() };
        Ok(self.state.jobs(&filter).await?.len() >= self.max_runs(name))
    }

    /// Claims jobs while there is room, and begins them.
    pub(super) async fn claim(&mut self, now: Instant) -> Result<()> {
        if !self.hungry && self.job_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        loop {
            let idle = self.running.values().filter(|running| running.idle).count();
            let busy = self.running.len() - idle;
            if busy >= self.settings.workers {
                // The end of a run asks again.
                self.hungry = false;
                self.job_at = None;
                return Ok(());
            }
            let room = u32::try_from(self.settings.workers + idle).unwrap_or(u32::MAX);
            let mut rules = ClaimRules::of([], self.settings.lease, room);
            let lane = |desk: &Desk| Lane { max_runs: desk.pipeline.steering.max_runs.get() };
            rules.pipelines.extend(self.desks.iter().map(|(name, desk)| (name.clone(), lane(desk))));
            let Some(job) = self.state.claim(&self.owner, &rules, now).await? else { break };
            self.begin(job, now);
        }
        self.hungry = false;
        self.job_at = self.state.next_job_at(now).await?;
        Ok(())
    }

    fn begin(&mut self, job: Job, now: Instant) {
        let Some(desk) = self.desks.get(&job.pipeline) else { return };
        let lease = Duration::from_std(self.settings.lease).unwrap_or(Duration::MAX);
        let cancel = CancellationToken::new();
        let running = Running {
            job: job.id,
            retry: desk.pipeline.steering.retry,
            generation: job.generation,
            pipeline: job.pipeline.clone(),
            cancel: cancel.clone(),
            stop: None,
            beat_at: now + lease / 3,
            idle: false,
            run: None,
            attempts: job.attempts,
        };
        self.running.insert(job.id, running);
        let signs = Signs { job: job.id, generation: job.generation, to: self.signs.0.clone() };
        let order = Order { job, pipeline: Arc::clone(&desk.pipeline), cancel, signs };
        self.runner.start(order);
    }

    /// The pipeline of this name, as it is in force now.
    pub fn pipeline(&self, name: &str) -> Option<&Arc<Pipeline>> {
        self.project.pipeline(name)
    }
}
