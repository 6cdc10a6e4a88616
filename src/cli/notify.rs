//! `haul notify`, `haul incidents` and `haul report`: what is wrong, who is told, and how the last day went.

use std::sync::Arc;

use serde_json::json;

use super::screen::{BAD, DIM, GOOD, WARN, counted};
use super::{Common, Screen, session};
use crate::connections::Connections;
use crate::error::Result;
use crate::execute::Gear;
use crate::model::incident::Incident;
use crate::model::notify::Topic;
use crate::model::pipeline::Project;
use crate::notify::{Looked, Teller, told_report};
use crate::state::State;

/// What to do with channels.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the channels, and the messages that wait for them
    List,
    /// Send a message to a channel that says no more than that messages arrive
    Test {
        /// The channel, as haul.toml names it
        name: String,
    },
    /// Look at how things stand, and tell what is new: what `haul run` does at its end
    Look,
}

/// Which incidents are listed.
#[derive(Debug, clap::Args)]
pub(super) struct IncidentsArgs {
    /// Also those that are over
    #[arg(long)]
    all: bool,
    /// How many of these
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

/// What becomes of the report.
#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Send it to the channels whose `on` has "report", too
    #[arg(long)]
    send: bool,
}

async fn open(common: &Common, screen: &Screen) -> Result<(Arc<Project>, State, Teller)> {
    let (project, connections) = session::seen(common, screen).await?;
    let state = State::open(&project.state_dir).await?;
    let teller = teller(&project, &connections, &state, common, screen);
    Ok((project, state, teller))
}

fn teller(
    project: &Arc<Project>,
    connections: &Connections,
    state: &State,
    common: &Common,
    screen: &Screen,
) -> Teller {
    Teller::new(Arc::clone(project), connections.clone(), state.clone(), common.clock(), screen.redactor.clone())
}

/// Somebody who tells what becomes of a run; none where there is nobody to tell.
pub(super) fn of_run(gear: &Gear, common: &Common, screen: &Screen) -> Option<Teller> {
    let teller = teller(&gear.project, &gear.connections, &gear.state, common, screen);
    teller.has_listeners().then_some(teller)
}

/// Tells what is new; what cannot be told is printed, and waits.
pub(super) async fn look(teller: &Teller, common: &Common, screen: &Screen) {
    match teller.look(common.clock().now()).await {
        Ok(looked) => faults(&looked, screen),
        // The run is over and its end stands: that nobody was told of it is told here.
        Err(error) => screen.error(&error.while_doing("telling people")),
    }
}

fn faults(looked: &Looked, screen: &Screen) {
    for fault in &looked.faults {
        screen.tell(&format!("{WARN}untold{WARN:#}    {fault}; it waits, and is told later"));
    }
}

pub(super) async fn notify(command: Command, common: &Common, screen: &Screen) -> Result<u8> {
    let (project, state, teller) = open(common, screen).await?;
    match command {
        Command::List => list(&project, &state, screen).await,
        Command::Test { name } => {
            teller.test(&name).await?;
            screen.note(&format!("{GOOD}sent{GOOD:#}      a test message to `{name}`"));
            Ok(0)
        }
        Command::Look => {
            let looked = teller.look(common.clock().now()).await?;
            faults(&looked, screen);
            if screen.is_json() {
                screen.json(&json!({ "queued": looked.queued, "sent": looked.sent, "faults": looked.faults }));
            } else {
                let waiting: u64 = state.waiting_messages().await?.iter().map(|one| one.messages).sum();
                screen.note(&format!("{} sent, {waiting} waiting", counted(looked.sent as u64, "message")));
            }
            Ok(u8::from(!looked.faults.is_empty()))
        }
    }
}

