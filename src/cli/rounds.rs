//! What `haul serve` does beside the runs: it tells people what is wrong, and lets go of history that is old enough.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::screen::counted;
use crate::error::Result;
use crate::model::cost::Bytes;
use crate::notify::Teller;
use crate::retention;
use crate::secret::Redactor;
use crate::serve::{Note, Tell, Version};
use crate::time::Clock;

/// The pause between two rounds where no run ends: a deadline is told at most so much later.
const PAUSE: Duration = Duration::from_secs(60);

/// Rounds that are being made.
pub(super) struct Rounds {
    stop: CancellationToken,
    going: JoinHandle<()>,
}

impl Rounds {
    /// Begins them: one now, one after each run that has ended, and one a minute.
    pub fn begin(
        versions: watch::Receiver<Arc<Version>>,
        ended: Arc<Notify>,
        clock: Clock,
        redactor: Redactor,
        tell: Tell,
    ) -> Self {
        let stop = CancellationToken::new();
        let until = stop.clone();
        let going = tokio::spawn(async move {
            loop {
                // After the end of the daemon there is one more, for what ended with it.
                let last = until.is_cancelled();
                let version = Arc::clone(&versions.borrow());
                if let Err(error) = round(&version, clock, &redactor, &tell).await {
                    let error = error.while_doing("making the round of the daemon");
                    tell(Note::warning(redactor.redact(&error.chain())));
                }
                if last {
                    break;
                }
                tokio::select! {
                    () = until.cancelled() => {}
                    () = ended.notified() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        });
        Self { stop, going }
    }

    /// Ends them with a last round.
    pub async fn end(self) {
        self.stop.cancel();
        let _ = self.going.await;
    }
}

async fn round(version: &Version, clock: Clock, redactor: &Redactor, tell: &Tell) -> Result<()> {
    let (project, gear, now) = (&version.project, &version.gear, clock.now());
    let teller =
        Teller::new(Arc::clone(project), gear.connections.clone(), gear.state.clone(), clock, redactor.clone());
    for fault in teller.look(now).await?.faults {
        tell(Note::warning(format!("nobody was told: {fault}; it waits, and is told later")));
    }
    if let Some(swept) = retention::daily(project, &gear.state, now).await? {
        let gone = swept.before.bytes.saturating_sub(swept.after.bytes);
        if swept.rows.runs > 0 {
            let runs = counted(swept.rows.runs, "old run");
            tell(Note::info(format!("history was swept: {runs} went, {} less", Bytes(gone))));
        }
    }
    Ok(())
}
