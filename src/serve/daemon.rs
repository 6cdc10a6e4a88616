//! The daemon, one step at a time: what is due is written down, jobs are claimed, run, kept alive and settled.
//!
//! A step takes the instant that it happens at, reads no clock and does not wait; so a year passes in seconds in a test.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use chrono::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::desk::{Desk, Opened};
use super::note::{Note, Tell};
use super::runner::{Ended, Runner, Sign, What};
use crate::error::Result;
use crate::model::hook::RetryPolicy;
use crate::model::job::{Beat, Pause, Settled};
use crate::model::pipeline::Project;
use crate::model::serve::ServeSettings;
use crate::state::State;
use crate::time::Instant;

/// A clock that goes back by less is being set right, as clocks are all the time.
const SLIP: Duration = Duration::seconds(2);

/// One process that runs a project's pipelines on their schedules.
pub struct Daemon {
    pub(super) state: State,
    /// The name under which it claims jobs: another for every process.
    pub(super) owner: String,
    pub(super) project: Arc<Project>,
    pub(super) runner: Arc<dyn Runner>,
    pub(super) settings: ServeSettings,
    pub(super) tell: Tell,
    pub(super) desks: BTreeMap<String, Desk>,
    pub(super) paused: BTreeMap<String, Pause>,
    pub(super) running: HashMap<i64, Running>,
    /// What could not be written yet about jobs that have ended.
    pub(super) unsettled: Vec<(i64, u64, Settled)>,
    /// What runs have told and no step has taken up yet.
    pub(super) heard: VecDeque<Sign>,
    pub(super) signs: (mpsc::UnboundedSender<Sign>, mpsc::UnboundedReceiver<Sign>),
    /// Whether there may be a job to claim.
    pub(super) hungry: bool,
    /// Whether the store is looked through again: at the beginning, and when others have written to it.
    pub(super) look: bool,
    /// When the first lease of another process ends.
    pub(super) reap_at: Option<Instant>,
    /// When the first job that waits for its time may begin.
    pub(super) job_at: Option<Instant>,
    /// Since when no new work is taken, and until when the runs may go on.
    pub(super) drain: Option<Instant>,
    /// The instant of the last step.
    pub(super) last: Instant,
}

/// A job that is under way here.
pub(super) struct Running {
    pub job: i64,
    pub generation: u64,
    pub pipeline: String,
    pub cancel: CancellationToken,
    /// Why it was stopped.
    pub stop: Option<Stop>,
    pub beat_at: Instant,
    /// Whether its run does nothing but wait.
    pub idle: bool,
    pub run: Option<String>,
    pub attempts: u32,
    /// When it is tried again.
    pub retry: RetryPolicy,
}

/// Why a run was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Somebody asked for it.
    Asked,
    /// The process ends.
    Drain,
    /// A fresh day of its pipeline waits.
    GiveWay,
    /// The job is another's.
    Lost,
}

impl Daemon {
    /// A daemon for a project; it takes up the schedules where the store's book stands.
    ///
    /// # Errors
    /// A store that cannot be read or written.
    pub async fn open(
        state: State,
        project: Arc<Project>,
        runner: Arc<dyn Runner>,
        owner: String,
        tell: Tell,
        now: Instant,
    ) -> Result<Self> {
        let mut daemon = Self {
            state,
            owner,
            settings: project.serve.clone(),
            project: Arc::clone(&project),
            runner: Arc::clone(&runner),
            tell,
            desks: BTreeMap::new(),
            paused: BTreeMap::new(),
            running: HashMap::new(),
            unsettled: Vec::new(),
            heard: VecDeque::new(),
            signs: mpsc::unbounded_channel(),
            hungry: true,
            look: true,
            reap_at: None,
            job_at: None,
            drain: None,
            last: now,
        };
        daemon.renew(project, runner, now).await?;
        Ok(daemon)
    }

    /// Goes on with another version of the project; what is under way goes on with its own.
    ///
    /// The occurrences up to now are those of the schedules as they were; what is changed holds from now on.
    ///
    /// # Errors
    /// A store that cannot be read or written; then the version is taken up by the next call.
    pub async fn renew(&mut self, project: Arc<Project>, runner: Arc<dyn Runner>, now: Instant) -> Result<()> {
        for pipeline in &project.pipelines {
            let name = &pipeline.name;
            if let Some(desk) = self.desks.get(name) {
                let same = desk.schedule == pipeline.schedule && desk.pipeline.timezone == pipeline.timezone;
                if same {
                    if let Some(desk) = self.desks.get_mut(name) {
                        desk.pipeline = Arc::clone(pipeline);
                    }
                    continue;
                }
                self.book(name, now).await?;
                let waits = self.desks.get(name).is_some_and(|desk| !desk.waiting.is_empty());
                if !waits {
                    self.state.move_cursor(name, now, now).await?;
                }
            }
            let (desk, opened) = Desk::open(&self.state, Arc::clone(pipeline), now).await?;
            self.tell_set_back(name, &opened);
            self.desks.insert(name.clone(), desk);
        }
        self.desks.retain(|name, _| project.pipeline(name).is_some());
        self.settings = project.serve.clone();
        self.project = project;
        self.runner = runner;
        self.hungry = true;
        Ok(())
    }

