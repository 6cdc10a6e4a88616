//! What a job comes to: its run planned and walked with the version of the project that it began with.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::version::Version;
use crate::error::{Error, Kind, Result};
use crate::execute;
use crate::model::job::{Hold, Job, JobEnd};
use crate::model::pipeline::Pipeline;
use crate::model::run::{RunRecord, RunStatus, TaskState, fold};
use crate::monitor::{Event, Monitor};
use crate::plan;

/// Brings jobs to their ends; the daemon knows no more of it.
pub trait Runner: Send + Sync {
    /// Begins the run of a job, and returns at once. How it goes on is told by [`Order::signs`], and in the end, once, by
    /// [`Signs::ended`].
    fn start(&self, order: Order);
}

/// A job that was claimed.
pub struct Order {
    /// The job.
    pub job: Job,
    /// Its pipeline, as it was when the job was claimed.
    pub pipeline: Arc<Pipeline>,
    /// Stops it.
    pub cancel: CancellationToken,
    /// How it tells what it does.
    pub signs: Signs,
}

/// How a run tells the daemon what it does.
#[derive(Debug, Clone)]
pub struct Signs {
    pub(super) job: i64,
    pub(super) generation: u64,
    pub(super) to: mpsc::UnboundedSender<Sign>,
}

/// What a run tells.
#[derive(Debug)]
pub(super) struct Sign {
    pub job: i64,
    pub generation: u64,
    pub what: What,
}

/// What there is to tell.
#[derive(Debug)]
pub(super) enum What {
    /// It has this name now.
    Begun(String),
    /// It does nothing but wait, or it works again.
    Idle(bool),
    /// It is over.
    Ended(Ended),
}

impl Signs {
    /// The run has this name.
    pub fn begun(&self, run: &str) {
        self.send(What::Begun(run.to_owned()));
    }

    /// The run only waits from now on, or works again.
    pub fn idle(&self, idle: bool) {
        self.send(What::Idle(idle));
    }

    /// The run has ended.
    pub fn ended(&self, ended: Ended) {
        self.send(What::Ended(ended));
    }

    fn send(&self, what: What) {
        // Nobody listens any more once the process ends.
        drop(self.to.send(Sign { job: self.job, generation: self.generation, what }));
    }
}

/// How a job's run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// For good.
    Done {
        /// How.
        end: JobEnd,
        /// Its run, if one was begun.
        run: Option<String>,
        /// Why, redacted.
        reason: Option<String>,
    },
    /// By a failure.
    Failed {
        /// Its run, if one was begun.
        run: Option<String>,
        /// The kinds of its errors; one that cannot pass makes the failure final.
        kinds: Vec<Kind>,
        /// Why, redacted.
        reason: String,
    },
    /// It was stopped before its end.
    Stopped {
        /// Its run, if one was begun.
        run: Option<String>,
    },
}

/// Who listens to the run of a job: a task log, a screen.
pub type Listen = Arc<dyn Fn(&Job) -> Arc<dyn Monitor> + Send + Sync>;

/// Runs jobs with the gear of a version of the project: each on a thread of its own, so that none keeps the daemon, or another,
/// from what has to be done in time.
#[derive(Clone)]
pub struct GearRunner {
    version: Arc<Version>,
    listen: Listen,
}

impl GearRunner {
    /// A runner of this version.
    pub fn new(version: Arc<Version>, listen: Listen) -> Self {
        Self { version, listen }
    }

    async fn run(&self, order: &Order) -> Ended {
        self.walk(order).await.unwrap_or_else(|error| {
            let reason = self.version.gear.redactor.redact(&error.chain());
            Ended::Failed { run: None, kinds: vec![error.kind()], reason }
        })
    }

    async fn walk(&self, order: &Order) -> Result<Ended> {
        let gear = &self.version.gear;
        let ask = plan::read(&order.job.ask)?;
        if ask.retry {
            return self.retry(order, ask.select.first().map(String::as_str)).await;
        }
        let planned = tokio::select! {
            biased;
            () = order.cancel.cancelled() => return Ok(Ended::Stopped { run: None }),
            planned = execute::plan(gear, &order.pipeline, &ask) => planned,
        };
        let mut plan = match planned {
            Ok((plan, _)) => plan,
            Err(error) if error.kind() == Kind::NothingDue => {
                let reason = gear.redactor.redact(&error.chain());
                return Ok(Ended::Done { end: JobEnd::Succeeded, run: None, reason: Some(reason) });
            }
            Err(error) => return Err(error),
        };
        // What an earlier attempt has brought to its end is not asked for again.
        plan.goes_on_with.clone_from(&order.job.runs);
        plan.leased = Some((order.job.id, order.job.generation));
        let monitor = Arc::new(Both { signs: order.signs.clone(), other: (self.listen)(&order.job) });
        let record = execute::run(gear, &plan, monitor, order.cancel.clone()).await?;
        let refusal = plan::within(&plan).err();
        self.ended(order, record, refusal).await
    }

