//! `[[notify]]`, `[[deadline]]`, `[report]`, `[drift]` and `[retention]`: who is told of what, and what is kept of it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, Source, known_names};
use super::errand::ClockTime;
use super::file::ProjectFile;
use super::pipeline::is_plain_name;
use super::reader::{At, Read, Reader, Required, Span, twin};
use super::scalar::{Count, Names, words};
use super::value::{Percent, TypedDuration, Zone, schema};
use crate::model::notify::{Channel, DriftRule, Flood, ReportRule, Retention, Telling, To, Topic};
use crate::model::pipeline::Pipeline;
use crate::time::{Tz, parse_duration};

/// The most messages of a channel, where nothing else is said.
const FLOOD: Flood = Flood { messages: NonZeroU32::MIN.saturating_add(19), per: Duration::from_hours(1) };

/// How long a command may run, where nothing else is said.
const COMMAND_RUNS: Duration = Duration::from_secs(30);

/// The ways to tell somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToWord {
    /// A POST of JSON.
    Webhook,
    /// An incoming webhook of Slack.
    Slack,
    /// Mail by SMTP.
    Email,
    /// A program.
    Command,
}

words!(ToWord, Topic);

/// A number of messages in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodText(pub Flood);

impl FloodText {
    fn parse(text: &str) -> Option<Self> {
        let (count, period) = text.split_once('/')?;
        let period = match period.trim() {
            "m" => "1m",
            "h" => "1h",
            "d" => "1d",
            other => other,
        };
        let per = parse_duration(period).ok().filter(|per| !per.is_zero())?;
        Some(Self(Flood { messages: count.trim().parse().ok()?, per }))
    }
}

impl Read for FloodText {
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader) -> Option<Self> {
        let text = String::read(value, reader)?;
        let read = Self::parse(&text);
        if read.is_none() {
            let path = reader.path();
            reader.error("bad-limit", value.span(), format!("`{path}` is no number of messages in a period")).help =
                Some("limit = \"20/h\" or \"5/10m\"".to_owned());
        }
        read
    }
}

schema!(FloodText, { "type": "string", "examples": ["20/h", "5/10m"] });

twin! {
    /// Somebody who is told what goes wrong, and when it is well again.
    pub struct NotifyTable {
        /// Its name, unique in the project.
        pub name: Required<String>,
        /// The way there: `"webhook"`, `"slack"`, `"email"` or `"command"`.
        pub to: Required<ToWord>,
        /// The connection that leads there: of type `http` for a webhook and for Slack, whose incoming webhook is the `url`;
        /// of type `smtp` for mail.
        pub connection: Option<At<String>>,
        /// To whom mail goes: an address, or a list of them.
        pub recipients: Option<At<Names>>,
        /// The program and its arguments: a list, no shell between. It gets the message on its standard input, as JSON.
        pub command: Option<At<Vec<At<String>>>>,
        /// How long the program may run. Default `"30s"`.
        pub timeout: Option<At<TypedDuration>>,
        /// What it is told of. Default: everything but `"late"`.
        pub on: Option<At<Vec<At<Topic>>>>,
        /// Only of these pipelines. Default: of all.
        pub pipelines: Option<At<Names>>,
        /// The most messages in a period: what is more waits, and is told together. Default `"20/h"`.
        pub limit: Option<At<FloodText>>,
    }
}

twin! {
    /// By when a day has to be there.
    pub struct DeadlineTable {
        /// The table, as `schema.table`, that has to have the day. One of `table`, `step` and `pipeline` says what.
        pub table: Option<At<String>>,
        /// The pipeline. In its own file it is that one.
        pub pipeline: Option<At<String>>,
        /// A step of the pipeline, whose table has to have the day. Default: all of its tables.
        pub step: Option<At<String>>,
        /// The time of the day: `"07:00"`.
        pub by: Required<ClockTime>,
        /// The zone of that time. Default: the pipeline's.
        pub timezone: Option<At<Zone>>,
        /// How many days before its date the day is. Default 1: yesterday's.
        pub days_back: Option<At<u64>>,
    }
}

twin! {
    /// The report of the day: what ran, what is wrong, rows, drift, costs.
    pub struct DailyReportTable {
        /// When it is told: `"08:00"`.
        pub at: Required<ClockTime>,
        /// The zone of that time. Default: the project's.
        pub timezone: Option<At<Zone>>,
    }
}

twin! {
    /// Which changes of old units are told.
    pub struct DriftTable {
        /// A pull that adds, removes or changes more than this share of a unit's rows: `"10%"`.
        pub changed: Required<Percent>,
        /// Of units that ended at least so many units before. Default 1: not of the first pull on the morning after.
        pub age: Option<At<u64>>,
    }
}