    /// Does all that is to be done at an instant, without waiting for any run.
    ///
    /// Returns when there is something to do next, if nothing happens before; none while only others can bring work.
    ///
    /// # Errors
    /// A store that cannot be read or written now: nothing is lost, and the next step goes on.
    pub async fn step(&mut self, now: Instant) -> Result<Option<Instant>> {
        if now + SLIP < self.last {
            self.set_back(now).await?;
        }
        self.last = now;
        self.hear(now).await?;
        self.settle_rest(now).await?;
        if std::mem::take(&mut self.look)
            && let Err(error) = self.look_around(now).await
        {
            self.look = true;
            return Err(error);
        }
        // First of all: what is reaped next must not be ours.
        self.beat(now).await?;
        self.reap(now).await?;
        self.stop_draining_runs(now);
        if self.drain.is_none() {
            let due: Vec<String> =
                self.desks.iter().filter(|(_, desk)| is_due(desk, now)).map(|(n, _)| n.clone()).collect();
            for name in due {
                self.book(&name, now).await?;
            }
        }
        if self.drain.is_none() {
            self.claim(now).await?;
        }
        Ok(self.wake())
    }

    /// The clock was set back: what was to be done at times that have not come yet is done anew, or waits for them.
    async fn set_back(&mut self, now: Instant) -> Result<()> {
        let (last, shown) = (self.last.format("%H:%M:%SZ"), now.format("%Y-%m-%d %H:%M:%SZ"));
        (self.tell)(Note::warning(format!("the clock was set back from {last} to {shown}")));
        let names: Vec<String> = self.desks.keys().cloned().collect();
        for name in names {
            let Some(desk) = self.desks.get(&name) else { continue };
            let (desk, opened) = Desk::open(&self.state, Arc::clone(&desk.pipeline), now).await?;
            self.tell_set_back(&name, &opened);
            self.desks.insert(name, desk);
        }
        self.running.values_mut().for_each(|running| running.beat_at = now);
        self.look = true;
        self.reap_at = Some(now);
        Ok(())
    }

    fn tell_set_back(&self, name: &str, opened: &Opened) {
        if let Opened::SetBack(cursor) = opened {
            let cursor = cursor.format("%Y-%m-%dT%H:%M:%SZ");
            let sentence =
                format!("the schedule had come to {cursor} by a clock that was set back: it goes on from now");
            (self.tell)(Note::warning(sentence).of(name));
        }
    }

    /// Looks at the store again at the next step: others have written to it.
    pub fn stir(&mut self) {
        self.look = true;
    }

    /// Waits until a run tells something.
    pub async fn listen(&mut self) {
        // Taken up by the next step. One end of the channel is ours: it never closes.
        self.heard.extend(self.signs.1.recv().await);
    }

    /// How many runs are under way here.
    pub fn under_way(&self) -> usize {
        self.running.len()
    }

    /// Takes no new work from now on; runs that only wait are stopped at once, the others at `until`.
    pub fn drain(&mut self, until: Instant) {
        self.drain = Some(until);
    }

