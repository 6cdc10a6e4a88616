//! A world for daemons without clocks and runs of their own: time is a number, runs end when the test says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use chrono::Duration;
use haul::config::{Options, load};
use haul::model::job::JobEnd;
use haul::model::pipeline::Project;
use haul::plan;
use haul::serve::{Daemon, Ended, Note, Order, Runner};
use haul::state::State;
use haul::time::{Instant, UnitKey};

/// What a unit's rows are: how many days its source had to settle when it was last asked.
pub type Ledger = BTreeMap<(String, UnitKey), i64>;

/// Units do not change any more after so many days.
pub const SETTLED: i64 = 2;

/// What runs have brought, and which claims of jobs there were.
#[derive(Default)]
pub struct World {
    pub ledger: Ledger,
    /// The newest claim of each job: what an older one brings is refused.
    fence: HashMap<i64, u64>,
    pub refused: usize,
    pub commits: usize,
    begun: Vec<(usize, Order)>,
    pub told: Vec<String>,
}

/// Takes the orders of one daemon.
struct Desk {
    slot: usize,
    world: Arc<Mutex<World>>,
}

impl Runner for Desk {
    fn start(&self, order: Order) {
        let mut world = self.world.lock().expect("the world");
        let newest = world.fence.entry(order.job.id).or_default();
        *newest = (*newest).max(order.job.generation);
        world.begun.push((self.slot, order));
    }
}

/// A run under way.
pub struct Run {
    pub slot: usize,
    pub ends: Instant,
    pub name: Option<haul::model::run::RunRecord>,
    pub order: Order,
}

/// A machine with one daemon on it.
pub struct Machine {
    pub daemon: Option<Daemon>,
    /// Until when it is stopped, as by SIGSTOP.
    pub frozen: Option<Instant>,
    pub wake: Option<Instant>,
    lives: u32,
}

/// Everything at once.
pub struct Simulation {
    pub state: State,
    pub project: Arc<Project>,
    pub world: Arc<Mutex<World>>,
    pub machines: Vec<Machine>,
    pub runs: Vec<Run>,
    /// How far the clock on the wall is ahead.
    pub ahead: Duration,
    pub now: Instant,
    /// The pipelines that others follow: their runs are written into the store.
    pub followed: Vec<String>,
    folder: tempfile::TempDir,
}

impl Simulation {
    /// A project of these pipelines, and machines without daemons.
    pub async fn new(pipelines: &[(String, String)], machines: usize, begin: Instant) -> Self {
        // In memory, where there is such a place: a year has many writes.
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a folder");
        std::fs::create_dir(folder.path().join("pipelines")).expect("pipelines");
        for (name, text) in pipelines {
            std::fs::write(folder.path().join(format!("pipelines/{name}.toml")), text).expect("a pipeline");
        }
        let serve = "[serve]\nworkers = 30\nlease = \"2h\"\n";
        std::fs::write(folder.path().join("haul.toml"), serve).expect("haul.toml");
        let project = Arc::new(load(folder.path(), &Options::default()).into_project().expect("a project"));
        let machine = |_| Machine { daemon: None, frozen: None, wake: None, lives: 0 };
        Self {
            state: State::open(&project.state_dir).await.expect("a store"),
            project,
            world: Arc::default(),
            machines: (0..machines).map(machine).collect(),
            runs: Vec::new(),
            ahead: Duration::zero(),
            now: begin,
            followed: Vec::new(),
            folder,
        }
    }

    /// What the clock on the wall says.
    pub fn wall(&self) -> Instant {
        self.now + self.ahead
    }

    /// Starts a daemon on a machine.
    pub async fn start(&mut self, slot: usize) {
        assert!(self.folder.path().exists());
        self.machines[slot].lives += 1;
        let owner = format!("machine {slot}, life {}", self.machines[slot].lives);
        let (state, project) = (self.state.clone(), Arc::clone(&self.project));
        let runner = Arc::new(Desk { slot, world: Arc::clone(&self.world) });
        let heard = Arc::clone(&self.world);
        let tell = Arc::new(move |note: Note| heard.lock().expect("the world").told.push(note.message));
        let daemon = Daemon::open(state, project, runner, owner, tell, self.wall()).await.expect("a daemon");
        self.machines[slot].daemon = Some(daemon);
        self.machines[slot].frozen = None;
        self.machines[slot].wake = Some(self.wall());
    }

    /// Ends a daemon as SIGKILL does: nobody says a word; a run that was half done has brought the first half of its units.
    pub fn kill(&mut self, slot: usize) {
        self.machines[slot].daemon = None;
        let (dead, alive) = std::mem::take(&mut self.runs).into_iter().partition(|run| run.slot == slot);
        self.runs = alive;
        let dead: Vec<Run> = dead;
        for run in dead {
            self.commit(&run, true);
        }
    }

