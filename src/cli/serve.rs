//! `haul serve`: the project's pipelines on their schedules, until somebody asks it to end.

use std::sync::Arc;

use clap::ValueEnum;
use serde_json::json;
use tokio::sync::{Notify, mpsc};

use super::screen::{BAD, DIM, WARN, counted};
use super::{Common, Screen, door, session, traces};
use crate::api::Metrics;
use crate::config;
use crate::error::{Context, Kind, Result};
use crate::model::job::Job;
use crate::model::run::TaskEvent;
use crate::monitor::{Event, Monitor};
use crate::serve::{
    self, Level, Life, LifeOrder, Listen, Note, Steward, Supervisor, Tell, Version, Watched, told_broken,
};
use crate::time::Clock;
use crate::traces::{About, Traces};

/// How many of the next runs the first line names.
const NAMED: usize = 3;

/// How it logs.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How lines are written to stderr
    #[arg(long, value_enum, default_value_t = Form::Text)]
    log: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

pub(super) async fn serve(args: &Args, common: &Common, screen: &Screen) -> Result<u8> {
    let root = session::root(common)?;
    let clock = common.clock();
    // Before anything is begun: a signal that comes meanwhile is kept.
    let (order, orders) = orders()?;
    let (watched, changes) = Watched::open(&root, clock, screen.redactor.clone()).await?;
    let (tell, stirred) = (teller(args.log, clock, screen), Arc::new(Notify::new()));
    let tell = stirring(tell, Arc::clone(&stirred));
    for change in changes {
        tell(told_broken(change));
    }
    let service = config::service();
    let supervisor = Supervisor::new(service.socket, service.watchdog);
    let version = Arc::clone(watched.version());
    let traces = traces_of(&version, common, screen, &tell);
    let metrics = Metrics::new(traces.clone());
    let listen = listener(Arc::clone(&tell), metrics.clone(), traces.clone());
    let life = Life::open(watched, listen, Arc::clone(&tell), clock, supervisor).await?;
    tell(Note::info(first_line(&version, clock).await?));
    let door =
        door::open(&version, (life.versions(), life.vitals()), (order, Arc::clone(&stirred)), metrics, &tell).await?;
    let beside = tokio::spawn(serve::beside(life.versions(), stirred, Arc::clone(&tell), clock));
    let lived = life.run(orders).await;
    beside.abort();
    if let Some(traces) = traces {
        traces.close().await;
    }
    if let Some(door) = door {
        door.close().await;
    }
    lived.map(|()| 0)
}

/// Where traces go, as the version says it that is in force at the start.
fn traces_of(version: &Version, common: &Common, screen: &Screen, tell: &Tell) -> Option<Traces> {
    let tell = Arc::clone(tell);
    let say = Arc::new(move |sentence: &str| tell(Note::warning(sentence)));
    traces::open(&version.project, &version.gear.connections, common, &screen.redactor, say)
}

/// Notes of jobs stir whoever tells people of them.
fn stirring(tell: Tell, stirred: Arc<Notify>) -> Tell {
    Arc::new(move |note: Note| {
        if note.job.is_some() {
            stirred.notify_one();
        }
        tell(note);
    })
}

/// What begins: the version, the project, its pipelines, the next runs.
async fn first_line(version: &Version, clock: Clock) -> Result<String> {
    let (project, state) = (&version.project, version.gear.state.clone());
    let steward = Steward::new(state, Arc::clone(project), clock, "haul serve");
    let mut next: Vec<_> = steward
        .schedule()
        .await?
        .into_iter()
        .filter_map(|outlook| Some((outlook.next?.at, outlook.pipeline)))
        .collect();
    next.sort();
    let named: Vec<String> =
        next.iter().take(NAMED).map(|(at, name)| format!("{name} at {}", at.format("%Y-%m-%d %H:%MZ"))).collect();
    let named = if named.is_empty() { "no schedules".to_owned() } else { format!("next: {}", named.join(", ")) };
    let (name, pipelines) = (&project.telling.project, counted(project.pipelines.len() as u64, "pipeline"));
    Ok(format!("haul {} serves {name}: {pipelines}; {named}", env!("CARGO_PKG_VERSION")))
}