    /// Whether nothing is left to do for a process that ends.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.running.is_empty() && self.unsettled.is_empty()
    }

    /// What others have written: pauses, leases, jobs.
    async fn look_around(&mut self, now: Instant) -> Result<()> {
        self.paused = self.state.paused().await?;
        let first = self.state.first_foreign_lease(&self.owner).await?;
        self.reap_at = first.into_iter().chain(self.reap_at).min();
        self.hungry = true;
        let cursors = self.state.cursors().await?;
        for (name, desk) in &mut self.desks {
            if let Some(cursor) = cursors.get(name).filter(|cursor| **cursor > desk.cursor) {
                desk.catch_up(&self.state, *cursor).await?;
            }
            desk.stirred |= !desk.waiting.is_empty() || desk.follows().is_some();
        }
        if !self.running.is_empty() {
            for id in self.state.called_off(&self.owner, now).await? {
                self.running.entry(id).and_modify(|running| running.beat_at = now);
            }
        }
        Ok(())
    }

    /// Takes back the jobs of processes that have died.
    async fn reap(&mut self, now: Instant) -> Result<()> {
        if self.reap_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        for job in self.state.reap(now).await? {
            let reason = job.reason.clone().unwrap_or_default();
            (self.tell)(Note::warning(reason).of(&job.pipeline).job(job.id).run(job.run.as_deref()));
        }
        self.hungry = true;
        self.reap_at = self.state.first_foreign_lease(&self.owner).await?;
        Ok(())
    }

    /// Keeps the leases of the runs under way, and hears what is asked of them.
    async fn beat(&mut self, now: Instant) -> Result<()> {
        let lease = Duration::from_std(self.settings.lease).unwrap_or(Duration::MAX);
        let due: Vec<(i64, u64)> = self
            .running
            .iter()
            .filter(|(_, running)| running.beat_at <= now && running.stop != Some(Stop::Lost))
            .map(|(id, running)| (*id, running.generation))
            .collect();
        for (id, generation) in due {
            let mut beat = self.state.beat(id, generation, now, now + lease).await?;
            let pipeline = self.running.get(&id).map(|running| running.pipeline.clone()).unwrap_or_default();
            if beat == Beat::GiveWay && !self.gives_way(&pipeline).await? {
                beat = Beat::Alive;
            }
            let Some(running) = self.running.get_mut(&id) else { continue };
            running.beat_at = now + lease / 3;
            let stop = match beat {
                Beat::Alive => continue,
                Beat::CancelAsked => Stop::Asked,
                Beat::GiveWay => Stop::GiveWay,
                Beat::Lost => Stop::Lost,
            };
            if running.stop.is_none() || stop == Stop::Lost {
                running.stop = Some(stop);
                running.cancel.cancel();
                let words = match stop {
                    Stop::Asked => "somebody asked to cancel it",
                    Stop::GiveWay => "it gives way to a fresh day",
                    _ => "its lease is lost: another process has it, and nothing more is written here",
                };
                let note = if stop == Stop::Lost { Note::warning(words) } else { Note::info(words) };
                (self.tell)(note.of(&running.pipeline).job(id).run(running.run.as_deref()));
            }
        }
        Ok(())
    }

    /// Stops what a process that ends no longer waits for.
    fn stop_draining_runs(&mut self, now: Instant) {
        let Some(until) = self.drain else { return };
        for running in self.running.values_mut().filter(|running| running.stop.is_none()) {
            if running.idle || now >= until {
                running.stop = Some(Stop::Drain);
                running.cancel.cancel();
            }
        }
    }

    /// Hears what the runs have told since the last step.
    async fn hear(&mut self, now: Instant) -> Result<()> {
        while let Some(sign) = self.heard.pop_front().or_else(|| self.signs.1.try_recv().ok()) {
            let Some(running) = self.running.get_mut(&sign.job) else { continue };
            if running.generation != sign.generation {
                continue;
            }
            match sign.what {
                What::Begun(run) => {
                    running.run = Some(run.clone());
                    let (pipeline, lost) = (running.pipeline.clone(), running.stop == Some(Stop::Lost));
                    (self.tell)(Note::info("the run has begun").of(&pipeline).job(sign.job).run(Some(&run)));
                    if !lost {
                        self.state.job_started(sign.job, sign.generation, &run, now).await?;
                    }
                }
                What::Idle(idle) => {
                    running.idle = idle;
                    self.hungry |= idle;
                }
                What::Ended(ended) => self.ended(sign.job, ended, now),
            }
        }
        Ok(())
    }

    /// A run has ended: its place is free, and what became of its job is to be written.
    fn ended(&mut self, id: i64, ended: Ended, now: Instant) {
        let Some(running) = self.running.remove(&id) else { return };
        self.hungry = true;
        for (name, desk) in &mut self.desks {
            desk.stirred |= *name == running.pipeline || desk.follows() == Some(&running.pipeline);
        }
        let settled = super::settle::settled(&running, ended, now);
        let (note, settled) = settled;
        (self.tell)(note.of(&running.pipeline).job(id).run(running.run.as_deref()));
        if let Some(settled) = settled {
            self.unsettled.push((id, running.generation, settled));
        }
    }

    /// Writes what became of jobs.
    async fn settle_rest(&mut self, now: Instant) -> Result<()> {
        while let Some((id, generation, settled)) = self.unsettled.last().cloned() {
            if !self.state.settle(id, generation, settled, now).await? {
                (self.tell)(Note::warning("its end was not written: another process has the job").job(id));
            }
            self.unsettled.pop();
        }
        Ok(())
    }

    /// When there is something to do next.
    fn wake(&self) -> Option<Instant> {
        let desks = self.desks.values().filter(|_| self.drain.is_none()).filter_map(|desk| desk.next);
        let beats = self.running.values().filter(|one| one.stop != Some(Stop::Lost)).map(|one| one.beat_at);
        let jobs = self.job_at.filter(|_| self.drain.is_none());
        let drain = self.drain.filter(|_| self.running.values().any(|one| one.stop.is_none()));
        desks.chain(beats).chain(self.reap_at).chain(jobs).chain(drain).min()
    }
}

fn is_due(desk: &Desk, now: Instant) -> bool {
    desk.stirred || desk.next.is_some_and(|next| next <= now)
}