    /// Lets the daemons that have something to do take a step.
    pub async fn step(&mut self, everybody: bool) {
        for slot in 0..self.machines.len() {
            let wall = self.wall();
            let machine = &mut self.machines[slot];
            if machine.frozen.is_some() {
                continue;
            }
            let Some(daemon) = &mut machine.daemon else { continue };
            if !everybody && machine.wake.is_none_or(|wake| wake > wall) {
                continue;
            }
            if everybody {
                daemon.stir();
            }
            machine.wake = daemon.step(wall).await.expect("a step");
        }
    }

    /// Takes up what was begun; `took` tells how long a run takes.
    pub async fn take_up(&mut self, mut took: impl FnMut() -> Duration) -> bool {
        let begun = std::mem::take(&mut self.world.lock().expect("the world").begun);
        let any = !begun.is_empty();
        for (slot, order) in begun {
            let mut name = None;
            if self.followed.contains(&order.pipeline.name) {
                let ask = plan::read(&order.job.ask).expect("an ask");
                let date = ask.logical_date.to_string();
                let record = self.state.begin_run(&order.pipeline.name, &date, ask.trigger, self.wall()).await;
                name = Some(record.expect("a run"));
            }
            self.runs.push(Run { slot, ends: self.now + took(), name, order });
        }
        any
    }

    /// Ends the runs whose time has come, as `how` says; true where one did.
    pub async fn end_runs(&mut self, mut how: impl FnMut(&Run) -> Outcome) -> bool {
        let frozen: Vec<bool> = self.machines.iter().map(|machine| machine.frozen.is_some()).collect();
        let over = |run: &Run| !frozen[run.slot] && (run.ends <= self.now || run.order.cancel.is_cancelled());
        let (ended, going): (Vec<Run>, Vec<Run>) = std::mem::take(&mut self.runs).into_iter().partition(over);
        self.runs = going;
        for run in &ended {
            let outcome = if run.order.cancel.is_cancelled() { Outcome::Stopped } else { how(run) };
            let fresh = self.commit(run, outcome != Outcome::Good);
            let name = run.name.as_ref().map(|record| record.id.clone());
            if let Some(mut record) = run.name.clone() {
                use haul::model::run::RunStatus;
                record.finished_at = Some(self.wall());
                let good = outcome == Outcome::Good && fresh;
                record.status = if good { RunStatus::Succeeded } else { RunStatus::Cancelled };
                self.state.finish_run(&record).await.expect("the run's end");
            }
            let ended = match outcome {
                Outcome::Good => Ended::Done { end: JobEnd::Succeeded, run: name, reason: None },
                Outcome::Stopped => Ended::Stopped { run: name },
                Outcome::Failed => Ended::Failed {
                    run: name,
                    kinds: vec![haul::error::Kind::Unavailable],
                    reason: "the source is away".to_owned(),
                },
            };
            run.order.signs.ended(ended);
            self.machines[run.slot].wake = Some(self.wall());
        }
        !ended.is_empty()
    }

    /// Brings the units of a run, all or the first half, unless its job is another's by now.
    fn commit(&mut self, run: &Run, half: bool) -> bool {
        let wall = self.wall();
        let mut world = self.world.lock().expect("the world");
        if world.fence.get(&run.order.job.id) != Some(&run.order.job.generation) {
            world.refused += 1;
            return false;
        }
        let ask = plan::read(&run.order.job.ask).expect("an ask");
        let calendar = run.order.pipeline.calendar().expect("a calendar");
        let window = ask.window.expect("a scheduled run has its window");
        let units = calendar.between(window.start, window.end);
        let count = if half { units.len() / 2 } else { units.len() };
        // What has not ended yet has nothing to bring.
        for unit in units.iter().take(count).filter(|unit| unit.end <= wall) {
            let seen = (wall - unit.end).num_hours() / 24;
            let place = (run.order.pipeline.name.clone(), unit.key());
            let value = world.ledger.entry(place).or_insert(0);
            *value = (*value).max(seen.min(SETTLED));
            world.commits += 1;
        }
        true
    }

    /// When something happens next, by the true time.
    pub fn next(&self) -> Option<Instant> {
        let alive = self.machines.iter().filter(|machine| machine.frozen.is_none() && machine.daemon.is_some());
        let wakes = alive.filter_map(|machine| machine.wake).map(|wake| wake - self.ahead);
        let thaws = self.machines.iter().filter_map(|machine| machine.frozen);
        let runs = self.runs.iter().filter(|run| self.machines[run.slot].frozen.is_none()).map(|run| run.ends);
        wakes.chain(thaws).chain(runs).min().map(|next| next.max(self.now))
    }
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Good,
    Failed,
    Stopped,
}
