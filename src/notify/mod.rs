//! Telling people: what is wrong is read off the state store, told once to those who want to know, and again when it is well.
//!
//! ```text
//!  runs, units, deadlines ──find──▶ findings ──judge──▶ incidents ─▶ notices ─▶ messages ──deliver──▶ channels
//!                                                (one transaction of the state store)      (again, until taken)
//! ```
//!
//! Nothing is told from memory: whatever ran, and whoever died, the next look finds the same. Two processes that look at once
//! tell nothing twice, since an incident has one key and is opened in the transaction that lets its messages wait.

mod channel;
mod find;
mod judge;
mod report;
mod slack;
mod words;

use std::sync::Arc;

use chrono::Duration;

use crate::connections::Connections;
use crate::error::{Error, Kind, Result};
use crate::model::incident::{Content, Message, Notice, Report};
use crate::model::notify::{Channel, Topic};
use crate::model::pipeline::Project;
use crate::secret::Redactor;
use crate::state::{Facts, FactsAsk, Judged, State};
use crate::time::{Clock, Instant};
pub use words::{About, Told, told, told_report};

/// So long a message belongs to the process that has taken it.
const TAKEN: Duration = Duration::minutes(5);

/// The first pause behind a channel that is down; each further one is twice as long.
const PAUSE: Duration = Duration::seconds(30);

/// The longest pause behind a channel that is down.
const LONGEST_PAUSE: Duration = Duration::minutes(30);

/// Tells people; a cheap clone.
#[derive(Clone)]
pub struct Teller {
    project: Arc<Project>,
    connections: Connections,
    state: State,
    clock: Clock,
    redactor: Redactor,
}

/// What a look did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// Messages that wait since this look.
    pub queued: usize,
    /// Messages that channels have taken.
    pub sent: usize,
    /// What channels said that took none, a sentence each.
    pub faults: Vec<String>,
}

impl Teller {
    /// Somebody who tells what becomes of a project; nothing is looked at yet.
    pub fn new(
        project: Arc<Project>,
        connections: Connections,
        state: State,
        clock: Clock,
        redactor: Redactor,
    ) -> Self {
        Self { project, connections, state, clock, redactor }
    }

    /// Whether there is anybody to tell.
    pub fn has_listeners(&self) -> bool {
        !self.project.telling.channels.is_empty()
    }

    /// Looks at how things stand, lets messages wait for those who want to know, and tells what waits.
    ///
    /// # Errors
    /// Only what keeps the look as a whole from going on: a state store that cannot be read or written. A channel that is down
    /// is part of what is returned, and its messages wait.
    pub async fn look(&self, now: Instant) -> Result<Looked> {
        let ended = find::Ended::since_last(&self.project, &self.state, now).await?;
        let open = self.state.open_incidents().await?;
        let ask = find::ask(&self.project, &ended, &open, now);
        let project = &self.project;
        let mut queued = self
            .state
            .judge(&ask, now, |facts| {
                let found = find::find(project, &ended, &facts, now);
                Ok(judge::judge(project, found, &facts, now))
            })
            .await?;
        // What this look has found is part of what the report says.
        if let Some(due) = report::due(project, &self.state, now).await? {
            let tell = |facts: Facts| Ok(judge::reported(project, due, &facts));
            queued += self.state.judge(&FactsAsk::default(), now, tell).await?;
        }
        let mut looked = self.deliver(now).await?;
        looked.queued = queued;
        Ok(looked)
    }

    /// Keeps why a pipeline could not begin: the next look tells it, and the next run of the pipeline forgets it.
    pub async fn could_not_begin(&self, pipeline: &str, error: &Error, now: Instant) -> Result<()> {
        // What a person asked for in vain is that person's.
        if matches!(error.kind(), Kind::Usage | Kind::Cancelled) {
            return Ok(());
        }
        self.state.note_obstacle(pipeline, &self.redactor.redact(&error.chain()), now).await
    }