twin! {
    /// How long the history is kept. What is loaded, what is held and what was recorded for tests is never touched.
    pub struct RetentionTable {
        /// Runs with all that happened in them, bills, and incidents that are over. Default `"400d"`.
        pub runs: Option<At<TypedDuration>>,
        /// How many of the newest pulls of each unit: drift is read off them. Default 100.
        pub pulls: Option<At<Count>>,
        /// The logs of tasks. Default `"30d"`.
        pub logs: Option<At<TypedDuration>>,
        /// Answers that are kept for conditional requests, since they were last used. Default `"90d"`.
        pub answers: Option<At<TypedDuration>>,
    }
}

/// Reads what `haul.toml` says of telling people; deadlines are added by the module `deadline`.
pub fn telling(
    file: &ProjectFile,
    source: &Arc<Source>,
    pipelines: &[Arc<Pipeline>],
    known: Option<&[String]>,
) -> (Telling, Vec<Diagnostic>) {
    let mut reader = Reader::new(source.clone());
    let mut names: HashMap<String, Span> = HashMap::new();
    let mut channels = Vec::new();
    for at in file.notify.iter().flat_map(|at| &at.value) {
        check_name(&at.value, &mut names, &mut reader);
        check_topics(at, &mut reader);
        channels.extend(channel(at, pipelines, known, &mut reader));
    }
    let report = file.report.as_ref().and_then(|at| {
        let own = at.value.timezone.as_ref().or(file.timezone.as_ref());
        Some(ReportRule { at: at.value.at.0.as_ref()?.value.0, tz: own.map_or(Tz::UTC, |zone| zone.value.0) })
    });
    if let Some(at) = file.report.as_ref().filter(|_| !channels.iter().any(|one| one.on.contains(&Topic::Report))) {
        reader.warning("untold", at.span.clone(), "nobody is told this report").help =
            Some("a [[notify]] whose `on` has \"report\" is; `haul report` prints it in any case".to_owned());
    }
    let drift = file.drift.as_ref().and_then(|at| {
        let age = at.value.age.as_ref().map_or(1, |age| u32::try_from(age.value).unwrap_or(u32::MAX));
        Some(DriftRule { changed: at.value.changed.0.as_ref()?.value.0, age })
    });
    let project = file.name.as_ref().map(|name| name.value.clone()).unwrap_or_default();
    let telling = Telling { project, channels, deadlines: Vec::new(), report, drift, url: None };
    (telling, reader.diagnostics)
}

fn check_name(table: &NotifyTable, names: &mut HashMap<String, Span>, reader: &mut Reader) {
    let Some(name) = &table.name.0 else { return };
    if !is_plain_name(&name.value) {
        reader.error("bad-name", name.span.clone(), format!("`{}` cannot be a name", name.value)).help =
            Some("a name has letters, digits, underscores and hyphens".to_owned());
    }
    if let Some(first) = names.insert(name.value.clone(), name.span.clone()) {
        let fault = Diagnostic::error("duplicate-name", format!("two channels are named `{}`", name.value))
            .at(&reader.source, name.span.clone(), "the second one")
            .at(&reader.source, first, "the first one")
            .help("messages that wait are known by the name of their channel: the names are different");
        reader.diagnostics.push(fault);
    }
}

/// Reports a list without any topic.
fn check_topics(at: &At<NotifyTable>, reader: &mut Reader) {
    let Some(on) = &at.value.on else { return };
    let written = reader.source.text[on.span.clone()].chars().any(|c| !c.is_whitespace() && !"[],".contains(c));
    if !written {
        reader.error("empty", on.span.clone(), "this channel is told of nothing").help =
            Some("on = [\"failure\", \"held\", \"deadline\", \"recovery\"]".to_owned());
    }
}

fn channel(
    at: &At<NotifyTable>,
    pipelines: &[Arc<Pipeline>],
    known: Option<&[String]>,
    reader: &mut Reader,
) -> Option<Channel> {
    let table = &at.value;
    for name in table.pipelines.iter().flat_map(|at| &at.value.0) {
        let span = table.pipelines.as_ref().map_or(at.span.clone(), |at| at.span.clone());
        if !pipelines.iter().any(|pipeline| pipeline.name == *name) {
            let help = known_names(name, pipelines.iter().map(|pipeline| pipeline.name.as_str()));
            reader.error("unknown-pipeline", span, format!("there is no pipeline `{name}`")).help = help;
        }
    }
    if let Some((connection, known)) = table.connection.as_ref().zip(known)
        && !known.contains(&connection.value)
    {
        let help = known_names(&connection.value, known.iter().map(String::as_str));
        let message = format!("there is no connection `{}`", connection.value);
        reader.error("unknown-connection", connection.span.clone(), message).help = help;
    }
    let word = table.to.0.as_ref()?.value;
    foreign_keys(table, word, reader);
    let usual = [Topic::Failure, Topic::Held, Topic::Deadline, Topic::Drift, Topic::Recovery, Topic::Report];
    Some(Channel {
        to: way(at, word, reader)?,
        name: table.name.0.as_ref()?.value.clone(),
        on: table.on.as_ref().map_or(usual.to_vec(), |on| on.value.iter().map(|topic| topic.value).collect()),
        pipelines: table.pipelines.as_ref().map(|names| names.value.0.clone()).unwrap_or_default(),
        limit: table.limit.as_ref().map_or(FLOOD, |limit| limit.value.0),
    })
}