async fn list(project: &Project, state: &State, screen: &Screen) -> Result<u8> {
    let waiting = state.waiting_messages().await?;
    let of = |name: &str| waiting.iter().find(|one| one.channel == name);
    let channels = &project.telling.channels;
    if screen.is_json() {
        let line = |channel: &crate::model::notify::Channel| {
            let waits = of(&channel.name);
            json!({
                "name": channel.name, "to": channel.to.word(), "connection": channel.to.connection(), "on": channel.on,
                "pipelines": channel.pipelines, "waiting": waits.map_or(0, |one| one.messages),
                "fault": waits.and_then(|one| one.fault.clone()),
            })
        };
        screen.json(&channels.iter().map(line).collect::<Vec<_>>());
        return Ok(0);
    }
    if channels.is_empty() {
        screen.note("nobody is told anything: channels are written in haul.toml, as [[notify]]");
        return Ok(0);
    }
    let rows = channels.iter().map(|channel| {
        let on: Vec<&str> = channel.on.iter().map(|topic| topic.name()).collect();
        let pipelines = if channel.pipelines.is_empty() { "all".to_owned() } else { channel.pipelines.join(", ") };
        let waits = of(&channel.name).map_or_else(String::new, |one| {
            let fault = one.fault.as_deref().map(|fault| format!(": {fault}")).unwrap_or_default();
            format!("{}{fault}", counted(one.messages, "message"))
        });
        vec![channel.name.clone(), channel.to.word().to_owned(), on.join(", "), pipelines, waits]
    });
    screen.table(&["channel", "to", "on", "pipelines", "waiting"], rows.collect());
    Ok(0)
}

pub(super) async fn incidents(args: &IncidentsArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let (_, state, _) = open(common, screen).await?;
    let incidents = if args.all {
        screen.newest(state.incidents(false, None, args.limit.saturating_add(1)).await?, args.limit)
    } else {
        state.open_incidents().await?
    };
    if screen.is_json() {
        screen.json(&incidents);
        return Ok(0);
    }
    if incidents.is_empty() {
        screen.note(if args.all { "nothing was ever wrong" } else { "nothing is wrong" });
    }
    let zone = |at: crate::time::Instant| at.format("%Y-%m-%d %H:%M").to_string();
    let row = |incident: &Incident| {
        let style = match incident.topic {
            _ if incident.closed_at.is_some() => DIM,
            Topic::Failure | Topic::Deadline => BAD,
            _ => WARN,
        };
        let units = match incident.units.as_slice() {
            [] => String::new(),
            [only] => only.clone(),
            [first, .., last] => format!("{first} to {last} ({})", incident.units.len()),
        };
        vec![
            format!("{style}{}{style:#}", incident.topic.name()),
            incident.subject.clone(),
            units,
            zone(incident.opened_at),
            incident.told_at.map(zone).unwrap_or_default(),
            incident.closed_at.map(zone).unwrap_or_default(),
            incident.reason.lines().next().unwrap_or_default().to_owned(),
        ]
    };
    let mut header = vec!["what", "of", "units", "since (UTC)", "told", "well", "why"];
    let mut rows: Vec<Vec<String>> = incidents.iter().map(row).collect();
    if !args.all {
        header.remove(5);
        rows.iter_mut().for_each(|row| drop(row.remove(5)));
    }
    if !rows.is_empty() {
        screen.table(&header, rows);
    }
    Ok(0)
}

pub(super) async fn report(args: &ReportArgs, common: &Common, screen: &Screen) -> Result<u8> {
    let (_, _, teller) = open(common, screen).await?;
    let now = common.clock().now();
    let report = teller.report(now).await?;
    if screen.is_json() {
        screen.json(&report);
    } else {
        let told = told_report(&report, &teller.about());
        screen.data(&format!("{GOOD}{}{GOOD:#}\n{}", told.title, told.text));
    }
    if args.send {
        let (channels, looked) = teller.send_report(now).await?;
        faults(&looked, screen);
        if channels == 0 {
            screen.tell("nobody is told reports: a [[notify]] whose `on` has \"report\" is");
        }
        return Ok(u8::from(!looked.faults.is_empty()));
    }
    Ok(0)
}