    /// Sends the requests of fan-outs once more that failed for good: a run for all units, or one for each window.
    async fn retry(&self, order: &Order, step: Option<&str>) -> Result<Ended> {
        let gear = &self.version.gear;
        let mut last = Ended::Stopped { run: None };
        let plans = match execute::plan_retry(gear, &order.pipeline, step).await {
            Ok(plans) => plans,
            // Somebody else has sent them meanwhile.
            Err(error) if error.kind() == Kind::Usage => {
                let reason = gear.redactor.redact(&error.chain());
                return Ok(Ended::Done { end: JobEnd::Succeeded, run: None, reason: Some(reason) });
            }
            Err(error) => return Err(error),
        };
        for mut plan in plans {
            plan.leased = Some((order.job.id, order.job.generation));
            let monitor = Arc::new(Both { signs: order.signs.clone(), other: (self.listen)(&order.job) });
            let record = execute::run_retry(gear, &plan, monitor, order.cancel.clone()).await?;
            last = self.ended(order, record, None).await?;
            if !matches!(last, Ended::Done { end: JobEnd::Succeeded, .. }) {
                break;
            }
        }
        Ok(last)
    }

    async fn ended(&self, order: &Order, record: RunRecord, refusal: Option<Error>) -> Result<Ended> {
        let gear = &self.version.gear;
        let run = Some(record.id.clone());
        let done = |end, reason| Ended::Done { end, run: run.clone(), reason };
        Ok(match record.status {
            RunStatus::Succeeded => done(JobEnd::Succeeded, None),
            RunStatus::Held => done(JobEnd::Held, Some(format!("{} held", units(record.counts.held)))),
            RunStatus::Late => done(JobEnd::Late, Some(format!("{} late", units(record.counts.late)))),
            RunStatus::Refused => done(JobEnd::Refused, refusal.map(|refusal| gear.redactor.redact(&refusal.chain()))),
            // A commit may have heard that somebody cancelled the job before the next beat does.
            RunStatus::Cancelled => match gear.state.hold(order.job.id, order.job.generation).await {
                Ok(Hold::CalledOff) => done(JobEnd::Cancelled, Some(super::settle::ASKED.to_owned())),
                _ => Ended::Stopped { run },
            },
            RunStatus::Failed | RunStatus::Running => {
                let logs = gear.state.run(&record.id).await?.map(|(_, logs)| logs).unwrap_or_default();
                let mut kinds = Vec::new();
                let mut reasons = Vec::new();
                for (task, state) in fold(&logs)? {
                    if let TaskState::Failed { kind, reason } = state {
                        kinds.push(Kind::named(&kind).unwrap_or(Kind::Internal));
                        reasons.push(format!("{task}: {}", reason.lines().next().unwrap_or_default()));
                    }
                }
                let more = if reasons.len() > 1 { format!(" (and {} more)", reasons.len() - 1) } else { String::new() };
                let first = reasons.into_iter().next().unwrap_or_else(|| "the run failed".to_owned());
                Ended::Failed { run, kinds, reason: format!("{first}{more}") }
            }
        })
    }
}

fn units(count: u64) -> String {
    if count == 1 { "1 unit is".to_owned() } else { format!("{count} units are") }
}

impl Runner for GearRunner {
    fn start(&self, order: Order) {
        let (runner, signs) = (self.clone(), order.signs.clone());
        let handle = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name(format!("job-{}", order.job.id)).spawn(move || {
            let end = End { signs: order.signs.clone(), ended: None };
            end.with(handle.block_on(runner.run(&order)));
        });
        if let Err(error) = thread {
            let reason = format!("starting a thread for it: {error}");
            signs.ended(Ended::Failed { run: None, kinds: vec![Kind::Storage], reason });
        }
    }
}

/// Tells the end of a run however its thread ends: a defect of a run ends that run, and not the daemon.
struct End {
    signs: Signs,
    ended: Option<Ended>,
}

impl End {
    fn with(mut self, ended: Ended) {
        self.ended = Some(ended);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let defect = || Ended::Failed {
            run: None,
            kinds: vec![Kind::Internal],
            reason: "the run ended by a defect of haul, which stderr tells".to_owned(),
        };
        self.signs.ended(self.ended.take().unwrap_or_else(defect));
    }
}

/// Tells the daemon what it needs to know, and somebody else everything.
struct Both {
    signs: Signs,
    other: Arc<dyn Monitor>,
}

impl Monitor for Both {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::RunStarted { run, .. } => self.signs.begun(&run.id),
            Event::Idle { idle } => self.signs.idle(*idle),
            _ => {}
        }
        self.other.event(event);
    }
}