fn way(at: &At<NotifyTable>, word: ToWord, reader: &mut Reader) -> Option<To> {
    let table = &at.value;
    let mut need = |key: &str, help: &str| {
        let message = format!("a channel to {} needs `{key}`", serde_word(word));
        reader.error("missing-key", at.span.clone(), message).help = Some(help.to_owned());
    };
    let connection = table.connection.as_ref().map(|connection| connection.value.clone());
    if connection.is_none() && word != ToWord::Command {
        let kind = if word == ToWord::Email { "smtp" } else { "http" };
        need("connection", &format!("the name of a connection of type {kind}: its secrets stay there"));
    }
    match word {
        ToWord::Webhook => Some(To::Webhook { connection: connection? }),
        ToWord::Slack => Some(To::Slack { connection: connection? }),
        ToWord::Email => {
            let Some(recipients) = &table.recipients else {
                need("recipients", "recipients = [\"data@example.com\"]");
                return None;
            };
            for wrong in recipients.value.0.iter().filter(|address| !is_address(address)) {
                let message = format!("`{wrong}` is no mail address");
                reader.error("bad-address", recipients.span.clone(), message).help =
                    Some("it looks like \"data@example.com\" or \"Data <data@example.com>\"".to_owned());
            }
            Some(To::Email { connection: connection?, recipients: recipients.value.0.clone() })
        }
        ToWord::Command => {
            let command = table.command.as_ref().map(|at| &at.value).filter(|command| !command.is_empty());
            let Some(command) = command else {
                need("command", "command = [\"./page.sh\", \"--on-call\"]");
                return None;
            };
            let timeout = table.timeout.as_ref().map_or(COMMAND_RUNS, |timeout| timeout.value.0);
            Some(To::Command { command: command.iter().map(|word| word.value.clone()).collect(), timeout })
        }
    }
}

fn is_address(text: &str) -> bool {
    let bare = text.rsplit_once('<').map_or(text, |(_, rest)| rest.trim_end().trim_end_matches('>'));
    let parts = bare.trim().split_once('@');
    parts.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !bare.trim().contains([' ', ',', ';']))
}

fn serde_word(word: ToWord) -> &'static str {
    match word {
        ToWord::Webhook => "webhook",
        ToWord::Slack => "slack",
        ToWord::Email => "email",
        ToWord::Command => "command",
    }
}

/// Reports keys that say nothing for a channel of this kind.
fn foreign_keys(table: &NotifyTable, word: ToWord, reader: &mut Reader) {
    let (email, command) = (word == ToWord::Email, word == ToWord::Command);
    let keys: [(&str, Option<&Span>, bool, &str); 4] = [
        ("connection", table.connection.as_ref().map(|at| &at.span), !command, "a command needs none"),
        ("recipients", table.recipients.as_ref().map(|at| &at.span), email, "it belongs to to = \"email\""),
        ("command", table.command.as_ref().map(|at| &at.span), command, "it belongs to to = \"command\""),
        (
            "timeout",
            table.timeout.as_ref().map(|at| &at.span),
            command,
            "it belongs to to = \"command\"; connections have their own",
        ),
    ];
    for (key, span, belongs, help) in keys {
        if let Some(span) = span.filter(|_| !belongs) {
            reader.error("foreign-key", span.clone(), format!("`{key}` says nothing here")).help =
                Some(help.to_owned());
        }
    }
}

/// Reads how long the history is kept.
pub fn retention(file: &ProjectFile, source: &Arc<Source>) -> (Retention, Vec<Diagnostic>) {
    let usual = Retention::default();
    let Some(at) = &file.retention else { return (usual, Vec::new()) };
    let mut reader = Reader::new(source.clone());
    let table = &at.value;
    for (key, duration) in [("runs", &table.runs), ("logs", &table.logs), ("answers", &table.answers)] {
        if let Some(at) = duration.as_ref().filter(|at| at.value.0 < Duration::from_hours(24)) {
            reader.error("out-of-range", at.span.clone(), format!("`retention.{key}` has to be a day or more")).help =
                Some("\"400d\", \"30d\"".to_owned());
        }
    }
    let of = |at: &Option<At<TypedDuration>>, usual| at.as_ref().map_or(usual, |at| at.value.0);
    let retention = Retention {
        runs: of(&table.runs, usual.runs),
        pulls: table.pulls.as_ref().map_or(usual.pulls, |at| at.value.0.get()),
        logs: of(&table.logs, usual.logs),
        answers: of(&table.answers, usual.answers),
    };
    (retention, reader.diagnostics)
}
