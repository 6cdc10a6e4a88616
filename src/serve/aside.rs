//! What goes on beside the runs: people are told what goes wrong, and the history is kept small.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use super::note::{Note, Tell};
use super::version::Version;
use crate::notify::Teller;
use crate::retention;
use crate::time::Clock;

/// How often is looked, whatever happens: deadlines pass by themselves.
const EVERY: Duration = Duration::from_mins(1);

/// What ends together is told together.
const GATHER: Duration = Duration::from_secs(1);

/// Tells and sweeps until it is dropped; `stirred` is notified when a run has ended.
///
/// Whatever goes wrong here is noted, and keeps no run from beginning.
pub async fn beside(versions: watch::Receiver<Arc<Version>>, stirred: Arc<Notify>, tell: Tell, clock: Clock) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stirred.notified() => tokio::time::sleep(GATHER).await,
        }
        let version = Arc::clone(&versions.borrow());
        let fault = look(&version, &tell, clock).await;
        // The same fault is noted once, and not every minute.
        if fault.is_some() && fault != last {
            fault.iter().for_each(|fault| tell(Note::error(fault.clone())));
        }
        last = fault;
    }
}

async fn look(version: &Version, tell: &Tell, clock: Clock) -> Option<String> {
    let (gear, project, now) = (&version.gear, &version.project, clock.now());
    let (connections, redactor) = (gear.connections.clone(), gear.redactor.clone());
    let teller = Teller::new(Arc::clone(project), connections, gear.state.clone(), clock, redactor);
    if teller.has_listeners() {
        match teller.look(now).await {
            Ok(looked) => looked.faults.into_iter().for_each(|fault| tell(Note::warning(fault))),
            Err(error) => return Some(error.while_doing("telling people").chain()),
        }
    }
    match retention::daily(project, &gear.state, now).await {
        Ok(None) => None,
        Ok(Some(swept)) => {
            let (rows, files) = (swept.rows, swept.files);
            let (runs, pulls) = (rows.runs, rows.pulls);
            if runs + pulls + files.logs + files.stages > 0 {
                let words = format!(
                    "old history is gone: {runs} runs, {pulls} pulls, {} logs, {} stages",
                    files.logs, files.stages
                );
                tell(Note::info(words));
            }
            None
        }
        Err(error) => Some(error.while_doing("removing old history").chain()),
    }
}
