//! The daemon's life: steps on time, files and store looked at now and then, warehouses let go, and an orderly end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant as Moment, MissedTickBehavior};

use super::daemon::Daemon;
use super::note::{Note, Tell};
use super::runner::{GearRunner, Listen};
use super::supervisor::Supervisor;
use super::version::{Change, Version, Watched};
use crate::error::Result;
use crate::model::serve::ServeSettings;
use crate::time::{Clock, Instant};

/// A warehouse that nobody has used for so long is closed, so that others may open its file.
const REST_AFTER: Duration = Duration::from_secs(3);

/// After a step that failed, the next one comes so much later.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A run that was told to stop has so long to do it before the process ends without it.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A daemon with all that it looks after.
pub struct Life {
    daemon: Daemon,
    watched: Watched,
    listen: Listen,
    tell: Tell,
    clock: Clock,
    supervisor: Supervisor,
    /// What the store looked like at the last look.
    seen: i64,
    /// Whether the version in force is still to be taken up.
    pending: bool,
    /// Tells others which version is in force.
    versions: watch::Sender<Arc<Version>>,
    /// Tells others how it is.
    vitals: watch::Sender<Vitals>,
    /// The settings that it began with: some of them hold until its end.
    opened: ServeSettings,
}

/// How a daemon is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// When it looked around the last time.
    pub looked_at: Option<Instant>,
    /// Whether it takes no new work any more.
    pub draining: bool,
    /// The faults of files that are wrong now, drawn.
    pub faults: Option<String>,
}

/// What somebody asks of a daemon that is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To take no new work, to let the runs end, and to end.
    Drain,
    /// To look around now: there may be something to do.
    Look,
}

impl Life {
    /// A daemon of this project, ready to begin.
    ///
    /// # Errors
    /// A state store that cannot be read or written.
    pub async fn open(
        watched: Watched,
        listen: Listen,
        tell: Tell,
        clock: Clock,
        supervisor: Supervisor,
    ) -> Result<Self> {
        let version = watched.version();
        let runner = Arc::new(GearRunner::new(Arc::clone(version), Arc::clone(&listen)));
        let (state, project) = (version.gear.state.clone(), Arc::clone(&version.project));
        let owner = owner();
        let daemon = Daemon::open(state, project, runner, owner, Arc::clone(&tell), clock.now()).await?;
        let versions = watch::Sender::new(Arc::clone(watched.version()));
        let faults = watched.faults().map(str::to_owned);
        let vitals = watch::Sender::new(Vitals { looked_at: Some(clock.now()), draining: false, faults });
        let opened = watched.version().project.serve.clone();
        Ok(Self { opened, daemon, watched, listen, tell, clock, supervisor, seen: 0, pending: false, versions, vitals })
    }

    /// How it is, now and later.
    pub fn vitals(&self) -> watch::Receiver<Vitals> {
        self.vitals.subscribe()
    }

    /// The version of the project in force, now and later.
    pub fn versions(&self) -> watch::Receiver<Arc<Version>> {
        self.versions.subscribe()
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Works until somebody asks it to end, and everything that was under way has.
    ///
    /// # Errors
    /// A warehouse that cannot be closed. What fails on the way is told, and tried again.
    pub async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Result<()> {
        self.supervisor.ready();
        let mut tick = tokio::time::interval(self.poll());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        let mut end: Option<Moment> = None;
        loop {
            let wake = match self.daemon.step(self.clock.now()).await {
                Ok(wake) => {
                    if std::mem::take(&mut failing) {
                        (self.tell)(Note::info("the state store can be used again"));
                    }
                    self.pause_until(wake)
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        (self.tell)(Note::fault(&error));
                    }
                    AFTER_FAILURE
                }
            };
            let late = end.is_some_and(|end| Moment::now() >= end);
            if self.daemon.is_drained() || late {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(wake) => {}
                () = self.daemon.listen() => {}
                _ = tick.tick() => self.look().await,
                Some(order) = orders.recv() => match order {
                    Order::Drain if end.is_none() => end = Some(self.drain()),
                    Order::Drain => break,
                    Order::Look => self.look().await,
                },
            }
        }
        (self.tell)(Note::info("stopped"));
        self.watched.version().gear.rest(Duration::ZERO).await.map(drop)
    }

    /// How long to pause until an instant; never longer than until the clock on the wall is looked at again.
    fn pause_until(&self, wake: Option<Instant>) -> Duration {
        let poll = self.poll();
        wake.map_or(poll, |wake| (wake - self.clock.now()).to_std().unwrap_or_default().min(poll))
    }

    fn poll(&self) -> Duration {
        self.watched.version().project.serve.poll
    }