    /// Tells what waits, to every channel that is not told too much already.
    pub async fn deliver(&self, now: Instant) -> Result<Looked> {
        let mut looked = Looked::default();
        for channel in &self.project.telling.channels {
            let messages = self.state.take_messages(&channel.name, channel.limit, now, now + TAKEN).await?;
            // Each of these is a message of its own; incidents are told together.
            let (incidents, others): (Vec<Message>, Vec<Message>) =
                messages.into_iter().partition(|message| matches!(message.content, Content::Notices { .. }));
            let batches = std::iter::once(incidents).chain(others.into_iter().map(|message| vec![message]));
            for batch in batches.filter(|batch| !batch.is_empty()) {
                match self.tell(channel, &batch, now).await {
                    Ok(()) => looked.sent += 1,
                    Err(fault) => looked.faults.push(fault),
                }
            }
        }
        Ok(looked)
    }

    /// Tells messages as one.
    ///
    /// # Errors
    /// What the channel said that did not take it, in a sentence; the messages wait then.
    async fn tell(&self, channel: &Channel, batch: &[Message], now: Instant) -> Result<(), String> {
        let ids: Vec<i64> = batch.iter().map(|message| message.id).collect();
        let content = merged(batch);
        let keys: Vec<String> = match &content {
            Content::Notices { notices } => notices.iter().map(|notice| notice.key.clone()).collect(),
            Content::Report { .. } | Content::Test => Vec::new(),
        };
        // What has come meanwhile is told with what waited: that is another message, and has another name.
        let id = match ids.as_slice() {
            [] => String::new(),
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
        };
        let unsaved = |error: Error| error.chain();
        match self.send(channel, &content, &id).await {
            Ok(()) => self.state.messages_sent(&ids, &keys, now).await.map_err(unsaved),
            Err(error) => {
                let fault = self.redactor.redact(&error.chain());
                let attempts = batch.iter().map(|message| message.attempts).max().unwrap_or(1);
                let pause = (PAUSE * 2_i32.saturating_pow(attempts.saturating_sub(1).min(8))).min(LONGEST_PAUSE);
                self.state.messages_refused(&ids, &fault, now + pause).await.map_err(unsaved)?;
                Err(format!("`{}` was not told: {fault}", channel.name))
            }
        }
    }

    async fn send(&self, channel: &Channel, content: &Content, id: &str) -> Result<()> {
        let about = self.about();
        channel::send(self, channel, content, &about, id).await
    }

    /// Whose messages these are.
    pub fn about(&self) -> About {
        let telling = &self.project.telling;
        About { project: telling.project.clone(), url: telling.url.clone() }
    }

    /// Sends a message that says no more than that messages arrive, at once and past all limits.
    ///
    /// # Errors
    /// There is no such channel, or it does not take the message.
    pub async fn test(&self, name: &str) -> Result<()> {
        let channels = &self.project.telling.channels;
        let Some(channel) = channels.iter().find(|channel| channel.name == name) else {
            let names: Vec<String> = channels.iter().map(|channel| format!("`{}`", channel.name)).collect();
            let hint = match names.len() {
                0 => "channels are written in haul.toml: [[notify]]".to_owned(),
                _ => format!("there are {}", names.join(", ")),
            };
            return Err(Error::usage(format!("there is no channel `{name}`")).hint(hint));
        };
        let id = format!("test-{}", self.clock.now().timestamp_millis());
        self.send(channel, &Content::Test, &id).await.map_err(|error| error.while_doing(format!("telling `{name}`")))
    }

    /// The report of the last day, as it is now.
    pub async fn report(&self, now: Instant) -> Result<Report> {
        report::build(&self.project, &self.state, now).await
    }

    /// Lets the report of the last day be told to those who want it; returns how many these are.
    pub async fn send_report(&self, now: Instant) -> Result<(usize, Looked)> {
        let report = self.report(now).await?;
        let hear: Vec<&Channel> =
            self.project.telling.channels.iter().filter(|channel| channel.on.contains(&Topic::Report)).collect();
        let content = Content::Report { report: Box::new(report) };
        let messages = hear.iter().map(|channel| (channel.name.clone(), content.clone())).collect();
        let judged = Judged { messages, ..Judged::default() };
        self.state.judge(&FactsAsk::default(), now, |_| Ok(judged)).await?;
        Ok((hear.len(), self.deliver(now).await?))
    }
}

/// Several messages as one.
fn merged(batch: &[Message]) -> Content {
    let mut notices: Vec<Notice> = Vec::new();
    for message in batch {
        match &message.content {
            Content::Notices { notices: more } => notices.extend(more.iter().cloned()),
            whole @ (Content::Report { .. } | Content::Test) => return whole.clone(),
        }
    }
    Content::Notices { notices }
}