/// The first signal drains, the second ends at once.
#[cfg(unix)]
fn orders() -> Result<(mpsc::Sender<LifeOrder>, mpsc::Receiver<LifeOrder>)> {
    use tokio::signal::unix::{SignalKind, signal};
    let listening = || "listening for signals".to_owned();
    let mut interrupt = signal(SignalKind::interrupt()).context(Kind::Internal, listening)?;
    let mut terminate = signal(SignalKind::terminate()).context(Kind::Internal, listening)?;
    let (send, receive) = mpsc::channel(2);
    let order = send.clone();
    tokio::spawn(async move {
        for count in 0.. {
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            if count > 0 {
                std::process::exit(code);
            }
            let _ = send.send(LifeOrder::Drain).await;
        }
    });
    Ok((order, receive))
}

/// The first Ctrl-C drains, the second ends at once.
#[cfg(windows)]
fn orders() -> Result<(mpsc::Sender<LifeOrder>, mpsc::Receiver<LifeOrder>)> {
    let mut interrupt =
        tokio::signal::windows::ctrl_c().context(Kind::Internal, || "listening for signals".to_owned())?;
    let (send, receive) = mpsc::channel(2);
    let order = send.clone();
    tokio::spawn(async move {
        for count in 0.. {
            interrupt.recv().await;
            if count > 0 {
                std::process::exit(130);
            }
            let _ = send.send(LifeOrder::Drain).await;
        }
    });
    Ok((order, receive))
}

/// Writes notes to stderr, redacted.
fn teller(form: Form, clock: Clock, screen: &Screen) -> Tell {
    let screen = screen.clone();
    Arc::new(move |note: Note| {
        let now = clock.now().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        match form {
            Form::Json => {
                let mut value = json!({ "at": now });
                if let (Some(line), Ok(serde_json::Value::Object(members))) =
                    (value.as_object_mut(), serde_json::to_value(&note))
                {
                    line.extend(members);
                }
                screen.tell(&value.to_string());
            }
            Form::Text if note.level == Level::Info => screen.note(&text(&now, &note)),
            Form::Text => screen.tell(&text(&now, &note)),
        }
    })
}

fn text(now: &str, note: &Note) -> String {
    let level = match note.level {
        Level::Info => "info   ".to_owned(),
        Level::Warning => format!("{WARN}warning{WARN:#}"),
        Level::Error => format!("{BAD}error{BAD:#}  "),
    };
    let of = note.run.clone().or_else(|| note.pipeline.clone()).map(|of| format!("{of}: ")).unwrap_or_default();
    let job = note.job.map(|job| format!(" {DIM}(job {job}){DIM:#}")).unwrap_or_default();
    let detail = note.detail.as_deref().map(|detail| format!("\n{detail}")).unwrap_or_default();
    format!("{DIM}{now}{DIM:#} {level} {of}{}{job}{detail}", note.message)
}

/// Tells of the tasks of runs what somebody should know, counts them, and traces them where somebody wants it.
fn listener(tell: Tell, metrics: Metrics, traces: Option<Traces>) -> Listen {
    Arc::new(move |job: &Job| {
        let about = Note::info("").of(&job.pipeline).job(job.id);
        let count = metrics.listen(&job.pipeline);
        let listening: Arc<dyn Monitor> = Arc::new(Listening { tell: Arc::clone(&tell), about, count });
        let Some(traces) = &traces else { return listening };
        let about = About {
            job: Some(job.id),
            attempt: Some(job.attempts),
            scheduled_for: job.scheduled_for,
            backfill: job.backfill.clone(),
        };
        traces.listen(about, listening)
    })
}

struct Listening {
    tell: Tell,
    about: Note,
    count: Arc<dyn Monitor>,
}

impl Listening {
    fn say(&self, level: Level, message: String) {
        (self.tell)(Note { level, message, ..self.about.clone() });
    }
}

impl Monitor for Listening {
    fn event(&self, event: &Event<'_>) {
        self.count.event(event);
        match event {
            Event::Task { task, event: TaskEvent::Failed { reason, .. } } => {
                self.say(Level::Warning, format!("{task} failed: {reason}"));
            }
            Event::Task { task, event: TaskEvent::Held { reason } } => {
                self.say(Level::Warning, format!("{task} is held: {reason}"));
            }
            Event::Task { task, event: TaskEvent::Late { reason } } => {
                self.say(Level::Info, format!("{task} is late: {reason}"));
            }
            Event::Warning { task, message } => {
                let task = task.map(|task| format!("{task}: ")).unwrap_or_default();
                self.say(Level::Warning, format!("{task}{message}"));
            }
            _ => {}
        }
    }
}
