//! Steering the queue: trigger, pause, resume, cancel, and how everything stands; by the store alone, with or without a daemon.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::NaiveDate;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::model::job::{Class, Depth, Job, JobFilter, JobState, NewJob, OccurrenceEnd, Pause};
use crate::model::pipeline::{Pipeline, Project};
use crate::model::run::Trigger;
use crate::plan::{self, Ask};
use crate::schedule::{Occurrence, Timetable};
use crate::state::State;
use crate::time::{Clock, Instant};

/// Steers the queue of a project.
///
/// Everything that it does is written into the state store, where the daemons of the project, here or in other processes, find it
/// within their `poll`.
#[derive(Clone)]
pub struct Steward {
    state: State,
    project: Arc<Project>,
    clock: Clock,
    /// Who asks, for the record.
    by: String,
}

/// What became of asking for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Triggered {
    /// The job.
    pub job: Job,
    /// Whether it is a new one; otherwise the same work was asked for before and has not ended.
    pub new: bool,
}

/// How a pipeline stands with its schedule.
#[derive(Debug, Clone, Serialize)]
pub struct Outlook {
    /// The pipeline.
    pub pipeline: String,
    /// When it runs next, if nothing holds it up; none on demand, after another pipeline, or while it is paused.
    pub next: Option<Occurrence>,
    /// Who paused it, if somebody did.
    pub paused: Option<Pause>,
    /// Whether its file says that it stands still.
    pub stands_still: bool,
    /// Up to when its occurrences are on record; none before a daemon has seen it.
    pub looked_after: Option<Instant>,
}

/// How the queue and the schedules of a project stand.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// The instant of all this.
    pub now: Instant,
    /// The jobs that wait or are under way, by their class.
    pub depth: BTreeMap<Class, Depth>,
    /// The jobs that are under way.
    pub under_way: Vec<Job>,
    /// The pipelines.
    pub pipelines: Vec<Outlook>,
}

/// How many unfinished jobs are listed where nothing else is said.
const LISTED: u32 = 1000;

impl Steward {
    /// A steward of this project; `by` is who asks.
    pub fn new(state: State, project: Arc<Project>, clock: Clock, by: impl Into<String>) -> Self {
        Self { state, project, clock, by: by.into() }
    }

    /// Asks for a run of a pipeline, for a date or for today in its zone. An unfinished job for the same work is that job.
    ///
    /// # Errors
    /// A pipeline or a step that does not exist.
    pub async fn trigger(
        &self,
        pipeline: &str,
        date: Option<NaiveDate>,
        select: Vec<String>,
        force: bool,
    ) -> Result<Triggered> {
        let pipeline = self.pipeline(pipeline)?;
        known_steps(&pipeline, &select)?;
        let now = self.clock.now();
        let today = now.with_timezone(&pipeline.timezone).date_naive();
        let logical_date = date.unwrap_or(today);
        let ask =
            Ask { trigger: Trigger::Manual, logical_date, select, range: None, window: None, force, retry: false };
        self.enqueue(&pipeline, &ask, now).await
    }

    /// Asks for those requests of fan-outs once more that failed for good, in a pipeline or in one of its steps.
    ///
    /// # Errors
    /// A pipeline or a step that does not exist.
    pub async fn retry_requests(&self, pipeline: &str, step: Option<String>) -> Result<Triggered> {
        let pipeline = self.pipeline(pipeline)?;
        let now = self.clock.now();
        let ask = Ask {
            trigger: Trigger::Manual,
            logical_date: now.with_timezone(&pipeline.timezone).date_naive(),
            select: step.into_iter().collect(),
            range: None,
            window: None,
            force: false,
            retry: true,
        };
        known_steps(&pipeline, &ask.select)?;
        self.enqueue(&pipeline, &ask, now).await
    }

    /// Asks for the run of an ended job once more.
    ///
    /// # Errors
    /// A job that does not exist, or whose pipeline is gone.
    pub async fn retry(&self, what: &str) -> Result<Triggered> {
        let job = self.find(what).await?;
        if job.state != JobState::Done {
            return Err(Error::usage(format!("job {} has not ended", job.id)).hint("it is tried again by itself"));
        }
        let pipeline = self.pipeline(&job.pipeline)?;
        let ask = Ask { trigger: Trigger::Manual, ..plan::read(&job.ask)? };
        self.enqueue(&pipeline, &ask, self.clock.now()).await
    }

    async fn enqueue(&self, pipeline: &Pipeline, ask: &Ask, now: Instant) -> Result<Triggered> {
        let key = plan::key(pipeline, ask);
        // Somebody waits for it.
        let job = NewJob::new(&pipeline.name, &key, &plan::written(ask)?, Class::Fresh, now);
        let job = NewJob { priority: pipeline.steering.priority, ..job };
        let enqueued = self.state.enqueue(&[job], now).await?;
        let first = enqueued.first().copied().ok_or_else(|| Error::internal("a job was not queued"))?;
        let job = self.state.job(first.id).await?.ok_or_else(|| Error::internal("a queued job is not there"))?;
        Ok(Triggered { job, new: first.new })
    }

    /// Pauses the schedule of a pipeline: its occurrences are recorded as skipped until it is resumed. What is under way goes on.
    ///
    /// # Errors
    /// A pipeline that does not exist.
    pub async fn pause(&self, pipeline: &str, reason: Option<&str>) -> Result<()> {
        self.exists(pipeline)?;
        self.state.pause(pipeline, &self.by, reason, self.clock.now()).await
    }

    /// Resumes a schedule. False: it was not paused.
    ///
    /// # Errors
    /// A pipeline that does not exist.
    pub async fn resume(&self, pipeline: &str) -> Result<bool> {
        self.exists(pipeline)?;
        self.state.resume(pipeline).await
    }