    /// Begins the end.
    fn drain(&mut self) -> Moment {
        let patience = self.watched.version().project.serve.drain_timeout;
        let until = self.clock.now() + chrono::Duration::from_std(patience).unwrap_or_default();
        let runs = match self.daemon.under_way() {
            0 => "nothing is under way".to_owned(),
            1 => format!("1 run has {} to end", crate::time::display_duration(patience)),
            some => format!("{some} runs have {} to end", crate::time::display_duration(patience)),
        };
        (self.tell)(Note::info(format!("stopping: no new runs are begun, {runs}")));
        self.supervisor.stopping();
        self.daemon.drain(until);
        self.vitals.send_modify(|vitals| vitals.draining = true);
        Moment::now() + patience + STOP_WITHIN
    }

    /// Looks at what may have changed outside.
    async fn look(&mut self) {
        self.supervisor.alive();
        let (now, faults) = (self.clock.now(), self.watched.faults().map(str::to_owned));
        self.vitals.send_modify(|vitals| (vitals.looked_at, vitals.faults) = (Some(now), faults));
        let version = Arc::clone(self.watched.version());
        match version.gear.state.data_version().await {
            Ok(seen) if seen != self.seen => {
                self.seen = seen;
                self.daemon.stir();
            }
            Ok(_) => {}
            // The next step meets the same, and tells it.
            Err(_) => self.daemon.stir(),
        }
        match self.watched.look().await {
            Ok(changes) => changes.into_iter().for_each(|change| self.changed(change)),
            Err(error) => (self.tell)(Note::fault(&error)),
        }
        if self.pending {
            self.renew().await;
        }
        if let Err(error) = version.gear.rest(REST_AFTER).await {
            (self.tell)(Note::warning(error.chain()));
        }
    }

    async fn renew(&mut self) {
        let version = Arc::clone(self.watched.version());
        let project = Arc::clone(&version.project);
        let before = Arc::clone(&self.versions.borrow().project);
        let runner = Arc::new(GearRunner::new(Arc::clone(&version), Arc::clone(&self.listen)));
        match self.daemon.renew(project, runner, self.clock.now()).await {
            Ok(()) => {
                self.pending = false;
                for words in kept(&before.serve, &version.project.serve, &self.opened) {
                    (self.tell)(Note::warning(words));
                }
                self.versions.send_replace(Arc::clone(self.watched.version()));
            }
            Err(error) => (self.tell)(Note::fault(&error)),
        }
    }

    fn changed(&mut self, change: Change) {
        let note = match change {
            Change::Read { changed, gone } => {
                self.pending = true;
                let mut words = "the project was read again".to_owned();
                for (names, what) in [(&changed, "changed"), (&gone, "gone")] {
                    if !names.is_empty() {
                        words = format!("{words}; {what}: {}", names.join(", "));
                    }
                }
                Note::info(words)
            }
            broken @ Change::Broken { .. } => told_broken(broken),
            Change::Mended => Note::info("all files are right again"),
        };
        (self.tell)(note);
    }
}

/// What is told of settings that have changed and hold as they were until a new start; nothing where they are as at the start.
fn kept(before: &ServeSettings, now: &ServeSettings, opened: &ServeSettings) -> Vec<String> {
    let of = |settings: &ServeSettings| {
        let door = settings.door.clone();
        [
            ("listen", format!("{:?}", door.listen)),
            ("token", format!("{:?}", door.token)),
            ("hosts", format!("{:?}", door.hosts)),
            ("traces", format!("{:?}", settings.traces)),
        ]
    };
    let three = of(before).into_iter().zip(of(now)).zip(of(opened));
    three
        .filter(|(((_, before), (_, now)), (_, opened))| before != now && now != opened)
        .map(|(_, (key, _))| {
            format!(
                "`serve.{key}` has changed: it holds from the next start of `haul serve`, until then the old one does"
            )
        })
        .collect()
}

/// What is told of files that are wrong.
pub fn told_broken(change: Change) -> Note {
    let Change::Broken { files, faults } = change else { return Note::info("all files are right") };
    let named = |wanted: bool| {
        let of = files.iter().filter(|(_, known)| *known == wanted).map(|(file, _)| file.display().to_string());
        let names: Vec<String> = of.collect();
        let are = if names.len() == 1 { ("is", "it is") } else { ("are", "they are") };
        let then = if !wanted && names == ["connections.toml"] {
            ": what needs its connections does not run until it is right".to_owned()
        } else if wanted {
            ": what was there before stays in force".to_owned()
        } else {
            format!(", and left out until {} right", are.1)
        };
        (!names.is_empty()).then(|| format!("{} {} wrong{then}", names.join(", "), are.0))
    };
    let words: Vec<String> = [named(true), named(false)].into_iter().flatten().collect();
    Note::error(format!("{}; the rest goes on", words.join("; "))).detail(faults)
}

/// A name that no other process has.
fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "host" } else { host.trim() };
    format!("{host}-{}-{:08x}", std::process::id(), rand::random::<u32>())
}