    /// Cancels a job, by its number or by the name of its run: at once where it waits, else its process hears of it at its next
    /// beat or look. One that has ended is left as it is.
    ///
    /// # Errors
    /// A job that does not exist; one that has ended.
    pub async fn cancel(&self, what: &str) -> Result<Job> {
        let job = self.find(what).await?;
        if job.state == JobState::Done {
            let end = job.outcome.map_or("ended", |end| end.name());
            return Err(Error::usage(format!("job {} is over: {end}", job.id)).hint("`haul queue` lists what is not"));
        }
        let job = self.state.ask_to_cancel(job.id, &self.by, self.clock.now()).await?;
        job.ok_or_else(|| Error::internal("a job was gone"))
    }

    /// The job of this number, or of the run of this name.
    ///
    /// # Errors
    /// There is none.
    pub async fn find(&self, what: &str) -> Result<Job> {
        if let Ok(id) = what.parse::<i64>() {
            let job = self.state.job(id).await?;
            return job.ok_or_else(|| Error::usage(format!("there is no job {id}")).hint("`haul queue` lists them"));
        }
        let job = self.state.job_of_run(what).await?;
        job.ok_or_else(|| {
            Error::usage(format!("no job has the run `{what}`"))
                .hint("`haul queue` lists jobs with their runs; a run of the command line is stopped by Ctrl-C there")
        })
    }

    /// The jobs that have not ended, or the last ones whatever they are; newest first.
    ///
    /// # Errors
    /// A pipeline that does not exist.
    pub async fn queue(&self, pipeline: Option<&str>, all: bool, limit: u32) -> Result<Vec<Job>> {
        let pipeline = pipeline.map(|name| self.pipeline(name)).transpose()?.map(|pipeline| pipeline.name.clone());
        let states = if all { Vec::new() } else { vec![JobState::Queued, JobState::Leased] };
        self.state
            .jobs(&JobFilter { pipeline, states: states.into_iter().collect(), limit, ..JobFilter::default() })
            .await
    }

    /// What became of occurrences since an instant; newest first.
    ///
    /// # Errors
    /// A pipeline that does not exist.
    pub async fn occurrences(&self, pipeline: Option<&str>, since: Instant, limit: u32) -> Result<Vec<OccurrenceEnd>> {
        let pipeline = pipeline.map(|name| self.pipeline(name)).transpose()?;
        self.state.occurrences(pipeline.as_ref().map(|pipeline| pipeline.name.as_str()), since, limit).await
    }

    /// How the schedules of all pipelines stand.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn schedule(&self) -> Result<Vec<Outlook>> {
        let (paused, cursors) = (self.state.paused().await?, self.state.cursors().await?);
        let now = self.clock.now();
        let of = |pipeline: &Arc<Pipeline>| {
            let paused = paused.get(&pipeline.name).cloned();
            let stands_still = pipeline.schedule.as_ref().is_some_and(|schedule| schedule.paused);
            let schedule = pipeline.schedule.as_ref().filter(|_| paused.is_none() && !stands_still);
            let timetable = schedule.map(|schedule| Timetable::of(schedule, pipeline.timezone)).transpose()?;
            Ok(Outlook {
                pipeline: pipeline.name.clone(),
                next: timetable.and_then(|timetable| timetable.next(now)),
                paused,
                stands_still,
                looked_after: cursors.get(&pipeline.name).copied(),
            })
        };
        self.project.pipelines.iter().map(of).collect()
    }

    /// How everything stands.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn status(&self) -> Result<Standing> {
        let now = self.clock.now();
        let leased = JobFilter { states: [JobState::Leased].into(), limit: LISTED, ..JobFilter::default() };
        Ok(Standing {
            now,
            depth: self.state.queue_depth(now).await?,
            under_way: self.state.jobs(&leased).await?,
            pipelines: self.schedule().await?,
        })
    }

    /// Refuses a name that is no pipeline's, not even of one whose file is wrong.
    fn exists(&self, name: &str) -> Result<()> {
        if self.has_file(name) { Ok(()) } else { self.pipeline(name).map(drop) }
    }

    fn has_file(&self, name: &str) -> bool {
        crate::config::is_plain_name(name) && self.project.root.join("pipelines").join(format!("{name}.toml")).is_file()
    }

    fn pipeline(&self, name: &str) -> Result<Arc<Pipeline>> {
        self.project.pipeline(name).cloned().ok_or_else(|| {
            if self.has_file(name) {
                return Error::config(format!("the file of the pipeline `{name}` is wrong"))
                    .hint("`haul check` says how");
            }
            let names: Vec<&str> = self.project.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
            unknown("pipeline", name, &names)
        })
    }
}

/// Refuses names that are no steps of the pipeline.
fn known_steps(pipeline: &Pipeline, select: &[String]) -> Result<()> {
    for text in select {
        let name = text.trim_matches('+');
        if pipeline.step(name).is_none() {
            let names: Vec<&str> = pipeline.steps.iter().map(|step| step.name.as_str()).collect();
            return Err(unknown("step", name, &names));
        }
    }
    Ok(())
}

fn unknown(what: &str, name: &str, names: &[&str]) -> Error {
    let error = Error::usage(format!("there is no {what} `{name}`"));
    let alike = names.iter().map(|other| (strsim::jaro_winkler(other, name), other));
    match alike.filter(|(likeness, _)| *likeness > 0.8).max_by(|one, other| one.0.total_cmp(&other.0)) {
        Some((_, nearest)) => error.hint(format!("did you mean `{nearest}`?")),
        None if names.is_empty() => error,
        None => error.hint(format!("there are {}", names.join(", "))),
    }
}
